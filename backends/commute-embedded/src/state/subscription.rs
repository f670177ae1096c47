//! A subscription in memory: what is done, deferred and parked, and which ids its inbox remembers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use commute_core::Timestamp;
use commute_core::watermark::Watermark;
use hashbrown::HashMap;
use tokio::sync::Notify;

use super::delivery::Delivering;
use super::ids::Ids;
use super::topic::Stored;
use crate::records::Aside;

/// A durable subscription.
#[derive(Debug)]
pub(crate) struct Subscribed {
    pub(crate) topic: u32,
    pub(crate) group: Arc<str>,
    /// How often it was opened.
    pub(crate) incarnation: u32,
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
    /// There may be something to receive.
    pub(crate) changed: Arc<Notify>,
    /// Held by the receiver that looks for events.
    pub(crate) looking: Arc<tokio::sync::Mutex<()>>,
}

/// An event that failed and will be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deferred {
    pub(crate) attempts: u32,
    pub(crate) not_before: Timestamp,
}

impl Subscribed {
    pub(crate) fn new(topic: u32, group: Arc<str>, done: Watermark) -> Self {
        Subscribed {
            topic,
            group,
            incarnation: 0,
            delivering: Delivering::new(done.low()),
            done,
            deferred: HashMap::new(),
            parked: BTreeMap::new(),
            parked_at: HashMap::new(),
            parkings: 0,
            inbox: Ids::default(),
            changed: Arc::default(),
            looking: Arc::default(),
        }
    }

    pub(crate) fn ack(&mut self, position: u64) {
        self.done.done(position);
        self.deferred.remove(&position);
    }

    pub(crate) fn defer(&mut self, position: u64, attempts: u32, not_before: Timestamp) {
        self.deferred.insert(position, Deferred { attempts, not_before });
    }

    pub(crate) fn park(&mut self, position: u64, aside: Aside) {
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

    /// Everything from a position on is to be handled once more. Nobody has anything in hand any more.
    pub(crate) fn replay(&mut self, position: u64) {
        self.done.reopen(position);
        self.deferred.retain(|deferred, _| *deferred < position);
        self.parked.retain(|_, (parked, _)| *parked < position);
        self.parked_at.retain(|parked, _| *parked < position);
        self.inbox.forget_from(position);
        self.delivering.begin_again(self.done.low());
    }

    /// Parked positions from one on, lowest first, at most so many.
    pub(crate) fn parked_from(&self, first: u64, max: usize) -> Vec<(u64, &Aside)> {
        let mut found: Vec<_> = self.parked_at.iter().filter(|(position, _)| **position >= first).collect();
        if found.len() > max {
            found.select_nth_unstable(max);
            found.truncate(max);
        }
        found.sort_unstable();
        let aside = |(position, order): (&u64, &u64)| Some((*position, &self.parked.get(order)?.1));
        found.into_iter().filter_map(aside).collect()
    }

    pub(crate) fn is_parked(&self, position: u64) -> bool {
        self.parked_at.contains_key(&position)
    }

    /// Whether an event is neither handled, nor set aside, nor in somebody's hands: one that was taken back is, without
    /// having been received.
    fn is_open(&self, position: u64) -> bool {
        !self.done.is_done(position) && !self.is_parked(position) && !self.delivering.is_held(position)
    }

    /// The next position to look at for a receiver, and whether it was put aside for it: what must be delivered again or
    /// has become due, then what is new. New events that are not due are put aside.
    pub(crate) fn next_position(&mut self, topic: &Stored, now: Timestamp, receiver: u32) -> Option<(u64, bool)> {
        self.delivering.wake_due(now);
        while let Some((position, assigned)) = self.delivering.pop(receiver) {
            // What the cursor has not reached yet (it was parked, taken back and returned) is met by it, in its place.
            if position < self.delivering.cursor && self.is_open(position) {
                return Some((position, assigned));
            }
        }
        self.delivering.cursor = self.delivering.cursor.max(topic.first);
        while self.delivering.cursor < topic.next {
            let position = self.delivering.cursor;
            self.delivering.cursor += 1;
            match topic.not_before.get(&position) {
                _ if !self.is_open(position) => {}
                Some(time) if *time > now => drop(self.delivering.later.insert((*time, position), ())),
                _ => return Some((position, false)),
            }
        }
        None
    }

    /// How long until something that is not due becomes due.
    pub(crate) fn due_in(&self, now: Timestamp) -> Option<Duration> {
        self.delivering.later.first_key_value().map(|((time, _), ())| time.since(now))
    }

    /// How many events are stored and in nobody's hands.
    pub(crate) fn backlog(&self, topic: &Stored) -> u64 {
        let open = topic.next - self.done.low().clamp(topic.first, topic.next);
        let elsewhere = self.done.done_beyond() + (self.parked.len() + self.delivering.held()) as u64;
        open.saturating_sub(elsewhere)
    }
}
