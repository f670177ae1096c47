//! The tail: what lies behind the snapshot, read by whoever only looks, with little memory and without changing anything.

use commute_core::{Code, Error, Result};

use super::Place;
use super::groups::Groups;
use super::recovery::{Covered, NOTHING, damaged};
use super::segment::{HEADER, Segment, name, serial_of};
use crate::error::failed;
use crate::storage::Storage;

/// Hands every record behind the snapshot over, in order, and answers the segments, oldest first. `apply` answers whether the
/// record fits what is known.
///
/// # Errors
/// `Damaged`, as in recovery: a group is missing, and a newer one is there; the disk's.
pub(crate) fn follow(
    storage: &dyn Storage,
    covered: Option<Covered>,
    mut apply: impl FnMut(&[u8], Place) -> bool,
) -> Result<Vec<Segment>> {
    let names = storage.names().map_err(|cause| failed("cannot list the segments", cause))?;
    let Covered { oldest, end, mut next } = covered.unwrap_or(NOTHING);
    let mut serials: Vec<u32> = names.iter().filter_map(|name| serial_of(name)).collect();
    serials.retain(|serial| *serial >= oldest);
    serials.sort_unstable();
    if serials.is_empty() && covered.is_none() {
        return Ok(Vec::new());
    }
    let last = serials.last().copied().unwrap_or(0).max(end.segment);
    if let Some(missing) = (oldest..=last).find(|serial| serials.binary_search(serial).is_err()) {
        return Err(Error::new(Code::Damaged, format!("{} is missing", name(missing))));
    }
    let mut segments = serials.into_iter().map(|serial| Segment::open(storage, serial)).collect::<Result<Vec<_>>>()?;
    let behind = end.segment.saturating_sub(oldest) as usize;
    let mut used = behind + 1;
    for (n, segment) in segments.iter().enumerate().skip(behind) {
        let start = if n == behind { end.offset } else { HEADER as u64 };
        let mut groups = Groups::new(segment, start);
        let first = next;
        while let Some((group, place)) = groups.next()? {
            if group.sequence != next {
                break;
            }
            for (start, body) in group.records() {
                let place = Place { offset: place.offset + start as u64, ..place };
                if !apply(body, place) {
                    return Err(damaged(place, "a record that cannot stand here"));
                }
            }
            next += 1;
            used = n + 1;
        }
        let at = Place { segment: segment.serial, offset: groups.offset() };
        if next > first || n == behind {
            // Only the last group of all may be torn: then nothing was written behind it.
            let following = segments.get(n + 1).map(|following| Groups::new(following, HEADER as u64).sequence());
            let goes_on = following.transpose()?.flatten().is_some_and(|sequence| sequence == next);
            if !goes_on && let Some(newer) = groups.find_newer(next)? {
                let detail = format!("group {next} is damaged; a newer one follows at byte {newer}");
                return Err(damaged(at, &detail));
            }
        } else if Groups::new(segment, HEADER as u64).sequence()?.is_some_and(|sequence| sequence > next) {
            return Err(damaged(at, &format!("group {next} is damaged; a newer one follows")));
        }
    }
    segments.truncate(used);
    Ok(segments)
}
