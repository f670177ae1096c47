//! Footprints: which resources an event touches, and the one rule that says when two events conflict.
//!
//! A footprint is data. The scheduler reads it and nothing else of an event, so this file and
//! `key.rs` are all that "independent" means in commute.

use smallvec::SmallVec;

use crate::key::{Key, Lane};

/// How one resource is touched.
///
/// Two accesses to the same lane conflict unless both are [`Shared`](Mode::Shared) with the same class. Reading is
/// sharing with the class [`READ`](Mode::READ); every other class is a set of operations that commute with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mode {
    /// Nobody else may touch the resource at the same time.
    Exclusive,
    /// Events of the same class may touch the resource at the same time.
    Shared(u32),
}

impl Mode {
    /// The class of plain reads.
    pub const READ: Mode = Mode::Shared(0);

    /// Whether two accesses to one lane may not overlap.
    pub fn conflicts_with(self, other: Mode) -> bool {
        !matches!((self, other), (Mode::Shared(a), Mode::Shared(b)) if a == b)
    }
}

/// One resource, touched in one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Access {
    /// The queue of the resource.
    pub lane: Lane,
    /// How it is touched.
    pub mode: Mode,
}

/// The event reads the resource: it runs beside other readers, and in order with writers.
pub fn reads(key: impl Key) -> Access {
    Access { lane: key.lane(), mode: Mode::READ }
}

/// The event writes the resource: it runs alone on it, in order.
pub fn writes(key: impl Key) -> Access {
    Access { lane: key.lane(), mode: Mode::Exclusive }
}

/// The event applies an operation that commutes with every other operation of the same `class` on the resource
/// (adding to a counter, inserting into a set): such events run side by side. Against readers, writers and other
/// classes it keeps the order.
pub fn commutes(class: &str, key: impl Key) -> Access {
    Access { lane: key.lane(), mode: Mode::Shared(class_number(class)) }
}

/// Classes are hashed like keys; zero is reserved for reads. A collision would let two classes run side by side, so 32
/// bits are used and class names are few.
fn class_number(class: &str) -> u32 {
    let hash = xxhash_rust::xxh3::xxh3_64_with_seed(class.as_bytes(), 0x636f_6d6d_7574_6573);
    ((hash >> 32) as u32).max(1)
}

/// All that one event touches. Empty means: conflicts with nothing.
///
/// The first access is the *primary* one; `Exhausted::ParkPrimary` keeps the order of that resource only.
/// Adding a lane twice keeps one access; when the two modes differ it becomes exclusive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Footprint {
    accesses: SmallVec<[Access; 4]>,
}

impl Footprint {
    /// A footprint that conflicts with nothing.
    pub fn independent() -> Self {
        Self::default()
    }

    /// Adds one access.
    pub fn touch(&mut self, access: Access) {
        match self.accesses.iter_mut().find(|known| known.lane == access.lane) {
            Some(known) if known.mode.conflicts_with(access.mode) => known.mode = Mode::Exclusive,
            Some(_) => {}
            None => self.accesses.push(access),
        }
    }

    /// The accesses, each lane once, the primary one first.
    pub fn accesses(&self) -> &[Access] {
        &self.accesses
    }

    /// The lanes, the primary one first.
    pub fn lanes(&self) -> impl Iterator<Item = Lane> + '_ {
        self.accesses.iter().map(|access| access.lane)
    }

    /// Whether the event conflicts with nothing.
    pub fn is_independent(&self) -> bool {
        self.accesses.is_empty()
    }

    /// The rule: two footprints conflict when they share a lane and may not share it.
    pub fn conflicts_with(&self, other: &Footprint) -> bool {
        self.accesses.iter().any(|a| other.accesses.iter().any(|b| a.lane == b.lane && a.mode.conflicts_with(b.mode)))
    }
}

impl From<Access> for Footprint {
    fn from(access: Access) -> Self {
        [access].into_iter().collect()
    }
}

impl<const N: usize> From<[Access; N]> for Footprint {
    fn from(accesses: [Access; N]) -> Self {
        accesses.into_iter().collect()
    }
}

impl From<Vec<Access>> for Footprint {
    fn from(accesses: Vec<Access>) -> Self {
        accesses.into_iter().collect()
    }
}

impl FromIterator<Access> for Footprint {
    fn from_iter<I: IntoIterator<Item = Access>>(accesses: I) -> Self {
        let mut footprint = Footprint::default();
        footprint.extend(accesses);
        footprint
    }
}

impl Extend<Access> for Footprint {
    fn extend<I: IntoIterator<Item = Access>>(&mut self, accesses: I) {
        for access in accesses {
            self.touch(access);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(a: &[Access], b: &[Access], conflict: bool) {
        let (a, b): (Footprint, Footprint) = (a.iter().copied().collect(), b.iter().copied().collect());
        assert_eq!(a.conflicts_with(&b), conflict);
        assert_eq!(b.conflicts_with(&a), conflict, "the rule is symmetric");
    }

    #[test]
    fn a_writer_conflicts_with_readers_and_writers_of_the_same_resource_only() {
        check(&[writes(("sku", "a"))], &[writes(("sku", "a"))], true);
        check(&[writes(("sku", "a"))], &[reads(("sku", "a"))], true);
        check(&[writes(("sku", "a"))], &[writes(("sku", "b"))], false);
        check(&[writes(("sku", "a"))], &[writes(("order", "a"))], false);
        check(&[writes(("sku", "a")), writes(("sku", "b"))], &[writes(("sku", "b"))], true);
    }

    #[test]
    fn readers_run_beside_readers() {
        check(&[reads(("sku", "a"))], &[reads(("sku", "a"))], false);
    }

    #[test]
    fn operations_of_one_class_commute_and_other_classes_do_not() {
        check(&[commutes("add", "n")], &[commutes("add", "n")], false);
        check(&[commutes("add", "n")], &[commutes("max", "n")], true);
        check(&[commutes("add", "n")], &[reads("n")], true);
    }

    #[test]
    fn an_empty_footprint_conflicts_with_nothing() {
        check(&[], &[writes("n")], false);
        check(&[], &[], false);
    }

    #[test]
    fn a_resource_touched_in_two_ways_is_written() {
        let footprint: Footprint = [reads("n"), commutes("add", "n")].into();
        assert_eq!(footprint.accesses(), &[writes("n")]);
    }
}
