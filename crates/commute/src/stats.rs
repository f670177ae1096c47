//! Statistics: what an app and its subscriptions have done and hold, for people who look, for exporters, and for tests.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::counters::Times;
use crate::durations::Distribution;
use crate::engine::{Dispatch, Engine, Sub};
use crate::pause::PausedBecause;
use crate::published::TopicStats;

/// What one subscription has done since the start, and what it holds now.
#[derive(Debug, Clone, Serialize)]
pub struct SubscriptionStats {
    /// The topic.
    pub topic: String,
    /// The group.
    pub subscription: String,
    /// Events that this app published to the topic; what others publish shows in `received` and `backlog`.
    pub published: u64,
    /// Of those, per second over the last ten.
    pub published_per_second: f64,
    /// Deliveries taken from the broker.
    pub received: u64,
    /// Attempts: how often a handler was called to an end.
    pub attempts: u64,
    /// Events whose handling succeeded.
    pub handled: u64,
    /// Of those, per second over the last ten.
    pub handled_per_second: f64,
    /// Attempts that failed.
    pub failed: u64,
    /// Deliveries of events that had taken effect before.
    pub duplicates: u64,
    /// Events that became dead letters.
    pub dead: u64,
    /// Events that are parked now.
    pub parked: u64,
    /// Lanes on which events of it are parked now.
    pub parked_lanes: usize,
    /// Events of types that the subscription ignores, and such that were redriven for another group.
    pub ignored: u64,
    /// Events that are taken and not settled: `running`, `queued` and `retrying`.
    pub in_flight: usize,
    /// Events that workers or a store have in hand now.
    pub running: usize,
    /// Events that wait for an earlier conflicting one or for a worker.
    pub queued: usize,
    /// Events that wait for their next attempt now.
    pub retrying: u64,
    /// Why nothing is taken from the broker now, if nothing is.
    pub paused: Option<PausedBecause>,
    /// How often it began to take nothing, by reason.
    pub pauses: Vec<(PausedBecause, u64)>,
    /// Events stored and not yet received, where the broker can say; up to a second old.
    pub backlog: Option<u64>,
    /// The keys that an operator has paused by it.
    pub paused_keys: Vec<String>,
    /// From publishing to handled: the middle.
    pub latency_p50: Duration,
    /// From publishing to handled: 99 of 100 are faster.
    pub latency_p99: Duration,
    /// From publishing to handled, of every event that was handled.
    pub latency: Distribution,
    /// How long the attempts took.
    pub processing: Distribution,
}

/// What an app has done since the start, and what it holds now.
#[derive(Debug, Clone, Serialize)]
pub struct Stats {
    /// The app.
    pub app: String,
    /// The driver of its broker.
    pub broker: String,
    /// Events being handled now.
    pub running: usize,
    /// Events waiting for an earlier conflicting one.
    pub waiting: usize,
    /// Events that could run if a worker were free.
    pub ready: usize,
    /// Lanes in which some event stands now.
    pub lanes: usize,
    /// Lanes on which something is parked now.
    pub parked_lanes: usize,
    /// Events staged in the store and not yet published.
    pub staged: usize,
    /// All the handling time so far.
    pub work: Duration,
    /// The longest chain of conflicting events so far: what would be left with workers without end. Zero unless
    /// `App::measure_parallelism` was said.
    pub critical_path: Duration,
    /// What it has published, by topic.
    pub topics: Vec<TopicStats>,
    /// Its subscriptions.
    pub subscriptions: Vec<SubscriptionStats>,
}

impl Stats {
    /// Everything handled, over all subscriptions.
    pub fn handled(&self) -> u64 {
        self.subscriptions.iter().map(|subscription| subscription.handled).sum()
    }

    pub(crate) fn of(engine: &Engine, staged: usize) -> Self {
        let now = Instant::now();
        let topics = engine.published.stats(now);
        let dispatch = engine.dispatch();
        let scheduler = &dispatch.scheduler;
        let critical_path = dispatch.span.as_ref().map_or(0, commute_scheduler::Span::critical_path);
        let mut stats = Stats {
            app: engine.name.to_string(),
            broker: engine.broker.driver().to_owned(),
            running: scheduler.running(),
            waiting: scheduler.waiting(),
            ready: scheduler.ready(),
            lanes: scheduler.live_lanes(),
            parked_lanes: scheduler.parked_lanes(),
            staged,
            work: Duration::from_nanos(engine.work_nanos.load(Ordering::Relaxed)),
            critical_path: Duration::from_nanos(critical_path),
            topics: Vec::new(),
            subscriptions: Vec::with_capacity(engine.subscriptions.len()),
        };
        let held: Vec<Held> = (0..engine.subscriptions.len()).map(|n| Held::of(&dispatch, n)).collect();
        let holds: Vec<_> = dispatch.holds.iter().map(|hold| (hold.subscription, hold.key.clone())).collect();
        drop(dispatch);
        for (sub, held) in engine.subscriptions.iter().zip(held) {
            let published = topics.iter().find(|topic| topic.topic == sub.planned.route.topic.as_str());
            stats.subscriptions.push(subscription(sub, held, published, now));
        }
        for (n, key) in holds {
            stats.subscriptions[n].paused_keys.push(key);
        }
        stats.topics = topics;
        stats
    }
}

/// What the dispatch knows of a subscription.
struct Held {
    in_flight: usize,
    running: usize,
    parked_lanes: usize,
}

impl Held {
    fn of(dispatch: &Dispatch, n: usize) -> Self {
        let parked = dispatch.parked.iter().filter(|event| event.subscription == n);
        let lanes: HashSet<_> = parked.flat_map(|event| &event.lanes).map(|(lane, _)| *lane).collect();
        Held { in_flight: dispatch.in_flight[n], running: dispatch.running[n], parked_lanes: lanes.len() }
    }
}

fn subscription(sub: &Sub, held: Held, published: Option<&TopicStats>, now: Instant) -> SubscriptionStats {
    let counters = &sub.counters;
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (handled, retrying) = (count(&counters.handled), count(&counters.retrying));
    let Times { latency_p50, latency_p99, latency, processing } = counters.times();
    let begun = held.running + usize::try_from(retrying).unwrap_or(usize::MAX);
    SubscriptionStats {
        topic: sub.planned.route.topic.to_string(),
        subscription: sub.planned.route.subscription.to_string(),
        published: published.map_or(0, |topic| topic.published),
        published_per_second: published.map_or(0.0, |topic| topic.published_per_second),
        received: count(&counters.received),
        attempts: processing.count,
        handled,
        handled_per_second: counters.handled_per_second(now, handled),
        failed: count(&counters.failed),
        duplicates: count(&counters.duplicates) + sub.settler.absorbed(),
        dead: count(&counters.dead),
        parked: count(&counters.parked),
        parked_lanes: held.parked_lanes,
        ignored: count(&counters.ignored),
        in_flight: held.in_flight,
        running: held.running,
        // `retrying` may have changed since; this is for people who look.
        queued: held.in_flight.saturating_sub(begun),
        retrying,
        paused: match sub.gate.is_shut() {
            true => Some(PausedBecause::Operator),
            // The reader learns a moment later that it goes on.
            false => counters.pause.because().filter(|why| *why != PausedBecause::Operator),
        },
        pauses: counters.pause.begun(),
        backlog: counters.backlog(),
        paused_keys: Vec::new(),
        latency_p50,
        latency_p99,
        latency,
        processing,
    }
}
