//! Transactional handlers: plain functions of an event, the transaction, and extractors.

use std::future::{Ready, ready};
use std::marker::PhantomData;
use std::sync::Arc;

use commute_core::{Context, FromContext, Handler, HandlerError, Incoming, IntoOutcome, Needs};

use crate::sqlite::Sqlite;
use crate::tx::Tx;
use crate::write::Write;

impl Sqlite {
    /// A handler whose effects live here: a plain function of the event, `&Tx<'_>` and up to four extractors.
    pub fn transaction<Args, F: Transactional<Args>>(&self, function: F) -> Transaction<F, Args> {
        Transaction::new(self.clone(), function)
    }
}

/// A function that handles an event in a transaction: the event, `&Tx<'_>`, up to four extractors; its answer is an
/// event, `()`, or a `Result` of these.
///
/// Implemented for plain functions and closures (which say the types of event and `tx`: `|event: OrderPlaced, tx: &Tx<'_>|`).
/// It runs on the writer's thread, so it should not wait for anything but the database. `Args` is there for the compiler
/// alone.
#[diagnostic::on_unimplemented(
    message = "this function is not a transactional handler",
    label = "not a plain function of an event, `&Tx<'_>` and extractors",
    note = "a transactional handler is `fn(event, tx: &Tx<'_>, extractors…) -> answer` with at most four extractors; check that it is not async, that the event comes first and `tx` second, and that the answer is an event, `()` or a `Result` of these",
    note = "an async handler takes the database as `State<Sqlite>` and answers with `db.write(move |tx| …)`"
)]
pub trait Transactional<Args>: Send + Sync + 'static {
    /// What it takes.
    type Event: Incoming;
    /// What it answers.
    type Output: IntoOutcome;

    /// Collects what its extractors need of the app.
    fn needs(needs: &mut Needs);

    /// Makes its arguments, but for the transaction, and leaves the rest to the writer.
    ///
    /// # Errors
    /// When an extractor failed.
    fn begin(
        self: &Arc<Self>,
        db: &Sqlite,
        event: Self::Event,
        context: &Context,
    ) -> Result<Write<Self::Output>, HandlerError>;
}

macro_rules! transactional_functions {
    ($(($($extractor:ident $argument:ident),*)),* $(,)?) => {$(
        #[diagnostic::do_not_recommend]
        impl<F, Answer, Ev, $($extractor),*> Transactional<(Ev, $($extractor,)*)> for F
        where
            F: Fn(Ev, &Tx<'_>, $($extractor),*) -> Answer + Send + Sync + 'static,
            Answer: IntoOutcome,
            Ev: Incoming,
            $($extractor: FromContext + Send + 'static,)*
        {
            type Event = Ev;
            type Output = Answer;

            fn needs(_needs: &mut Needs) {
                $($extractor::needs(_needs);)*
            }

            fn begin(
                self: &Arc<Self>,
                db: &Sqlite,
                event: Ev,
                _context: &Context,
            ) -> Result<Write<Answer>, HandlerError> {
                $(let $argument = $extractor::from_context(_context).map_err(HandlerError::from_error)?;)*
                let function = self.clone();
                Ok(Write::new(db.clone(), move |tx: &Tx<'_>| function(event, tx, $($argument),*)))
            }
        }
    )*};
}
transactional_functions!((), (A a), (A a, B b), (A a, B b, C c), (A a, B b, C c, D d));

/// A transactional handler with its database. Made by [`Sqlite::transaction`], given to the engine's `handler(…)`.
#[must_use = "it handles nothing until it is given to the engine's `handler(…)`"]
pub struct Transaction<F, Args> {
    db: Sqlite,
    function: Arc<F>,
    args: PhantomData<fn(Args)>,
}

impl<F: Transactional<Args>, Args> Transaction<F, Args> {
    pub(crate) fn new(db: Sqlite, function: F) -> Self {
        Transaction { db, function: Arc::new(function), args: PhantomData }
    }
}

impl<F: Transactional<Args>, Args: 'static> Handler<Args> for Transaction<F, Args> {
    type Event = F::Event;
    type Output = Result<Write<F::Output>, HandlerError>;
    type Future = Ready<Self::Output>;

    fn needs(needs: &mut Needs) {
        F::needs(needs);
    }

    fn call(&self, event: Self::Event, context: &Context) -> Result<Self::Future, HandlerError> {
        Ok(ready(Ok(self.function.begin(&self.db, event, context)?)))
    }
}

impl<F, Args> std::fmt::Debug for Transaction<F, Args> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Transaction of {:?}", self.db)
    }
}
