//! The log: opens a storage, appends groups to it, and lets go of what is no longer needed. Blocking; owned by the writer.

use std::sync::{Arc, RwLock};

use commute_core::{Code, Error, Result, Timestamp};

use crate::error::failed;
use crate::journal::Location;
use crate::journal::group::{GroupWriter, HEADER as GROUP_HEADER};
use crate::journal::recovery::{Recovered, find, recover};
use crate::journal::segment::{HEADER, Segment, name};
use crate::options::Options;
use crate::records::Record;
use crate::state::{State, snapshot};
use crate::storage::{Storage, read_all};

/// The segments that readers may need, oldest first.
pub(crate) type Segments = Arc<RwLock<Vec<Arc<Segment>>>>;

pub(crate) struct Log {
    storage: Arc<dyn Storage>,
    segments: Segments,
    active: Arc<Segment>,
    end: u64,
    next: u64,
    group: GroupWriter,
}

impl Log {
    /// Reads back what is there and creates what is not.
    ///
    /// # Errors
    /// `Damaged`, `UnknownFormat`, or the disk's.
    pub(crate) fn open(storage: Arc<dyn Storage>, options: &Options) -> Result<(Log, State)> {
        let (mut state, includes) = load_snapshot(&*storage, options)?;
        let mut oldest = None;
        let Recovered { mut segments, mut end, next } = recover(&*storage, |sequence, record, at| {
            oldest.get_or_insert(sequence);
            // What the snapshot includes is in the state already; only the places of events are not.
            if sequence > includes {
                state.apply(record, at, options);
            } else if let Record::Event { .. } = record {
                state.apply(record, at, options);
            }
        })?;
        let first = segments.first().map_or(1, |segment| segment.first);
        if first > includes + 1 {
            let detail = format!("groups {} to {} are missing: a segment is gone", includes + 1, first - 1);
            return Err(Error::new(Code::Damaged, detail));
        }
        if segments.is_empty() {
            let created = Segment::create(&*storage, next.max(includes + 1));
            segments.push(created.map_err(|cause| failed("cannot create the first segment", cause))?);
            end = HEADER as u64;
        }
        let segments: Vec<_> = segments.into_iter().map(Arc::new).collect();
        let Some(active) = segments.last().cloned() else {
            return Err(Error::new(Code::Damaged, "no segment"));
        };
        for subscription in &mut state.subscriptions {
            subscription.delivering.cursor = subscription.done.low();
        }
        let next = next.max(includes + 1);
        let log = Log {
            storage,
            segments: Arc::new(RwLock::new(segments)),
            active,
            end,
            next,
            group: GroupWriter::default(),
        };
        Ok((log, state))
    }

    pub(crate) fn segments(&self) -> Segments {
        self.segments.clone()
    }

    /// Begins a group.
    pub(crate) fn begin(&mut self) {
        self.group.clear();
    }

    /// Adds a record to the group; answers where it will lie.
    pub(crate) fn add(&mut self, record: &Record) -> Location {
        let (start, length) = self.group.add(self.active.nonce, |to| record.encode(to));
        Location { segment: self.active.first, offset: self.end + start as u64, length }
    }

    /// Bytes in the group so far.
    pub(crate) fn group_bytes(&self) -> usize {
        self.group.len().saturating_sub(GROUP_HEADER)
    }

    /// Writes the group and makes it durable: one write, one sync.
    ///
    /// # Errors
    /// The disk's. The log must not be used afterwards: a later sync may succeed although the disk dropped the bytes.
    pub(crate) fn commit(&mut self) -> Result<()> {
        if self.group.is_empty() {
            return Ok(());
        }
        let place = format!("{} at byte {}", name(self.active.first), self.end);
        let bytes = self.group.finish(self.active.nonce, self.next);
        let written = self.active.file.write_at(bytes, self.end).and_then(|()| self.active.file.sync());
        written.map_err(|cause| failed(&format!("cannot write {place}"), cause))?;
        self.end += bytes.len() as u64;
        self.next += 1;
        Ok(())
    }

    /// Whether the segment is full.
    pub(crate) fn is_full(&self, options: &Options) -> bool {
        self.end >= options.segment_bytes
    }

    /// Begins a new segment, after a snapshot that makes old ones dispensable.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn roll(&mut self, state: &mut State, now: Timestamp, options: &Options) -> Result<()> {
        self.snapshot(state)?;
        self.retain(state, now, options)?;
        let created = Segment::create(&*self.storage, self.next);
        self.active = Arc::new(created.map_err(|cause| failed("cannot create a segment", cause))?);
        self.end = HEADER as u64;
        self.with_segments(|segments| segments.push(self.active.clone()));
        Ok(())
    }

    /// Writes a snapshot of the state as it is after the last group.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn snapshot(&self, state: &State) -> Result<()> {
        let bytes = snapshot::encode(state, self.next - 1);
        let write = || {
            let file = self.storage.open(snapshot::NEW)?;
            file.truncate(0)?;
            file.write_at(&bytes, 0)?;
            file.sync()?;
            self.storage.rename(snapshot::NEW, snapshot::NAME)?;
            self.storage.sync_names()
        };
        write().map_err(|cause| failed("cannot write a snapshot", cause))
    }

    /// Removes the oldest segments as far as everything in them is settled and they are too old or too much. An event
    /// that somebody has not settled is never removed; topics without a subscription go by age and size alone.
    fn retain(&mut self, state: &mut State, now: Timestamp, options: &Options) -> Result<()> {
        let sizes: Result<Vec<(u64, u64)>, _> = self
            .with_segments(|segments| segments.iter().map(|s| s.file.length().map(|size| (s.first, size))).collect());
        let sizes = sizes.map_err(|cause| failed("cannot measure the log", cause))?;
        let mut total: u64 = sizes.iter().map(|(_, size)| size).sum();
        // The active segment stays.
        for (first, size) in sizes.iter().take(sizes.len().saturating_sub(1)) {
            let too_much = total > options.retention_bytes;
            if !(too_much || is_older(state, *first, now, options)) || !is_settled(state, *first) {
                break;
            }
            self.storage.remove(&name(*first)).map_err(|cause| failed("cannot remove a segment", cause))?;
            for topic in &mut state.topics {
                topic.forget_segment(*first);
            }
            self.with_segments(|segments| segments.retain(|segment| segment.first != *first));
            total -= size;
        }
        self.storage.sync_names().map_err(|cause| failed("cannot remove segments", cause))
    }

    fn with_segments<T>(&self, f: impl FnOnce(&mut Vec<Arc<Segment>>) -> T) -> T {
        f(&mut self.segments.write().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

/// Reads the body of an event again, from any thread.
///
/// # Errors
/// `Damaged`, or the disk's.
pub(crate) fn read(segments: &Segments, at: Location) -> Result<Record> {
    let segment = {
        let segments = segments.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        find(&segments, at.segment).cloned()
    };
    let gone = || Error::new(Code::Damaged, format!("{} is gone while an event in it is needed", name(at.segment)));
    let body = segment.ok_or_else(gone)?.read(at)?;
    let unreadable = || Error::new(Code::Damaged, format!("{} at byte {}: no record", name(at.segment), at.offset));
    Record::decode(&body).ok_or_else(unreadable)
}

fn load_snapshot(storage: &dyn Storage, options: &Options) -> Result<(State, u64)> {
    let names = storage.names().map_err(|cause| failed("cannot list the files", cause))?;
    if !names.iter().any(|name| name == snapshot::NAME) {
        return Ok((State::default(), 0));
    }
    let read = storage.open(snapshot::NAME).and_then(|file| read_all(&*file));
    let bytes = read.map_err(|cause| failed("cannot read the snapshot", cause))?;
    snapshot::decode(&bytes, options).ok_or_else(|| Error::new(Code::Damaged, "the snapshot is damaged"))
}

/// Whether every event of a segment was settled by every subscription of its topic.
fn is_settled(state: &State, segment: u64) -> bool {
    (0_u32..).zip(&state.topics).all(|(n, topic)| {
        let in_segment = topic.events.partition_point(|meta| meta.at.segment <= segment) as u64;
        state.settled_below(n).is_none_or(|below| topic.first + in_segment <= below)
    })
}

/// Whether every event of a segment is older than the retention age.
fn is_older(state: &State, segment: u64, now: Timestamp, options: &Options) -> bool {
    state.topics.iter().all(|topic| {
        let in_segment = topic.events.partition_point(|meta| meta.at.segment <= segment);
        let youngest = in_segment.checked_sub(1).and_then(|n| topic.events.get(n));
        youngest.is_none_or(|meta| now.since(meta.published) > options.retention_age)
    })
}
