//! Frames: how every record lies in a segment, and groups of them, which count as a whole or not at all.
//!
//! ```text
//! frame   length u32 | crc u32 | body: kind u8, …
//! group   head | frame of each record
//! head    a frame of kind 0: sequence u64 | records u32 | bytes u32 | digest u32
//! ```
//!
//! Every checksum begins with the nonce of its segment, so that bytes of another life of a file never look valid. The
//! digest is the checksum of the checksums of the records: after a torn rewrite, records of an older group of the same
//! shape cannot complete a newer one.

use bytes::{Buf, BufMut};

/// Bytes before the body of a frame.
pub(crate) const FRAME: usize = 8;
/// Bytes of the body of a head.
const HEAD_BODY: usize = 21;
/// Bytes of a head.
pub(crate) const HEAD: usize = FRAME + HEAD_BODY;
/// The kind of a head; records have others.
const HEAD_KIND: u8 = 0;

/// A group under construction.
#[derive(Debug, Default)]
pub(crate) struct GroupWriter {
    bytes: Vec<u8>,
    records: u32,
    digest: crc32fast::Hasher,
}

impl GroupWriter {
    /// Begins a new group, keeping the memory of the last one.
    pub(crate) fn clear(&mut self, nonce: u64) {
        self.bytes.clear();
        self.bytes.resize(HEAD, 0);
        self.records = 0;
        self.digest = hasher(nonce);
    }

    /// Adds a record; answers where its frame begins in the group.
    pub(crate) fn add(&mut self, nonce: u64, encode: impl FnOnce(&mut Vec<u8>)) -> usize {
        let start = self.bytes.len();
        self.bytes.resize(start + FRAME, 0);
        encode(&mut self.bytes);
        let crc = seal(&mut self.bytes[start..], nonce);
        self.digest.update(&crc.to_le_bytes());
        self.records += 1;
        start
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Bytes so far, with the head.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes to write.
    pub(crate) fn finish(&mut self, nonce: u64, sequence: u64) -> &[u8] {
        let bytes = (self.bytes.len() - HEAD) as u32;
        let mut body = &mut self.bytes[FRAME..HEAD];
        body.put_u8(HEAD_KIND);
        body.put_u64_le(sequence);
        body.put_u32_le(self.records);
        body.put_u32_le(bytes);
        body.put_u32_le(self.digest.clone().finalize());
        seal(&mut self.bytes[..HEAD], nonce);
        &self.bytes
    }
}

/// Writes length and checksum in front of a body; answers the checksum.
fn seal(frame: &mut [u8], nonce: u64) -> u32 {
    let (mut header, body) = frame.split_at_mut(FRAME);
    let crc = checksum(nonce, body);
    header.put_u32_le(body.len() as u32);
    header.put_u32_le(crc);
    crc
}

/// A whole group, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Group<'a> {
    pub(crate) sequence: u64,
    /// With its head.
    pub(crate) bytes: &'a [u8],
}

impl<'a> Group<'a> {
    /// The group at the beginning of the bytes; `None` when it is damaged, incomplete, or none of this segment.
    pub(crate) fn read(bytes: &'a [u8], nonce: u64) -> Option<Self> {
        let mut head = frame(bytes, nonce).filter(|head| is_head(head.body))?.body;
        head.advance(1);
        let (sequence, records, length) = (head.get_u64_le(), head.get_u32_le(), head.get_u32_le() as usize);
        let group = Group { sequence, bytes: bytes.get(..HEAD.checked_add(length)?)? };
        let mut digest = hasher(nonce);
        let (mut at, mut found) = (HEAD, 0);
        while at < group.bytes.len() {
            let frame = frame(&group.bytes[at..], nonce)?;
            digest.update(&frame.crc.to_le_bytes());
            at += frame.size();
            found += 1;
        }
        (found == records && digest.finalize() == head.get_u32_le()).then_some(group)
    }

    /// The bodies of its records, each with where its frame begins in the group.
    pub(crate) fn records(self) -> impl Iterator<Item = (usize, &'a [u8])> {
        let mut at = HEAD;
        std::iter::from_fn(move || {
            let mut length = self.bytes.get(at..at + 4)?;
            let (start, body) = (at, at + FRAME);
            at = body + length.get_u32_le() as usize;
            Some((start, self.bytes.get(body..at)?))
        })
    }
}

/// How long the group at the beginning of the bytes is, by its head; `None` when there is no head.
pub(crate) fn group_length(bytes: &[u8], nonce: u64) -> Option<usize> {
    let (_, length) = head(bytes, nonce)?;
    HEAD.checked_add(length)
}

/// The sequence of the group at the beginning of the bytes, by its head; `None` when there is no head.
pub(crate) fn head_sequence(bytes: &[u8], nonce: u64) -> Option<u64> {
    // Quick, because it is asked of every byte.
    (length(bytes) == Some(HEAD_BODY)).then(|| head(bytes, nonce)).flatten().map(|(sequence, _)| sequence)
}

fn head(bytes: &[u8], nonce: u64) -> Option<(u64, usize)> {
    let mut head = frame(bytes, nonce).filter(|head| is_head(head.body))?.body;
    head.advance(1);
    let (sequence, _records) = (head.get_u64_le(), head.get_u32_le());
    Some((sequence, head.get_u32_le() as usize))
}

/// One frame, checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    pub(crate) body: &'a [u8],
    crc: u32,
}

impl Frame<'_> {
    /// Its bytes in the file.
    pub(crate) fn size(&self) -> usize {
        FRAME + self.body.len()
    }
}

/// The frame at the beginning of the bytes; `None` when it is damaged or incomplete.
pub(crate) fn frame(bytes: &[u8], nonce: u64) -> Option<Frame<'_>> {
    let body = bytes.get(FRAME..FRAME.checked_add(length(bytes)?)?)?;
    let crc = (&bytes[4..FRAME]).get_u32_le();
    (checksum(nonce, body) == crc).then_some(Frame { body, crc })
}

/// The length of the body of the frame at the beginning of the bytes.
pub(crate) fn length(bytes: &[u8]) -> Option<usize> {
    bytes.get(..FRAME).map(|mut header| header.get_u32_le() as usize)
}

fn is_head(body: &[u8]) -> bool {
    body.len() == HEAD_BODY && body[0] == HEAD_KIND
}

/// Where the next group of at least this sequence begins in the bytes, whatever lies before it.
pub(crate) fn find_group(bytes: &[u8], nonce: u64, sequence: u64) -> Option<usize> {
    const BLOCK: usize = 4096;
    let begins = |at: &usize| {
        bytes[*at] == HEAD_BODY as u8
            && length(&bytes[*at..]) == Some(HEAD_BODY)
            && Group::read(&bytes[*at..], nonce).is_some_and(|group| group.sequence >= sequence)
    };
    // A prepared segment is mostly zeros, and no group begins with one.
    let blocks = (0..bytes.len()).step_by(BLOCK).map(|start| start..bytes.len().min(start + BLOCK));
    let mut blocks = blocks.filter(|block| bytes[block.clone()].iter().fold(0, |any, byte| any | byte) != 0);
    blocks.find_map(|mut block| block.find(begins))
}

fn hasher(nonce: u64) -> crc32fast::Hasher {
    crc32fast::Hasher::new_with_initial(nonce as u32 ^ (nonce >> 32) as u32)
}

pub(crate) fn checksum(nonce: u64, bytes: &[u8]) -> u32 {
    let mut hasher = hasher(nonce);
    hasher.update(bytes);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(sequence: u64, bodies: &[&[u8]]) -> Vec<u8> {
        let mut writer = GroupWriter::default();
        writer.clear(7);
        for body in bodies {
            writer.add(7, |to| to.put_slice(body));
        }
        writer.finish(7, sequence).to_vec()
    }

    #[test]
    fn a_group_is_read_as_it_was_written() {
        let bytes = group(42, &[b"first", b"2"]);
        let read = Group::read(&bytes, 7).unwrap();
        assert_eq!((read.sequence, read.bytes.len()), (42, bytes.len()));
        assert_eq!(read.records().collect::<Vec<_>>(), [(HEAD, &b"first"[..]), (HEAD + FRAME + 5, b"2")]);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let bytes = group(42, &[b"first", b"second"]);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Group::read(&damaged, 7), None, "bit {bit}");
        }
    }

    #[test]
    fn every_cut_is_noticed() {
        let bytes = group(42, &[b"first", b"second"]);
        assert!((0..bytes.len()).all(|length| Group::read(&bytes[..length], 7).is_none()));
    }

    #[test]
    fn a_group_of_another_segment_is_none() {
        assert_eq!(Group::read(&group(42, &[b"first"]), 8), None);
    }

    #[test]
    fn two_groups_of_one_shape_do_not_make_a_third() {
        let (old, new) = (group(42, &[b"a1", b"a2"]), group(42, &[b"b1", b"b2"]));
        for cut in 1..old.len() {
            let mixed = [&new[..cut], &old[cut..]].concat();
            let read = Group::read(&mixed, 7);
            assert!(read.is_none() || mixed == old || mixed == new, "cut at {cut}");
        }
    }

    #[test]
    fn a_later_group_is_found_behind_anything() {
        let bytes = [&[21; 5000][..], &[0; 5000], &group(9, &[b"x"]), &[21; 50]].concat();
        assert_eq!(find_group(&bytes, 7, 9), Some(10_000));
        assert_eq!(find_group(&bytes, 7, 10), None, "older groups do not count");
    }
}
