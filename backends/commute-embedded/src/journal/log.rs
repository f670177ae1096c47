//! The log: appends groups to the last segment. Blocking; owned by the writer.

use std::sync::{Arc, PoisonError, RwLock};

use commute_core::{Code, Error, Result};

use super::Place;
use super::frame::GroupWriter;
use super::reader::Segments;
use super::recovery::{Covered, Recovered};
use super::segment::{HEADER, Segment, name};
use crate::error::failed;
use crate::records::Record;

/// The end of the log.
pub(crate) struct Log {
    segments: Segments,
    active: Segment,
    end: u64,
    next: u64,
    /// A segment is full at this length.
    capacity: u64,
    group: GroupWriter,
    last_group: u64,
}

impl Log {
    /// Goes on with what recovery found; there is at least one segment.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn new(recovered: Recovered, least_capacity: u64) -> Result<Self> {
        let Recovered { segments, end, next, .. } = recovered;
        let active = segments.last().cloned();
        let active = active.ok_or_else(|| Error::new(Code::Damaged, "the log has no segment"))?;
        let length = active.file.length().map_err(|cause| failed("cannot measure a segment", cause))?;
        Ok(Log {
            segments: Arc::new(RwLock::new(segments)),
            active,
            end: end.max(HEADER as u64),
            next,
            capacity: length.max(least_capacity),
            group: GroupWriter::default(),
            last_group: 0,
        })
    }

    pub(crate) fn segments(&self) -> &Segments {
        &self.segments
    }

    /// Begins a group.
    pub(crate) fn begin(&mut self) {
        self.group.clear(self.active.nonce);
    }

    /// Adds a record to the group; answers where it will lie.
    pub(crate) fn add(&mut self, record: &Record) -> Place {
        let start = self.group.add(self.active.nonce, |to| record.encode(to));
        Place { segment: self.active.serial, offset: self.end + start as u64 }
    }

    /// Bytes in the group so far.
    pub(crate) fn group_bytes(&self) -> usize {
        self.group.len()
    }

    /// Writes the group and makes it durable: one write, one sync. Answers how long it is.
    ///
    /// # Errors
    /// The disk's. The log must not be used afterwards: a later sync may succeed although the disk dropped the bytes.
    pub(crate) fn commit(&mut self) -> Result<u64> {
        if self.group.is_empty() {
            return Ok(0);
        }
        let bytes = self.group.finish(self.active.nonce, self.next);
        let written = self.active.file.write_at(bytes, self.end).and_then(|()| self.active.file.sync());
        let place = || format!("cannot write {} at byte {}", name(self.active.serial), self.end);
        written.map_err(|cause| failed(&place(), cause))?;
        self.last_group = bytes.len() as u64;
        self.end += self.last_group;
        self.next += 1;
        Ok(self.last_group)
    }

    /// Whether the next group had better begin another segment: one like the last would not fit.
    pub(crate) fn is_full(&self) -> bool {
        self.end + self.last_group > self.capacity
    }

    /// Goes on in another segment.
    pub(crate) fn roll(&mut self, segment: Segment, capacity: u64) {
        self.segments.write().unwrap_or_else(PoisonError::into_inner).push(segment.clone());
        (self.active, self.end, self.capacity) = (segment, HEADER as u64, capacity);
    }

    /// Lets go of a segment; whoever reads in it can go on.
    pub(crate) fn forget(&mut self, serial: u32) {
        self.segments.write().unwrap_or_else(PoisonError::into_inner).retain(|segment| segment.serial != serial);
    }

    /// What a snapshot of this moment covers.
    pub(crate) fn covered(&self) -> Covered {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        let oldest = segments.first().map_or(self.active.serial, |segment| segment.serial);
        Covered { oldest, end: Place { segment: self.active.serial, offset: self.end }, next: self.next }
    }

    /// How large the segments are, oldest first. One that cannot be measured counts as empty.
    pub(crate) fn sizes(&self) -> Vec<(u32, u64)> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        segments.iter().map(|segment| (segment.serial, segment.file.length().unwrap_or_default())).collect()
    }

    /// How large the segment that is being written should become.
    pub(crate) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// The serial number of the segment that is being written.
    pub(crate) fn serial(&self) -> u32 {
        self.active.serial
    }
}
