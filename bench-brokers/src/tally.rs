//! The tally: counts handled events, and knows when the first began and the last ended.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio::sync::Notify;

/// How long nothing may be handled before a run is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Shared by handlers.
#[derive(Debug)]
pub(crate) struct Tally {
    zero: Instant,
    expected: usize,
    count: AtomicUsize,
    first: AtomicU64,
    last: AtomicU64,
    all: Notify,
}

impl Tally {
    pub(crate) fn new(expected: usize) -> Self {
        Tally {
            zero: Instant::now(),
            expected,
            count: AtomicUsize::new(0),
            first: AtomicU64::new(u64::MAX),
            last: AtomicU64::new(0),
            all: Notify::new(),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.zero.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// A handler begins.
    pub(crate) fn begin(&self) {
        if self.first.load(Ordering::Relaxed) == u64::MAX {
            self.first.fetch_min(self.now(), Ordering::Relaxed);
        }
    }

    /// A handler ends. Answers whether it was the last.
    pub(crate) fn end(&self) -> bool {
        let count = self.count.fetch_add(1, Ordering::AcqRel) + 1;
        if count == self.expected {
            self.last.fetch_max(self.now(), Ordering::Relaxed);
            self.all.notify_one();
        }
        count >= self.expected
    }

    /// From the beginning of the first handler to the end of the last, when all have ended.
    ///
    /// # Errors
    /// When nothing is handled for a while.
    pub(crate) async fn span(&self) -> Result<Duration> {
        let mut seen = 0;
        while tokio::time::timeout(PATIENCE, self.all.notified()).await.is_err() {
            let count = self.count.load(Ordering::Acquire);
            if count == seen {
                bail!("{count} of {} events were handled, and no more come", self.expected);
            }
            seen = count;
        }
        let (first, last) = (self.first.load(Ordering::Relaxed), self.last.load(Ordering::Relaxed));
        Ok(Duration::from_nanos(last.saturating_sub(first)))
    }
}
