//! The greeting: what a server says of itself before anything else, read on its way to the client library.
//!
//! The library takes the server's properties and keeps them to itself. So its connections are made on a stream of ours,
//! which looks at the first frame that passes and from then on at nothing.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use async_rs::traits::Reactor;
use async_rs::util::RuntimeParts;
use async_rs::{Runtime, Tokio};
use futures_util::Stream;
use futures_util::io::{AsyncRead, AsyncWrite};
use lapin::protocol::{AMQPClass, connection, parse_class};
use lapin::tcp::{AMQPUriTcpExt, OwnedTLSConfig};
use lapin::types::{AMQPValue, FieldTable};
use lapin::uri::AMQPUri;
use lapin::{AsyncTcpStream, Connection, ConnectionProperties};

/// A greeting has some hundred bytes. What is longer is not waited for.
const LONGEST: usize = 64 << 10;

/// The library's own stream, encrypted or not.
type Inner = AsyncTcpStream<<Tokio as Reactor>::TcpStream>;

/// What a server says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Greeting {
    pub(crate) product: String,
    pub(crate) version: String,
    /// Names of what it can beyond the protocol.
    pub(crate) capabilities: Vec<String>,
}

/// Connects, and answers what the server said first; nothing when that could not be read.
pub(crate) async fn connect(
    uri: AMQPUri,
    properties: ConnectionProperties,
    tls: OwnedTLSConfig,
) -> lapin::Result<(Connection, Option<Greeting>)> {
    let heard = Arc::new(OnceLock::new());
    let for_taps = heard.clone();
    let kit = RuntimeParts::new(Tokio::current(), Tapping(Tokio::current()));
    let on_stream = async move |uri: AMQPUri, _: Runtime<Kit>| {
        let runtime = Runtime::tokio_current();
        let stream = uri.connect_with_config_async(tls.as_ref(), &runtime).await?;
        Ok(AsyncTcpStream::Plain(Tap { inner: stream, first: Vec::new(), heard: Some(for_taps.clone()) }))
    };
    let connection = Connection::connector(uri, Runtime::new(kit), on_stream, properties).await?;
    Ok((connection, heard.get().cloned()))
}

/// The usual runtime, but for its streams.
type Kit = RuntimeParts<Tokio, Tapping>;

/// A stream that looks at the first frame which comes.
pub(crate) struct Tap {
    inner: Inner,
    first: Vec<u8>,
    /// Nothing when the first frame has passed.
    heard: Option<Arc<OnceLock<Greeting>>>,
}

impl Tap {
    fn hear(&mut self, bytes: &[u8]) {
        let Some(heard) = &self.heard else { return };
        self.first.extend_from_slice(bytes);
        let greeting = match payload(&self.first) {
            // The rest is still to come.
            None if self.first.len() < LONGEST => return,
            payload => payload.and_then(parsed),
        };
        if let Some(greeting) = greeting {
            // The first connection that is tried may have been lost after its greeting; the server is the same.
            let _ = heard.set(greeting);
        }
        (self.first, self.heard) = (Vec::new(), None);
    }
}

/// What is in a frame: after its kind, its channel and its length. Nothing when not all of it is there.
fn payload(frame: &[u8]) -> Option<&[u8]> {
    let (head, rest) = frame.split_at_checked(7)?;
    let length = u32::from_be_bytes(*head.last_chunk()?);
    rest.get(..usize::try_from(length).ok()?)
}

fn parsed(payload: &[u8]) -> Option<Greeting> {
    match parse_class(payload) {
        Ok((_, AMQPClass::Connection(connection::AMQPMethod::Start(start)))) => Some(read(&start.server_properties)),
        _ => None,
    }
}

fn read(properties: &FieldTable) -> Greeting {
    let table = properties.inner();
    let text = |name: &str| match table.get(name) {
        Some(AMQPValue::LongString(text)) => text.to_string(),
        Some(AMQPValue::ShortString(text)) => text.to_string(),
        _ => String::new(),
    };
    let capabilities = match table.get("capabilities") {
        Some(AMQPValue::FieldTable(table)) => {
            let has = table.inner().iter().filter(|(_, value)| **value == AMQPValue::Boolean(true));
            has.map(|(name, _)| name.to_string()).collect()
        }
        _ => Vec::new(),
    };
    Greeting { product: text("product"), version: text("version"), capabilities }
}

impl AsyncRead for Tap {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        if self.heard.is_some() {
            self.hear(buf.get(..count).unwrap_or_default());
        }
        Poll::Ready(Ok(count))
    }

    fn poll_read_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut count = ready!(Pin::new(&mut self.inner).poll_read_vectored(cx, bufs))?;
        let all = count;
        for buf in bufs.iter() {
            if self.heard.is_none() {
                break;
            }
            let part = count.min(buf.len());
            self.hear(buf.get(..part).unwrap_or_default());
            count -= part;
        }
        Poll::Ready(Ok(all))
    }
}

impl AsyncWrite for Tap {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

/// Tokio's reactor, with streams that look.
#[derive(Debug, Clone)]
pub(crate) struct Tapping(Tokio);

impl Reactor for Tapping {
    type TcpStream = Tap;
    type Sleep = <Tokio as Reactor>::Sleep;

    /// Nobody registers anything: connections are made above.
    fn register<H: io::Read + io::Write + Send + 'static>(
        &self,
        _socket: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        Err::<Tap, _>(io::ErrorKind::Unsupported.into())
    }

    fn sleep(&self, time: Duration) -> Self::Sleep {
        self.0.sleep(time)
    }

    fn interval(&self, time: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.0.interval(time)
    }

    fn tcp_connect_addr(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        let connecting = self.0.tcp_connect_addr(address);
        async move { Ok(Tap { inner: AsyncTcpStream::Plain(connecting.await?), first: Vec::new(), heard: None }) }
    }
}
