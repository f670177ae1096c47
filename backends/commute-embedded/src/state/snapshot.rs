//! Snapshots: the state in one file, so that opening is quick and segments can go.
//!
//! A snapshot says how much of the log it covers; recovery loads it and applies what lies behind. The remembered ids are
//! most of its bytes and stand at its end, so that whoever only looks does not read them.

use bytes::{Buf, BufMut};
use commute_core::watermark::Watermark;
use commute_core::{Code, Error, Result};

use super::State;
use super::ids::Seen;
use super::subscription::Subscribed;
use super::topic::{Indexed, Stored};
use crate::error::failed;
use crate::journal::Place;
use crate::journal::frame::checksum;
use crate::journal::recovery::Covered;
use crate::journal::segment::VERSION;
use crate::options::Options;
use crate::records::Aside;
use crate::records::bytes::{id, optional, put_optional, put_text, put_time, slice, text, time};
use crate::storage::{Storage, StoredFile, read_all};

/// The file's name.
pub(crate) const NAME: &str = "snapshot";
/// The name of one without ids that is younger. It is small, so there is one for every segment, and whoever looks has little
/// of the log to read. Owners do not need it.
pub(crate) const OUTLINE: &str = "outline";
const MAGIC: &[u8; 8] = b"cmtsnap\n";
/// Bytes before the state: magic, version, and where the state ends.
const HEADER: usize = 20;
/// The format in which ids stand with what they belong to, and there is no place for where the state ends.
const IDS_INSIDE: u32 = 1;

/// What is wanted of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// All of it.
    Whole,
    /// The state without the ids that were seen.
    WithoutIds,
}

/// Puts a snapshot, or an outline, in the place of the last one, durably.
///
/// # Errors
/// The disk's; the last one is still there then.
pub(crate) fn save(storage: &dyn Storage, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let unready = format!("{name}.new");
    let file = storage.open(&unready)?;
    file.truncate(0)?;
    file.write_at(bytes, 0)?;
    file.sync()?;
    storage.rename(&unready, name)?;
    storage.sync_names()
}

/// Loads the snapshot, if there is one; without the ids, the outline if that is younger.
///
/// # Errors
/// `Damaged`, `UnknownFormat`, or the disk's.
pub(crate) fn load(storage: &dyn Storage, options: &Options, part: Part) -> Result<Option<(State, Covered)>> {
    let snapshot = load_from(storage, NAME, options, part)?;
    if part == Part::Whole {
        return Ok(snapshot);
    }
    let next = |loaded: &Option<(State, Covered)>| loaded.as_ref().map(|(_, covered)| covered.next);
    Ok(load_from(storage, OUTLINE, options, part)?
        .filter(|outline| next(&snapshot) < Some(outline.1.next))
        .or(snapshot))
}

fn load_from(storage: &dyn Storage, name: &str, options: &Options, part: Part) -> Result<Option<(State, Covered)>> {
    let names = storage.names().map_err(|cause| failed("cannot list the files", cause))?;
    if !names.iter().any(|known| known == name) {
        return Ok(None);
    }
    let read = storage.open(name).and_then(|file| read(&*file, part));
    let bytes = read.map_err(|cause| failed(&format!("cannot read the {name}"), cause))?;
    let damaged = || Error::new(Code::Damaged, format!("{name}: its checksum is wrong"));
    let mut from = bytes.strip_prefix(MAGIC).ok_or_else(damaged)?;
    let version = from.try_get_u32_le().map_err(|_| damaged())?;
    if version > VERSION {
        let detail = format!("{name}: format version {version}; this program knows {VERSION}");
        return Err(Error::new(Code::UnknownFormat, detail));
    }
    decode(&bytes, version, options, part).map(Some).ok_or_else(damaged)
}

/// As many bytes as are wanted; all of them when the file does not say how many that is.
fn read(file: &dyn StoredFile, part: Part) -> std::io::Result<Vec<u8>> {
    let length = file.length()?;
    let mut header = [0; HEADER];
    if part == Part::WithoutIds && length >= HEADER as u64 {
        file.read_at(&mut header, 0)?;
        let mut from = &header[MAGIC.len()..];
        let (version, end) = (from.get_u32_le(), from.get_u64_le());
        if version > IDS_INSIDE && (HEADER as u64..=length - 4).contains(&end) {
            let mut bytes = vec![0; usize::try_from(end + 4).map_err(std::io::Error::other)?];
            return file.read_at(&mut bytes, 0).map(|()| bytes);
        }
    }
    read_all(file)
}

/// Writes the state as it is now.
pub(crate) fn encode(state: &State, covered: Covered) -> Vec<u8> {
    let mut to = encode_outline(state, covered);
    let begin = to.len();
    let ids = state.topics.iter().map(|topic| &topic.ids);
    for ids in ids.chain(state.subscriptions.iter().map(|subscription| &subscription.inbox)) {
        put_all(&mut to, ids.iter(), put_seen);
    }
    let crc = checksum(0, &to[begin..]);
    to.put_u32_le(crc);
    to
}

/// Writes the state as it is now, without the ids.
pub(crate) fn encode_outline(state: &State, covered: Covered) -> Vec<u8> {
    let mut to = Vec::new();
    to.put_slice(MAGIC);
    to.put_u32_le(VERSION);
    to.put_u64_le(0);
    to.put_u32_le(covered.oldest);
    put_place(&mut to, covered.end);
    to.put_u64_le(covered.next);
    put_all(&mut to, state.youngest.iter(), |to, (segment, time)| {
        to.put_u32_le(*segment);
        put_time(to, *time);
    });
    put_all(&mut to, state.topics.iter(), put_topic);
    put_all(&mut to, state.subscriptions.iter(), put_subscription);
    let end = to.len();
    to[HEADER - 8..HEADER].copy_from_slice(&(end as u64).to_le_bytes());
    let crc = checksum(0, &to);
    to.put_u32_le(crc);
    to
}

/// Reads a snapshot; `None` when the bytes are damaged.
fn decode(bytes: &[u8], version: u32, options: &Options, part: Part) -> Option<(State, Covered)> {
    let inside = version == IDS_INSIDE;
    let (begin, end) = match inside {
        true => (MAGIC.len() + 4, bytes.len().checked_sub(4)?),
        false => (HEADER, usize::try_from(bytes.get(HEADER - 8..HEADER)?.get_u64_le()).ok()?),
    };
    let rest = &mut bytes.get(end..)?;
    if rest.try_get_u32_le().ok()? != checksum(0, &bytes[..end]) {
        return None;
    }
    let from = &mut bytes.get(begin..end)?;
    let oldest = from.try_get_u32_le().ok()?;
    let covered = Covered { oldest, end: place(from)?, next: from.try_get_u64_le().ok()? };
    let mut state = State::default();
    for_all(from, |from, _| {
        let segment = from.try_get_u32_le().ok()?;
        state.youngest.insert(segment, time(from)?);
        Some(())
    })?;
    for_all(from, |from, n| state.add_topic(n, topic(from, options, inside)?).then_some(()))?;
    for_all(from, |from, n| state.add_subscription(n, subscription(from, options, inside)?).then_some(()))?;
    let topics = state.topics.len();
    let fits = state.subscriptions.iter().all(|subscription| (subscription.topic as usize) < topics);
    if !from.is_empty() || !fits {
        return None;
    }
    if !inside && part == Part::Whole {
        let from = &mut slice(rest, rest.len().checked_sub(4)?)?;
        if rest.get_u32_le() != checksum(0, from) {
            return None;
        }
        for topic in &mut state.topics {
            for_all(from, |from, _| seen(from, |id, seen| topic.ids.insert(id, seen, options.dedup_window)))?;
        }
        for known in &mut state.subscriptions {
            for_all(from, |from, _| seen(from, |id, seen| known.inbox.insert(id, seen, options.inbox_window)))?;
        }
        return from.is_empty().then_some((state, covered));
    }
    Some((state, covered))
}

fn put_topic(to: &mut Vec<u8>, topic: &Stored) {
    put_text(to, &topic.name);
    to.put_u64_le(topic.first);
    to.put_u64_le(topic.next);
    put_optional(to, topic.youngest, put_time);
    put_all(to, topic.places.iter(), |to, indexed| {
        to.put_u64_le(indexed.position);
        put_place(to, indexed.place);
    });
    put_all(to, topic.not_before.iter(), |to, (position, time)| {
        to.put_u64_le(*position);
        put_time(to, *time);
    });
}

fn topic(from: &mut &[u8], options: &Options, ids_inside: bool) -> Option<Stored> {
    let mut topic = Stored::new(text(from)?);
    (topic.first, topic.next) = (from.try_get_u64_le().ok()?, from.try_get_u64_le().ok()?);
    if !ids_inside {
        topic.youngest = optional(from, time)?;
    }
    for_all(from, |from, _| {
        let position = from.try_get_u64_le().ok()?;
        topic.places.push_back(Indexed { position, place: place(from)? });
        Some(())
    })?;
    for_all(from, |from, _| {
        let position = from.try_get_u64_le().ok()?;
        topic.not_before.insert(position, time(from)?);
        Some(())
    })?;
    if ids_inside {
        for_all(from, |from, _| {
            seen(from, |id, seen| {
                topic.youngest = Some(seen.at);
                topic.ids.insert(id, seen, options.dedup_window);
            })
        })?;
    }
    Some(topic)
}

fn put_subscription(to: &mut Vec<u8>, subscription: &Subscribed) {
    to.put_u32_le(subscription.topic);
    put_text(to, &subscription.group);
    to.put_u32_le(subscription.incarnation);
    subscription.done.encode(to);
    // In order, so that one state has one encoding.
    let mut deferred: Vec<_> = subscription.deferred.iter().collect();
    deferred.sort_unstable_by_key(|(position, _)| **position);
    put_all(to, deferred.into_iter(), |to, (position, deferred)| {
        to.put_u64_le(*position);
        to.put_u32_le(deferred.attempts);
        put_time(to, deferred.not_before);
    });
    put_all(to, subscription.parked.values(), |to, (position, aside)| {
        to.put_u64_le(*position);
        aside.encode(to);
    });
}

fn subscription(from: &mut &[u8], options: &Options, ids_inside: bool) -> Option<Subscribed> {
    let (topic, group) = (from.try_get_u32_le().ok()?, text(from)?);
    let incarnation = from.try_get_u32_le().ok()?;
    let (done, rest) = Watermark::decode(from).ok()?;
    *from = rest;
    let mut subscription = Subscribed::new(topic, group, done);
    subscription.incarnation = incarnation;
    for_all(from, |from, _| {
        let (position, attempts) = (from.try_get_u64_le().ok()?, from.try_get_u32_le().ok()?);
        subscription.defer(position, attempts, time(from)?);
        Some(())
    })?;
    for_all(from, |from, _| {
        let position = from.try_get_u64_le().ok()?;
        subscription.park(position, Aside::decode(from)?);
        Some(())
    })?;
    if ids_inside {
        for_all(from, |from, _| seen(from, |id, seen| subscription.inbox.insert(id, seen, options.inbox_window)))?;
    }
    Some(subscription)
}

fn put_seen(to: &mut Vec<u8>, (id, seen): ([u8; 16], Seen)) {
    to.put_slice(&id);
    put_time(to, seen.at);
    to.put_u64_le(seen.position);
}

fn seen(from: &mut &[u8], insert: impl FnOnce([u8; 16], Seen)) -> Option<()> {
    let (id, at) = (id(from)?, time(from)?);
    insert(id, Seen { at, position: from.try_get_u64_le().ok()? });
    Some(())
}

fn put_place(to: &mut Vec<u8>, place: Place) {
    to.put_u32_le(place.segment);
    to.put_u64_le(place.offset);
}

fn place(from: &mut &[u8]) -> Option<Place> {
    Some(Place { segment: from.try_get_u32_le().ok()?, offset: from.try_get_u64_le().ok()? })
}

/// A number of things, and the things.
fn put_all<T>(to: &mut Vec<u8>, all: impl ExactSizeIterator<Item = T>, put: impl Fn(&mut Vec<u8>, T)) {
    to.put_u32_le(all.len() as u32);
    all.for_each(|one| put(to, one));
}

fn for_all(from: &mut &[u8], mut each: impl FnMut(&mut &[u8], u32) -> Option<()>) -> Option<()> {
    (0..from.try_get_u32_le().ok()?).try_for_each(|n| each(from, n))
}
