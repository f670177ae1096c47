//! Writing: what goes to a peer, in the order in which it was put, and without a copy of what is large.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::poll;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;

use super::codec::{COMMAND, Item, LONG, MORE};

/// A part of at least this size is written from where it is; smaller ones are copied together, which costs less.
const LARGE: usize = 1024;
/// So many pieces are handed to the system at once.
const PIECES: usize = 32;

/// The way to a peer. Whoever puts something in looks at [`Writing::waits`] before: it keeps everything.
pub(crate) struct Writing<W = Box<dyn AsyncWrite + Send + Unpin>> {
    to: W,
    pieces: VecDeque<Bytes>,
    /// Behind the pieces.
    small: BytesMut,
    waits: usize,
    /// When something was last written, or put where there was nothing.
    since: Instant,
}

impl<W> Writing<W> {
    pub(crate) fn new(to: W) -> Self {
        Writing { to, pieces: VecDeque::new(), small: BytesMut::new(), waits: 0, since: Instant::now() }
    }

    /// How many bytes wait.
    pub(crate) fn waits(&self) -> usize {
        self.waits
    }

    /// How long the peer has not taken anything of what waits.
    pub(crate) fn stalled(&self) -> Duration {
        if self.waits == 0 { Duration::ZERO } else { self.since.elapsed() }
    }

    pub(crate) fn put(&mut self, item: Item) {
        if self.waits == 0 {
            self.since = Instant::now();
        }
        match item {
            Item::Message(parts) => {
                let last = parts.len().saturating_sub(1);
                for (n, part) in parts.into_iter().enumerate() {
                    self.head(if n < last { MORE } else { 0 }, part.len());
                    self.body(part);
                }
            }
            Item::Command(name, rest) => {
                // All names are ours, and short.
                self.head(COMMAND, 1 + name.len() + rest.len());
                self.body(Bytes::copy_from_slice(&[u8::try_from(name.len()).unwrap_or(u8::MAX)]));
                self.body(name);
                self.body(rest);
            }
        }
    }

    fn head(&mut self, flags: u8, length: usize) {
        let before = self.small.len();
        match u8::try_from(length) {
            Ok(short) => self.small.put_slice(&[flags, short]),
            Err(_) => {
                self.small.put_u8(flags | LONG);
                self.small.put_u64(length as u64);
            }
        }
        self.waits += self.small.len() - before;
    }

    fn body(&mut self, part: Bytes) {
        self.waits += part.len();
        if part.len() < LARGE {
            return self.small.put_slice(&part);
        }
        self.seal();
        self.pieces.push_back(part);
    }

    fn seal(&mut self) {
        if !self.small.is_empty() {
            self.pieces.push_back(self.small.split().freeze());
        }
    }

    fn written(&mut self, mut bytes: usize) {
        self.waits = self.waits.saturating_sub(bytes);
        self.since = Instant::now();
        while let Some(first) = self.pieces.front_mut() {
            if bytes < first.len() {
                return first.advance(bytes);
            }
            bytes -= first.len();
            self.pieces.pop_front();
        }
    }
}

impl<W: AsyncWrite + Unpin> Writing<W> {
    /// Writes all that waits. Cancel safe: what was not written waits on.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        self.seal();
        while !self.pieces.is_empty() {
            let mut slices = [IoSlice::new(&[]); PIECES];
            let count = self.pieces.len().min(PIECES);
            slices.iter_mut().zip(&self.pieces).for_each(|(slice, piece)| *slice = IoSlice::new(piece));
            match self.to.write_vectored(slices.get(..count).unwrap_or_default()).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => self.written(written),
            }
        }
        Ok(())
    }

    /// Writes what the peer takes now.
    pub(crate) async fn some(&mut self) -> io::Result<()> {
        match poll!(std::pin::pin!(self.flush())) {
            Poll::Ready(written) => written,
            Poll::Pending => Ok(()),
        }
    }

    pub(crate) async fn send(&mut self, item: Item) -> io::Result<()> {
        self.put(item);
        self.flush().await
    }

    /// Writes all that waits, and says that nothing follows.
    pub(crate) async fn close(&mut self) -> io::Result<()> {
        self.flush().await?;
        self.to.shutdown().await
    }
}

/// As bytes.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn written(items: impl IntoIterator<Item = Item>) -> Vec<u8> {
    use futures_util::FutureExt;
    let mut writing = Writing::new(Vec::new());
    items.into_iter().for_each(|item| writing.put(item));
    let waits = writing.waits();
    assert!(matches!(writing.flush().now_or_never(), Some(Ok(()))), "a vector takes everything at once");
    assert_eq!((waits, writing.waits()), (writing.to.len(), 0));
    writing.to
}
