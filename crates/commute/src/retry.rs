//! Retrying: when a failed event is tried again. Decides, never acts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How long to wait before the next attempt, and how many attempts there are.
///
/// ```
/// use std::time::Duration;
/// use commute::Backoff;
///
/// let backoff = Backoff::exponential().first(Duration::from_millis(100)).longest(Duration::from_secs(30)).attempts(5);
/// assert_eq!(backoff.ceiling(1), Duration::from_millis(100));
/// assert_eq!(backoff.ceiling(3), Duration::from_millis(400));
/// assert_eq!(backoff.ceiling(20), Duration::from_secs(30));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Backoff {
    pub(crate) first: Duration,
    pub(crate) factor: f64,
    pub(crate) longest: Duration,
    pub(crate) jitter: f64,
    pub(crate) attempts: u32,
    pub(crate) budget: f64,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff::exponential()
    }
}

impl Backoff {
    /// 100 ms, doubling up to 30 s, half of it jitter, five attempts, and at most one retry for five handled events.
    pub fn exponential() -> Self {
        Backoff {
            first: Duration::from_millis(100),
            factor: 2.0,
            longest: Duration::from_secs(30),
            jitter: 0.5,
            attempts: 5,
            budget: 0.2,
        }
    }

    /// The same delay every time, without jitter.
    pub fn fixed(delay: Duration) -> Self {
        Backoff { first: delay, longest: delay, factor: 1.0, jitter: 0.0, ..Backoff::exponential() }
    }

    /// No second attempt.
    pub fn never() -> Self {
        Backoff::exponential().attempts(1)
    }

    /// The ceiling of the first delay.
    pub fn first(mut self, delay: Duration) -> Self {
        self.first = delay;
        self
    }

    /// The ceiling of every delay.
    pub fn longest(mut self, delay: Duration) -> Self {
        self.longest = delay;
        self
    }

    /// How many times the delay grows from attempt to attempt; at least 1.
    pub fn factor(mut self, factor: f64) -> Self {
        self.factor = factor.max(1.0);
        self
    }

    /// Which part of a delay is left to chance, from 0 (none) to 1 (all), so that failures of one cause do not come
    /// back in step.
    pub fn jitter(mut self, part: f64) -> Self {
        self.jitter = part.clamp(0.0, 1.0);
        self
    }

    /// How often an event is tried in total, the first time included; at least 1.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    /// How many retries there may be for one handled event before retries slow down to the longest delay, so that a
    /// failing dependency is not hammered by everybody at once. No event is given up for it.
    pub fn budget(mut self, retries_per_event: f64) -> Self {
        self.budget = retries_per_event.max(0.0);
        self
    }

    /// The longest possible delay after `attempt` failed.
    pub fn ceiling(&self, attempt: u32) -> Duration {
        let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        let seconds = self.first.as_secs_f64() * self.factor.powi(exponent);
        Duration::try_from_secs_f64(seconds).unwrap_or(self.longest).min(self.longest)
    }

    /// The delay after `attempt` failed, or `None` when that was the last one. `chance` is from 0 to 1.
    pub(crate) fn decide(&self, attempt: u32, within_budget: bool, chance: f64) -> Option<Duration> {
        if attempt >= self.attempts {
            return None;
        }
        let ceiling = if within_budget { self.ceiling(attempt) } else { self.longest };
        Some(ceiling.mul_f64(1.0 - self.jitter * chance))
    }
}

/// What happens to an event whose attempts are used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exhausted {
    /// It is set aside durably and holds its lanes: later events that conflict with it are set aside behind it, in
    /// order, until the lane is released. The default of handlers whose events touch one key.
    Park,
    /// Like `Park`, but it holds only the first key of its footprint; the order on the others is given up.
    ParkPrimary,
    /// It becomes a dead letter and its lanes go on. The default of handlers that declare a footprint: with several keys,
    /// parking spreads from key to key.
    Skip,
}

/// What happens to the lanes of an event while it waits for its next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFailure {
    /// It keeps them: conflicting later events wait, and the order holds. It gives back its worker.
    #[default]
    HoldLane,
    /// It lets them go: later events may pass, and it queues again behind them when it is due.
    ReleaseLane,
}

/// How many retries a subscription has left, in thousandths. Handled events deposit, retries withdraw.
#[derive(Debug)]
pub(crate) struct Budget {
    thousandths: AtomicU64,
    deposit: u64,
}

impl Budget {
    /// Room for a burst of failures before there was any success.
    const RESERVE: u64 = 100_000;

    pub(crate) fn new(retries_per_event: f64) -> Self {
        // A share in thousandths; the cast saturates, which is what an absurd share should do.
        Budget { thousandths: AtomicU64::new(Self::RESERVE), deposit: (retries_per_event * 1000.0) as u64 }
    }

    pub(crate) fn deposit(&self) {
        let _ = self.thousandths.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
            (now < Self::RESERVE).then(|| (now + self.deposit).min(Self::RESERVE))
        });
    }

    /// Whether one more retry is within the budget.
    pub(crate) fn withdraw(&self) -> bool {
        self.thousandths.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| now.checked_sub(1000)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_attempt_has_no_successor() {
        let backoff = Backoff::exponential().attempts(3);
        assert!(backoff.decide(2, true, 0.0).is_some());
        assert_eq!(backoff.decide(3, true, 0.0), None);
    }

    #[test]
    fn jitter_shortens_a_delay_by_at_most_its_part() {
        let backoff = Backoff::exponential().first(Duration::from_secs(1)).jitter(0.5);
        assert_eq!(backoff.decide(1, true, 0.0), Some(Duration::from_secs(1)));
        assert_eq!(backoff.decide(1, true, 1.0), Some(Duration::from_millis(500)));
    }

    #[test]
    fn beyond_the_budget_retries_wait_as_long_as_they_may() {
        let backoff = Backoff::exponential().jitter(0.0).longest(Duration::from_secs(7));
        assert_eq!(backoff.decide(1, false, 0.0), Some(Duration::from_secs(7)));
    }

    #[test]
    fn a_budget_runs_out_and_is_refilled_by_handled_events() {
        let budget = Budget::new(0.5);
        assert_eq!((0..1000).filter(|_| budget.withdraw()).count(), 100);
        budget.deposit();
        assert!(!budget.withdraw());
        budget.deposit();
        assert!(budget.withdraw());
    }
}
