//! The harness itself: a test that uses it can fail, says why, and says the same on every broker.

mod assertions;
mod chance;
mod failures;
mod lives;
mod time;

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use commute::prelude::*;

pub(crate) const PINGS: &str = "pings";
pub(crate) const PONGS: &str = "pongs";
pub(crate) const PING: &str = "test.ping";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
#[event(type = "test.ping", key = "key")]
pub(crate) struct Ping {
    pub(crate) key: String,
    pub(crate) n: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
#[event(type = "test.pong")]
pub(crate) struct Pong {
    pub(crate) n: u64,
}

pub(crate) fn ping(key: &str, n: u64) -> Ping {
    Ping { key: key.to_owned(), n }
}

/// What handlers saw, in order.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u64>>>);

impl Log {
    pub(crate) fn add(&self, n: u64) {
        self.0.lock().unwrap().push(n);
    }

    pub(crate) fn seen(&self) -> Vec<u64> {
        self.0.lock().unwrap().clone()
    }
}

pub(crate) async fn answer(ping: Ping, State(log): State<Log>) -> Pong {
    log.add(ping.n);
    Pong { n: ping.n }
}

pub(crate) fn backoff() -> Backoff {
    Backoff::fixed(Duration::from_millis(100)).attempts(3)
}

/// Answers every ping, one at a time per key; parks what fails for good.
pub(crate) fn app(log: &Log) -> App {
    let answering = handler(answer).publishes(PONGS).retry(backoff()).timeout(Duration::from_secs(5));
    App::new("app").state(log.clone()).on(PINGS, answering)
}

/// The same, as often as it is asked for.
pub(crate) fn again(log: &Log) -> impl FnMut() -> App + use<> {
    let log = log.clone();
    move || app(&log)
}

/// The message of the panic inside.
pub(crate) fn failing<T>(inside: impl FnOnce() -> T) -> String {
    let panic = std::panic::catch_unwind(AssertUnwindSafe(inside)).err().expect("the assertion fails");
    panic.downcast_ref::<String>().expect("a message").clone()
}
