//! Time: a point in it, and the seam through which it enters.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Microseconds since 1970-01-01T00:00:00Z. Written as RFC 3339 text in events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The time `after` from here; stays at the end of time instead of wrapping.
    pub fn plus(self, after: Duration) -> Self {
        Timestamp(self.0.saturating_add(i64::try_from(after.as_micros()).unwrap_or(i64::MAX)))
    }

    /// How long ago `earlier` was; zero if it is not earlier.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Parses RFC 3339 text.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(time) = usual::parse(text.as_bytes()) {
            return Some(time);
        }
        let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        i64::try_from(at.unix_timestamp_nanos() / 1000).ok().map(Timestamp)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut buffer = [0; usual::LONGEST];
        if let Some(text) = usual::text(*self, &mut buffer) {
            return f.write_str(text);
        }
        let text = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1000)
            .ok()
            .and_then(|at| at.format(&Rfc3339).ok());
        match text {
            Some(text) => f.write_str(&text),
            None => write!(f, "{}us", self.0),
        }
    }
}

mod usual {
    //! Times as nearly all are, read and written without the detours of a general library, which take longer than
    //! everything else about an envelope: `2010-12-01T08:26:00.123456Z`, with up to six digits behind the point.

    use super::Timestamp;

    pub(super) const LONGEST: usize = 27;

    const DAY: i64 = 86_400_000_000;
    /// From the first day of March of the year zero to the first of January 1970.
    const EPOCH: i64 = 719_468;
    /// Days in 400 years.
    const ERA: i64 = 146_097;

    /// Nothing when it is written in another way, or is no time.
    pub(super) fn parse(text: &[u8]) -> Option<Timestamp> {
        let (date, rest) = text.split_first_chunk::<20>()?;
        let number = |from: usize, to: usize| {
            date[from..to]
                .iter()
                .try_fold(0, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + i64::from(digit - b'0')))
        };
        let marks = [date[4], date[7], date[10], date[13], date[16]];
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        // Leap seconds are left to others.
        if marks != *b"--T::" || hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let micros = match (date[19], rest) {
            (b'Z', []) => 0,
            (b'.', [digits @ .., b'Z']) if (1..=6).contains(&digits.len()) => {
                let mut digits = digits.iter();
                (0..6).try_fold(0, |sum, _| match digits.next() {
                    None => Some(sum * 10),
                    Some(digit) => digit.is_ascii_digit().then(|| sum * 10 + i64::from(digit - b'0')),
                })?
            }
            _ => return None,
        };
        let days = days(year, month, day);
        // There is no 31st of November, which would be the first of December.
        if date_of(days) != (year, month, day) {
            return None;
        }
        Some(Timestamp(days * DAY + ((hour * 60 + minute) * 60 + second) * 1_000_000 + micros))
    }

    /// Nothing outside of the years that have four digits.
    pub(super) fn text(time: Timestamp, buffer: &mut [u8; LONGEST]) -> Option<&str> {
        let (year, month, day) = date_of(time.0.div_euclid(DAY));
        if !(0..=9999).contains(&year) {
            return None;
        }
        let (seconds, mut micros) = (time.0.rem_euclid(DAY) / 1_000_000, time.0.rem_euclid(1_000_000));
        buffer.copy_from_slice(b"0000-00-00T00:00:00.000000Z");
        let two = |n: i64| [b'0' + (n / 10) as u8, b'0' + (n % 10) as u8];
        for (at, n) in [
            (0, year / 100),
            (2, year % 100),
            (5, month),
            (8, day),
            (11, seconds / 3600),
            (14, seconds / 60 % 60),
            (17, seconds % 60),
            (20, micros / 10_000),
            (22, micros / 100 % 100),
            (24, micros % 100),
        ] {
            buffer[at..at + 2].copy_from_slice(&two(n));
        }
        let mut end = 20 + 6;
        while end > 20 && micros % 10 == 0 {
            (end, micros) = (end - 1, micros / 10);
        }
        // Without a fraction there is no point either.
        end = if end == 20 { 19 } else { end };
        buffer[end] = b'Z';
        std::str::from_utf8(&buffer[..=end]).ok()
    }

    /// Days since 1970. Years are counted from March, so that the leap day is the last one.
    fn days(year: i64, month: i64, day: i64) -> i64 {
        let year = year - i64::from(month <= 2);
        let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
        era * ERA + of_era * 365 + of_era / 4 - of_era / 100 + of_year - EPOCH
    }

    /// Year, month and day.
    fn date_of(days: i64) -> (i64, i64, i64) {
        let days = days + EPOCH;
        let (era, day) = (days.div_euclid(ERA), days.rem_euclid(ERA));
        let of_era = (day - day / 1_460 + day / 36_524 - day / (ERA - 1)) / 365;
        let of_year = day - (365 * of_era + of_era / 4 - of_era / 100);
        let month = (5 * of_year + 2) / 153;
        let (day, month) = (of_year - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
        (era * 400 + of_era + i64::from(month <= 2), month, day)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Timestamp::parse(&text).ok_or_else(|| serde::de::Error::custom("not an RFC 3339 time"))
    }
}

/// Where the time comes from, so that a test can decide it.
pub trait Clock: Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> Timestamp;
}

/// The clock of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp::default().plus(since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_their_text() {
        let at = Timestamp(1_291_191_960_123_456);
        assert_eq!(at.to_string(), "2010-12-01T08:26:00.123456Z");
        assert_eq!(Timestamp::parse(&at.to_string()), Some(at));
    }

    /// What the library says.
    fn parsed(text: &str) -> Option<Timestamp> {
        let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        i64::try_from(at.unix_timestamp_nanos() / 1000).ok().map(Timestamp)
    }

    #[test]
    fn times_are_written_and_read_as_the_library_does() {
        let mut rng = fastrand::Rng::with_seed(5);
        let (first, last) = (-62_167_219_200_000_000, 253_402_300_799_999_999);
        let edges = [first, last, 0, -1, 1, 951_782_400_000_000, 951_868_799_999_999, 4_107_542_400_000_000];
        let random = (0..200_000).map(|_| {
            let at = rng.i64(first..=last);
            let unit = rng.choice([1, 10, 1_000, 1_000_000, 86_400_000_000]).unwrap();
            at - at % unit
        });
        for at in edges.into_iter().chain(random).map(Timestamp) {
            let library = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.0) * 1000).unwrap();
            let text = library.format(&Rfc3339).unwrap();
            assert_eq!((at.to_string(), usual::parse(text.as_bytes())), (text.clone(), Some(at)));
        }
        assert_eq!(Timestamp(last + 1).to_string(), format!("{}us", last + 1));
    }

    #[test]
    fn every_text_is_a_time_to_us_when_it_is_one_to_the_library() {
        let mut rng = fastrand::Rng::with_seed(6);
        let plain = b"2024-02-29T23:59:59.000001Z";
        for _ in 0..300_000 {
            let mut text = plain.to_vec();
            text.truncate(rng.usize(0..=plain.len()));
            text.extend((text.len() < plain.len()).then_some(b'Z'));
            for _ in 0..rng.usize(0..4) {
                let at = rng.usize(..text.len());
                text[at] = *rng.choice(b"0123456789-:TZ.tz+ 60").unwrap();
            }
            let text = String::from_utf8(text).unwrap();
            assert_eq!(Timestamp::parse(&text), parsed(&text), "{text}");
        }
        for text in ["2024-02-30T00:00:00Z", "2023-02-29T00:00:00Z", "2024-13-01T00:00:00Z", "2024-00-00T00:00:00Z"] {
            assert_eq!(Timestamp::parse(text), None);
        }
        for text in ["2016-12-31T23:59:60Z", "2024-01-01T01:00:00+01:00", "2024-01-01T00:00:00.1234567Z"] {
            assert_eq!(Timestamp::parse(text), parsed(text));
        }
    }
}
