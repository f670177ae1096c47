//! One key fails again and again until it is parked: what that costs the events of the others.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use commute::SharedBroker;
use commute::prelude::*;
use hdrhistogram::Histogram;

use crate::device::Device;
use crate::kafka_raw::Raw;
use crate::row::Row;
use crate::tally::Tally;
use crate::turns::Turns;
use crate::work::{self, Transfer};

/// Its handler fails, in every second pass.
const POISONED: u32 = 0;
const KEYS: u32 = 1000;
const WORKERS: usize = 100;
const HANDLER: Duration = Duration::from_millis(10);
/// Events per second, about a fifth of what the workers can do: a queue that grows would hide what failures cost.
const RATE: usize = 2000;
/// The first of so many parts of the events is not looked at: one hiccup of a topic that was just made would be all there is to see.
const SETTLING_IN: usize = 4;
/// Events that are published at once.
const TICK: usize = 20;

struct Shared {
    tally: Tally,
    poison: bool,
    device: Device,
    /// The number of the first event that counts.
    from: u32,
    zero: Instant,
    /// When each event was published, by its number.
    published: Mutex<Vec<Duration>>,
    waits: Mutex<Histogram<u64>>,
}

async fn handle(event: Transfer, State(shared): State<Arc<Shared>>) -> Result<(), HandlerError> {
    shared.tally.begin();
    shared.device.work(HANDLER).await;
    if event.from == POISONED {
        if shared.poison {
            return Err(HandlerError::from(std::io::Error::other("poisoned")));
        }
        return Ok(());
    }
    let published = shared.published.lock().unwrap_or_else(PoisonError::into_inner)[event.n as usize];
    let took = shared.zero.elapsed().saturating_sub(published);
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    if event.n >= shared.from {
        shared.waits.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(micros);
    }
    shared.tally.end();
    Ok(())
}

pub(crate) async fn measure(url: &str, events: usize, rounds: usize) -> Result<Vec<Row>> {
    let raw = Raw::connect(url)?;
    let broker = commute::connect(url).await?;
    let mut turns = Turns::new("kafka-poisoned", "ms", "lower");
    // The first turn only warms up.
    for round in 0..=rounds {
        for (variant, poison) in
            [("p99 of the others, nothing fails", false), ("p99 of the others, one key fails", true)]
        {
            let figure = pass(&raw, &broker, events, poison).await?;
            if round > 0 {
                turns.add(variant, figure);
            }
        }
    }
    broker.close().await?;
    turns.ratio("p99 of the others, one key fails", "p99 of the others, nothing fails", Some(1.1));
    Ok(turns.rows())
}

/// The 99th percentile from published to handled, in milliseconds.
async fn pass(raw: &Raw, broker: &SharedBroker, events: usize, poison: bool) -> Result<f64> {
    let topic = format!("poisoned-{}", fastrand::u64(..));
    raw.create(&topic).await?;
    let events = work::uniform(events, KEYS);
    let others = events.iter().filter(|event| event.from != POISONED).count();
    let shared = Arc::new(Shared {
        tally: Tally::new(others),
        poison,
        device: Device::start(),
        from: u32::try_from(events.len() / SETTLING_IN)?,
        zero: Instant::now(),
        published: Mutex::new(vec![Duration::ZERO; events.len()]),
        waits: Mutex::new(Histogram::new_with_bounds(1, 600_000_000, 3).map_err(|cause| anyhow!("{cause:?}"))?),
    });
    let app = App::new(format!("bench-{}", fastrand::u64(..))).broker(broker.clone()).workers(WORKERS);
    let app = app.state(shared.clone()).on(&topic, handler(handle));
    let running = app.start().await?;
    publish(broker, &topic, &events, &shared).await?;
    shared.tally.span().await?;
    let failed: u64 = running.stats().subscriptions.iter().map(|subscription| subscription.failed).sum();
    ensure!((failed > 0) == poison, "{failed} attempts failed");
    running.stop().await?;
    raw.delete(&[&topic]).await?;
    let waits = shared.waits.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(waits.value_at_quantile(0.99) as f64 / 1000.0)
}

/// At a steady rate, whatever the handlers do.
async fn publish(broker: &SharedBroker, topic: &str, events: &[Transfer], shared: &Shared) -> Result<()> {
    let publisher = Publisher::new(broker.clone(), "bench");
    let mut clock = tokio::time::interval(Duration::from_secs_f64(TICK as f64 / RATE as f64));
    let mut sent = Vec::new();
    for batch in events.chunks(TICK) {
        clock.tick().await;
        let now = shared.zero.elapsed();
        {
            let mut published = shared.published.lock().unwrap_or_else(PoisonError::into_inner);
            batch.iter().for_each(|event| published[event.n as usize] = now);
        }
        let (publisher, topic, batch) = (publisher.clone(), topic.to_owned(), batch.to_vec());
        sent.push(tokio::spawn(async move { publisher.publish_batch(&topic, &batch).await.map(drop) }));
    }
    for sent in sent {
        sent.await.context("publishing panicked")??;
    }
    Ok(())
}
