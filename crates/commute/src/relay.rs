//! The relay: publishes what stores have staged, in commit order, and forgets it once it is durable.

use std::sync::Arc;
use std::time::Duration;

use commute_core::{Outbox, Outgoing, Result};

use crate::engine::Engine;

const BATCH: usize = 512;

/// How long to wait when the broker is away for a moment.
const AWAY: Duration = Duration::from_millis(200);

/// Relays until everything ends, or the store or the broker fails for good.
///
/// A crash between publishing and forgetting publishes again, with the same ids, which the topic or the next inbox
/// drops.
pub(crate) async fn relay(engine: Arc<Engine>, outbox: Arc<dyn Outbox>) {
    let relayed = tokio::select! {
        // First, because a store that is closed at the end is no failure.
        biased;
        () = engine.stop.everything.cancelled() => return,
        relayed = forward(&engine, &*outbox) => relayed,
    };
    if let Err(error) = relayed {
        engine.fail(error);
    }
}

async fn forward(engine: &Engine, outbox: &dyn Outbox) -> Result<()> {
    let mut after = 0;
    loop {
        let staged = outbox.next(after, BATCH).await?;
        let Some((last, _)) = staged.last() else { continue };
        let last = *last;
        publish(engine, staged.into_iter().map(|(_, outgoing)| outgoing).collect()).await?;
        outbox.confirm(last).await?;
        after = last;
    }
}

/// Publishes, and waits while the broker is away for a moment.
pub(crate) async fn publish(engine: &Engine, batch: Vec<Outgoing>) -> Result<()> {
    loop {
        match engine.broker.publish(batch.clone()).await {
            Ok(_receipts) => {
                engine.published.add_all(&batch);
                return Ok(());
            }
            Err(error) if error.is_retryable() => {
                tracing::warn!(app = %engine.name, %error, "staged events cannot be published yet");
                tokio::time::sleep(AWAY).await;
            }
            Err(error) => return Err(error),
        }
    }
}
