//! The work of the scheduling rows: which keys the events touch, and how long the best of all schedules takes.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

use commute::prelude::*;

/// A transfer between two accounts; an event with one key has it on both sides.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, Event)]
#[event(type = "bench.transferred", key = "from")]
pub(crate) struct Transfer {
    pub(crate) n: u32,
    pub(crate) from: u32,
    pub(crate) to: u32,
}

/// What is to be done.
#[derive(Debug, Clone)]
pub(crate) struct Work {
    pub(crate) name: &'static str,
    pub(crate) events: Vec<Transfer>,
    pub(crate) handler: Duration,
    pub(crate) workers: usize,
}

/// Keys, each as likely as the others.
pub(crate) fn uniform(events: usize, keys: u32) -> Vec<Transfer> {
    // The same ones in every run.
    let mut chance = fastrand::Rng::with_seed(7);
    numbered((0..events).map(|_| chance.u32(..keys)).map(|key| (key, key)))
}

/// Keys of which the first is the most likely, and the others follow Zipf's law.
pub(crate) fn zipf(events: usize, keys: u32, exponent: f64) -> Vec<Transfer> {
    let mut chance = fastrand::Rng::with_seed(7);
    let mut sums = Vec::new();
    let mut sum = 0.0;
    for rank in 1..=keys {
        sum += f64::from(rank).powf(-exponent);
        sums.push(sum);
    }
    let mut key = || {
        let point = chance.f64() * sum;
        u32::try_from(sums.partition_point(|below| *below < point)).unwrap_or_default().min(keys - 1)
    };
    numbered((0..events).map(|_| key()).map(|key| (key, key)))
}

/// Two different accounts, each as likely as the others.
pub(crate) fn transfers(events: usize, accounts: u32) -> Vec<Transfer> {
    let mut chance = fastrand::Rng::with_seed(7);
    let pair = |_| {
        let from = chance.u32(..accounts);
        (from, (from + chance.u32(1..accounts)) % accounts)
    };
    numbered((0..events).map(pair))
}

fn numbered(pairs: impl Iterator<Item = (u32, u32)>) -> Vec<Transfer> {
    (0..).zip(pairs).map(|(n, (from, to))| Transfer { n, from, to }).collect()
}

impl Work {
    /// No schedule is shorter: all the work over all workers, or the longest chain of events of which each waits for the
    /// one before.
    pub(crate) fn ideal(&self) -> Duration {
        let mut depths: HashMap<u32, u32> = HashMap::new();
        let mut longest = 0;
        for event in &self.events {
            let at = |key| depths.get(&key).copied().unwrap_or_default();
            let depth = at(event.from).max(at(event.to)) + 1;
            depths.insert(event.from, depth);
            depths.insert(event.to, depth);
            longest = longest.max(depth);
        }
        let spread = self.handler.mul_f64(self.events.len() as f64 / self.workers as f64);
        spread.max(self.handler * longest)
    }

    /// What a scheduler without any cost of its own takes that gives free workers the oldest event that may run.
    pub(crate) fn oldest_first(&self) -> Duration {
        let mut last: HashMap<u32, usize> = HashMap::new();
        let mut waits_for = vec![0; self.events.len()];
        let mut behind: Vec<Vec<usize>> = vec![Vec::new(); self.events.len()];
        for (n, event) in self.events.iter().enumerate() {
            let mut before =
                [last.insert(event.from, n), last.insert(event.to, n)].into_iter().flatten().collect::<Vec<_>>();
            before.retain(|other| *other != n);
            before.dedup();
            waits_for[n] = before.len();
            before.into_iter().for_each(|other| behind[other].push(n));
        }
        let mut ready: BinaryHeap<_> = (0..waits_for.len()).filter(|n| waits_for[*n] == 0).map(Reverse).collect();
        let mut running: BinaryHeap<Reverse<(Duration, usize)>> = BinaryHeap::new();
        let mut now = Duration::ZERO;
        loop {
            while running.len() < self.workers
                && let Some(Reverse(n)) = ready.pop()
            {
                running.push(Reverse((now + self.handler, n)));
            }
            let Some(Reverse((then, n))) = running.pop() else { return now };
            now = then;
            for next in &behind[n] {
                waits_for[*next] -= 1;
                if waits_for[*next] == 0 {
                    ready.push(Reverse(*next));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn work(pairs: &[(u32, u32)], workers: usize) -> Work {
        Work { name: "", events: numbered(pairs.iter().copied()), handler: MS, workers }
    }

    #[test]
    fn the_longest_chain_and_the_number_of_workers_are_limits() {
        assert_eq!(work(&[(1, 1), (2, 2), (3, 3), (4, 4)], 2).ideal(), 2 * MS);
        assert_eq!(work(&[(1, 2), (2, 3), (3, 4), (9, 9)], 4).ideal(), 3 * MS);
    }

    #[test]
    fn events_of_one_key_follow_each_other_and_others_do_not_wait() {
        assert_eq!(work(&[(1, 1), (1, 1), (2, 2), (3, 3)], 2).oldest_first(), 2 * MS);
        assert_eq!(work(&[(1, 2), (2, 1), (1, 2)], 8).oldest_first(), 3 * MS);
    }
}
