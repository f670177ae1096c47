//! Remembered ids: which events were here, for a stated time and number.

use std::collections::VecDeque;
use std::time::Duration;

use commute_core::Timestamp;
use hashbrown::HashMap;

/// For how long, and how many at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// For how long an id is remembered.
    pub time: Duration,
    /// How many ids are remembered at most; the oldest are forgotten first. One takes about 80 bytes.
    pub count: usize,
}

/// When an event was here, and where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) at: Timestamp,
    pub(crate) position: u64,
}

/// Ids, by their sixteen bytes.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    seen: HashMap<[u8; 16], Seen>,
    /// Oldest first. An id that was seen again has an older entry that no longer counts.
    by_age: VecDeque<([u8; 16], Seen)>,
}

impl Ids {
    /// Remembers an id; forgets what is out of the window.
    pub(crate) fn insert(&mut self, id: [u8; 16], seen: Seen, window: Window) {
        // Nothing is to be remembered: whoever only looks reads millions of ids.
        if window.count == 0 {
            return;
        }
        self.seen.insert(id, seen);
        self.by_age.push_back((id, seen));
        while let Some((oldest, then)) = self.by_age.front().copied() {
            if self.by_age.len() <= window.count && seen.at.since(then.at) <= window.time {
                break;
            }
            if self.seen.get(&oldest) == Some(&then) {
                self.seen.remove(&oldest);
            }
            self.by_age.pop_front();
        }
    }

    /// Forgets the ids of a position and of everything behind it.
    pub(crate) fn forget_from(&mut self, position: u64) {
        self.seen.retain(|_, seen| seen.position < position);
        self.by_age.retain(|(_, seen)| seen.position < position);
    }

    /// Where the event with an id is, if it was here within the window.
    pub(crate) fn get(&self, id: &[u8; 16], now: Timestamp, window: Window) -> Option<u64> {
        self.seen.get(id).filter(|seen| now.since(seen.at) <= window.time).map(|seen| seen.position)
    }

    /// Oldest first.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = ([u8; 16], Seen)> + '_ {
        self.by_age.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Window = Window { time: Duration::from_micros(10), count: 3 };

    fn seen(ids: &mut Ids, id: u8, at: i64) {
        ids.insert([id; 16], Seen { at: Timestamp(at), position: u64::from(id) }, WINDOW);
    }

    fn check(ids: &Ids, now: i64, expected: &[u8]) {
        let found = (0..20).filter(|id| ids.get(&[*id; 16], Timestamp(now), WINDOW).is_some());
        assert_eq!(found.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn ids_are_forgotten_by_number() {
        let mut ids = Ids::default();
        (0..5).for_each(|id| seen(&mut ids, id, 0));
        check(&ids, 0, &[2, 3, 4]);
    }

    #[test]
    fn ids_are_forgotten_by_age_even_if_nothing_new_comes() {
        let mut ids = Ids::default();
        seen(&mut ids, 1, 0);
        seen(&mut ids, 2, 5);
        check(&ids, 10, &[1, 2]);
        check(&ids, 11, &[2]);
        seen(&mut ids, 3, 20);
        assert_eq!(ids.iter().len(), 1, "what is forgotten takes no memory");
    }

    #[test]
    fn an_id_that_was_seen_again_counts_from_then() {
        let mut ids = Ids::default();
        seen(&mut ids, 1, 0);
        seen(&mut ids, 1, 9);
        seen(&mut ids, 2, 12);
        check(&ids, 19, &[1, 2]);
    }
}
