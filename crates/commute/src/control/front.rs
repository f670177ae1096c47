//! The front: a broker with a socket before it, at which operators come in.

use std::path::Path;
use std::sync::{Arc, OnceLock, Weak};

use commute_core::{
    Admin, Attached, BoxFuture, Broker, Capabilities, Outgoing, Receipt, Result, SharedBroker, Subscription,
    SubscriptionSpec,
};

use super::server::Server;

/// Serves a broker that owns a place for a socket, as long as anybody holds what this returns.
///
/// A socket that cannot be made is no reason for a service not to start; the log says that operators cannot come in.
pub(crate) fn served(broker: SharedBroker) -> SharedBroker {
    let Some(path) = broker.socket().map(Path::to_owned) else { return broker };
    let front = Arc::new(Front { broker, own: None, server: OnceLock::new() });
    if let Err(cause) = front.clone().listen(&path) {
        tracing::warn!(path = %path.display(), %cause, "operators of other processes cannot reach this broker");
    }
    front
}

/// A broker, and the server that answers operators for it.
pub(crate) struct Front {
    /// First, because its socket must be gone before somebody else can own the place.
    server: OnceLock<Server>,
    broker: SharedBroker,
    own: Option<Attached>,
}

impl Front {
    /// A socket at a path of an app's own choice, for an app on any broker; who is attached to it is found there.
    ///
    /// # Errors
    /// When somebody listens there, and the system's.
    pub(crate) async fn at(path: &Path, broker: SharedBroker) -> Result<Arc<Self>> {
        use commute_core::{Code, Error};
        let failed = |cause: std::io::Error| {
            Error::new(Code::Io, format!("cannot listen for operators at {}", path.display())).caused_by(cause)
        };
        if super::socket::connect(path).await.is_ok() {
            return Err(failed(std::io::ErrorKind::AddrInUse.into()));
        }
        let front = Arc::new(Front { broker, own: Some(Attached::default()), server: OnceLock::new() });
        front.clone().listen(path).map_err(failed)?;
        Ok(front)
    }

    /// Lets no more operators in; the broker stays open.
    pub(crate) async fn end(&self) {
        if let Some(server) = self.server.get() {
            server.end().await;
        }
    }

    fn listen(self: Arc<Self>, path: &Path) -> std::io::Result<()> {
        let weak = Arc::downgrade(&self);
        let server = Server::start(path, weak as Weak<dyn Broker>)?;
        let _ = self.server.set(server);
        Ok(())
    }
}

impl Broker for Front {
    fn driver(&self) -> &'static str {
        self.broker.driver()
    }

    fn address(&self) -> &str {
        self.broker.address()
    }

    fn capabilities(&self) -> &Capabilities {
        self.broker.capabilities()
    }

    fn server(&self) -> Option<&commute_core::Server> {
        self.broker.server()
    }

    fn publish(&self, batch: Vec<Outgoing>) -> BoxFuture<'_, Result<Vec<Receipt>>> {
        self.broker.publish(batch)
    }

    fn subscribe(&self, spec: SubscriptionSpec) -> BoxFuture<'_, Result<Subscription>> {
        self.broker.subscribe(spec)
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.end().await;
            self.broker.close().await
        })
    }

    fn admin(&self) -> Option<&dyn Admin> {
        self.broker.admin()
    }

    fn attached(&self) -> Option<&Attached> {
        self.own.as_ref().or_else(|| self.broker.attached())
    }

    fn socket(&self) -> Option<&Path> {
        self.broker.socket()
    }
}
