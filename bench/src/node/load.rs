//! The load: events of 512 bytes, published one by one by several publishers, and handled by one group.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use commute::SharedBroker;
use commute_core::{Envelope, Outgoing, Settlement, SubscriptionSpec, Timestamp, Topic};
use tokio::task::JoinSet;

pub(super) const PAYLOAD: usize = 512;

fn topic() -> Result<Topic> {
    Ok(Topic::new("bench")?)
}

fn event() -> Result<Outgoing> {
    let data = Bytes::from(vec![b'x'; PAYLOAD]);
    let envelope = Envelope::new("bench", "bench.event", Timestamp(1_800_000_000_000_000), data);
    Ok(Outgoing { topic: topic()?, envelope, not_before: None })
}

/// So many publishers, each with one event under way. Events per second, and the median time of one publish.
pub(super) async fn publish(broker: &SharedBroker, publishers: usize, events: usize) -> Result<(f64, Duration)> {
    let began = Instant::now();
    let mut running = JoinSet::new();
    for _ in 0..publishers {
        let broker = broker.clone();
        running.spawn(async move {
            let mut times = Vec::with_capacity(events / publishers);
            for _ in 0..events / publishers {
                let asked = Instant::now();
                broker.publish(vec![event()?]).await?;
                times.push(asked.elapsed());
            }
            anyhow::Ok(times)
        });
    }
    let mut times = Vec::with_capacity(events);
    while let Some(done) = running.join_next().await {
        times.extend(done??);
    }
    let rate = times.len() as f64 / began.elapsed().as_secs_f64();
    times.sort_unstable();
    Ok((rate, times.get(times.len() / 2).copied().unwrap_or_default()))
}

/// Publishes while a group receives and acknowledges. Events per second, from the first publish to the last acknowledgement.
pub(super) async fn handle(broker: &SharedBroker, publishers: usize, events: usize) -> Result<f64> {
    let mut subscription = broker.subscribe(SubscriptionSpec::new(topic()?, "bench").credit(4096)).await?;
    // What earlier rows have left is not measured.
    let before = subscription.settler.backlog().await?.context("a backlog")?;
    take(&mut subscription, before).await?;
    let began = Instant::now();
    let publisher = broker.clone();
    let publishing = tokio::spawn(async move { publish(&publisher, publishers, events).await });
    let all = (events / publishers * publishers) as u64;
    take(&mut subscription, all).await?;
    let rate = all as f64 / began.elapsed().as_secs_f64();
    publishing.await??;
    Ok(rate)
}

/// Receives so many and acknowledges them, while it receives the next, as the engine does.
async fn take(subscription: &mut commute_core::Subscription, count: u64) -> Result<()> {
    let (mut received, mut acks) = (0, Vec::new());
    while received < count {
        let settling = subscription.settler.settle(std::mem::take(&mut acks));
        let (taken, settled) = tokio::join!(subscription.receiver.receive(512), settling);
        settled?;
        let taken = taken?;
        received += taken.len() as u64;
        acks = taken.iter().map(|one| Settlement::Ack { tag: one.tag, publish: Vec::new(), mark: true }).collect();
    }
    Ok(subscription.settler.settle(acks).await?)
}
