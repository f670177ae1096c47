//! Reading beside the writer: a connection of its own that sees what is committed and can change nothing.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use commute_core::{Code, Error, Result};
use rusqlite::{Connection, OpenFlags};

use crate::error::{closed, failed};

pub(crate) struct Reader {
    connection: Mutex<Option<Connection>>,
}

impl Reader {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let unusable = |cause| failed(format!("cannot read the database {}", path.display()), cause);
        let connection = Connection::open_with_flags(path, flags).map_err(unusable)?;
        connection.pragma_update(None, "query_only", true).map_err(unusable)?;
        Ok(Reader { connection: Mutex::new(Some(connection)) })
    }

    /// One at a time; the others wait.
    pub(crate) fn read<T>(&self, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let connection = connection.as_ref().ok_or_else(closed)?;
        let result = query(connection);
        if !connection.is_autocommit() {
            // A transaction that a query left open, or that a panic tore off, would show everybody the past.
            connection.execute_batch("ROLLBACK").map_err(|cause| failed("a query cannot be ended", cause))?;
        }
        // Whatever it is, it says nothing about the file that writes did not say before.
        result.map_err(|cause| Error::new(Code::StoreFailed, "a query failed").caused_by(cause))
    }

    pub(crate) fn close(&self) {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}
