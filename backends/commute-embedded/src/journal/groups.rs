//! Groups in order, through a window, so that reading a long log takes little memory.

use std::ops::ControlFlow;

use commute_core::Result;

use super::Place;
use super::frame::{Group, HEAD, group_length, head_sequence};
use super::recovery::damaged;
use super::segment::{HEADER, Segment, name};
use crate::error::failed;

/// How much is read at once; more where a group is larger.
const WINDOW: usize = 1 << 20;

/// A pass over the groups of a segment.
pub(crate) struct Groups<'a> {
    segment: &'a Segment,
    /// Where the window begins.
    offset: u64,
    window: Vec<u8>,
    /// Where the next group begins in the window.
    at: usize,
}

impl<'a> Groups<'a> {
    pub(crate) fn new(segment: &'a Segment, offset: u64) -> Self {
        Groups { segment, offset, window: Vec::new(), at: 0 }
    }

    /// Where the next group would begin.
    pub(crate) fn offset(&self) -> u64 {
        self.offset + self.at as u64
    }

    /// The next group, and where it begins; `None` when there is no whole one.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn next(&mut self) -> Result<Option<(Group<'_>, Place)>> {
        let nonce = self.segment.nonce;
        self.fill(HEAD)?;
        let Some(length) = group_length(&self.window[self.at..], nonce) else { return Ok(None) };
        self.fill(length)?;
        let place = Place { segment: self.segment.serial, offset: self.offset() };
        let Some(group) = Group::read(&self.window[self.at..], nonce) else { return Ok(None) };
        self.at += group.bytes.len();
        Ok(Some((group, place)))
    }

    /// The sequence of the group here, by its head.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn sequence(&mut self) -> Result<Option<u64>> {
        self.fill(HEAD)?;
        Ok(head_sequence(&self.window[self.at..], self.segment.nonce))
    }

    /// Where a group begins that is newer than this sequence, anywhere behind; `None` when there is none.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn find_newer(&mut self, sequence: u64) -> Result<Option<u64>> {
        loop {
            let left = self.window.len() - self.at;
            self.fill(left + 1)?;
            let ahead = &self.window[self.at..];
            let Some(last) = ahead.len().checked_sub(HEAD) else { return Ok(None) };
            // What was made ready is zeros, and no group begins with one.
            if ahead.iter().fold(0, |any, byte| any | byte) != 0 {
                let newer = |at: &usize| {
                    ahead[*at] != 0 && head_sequence(&ahead[*at..], self.segment.nonce).is_some_and(|n| n > sequence)
                };
                if let Some(found) = (0..=last).find(newer) {
                    return Ok(Some(self.offset() + found as u64));
                }
            }
            if ahead.len() == left {
                return Ok(None);
            }
            self.at += last + 1;
        }
    }

    /// Makes at least so many bytes ready from here, if the file has them.
    fn fill(&mut self, least: usize) -> Result<()> {
        if self.window.len() - self.at >= least {
            return Ok(());
        }
        self.window.drain(..self.at);
        self.offset += std::mem::take(&mut self.at) as u64;
        let had = self.window.len();
        let mut read = || {
            let left = self.segment.file.length()?.saturating_sub(self.offset);
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(least.max(WINDOW)).max(had);
            self.window.resize(length, 0);
            self.segment.file.read_at(&mut self.window[had..], self.offset + had as u64)
        };
        read().map_err(|cause| failed(&format!("cannot read {}", name(self.segment.serial)), cause))
    }
}

/// Hands every record of some segments over, in order, until the log ends or it was enough.
///
/// # Errors
/// `Damaged` when a group is missing; the disk's.
pub(crate) fn records<'s>(
    segments: impl IntoIterator<Item = &'s Segment>,
    mut each: impl FnMut(&[u8], Place) -> ControlFlow<()>,
) -> Result<()> {
    let mut next = None;
    for segment in segments {
        let mut groups = Groups::new(segment, HEADER as u64);
        while let Some((group, place)) = groups.next()? {
            // Behind the end of a segment may lie what is left of an older life of the log.
            match next {
                Some(next) if group.sequence < next => break,
                Some(next) if group.sequence > next => {
                    return Err(damaged(place, &format!("group {next} is missing before it")));
                }
                _ => {}
            }
            for (start, body) in group.records() {
                if each(body, Place { offset: place.offset + start as u64, ..place }).is_break() {
                    return Ok(());
                }
            }
            next = Some(group.sequence + 1);
        }
    }
    Ok(())
}
