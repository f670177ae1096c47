//! What a backend gives to the suite.

use std::time::Duration;

use commute_core::{BoxFuture, SharedBroker};

/// One place where a broker keeps its data; every case gets a new one.
pub trait Harness: Send + Sync {
    /// Connects to the place: the first time to nothing, later to what is there.
    fn connect(&self) -> BoxFuture<'_, SharedBroker>;

    /// Ends a connection as a crash of its process would: nothing is flushed that was not confirmed. Everything that was
    /// confirmed must be there at the next `connect`.
    fn crash(&self, broker: SharedBroker) -> BoxFuture<'_, ()>;

    /// Lets the time that the broker sees go on.
    fn advance(&self, time: Duration) -> BoxFuture<'_, ()>;
}
