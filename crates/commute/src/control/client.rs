//! The client: carries requests to the owner's socket and its replies back.

use std::io;
use std::path::Path;
use std::time::Duration;

use commute_core::control::{Ask, Reply, Request};
use commute_core::{BoxFuture, Code, Error, Result};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::Mutex;

use super::{Hello, VERSION, socket};

/// How long an owner may take to greet; it does nothing else then.
const GREETING: Duration = Duration::from_secs(5);

/// A connection to an owner. It does not connect again by itself: what it asked when it broke may have been done.
#[derive(Debug)]
pub(super) struct Line {
    path: String,
    /// One request at a time; gone once it broke, or was left in the middle.
    conversation: Mutex<Option<BufReader<UnixStream>>>,
}

impl Line {
    /// Connects, unless nobody listens there.
    ///
    /// # Errors
    /// `AccessRefused` when this user may not; `BrokerUnavailable` when whoever listens does not answer; `NotUnderstood` when
    /// they speak another version.
    pub(super) async fn connect(path: &Path) -> Result<Option<Self>> {
        let shown = path.display().to_string();
        let stream = match socket::connect(path).await {
            Ok(stream) => stream,
            // The socket of an owner that was killed stays behind, and nobody listens at it.
            Err(cause) if is_nobody(&cause) => return Ok(None),
            Err(cause) if cause.kind() == io::ErrorKind::PermissionDenied => {
                let detail = format!("{shown} belongs to another user; be that user");
                return Err(Error::new(Code::AccessRefused, detail).caused_by(cause));
            }
            Err(cause) => {
                return Err(Error::new(Code::BrokerUnavailable, format!("cannot connect to {shown}")).caused_by(cause));
            }
        };
        let mut stream = BufReader::new(stream);
        let greeting = tokio::time::timeout(GREETING, read(&mut stream)).await;
        let Ok(Ok(hello)) = greeting else {
            return Err(Error::new(Code::BrokerUnavailable, format!("whoever listens at {shown} does not answer")));
        };
        match serde_json::from_slice::<Hello>(&hello) {
            Ok(Hello { commute: VERSION }) => {}
            Ok(Hello { commute }) => {
                let detail = format!("{shown} speaks version {commute} of the protocol; this program speaks {VERSION}");
                return Err(Error::new(Code::NotUnderstood, detail));
            }
            Err(_) => return Err(Error::new(Code::NotUnderstood, format!("no commute service listens at {shown}"))),
        }
        Ok(Some(Line { path: shown, conversation: Mutex::new(Some(stream)) }))
    }
}

fn is_nobody(cause: &io::Error) -> bool {
    matches!(cause.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::NotADirectory)
}

impl Ask for Line {
    fn ask(&self, request: Request) -> BoxFuture<'_, Result<Reply>> {
        Box::pin(async move {
            let mut line = serde_json::to_vec(&request)
                .map_err(|cause| Error::new(Code::InvalidEvent, "this cannot be asked").caused_by(cause))?;
            line.push(b'\n');
            let mut held = self.conversation.lock().await;
            let Some(mut stream) = held.take() else {
                let detail = format!("the connection to {} is broken; nothing more was asked", self.path);
                return Err(Error::new(Code::BrokerUnavailable, detail));
            };
            let answered = exchange(&mut stream, &line).await.and_then(|line| Ok(serde_json::from_slice(&line)?));
            match answered {
                Ok(reply) => {
                    *held = Some(stream);
                    Ok(reply)
                }
                Err(cause) => {
                    let then = if request.acts() { "; whether it did what it was asked is unknown" } else { "" };
                    let detail = format!("the owner at {} went away while it was asked{then}", self.path);
                    Err(Error::new(Code::BrokerUnavailable, detail).caused_by(cause))
                }
            }
        })
    }
}

async fn exchange(stream: &mut BufReader<UnixStream>, line: &[u8]) -> io::Result<Vec<u8>> {
    // One that refuses says why before it hangs up, and then nothing can be written any more.
    let written = stream.get_mut().write_all(line).await;
    match read(stream).await {
        Ok(reply) => Ok(reply),
        Err(cause) => Err(written.err().unwrap_or(cause)),
    }
}

/// A whole line.
async fn read(stream: &mut BufReader<UnixStream>) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    stream.read_until(b'\n', &mut line).await?;
    match line.last() {
        Some(b'\n') => Ok(line),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
