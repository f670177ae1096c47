//! Times with units: `250ms`, `30s`, `5m`.

use std::time::Duration;

/// The units, in milliseconds, from the smallest.
const UNITS: &[(&str, u64)] = &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// A day.
pub(super) const DAY: Duration = Duration::from_secs(86_400);

/// The units, for a sentence.
pub(super) const KNOWN: &str = "ms, s, m, h and d, as in \"30s\"";

/// Reads a number with a unit; says what is wrong with the text, without repeating more of it than the unit.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.trim_start();
    if number.is_empty() {
        return Err(format!("is a time: a number and one of the units {KNOWN}"));
    }
    if unit.is_empty() {
        return Err(format!("needs a unit; there are {KNOWN}"));
    }
    let Some((_, ms)) = UNITS.iter().find(|(known, _)| *known == unit) else {
        // A unit is a short word; anything else may be something that must not be shown.
        let is_word = unit.len() <= 12 && unit.chars().all(char::is_alphabetic);
        let shown = if is_word { format!("unit {unit:?}") } else { "such unit".to_owned() };
        return Err(format!("has no {shown}; there are {KNOWN}"));
    };
    let whole = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*ms)).map(Duration::from_millis);
    let broken = || Duration::try_from_secs_f64(number.parse::<f64>().ok()? * (*ms as f64) / 1000.0).ok();
    whole.or_else(broken).ok_or_else(|| format!("is a time: a number and one of the units {KNOWN}"))
}

/// A time as it would be written: in the largest unit that leaves no rest.
pub(super) fn text(time: Duration) -> String {
    let ms = time.as_millis();
    let fits = |(_, unit): &&(&str, u64)| ms > 0 && ms.is_multiple_of(u128::from(*unit));
    match UNITS.iter().rfind(fits) {
        Some((name, unit)) => format!("{}{name}", ms / u128::from(*unit)),
        None => format!("{ms}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_as_it_is_written() {
        for (written, ms) in [("250ms", 250), ("30s", 30_000), ("5m", 300_000), ("1.5s", 1500), ("2 h", 7_200_000)] {
            assert_eq!(parse(written), Ok(Duration::from_millis(ms)), "{written}");
        }
        for written in ["250ms", "30s", "5m", "7h", "2d", "0ms"] {
            assert_eq!(text(parse(written).unwrap()), written);
        }
    }

    #[test]
    fn what_is_no_time_is_told_which_units_there_are() {
        for (written, said) in [
            ("30", "needs a unit"),
            ("", "is a time"),
            ("soon", "is a time"),
            ("1..s", "is a time"),
            ("3sec", "has no unit \"sec\""),
            ("3hunter2", "has no such unit"),
        ] {
            let wrong = parse(written).unwrap_err();
            assert!(wrong.starts_with(said) && wrong.contains("ms, s, m, h and d"), "{written}: {wrong}");
        }
    }
}
