//! The file: the tables that commute keeps beside the user's own, and the settings that its promises rest on.

use std::time::Duration;

use commute_core::{Code, Error, Result};
use rusqlite::{Connection, TransactionBehavior};

use crate::error::failed;

/// Grows when a table changes its meaning.
const FORMAT: i64 = 1;

/// A checkpoint costs as much as several commits; at 4,000 pages (16 MB of log) it disappears among them.
const CHECKPOINT_PAGES: i64 = 4000;

/// How long to wait for a person who writes with another tool.
const BUSY: Duration = Duration::from_secs(5);

/// Enough for the statements of a service; a statement that was evicted is only prepared again.
const STATEMENTS: usize = 256;

// `seq` needs no AUTOINCREMENT: numbers are given by the writer and only have to grow while it lives. The payload is kept
// as it is, apart from its attributes, so that what is published after a restart is what was staged, byte for byte.
const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS commute_meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS commute_inbox (
        subscription TEXT NOT NULL,
        event BLOB NOT NULL,
        at INTEGER NOT NULL,
        PRIMARY KEY (subscription, event)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS commute_outbox (
        seq INTEGER PRIMARY KEY,
        topic TEXT NOT NULL,
        attributes TEXT NOT NULL,
        data BLOB NOT NULL,
        not_before INTEGER
    );";

/// Makes the tables, or checks that this program understands those that are there.
pub(crate) fn prepare(connection: &mut Connection, shown: &str) -> Result<()> {
    let unusable = |cause| failed(format!("cannot use the database {shown}"), cause);
    settings(connection).map_err(unusable)?;
    match format(connection).map_err(unusable)? {
        Some(format) if format > FORMAT => {
            let detail = format!("the database {shown} has format {format}; this program knows formats up to {FORMAT}");
            Err(Error::new(Code::UnknownFormat, detail))
        }
        Some(_) => Ok(()),
        None => create(connection).map_err(unusable),
    }
}

fn settings(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)
}

fn format(connection: &Connection) -> rusqlite::Result<Option<i64>> {
    if !connection.table_exists(None, "commute_meta")? {
        return Ok(None);
    }
    let mut format = connection.prepare("SELECT value FROM commute_meta WHERE name = 'format'")?;
    let mut format = format.query_map([], |row| row.get(0))?;
    format.next().transpose()
}

fn create(connection: &mut Connection) -> rusqlite::Result<()> {
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    tx.execute_batch(TABLES)?;
    tx.execute("INSERT OR IGNORE INTO commute_meta VALUES ('format', ?1)", [FORMAT])?;
    tx.commit()
}

/// What "committed" means, set last so that no setup can weaken it: a commit is on the disk when it returns.
pub(crate) fn promise(connection: &Connection, shown: &str) -> Result<()> {
    let set = || {
        connection.flush_prepared_statement_cache();
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0))
    };
    match set().map_err(|cause| failed(format!("cannot make the database {shown} durable"), cause))? {
        mode if mode.eq_ignore_ascii_case("wal") => Ok(()),
        mode => {
            let detail = format!("the database {shown} cannot have a write-ahead log; its journal mode stays {mode}");
            Err(Error::new(Code::DirectoryUnusable, detail))
        }
    }
}

/// What is staged from earlier, as the first and the last number.
pub(crate) fn staged(connection: &Connection) -> rusqlite::Result<Option<(u64, u64)>> {
    connection.query_row("SELECT min(seq), max(seq) FROM commute_outbox", [], |row| {
        let (first, last): (Option<i64>, Option<i64>) = (row.get(0)?, row.get(1)?);
        Ok(first.zip(last).map(|(first, last)| (first.unsigned_abs(), last.unsigned_abs())))
    })
}
