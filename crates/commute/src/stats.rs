//! Counting: what each subscription has done, for people who look and for tests that wait.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Locks, and goes on with what is there when another thread panicked while holding the lock: every critical section
/// of the engine leaves its data whole at each step that could panic.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

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
    latency: Mutex<Histogram<u64>>,
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
            // One microsecond to an hour at two digits; the bounds are valid by construction, a plain one otherwise.
            latency: Mutex::new(Histogram::new_with_bounds(1, 3_600_000_000, 2).unwrap_or_else(|_| fallback())),
        }
    }

    pub(crate) fn handled_after(&self, latency: Duration) {
        self.handled.fetch_add(1, Ordering::Relaxed);
        lock(&self.latency).saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1));
    }

    pub(crate) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn backlog(&self) -> Option<u64> {
        Some(self.backlog.load(Ordering::Relaxed)).filter(|backlog| *backlog < u64::MAX)
    }

    pub(crate) fn latency(&self) -> (Duration, Duration) {
        let latency = lock(&self.latency);
        let at = |q| Duration::from_micros(latency.value_at_quantile(q));
        (at(0.5), at(0.99))
    }
}

fn fallback() -> Histogram<u64> {
    #[allow(clippy::expect_used, reason = "two significant digits are always valid")]
    Histogram::new(2).expect("two digits")
}

/// What one subscription has done since the start, and what it holds now.
#[derive(Debug, Clone, Serialize)]
pub struct SubscriptionStats {
    /// The topic.
    pub topic: String,
    /// The group.
    pub subscription: String,
    /// Deliveries taken from the broker.
    pub received: u64,
    /// Events whose handling succeeded.
    pub handled: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Deliveries of events that had taken effect before.
    pub duplicates: u64,
    /// Events that became dead letters.
    pub dead: u64,
    /// Events that are parked now.
    pub parked: u64,
    /// Events of types that the subscription ignores, and such that were redriven for another group.
    pub ignored: u64,
    /// Events that wait for their next attempt now.
    pub retrying: u64,
    /// Events stored and not yet received, where the broker can say; up to a second old.
    pub backlog: Option<u64>,
    /// An operator has paused it.
    pub paused: bool,
    /// The keys that an operator has paused by it.
    pub paused_keys: Vec<String>,
    /// From publishing to handled: the middle.
    pub latency_p50: Duration,
    /// From publishing to handled: 99 of 100 are faster.
    pub latency_p99: Duration,
}

/// What an app has done since the start, and what it holds now.
#[derive(Debug, Clone, Serialize)]
pub struct Stats {
    /// The app.
    pub app: String,
    /// Events being handled now.
    pub running: usize,
    /// Events waiting for an earlier conflicting one.
    pub waiting: usize,
    /// Events that could run if a worker were free.
    pub ready: usize,
    /// Events staged in the store and not yet published.
    pub staged: usize,
    /// All the handling time so far.
    pub work: Duration,
    /// The longest chain of conflicting events so far: what would be left with workers without end. Zero unless
    /// `App::measure_parallelism` was said.
    pub critical_path: Duration,
    /// Its subscriptions.
    pub subscriptions: Vec<SubscriptionStats>,
}

impl Stats {
    /// Everything handled, over all subscriptions.
    pub fn handled(&self) -> u64 {
        self.subscriptions.iter().map(|subscription| subscription.handled).sum()
    }
}
