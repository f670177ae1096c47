//! The codec: bytes to messages and commands. [`super::writing`] is the way back.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use tokio_util::codec::Decoder;

pub(super) const MORE: u8 = 1;
pub(super) const LONG: u8 = 2;
pub(super) const COMMAND: u8 = 4;

/// A command is a name and a few properties; more than this is nobody's.
const MAX_COMMAND: usize = 4096;

/// Room for so many bytes is always made: what an idle connection says, and what it costs.
pub(super) const LEAST: usize = 1024;
/// And for so many at most, whatever is announced.
const MOST: usize = 64 << 10;

/// How much a peer may send at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// All frames of a message together, in bytes.
    pub(crate) message_bytes: usize,
    /// Frames of a message.
    pub(crate) frames: usize,
}

/// What came, or goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    /// All frames of a message.
    Message(Vec<Bytes>),
    /// A command: its name, and what follows.
    Command(Bytes, Bytes),
}

/// The codec of one direction of one connection.
#[derive(Debug)]
pub(crate) struct Zmtp {
    limits: Limits,
    parts: Vec<Bytes>,
    size: usize,
    /// How large the last message was: the next is likely to be as large.
    usual: usize,
}

impl Zmtp {
    pub(crate) fn new(limits: Limits) -> Self {
        Zmtp { limits, parts: Vec::new(), size: 0, usual: 0 }
    }

    /// Makes room for what comes next.
    fn more(&self, from: &mut BytesMut, missing: usize) -> io::Result<Option<Item>> {
        // Grows with what arrives, not with what is announced.
        from.reserve(missing.max(self.usual).clamp(LEAST, MOST));
        Ok(None)
    }
}

fn refused(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

impl Decoder for Zmtp {
    type Item = Item;
    type Error = io::Error;

    fn decode(&mut self, from: &mut BytesMut) -> io::Result<Option<Item>> {
        loop {
            let Some(flags) = from.first().copied() else { return self.more(from, 0) };
            if flags & !(MORE | LONG | COMMAND) != 0 || flags & (MORE | COMMAND) == MORE | COMMAND {
                return Err(refused("a frame with flags that ZMTP does not have"));
            }
            let head = if flags & LONG == 0 { 2 } else { 9 };
            if from.len() < head {
                return self.more(from, 0);
            }
            let length = match flags & LONG {
                0 => u64::from(from[1]),
                _ => (&from[1..9]).get_u64(),
            };
            let command = flags & COMMAND != 0;
            let left = if command { MAX_COMMAND } else { self.limits.message_bytes - self.size };
            let length = usize::try_from(length).ok().filter(|length| *length <= left);
            let Some(length) = length else { return Err(refused("a message larger than the limit")) };
            if from.len() < head + length {
                return self.more(from, head + length - from.len());
            }
            from.advance(head);
            let body = from.split_to(length).freeze();
            if command {
                return named(body).map(Some);
            }
            self.parts.push(body);
            self.size += length;
            if flags & MORE == 0 {
                self.usual = std::mem::take(&mut self.size);
                return Ok(Some(Item::Message(std::mem::take(&mut self.parts))));
            }
            if self.parts.len() >= self.limits.frames {
                return Err(refused("a message of more frames than the limit"));
            }
        }
    }
}

fn named(mut body: Bytes) -> io::Result<Item> {
    let length = body.first().map(|length| usize::from(*length));
    let Some(length) = length.filter(|length| body.len() > *length) else {
        return Err(refused("a command without a name"));
    };
    body.advance(1);
    let name = body.split_to(length);
    Ok(Item::Command(name, body))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::zmtp::writing::written;

    const LIMITS: Limits = Limits { message_bytes: 3000, frames: 4 };

    proptest! {
        #[test]
        fn what_is_written_is_read_however_it_is_cut(
            messages in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..2000), 1..4), 0..5),
            cut in 1..50_usize,
        ) {
            let fits = |parts: &Vec<Vec<u8>>| parts.iter().map(Vec::len).sum::<usize>() <= LIMITS.message_bytes;
            let messages: Vec<_> = messages.into_iter().filter(fits).collect();
            let bytes = written(messages.iter().map(|parts| {
                Item::Message(parts.iter().map(|part| Bytes::copy_from_slice(part)).collect())
            }));
            let (mut codec, mut buffer, mut read) = (Zmtp::new(LIMITS), BytesMut::new(), Vec::new());
            for piece in bytes.chunks(cut) {
                buffer.extend_from_slice(piece);
                while let Some(Item::Message(parts)) = codec.decode(&mut buffer).unwrap() {
                    read.push(parts.iter().map(|part| part.to_vec()).collect::<Vec<_>>());
                }
            }
            prop_assert_eq!(read, messages);
        }
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_its_bytes_arrive() {
        let mut announced = BytesMut::from(&[LONG, 0, 0, 0, 1, 0, 0, 0, 0][..]);
        assert!(Zmtp::new(LIMITS).decode(&mut announced).is_err());
        let mut summed = Zmtp::new(LIMITS);
        let parts = vec![Bytes::from_static(&[0; 2900]), Bytes::from_static(&[0; 101])];
        let bytes = written([Item::Message(parts)]);
        let (first, second) = bytes.split_at(9 + 2900);
        let mut bytes = BytesMut::from(first);
        assert_eq!(summed.decode(&mut bytes).unwrap(), None);
        bytes.extend_from_slice(second);
        assert!(summed.decode(&mut bytes).is_err());
    }

    #[test]
    fn commands_have_a_name() {
        let ping = Item::Command(Bytes::from_static(b"PING"), Bytes::from_static(&[0, 10, 7]));
        let mut bytes = BytesMut::from(&written([ping.clone()])[..]);
        assert_eq!(Zmtp::new(LIMITS).decode(&mut bytes).unwrap(), Some(ping));
        assert!(Zmtp::new(LIMITS).decode(&mut BytesMut::from(&[COMMAND, 1, 9][..])).is_err());
    }
}
