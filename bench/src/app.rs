//! The event that is measured, and how to wait for an app.

use commute::prelude::*;
use commute::{Message, Publisher, Running, SharedBroker};

/// About 1 KiB of JSON.
#[derive(Debug, Serialize, Deserialize, Event)]
#[event(type = "bench.measured", key = "key")]
pub(crate) struct Measured {
    pub(crate) key: u64,
    pub(crate) filler: String,
}

/// `count` messages over `keys` keys, made before anything is measured.
pub(crate) fn messages(count: usize, keys: u64) -> commute::Result<Vec<Message>> {
    let filler = "x".repeat(980);
    (0..count as u64).map(|n| Message::of(&Measured { key: n % keys, filler: filler.clone() })).collect()
}

/// Publishes in batches, one after the other.
pub(crate) async fn publish(broker: &SharedBroker, messages: Vec<Message>, batch: usize) -> commute::Result<()> {
    let publisher = Publisher::new(broker.clone(), "bench");
    let mut messages = messages.into_iter();
    loop {
        let next: Vec<_> = messages.by_ref().take(batch).collect();
        if next.is_empty() {
            return Ok(());
        }
        publisher.send("bench", next).await?;
    }
}

/// Waits until everything is handled and settled, and stops.
pub(crate) async fn finish(app: Running) -> commute::Result<()> {
    app.idle().await?;
    app.stop().await?;
    Ok(())
}
