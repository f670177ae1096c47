//! Groups: what is written with one write and made durable with one sync. A group counts as a whole or not at all.
//!
//! ```text
//! group   magic u32 | sequence u64 | records u32 | length u32 | crc u32 | record…
//! record  length u32 | crc u32 | body
//! ```
//!
//! Every checksum begins with the nonce of its segment, so that bytes of another life of the same file never look valid.

use std::ops::Range;

use bytes::{Buf, BufMut};

const MAGIC: u32 = 0x0150_5247; // "GRP", 1
/// Bytes before the first record.
pub(crate) const HEADER: usize = 24;
/// Bytes before the body of a record.
pub(crate) const RECORD_HEADER: usize = 8;

/// A group under construction.
#[derive(Debug, Default)]
pub(crate) struct GroupWriter {
    bytes: Vec<u8>,
    records: u32,
}

impl GroupWriter {
    /// Begins a new group, keeping the memory of the last one.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.resize(HEADER, 0);
        self.records = 0;
    }

    /// Adds a record; answers where its length field stands in the group, and how long the body is.
    pub(crate) fn add(&mut self, nonce: u64, encode: impl FnOnce(&mut Vec<u8>)) -> (usize, u32) {
        let start = self.bytes.len();
        self.bytes.resize(start + RECORD_HEADER, 0);
        encode(&mut self.bytes);
        let body = start + RECORD_HEADER;
        let length = (self.bytes.len() - body) as u32;
        let crc = checksum(nonce, &self.bytes[body..]);
        (&mut self.bytes[start..body]).put_u32_le(length);
        (&mut self.bytes[start + 4..body]).put_u32_le(crc);
        self.records += 1;
        (start, length)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes to write.
    pub(crate) fn finish(&mut self, nonce: u64, sequence: u64) -> &[u8] {
        let length = (self.bytes.len() - HEADER) as u32;
        let mut header = &mut self.bytes[..HEADER];
        header.put_u32_le(MAGIC);
        header.put_u64_le(sequence);
        header.put_u32_le(self.records);
        header.put_u32_le(length);
        let crc = checksum(nonce, &self.bytes[..HEADER - 4]);
        (&mut self.bytes[HEADER - 4..HEADER]).put_u32_le(crc);
        &self.bytes
    }
}

/// The header of a group, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GroupHeader {
    pub(crate) sequence: u64,
    records: u32,
    length: u32,
}

impl GroupHeader {
    /// Reads a header; `None` when the bytes are none of this segment.
    pub(crate) fn read(bytes: &[u8], nonce: u64) -> Option<Self> {
        let header = bytes.get(..HEADER)?;
        let mut from = header;
        if from.get_u32_le() != MAGIC {
            return None;
        }
        let found = GroupHeader { sequence: from.get_u64_le(), records: from.get_u32_le(), length: from.get_u32_le() };
        (from.get_u32_le() == checksum(nonce, &header[..HEADER - 4])).then_some(found)
    }

    /// The bytes of the whole group.
    pub(crate) fn size(&self) -> usize {
        HEADER + self.length as usize
    }

    /// Where the bodies of the records are; `None` when one of them is damaged or missing.
    pub(crate) fn records(&self, group: &[u8], nonce: u64) -> Option<Vec<Range<usize>>> {
        let group = group.get(..self.size())?;
        let mut bodies = Vec::with_capacity(self.records as usize);
        let mut at = HEADER;
        for _ in 0..self.records {
            let body = record(group.get(at..)?, nonce)?;
            bodies.push(at + RECORD_HEADER..at + RECORD_HEADER + body.len());
            at += RECORD_HEADER + body.len();
        }
        (at == group.len()).then_some(bodies)
    }
}

/// The body of the record at the beginning of the bytes; `None` when it is damaged.
pub(crate) fn record(bytes: &[u8], nonce: u64) -> Option<&[u8]> {
    let mut header = bytes.get(..RECORD_HEADER)?;
    let (length, crc) = (header.get_u32_le() as usize, header.get_u32_le());
    let body = bytes.get(RECORD_HEADER..RECORD_HEADER.checked_add(length)?)?;
    (checksum(nonce, body) == crc).then_some(body)
}

pub(crate) fn checksum(nonce: u64, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(nonce as u32 ^ (nonce >> 32) as u32);
    hasher.update(bytes);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group() -> Vec<u8> {
        let mut writer = GroupWriter::default();
        writer.clear();
        writer.add(7, |to| to.put_slice(b"first"));
        writer.add(7, |_| ());
        writer.finish(7, 42).to_vec()
    }

    #[test]
    fn a_group_is_read_as_it_was_written() {
        let bytes = group();
        let header = GroupHeader::read(&bytes, 7).unwrap();
        assert_eq!((header.sequence, header.size()), (42, bytes.len()));
        let bodies: Vec<_> = header.records(&bytes, 7).unwrap().into_iter().map(|range| &bytes[range]).collect();
        assert_eq!(bodies, [&b"first"[..], b""]);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let bytes = group();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let read = GroupHeader::read(&damaged, 7).and_then(|header| header.records(&damaged, 7));
            assert_eq!(read, None, "bit {bit}");
        }
    }

    #[test]
    fn a_group_of_another_segment_is_none() {
        assert_eq!(GroupHeader::read(&group(), 8), None);
    }
}
