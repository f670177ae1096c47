//! Faults: what is wrong with a configuration and where, reported together and never with a value that may be secret.

use std::fmt;
use std::sync::Arc;

use commute_core::{Code, Error, Result};

/// Where a key or a value stands. The order is that of a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// Line and column count from 1.
    File { line: usize, column: usize, name: Arc<str> },
    /// A variable of the environment.
    Variable(Arc<str>),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File { name, line, column } => write!(f, "{name}:{line}:{column}"),
            Place::Variable(name) => f.write_str(name),
        }
    }
}

/// Everything that is wrong.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<(Place, String)>);

impl Faults {
    pub(super) fn say(&mut self, place: &Place, what: impl Into<String>) {
        self.0.push((place.clone(), what.into()));
    }

    /// `value`, or all faults as one error.
    pub(super) fn or<T>(mut self, value: T) -> Result<T> {
        self.0.sort_by(|(one, _), (other, _)| one.cmp(other));
        let lines: Vec<_> = self.0.iter().map(|(place, what)| format!("{place}: {what}")).collect();
        match lines.as_slice() {
            [] => Ok(value),
            [line] => Err(Error::new(Code::InvalidConfig, line)),
            lines => {
                let detail = format!("the configuration has {} faults:\n  - {}", lines.len(), lines.join("\n  - "));
                Err(Error::new(Code::InvalidConfig, detail))
            }
        }
    }
}

/// What to say of a name that is not known: the nearest one that is, or all of them.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    // Less alike than half, and the guess would only mislead.
    const ALIKE: f64 = 0.5;
    let known: Vec<&str> = known.into_iter().collect();
    let alike = known.iter().map(|known| (strsim::normalized_damerau_levenshtein(name, known), *known));
    match alike.max_by(|(one, _), (other, _)| one.total_cmp(other)) {
        None => "; there is none".to_owned(),
        Some((alike, known)) if alike >= ALIKE => format!("; did you mean \"{known}\"?"),
        Some(_) => format!("; known: {}", known.join(", ")),
    }
}

/// A name as it may be shown: quoted, unless it is somebody's URL in the wrong place.
pub(super) fn quoted(name: &str) -> String {
    if name.contains("://") { "\"…\"".to_owned() } else { format!("{name:?}") }
}
