//! The broker: what every backend promises.
//!
//! ```text
//!            publish ─► [ topic: 0 1 2 3 4 5 … ] ─► receive (under credit) ─► Delivery
//!                                                                              │
//!   forgotten ◄── Ack (may publish, atomically where Capabilities say so)  ◄───┤
//!   stays in flight, attempt and time remembered ◄── Defer                 ◄───┤ settle
//!   set aside in order, with its lanes ◄── Park                            ◄───┤
//!   delivered again, attempt not counted ◄── Return, or the lease runs out ◄───┘
//! ```

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::admin::Admin;
use crate::capabilities::Capabilities;
use crate::error::Result;
use crate::operate::{Attached, Operate};
use crate::subscription::{Subscription, SubscriptionSpec};

pub use crate::future::BoxFuture;
pub use crate::outgoing::Outgoing;

/// One connection to a backend.
///
/// Dropping any returned future leaves the broker usable; a publish whose future is dropped may still happen.
pub trait Broker: Send + Sync + 'static {
    /// The driver's name, as in `Driver::name`.
    fn driver(&self) -> &'static str;

    /// Where it is connected to, without secrets.
    fn address(&self) -> &str;

    /// What this server gives.
    fn capabilities(&self) -> &Capabilities;

    /// What the server is, where there is one, and what it gives less than others of its kind.
    fn server(&self) -> Option<&Server> {
        None
    }

    /// Makes envelopes durable, in order, and returns a receipt for each.
    ///
    /// The order of effects of two calls is the order in which their futures were first polled. An id that the topic
    /// has seen within [`Capabilities::dedup_window`] is acknowledged and not stored again. Waits while too much is in
    /// flight.
    ///
    /// # Errors
    /// `PayloadTooLarge`: nothing of the batch was stored. Any other: it is unknown which of the batch were stored;
    /// publishing them again with the same ids is safe.
    fn publish(&self, batch: Vec<Outgoing>) -> BoxFuture<'_, Result<Vec<Receipt>>>;

    /// Opens a durable subscription, creating it if it does not exist: at the beginning of the topic where
    /// `Capabilities::retained` says so, else at its end (what was published while no group existed goes to the first
    /// one).
    ///
    /// # Errors
    /// When the backend cannot, with the reason.
    fn subscribe(&self, spec: SubscriptionSpec) -> BoxFuture<'_, Result<Subscription>>;

    /// Makes everything accepted so far durable and ends the connection. Idempotent.
    fn close(&self) -> BoxFuture<'_, Result<()>>;

    /// What an operator can see and do; `None` when nothing.
    fn admin(&self) -> Option<&dyn Admin> {
        None
    }

    /// Where services that run on this broker in this process attach themselves, when operators come in through it.
    fn attached(&self) -> Option<&Attached> {
        None
    }

    /// The services that operators can reach through this one: those that are attached here, unless a server knows of more.
    ///
    /// # Errors
    /// The server's.
    fn services(&self) -> BoxFuture<'_, Result<Vec<Arc<dyn Operate>>>> {
        let here = self.attached().map(Attached::running).unwrap_or_default();
        Box::pin(std::future::ready(Ok(here)))
    }

    /// Where in the file system operators of other processes reach this one, when it owns such a place.
    fn socket(&self) -> Option<&Path> {
        None
    }
}

/// What a server says that it is when it is connected to, and what follows from that and from its settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Its name, such as `RabbitMQ`.
    pub product: String,
    /// Its version as it says it, or as much as can be known of it.
    pub version: Option<String>,
    /// What it gives less, or only up to a limit: each a sentence for whoever starts a service.
    pub degradations: Vec<String>,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.product)?;
        match &self.version {
            Some(version) => write!(f, " {version}"),
            None => f.write_str(" of an unknown version"),
        }
    }
}

/// Proof that an envelope is durable, in the sense of the backend's `Capabilities::durable`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Where it stands in its topic, where the backend says so (`Capabilities::positions`). Positions of one key grow in
    /// the order of publishing.
    pub position: Option<u64>,
    /// The topic had it already; nothing was stored.
    pub duplicate: bool,
}

/// A broker that can be shared.
pub type SharedBroker = Arc<dyn Broker>;
