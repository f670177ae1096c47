//! A text that is short nearly always: short ones stand where they are kept, and longer ones are shared.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrayvec::ArrayString;

/// A UUID in its usual form just fits.
const SHORT: usize = 36;

/// Cheap to clone, and not allocated where it is short: an event that is read in one thread and forgotten in another costs
/// the allocator more than copying so much does.
#[derive(Clone)]
pub(crate) enum Text {
    Short(ArrayString<SHORT>),
    Long(Arc<str>),
}

impl Text {
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Text::Short(text) => text,
            Text::Long(text) => text,
        }
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        ArrayString::from(text).map_or_else(|_| Text::Long(text.into()), Text::Short)
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}
impl Eq for Text {}
impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Text {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}
impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}
impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_any_length_is_kept_as_it_is() {
        for length in [0, 1, SHORT - 1, SHORT, SHORT + 1, 1000] {
            let text = "ä".repeat(length / 2) + &"x".repeat(length % 2);
            assert_eq!(Text::from(&*text).as_str(), text);
            assert_eq!(matches!(Text::from(&*text), Text::Short(_)), length <= SHORT);
        }
    }
}
