//! Errors of the disk, as errors that tell a person what to do.

use std::io;

use commute_core::{Code, Error};

/// An error of the disk while doing something.
pub(crate) fn failed(what: &str, cause: io::Error) -> Error {
    let code = match cause.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => Code::DiskFull,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Code::DirectoryUnusable,
        _ => Code::Io,
    };
    Error::new(code, what.to_owned()).caused_by(cause)
}
