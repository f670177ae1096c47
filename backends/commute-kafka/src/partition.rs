//! One partition that is ours: what was fetched, what is in somebody's hands, what is settled, and what is aside.
//!
//! Pure state: nothing here asks a server or the clock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use commute_core::{Delivery, DeliveryTag, Envelope, Lane, Mode, Parked, Timestamp};

use crate::progress::{Deferred, Progress};
use crate::window::Window;
use crate::wire::Record;

/// Where an offset stands among all partitions.
const OFFSET_BITS: u32 = 48;

/// A position: the partition above, the offset below.
pub(crate) fn position(partition: i32, offset: i64) -> u64 {
    let partition = u64::from(partition.unsigned_abs()) << OFFSET_BITS;
    partition | (offset.unsigned_abs() & ((1 << OFFSET_BITS) - 1))
}

/// Partition and offset of a position.
pub(crate) fn place(position: u64) -> (i32, u64) {
    ((position >> OFFSET_BITS) as i32, position & ((1 << OFFSET_BITS) - 1))
}

/// Whether deliveries and settlements are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Both.
    Ours,
    /// Another instance waits for it: what is in somebody's hands may still be settled.
    Leaving,
    /// Neither.
    Fenced,
}

/// An event in somebody's hands.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    /// It takes credit.
    pub(crate) counted: bool,
    /// Nothing when there was no room to keep it.
    pub(crate) record: Option<Record>,
    /// There is, or may be, a record of it aside.
    pub(crate) aside: bool,
}

/// A note that an event is parked: by which incarnation, and which of its notes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Noted {
    pub(crate) writer: u32,
    pub(crate) order: u64,
}

/// An event that was set aside, and is not settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Aside {
    /// Parking happened in this order.
    pub(crate) order: u64,
    pub(crate) attempts: u32,
    pub(crate) lanes: Vec<(Lane, Mode)>,
    pub(crate) reason: Option<String>,
    pub(crate) since: Timestamp,
    /// Its offset in the topic beside the source.
    pub(crate) offset: u64,
    /// Nothing when there was no room to keep it.
    pub(crate) record: Option<Record>,
    /// It was taken back.
    pub(crate) back: bool,
    /// All notes of it.
    pub(crate) noted: Vec<Noted>,
}

/// A partition that is ours.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) number: i32,
    pub(crate) incarnation: u32,
    pub(crate) phase: Phase,
    pub(crate) progress: Progress,
    /// The next offset that comes from the log.
    pub(crate) fetched: u64,
    /// The log has been read to its end once.
    caught_up: bool,
    /// With what is handed over.
    buffer: VecDeque<(u64, Record, Arc<Envelope>)>,
    /// Given back, or taken back from aside by the process before: they go first, in their place.
    again: BTreeMap<u64, Record>,
    pub(crate) held: Window<Held>,
    pub(crate) aside: BTreeMap<u64, Aside>,
    /// Parking them was begun and not heard to have succeeded: these notes of them may be aside.
    maybe_aside: BTreeMap<u64, Vec<u64>>,
    /// Notes that say what was taken back, and of what each still speaks.
    pub(crate) notes: BTreeMap<u64, BTreeSet<u64>>,
    /// Grows with every change that a commit has to keep.
    pub(crate) version: u64,
    pub(crate) committed: u64,
    /// Records aside with the progress of earlier incarnations, to be removed.
    pub(crate) outlived: Vec<u32>,
    /// Notes that came too late, to be removed.
    pub(crate) late: Vec<(u64, Noted)>,
    /// Notes of what was taken back that speak of nothing any more, to be removed when this version is committed.
    pub(crate) outdated: Vec<(u64, u64)>,
}

impl Partition {
    pub(crate) fn new(number: i32, incarnation: u32, mut progress: Progress, asides: BTreeMap<u64, Aside>) -> Self {
        let mut again = BTreeMap::new();
        for (offset, aside) in &asides {
            // The record aside may be younger than the commit.
            progress.settled.done(*offset);
            if let (true, Some(record)) = (aside.back, &aside.record) {
                again.insert(*offset, record.clone());
            }
        }
        let Progress { settled, deferred, .. } = &mut progress;
        deferred.retain(|offset, _| !settled.is_done(*offset) || again.contains_key(offset));
        let fetched = progress.settled.low();
        Partition {
            number,
            incarnation,
            phase: Phase::Ours,
            progress,
            fetched,
            caught_up: false,
            buffer: VecDeque::new(),
            again,
            held: Window::new(),
            aside: asides,
            maybe_aside: BTreeMap::new(),
            notes: BTreeMap::new(),
            version: 0,
            committed: 0,
            outlived: Vec::new(),
            late: Vec::new(),
            outdated: Vec::new(),
        }
    }

    pub(crate) fn tag(&self, offset: u64) -> DeliveryTag {
        DeliveryTag { position: position(self.number, offset as i64), incarnation: self.incarnation }
    }

    /// Whether a record of the log is to be delivered.
    pub(crate) fn wants(&self, offset: u64) -> bool {
        offset >= self.fetched && self.phase == Phase::Ours && !self.progress.settled.is_done(offset)
    }

    /// Takes a record of the log, or notes that it came and is not wanted; answers its size when it is to be delivered.
    pub(crate) fn fetch(&mut self, offset: u64, record: Option<Record>) -> Option<usize> {
        if offset < self.fetched || self.phase != Phase::Ours {
            return None;
        }
        // What the log skips is no event: marks of transactions, or what was compacted or deleted.
        for skipped in self.fetched.max(self.progress.settled.low())..offset {
            if self.progress.settled.done(skipped) {
                self.version += 1;
            }
        }
        self.fetched = offset + 1;
        let record = record?;
        let size = record.size;
        // While it is in this thread's cache; who takes it must not wait for it.
        let envelope = record.envelope.clone();
        self.buffer.push_back((offset, record, envelope));
        Some(size)
    }

    /// The log ends here for now.
    pub(crate) fn reach_end(&mut self) {
        self.caught_up = true;
    }

    /// What waits to be handed over.
    pub(crate) fn buffered(&self) -> impl Iterator<Item = &Record> {
        self.buffer.iter().map(|(_, record, _)| record)
    }

    pub(crate) fn has_next(&self) -> bool {
        self.phase == Phase::Ours && (!self.buffer.is_empty() || self.next_again().is_some())
    }

    /// The first one to hand over again. Those that were taken back before a restart wait until the log has come to their
    /// place.
    fn next_again(&self) -> Option<u64> {
        let (offset, _) = self.again.first_key_value()?;
        (*offset < self.fetched || self.caught_up).then_some(*offset)
    }

    /// Hands over the next one; its size when it came from the buffer.
    pub(crate) fn take(&mut self, keep: impl FnOnce(&Record) -> bool) -> Option<(Delivery, Option<usize>)> {
        if self.phase != Phase::Ours {
            return None;
        }
        let again = self.next_again();
        let first = self.buffer.front().map(|(offset, ..)| *offset);
        let from_buffer = match (again, first) {
            (None, None) => return None,
            (Some(again), Some(first)) => first < again,
            (again, _) => again.is_none(),
        };
        let (offset, record, envelope) = if from_buffer {
            self.buffer.pop_front()?
        } else {
            let (offset, record) = self.again.pop_first()?;
            let envelope = record.envelope.clone();
            (offset, record, envelope)
        };
        let deferred = self.progress.deferred.get(&offset);
        let delivery = Delivery {
            envelope,
            tag: self.tag(offset),
            attempt: deferred.map_or(1, |deferred| deferred.attempts.saturating_add(1)),
            not_before: deferred.map(|deferred| deferred.not_before),
            published: record.published,
            malformed: record.malformed.clone(),
        };
        let size = record.size;
        let kept = keep(&record).then_some(record);
        let aside = self.aside.contains_key(&offset) || self.maybe_aside.contains_key(&offset);
        self.held.insert(offset, Held { counted: true, record: kept, aside });
        Some((delivery, from_buffer.then_some(size)))
    }

    /// Whether a tag is of this incarnation, and may be settled.
    pub(crate) fn knows(&self, tag: DeliveryTag) -> bool {
        self.incarnation == tag.incarnation && self.phase != Phase::Fenced
    }

    /// What a tag speaks of, if that is in somebody's hands.
    pub(crate) fn holds(&self, tag: DeliveryTag) -> Option<&Held> {
        self.held.get(place(tag.position).1).filter(|_| self.knows(tag))
    }

    /// Whether there is, or may be, anything aside.
    pub(crate) fn has_aside(&self) -> bool {
        !self.aside.is_empty() || !self.maybe_aside.is_empty()
    }

    /// Handled.
    pub(crate) fn ack(&mut self, offset: u64) -> Option<Held> {
        let held = self.held.remove(offset)?;
        self.progress.settled.done(offset);
        self.progress.deferred.remove(&offset);
        self.aside.remove(&offset);
        self.maybe_aside.remove(&offset);
        self.version += 1;
        Some(held)
    }

    /// A record that says that it is parked is on its way aside; answers whether it is in somebody's hands.
    pub(crate) fn begin_parking(&mut self, offset: u64, order: u64) -> bool {
        let Some(held) = self.held.get_mut(offset) else { return false };
        held.aside = true;
        self.maybe_aside.entry(offset).or_default().push(order);
        true
    }

    /// Failed, and stays in flight.
    pub(crate) fn defer(&mut self, offset: u64, deferred: Deferred) {
        self.progress.deferred.insert(offset, deferred);
        self.version += 1;
    }

    /// Set aside.
    pub(crate) fn park(&mut self, offset: u64, mut aside: Aside) -> Option<Held> {
        // Whatever was noted of it before is over when this is.
        aside.noted = self.noted(offset);
        self.progress.relies = self.progress.relies.max(aside.offset + 1);
        let held = self.ack(offset)?;
        self.aside.insert(offset, aside);
        Some(held)
    }

    /// The notes of an event that are, or may be, aside.
    pub(crate) fn noted(&self, offset: u64) -> Vec<Noted> {
        let known = self.aside.get(&offset).into_iter().flat_map(|aside| aside.noted.iter().copied());
        let maybe = self.maybe_aside.get(&offset).into_iter().flatten();
        known.chain(maybe.map(|order| Noted { writer: self.incarnation, order: *order })).collect()
    }

    /// Given back.
    pub(crate) fn give_back(&mut self, offset: u64, record: Record) -> Option<Held> {
        let held = self.held.remove(offset)?;
        self.again.insert(offset, record);
        Some(held)
    }

    /// Taken back from aside.
    pub(crate) fn unpark(&mut self, offset: u64, record: &Record, kept: bool) -> Option<Delivery> {
        let aside = self.aside.get_mut(&offset)?;
        aside.back = true;
        let record_kept = kept.then(|| record.clone());
        self.held.insert(offset, Held { counted: false, record: record_kept, aside: true });
        Some(Delivery {
            envelope: record.envelope.clone(),
            tag: self.tag(offset),
            attempt: 1,
            not_before: None,
            published: record.published,
            malformed: record.malformed.clone(),
        })
    }

    /// Looks for notes that speak of nothing any more, now that an event is settled.
    pub(crate) fn outdate_notes(&mut self, offset: u64) {
        let Partition { notes, outdated, version, .. } = self;
        notes.retain(|note, of| {
            if of.remove(&offset) && of.is_empty() {
                outdated.push((*note, *version));
            }
            !of.is_empty()
        });
    }

    /// Everything aside that was not taken back, with its place in the order.
    pub(crate) fn parked(&self) -> impl Iterator<Item = (u64, Parked)> {
        self.aside.iter().filter(|(_, aside)| !aside.back).map(|(offset, aside)| {
            let parked = Parked {
                tag: self.tag(*offset),
                attempts: aside.attempts,
                lanes: aside.lanes.clone(),
                reason: aside.reason.clone(),
                since: aside.since,
            };
            (aside.order, parked)
        })
    }

    /// How many were not handed over, when the log ends at `end`.
    pub(crate) fn backlog(&self, end: u64) -> u64 {
        let settled = &self.progress.settled;
        let in_hands = self.held.iter().filter(|(offset, _)| !settled.is_done(*offset)).count() as u64;
        let back = self.again.keys().filter(|offset| settled.is_done(**offset)).count() as u64;
        let open = end.max(self.fetched).saturating_sub(settled.low()).saturating_sub(settled.done_beyond());
        open.saturating_sub(in_hands) + back
    }

    /// Whether a commit is due.
    pub(crate) fn is_dirty(&self) -> bool {
        self.version > self.committed
    }

    /// Nothing more is delivered.
    pub(crate) fn stop_delivering(&mut self, phase: Phase) {
        self.phase = phase;
        self.buffer.clear();
        self.again.clear();
    }
}

#[cfg(test)]
#[path = "partition_tests.rs"]
mod tests;
