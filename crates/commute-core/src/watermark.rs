//! Watermarks: which prefix of positions is complete, and what is complete beyond it.
//!
//! Acknowledgements arrive in any order. Below the watermark everything is done; beyond it a bitmap remembers what is,
//! cut into chunks, so that a chunk in which all is done, or nothing, takes no bitmap:
//!
//! ```text
//!   positions   0 … 4095   4096 …   8192 …   12288 …
//!   chunk       (gone)     bits     done     bits
//!                             ^ low: the lowest position that is not done
//! ```
//!
//! The bytes of a watermark say the same in the shorter of two ways for each chunk: lengths of runs, or its bitmap. Runs
//! go on across chunks, so one stuck event costs a few bytes however much is done behind it.

use std::collections::VecDeque;
use std::iter;
use std::ops::Range;

/// Complete positions: everything below [`Watermark::low`], and some beyond.
#[derive(Debug, Clone, Default)]
pub struct Watermark {
    /// The lowest position that is not done.
    low: u64,
    /// From the chunk that `low` is in. Positions below `low` count as done in it.
    chunks: VecDeque<Chunk>,
    beyond: u64,
}

/// The bytes are not a watermark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are not a watermark")]
pub struct InvalidWatermark;

/// Says how the bytes are to be read.
const VERSION: u8 = 2;

/// Positions in a chunk: enough to make whole chunks rare to allocate, and 512 bytes when written out.
const CHUNK: u64 = 4096;
const WORDS: usize = CHUNK as usize / 64;

/// How far a position may be beyond the watermark: a damaged or foreign position would take all memory else. At a million
/// a second it takes an event that is stuck for nineteen hours to get there, and 256 MiB of chunks.
const MAX_SPAN: u64 = 1 << 36;

/// What is done of 4,096 positions.
#[derive(Debug, Clone)]
enum Chunk {
    None,
    All,
    Some { done: u16, words: Box<[u64; WORDS]> },
}

impl Chunk {
    fn word(&self, n: usize) -> u64 {
        match self {
            Chunk::None => 0,
            Chunk::All => u64::MAX,
            Chunk::Some { words, .. } => words[n],
        }
    }

    fn contains(&self, position: u64) -> bool {
        self.word((position % CHUNK) as usize / 64) & (1 << (position % 64)) != 0
    }

    /// Answers whether that is news.
    fn insert(&mut self, position: u64) -> bool {
        if matches!(self, Chunk::None) {
            *self = Chunk::Some { done: 0, words: Box::new([0; WORDS]) };
        }
        let Chunk::Some { done, words } = self else { return false };
        let (word, bit) = (&mut words[(position % CHUNK) as usize / 64], 1 << (position % 64));
        if *word & bit != 0 {
            return false;
        }
        (*word, *done) = (*word | bit, *done + 1);
        if u64::from(*done) == CHUNK {
            *self = Chunk::All;
        }
        true
    }

    /// How many are done.
    fn done(&self) -> u64 {
        match self {
            Chunk::None => 0,
            Chunk::All => CHUNK,
            Chunk::Some { done, .. } => u64::from(*done),
        }
    }

    /// Everything from `at` on, a place in the chunk, is open.
    fn reopen(&mut self, at: u64) {
        let mut below = Chunk::None;
        for place in (0..at).filter(|place| self.contains(*place)) {
            below.insert(place);
        }
        *self = below;
    }

    /// From `at` on, a place in the chunk: how many are all done, or all open.
    fn run(&self, at: u64, done: bool) -> u64 {
        let mut to = at;
        while to < CHUNK {
            let word = self.word(to as usize / 64);
            let others = (if done { !word } else { word }) >> (to % 64);
            let left = 64 - to % 64;
            let same = u64::from(others.trailing_zeros()).min(left);
            to += same;
            if same < left {
                break;
            }
        }
        to - at
    }
}

impl Watermark {
    /// Nothing is done, from `first` on.
    pub fn new(first: u64) -> Self {
        Watermark { low: first, chunks: VecDeque::new(), beyond: 0 }
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
        position < self.low
            || self.place(position).and_then(|n| self.chunks.get(n)).is_some_and(|c| c.contains(position))
    }

    /// A position is done. Answers whether that is news.
    ///
    /// A position more than 2^36 beyond the watermark is not taken, nor is the last one of all: the answer is `false`,
    /// and [`Watermark::is_done`] stays `false`.
    pub fn done(&mut self, position: u64) -> bool {
        if position < self.low || position - self.low > MAX_SPAN || position == u64::MAX {
            return false;
        }
        // In order: nothing to remember.
        if position == self.low && self.chunks.is_empty() {
            self.low += 1;
            return true;
        }
        let Some(chunk) = self.chunk(position) else { return false };
        let news = chunk.insert(position);
        self.beyond += u64::from(news);
        if position == self.low {
            self.advance();
        }
        news
    }

    /// Everything from a position on is open again; what is done below it stays so.
    pub fn reopen(&mut self, from: u64) {
        if from <= self.low {
            *self = Watermark::new(from);
            return;
        }
        let Some(place) = self.place(from) else { return };
        self.chunks.truncate(place.saturating_add(1));
        if let Some(chunk) = self.chunks.get_mut(place) {
            chunk.reopen(from % CHUNK);
        }
        let done: u64 = self.chunks.iter().map(Chunk::done).sum();
        // The first chunk counts what is below the watermark, too.
        let below = if self.chunks.is_empty() { 0 } else { self.low % CHUNK };
        self.beyond = done - below;
    }

    /// What is open below the last done position, in order: the gaps that keep the watermark back.
    pub fn gaps(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        let mut at = self.low;
        self.done_ranges().map(move |done| std::mem::replace(&mut at, done.end)..done.start)
    }

    /// The place behind the last position that is done.
    pub fn end(&self) -> u64 {
        self.done_ranges().last().map_or(self.low, |done| done.end)
    }

    /// What is done beyond the watermark, in order, in ranges that are as long as possible.
    fn done_ranges(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        let mut at = self.low;
        iter::from_fn(move || {
            let start = self.end_of_run(at, false);
            at = self.end_of_run(start, true);
            (start < at).then_some(start..at)
        })
    }

    /// The first position from `at` on that is not done, or not open; at most the end of the last chunk.
    fn end_of_run(&self, mut at: u64, done: bool) -> u64 {
        while let Some(chunk) = self.place(at).and_then(|n| self.chunks.get(n)) {
            let length = chunk.run(at % CHUNK, done);
            at = at.saturating_add(length);
            if length == 0 || !at.is_multiple_of(CHUNK) {
                break;
            }
        }
        at
    }

    /// Moves the watermark over what is done, and forgets the chunks below it.
    fn advance(&mut self) {
        while let Some(chunk) = self.chunks.front() {
            let length = chunk.run(self.low % CHUNK, true);
            self.low += length;
            self.beyond -= length;
            if length == 0 || !self.low.is_multiple_of(CHUNK) {
                return;
            }
            self.chunks.pop_front();
        }
    }

    /// The place of a position in the list of chunks; it may be behind its end.
    fn place(&self, position: u64) -> Option<usize> {
        usize::try_from((position / CHUNK).checked_sub(self.low / CHUNK)?).ok()
    }

    /// The chunk of a position, which is not below `low`.
    fn chunk(&mut self, position: u64) -> Option<&mut Chunk> {
        let place = self.place(position)?;
        if self.chunks.is_empty() {
            let mut first = Chunk::None;
            for below in 0..self.low % CHUNK {
                first.insert(below);
            }
            self.chunks.push_back(first);
        }
        if place >= self.chunks.len() {
            self.chunks.resize(place + 1, Chunk::None);
        }
        self.chunks.get_mut(place)
    }

    /// The first position of a chunk that the watermark is not beyond.
    fn start_of(&self, place: usize) -> u64 {
        (self.low / CHUNK + place as u64).saturating_mul(CHUNK).max(self.low)
    }

    /// Appends a compact form: a version, the watermark, and what is done beyond it.
    ///
    /// The last part is a number of runs and their lengths, alternately open and done, then a number of chunks and their
    /// bitmaps, and so on in turn. A chunk is written as a bitmap when its runs would take more bytes.
    pub fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.push(VERSION);
        put(self.low, bytes);
        let mut beyond = Vec::new();
        let mut n = 0;
        while n < self.chunks.len() {
            let runs_to = (n..self.chunks.len()).find(|n| self.is_dense(*n)).unwrap_or(self.chunks.len());
            self.encode_runs(self.start_of(n)..self.start_of(runs_to), &mut beyond);
            n = (runs_to..self.chunks.len()).find(|n| !self.is_dense(*n)).unwrap_or(self.chunks.len());
            if runs_to < n {
                put((n - runs_to) as u64, &mut beyond);
            }
            for chunk in self.chunks.range(runs_to..n) {
                (0..WORDS).for_each(|n| beyond.extend(chunk.word(n).to_le_bytes()));
            }
        }
        put(beyond.len() as u64, bytes);
        bytes.extend(beyond);
    }

    /// The lengths of the runs in a range, open or done, the first one open.
    fn runs(&self, range: Range<u64>) -> impl Iterator<Item = (u64, bool)> + '_ {
        let (mut at, mut done) = (range.start, true);
        iter::from_fn(move || {
            done = !done;
            let end = self.end_of_run(at, done).min(range.end);
            let start = std::mem::replace(&mut at, end);
            (start < range.end).then_some((at - start, done))
        })
    }

    fn encode_runs(&self, range: Range<u64>, bytes: &mut Vec<u8>) {
        let mut lengths: Vec<_> = self.runs(range.clone()).collect();
        // What is open behind the last done position needs no word.
        if range.end == self.start_of(self.chunks.len()) && lengths.last().is_some_and(|(_, done)| !done) {
            lengths.pop();
        }
        put(lengths.len() as u64, bytes);
        lengths.into_iter().for_each(|(length, _)| put(length, bytes));
    }

    /// Whether the runs of a chunk take more bytes than its bitmap.
    fn is_dense(&self, place: usize) -> bool {
        let partial = matches!(self.chunks.get(place), Some(Chunk::Some { .. }));
        let bytes = |length: u64| (64 - length.leading_zeros()).div_ceil(7).max(1) as usize;
        let range = self.start_of(place)..self.start_of(place + 1);
        partial && self.runs(range).map(|(length, _)| bytes(length)).sum::<usize>() > WORDS * 8
    }

    /// Reads what [`Watermark::encode`] wrote and answers what is left of the bytes.
    ///
    /// # Errors
    /// When it is not one.
    pub fn decode(bytes: &[u8]) -> Result<(Self, &[u8]), InvalidWatermark> {
        Self::read(bytes).ok_or(InvalidWatermark)
    }

    fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (version, mut bytes) = bytes.split_first()?;
        let (low, length) = (take(&mut bytes)?, take(&mut bytes)?);
        let (mut beyond, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
        if *version != VERSION {
            return None;
        }
        let mut watermark = Watermark::new(low);
        let mut at = low;
        while !beyond.is_empty() {
            for n in 0..take(&mut beyond)? {
                let end = at.checked_add(take(&mut beyond)?).filter(|end| end - low <= MAX_SPAN)?;
                if n % 2 == 1 {
                    watermark.fill(at..end)?;
                }
                at = end;
            }
            for _ in 0..if beyond.is_empty() { 0 } else { take(&mut beyond)? } {
                let (bitmap, others) = beyond.split_at_checked(WORDS * 8)?;
                at = watermark.read_chunk(at, bitmap)?;
                beyond = others;
            }
        }
        watermark.advance();
        Some((watermark, rest))
    }

    /// Answers the end of the chunk.
    fn read_chunk(&mut self, at: u64, bitmap: &[u8]) -> Option<u64> {
        let start = at - at % CHUNK;
        if at - self.low > MAX_SPAN || (at != start && at != self.low) {
            return None;
        }
        for n in at % CHUNK..CHUNK {
            if bitmap[n as usize / 8] & (1 << (n % 8)) != 0 {
                self.fill(start + n..(start + n).checked_add(1)?)?;
            }
        }
        Some(start.saturating_add(CHUNK))
    }

    /// Adds positions that are known to be open.
    fn fill(&mut self, mut positions: Range<u64>) -> Option<()> {
        self.beyond += positions.end - positions.start;
        while !positions.is_empty() {
            let rest = CHUNK - positions.start % CHUNK;
            let length = rest.min(positions.end - positions.start);
            let chunk = self.chunk(positions.start)?;
            if length == CHUNK {
                *chunk = Chunk::All;
            } else {
                (positions.start..positions.start + length).for_each(|position| _ = chunk.insert(position));
            }
            positions.start += length;
        }
        Some(())
    }
}

/// Two are equal when the same positions are done.
impl PartialEq for Watermark {
    fn eq(&self, other: &Self) -> bool {
        self.low == other.low && self.beyond == other.beyond && self.gaps().eq(other.gaps())
    }
}

impl Eq for Watermark {}

/// Seven bits a byte, the lowest first; the highest bit says that more follow.
fn put(mut n: u64, bytes: &mut Vec<u8>) {
    while n >= 0x80 {
        bytes.push(n as u8 | 0x80);
        n >>= 7;
    }
    bytes.push(n as u8);
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut n = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        n |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(n);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::*;

    fn with(first: u64, done: impl IntoIterator<Item = u64>) -> Watermark {
        let mut watermark = Watermark::new(first);
        done.into_iter().for_each(|position| _ = watermark.done(position));
        watermark
    }

    /// Writes it, reads it back, and answers how many bytes it took.
    fn size(watermark: &Watermark) -> usize {
        let mut bytes = Vec::new();
        watermark.encode(&mut bytes);
        let length = bytes.len();
        bytes.push(7);
        let (read, rest) = Watermark::decode(&bytes).unwrap();
        assert_eq!((&read, read.done_beyond(), rest), (watermark, watermark.done_beyond(), &[7][..]));
        length
    }

    #[test]
    fn one_stuck_event_costs_a_few_bytes_however_much_is_done_behind_it() {
        let mut watermark = with(5, 6..1_000_006);
        assert_eq!((watermark.low(), watermark.done_beyond()), (5, 1_000_000));
        assert!(size(&watermark) <= 24, "{}", size(&watermark));
        let bitmaps = watermark.chunks.iter().filter(|chunk| matches!(chunk, Chunk::Some { .. })).count();
        assert_eq!(bitmaps, 2, "those at the ends");
        assert!(watermark.done(5));
        assert_eq!((watermark.low(), watermark.done_beyond(), watermark.chunks.len()), (1_000_006, 0, 1));
    }

    #[test]
    fn a_hundred_gaps_in_a_million_cost_less_than_450_bytes() {
        let watermark = with(0, (0..1_000_000).filter(|position| position % 10_000 != 0));
        assert!(size(&watermark) <= 450, "{}", size(&watermark));
        assert_eq!(watermark.gaps().count(), 100);
    }

    #[test]
    fn many_gaps_close_together_cost_one_bit_a_position() {
        let mut rng = Rng::with_seed(1);
        let half = with(0, (1..32_768).filter(|_| rng.bool()));
        assert!(size(&half) <= 4_096 + 24, "{}", size(&half));
        let old = (1..96_000).filter(|position| position % 10_000 != 0);
        let new = (96_000..100_000).filter(|_| rng.u8(0..4) != 0);
        let mixed = with(0, old.chain(new));
        assert!(size(&mixed) <= 1_100, "{}", size(&mixed));
    }

    #[test]
    fn gaps_are_what_is_open_below_the_last_done_position() {
        let gaps = |watermark: Watermark| watermark.gaps().collect::<Vec<_>>();
        assert_eq!(gaps(Watermark::new(7)), []);
        assert_eq!(gaps(with(7, [7, 8])), []);
        assert_eq!(gaps(with(7, [8, 10, 11, 20_000])), [7..8, 9..10, 12..20_000]);
        assert_eq!(
            [with(7, []), with(7, [7, 8]), with(7, [9, 20_000])].map(|watermark| watermark.end()),
            [7, 9, 20_001]
        );
    }

    #[test]
    fn random_orders_of_done_agree_with_a_plain_list() {
        for seed in 0..300 {
            let mut rng = Rng::with_seed(seed);
            // Around the edges of chunks, close together or far apart.
            let (first, span) = (rng.u64(0..3) * CHUNK + rng.u64(0..200), rng.choice([70, 300, 3 * CHUNK]).unwrap());
            let mut watermark = Watermark::new(first);
            let mut list = vec![false; span as usize + 1];
            for _ in 0..rng.u64(0..3 * span) {
                let position = rng.u64(0..span);
                assert_eq!(watermark.done(first + position), !std::mem::replace(&mut list[position as usize], true));
            }
            let low = list.iter().take_while(|done| **done).count() as u64;
            let beyond = list.iter().skip(low as usize).filter(|done| **done).count() as u64;
            assert_eq!((watermark.low(), watermark.done_beyond()), (first + low, beyond), "seed {seed}");
            assert!((0..=span).all(|n| watermark.is_done(first + n) == list[n as usize]), "seed {seed}");
            let open: u64 = watermark.gaps().map(|gap| gap.end - gap.start).sum();
            let last = list.iter().rposition(|done| *done).map_or(0, |last| last as u64 + 1);
            assert_eq!(open, last.saturating_sub(low) - beyond, "seed {seed}");
            size(&watermark);
            let mut rest: Vec<_> = (0..=span).collect();
            rng.shuffle(&mut rest);
            rest.into_iter().for_each(|n| _ = watermark.done(first + n));
            assert_eq!((watermark.low(), watermark.done_beyond()), (first + span + 1, 0), "seed {seed}");
            assert!(watermark.chunks.len() <= 1);
        }
    }

    #[test]
    fn what_is_reopened_is_open_and_the_rest_is_as_it_was() {
        for seed in 0..300 {
            let mut rng = Rng::with_seed(seed);
            let (first, span) = (rng.u64(0..3) * CHUNK + rng.u64(0..200), rng.choice([70, 300, 3 * CHUNK]).unwrap());
            let mut watermark = with(first, (0..3 * span).map(|_| first + rng.u64(0..span)));
            let from = (first + rng.u64(0..span + 10)).saturating_sub(rng.u64(0..20));
            let expected = with(first.min(from), (first..from).filter(|position| watermark.is_done(*position)));
            watermark.reopen(from);
            assert_eq!(watermark, expected, "seed {seed}");
            assert!((from..first + span).all(|position| !watermark.is_done(position)), "seed {seed}");
            size(&watermark);
            (from.min(first)..first + span).for_each(|position| _ = watermark.done(position));
            assert_eq!((watermark.low(), watermark.done_beyond()), ((first + span).max(from.min(first)), 0), "{seed}");
        }
    }

    #[test]
    fn positions_that_are_too_far_off_are_not_taken() {
        let mut watermark = Watermark::new(3);
        assert!(!watermark.done(u64::MAX) && !watermark.done(4 + MAX_SPAN));
        assert!(!watermark.is_done(4 + MAX_SPAN) && watermark.done(3));
        let mut last = Watermark::new(u64::MAX - 5_000);
        assert!(last.done(u64::MAX - 1) && !last.done(u64::MAX));
        size(&last);
        (u64::MAX - 5_000..u64::MAX - 1).rev().for_each(|position| assert!(last.done(position)));
        assert_eq!((last.low(), last.done_beyond(), last.gaps().count()), (u64::MAX, 0, 0));
        size(&last);
    }

    #[test]
    fn damaged_bytes_are_refused() {
        let huge = [2, 0, 12, 2, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
        for bytes in [&[][..], &[1, 0, 0], &[2, 0x80], &[2, 0, 5, 1], &[2, 0, 1, 2], &[2, 0, 2, 0, 1], &huge] {
            assert_eq!(Watermark::decode(bytes), Err(InvalidWatermark), "{bytes:?}");
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused() {
        let mut rng = Rng::with_seed(3);
        let mut bytes = Vec::new();
        with(10, (11..40_000).filter(|_| rng.bool())).encode(&mut bytes);
        for _ in 0..3_000 {
            let mut bytes = bytes.clone();
            bytes.truncate(rng.usize(..bytes.len()));
            for _ in 0..rng.usize(0..4) {
                let n = rng.usize(..bytes.len().max(1)).min(20);
                bytes.iter_mut().skip(n).take(1).for_each(|byte| *byte = rng.u8(..));
            }
            _ = Watermark::decode(&bytes);
        }
    }
}
