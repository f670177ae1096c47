//! Stores: where a handler's effects live together with the marks that make them happen once.
//!
//! The engine knows no database. A transactional handler answers with a [`Transact`], which its store's writer runs in a
//! transaction that holds the effects, the inbox mark and the staged events; afterwards the engine settles.
//!
//! ```text
//! handler ─► Outcome::Transact ─► store's writer: begin
//!                                   per event: savepoint, inbox mark, the handler's SQL, staged events
//!                                 commit ─► done() ─► settle ─► broker
//!                                        └► Outbox ─► relay ─► broker ─► confirm
//! ```

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::event::Emitted;
use crate::future::BoxFuture;
use crate::handler_error::HandlerError;
use crate::id::EventId;
use crate::outgoing::Outgoing;

/// Work that a handler leaves to its store.
///
/// Implementors promise: the work runs at most once per (subscription, event) for as long as inbox marks are kept; its
/// effects, the mark and the staged events are committed together or not at all; `done` is called exactly once, after
/// the commit or after the failure; works are run in the order in which they were submitted.
pub trait Transact: Send {
    /// Hands itself to the store's writer. Does not block; the engine bounds how many are under way.
    fn submit(self: Box<Self>, unit: Unit, done: Done);
}

/// For whom a store works, and how it turns emitted events into envelopes to stage.
pub struct Unit {
    /// The subscription in whose name the event is marked as handled.
    pub subscription: Arc<str>,
    /// The event that is being handled.
    pub event: EventId,
    /// Gives emitted events their ids, source and topic. Deterministic: the same events give the same envelopes.
    pub stage: Stage,
}

/// Turns what a handler emitted into what must be published.
pub type Stage = Box<dyn FnOnce(Vec<Emitted>) -> Result<Vec<Outgoing>> + Send>;

/// Called once when the fate of a unit is known; from the store's own thread, so it must be short and not block.
pub type Done = Box<dyn FnOnce(Result<Committed, UnitError>) + Send>;

/// A unit that is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// Its effects were made now.
    Fresh,
    /// The event had been handled before; nothing was done.
    Duplicate,
}

/// A unit whose effects were not made.
#[derive(Debug)]
pub enum UnitError {
    /// The handler failed; its effects were rolled back, those of other events were not.
    Failed(HandlerError),
    /// The transaction was lost through no fault of this event. It must be run again and no attempt is counted.
    Lost(Error),
}

/// A database that takes part: its name for the contract, and its outbox for the relay.
pub trait Store: Send + Sync + 'static {
    /// What the delivery contract calls it.
    fn name(&self) -> &str;

    /// For how long a handled event is remembered; a redelivery later than this would have a second effect.
    fn inbox_retention(&self) -> std::time::Duration;

    /// The staged events.
    fn outbox(&self) -> Arc<dyn Outbox>;

    /// Commits what was submitted and stops the writer. Idempotent.
    fn close(&self) -> BoxFuture<'_, Result<()>>;
}

/// Events that are staged and not yet known to be published, in commit order.
pub trait Outbox: Send + Sync + 'static {
    /// Waits until there is a staged event after `after` (zero: from the beginning), and returns up to `max` of them in
    /// commit order with their sequence numbers. Cancel safe.
    fn next(&self, after: u64, max: usize) -> BoxFuture<'_, Result<Vec<(u64, Outgoing)>>>;

    /// Forgets everything up to and including `upto`; it has been published. May be written lazily: publishing again
    /// after a crash is harmless, because staged events keep their ids.
    fn confirm(&self, upto: u64) -> BoxFuture<'_, Result<()>>;

    /// How many are staged and not confirmed.
    fn len(&self) -> usize;

    /// Whether nothing is staged.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
