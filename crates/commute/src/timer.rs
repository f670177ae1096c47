//! The timer: wakes events whose back-off is over. One task, one heap, no timer per event.

use std::sync::Arc;

use tokio::time::Instant;

use crate::engine::Engine;

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
