//! Span: how parallel a run could have been.
//!
//! Work is the sum of all durations; the critical path is the longest chain of conflicting events. Their ratio is the
//! parallelism that was there (Brent: no number of workers is faster than the critical path).

use commute_core::{Footprint, Mode};

use crate::lanes::LaneMap;

/// Measures a run. Takes one small entry per lane ever seen.
#[derive(Debug, Default)]
pub struct Span {
    lanes: LaneMap<Paths>,
    work: u64,
    longest: u64,
}

/// The longest paths that end in a lane.
#[derive(Debug, Clone, Copy)]
struct Paths {
    /// Of everything before the present run of sharers.
    before: u64,
    /// Of the present run, in this mode.
    now: u64,
    mode: Mode,
}

impl Span {
    /// Adds an event that took `duration` nanoseconds. Conflicting events must be added in the order in which they ran.
    pub fn record(&mut self, footprint: &Footprint, duration: u64) {
        self.work = self.work.saturating_add(duration);
        let mut path = 0;
        for access in footprint.accesses() {
            if let Some(lane) = self.lanes.get(&access.lane) {
                path = path.max(if lane.mode.conflicts_with(access.mode) {
                    lane.now.max(lane.before)
                } else {
                    lane.before
                });
            }
        }
        path = path.saturating_add(duration);
        for access in footprint.accesses() {
            let lane = self.lanes.entry(access.lane).or_insert(Paths { before: 0, now: 0, mode: access.mode });
            if lane.mode.conflicts_with(access.mode) {
                *lane = Paths { before: lane.now.max(lane.before), now: path, mode: access.mode };
            } else {
                lane.now = lane.now.max(path);
            }
        }
        self.longest = self.longest.max(path);
    }

    /// The sum of all durations, in nanoseconds.
    pub fn work(&self) -> u64 {
        self.work
    }

    /// The longest chain of conflicting events, in nanoseconds.
    pub fn critical_path(&self) -> u64 {
        self.longest
    }

    /// Work over critical path: how many workers could have been busy all the time.
    pub fn parallelism(&self) -> f64 {
        self.work as f64 / self.longest.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use commute_core::{Access, commutes, reads, writes};

    use super::*;

    fn check(events: &[(&[Access], u64)], path: u64) {
        let mut span = Span::default();
        for (accesses, duration) in events {
            span.record(&accesses.iter().copied().collect(), *duration);
        }
        assert_eq!(span.critical_path(), path);
        assert_eq!(span.work(), events.iter().map(|(_, duration)| duration).sum::<u64>());
    }

    #[test]
    fn conflicting_events_add_up_and_others_do_not() {
        check(&[(&[writes("a")], 5), (&[writes("b")], 7)], 7);
        check(&[(&[writes("a")], 5), (&[writes("a")], 7)], 12);
        check(&[(&[writes("a")], 5), (&[writes("b")], 7), (&[writes("a"), writes("b")], 1), (&[writes("a")], 1)], 9);
    }

    #[test]
    fn sharers_run_side_by_side() {
        check(&[(&[reads("a")], 5), (&[reads("a")], 7), (&[writes("a")], 1)], 8);
        check(&[(&[writes("a")], 5), (&[reads("a")], 7), (&[reads("a")], 9)], 14);
        check(&[(&[commutes("add", "a")], 5), (&[commutes("add", "a")], 5), (&[reads("a")], 5)], 10);
    }

    #[test]
    fn the_longest_chain_agrees_with_comparing_every_pair() {
        for seed in 0..300 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut span = Span::default();
            let mut paths: Vec<(Footprint, u64)> = Vec::new();
            for _ in 0..60 {
                let mut access = || match rng.u8(0..4) {
                    0 => writes(rng.u8(0..4)),
                    1 => commutes("add", rng.u8(0..4)),
                    _ => reads(rng.u8(0..4)),
                };
                let footprint = Footprint::from([access(), access()]);
                let duration = rng.u64(1..100);
                span.record(&footprint, duration);
                let earlier = paths.iter().filter(|(other, _)| other.conflicts_with(&footprint));
                let path = duration + earlier.map(|(_, path)| *path).max().unwrap_or(0);
                paths.push((footprint, path));
            }
            assert_eq!(Some(span.critical_path()), paths.iter().map(|(_, path)| *path).max(), "seed {seed}");
        }
    }
}
