//! Places in a topic and times, as a person writes them.

use std::str::FromStr;
use std::time::Duration;

use commute::admin::Begin;
use commute::{Clock, SystemClock, Timestamp};

/// Where to begin: `start`, `end`, a position, a time, or how long ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct From(pub(crate) Begin);

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let begin = match text {
            "start" => Begin::Start,
            "end" => Begin::End,
            _ => {
                if let Ok(position) = text.parse() {
                    Begin::Position(position)
                } else if let Some(time) = Timestamp::parse(text) {
                    Begin::Time(time)
                } else if let Ok(ago) = humantime::parse_duration(text) {
                    let ago = i64::try_from(ago.as_micros()).unwrap_or(i64::MAX);
                    Begin::Time(Timestamp(SystemClock.now().0.saturating_sub(ago)))
                } else {
                    return Err("write start, end, a position, a time as 2026-01-31T12:00:00Z, or 1h for an hour ago"
                        .to_owned());
                }
            }
        };
        Ok(From(begin))
    }
}

/// A length of time as `250ms`, `10s` or `1h 30m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "write a length of time as 250ms, 10s or 1h".to_owned())
}

/// How long ago something was, in its largest unit.
pub(crate) fn ago(time: Timestamp) -> String {
    let seconds = SystemClock.now().since(time).as_secs();
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7199 => format!("{}m", seconds / 60),
        7200..=172_799 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_written_in_one_of_five_ways() {
        let begin = |text: &str| text.parse::<From>().map(|from| from.0);
        assert_eq!(begin("start"), Ok(Begin::Start));
        assert_eq!(begin("end"), Ok(Begin::End));
        assert_eq!(begin("12"), Ok(Begin::Position(12)));
        assert_eq!(begin("1970-01-01T00:00:01Z"), Ok(Begin::Time(Timestamp(1_000_000))));
        assert!(matches!(begin("1h"), Ok(Begin::Time(time)) if time < SystemClock.now()));
        assert!(begin("yesterday").is_err());
    }
}
