//! A window: what is between its arrival and its end, by offset. Most arrive in order and end in about the same, so they stand
//! side by side in memory: two threads that pass them on to each other pass on few cache lines, and a map scatters them.

use std::collections::VecDeque;

/// How many that have ended may stay in the way, beside as many as have not.
const SPARE: usize = if cfg!(test) { 16 } else { 1024 };

/// A map by offset.
#[derive(Debug)]
pub(crate) struct Window<T> {
    /// Sorted. Nothing where one has ended and an earlier one has not.
    entries: VecDeque<(u64, Option<T>)>,
    live: usize,
}

impl<T> Window<T> {
    pub(crate) fn new() -> Self {
        Window { entries: VecDeque::new(), live: 0 }
    }

    /// Where an offset stands, or would.
    fn place(&self, offset: u64) -> Result<usize, usize> {
        let Some((last, _)) = self.entries.back().filter(|(last, _)| *last >= offset) else {
            return Err(self.entries.len());
        };
        // Few offsets are left out among the last.
        let behind = usize::try_from(last - offset).ok();
        let guess = behind.and_then(|behind| (self.entries.len() - 1).checked_sub(behind));
        match guess.filter(|guess| self.entries[*guess].0 == offset) {
            Some(guess) => Ok(guess),
            None => self.entries.binary_search_by_key(&offset, |(known, _)| *known),
        }
    }

    pub(crate) fn get(&self, offset: u64) -> Option<&T> {
        self.entries[self.place(offset).ok()?].1.as_ref()
    }

    pub(crate) fn get_mut(&mut self, offset: u64) -> Option<&mut T> {
        let n = self.place(offset).ok()?;
        self.entries[n].1.as_mut()
    }

    /// In place of what is there, if anything is.
    pub(crate) fn insert(&mut self, offset: u64, value: T) {
        let before = match self.place(offset) {
            Ok(n) => self.entries[n].1.replace(value),
            Err(n) => {
                self.entries.insert(n, (offset, Some(value)));
                None
            }
        };
        self.live += usize::from(before.is_none());
    }

    pub(crate) fn remove(&mut self, offset: u64) -> Option<T> {
        let n = self.place(offset).ok()?;
        let value = self.entries[n].1.take()?;
        self.live -= 1;
        while let Some((_, None)) = self.entries.front() {
            self.entries.pop_front();
        }
        // One that stays must not keep the room of all that end behind it.
        if self.entries.len() > 2 * self.live + SPARE {
            self.entries.retain(|(_, value)| value.is_some());
        }
        Some(value)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// In the order of their offsets.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.entries.iter().filter_map(|(offset, value)| Some((*offset, value.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn it_holds_what_a_map_holds_whatever_the_order_and_the_gaps() {
        for seed in 0..16 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut window, mut map) = (Window::new(), BTreeMap::new());
            let mut next = 0_u64;
            for _ in 0..2_000 {
                let any = random.u64(..next + 10);
                match random.u8(..10) {
                    0..4 => {
                        next += 1 + u64::from(random.u8(..20) == 0) * random.u64(..1_000);
                        window.insert(next, next);
                        map.insert(next, next);
                    }
                    4 => {
                        window.insert(any, next);
                        map.insert(any, next);
                    }
                    5 => assert_eq!(window.remove(any), map.remove(&any)),
                    6 => assert_eq!(window.get_mut(any), map.get_mut(&any)),
                    _ => {
                        // Now among the first, now among all: what stays in front makes the rest be moved together.
                        let among = if random.bool() { 8 } else { usize::MAX };
                        let one = map.keys().nth(random.usize(..map.len().clamp(1, among))).copied().unwrap_or(any);
                        assert_eq!(window.get(one), map.get(&one));
                        assert_eq!(window.remove(one), map.remove(&one));
                    }
                }
                assert_eq!(window.is_empty(), map.is_empty());
            }
            assert!(window.iter().eq(map.iter().map(|(offset, value)| (*offset, value))), "seed {seed}");
        }
    }

    #[test]
    fn one_that_stays_does_not_keep_the_room_of_those_that_end_behind_it() {
        let mut window = Window::new();
        window.insert(0, ());
        for offset in 1..100_000 {
            window.insert(offset, ());
            assert_eq!(window.remove(offset), Some(()));
            assert!(window.entries.len() <= SPARE + 4, "{}", window.entries.len());
        }
        assert_eq!(window.remove(0), Some(()));
        assert!(window.is_empty() && window.entries.is_empty());
    }
}
