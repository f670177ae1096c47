//! The poll thread: takes records from the log into the buffers, and takes part in the group.

use std::sync::Arc;
use std::time::{Duration, Instant};

use commute_core::{Code, Error, Result, Texts};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{ClientConfig, Message};

use crate::assignment::Watch;
use crate::error::{code, failed};
use crate::library::Library;
use crate::membership::Member;
use crate::options::Options;
use crate::partition::Phase;
use crate::state::{Shared, State};
use crate::wire::{self, Record};

/// After what time the poll thread looks whether the subscription has ended.
const IDLE: Duration = Duration::from_millis(25);
/// How long it waits for room in full buffers before it pauses the partitions. The library throws away what it has fetched of
/// a paused partition and fetches it again later, which costs more than a moment's wait; who waits hears of no rebalance.
const PATIENCE: Duration = Duration::from_millis(100);
/// How many records are taken in under one lock.
const AT_ONCE: usize = 256;

/// What the log said of a partition while it had this incarnation.
struct Came {
    number: i32,
    incarnation: u32,
    /// A record, where it is wanted, at its offset; nothing when the log ends here for now.
    record: Option<(u64, Option<Record>)>,
}

/// From where on every record of a partition is wanted. It holds until the next rebalance, of which the same thread hears;
/// whatever else may end it is looked at when the record is taken in.
struct Plain {
    rebalances: u64,
    number: i32,
    incarnation: u32,
    from: u64,
}

impl Plain {
    /// Nothing when some of what comes is settled.
    fn of(state: &State, rebalances: u64, number: i32) -> Option<Self> {
        let partition = state.partitions.get(&number)?;
        let ours = partition.phase == Phase::Ours && partition.progress.settled.done_beyond() == 0;
        let from = partition.fetched.max(partition.progress.settled.low());
        ours.then_some(Plain { rebalances, number, incarnation: partition.incarnation, from })
    }
}

/// What the group's consumer is told.
pub(crate) fn config(options: &Options, group_id: &str) -> ClientConfig {
    let session = options.session_timeout.as_millis();
    let mut config = options.client();
    config
        .set("group.id", group_id)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "earliest")
        .set("enable.partition.eof", "true")
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("session.timeout.ms", session.to_string())
        // The others learn of a newcomer with their next heartbeat.
        .set("heartbeat.interval.ms", (session / 3).min(500).to_string())
        .set("max.poll.interval.ms", session.max(300_000).to_string())
        // With the library's second, who is quick waits for records most of the time.
        .set("fetch.queue.backoff.ms", "10")
        .set("fetch.error.backoff.ms", "100")
        .set("queued.min.messages", "10000")
        .set("queued.max.messages.kbytes", "16384");
    config
}

/// Joins the group.
pub(crate) fn join(options: &Options, shared: &Arc<Shared>, library: &Arc<Library>) -> Result<BaseConsumer<Watch>> {
    let watch = Watch::new(shared.clone(), library.clone());
    let made = config(options, &shared.group_id).create_with_context(watch);
    let consumer: BaseConsumer<Watch> =
        made.map_err(|cause| failed("the client library does not take the settings", cause))?;
    let what = || format!("cannot subscribe to {}", shared.topic());
    consumer.subscribe(&[shared.topic()]).map_err(|cause| failed(what(), cause))?;
    Ok(consumer)
}

/// Polls until the subscription has left the group.
pub(crate) fn run(shared: &Shared, member: &Member) {
    let consumer = member.consumer();
    let mut paused = None;
    let mut came = Vec::new();
    let (mut texts, mut plain) = (Texts::default(), None::<Plain>);
    loop {
        // Somebody may take from a full buffer at any moment, and nothing tells this thread.
        let wait = if paused.is_some() { Duration::from_millis(5) } else { IDLE };
        let mut polled = consumer.poll(wait);
        while let Some(outcome) = polled {
            match outcome {
                Ok(message) => {
                    let (number, offset) = (message.partition(), message.offset().unsigned_abs());
                    let rebalances = consumer.client().context().rebalances();
                    let known = plain.as_ref().filter(|known| known.rebalances == rebalances && known.number == number);
                    let wanted = match known {
                        Some(known) if offset >= known.from => Some((known.incarnation, true)),
                        _ => {
                            let state = shared.state();
                            plain = Plain::of(&state, rebalances, number);
                            state.partitions.get(&number).map(|p| (p.incarnation, p.wants(offset)))
                        }
                    };
                    if let Some((incarnation, wanted)) = wanted {
                        let record = wanted.then(|| wire::read(&message, shared.spec.mapping.as_deref(), &mut texts));
                        came.push(Came { number, incarnation, record: Some((offset, record)) });
                    }
                }
                Err(KafkaError::PartitionEOF(number)) => {
                    let incarnation = shared.state().partitions.get(&number).map_or(0, |p| p.incarnation);
                    came.push(Came { number, incarnation, record: None });
                }
                Err(cause) => heard(shared, cause),
            }
            polled = if came.len() < AT_ONCE { consumer.poll(Duration::ZERO) } else { None };
        }
        if !came.is_empty() {
            let (mut state, mut due) = (shared.state(), false);
            for Came { number, incarnation, record } in came.drain(..) {
                let known = state.partitions.get_mut(&number).filter(|known| known.incarnation == incarnation);
                let Some(partition) = known else { continue };
                let Some((offset, record)) = record else {
                    partition.reach_end();
                    continue;
                };
                let again = record.is_none() && offset >= partition.fetched;
                let was_dirty = partition.is_dirty();
                let fetched = partition.fetch(offset, record);
                due |= !was_dirty && partition.is_dirty();
                if let Some(bytes) = fetched {
                    state.buffered += 1;
                    state.buffered_bytes += bytes;
                }
                state.absorbed += u64::from(again);
            }
            drop(state);
            if due {
                // What the log skips is settled, and nobody else says so to the committer.
                shared.turn();
            }
            shared.changed.notify_waiters();
        }
        let mut state = shared.state();
        if state.is_full() && paused.is_none() {
            state.full = true;
            let until = Instant::now() + PATIENCE;
            state = shared.wait_while(state, until, |state| !state.has_room() && !state.left);
            state.full = false;
        }
        if state.left {
            return;
        }
        let (full, room) = (state.is_full(), state.has_room());
        drop(state);
        // What has become ours since is not paused yet.
        let rebalances = consumer.client().context().rebalances();
        if full && paused != Some(rebalances) {
            paused = consumer.assignment().and_then(|ours| consumer.pause(&ours)).is_ok().then_some(rebalances);
        } else if room && paused.is_some() {
            if let Err(cause) = consumer.assignment().and_then(|ours| consumer.resume(&ours)) {
                tracing::warn!(topic = shared.topic(), %cause, "fetching does not go on yet");
            } else {
                paused = None;
            }
        }
    }
}

/// An error of the consumer. Connections come back by themselves; what the server refuses does not.
fn heard(shared: &Shared, cause: KafkaError) {
    let lasting = match &cause {
        KafkaError::MessageConsumptionFatal(_) => true,
        other => other
            .rdkafka_error_code()
            .is_some_and(|answer| answer != RDKafkaErrorCode::Authentication && code(answer) == Code::AccessRefused),
    };
    if lasting {
        shared.fail(&failed(format!("the server refuses {} to group {}", shared.topic(), shared.group_id), cause));
    } else if shared.interrupted.is_due() {
        let error = Error::new(Code::BrokerUnavailable, "fetching is interrupted").caused_by(cause);
        tracing::warn!(topic = shared.topic(), group = %shared.spec.group, ?error, "it goes on when the server is back");
    }
}
