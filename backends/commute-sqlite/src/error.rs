//! Errors: what SQLite says, as the codes of commute.

use commute_core::{Code, Error, HandlerError};
use rusqlite::ErrorCode;

/// Keeps the cause; the code says what can be done.
pub(crate) fn failed(what: impl Into<String>, cause: rusqlite::Error) -> Error {
    Error::new(code(&cause), what).caused_by(cause)
}

fn code(error: &rusqlite::Error) -> Code {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Code::DiskFull,
        Some(ErrorCode::DatabaseCorrupt) => Code::Damaged,
        Some(ErrorCode::NotADatabase) => Code::ForeignDirectory,
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Code::DirectoryUnusable,
        _ => Code::StoreFailed,
    }
}

/// What is said to whoever comes after the end.
pub(crate) fn closed() -> Error {
    Error::new(Code::Closed, "the database is closed")
}

/// Whether an error says something about the disk or the database and nothing about the event. Such an event is run
/// again and its attempt is not counted.
pub(crate) fn is_environment(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::OutOfMemory
                | ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::CannotOpen
                | ErrorCode::ReadOnly
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
        )
    )
}

/// Such an error, when the error itself belongs to the handler.
pub(crate) fn environment(error: &rusqlite::Error) -> Error {
    Error::new(code(error), format!("the database cannot store the event: {error}"))
}

/// The same, somewhere below the error that a handler made of it.
pub(crate) fn environment_below(error: &HandlerError) -> Option<Error> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error.source());
    while let Some(error) = cause {
        match error.downcast_ref::<rusqlite::Error>() {
            Some(error) if is_environment(error) => return Some(environment(error)),
            _ => cause = error.source(),
        }
    }
    None
}
