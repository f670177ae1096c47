//! The codec: bytes to messages and commands, and back.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::io;
use tokio_util::codec::{Decoder, Encoder};

const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;

/// A command is a name and a few properties; more than this is nobody's.
const MAX_COMMAND: usize = 4096;

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
}

impl Zmtp {
    pub(crate) fn new(limits: Limits) -> Self {
        Zmtp { limits, parts: Vec::new(), size: 0 }
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
            let Some(flags) = from.first().copied() else { return Ok(None) };
            if flags & !(MORE | LONG | COMMAND) != 0 || flags & (MORE | COMMAND) == MORE | COMMAND {
                return Err(refused("a frame with flags that ZMTP does not have"));
            }
            let head = if flags & LONG == 0 { 2 } else { 9 };
            if from.len() < head {
                return Ok(None);
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
                // Grows with what arrives, not with what is announced.
                from.reserve((head + length - from.len()).min(64 << 10));
                return Ok(None);
            }
            from.advance(head);
            let body = from.split_to(length).freeze();
            if command {
                return named(body).map(Some);
            }
            self.parts.push(body);
            self.size += length;
            if flags & MORE == 0 {
                self.size = 0;
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

impl Encoder<Item> for Zmtp {
    type Error = io::Error;

    fn encode(&mut self, item: Item, to: &mut BytesMut) -> io::Result<()> {
        match item {
            Item::Message(parts) => {
                let last = parts.len().saturating_sub(1);
                for (n, part) in parts.iter().enumerate() {
                    frame(if n < last { MORE } else { 0 }, &[part], to);
                }
            }
            Item::Command(name, rest) => {
                let length = u8::try_from(name.len()).map_err(|_| refused("a command with too long a name"))?;
                frame(COMMAND, &[&[length], &name, &rest], to);
            }
        }
        Ok(())
    }
}

fn frame(flags: u8, parts: &[&[u8]], to: &mut BytesMut) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    to.reserve(9 + length);
    match u8::try_from(length) {
        Ok(short) => to.put_slice(&[flags, short]),
        Err(_) => {
            to.put_u8(flags | LONG);
            to.put_u64(length as u64);
        }
    }
    parts.iter().for_each(|part| to.put_slice(part));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits { message_bytes: 1000, frames: 4 };

    proptest! {
        #[test]
        fn what_is_written_is_read_however_it_is_cut(
            messages in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..4), 0..5),
            cut in 1..50_usize,
        ) {
            let fits = |parts: &Vec<Vec<u8>>| parts.iter().map(Vec::len).sum::<usize>() <= LIMITS.message_bytes;
            let messages: Vec<_> = messages.into_iter().filter(fits).collect();
            let mut bytes = BytesMut::new();
            for parts in &messages {
                let parts = parts.iter().map(|part| Bytes::copy_from_slice(part)).collect();
                Zmtp::new(LIMITS).encode(Item::Message(parts), &mut bytes).unwrap();
            }
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
        let mut bytes = BytesMut::new();
        frame(MORE, &[&[0; 900]], &mut bytes);
        assert_eq!(summed.decode(&mut bytes).unwrap(), None);
        frame(0, &[&[0; 101]], &mut bytes);
        assert!(summed.decode(&mut bytes).is_err());
    }

    #[test]
    fn commands_have_a_name() {
        let mut bytes = BytesMut::new();
        let ping = Item::Command(Bytes::from_static(b"PING"), Bytes::from_static(&[0, 10, 7]));
        Zmtp::new(LIMITS).encode(ping.clone(), &mut bytes).unwrap();
        assert_eq!(Zmtp::new(LIMITS).decode(&mut bytes).unwrap(), Some(ping));
        assert!(Zmtp::new(LIMITS).decode(&mut BytesMut::from(&[COMMAND, 1, 9][..])).is_err());
    }
}
