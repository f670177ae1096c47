//! Pauses: whether a subscription's reader reads, and if not, why.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use serde::Serialize;

/// Why nothing is taken from the broker at the moment. The broker keeps what is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PausedBecause {
    /// As many events as may be held with their payload are held, and enough of them could run: the workers are the limit.
    WindowFull,
    /// As many events as may be held are held, most of them behind earlier ones with the same keys.
    LookAheadFull,
    /// As many events as may be held are held, and at least half of them wait for their next attempt.
    BackOff,
    /// The app stops.
    Draining,
    /// An operator has paused it.
    Operator,
}

impl PausedBecause {
    /// Every reason.
    pub const ALL: [PausedBecause; 5] = [
        PausedBecause::WindowFull,
        PausedBecause::LookAheadFull,
        PausedBecause::BackOff,
        PausedBecause::Draining,
        PausedBecause::Operator,
    ];

    /// As it is written in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            PausedBecause::WindowFull => "window_full",
            PausedBecause::LookAheadFull => "look_ahead_full",
            PausedBecause::BackOff => "back_off",
            PausedBecause::Draining => "draining",
            PausedBecause::Operator => "operator",
        }
    }

    /// The reason of a reader that has room for `ahead` more events and holds `held`, of which some wait for an attempt.
    pub(crate) fn of(ahead: usize, retrying: u64, held: usize) -> Self {
        match ahead {
            0 if retrying as usize >= held.div_ceil(2) => PausedBecause::BackOff,
            0 => PausedBecause::LookAheadFull,
            _ => PausedBecause::WindowFull,
        }
    }
}

impl std::fmt::Display for PausedBecause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The pauses of one reader.
#[derive(Debug, Default)]
pub(crate) struct Pause {
    /// One more than the index of the reason; zero while it reads.
    now: AtomicU8,
    begun: [AtomicU64; PausedBecause::ALL.len()],
    /// As [`Pause::now`], when the log was told last.
    logged: AtomicU8,
}

impl Pause {
    pub(crate) fn begin(&self, because: PausedBecause) {
        let index = because as u8;
        if self.now.swap(index + 1, Ordering::Relaxed) != index + 1 {
            self.begun[usize::from(index)].fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn end(&self) {
        if self.now.load(Ordering::Relaxed) != 0 {
            self.now.store(0, Ordering::Relaxed);
        }
    }

    pub(crate) fn because(&self) -> Option<PausedBecause> {
        reason(self.now.load(Ordering::Relaxed))
    }

    /// How often it has paused, by reason.
    pub(crate) fn begun(&self) -> Vec<(PausedBecause, u64)> {
        PausedBecause::ALL.into_iter().zip(&self.begun).map(|(why, n)| (why, n.load(Ordering::Relaxed))).collect()
    }

    /// What the log has not been told yet: the reason now, when it is another than at the last call.
    pub(crate) fn changed(&self) -> Option<Option<PausedBecause>> {
        let now = self.now.load(Ordering::Relaxed);
        (self.logged.swap(now, Ordering::Relaxed) != now).then(|| reason(now))
    }
}

fn reason(stored: u8) -> Option<PausedBecause> {
    PausedBecause::ALL.get(usize::from(stored).checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_counted_when_it_begins_and_said_once() {
        let pause = Pause::default();
        assert_eq!(pause.changed(), None);
        pause.begin(PausedBecause::LookAheadFull);
        pause.begin(PausedBecause::LookAheadFull);
        assert_eq!(pause.changed(), Some(Some(PausedBecause::LookAheadFull)));
        assert_eq!(pause.changed(), None);
        assert_eq!(pause.begun()[1], (PausedBecause::LookAheadFull, 1));
        pause.end();
        assert_eq!((pause.because(), pause.changed()), (None, Some(None)));
    }

    #[test]
    fn the_reason_tells_a_hot_key_from_events_that_fail() {
        assert_eq!(PausedBecause::of(0, 1, 10), PausedBecause::LookAheadFull);
        assert_eq!(PausedBecause::of(0, 5, 10), PausedBecause::BackOff);
        assert_eq!(PausedBecause::of(3, 10, 10), PausedBecause::WindowFull);
    }
}
