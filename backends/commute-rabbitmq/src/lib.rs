//! RabbitMQ behind the contract of commute.
//!
//! | It gives | |
//! |---|---|
//! | a receipt means | confirmed by the server: on disk and synced in a quorum queue, written in a classic one |
//! | order | the queue's; one instance at a time gets everything, the others stand by (`instances=one`) |
//! | settling and publishing | two steps: what an acknowledgement publishes is confirmed first |
//! | retries, parking | kept in a queue beside the subscription's own; they survive a restart |
//! | duplicates | a running subscription drops copies of what it holds or handled lately; there is no durable inbox |
//!
//! ```text
//! topic  shop.orders              an exchange of type `topic`; the routing key is the event's type
//!   ├─► inventory@shop.orders           one queue for each group, single active consumer
//!   │     inventory@shop.orders.aside   what the group parked or deferred; who consumes it is the active instance
//!   └─► shop.orders.unclaimed           what came while there was no group; the first one begins with it
//!
//! publish ─► publisher ─► server ─► attend ─► state ─► receive
//!                ▲                            ▲
//!                └───────── settle ───────────┘
//! ```
//!
//! Connections are made again by [`link`], everything on them by whoever needs it. What a subscription holds when its connection
//! is lost comes back with it: the server delivers it again, and it is recognised by its id.

mod aside;
mod attend;
mod broker;
mod capabilities;
mod error;
mod greeting;
mod link;
mod options;
mod publisher;
mod receiver;
mod server;
mod settler;
mod state;
mod topology;
mod wire;

use commute_core::{Address, BoxFuture, Driver, Result, SharedBroker};

pub use broker::RabbitMq;
pub use capabilities::capabilities;
pub use options::{Instances, Options, QueueType};

/// `amqp://…` and `amqps://…`.
pub const DRIVER: Driver = Driver { name: "rabbitmq", schemes: &["amqp", "amqps"], connect, files: None };

fn connect(address: Address) -> BoxFuture<'static, Result<SharedBroker>> {
    Box::pin(async move {
        let broker = RabbitMq::connect(Options::from_address(address)?).await?;
        Ok(std::sync::Arc::new(broker) as SharedBroker)
    })
}
