//! The journal: one log of groups for all topics and all state, in segments.

pub(crate) mod group;
pub(crate) mod recovery;
pub(crate) mod segment;

/// Where the body of a record lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Location {
    /// The segment, by the sequence of its first group.
    pub(crate) segment: u64,
    /// Of the record's length field, from the beginning of the file.
    pub(crate) offset: u64,
    /// Of the record's body.
    pub(crate) length: u32,
}
