//! Aside: the compacted topic beside the source, with what was parked and with progress that no commit has room for.
//!
//! | Key | Value |
//! |---|---|
//! | `P/event/OFFSET/WRITER/ORDER` | a parked event as it was published, and why and how in the header `commute-parked`; `WRITER` is the incarnation that has parked it |
//! | `P/back/N` | the offsets that one call has taken back: all or none of them |
//! | `P/progress/INCARNATION` | the progress of an incarnation |
//!
//! `P` is the partition of the source; all its records are in the partition of the same number. A record without a value
//! says that the key is over.
//!
//! Every note that an event is parked has a key of its own, so that compaction never lets one that came too late take the place of one
//! that counts. Which ones count, the commit says: see [`crate::progress`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use commute_core::{Lane, Mode, Texts, Timestamp};
use rdkafka::Message;
use rdkafka::message::{BorrowedMessage, Header};
use serde::{Deserialize, Serialize};

use crate::partition::{Aside, Noted};
use crate::progress::{Epoch, Progress, counts};
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
    pub(crate) fn parked(&self, offset: u64, writer: u32, aside: &Aside, record: &Record) -> Item {
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
            key: format!("{partition}/event/{offset}/{writer}/{}", aside.order),
            value: Some(record.envelope.data.clone()),
            headers: Some(wire::headers(&record.envelope).insert(why)),
        }
    }

    /// A note of an event is over.
    pub(crate) fn over(&self, offset: u64, Noted { writer, order }: Noted) -> Item {
        self.note(format!("event/{offset}/{writer}/{order}"), None)
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

/// What a partition aside holds, read from its beginning to its end.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    /// By the event's offset.
    events: BTreeMap<(u64, Noted), Aside>,
    /// With their own offsets.
    backs: BTreeMap<u64, (u64, BTreeSet<u64>)>,
    pub(crate) progress: BTreeMap<u32, Progress>,
}

/// What of it counts.
#[derive(Debug, Default)]
pub(crate) struct Counting {
    pub(crate) asides: BTreeMap<u64, Aside>,
    pub(crate) notes: BTreeMap<u64, BTreeSet<u64>>,
    /// Notes of what was taken back that speak of nothing any more.
    pub(crate) outdated: Vec<u64>,
    /// Notes that came too late, with the event's offset.
    pub(crate) late: Vec<(u64, Noted)>,
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
            ("event", _) => {
                let writer = parts.next().and_then(|writer| writer.parse().ok());
                let order = parts.next().and_then(|order| order.parse().ok());
                let (Some(writer), Some(order)) = (writer, order) else { return };
                let noted = Noted { writer, order };
                match parked(message) {
                    Some(aside) => drop(self.events.insert((number, noted), Aside { noted: vec![noted], ..aside })),
                    None => drop(self.events.remove(&(number, noted))),
                }
            }
            ("back", Some(value)) if !value.is_empty() => {
                let offsets = serde_json::from_slice(value).unwrap_or_default();
                self.backs.insert(number, (message.offset().unsigned_abs(), offsets));
            }
            ("back", _) => drop(self.backs.remove(&number)),
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

    /// The place behind the last event of which a note counts.
    pub(crate) fn behind_last(&self, epochs: &[Epoch]) -> u64 {
        let counting = |((_, noted), aside): &(&(u64, Noted), &Aside)| counts(epochs, aside.offset, noted.writer);
        self.events.iter().rfind(counting).map_or(0, |((last, _), _)| last + 1)
    }

    /// Sorts out what counts.
    pub(crate) fn counting(self, epochs: &[Epoch]) -> Counting {
        let mut counting = Counting::default();
        for ((offset, noted), mut aside) in self.events {
            if !counts(epochs, aside.offset, noted.writer) {
                counting.late.push((offset, noted));
                continue;
            }
            // An event that was taken back and parked again: the last word holds, and all of them are over with it.
            if let Some(mut other) = counting.asides.remove(&offset) {
                if other.offset > aside.offset {
                    std::mem::swap(&mut other, &mut aside);
                }
                aside.noted.append(&mut other.noted);
            }
            counting.asides.insert(offset, aside);
        }
        for (note, (at, mut offsets)) in self.backs {
            offsets.retain(|offset| match counting.asides.get_mut(offset) {
                // What was parked again since is younger than the note.
                Some(aside) if aside.offset < at => {
                    aside.back = true;
                    true
                }
                _ => false,
            });
            match offsets.is_empty() {
                true => counting.outdated.push(note),
                false => drop(counting.notes.insert(note, offsets)),
            }
        }
        counting
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
        noted: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Notes: of which event, by whom, which one of theirs, and where.
    fn loaded(notes: &[(u64, u32, u64, u64)]) -> Loaded {
        let mut loaded = Loaded::default();
        for &(event, writer, order, offset) in notes {
            let noted = Noted { writer, order };
            let aside = Aside {
                order,
                attempts: 1,
                lanes: Vec::new(),
                reason: None,
                since: Timestamp(0),
                offset,
                record: None,
                back: false,
                noted: vec![noted],
            };
            loaded.events.insert((event, noted), aside);
        }
        loaded
    }

    fn noted(writer: u32, order: u64) -> Noted {
        Noted { writer, order }
    }

    #[test]
    fn a_note_that_came_too_late_neither_counts_nor_hides_one_that_does() {
        let loaded = loaded(&[(5, 1, 1, 3), (6, 1, 2, 12), (7, 2, 1, 11), (7, 1, 3, 13)]);
        let Counting { asides, late, .. } = loaded.counting(&[Epoch { from: 10, writer: 2 }]);
        let known: Vec<_> = asides.iter().map(|(event, aside)| (*event, aside.offset, &aside.noted[..])).collect();
        assert_eq!(known, [(5, 3, &[noted(1, 1)][..]), (7, 11, &[noted(2, 1)])]);
        assert_eq!(late, [(6, noted(1, 2)), (7, noted(1, 3))]);
    }

    #[test]
    fn what_was_released_and_parked_again_too_late_stays_released() {
        // One incarnation has parked the event twice; the second time came behind what the next one has read.
        let mut loaded = loaded(&[(5, 1, 1, 3), (5, 1, 2, 12)]);
        loaded.backs.insert(70, (4, [5].into()));
        let Counting { asides, late, .. } = loaded.counting(&[Epoch { from: 10, writer: 2 }]);
        assert!(asides[&5].back && asides[&5].offset == 3);
        assert_eq!(late, [(5, noted(1, 2))]);
    }

    #[test]
    fn the_last_note_of_an_event_says_how_it_is_and_all_of_them_are_known() {
        let mut loaded = loaded(&[(5, 9, 1, 3), (5, 2, 2, 8), (6, 9, 2, 4)]);
        loaded.backs.insert(70, (6, [5, 6, 99].into()));
        loaded.backs.insert(71, (9, [98, 99].into()));
        let Counting { asides, notes, outdated, late } = loaded.counting(&[]);
        let mut known = asides[&5].noted.clone();
        known.sort_unstable();
        assert_eq!((asides[&5].offset, asides[&5].back), (8, false), "parked again since");
        assert_eq!(known, [noted(2, 2), noted(9, 1)]);
        assert!(asides[&6].back && late.is_empty());
        assert_eq!((&notes[&70], &outdated[..]), (&[6].into(), &[71][..]));
    }

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
