//! What the embedded broker can be told.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use commute_core::{Address, Clock, Result, SystemClock};

use crate::state::ids::Window;

/// Settings, each with its default.
#[derive(Clone)]
pub struct Options {
    /// The largest event, payload and attributes: 1 MiB.
    pub max_event_bytes: usize,
    /// A segment is closed when it is larger than this: 64 MiB.
    pub segment_bytes: u64,
    /// How much of the youngest events of a topic is kept in memory for whoever reads at the tail: 16 MiB.
    pub tail_bytes: usize,
    /// Within what a second publish of an id is noticed, per topic: a day, a million ids.
    pub dedup_window: Window,
    /// Within what a handled id is remembered, per subscription: seven days, a million ids.
    pub inbox_window: Window,
    /// Segments are removed when everything in them is settled by every subscription, and they are older than this
    /// (seven days) …
    pub retention_age: Duration,
    /// … or the log is larger than this (1 GiB).
    pub retention_bytes: u64,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
}

impl Default for Options {
    fn default() -> Self {
        let days = |days: u64| Duration::from_secs(days * 24 * 3600);
        Options {
            max_event_bytes: 1 << 20,
            segment_bytes: 64 << 20,
            tail_bytes: 16 << 20,
            dedup_window: Window { time: days(1), count: 1_000_000 },
            inbox_window: Window { time: days(7), count: 1_000_000 },
            retention_age: days(7),
            retention_bytes: 1 << 30,
            clock: Arc::new(SystemClock),
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").field("segment_bytes", &self.segment_bytes).finish_non_exhaustive()
    }
}

const KNOWN: &[&str] = &["max_event_bytes", "segment_bytes", "retention_days", "retention_bytes"];

impl Options {
    /// Takes directory and options from a URL.
    ///
    /// # Errors
    /// `InvalidOption` when an option is unknown or its value is not a number.
    pub fn from_address(mut address: Address) -> Result<(PathBuf, Self)> {
        let mut options = Options::default();
        let days: Option<u64> = address.take("retention_days")?;
        options.max_event_bytes = address.take("max_event_bytes")?.unwrap_or(options.max_event_bytes);
        options.segment_bytes = address.take("segment_bytes")?.unwrap_or(options.segment_bytes);
        options.retention_bytes = address.take("retention_bytes")?.unwrap_or(options.retention_bytes);
        options.retention_age = days.map_or(options.retention_age, |days| Duration::from_secs(days * 24 * 3600));
        address.finish(KNOWN)?;
        Ok((PathBuf::from(address.rest), options))
    }
}
