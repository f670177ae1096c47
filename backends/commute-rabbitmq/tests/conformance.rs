//! RabbitMQ passes the suite of brokers, on a real server, with quorum and with classic queues.

mod server;

use std::sync::Arc;
use std::time::Duration;

use commute_conformance::proxy::Proxy;
use commute_conformance::{Ending, Fixture, broker_suite, patience};
use commute_core::{BoxFuture, SharedBroker};
use commute_rabbitmq::{Options, RabbitMq};
use tokio::sync::Mutex;

/// A server behind a network that can be cut.
struct Remote {
    queue_type: &'static str,
    network: Mutex<Option<Proxy>>,
}

impl Remote {
    fn with(queue_type: &'static str) -> Self {
        Remote { queue_type, network: Mutex::default() }
    }

    async fn open(&self) -> SharedBroker {
        let network = Proxy::before(server::address()).await.expect("a free port");
        // As patient as the case is.
        let (at, wait) = (server::url_at(network.address()), patience(Duration::from_secs(30)).as_secs());
        let url = format!("{at}?queue_type={}&publish_timeout={wait}", self.queue_type);
        let broker = RabbitMq::connect(Options::new(&url).expect("a valid URL")).await.expect("the server answers");
        *self.network.lock().await = Some(network);
        Arc::new(broker)
    }
}

impl Fixture for Remote {
    fn connect(&self) -> BoxFuture<'_, SharedBroker> {
        Box::pin(self.open())
    }

    fn reconnect(&self, previous: SharedBroker, ending: Ending) -> BoxFuture<'_, SharedBroker> {
        Box::pin(async move {
            match ending {
                Ending::Close => previous.close().await.expect("closing works"),
                // The connection is reset; whoever held it goes with it.
                Ending::Kill => drop(self.network.lock().await.take()),
            }
            drop(previous);
            self.open().await
        })
    }
}

mod quorum {
    use super::*;
    broker_suite!(Remote::with("quorum"));
}

mod classic {
    use super::*;
    broker_suite!(Remote::with("classic"));
}
