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
use crate::turns::{Cost, Costs};

const RUSTSTREAM: &str = "RustStream, tracked";
const RUSTSTREAM_HEADERS: &str = "RustStream, tracked, headers read";
const RUSTSTREAM_BY_KEY: &str = "RustStream, tracked, 64 workers by key";
const RUSTSTREAM_BY_KEY_HEADERS: &str = "RustStream, tracked, 64 workers by key, headers read";

async fn handle(_: Posted, State(tally): State<Arc<Tally>>) {
    tally.begin();
    tally.end();
}

/// Both rows: what was published is consumed.
pub(crate) async fn measure(url: &str, events: usize, rounds: usize) -> Result<Vec<Row>> {
    let mut publish = Costs::new("kafka-publish");
    let mut consume = Costs::new("kafka-consume");
    let raw = Raw::connect(url)?;
    let broker = commute::connect(url).await?;
    let ruststream = RustStream::build()?;
    // The first turn only warms up.
    for round in 0..=rounds {
        let events = if round == 0 { events / 4 } else { events };
        let topics = ["plain", "headers", "ours"].map(|name| format!("{name}-{}", fastrand::u64(..)));
        let [plain, headers, ours] = &topics;
        for topic in &topics {
            raw.create(topic).await?;
        }
        let published = [
            ("rdkafka", Cost::of(events, raw.publish(plain, events, false)).await?),
            ("rdkafka with our headers", Cost::of(events, raw.publish(headers, events, true)).await?),
            ("commute", Cost::of(events, ours_published(&broker, ours, events)).await?),
        ];
        // All read the same records.
        let consumed = [
            ("rdkafka", Cost::of(events, raw.consume(ours, events, false)).await?),
            ("rdkafka, headers read", Cost::of(events, raw.consume(ours, events, true)).await?),
            ("commute", Cost::of(events, ours_consumed(&broker, ours, events)).await?),
        ];
        let mut peers = Vec::new();
        if let Some(ruststream) = &ruststream {
            for (variant, workers, headers) in [
                (RUSTSTREAM, 1, false),
                (RUSTSTREAM_HEADERS, 1, true),
                (RUSTSTREAM_BY_KEY, 64, false),
                (RUSTSTREAM_BY_KEY_HEADERS, 64, true),
            ] {
                let took = ruststream.consume(raw.servers(), ours, events, workers, headers)?;
                peers.push((variant, events as f64 / took.as_secs_f64()));
            }
        }
        raw.delete(&topics.each_ref().map(String::as_str)).await?;
        if round > 0 {
            published.iter().for_each(|(variant, cost)| publish.add(variant, cost));
            consumed.iter().for_each(|(variant, cost)| consume.add(variant, cost));
            peers.into_iter().for_each(|(variant, rate)| consume.add_rate(variant, rate));
        }
    }
    broker.close().await?;
    publish.ratio("commute", "rdkafka", Some(0.9));
    publish.ratio("commute", "rdkafka with our headers", Some(0.9));
    consume.ratio("commute", "rdkafka", Some(0.9));
    consume.ratio("commute", "rdkafka, headers read", Some(0.9));
    for peer in [RUSTSTREAM, RUSTSTREAM_HEADERS, RUSTSTREAM_BY_KEY, RUSTSTREAM_BY_KEY_HEADERS] {
        consume.ratio("commute", peer, Some(1.0));
    }
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
