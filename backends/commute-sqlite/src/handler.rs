//! Transactional handlers: plain functions of an event and the transaction, or the end of an async handler.

use std::future::{Ready, ready};
use std::marker::PhantomData;
use std::sync::Arc;

use commute_core::{
    Answer, Context, Done, FromContext, Handler, HandlerError, Incoming, IntoOutcome, Needs, Outcome, Transact, Unit,
};

use crate::sqlite::Sqlite;
use crate::tx::Tx;
use crate::writer::{Queue, Submitted, Work};

impl Sqlite {
    /// Makes a handler of a plain function: the event first, then the transaction, then up to four extractors.
    pub fn transaction<Args, F: TransactionHandler<Args>>(&self, function: F) -> Transaction<F, Args> {
        Transaction { function: Arc::new(function), db: self.clone(), args: PhantomData }
    }

    /// The end of an async handler: what it answers with. Nothing is written until it has been returned; then it runs in
    /// a transaction together with the event's inbox mark and the events that it answers.
    pub fn write<A, F>(&self, work: F) -> Write<A>
    where
        A: Answer,
        F: FnOnce(&Tx<'_>) -> Result<A, HandlerError> + Send + 'static,
    {
        let work: Work = Box::new(move |tx| {
            let mut emitted = Vec::new();
            work(tx)?.emit(&mut emitted).map_err(HandlerError::from_error)?;
            Ok(emitted)
        });
        Write { work, queue: self.inner.queue.clone(), answer: PhantomData }
    }
}

/// Work for the transaction of an event. See [`Sqlite::write`].
#[must_use = "nothing is written until the handler returns it"]
pub struct Write<A> {
    work: Work,
    queue: Arc<Queue>,
    answer: PhantomData<fn() -> A>,
}

impl<A: Answer> IntoOutcome for Write<A> {
    fn emits(types: &mut Vec<&'static str>) {
        A::emits(types);
    }

    fn transacts() -> bool {
        true
    }

    fn into_outcome(self) -> Result<Outcome, HandlerError> {
        Ok(Outcome::Transact(Box::new(Queued { work: self.work, queue: self.queue })))
    }
}

struct Queued {
    work: Work,
    queue: Arc<Queue>,
}

impl Transact for Queued {
    fn submit(self: Box<Self>, unit: Unit, done: Done) {
        self.queue.submit(Submitted { unit, work: self.work, done });
    }
}

/// A handler that runs in a transaction. See [`Sqlite::transaction`].
pub struct Transaction<F, Args> {
    function: Arc<F>,
    db: Sqlite,
    args: PhantomData<fn(Args)>,
}

/// A plain function of an event, a transaction and up to four extractors.
#[diagnostic::on_unimplemented(
    message = "this function is not a transactional handler",
    label = "not a plain function of an event, `&Tx<'_>` and extractors",
    note = "a transactional handler is `fn(event, tx: &Tx<'_>, extractors…) -> Result<answer, HandlerError>`; it is not async"
)]
pub trait TransactionHandler<Args>: Send + Sync + 'static {
    /// What it takes.
    type Event: Incoming;
    /// What it answers.
    type Answer: Answer;
    /// Its extractors.
    type Extracted: Send + 'static;

    /// Collects what its extractors need of the app.
    fn needs(needs: &mut Needs);

    /// Makes its extractors.
    ///
    /// # Errors
    /// When one cannot be made.
    fn extract(context: &Context) -> commute_core::Result<Self::Extracted>;

    /// Runs it.
    ///
    /// # Errors
    /// Its own.
    fn run(&self, event: Self::Event, tx: &Tx<'_>, extracted: Self::Extracted) -> Result<Self::Answer, HandlerError>;
}

macro_rules! transaction_handlers {
    ($(($($extractor:ident $value:ident),*)),* $(,)?) => {$(
        #[diagnostic::do_not_recommend]
        impl<F, Ev, Ans, Err, $($extractor),*> TransactionHandler<(Ev, Ans, Err, $($extractor,)*)> for F
        where
            F: Fn(Ev, &Tx<'_>, $($extractor),*) -> Result<Ans, Err> + Send + Sync + 'static,
            Ev: Incoming,
            Ans: Answer,
            Err: Into<HandlerError> + 'static,
            $($extractor: FromContext + Send + 'static,)*
        {
            type Event = Ev;
            type Answer = Ans;
            type Extracted = ($($extractor,)*);

            fn needs(_needs: &mut Needs) {
                $($extractor::needs(_needs);)*
            }

            fn extract(_context: &Context) -> commute_core::Result<Self::Extracted> {
                Ok(($($extractor::from_context(_context)?,)*))
            }

            fn run(&self, event: Ev, tx: &Tx<'_>, ($($value,)*): Self::Extracted) -> Result<Ans, HandlerError> {
                self(event, tx, $($value),*).map_err(Into::into)
            }
        }
    )*};
}
transaction_handlers!((), (A a), (A a, B b), (A a, B b, C c), (A a, B b, C c, D d));

impl<F, Args> Handler<Args> for Transaction<F, Args>
where
    Args: 'static,
    F: TransactionHandler<Args>,
{
    type Event = F::Event;
    type Output = Write<F::Answer>;
    type Future = Ready<Write<F::Answer>>;

    fn needs(needs: &mut Needs) {
        F::needs(needs);
    }

    fn call(&self, event: F::Event, context: &Context) -> Result<Self::Future, HandlerError> {
        let extracted = F::extract(context).map_err(HandlerError::from_error)?;
        let function = self.function.clone();
        Ok(ready(self.db.write(move |tx: &Tx<'_>| function.run(event, tx, extracted))))
    }
}
