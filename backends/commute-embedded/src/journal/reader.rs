//! The reader: finds events again, from any thread.
//!
//! The index names a frame at or before an event, in the same segment. From there the frames are read in order, each
//! checked, until the event is there; events that lie close together are found in one pass.

use std::sync::{Arc, PoisonError, RwLock};

use commute_core::{Code, Error, Result};

use super::Place;
use super::frame::{self, FRAME};
use super::recovery::damaged;
use super::segment::{Segment, name};
use crate::error::failed;
use crate::records::Event;

/// The segments that somebody may want to read, oldest first.
pub(crate) type Segments = Arc<RwLock<Vec<Segment>>>;

/// How much is read at once.
const WINDOW: usize = 256 << 10;

/// An event that is wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) position: u64,
    /// Where to begin looking.
    pub(crate) from: Place,
}

/// Reads events of a topic, in the order in which they are wanted; positions ascend. Blocking.
///
/// # Errors
/// `Damaged`, or the disk's.
pub(crate) fn read(segments: &Segments, topic: u32, wanted: &[Wanted]) -> Result<Vec<Arc<Event>>> {
    let mut scan: Option<Scan> = None;
    let mut found: Vec<Arc<Event>> = Vec::with_capacity(wanted.len());
    for Wanted { position, from } in wanted.iter().copied() {
        if let Some(last) = found.last().filter(|last| last.position == position).cloned() {
            found.push(last);
            continue;
        }
        let mut here = match scan.take().filter(|scan| scan.covers(from)) {
            Some(scan) => scan,
            None => Scan::new(find(segments, from.segment)?, from.offset),
        };
        found.push(here.find(topic, position)?);
        scan = Some(here);
    }
    Ok(found)
}

fn find(segments: &Segments, serial: u32) -> Result<Segment> {
    let segments = segments.read().unwrap_or_else(PoisonError::into_inner);
    let found = segments.binary_search_by_key(&serial, |segment| segment.serial).ok().map(|n| segments[n].clone());
    found.ok_or_else(|| Error::new(Code::Damaged, format!("{} is gone while an event in it is needed", name(serial))))
}

/// A pass over the frames of a segment.
struct Scan {
    segment: Segment,
    offset: u64,
    window: Vec<u8>,
    /// Where the next frame begins in the window.
    at: usize,
}

impl Scan {
    fn new(segment: Segment, offset: u64) -> Self {
        Scan { segment, offset, window: Vec::new(), at: 0 }
    }

    /// Whether going on from here is at least as good as beginning there.
    fn covers(&self, from: Place) -> bool {
        self.segment.serial == from.segment && self.place().offset >= from.offset
    }

    fn place(&self) -> Place {
        Place { segment: self.segment.serial, offset: self.offset + self.at as u64 }
    }

    /// Goes on to an event.
    fn find(&mut self, topic: u32, position: u64) -> Result<Arc<Event>> {
        loop {
            let place = self.place();
            let body = self.next_body()?;
            if Event::is(body, topic, position) {
                let event = Event::decode(body).ok_or_else(|| damaged(place, "the record is no event"))?;
                return Ok(Arc::new(event));
            }
        }
    }

    fn next_body(&mut self) -> Result<&[u8]> {
        let place = self.place();
        let ahead = &self.window[self.at..];
        if frame::length(ahead).is_none_or(|length| ahead.len() < FRAME + length) {
            self.fill(FRAME)?;
            let length = frame::length(&self.window).unwrap_or_default();
            self.fill(FRAME + length)?;
        }
        let (at, nonce) = (self.at, self.segment.nonce);
        let frame = frame::frame(&self.window[at..], nonce).ok_or_else(|| damaged(place, "the record is damaged"))?;
        self.at += frame.size();
        Ok(frame.body)
    }

    /// Moves the window so that it begins here and has at least so many bytes, if the file has.
    fn fill(&mut self, least: usize) -> Result<()> {
        if self.at == 0 && self.window.len() >= least {
            return Ok(());
        }
        let place = self.place();
        let mut read = || {
            let left = usize::try_from(self.segment.file.length()?.saturating_sub(place.offset)).unwrap_or(usize::MAX);
            self.window.resize(left.min(least.max(WINDOW)), 0);
            self.segment.file.read_at(&mut self.window, place.offset)
        };
        read().map_err(|cause| failed(&format!("cannot read {}", name(place.segment)), cause))?;
        (self.offset, self.at) = (place.offset, 0);
        Ok(())
    }
}
