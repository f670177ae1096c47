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

/// Ids, by their sixteen bytes.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    positions: HashMap<[u8; 16], u64>,
    by_age: VecDeque<(Timestamp, [u8; 16])>,
}

impl Ids {
    /// Remembers an id; forgets what is out of the window.
    pub(crate) fn insert(&mut self, id: [u8; 16], position: u64, now: Timestamp, window: Window) {
        if self.positions.insert(id, position).is_none() {
            self.by_age.push_back((now, id));
        }
        while let Some((time, oldest)) = self.by_age.front() {
            if self.by_age.len() <= window.count && now.since(*time) <= window.time {
                break;
            }
            self.positions.remove(oldest);
            self.by_age.pop_front();
        }
    }

    /// Where the event with an id is, if it was here within the window.
    pub(crate) fn get(&self, id: &[u8; 16]) -> Option<u64> {
        self.positions.get(id).copied()
    }

    /// Oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Timestamp, [u8; 16], u64)> + '_ {
        self.by_age.iter().map(|(time, id)| (*time, *id, self.positions.get(id).copied().unwrap_or_default()))
    }

    pub(crate) fn len(&self) -> usize {
        self.by_age.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_forgotten_by_age_and_by_number() {
        let window = Window { time: Duration::from_micros(10), count: 3 };
        let mut ids = Ids::default();
        for n in 0..5_u8 {
            ids.insert([n; 16], u64::from(n), Timestamp(i64::from(n)), window);
        }
        assert_eq!((ids.get(&[1; 16]), ids.get(&[2; 16])), (None, Some(2)));
        ids.insert([9; 16], 9, Timestamp(13), window);
        assert_eq!((ids.get(&[2; 16]), ids.get(&[3; 16])), (None, Some(3)));
        ids.insert([9; 16], 9, Timestamp(14), window);
        assert_eq!((ids.get(&[3; 16]), ids.len()), (None, 2));
    }
}
