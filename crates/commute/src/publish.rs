//! Publishing: an event becomes an envelope and a durable receipt.

use std::sync::Arc;
use std::time::Duration;

use commute_core::{
    Capabilities, Clock, Context, Emitted, Envelope, Event, EventId, Outgoing, Receipt, Result, SharedBroker,
    SystemClock, Timestamp, Topic, extension,
};
use tokio::sync::Semaphore;

use crate::published::Published;
use crate::trace::TraceParent;

/// Publishes events in the name of one source. Cheap to clone; all clones share the broker's back-pressure.
///
/// # Cancel safety
/// Dropping a publish leaves it unknown whether the event was stored. Publish it again with the same id: a topic takes
/// an id once within the broker's stated window.
#[derive(Clone)]
pub struct Publisher {
    broker: SharedBroker,
    source: Arc<str>,
    clock: Arc<dyn Clock>,
    in_flight: Arc<Semaphore>,
    published: Arc<Published>,
}

/// How many batches of one publisher and its clones may wait for their receipts at once: enough to fill a group of the
/// log, few enough that a publisher that does not wait feels a slow broker instead of filling the memory.
const IN_FLIGHT: usize = 1024;

impl Publisher {
    /// A publisher that signs with `source`, a service name or URI.
    pub fn new(broker: SharedBroker, source: impl Into<Arc<str>>) -> Self {
        Publisher::with_clock(broker, source, Arc::new(SystemClock))
    }

    /// A publisher that takes the time from an app's clock.
    pub(crate) fn with_clock(broker: SharedBroker, source: impl Into<Arc<str>>, clock: Arc<dyn Clock>) -> Self {
        Publisher {
            broker,
            source: source.into(),
            clock,
            in_flight: Arc::new(Semaphore::new(IN_FLIGHT)),
            published: Arc::default(),
        }
    }

    /// Counts what it publishes together with others.
    pub(crate) fn counted(mut self, published: Arc<Published>) -> Self {
        self.published = published;
        self
    }

    /// Publishes one event. The receipt means that it is durable.
    ///
    /// # Errors
    /// See [`commute_core::Broker::publish`]; `InvalidTopic` and `InvalidEvent` before anything is sent.
    pub async fn publish<E: Event>(&self, topic: &str, event: &E) -> Result<Receipt> {
        self.send(topic, [Message::of(event)?]).await.map(|receipts| receipts[0])
    }

    /// Publishes events in order, as one batch: far cheaper than one by one.
    ///
    /// # Errors
    /// As [`Publisher::publish`]; a refused batch stores nothing.
    pub async fn publish_batch<'a, E: Event>(
        &self,
        topic: &str,
        events: impl IntoIterator<Item = &'a E>,
    ) -> Result<Vec<Receipt>> {
        let messages: Result<Vec<_>> = events.into_iter().map(Message::of).collect();
        self.send(topic, messages?).await
    }

    /// Publishes an event that is delivered at `time`, not before.
    ///
    /// # Errors
    /// As [`Publisher::publish`].
    pub async fn publish_at<E: Event>(&self, topic: &str, event: &E, time: Timestamp) -> Result<Receipt> {
        self.send(topic, [Message::of(event)?.not_before(time)]).await.map(|receipts| receipts[0])
    }

    /// Publishes an event that is delivered after `delay`, not before.
    ///
    /// # Errors
    /// As [`Publisher::publish`].
    pub async fn publish_after<E: Event>(&self, topic: &str, event: &E, delay: Duration) -> Result<Receipt> {
        self.publish_at(topic, event, self.clock.now().plus(delay)).await
    }

    /// Publishes prepared messages in order, as one batch, with their own ids and attributes where they have some.
    ///
    /// # Errors
    /// As [`Publisher::publish`].
    pub async fn send(&self, topic: &str, messages: impl IntoIterator<Item = Message>) -> Result<Vec<Receipt>> {
        let topic = Topic::new(topic)?;
        let batch = messages.into_iter().map(|message| message.outgoing(&topic, &self.source, self.clock.now()));
        let batch: Vec<Outgoing> = batch.collect::<Result<_>>()?;
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        // Fair, so that publishes that wait here go on in their order. It is never closed.
        let _permit = self.in_flight.acquire().await;
        let receipts = self.broker.publish(batch).await?;
        self.published.add(&topic, receipts.len());
        Ok(receipts)
    }
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Publisher({})", self.source)
    }
}

/// An event with attributes of the caller's choice.
#[derive(Debug, Clone)]
pub struct Message {
    event: Emitted,
    id: Option<EventId>,
    time: Option<Timestamp>,
    subject: Option<Arc<str>>,
    extensions: Vec<(String, String)>,
    not_before: Option<Timestamp>,
}

impl Message {
    /// Encodes an event.
    ///
    /// # Errors
    /// `InvalidEvent` when it cannot be encoded.
    pub fn of<E: Event>(event: &E) -> Result<Self> {
        let event = Emitted::encode(event)?;
        Ok(Message { event, id: None, time: None, subject: None, extensions: Vec::new(), not_before: None })
    }

    /// The caller's own id. Publishing the same id again is acknowledged and not stored again.
    pub fn id(mut self, id: EventId) -> Self {
        self.id = Some(id);
        self
    }

    /// When it happened; now, when not said.
    pub fn time(mut self, time: Timestamp) -> Self {
        self.time = Some(time);
        self
    }

    /// What it is about.
    pub fn subject(mut self, subject: impl Into<Arc<str>>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// An extension attribute: 1 to 20 lower-case letters and digits.
    pub fn extension(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.extensions.push((name.into(), value.into()));
        self
    }

    /// Not to be delivered before `time`.
    pub fn not_before(mut self, time: Timestamp) -> Self {
        self.not_before = Some(time);
        self
    }

    /// The id that was given, or a new one, which it has from now on.
    pub(crate) fn settled_id(&mut self) -> EventId {
        self.id.get_or_insert_with(EventId::generate).clone()
    }

    /// Its own id, or `other`; and whether it has one.
    #[cfg(feature = "testing")]
    pub(crate) fn id_or(&self, other: &EventId) -> (EventId, bool) {
        (self.id.as_ref().unwrap_or(other).clone(), self.id.is_some())
    }

    fn outgoing(self, topic: &Topic, source: &Arc<str>, now: Timestamp) -> Result<Outgoing> {
        let mut envelope = envelope(self.event, source, self.time.unwrap_or(now))?;
        if let Some(id) = self.id {
            envelope.id = id;
        }
        envelope.subject = self.subject;
        for (name, value) in self.extensions {
            envelope.extensions.set(&name, value)?;
        }
        Ok(Outgoing { topic: topic.clone(), envelope, not_before: self.not_before })
    }
}

fn envelope(event: Emitted, source: &Arc<str>, time: Timestamp) -> Result<Envelope> {
    let mut envelope = Envelope::new(source.clone(), event.event_type, time, event.data);
    envelope.data_content_type = Some("application/json".into());
    if event.version != 1 {
        envelope.extensions.set(extension::VERSION, event.version.to_string())?;
    }
    if let Some(key) = event.key {
        envelope.extensions.set(extension::PARTITION_KEY, key)?;
    }
    Ok(envelope)
}

/// In whose name, when, and within which limits events are published because of another.
#[derive(Clone, Copy)]
pub(crate) struct Signer<'a> {
    pub(crate) name: &'a Arc<str>,
    pub(crate) now: Timestamp,
    pub(crate) given: &'a Capabilities,
}

/// Makes the envelope of the `ordinal`-th event that a handler answered: its id is derived from its cause, so that
/// publishing it again after a crash is noticed, and it carries correlation, causation and trace on: the one that is
/// given, or one that is derived from the cause.
pub(crate) fn caused(
    cause: &Context,
    trace: Option<TraceParent>,
    ordinal: u32,
    event: Emitted,
    source: &Arc<str>,
    now: Timestamp,
) -> Result<Envelope> {
    let mut envelope = envelope(event, source, now)?;
    let origin = &cause.envelope;
    envelope.id = origin.id.derive(&cause.route.subscription, ordinal);
    let correlation = origin.extensions.get(extension::CORRELATION_ID).unwrap_or(origin.id.as_str());
    envelope.extensions.set(extension::CORRELATION_ID, correlation)?;
    envelope.extensions.set(extension::CAUSATION_ID, origin.id.as_str())?;
    let trace = trace.unwrap_or_else(|| crate::trace::child_of(origin));
    envelope.extensions.set(extension::TRACE_PARENT, trace.to_string())?;
    if let Some(state) = origin.extensions.get(extension::TRACE_STATE) {
        envelope.extensions.set(extension::TRACE_STATE, state)?;
    }
    Ok(envelope)
}
