//! Errors: what SQLite says, as the codes of commute.

use commute_core::{Code, Error};
use rusqlite::ErrorCode;

/// Keeps the cause; the code says what can be done.
pub(crate) fn failed(what: impl Into<String>, cause: rusqlite::Error) -> Error {
    let code = match cause.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Code::DiskFull,
        Some(ErrorCode::DatabaseCorrupt) => Code::Damaged,
        Some(ErrorCode::NotADatabase) => Code::ForeignDirectory,
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Code::DirectoryUnusable,
        _ => Code::StoreFailed,
    };
    Error::new(code, what).caused_by(cause)
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
