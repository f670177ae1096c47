//! Snapshots: the state in one file, so that opening is quick and segments can go.
//!
//! A snapshot says how much of the log it covers; recovery loads it and applies what lies behind.

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
use crate::records::bytes::{id, put_text, put_time, text, time};
use crate::storage::{Storage, read_all};

/// The file's name.
pub(crate) const NAME: &str = "snapshot";
/// The name of one that is being written.
const UNREADY: &str = "snapshot.new";
const MAGIC: &[u8; 8] = b"cmtsnap\n";

/// Puts a snapshot in the place of the last one, durably.
///
/// # Errors
/// The disk's; the last one is still there then.
pub(crate) fn save(storage: &dyn Storage, bytes: &[u8]) -> std::io::Result<()> {
    let file = storage.open(UNREADY)?;
    file.truncate(0)?;
    file.write_at(bytes, 0)?;
    file.sync()?;
    storage.rename(UNREADY, NAME)?;
    storage.sync_names()
}

/// Loads the snapshot, if there is one.
///
/// # Errors
/// `Damaged`, `UnknownFormat`, or the disk's.
pub(crate) fn load(storage: &dyn Storage, options: &Options) -> Result<Option<(State, Covered)>> {
    let names = storage.names().map_err(|cause| failed("cannot list the files", cause))?;
    if !names.iter().any(|name| name == NAME) {
        return Ok(None);
    }
    let read = storage.open(NAME).and_then(|file| read_all(&*file));
    let bytes = read.map_err(|cause| failed("cannot read the snapshot", cause))?;
    let damaged = || Error::new(Code::Damaged, "snapshot: its checksum is wrong");
    let mut from = bytes.strip_prefix(MAGIC).ok_or_else(damaged)?;
    let version = from.try_get_u32_le().map_err(|_| damaged())?;
    if version > VERSION {
        let detail = format!("snapshot: format version {version}; this program knows {VERSION}");
        return Err(Error::new(Code::UnknownFormat, detail));
    }
    decode(&bytes, options).map(Some).ok_or_else(damaged)
}

/// Writes the state as it is now.
pub(crate) fn encode(state: &State, covered: Covered) -> Vec<u8> {
    let mut to = Vec::new();
    to.put_slice(MAGIC);
    to.put_u32_le(VERSION);
    to.put_u32_le(covered.oldest);
    put_place(&mut to, covered.end);
    to.put_u64_le(covered.next);
    put_all(&mut to, state.youngest.iter(), |to, (segment, time)| {
        to.put_u32_le(*segment);
        put_time(to, *time);
    });
    put_all(&mut to, state.topics.iter(), put_topic);
    put_all(&mut to, state.subscriptions.iter(), put_subscription);
    let crc = checksum(0, &to);
    to.put_u32_le(crc);
    to
}

/// Reads a snapshot; `None` when the bytes are damaged.
fn decode(bytes: &[u8], options: &Options) -> Option<(State, Covered)> {
    let (body, mut crc) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
    if crc.get_u32_le() != checksum(0, body) {
        return None;
    }
    let from = &mut body.get(MAGIC.len() + 4..)?;
    let oldest = from.try_get_u32_le().ok()?;
    let covered = Covered { oldest, end: place(from)?, next: from.try_get_u64_le().ok()? };
    let mut state = State::default();
    for_all(from, |from, _| {
        let segment = from.try_get_u32_le().ok()?;
        state.youngest.insert(segment, time(from)?);
        Some(())
    })?;
    for_all(from, |from, n| state.add_topic(n, topic(from, options)?).then_some(()))?;
    for_all(from, |from, n| state.add_subscription(n, subscription(from, options)?).then_some(()))?;
    let topics = state.topics.len();
    let fits = state.subscriptions.iter().all(|subscription| (subscription.topic as usize) < topics);
    (from.is_empty() && fits).then_some((state, covered))
}

fn put_topic(to: &mut Vec<u8>, topic: &Stored) {
    put_text(to, &topic.name);
    to.put_u64_le(topic.first);
    to.put_u64_le(topic.next);
    put_all(to, topic.index.iter(), |to, indexed| {
        to.put_u64_le(indexed.position);
        put_place(to, indexed.place);
    });
    put_all(to, topic.not_before.iter(), |to, (position, time)| {
        to.put_u64_le(*position);
        put_time(to, *time);
    });
    put_all(to, topic.ids.iter(), put_seen);
}

fn topic(from: &mut &[u8], options: &Options) -> Option<Stored> {
    let mut topic = Stored::new(text(from)?);
    (topic.first, topic.next) = (from.try_get_u64_le().ok()?, from.try_get_u64_le().ok()?);
    for_all(from, |from, _| {
        let position = from.try_get_u64_le().ok()?;
        topic.index.push_back(Indexed { position, place: place(from)? });
        Some(())
    })?;
    for_all(from, |from, _| {
        let position = from.try_get_u64_le().ok()?;
        topic.not_before.insert(position, time(from)?);
        Some(())
    })?;
    for_all(from, |from, _| seen(from, |id, seen| topic.ids.insert(id, seen, options.dedup_window)))?;
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
    put_all(to, subscription.inbox.iter(), put_seen);
}

fn subscription(from: &mut &[u8], options: &Options) -> Option<Subscribed> {
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
    for_all(from, |from, _| seen(from, |id, seen| subscription.inbox.insert(id, seen, options.inbox_window)))?;
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
