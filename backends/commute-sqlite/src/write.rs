//! Writing from an async handler: the answer that carries what is to be done in the transaction.

use std::marker::PhantomData;

use commute_core::{Answer, Code, Done, Emitted, Error, HandlerError, IntoOutcome, Outcome, Transact, Unit};

use crate::sqlite::Sqlite;
use crate::tx::Tx;

/// What runs on the writer's thread.
pub(crate) type Work = Box<dyn FnOnce(&Tx<'_>) -> Result<Vec<Emitted>, HandlerError> + Send>;

/// Work for the database, as a handler's answer. Made by [`Sqlite::write`] and by transactional handlers.
///
/// Nothing is written until the engine got it as the answer of a handler; `A` is what the work itself answers, and is
/// published.
#[must_use = "nothing is written until the handler returns this"]
pub struct Write<A> {
    db: Sqlite,
    work: Work,
    answer: PhantomData<fn() -> A>,
}

impl<A: IntoOutcome> Write<A> {
    pub(crate) fn new(db: Sqlite, work: impl FnOnce(&Tx<'_>) -> A + Send + 'static) -> Self {
        let work: Work = Box::new(move |tx| match work(tx).into_outcome()? {
            Outcome::Emit(events) => Ok(events),
            Outcome::Transact(_) => Err(HandlerError::from_error(Error::new(
                Code::InvalidApp,
                "the work of a transaction answers with another transaction",
            ))),
        });
        Write { db, work, answer: PhantomData }
    }
}

impl<A: Answer> Write<A> {
    pub(crate) fn of_result(
        db: Sqlite,
        work: impl FnOnce(&Tx<'_>) -> Result<A, HandlerError> + Send + 'static,
    ) -> Self {
        let Write { db, work, .. } = Write::new(db, work);
        Write { db, work, answer: PhantomData }
    }
}

impl<A: IntoOutcome> IntoOutcome for Write<A> {
    fn emits(types: &mut Vec<&'static str>) {
        A::emits(types);
    }

    fn transacts() -> bool {
        true
    }

    fn into_outcome(self) -> Result<Outcome, HandlerError> {
        Ok(Outcome::Transact(Box::new(Submission { db: self.db, work: self.work })))
    }
}

impl<A> std::fmt::Debug for Write<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Write to {:?}", self.db)
    }
}

struct Submission {
    db: Sqlite,
    work: Work,
}

impl Transact for Submission {
    fn submit(self: Box<Self>, unit: Unit, done: Done) {
        self.db.submit(self.work, unit, done);
    }
}
