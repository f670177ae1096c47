//! The node: listens, admits connections, and keeps the sessions.

mod connection;
mod operators;
mod request;
mod session;
mod subscription;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use commute_core::{Address, Code, Error, Result, SharedBroker};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::key::Key;
use crate::options::Place;
use crate::wire::FRAMES;
use crate::zmtp::Limits;

/// What a node can be told, each with its default.
#[derive(Debug, Clone)]
pub struct NodeOptions {
    /// How many connections there may be: 10,000.
    pub connections: usize,
    /// The largest message, all frames together: 16 MiB.
    pub max_message_bytes: usize,
    /// How many requests of one session may be under way: 1,024. Whoever sends more waits.
    pub max_in_flight: usize,
    /// Each side says something at least this often: 1 s, and a quarter of the lease at most.
    pub heartbeat: Duration,
    /// How long a session outlives its connection, and how long silence is borne: 10 s. Deliveries of a session that is over go to
    /// others.
    pub lease: Duration,
    /// How long a client may wait for events in one request, before it has to ask again: 10 s.
    pub longest_wait: Duration,
    /// How long a service may take to answer an operator: 5 s. Then the operator is told that it did not.
    pub longest_answer: Duration,
    /// How long a greeting may take: 5 s.
    pub handshake: Duration,
    /// A file with the shared key. With one, a node may listen beyond this machine.
    pub key_file: Option<PathBuf>,
}

impl Default for NodeOptions {
    fn default() -> Self {
        NodeOptions {
            connections: 10_000,
            max_message_bytes: 16 << 20,
            max_in_flight: 1024,
            heartbeat: Duration::from_secs(1),
            lease: Duration::from_secs(10),
            longest_wait: Duration::from_secs(10),
            longest_answer: Duration::from_secs(5),
            handshake: Duration::from_secs(5),
            key_file: None,
        }
    }
}

/// What all connections of a node share.
pub(crate) struct Shared {
    pub(crate) broker: SharedBroker,
    pub(crate) options: NodeOptions,
    pub(crate) key: Option<Key>,
    /// Where the sessions hear, by their names.
    pub(crate) sessions: Mutex<HashMap<String, mpsc::Sender<session::Peer>>>,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

impl Shared {
    pub(crate) fn limits(&self) -> Limits {
        Limits { message_bytes: self.options.max_message_bytes, frames: FRAMES }
    }

    pub(crate) fn sessions(&self) -> std::sync::MutexGuard<'_, HashMap<String, mpsc::Sender<session::Peer>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A node that listens. Dropping it ends it as a crash would; the broker stays with whoever has it.
pub struct Node {
    shared: Arc<Shared>,
    place: Place,
    socket: Option<PathBuf>,
}

impl Node {
    /// Listens at `zmq://host:port` (port 0 for a free one) or `zmq+ipc:///path`, and serves a broker there: one that belongs to
    /// this process, because what a client is promised is what its node alone decides.
    ///
    /// # Errors
    /// `NeedNotMet` for a broker that other processes can use at the same time: services connect to it without a node.
    /// `InvalidOption` when the URL is none, or names a place beyond this machine and there is no key; `Io` when it cannot listen
    /// there.
    pub async fn serve(broker: SharedBroker, url: &str, options: NodeOptions) -> Result<Node> {
        if broker.capabilities().shared {
            let detail = format!(
                "a node serves a log of its own process; {} serves other processes by itself, so connect services to it directly",
                broker.driver()
            );
            return Err(Error::new(Code::NeedNotMet, detail));
        }
        // Several must fit into a lease, so that one that is late ends nothing.
        let options = NodeOptions { heartbeat: options.heartbeat.min(options.lease / 4), ..options };
        let place = Place::parse(&Address::parse(url)?)?;
        let key = options.key_file.as_deref().map(Key::read).transpose()?;
        let (listener, place, socket) = Listener::bind(place, key.is_some()).await?;
        let shared = Arc::new(Shared {
            broker,
            options,
            key,
            sessions: Mutex::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        tracing::info!(%place, broker = shared.broker.driver(), "the node listens");
        shared.tasks.spawn(accept(shared.clone(), listener));
        Ok(Node { shared, place, socket })
    }

    /// Where it listens, with the port it was given.
    pub fn url(&self) -> String {
        self.place.to_string()
    }

    /// Carries between a plain ZeroMQ socket and a topic for as long as the node is there: `zmq+pull://host:port?topic=T&type=TYPE`,
    /// `zmq+sub://…&prefix=P`, `zmq+push://host:port?topic=T&group=G`, `zmq+pub://…`; `bind=true` to listen, on loopback only.
    ///
    /// A bridge is as weak as what it is a bridge to: nobody confirms, and what is sent while the other side is away can be lost. Its
    /// contract is returned, as a sentence to show to whoever starts it.
    ///
    /// # Errors
    /// `InvalidOption`.
    #[cfg(feature = "bridges")]
    pub fn bridge(&self, url: &str) -> Result<String> {
        let (bridge, shared) = (crate::bridge::Bridge::parse(url)?, self.shared.clone());
        let contract = bridge.contract();
        self.shared.tasks.spawn(async move {
            tokio::select! {
                () = shared.stop.cancelled() => {}
                () = bridge.run(shared.broker.clone()) => {}
            }
        });
        Ok(contract)
    }

    /// How many sessions there are: clients that are connected, or are away for less than a lease.
    pub fn sessions(&self) -> usize {
        self.shared.sessions().len()
    }

    /// Ends connections and sessions, and waits until they are over. What was under way is not answered; clients send it again to
    /// the next node.
    pub async fn stop(self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.shared.stop.cancel();
        if let Some(path) = &self.socket {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Node({})", self.place)
    }
}

enum Listener {
    Tcp(TcpListener),
    Ipc(UnixListener),
}

pub(crate) type Ends = (Box<dyn AsyncRead + Send + Unpin>, Box<dyn AsyncWrite + Send + Unpin>);

impl Listener {
    async fn bind(place: Place, keyed: bool) -> Result<(Listener, Place, Option<PathBuf>)> {
        let failed = |place: &Place, cause: std::io::Error| {
            Error::new(Code::Io, format!("cannot listen at {place}")).caused_by(cause)
        };
        match &place {
            Place::Tcp(address) => {
                let found: Vec<SocketAddr> =
                    tokio::net::lookup_host(address).await.map_err(|cause| failed(&place, cause))?.collect();
                if !keyed && found.iter().any(|address| !address.ip().is_loopback()) {
                    let detail = format!(
                        "{place} can be reached from other machines, and nothing would keep strangers out; listen at \
                         127.0.0.1, or give a key_file"
                    );
                    return Err(Error::new(Code::InvalidOption, detail));
                }
                let listener = TcpListener::bind(&found[..]).await.map_err(|cause| failed(&place, cause))?;
                let bound = listener.local_addr().map_err(|cause| failed(&place, cause))?;
                Ok((Listener::Tcp(listener), Place::Tcp(bound.to_string()), None))
            }
            Place::Ipc(path) => {
                // A socket that nobody answers on is left over from a node that was killed.
                if path.exists() && tokio::net::UnixStream::connect(path).await.is_err() {
                    std::fs::remove_file(path).map_err(|cause| failed(&place, cause))?;
                }
                let listener = UnixListener::bind(path).map_err(|cause| failed(&place, cause))?;
                // Whoever may open the socket may do everything: its owner only.
                let owner = std::os::unix::fs::PermissionsExt::from_mode(0o600);
                std::fs::set_permissions(path, owner).map_err(|cause| failed(&place, cause))?;
                let path = path.clone();
                Ok((Listener::Ipc(listener), place, Some(path)))
            }
        }
    }

    async fn accept(&self) -> std::io::Result<Ends> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                let (read, write) = stream.into_split();
                Ok((Box::new(read), Box::new(write)))
            }
            Listener::Ipc(listener) => {
                let (stream, _) = listener.accept().await?;
                let (read, write) = stream.into_split();
                Ok((Box::new(read), Box::new(write)))
            }
        }
    }
}

/// So many connections beyond the limit are told that there is no room, instead of nothing.
const TURNED_AWAY: usize = 16;

async fn accept(shared: Arc<Shared>, listener: Listener) {
    let room = Arc::new(Semaphore::new(shared.options.connections));
    let beyond = Arc::new(Semaphore::new(TURNED_AWAY));
    let local = matches!(listener, Listener::Ipc(_));
    loop {
        let next = async {
            // Without any room nobody is accepted: the system's queue of connections fills, and then refuses for us.
            let (place, room) = tokio::select! {
                biased;
                place = room.clone().acquire_owned() => (place, true),
                place = beyond.clone().acquire_owned() => (place, false),
            };
            let ends = listener.accept().await;
            (place, room, ends)
        };
        let (place, room, accepted) = tokio::select! {
            () = shared.stop.cancelled() => return,
            next = next => next,
        };
        match accepted {
            Ok(ends) => {
                let Ok(place) = place else { return };
                let accepted = connection::Accepted { ends, local, room, place };
                let serving = shared.clone();
                shared.tasks.spawn(async move {
                    let stop = serving.stop.clone();
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = connection::serve(serving, accepted) => {}
                    }
                });
            }
            Err(cause) => {
                // Out of descriptors, usually: others end and make room.
                tracing::warn!(%cause, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}
