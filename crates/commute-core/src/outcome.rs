//! Outcomes: what a handler answers, as a value that travels up.
//!
//! A handler never acknowledges. It returns events to publish, work for a store, or an error that says itself whether
//! trying again can help; the engine does the rest.

use std::fmt;

use crate::error::Error;
use crate::event::{Emitted, Event};
use crate::store::Transact;

pub use crate::handler_error::{HandlerError, Reject};

/// What is left to do after a handler succeeded.
pub enum Outcome {
    /// Publish these (possibly none).
    Emit(Vec<Emitted>),
    /// Run this in its store's transaction; the events it emits are staged there.
    Transact(Box<dyn Transact>),
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Emit(events) => f.debug_tuple("Emit").field(events).finish(),
            Outcome::Transact(_) => f.write_str("Transact"),
        }
    }
}

/// What a handler may answer: nothing, an event, `Option`, `Vec` or a tuple of answers, or a `derive(Events)` enum.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an answer of a handler",
    label = "not `()`, an event, or an `Option`, `Vec`, tuple or `Result` of events",
    note = "add `#[derive(Event)]` to the type that should be published, or return `()`"
)]
pub trait Answer: Send + 'static {
    /// The types that it can emit, so that a missing topic is found before an event is read.
    fn emits(types: &mut Vec<&'static str>);

    /// Encodes its events, in order.
    ///
    /// # Errors
    /// [`Code::InvalidEvent`](crate::Code::InvalidEvent) when one cannot be encoded.
    fn emit(self, events: &mut Vec<Emitted>) -> Result<(), Error>;
}

impl Answer for () {
    fn emits(_types: &mut Vec<&'static str>) {}

    fn emit(self, _events: &mut Vec<Emitted>) -> Result<(), Error> {
        Ok(())
    }
}

#[diagnostic::do_not_recommend]
impl<E: Event> Answer for E {
    fn emits(types: &mut Vec<&'static str>) {
        types.push(E::TYPE);
    }

    fn emit(self, events: &mut Vec<Emitted>) -> Result<(), Error> {
        events.push(Emitted::encode(&self)?);
        Ok(())
    }
}

impl<A: Answer> Answer for Option<A> {
    fn emits(types: &mut Vec<&'static str>) {
        A::emits(types);
    }

    fn emit(self, events: &mut Vec<Emitted>) -> Result<(), Error> {
        self.map_or(Ok(()), |answer| answer.emit(events))
    }
}

impl<A: Answer> Answer for Vec<A> {
    fn emits(types: &mut Vec<&'static str>) {
        A::emits(types);
    }

    fn emit(self, events: &mut Vec<Emitted>) -> Result<(), Error> {
        self.into_iter().try_for_each(|answer| answer.emit(events))
    }
}

macro_rules! tuple_answers {
    ($(($($answer:ident $n:tt),+)),*) => {$(
        impl<$($answer: Answer),+> Answer for ($($answer,)+) {
            fn emits(types: &mut Vec<&'static str>) {
                $($answer::emits(types);)+
            }

            fn emit(self, events: &mut Vec<Emitted>) -> Result<(), Error> {
                $(self.$n.emit(events)?;)+
                Ok(())
            }
        }
    )*};
}
tuple_answers!((A 0, B 1), (A 0, B 1, C 2), (A 0, B 1, C 2, D 3));

/// What a handler may return: an [`Answer`], work for a store, or a `Result` of one of these.
#[diagnostic::on_unimplemented(
    message = "a handler cannot return `{Self}`",
    label = "not an answer, work for a store, or a `Result` of one of these",
    note = "return `()`, an event, `Result<_, HandlerError>`, or what `db.write(…)` gives"
)]
pub trait IntoOutcome: Send + 'static {
    /// The types that it can emit.
    fn emits(types: &mut Vec<&'static str>);

    /// Whether it may leave work to a store, which the app must then have.
    fn transacts() -> bool {
        false
    }

    /// Turns it into what is left to do.
    ///
    /// # Errors
    /// The handler's own error, or that an event could not be encoded.
    fn into_outcome(self) -> Result<Outcome, HandlerError>;
}

#[diagnostic::do_not_recommend]
impl<A: Answer> IntoOutcome for A {
    fn emits(types: &mut Vec<&'static str>) {
        A::emits(types);
    }

    fn into_outcome(self) -> Result<Outcome, HandlerError> {
        let mut events = Vec::new();
        self.emit(&mut events).map_err(HandlerError::from_error)?;
        Ok(Outcome::Emit(events))
    }
}

#[diagnostic::do_not_recommend]
impl<O: IntoOutcome, E: Into<HandlerError> + Send + 'static> IntoOutcome for Result<O, E> {
    fn emits(types: &mut Vec<&'static str>) {
        O::emits(types);
    }

    fn transacts() -> bool {
        O::transacts()
    }

    fn into_outcome(self) -> Result<Outcome, HandlerError> {
        self.map_err(Into::into)?.into_outcome()
    }
}
