//! Recovery: reads the log back, cuts a torn tail, and refuses damage.

use std::sync::Arc;

use commute_core::{Code, Error, Result};

use super::Location;
use super::group::{GroupHeader, RECORD_HEADER};
use super::segment::{HEADER, Segment, first_of, name};
use crate::error::failed;
use crate::records::Record;
use crate::storage::{Storage, read_all};

/// The log as it was found.
pub(crate) struct Recovered {
    /// Oldest first; the last one is written on.
    pub(crate) segments: Vec<Segment>,
    /// Where the last segment ends.
    pub(crate) end: u64,
    /// The sequence of the next group.
    pub(crate) next: u64,
}

/// Reads every record of every segment in order.
///
/// The tail of the last segment is torn when the machine stopped in the middle of a write; no group in it was ever
/// confirmed, because a group is confirmed after its sync and the next one is written after that. So a bad group is a
/// torn tail only if no valid group follows it; everything else is damage.
///
/// # Errors
/// `Damaged`, naming file and position; nothing was changed then.
pub(crate) fn recover(storage: &dyn Storage, mut apply: impl FnMut(u64, Record, Location)) -> Result<Recovered> {
    let names = storage.names().map_err(|cause| failed("cannot list the segments", cause))?;
    let firsts: Vec<u64> = names.iter().filter_map(|name| first_of(name)).collect();
    let mut log = Recovered { segments: Vec::new(), end: 0, next: firsts.first().copied().unwrap_or(1) };
    for (n, first) in firsts.iter().copied().enumerate() {
        let last = n + 1 == firsts.len();
        let cannot_read = |cause| failed(&format!("cannot read {}", name(first)), cause);
        let file = storage.open(&name(first)).map_err(cannot_read)?;
        let bytes = read_all(&*file).map_err(cannot_read)?;
        if last && bytes.len() <= HEADER && Segment::open(file.clone(), first, &bytes).is_err() {
            // The machine stopped while this segment was being created; nothing was in it yet.
            let created = Segment::create(storage, first).map_err(|cause| failed("cannot create a segment", cause))?;
            (log.end, log.next) = (HEADER as u64, first);
            log.segments.push(created);
            continue;
        }
        let segment = Segment::open(file, first, &bytes)?;
        if first != log.next {
            let detail = format!("{}: the segment before it ends with group {}", name(first), log.next - 1);
            return Err(Error::new(Code::Damaged, detail));
        }
        let end = walk(&segment, &bytes, &mut log.next, &mut apply)?;
        if end < bytes.len() {
            if !last || is_confirmed_behind(&bytes[end..], segment.nonce) {
                let detail = format!("{} at byte {end}: a group is damaged and valid ones follow it", name(first));
                return Err(Error::new(Code::Damaged, detail));
            }
            tracing::warn!(segment = %name(first), at = end, lost = bytes.len() - end, "cut a torn tail that was never confirmed");
            segment.file.truncate(end as u64).map_err(|cause| failed("cannot cut the torn tail", cause))?;
        }
        log.end = end as u64;
        log.segments.push(segment);
    }
    Ok(log)
}

/// Applies the groups of a segment up to its end or to the first bad one; answers where that is.
fn walk(
    segment: &Segment,
    bytes: &[u8],
    next: &mut u64,
    apply: &mut impl FnMut(u64, Record, Location),
) -> Result<usize> {
    let mut at = HEADER;
    while let Some(header) = GroupHeader::read(&bytes[at..], segment.nonce) {
        let Some(bodies) = header.records(&bytes[at..], segment.nonce) else { break };
        let unreadable =
            || Error::new(Code::Damaged, format!("{} at byte {at}: an unknown record", name(segment.first)));
        if header.sequence != *next {
            let detail = format!("{} at byte {at}: group {} where {next} is due", name(segment.first), header.sequence);
            return Err(Error::new(Code::Damaged, detail));
        }
        for body in bodies {
            let record = Record::decode(&bytes[at..][body.clone()]).ok_or_else(unreadable)?;
            let offset = (at + body.start - RECORD_HEADER) as u64;
            apply(header.sequence, record, Location { segment: segment.first, offset, length: body.len() as u32 });
        }
        *next += 1;
        at += header.size();
    }
    Ok(at)
}

/// Whether a valid group begins anywhere in the bytes behind a bad one.
fn is_confirmed_behind(bytes: &[u8], nonce: u64) -> bool {
    (1..bytes.len()).any(|at| {
        GroupHeader::read(&bytes[at..], nonce).is_some_and(|header| header.records(&bytes[at..], nonce).is_some())
    })
}

/// Segments by their first sequence.
pub(crate) fn find(segments: &[Arc<Segment>], first: u64) -> Option<&Arc<Segment>> {
    segments.binary_search_by_key(&first, |segment| segment.first).ok().map(|n| &segments[n])
}
