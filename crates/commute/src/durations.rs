//! Durations: one histogram, fine enough for percentiles, from which the buckets of an exporter are read.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// The upper bounds of the buckets that exporters show, in seconds: those of OpenTelemetry's messaging conventions, with
/// some below for quick handlers and some above for events that wait.
pub(crate) const BOUNDS: [f64; 22] = [
    0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    30.0, 60.0, 300.0, 3600.0,
];

/// Durations as they were recorded: microseconds to an hour, at two digits, and their exact sum.
#[derive(Debug)]
pub(crate) struct Durations {
    histogram: Histogram<u64>,
    sum: Duration,
}

/// How durations are distributed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Distribution {
    /// How many there were.
    pub count: u64,
    /// All of them together.
    pub sum: Duration,
    /// By upper bound in seconds: how many were above the bound before and not above this one. A duration may be counted up
    /// to one part in a hundred off; the few above the last bound are in `count` only.
    pub buckets: Vec<(f64, u64)>,
}

impl Durations {
    pub(crate) fn new() -> Self {
        // The bounds are valid by construction, a plain one otherwise.
        let histogram = Histogram::new_with_bounds(1, 3_600_000_000, 2).unwrap_or_else(|_| fallback());
        Durations { histogram, sum: Duration::ZERO }
    }

    pub(crate) fn record(&mut self, duration: Duration) {
        self.sum = self.sum.saturating_add(duration);
        self.histogram.saturating_record(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX).max(1));
    }

    /// What a share of them does not exceed.
    pub(crate) fn at(&self, quantile: f64) -> Duration {
        Duration::from_micros(self.histogram.value_at_quantile(quantile))
    }

    pub(crate) fn distribution(&self) -> Distribution {
        let mut buckets: Vec<_> = BOUNDS.iter().map(|bound| (*bound, 0)).collect();
        let mut at = 0;
        for recorded in self.histogram.iter_recorded() {
            let lowest = self.histogram.lowest_equivalent(recorded.value_iterated_to()) as f64 / 1e6;
            while buckets.get(at).is_some_and(|(bound, _)| *bound < lowest) {
                at += 1;
            }
            if let Some((_, count)) = buckets.get_mut(at) {
                *count += recorded.count_at_value();
            }
        }
        Distribution { count: self.histogram.len(), sum: self.sum, buckets }
    }
}

fn fallback() -> Histogram<u64> {
    #[allow(clippy::expect_used, reason = "two significant digits are always valid")]
    Histogram::new(2).expect("two digits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_is_in_the_first_bucket_that_holds_it_and_the_sum_is_exact() {
        let mut durations = Durations::new();
        let bounds = BOUNDS.map(Duration::from_secs_f64);
        for bound in bounds {
            durations.record(bound);
        }
        durations.record(Duration::from_nanos(1));
        let Distribution { count, sum, buckets } = durations.distribution();
        assert_eq!((count, sum), (23, bounds.iter().sum::<Duration>() + Duration::from_nanos(1)));
        let mut expected = BOUNDS.map(|bound| (bound, 1));
        expected[0].1 = 2;
        assert_eq!(buckets, expected);
    }
}
