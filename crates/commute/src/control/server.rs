//! The server: answers operators of other processes at a Unix socket.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use commute_core::control::{Reply, Request, answer};
use commute_core::{Broker, Code, Error};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Hello, VERSION, socket};

/// More than any number of people and dashboards; few enough that their lines fit into memory.
const CONNECTIONS: usize = 64;
/// The longest request: some thousand usual events, or one large one.
const LINE_BYTES: u64 = 8 << 20;
/// How long a line may take from its first byte to its last, in either direction.
const LINE_TIME: Duration = Duration::from_secs(10);
/// How long the answer to a request may take when the server is asked to end.
const GRACE: Duration = Duration::from_secs(5);

/// A server. Dropping it ends it at once and takes its socket away.
#[derive(Debug)]
pub(super) struct Server {
    path: PathBuf,
    stop: CancellationToken,
    tasks: TaskTracker,
    stands: AtomicBool,
}

impl Server {
    /// Begins to answer at a path whose owner the caller is.
    pub(super) fn start(path: &Path, broker: Weak<dyn Broker>) -> io::Result<Self> {
        let listener = socket::listen(path)?;
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(accept(listener, broker, stop.clone(), tasks.clone()));
        Ok(Server { path: path.to_owned(), stop, tasks, stands: AtomicBool::new(true) })
    }

    /// Takes no more requests, finishes those under way, and takes the socket away. Idempotent.
    pub(super) async fn end(&self) {
        self.take_away();
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Once only: later the path may be somebody else's.
    fn take_away(&self) {
        if self.stands.swap(false, Ordering::AcqRel) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.take_away();
        self.stop.cancel();
    }
}

async fn accept(listener: UnixListener, broker: Weak<dyn Broker>, stop: CancellationToken, tasks: TaskTracker) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(cause) => {
                // Out of descriptors, most likely: it passes, and asking at once again would only burn.
                tracing::warn!(%cause, "an operator could not connect");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(place) = room.clone().try_acquire_owned() else {
            let full = Error::new(Code::BrokerUnavailable, format!("{CONNECTIONS} operators are connected already"));
            tasks.spawn(async move {
                let mut write = stream.into_split().1;
                let _ = greet(&mut write).await;
                let _ = say(&mut write, &Reply::refused(&full)).await;
            });
            continue;
        };
        let (broker, stop) = (broker.clone(), stop.clone());
        tasks.spawn(async move {
            if let Err(cause) = converse(stream, broker, stop).await {
                tracing::debug!(%cause, "the connection of an operator ended");
            }
            drop(place);
        });
    }
}

/// Answers one connection, request by request, until either side ends it.
async fn converse(stream: UnixStream, broker: Weak<dyn Broker>, stop: CancellationToken) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    greet(&mut write).await?;
    loop {
        let line = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            line = next(&mut read) => line?,
        };
        let request = match line {
            Line::End => return Ok(()),
            Line::TooLong => {
                let detail = format!("a request of more than {LINE_BYTES} bytes");
                // What follows is the rest of it, so this ends here.
                return say(&mut write, &Reply::refused(&Error::new(Code::PayloadTooLarge, detail))).await;
            }
            Line::Whole(line) => serde_json::from_slice::<Request>(&line),
        };
        let reply = match request {
            Err(cause) => Reply::refused(&Error::new(Code::NotUnderstood, "not understood").caused_by(cause)),
            Ok(request) => {
                let Some(broker) = broker.upgrade() else { return Ok(()) };
                tokio::select! {
                    biased;
                    reply = answer(&*broker, request) => reply,
                    () = late(&stop) => return Ok(()),
                }
            }
        };
        say(&mut write, &reply).await?;
    }
}

async fn late(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(GRACE).await;
}

enum Line {
    Whole(Vec<u8>),
    TooLong,
    End,
}

/// Waits as long as it takes for a line to begin, and not long for it to end.
async fn next(read: &mut BufReader<OwnedReadHalf>) -> io::Result<Line> {
    if read.fill_buf().await?.is_empty() {
        return Ok(Line::End);
    }
    let mut line = Vec::new();
    let mut limited = read.take(LINE_BYTES);
    tokio::time::timeout(LINE_TIME, limited.read_until(b'\n', &mut line))
        .await
        .map_err(|_| io::ErrorKind::TimedOut)??;
    match line.last() {
        Some(b'\n') => Ok(Line::Whole(line)),
        _ if line.len() as u64 == LINE_BYTES => Ok(Line::TooLong),
        // Half a line is no request.
        _ => Ok(Line::End),
    }
}

async fn greet(write: &mut OwnedWriteHalf) -> io::Result<()> {
    say(write, &Hello { commute: VERSION }).await
}

async fn say(write: &mut OwnedWriteHalf, what: &impl serde::Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    tokio::time::timeout(LINE_TIME, write.write_all(&line)).await.map_err(|_| io::ErrorKind::TimedOut)?
}
