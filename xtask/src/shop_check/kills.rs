//! When to kill: random moments that land while the shop works.

use std::time::Duration;

/// How long each of `count` lives lasts. Together they are less than `work`, the time of an uninterrupted run, so that the
/// last kill finds something left; each is at least long enough for the one before to have been recovered from.
pub(crate) fn moments(count: usize, work: Duration, seed: u64) -> Vec<Duration> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let share = work / (count as u32 + 1);
    (0..count).map(|_| share.mul_f64(0.3 + 0.8 * rng.f64())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lives_together_leave_work_to_do_and_a_seed_repeats_them() {
        let work = Duration::from_secs(6);
        for seed in 0..200 {
            let lives = moments(5, work, seed);
            assert_eq!(lives, moments(5, work, seed));
            assert!(lives.iter().sum::<Duration>() < work, "seed {seed}: {lives:?}");
            assert!(lives.iter().all(|life| *life >= work / 20), "seed {seed}: {lives:?}");
        }
        assert_ne!(moments(5, work, 1), moments(5, work, 2));
    }
}
