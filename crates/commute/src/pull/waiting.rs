//! What a puller holds and nobody has in hand: what backs off, and what is held back behind it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use commute_core::{Context, DeliveryTag};
use tokio::time::Instant;

/// A delivery, for settling it and for making what it causes.
pub(super) struct Held {
    pub(super) tag: DeliveryTag,
    pub(super) context: Context,
}

impl Held {
    fn key(&self) -> Option<&str> {
        self.context.envelope.partition_key()
    }
}

/// Bounded by the credit of the subscription: everything in it is unsettled.
#[derive(Default)]
pub(super) struct Waiting {
    /// By time, then by place.
    backing_off: BTreeMap<(Instant, DeliveryTag), Held>,
    /// How many of each key back off.
    keys: HashMap<Arc<str>, usize>,
    /// By place.
    ready: BTreeMap<DeliveryTag, Held>,
    /// Incarnations that another instance has taken over: what was in hand does not come back here.
    revoked: HashSet<u32>,
}

impl Waiting {
    /// It can be taken as soon as nothing of its key backs off.
    pub(super) fn ready(&mut self, held: Held) {
        if !self.revoked.contains(&held.tag.incarnation) {
            self.ready.insert(held.tag, held);
        }
    }

    /// It comes again at this time.
    pub(super) fn back_off(&mut self, held: Held, until: Instant) {
        if self.revoked.contains(&held.tag.incarnation) {
            return;
        }
        if let Some(key) = held.key() {
            *self.keys.entry(key.into()).or_default() += 1;
        }
        self.backing_off.insert((until, held.tag), held);
    }

    /// What is taken next: what is due, then the first whose key is free.
    pub(super) fn next(&mut self, now: Instant) -> Option<Held> {
        if let Some(first) = self.backing_off.first_entry()
            && first.key().0 <= now
        {
            let held = first.remove();
            self.let_go(&held);
            return Some(held);
        }
        let free = |held: &&Held| held.key().is_none_or(|key| !self.keys.contains_key(key));
        let tag = self.ready.values().find(free)?.tag;
        self.ready.remove(&tag)
    }

    /// When the next one is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.backing_off.first_key_value().map(|((time, _), _)| *time)
    }

    /// Takes everything of an incarnation out.
    pub(super) fn withdraw(&mut self, incarnation: u32) -> Vec<DeliveryTag> {
        self.revoked.insert(incarnation);
        let theirs = |tag: &DeliveryTag| tag.incarnation == incarnation;
        let gone: Vec<Held> =
            self.backing_off.extract_if(.., |(_, tag), _| theirs(tag)).map(|(_, held)| held).collect();
        gone.iter().for_each(|held| self.let_go(held));
        let ready = self.ready.extract_if(.., |tag, _| theirs(tag)).map(|(tag, _)| tag);
        gone.iter().map(|held| held.tag).chain(ready).collect()
    }

    /// It does not back off any more.
    fn let_go(&mut self, held: &Held) {
        if let Some(key) = held.key()
            && let Some(count) = self.keys.get_mut(key)
        {
            *count -= 1;
            if *count == 0 {
                self.keys.remove(key);
            }
        }
    }
}
