//! The writer: one thread that runs transactional handlers, as many as wait, in one transaction.
//!
//! ```text
//! begin
//!   savepoint; inbox mark; the handler's SQL; staged events; release     … or roll back to the savepoint
//!   savepoint; …
//! commit ─► everybody is answered
//! ```

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use commute_core::{Clock, Code, Committed, Done, Emitted, Error, HandlerError, Outgoing, Timestamp, Unit, UnitError};
use rusqlite::Connection;

use crate::error::failed;
use crate::outbox::{Staged, insert};
use crate::tx::Tx;

/// What a handler left to do.
pub(crate) type Work = Box<dyn FnOnce(&Tx<'_>) -> Result<Vec<Emitted>, HandlerError> + Send>;

/// Work with everything that belongs to it.
pub(crate) struct Submitted {
    pub(crate) unit: Unit,
    pub(crate) work: Work,
    pub(crate) done: Done,
}

/// What waits for the writer. Bounded by the engine, which counts how many transactions are under way.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<Waiting>,
    wake: Condvar,
}

#[derive(Default)]
struct Waiting {
    submitted: VecDeque<Submitted>,
    closed: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn submit(&self, submitted: Submitted) {
        let mut waiting = self.lock();
        if waiting.closed {
            drop(waiting);
            let closed = Error::new(Code::Closed, "the store is closed");
            return (submitted.done)(Err(UnitError::Lost(closed)));
        }
        waiting.submitted.push_back(submitted);
        drop(waiting);
        self.wake.notify_one();
    }

    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_one();
    }

    fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Waits for work; nothing when there is none and never will be.
    fn take(&self, max: usize) -> Vec<Submitted> {
        let mut waiting = self.lock();
        while waiting.submitted.is_empty() && !waiting.closed {
            waiting = self.wake.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        let count = waiting.submitted.len().min(max);
        waiting.submitted.drain(..count).collect()
    }
}

pub(crate) struct Writer {
    pub(crate) connection: Connection,
    pub(crate) queue: Arc<Queue>,
    pub(crate) staged: Arc<Staged>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) max_group: usize,
    pub(crate) inbox_retention: Duration,
    /// When old inbox marks were last removed.
    pub(crate) pruned: Option<Timestamp>,
}

/// How a unit ended inside the transaction, before the commit decides.
enum Ended {
    Good(Committed, Done),
    Bad(HandlerError, Done),
}

/// A transaction under way.
#[derive(Default)]
struct Group {
    ended: Vec<Ended>,
    staged: Vec<(u64, Outgoing)>,
}

impl Writer {
    pub(crate) fn run(mut self) {
        loop {
            self.staged.wait_for_room(|| self.queue.is_closed());
            let submitted = self.queue.take(self.max_group);
            if submitted.is_empty() {
                break;
            }
            self.group(submitted);
        }
        if let Err(error) = self.tidy().and_then(|()| self.connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)"))
        {
            tracing::warn!(%error, "the database is not tidy; the next start will do it");
        }
    }

    fn tidy(&self) -> rusqlite::Result<()> {
        match self.staged.take_confirmed() {
            Some(upto) => delete_confirmed(&self.connection, upto),
            None => Ok(()),
        }
    }

    fn group(&mut self, submitted: Vec<Submitted>) {
        let mut submitted = submitted.into_iter();
        while submitted.len() > 0 {
            let mut group = Group::default();
            match self.transaction(&mut group, &mut submitted) {
                Ok(()) => self.answer(group),
                Err(error) => {
                    // Whatever SQLite has left of the transaction.
                    let _ = self.connection.execute_batch("ROLLBACK");
                    lost(group, error);
                    // Those that had not begun meet the same database: they are lost, too, and come again.
                    for Submitted { done, .. } in submitted.by_ref() {
                        done(Err(UnitError::Lost(Error::new(Code::StoreFailed, "the transaction before it failed"))));
                    }
                }
            }
        }
    }

    /// Runs units until they are over or one of them has ended the transaction.
    fn transaction(&mut self, group: &mut Group, submitted: &mut std::vec::IntoIter<Submitted>) -> Result<(), Error> {
        let begun = self.connection.execute_batch("BEGIN IMMEDIATE");
        begun.map_err(|cause| failed("cannot begin a transaction", cause))?;
        let now = self.clock.now();
        for Submitted { unit, work, done } in submitted.by_ref() {
            match self.unit(group, unit, work, now) {
                Ok(Ok(committed)) => group.ended.push(Ended::Good(committed, done)),
                Ok(Err(error)) => group.ended.push(Ended::Bad(error, done)),
                Err(error) => {
                    group.ended.push(Ended::Good(Committed::Fresh, done));
                    return Err(error);
                }
            }
            if self.connection.is_autocommit() {
                self.ended_by_last(group);
                return Ok(());
            }
        }
        self.house_keeping(now).map_err(|cause| failed("cannot keep house", cause))?;
        let committed = self.connection.prepare_cached("COMMIT").and_then(|mut commit| commit.execute([]));
        committed.map(drop).map_err(|cause| failed("cannot commit", cause))
    }

    /// The last unit's SQL has ended the transaction. It fails; those before it are lost, not failed: nobody knows
    /// whether they were committed or rolled back, and running them again finds out by their inbox marks.
    fn ended_by_last(&self, group: &mut Group) {
        let last = group.ended.pop();
        let whole = std::mem::take(group);
        lost(whole, Error::new(Code::StoreFailed, "another event's handler ended the shared transaction"));
        if let Some(Ended::Good(_, done) | Ended::Bad(_, done)) = last {
            let detail = "the handler's SQL ended the transaction that it shares with other events";
            let error = HandlerError::from_error(Error::new(Code::TransactionEnded, detail));
            group.ended.push(Ended::Bad(error, done));
        }
        // Some of the lost may be staged after all.
        if let Ok(known) = Staged::load(&self.connection) {
            self.staged.merge(known);
        }
    }

    /// One event: its own savepoint. The outer error means that the transaction is lost.
    fn unit(
        &self,
        group: &mut Group,
        unit: Unit,
        work: Work,
        now: Timestamp,
    ) -> Result<Result<Committed, HandlerError>, Error> {
        let db = &self.connection;
        let run = |sql: &str| db.prepare_cached(sql).and_then(|mut statement| statement.execute([]));
        let broken = |cause| failed("cannot use a savepoint", cause);
        run("SAVEPOINT commute_unit").map_err(broken)?;
        let staged_before = group.staged.len();
        let result = self.in_savepoint(group, unit, work, now);
        if db.is_autocommit() {
            return Ok(result);
        }
        if result.is_err() {
            group.staged.truncate(staged_before);
            run("ROLLBACK TO commute_unit").map_err(broken)?;
        }
        run("RELEASE commute_unit").map_err(broken)?;
        Ok(result)
    }

    fn in_savepoint(
        &self,
        group: &mut Group,
        unit: Unit,
        work: Work,
        now: Timestamp,
    ) -> Result<Committed, HandlerError> {
        let db = &self.connection;
        let mark = "INSERT OR IGNORE INTO commute_inbox VALUES (?1, ?2, ?3)";
        let marked = db
            .prepare_cached(mark)
            .and_then(|mut insert| insert.execute((&*unit.subscription, unit.event.fingerprint().as_slice(), now.0)));
        let store_failed = |cause| HandlerError::from_error(failed("cannot mark or stage an event", cause));
        if marked.map_err(store_failed)? == 0 {
            return Ok(Committed::Duplicate);
        }
        // The connection is left in whatever state the panic found it; the savepoint undoes that.
        let emitted = catch_unwind(AssertUnwindSafe(|| work(&Tx::new(db)))).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<&str>().copied();
            let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
            Err(HandlerError::from_error(Error::new(Code::Panicked, format!("the handler panicked: {text}"))))
        })?;
        if db.is_autocommit() {
            return Ok(Committed::Fresh);
        }
        let first = group.staged.last().map_or_else(|| self.staged.last(), |(seq, _)| *seq) + 1;
        for (seq, outgoing) in (first..).zip((unit.stage)(emitted).map_err(HandlerError::from_error)?) {
            insert(db, seq, &outgoing).map_err(store_failed)?;
            group.staged.push((seq, outgoing));
        }
        Ok(Committed::Fresh)
    }

    /// Deletes what the relay has confirmed, and once an hour the inbox marks that are too old.
    fn house_keeping(&mut self, now: Timestamp) -> rusqlite::Result<()> {
        if let Some(upto) = self.staged.take_confirmed() {
            delete_confirmed(&self.connection, upto)?;
        }
        const HOUR: Duration = Duration::from_secs(3600);
        if self.pruned.is_none_or(|then| now.since(then) > HOUR) {
            let oldest = now.0.saturating_sub(i64::try_from(self.inbox_retention.as_micros()).unwrap_or(i64::MAX));
            self.connection.prepare_cached("DELETE FROM commute_inbox WHERE at < ?1")?.execute([oldest])?;
            self.pruned = Some(now);
        }
        Ok(())
    }

    fn answer(&self, group: Group) {
        self.staged.add(group.staged);
        for ended in group.ended {
            match ended {
                Ended::Good(committed, done) => done(Ok(committed)),
                Ended::Bad(error, done) => done(Err(UnitError::Failed(error))),
            }
        }
    }
}

fn delete_confirmed(connection: &Connection, upto: u64) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM commute_outbox WHERE seq <= ?1")?.execute([upto as i64]).map(drop)
}

/// Nothing of the transaction is left. Failures stay failures; everything else comes again.
fn lost(group: Group, error: Error) {
    let text = format!("{error:#}");
    for ended in group.ended {
        match ended {
            Ended::Good(_, done) => done(Err(UnitError::Lost(Error::new(error.code(), text.clone())))),
            Ended::Bad(error, done) => done(Err(UnitError::Failed(error))),
        }
    }
}
