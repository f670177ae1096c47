//! The plan: every event of a run, known before it begins and the same for the same seed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::event::{ATTEMPTS, Touch};

/// Keys, in groups that share a partition. Few enough that events conflict all the time.
const KEYS: u32 = 40;
const GROUPS: u32 = 10;

/// How many publishers there are; each has groups of its own, so that the order of a key is that of one publisher.
pub(crate) const PUBLISHERS: usize = 2;

/// The largest batch that is published at once.
const BATCH: usize = 12;

/// What is published and how it is handled.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Workload {
    pub(crate) seed: u64,
    pub(crate) events: usize,
    /// Over how long publishing is spread.
    pub(crate) spread: Duration,
    /// The longest time in a handler.
    pub(crate) longest: Duration,
    /// Whether every handler takes the longest time.
    pub(crate) is_slow: bool,
    /// Whether handlers fail, answer, and give events up.
    pub(crate) is_troubled: bool,
    /// A publish that takes longer is abandoned and begun again; none: it is waited for.
    pub(crate) patience: Option<Duration>,
}

/// Every event of a workload.
pub(crate) fn events(workload: &Workload) -> Vec<Touch> {
    let mut random = fastrand::Rng::with_seed(workload.seed);
    let mut next = [0; KEYS as usize];
    let per_group = KEYS / GROUPS;
    let longest = u64::try_from(workload.longest.as_micros()).unwrap_or(u64::MAX);
    let events = (0..workload.events).map(|n| {
        let group = random.u32(..GROUPS);
        let mut touched = vec![group * per_group + random.u32(..per_group)];
        if random.bool() {
            let second = group * per_group + random.u32(..per_group);
            if second != touched[0] {
                touched.push(second);
            }
        }
        let failures = match random.u32(..100) {
            0..1 => ATTEMPTS,
            1..5 => 2,
            5..12 => 1,
            _ => 0,
        };
        let keys = touched.into_iter().map(|key| {
            let place = &mut next[key as usize];
            *place += 1;
            (key, *place - 1)
        });
        Touch {
            n,
            group,
            keys: keys.collect(),
            failures: if workload.is_troubled { failures } else { 0 },
            micros: if workload.is_slow { longest } else { random.u64(..=longest) },
            echoes: workload.is_troubled && n % 4 < 2,
        }
    });
    events.collect()
}

/// What one publisher sends, batch by batch.
pub(crate) fn batches(workload: &Workload, events: &[Touch], publisher: usize) -> Vec<Vec<Touch>> {
    let mut random = fastrand::Rng::with_seed(workload.seed ^ (publisher as u64 + 1));
    let mut own: Vec<Touch> =
        events.iter().filter(|touch| touch.group as usize % PUBLISHERS == publisher).cloned().collect();
    let mut batches = Vec::new();
    while !own.is_empty() {
        let rest = own.split_off(random.usize(1..=BATCH).min(own.len()));
        batches.push(std::mem::replace(&mut own, rest));
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(seed: u64) -> Workload {
        Workload {
            seed,
            events: 500,
            spread: Duration::ZERO,
            longest: Duration::from_millis(3),
            is_slow: false,
            is_troubled: true,
            patience: None,
        }
    }

    #[test]
    fn a_seed_gives_the_same_events_and_batches() {
        assert_eq!(events(&workload(1)), events(&workload(1)));
        assert_ne!(events(&workload(1)), events(&workload(2)));
        let of = |publisher| batches(&workload(1), &events(&workload(1)), publisher);
        assert_eq!(of(0), of(0));
        assert_eq!((0..PUBLISHERS).flat_map(of).flatten().count(), 500);
    }

    #[test]
    fn the_keys_of_an_event_are_in_its_group_and_counted_in_order() {
        let mut next = [0; KEYS as usize];
        for touch in events(&workload(3)) {
            for (key, place) in touch.keys {
                assert_eq!(key / (KEYS / GROUPS), touch.group);
                assert_eq!(place, next[key as usize]);
                next[key as usize] += 1;
            }
        }
    }
}
