//! What can be asked of the writer, and what it answers when it is durable.

use std::sync::Arc;

use commute_core::{Outgoing, Receipt, Result, Settlement};
use tokio::sync::oneshot;

/// Where an answer goes. Dropped unanswered when the log is poisoned.
pub(crate) type Reply<T> = oneshot::Sender<Result<T>>;

/// One request. All of it goes into one group.
pub(crate) enum Command {
    Publish {
        batch: Vec<Named>,
        reply: Reply<Vec<Receipt>>,
    },
    Subscribe {
        topic: Arc<str>,
        group: Arc<str>,
        reply: Reply<Opened>,
    },
    Settle {
        subscription: u32,
        settlements: Vec<Settlement>,
        reply: Reply<()>,
    },
    Unpark {
        subscription: u32,
        incarnation: u32,
        parked: Vec<Unparked>,
        reply: Reply<()>,
    },
    /// Makes sure that a subscription exists.
    Keep {
        topic: Arc<str>,
        group: Arc<str>,
        reply: Reply<()>,
    },
    End {
        subscription: u32,
        ended: Vec<Over>,
        reply: Reply<Vec<bool>>,
    },
    /// Takes parked events back while nobody receives.
    Release {
        subscription: u32,
        positions: Vec<u64>,
        reply: Reply<()>,
    },
    Replay {
        subscription: u32,
        from: u64,
        reply: Reply<u64>,
    },
    /// Duplicates met their inbox mark: they are done without being handled.
    Absorb {
        subscription: u32,
        positions: Vec<u64>,
    },
}

/// An event to publish with the sixteen bytes of its id, which its publisher works out.
pub(crate) struct Named {
    pub(crate) event: Outgoing,
    pub(crate) id: [u8; 16],
}

impl From<Outgoing> for Named {
    fn from(event: Outgoing) -> Self {
        Named { id: event.envelope.id.fingerprint(), event }
    }
}

/// A subscription that was opened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opened {
    pub(crate) subscription: u32,
    pub(crate) incarnation: u32,
}

/// An event to take back into flight.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unparked {
    pub(crate) position: u64,
    pub(crate) id: [u8; 16],
    pub(crate) key: Option<u64>,
}

/// An event to end from outside.
pub(crate) struct Over {
    pub(crate) position: u64,
    pub(crate) id: [u8; 16],
    pub(crate) publish: Vec<Named>,
}

/// What is left to do when the group is durable.
pub(crate) enum Answer {
    Published(Vec<Receipt>, Reply<Vec<Receipt>>),
    Opened(Opened, Reply<Opened>),
    Done(Result<()>, Reply<()>),
    Ended(Vec<bool>, Reply<Vec<bool>>),
    Replayed(Result<u64>, Reply<u64>),
}

impl Answer {
    /// Whoever has stopped waiting does not want it.
    pub(crate) fn send(self) {
        match self {
            Answer::Published(receipts, reply) => drop(reply.send(Ok(receipts))),
            Answer::Opened(opened, reply) => drop(reply.send(Ok(opened))),
            Answer::Done(done, reply) => drop(reply.send(done)),
            Answer::Ended(ended, reply) => drop(reply.send(Ok(ended))),
            Answer::Replayed(position, reply) => drop(reply.send(position)),
        }
    }
}
