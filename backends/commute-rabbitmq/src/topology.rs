//! Topology: exchanges and queues, declared where that is wanted and used as they are where they exist.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use commute_core::{Code, Error, Result, SubscriptionSpec};
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::protocol::AMQPSoftError;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ExchangeKind};
use tokio::sync::{Mutex as AsyncMutex, MutexGuard};

use crate::error;
use crate::link::Session;
use crate::options::{Instances, Options, QueueType};
use crate::wire::short;

/// A quorum queue of RabbitMQ 4 drops a message that came back too often. A consumer that is killed again and again is no
/// reason to lose one; how often an event is tried is the subscription's decision. Without any limit, 4.x would put what
/// comes back at the end of the queue.
const DELIVERY_LIMIT: i64 = 1_000_000_000;

/// The names of what a subscription consumes.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    pub(crate) queue: String,
    pub(crate) aside: String,
    pub(crate) unclaimed: Option<String>,
    /// The queue is somebody else's.
    foreign: bool,
    exchange: String,
}

impl Names {
    pub(crate) fn of(spec: &SubscriptionSpec, options: &Options) -> Names {
        let own = fit(&format!("{}@{}", spec.group, spec.topic));
        let aside = match &options.instances {
            Instances::One => fit(&format!("{own}.aside")),
            Instances::Many { name } => fit(&format!("{own}.aside.{name}")),
        };
        Names {
            queue: spec.queue.as_ref().map_or(own, |queue| queue.to_string()),
            aside,
            unclaimed: (spec.queue.is_none() && options.declare).then(|| unclaimed(spec.topic.as_str())),
            foreign: spec.queue.is_some(),
            exchange: spec.topic.to_string(),
        }
    }
}

/// Names have at most 255 bytes; what is longer ends with a hash of the whole.
fn fit(name: &str) -> String {
    if name.len() <= 255 {
        return name.to_owned();
    }
    let hash = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, name.as_bytes()).simple().to_string();
    let head = short(name).to_string();
    format!("{}~{hash}", head.chars().take(200).collect::<String>())
}

fn unclaimed(topic: &str) -> String {
    format!("{topic}.unclaimed")
}

/// Who may ask, one at a time.
type Turn<'a> = MutexGuard<'a, Option<(u64, Channel)>>;

/// What is known to exist on the connection of now.
#[derive(Debug, Default)]
struct Known {
    epoch: u64,
    topics: HashSet<String>,
}

/// Declares and checks. It has a channel of its own, because a refusal closes the channel that it comes on.
pub(crate) struct Topology {
    options: Arc<Options>,
    known: Mutex<Known>,
    channel: AsyncMutex<Option<(u64, Channel)>>,
}

impl Topology {
    pub(crate) fn new(options: Arc<Options>) -> Self {
        Topology { options, known: Mutex::default(), channel: AsyncMutex::default() }
    }

    /// Whether a topic is known to exist.
    pub(crate) fn knows(&self, session: &Session, topic: &str) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.epoch == session.epoch && known.topics.contains(topic)
    }

    fn learn(&self, session: &Session, topic: &str) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.epoch != session.epoch {
            *known = Known { epoch: session.epoch, topics: HashSet::new() };
        }
        known.topics.insert(topic.to_owned());
    }

    /// Something that was known to exist is gone: everything is looked for again.
    pub(crate) fn forget(&self) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Known::default();
    }

    /// Makes sure that a topic's exchange exists, and the queue for what comes while it has no group.
    pub(crate) async fn topic(&self, session: &Session, topic: &str) -> Result<()> {
        if self.knows(session, topic) {
            return Ok(());
        }
        if self.options.declare {
            let unclaimed = unclaimed(topic);
            self.exchange(session, &unclaimed, ExchangeKind::Fanout, FieldTable::default()).await?;
            self.queue(session, &unclaimed, true).await?;
            self.bind(session, &unclaimed, &unclaimed).await?;
            let mut arguments = FieldTable::default();
            arguments.insert("alternate-exchange".into(), AMQPValue::LongString(unclaimed.into()));
            self.exchange(session, topic, ExchangeKind::Topic, arguments).await?;
        } else {
            let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
            let (_turn, channel) = self.channel(session).await?;
            let kind = ExchangeKind::Topic;
            let found =
                session.answer(channel.exchange_declare(short(topic), kind, options, FieldTable::default())).await;
            found.map_err(|cause| error::from(&format!("exchange {topic:?} cannot be used"), &cause))?;
        }
        self.learn(session, topic);
        Ok(())
    }

    /// Makes sure that what a subscription consumes exists.
    pub(crate) async fn subscription(&self, session: &Session, names: &Names) -> Result<()> {
        if names.foreign || !self.options.declare {
            self.exists(session, &names.queue).await?;
            self.usable(session, &names.queue).await?;
        } else {
            self.topic(session, &names.exchange).await?;
            let single = self.options.instances == Instances::One;
            self.queue(session, &names.queue, single).await?;
            self.bind(session, &names.queue, &names.exchange).await?;
        }
        match self.options.declare {
            true => self.queue(session, &names.aside, true).await,
            false => self.exists(session, &names.aside).await,
        }
    }

    /// How many messages of a queue are in nobody's hands.
    pub(crate) async fn depth(&self, session: &Session, queue: &str) -> Result<u64> {
        let (_turn, channel) = self.channel(session).await?;
        asked(&channel, queue).await.map(|(messages, _)| u64::from(messages))
    }

    async fn exists(&self, session: &Session, queue: &str) -> Result<()> {
        self.depth(session, queue).await.map(drop)
    }

    /// Refuses kinds of queue that cannot be settled one by one. The server says what a queue is when it is asked to
    /// declare it as something that it is not.
    async fn usable(&self, session: &Session, queue: &str) -> Result<()> {
        let arguments = self.arguments("quorum", false);
        let Err(cause) = self.declare(session, queue, arguments).await else { return Ok(()) };
        let words = error::words(&cause);
        match error::soft(&cause) {
            Some(AMQPSoftError::PRECONDITIONFAILED) if words.contains("'stream'") => {
                let detail = format!("queue {queue:?} is a stream; use a quorum or classic queue");
                Err(Error::new(Code::TopologyDiffers, detail))
            }
            Some(AMQPSoftError::PRECONDITIONFAILED) => Ok(()),
            _ => Err(error::from(&format!("queue {queue:?} cannot be used"), &cause)),
        }
    }

    async fn exchange(&self, session: &Session, name: &str, kind: ExchangeKind, arguments: FieldTable) -> Result<()> {
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let (_turn, channel) = self.channel(session).await?;
        match session.answer(channel.exchange_declare(short(name), kind, options, arguments)).await {
            Ok(()) => Ok(()),
            Err(cause) if error::soft(&cause) == Some(AMQPSoftError::PRECONDITIONFAILED) => {
                tracing::info!(
                    exchange = name,
                    differs = error::words(&cause),
                    "an exchange exists and is used as it is"
                );
                Ok(())
            }
            Err(cause) => Err(error::from(&format!("exchange {name:?} cannot be declared"), &cause)),
        }
    }

    async fn queue(&self, session: &Session, name: &str, single_active: bool) -> Result<()> {
        let kind = match self.options.queue_type {
            QueueType::Quorum => "quorum",
            QueueType::Classic => "classic",
        };
        match self.declare(session, name, self.arguments(kind, single_active)).await {
            Ok(()) => Ok(()),
            Err(cause) if error::soft(&cause) == Some(AMQPSoftError::PRECONDITIONFAILED) => {
                tracing::info!(queue = name, differs = error::words(&cause), "a queue exists and is used as it is");
                self.usable(session, name).await
            }
            Err(cause) => Err(error::from(&format!("queue {name:?} cannot be declared"), &cause)),
        }
    }

    fn arguments(&self, kind: &str, single_active: bool) -> FieldTable {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString(kind.into()));
        if kind == "quorum" {
            arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(DELIVERY_LIMIT));
        }
        if single_active {
            arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
        }
        arguments
    }

    async fn declare(&self, session: &Session, name: &str, arguments: FieldTable) -> lapin::Result<()> {
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let (_turn, channel) = self.open(session).await?;
        session.answer(channel.queue_declare(short(name), options, arguments)).await.map(drop)
    }

    async fn bind(&self, session: &Session, queue: &str, exchange: &str) -> Result<()> {
        let (_turn, channel) = self.channel(session).await?;
        let options = QueueBindOptions::default();
        let binding = channel.queue_bind(short(queue), short(exchange), "#".into(), options, FieldTable::default());
        let bound = session.answer(binding).await;
        bound.map_err(|cause| error::from(&format!("queue {queue:?} cannot be bound to exchange {exchange:?}"), &cause))
    }

    async fn channel(&self, session: &Session) -> Result<(Turn<'_>, Channel)> {
        self.open(session).await.map_err(|cause| error::from("no channel to declare on", &cause))
    }

    /// The channel to declare on, a new one when the last was closed, and the turn to ask something on it: a refusal would be the answer to
    /// everything else that is asked on it at that time.
    async fn open(&self, session: &Session) -> lapin::Result<(Turn<'_>, Channel)> {
        let mut kept = self.channel.lock().await;
        if let Some((epoch, channel)) = &*kept
            && *epoch == session.epoch
            && channel.status().connected()
        {
            let channel = channel.clone();
            return Ok((kept, channel));
        }
        let channel = session.channel().await?;
        *kept = Some((session.epoch, channel.clone()));
        Ok((kept, channel))
    }
}

/// How many messages of a queue are in nobody's hands, and how many consume it. The answer comes behind everything that was
/// delivered on the channel before.
pub(crate) async fn asked(channel: &Channel, queue: &str) -> Result<(u32, u32)> {
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let found = channel.queue_declare(short(queue), options, FieldTable::default()).await;
    let found = found.map_err(|cause| error::from(&format!("queue {queue:?} cannot be asked"), &cause))?;
    Ok((found.message_count(), found.consumer_count()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_too_long_stays_distinct() {
        let (one, two) = (format!("{}a", "x".repeat(300)), format!("{}b", "x".repeat(300)));
        assert!(fit(&one).len() <= 255 && fit(&one) != fit(&two));
        assert_eq!(fit("inventory@shop.orders"), "inventory@shop.orders");
    }
}
