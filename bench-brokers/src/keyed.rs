//! Scheduling: events of one key or of two on one partition, against the best of all schedules, beside a peer.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use commute::SharedBroker;
use commute::prelude::*;

use crate::device::{Device, bare};
use crate::kafka_raw::{Raw, WINDOW};
use crate::load;
use crate::parallel_consumer::{Order, ParallelConsumer};
use crate::row::Row;
use crate::tally::Tally;
use crate::turns::Turns;
use crate::work::{self, Transfer, Work};

/// What handlers share.
#[derive(Clone)]
struct Desk {
    tally: Arc<Tally>,
    device: Device,
    takes: Duration,
}

async fn work_on(_: Transfer, State(desk): State<Desk>) {
    desk.tally.begin();
    desk.device.work(desk.takes).await;
    desk.tally.end();
}

/// What is measured: with one key per event, or with two.
pub(crate) async fn measure(url: &str, keyed: bool, events: usize, rounds: usize) -> Result<Vec<Row>> {
    let (bench, ten) = (if keyed { "kafka-keyed" } else { "kafka-transfers" }, Duration::from_millis(10));
    let works = if keyed {
        let three = Duration::from_millis(3);
        vec![
            Work { name: "1,000 keys", events: work::uniform(events, 1000), handler: ten, workers: 100 },
            Work { name: "1,000 keys, Zipf 0.99", events: work::zipf(events, 1000, 0.99), handler: ten, workers: 100 },
            Work { name: "20 keys, 16 workers", events: work::uniform(events, 20), handler: three, workers: 16 },
        ]
    } else {
        vec![Work { name: "1,000 accounts", events: work::transfers(events, 1000), handler: ten, workers: 100 }]
    };
    let raw = Raw::connect(url)?;
    let broker = commute::connect(url).await?;
    let peer = ParallelConsumer::build()?;
    let device = Device::start();
    let mut turns = Turns::new(bench, "of ideal", "higher");
    let mut targets = Vec::new();
    let topics: Vec<String> = works.iter().map(|_| format!("work-{}", fastrand::u64(..))).collect();
    for (work, topic) in works.iter().zip(&topics) {
        raw.create(topic).await?;
        load::publish(&broker, topic, work.events.iter().copied(), WINDOW).await?;
        targets.push(format!("{}: commute", work.name));
    }
    for _ in 0..rounds {
        for (work, topic) in works.iter().zip(&topics) {
            let bare = bare(&device, work.handler, work.workers).await?;
            let took = ours(&broker, topic, work, keyed, &device).await?;
            let of = |best: Duration, took: Duration| best.as_secs_f64() / took.as_secs_f64();
            turns.add(&format!("{}: tasks that only wait", work.name), of(work.handler, bare));
            turns.add(&format!("{}: commute", work.name), of(work.ideal(), took));
            turns.add(&format!("{}: commute, of oldest first", work.name), of(work.oldest_first(), took));
            let Some(peer) = &peer else { continue };
            if keyed {
                let took = peer.consume(raw.servers(), topic, work, Order::Key, work.events.len())?;
                turns.add(&format!("{}: Parallel Consumer", work.name), of(work.ideal(), took));
            } else {
                // It knows one key per event; the order of a partition is the only one that keeps both.
                let some = work.events.len() / 20;
                let took = peer.consume(raw.servers(), topic, work, Order::Partition, some)?;
                let all = took.mul_f64(work.events.len() as f64 / some as f64);
                let name = format!("{}: Parallel Consumer, by partition, from a 20th", work.name);
                turns.add(&name, of(work.ideal(), all));
            }
        }
    }
    raw.delete(&topics.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    broker.close().await?;
    for work in &works {
        let [ours, least] = ["commute", "tasks that only wait"].map(|variant| format!("{}: {variant}", work.name));
        turns.ratio(&ours, &least, None);
    }
    let mut rows = turns.rows();
    for row in rows.iter_mut().filter(|row| targets.contains(&row.row)) {
        row.target = Some(0.95);
    }
    Ok(rows)
}

async fn ours(broker: &SharedBroker, topic: &str, work: &Work, keyed: bool, device: &Device) -> Result<Duration> {
    let tally = Arc::new(Tally::new(work.events.len()));
    let handler = handler(work_on);
    let handler = if keyed {
        handler
    } else {
        handler.footprint(|event: &Transfer| [writes(("account", event.from)), writes(("account", event.to))].into())
    };
    // A name of its own reads the topic from its beginning.
    let app = App::new(format!("bench-{}", fastrand::u64(..)))
        .broker(broker.clone())
        .workers(work.workers)
        .state(Desk { tally: tally.clone(), device: device.clone(), takes: work.handler })
        .on(topic, handler);
    let running = app.start().await?;
    let took = tally.span().await?;
    running.stop().await?;
    Ok(took)
}
