//! Storage: the few things that the log asks of a disk, so that tests can be the disk.
//!
//! Blocking. What was written is promised to survive a power loss only after the file's `sync`, and a name only after
//! `sync_names`.

mod file;
mod look;
mod memory;

use std::io;
use std::sync::Arc;

pub use file::Directory;
pub(crate) use look::ReadOnly;
pub use memory::Memory;

/// A flat set of named files.
pub trait Storage: Send + Sync + 'static {
    /// Opens a file, creating it when it does not exist.
    ///
    /// # Errors
    /// The disk's.
    fn open(&self, name: &str) -> io::Result<Arc<dyn StoredFile>>;

    /// Says, where somebody who opens this would ask, that it is written in today's format from here on.
    ///
    /// # Errors
    /// The disk's.
    fn mark(&self) -> io::Result<()> {
        Ok(())
    }

    /// All names.
    ///
    /// # Errors
    /// The disk's.
    fn names(&self) -> io::Result<Vec<String>>;

    /// Removes a file. Readers that have it open can go on reading.
    ///
    /// # Errors
    /// The disk's.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Gives a file another name, replacing what has it.
    ///
    /// # Errors
    /// The disk's.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Makes creations, removals and renames durable.
    ///
    /// # Errors
    /// The disk's.
    fn sync_names(&self) -> io::Result<()>;

    /// What a person would call it.
    fn label(&self) -> String;
}

/// One file.
pub trait StoredFile: Send + Sync + 'static {
    /// Its length in bytes.
    ///
    /// # Errors
    /// The disk's.
    fn length(&self) -> io::Result<u64>;

    /// Fills the buffer from a position.
    ///
    /// # Errors
    /// `UnexpectedEof` when the file is too short; the disk's.
    fn read_at(&self, bytes: &mut [u8], position: u64) -> io::Result<()>;

    /// Writes at a position; the file grows as needed.
    ///
    /// # Errors
    /// The disk's.
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()>;

    /// Makes everything written durable.
    ///
    /// # Errors
    /// The disk's. Afterwards nothing is known about what was written since the last success.
    fn sync(&self) -> io::Result<()>;

    /// Cuts the file. Durable with the next `sync`.
    ///
    /// # Errors
    /// The disk's.
    fn truncate(&self, length: u64) -> io::Result<()>;
}

/// Reads a whole file.
pub(crate) fn read_all(file: &dyn StoredFile) -> io::Result<Vec<u8>> {
    let length = usize::try_from(file.length()?).map_err(|_| io::Error::other("the file does not fit into memory"))?;
    let mut bytes = vec![0; length];
    file.read_at(&mut bytes, 0)?;
    Ok(bytes)
}
