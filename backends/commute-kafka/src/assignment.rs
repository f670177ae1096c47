//! What becomes ours, and what ceases to be: takes partitions over when their state is loaded, and lets go of them in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use commute_core::{Change, Code, Error};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;

use crate::client::told;
use crate::error::failed;
use crate::library::Library;
use crate::loading::{Short, load};
use crate::partition::{Partition, Phase};
use crate::state::{Shared, State};

/// How long whoever takes over waits at most, however long the lease is.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
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
    let mut short = Short::default();
    let loaded = loop {
        if shared.state().over.is_some() {
            break Vec::new();
        }
        match load(shared, library, consumer, &numbers(list), &mut short) {
            Ok(loaded) => break loaded,
            Err(error) if !error.is_retryable() => {
                shared.fail(&error);
                break Vec::new();
            }
            Err(error) => {
                if shared.interrupted.is_due() {
                    tracing::warn!(topic = shared.topic(), ?error, "the state of a partition cannot be loaded yet");
                }
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
    // Some of it may have to be committed at once.
    shared.turn();
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
