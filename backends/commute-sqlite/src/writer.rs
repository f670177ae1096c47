//! The writer: one thread that owns the connection and puts what is queued into shared transactions.
//!
//! It never waits to make a group larger: what came while the last commit was under way is the next group. So one event
//! alone pays one commit and nothing else, and many pay one commit together.

use std::fs::File;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use commute_core::{Clock, Result};
use rusqlite::Connection;
use rusqlite::hooks::AuthContext;

use crate::error::failed;
use crate::group::Groups;
use crate::guard::Guard;
use crate::job::Message;
use crate::outbox::Staged;

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
