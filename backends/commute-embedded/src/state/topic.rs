//! A topic in memory: where its events lie, which ids it has seen, and its youngest events themselves.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use commute_core::Timestamp;

use super::ids::{Ids, Seen, Window};
use crate::journal::Place;
use crate::journal::reader::Wanted;
use crate::records::Event;

/// An event is found by reading on from an indexed one. At most so many of the topic's events lie between …
const SPARSE_EVENTS: u64 = 64;
/// … and at most so many bytes of anything.
const SPARSE_BYTES: u64 = 64 << 10;

/// A stored topic.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) name: Arc<str>,
    /// The position of the oldest event that is retained.
    pub(crate) first: u64,
    /// The position of the next event.
    pub(crate) next: u64,
    /// When the youngest event was published.
    pub(crate) youngest: Option<Timestamp>,
    /// Every so often, where an event lies; always for the first of a segment.
    pub(crate) places: VecDeque<Indexed>,
    /// Events that are not to be delivered before a time.
    pub(crate) not_before: BTreeMap<u64, Timestamp>,
    pub(crate) ids: Ids,
    /// The youngest events, so that whoever reads at the tail reads no file.
    tail: VecDeque<Arc<Event>>,
}

/// Where an event lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Indexed {
    pub(crate) position: u64,
    pub(crate) place: Place,
}

impl Stored {
    pub(crate) fn new(name: Arc<str>) -> Self {
        Stored {
            name,
            first: 0,
            next: 0,
            youngest: None,
            places: VecDeque::new(),
            not_before: BTreeMap::new(),
            ids: Ids::default(),
            tail: VecDeque::new(),
        }
    }

    /// Adds an event. Answers whether it was the next.
    pub(crate) fn add(&mut self, event: Arc<Event>, place: Place, window: Window) -> bool {
        let Event { position, published, not_before, id, .. } = *event;
        if !self.index(position, published, not_before, place) {
            return false;
        }
        self.ids.insert(id, Seen { at: published, position }, window);
        self.tail.push_back(event);
        true
    }

    /// Adds where an event lies, and when it was published. Answers whether it was the next.
    pub(crate) fn index(
        &mut self,
        position: u64,
        published: Timestamp,
        not_before: Option<Timestamp>,
        place: Place,
    ) -> bool {
        if position != self.next {
            return false;
        }
        self.next += 1;
        let near = self.places.back().is_some_and(|last| {
            last.place.segment == place.segment
                && position - last.position < SPARSE_EVENTS
                && place.offset - last.place.offset < SPARSE_BYTES
        });
        if !near {
            self.places.push_back(Indexed { position, place });
        }
        self.not_before.extend(not_before.map(|time| (position, time)));
        self.youngest = Some(published);
        true
    }

    /// Lets go of the oldest event in memory; answers its size.
    pub(crate) fn shorten_tail(&mut self) -> Option<usize> {
        self.tail.pop_front().map(|event| event.envelope.size())
    }

    /// An event that is in memory.
    pub(crate) fn in_tail(&self, position: u64) -> Option<&Arc<Event>> {
        let first = self.tail.front()?.position;
        self.tail.get(usize::try_from(position.checked_sub(first)?).ok()?)
    }

    /// Where to look for an event; `None` when it is not retained.
    pub(crate) fn wanted(&self, position: u64) -> Option<Wanted> {
        if !(self.first..self.next).contains(&position) {
            return None;
        }
        let behind = self.places.partition_point(|indexed| indexed.position <= position);
        let from = self.places.get(behind.checked_sub(1)?)?.place;
        Some(Wanted { position, from })
    }

    /// The position of the first event behind a segment.
    pub(crate) fn first_behind(&self, segment: u32) -> u64 {
        let n = self.places.partition_point(|indexed| indexed.place.segment <= segment);
        self.places.get(n).map_or(self.next, |indexed| indexed.position)
    }

    /// Forgets the events of a segment and of those before it.
    pub(crate) fn forget_segment(&mut self, segment: u32) {
        self.first = self.first_behind(segment);
        while self.places.front().is_some_and(|indexed| indexed.place.segment <= segment) {
            self.places.pop_front();
        }
        self.not_before = self.not_before.split_off(&self.first);
    }

    /// Forgets delays that are over.
    pub(crate) fn forget_delays(&mut self, now: Timestamp) {
        self.not_before.retain(|_, time| *time > now);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use commute_core::Envelope;

    use super::*;

    const WINDOW: Window = Window { time: Duration::from_secs(1), count: 10 };

    fn add(topic: &mut Stored, position: u64, segment: u32, offset: u64) -> bool {
        let envelope = Envelope::new("s", "t", Timestamp(0), Bytes::new());
        let id = envelope.id.fingerprint();
        let event =
            Event { topic: 0, position, published: Timestamp(0), not_before: None, envelope: envelope.into(), id };
        topic.add(Arc::new(event), Place { segment, offset }, WINDOW)
    }

    #[test]
    fn the_first_event_of_a_segment_is_indexed_and_others_every_so_often() {
        let mut topic = Stored::new("t".into());
        for position in 0..200 {
            assert!(add(&mut topic, position, 1 + u32::from(position >= 100), 32 + position));
        }
        assert!(add(&mut topic, 200, 2, 1 << 20));
        assert!(!add(&mut topic, 202, 2, 2 << 20), "no position is left out");
        let indexed: Vec<_> = topic.places.iter().map(|indexed| indexed.position).collect();
        assert_eq!(indexed, [0, 64, 100, 164, 200]);
        assert_eq!(topic.wanted(99).unwrap().from, Place { segment: 1, offset: 96 });
        assert_eq!(topic.wanted(100).unwrap().from.segment, 2);
        assert!(topic.wanted(201).is_none());
    }

    #[test]
    fn a_segment_is_forgotten_with_its_events() {
        let mut topic = Stored::new("t".into());
        for position in 0..100 {
            add(&mut topic, position, 1 + u32::from(position >= 70), 32 + position);
        }
        topic.forget_segment(1);
        assert_eq!((topic.first, topic.next), (70, 100));
        assert!(topic.wanted(69).is_none() && topic.wanted(70).is_some());
        topic.forget_segment(2);
        assert_eq!((topic.first, topic.next), (100, 100));
    }
}
