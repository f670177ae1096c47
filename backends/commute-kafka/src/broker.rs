//! The Kafka broker: connects, publishes, subscribes, closes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use commute_core::{
    BoxFuture, Broker, Capabilities, Code, Error, Outgoing, Receipt, Result, Server, Subscription, SubscriptionSpec,
};

use crate::client::blocking;
use crate::link::Link;
use crate::membership::wait_for;
use crate::options::Options;
use crate::publisher::Item;
use crate::subscribe::{Open, open};

/// How long closing waits for what was accepted, and for subscriptions to leave their groups.
const CLOSE: Duration = Duration::from_secs(30);

/// A connection to Kafka.
pub struct Kafka {
    link: Arc<Link>,
    label: String,
    capabilities: Capabilities,
    open: Mutex<Opened>,
}

#[derive(Default)]
struct Opened {
    closed: bool,
    subscriptions: Vec<Open>,
}

impl Kafka {
    /// Connects: checks that a server answers, takes the credentials, and will do.
    ///
    /// # Errors
    /// `BrokerUnavailable`, `AccessRefused`, `TlsFailed`, `InvalidOption`, or `NeedNotMet` when the server is set too
    /// small.
    pub async fn connect(options: Options) -> Result<Arc<Self>> {
        let link = blocking(move || Link::connect(options)).await?;
        let (label, capabilities) = (link.options.label(), link.capabilities());
        Ok(Arc::new(Kafka { link: Arc::new(link), label, capabilities, open: Mutex::default() }))
    }

    fn opened(&self) -> MutexGuard<'_, Opened> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_open(&self) -> Result<()> {
        if self.opened().closed { Err(closed()) } else { Ok(()) }
    }
}

fn closed() -> Error {
    Error::new(Code::Closed, "the connection is closed")
}

impl Broker for Kafka {
    fn driver(&self) -> &'static str {
        "kafka"
    }

    fn address(&self) -> &str {
        &self.label
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn server(&self) -> Option<&Server> {
        Some(self.link.server())
    }

    fn publish(&self, batch: Vec<Outgoing>) -> BoxFuture<'_, Result<Vec<Receipt>>> {
        Box::pin(async move {
            self.check_open()?;
            self.link.refuse(batch.iter())?;
            let answer = self.link.publisher().send(batch.into_iter().map(Item::Event).collect());
            answer.await.unwrap_or_else(|_| Err(closed()))
        })
    }

    fn subscribe(&self, spec: SubscriptionSpec) -> BoxFuture<'_, Result<Subscription>> {
        Box::pin(async move {
            self.check_open()?;
            let known = |open: Open| {
                let mut opened = self.opened();
                if opened.closed {
                    open.end();
                    return Err(closed());
                }
                opened.subscriptions.retain(|open| open.shared.strong_count() > 0);
                opened.subscriptions.push(open);
                Ok(())
            };
            open(self.link.clone(), spec, known).await
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let gone: Vec<_> = {
                let mut opened = self.opened();
                opened.closed = true;
                opened.subscriptions.iter().inspect(|open| open.end()).map(|open| open.gone.clone()).collect()
            };
            let until = Instant::now() + CLOSE;
            let mut left = true;
            for gone in gone {
                left &= wait_for(gone, until.saturating_duration_since(Instant::now())).await;
            }
            let link = self.link.clone();
            blocking(move || link.publisher().flush(until.saturating_duration_since(Instant::now()))).await?;
            if left {
                return Ok(());
            }
            Err(Error::new(Code::BrokerUnavailable, "not every subscription could leave its group in time"))
        })
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        self.opened().subscriptions.iter().for_each(Open::end);
    }
}
