//! Jobs: what the writer is asked for, and the answer that it owes.

use std::sync::Arc;

use commute_core::{Committed, Done, EventId, Stage, Unit, UnitError};

use crate::error::closed;
use crate::tx::Work;

/// What the writer is asked for.
pub(crate) enum Message {
    /// Run this.
    Job(Job),
    /// There are published events to forget.
    Confirmed,
    /// Finish what came before, and end.
    Close,
}

/// One event's work.
pub(crate) struct Job {
    pub(crate) subscription: Arc<str>,
    pub(crate) event: EventId,
    pub(crate) work: Work,
    pub(crate) stage: Stage,
    pub(crate) reply: Reply,
}

impl Job {
    pub(crate) fn new(work: Work, unit: Unit, done: Done) -> Self {
        let Unit { subscription, event, stage } = unit;
        Job { subscription, event, work, stage, reply: Reply(Some(done)) }
    }
}

/// What became of an event.
pub(crate) type Verdict = Result<Committed, UnitError>;

/// The promise that whoever submitted hears what became of it, once.
pub(crate) struct Reply(Option<Done>);

impl Reply {
    pub(crate) fn send(mut self, fate: Verdict) {
        if let Some(done) = self.0.take() {
            done(fate);
        }
    }
}

/// Work that nobody runs any more.
impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(done) = self.0.take() {
            done(Err(UnitError::Lost(closed())));
        }
    }
}
