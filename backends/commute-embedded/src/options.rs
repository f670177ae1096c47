//! What the embedded broker can be told.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use commute_core::{Address, Clock, Code, Error, Result, SystemClock};

use crate::state::ids::Window;

/// A group of events must be written at once and its length fit into 32 bits.
const MAX_EVENT_BYTES: usize = 256 << 20;
/// Small enough for tests that look at the end of segments.
const MIN_SEGMENT_BYTES: u64 = 1 << 10;
/// So that opening, which reads the last segment, stays quick.
const MAX_SEGMENT_BYTES: u64 = 1 << 30;

/// Settings, each with its default.
#[derive(Clone)]
pub struct Options {
    /// The largest event, payload and attributes: 1 MiB.
    pub max_event_bytes: usize,
    /// How large the files of the log become: 64 MiB. The first ones are smaller.
    pub segment_bytes: u64,
    /// Whether segments are filled with zeros ahead of time: yes. Writing is faster then, and the first time that a segment
    /// is used its bytes are written twice. Not done for storage in memory.
    pub prepare: bool,
    /// How much of the youngest events is kept in memory for whoever reads at the tail: 64 MiB.
    pub tail_bytes: usize,
    /// How much may be on its way to the disk before publishing waits: 64 MiB.
    pub in_flight_bytes: usize,
    /// Within what a second publish of an id is noticed, per topic: a day, a million ids.
    pub dedup_window: Window,
    /// Within what a handled id is remembered, per subscription: seven days, a million ids.
    pub inbox_window: Window,
    /// Events older than this may go when every subscription of their topic has settled them: seven days. Events of a topic
    /// without subscriptions go at this age.
    pub retention_age: Duration,
    /// Settled events may go earlier when the log is larger than this: 1 GiB.
    pub retention_bytes: u64,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where randomness comes from, if a test wants the same bytes every time.
    pub seed: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        let days = |days: u64| Duration::from_secs(days * 24 * 3600);
        Options {
            max_event_bytes: 1 << 20,
            segment_bytes: 64 << 20,
            prepare: true,
            tail_bytes: 64 << 20,
            in_flight_bytes: 64 << 20,
            dedup_window: Window { time: days(1), count: 1_000_000 },
            inbox_window: Window { time: days(7), count: 1_000_000 },
            retention_age: days(7),
            retention_bytes: 1 << 30,
            clock: Arc::new(SystemClock),
            seed: None,
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").field("segment_bytes", &self.segment_bytes).finish_non_exhaustive()
    }
}

const KNOWN: &[&str] = &[
    "max_event_bytes",
    "segment_bytes",
    "tail_bytes",
    "in_flight_bytes",
    "dedup_hours",
    "dedup_count",
    "inbox_days",
    "inbox_count",
    "retention_days",
    "retention_bytes",
];

impl Options {
    /// Takes directory and options from a URL.
    ///
    /// # Errors
    /// `InvalidOption` when an option is unknown or its value is not a number in its range.
    pub fn from_address(mut address: Address) -> Result<(PathBuf, Self)> {
        let mut options = Options::default();
        let hours = |hours: u64| Duration::from_secs(hours.saturating_mul(3600));
        let days = |days: u64| hours(days.saturating_mul(24));
        take(&mut address, "max_event_bytes", &mut options.max_event_bytes)?;
        take(&mut address, "segment_bytes", &mut options.segment_bytes)?;
        take(&mut address, "tail_bytes", &mut options.tail_bytes)?;
        take(&mut address, "in_flight_bytes", &mut options.in_flight_bytes)?;
        take(&mut address, "dedup_count", &mut options.dedup_window.count)?;
        take(&mut address, "inbox_count", &mut options.inbox_window.count)?;
        take(&mut address, "retention_bytes", &mut options.retention_bytes)?;
        options.dedup_window.time = address.take("dedup_hours")?.map_or(options.dedup_window.time, hours);
        options.inbox_window.time = address.take("inbox_days")?.map_or(options.inbox_window.time, days);
        options.retention_age = address.take("retention_days")?.map_or(options.retention_age, days);
        address.finish(KNOWN)?;
        options.check()?;
        Ok((PathBuf::from(address.rest), options))
    }

    /// Refuses values that the format has no room for, or that make no sense.
    pub(crate) fn check(&self) -> Result<()> {
        let refuse = |what: String| Err(Error::new(Code::InvalidOption, what));
        if !(1..=MAX_EVENT_BYTES).contains(&self.max_event_bytes) {
            return refuse(format!("max_event_bytes is {}; allowed is 1 to {MAX_EVENT_BYTES}", self.max_event_bytes));
        }
        if !(MIN_SEGMENT_BYTES..=MAX_SEGMENT_BYTES).contains(&self.segment_bytes) {
            let allowed = format!("{MIN_SEGMENT_BYTES} to {MAX_SEGMENT_BYTES}");
            return refuse(format!("segment_bytes is {}; allowed is {allowed}", self.segment_bytes));
        }
        Ok(())
    }

    /// The nonce of a new segment.
    pub(crate) fn nonce(&self, serial: u32) -> u64 {
        let seeded = |seed: u64| fastrand::Rng::with_seed(seed.wrapping_add(u64::from(serial)));
        self.seed.map_or_else(fastrand::Rng::new, seeded).u64(..)
    }
}

fn take<T: FromStr>(address: &mut Address, name: &str, to: &mut T) -> Result<()> {
    if let Some(value) = address.take(name)? {
        *to = value;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> Result<(PathBuf, Options)> {
        Options::from_address(Address::parse(url).unwrap())
    }

    #[test]
    fn a_url_gives_directory_and_options() {
        let (directory, options) =
            parsed("embedded:var/data?max_event_bytes=10&dedup_hours=2&retention_days=1").unwrap();
        assert_eq!(directory, PathBuf::from("var/data"));
        assert_eq!((options.max_event_bytes, options.dedup_window.time.as_secs()), (10, 7200));
        assert_eq!(options.retention_age.as_secs(), 24 * 3600);
    }

    #[test]
    fn unknown_options_and_impossible_values_are_refused() {
        for query in
            ["speed=1", "segment_bytes=1", "segment_bytes=x", "max_event_bytes=0", "max_event_bytes=99999999999"]
        {
            let refused = parsed(&format!("embedded:data?{query}")).unwrap_err();
            assert_eq!(refused.code(), Code::InvalidOption, "{query}");
        }
    }
}
