//! The broker: one connection, its publisher, and the subscriptions on it.

use std::sync::Arc;
use std::time::Duration;

use commute_core::{
    BoxFuture, Broker, Capabilities, Clock, Code, Error, Outgoing, Receipt, Result, Server, Subscription,
    SubscriptionSpec, SystemClock,
};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use crate::attend::Shared;
use crate::capabilities::capabilities;
use crate::link::Link;
use crate::options::Options;
use crate::publisher::Publisher;
use crate::receiver::Inlet;
use crate::settler::{self, Outlet};
use crate::topology::Topology;
use crate::{error, server, wire};

/// How long a close waits for what was begun.
const CLOSING: Duration = Duration::from_secs(30);

/// A connection to a RabbitMQ server.
pub struct RabbitMq {
    options: Arc<Options>,
    address: String,
    server: Server,
    capabilities: Capabilities,
    link: Arc<Link>,
    topology: Arc<Topology>,
    publisher: Publisher,
    subscriptions: TaskTracker,
}

/// Calls that wait for the settling task at most; whoever comes later waits in line.
const ASKED: usize = 64;

impl RabbitMq {
    /// Connects, and checks that the server answers and will do.
    ///
    /// # Errors
    /// `BrokerUnavailable`, `AccessRefused`, `TopologyMissing` (the virtual host), `TlsFailed`, or `NeedNotMet` when the
    /// server is too old or too small.
    pub async fn connect(options: Options) -> Result<Self> {
        let (link, server) = Link::open(&options).await?;
        let options = Arc::new(options);
        let topology = Arc::new(Topology::new(options.clone()));
        let publisher = Publisher::start(&link, topology.clone());
        Ok(RabbitMq {
            address: options.address(),
            capabilities: server::lessened(capabilities(&options), &server),
            server,
            options,
            link,
            topology,
            publisher,
            subscriptions: TaskTracker::new(),
        })
    }

    /// Ends the connection as the death of the process would: nothing is told, nothing is waited for.
    #[doc(hidden)]
    pub fn abandon(&self) {
        self.link.abandon();
    }

    async fn send(&self, batch: Vec<Outgoing>) -> Result<Vec<Receipt>> {
        let now = SystemClock.now();
        let mut sent = self.publisher.stamps(batch.len());
        let mut messages = Vec::with_capacity(batch.len());
        for outgoing in &batch {
            wire::check(&outgoing.envelope)?;
            if outgoing.not_before.is_some_and(|time| time > now) {
                let detail = "RabbitMQ delivers no event later than it is published";
                return Err(Error::new(Code::NeedNotMet, detail));
            }
            messages.push(wire::event(outgoing.topic.as_str(), &outgoing.envelope, sent.next().unwrap_or(now)));
        }
        let receipts = vec![Receipt { position: None, duplicate: false }; batch.len()];
        self.publisher.publish(messages, Some(self.options.publish_timeout)).await?;
        Ok(receipts)
    }

    async fn open(&self, spec: SubscriptionSpec) -> Result<Subscription> {
        let publisher = self.publisher.clone();
        let (attendant, opened) = Shared::open(spec, &self.options, &self.link, &self.topology, publisher.clone());
        let shared = attendant.shared.clone();
        let (ask, asked) = mpsc::channel(ASKED);
        let receiver = Box::new(Inlet { shared: shared.clone() });
        self.subscriptions.spawn(attendant.run());
        self.subscriptions.spawn(settler::settle(shared.clone(), publisher, asked, self.link.closed.clone()));
        opened.await.unwrap_or_else(|_| Err(error::closed()))?;
        Ok(Subscription { receiver, settler: Arc::new(Outlet { shared, ask }) })
    }
}

impl Broker for RabbitMq {
    fn driver(&self) -> &'static str {
        "rabbitmq"
    }

    fn address(&self) -> &str {
        &self.address
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn server(&self) -> Option<&Server> {
        Some(&self.server)
    }

    fn publish(&self, batch: Vec<Outgoing>) -> BoxFuture<'_, Result<Vec<Receipt>>> {
        Box::pin(async move {
            if self.link.closed.is_cancelled() {
                return Err(error::closed());
            }
            self.send(batch).await
        })
    }

    fn subscribe(&self, spec: SubscriptionSpec) -> BoxFuture<'_, Result<Subscription>> {
        Box::pin(async move {
            if self.link.closed.is_cancelled() {
                return Err(error::closed());
            }
            self.open(spec).await
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let done = async {
                self.subscriptions.close();
                let settled = tokio::time::timeout(CLOSING, self.subscriptions.wait()).await;
                if settled.is_err() {
                    tracing::warn!(address = self.address, "closed before every subscription had ended");
                }
                self.publisher.flushed(CLOSING).await;
            };
            self.link.close(done).await;
            Ok(())
        })
    }
}

impl Drop for RabbitMq {
    fn drop(&mut self) {
        self.link.abandon();
    }
}

impl std::fmt::Debug for RabbitMq {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RabbitMq({})", self.address)
    }
}
