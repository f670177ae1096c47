//! What a commute node is measured beside: lapin as it is, on a quorum queue.
//!
//! Each publisher waits for its confirm before its next event, and a consumer acknowledges.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures_util::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Confirmation, Connection};
use tokio::task::JoinSet;

use crate::load::posted;
use crate::rabbitmq_raw as raw;
use crate::row::{Row, median};

/// So many are acknowledged at once.
const TOGETHER: usize = 64;

/// 1 and 64 publishers, to the confirm and to handled.
pub(crate) async fn measure(url: &str, events: usize, rounds: usize) -> Result<Vec<Row>> {
    let connection = raw::connect(url).await?;
    let few = (events / 10).max(64);
    let mut found: [Vec<f64>; 4] = Default::default();
    for _ in 0..rounds {
        let name = format!("confirms-{}", fastrand::u64(..));
        let channel = raw::declare(&connection, &name).await?;
        let (_, one) = publish(&connection, &name, 1, few).await?;
        let (many, _) = publish(&connection, &name, 64, events).await?;
        raw::consume(&connection, &name, few + events / 64 * 64, TOGETHER).await?;
        let handled_one = handle(&connection, &name, 1, few).await?;
        let handled = handle(&connection, &name, 64, events).await?;
        raw::delete(&connection, &[&name]).await?;
        channel.close(200, "done".into()).await?;
        let all = [one.as_secs_f64() * 1e6, many, handled_one, handled];
        found.iter_mut().zip(all).for_each(|(all, one)| all.push(one));
    }
    let [one, many, handled_one, handled] = found.map(median);
    let row = |row: &str, value, unit, better| Row {
        bench: "rabbitmq-confirms",
        row: row.to_owned(),
        value,
        unit,
        better,
        target: None,
    };
    Ok(vec![
        row("1 publisher, quorum queue", one, "us", "lower"),
        row("64 publishers, quorum queue", many, "events/s", "higher"),
        row("1 publisher to handled, quorum queue", handled_one, "events/s", "higher"),
        row("64 publishers to handled, quorum queue", handled, "events/s", "higher"),
    ])
}

/// Events per second, and the median time of one publish.
async fn publish(connection: &Connection, exchange: &str, publishers: usize, events: usize) -> Result<(f64, Duration)> {
    let began = Instant::now();
    let mut running = JoinSet::new();
    for _ in 0..publishers {
        let (channel, exchange) = (connection.create_channel().await?, exchange.to_owned());
        running.spawn(async move {
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            let payload = serde_json::to_vec(&posted(0))?;
            let mut times = Vec::with_capacity(events / publishers);
            for _ in 0..events / publishers {
                let properties = BasicProperties::default().with_delivery_mode(2);
                let asked = Instant::now();
                let confirm = channel
                    .basic_publish(exchange.as_str().into(), "bench.posted".into(), options, &payload, properties)
                    .await?;
                match confirm.await? {
                    Confirmation::Ack(None) => times.push(asked.elapsed()),
                    other => bail!("the server answered {other:?}"),
                }
            }
            channel.close(200, "done".into()).await?;
            Ok(times)
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

/// Publishes while a consumer receives and acknowledges. Events per second, from the first publish to the last acknowledgement.
async fn handle(connection: &Connection, queue: &str, publishers: usize, events: usize) -> Result<f64> {
    let channel = connection.create_channel().await?;
    channel.basic_qos(raw::PREFETCH, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    let mut consumer = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await?;
    let all = events / publishers * publishers;
    let began = Instant::now();
    let consuming = async {
        for n in 1..=all {
            let next = tokio::time::timeout(Duration::from_secs(30), consumer.next()).await;
            let delivery = next.context("no more deliveries come")?.context("the consumer was cancelled")??;
            if n % TOGETHER == 0 || n == all || publishers == 1 {
                delivery.acker.ack(BasicAckOptions { multiple: true }).await?;
            }
        }
        anyhow::Ok(began.elapsed())
    };
    let (published, took) = tokio::join!(publish(connection, queue, publishers, events), consuming);
    published?;
    channel.close(200, "done".into()).await?;
    Ok(all as f64 / took?.as_secs_f64())
}
