//! Outcomes: what a handler answers, as a value that travels up.
//!
//! A handler never acknowledges. It returns events to publish, work for a store, or an error that says itself whether
//! trying again can help; the engine does the rest.

use std::fmt;

use crate::error::{BoxError, Code, Error};
use crate::event::{Emitted, Event};
use crate::store::Transact;

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
    /// [`Code::InvalidEvent`] when one cannot be encoded.
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

/// Why a handler did not do its work, and whether trying again can help.
///
/// Every error converts into one with `?` and is then *retryable*; [`HandlerError::reject`] and [`Reject::reject`] make
/// it terminal. (It is not a `std::error::Error` itself, so that this conversion can exist.)
pub struct HandlerError {
    code: Code,
    source: BoxError,
}

impl HandlerError {
    /// A failure that is tried again by the handler's retry policy.
    pub fn retry(reason: impl Into<BoxError>) -> Self {
        HandlerError { code: Code::HandlerFailed, source: reason.into() }
    }

    /// A failure that no retry can mend: the event becomes a dead letter at once and its lanes go on.
    pub fn reject(reason: impl Into<BoxError>) -> Self {
        HandlerError { code: Code::Rejected, source: reason.into() }
    }

    /// Keeps the code of an error of commute's own, and with it whether it is retryable.
    pub fn from_error(error: Error) -> Self {
        HandlerError { code: error.code(), source: error.into() }
    }

    /// What kind of failure it was.
    pub fn code(&self) -> Code {
        self.code
    }

    /// What the handler's error was, for those who know its type.
    pub fn source(&self) -> &(dyn std::error::Error + 'static) {
        &*self.source
    }

    /// Whether the event may be tried again.
    pub fn is_retryable(&self) -> bool {
        self.code.is_retryable()
    }

    /// The reason, with its causes, for the dead letter and the log.
    pub fn reason(&self) -> String {
        let mut text = self.source.to_string();
        let mut cause = self.source.source();
        while let Some(error) = cause {
            let next = error.to_string();
            if !text.contains(&next) {
                text.push_str(": ");
                text.push_str(&next);
            }
            cause = error.source();
        }
        text
    }
}

impl<E: Into<BoxError>> From<E> for HandlerError {
    fn from(error: E) -> Self {
        HandlerError::retry(error)
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.reason(), self.code)
    }
}

impl fmt::Debug for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Makes a failure terminal in passing: `text.parse::<u32>().reject()?`.
pub trait Reject<T> {
    /// `Err` and `None` become a [`HandlerError`] that is not tried again.
    ///
    /// # Errors
    /// When there is no value.
    fn reject(self) -> Result<T, HandlerError>;
}

impl<T, E: Into<BoxError>> Reject<T> for Result<T, E> {
    fn reject(self) -> Result<T, HandlerError> {
        self.map_err(HandlerError::reject)
    }
}

impl<T> Reject<T> for Option<T> {
    fn reject(self) -> Result<T, HandlerError> {
        self.ok_or_else(|| HandlerError::reject("a value that the handler needs is missing"))
    }
}
