//! Depth: asks the broker from time to time how much is stored, so that whoever looks at the statistics need not wait.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::engine::Engine;

/// Often enough for a person who looks on, seldom enough to cost a server nothing.
const PERIOD: Duration = Duration::from_secs(1);

/// Runs until everything ends. A server that does not answer leaves the last figure as it was.
pub(crate) async fn watch(engine: Arc<Engine>) {
    loop {
        for subscription in &engine.subscriptions {
            let asked = tokio::select! {
                () = engine.stop.everything.cancelled() => return,
                asked = subscription.settler.backlog() => asked,
            };
            if let Ok(Some(backlog)) = asked {
                subscription.counters.backlog.store(backlog, Ordering::Relaxed);
            }
        }
        tokio::select! {
            () = engine.stop.everything.cancelled() => return,
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
}
