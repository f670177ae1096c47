//! The Kafka broker keeps the contract, on topics of one partition and of four.

use std::time::Duration;

use commute_conformance::{Ending, Fixture, broker_suite};
use commute_core::{Address, BoxFuture, SharedBroker};
use commute_kafka::DRIVER;

/// A server; every case has topics of its own.
struct Server {
    partitions: usize,
}

impl Server {
    async fn open(&self) -> SharedBroker {
        let url = std::env::var("COMMUTE_TEST_KAFKA").expect("COMMUTE_TEST_KAFKA names a server");
        let url = format!("{url}?partitions={}&session_timeout_ms=6000", self.partitions);
        let address = Address::parse(&url).expect("a URL");
        (DRIVER.connect)(address).await.expect("the server answers")
    }
}

impl Fixture for Server {
    fn connect(&self) -> BoxFuture<'_, SharedBroker> {
        Box::pin(self.open())
    }

    fn reconnect(&self, previous: SharedBroker, ending: Ending) -> BoxFuture<'_, SharedBroker> {
        Box::pin(async move {
            if ending == Ending::Close {
                previous.close().await.expect("closing works");
            }
            drop(previous);
            self.open().await
        })
    }

    fn patience(&self) -> Duration {
        commute_conformance::patience(Duration::from_secs(60))
    }
}

mod one_partition {
    use super::*;
    broker_suite!(Server { partitions: 1 });
}

mod four_partitions {
    use super::*;
    broker_suite!(Server { partitions: 4 });
}
