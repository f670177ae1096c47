//! Aside: the compacted topic beside the source, with what was parked and with progress that no commit has room for.
//!
//! | Key | Value |
//! |---|---|
//! | `P/event/OFFSET` | a parked event as it was published, and why and how in the header `commute-parked` |
//! | `P/back/N` | the offsets that one call has taken back: all or none of them |
//! | `P/progress/INCARNATION` | the progress of an incarnation |
//!
//! `P` is the partition of the source; all its records are in the partition of the same number. A record without a value
//! says that the key is over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use commute_core::{Lane, Mode, Texts, Timestamp};
use rdkafka::Message;
use rdkafka::message::{BorrowedMessage, Header};
use serde::{Deserialize, Serialize};

use crate::partition::Aside;
use crate::progress::Progress;
use crate::publisher::Item;
use crate::wire::{self, Record};

const PARKED: &str = "commute-parked";
/// Kafka's limit for names of topics.
const LONGEST_NAME: usize = 249;
/// A reason is for people; a very long one would not fit beside a large event.
const LONGEST_REASON: usize = 16 << 10;

/// What is known about a parked event beside the event.
#[derive(Serialize, Deserialize)]
struct Why {
    order: u64,
    attempts: u32,
    /// The class of a shared access; nothing for an exclusive one.
    lanes: Vec<(u64, Option<u32>)>,
    reason: Option<String>,
    since: i64,
    published: i64,
    malformed: Option<String>,
}

/// The name of the topic beside the source.
pub(crate) fn name(group: &str, topic: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let mut name: String = group.chars().map(|c| if plain(c) { c } else { '_' }).collect();
    name.push('.');
    name.push_str(topic);
    let suffix = ".aside";
    if name.len() + suffix.len() <= LONGEST_NAME && group.chars().all(plain) {
        return name + suffix;
    }
    // Two names that are cut to the same text, or changed to it, still differ.
    let hash = xxhash_rust::xxh3::xxh3_64(format!("{group}\0{topic}").as_bytes());
    name.truncate(LONGEST_NAME - suffix.len() - 17);
    format!("{name}-{hash:016x}{suffix}")
}

/// The topic, and the partition of the source: what every record aside needs.
#[derive(Clone)]
pub(crate) struct Shelf {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
}

impl Shelf {
    fn note(&self, key: String, value: Option<Bytes>) -> Item {
        let Shelf { topic, partition } = self.clone();
        Item::Note { topic, partition, key: format!("{partition}/{key}"), value, headers: None }
    }

    /// An event is parked.
    pub(crate) fn parked(&self, offset: u64, aside: &Aside, record: &Record) -> Item {
        let lanes = aside.lanes.iter().map(|(lane, mode)| match mode {
            Mode::Exclusive => (lane.0, None),
            Mode::Shared(class) => (lane.0, Some(*class)),
        });
        let why = Why {
            order: aside.order,
            attempts: aside.attempts,
            lanes: lanes.collect(),
            reason: aside.reason.clone(),
            since: aside.since.0,
            published: record.published.0,
            malformed: record.malformed.as_deref().map(str::to_owned),
        };
        let why = serde_json::to_vec(&why).unwrap_or_default();
        let why = Header { key: PARKED, value: Some(&why) };
        let Shelf { topic, partition } = self.clone();
        Item::Note {
            topic,
            partition,
            key: format!("{partition}/event/{offset}"),
            value: Some(record.envelope.data.clone()),
            headers: Some(wire::headers(&record.envelope).insert(why)),
        }
    }

    /// A parked event is settled.
    pub(crate) fn settled(&self, offset: u64) -> Item {
        self.note(format!("event/{offset}"), None)
    }

    /// These are taken back.
    pub(crate) fn back(&self, note: u64, offsets: &BTreeSet<u64>) -> Item {
        self.note(format!("back/{note}"), Some(serde_json::to_vec(offsets).unwrap_or_default().into()))
    }

    /// A note speaks of nothing any more.
    pub(crate) fn forget_back(&self, note: u64) -> Item {
        self.note(format!("back/{note}"), None)
    }

    pub(crate) fn progress(&self, incarnation: u32, progress: &Progress) -> Item {
        self.note(format!("progress/{incarnation}"), Some(progress.encode().into()))
    }

    pub(crate) fn forget_progress(&self, incarnation: u32) -> Item {
        self.note(format!("progress/{incarnation}"), None)
    }
}

/// A reason that has room beside an event.
pub(crate) fn short(reason: Option<String>) -> Option<String> {
    let mut reason = reason?;
    if reason.len() > LONGEST_REASON {
        reason.truncate(reason.floor_char_boundary(LONGEST_REASON));
    }
    Some(reason)
}

/// What a partition aside says, read from its beginning to its end.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    pub(crate) asides: BTreeMap<u64, Aside>,
    pub(crate) notes: BTreeMap<u64, BTreeSet<u64>>,
    pub(crate) progress: BTreeMap<u32, Progress>,
}

impl Loaded {
    /// Takes the next record of the log.
    pub(crate) fn take(&mut self, message: &BorrowedMessage<'_>) {
        let key = message.key().and_then(|key| std::str::from_utf8(key).ok()).unwrap_or_default();
        let mut parts = key.split('/');
        let (Some(source), Some(kind), Some(number)) = (parts.next(), parts.next(), parts.next()) else { return };
        let (Ok(source), Ok(number)) = (source.parse::<i32>(), number.parse::<u64>()) else { return };
        if source != message.partition() {
            return;
        }
        match (kind, message.payload()) {
            // An event without data has a value without bytes, and the library shows both in one way.
            ("event", _) => match parked(message) {
                Some(aside) => {
                    self.forget(number);
                    self.asides.insert(number, aside);
                }
                None => {
                    self.asides.remove(&number);
                    self.forget(number);
                }
            },
            ("back", Some(value)) if !value.is_empty() => {
                let offsets: BTreeSet<u64> = serde_json::from_slice(value).unwrap_or_default();
                // What was parked again since is younger than the note, and comes later.
                let known: BTreeSet<u64> = offsets.into_iter().filter(|offset| self.take_back(*offset)).collect();
                self.notes.insert(number, known);
            }
            ("back", _) => drop(self.notes.remove(&number)),
            ("progress", value) => {
                let Ok(incarnation) = u32::try_from(number) else { return };
                match value.and_then(Progress::decode) {
                    Some(progress) => drop(self.progress.insert(incarnation, progress)),
                    None => drop(self.progress.remove(&incarnation)),
                }
            }
            _ => {}
        }
    }

    fn take_back(&mut self, offset: u64) -> bool {
        let Some(aside) = self.asides.get_mut(&offset) else { return false };
        aside.back = true;
        true
    }

    fn forget(&mut self, offset: u64) {
        for of in self.notes.values_mut() {
            of.remove(&offset);
        }
    }
}

/// Reads a parked event; nothing when the record says that it is over.
pub(crate) fn parked(message: &BorrowedMessage<'_>) -> Option<Aside> {
    let why: Why = serde_json::from_str(&wire::header(message, PARKED)?).ok()?;
    let mut record = wire::read(message, None, &mut Texts::default());
    record.published = Timestamp(why.published);
    record.malformed = why.malformed.map(Into::into);
    let mode = |class: Option<u32>| class.map_or(Mode::Exclusive, Mode::Shared);
    Some(Aside {
        order: why.order,
        attempts: why.attempts,
        lanes: why.lanes.into_iter().map(|(lane, class)| (Lane(lane), mode(class))).collect(),
        reason: why.reason,
        since: Timestamp(why.since),
        offset: message.offset().unsigned_abs(),
        record: Some(record),
        back: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_names_of_topics_and_differ() {
        assert_eq!(name("billing", "orders"), "billing.orders.aside");
        let (a, b) = (name("a b", "t"), name("a_b", "t"));
        assert!(a != b && a.starts_with("a_b.t-"), "{a} {b}");
        let long = name(&"g".repeat(200), &"t".repeat(200));
        assert_eq!(long.len(), LONGEST_NAME);
        assert_ne!(long, name(&"g".repeat(200), &"t".repeat(199)));
    }
}
