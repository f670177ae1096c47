//! Stopping: signals, tokens, and the order in which an app ends.
//!
//! 1. No more deliveries are taken.
//! 2. What is being handled finishes, up to the drain time; nothing new begins.
//! 3. Settlements are flushed.
//! 4. The relay publishes what is staged.
//! 5. The subscriptions are closed; what was not handled is delivered again to whoever comes next.

use commute_core::{Code, Error, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The tokens of the stop order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop {
    /// Step 1: consumers end.
    pub(crate) receiving: CancellationToken,
    /// Step 2: workers end after what they have in hand.
    pub(crate) working: CancellationToken,
    /// Steps 3 and 4 are over, or the app failed: everything ends.
    pub(crate) everything: CancellationToken,
}

impl Stop {
    /// Everything ends at once.
    pub(crate) fn all(&self) {
        self.receiving.cancel();
        self.working.cancel();
        self.everything.cancel();
    }
}

/// Interrupt and terminate signals.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub(crate) fn listen() -> Result<Self> {
        let open =
            |kind| signal(kind).map_err(|cause| Error::new(Code::Io, "cannot listen for signals").caused_by(cause));
        Ok(Signals { interrupt: open(SignalKind::interrupt())?, terminate: open(SignalKind::terminate())? })
    }

    /// Waits for the next one. Cancel safe.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
