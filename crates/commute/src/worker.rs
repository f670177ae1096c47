//! Workers: they pull ready events, run their handlers, and say what became of them.
//!
//! A worker claims a batch, because a claim costs more than a quick handler. When a handler does not finish at its first
//! poll, or takes long for it, the rest of the batch is given back, so that it never waits behind a slow one.

use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};
use std::task::Poll;
use std::time::Duration;

use commute_core::{Code, Context, Envelope, Error, HandlerError, Outcome, Settlement};
use tokio::time::Instant;

use crate::engine::{Dispatch, Engine, Job};
use crate::handler::{Handling, Invocation, guarded};
use crate::outcome::{LOST_DELAY, Success, failed, succeeded, transact};
use crate::reply::reply_to;
use crate::trace::{self, TraceParent};

/// A claim hands out at most this many: enough to make its cost invisible beside the smallest handler.
const BATCH: usize = 32;
/// A handler that takes longer is not quick: what it was claimed with goes to others.
const QUICK: Duration = Duration::from_micros(50);

/// Works until it is told to stop; then finishes what it has in hand.
pub(crate) async fn work(engine: Arc<Engine>) {
    let (mut tickets, mut jobs) = (Vec::new(), Vec::new());
    let mut over = Over::default();
    loop {
        let more = claim(&engine, &mut over, &mut tickets, &mut jobs);
        if more {
            engine.work.notify_one();
        }
        if jobs.is_empty() {
            tokio::select! {
                biased;
                () = engine.stop.working.cancelled() => return,
                () = engine.work.notified() => continue,
            }
        }
        run(&engine, &mut jobs, &mut over).await;
        // Handlers that are always ready would otherwise keep the runtime's timers waiting.
        tokio::task::consume_budget().await;
    }
}

/// What a worker is done with and has not handed on.
#[derive(Default)]
struct Over {
    /// Events that are over, and how long they took.
    tickets: Vec<(commute_scheduler::Ticket, Duration)>,
    /// What is to be settled, by subscription.
    settlements: Vec<(usize, Settlement)>,
    /// What is not counted yet.
    successes: Vec<Success>,
}

impl Over {
    fn push(&mut self, job: &Job, took: Duration, settlement: Settlement) {
        self.settlements.push((job.subscription, settlement));
        self.tickets.push((job.ticket, took));
    }

    /// Hands it on. Settlements go first: whatever waits for one of these events is settled after it.
    fn hand_on<'a>(&mut self, engine: &'a Engine) -> MutexGuard<'a, Dispatch> {
        if !self.successes.is_empty() {
            succeeded(engine, &self.successes);
            self.successes.clear();
        }
        engine.settle.push(self.settlements.drain(..));
        let mut dispatch = engine.dispatch();
        for (ticket, took) in self.tickets.drain(..) {
            dispatch.complete(ticket, took);
        }
        dispatch
    }
}

/// Completes and claims in one critical section. Answers whether something ready is left for another worker.
fn claim(engine: &Engine, over: &mut Over, tickets: &mut Vec<commute_scheduler::Ticket>, jobs: &mut Vec<Job>) -> bool {
    let completed = !over.tickets.is_empty();
    let mut dispatch = over.hand_on(engine);
    if !engine.stop.working.is_cancelled() {
        // A fair share, so that one worker does not take what others could begin at once.
        let ready = dispatch.scheduler.ready();
        let room = engine.limits.in_transaction.saturating_sub(dispatch.transacting);
        let max = ready.div_ceil(2 * engine.threads).clamp(1, BATCH).min(room);
        dispatch.claim(max, tickets, jobs);
    }
    let more = dispatch.scheduler.ready() > 0 && dispatch.transacting < engine.limits.in_transaction;
    drop(dispatch);
    // The oldest job is taken first.
    jobs.reverse();
    if completed || !jobs.is_empty() {
        engine.room.notify_waiters();
    }
    more && !engine.stop.working.is_cancelled()
}

async fn run(engine: &Arc<Engine>, jobs: &mut Vec<Job>, over: &mut Over) {
    complete_payloads(engine, jobs).await;
    // One look at the clock for each event: the end of one is the beginning of the next.
    let mut started = Instant::now();
    while let Some(mut job) = jobs.pop() {
        if engine.is_revoked(&job) {
            over.push(&job, Duration::ZERO, Settlement::Return { tag: job.tag });
            continue;
        }
        if engine.pauses.load(Ordering::Relaxed) > 0 {
            match engine.dispatch().stop_short(job, engine) {
                Some(go_on) => job = go_on,
                None => {
                    engine.work.notify_one();
                    continue;
                }
            }
        }
        let Some(envelope) = job.envelope.clone() else { continue };
        let context = engine.context(&job, envelope.clone());
        let (mut handling, trace) = begin(engine, &mut job, context);
        let first = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut handling).poll(cx))).await;
        let outcome = match first {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => {
                give_back(engine, jobs, over);
                handling.await
            }
        };
        let now = Instant::now();
        let took = now - started;
        conclude(engine, job, envelope, trace, outcome, (started, took), over);
        started = now;
        if took > QUICK && !jobs.is_empty() {
            give_back(engine, jobs, over);
        }
    }
}

/// The handler's future, and the position in the trace that what it causes carries on, if somebody gives one.
fn begin(engine: &Engine, job: &mut Job, context: Context) -> (Handling, Option<TraceParent>) {
    let handler = engine.subscriptions[job.subscription].handler(job.handler);
    let event = job.event.take();
    let run = |invocation| guarded(&handler.parts.run, invocation, handler.parts.timeout);
    let span = trace::handling(&engine.name, &context);
    if span.is_disabled() {
        return (run(Invocation { context, event }), None);
    }
    let given = engine.traces.as_ref().and_then(|traces| traces.begin(&span, &context, engine.broker.driver()));
    span.record("traceparent", tracing::field::display(given.unwrap_or_else(|| trace::child_of(&context.envelope))));
    let invocation = Invocation { context, event };
    let entered = span.clone();
    let handling = entered.in_scope(|| run(invocation));
    (handling.within(span), given)
}

/// A handler waits for something, or is slow: what is over is handed on, and the unstarted rest goes to other workers.
fn give_back(engine: &Engine, jobs: &mut Vec<Job>, over: &mut Over) {
    let mut dispatch = over.hand_on(engine);
    // The youngest first: each goes to the front of its class.
    for job in jobs.drain(..) {
        dispatch.give_back(job, engine);
    }
    let ready = dispatch.scheduler.ready();
    drop(dispatch);
    if ready > 0 {
        engine.work.notify_one();
    }
    engine.room.notify_waiters();
}

fn conclude(
    engine: &Arc<Engine>,
    job: Job,
    envelope: Arc<Envelope>,
    trace: Option<TraceParent>,
    outcome: Result<Outcome, HandlerError>,
    (started, took): (Instant, Duration),
    over: &mut Over,
) {
    // The handler has its own; every worker would count who holds the subscription's part of a second one.
    let context = |job: &Job| engine.context(job, envelope.clone());
    let emitted = match outcome {
        Ok(Outcome::Emit(events)) if events.is_empty() && reply_to(&envelope).is_none() => Ok(Vec::new()),
        Ok(Outcome::Emit(events)) => {
            let context = context(&job);
            engine.stage(job.subscription, job.handler, &context, trace, events).map_err(HandlerError::from_error)
        }
        Ok(Outcome::Transact(work)) => {
            let context = context(&job);
            return transact(engine, job, context, trace, work, started);
        }
        Err(error) => Err(error),
    };
    match emitted {
        Ok(publish) => {
            let subscription = &engine.subscriptions[job.subscription];
            over.successes.push(Success::of(&job, started + took, took));
            subscription.planned.handlers[job.handler].budget.deposit();
            let mark = engine.broker.capabilities().inbox_retention.is_some();
            over.push(&job, took, Settlement::Ack { tag: job.tag, publish, mark });
        }
        Err(error) => {
            engine.subscriptions[job.subscription].counters.attempted(started.elapsed());
            let context = context(&job);
            failed(engine, job, &context, error);
        }
    }
}

/// Gives every job its payload. What went to another instance goes back, because it may not be readable here any more, and what
/// cannot be read for a while waits. No job is left when the app cannot go on.
async fn complete_payloads(engine: &Engine, jobs: &mut Vec<Job>) {
    if jobs.iter().all(|job| job.envelope.is_some()) {
        return;
    }
    loop {
        take_out(engine, jobs, |job| engine.is_revoked(job), |dispatch, job| dispatch.return_to_broker(&job, engine));
        let Err(error) = fetch_ghosts(engine, jobs).await else { return };
        if jobs.iter().any(|job| engine.is_revoked(job)) {
            continue;
        }
        if !error.is_retryable() {
            engine.fail(error);
            jobs.clear();
            return;
        }
        tracing::warn!(app = %engine.name, %error, "payloads cannot be read again, and are tried later");
        let later = Instant::now() + LOST_DELAY;
        take_out(
            engine,
            jobs,
            |job| job.envelope.is_none(),
            |dispatch, job| {
                let attempt = job.attempt;
                dispatch.hold(job, later, attempt, engine)
            },
        );
        return;
    }
}

/// Does with some jobs what answers how many others became ready by it.
fn take_out(
    engine: &Engine,
    jobs: &mut Vec<Job>,
    which: impl Fn(&Job) -> bool,
    what: impl Fn(&mut Dispatch, Job) -> usize,
) {
    let mut dispatch = engine.dispatch();
    let ready: usize = jobs.extract_if(.., |job| which(job)).map(|job| what(&mut dispatch, job)).sum();
    drop(dispatch);
    if ready > 0 {
        engine.work.notify_one();
    }
}

/// Reads again the payloads that were dropped while their events waited.
async fn fetch_ghosts(engine: &Engine, jobs: &mut [Job]) -> Result<(), Error> {
    for (n, subscription) in engine.subscriptions.iter().enumerate() {
        let ghost = |job: &Job| job.subscription == n && job.envelope.is_none();
        let tags: Vec<_> = jobs.iter().filter(|job| ghost(job)).map(|job| job.tag).collect();
        if tags.is_empty() {
            continue;
        }
        let envelopes = subscription.settler.read(&tags).await?;
        if envelopes.len() != tags.len() {
            let detail = format!("{} payloads are asked for again, and {} are answered", tags.len(), envelopes.len());
            return Err(Error::new(Code::NotFound, detail));
        }
        for (job, envelope) in jobs.iter_mut().filter(|job| ghost(job)).zip(envelopes) {
            job.envelope = Some(Arc::new(envelope));
        }
    }
    Ok(())
}
