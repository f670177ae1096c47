//! The publisher: sends batches in order, and sends a batch again with the same ids until there is a receipt.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Result, bail};
use commute::{EventId, Message, Publisher, SharedBroker};

use crate::event::{Plain, Stored, Touch};
use crate::history::{History, Record, now};
use crate::plan::{self, PUBLISHERS, Workload};

/// So many batches follow each other without a pause.
const BURST: usize = 8;

/// Publishes the whole workload but for what is confirmed already.
///
/// # Errors
/// When a publish is refused for good.
pub(crate) async fn publish(
    broker: SharedBroker,
    topic: String,
    workload: Workload,
    history: History,
    confirmed: HashSet<usize>,
) -> Result<()> {
    let events = plan::events(&workload);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..PUBLISHERS {
        let batches = plan::batches(&workload, &events, n);
        let pause = workload.spread / u32::try_from(batches.len().max(1))?;
        let batches: Vec<_> =
            batches.into_iter().filter(|batch| batch.iter().any(|touch| !confirmed.contains(&touch.n))).collect();
        let publisher = Publisher::new(broker.clone(), "hostile");
        let (topic, history, patience) = (topic.clone(), history.clone(), workload.patience);
        tasks.spawn(async move {
            for batch in batches {
                send(&publisher, &topic, &batch, &history, patience).await?;
                // In bursts, so that there is always something waiting.
                if fastrand::usize(..BURST) == 0 {
                    tokio::time::sleep(pause * BURST as u32).await;
                }
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

async fn send(
    publisher: &Publisher,
    topic: &str,
    batch: &[Touch],
    history: &History,
    patience: Option<Duration>,
) -> Result<()> {
    let messages = batch.iter().map(|touch| message(topic, touch)).collect::<commute::Result<Vec<_>>>()?;
    let events: Vec<_> = batch.iter().map(|touch| touch.n).collect();
    loop {
        let sending = publisher.send(topic, messages.clone());
        let sent = match patience {
            // Dropping it leaves it unknown whether it was stored.
            Some(patience) => tokio::time::timeout(patience, sending).await.ok(),
            None => Some(sending.await),
        };
        let why = match sent {
            Some(Ok(_)) => {
                history.write(&Record::Confirmed { at: now(), events });
                return Ok(());
            }
            Some(Err(error)) if error.is_retryable() => error.to_string(),
            Some(Err(error)) => bail!("a publish was refused: {error:#}"),
            None => "abandoned".to_owned(),
        };
        history.write(&Record::Again { at: now(), events: events.clone(), why });
        tokio::time::sleep(Duration::from_millis(fastrand::u64(5..50))).await;
    }
}

fn message(topic: &str, touch: &Touch) -> commute::Result<Message> {
    let message = match touch.is_stored() {
        true => Message::of(&Stored { touch: touch.clone() }),
        false => Message::of(&Plain { touch: touch.clone() }),
    };
    Ok(message?.id(EventId::new(id(topic, touch.n))?))
}

/// The id of an event, which every publisher of the plan gives it again.
pub(crate) fn id(topic: &str, n: usize) -> String {
    format!("{topic}-{n}")
}

/// The number of an event, from its id.
pub(crate) fn number(id: &str) -> Option<usize> {
    id.rsplit('-').next()?.parse().ok()
}
