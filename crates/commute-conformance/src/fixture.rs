//! Fixtures: what a backend gives the suites, and the clock that a test moves.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering as Atomic};
use std::time::Duration;

use commute_core::store::{Store, Transact};
use commute_core::{BoxFuture, Clock, Emitted, SharedBroker, Timestamp};

/// How long to wait where `usual` is enough on a machine with nothing else to do: `COMMUTE_PATIENCE` times as long, which
/// whoever runs many suites at once sets to their number.
#[must_use]
pub fn patience(usual: Duration) -> Duration {
    let times = std::env::var("COMMUTE_PATIENCE").ok().and_then(|text| text.parse().ok());
    usual.saturating_mul(times.unwrap_or(1).max(1))
}

/// How a connection comes to its end before the data is opened again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It is closed, and that is waited for.
    Close,
    /// It is not told: the process was killed, or the power failed.
    Kill,
}

impl Ending {
    /// Both.
    pub const ALL: [Ending; 2] = [Ending::Close, Ending::Kill];
}

/// A backend, prepared for one case. Panics when something that the case does not ask about goes wrong.
pub trait Fixture: Send + Sync + 'static {
    /// Connects, to a server or namespace in which nothing is. Called once.
    fn connect(&self) -> BoxFuture<'_, SharedBroker>;

    /// Ends a connection and opens the same data again. After a kill, only what was confirmed must be there.
    fn reconnect(&self, previous: SharedBroker, ending: Ending) -> BoxFuture<'_, SharedBroker>;

    /// Whether [`Fixture::reconnect`] finds the data again.
    fn restarts(&self) -> bool {
        true
    }

    /// The clock that the broker reads, if a test can move it; otherwise cases about time wait for short real times.
    fn clock(&self) -> Option<Arc<ManualClock>> {
        None
    }

    /// How long a case waits for anything before it fails.
    fn patience(&self) -> Duration {
        patience(Duration::from_secs(60))
    }
}

/// Work for a store that a suite can look at afterwards.
#[derive(Debug, Clone)]
pub struct Work {
    /// The effect: a text that is appended to what [`StoreFixture::effects`] lists.
    pub effect: String,
    /// What is emitted.
    pub emits: Vec<Emitted>,
    /// How it ends, after its effect was made.
    pub verdict: Verdict,
}

/// How a handler's work ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It succeeds.
    Succeed,
    /// It answers an error that may be tried again.
    Fail,
}

/// A store, prepared for one case.
pub trait StoreFixture: Send + Sync + 'static {
    /// Opens the store, in which nothing is. Called once.
    fn open(&self) -> BoxFuture<'_, Arc<dyn Store>>;

    /// Ends a store and opens the same data again.
    fn reopen(&self, previous: Arc<dyn Store>, ending: Ending) -> BoxFuture<'_, Arc<dyn Store>>;

    /// Work for the store that was opened last, as a handler would leave it.
    fn work(&self, work: Work) -> Box<dyn Transact>;

    /// The committed effects, in the order in which they were made.
    fn effects(&self) -> BoxFuture<'_, Vec<String>>;

    /// How long a case waits for anything before it fails.
    fn patience(&self) -> Duration {
        patience(Duration::from_secs(60))
    }
}

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock at some time in 2027.
    pub fn new() -> Arc<Self> {
        Arc::new(ManualClock(AtomicI64::new(1_800_000_000_000_000)))
    }

    /// Moves it forward.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_micros()).unwrap_or(0), Atomic::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Atomic::SeqCst))
    }
}
