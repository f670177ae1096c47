//! What became of an event in one subscription, as an event of its own.

use commute_core::{Code, Error, Event, EventId, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Published to the topic that an event names in its extension `replyto`, by each subscription that settles the event.
/// Subscribe to it like to any event.
///
/// Its id is derived from event and subscription: however often the event is delivered, there is one last word. An event
/// that was parked is answered twice, when it is parked and when it is over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HandledResult {
    /// The request: the correlation id of the event.
    pub request: EventId,
    /// The event that was handled; for a redriven one it is not the request itself.
    pub event: EventId,
    /// Where it was published.
    pub topic: String,
    /// The subscription (group) that answers.
    pub subscription: String,
    /// How often it was tried.
    pub attempts: u32,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: ResultOutcome,
}

/// What can become of an event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum ResultOutcome {
    /// It was handled.
    Done {
        /// What the handler answered, in order; empty when it answered nothing.
        answers: Vec<Answered>,
    },
    /// It was rejected, or its attempts were used up: it is a dead letter.
    DeadLetter {
        /// The code of the failure, `CM0022` for a handler's own rejection.
        code: String,
        /// Why, in the handler's own words.
        reason: String,
    },
    /// It is set aside until somebody releases its lane. Another result follows when it is over.
    Parked {
        /// The code of the failure.
        code: String,
        /// Why, in the handler's own words.
        reason: String,
    },
    /// The subscription has no handler for its type and lets such events pass.
    Ignored,
}

/// An event that a handler answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answered {
    /// Its id.
    pub id: EventId,
    /// The topic it was published to; none when it went to whoever asked alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Its type.
    #[serde(rename = "type")]
    pub event_type: String,
    /// The version of its payload.
    pub version: u16,
    /// Its payload; none when the result would have been too large with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
}

impl Answered {
    /// The event.
    ///
    /// # Errors
    /// `Undecodable` when it is no `E`, or its payload was too large to come with the result.
    pub fn decode<E: Event>(&self) -> Result<E> {
        let wrong = |what: String| Error::new(Code::Undecodable, format!("answer {} {what}", self.id));
        if self.event_type != E::TYPE || self.version > E::VERSION {
            let (known, version) = (E::TYPE, E::VERSION);
            let what =
                format!("is version {} of {}, not {known} up to version {version}", self.version, self.event_type);
            return Err(wrong(what));
        }
        let Some(data) = &self.data else {
            let topic = self.topic.as_deref().unwrap_or_default();
            return Err(wrong(format!("was too large to come with the result; it is in {topic}")));
        };
        E::deserialize(data).map_err(|cause| wrong(format!("is no {}: {cause}", E::TYPE)).caused_by(cause))
    }
}

impl HandledResult {
    /// What the handler answered; nothing when it failed.
    pub fn answers(&self) -> &[Answered] {
        match &self.outcome {
            ResultOutcome::Done { answers } => answers,
            _ => &[],
        }
    }

    /// Code and reason, when it failed.
    pub fn failure(&self) -> Option<(&str, &str)> {
        match &self.outcome {
            ResultOutcome::DeadLetter { code, reason } | ResultOutcome::Parked { code, reason } => Some((code, reason)),
            ResultOutcome::Done { .. } | ResultOutcome::Ignored => None,
        }
    }

    /// Whether another result may follow without anybody publishing anything.
    pub fn is_parked(&self) -> bool {
        matches!(self.outcome, ResultOutcome::Parked { .. })
    }
}

impl Event for HandledResult {
    const TYPE: &'static str = "commute.result";

    fn key(&self) -> Option<String> {
        Some(self.request.as_str().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_reads_as_plain_json() {
        let id = EventId::new("r1").unwrap();
        let answers = vec![Answered {
            id: EventId::new("a1").unwrap(),
            topic: None,
            event_type: "shop.priced".to_owned(),
            version: 1,
            data: Some(serde_json::json!({ "pence": 5 })),
        }];
        let result = HandledResult {
            request: id.clone(),
            event: id,
            topic: "shop.orders".to_owned(),
            subscription: "pricing".to_owned(),
            attempts: 1,
            outcome: ResultOutcome::Done { answers },
        };
        let json = serde_json::to_value(&result).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "request": "r1", "event": "r1", "topic": "shop.orders", "subscription": "pricing", "attempts": 1,
                "outcome": "done",
                "answers": [{ "id": "a1", "type": "shop.priced", "version": 1, "data": { "pence": 5 } }],
            })
        );
        assert_eq!(serde_json::from_value::<HandledResult>(json).unwrap(), result);
    }
}
