//! The end that settles, and reads again.

use std::sync::Arc;

use commute_core::{BoxFuture, Change, Delivery, DeliveryTag, Envelope, Parked, Result, Settlement, Settler};
use rdkafka::consumer::Consumer;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::sync::oneshot;

use crate::client::{ANSWER, blocking};
use crate::error::failed;
use crate::library::Library;
use crate::membership::Member;
use crate::progress::{Committed, committed};
use crate::rereading::{kept, records};
use crate::state::{Command, Shared, ended};
use crate::wire::Record;

/// One opening of a subscription.
pub(crate) struct Outlet {
    pub(crate) shared: Arc<Shared>,
    pub(crate) library: Arc<Library>,
    pub(crate) member: std::sync::Weak<Member>,
}

impl Outlet {
    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<Result<T>>) -> Command) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.shared.ask(command(reply));
        answer.await.unwrap_or_else(|_| Err(ended()))
    }

    fn check_open(&self) -> Result<()> {
        match self.shared.state().end() {
            None => Ok(()),
            Some(Err(error)) => Err(error),
            Some(Ok(())) => Err(ended()),
        }
    }
}

impl Settler for Outlet {
    fn settle(&self, settlements: Vec<Settlement>) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let published = settlements.iter().flat_map(|settlement| match settlement {
                Settlement::Ack { publish, .. } => publish.as_slice(),
                _ => &[],
            });
            self.shared.link.refuse(published)?;
            self.ask(|reply| Command::Settle { settlements, reply }).await
        })
    }

    fn read(&self, tags: &[DeliveryTag]) -> BoxFuture<'_, Result<Vec<Envelope>>> {
        let tags = tags.to_vec();
        Box::pin(async move {
            self.check_open()?;
            let kept = kept(&self.shared.state(), &tags);
            let kept: Option<Vec<Record>> = kept.into_iter().collect();
            let records = match kept {
                Some(records) => records,
                None => {
                    let (shared, library) = (self.shared.clone(), self.library.clone());
                    blocking(move || records(&shared, &library, &tags)).await?
                }
            };
            Ok(records.iter().map(|record| (*record.envelope).clone()).collect())
        })
    }

    fn parked(&self) -> BoxFuture<'_, Result<Vec<Parked>>> {
        Box::pin(async move {
            self.check_open()?;
            let state = self.shared.state();
            let mut parked: Vec<_> = state.partitions.values().flat_map(|partition| partition.parked()).collect();
            drop(state);
            parked.sort_by_key(|(order, _)| *order);
            Ok(parked.into_iter().map(|(_, parked)| parked).collect())
        })
    }

    fn unpark(&self, tags: Vec<DeliveryTag>) -> BoxFuture<'_, Result<Vec<Delivery>>> {
        Box::pin(self.ask(|reply| Command::Unpark { tags, reply }))
    }

    fn backlog(&self) -> BoxFuture<'_, Result<Option<u64>>> {
        Box::pin(async move {
            self.check_open()?;
            let (shared, member) = (self.shared.clone(), self.member.clone());
            let backlog = blocking(move || match member.upgrade() {
                Some(member) => backlog(&shared, &member),
                None => Err(ended()),
            });
            backlog.await.map(Some)
        })
    }

    fn changed(&self) -> BoxFuture<'_, Change> {
        Box::pin(async move {
            loop {
                let assigned = self.shared.assigned.notified();
                tokio::pin!(assigned);
                assigned.as_mut().enable();
                if let Some(change) = self.shared.state().changes.pop_front() {
                    return change;
                }
                assigned.await;
            }
        })
    }

    fn absorbed(&self) -> u64 {
        self.shared.state().absorbed
    }
}

/// Asks the server where every partition ends, and how far the group has come in those that are not ours. Blocks.
fn backlog(shared: &Shared, member: &Member) -> Result<u64> {
    let topics = &shared.link.publisher().topics;
    let topic = shared.topic();
    let what = || format!("cannot ask where {topic} ends");
    let mut others = TopicPartitionList::new();
    let (mut sum, mut logs) = (0, Vec::new());
    for number in 0..topics.partitions(topic)?.unwrap_or(0) {
        let log = topics.asker.fetch_watermarks(topic, number, ANSWER).map_err(|cause| failed(what(), cause))?;
        let (start, end) = (log.0.unsigned_abs(), log.1.unsigned_abs());
        match shared.state().partitions.get(&number) {
            Some(partition) => sum += partition.backlog(end),
            None => {
                others.add_partition(topic, number);
                logs.push((number, start, end));
            }
        }
    }
    if logs.is_empty() {
        return Ok(sum);
    }
    let known = member.consumer().committed_offsets(others, ANSWER).map_err(|cause| failed(what(), cause))?;
    for (number, start, end) in logs {
        let settled = known.find_partition(topic, number).and_then(|element| match element.offset() {
            Offset::Offset(offset) => Some(committed(offset.unsigned_abs(), element.metadata())),
            _ => None,
        });
        let (low, beyond) = match settled {
            Some(Committed::Inline(progress)) => (progress.settled.low(), progress.settled.done_beyond()),
            Some(Committed::Aside { low, .. }) => (low, 0),
            None => (start, 0),
        };
        sum += end.saturating_sub(low.max(start)).saturating_sub(beyond);
    }
    Ok(sum)
}
