//! A topic in memory: where its events lie, which ids it has seen, and its youngest events themselves.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use commute_core::{Envelope, Timestamp};

use super::ids::Ids;
use crate::journal::Location;
use crate::options::Options;

/// A stored topic.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) name: Arc<str>,
    /// The position of the first of `events`.
    pub(crate) first: u64,
    pub(crate) events: VecDeque<Meta>,
    /// Events that are not to be delivered before a time.
    pub(crate) not_before: BTreeMap<u64, Timestamp>,
    pub(crate) ids: Ids,
    /// The youngest events, so that whoever reads at the tail reads no file.
    tail: VecDeque<Arc<Envelope>>,
    tail_bytes: usize,
}

/// What is known of a stored event without reading it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Meta {
    pub(crate) at: Location,
    pub(crate) published: Timestamp,
    pub(crate) id: [u8; 16],
    /// Of its partition key; events without one have none.
    pub(crate) key: Option<u64>,
}

/// An event, or where to read it.
#[derive(Debug, Clone)]
pub(crate) enum Found {
    Here(Arc<Envelope>),
    There(Location),
}

impl Stored {
    pub(crate) fn new(name: Arc<str>) -> Self {
        Stored {
            name,
            first: 0,
            events: VecDeque::new(),
            not_before: BTreeMap::new(),
            ids: Ids::default(),
            tail: VecDeque::new(),
            tail_bytes: 0,
        }
    }

    /// The position of the next event.
    pub(crate) fn next(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    pub(crate) fn add(
        &mut self,
        position: u64,
        published: Timestamp,
        not_before: Option<Timestamp>,
        envelope: Option<Envelope>,
        at: Location,
        options: &Options,
    ) {
        if self.events.is_empty() {
            // Either the next event, or the first one whose segment is still there.
            self.first = position;
        }
        let Some(envelope) = envelope.filter(|_| position == self.next()) else { return };
        let key = envelope.partition_key().map(key_hash);
        let id = envelope.id.fingerprint();
        self.events.push_back(Meta { at, published, id, key });
        self.not_before.extend(not_before.map(|time| (position, time)));
        self.ids.insert(id, position, published, options.dedup_window);
        self.tail_bytes += envelope.size();
        self.tail.push_back(Arc::new(envelope));
        while self.tail_bytes > options.tail_bytes {
            let Some(oldest) = self.tail.pop_front() else { break };
            self.tail_bytes -= oldest.size();
        }
    }

    /// An event; `None` when it is not retained.
    pub(crate) fn get(&self, position: u64) -> Option<&Meta> {
        self.events.get(usize::try_from(position.checked_sub(self.first)?).ok()?)
    }

    /// An event's payload, or where it is.
    pub(crate) fn find(&self, position: u64) -> Option<Found> {
        let meta = self.get(position)?;
        let tail_first = self.next() - self.tail.len() as u64;
        let here = position.checked_sub(tail_first).and_then(|n| self.tail.get(usize::try_from(n).ok()?));
        Some(here.map_or(Found::There(meta.at), |envelope| Found::Here(envelope.clone())))
    }

    /// Forgets the events of a segment that is being dropped.
    pub(crate) fn forget_segment(&mut self, segment: u64) {
        while self.events.front().is_some_and(|meta| meta.at.segment <= segment) {
            self.events.pop_front();
            self.not_before.remove(&self.first);
            self.first += 1;
        }
        while self.tail.len() > self.events.len() {
            if let Some(oldest) = self.tail.pop_front() {
                self.tail_bytes -= oldest.size();
            }
        }
    }
}

/// Only decides which receiver of a group gets an event, so it need not be the same in another process.
fn key_hash(key: &str) -> u64 {
    key.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
