//! The state of a subscription: what is ready to be received, what is in flight, and where it stands on the connection of now.
//!
//! Positions are given in the order of arrival. When a connection is lost, everything stays: the server delivers again what
//! was not acknowledged, and whatever carries the id of something held is the same delivery with a new tag.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use commute_core::foreign::Read;
use lapin::Channel;

use commute_core::{Change, Delivery, DeliveryTag, Envelope, Error, EventId, Timestamp};

use crate::aside::Aside;

/// So many handled ids are remembered while a subscription runs: copies that a publisher sends again after a lost connection
/// come within this many, and so does what was acknowledged on a connection that was lost before the server heard of it.
const RECENT: usize = 65_536;

/// Positions are so far apart that what comes back finds room between what has arrived.
const SPACE: u64 = 1 << 20;

/// Where a delivery stands on the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the subscription's queue, delivered with this tag on the connection of now; without one while that is lost.
    Queue(Option<u64>),
    /// In the queue beside it.
    Aside,
}

/// A delivery that is ready or in flight.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) envelope: Arc<Envelope>,
    pub(crate) place: Place,
    pub(crate) published: Timestamp,
    pub(crate) malformed: Option<Arc<str>>,
    attempts: u32,
    not_before: Option<Timestamp>,
    in_flight: bool,
}

/// The channels of the connection of now.
#[derive(Debug, Clone)]
pub(crate) struct Channels {
    pub(crate) queue: Channel,
    pub(crate) aside: Channel,
}

/// What becomes of a message that arrived.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It is to be delivered, or it is known and has its new tag now.
    Kept,
    /// It is to be acknowledged: it is handled, parked, or a copy of what is held.
    Over,
}

/// One subscription, behind one lock.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) incarnation: u32,
    next: u64,
    entries: BTreeMap<u64, Entry>,
    by_event: HashMap<EventId, u64>,
    ready: BTreeSet<u64>,
    in_flight: usize,
    credit: usize,
    pub(crate) aside: Aside,
    pub(crate) channels: Option<Channels>,
    /// Delivery tags of the connection of now that are not acknowledged.
    outstanding: BTreeSet<u64>,
    /// Up to this tag every delivery of the connection of now was taken in.
    arrived: u64,
    /// Those behind a gap: several consumers share the channel, and what came first to one may be taken in later.
    beyond: BTreeSet<u64>,
    recent: Recent,
    /// What was in flight again when the last process stopped; it is delivered in its place.
    returning: BTreeSet<(Timestamp, u64)>,
    /// When deliveries were acknowledged one by one last.
    pub(crate) singly: Option<Instant>,
    /// The queue has delivered what came back.
    caught_up: bool,
    pub(crate) changes: VecDeque<Change>,
    pub(crate) absorbed: u64,
    pub(crate) closed: bool,
    pub(crate) failure: Option<Arc<Error>>,
}

impl State {
    pub(crate) fn new(incarnation: u32, credit: usize) -> Self {
        State {
            incarnation,
            next: 0,
            entries: BTreeMap::new(),
            by_event: HashMap::new(),
            ready: BTreeSet::new(),
            in_flight: 0,
            credit,
            aside: Aside::default(),
            channels: None,
            outstanding: BTreeSet::new(),
            arrived: 0,
            beyond: BTreeSet::new(),
            recent: Recent::default(),
            returning: BTreeSet::new(),
            singly: None,
            caught_up: false,
            changes: VecDeque::new(),
            absorbed: 0,
            closed: false,
            failure: None,
        }
    }

    /// Another instance has been active: what we hold is no longer ours, and everything begins anew.
    pub(crate) fn begin_anew(&mut self) {
        self.changes.push_back(Change::Revoked(self.incarnation));
        let fresh = State::new(self.incarnation.wrapping_add(1), self.credit);
        let (changes, absorbed) = (std::mem::take(&mut self.changes), self.absorbed);
        let closed = self.closed;
        *self = State { changes, absorbed, closed, ..fresh };
    }

    /// The notes were read: what they say is in force.
    pub(crate) fn recalled(&mut self) {
        self.next = self.aside.renumber(SPACE);
        self.changes.push_back(Change::Assigned(self.incarnation));
        let back: Vec<_> = self.aside.unparked().cloned().collect();
        for parked in back {
            self.returning.insert((parked.published, parked.position));
            let deferred = self.aside.deferral(&parked.envelope.id);
            self.by_event.insert(parked.envelope.id.clone(), parked.position);
            self.entries.insert(
                parked.position,
                Entry {
                    envelope: parked.envelope.into(),
                    place: Place::Aside,
                    published: parked.published,
                    malformed: parked.malformed.map(Into::into),
                    attempts: deferred.map_or(0, |(attempts, _)| attempts),
                    not_before: deferred.map(|(_, not_before)| not_before),
                    in_flight: false,
                },
            );
        }
    }

    /// What was in flight again is ready as soon as something arrives that was sent later, or when the queue has nothing more
    /// to deliver: then everything that stood before it is here.
    ///
    /// The queue does not say where in it an event once stood, but every message says when it was sent. That is the queue's
    /// order for events of one publisher; publishers that sent at the same time have no order between them.
    pub(crate) fn bring_back(&mut self, arriving: Option<Timestamp>) {
        self.caught_up |= arriving.is_none();
        while let Some((sent, old)) = self.returning.first().copied() {
            if arriving.is_some_and(|arriving| arriving < sent) {
                return;
            }
            self.returning.remove(&(sent, old));
            let Some(entry) = self.entries.remove(&old) else { continue };
            let position = self.place_of(sent);
            self.by_event.insert(entry.envelope.id.clone(), position);
            self.entries.insert(position, entry);
            self.ready.insert(position);
        }
    }

    /// A free position behind everything that was sent earlier.
    fn place_of(&mut self, sent: Timestamp) -> u64 {
        let earlier = self.entries.iter().rev().find(|(_, entry)| entry.published <= sent);
        let below = earlier.map_or(0, |(position, _)| position + 1);
        let Some((above, _)) = self.entries.range(below..).next() else { return self.next_position() };
        // Those that follow it stand behind it, and need room, too.
        let followers = self.returning.len() as u64 + 2;
        let mut position = below + above.saturating_sub(below) / followers;
        while self.entries.contains_key(&position) || self.aside.parked_at(position).is_some() {
            position += 1;
        }
        position
    }

    /// A position behind everything.
    fn next_position(&mut self) -> u64 {
        let last = self.entries.last_key_value().map_or(0, |(position, _)| position + 1);
        let position = self.next.max(last);
        self.next = position + SPACE;
        position
    }

    /// A message arrived with a tag of the connection of now.
    pub(crate) fn arrive(&mut self, tag: u64, read: Read, published: Timestamp) -> Arrival {
        let event = &read.envelope.id;
        self.outstanding.insert(tag);
        self.beyond.insert(tag);
        while self.beyond.remove(&(self.arrived + 1)) {
            self.arrived += 1;
        }
        if let Some(entry) = self.by_event.get(event).and_then(|position| self.entries.get_mut(position)) {
            if entry.place == Place::Queue(None) {
                entry.place = Place::Queue(Some(tag));
                return Arrival::Kept;
            }
            // A copy. The first one is not acknowledged yet, so nothing is lost with this one.
            self.absorbed += 1;
            return Arrival::Over;
        }
        if self.aside.holds(event) || self.recent.contains(event) {
            self.absorbed += 1;
            return Arrival::Over;
        }
        self.bring_back(Some(published));
        let position = self.next_position();
        let deferred = self.aside.deferral(&read.envelope.id);
        self.by_event.insert(read.envelope.id.clone(), position);
        self.ready.insert(position);
        let entry = Entry {
            envelope: read.envelope.into(),
            place: Place::Queue(Some(tag)),
            published,
            malformed: read.malformed,
            attempts: deferred.map_or(0, |(attempts, _)| attempts),
            not_before: deferred.map(|(_, not_before)| not_before),
            in_flight: false,
        };
        self.entries.insert(position, entry);
        Arrival::Kept
    }

    /// Up to `max` deliveries, as far as the credit allows.
    pub(crate) fn take(&mut self, max: usize) -> Vec<Delivery> {
        let room = max.min(self.credit.saturating_sub(self.in_flight));
        let mut taken = Vec::with_capacity(room.min(self.ready.len()));
        while taken.len() < room {
            let Some(position) = self.ready.first().copied() else { break };
            let Some(entry) = self.entries.get_mut(&position) else {
                self.ready.remove(&position);
                continue;
            };
            // Something that stood before it has not come back yet.
            if self.returning.first().is_some_and(|(sent, _)| *sent < entry.published) {
                break;
            }
            self.ready.remove(&position);
            entry.in_flight = true;
            self.in_flight += 1;
            taken.push(entry.delivery(DeliveryTag { position, incarnation: self.incarnation }));
        }
        taken
    }

    /// What a tag names, while it is in flight.
    pub(crate) fn held(&self, tag: DeliveryTag) -> Option<&Entry> {
        let entry = self.entries.get(&tag.position).filter(|entry| entry.in_flight)?;
        (tag.incarnation == self.incarnation).then_some(entry)
    }

    /// Takes a settled delivery out. Answers the tag to acknowledge it with.
    pub(crate) fn settle(&mut self, position: u64) -> Option<u64> {
        let entry = self.entries.remove(&position)?;
        self.in_flight -= usize::from(entry.in_flight);
        self.ready.remove(&position);
        self.by_event.remove(&entry.envelope.id);
        self.recent.insert(&entry.envelope.id);
        match entry.place {
            Place::Queue(tag) => tag,
            Place::Aside => None,
        }
    }

    /// An event that was parked is in flight again, in the hands of the caller.
    pub(crate) fn unparked(
        &mut self,
        position: u64,
        envelope: Arc<Envelope>,
        published: Timestamp,
        malformed: Option<String>,
    ) {
        self.recent.remove(&envelope.id);
        self.by_event.insert(envelope.id.clone(), position);
        self.in_flight += 1;
        let malformed = malformed.map(Into::into);
        let entry = Entry {
            envelope,
            place: Place::Aside,
            published,
            malformed,
            attempts: 0,
            not_before: None,
            in_flight: true,
        };
        self.entries.insert(position, entry);
    }

    /// A delivery is ready again, in its place; no attempt is counted.
    pub(crate) fn give_back(&mut self, position: u64) {
        if let Some(entry) = self.entries.get_mut(&position).filter(|entry| entry.in_flight) {
            entry.in_flight = false;
            self.in_flight -= 1;
            match entry.place {
                // What stands before it in the queue may not have come back yet.
                Place::Aside => {
                    self.returning.insert((entry.published, position));
                    if self.caught_up {
                        self.bring_back(None);
                    }
                }
                Place::Queue(_) => drop(self.ready.insert(position)),
            }
        }
    }

    /// Remembers attempts and time in case it is given back.
    pub(crate) fn defer(&mut self, position: u64, attempts: u32, not_before: Timestamp) {
        if let Some(entry) = self.entries.get_mut(&position) {
            (entry.attempts, entry.not_before) = (attempts, Some(not_before));
        }
    }

    /// The connection is gone, and every tag with it.
    pub(crate) fn disconnected(&mut self) {
        self.channels = None;
        self.outstanding.clear();
        self.arrived = 0;
        self.beyond.clear();
        self.aside.disconnected();
        for entry in self.entries.values_mut() {
            if let Place::Queue(tag) = &mut entry.place {
                *tag = None;
            }
        }
    }

    /// Whether an event is ready or in flight.
    pub(crate) fn holds(&self, event: &EventId) -> bool {
        self.by_event.contains_key(event)
    }

    /// How many are ready and not received.
    pub(crate) fn ready(&self) -> u64 {
        (self.ready.len() + self.returning.len()) as u64
    }

    /// Cuts tags into as few acknowledgements as possible: a tag up to which all are over, and single ones.
    pub(crate) fn acknowledge(&mut self, tags: &[u64]) -> (Option<u64>, Vec<u64>) {
        let mut over: BTreeSet<u64> = tags.iter().copied().filter(|tag| self.outstanding.remove(tag)).collect();
        // Nothing that was not taken in yet may be among them.
        let first = self.outstanding.first().copied().unwrap_or(u64::MAX).min(self.arrived + 1);
        let single = over.split_off(&first);
        if !single.is_empty() {
            self.singly = Some(Instant::now());
        }
        (over.last().copied(), single.into_iter().collect())
    }
}

impl Entry {
    fn delivery(&self, tag: DeliveryTag) -> Delivery {
        Delivery {
            envelope: self.envelope.clone(),
            tag,
            attempt: self.attempts.saturating_add(1),
            not_before: self.not_before,
            published: self.published,
            malformed: self.malformed.clone(),
        }
    }
}

/// The ids that were handled lately.
#[derive(Debug, Default)]
struct Recent {
    ids: HashSet<[u8; 16]>,
    order: VecDeque<[u8; 16]>,
}

impl Recent {
    fn insert(&mut self, event: &EventId) {
        let id = event.fingerprint();
        if self.ids.insert(id) {
            self.order.push_back(id);
        }
        if self.order.len() > RECENT
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }

    fn remove(&mut self, event: &EventId) {
        // Its place in the order stays; forgetting it a second time does nothing.
        self.ids.remove(&event.fingerprint());
    }

    fn contains(&self, event: &EventId) -> bool {
        self.ids.contains(&event.fingerprint())
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
