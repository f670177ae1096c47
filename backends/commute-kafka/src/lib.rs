//! Apache Kafka as a broker of commute.
//!
//! | It gives | |
//! |---|---|
//! | a receipt means | written by the leader; replicated, where topics have two in-sync replicas at least |
//! | order | the partition's; events with one partition key go to one partition |
//! | settling and publishing | two steps: what an ack publishes is stored before it |
//! | retries | survive a restart, in the metadata of the commit |
//! | parking | survives a restart, in a compacted topic beside the source |
//! | inbox, dedup, delay | none: a service that needs them brings a store of its own |
//!
//! ```text
//! publish ─► publisher thread ─► idempotent producer ─► reports ─► receipts
//!
//! log ─► poll thread ─► partition: buffer ─► receiver
//!            │             ▲ settled, deferred, parked
//!        rebalance         │
//!                     settle thread ─► what acks publish, notes aside ─► memory ─► commit thread
//! ```
//!
//! What is settled out of order is remembered in the metadata of the commit, as a bitmap of runs; what does not fit there
//! goes to the topic beside the source. Kafka's transactions are not used: between what an ack publishes and the ack, and
//! when an instance is cut off from its group, an event may come a second time.
//!
//! A server forgets how far a group has come when the group has been empty for `offsets.retention.minutes`, a week unless it
//! was told otherwise; what is parked it keeps.

mod aside;
mod assignment;
mod broker;
mod capabilities;
mod client;
mod committer;
mod consumer;
mod error;
mod library;
mod link;
mod loading;
mod membership;
mod options;
mod partition;
mod progress;
mod publisher;
mod receiver;
mod reports;
mod rereading;
mod server;
mod settings;
mod settler;
mod settling;
mod state;
mod subscribe;
mod topics;
mod unparking;
mod window;
mod wire;

use commute_core::{Address, BoxFuture, Driver, Result, SharedBroker};

pub use broker::Kafka;
pub use capabilities::capabilities;
pub use options::{Options, Sasl};

/// `kafka://host:port` and, encrypted, `kafkas://host:port`.
pub const DRIVER: Driver = Driver { name: "kafka", schemes: &["kafka", "kafkas"], connect, files: None };

fn connect(address: Address) -> BoxFuture<'static, Result<SharedBroker>> {
    Box::pin(async move {
        let broker = Kafka::connect(Options::from_address(address)?).await?;
        Ok(broker as SharedBroker)
    })
}
