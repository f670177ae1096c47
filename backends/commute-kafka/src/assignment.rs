//! What becomes ours, and what ceases to be: loads a partition's state, and lets go of it in order.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use commute_core::{Change, Code, Error, Result};
use hashbrown::HashMap;
use rdkafka::Message;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;

use crate::aside::{Counting, Loaded};
use crate::client::{ANSWER, told};
use crate::error::failed;
use crate::library::{Library, Part};
use crate::partition::{Partition, Phase};
use crate::progress::{Committed, Epoch, Progress, committed};
use crate::state::{Shared, State};

/// How long whoever takes over waits at most, however long the lease is.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// How long the topic beside the source may seem shorter than it is known to be.
const SHORTER: Duration = Duration::from_secs(30);
/// How long a commit may take before it is given up.
const COMMIT: Duration = Duration::from_secs(10);

/// Hears of rebalances, on the poll thread.
pub(crate) struct Watch {
    shared: Arc<Shared>,
    library: Arc<Library>,
    rebalances: AtomicU64,
}

impl Watch {
    pub(crate) fn new(shared: Arc<Shared>, library: Arc<Library>) -> Self {
        Watch { shared, library, rebalances: AtomicU64::new(0) }
    }

    /// How many there were.
    pub(crate) fn rebalances(&self) -> u64 {
        self.rebalances.load(Ordering::Relaxed)
    }
}

impl ClientContext for Watch {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        told(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(topic = self.shared.topic(), %error, reason, "the connection reports an error");
    }
}

impl ConsumerContext for Watch {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, what: RDKafkaRespErr, list: &mut TopicPartitionList) {
        match what {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                assign(&self.shared, &self.library, consumer, list);
            }
            _ => revoke(&self.shared, consumer, list),
        }
        self.rebalances.fetch_add(1, Ordering::Relaxed);
    }
}

fn numbers(list: &TopicPartitionList) -> Vec<i32> {
    list.elements().iter().map(|element| element.partition()).collect()
}

/// Partitions become ours. Blocks until their state is loaded; they are fetched from where nothing is settled.
fn assign(shared: &Shared, library: &Library, consumer: &BaseConsumer<Watch>, list: &TopicPartitionList) {
    let until = Instant::now() + SHORTER;
    let loaded = loop {
        if shared.state().over.is_some() {
            break Vec::new();
        }
        match load(shared, library, consumer, list, until) {
            Ok(loaded) => break loaded,
            Err(error) if !error.is_retryable() => {
                shared.fail(&error);
                break Vec::new();
            }
            Err(error) => {
                tracing::warn!(topic = shared.topic(), ?error, "the state of a partition cannot be loaded yet");
                shared.pause(Duration::from_millis(200));
            }
        }
    };
    let mut places = list.clone();
    for partition in &loaded {
        let at = Offset::Offset(i64::try_from(partition.fetched).unwrap_or(i64::MAX));
        if let Err(cause) = places.set_partition_offset(shared.topic(), partition.number, at) {
            shared.fail(&failed("cannot set the place in a partition", cause));
        }
    }
    let mut state = shared.state();
    for partition in loaded {
        let (number, incarnation) = (partition.number, partition.incarnation);
        tracing::debug!(topic = shared.topic(), number, incarnation, from = partition.fetched, "a partition is ours");
        state.last_order = state.last_order.max(partition.aside.values().map(|aside| aside.order).max().unwrap_or(0));
        state.partitions.insert(number, partition);
        state.tell(Change::Assigned(incarnation));
    }
    drop(state);
    // Whoever receives must not see a partition before it was announced, and it is announced now.
    if let Err(cause) = consumer.incremental_assign(&places) {
        shared.fail(&failed("cannot take partitions over", cause));
    }
    // The client library remembers that a partition was paused when it was ours before.
    if let Err(cause) = consumer.resume(&places) {
        tracing::warn!(topic = shared.topic(), %cause, "what was paused before is not fetched yet");
    }
    shared.opened.send_replace(true);
    shared.assigned.notify_waiters();
    shared.changed.notify_waiters();
}

fn load(
    shared: &Shared,
    library: &Library,
    consumer: &BaseConsumer<Watch>,
    list: &TopicPartitionList,
    until: Instant,
) -> Result<Vec<Partition>> {
    let (topic, numbers) = (shared.topic(), numbers(list));
    if numbers.is_empty() {
        return Ok(Vec::new());
    }
    let mut asked = TopicPartitionList::new();
    for number in &numbers {
        asked.add_partition(topic, *number);
    }
    let what = || format!("cannot ask how far group {} has come in {topic}", shared.group_id);
    let answer = consumer.committed_offsets(asked, ANSWER).map_err(|cause| failed(what(), cause))?;
    let topics = &shared.link.publisher().topics;
    // Asking tells the client about partitions that were added meanwhile.
    let there = topics.known(topic)?;
    if numbers.iter().any(|number| *number >= there) {
        return Err(Error::new(
            Code::BrokerUnavailable,
            format!("{topic} is not known to have more than {there} partitions"),
        ));
    }
    let asides = topics.partitions(&shared.aside)?.unwrap_or(0);
    let (mut parts, mut aside) = (Vec::new(), HashMap::<i32, Loaded>::new());
    for partition in numbers.into_iter().filter(|number| *number < asides) {
        let log = topics.asker.fetch_watermarks(&shared.aside, partition, ANSWER);
        let (from, end) = log.map_err(|cause| failed(what(), cause))?;
        parts.push(Part { partition, from: from.unsigned_abs(), end: end.unsigned_abs() });
    }
    library.read(&shared.aside, &parts, |message| {
        // What comes behind the end belongs to the next who reads this.
        if message.offset().unsigned_abs() < end_of(&parts, message.partition()) {
            aside.entry(message.partition()).or_default().take(message);
        }
        ControlFlow::Continue(())
    })?;
    let mut known = Vec::new();
    for element in answer.elements() {
        element.error().map_err(|cause| failed(what(), cause))?;
        let number = element.partition();
        let log = topics.asker.fetch_watermarks(topic, number, ANSWER).map_err(|cause| failed(what(), cause))?;
        let commit = match element.offset() {
            Offset::Offset(offset) => Some(committed(offset.unsigned_abs(), element.metadata())),
            _ => None,
        };
        let relies = commit.as_ref().map_or(0, Committed::relies);
        check_length(&shared.aside, number, end_of(&parts, number), relies, Instant::now() < until)?;
        known.push((number, commit, (log.0.unsigned_abs(), log.1.unsigned_abs())));
    }
    // Nothing can fail any more: what is put together here takes room, and only a partition that is ours gives it back.
    let loaded = known.into_iter().map(|(number, commit, log)| {
        let aside = aside.remove(&number).unwrap_or_default();
        partition(shared, number, commit, (aside, end_of(&parts, number)), log)
    });
    Ok(loaded.collect())
}

/// Where a partition of the topic beside ends; at its beginning when there is none.
fn end_of(parts: &[Part], partition: i32) -> u64 {
    parts.iter().find(|part| part.partition == partition).map_or(0, |part| part.end)
}

/// Looks whether the topic beside is as long as a commit knows it to be. A server may not have heard of all of it, for a while.
fn check_length(aside: &str, number: i32, end: u64, relies: u64, wait: bool) -> Result<()> {
    if end >= relies {
        return Ok(());
    }
    if wait {
        let detail = format!("partition {number} of {aside} is known to be {relies} records long, and has {end}");
        return Err(Error::new(Code::BrokerUnavailable, detail));
    }
    tracing::error!(
        topic = aside,
        number,
        end,
        relies,
        "the topic beside has been shortened or created anew: what was parked in the rest is not known any more"
    );
    Ok(())
}

/// Puts together what commit, log and aside say.
fn partition(
    shared: &Shared,
    number: i32,
    known: Option<Committed>,
    (mut aside, aside_end): (Loaded, u64),
    (start, end): (u64, u64),
) -> Partition {
    let topic = shared.topic();
    let mut progress = match known {
        None => Progress::new(start),
        Some(Committed::Inline(progress)) => progress,
        Some(Committed::Aside { incarnation, .. }) => aside.progress.remove(&incarnation).unwrap_or_else(|| {
            tracing::warn!(topic, number, "what was settled out of order is not aside any more: it comes again");
            Progress::new(start)
        }),
    };
    let is_another = progress.settled.low() > end || aside.reaches(end);
    if is_another {
        let low = progress.settled.low();
        tracing::warn!(
            topic,
            number,
            end,
            low,
            "the topic ends before what is settled or parked: it is another one, read from its start"
        );
        progress = Progress::new(start);
    }
    if progress.settled.low() < start {
        let lost = start - progress.settled.low();
        tracing::warn!(topic, number, lost, "the topic has removed what was not settled yet");
        if progress.settled.done_beyond() == 0 {
            progress.settled = commute_core::watermark::Watermark::new(start);
        } else {
            (progress.settled.low()..start).for_each(|gone| _ = progress.settled.done(gone));
        }
    }
    let outlived = aside.progress.keys().copied().collect();
    let Counting { mut asides, notes, late } =
        if is_another { aside.of_another() } else { aside.counting(&progress.epochs) };
    if late.is_empty() {
        progress.epochs.clear();
    } else {
        let count = late.len();
        tracing::warn!(topic, number, count, "what was parked too late, or of another topic, does not count");
    }
    if is_another {
        // Nobody's: until they are removed, none of them counts.
        progress.epochs.push(Epoch { from: 0, writer: 0 });
    }
    let mut state = shared.state();
    for parked in asides.values_mut().filter(|parked| !parked.back) {
        let fits = parked.record.as_ref().is_some_and(|record| State::keep(state.kept(), record));
        if !fits {
            parked.record = None;
        }
    }
    drop(state);
    // Random, so that the tags of another process, or of this one before, mean nothing here.
    let incarnation = fastrand::u32(1..);
    progress.epochs.push(Epoch { from: aside_end, writer: incarnation });
    progress.relies = aside_end;
    let mut partition = Partition::new(number, incarnation, progress, asides);
    (partition.notes, partition.outlived, partition.late) = (notes, outlived, late);
    partition
}

/// Partitions go to others. Blocks until nothing of them is in somebody's hands, or time is up, and until what was settled is
/// committed; then settling what is left of them does nothing.
fn revoke(shared: &Shared, consumer: &BaseConsumer<Watch>, list: &TopicPartitionList) {
    let (numbers, lost) = (numbers(list), consumer.assignment_lost());
    let mut state = shared.state();
    for number in &numbers {
        if let Some(incarnation) = state.partitions.get(number).map(|partition| partition.incarnation) {
            state.tell(Change::Revoked(incarnation));
        }
        state.stop(*number, Phase::Leaving);
        if lost {
            // The others have begun already.
            state.remove(*number);
        }
    }
    shared.assigned.notify_waiters();
    // Whatever is to be committed yet is committed meanwhile.
    shared.turn();
    if !lost {
        let until = Instant::now() + shared.spec.lease.min(LONGEST_WAIT);
        let held = |state: &mut State| {
            let in_hands = |number| state.partitions.get(number).is_some_and(|partition| !partition.held.is_empty());
            !state.settled && numbers.iter().any(in_hands)
        };
        state = shared.wait_while(state, until, held);
        numbers.iter().for_each(|number| state.stop(*number, Phase::Fenced));
    }
    // What is on its way must not arrive after the others have begun.
    let until = Instant::now() + COMMIT;
    state = shared.wait_while(state, until, |state| {
        let dirty = |number| state.partitions.get(number).is_some_and(Partition::is_dirty);
        state.settling || state.committing || (!state.left && numbers.iter().any(dirty))
    });
    for number in &numbers {
        if state.remove(*number).is_some_and(|partition| partition.is_dirty()) {
            tracing::warn!(topic = shared.topic(), number, "a partition went to others before a last commit");
        }
    }
    drop(state);
    shared.turn();
    shared.changed.notify_waiters();
    let released = consumer.incremental_unassign(list).or_else(|_| consumer.unassign());
    if let Err(cause) = released {
        let error = Error::new(Code::BrokerUnavailable, "cannot give partitions up").caused_by(cause);
        tracing::warn!(topic = shared.topic(), ?error, "the group goes on without us");
    }
}
