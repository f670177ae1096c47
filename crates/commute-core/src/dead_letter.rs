//! Dead letters: an event that was given up, with the reason and the original unchanged, as an event of its own.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cloudevents;
use crate::envelope::Envelope;
use crate::error::Result;
use crate::event::{Event, Incoming};
use crate::id::EventId;

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
