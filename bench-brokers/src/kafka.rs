//! Kafka: ours beside rdkafka as it is, and beside RustStream's adapter, on one partition.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use commute::SharedBroker;
use commute::prelude::*;

use crate::kafka_raw::{Raw, WINDOW};
use crate::load::{self, Posted, posted};
use crate::row::Row;
use crate::ruststream::RustStream;
use crate::tally::Tally;
use crate::turns::Turns;

async fn handle(_: Posted, State(tally): State<Arc<Tally>>) {
    tally.begin();
    tally.end();
}

/// Both rows: what was published is consumed.
pub(crate) async fn measure(url: &str, events: usize, rounds: usize) -> Result<Vec<Row>> {
    let mut publish = Turns::new("kafka-publish", "events/s", "higher");
    let mut consume = Turns::new("kafka-consume", "events/s", "higher");
    let raw = Raw::connect(url)?;
    let broker = commute::connect(url).await?;
    let ruststream = RustStream::build()?;
    let rate = |took: Duration, events: usize| events as f64 / took.as_secs_f64();
    // The first turn only warms up.
    for round in 0..=rounds {
        let events = if round == 0 { events / 4 } else { events };
        let topics = ["plain", "headers", "ours"].map(|name| format!("{name}-{}", fastrand::u64(..)));
        let [plain, headers, ours] = &topics;
        for topic in &topics {
            raw.create(topic).await?;
        }
        let published = [
            ("rdkafka", rate(raw.publish(plain, events, false).await?, events)),
            ("rdkafka with our headers", rate(raw.publish(headers, events, true).await?, events)),
            ("commute", rate(ours_published(&broker, ours, events).await?, events)),
        ];
        // All read the same records.
        let mut consumed = vec![
            ("rdkafka", rate(raw.consume(ours, events).await?, events)),
            ("commute", rate(ours_consumed(&broker, ours, events).await?, events)),
        ];
        if let Some(ruststream) = &ruststream {
            for (variant, workers) in [("RustStream, tracked", 1), ("RustStream, tracked, 64 workers by key", 64)] {
                let took = ruststream.consume(raw.servers(), ours, events, workers)?;
                consumed.push((variant, rate(took, events)));
            }
        }
        raw.delete(&topics.each_ref().map(String::as_str)).await?;
        if round > 0 {
            published.into_iter().for_each(|(variant, figure)| publish.add(variant, figure));
            consumed.into_iter().for_each(|(variant, figure)| consume.add(variant, figure));
        }
    }
    broker.close().await?;
    publish.ratio("commute", "rdkafka", Some(0.9));
    publish.ratio("commute", "rdkafka with our headers", None);
    consume.ratio("commute", "rdkafka", Some(0.9));
    consume.ratio("commute", "RustStream, tracked", Some(1.0));
    consume.ratio("commute", "RustStream, tracked, 64 workers by key", Some(1.0));
    Ok(publish.rows().into_iter().chain(consume.rows()).collect())
}

async fn ours_published(broker: &SharedBroker, topic: &str, events: usize) -> Result<Duration> {
    let began = Instant::now();
    load::publish(broker, topic, (0..events).map(posted), WINDOW).await?;
    Ok(began.elapsed())
}

async fn ours_consumed(broker: &SharedBroker, topic: &str, events: usize) -> Result<Duration> {
    let tally = Arc::new(Tally::new(events));
    let app = App::new("bench").broker(broker.clone()).state(tally.clone()).on(topic, handler(handle));
    let running = app.start().await?;
    let took = tally.span().await?;
    running.stop().await?;
    Ok(took)
}
