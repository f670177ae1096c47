//! A broker on a node keeps the contract: over TCP, where nodes are restarted, and over a Unix socket, where clients are.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use commute_conformance::{Ending, Fixture, ManualClock, broker_suite};
use commute_core::{Address, BoxFuture, SharedBroker};
use commute_embedded::storage::Memory;
use commute_embedded::{Embedded, Options};
use commute_zeromq::{Node, NodeOptions};

/// Short, so that what a dead client held is given to others soon.
fn options() -> NodeOptions {
    NodeOptions { heartbeat: Duration::from_millis(100), lease: Duration::from_millis(700), ..NodeOptions::default() }
}

async fn connect(url: &str) -> SharedBroker {
    (commute_zeromq::DRIVER.connect)(Address::parse(url).expect("a URL")).await.expect("the node is there")
}

/// A node on storage in memory, which survives it.
struct OnNode {
    storage: Memory,
    clock: Arc<ManualClock>,
    folder: tempfile::TempDir,
    /// A Unix socket, and only clients die; otherwise TCP, and nodes do.
    ipc: bool,
    node: Mutex<Option<(Node, Arc<Embedded>)>>,
}

impl OnNode {
    fn new(ipc: bool) -> Self {
        let folder = tempfile::tempdir().expect("a directory");
        OnNode { storage: Memory::new(), clock: ManualClock::new(), folder, ipc, node: Mutex::new(None) }
    }

    async fn start(&self) -> String {
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
        let node = Node::serve(broker.clone(), &url, crate::options()).await.expect("it listens");
        let url = node.url();
        *self.node.lock().unwrap_or_else(PoisonError::into_inner) = Some((node, broker));
        url
    }
}

impl Fixture for OnNode {
    fn connect(&self) -> BoxFuture<'_, SharedBroker> {
        Box::pin(async { connect(&self.start().await).await })
    }

    fn reconnect(&self, previous: SharedBroker, ending: Ending) -> BoxFuture<'_, SharedBroker> {
        Box::pin(async move {
            if ending == Ending::Close {
                previous.close().await.expect("closing works");
            }
            if self.ipc {
                drop(previous);
                let url = format!("zmq+ipc://{}", self.folder.path().join("node.sock").display());
                return connect(&url).await;
            }
            let node = self.node.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some((node, broker)) = node {
                node.stop().await;
                drop(broker);
            }
            drop(previous);
            connect(&self.start().await).await
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
