//! The writer: one thread that owns the log. It takes everything that waits, writes it as one group, syncs once, and then
//! answers everybody. There is no artificial delay: groups grow by themselves while the disk is busy.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use commute_core::{Code, DeliveryTag, Error, Outgoing, Receipt, Result, Settlement, Timestamp};
use hashbrown::HashMap;
use tokio::sync::{Notify, oneshot};

use crate::journal::Location;
use crate::log::Log;
use crate::options::Options;
use crate::records::{Aside, Record};
use crate::state::State;

/// A group is written when it has grown to this, so that nobody waits for a write without end.
const GROUP_BYTES: usize = 4 << 20;

/// What can be asked of the writer.
pub(crate) enum Command {
    Publish {
        batch: Vec<Outgoing>,
        reply: oneshot::Sender<Result<Vec<Receipt>>>,
    },
    Subscribe {
        topic: Arc<str>,
        group: Arc<str>,
        reply: oneshot::Sender<Result<u32>>,
    },
    Settle {
        subscription: u32,
        settlements: Vec<Settlement>,
        reply: oneshot::Sender<Result<()>>,
    },
    Unpark {
        subscription: u32,
        tags: Vec<DeliveryTag>,
        reply: oneshot::Sender<Result<()>>,
    },
    /// A duplicate met its inbox mark: it is done without being handled.
    Absorb {
        subscription: u32,
        positions: Vec<u64>,
    },
    Close {
        reply: oneshot::Sender<Result<()>>,
    },
}

/// What the writer shares with everybody.
pub(crate) struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    state: Mutex<State>,
    /// Something can be delivered, or everything is over.
    pub(crate) changed: Notify,
    pub(crate) options: Options,
}

#[derive(Default)]
struct Queue {
    commands: VecDeque<Command>,
    closed: bool,
    poisoned: Option<Arc<Error>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn new(state: State, options: Options) -> Self {
        Shared {
            queue: Mutex::default(),
            wake: Condvar::new(),
            state: Mutex::new(state),
            changed: Notify::new(),
            options,
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Hands a command over, in order.
    pub(crate) fn send(&self, command: Command) -> Result<()> {
        let mut queue = lock(&self.queue);
        if let Some(error) = queue.over() {
            return Err(error);
        }
        queue.closed = matches!(command, Command::Close { .. });
        queue.commands.push_back(command);
        drop(queue);
        self.wake.notify_one();
        Ok(())
    }

    /// Why nothing more can be done; `None` while it can.
    pub(crate) fn over(&self) -> Option<Error> {
        lock(&self.queue).over()
    }
}

impl Queue {
    fn over(&self) -> Option<Error> {
        if let Some(cause) = &self.poisoned {
            return Some(poisoned(cause));
        }
        self.closed.then(|| Error::new(Code::Closed, "the broker is closed"))
    }
}

fn poisoned(cause: &Arc<Error>) -> Error {
    let code = if cause.code() == Code::DiskFull { Code::DiskFull } else { Code::Poisoned };
    Error::new(code, "the log takes no more after a failed write").caused_by(format!("{cause:#}"))
}

/// What is left to do when the group is durable.
enum Answer {
    Published(Vec<Receipt>, oneshot::Sender<Result<Vec<Receipt>>>),
    Subscribed(u32, oneshot::Sender<Result<u32>>),
    Done(oneshot::Sender<Result<()>>),
}

/// Events of the group, by topic and id, and where they will be: not visible before they are durable.
#[derive(Default)]
struct Pending {
    events: Vec<(Record, Location)>,
    next: HashMap<u32, u64>,
    ids: HashMap<(u32, [u8; 16]), u64>,
}

/// Runs until the broker is closed or the disk fails.
pub(crate) fn run(shared: &Shared, mut log: Log) {
    loop {
        let commands = {
            let mut queue = lock(&shared.queue);
            while queue.commands.is_empty() {
                queue = shared.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            std::mem::take(&mut queue.commands)
        };
        match write_all(shared, &mut log, commands) {
            Ok(None) => {}
            Ok(Some((reply, saved))) => {
                // Whoever waits for the answer may open the directory again at once, so it must be let go of before.
                drop(log);
                shared.changed.notify_waiters();
                let _ = reply.send(saved);
                return;
            }
            Err(error) => return poison(shared, error),
        }
    }
}

/// Every reply that was not sent is dropped, which the other end reads as the failure.
fn poison(shared: &Shared, error: Error) {
    tracing::error!(%error, "the log is poisoned");
    let mut queue = lock(&shared.queue);
    queue.poisoned = Some(Arc::new(error));
    queue.commands.clear();
    drop(queue);
    shared.changed.notify_waiters();
}

/// Whoever closed the broker, and what came of it.
type Closing = (oneshot::Sender<Result<()>>, Result<()>);

/// Answers who closed the broker, if somebody did.
fn write_all(shared: &Shared, log: &mut Log, mut commands: VecDeque<Command>) -> Result<Option<Closing>> {
    let mut closing = None;
    while !commands.is_empty() {
        let (mut answers, mut pending) = (Vec::new(), Pending::default());
        log.begin();
        {
            let mut state = shared.state();
            while let Some(command) = commands.pop_front() {
                match command {
                    Command::Close { reply } => closing = Some(reply),
                    command => answers.extend(add(shared, log, &mut state, &mut pending, command)),
                }
                if log.group_bytes() > GROUP_BYTES {
                    break;
                }
            }
        }
        log.commit()?;
        {
            let mut state = shared.state();
            for (record, at) in pending.events {
                state.apply(record, at, &shared.options);
            }
            if log.is_full(&shared.options) {
                log.roll(&mut state, shared.options.clock.now(), &shared.options)?;
            }
        }
        shared.changed.notify_waiters();
        answers.into_iter().for_each(Answer::send);
    }
    let Some(reply) = closing else { return Ok(None) };
    let saved = log.snapshot(&shared.state());
    Ok(Some((reply, saved)))
}

impl Answer {
    /// Whoever has stopped waiting does not want the answer.
    fn send(self) {
        match self {
            Answer::Published(receipts, reply) => drop(reply.send(Ok(receipts))),
            Answer::Subscribed(number, reply) => drop(reply.send(Ok(number))),
            Answer::Done(reply) => drop(reply.send(Ok(()))),
        }
    }
}

/// Turns a command into records. Everything but events takes effect in memory at once: if the sync fails, nothing of it
/// is believed any more, because the log is poisoned.
fn add(shared: &Shared, log: &mut Log, state: &mut State, pending: &mut Pending, command: Command) -> Option<Answer> {
    let options = &shared.options;
    let now = options.clock.now();
    match command {
        Command::Publish { batch, reply } => {
            let receipts = batch.into_iter().map(|event| publish(log, state, pending, event, now, options)).collect();
            Some(Answer::Published(receipts, reply))
        }
        Command::Subscribe { topic, group, reply } => {
            let topic = topic_number(log, state, &topic, options);
            let number = state.subscription(topic, &group).unwrap_or_else(|| {
                let subscription = state.subscriptions.len() as u32;
                note(log, state, Record::Subscription { subscription, topic, group }, options);
                subscription
            });
            Some(Answer::Subscribed(number, reply))
        }
        Command::Settle { subscription, settlements, reply } => {
            for settlement in settlements {
                settle(log, state, pending, subscription, settlement, now, options);
            }
            Some(Answer::Done(reply))
        }
        Command::Unpark { subscription, tags, reply } => {
            let known = &state.subscriptions[subscription as usize];
            if let Some(tag) = tags.iter().find(|tag| !known.is_parked(tag.position)) {
                let _ = reply.send(Err(Error::new(Code::NotParked, format!("event {} is not parked", tag.position))));
                return None;
            }
            for tag in tags {
                note(log, state, Record::Unpark { subscription, position: tag.position }, options);
                let topic = state.subscriptions[subscription as usize].topic;
                let key = state.topics[topic as usize].get(tag.position).and_then(|meta| meta.key);
                state.subscriptions[subscription as usize].delivering.take(tag.incarnation, tag.position, key);
            }
            Some(Answer::Done(reply))
        }
        Command::Absorb { subscription, positions } => {
            for position in positions {
                note(log, state, Record::Ack { subscription, position, at: now, mark: None }, options);
                let delivering = &mut state.subscriptions[subscription as usize].delivering;
                delivering.settle(position);
                delivering.absorbed += 1;
            }
            None
        }
        Command::Close { .. } => None,
    }
}

/// A fact that takes effect in memory at once.
fn note(log: &mut Log, state: &mut State, record: Record, options: &Options) {
    let at = log.add(&record);
    state.apply(record, at, options);
}

fn topic_number(log: &mut Log, state: &mut State, name: &Arc<str>, options: &Options) -> u32 {
    state.topic(name).unwrap_or_else(|| {
        let topic = state.topics.len() as u32;
        note(log, state, Record::Topic { topic, name: name.clone() }, options);
        topic
    })
}

fn publish(
    log: &mut Log,
    state: &mut State,
    pending: &mut Pending,
    event: Outgoing,
    now: Timestamp,
    options: &Options,
) -> Receipt {
    let topic = topic_number(log, state, &event.topic.as_str().into(), options);
    let id = event.envelope.id.fingerprint();
    let known = state.topics[topic as usize].ids.get(&id).or_else(|| pending.ids.get(&(topic, id)).copied());
    if let Some(position) = known {
        return Receipt { position, duplicate: true };
    }
    let next = pending.next.entry(topic).or_insert_with(|| state.topics[topic as usize].next());
    let position = *next;
    *next += 1;
    pending.ids.insert((topic, id), position);
    let (not_before, envelope) = (event.not_before, event.envelope);
    let record = Record::Event { topic, position, published: now, not_before, envelope };
    let at = log.add(&record);
    pending.events.push((record, at));
    Receipt { position, duplicate: false }
}

/// Settlements of deliveries that are in nobody's hands do nothing.
fn settle(
    log: &mut Log,
    state: &mut State,
    pending: &mut Pending,
    subscription: u32,
    settlement: Settlement,
    now: Timestamp,
    options: &Options,
) {
    let DeliveryTag { position, incarnation } = settlement.tag();
    let known = &mut state.subscriptions[subscription as usize];
    if !known.delivering.holds(incarnation, position) {
        return;
    }
    match settlement {
        Settlement::Ack { publish: events, mark, .. } => {
            known.delivering.settle(position);
            let topic = known.topic;
            let mark = if mark { id_of(state, topic, position) } else { None };
            note(log, state, Record::Ack { subscription, position, at: now, mark }, options);
            for event in events {
                publish(log, state, pending, event, now, options);
            }
        }
        Settlement::Defer { attempts, not_before, .. } => {
            note(log, state, Record::Defer { subscription, position, attempts, not_before }, options);
        }
        Settlement::Park { attempts, lanes, reason, .. } => {
            known.delivering.settle(position);
            let aside = Aside { attempts, since: now, reason: reason.map(Into::into), lanes };
            note(log, state, Record::Park { subscription, position, aside }, options);
        }
        Settlement::Return { .. } => {
            known.delivering.give_back(position);
        }
    }
}

fn id_of(state: &State, topic: u32, position: u64) -> Option<[u8; 16]> {
    state.topics[topic as usize].get(position).map(|meta| meta.id)
}
