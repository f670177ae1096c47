//! Dead letters: an event that was given up, with the reason and the original unchanged, as an event of its own.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cloudevents;
use crate::envelope::{Envelope, extension};
use crate::error::Result;
use crate::event::{Event, Incoming};
use crate::id::EventId;
use crate::outgoing::Outgoing;
use crate::topic::Topic;

/// Published to the dead letter topic when an event is given up. Subscribe to it like to any event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// The code of the failure, `CM0022` for a handler's own rejection.
    pub code: String,
    /// Why, in the handler's own words.
    pub reason: String,
    /// How often it was tried.
    pub attempts: u32,
    /// The subscription that gave it up.
    pub subscription: String,
    /// The topic it came from.
    pub topic: String,
    /// The original, a structured CloudEvent.
    pub event: Value,
}

impl DeadLetter {
    /// The original envelope.
    ///
    /// # Errors
    /// When somebody else wrote the dead letter and the event in it is not a CloudEvent.
    pub fn original(&self) -> Result<Envelope> {
        cloudevents::from_json(&self.event)
    }

    /// The original event, decoded.
    ///
    /// # Errors
    /// When it is not an `E`.
    pub fn decode<E: Event>(&self) -> Result<E> {
        <E as Incoming>::decode(&self.original()?)
    }

    /// The original, to be published to its topic again for the subscription that gave it up, and for no other.
    ///
    /// It is an event of its own, because the original's id is remembered as handled: its id is derived from that of the
    /// dead letter, so that redriving a dead letter twice publishes one event, and a redriven event that fails again makes a
    /// dead letter of its own. It has no order with what was handled meanwhile: its lanes went on without it.
    ///
    /// # Errors
    /// When somebody else wrote the dead letter, and topic or event in it are not valid.
    pub fn redriven(&self, letter: &EventId) -> Result<Outgoing> {
        let mut envelope = self.original()?;
        let cause = std::mem::replace(&mut envelope.id, letter.derive("redrive", 0));
        let correlation = envelope.extensions.get(extension::CORRELATION_ID).unwrap_or(cause.as_str()).to_owned();
        envelope.extensions.set(extension::CORRELATION_ID, correlation)?;
        envelope.extensions.set(extension::CAUSATION_ID, cause.as_str())?;
        envelope.extensions.set(extension::REDRIVE_FOR, self.subscription.as_str())?;
        Ok(Outgoing { topic: Topic::new(&self.topic)?, envelope, not_before: None })
    }

    /// The id of the original event.
    ///
    /// # Errors
    /// When the event in it has none.
    pub fn original_id(&self) -> Result<EventId> {
        EventId::new(self.event.get("id").and_then(Value::as_str).unwrap_or_default())
    }

    /// The type of the original event; empty when somebody else wrote the dead letter and left it out.
    pub fn original_type(&self) -> &str {
        self.event.get("type").and_then(Value::as_str).unwrap_or_default()
    }

    /// The key that the original event was partitioned by.
    pub fn original_key(&self) -> Option<Arc<str>> {
        self.event.get(crate::envelope::extension::PARTITION_KEY).and_then(Value::as_str).map(Into::into)
    }
}

impl Event for DeadLetter {
    const TYPE: &'static str = "commute.dead_letter";

    fn key(&self) -> Option<String> {
        self.original_key().map(|key| key.as_ref().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    #[test]
    fn a_redriven_event_is_new_for_its_subscription_and_the_same_however_often_it_is_redriven() {
        let original = Envelope::new("s", "t", Timestamp(0), b"1".as_slice().into());
        let letter = DeadLetter {
            code: "CM0022".to_owned(),
            reason: "no".to_owned(),
            attempts: 1,
            subscription: "app".to_owned(),
            topic: "things".to_owned(),
            event: cloudevents::to_json(&original),
        };
        let id = EventId::generate();
        let again = letter.redriven(&id).unwrap();
        assert_eq!(again, letter.redriven(&id).unwrap());
        assert_ne!(again.envelope.id, original.id);
        assert_eq!((again.topic.as_str(), &again.envelope.data), ("things", &original.data));
        let extension = |name| again.envelope.extensions.get(name);
        assert_eq!(extension(extension::REDRIVE_FOR), Some("app"));
        assert_eq!(extension(extension::CAUSATION_ID), Some(original.id.as_str()));
        assert_eq!(extension(extension::CORRELATION_ID), Some(original.id.as_str()));
    }
}
