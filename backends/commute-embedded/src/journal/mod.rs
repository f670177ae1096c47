//! The journal: one log of groups for all topics and all state, in segments.
//!
//! ```text
//! frame     bytes with a checksum, and groups of them that count as a whole
//! segment   one file
//! groups    reads them in order, with little memory
//! log       appends groups; the writer owns it
//! reader    finds events again, from any thread
//! recovery  reads the log back, ignores a torn tail, refuses damage
//! tail      the same for whoever only looks
//! ```

pub(crate) mod frame;
pub(crate) mod groups;
pub(crate) mod log;
pub(crate) mod reader;
pub(crate) mod recovery;
pub(crate) mod segment;
pub(crate) mod tail;

/// Where a frame begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// The serial number of the segment.
    pub(crate) segment: u32,
    /// From the beginning of the file.
    pub(crate) offset: u64,
}
