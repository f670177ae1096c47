//! Handler errors: why a handler did not do its work, and whether trying again can help.

use std::fmt;

use crate::error::{BoxError, Code, Error};

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
