//! RabbitMQ: ours beside lapin as it is, publishing and consuming on quorum queues.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use commute::SharedBroker;
use commute::prelude::*;

use crate::load::{self, Posted, posted};
use crate::rabbitmq_raw as raw;
use crate::row::Row;
use crate::tally::Tally;
use crate::turns::{Cost, Costs};

async fn handle(_: Posted, State(tally): State<Arc<Tally>>) {
    tally.begin();
    tally.end();
}

/// Both rows: what was published is consumed.
pub(crate) async fn measure(url: &str, events: usize, rounds: usize) -> Result<Vec<Row>> {
    let mut publish = Costs::new("rabbitmq-publish");
    let mut consume = Costs::new("rabbitmq-consume");
    let connection = raw::connect(url).await?;
    let broker = commute::connect(&format!("{url}?prefetch={}", raw::PREFETCH)).await?;
    // The first turn only warms up.
    for round in 0..=rounds {
        let events = if round == 0 { events / 4 } else { events };
        let (mut published, mut consumed) = (Vec::new(), Vec::new());
        for (variant, cloud_events, multiple) in
            [("lapin", false, 1), ("lapin with our headers", true, 1), ("lapin, acknowledging 64 at once", false, 64)]
        {
            let name = format!("raw-{}", fastrand::u64(..));
            let channel = raw::declare(&connection, &name).await?;
            let cost = Cost::of(events, raw::publish(&channel, &name, events, cloud_events)).await?;
            if multiple == 1 {
                published.push((variant, cost));
            }
            let cost = Cost::of(events, raw::consume(&connection, &name, events, multiple)).await?;
            consumed.push((variant, cost));
            raw::delete(&connection, &[&name]).await?;
            channel.close(200, "done".into()).await?;
        }
        let topic = format!("ours-{}", fastrand::u64(..));
        published.push(("commute", Cost::of(events, ours_published(&broker, &topic, events)).await?));
        consumed.push(("commute", Cost::of(events, ours_consumed(&broker, &topic, events)).await?));
        let queues = [format!("bench@{topic}"), format!("bench@{topic}.aside"), format!("{topic}.unclaimed")];
        raw::delete(&connection, &queues.each_ref().map(String::as_str)).await?;
        if round > 0 {
            published.iter().for_each(|(variant, cost)| publish.add(variant, cost));
            consumed.iter().for_each(|(variant, cost)| consume.add(variant, cost));
        }
    }
    broker.close().await?;
    publish.ratio("commute", "lapin", Some(0.95));
    publish.ratio("commute", "lapin with our headers", Some(0.95));
    consume.ratio("commute", "lapin", Some(0.95));
    consume.ratio("commute", "lapin with our headers", Some(0.95));
    consume.ratio("commute", "lapin, acknowledging 64 at once", None);
    Ok(publish.rows().into_iter().chain(consume.rows()).collect())
}

async fn ours_published(broker: &SharedBroker, topic: &str, events: usize) -> Result<Duration> {
    // The group's queue is there before; otherwise the events would go to the one for topics without a group.
    app(broker, topic, Tally::new(1)).0.start().await?.stop().await?;
    let began = Instant::now();
    load::publish(broker, topic, (0..events).map(posted), raw::WINDOW).await?;
    Ok(began.elapsed())
}

async fn ours_consumed(broker: &SharedBroker, topic: &str, events: usize) -> Result<Duration> {
    let (app, tally) = app(broker, topic, Tally::new(events));
    let running = app.start().await?;
    let took = tally.span().await?;
    running.stop().await?;
    Ok(took)
}

fn app(broker: &SharedBroker, topic: &str, tally: Tally) -> (App, Arc<Tally>) {
    let tally = Arc::new(tally);
    (App::new("bench").broker(broker.clone()).state(tally.clone()).on(topic, handler(handle)), tally)
}
