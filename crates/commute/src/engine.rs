//! The engine's shared state: what is admitted, and the one critical section around the scheduler.
//!
//! ```text
//! consumer ─admit─► ┌──────────┐ ─claim─► worker ─► outcome ─► settle
//! timer ────due───► │ Dispatch │ ◄─complete─┘ │
//! release ─admit──► └──────────┘ ◄────────────┘ back_off, park
//! ```

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use commute_core::{
    Clock, Context, DeliveryTag, Envelope, Error, Footprint, Lane, Mode, Outgoing, Result, Settlement, Settler,
    SharedBroker, Timestamp,
};
use commute_scheduler::{ParkScope, Scheduler, Span, Ticket, Withdrawn};
use tokio::runtime::Handle;
use tokio::sync::{Notify, RwLock};
use tokio::time::Instant;

use crate::counters::Counters;
use crate::gate::Gate;
use crate::handler::Decoded;
use crate::limits::Limits;
use crate::lock::lock;
use crate::planned::{Planned, PlannedHandler};
use crate::publish::{Signer, caused};
use crate::published::Published;
use crate::reply::Reply;
use crate::settle_queue::SettleQueue;
use crate::shutdown::Stop;
use crate::trace::{TraceParent, Traces};

/// What all rooms of a running app share.
pub(crate) struct Engine {
    pub(crate) name: Arc<str>,
    pub(crate) broker: SharedBroker,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) subscriptions: Vec<Sub>,
    pub(crate) limits: Limits,
    pub(crate) workers: usize,
    /// How many workers can be at work in the same moment, if none of them waits.
    pub(crate) threads: usize,
    pub(crate) settle: SettleQueue,
    pub(crate) stop: Stop,
    pub(crate) failure: OnceLock<Error>,
    pub(crate) work_nanos: AtomicU64,
    pub(crate) published: Arc<Published>,
    /// Who gives the spans of handlings their ids, if somebody does.
    pub(crate) traces: Option<Arc<dyn Traces>>,
    /// Deliveries that were taken and are not admitted yet.
    pub(crate) in_hand: AtomicUsize,
    /// Something is ready.
    pub(crate) work: Notify,
    /// There is room for more deliveries.
    pub(crate) room: Notify,
    /// An earlier time is due than the timer knows.
    pub(crate) timer: Notify,
    /// Held shared while admitting deliveries, exclusively while a lane is released.
    pub(crate) admission: RwLock<()>,
    /// How much an operator has paused. A hint for workers; the truth is behind the lock.
    pub(crate) pauses: AtomicUsize,
    dispatch: Mutex<Dispatch>,
}

/// An open subscription.
pub(crate) struct Sub {
    pub(crate) planned: Planned,
    pub(crate) whole: commute_core::Access,
    pub(crate) settler: Arc<dyn Settler>,
    pub(crate) counters: Counters,
    pub(crate) revoked: Revoked,
    pub(crate) gate: Gate,
}

/// Incarnations that another instance has taken over.
#[derive(Debug, Default)]
pub(crate) struct Revoked {
    any: AtomicBool,
    incarnations: Mutex<HashSet<u32>>,
}

impl Revoked {
    pub(crate) fn insert(&self, incarnation: u32) {
        lock(&self.incarnations).insert(incarnation);
        self.any.store(true, Ordering::Release);
    }

    pub(crate) fn contains(&self, incarnation: u32) -> bool {
        self.any.load(Ordering::Acquire) && lock(&self.incarnations).contains(&incarnation)
    }
}

impl Sub {
    /// The handler that takes a type.
    pub(crate) fn handler_of(&self, event_type: &str) -> Option<usize> {
        self.planned.by_type.get(event_type).copied().or(self.planned.any)
    }

    pub(crate) fn handler(&self, n: usize) -> &PlannedHandler {
        &self.planned.handlers[n]
    }

    /// What an event touches, with the subscription's own lane where some handlers of it are exclusive.
    pub(crate) fn footprint(&self, handler: usize, event: &Decoded) -> Footprint {
        match (self.handler(handler).parts.lanes)(event) {
            None => self.whole.into(),
            Some(mut footprint) => {
                if self.planned.mixed {
                    footprint.touch(commute_core::Access { mode: Mode::READ, ..self.whole });
                }
                footprint
            }
        }
    }
}

/// An event that the scheduler knows.
pub(crate) struct Admitted {
    pub(crate) subscription: usize,
    pub(crate) handler: usize,
    pub(crate) tag: DeliveryTag,
    /// Which attempt is next or under way, from 1.
    pub(crate) attempt: u32,
    pub(crate) published: Timestamp,
    pub(crate) footprint: Footprint,
    /// `None`: a ghost, whose payload is read again when it is its turn.
    pub(crate) envelope: Option<Arc<Envelope>>,
    /// Decoded on admission and used by the first attempt.
    pub(crate) event: Option<Decoded>,
    /// It waits for its next attempt.
    pub(crate) backing_off: bool,
    /// Its place in the scheduler, once it has one.
    pub(crate) ticket: Option<Ticket>,
    /// The number of its admission; zero until then.
    pub(crate) arrival: u64,
    /// It is in the hands of a worker.
    pub(crate) claimed: bool,
}

/// An event in the hands of a worker.
pub(crate) struct Job {
    pub(crate) ticket: Ticket,
    pub(crate) subscription: usize,
    pub(crate) handler: usize,
    pub(crate) tag: DeliveryTag,
    pub(crate) attempt: u32,
    pub(crate) published: Timestamp,
    pub(crate) envelope: Option<Arc<Envelope>>,
    pub(crate) event: Option<Decoded>,
}

/// An event that is set aside, as the engine remembers it.
#[derive(Debug, Clone)]
pub(crate) struct SetAside {
    pub(crate) subscription: usize,
    pub(crate) tag: DeliveryTag,
    pub(crate) lanes: Vec<(Lane, Mode)>,
    /// When the event was admitted, counted.
    pub(crate) arrival: u64,
    /// Attempts made.
    pub(crate) attempts: u32,
    /// Its own failure; nothing when it waits behind another.
    pub(crate) reason: Option<Arc<str>>,
    /// When the broker took it in, if this process received it.
    pub(crate) published: Option<Timestamp>,
}

/// A key that an operator has paused. Some names can be read as several keys; all of these are held.
#[derive(Debug)]
pub(crate) struct KeyHold {
    pub(crate) subscription: usize,
    pub(crate) key: String,
    pub(crate) lanes: Vec<(Lane, Ticket)>,
}

/// Everything behind the one lock. Held for a few hundred nanoseconds, never across an await.
pub(crate) struct Dispatch {
    pub(crate) scheduler: Scheduler,
    pub(crate) admitted: Vec<Option<Admitted>>,
    pub(crate) in_flight: Vec<usize>,
    /// In the hands of workers, per subscription.
    pub(crate) running: Vec<usize>,
    payloads: usize,
    pub(crate) transacting: usize,
    pub(crate) due: BinaryHeap<Reverse<(Instant, u64, Waiting)>>,
    order: u64,
    pub(crate) arrivals: u64,
    pub(crate) parked: Vec<SetAside>,
    /// Keys that an operator has paused.
    pub(crate) holds: Vec<KeyHold>,
    pub(crate) span: Option<Span>,
}

/// What becomes due.
pub(crate) enum Waiting {
    /// It holds its lanes.
    Held(Ticket),
    /// It let its lanes go and queues again.
    Released(Box<Admitted>),
}

// The heap is ordered by time and arrival; what waits does not take part.
impl PartialEq for Waiting {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
impl Eq for Waiting {}
impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Waiting {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

impl Engine {
    #[allow(clippy::too_many_arguments, reason = "called once, from the place where all of these are made")]
    pub(crate) fn new(
        name: Arc<str>,
        broker: SharedBroker,
        clock: Arc<dyn Clock>,
        subscriptions: Vec<Sub>,
        limits: Limits,
        workers: usize,
        measure: bool,
        traces: Option<Arc<dyn Traces>>,
    ) -> Self {
        let dispatch = Dispatch {
            scheduler: Scheduler::new(commute_scheduler::Options::default()),
            admitted: Vec::new(),
            in_flight: vec![0; subscriptions.len()],
            running: vec![0; subscriptions.len()],
            payloads: 0,
            transacting: 0,
            due: BinaryHeap::new(),
            order: 0,
            arrivals: 0,
            parked: Vec::new(),
            holds: Vec::new(),
            span: measure.then(Span::default),
        };
        Engine {
            name,
            broker,
            clock,
            subscriptions,
            limits,
            workers,
            threads: Handle::try_current().map_or(1, |runtime| runtime.metrics().num_workers()),
            settle: SettleQueue::default(),
            stop: Stop::default(),
            failure: OnceLock::new(),
            work_nanos: AtomicU64::new(0),
            published: Arc::default(),
            traces,
            in_hand: AtomicUsize::new(0),
            work: Notify::new(),
            room: Notify::new(),
            timer: Notify::new(),
            admission: RwLock::new(()),
            pauses: AtomicUsize::new(0),
            dispatch: Mutex::new(dispatch),
        }
    }

    pub(crate) fn dispatch(&self) -> MutexGuard<'_, Dispatch> {
        lock(&self.dispatch)
    }

    /// The app cannot go on: remembers why and stops everything. What is unsettled is delivered again.
    pub(crate) fn fail(&self, error: Error) {
        tracing::error!(app = %self.name, %error, "the app stops");
        let _ = self.failure.set(error);
        self.stop.everything.cancel();
        self.stop.working.cancel();
        self.stop.receiving.cancel();
    }

    /// Turns what a handler emitted into what must be published. The same events get the same ids.
    pub(crate) fn stage(
        &self,
        subscription: usize,
        handler: usize,
        cause: &Context,
        trace: Option<TraceParent>,
        events: Vec<commute_core::Emitted>,
    ) -> Result<Vec<Outgoing>> {
        let mut reply = Reply::asked(cause);
        if events.is_empty() && reply.is_none() {
            return Ok(Vec::new());
        }
        let PlannedHandler { topics, parts, .. } = self.subscriptions[subscription].handler(handler);
        let now = self.clock.now();
        let mut outgoing = Vec::with_capacity(events.len());
        for (ordinal, event) in (0..).zip(events) {
            let topic = topics.get(event.event_type).cloned();
            if let Some(reply) = &mut reply {
                reply.add(cause, ordinal, &event, topic.as_ref());
            }
            // The plan has checked that every type an answer can emit has a topic, or that it goes to whoever asked.
            let Some(topic) = topic else {
                if parts.replies {
                    continue;
                }
                let detail = format!("an answer of type {} has no topic", event.event_type);
                return Err(Error::new(commute_core::Code::InvalidApp, detail));
            };
            let envelope = caused(cause, trace, ordinal, event, &self.name, now)?;
            let size = envelope.size();
            let limit = self.broker.capabilities().max_event_bytes;
            if size > limit {
                let detail =
                    format!("an answer of type {} has {size} bytes; the limit is {limit}", envelope.event_type);
                return Err(Error::new(commute_core::Code::PayloadTooLarge, detail));
            }
            outgoing.push(Outgoing { topic, envelope, not_before: None });
        }
        if let Some(reply) = reply {
            outgoing.push(reply.done(&self.signer(), cause)?);
        }
        Ok(outgoing)
    }

    /// Whether another instance has taken an event over that a worker has. Who keeps the event otherwise must ask under the
    /// lock: what is kept before the incarnation is marked, the take-over finds when it locks.
    pub(crate) fn is_revoked(&self, job: &Job) -> bool {
        self.subscriptions[job.subscription].revoked.contains(job.tag.incarnation)
    }

    /// In whose name events are published now.
    pub(crate) fn signer(&self) -> Signer<'_> {
        Signer { name: &self.name, now: self.clock.now(), given: self.broker.capabilities() }
    }

    /// Makes the context of a job; the envelope must be there.
    pub(crate) fn context(&self, job: &Job, envelope: Arc<Envelope>) -> Context {
        Context {
            envelope,
            route: self.subscriptions[job.subscription].planned.route.clone(),
            attempt: job.attempt,
            published: job.published,
        }
    }
}

impl Dispatch {
    /// How many more events can be admitted without a payload that would have to be dropped and read again. Without end
    /// when the workers are about to run dry: then it is worth its price to look behind what is in the way.
    pub(crate) fn payload_room(&self, engine: &Engine) -> usize {
        match self.scheduler.ready() < engine.workers.div_ceil(8) {
            true => usize::MAX,
            false => engine.limits.window.saturating_sub(self.payloads),
        }
    }

    /// Admits an event, or sets it aside when something it conflicts with is parked. Answers whether it is ready.
    pub(crate) fn admit(&mut self, mut event: Admitted, not_before: Option<Instant>, engine: &Engine) -> bool {
        let subscription = &engine.subscriptions[event.subscription];
        // What another instance has taken over meanwhile is not ours to hold or to set aside.
        if subscription.gate.is_shut() || subscription.revoked.contains(event.tag.incarnation) {
            engine.settle.push([(event.subscription, Settlement::Return { tag: event.tag })]);
            return false;
        }
        self.arrivals += 1;
        event.arrival = self.arrivals;
        event.ticket = None;
        let (ticket, ready) = match self.scheduler.admit(&event.footprint, not_before.is_some()) {
            Ok((ticket, admission)) => (ticket, admission.is_ready()),
            Err(_parked) => {
                let scope = engine.subscriptions[event.subscription].handler(event.handler).park_scope();
                let lanes = self.scheduler.park_behind(&event.footprint, scope).into_vec();
                self.set_aside(&event, event.attempt - 1, lanes, None, engine);
                return false;
            }
        };
        self.in_flight[event.subscription] += 1;
        if let Some(time) = not_before {
            event.backing_off = true;
            Counters::add(&engine.subscriptions[event.subscription].counters.retrying);
            self.wake_at(time, Waiting::Held(ticket), engine);
        }
        if self.payloads >= engine.limits.window && (!ready || not_before.is_some()) {
            (event.envelope, event.event) = (None, None);
        }
        self.payloads += usize::from(event.envelope.is_some());
        event.ticket = Some(ticket);
        let index = ticket.index();
        if index >= self.admitted.len() {
            self.admitted.resize_with(index + 1, || None);
        }
        self.admitted[index] = Some(event);
        ready
    }

    /// Hands out up to `max` ready events.
    pub(crate) fn claim(&mut self, max: usize, tickets: &mut Vec<Ticket>, jobs: &mut Vec<Job>) {
        tickets.clear();
        self.scheduler.claim(max, tickets);
        for ticket in tickets.drain(..) {
            if let Some(event) = self.admitted[ticket.index()].as_mut() {
                self.payloads -= usize::from(event.envelope.is_some());
                event.claimed = true;
                self.running[event.subscription] += 1;
                jobs.push(Job {
                    ticket,
                    subscription: event.subscription,
                    handler: event.handler,
                    tag: event.tag,
                    attempt: event.attempt,
                    published: event.published,
                    envelope: event.envelope.take(),
                    event: event.event.take(),
                });
            }
        }
    }

    /// Gives back everything of a subscription that is not running, or of one incarnation of it. Answers how many that were.
    pub(crate) fn withdraw(&mut self, subscription: usize, incarnation: Option<u32>, engine: &Engine) -> usize {
        let counters = &engine.subscriptions[subscription].counters;
        let theirs = |event: &Admitted| {
            event.subscription == subscription && incarnation.is_none_or(|theirs| event.tag.incarnation == theirs)
        };
        let mut back = Vec::new();
        let tickets: Vec<_> = self.admitted.iter().flatten().filter(|event| theirs(event)).collect();
        let tickets: Vec<_> = tickets.into_iter().filter_map(|event| event.ticket).collect();
        for ticket in tickets {
            if self.scheduler.withdraw(ticket) == Some(Withdrawn::Gone)
                && let Some(event) = self.remove(ticket)
            {
                counters.retrying.fetch_sub(u64::from(event.backing_off), Ordering::Relaxed);
                back.push(event.tag);
            }
        }
        // What let go of its lanes waits in the heap alone.
        let waiting = std::mem::take(&mut self.due).into_vec();
        let (gone, left): (Vec<_>, Vec<_>) = waiting
            .into_iter()
            .partition(|Reverse((_, _, waiting))| matches!(waiting, Waiting::Released(event) if theirs(event)));
        self.due = left.into();
        for Reverse((_, _, waiting)) in gone {
            if let Waiting::Released(event) = waiting {
                self.in_flight[subscription] -= 1;
                counters.retrying.fetch_sub(1, Ordering::Relaxed);
                back.push(event.tag);
            }
        }
        let count = back.len();
        engine.settle.push(back.into_iter().map(|tag| (subscription, Settlement::Return { tag })));
        count
    }

    /// Takes back a job that was not begun.
    pub(crate) fn give_back(&mut self, job: Job, engine: &Engine) {
        if engine.subscriptions[job.subscription].gate.is_shut() {
            self.return_to_broker(&job, engine);
            return;
        }
        if let Some(event) = self.admitted[job.ticket.index()].as_mut() {
            self.payloads += usize::from(job.envelope.is_some());
            self.running[event.subscription] -= usize::from(std::mem::take(&mut event.claimed));
            (event.envelope, event.event) = (job.envelope, job.event);
            self.scheduler.give_back(job.ticket);
        }
    }

    /// The event is over: its lanes go on. Answers how many became ready.
    pub(crate) fn complete(&mut self, ticket: Ticket, took: Duration) -> usize {
        let Some(event) = self.remove(ticket) else { return 0 };
        if let Some(span) = &mut self.span {
            span.record(&event.footprint, u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        }
        self.scheduler.complete(ticket)
    }

    /// The event failed and waits for its next attempt. It keeps its lanes. Answers how many became ready all the same,
    /// because it went back to the broker.
    pub(crate) fn hold(&mut self, job: Job, until: Instant, next_attempt: u32, engine: &Engine) -> usize {
        if engine.subscriptions[job.subscription].gate.is_shut() || engine.is_revoked(&job) {
            return self.return_to_broker(&job, engine);
        }
        let keep_payload = self.payloads < engine.limits.window;
        if let Some(event) = self.admitted[job.ticket.index()].as_mut() {
            self.running[event.subscription] -= usize::from(std::mem::take(&mut event.claimed));
            event.attempt = next_attempt;
            event.backing_off = true;
            event.envelope = job.envelope.filter(|_| keep_payload);
            self.payloads += usize::from(event.envelope.is_some());
            Counters::add(&engine.subscriptions[job.subscription].counters.retrying);
            self.scheduler.back_off(job.ticket);
            self.wake_at(until, Waiting::Held(job.ticket), engine);
        }
        0
    }

    /// The subscription is paused, or another instance has taken over: the event is delivered again, when it goes on or there.
    /// Answers how many became ready.
    pub(crate) fn return_to_broker(&mut self, job: &Job, engine: &Engine) -> usize {
        engine.settle.push([(job.subscription, Settlement::Return { tag: job.tag })]);
        engine.room.notify_waiters();
        self.complete(job.ticket, Duration::ZERO)
    }

    /// The event failed and waits for its next attempt. Its lanes go on; it queues again when it is due.
    pub(crate) fn release(&mut self, job: Job, until: Instant, next_attempt: u32, engine: &Engine) -> usize {
        if engine.is_revoked(&job) {
            return self.return_to_broker(&job, engine);
        }
        let Some(mut event) = self.remove(job.ticket) else { return 0 };
        event.attempt = next_attempt;
        event.envelope = job.envelope;
        event.backing_off = true;
        // It still is unsettled, so it counts against the look-ahead.
        self.in_flight[event.subscription] += 1;
        Counters::add(&engine.subscriptions[event.subscription].counters.retrying);
        let ready = self.scheduler.complete(job.ticket);
        self.wake_at(until, Waiting::Released(Box::new(event)), engine);
        ready
    }

    /// The event and everything that waits behind it are set aside, in order; nothing is when another instance has taken the
    /// event over. Answers whether it is parked here.
    pub(crate) fn park(&mut self, job: &Job, scope: ParkScope, reason: String, engine: &Engine) -> bool {
        if engine.is_revoked(job) {
            self.return_to_broker(job, engine);
            return false;
        }
        let mut reason = Some(reason);
        for parked in self.scheduler.park(job.ticket, scope) {
            let Some(event) = self.remove(parked.ticket) else { continue };
            // The first one is the event itself, which has been tried; the others wait for their next attempt.
            let attempts = if parked.ticket == job.ticket { event.attempt } else { event.attempt - 1 };
            self.set_aside(&event, attempts, parked.lanes.into_vec(), reason.take(), engine);
        }
        true
    }

    fn set_aside(
        &mut self,
        event: &Admitted,
        attempts: u32,
        lanes: Vec<(Lane, Mode)>,
        reason: Option<String>,
        engine: &Engine,
    ) {
        let Admitted { subscription, tag, arrival, published, .. } = *event;
        Counters::add(&engine.subscriptions[subscription].counters.parked);
        let (published, why) = (Some(published), reason.as_deref().map(Arc::from));
        self.parked.push(SetAside {
            subscription,
            tag,
            lanes: lanes.clone(),
            arrival,
            attempts,
            reason: why,
            published,
        });
        engine.settle.push([(subscription, Settlement::Park { tag, attempts, lanes, reason })]);
    }

    /// Makes ready what is due, and answers how much became ready and when the next is due.
    pub(crate) fn due(&mut self, now: Instant, engine: &Engine) -> (usize, Option<Instant>) {
        let mut ready = 0;
        while let Some(Reverse((time, ..))) = self.due.peek() {
            if *time > now {
                return (ready, Some(*time));
            }
            let Some(Reverse((_, _, waiting))) = self.due.pop() else { break };
            match waiting {
                Waiting::Held(ticket) => {
                    // A stale ticket names nobody; its slot may be somebody else's by now.
                    if !self.scheduler.due(ticket) {
                        continue;
                    }
                    if let Some(event) = self.admitted[ticket.index()].as_mut() {
                        event.backing_off = false;
                        let counter = &engine.subscriptions[event.subscription].counters.retrying;
                        counter.fetch_sub(1, Ordering::Relaxed);
                    }
                    ready += 1;
                }
                Waiting::Released(mut event) => {
                    event.backing_off = false;
                    self.in_flight[event.subscription] -= 1;
                    let counter = &engine.subscriptions[event.subscription].counters.retrying;
                    counter.fetch_sub(1, Ordering::Relaxed);
                    ready += usize::from(self.admit(*event, None, engine));
                    // It may be set aside or go back, which makes room, and no worker has it who would say so.
                    engine.room.notify_waiters();
                }
            }
        }
        (ready, None)
    }

    fn wake_at(&mut self, time: Instant, waiting: Waiting, engine: &Engine) {
        let sooner = self.due.peek().is_none_or(|Reverse((first, ..))| time < *first);
        self.order += 1;
        self.due.push(Reverse((time, self.order, waiting)));
        if sooner {
            engine.timer.notify_one();
        }
    }

    pub(crate) fn remove(&mut self, ticket: Ticket) -> Option<Admitted> {
        let mut event = self.admitted.get_mut(ticket.index())?.take()?;
        self.running[event.subscription] -= usize::from(std::mem::take(&mut event.claimed));
        self.payloads -= usize::from(event.envelope.is_some());
        self.in_flight[event.subscription] -= 1;
        Some(event)
    }
}
