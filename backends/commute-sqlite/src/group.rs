//! A group: events that share one transaction, each behind its own savepoint.
//!
//! | What happens | To the event | To the events before it in the group |
//! |---|---|---|
//! | it is marked already | duplicate | nothing |
//! | its function fails or panics | failed, rolled back alone | nothing |
//! | its SQL tries to end the transaction | failed, `TransactionEnded`, rolled back alone | nothing |
//! | its SQL did end it (`OR ROLLBACK`, `RAISE(ROLLBACK)`) | failed, `TransactionEnded` | lost |
//! | the disk or the database fails | lost | lost, if the transaction is gone |
//! | the commit fails | lost | lost |
//!
//! Whatever was decided in a transaction that is lost is lost with it, failures and duplicates too: they may have seen
//! what is no longer there. Nobody hears of a fate before the commit.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use commute_core::{
    Clock, Code, Committed, Emitted, Error, EventId, HandlerError, Outgoing, Stage, Timestamp, UnitError,
};
use rusqlite::{Connection, Statement};

use crate::error::{environment_below, failed};
use crate::guard::Guard;
use crate::inbox::{self, Sweep};
use crate::job::{Job, Reply, Verdict};
use crate::outbox::{self, Staged};
use crate::tx::{Tx, Work};

/// The statements that only commute may run. They are not in the cache of prepared statements, where a handler's text
/// could find them: whether a statement is allowed is asked when it is prepared.
struct Control<'connection> {
    begin: Statement<'connection>,
    commit: Statement<'connection>,
    savepoint: Statement<'connection>,
    release: Statement<'connection>,
    rollback_to: Statement<'connection>,
}

impl<'connection> Control<'connection> {
    fn prepare(connection: &'connection Connection) -> rusqlite::Result<Self> {
        Ok(Control {
            begin: connection.prepare("BEGIN IMMEDIATE")?,
            commit: connection.prepare("COMMIT")?,
            savepoint: connection.prepare("SAVEPOINT commute_event")?,
            release: connection.prepare("RELEASE commute_event")?,
            rollback_to: connection.prepare("ROLLBACK TO commute_event")?,
        })
    }

    fn undo(&mut self) -> rusqlite::Result<()> {
        self.rollback_to.execute([])?;
        self.release.execute([]).map(drop)
    }
}

/// Runs groups, one after the other.
pub(crate) struct Groups<'connection> {
    connection: &'connection Connection,
    control: Control<'connection>,
    guard: Guard,
    staged: Arc<Staged>,
    sweep: Sweep,
    clock: Arc<dyn Clock>,
    /// The number of the last event that is staged and committed.
    last: u64,
    /// Published events up to here are to be forgotten, and are forgotten.
    confirmed: u64,
    forgotten: u64,
}

/// The transaction under way.
struct Group {
    now: Timestamp,
    open: bool,
    decided: Vec<(Reply, Verdict)>,
    staged: Vec<(u64, Outgoing)>,
}

/// Why an event has no effect.
enum Trouble {
    /// Of its own making.
    Own(HandlerError),
    /// Through no fault of its own.
    Environment(Error),
}

impl<'connection> Groups<'connection> {
    pub(crate) fn new(
        connection: &'connection Connection,
        guard: Guard,
        staged: Arc<Staged>,
        retention: Duration,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let control = Control::prepare(connection).map_err(|cause| failed("transactions cannot be prepared", cause))?;
        let last = staged.last();
        let confirmed = staged.confirmed();
        let sweep = Sweep::new(retention);
        Ok(Groups { connection, control, guard, staged, sweep, clock, last, confirmed, forgotten: confirmed })
    }

    /// Takes note of what is published.
    pub(crate) fn confirmed(&mut self) {
        self.confirmed = self.staged.confirmed();
    }

    /// Whether there are published events in the table.
    pub(crate) fn owes(&self) -> bool {
        self.forgotten < self.confirmed
    }

    /// Runs these in order, in one transaction if none of them breaks it, and tells what became of each.
    pub(crate) fn run(&mut self, jobs: Vec<Job>) {
        self.confirmed();
        let decided = Vec::with_capacity(jobs.len());
        let mut group = Group { now: self.clock.now(), open: false, decided, staged: Vec::new() };
        let mut jobs = jobs.into_iter();
        while let Some(job) = jobs.next() {
            if let Err(error) = self.begin(&mut group) {
                // The others would only wait as long for the same answer.
                let unbegun = std::iter::once(job).chain(jobs.by_ref());
                tell(unbegun.map(|job| (job.reply, Err(UnitError::Lost(copy(&error))))));
                break;
            }
            self.event(job, &mut group);
        }
        if group.open || (self.owes() && self.begin(&mut group).is_ok()) {
            self.finish(&mut group);
        }
    }

    fn begin(&mut self, group: &mut Group) -> Result<(), Error> {
        if !group.open {
            self.control.begin.execute([]).map_err(|cause| failed("a transaction cannot be begun", cause))?;
            group.open = true;
        }
        Ok(())
    }

    fn event(&mut self, job: Job, group: &mut Group) {
        let Job { subscription, event, work, stage, reply } = job;
        let staged_before = group.staged.len();
        let effects = self.effects(&subscription, &event, work, stage, group);
        let outcome = effects.and_then(|committed| match self.connection.is_autocommit() {
            true => Err(Trouble::Own(ended())),
            false => match self.control.release.execute([]) {
                Ok(_) => Ok(committed),
                Err(cause) => Err(Trouble::Environment(failed("an event cannot be finished", cause))),
            },
        });
        let trouble = match outcome {
            Ok(committed) => return group.decided.push((reply, Ok(committed))),
            Err(trouble) => trouble,
        };
        group.staged.truncate(staged_before);
        if self.connection.is_autocommit() {
            let (why, fate) = match trouble {
                Trouble::Environment(error) => (copy(&error), UnitError::Lost(error)),
                Trouble::Own(_) => {
                    let why = Error::new(Code::StoreFailed, "another event ended the transaction of the group");
                    (why, UnitError::Failed(ended()))
                }
            };
            self.lose(group, &why);
            return tell([(reply, Err(fate))]);
        }
        let fate = match trouble {
            Trouble::Own(error) => UnitError::Failed(error),
            Trouble::Environment(error) => UnitError::Lost(error),
        };
        group.decided.push((reply, Err(fate)));
        if let Err(cause) = self.control.undo() {
            // What cannot be undone alone is undone with everything else.
            self.lose(group, &failed("an event cannot be rolled back", cause));
        }
    }

    /// Mark, function and staged events, behind a savepoint.
    fn effects(
        &mut self,
        subscription: &str,
        event: &EventId,
        work: Work,
        stage: Stage,
        group: &mut Group,
    ) -> Result<Committed, Trouble> {
        let broken = |what: &'static str| move |cause| Trouble::Environment(failed(what, cause));
        self.control.savepoint.execute([]).map_err(broken("an event cannot be begun"))?;
        let fresh = inbox::mark(self.connection, subscription, &event.fingerprint(), group.now);
        if !fresh.map_err(broken("an event cannot be marked as handled"))? {
            return Ok(Committed::Duplicate);
        }
        let emitted = self.call(work)?;
        let staged = caught(|| stage(emitted).map_err(HandlerError::from_error));
        let outgoing = staged.map_err(Trouble::Own)?;
        for outgoing in outgoing {
            let seq = self.last + 1 + group.staged.len() as u64;
            outbox::insert(self.connection, seq, &outgoing).map_err(broken("an event cannot be staged"))?;
            group.staged.push((seq, outgoing));
        }
        Ok(Committed::Fresh)
    }

    /// Calls the handler's function, and sees to it that what it did to the transaction is known.
    fn call(&self, work: Work) -> Result<Vec<Emitted>, Trouble> {
        let tx = Tx::new(self.connection);
        self.guard.handler_begins();
        let result = caught(|| work(&tx));
        let tried_to_end = self.guard.handler_ended();
        let gone = self.connection.is_autocommit();
        if let Some(error) = tx.environment().filter(|_| gone || result.is_err()) {
            return Err(Trouble::Environment(error));
        }
        match result {
            Err(error) if let Some(error) = environment_below(&error) => Err(Trouble::Environment(error)),
            _ if gone || tried_to_end => Err(Trouble::Own(ended())),
            result => result.map_err(Trouble::Own),
        }
    }

    fn finish(&mut self, group: &mut Group) {
        let marks = group.decided.iter().filter(|(_, verdict)| matches!(verdict, Ok(Committed::Fresh))).count();
        let forget = self.owes().then_some(self.confirmed);
        // What fails here is tried again with the next group, unless it took the transaction with it.
        let forgotten = forget.filter(|upto| outbox::delete(self.connection, *upto).is_ok());
        let _swept = self.sweep.step(self.connection, group.now, marks);
        if let Err(cause) = self.control.commit.execute([]) {
            return self.lose(group, &failed("a transaction cannot be committed", cause));
        }
        self.forgotten = forgotten.unwrap_or(self.forgotten);
        self.last += group.staged.len() as u64;
        self.staged.committed(std::mem::take(&mut group.staged));
        tell(group.decided.drain(..));
        group.open = false;
    }

    /// The transaction is gone, or is not worth keeping, and with it whatever was decided in it.
    fn lose(&mut self, group: &mut Group, why: &Error) {
        if !self.connection.is_autocommit() {
            // If even this fails, the next begin does too, and says why.
            let _failed = self.connection.execute_batch("ROLLBACK");
        }
        group.open = false;
        group.staged.clear();
        tell(group.decided.drain(..).map(|(reply, _)| (reply, Err(UnitError::Lost(copy(why))))));
    }
}

/// Whoever hears of it is not our code: its panic must not end the writer.
fn tell(decided: impl IntoIterator<Item = (Reply, Verdict)>) {
    for (reply, verdict) in decided {
        let _panicked = catch_unwind(AssertUnwindSafe(|| reply.send(verdict)));
    }
}

fn ended() -> HandlerError {
    let detail = "the handler's SQL ended the transaction that it shares with other events, or tried to";
    HandlerError::from_error(Error::new(Code::TransactionEnded, detail))
}

/// For others that share its fate.
fn copy(error: &Error) -> Error {
    Error::new(error.code(), format!("{error:#}"))
}

/// A panic fails the event that it happened in; what it left half done is undone with the savepoint.
fn caught<T>(run: impl FnOnce() -> Result<T, HandlerError>) -> Result<T, HandlerError> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
        Err(HandlerError::from_error(Error::new(Code::Panicked, format!("the handler panicked: {text}"))))
    })
}
