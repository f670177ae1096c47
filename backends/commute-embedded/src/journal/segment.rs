//! Segments: the files of the log.
//!
//! ```text
//! magic 8 | version u32 | nonce u64 | first sequence u64 | crc u32 | group…
//! ```

use std::io;
use std::sync::Arc;

use bytes::{Buf, BufMut};
use commute_core::{Code, Error, Result};

use super::Location;
use super::group::{RECORD_HEADER, checksum, record};
use crate::error::failed;
use crate::storage::{Storage, StoredFile};

const MAGIC: &[u8; 8] = b"commute\x01";
/// Of the format of everything in the directory.
pub(crate) const VERSION: u32 = 1;
/// Bytes before the first group.
pub(crate) const HEADER: usize = 32;

/// An open segment.
#[derive(Clone)]
pub(crate) struct Segment {
    /// The sequence of its first group; also its name.
    pub(crate) first: u64,
    pub(crate) nonce: u64,
    pub(crate) file: Arc<dyn StoredFile>,
}

/// The name of a segment.
pub(crate) fn name(first: u64) -> String {
    format!("{first:020}.log")
}

/// The first sequence that a name stands for; `None` when it is no segment's.
pub(crate) fn first_of(name: &str) -> Option<u64> {
    name.strip_suffix(".log").filter(|digits| digits.len() == 20)?.parse().ok()
}

impl Segment {
    /// Creates a segment, durably.
    pub(crate) fn create(storage: &dyn Storage, first: u64) -> io::Result<Segment> {
        let nonce = fastrand::u64(..);
        let file = storage.open(&name(first))?;
        file.truncate(0)?;
        file.write_at(&header(nonce, first), 0)?;
        file.sync()?;
        storage.sync_names()?;
        Ok(Segment { first, nonce, file })
    }

    /// Reads the header of a segment.
    ///
    /// # Errors
    /// `UnknownFormat`, or `Damaged`.
    pub(crate) fn open(file: Arc<dyn StoredFile>, first: u64, bytes: &[u8]) -> Result<Segment> {
        let damaged = || Error::new(Code::Damaged, format!("{}: the header of the segment is damaged", name(first)));
        let header = bytes.get(..HEADER).ok_or_else(damaged)?;
        let mut from = header;
        let mut magic = [0; 8];
        from.copy_to_slice(&mut magic);
        let (version, nonce) = (from.get_u32_le(), from.get_u64_le());
        let (found, crc) = (from.get_u64_le(), from.get_u32_le());
        if magic != *MAGIC || crc != checksum(0, &header[..HEADER - 4]) || found != first {
            return Err(damaged());
        }
        if version != VERSION {
            let detail = format!("{}: format version {version}; this program knows {VERSION}", name(first));
            return Err(Error::new(Code::UnknownFormat, detail));
        }
        Ok(Segment { first, nonce, file })
    }

    /// Reads the body of a record again.
    ///
    /// # Errors
    /// `Damaged`, or the disk's.
    pub(crate) fn read(&self, at: Location) -> Result<Vec<u8>> {
        let mut bytes = vec![0; RECORD_HEADER + at.length as usize];
        let place = || format!("{} at byte {}", name(self.first), at.offset);
        self.file.read_at(&mut bytes, at.offset).map_err(|cause| failed(&format!("cannot read {}", place()), cause))?;
        let body = record(&bytes, self.nonce).map(<[u8]>::len);
        if body != Some(at.length as usize) {
            return Err(Error::new(Code::Damaged, format!("{}: the record is damaged", place())));
        }
        bytes.drain(..RECORD_HEADER);
        Ok(bytes)
    }
}

fn header(nonce: u64, first: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER);
    bytes.put_slice(MAGIC);
    bytes.put_u32_le(VERSION);
    bytes.put_u64_le(nonce);
    bytes.put_u64_le(first);
    let crc = checksum(0, &bytes);
    bytes.put_u32_le(crc);
    bytes
}
