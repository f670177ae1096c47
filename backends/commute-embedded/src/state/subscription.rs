//! A subscription in memory: what is done, deferred and parked, and which ids its inbox remembers.

use std::collections::BTreeMap;
use std::sync::Arc;

use commute_core::Timestamp;
use commute_core::watermark::Watermark;
use hashbrown::HashMap;

use super::delivery::Delivering;
use super::ids::Ids;
use super::topic::Stored;
use crate::records::Aside;

/// A durable subscription.
#[derive(Debug)]
pub(crate) struct Subscribed {
    pub(crate) topic: u32,
    pub(crate) group: Arc<str>,
    pub(crate) done: Watermark,
    pub(crate) deferred: HashMap<u64, Deferred>,
    /// In the order of parking.
    pub(crate) parked: BTreeMap<u64, (u64, Aside)>,
    /// From position to the order of parking.
    parked_at: HashMap<u64, u64>,
    parkings: u64,
    pub(crate) inbox: Ids,
    /// Who is being delivered what now. Not in the log.
    pub(crate) delivering: Delivering,
}

/// An event that failed and will be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deferred {
    pub(crate) attempts: u32,
    pub(crate) not_before: Timestamp,
}

impl Subscribed {
    pub(crate) fn new(topic: u32, group: Arc<str>) -> Self {
        Subscribed {
            topic,
            group,
            done: Watermark::new(0),
            deferred: HashMap::new(),
            parked: BTreeMap::new(),
            parked_at: HashMap::new(),
            parkings: 0,
            inbox: Ids::default(),
            delivering: Delivering::default(),
        }
    }

    pub(crate) fn ack(&mut self, position: u64) {
        self.done.done(position);
        self.deferred.remove(&position);
    }

    pub(crate) fn defer(&mut self, position: u64, attempts: u32, not_before: Timestamp) {
        if !self.done.is_done(position) {
            self.deferred.insert(position, Deferred { attempts, not_before });
        }
    }

    pub(crate) fn park(&mut self, position: u64, aside: Aside) {
        if self.done.is_done(position) || self.is_parked(position) {
            return;
        }
        self.deferred.remove(&position);
        self.parkings += 1;
        self.parked.insert(self.parkings, (position, aside));
        self.parked_at.insert(position, self.parkings);
    }

    pub(crate) fn unpark(&mut self, position: u64) {
        if let Some(order) = self.parked_at.remove(&position) {
            self.parked.remove(&order);
        }
    }

    pub(crate) fn is_parked(&self, position: u64) -> bool {
        self.parked_at.contains_key(&position)
    }

    /// Whether the event is over for now: handled, or set aside.
    pub(crate) fn is_out(&self, position: u64) -> bool {
        self.done.is_done(position) || self.is_parked(position)
    }
}

impl Subscribed {
    /// The next position to look at for a receiver, and whether it was put aside for it: what must be delivered again or
    /// has become due, then what is new. Events that are not due are put aside.
    pub(crate) fn next_position(&mut self, topic: &Stored, now: Timestamp, receiver: u32) -> Option<(u64, bool)> {
        let key_of = |position| topic.get(position).and_then(|meta| meta.key);
        if let Some(position) = self.delivering.next_assigned(receiver, key_of) {
            return Some((position, true));
        }
        let delivering = &mut self.delivering;
        while let Some(((time, position), ())) = delivering.later.first_key_value().map(|(key, ())| (*key, ())) {
            if time > now {
                break;
            }
            delivering.later.pop_first();
            delivering.again.insert(position);
        }
        if let Some(position) = delivering.again.pop_first() {
            return Some((position, false));
        }
        delivering.cursor = delivering.cursor.max(topic.first);
        while delivering.cursor < topic.next() {
            let position = delivering.cursor;
            delivering.cursor += 1;
            match topic.not_before.get(&position) {
                Some(time) if *time > now => drop(delivering.later.insert((*time, position), ())),
                _ => return Some((position, false)),
            }
        }
        None
    }
}
