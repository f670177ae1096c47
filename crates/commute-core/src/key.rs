//! Keys: the names of resources, and the lane that each name stands for.
//!
//! A lane is a seeded 64-bit hash of the key's canonical text. The text and the seed are part of the stored format
//! (parked lanes name them), so they must never change. A collision only adds a false dependency.

use std::cell::RefCell;
use std::fmt::{self, Write};

use smallvec::SmallVec;

/// Part of the stored format: changing it would orphan every parked lane.
const LANE_SEED: u64 = 0x6c61_6e65_2d76_3031;

/// The queue of one resource, named by a hash that is the same in every process and version.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lane(pub u64);

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lane {:016x}", self.0)
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// One part of a key. Implemented for text, whole numbers and UUIDs; their canonical text is promised not to change.
///
/// This is not `std::hash::Hash`: its bytes may differ between compilers, and lanes are stored.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot name a resource",
    label = "not text, a whole number, a UUID or a tuple of these",
    note = "use a stable text for the resource, for example `(\"sku\", sku.as_str())`"
)]
pub trait KeyPart {
    /// Appends the canonical text.
    fn write_key(&self, text: &mut KeyText);
}

/// What may be given to `reads`, `writes` and `commutes`: a key part, or a tuple of up to four.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot name a resource",
    label = "not text, a whole number, a UUID or a tuple of these",
    note = "use a stable text for the resource, for example `(\"sku\", sku.as_str())`"
)]
pub trait Key {
    /// Writes every part.
    fn write_parts(&self, text: &mut KeyText);

    /// The lane of this key.
    fn lane(&self) -> Lane {
        let mut text = KeyText::default();
        self.write_parts(&mut text);
        let lane = text.lane();
        NAMES.with_borrow_mut(|names| {
            if let Some(names) = names {
                names.push((lane, text.to_string()));
            }
        });
        lane
    }
}

/// The canonical text of a key under construction.
#[derive(Debug, Clone, Default)]
pub struct KeyText {
    bytes: SmallVec<[u8; 64]>,
}

impl KeyText {
    /// Separates parts. It cannot occur in UTF-8 text, so ("ab", "c") and ("a", "bc") differ.
    const SEPARATOR: u8 = 0xff;

    /// Appends text to the current part.
    pub fn text(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
    }

    fn end_part(&mut self) {
        self.bytes.push(Self::SEPARATOR);
    }

    fn lane(&self) -> Lane {
        Lane(xxhash_rust::xxh3::xxh3_64_with_seed(&self.bytes, LANE_SEED))
    }
}

impl Write for KeyText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.text(text);
        Ok(())
    }
}

impl fmt::Display for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.bytes.split(|byte| *byte == Self::SEPARATOR);
        let count = parts.clone().count().saturating_sub(1);
        for (n, part) in parts.take(count).enumerate() {
            write!(f, "{}{}", if n == 0 { "" } else { ":" }, String::from_utf8_lossy(part))?;
        }
        Ok(())
    }
}

thread_local! {
    static NAMES: RefCell<Option<Vec<(Lane, String)>>> = const { RefCell::new(None) };
}

/// Runs `f` and returns, beside its answer, the readable name of every lane that was made inside.
///
/// Lanes are stored without names; whoever shows one to a person runs the footprint function of an event again, here.
pub fn naming<T>(f: impl FnOnce() -> T) -> (T, Vec<(Lane, String)>) {
    NAMES.set(Some(Vec::new()));
    let answer = f();
    (answer, NAMES.take().unwrap_or_default())
}

/// Every lane that a person can mean by a name: that of each key that reads so, because `a:b` is one part or two, and that
/// of a number in hexadecimal.
///
/// ```
/// use commute_core::{Key, key};
///
/// let lanes = key::named("sku:a");
/// assert!(lanes.contains(&("sku", "a").lane()) && lanes.contains(&"sku:a".lane()));
/// ```
pub fn named(name: &str) -> Vec<Lane> {
    let mut lanes = Vec::new();
    readings(&KeyText::default(), name, MOST_PARTS, &mut lanes);
    if name.len() == 16 {
        lanes.extend(u64::from_str_radix(name, 16).ok().map(Lane));
    }
    lanes
}

/// A tuple that is a key has no more.
const MOST_PARTS: usize = 4;

/// A part may have colons of its own; nobody names a resource with more than so many.
const MOST_COLONS: usize = 8;

fn readings(before: &KeyText, rest: &str, parts: usize, lanes: &mut Vec<Lane>) {
    let with = |part: &str| {
        let mut text = before.clone();
        text.text(part);
        text.end_part();
        text
    };
    lanes.push(with(rest).lane());
    if parts > 1 {
        for (at, colon) in rest.match_indices(':').take(MOST_COLONS) {
            let (part, rest) = rest.split_at(at);
            readings(&with(part), rest.strip_prefix(colon).unwrap_or(rest), parts - 1, lanes);
        }
    }
}

macro_rules! text_parts {
    ($($type:ty),*) => {$(
        impl KeyPart for $type {
            fn write_key(&self, text: &mut KeyText) {
                text.text(self);
            }
        }
    )*};
}
text_parts!(str, String, std::sync::Arc<str>, Box<str>, std::borrow::Cow<'_, str>);

macro_rules! number_parts {
    ($($type:ty),*) => {$(
        impl KeyPart for $type {
            fn write_key(&self, text: &mut KeyText) {
                // Writing into memory cannot fail.
                let _ = write!(text, "{self}");
            }
        }
    )*};
}
number_parts!(u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize, uuid::Uuid);

impl<T: KeyPart + ?Sized> KeyPart for &T {
    fn write_key(&self, text: &mut KeyText) {
        (**self).write_key(text);
    }
}

impl<T: KeyPart> Key for T {
    fn write_parts(&self, text: &mut KeyText) {
        self.write_key(text);
        text.end_part();
    }
}

macro_rules! tuple_keys {
    ($(($($part:ident $n:tt),+)),*) => {$(
        impl<$($part: KeyPart),+> Key for ($($part,)+) {
            fn write_parts(&self, text: &mut KeyText) {
                $(self.$n.write_key(text); text.end_part();)+
            }
        }
    )*};
}
tuple_keys!((A 0, B 1), (A 0, B 1, C 2), (A 0, B 1, C 2, D 3));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_are_part_of_the_stored_format_and_do_not_change() {
        assert_eq!(("sku", "85123A").lane().to_string(), GOLDEN[0]);
        assert_eq!("n".lane().to_string(), GOLDEN[1]);
        assert_eq!(("account", 7_u32).lane().to_string(), GOLDEN[2]);
    }
    const GOLDEN: [&str; 3] = ["ffd201c0890b7d76", "b40d206aaa7fd75f", "eaadb798e655309a"];

    #[test]
    fn parts_do_not_run_into_each_other() {
        assert_ne!(("ab", "c").lane(), ("a", "bc").lane());
        assert_ne!(("a", "").lane(), "a".lane());
    }

    #[test]
    fn numbers_and_their_text_name_the_same_resource() {
        assert_eq!(("account", 7_u8).lane(), ("account", "7").lane());
        assert_eq!(("account", 7_i64).lane(), ("account", String::from("7")).lane());
    }

    #[test]
    fn a_name_finds_every_key_that_reads_so() {
        for lane in [("a", "b", "c").lane(), ("a", "b:c").lane(), ("a:b", "c").lane(), "a:b:c".lane()] {
            assert!(named("a:b:c").contains(&lane));
        }
        assert!(named(":b:").contains(&("", "b", "").lane()));
        assert!(named(&"n".lane().to_string()).contains(&"n".lane()));
        assert!(!named("a:b").contains(&("a", "c").lane()));
        assert!(named(&":".repeat(1000)).len() < 1000);
    }

    #[test]
    fn names_are_given_on_request_only() {
        let (lane, names) = naming(|| ("sku", "a").lane());
        assert_eq!(names, vec![(lane, "sku:a".to_owned())]);
        let ((), names) = naming(|| ());
        assert!(names.is_empty());
    }
}
