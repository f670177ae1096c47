//! Writing from an async handler: the answer that carries what is to be done in the transaction.

use std::marker::PhantomData;

use commute_core::{Answer, Code, Done, Error, HandlerError, IntoOutcome, Outcome, Transact, Unit};

use crate::sqlite::Sqlite;
use crate::tx::{Tx, Work};

impl Sqlite {
    /// What an async handler answers with: work for the transaction. Nothing is written until the handler returns it.
    ///
    /// ```
    /// use commute_core::{HandlerError, State};
    /// use commute_sqlite::{Sqlite, Tx, Write};
    /// # use commute_macros::Event;
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Debug, Serialize, Deserialize, Event)]
    /// # #[event(type = "shop.order.placed", crate = "commute_core")]
    /// # struct OrderPlaced { order: String }
    /// # #[derive(Debug, Serialize, Deserialize, Event)]
    /// # #[event(type = "shop.payment.taken", crate = "commute_core")]
    /// # struct PaymentTaken { order: String }
    /// # async fn ask_the_bank(_order: &OrderPlaced) -> Result<String, std::io::Error> { Ok(String::new()) }
    ///
    /// async fn charge(order: OrderPlaced, State(db): State<Sqlite>) -> Result<Write<PaymentTaken>, HandlerError> {
    ///     let receipt = ask_the_bank(&order).await?;
    ///     Ok(db.write(move |tx: &Tx<'_>| {
    ///         tx.execute("INSERT INTO receipts VALUES (?1, ?2)", (&order.order, &receipt))?;
    ///         Ok(PaymentTaken { order: order.order })
    ///     }))
    /// }
    /// ```
    pub fn write<A: Answer>(&self, work: impl FnOnce(&Tx<'_>) -> Result<A, HandlerError> + Send + 'static) -> Write<A> {
        Write::of_result(self.clone(), work)
    }
}

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
