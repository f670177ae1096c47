//! Workers: they pull ready events, run their handlers, and say what became of them.
//!
//! A worker claims a batch, because a claim costs more than a quick handler. When a handler does not finish at its first
//! poll, the rest of the batch is given back, so that it never waits behind a slow one.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use commute_core::{Context, HandlerError, Outcome, Settlement};
use tokio::time::Instant;
use tracing::Instrument;

use crate::engine::{Engine, Job, correlation};
use crate::handler::{HandlerFuture, Invocation, guarded};
use crate::outcome::failed;

/// A claim hands out at most this many: enough to make its cost invisible beside the smallest handler.
const BATCH: usize = 32;

/// Works until it is told to stop; then finishes what it has in hand.
pub(crate) async fn work(engine: Arc<Engine>) {
    let (mut tickets, mut jobs) = (Vec::new(), Vec::new());
    let mut over = Vec::new();
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

/// An event that is over, and how long it took.
type Over = (commute_scheduler::Ticket, Duration);

/// Completes and claims in one critical section. Answers whether something ready is left for another worker.
fn claim(
    engine: &Engine,
    over: &mut Vec<Over>,
    tickets: &mut Vec<commute_scheduler::Ticket>,
    jobs: &mut Vec<Job>,
) -> bool {
    let mut dispatch = engine.dispatch();
    let completed = !over.is_empty();
    for (ticket, took) in over.drain(..) {
        dispatch.complete(ticket, took);
    }
    if !engine.stop.working.is_cancelled() {
        // A fair share, so that one worker does not take what others could begin at once.
        let ready = dispatch.scheduler.ready();
        let room = engine.limits.in_transaction.saturating_sub(dispatch.transacting);
        let max = ready.div_ceil(engine.workers).clamp(1, BATCH).min(room);
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

async fn run(engine: &Arc<Engine>, jobs: &mut Vec<Job>, over: &mut Vec<Over>) {
    if let Err(error) = fetch_ghosts(engine, jobs).await {
        engine.fail(error);
        jobs.clear();
        return;
    }
    while let Some(mut job) = jobs.pop() {
        if engine.subscriptions[job.subscription].revoked.contains(job.tag.incarnation) {
            engine.settle.push([(job.subscription, Settlement::Return { tag: job.tag })]);
            over.push((job.ticket, Duration::ZERO));
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
        let context = engine.context(&job, envelope);
        let started = Instant::now();
        let mut handling = begin(engine, &mut job, &context);
        let first = std::future::poll_fn(|cx| Poll::Ready(handling.as_mut().poll(cx))).await;
        let outcome = match first {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => {
                give_back(engine, jobs, over);
                handling.await
            }
        };
        conclude(engine, job, context, outcome, started, over);
    }
}

fn begin(engine: &Engine, job: &mut Job, context: &Context) -> HandlerFuture {
    let handler = engine.subscriptions[job.subscription].handler(job.handler);
    let invocation = Invocation { context: context.clone(), event: job.event.take() };
    let span = tracing::debug_span!(
        "handle",
        app = %engine.name,
        subscription = %context.route.subscription,
        topic = %context.route.topic,
        event = %context.envelope.id,
        event_type = %context.envelope.event_type,
        attempt = context.attempt,
        correlation = correlation(&context.envelope),
        traceparent = tracing::field::Empty,
    );
    if span.is_disabled() {
        return guarded(&handler.parts.run, invocation, handler.parts.timeout);
    }
    span.record("traceparent", tracing::field::display(crate::trace::child_of(&context.envelope)));
    let entered = span.clone();
    let handling = entered.in_scope(|| guarded(&handler.parts.run, invocation, handler.parts.timeout));
    Box::pin(handling.instrument(span))
}

/// A handler is waiting for something: what is over is completed, and the unstarted rest goes to other workers.
fn give_back(engine: &Engine, jobs: &mut Vec<Job>, over: &mut Vec<Over>) {
    let mut dispatch = engine.dispatch();
    for (ticket, took) in over.drain(..) {
        dispatch.complete(ticket, took);
    }
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
    context: Context,
    outcome: Result<Outcome, HandlerError>,
    started: Instant,
    over: &mut Vec<Over>,
) {
    let emitted = match outcome {
        Ok(Outcome::Emit(events)) => {
            engine.stage(job.subscription, job.handler, &context, events).map_err(HandlerError::from_error)
        }
        Ok(Outcome::Transact(work)) => return crate::outcome::transact(engine, job, context, work, started),
        Err(error) => Err(error),
    };
    match emitted {
        Ok(publish) => {
            let took = started.elapsed();
            let subscription = &engine.subscriptions[job.subscription];
            succeeded(engine, &job, took);
            subscription.planned.handlers[job.handler].budget.deposit();
            let mark = engine.broker.capabilities().inbox_retention.is_some();
            engine.settle.push([(job.subscription, Settlement::Ack { tag: job.tag, publish, mark })]);
            over.push((job.ticket, took));
        }
        Err(error) => failed(engine, job, &context, error),
    }
}

/// Counts a success.
pub(crate) fn succeeded(engine: &Engine, job: &Job, took: Duration) {
    let latency = engine.clock.now().since(job.published);
    engine.subscriptions[job.subscription].counters.handled_after(latency);
    engine.work_nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
}

/// Reads again the payloads that were dropped while their events waited.
async fn fetch_ghosts(engine: &Engine, jobs: &mut [Job]) -> commute_core::Result<()> {
    if jobs.iter().all(|job| job.envelope.is_some()) {
        return Ok(());
    }
    for (n, subscription) in engine.subscriptions.iter().enumerate() {
        let ghost = |job: &Job| job.subscription == n && job.envelope.is_none();
        let tags: Vec<_> = jobs.iter().filter(|job| ghost(job)).map(|job| job.tag).collect();
        if tags.is_empty() {
            continue;
        }
        let envelopes = subscription.settler.read(&tags).await?;
        for (job, envelope) in jobs.iter_mut().filter(|job| ghost(job)).zip(envelopes) {
            job.envelope = Some(Arc::new(envelope));
        }
    }
    Ok(())
}
