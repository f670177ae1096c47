//! Segments: the files of the log.
//!
//! ```text
//! magic 8 | version u32 | nonce u64 | serial u64 | crc u32 | group…
//! ```
//!
//! A segment is made ready under another name and then renamed, so that one with its own name always has a whole header.
//! What lies behind its last group, zeros or the remains of a torn write, means nothing.

use std::io;
use std::sync::Arc;

use bytes::{Buf, BufMut};
use commute_core::{Code, Error, Result};

use super::frame::checksum;
use crate::error::failed;
use crate::storage::{Storage, StoredFile};

const MAGIC: &[u8; 8] = b"commute\n";
/// Of the format of everything in the directory.
pub(crate) const VERSION: u32 = 2;
/// Bytes before the first group.
pub(crate) const HEADER: usize = 32;
/// The name of a segment that is not ready.
const UNREADY: &str = "segment.new";
/// How much is filled with one write.
const FILL: usize = 1 << 20;

/// An open segment.
#[derive(Clone)]
pub(crate) struct Segment {
    /// Segments are numbered from one, without gaps.
    pub(crate) serial: u32,
    pub(crate) nonce: u64,
    pub(crate) file: Arc<dyn StoredFile>,
}

/// The name of a segment.
pub(crate) fn name(serial: u32) -> String {
    format!("{serial:010}.log")
}

/// The serial number that a name stands for; `None` when it is no segment's.
pub(crate) fn serial_of(name: &str) -> Option<u32> {
    name.strip_suffix(".log").filter(|digits| digits.len() == 10)?.parse().ok()
}

impl Segment {
    /// Makes a segment, durably. With `fill` it is full of zeros, so that the file system has nothing left to do when a
    /// group is written: the blocks are there, and the length does not change.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn create(storage: &dyn Storage, serial: u32, nonce: u64, fill: Option<u64>) -> io::Result<Segment> {
        let file = storage.open(UNREADY)?;
        file.truncate(0)?;
        let mut at = 0;
        let zeros = vec![0; FILL];
        while let Some(left) = fill.and_then(|bytes| bytes.checked_sub(at)).filter(|left| *left > 0) {
            let length = zeros.len().min(usize::try_from(left).unwrap_or(FILL));
            file.write_at(&zeros[..length], at)?;
            at += length as u64;
        }
        file.write_at(&header(nonce, serial), 0)?;
        file.sync()?;
        storage.rename(UNREADY, &name(serial))?;
        storage.sync_names()?;
        Ok(Segment { serial, nonce, file })
    }

    /// Opens a segment by its serial number.
    ///
    /// # Errors
    /// `UnknownFormat`, `Damaged`, or the disk's.
    pub(crate) fn open(storage: &dyn Storage, serial: u32) -> Result<Segment> {
        let name = name(serial);
        let damaged = || Error::new(Code::Damaged, format!("{name} at byte 0: the header of the segment is damaged"));
        let mut bytes = [0; HEADER];
        let read = storage.open(&name).and_then(|file| file.read_at(&mut bytes, 0).map(|()| file));
        let file = read.map_err(|cause| match cause.kind() {
            io::ErrorKind::UnexpectedEof => damaged(),
            _ => failed(&format!("cannot read {name}"), cause),
        })?;
        let mut from = bytes.strip_prefix(MAGIC).ok_or_else(damaged)?;
        let (version, nonce) = (from.get_u32_le(), from.get_u64_le());
        let (found, crc) = (from.get_u64_le(), from.get_u32_le());
        if version > VERSION {
            let detail = format!("{name}: format version {version}; this program knows {VERSION}");
            return Err(Error::new(Code::UnknownFormat, detail));
        }
        if version == 0 || crc != checksum(0, &bytes[..HEADER - 4]) || found != u64::from(serial) {
            return Err(damaged());
        }
        Ok(Segment { serial, nonce, file })
    }
}

fn header(nonce: u64, serial: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER);
    bytes.put_slice(MAGIC);
    bytes.put_u32_le(VERSION);
    bytes.put_u64_le(nonce);
    bytes.put_u64_le(u64::from(serial));
    let crc = checksum(0, &bytes);
    bytes.put_u32_le(crc);
    bytes
}
