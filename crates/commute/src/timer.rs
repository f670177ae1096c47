//! The timer: wakes events whose back-off is over. One task, one heap, no timer per event.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::engine::Engine;

/// A time after which waiting ends; never, when that is too far away to say.
#[derive(Clone, Copy)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    pub(crate) fn after(longest: Duration) -> Self {
        Deadline(Instant::now().checked_add(longest))
    }

    /// What the future gives, or nothing when the time is over before.
    pub(crate) async fn wait<F: Future>(self, future: F) -> Option<F::Output> {
        match self.0 {
            Some(time) => tokio::time::timeout_at(time, future).await.ok(),
            None => Some(future.await),
        }
    }
}

/// Runs until everything ends.
pub(crate) async fn tick(engine: Arc<Engine>) {
    loop {
        let (ready, next) = engine.dispatch().due(Instant::now(), &engine);
        if ready > 0 {
            engine.work.notify_one();
        }
        let due = async {
            match next {
                Some(time) => tokio::time::sleep_until(time).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = engine.stop.everything.cancelled() => return,
            () = engine.timer.notified() => {}
            () = due => {}
        }
    }
}
