//! Administration: what an operator sees of the log, and changes in it.
//!
//! ```text
//! look      topics, groups, events: from the state, and what is not in memory from the files
//! journey   what became of an event: from the log itself
//! act       orders to the writer, each one group
//! files     the same without an owner: looking only
//! ```

mod act;
pub(crate) mod files;
mod journey;
mod look;

pub(crate) use look::Look;
