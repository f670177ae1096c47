//! Watermarks: which prefix of positions is complete, and what is complete beyond it.
//!
//! Acknowledgements arrive in any order. Below the watermark everything is done; beyond it a bitmap remembers what is.

use std::collections::VecDeque;

/// Complete positions: everything below [`Watermark::low`], and some beyond.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Watermark {
    /// The lowest position that is not done.
    low: u64,
    /// 64 positions a word, from the word that `low` is in; bits below `low` are set.
    words: VecDeque<u64>,
    beyond: u64,
}

/// The bytes are not a watermark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are not a watermark")]
pub struct InvalidWatermark;

const VERSION: u8 = 1;

impl Watermark {
    /// Nothing is done, from `first` on.
    pub fn new(first: u64) -> Self {
        Watermark { low: first, words: VecDeque::new(), beyond: 0 }
    }

    /// The lowest position that is not done.
    pub fn low(&self) -> u64 {
        self.low
    }

    /// How many positions beyond the watermark are done.
    pub fn done_beyond(&self) -> u64 {
        self.beyond
    }

    /// Whether a position is done.
    pub fn is_done(&self, position: u64) -> bool {
        position < self.low || self.place(position).is_some_and(|(word, bit)| self.words[word] & bit != 0)
    }

    /// A position is done. Answers whether that is news.
    pub fn done(&mut self, position: u64) -> bool {
        if position < self.low {
            return false;
        }
        let base = self.low / 64;
        let Ok(word) = usize::try_from(position / 64 - base) else { return false };
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let bit = 1 << (position % 64);
        if self.words[word] & bit != 0 {
            return false;
        }
        self.words[word] |= bit;
        self.beyond += 1;
        if position == self.low {
            self.advance();
        }
        true
    }

    fn advance(&mut self) {
        while let Some(word) = self.words.front() {
            // The bits below `low` in its word count as done.
            let ones = (word | ((1 << (self.low % 64)) - 1)).trailing_ones();
            let next = (self.low / 64) * 64 + u64::from(ones);
            self.beyond -= next - self.low;
            self.low = next;
            if ones < 64 {
                return;
            }
            self.words.pop_front();
        }
    }

    fn place(&self, position: u64) -> Option<(usize, u64)> {
        let word = usize::try_from((position / 64).checked_sub(self.low / 64)?).ok()?;
        (word < self.words.len()).then_some((word, 1 << (position % 64)))
    }

    /// Appends a compact form: a version, the watermark, and the lengths of the runs beyond it, alternately open and
    /// done. One stuck event with a million done behind it takes a few bytes.
    pub fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.push(VERSION);
        varint(self.low, bytes);
        let (mut at, end) = (self.low, (self.low / 64 + self.words.len() as u64) * 64);
        let mut runs = Vec::new();
        let mut done = false;
        while at < end {
            let length = self.run(at, end, done);
            if at + length == end && !done {
                break;
            }
            varint(length, &mut runs);
            at += length;
            done = !done;
        }
        varint(runs.len() as u64, bytes);
        bytes.extend(runs);
    }

    /// How many positions from `at` on are all done, or all open.
    fn run(&self, at: u64, end: u64, done: bool) -> u64 {
        let mut position = at;
        while position < end {
            let word = self.words[(position / 64 - self.low / 64) as usize];
            let rest = (if done { !word } else { word }) >> (position % 64);
            let left = 64 - position % 64;
            let same = u64::from(rest.trailing_zeros()).min(left);
            position += same;
            if same < left {
                break;
            }
        }
        position.min(end) - at
    }

    /// Reads what [`Watermark::encode`] wrote and answers what is left of the bytes.
    ///
    /// # Errors
    /// When it is not one.
    pub fn decode(bytes: &[u8]) -> Result<(Self, &[u8]), InvalidWatermark> {
        let (version, bytes) = bytes.split_first().ok_or(InvalidWatermark)?;
        if *version != VERSION {
            return Err(InvalidWatermark);
        }
        let (low, bytes) = unvarint(bytes)?;
        let (length, bytes) = unvarint(bytes)?;
        let (mut runs, rest) =
            bytes.split_at_checked(usize::try_from(length).map_err(|_| InvalidWatermark)?).ok_or(InvalidWatermark)?;
        let mut watermark = Watermark::new(low);
        let (mut at, mut done) = (low, false);
        while !runs.is_empty() {
            let (length, left) = unvarint(runs)?;
            let end = at.checked_add(length).ok_or(InvalidWatermark)?;
            // Nobody writes a span that would not fit into memory; bytes that claim one are damaged.
            if end - low > 1 << 40 {
                return Err(InvalidWatermark);
            }
            if done {
                watermark.fill(at, end);
            }
            (runs, at, done) = (left, end, !done);
        }
        Ok((watermark, rest))
    }

    fn fill(&mut self, from: u64, to: u64) {
        let base = self.low / 64;
        let words = (to.div_ceil(64) - base) as usize;
        self.words.resize(words.max(self.words.len()), 0);
        let mut at = from;
        while at < to {
            let end = ((at / 64 + 1) * 64).min(to);
            let ones = u64::MAX >> (64 - (end - at));
            self.words[(at / 64 - base) as usize] |= ones << (at % 64);
            at = end;
        }
        self.beyond += to - from;
        self.advance();
    }
}

fn varint(mut n: u64, bytes: &mut Vec<u8>) {
    while n >= 0x80 {
        bytes.push(n as u8 | 0x80);
        n >>= 7;
    }
    bytes.push(n as u8);
}

fn unvarint(bytes: &[u8]) -> Result<(u64, &[u8]), InvalidWatermark> {
    let mut n = 0;
    for (at, byte) in bytes.iter().enumerate().take(10) {
        n |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok((n, &bytes[at + 1..]));
        }
    }
    Err(InvalidWatermark)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(watermark: &Watermark) -> usize {
        let mut bytes = Vec::new();
        watermark.encode(&mut bytes);
        let length = bytes.len();
        bytes.push(7);
        let (read, rest) = Watermark::decode(&bytes).unwrap();
        assert_eq!((read.low(), read.done_beyond(), rest), (watermark.low(), watermark.done_beyond(), &[7][..]));
        let end = watermark.low + watermark.words.len() as u64 * 64 + 64;
        assert!((watermark.low..end).all(|position| read.is_done(position) == watermark.is_done(position)));
        length
    }

    #[test]
    fn one_stuck_event_costs_a_few_bytes_however_much_is_done_behind_it() {
        let mut watermark = Watermark::new(5);
        (6..1_000_006).for_each(|position| assert!(watermark.done(position)));
        assert_eq!((watermark.low(), watermark.done_beyond()), (5, 1_000_000));
        assert!(encoded(&watermark) <= 24);
        assert!(watermark.done(5));
        assert_eq!((watermark.low(), watermark.done_beyond(), watermark.words.len()), (1_000_006, 0, 1));
    }

    #[test]
    fn a_hundred_gaps_in_a_million_cost_less_than_450_bytes() {
        let mut watermark = Watermark::new(0);
        (0..1_000_000).filter(|position| position % 10_000 != 0).for_each(|position| assert!(watermark.done(position)));
        assert!(encoded(&watermark) <= 450, "{}", encoded(&watermark));
    }

    #[test]
    fn random_orders_of_done_agree_with_a_plain_list() {
        for seed in 0_u64..200 {
            let mut state = seed;
            let mut random = move || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                state >> 33
            };
            let first = random() % 200;
            let mut watermark = Watermark::new(first);
            let mut list = vec![false; 300];
            for _ in 0..random() % 400 {
                let position = random() % 300;
                let news = watermark.done(first + position);
                assert_eq!(news, !std::mem::replace(&mut list[position as usize], true));
            }
            let low = list.iter().position(|done| !done).unwrap_or(300) as u64;
            assert_eq!(watermark.low(), first + low);
            assert!((0..300).all(|position| watermark.is_done(first + position) == list[position as usize]));
            encoded(&watermark);
        }
    }

    #[test]
    fn damaged_bytes_are_refused() {
        for bytes in [&[][..], &[2], &[1, 0x80], &[1, 0, 5, 1], &[1, 0, 2, 0xff, 0xff]] {
            assert_eq!(Watermark::decode(bytes), Err(InvalidWatermark));
        }
    }
}
