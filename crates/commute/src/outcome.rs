//! Outcomes: what becomes of an event whose handler succeeded, failed, or left its work to a store.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use commute_core::{
    Code, Committed, Context, HandlerError, Outgoing, Settlement, Timestamp, Transact, Unit, UnitError,
};
use tokio::time::Instant;

use crate::counters::Counters;
use crate::engine::{Engine, Job, SetAside};
use crate::reply;
use crate::retry::{Exhausted, OnFailure};
use crate::trace::TraceParent;

/// What was lost through no fault of its events, a transaction or a payload, is tried again after this: long enough not to
/// spin on a broken database, short enough not to be noticed after a single hiccup.
pub(crate) const LOST_DELAY: Duration = Duration::from_millis(100);

/// A success, as it is counted.
pub(crate) struct Success {
    subscription: usize,
    published: Timestamp,
    ended: Instant,
    took: Duration,
}

impl Success {
    pub(crate) fn of(job: &Job, ended: Instant, took: Duration) -> Self {
        Success { subscription: job.subscription, published: job.published, ended, took }
    }
}

/// Counts successes. Those that follow each other in one subscription together: every worker counts in the same place.
pub(crate) fn succeeded(engine: &Engine, successes: &[Success]) {
    // One look at the wall clock for all of them.
    let (now, instant) = (engine.clock.now(), Instant::now());
    let latency = |success: &Success| now.since(success.published).saturating_sub(instant - success.ended);
    for run in successes.chunk_by(|one, next| one.subscription == next.subscription) {
        let times = run.iter().map(|success| (latency(success), success.took));
        engine.subscriptions[run[0].subscription].counters.handled_after(times);
    }
    let took: Duration = successes.iter().map(|success| success.took).sum();
    engine.work_nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
}

/// Leaves work to its store; what comes of it is concluded from the store's thread.
pub(crate) fn transact(
    engine: &Arc<Engine>,
    job: Job,
    context: Context,
    trace: Option<TraceParent>,
    work: Box<dyn Transact>,
    started: Instant,
) {
    engine.dispatch().transacting += 1;
    let unit = Unit {
        subscription: context.route.subscription.clone(),
        event: context.envelope.id.clone(),
        stage: {
            let (engine, context) = (engine.clone(), context.clone());
            let (subscription, handler) = (job.subscription, job.handler);
            Box::new(move |events| engine.stage(subscription, handler, &context, trace, events))
        },
    };
    let engine = engine.clone();
    work.submit(unit, Box::new(move |result| concluded(&engine, job, &context, result, started)));
}

fn concluded(
    engine: &Arc<Engine>,
    job: Job,
    context: &Context,
    result: Result<Committed, UnitError>,
    started: Instant,
) {
    let counters = &engine.subscriptions[job.subscription].counters;
    match result {
        Ok(committed) => {
            let ended = Instant::now();
            let took = ended - started;
            match committed {
                Committed::Fresh => succeeded(engine, &[Success::of(&job, ended, took)]),
                Committed::Duplicate => {
                    Counters::add(&counters.duplicates);
                    counters.attempted(took);
                }
            }
            engine.subscriptions[job.subscription].handler(job.handler).budget.deposit();
            // The inbox mark is in the store, where it was committed with the effects.
            let ack = Settlement::Ack { tag: job.tag, publish: Vec::new(), mark: false };
            engine.settle.push([(job.subscription, ack)]);
            let mut dispatch = engine.dispatch();
            dispatch.transacting -= 1;
            dispatch.complete(job.ticket, took);
        }
        Err(UnitError::Failed(error)) => {
            engine.dispatch().transacting -= 1;
            counters.attempted(started.elapsed());
            failed(engine, job, context, error);
        }
        Err(UnitError::Lost(error)) => {
            tracing::warn!(app = %engine.name, event = %context.envelope.id, %error, "a transaction was lost and is run again");
            let attempt = job.attempt;
            let mut dispatch = engine.dispatch();
            dispatch.transacting -= 1;
            let _ready = dispatch.hold(job, Instant::now() + LOST_DELAY, attempt, engine);
        }
    }
    engine.work.notify_one();
    engine.room.notify_waiters();
}

/// Decides what becomes of a failed event: another attempt, a dead letter, or parking.
pub(crate) fn failed(engine: &Engine, job: Job, context: &Context, error: HandlerError) {
    let subscription = &engine.subscriptions[job.subscription];
    let handler = subscription.handler(job.handler);
    Counters::add(&subscription.counters.failed);
    tracing::debug!(app = %engine.name, event = %context.envelope.id, attempt = job.attempt, %error, "an attempt failed");
    if !error.is_retryable() {
        return give_up(engine, job, context, error.code(), error.reason());
    }
    let last = job.attempt >= handler.parts.backoff.attempts;
    let within_budget = last || handler.budget.withdraw();
    match handler.parts.backoff.decide(job.attempt, within_budget, fastrand::f64()) {
        Some(delay) => retry(engine, job, handler.parts.on_failure, delay),
        None => match handler.when_exhausted {
            Exhausted::Skip => give_up(engine, job, context, Code::AttemptsExhausted, error.reason()),
            Exhausted::Park | Exhausted::ParkPrimary => {
                let reason = format!("{} ({})", error.reason(), error.code());
                let parked = engine.dispatch().park(&job, handler.park_scope(), reason.clone(), engine);
                if parked {
                    tracing::warn!(app = %engine.name, event = %context.envelope.id, %reason, "an event is parked with its lanes");
                    tell_parked(engine, context, job.attempt, Code::AttemptsExhausted, &error.reason());
                }
                engine.work.notify_one();
                engine.room.notify_waiters();
            }
        },
    }
}

fn retry(engine: &Engine, job: Job, on_failure: OnFailure, delay: Duration) {
    let not_before = engine.clock.now().plus(delay);
    let defer = Settlement::Defer { tag: job.tag, attempts: job.attempt, not_before };
    engine.settle.push([(job.subscription, defer)]);
    let (until, next) = (Instant::now() + delay, job.attempt + 1);
    let mut dispatch = engine.dispatch();
    let ready = match on_failure {
        OnFailure::HoldLane => dispatch.hold(job, until, next, engine),
        OnFailure::ReleaseLane => dispatch.release(job, until, next, engine),
    };
    drop(dispatch);
    if ready > 0 {
        engine.work.notify_one();
    }
}

/// The event becomes a dead letter, and its lanes go on.
fn give_up(engine: &Engine, job: Job, context: &Context, code: Code, reason: String) {
    let topic = &engine.subscriptions[job.subscription].handler(job.handler).dead_letters;
    let attempts = job.attempt;
    let settlement = dead_letter(engine, job.subscription, job.tag, topic, context, attempts, code, reason);
    given_up(engine, vec![(job.subscription, settlement)]);
    engine.dispatch().complete(job.ticket, Duration::ZERO);
    engine.work.notify_one();
    engine.room.notify_waiters();
}

/// Acknowledges a delivery together with the dead letter that takes its place. One that would be too large for the broker, because
/// it holds the event and more, is not written: the event is parked on no lane, which keeps it and delays nobody.
#[allow(clippy::too_many_arguments, reason = "a dead letter says this much")]
pub(crate) fn dead_letter(
    engine: &Engine,
    subscription: usize,
    tag: commute_core::DeliveryTag,
    topic: &commute_core::Topic,
    context: &Context,
    attempts: u32,
    code: Code,
    reason: String,
) -> Settlement {
    tracing::warn!(app = %engine.name, event = %context.envelope.id, %code, %reason, "an event becomes a dead letter");
    match crate::dead_letter::given_up(&engine.signer(), tag, topic, context, attempts, code, reason) {
        Ok(settlement) => {
            match &settlement {
                Settlement::Park { attempts, reason, .. } => {
                    tell_parked(engine, context, *attempts, code, reason.as_deref().unwrap_or_default());
                }
                _ => Counters::add(&engine.subscriptions[subscription].counters.dead),
            }
            settlement
        }
        Err(error) => {
            // A dead letter that cannot be written must not take the event with it.
            engine.fail(error);
            Settlement::Return { tag }
        }
    }
}

/// Whoever asked what becomes of the event is told that it is parked, once that is durable.
fn tell_parked(engine: &Engine, context: &Context, attempts: u32, code: Code, reason: &str) {
    match reply::parked(&engine.signer(), context, attempts, code, reason) {
        Ok(told) => engine.settle.tell(told),
        Err(error) => {
            tracing::warn!(app = %engine.name, event = %context.envelope.id, %error, "nobody is told that it is parked")
        }
    }
}

/// Hands over what became of events that are not handled any more. One that is parked, on no lane, is remembered, so that it
/// can be released.
pub(crate) fn given_up(engine: &Engine, settlements: Vec<(usize, Settlement)>) {
    let parked = |(_, settlement): &&(usize, Settlement)| matches!(settlement, Settlement::Park { .. });
    if settlements.iter().find(parked).is_none() {
        return engine.settle.push(settlements);
    }
    let mut dispatch = engine.dispatch();
    for (subscription, settlement) in &settlements {
        if let Settlement::Park { tag, attempts, reason, .. } = settlement {
            Counters::add(&engine.subscriptions[*subscription].counters.parked);
            dispatch.arrivals += 1;
            let (arrival, reason) = (dispatch.arrivals, reason.as_deref().map(Into::into));
            let (subscription, tag, attempts) = (*subscription, *tag, *attempts);
            let lanes = Vec::new();
            dispatch.parked.push(SetAside { subscription, tag, lanes, arrival, attempts, reason, published: None });
        }
    }
    // Under the lock: whoever finds one parked can take it back as soon as what was handed over is durable.
    engine.settle.push(settlements);
}

/// Counts a delivery that needs no handling.
pub(crate) fn ignored(
    engine: &Engine,
    subscription: usize,
    tag: commute_core::DeliveryTag,
    publish: Vec<Outgoing>,
) -> Settlement {
    engine.subscriptions[subscription].counters.ignored.fetch_add(1, Ordering::Relaxed);
    Settlement::Ack { tag, publish, mark: false }
}
