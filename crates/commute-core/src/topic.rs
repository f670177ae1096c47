//! Topics: the names of streams of events, valid by construction.

use std::fmt;
use std::sync::Arc;

use crate::error::{Code, Error, Result};

/// A named stream of events. 1 to 200 of the characters `a-z A-Z 0-9 . _ -`, beginning and ending with a letter or
/// digit, so that every backend can use the name as it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic(Arc<str>);

impl Topic {
    /// The longest name allowed, in bytes.
    pub const MAX_BYTES: usize = 200;

    /// Checks a name.
    ///
    /// # Errors
    /// [`Code::InvalidTopic`] when the name is not valid.
    pub fn new(name: impl AsRef<str>) -> Result<Self> {
        let name = name.as_ref();
        let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        let valid = name.len() <= Self::MAX_BYTES
            && edge(name.chars().next())
            && edge(name.chars().next_back())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
        if valid {
            Ok(Topic(name.into()))
        } else {
            Err(Error::new(Code::InvalidTopic, format!("{name:?} is not a valid topic name")))
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The topic that dead letters of this one go to unless the handler says otherwise: `NAME.dead`.
    ///
    /// # Errors
    /// [`Code::InvalidTopic`] when the name becomes too long.
    pub fn dead_letters(&self) -> Result<Topic> {
        Topic::new(format!("{}.dead", self.0))
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_some_backend_could_not_use_are_refused() {
        for name in ["", ".", "a b", "-a", "a.", "ä", "a/b", &"x".repeat(201)] {
            assert_eq!(Topic::new(name).unwrap_err().code(), Code::InvalidTopic, "{name}");
        }
        for name in ["a", "shop.orders", "A-1_b", &"x".repeat(200)] {
            assert!(Topic::new(name).is_ok(), "{name}");
        }
    }
}
