//! ZeroMQ, made durable: a node that stores, and the driver that talks to it.
//!
//! ZeroMQ stores nothing and confirms nothing. A *commute node* is one small process with a broker of its own, usually the
//! embedded one, that serves services in other processes over a ROUTER socket with everything that broker promises.
//!
//! ```text
//! client                                              node
//! broker, receiver, settler ─► link ═ DEALER  ROUTER ═ connection ─► session ─► Broker
//!                              one task, reconnects                  one task, outlives its connection
//! ```
//!
//! The protocol is pull-based, so that nothing has to be kept for a client that does not read, and every request can be sent again:
//! a session answers a number once. `docs/brokers/zeromq.md` has it frame by frame.

#[cfg(feature = "bridges")]
mod bridge;
mod client;
mod key;
pub mod node;
mod options;
mod wire;
mod zmtp;

#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;

use commute_core::{Address, BoxFuture, Capabilities, Driver, Result, SharedBroker};

pub use node::{Node, NodeOptions};
pub use options::Options;

/// `zmq://host:port` and `zmq+ipc:///path`.
pub const DRIVER: Driver = Driver { name: "zeromq", schemes: &["zmq", "zmq+ipc"], connect, files: None };

/// What a node gives whose broker gives this: the same, to several processes.
pub fn capabilities(of_the_broker: Capabilities) -> Capabilities {
    Capabilities { shared: true, ..of_the_broker }
}

fn connect(address: Address) -> BoxFuture<'static, Result<SharedBroker>> {
    Box::pin(async move {
        let options = Options::from_address(address)?;
        let broker = client::Remote::connect(options).await?;
        Ok(broker as SharedBroker)
    })
}
