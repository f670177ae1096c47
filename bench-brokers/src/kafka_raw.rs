//! rdkafka as it is: what publishing and consuming cost without a framework, with the settings that ours uses.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{CommitMode, Consumer, StreamConsumer};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord};

use crate::load::{Posted, posted};

/// Records that wait for their receipts at most.
pub(crate) const WINDOW: usize = 10_000;
/// Records that are committed at once.
const COMMIT: usize = 1_000;

/// Raw clients of one server.
pub(crate) struct Raw {
    servers: String,
    admin: AdminClient<DefaultClientContext>,
    producer: FutureProducer,
}

impl Raw {
    /// Connects; `url` is as ours takes it.
    pub(crate) fn connect(url: &str) -> Result<Self> {
        let servers = url.trim_start_matches("kafka://").to_owned();
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &servers).set("allow.auto.create.topics", "false").set("log_level", "4");
        let admin = config.create()?;
        let producer = config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("linger.ms", "1")
            .set("max.in.flight.requests.per.connection", "1")
            .set("partitioner", "murmur2_random")
            .set("queue.buffering.max.messages", "1000000")
            .create()?;
        Ok(Raw { servers, admin, producer })
    }

    /// The servers, as Kafka's own clients take them.
    pub(crate) fn servers(&self) -> &str {
        &self.servers
    }

    /// A topic of one partition.
    pub(crate) async fn create(&self, topic: &str) -> Result<()> {
        let topic = NewTopic::new(topic, 1, TopicReplication::Fixed(1));
        let outcomes = self.admin.create_topics([&topic], &AdminOptions::new()).await?;
        outcomes.into_iter().try_for_each(|outcome| outcome.map(drop).map_err(|(_, cause)| anyhow!(cause)))
    }

    /// Removes topics that have served.
    pub(crate) async fn delete(&self, topics: &[&str]) -> Result<()> {
        self.admin.delete_topics(topics, &AdminOptions::new()).await?;
        Ok(())
    }

    /// Publishes, a window of records at a time.
    pub(crate) async fn publish(&self, topic: &str, events: usize, cloud_events: bool) -> Result<Duration> {
        let mut window: VecDeque<DeliveryFuture> = VecDeque::with_capacity(WINDOW);
        let began = Instant::now();
        for n in 0..events {
            let event = posted(n);
            let (key, payload) = (event.key.to_string(), serde_json::to_vec(&event)?);
            let mut record = FutureRecord::to(topic).key(&key).payload(&payload);
            if cloud_events {
                record = record.headers(attributes(&key));
            }
            window.push_back(self.producer.send_result(record).map_err(|(cause, _)| cause)?);
            if window.len() == WINDOW
                && let Some(delivery) = window.pop_front()
            {
                delivery.await?.map_err(|(cause, _)| cause)?;
            }
        }
        for delivery in window {
            delivery.await?.map_err(|(cause, _)| cause)?;
        }
        Ok(began.elapsed())
    }

    /// Consumes so many records, stores the offset of each and commits now and then; reads the headers, too, if it is told.
    /// From the first to the last.
    pub(crate) async fn consume(&self, topic: &str, events: usize, headers: bool) -> Result<Duration> {
        let consumer: StreamConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.servers)
            .set("log_level", "4")
            .set("group.id", format!("raw-{}", fastrand::u64(..)))
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("fetch.queue.backoff.ms", "10")
            .set("queued.min.messages", "10000")
            .set("queued.max.messages.kbytes", "16384")
            .create()?;
        consumer.subscribe(&[topic])?;
        let mut began = None;
        for n in 1..=events {
            let next = tokio::time::timeout(Duration::from_secs(30), consumer.recv()).await;
            let message = next.context("no more records come")??;
            began.get_or_insert_with(Instant::now);
            let event: Posted = serde_json::from_slice(message.payload().unwrap_or_default())?;
            std::hint::black_box(event);
            if headers && let Some(headers) = message.headers() {
                for Header { key, value } in headers.iter() {
                    std::hint::black_box((key, std::str::from_utf8(value.unwrap_or_default())?));
                }
            }
            consumer.store_offset_from_message(&message)?;
            if n % COMMIT == 0 || n == events {
                consumer.commit_consumer_state(CommitMode::Async)?;
            }
        }
        Ok(began.map(|began| began.elapsed()).unwrap_or_default())
    }
}

/// The headers that ours sends.
fn attributes(key: &str) -> OwnedHeaders {
    let id = uuid::Uuid::now_v7().to_string();
    let mut headers = OwnedHeaders::new_with_capacity(8);
    for (key, value) in [
        ("ce_specversion", "1.0"),
        ("ce_id", id.as_str()),
        ("ce_source", "bench"),
        ("ce_type", "bench.posted"),
        ("ce_time", "2026-01-01T12:00:00.123456Z"),
        ("ce_partitionkey", key),
        ("content-type", "application/json"),
    ] {
        headers = headers.insert(Header { key, value: Some(value) });
    }
    headers
}
