//! Recovery: reads the log back behind the snapshot, leaves a torn tail behind, and refuses damage.

use std::io;

use commute_core::{Code, Error, Result};

use super::Place;
use super::frame::{Group, find_group};
use super::segment::{HEADER, Segment, name, serial_of};
use crate::error::failed;
use crate::records::Record;
use crate::storage::Storage;

/// What a snapshot says about the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Covered {
    /// The oldest segment that is still needed.
    pub(crate) oldest: u32,
    /// Where the last group that the snapshot includes ends.
    pub(crate) end: Place,
    /// The sequence of the group behind it.
    pub(crate) next: u64,
}

/// Without a snapshot.
pub(crate) const NOTHING: Covered = Covered { oldest: 1, end: Place { segment: 1, offset: HEADER as u64 }, next: 1 };

/// The log as it was found.
pub(crate) struct Recovered {
    /// Oldest first; groups are appended to the last one. Empty when there is no log yet.
    pub(crate) segments: Vec<Segment>,
    /// Where the last group ends.
    pub(crate) end: u64,
    /// The sequence of the next group.
    pub(crate) next: u64,
    /// A segment that was made ready and not used.
    pub(crate) spare: Option<Segment>,
    /// Segments that the snapshot has made dispensable.
    pub(crate) leftover: Vec<u32>,
}

/// Reads every record behind the snapshot, in order. `apply` answers whether the record fits what is known.
///
/// A group is written after the one before it was synced. So the machine can have stopped in the middle of the last one
/// only: a bad group is a torn tail if no valid group follows it anywhere, and damage otherwise. Groups are numbered
/// without gaps, which shows damage that ends with the end of a segment.
///
/// # Errors
/// `Damaged`, naming file and position; nothing was changed then.
pub(crate) fn recover(
    storage: &dyn Storage,
    covered: Option<Covered>,
    mut apply: impl FnMut(Record, Place) -> bool,
) -> Result<Recovered> {
    let names = storage.names().map_err(|cause| failed("cannot list the segments", cause))?;
    let mut serials: Vec<u32> = names.iter().filter_map(|name| serial_of(name)).collect();
    serials.sort_unstable();
    let Covered { oldest, end, next } = covered.unwrap_or(NOTHING);
    let leftover: Vec<u32> = serials.extract_if(.., |serial| *serial < oldest).collect();
    if serials.is_empty() && covered.is_none() {
        return Ok(Recovered { segments: Vec::new(), end: 0, next, spare: None, leftover });
    }
    let last = serials.last().copied().unwrap_or(0).max(end.segment);
    if let Some(missing) = (oldest..=last).find(|serial| serials.binary_search(serial).is_err()) {
        return Err(Error::new(Code::Damaged, format!("{} is missing", name(missing))));
    }
    let mut segments = (oldest..=last).map(|serial| Segment::open(storage, serial)).collect::<Result<Vec<_>>>()?;
    let mut walk = Walk { next, last_group: None };
    let (mut n, mut offset) = (end.segment.saturating_sub(oldest) as usize, end.offset);
    let length = segments[n].file.length().map_err(|cause| failed("cannot measure the log", cause))?;
    if length < offset {
        return Err(damaged(Place { offset: length, ..end }, "the segment ends before the snapshot does"));
    }
    let mut bytes = read_from(&segments[n], offset)?;
    loop {
        let length = walk.segment(&segments[n], offset, &bytes, &mut apply)?;
        offset += length as u64;
        let following = segments.get(n + 1).map(|following| {
            let ahead = read_from(following, HEADER as u64)?;
            let continues = Group::read(&ahead, following.nonce).is_some_and(|group| group.sequence == walk.next);
            Ok::<_, Error>(continues.then_some(ahead))
        });
        if let Some(ahead) = following.transpose()?.flatten() {
            (n, offset, bytes) = (n + 1, HEADER as u64, ahead);
            continue;
        }
        let end = Place { segment: segments[n].serial, offset };
        refuse_newer(end, &segments[n], offset, &bytes[length..], walk.next)?;
        for segment in &segments[n + 1..] {
            refuse_newer(end, segment, HEADER as u64, &read_from(segment, HEADER as u64)?, walk.next)?;
        }
        break;
    }
    if let Some(start) = walk.last_group {
        secure(&segments[n], start, offset)?;
    }
    let mut unused = segments.split_off(n + 1).into_iter();
    let spare = unused.next();
    Ok(Recovered { segments, end: offset, next: walk.next, spare, leftover })
}

/// What is known while reading.
struct Walk {
    next: u64,
    /// Where the last group begins in its segment.
    last_group: Option<u64>,
}

impl Walk {
    /// Applies the groups at the beginning of the bytes; answers where they end.
    fn segment(
        &mut self,
        segment: &Segment,
        offset: u64,
        bytes: &[u8],
        apply: &mut impl FnMut(Record, Place) -> bool,
    ) -> Result<usize> {
        let mut at = 0;
        while let Some(group) = Group::read(&bytes[at..], segment.nonce).filter(|group| group.sequence == self.next) {
            let place = |start: usize| Place { segment: segment.serial, offset: offset + (at + start) as u64 };
            for (start, body) in group.records() {
                let fits = Record::decode(body).is_some_and(|record| apply(record, place(start)));
                if !fits {
                    return Err(damaged(place(start), "a record that cannot stand here"));
                }
            }
            self.last_group = Some(place(0).offset);
            self.next += 1;
            at += group.bytes.len();
        }
        Ok(at)
    }
}

/// Behind the end of the log there must be no group that is newer.
fn refuse_newer(end: Place, segment: &Segment, offset: u64, bytes: &[u8], next: u64) -> Result<()> {
    let Some(found) = find_group(bytes, segment.nonce, next) else { return Ok(()) };
    let behind = format!("{} at byte {}", name(segment.serial), offset + found as u64);
    Err(damaged(end, &format!("group {next} is damaged; a newer one follows in {behind}")))
}

/// Writes the last group again. When its sync failed, the system may show it although the disk does not have it, and a
/// later sync would not write it.
fn secure(segment: &Segment, start: u64, end: u64) -> Result<()> {
    let mut group = read_from(segment, start)?;
    group.truncate((end - start) as usize);
    let written = segment.file.write_at(&group, start).and_then(|()| segment.file.sync());
    written.map_err(|cause| failed(&format!("cannot write {}", name(segment.serial)), cause))
}

fn read_from(segment: &Segment, offset: u64) -> Result<Vec<u8>> {
    let read = || {
        let length = segment.file.length()?.saturating_sub(offset);
        let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        segment.file.read_at(&mut bytes, offset).map(|()| bytes)
    };
    read().map_err(|cause| failed(&format!("cannot read {}", name(segment.serial)), cause))
}

pub(crate) fn damaged(place: Place, what: &str) -> Error {
    Error::new(Code::Damaged, format!("{} at byte {}: {what}", name(place.segment), place.offset))
}
