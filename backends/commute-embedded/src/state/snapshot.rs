//! Snapshots: the state in one file, so that segments whose events are settled can go.
//!
//! A snapshot says which group it includes. Recovery loads it, reads the retained segments for the places of their
//! events, and applies everything behind that group.

use bytes::{Buf, BufMut};
use commute_core::Timestamp;
use commute_core::watermark::Watermark;

use super::State;
use super::subscription::Subscribed;
use super::topic::Stored;
use crate::journal::group::checksum;
use crate::options::Options;
use crate::records::{Aside, fingerprint, put_text, text};

/// The file's name.
pub(crate) const NAME: &str = "snapshot";
/// The name of one that is being written.
pub(crate) const NEW: &str = "snapshot.new";
const MAGIC: &[u8; 8] = b"cmtsnap\x01";

/// Writes the state as it is after a group.
pub(crate) fn encode(state: &State, includes: u64) -> Vec<u8> {
    let mut to = Vec::new();
    to.put_slice(MAGIC);
    to.put_u64_le(includes);
    to.put_u32_le(state.topics.len() as u32);
    for topic in &state.topics {
        put_text(&mut to, &topic.name);
        to.put_u64_le(topic.next());
        put_ids(&mut to, topic.ids.iter(), topic.ids.len());
    }
    to.put_u32_le(state.subscriptions.len() as u32);
    for subscription in &state.subscriptions {
        put_subscription(&mut to, subscription);
    }
    let crc = checksum(0, &to);
    to.put_u32_le(crc);
    to
}

fn put_subscription(to: &mut Vec<u8>, subscription: &Subscribed) {
    to.put_u32_le(subscription.topic);
    put_text(to, &subscription.group);
    subscription.done.encode(to);
    to.put_u32_le(subscription.deferred.len() as u32);
    for (position, deferred) in &subscription.deferred {
        to.put_u64_le(*position);
        to.put_u32_le(deferred.attempts);
        to.put_i64_le(deferred.not_before.0);
    }
    to.put_u32_le(subscription.parked.len() as u32);
    for (position, aside) in subscription.parked.values() {
        to.put_u64_le(*position);
        aside.encode(to);
    }
    put_ids(to, subscription.inbox.iter(), subscription.inbox.len());
}

fn put_ids(to: &mut Vec<u8>, ids: impl Iterator<Item = (Timestamp, [u8; 16], u64)>, count: usize) {
    to.put_u32_le(count as u32);
    for (time, id, position) in ids {
        to.put_i64_le(time.0);
        to.put_slice(&id);
        to.put_u64_le(position);
    }
}

/// Reads a snapshot: the state, and the group that it includes. `None` when the bytes are damaged.
pub(crate) fn decode(bytes: &[u8], options: &Options) -> Option<(State, u64)> {
    let (body, mut crc) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
    if crc.get_u32_le() != checksum(0, body) {
        return None;
    }
    let from = &mut body.strip_prefix(MAGIC)?;
    let includes = from.try_get_u64_le().ok()?;
    let mut state = State::default();
    for n in 0..from.try_get_u32_le().ok()? {
        let mut topic = Stored::new(text(from)?);
        topic.first = from.try_get_u64_le().ok()?;
        for_ids(from, |time, id, position| topic.ids.insert(id, position, time, options.dedup_window))?;
        state.by_name.insert(topic.name.clone(), n);
        state.topics.push(topic);
    }
    for n in 0..from.try_get_u32_le().ok()? {
        let subscription = subscription(from, options)?;
        state.by_group.insert((subscription.topic, subscription.group.clone()), n);
        state.subscriptions.push(subscription);
    }
    from.is_empty().then_some((state, includes))
}

fn subscription(from: &mut &[u8], options: &Options) -> Option<Subscribed> {
    let topic = from.try_get_u32_le().ok()?;
    let mut subscription = Subscribed::new(topic, text(from)?);
    let (done, rest) = Watermark::decode(from).ok()?;
    (subscription.done, *from) = (done, rest);
    for _ in 0..from.try_get_u32_le().ok()? {
        let position = from.try_get_u64_le().ok()?;
        let attempts = from.try_get_u32_le().ok()?;
        subscription.defer(position, attempts, Timestamp(from.try_get_i64_le().ok()?));
    }
    for _ in 0..from.try_get_u32_le().ok()? {
        let position = from.try_get_u64_le().ok()?;
        subscription.park(position, Aside::decode(from)?);
    }
    for_ids(from, |time, id, position| subscription.inbox.insert(id, position, time, options.inbox_window))?;
    Some(subscription)
}

fn for_ids(from: &mut &[u8], mut each: impl FnMut(Timestamp, [u8; 16], u64)) -> Option<()> {
    for _ in 0..from.try_get_u32_le().ok()? {
        let time = Timestamp(from.try_get_i64_le().ok()?);
        let id = fingerprint(from)?;
        each(time, id, from.try_get_u64_le().ok()?);
    }
    Some(())
}
