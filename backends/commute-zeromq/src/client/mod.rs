//! The client: a node's broker, as if it were here.

mod link;
mod operators;
mod outstanding;
mod subscription;

use std::sync::Arc;

use commute_core::control::{self, Ask, Reply, Request};
use commute_core::{
    Admin, Attached, BoxFuture, Broker, Capabilities, Code, Error, Operate, Outgoing, Receipt, Result, Subscription,
    SubscriptionSpec,
};

use crate::options::Options;
use link::Link;

/// A broker on a node.
pub(crate) struct Remote {
    link: Arc<Link>,
    admin: control::Remote<Link>,
    address: String,
    capabilities: Capabilities,
}

impl Remote {
    /// Connects to a node that is there.
    ///
    /// # Errors
    /// `BrokerUnavailable` when nobody listens; `NotUnderstood`; `AccessRefused`.
    pub(crate) async fn connect(options: Options) -> Result<Arc<Self>> {
        let address = options.place.to_string();
        let (link, given) = Link::connect(options).await?;
        let link = Arc::new(link);
        let capabilities = crate::capabilities(given);
        Ok(Arc::new(Remote { admin: control::Remote(link.clone()), link, address, capabilities }))
    }
}

impl Broker for Remote {
    fn driver(&self) -> &'static str {
        "zeromq"
    }

    fn address(&self) -> &str {
        &self.address
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn publish(&self, batch: Vec<Outgoing>) -> BoxFuture<'_, Result<Vec<Receipt>>> {
        let limit = self.capabilities.max_event_bytes;
        Box::pin(async move {
            if let Some(large) = batch.iter().find(|event| event.envelope.size() > limit) {
                let (id, size) = (&large.envelope.id, large.envelope.size());
                let detail = format!("event {id} for {} has {size} bytes; the limit is {limit}", large.topic);
                return Err(Error::new(Code::PayloadTooLarge, detail));
            }
            if batch.is_empty() {
                return Ok(Vec::new());
            }
            self.link.publish(batch).await
        })
    }

    fn subscribe(&self, spec: SubscriptionSpec) -> BoxFuture<'_, Result<Subscription>> {
        Box::pin(async move {
            if spec.queue.is_some() {
                return Err(Error::new(Code::NeedNotMet, "a node has no queues that somebody else declared"));
            }
            subscription::open(&self.link, spec).await
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.link.close())
    }

    fn admin(&self) -> Option<&dyn Admin> {
        Some(&self.admin)
    }

    fn attached(&self) -> Option<&Attached> {
        Some(self.link.attached())
    }

    /// Those of all processes on the node.
    fn services(&self) -> BoxFuture<'_, Result<Vec<Arc<dyn Operate>>>> {
        Box::pin(async move {
            let apps = self.admin.apps().await?;
            Ok(apps.into_iter().map(|app| Arc::new(app) as Arc<dyn Operate>).collect())
        })
    }
}

impl Ask for Link {
    fn ask(&self, request: Request) -> BoxFuture<'_, Result<Reply>> {
        Box::pin(self.control(request))
    }
}
