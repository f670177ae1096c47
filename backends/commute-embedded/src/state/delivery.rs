//! Who is being delivered what: the receivers of a subscription in this process, and what each has not settled.
//!
//! With one receiver, events go to it in topic order. With several, an event with a key goes to whoever has unsettled
//! events of that key, so that its order holds, else to the one that the key's hash chooses.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use commute_core::Timestamp;
use hashbrown::HashMap;

/// The receivers of a subscription.
#[derive(Debug, Default)]
pub(crate) struct Delivering {
    /// The next position that nobody has looked at.
    pub(crate) cursor: u64,
    /// Positions below the cursor that must be delivered again, or for the first time because they were not due.
    pub(crate) again: BTreeSet<u64>,
    /// Positions below the cursor that are not due yet.
    pub(crate) later: BTreeMap<(Timestamp, u64), ()>,
    receivers: Vec<ReceiverState>,
    unsettled: HashMap<u64, Held>,
    /// With several receivers only: who has unsettled events of a key, and how many.
    keys: HashMap<u64, (u32, usize)>,
    pub(crate) absorbed: u64,
}

#[derive(Debug)]
struct ReceiverState {
    incarnation: u32,
    credit: usize,
    unsettled: usize,
    /// Chosen for it, and not taken yet.
    assigned: VecDeque<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    incarnation: u32,
    key: Option<u64>,
}

impl Delivering {
    pub(crate) fn join(&mut self, incarnation: u32, credit: usize) {
        self.receivers.push(ReceiverState {
            incarnation,
            credit: credit.max(1),
            unsettled: 0,
            assigned: VecDeque::new(),
        });
        self.choose_anew();
    }

    /// The receiver is gone: what it has not settled is delivered again.
    pub(crate) fn leave(&mut self, incarnation: u32) {
        let Some(n) = self.receivers.iter().position(|receiver| receiver.incarnation == incarnation) else { return };
        let gone = self.receivers.remove(n);
        self.again.extend(gone.assigned);
        // What was unparked beyond the cursor is found there.
        let (again, cursor) = (&mut self.again, self.cursor);
        self.unsettled.retain(|position, held| {
            let stays = held.incarnation != incarnation;
            if !stays && *position < cursor {
                again.insert(*position);
            }
            stays
        });
        self.choose_anew();
    }

    /// The receivers have changed: what nobody has taken is chosen for somebody again.
    fn choose_anew(&mut self) {
        for receiver in &mut self.receivers {
            self.again.extend(receiver.assigned.drain(..));
        }
        self.keys.clear();
        if self.receivers.len() > 1 {
            for held in self.unsettled.values() {
                if let Some(key) = held.key {
                    self.keys.entry(key).or_insert((held.incarnation, 0)).1 += 1;
                }
            }
        }
    }

    /// How many more a receiver may take.
    pub(crate) fn room(&self, incarnation: u32) -> usize {
        let receiver = self.receivers.iter().find(|receiver| receiver.incarnation == incarnation);
        receiver.map_or(0, |receiver| receiver.credit.saturating_sub(receiver.unsettled))
    }

    /// Whether this delivery is in the hands of this receiver.
    pub(crate) fn holds(&self, incarnation: u32, position: u64) -> bool {
        self.unsettled.get(&position).is_some_and(|held| held.incarnation == incarnation)
    }

    /// Whether a delivery is in anybody's hands: what was unparked may lie before the cursor.
    pub(crate) fn is_held(&self, position: u64) -> bool {
        self.unsettled.contains_key(&position)
    }

    /// A receiver takes a delivery.
    pub(crate) fn take(&mut self, incarnation: u32, position: u64, key: Option<u64>) {
        self.unsettled.insert(position, Held { incarnation, key });
        if let Some(receiver) = self.receivers.iter_mut().find(|receiver| receiver.incarnation == incarnation) {
            receiver.unsettled += 1;
        }
        if let (Some(key), true) = (key, self.receivers.len() > 1) {
            self.keys.entry(key).or_insert((incarnation, 0)).1 += 1;
        }
    }

    /// A delivery is over. Answers whether it was in anybody's hands.
    pub(crate) fn settle(&mut self, position: u64) -> bool {
        let Some(held) = self.unsettled.remove(&position) else { return false };
        if let Some(receiver) = self.receivers.iter_mut().find(|receiver| receiver.incarnation == held.incarnation) {
            receiver.unsettled = receiver.unsettled.saturating_sub(1);
        }
        if let Some(key) = held.key
            && let Some((_, count)) = self.keys.get_mut(&key)
        {
            *count -= 1;
            if *count == 0 {
                self.keys.remove(&key);
            }
        }
        true
    }

    /// A delivery goes back to where it came from.
    pub(crate) fn give_back(&mut self, position: u64) {
        // What was unparked beyond the cursor is found there.
        if self.settle(position) && position < self.cursor {
            self.again.insert(position);
        }
    }

    /// Whether others share the work.
    pub(crate) fn is_shared(&self) -> bool {
        self.receivers.len() > 1
    }

    /// Who must get an event: whoever has its key in hand, else the one that the key chooses, else whoever asks.
    pub(crate) fn owner(&self, key: Option<u64>, asking: u32) -> u32 {
        let Some(key) = key else { return asking };
        if let Some((incarnation, _)) = self.keys.get(&key) {
            return *incarnation;
        }
        // What is assigned and not taken binds its key, too.
        let weight = |receiver: &&ReceiverState| {
            let mixed = (key ^ u64::from(receiver.incarnation)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
        };
        self.receivers.iter().max_by_key(weight).map_or(asking, |receiver| receiver.incarnation)
    }

    /// Puts an event aside for another receiver; its key is bound to it from now on.
    pub(crate) fn assign(&mut self, incarnation: u32, position: u64, key: Option<u64>) {
        if let Some(receiver) = self.receivers.iter_mut().find(|receiver| receiver.incarnation == incarnation) {
            receiver.assigned.push_back(position);
        }
        if let Some(key) = key {
            self.keys.entry(key).or_insert((incarnation, 0)).1 += 1;
        }
    }

    /// The next event that was put aside for a receiver.
    pub(crate) fn next_assigned(&mut self, incarnation: u32, key_of: impl Fn(u64) -> Option<u64>) -> Option<u64> {
        let receiver = self.receivers.iter_mut().find(|receiver| receiver.incarnation == incarnation)?;
        let position = receiver.assigned.pop_front()?;
        // `take` binds the key again.
        if let Some(key) = key_of(position)
            && let Some((_, count)) = self.keys.get_mut(&key)
        {
            *count -= 1;
            if *count == 0 {
                self.keys.remove(&key);
            }
        }
        Some(position)
    }

    /// Whether so much is put aside for a receiver that nobody should look further.
    pub(crate) fn is_full(&self, incarnation: u32) -> bool {
        let receiver = self.receivers.iter().find(|receiver| receiver.incarnation == incarnation);
        receiver.is_some_and(|receiver| receiver.assigned.len() + receiver.unsettled >= receiver.credit)
    }

    /// How many are known and in nobody's hands, up to `next`.
    pub(crate) fn backlog(&self, next: u64) -> u64 {
        let assigned: usize = self.receivers.iter().map(|receiver| receiver.assigned.len()).sum();
        next.saturating_sub(self.cursor) + (self.again.len() + self.later.len() + assigned) as u64
    }
}
