//! Errors of SQLite, as errors that tell a person what to do.

use commute_core::{Code, Error};
use rusqlite::ErrorCode;

/// An error of the database while doing something.
pub(crate) fn failed(what: &str, cause: rusqlite::Error) -> Error {
    let code = match cause.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Code::DiskFull,
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Code::DirectoryUnusable,
        Some(ErrorCode::NotADatabase) => Code::ForeignDirectory,
        Some(ErrorCode::DatabaseCorrupt) => Code::Damaged,
        _ => Code::StoreFailed,
    };
    Error::new(code, what.to_owned()).caused_by(cause)
}
