//! Looking: answered from the state in memory, in the time it takes to copy the answer, and from the files.

use std::sync::Arc;

use commute_core::admin::{Begin, GroupInfo, Page, ParkedEvent, StoredEvent, SubscriptionName, TopicInfo};
use commute_core::{Code, Error, Lane, Mode, Result, Timestamp, Topic};

use crate::journal::reader::Segments;
use crate::records::{Aside, Event};
use crate::state::State;
use crate::state::subscription::Subscribed;
use crate::stored;
use crate::writer::Shared;

/// So many positions are looked at before others may have the state.
const STEP: u64 = 1 << 16;

/// What there is to look at.
#[derive(Clone)]
pub(crate) struct Look {
    pub(crate) shared: Arc<Shared>,
    pub(crate) segments: Segments,
    /// Whether it is the owner who looks, and so knows who has what in hand.
    pub(crate) owner: bool,
}

impl Look {
    /// Whether there is still something to ask.
    pub(super) fn open(&self) -> Result<()> {
        self.shared.queue.over().map_or(Ok(()), Err)
    }

    pub(super) fn topics(&self, after: Option<Topic>, max: usize) -> Result<Vec<TopicInfo>> {
        self.open()?;
        let state = self.shared.state();
        let after = after.as_ref().map(Topic::as_str);
        let mut topics: Vec<_> = (0..).zip(&state.topics).filter(|(_, topic)| after < Some(&*topic.name)).collect();
        topics.sort_unstable_by_key(|(_, topic)| &topic.name);
        topics.truncate(max);
        let mut groups = vec![0; state.topics.len()];
        state.subscriptions.iter().for_each(|known| groups[known.topic as usize] += 1);
        let info = |(n, topic): (usize, &crate::state::topic::Stored)| TopicInfo {
            topic: topic.name.to_string(),
            first: topic.first,
            next: topic.next,
            groups: groups[n],
            youngest: topic.youngest,
        };
        Ok(topics.into_iter().map(info).collect())
    }

    pub(super) fn groups(&self, topic: Option<Topic>) -> Result<Vec<GroupInfo>> {
        self.open()?;
        let state = self.shared.state();
        let wanted = topic.map(|topic| state.topic(topic.as_str()));
        let known = state.subscriptions.iter().filter(|known| wanted.is_none_or(|topic| topic == Some(known.topic)));
        let mut groups = known.map(|known| self.group(&state, known)).collect::<Result<Vec<_>>>()?;
        groups.sort_unstable_by(|a, b| a.subscription.cmp(&b.subscription));
        Ok(groups)
    }

    fn group(&self, state: &State, known: &Subscribed) -> Result<GroupInfo> {
        let topic = &state.topics[known.topic as usize];
        Ok(GroupInfo {
            subscription: SubscriptionName { topic: Topic::new(&*topic.name)?, group: known.group.to_string() },
            settled_below: Some(known.done.low()),
            backlog: Some(known.backlog(topic)),
            in_flight: self.owner.then_some(known.delivering.held() as u64),
            retrying: Some(known.deferred.len() as u64),
            parked: Some(known.parked.len() as u64),
            instances: self.owner.then_some(known.delivering.receivers()),
        })
    }

    /// The numbers of a topic and of a subscription, if there are such.
    pub(super) fn find(&self, name: &SubscriptionName) -> (Option<u32>, Option<u32>) {
        let state = self.shared.state();
        let topic = state.topic(name.topic.as_str());
        (topic, topic.and_then(|topic| state.subscription(topic, &name.group.as_str().into())))
    }

    fn topic(&self, topic: &Topic) -> Result<u32> {
        let missing = || Error::new(Code::NotFound, format!("there is no topic {topic}"));
        self.shared.state().topic(topic.as_str()).ok_or_else(missing)
    }

    pub(super) async fn events(&self, topic: u32, positions: Vec<u64>) -> Result<Vec<Arc<Event>>> {
        stored::events(&self.shared, &self.segments, topic, positions).await
    }

    /// Whether retention took a position away while it was read.
    fn is_gone(&self, topic: u32, position: u64) -> bool {
        self.shared.state().topics[topic as usize].first > position
    }

    pub(super) async fn read(&self, topic: Topic, from: Begin, max: usize) -> Result<Page> {
        self.open()?;
        let number = self.topic(&topic)?;
        let start = self.begin(number, from).await?;
        loop {
            let (start, end) = {
                let stored = &self.shared.state().topics[number as usize];
                let start = start.max(stored.first);
                (start, stored.next.min(start.saturating_add(max as u64)))
            };
            match self.events(number, (start..end).collect()).await {
                Ok(events) => {
                    let events = events.iter().map(|event| shown(&topic, event)).collect();
                    return Ok(Page { events, next: end.max(start) });
                }
                Err(_) if self.is_gone(number, start) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The position where to begin.
    pub(super) async fn begin(&self, topic: u32, from: Begin) -> Result<u64> {
        let (first, next) = {
            let stored = &self.shared.state().topics[topic as usize];
            (stored.first, stored.next)
        };
        Ok(match from {
            Begin::Start => first,
            Begin::End => next,
            Begin::Position(position) => position.max(first),
            Begin::Last(count) => next.saturating_sub(count).max(first),
            Begin::Time(time) => self.since(topic, time).await?,
        })
    }

    /// The first event published at a time or later. Segments without such a one are passed over by their youngest event;
    /// from there on the times of a topic grow.
    async fn since(&self, topic: u32, time: Timestamp) -> Result<u64> {
        let (mut low, mut high) = {
            let state = self.shared.state();
            let stored = &state.topics[topic as usize];
            let segment = state.youngest.iter().find(|(_, youngest)| **youngest >= time).map(|(segment, _)| *segment);
            let Some(segment) = segment else { return Ok(stored.next) };
            (stored.first_behind(segment.saturating_sub(1)).max(stored.first), stored.next)
        };
        while low < high {
            let middle = low + (high - low) / 2;
            match self.events(topic, vec![middle]).await {
                Ok(events) if events.first().is_some_and(|event| event.published < time) => low = middle + 1,
                Ok(_) => high = middle,
                Err(_) if self.is_gone(topic, middle) => low = middle + 1,
                Err(error) => return Err(error),
            }
        }
        Ok(low)
    }

    pub(super) async fn unsettled(
        &self,
        name: SubscriptionName,
        after: Option<u64>,
        max: usize,
    ) -> Result<Vec<StoredEvent>> {
        self.open()?;
        let (Some(topic), subscription) = self.find(&name) else { return Ok(Vec::new()) };
        let start = after.map_or(0, |after| after.saturating_add(1));
        loop {
            let positions = self.open_positions(topic, subscription, start, max);
            let first = positions.first().copied().unwrap_or_default();
            match self.events(topic, positions).await {
                Ok(events) => return Ok(events.iter().map(|event| shown(&name.topic, event)).collect()),
                Err(_) if self.is_gone(topic, first) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn open_positions(&self, topic: u32, subscription: Option<u32>, start: u64, max: usize) -> Vec<u64> {
        let (mut found, mut at) = (Vec::new(), start);
        loop {
            let state = self.shared.state();
            let stored = &state.topics[topic as usize];
            let known = subscription.map(|subscription| &state.subscriptions[subscription as usize]);
            at = at.max(stored.first).max(known.map_or(0, |known| known.done.low()));
            let end = stored.next.min(at.saturating_add(STEP));
            let is_open = |position: &u64| {
                known.is_none_or(|known| !known.done.is_done(*position) && !known.is_parked(*position))
            };
            found.extend((at..end).filter(is_open).take(max - found.len()));
            if found.len() == max || end >= stored.next {
                return found;
            }
            at = end;
        }
    }

    pub(super) async fn parked(
        &self,
        name: SubscriptionName,
        after: Option<u64>,
        max: usize,
    ) -> Result<Vec<ParkedEvent>> {
        self.open()?;
        let (Some(topic), Some(subscription)) = self.find(&name) else { return Ok(Vec::new()) };
        let parked: Vec<(u64, Aside)> = {
            let state = self.shared.state();
            let first = after.map_or(0, |after| after.saturating_add(1));
            let parked = state.subscriptions[subscription as usize].parked_from(first, max);
            parked.into_iter().map(|(position, aside)| (position, aside.clone())).collect()
        };
        let events = self.events(topic, parked.iter().map(|(position, _)| *position).collect()).await?;
        let parked = events.iter().zip(parked).map(|(event, (_, aside))| ParkedEvent {
            stored: shown(&name.topic, event),
            attempts: aside.attempts,
            reason: aside.reason.as_deref().map(str::to_owned),
            since: aside.since,
            lanes: aside.lanes.iter().map(|(lane, mode)| named(*lane, *mode)).collect(),
        });
        Ok(parked.collect())
    }
}

/// An event as an operator sees it.
pub(super) fn shown(topic: impl ToString, event: &Event) -> StoredEvent {
    StoredEvent {
        topic: topic.to_string(),
        position: event.position,
        published: event.published,
        not_before: event.not_before,
        event: (*event.envelope).clone(),
    }
}

fn named(lane: Lane, mode: Mode) -> String {
    match mode {
        Mode::Exclusive => lane.to_string(),
        Mode::Shared(class) => format!("{lane}~{class}"),
    }
}
