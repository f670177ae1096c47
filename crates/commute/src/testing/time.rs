//! The time of a test: it stands still until the test lets it pass.
//!
//! A paused tokio runtime jumps to its next timer whenever it has nothing to do, and waiting for the thread of a broker
//! looks like nothing to do. While a blocking task is under way it does not jump, so holding the time is having one.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use commute_core::{Clock, Code, Error, Result, SystemClock, Timestamp};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::time::Instant;

/// Long enough for every clock to have moved, if it moves.
const MOMENT: Duration = Duration::from_micros(20);

/// A breath: the resolution of the runtime's timers.
const BREATH: Duration = Duration::from_millis(1);

/// Whether the time passes by itself.
pub(super) enum Time {
    /// It is paused, and held still unless it is released.
    Paused(Holder),
    /// It is everybody's.
    Real,
}

thread_local! {
    /// The apps of a test share its runtime, which has one time and stays on its thread.
    static HOLD: RefCell<(usize, Option<Hold>)> = const { RefCell::new((0, None)) };
}

/// One of those that hold the time of this thread. Stays on it.
pub(super) struct Holder(PhantomData<*const ()>);

impl Holder {
    fn new() -> Self {
        HOLD.with_borrow_mut(|(holders, _)| *holders += 1);
        Holder(PhantomData)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        HOLD.with_borrow_mut(|(holders, hold)| {
            *holders -= 1;
            if *holders == 0 {
                *hold = None;
            }
        });
    }
}

/// Keeps the runtime from jumping to its next timer.
struct Hold {
    _ends_when_dropped: SyncSender<()>,
}

impl Hold {
    fn new() -> Self {
        let (ends, end) = sync_channel::<()>(1);
        // Ends with an error when the other end is dropped.
        drop(tokio::task::spawn_blocking(move || end.recv()));
        Hold { _ends_when_dropped: ends }
    }
}

impl Time {
    /// Pauses the time, unless it is paused, and holds it.
    pub(super) fn paused() -> Result<Self> {
        if Handle::current().runtime_flavor() != RuntimeFlavor::CurrentThread {
            let detail = "the time of a multi-thread runtime cannot be paused; write #[tokio::test] without a flavor";
            return Err(Error::new(Code::NeedNotMet, detail));
        }
        if !is_paused() {
            tokio::time::pause();
        }
        let mut time = Time::Paused(Holder::new());
        time.hold();
        Ok(time)
    }

    /// Lets it pass by itself, unless it does.
    pub(super) fn real() -> Self {
        if is_paused() {
            tokio::time::resume();
        }
        Time::Real
    }

    pub(super) fn is_real(&self) -> bool {
        matches!(self, Time::Real)
    }

    /// Lets the runtime jump to its next timer when it has nothing to do.
    pub(super) fn release(&mut self) {
        if let Time::Paused(_) = self {
            HOLD.with_borrow_mut(|(_, hold)| *hold = None);
        }
    }

    /// Holds it again.
    pub(super) fn hold(&mut self) {
        if let Time::Paused(_) = self {
            HOLD.with_borrow_mut(|(_, hold)| {
                hold.get_or_insert_with(Hold::new);
            });
        }
    }

    /// Lets pass as little as there is, once the runtime has nothing else to do: whatever does not wait for a later time
    /// has gone on then.
    pub(super) async fn breathe(&mut self) {
        self.release();
        tokio::time::sleep(BREATH).await;
        self.hold();
    }
}

/// Tokio does not say whether the time is paused, but a paused clock does not move.
fn is_paused() -> bool {
    let (before, began) = (Instant::now(), std::time::Instant::now());
    while began.elapsed() < MOMENT {
        std::hint::spin_loop();
    }
    Instant::now() == before
}

/// The wall clock of a test: it goes with the runtime's, also for threads outside.
pub(super) struct TestClock {
    runtime: Handle,
    began: Instant,
    base: Timestamp,
}

impl TestClock {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(TestClock { runtime: Handle::current(), began: Instant::now(), base: SystemClock.now() })
    }

    /// Since the test began.
    pub(super) fn elapsed(&self) -> Duration {
        // Outside the runtime, tokio's clock would be the machine's.
        let _inside = self.runtime.enter();
        self.began.elapsed()
    }

    /// A time of the wall clock as a time since the test began.
    pub(super) fn relative(&self, time: Timestamp) -> Duration {
        time.since(self.base)
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        self.base.plus(self.elapsed())
    }
}
