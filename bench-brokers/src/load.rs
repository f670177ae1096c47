//! The load: one event of about 512 bytes of JSON, made and read by every client that is measured.

use anyhow::Result;
use commute::prelude::*;
use commute::{Message, SharedBroker};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};

/// About 512 bytes of JSON.
#[derive(Debug, Serialize, Deserialize, Event)]
#[event(type = "bench.posted", key = "key")]
pub(crate) struct Posted {
    pub(crate) key: u32,
    pub(crate) filler: String,
}

/// The `n`th event.
pub(crate) fn posted(n: usize) -> Posted {
    Posted { key: u32::try_from(n % 1000).unwrap_or_default(), filler: "x".repeat(484) }
}

/// Events that one call of ours publishes.
pub(crate) const BATCH: usize = 256;

/// Publishes through a [`Publisher`], with at most `window` events whose receipts have not come.
pub(crate) async fn publish<E: commute::Event>(
    broker: &SharedBroker,
    topic: &str,
    events: impl Iterator<Item = E>,
    window: usize,
) -> Result<()> {
    let publisher = Publisher::new(broker.clone(), "bench");
    let mut under_way = FuturesUnordered::new();
    let mut events = events.peekable();
    while events.peek().is_some() {
        let batch: Vec<Message> =
            events.by_ref().take(BATCH).map(|event| Message::of(&event)).collect::<Result<_, _>>()?;
        under_way.push(publisher.send(topic, batch));
        // Polled at once, so that it is on its way while the next are made.
        let full = under_way.len() >= window / BATCH;
        let answered = if full { under_way.next().await } else { under_way.next().now_or_never().flatten() };
        answered.transpose()?;
    }
    while let Some(sent) = under_way.next().await {
        sent?;
    }
    Ok(())
}
