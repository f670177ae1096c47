//! Rates: how fast a counter grew over the last ten seconds.

use std::collections::VecDeque;

use tokio::time::Instant;

/// How many samples are kept; with one per second they reach ten seconds back.
const SAMPLES: usize = 10;

/// Where a counter stood at the last samples.
#[derive(Debug)]
pub(crate) struct Rate {
    samples: VecDeque<(Instant, u64)>,
}

impl Default for Rate {
    fn default() -> Self {
        // A counter begins at zero, now.
        Rate { samples: VecDeque::from([(Instant::now(), 0)]) }
    }
}

impl Rate {
    pub(crate) fn sample(&mut self, now: Instant, count: u64) {
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back((now, count));
    }

    /// The growth since the oldest sample, per second; zero before any time has passed.
    pub(crate) fn per_second(&self, now: Instant, count: u64) -> f64 {
        let Some((then, before)) = self.samples.front() else { return 0.0 };
        let seconds = now.saturating_duration_since(*then).as_secs_f64();
        if seconds > 0.0 { count.saturating_sub(*before) as f64 / seconds } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn a_rate_is_that_of_the_last_ten_seconds() {
        let mut rate = Rate::default();
        assert_eq!(rate.per_second(Instant::now(), 7), 0.0, "no time has passed");
        let mut count = 0;
        for second in 1..=30 {
            tokio::time::advance(Duration::from_secs(1)).await;
            count += if second > 20 { 100 } else { 1 };
            rate.sample(Instant::now(), count);
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(rate.per_second(Instant::now(), count + 100), 100.0);
    }
}
