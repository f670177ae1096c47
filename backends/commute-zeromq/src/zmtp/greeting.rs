//! The greeting: both sides say version, mechanism and kind of socket; then the connection is two ends of messages.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_util::codec::FramedRead;

use super::codec::{Item, LEAST, Limits, Zmtp};
use super::writing::Writing;

/// Signature, version 3.1, mechanism NULL.
const GREETING: [u8; 64] = {
    let mut greeting = [0; 64];
    greeting[0] = 0xff;
    greeting[9] = 0x7f;
    greeting[10] = 3;
    greeting[11] = 1;
    let null = *b"NULL";
    let mut n = 0;
    while n < null.len() {
        greeting[12 + n] = null[n];
        n += 1;
    }
    greeting
};

/// Which end of the conversation this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// A ROUTER, which DEALERs talk to.
    Node,
    /// A DEALER.
    Client,
}

impl Role {
    fn socket(self) -> &'static [u8] {
        match self {
            Role::Node => b"ROUTER",
            Role::Client => b"DEALER",
        }
    }

    fn accepts(self, socket: &[u8]) -> bool {
        match self {
            Role::Node => socket == b"DEALER",
            Role::Client => socket == b"ROUTER",
        }
    }
}

/// Both directions of a connection that has been greeted.
pub(crate) struct Wires {
    pub(crate) read: FramedRead<Box<dyn AsyncRead + Send + Unpin>, Zmtp>,
    pub(crate) write: Writing,
}

/// Greets. The caller bounds the time it may take.
///
/// # Errors
/// When the peer is no ZeroMQ socket of the right kind, or wants a mechanism other than NULL.
pub(crate) async fn greet(
    mut read: Box<dyn AsyncRead + Send + Unpin>,
    mut write: Box<dyn AsyncWrite + Send + Unpin>,
    role: Role,
    limits: Limits,
) -> io::Result<Wires> {
    let refused = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    write.write_all(&GREETING).await?;
    write.flush().await?;
    let mut theirs = [0; 64];
    read.read_exact(&mut theirs).await?;
    if theirs[0] != 0xff || theirs[9] & 1 != 1 || theirs[10] < 3 {
        return Err(refused("the peer does not speak ZMTP 3".to_owned()));
    }
    let mechanism = String::from_utf8_lossy(&theirs[12..32]).trim_end_matches('\0').to_owned();
    if mechanism != "NULL" {
        return Err(refused(format!("the peer wants the mechanism {mechanism:?}; only NULL is spoken here")));
    }
    let read = FramedRead::with_capacity(read, Zmtp::new(limits), LEAST);
    let mut wires = Wires { read, write: Writing::new(write) };
    let mut properties = BytesMut::new();
    for (name, value) in [(&b"Socket-Type"[..], role.socket()), (b"Identity", b"")] {
        properties.put_u8(name.len() as u8);
        properties.put_slice(name);
        properties.put_u32(value.len() as u32);
        properties.put_slice(value);
    }
    wires.write.send(Item::Command(Bytes::from_static(b"READY"), properties.freeze())).await?;
    match wires.read.next().await.transpose()? {
        Some(Item::Command(name, properties)) if &name[..] == b"READY" => {
            let socket = property(&properties, b"socket-type").unwrap_or_default();
            match role.accepts(socket) {
                true => Ok(wires),
                false => {
                    let socket = String::from_utf8_lossy(socket).into_owned();
                    let reason = format!("a {socket} socket cannot talk to this one; use a DEALER");
                    let mut said = BytesMut::new();
                    said.put_u8(reason.len().min(255) as u8);
                    said.put_slice(&reason.as_bytes()[..reason.len().min(255)]);
                    wires.write.send(Item::Command(Bytes::from_static(b"ERROR"), said.freeze())).await?;
                    Err(refused(reason))
                }
            }
        }
        Some(Item::Command(name, reason)) if &name[..] == b"ERROR" => {
            let reason = String::from_utf8_lossy(reason.get(1..).unwrap_or_default()).into_owned();
            Err(refused(format!("the peer refused: {reason}")))
        }
        Some(_) => Err(refused("the peer did not say READY".to_owned())),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// A property of a READY command; names do not differ by case.
fn property<'a>(mut from: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    while let Some((length, rest)) = from.split_first() {
        let (name, rest) = rest.split_at_checked(usize::from(*length))?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (value, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        if name.eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        from = rest;
    }
    None
}
