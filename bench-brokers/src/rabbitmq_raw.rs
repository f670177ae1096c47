//! lapin as it is: what publishing and consuming cost without a framework, on the same topology as ours.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures_util::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ExchangeKind};

use crate::load::{Posted, posted};

/// Messages that wait for their confirms at most.
pub(crate) const WINDOW: usize = 1024;
/// Messages that wait for their acknowledgements at most.
pub(crate) const PREFETCH: u16 = 1024;

/// A connection.
pub(crate) async fn connect(url: &str) -> Result<Connection> {
    Connection::connect(url, ConnectionProperties::default()).await.context("lapin cannot connect")
}

/// A quorum queue behind an exchange, both of this name.
pub(crate) async fn declare(connection: &Connection, name: &str) -> Result<Channel> {
    let channel = connection.create_channel().await?;
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(name.into(), ExchangeKind::Topic, durable, FieldTable::default()).await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(name.into(), durable, arguments).await?;
    channel
        .queue_bind(name.into(), name.into(), "#".into(), QueueBindOptions::default(), FieldTable::default())
        .await?;
    Ok(channel)
}

/// Removes queues that have served.
pub(crate) async fn delete(connection: &Connection, queues: &[&str]) -> Result<()> {
    let channel = connection.create_channel().await?;
    for queue in queues {
        channel.queue_delete((*queue).into(), QueueDeleteOptions::default()).await?;
    }
    Ok(())
}

/// Publishes with confirms, a window of them at a time.
pub(crate) async fn publish(channel: &Channel, exchange: &str, events: usize, cloud_events: bool) -> Result<Duration> {
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let mut window = VecDeque::with_capacity(WINDOW);
    let began = Instant::now();
    for n in 0..events {
        let event = posted(n);
        let body = serde_json::to_vec(&event)?;
        let properties = BasicProperties::default().with_delivery_mode(2);
        let properties = if cloud_events { with_attributes(properties, &event) } else { properties };
        window.push_back(
            channel.basic_publish(exchange.into(), "bench.posted".into(), options, &body, properties).await?,
        );
        if window.len() == WINDOW
            && let Some(confirm) = window.pop_front()
        {
            confirmed(confirm.await?)?;
        }
    }
    for confirm in window {
        confirmed(confirm.await?)?;
    }
    Ok(began.elapsed())
}

fn confirmed(confirmation: Confirmation) -> Result<()> {
    match confirmation {
        Confirmation::Ack(None) => Ok(()),
        other => bail!("the server answered {other:?}"),
    }
}

/// The properties and headers that ours sends.
fn with_attributes(properties: BasicProperties, event: &Posted) -> BasicProperties {
    let id = uuid::Uuid::now_v7().to_string();
    let mut headers = FieldTable::default();
    let key = event.key.to_string();
    for (name, value) in [
        ("cloudEvents:specversion", "1.0"),
        ("cloudEvents:id", id.as_str()),
        ("cloudEvents:source", "bench"),
        ("cloudEvents:type", "bench.posted"),
        ("cloudEvents:time", "2026-01-01T12:00:00.123456Z"),
        ("cloudEvents:partitionkey", key.as_str()),
    ] {
        headers.insert(name.into(), AMQPValue::LongString(value.into()));
    }
    headers.insert("commute-sent".into(), AMQPValue::LongLongInt(1_767_268_800_123_456));
    properties
        .with_timestamp(1_767_268_800)
        .with_message_id(id.as_str().into())
        .with_content_type("application/json".into())
        .with_headers(headers)
}

/// Consumes so many messages, and acknowledges each, or so many at a time. From the first to the last.
pub(crate) async fn consume(connection: &Connection, queue: &str, events: usize, multiple: usize) -> Result<Duration> {
    let channel = connection.create_channel().await?;
    channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    let mut consumer = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await?;
    let mut began = None;
    for n in 1..=events {
        let next = tokio::time::timeout(Duration::from_secs(30), consumer.next()).await;
        let delivery = next.context("no more deliveries come")?.context("the consumer was cancelled")??;
        let began = began.get_or_insert_with(Instant::now);
        let event: Posted = serde_json::from_slice(&delivery.data)?;
        std::hint::black_box(event);
        if n % multiple == 0 || n == events {
            delivery.acker.ack(BasicAckOptions { multiple: multiple > 1 }).await?;
        }
        if n == events {
            let took = began.elapsed();
            channel.close(200, "done".into()).await?;
            return Ok(took);
        }
    }
    bail!("nothing was to be consumed")
}
