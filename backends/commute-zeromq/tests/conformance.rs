//! A broker on a node keeps the contract: over TCP, where nodes are restarted, and over a Unix socket, where clients are.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use commute_conformance::{Ending, Fixture, ManualClock, broker_suite};
use commute_core::{Address, BoxFuture, SharedBroker};
use commute_embedded::storage::Memory;
use commute_embedded::{Embedded, Options};
use commute_zeromq::{Node, NodeOptions};

/// A client as if in a process of its own: it dies with its runtime.
struct Client(Option<tokio::runtime::Runtime>);

impl Client {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        Client(Some(runtime.expect("a runtime")))
    }

    async fn connect(&self, url: &str) -> SharedBroker {
        let address = Address::parse(url).expect("a URL");
        let runtime = self.0.as_ref().expect("it lives");
        let connected = runtime.spawn((commute_zeromq::DRIVER.connect)(address)).await;
        connected.expect("it does not panic").expect("the node is there")
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// A node on storage in memory, which survives it.
struct OnNode {
    storage: Memory,
    clock: Arc<ManualClock>,
    folder: tempfile::TempDir,
    /// A Unix socket, and only clients die; otherwise TCP, and nodes do.
    ipc: bool,
    node: Mutex<Option<(Node, Arc<Embedded>)>>,
    client: Mutex<Arc<Client>>,
}

impl OnNode {
    fn new(ipc: bool) -> Self {
        let folder = tempfile::tempdir().expect("a directory");
        let (node, client) = (Mutex::new(None), Mutex::new(Arc::new(Client::new())));
        OnNode { storage: Memory::new(), clock: ManualClock::new(), folder, ipc, node, client }
    }

    /// Starts a node, and connects to it.
    async fn start(&self) -> SharedBroker {
        let options = Options {
            segment_bytes: 64 << 10,
            tail_bytes: 4 << 10,
            prepare: false,
            clock: self.clock.clone(),
            ..Options::default()
        };
        let broker = Embedded::in_memory(&self.storage, options).expect("it opens");
        let url = match self.ipc {
            true => format!("zmq+ipc://{}", self.folder.path().join("node.sock").display()),
            false => "zmq://127.0.0.1:0".to_owned(),
        };
        // The clock is moved by hand, and a receiver that waits does not see it.
        let options = NodeOptions { longest_wait: Duration::from_millis(50), ..NodeOptions::default() };
        let node = Node::serve(broker.clone(), &url, options).await.expect("it listens");
        let url = node.url();
        *self.node.lock().unwrap_or_else(PoisonError::into_inner) = Some((node, broker));
        self.client().connect(&url).await
    }

    fn sessions(&self) -> usize {
        let node = self.node.lock().unwrap_or_else(PoisonError::into_inner);
        node.as_ref().map_or(0, |(node, _)| node.sessions())
    }

    fn client(&self) -> Arc<Client> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Fixture for OnNode {
    fn connect(&self) -> BoxFuture<'_, SharedBroker> {
        Box::pin(self.start())
    }

    fn reconnect(&self, previous: SharedBroker, ending: Ending) -> BoxFuture<'_, SharedBroker> {
        Box::pin(async move {
            if ending == Ending::Close {
                previous.close().await.expect("closing works");
            }
            drop(previous);
            if self.ipc {
                let client = Arc::new(Client::new());
                drop(std::mem::replace(
                    &mut *self.client.lock().unwrap_or_else(PoisonError::into_inner),
                    client.clone(),
                ));
                let url = format!("zmq+ipc://{}", self.folder.path().join("node.sock").display());
                while self.sessions() > 0 {
                    tokio::task::yield_now().await;
                }
                return client.connect(&url).await;
            }
            let node = self.node.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some((node, broker)) = node {
                node.stop().await;
                drop(broker);
            }
            self.start().await
        })
    }

    fn clock(&self) -> Option<Arc<ManualClock>> {
        Some(self.clock.clone())
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(20)
    }
}

mod tcp {
    use super::*;
    broker_suite!(OnNode::new(false));
}

mod ipc {
    use super::*;
    broker_suite!(OnNode::new(true));
}
