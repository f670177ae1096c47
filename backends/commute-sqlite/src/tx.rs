//! The transaction, as a handler sees it.

use std::cell::RefCell;

use commute_core::{Emitted, Error, HandlerError};
use rusqlite::{CachedStatement, Connection, Params, Result, Row};

use crate::error::{environment, is_environment};

/// The transaction that a handler's effects belong to.
///
/// Other events may share it, each behind its own savepoint, so a handler cannot begin or end it: there is no `&mut`
/// access, and `BEGIN`, `COMMIT`, `ROLLBACK` and savepoints are refused ([`Code::TransactionEnded`]). What a failed
/// handler wrote is undone, what the others wrote is not. Statements are prepared once and kept.
///
/// [`Code::TransactionEnded`]: commute_core::Code::TransactionEnded
pub struct Tx<'connection> {
    connection: &'connection Connection,
    /// The first error that says something about the disk and nothing about the event.
    environment: RefCell<Option<Error>>,
}

/// What runs on the writer's thread, with what it emits.
pub(crate) type Work = Box<dyn FnOnce(&Tx<'_>) -> std::result::Result<Vec<Emitted>, HandlerError> + Send>;

impl<'connection> Tx<'connection> {
    pub(crate) fn new(connection: &'connection Connection) -> Self {
        Tx { connection, environment: RefCell::new(None) }
    }

    /// Runs a statement that gives no rows; answers how many rows it changed.
    ///
    /// # Errors
    /// What SQLite says. `?` makes it a failure of the handler that is tried again.
    pub fn execute<P: Params>(&self, sql: &str, params: P) -> Result<usize> {
        self.noted(self.connection.prepare_cached(sql).and_then(|mut statement| statement.execute(params)))
    }

    /// Runs several statements without parameters, one after the other.
    ///
    /// # Errors
    /// What SQLite says about the first that failed.
    pub fn execute_batch(&self, sql: &str) -> Result<()> {
        self.noted(self.connection.execute_batch(sql))
    }

    /// Reads the first row. With `.optional()` (see [`OptionalExtension`](crate::OptionalExtension)) it is an `Option`.
    ///
    /// # Errors
    /// `QueryReturnedNoRows` when there is none, and what SQLite says.
    pub fn query_row<T, P: Params>(&self, sql: &str, params: P, read: impl FnOnce(&Row<'_>) -> Result<T>) -> Result<T> {
        self.noted(self.connection.prepare_cached(sql).and_then(|mut statement| statement.query_row(params, read)))
    }

    /// Reads all rows.
    ///
    /// # Errors
    /// What SQLite says, or the first row that could not be read.
    pub fn query_map<T, P: Params>(
        &self,
        sql: &str,
        params: P,
        read: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        self.noted(
            self.connection.prepare_cached(sql).and_then(|mut statement| statement.query_map(params, read)?.collect()),
        )
    }

    /// Whether there is a row.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn exists<P: Params>(&self, sql: &str, params: P) -> Result<bool> {
        self.noted(self.connection.prepare_cached(sql).and_then(|mut statement| statement.exists(params)))
    }

    /// A prepared statement, to go through rows one by one or to bind parameters one by one.
    ///
    /// # Errors
    /// What SQLite says about the text.
    pub fn prepare_cached(&self, sql: &str) -> Result<CachedStatement<'_>> {
        self.noted(self.connection.prepare_cached(sql))
    }

    /// The row id that the last insert gave.
    pub fn last_insert_rowid(&self) -> i64 {
        self.connection.last_insert_rowid()
    }

    /// How many rows the last statement changed.
    pub fn changes(&self) -> u64 {
        self.connection.changes()
    }

    pub(crate) fn environment(self) -> Option<Error> {
        self.environment.into_inner()
    }

    // Remembered here, because the handler may turn the error into another before it returns it.
    fn noted<T>(&self, result: Result<T>) -> Result<T> {
        if let Err(error) = &result
            && is_environment(error)
        {
            self.environment.borrow_mut().get_or_insert_with(|| environment(error));
        }
        result
    }
}

impl std::fmt::Debug for Tx<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tx")
    }
}
