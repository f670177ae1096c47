//! The writer: one thread that owns the connection and puts what is queued into shared transactions.
//!
//! It never waits to make a group larger: what came while the last commit was under way is the next group. So one event
//! alone pays one commit and nothing else, and many pay one commit together.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use commute_core::{Clock, Committed, Done, EventId, Result, Stage, Unit, UnitError};
use rusqlite::Connection;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};

use crate::error::{closed, failed};
use crate::group::Groups;
use crate::outbox::Staged;
use crate::write::Work;

/// How long published events may stay in the table when nothing else is written. They cost nothing there, and a commit
/// for them alone costs as much as one for an event.
const IDLE: Duration = Duration::from_millis(50);

/// Everything the thread owns.
pub(crate) struct Writer {
    pub(crate) connection: Connection,
    pub(crate) lock: File,
    pub(crate) staged: Arc<Staged>,
    pub(crate) max_group: usize,
    pub(crate) retention: Duration,
    pub(crate) clock: Arc<dyn Clock>,
}

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

/// The promise that whoever submitted hears what became of it, once.
pub(crate) struct Reply(Option<Done>);

impl Reply {
    pub(crate) fn send(mut self, fate: Result<Committed, UnitError>) {
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

impl Writer {
    /// Runs until it is told to close, or until nobody can tell it anything any more.
    pub(crate) fn run(mut self, messages: Receiver<Message>) -> Result<()> {
        let guard = Guard::default();
        let (watch, shown) = (guard.clone(), "the database cannot be guarded");
        self.connection
            .authorizer(Some(move |context: AuthContext<'_>| watch.allows(&context.action)))
            .map_err(|cause| failed(shown, cause))?;
        let staged = self.staged.clone();
        let mut groups = Groups::new(&self.connection, guard, staged, self.retention, self.clock.clone())?;
        let mut closing = false;
        while !closing {
            let first = match groups.owes() {
                false => messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
                true => messages.recv_timeout(IDLE),
            };
            let mut jobs = Vec::new();
            let mut next = match first {
                Ok(message) => Some(message),
                Err(RecvTimeoutError::Timeout) => {
                    groups.run(jobs);
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            };
            while let Some(message) = next.take() {
                match message {
                    Message::Job(job) => jobs.push(job),
                    Message::Confirmed => groups.confirmed(),
                    Message::Close => closing = true,
                }
                if !closing && jobs.len() < self.max_group {
                    next = messages.try_recv().ok();
                }
            }
            if !jobs.is_empty() {
                groups.run(jobs);
            }
        }
        groups.run(Vec::new());
        drop(groups);
        self.staged.close();
        let end = self.end();
        // Whoever submitted too late hears it now, when the file is free again.
        drop(messages);
        end
    }

    fn end(self) -> Result<()> {
        let Writer { connection, lock, .. } = self;
        connection.flush_prepared_statement_cache();
        let checkpoint = connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .map_err(|cause| failed("the database cannot be checkpointed; nothing is lost", cause));
        let closed = connection.close().map_err(|(_, cause)| failed("the database cannot be closed", cause));
        drop(lock);
        checkpoint.and(closed)
    }
}

/// Keeps handlers from ending the transaction that they share.
///
/// Asked whenever a statement is prepared. `INSERT OR ROLLBACK` and `RAISE(ROLLBACK)` get past it, because SQLite does not
/// ask about them; those are noticed afterwards.
#[derive(Clone, Default)]
pub(crate) struct Guard(Arc<Watch>);

#[derive(Default)]
struct Watch {
    handler_runs: AtomicBool,
    refused: AtomicBool,
}

impl Guard {
    fn allows(&self, action: &AuthAction<'_>) -> Authorization {
        let ends = matches!(action, AuthAction::Transaction { .. } | AuthAction::Savepoint { .. });
        if ends && self.0.handler_runs.load(Ordering::Relaxed) {
            self.0.refused.store(true, Ordering::Relaxed);
            return Authorization::Deny;
        }
        Authorization::Allow
    }

    pub(crate) fn handler_begins(&self) {
        self.0.refused.store(false, Ordering::Relaxed);
        self.0.handler_runs.store(true, Ordering::Relaxed);
    }

    /// Answers whether it tried.
    pub(crate) fn handler_ended(&self) -> bool {
        self.0.handler_runs.store(false, Ordering::Relaxed);
        self.0.refused.load(Ordering::Relaxed)
    }
}

pub(crate) type Verdict = Result<Committed, UnitError>;
