//! Who is being delivered what: the receivers of a subscription in this process, and what each has not settled.
//!
//! With one receiver, events go to it in topic order. With several, an event with a key goes to whoever has unsettled
//! events of that key, so that its order holds, else to the one that the key's hash chooses. Nothing here is stored.

use std::collections::{BTreeMap, BTreeSet};

use commute_core::Timestamp;
use hashbrown::HashMap;

/// So many events may be put aside for a slow receiver before the others wait for it. Only positions are kept.
const ASSIGNED: usize = 1 << 16;

/// The receivers of a subscription.
#[derive(Debug, Default)]
pub(crate) struct Delivering {
    /// The next position that nobody has looked at.
    pub(crate) cursor: u64,
    /// Positions below the cursor that must be delivered again, or have become due.
    pub(crate) again: BTreeSet<u64>,
    /// Positions below the cursor that are not due yet.
    pub(crate) later: BTreeMap<(Timestamp, u64), ()>,
    receivers: Vec<ReceiverState>,
    held: HashMap<u64, Held>,
    /// With several receivers only: whose a key is, and for how many events.
    keys: HashMap<u64, (u32, usize)>,
    /// Somebody waits for a slow receiver.
    waiting: bool,
    pub(crate) absorbed: u64,
}

#[derive(Debug)]
struct ReceiverState {
    incarnation: u32,
    credit: usize,
    unsettled: usize,
    /// Chosen for it, and not taken yet.
    assigned: BTreeMap<u64, Option<u64>>,
}

/// A delivery in somebody's hands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    pub(crate) incarnation: u32,
    /// The event's, so that settling reads nothing.
    pub(crate) id: [u8; 16],
    pub(crate) key: Option<u64>,
    /// Whether it came through `receive`, which is what credit counts.
    pub(crate) counted: bool,
}

impl Delivering {
    /// Nobody has anything; delivering begins at a position.
    pub(crate) fn new(cursor: u64) -> Self {
        Delivering { cursor, ..Delivering::default() }
    }

    /// Delivers from a position on, whatever somebody still had in hand. There are no receivers.
    pub(crate) fn begin_again(&mut self, cursor: u64) {
        *self = Delivering { cursor, absorbed: self.absorbed, ..Delivering::default() };
    }

    /// How many receivers there are.
    pub(crate) fn receivers(&self) -> usize {
        self.receivers.len()
    }

    pub(crate) fn join(&mut self, incarnation: u32, credit: usize) {
        let assigned = BTreeMap::new();
        self.receivers.push(ReceiverState { incarnation, credit: credit.max(1), unsettled: 0, assigned });
        self.release_departed();
        self.choose_anew();
    }

    /// The receiver is gone: what it has not settled is delivered to the others. As long as there are none, it may still
    /// settle what it has.
    pub(crate) fn leave(&mut self, incarnation: u32) {
        let Some(n) = self.receivers.iter().position(|receiver| receiver.incarnation == incarnation) else { return };
        self.again.extend(self.receivers.remove(n).assigned.into_keys());
        if !self.receivers.is_empty() {
            self.release_departed();
        }
        self.choose_anew();
    }

    fn release_departed(&mut self) {
        let Delivering { held, receivers, again, .. } = self;
        let departed = |held: &Held| receivers.iter().all(|receiver| receiver.incarnation != held.incarnation);
        again.extend(held.extract_if(|_, held| departed(held)).map(|(position, _)| position));
    }

    /// The receivers have changed: what nobody has taken is chosen for somebody again.
    fn choose_anew(&mut self) {
        for receiver in &mut self.receivers {
            self.again.extend(std::mem::take(&mut receiver.assigned).into_keys());
        }
        self.keys.clear();
        if self.is_shared() {
            let keys = self.held.values().filter_map(|held| Some((held.key?, held.incarnation)));
            for (key, incarnation) in keys {
                self.keys.entry(key).or_insert((incarnation, 0)).1 += 1;
            }
        }
    }

    fn receiver(&mut self, incarnation: u32) -> Option<&mut ReceiverState> {
        self.receivers.iter_mut().find(|receiver| receiver.incarnation == incarnation)
    }

    /// How many more a receiver may take.
    pub(crate) fn room(&self, incarnation: u32) -> usize {
        let receiver = self.receivers.iter().find(|receiver| receiver.incarnation == incarnation);
        receiver.map_or(0, |receiver| receiver.credit.saturating_sub(receiver.unsettled))
    }

    /// How many deliveries are in somebody's hands.
    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }

    /// Whether a delivery is in somebody's hands.
    pub(crate) fn is_held(&self, position: u64) -> bool {
        self.held.contains_key(&position)
    }

    /// Whether this delivery is in the hands of this receiver.
    pub(crate) fn holds(&self, incarnation: u32, position: u64) -> bool {
        self.held.get(&position).is_some_and(|held| held.incarnation == incarnation)
    }

    /// A receiver takes a delivery.
    pub(crate) fn take(&mut self, position: u64, held: Held) {
        if let Some(receiver) = self.receiver(held.incarnation).filter(|_| held.counted) {
            receiver.unsettled += 1;
        }
        self.bind(held.key, held.incarnation);
        self.held.insert(position, held);
    }

    /// A delivery is over. Answers whose it was.
    pub(crate) fn settle(&mut self, position: u64) -> Option<Held> {
        let held = self.held.remove(&position)?;
        if let Some(receiver) = self.receiver(held.incarnation).filter(|_| held.counted) {
            receiver.unsettled = receiver.unsettled.saturating_sub(1);
        }
        self.unbind(held.key);
        Some(held)
    }

    /// Whether several receivers share the work.
    pub(crate) fn is_shared(&self) -> bool {
        self.receivers.len() > 1
    }

    fn bind(&mut self, key: Option<u64>, incarnation: u32) {
        if let Some(key) = key.filter(|_| self.is_shared()) {
            self.keys.entry(key).or_insert((incarnation, 0)).1 += 1;
        }
    }

    fn unbind(&mut self, key: Option<u64>) {
        if let Some(key) = key
            && let Some((_, count)) = self.keys.get_mut(&key)
        {
            *count -= 1;
            if *count == 0 {
                self.keys.remove(&key);
            }
        }
    }

    /// Who must get an event: whoever has its key in hand, else the one that the key chooses, else whoever asks.
    pub(crate) fn owner(&self, key: Option<u64>, asking: u32) -> u32 {
        let Some(key) = key.filter(|_| self.is_shared()) else { return asking };
        if let Some((incarnation, _)) = self.keys.get(&key) {
            return *incarnation;
        }
        // Rendezvous hashing: when a receiver comes or goes, only its own keys move.
        let weight = |receiver: &&ReceiverState| {
            let mixed = (key ^ u64::from(receiver.incarnation)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
        };
        self.receivers.iter().max_by_key(weight).map_or(asking, |receiver| receiver.incarnation)
    }

    /// Puts an event aside for another receiver; its key is bound to it from now on. Answers whether there was room.
    pub(crate) fn assign(&mut self, incarnation: u32, position: u64, key: Option<u64>) -> bool {
        let Some(receiver) = self.receiver(incarnation).filter(|receiver| receiver.assigned.len() < ASSIGNED) else {
            self.waiting = true;
            return false;
        };
        receiver.assigned.insert(position, key);
        self.bind(key, incarnation);
        true
    }

    /// The lowest position that a receiver should look at, and whether it was put aside for it.
    pub(crate) fn pop(&mut self, incarnation: u32) -> Option<(u64, bool)> {
        let again = self.again.first().copied();
        let assigned = self.receiver(incarnation).and_then(|receiver| receiver.assigned.first_entry());
        match assigned {
            Some(entry) if again.is_none_or(|again| *entry.key() < again) => {
                let (position, key) = entry.remove_entry();
                self.unbind(key);
                Some((position, true))
            }
            _ => self.again.pop_first().map(|position| (position, false)),
        }
    }

    /// Whether somebody waited for a receiver that has taken something now.
    pub(crate) fn stop_waiting(&mut self) -> bool {
        std::mem::take(&mut self.waiting)
    }

    /// What is due is looked at again.
    pub(crate) fn wake_due(&mut self, now: Timestamp) {
        while let Some(entry) = self.later.first_entry() {
            let (time, position) = *entry.key();
            if time > now {
                break;
            }
            entry.remove();
            self.again.insert(position);
        }
    }
}
