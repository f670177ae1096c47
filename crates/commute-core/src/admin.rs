//! Administration: what an operator asks of a backend, and changes in it, without handling an event.
//!
//! ```text
//! topics ─► groups ─► read, unsettled, parked, journey        looking: nothing changes
//!                     keep, end, unpark, replay               acting: durable when answered, each all or nothing
//! ```
//!
//! Every listing pages. What a backend cannot answer it refuses with [`Code::NeedNotMet`]; nothing is guessed.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::cloudevents;
use crate::envelope::Envelope;
use crate::error::{Code, Error, Result};
use crate::future::BoxFuture;
use crate::id::EventId;
use crate::outgoing::Outgoing;
use crate::topic::Topic;

/// The group in which dead letters wait for somebody's decision: what is unsettled in it is a dead letter that was neither
/// redriven nor discarded.
pub const DEAD_LETTERS: &str = "commute.dead";

/// What a backend lets an operator see and do. Every method is there for every backend; one that does not have it refuses.
pub trait Admin: Send + Sync {
    /// The topics behind `after` in the order of their names, at most `max`.
    ///
    /// # Errors
    /// `NeedNotMet` when the backend cannot say; its own otherwise. So it is with every method here.
    fn topics(&self, after: Option<Topic>, max: usize) -> BoxFuture<'_, Result<Vec<TopicInfo>>> {
        let _ = (after, max);
        refused("list its topics")
    }

    /// The groups of a topic, or of all topics.
    fn groups(&self, topic: Option<Topic>) -> BoxFuture<'_, Result<Vec<GroupInfo>>> {
        let _ = topic;
        refused("list its groups")
    }

    /// Stored events of a topic, from a place on, at most `max`. Never waits: at the end it answers with no events and where to
    /// go on.
    ///
    /// # Errors
    /// `NotFound` when there is no such topic.
    fn read(&self, topic: Topic, from: Begin, max: usize) -> BoxFuture<'_, Result<Page>> {
        let _ = (topic, from, max);
        refused("show stored events")
    }

    /// Events that a group has not settled, behind a position, at most `max`; parked ones are not among them. A group that does
    /// not exist has settled nothing; a topic that does not exist has no events.
    fn unsettled(
        &self,
        name: SubscriptionName,
        after: Option<u64>,
        max: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredEvent>>> {
        let _ = (name, after, max);
        refused("show what is unsettled")
    }

    /// Parked events of a group behind a position, in topic order, at most `max`. A group that does not exist has none.
    fn parked(
        &self,
        name: SubscriptionName,
        after: Option<u64>,
        max: usize,
    ) -> BoxFuture<'_, Result<Vec<ParkedEvent>>> {
        let _ = (name, after, max);
        refused("show parked events")
    }

    /// What became of an event: where it is stored, what each group did with it, which events caused it and which it caused,
    /// all in the order in which they were stored. `max` bounds the number of events: the event and its causes come first,
    /// effects as far as there is room. Empty when no stored event has the id.
    fn journey(&self, id: EventId, max: usize) -> BoxFuture<'_, Result<Vec<Traced>>> {
        let _ = (id, max);
        refused("trace events")
    }

    /// Makes sure that a group exists, at the beginning of what is retained, so that nothing it has not settled is removed.
    fn keep(&self, name: SubscriptionName) -> BoxFuture<'_, Result<()>> {
        let _ = name;
        refused("keep events for a group")
    }

    /// Ends events that a group has not settled, parked ones too, and publishes what takes their place in the same step; the
    /// inbox remembers their ids. Answers for each whether it was ended now (`false`: it was settled already, and nothing was
    /// published for it). A delivery that somebody holds is ended under its hands: settling it later does nothing.
    ///
    /// # Errors
    /// `NotFound` when there is no such group ([`Admin::keep`] makes one), or no such position yet; `PayloadTooLarge`. Nothing
    /// was ended or published then.
    fn end(&self, name: SubscriptionName, ended: Vec<Ended>) -> BoxFuture<'_, Result<Vec<bool>>> {
        let _ = (name, ended);
        refused("end events from outside")
    }

    /// Takes parked events back, all or nothing, while no instance of the group runs: they are delivered in their place when one
    /// starts. (A running one releases them itself: `Operation::Release`.)
    ///
    /// # Errors
    /// `NotParked` when one of them is not; `GroupBusy` while an instance has the subscription open; `NotFound` when there is
    /// no such group.
    fn unpark(&self, name: SubscriptionName, positions: Vec<u64>) -> BoxFuture<'_, Result<()>> {
        let _ = (name, positions);
        refused("take parked events back from outside")
    }

    /// Lets a group handle everything from a place on once more; what it has parked or remembers from there on is forgotten.
    /// What it has not settled before that place stays unsettled. Answers the position.
    ///
    /// # Errors
    /// `GroupBusy` while an instance has the subscription open; `NotFound` when there is no such group.
    fn replay(&self, name: SubscriptionName, from: Begin) -> BoxFuture<'_, Result<u64>> {
        let _ = (name, from);
        refused("replay")
    }
}

/// An administration that can be shared.
pub type SharedAdmin = Arc<dyn Admin>;

fn refused<T: Send + 'static>(what: &str) -> BoxFuture<'static, Result<T>> {
    let detail = format!("this broker cannot {what}");
    Box::pin(std::future::ready(Err(Error::new(Code::NeedNotMet, detail))))
}

/// A subscription by its two names. Written `group@topic`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SubscriptionName {
    /// The topic.
    pub topic: Topic,
    /// The group.
    pub group: String,
}

impl fmt::Display for SubscriptionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.group, self.topic)
    }
}

impl FromStr for SubscriptionName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::new(Code::InvalidTopic, format!("{text:?} is no subscription; write group@topic"));
        let (group, topic) = text.split_once('@').ok_or_else(wrong)?;
        // Groups are app names, which are made like topic names.
        Topic::new(group).map_err(|_| wrong())?;
        Ok(SubscriptionName { topic: Topic::new(topic)?, group: group.to_owned() })
    }
}

impl TryFrom<String> for SubscriptionName {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<SubscriptionName> for String {
    fn from(name: SubscriptionName) -> String {
        name.to_string()
    }
}

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Begin {
    /// At the oldest event that is retained.
    Start,
    /// Behind the youngest.
    End,
    /// At a position, or the oldest behind it.
    Position(u64),
    /// At the first event published at this time or later, as far as the broker's clock was never set back.
    Time(Timestamp),
    /// So many events before the end.
    Last(u64),
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicInfo {
    /// Its name.
    pub topic: String,
    /// The position of the oldest event that is retained.
    pub first: u64,
    /// The position of the next event.
    pub next: u64,
    /// How many groups it has.
    pub groups: usize,
    /// When its youngest event was published, if that is known without looking for it.
    pub youngest: Option<Timestamp>,
}

/// A group of a topic. What a backend cannot count is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupInfo {
    /// Topic and group.
    pub subscription: SubscriptionName,
    /// Everything below is settled.
    pub settled_below: Option<u64>,
    /// Events stored for it and in nobody's hands, parked ones not counted.
    pub backlog: Option<u64>,
    /// Deliveries in somebody's hands.
    pub in_flight: Option<u64>,
    /// Of these, or of the backlog, those that failed and wait for their next attempt.
    pub retrying: Option<u64>,
    /// Parked events.
    pub parked: Option<u64>,
    /// How many instances have it open.
    pub instances: Option<usize>,
}

/// A stored event with its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredEvent {
    /// The topic.
    pub topic: String,
    /// Its position.
    pub position: u64,
    /// When the broker took it in.
    pub published: Timestamp,
    /// Not to be delivered before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    /// The event, in JSON a structured CloudEvent.
    #[serde(with = "structured")]
    pub event: Envelope,
}

/// Events, and where the next ones are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// In topic order.
    pub events: Vec<StoredEvent>,
    /// Where to go on.
    pub next: u64,
}

/// A parked event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParkedEvent {
    /// The event.
    #[serde(flatten)]
    pub stored: StoredEvent,
    /// Attempts made before it was parked.
    pub attempts: u32,
    /// Its failure, or nothing when it waits behind another.
    pub reason: Option<String>,
    /// When.
    pub since: Timestamp,
    /// The lanes it holds, as hexadecimal numbers, with `~CLASS` behind those that it shares with others of a class; their names
    /// are known to the service whose footprints they are.
    pub lanes: Vec<String>,
}

/// An event to end, and what takes its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Its position.
    pub position: u64,
    /// To be published in the same step.
    pub publish: Vec<Outgoing>,
}

/// An event of a journey, with what happened to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traced {
    /// The event.
    #[serde(flatten)]
    pub stored: StoredEvent,
    /// Which event caused it, when that is known.
    pub cause: Option<EventId>,
    /// What happened, in order.
    pub steps: Vec<Step>,
}

/// Something that a group did with an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Which group.
    pub group: String,
    /// When, where that is stored.
    pub at: Option<Timestamp>,
    /// What.
    #[serde(flatten)]
    pub what: Happened,
}

/// What can happen to an event in a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Happened {
    /// It failed and is tried again.
    Deferred {
        /// Attempts made so far.
        attempts: u32,
        /// When it is due.
        not_before: Timestamp,
    },
    /// It was set aside.
    Parked {
        /// Attempts made so far.
        attempts: u32,
        /// Its failure, or nothing when it waits behind another.
        reason: Option<String>,
    },
    /// It was taken back.
    Unparked,
    /// It was settled: handled, given up with a dead letter, ignored, or ended by an operator. What was published in the same
    /// step follows as its effects.
    Settled,
    /// It has not been settled.
    Open,
}

/// Envelopes as structured CloudEvents.
mod structured {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Envelope, cloudevents};

    pub(super) fn serialize<S: Serializer>(envelope: &Envelope, to: S) -> Result<S::Ok, S::Error> {
        cloudevents::to_json(envelope).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Envelope, D::Error> {
        let json = serde_json::Value::deserialize(from)?;
        cloudevents::from_json(&json).map_err(D::Error::custom)
    }
}

#[derive(Serialize, Deserialize)]
struct Sent {
    topic: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    not_before: Option<Timestamp>,
    #[serde(with = "structured")]
    event: Envelope,
}

impl Serialize for Outgoing {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Outgoing { topic, envelope, not_before } = self.clone();
        Sent { topic: topic.to_string(), not_before, event: envelope }.serialize(to)
    }
}

impl<'de> Deserialize<'de> for Outgoing {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let Sent { topic, not_before, event } = Sent::deserialize(from)?;
        let topic = Topic::new(topic).map_err(serde::de::Error::custom)?;
        Ok(Outgoing { topic, envelope: event, not_before })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_is_named_by_group_and_topic() {
        let name: SubscriptionName = "inventory@shop.orders".parse().unwrap();
        assert_eq!((name.group.as_str(), name.topic.as_str()), ("inventory", "shop.orders"));
        assert_eq!(name.to_string(), "inventory@shop.orders");
        for wrong in ["inventory", "@shop", "inventory@", "a b@c"] {
            assert!(wrong.parse::<SubscriptionName>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_sent_survives_its_json() {
        let envelope = Envelope::new("s", "t", Timestamp(1), br#"{"a":1}"#.as_slice().into());
        let outgoing =
            Outgoing { topic: Topic::new("things").unwrap(), envelope, not_before: Some(Timestamp(2_000_000)) };
        let text = serde_json::to_string(&outgoing).unwrap();
        assert_eq!(serde_json::from_str::<Outgoing>(&text).unwrap(), outgoing);
    }
}
