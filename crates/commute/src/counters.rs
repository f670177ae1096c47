//! Counting: what each subscription has done so far, as workers and readers count it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::durations::{Distribution, Durations};
use crate::lock::lock;
use crate::pause::Pause;
use crate::rate::Rate;

/// The counters of one subscription.
#[derive(Debug)]
pub(crate) struct Counters {
    pub(crate) received: AtomicU64,
    pub(crate) handled: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) duplicates: AtomicU64,
    pub(crate) dead: AtomicU64,
    pub(crate) parked: AtomicU64,
    pub(crate) ignored: AtomicU64,
    pub(crate) retrying: AtomicU64,
    /// As it was when the broker was asked last; all ones before.
    pub(crate) backlog: AtomicU64,
    pub(crate) pause: Pause,
    timing: Mutex<Timing>,
    handled_rate: Mutex<Rate>,
}

/// Behind one lock, so that an event that was handled takes one.
#[derive(Debug)]
struct Timing {
    latency: Durations,
    processing: Durations,
}

/// How long handling took so far; see [`crate::SubscriptionStats`].
pub(crate) struct Times {
    pub(crate) latency_p50: Duration,
    pub(crate) latency_p99: Duration,
    pub(crate) latency: Distribution,
    pub(crate) processing: Distribution,
}

impl Counters {
    pub(crate) fn new() -> Self {
        Counters {
            received: AtomicU64::default(),
            handled: AtomicU64::default(),
            failed: AtomicU64::default(),
            duplicates: AtomicU64::default(),
            dead: AtomicU64::default(),
            parked: AtomicU64::default(),
            ignored: AtomicU64::default(),
            retrying: AtomicU64::default(),
            backlog: AtomicU64::new(u64::MAX),
            pause: Pause::default(),
            timing: Mutex::new(Timing { latency: Durations::new(), processing: Durations::new() }),
            handled_rate: Mutex::default(),
        }
    }

    /// Attempts that succeeded: how long after the event was published, and how long each took.
    pub(crate) fn handled_after(&self, times: impl ExactSizeIterator<Item = (Duration, Duration)>) {
        self.handled.fetch_add(times.len() as u64, Ordering::Relaxed);
        let mut timing = lock(&self.timing);
        for (latency, took) in times {
            timing.latency.record(latency);
            timing.processing.record(took);
        }
    }

    /// An attempt that did not lead to a success now.
    pub(crate) fn attempted(&self, took: Duration) {
        lock(&self.timing).processing.record(took);
    }

    pub(crate) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Remembers where the counter of handled events stands.
    pub(crate) fn sample(&self, now: Instant, handled: u64) {
        lock(&self.handled_rate).sample(now, handled);
    }

    /// Of the events that were handled, per second over the last ten.
    pub(crate) fn handled_per_second(&self, now: Instant, handled: u64) -> f64 {
        lock(&self.handled_rate).per_second(now, handled)
    }

    /// How long handling took so far.
    pub(crate) fn times(&self) -> Times {
        let timing = lock(&self.timing);
        Times {
            latency_p50: timing.latency.at(0.5),
            latency_p99: timing.latency.at(0.99),
            latency: timing.latency.distribution(),
            processing: timing.processing.distribution(),
        }
    }

    /// What the broker said last, if it has.
    pub(crate) fn backlog(&self) -> Option<u64> {
        Some(self.backlog.load(Ordering::Relaxed)).filter(|backlog| *backlog < u64::MAX)
    }
}
