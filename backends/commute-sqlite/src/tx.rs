//! What a handler sees of the transaction that it shares with other events.

use rusqlite::{Connection, Params, Result, Row};

/// A transaction, shared: statements can be run in it, but it cannot be committed, rolled back or nested from here.
///
/// Statements are kept prepared. Do not run `COMMIT`, `ROLLBACK` or a trigger with `RAISE(ROLLBACK)`: that would end the
/// transaction of other events, too; it is noticed, and the event that did it is rejected.
pub struct Tx<'a> {
    connection: &'a Connection,
}

impl<'a> Tx<'a> {
    pub(crate) fn new(connection: &'a Connection) -> Self {
        Tx { connection }
    }

    /// Runs a statement; answers how many rows it changed.
    ///
    /// # Errors
    /// SQLite's.
    pub fn execute<P: Params>(&self, sql: &str, params: P) -> Result<usize> {
        self.connection.prepare_cached(sql)?.execute(params)
    }

    /// Reads the first row of a query; use `.optional()` when there may be none.
    ///
    /// # Errors
    /// SQLite's, and `QueryReturnedNoRows`.
    pub fn query_row<T, P: Params>(&self, sql: &str, params: P, read: impl FnOnce(&Row<'_>) -> Result<T>) -> Result<T> {
        self.connection.prepare_cached(sql)?.query_row(params, read)
    }

    /// Reads all rows of a query.
    ///
    /// # Errors
    /// SQLite's.
    pub fn query<T, P: Params>(&self, sql: &str, params: P, read: impl FnMut(&Row<'_>) -> Result<T>) -> Result<Vec<T>> {
        self.connection.prepare_cached(sql)?.query_map(params, read)?.collect()
    }

    /// The id of the last row inserted.
    pub fn last_insert_rowid(&self) -> i64 {
        self.connection.last_insert_rowid()
    }
}

impl std::fmt::Debug for Tx<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tx")
    }
}
