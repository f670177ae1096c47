//! One delivery in somebody's hand.

use std::sync::Arc;
use std::time::Duration;

use commute_core::{
    Answer, BoxError, Code, Envelope, Error, HandlerError, Incoming, Outgoing, Result, Settlement, Timestamp, Topic,
};
use tokio::time::Instant;

use super::Hand;
use super::waiting::Held;
use crate::lock::lock;
use crate::publish::caused;
use crate::reply::Reply;

/// A delivery that was pulled. Settling it consumes it.
///
/// Dropped without being settled, it is taken again from the same puller, in its place and with the same attempt; when the puller
/// is gone, it is delivered again when the group is opened.
///
/// # Cancel safety
/// Dropping a call that settles leaves it unknown whether the delivery was settled; if it was not, it is delivered again when
/// the group is opened.
#[must_use = "a delivery that is dropped is taken again"]
pub struct Pulled {
    /// `None` once it is settled.
    held: Option<Held>,
    /// For looking at while it is being settled, too.
    envelope: Arc<Envelope>,
    attempt: u32,
    published: Timestamp,
    hand: Arc<Hand>,
}

impl Pulled {
    pub(super) fn new(held: Held, hand: Arc<Hand>) -> Self {
        let context = &held.context;
        let (envelope, attempt, published) = (context.envelope.clone(), context.attempt, context.published);
        Pulled { held: Some(held), envelope, attempt, published, hand }
    }

    /// The event with its attributes.
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// The event.
    ///
    /// # Errors
    /// `Undecodable` when it is no `E`; `UnknownType` when its type is another.
    pub fn decode<E: Incoming>(&self) -> Result<E> {
        if let commute_core::Types::Only(types) = E::types()
            && !types.contains(&&*self.envelope.event_type)
        {
            let detail =
                format!("event {} is a {}, not a {}", self.envelope.id, self.envelope.event_type, types.join(", "));
            return Err(Error::new(Code::UnknownType, detail));
        }
        E::decode(&self.envelope)
    }

    /// Which attempt this is, from 1.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// When the broker took the event in.
    pub fn published(&self) -> Timestamp {
        self.published
    }

    /// It is handled. Who asked for its result gets one.
    ///
    /// # Errors
    /// The broker's; the delivery comes again when the group is opened.
    pub async fn ack(self) -> Result<()> {
        self.settled_with(None, Vec::new()).await
    }

    /// It is handled, and this is published because of it, in the same step where the broker does that (else before). The ids of the
    /// events are derived from this one's: handling it again publishes nothing twice.
    ///
    /// # Errors
    /// `InvalidTopic`, `InvalidEvent` and `PayloadTooLarge` when it cannot be published: the delivery is taken again then. The
    /// broker's; the delivery comes again when the group is opened.
    pub async fn ack_with(self, topic: &str, answer: impl Answer) -> Result<()> {
        let topic = Topic::new(topic)?;
        let mut events = Vec::new();
        answer.emit(&mut events)?;
        self.settled_with(Some(topic), events).await
    }

    async fn settled_with(self, topic: Option<Topic>, events: Vec<commute_core::Emitted>) -> Result<()> {
        let Some(held) = &self.held else { return Ok(()) };
        let (by, cause) = (self.hand.signer(), &held.context);
        let mut reply = Reply::asked(cause);
        let mut publish = Vec::with_capacity(events.len() + 1);
        for (ordinal, event) in (0..).zip(events) {
            let Some(topic) = &topic else { continue };
            if let Some(reply) = &mut reply {
                reply.add(cause, ordinal, &event, Some(topic));
            }
            let envelope = caused(cause, None, ordinal, event, by.name, by.now)?;
            let (size, limit) = (envelope.size(), by.given.max_event_bytes);
            if size > limit {
                let detail =
                    format!("an answer of type {} has {size} bytes; the limit is {limit}", envelope.event_type);
                return Err(Error::new(Code::PayloadTooLarge, detail));
            }
            publish.push(Outgoing { topic: topic.clone(), envelope, not_before: None });
        }
        if let Some(reply) = reply {
            publish.push(reply.done(&by, cause)?);
        }
        let settlement = Settlement::Ack { tag: held.tag, publish, mark: by.given.inbox_retention.is_some() };
        self.hand.budget.deposit();
        self.settle(settlement).await
    }

    /// It failed. By the puller's retry policy it comes again after a delay, which is answered, with its attempt counted; or it
    /// becomes a dead letter, when that was the last attempt (`None`).
    ///
    /// # Errors
    /// The broker's. A delay is kept by the puller all the same.
    pub async fn retry(mut self, reason: impl Into<BoxError>) -> Result<Option<Duration>> {
        let reason = HandlerError::retry(reason).reason();
        let hand = self.hand.clone();
        let last = self.attempt >= hand.backoff.attempts;
        let within_budget = last || hand.budget.withdraw();
        let Some(delay) = hand.backoff.decide(self.attempt, within_budget, fastrand::f64()) else {
            return self.give_up(Code::AttemptsExhausted, reason).await.map(|()| None);
        };
        let Some(mut held) = self.held.take() else { return Ok(None) };
        tracing::debug!(group = %hand.route.subscription, event = %self.envelope.id, attempt = self.attempt, %reason, "an attempt failed");
        let defer = Settlement::Defer {
            tag: held.tag,
            attempts: held.context.attempt,
            not_before: hand.clock.now().plus(delay),
        };
        held.context.attempt += 1;
        // Before it is stored, so that a dropped call loses nothing.
        lock(&hand.waiting).back_off(held, Instant::now() + delay);
        hand.changed.notify_one();
        hand.settler.settle(vec![defer]).await?;
        Ok(Some(delay))
    }

    /// No retry can mend it: it becomes a dead letter at once.
    ///
    /// # Errors
    /// The broker's; the delivery comes again when the group is opened.
    pub async fn reject(self, reason: impl Into<BoxError>) -> Result<()> {
        let reason = HandlerError::reject(reason).reason();
        self.give_up(Code::Rejected, reason).await
    }

    async fn give_up(self, code: Code, reason: String) -> Result<()> {
        let Some(held) = &self.held else { return Ok(()) };
        let settlement = self.hand.give_up(held, code, reason)?;
        self.settle(settlement).await
    }

    /// Not handled: it is delivered again, at once, to whoever of the group asks, and no attempt is counted.
    ///
    /// # Errors
    /// The broker's; the delivery comes again when the group is opened.
    pub async fn give_back(self) -> Result<()> {
        let Some(held) = &self.held else { return Ok(()) };
        let settlement = Settlement::Return { tag: held.tag };
        self.settle(settlement).await
    }

    async fn settle(mut self, settlement: Settlement) -> Result<()> {
        self.held = None;
        self.hand.settler.settle(vec![settlement]).await
    }
}

impl Drop for Pulled {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            lock(&self.hand.waiting).ready(held);
            self.hand.changed.notify_one();
        }
    }
}

impl std::fmt::Debug for Pulled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pulled({} {}, attempt {})", self.envelope.event_type, self.envelope.id, self.attempt)
    }
}
