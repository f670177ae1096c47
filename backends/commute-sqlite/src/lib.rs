//! SQLite as a store: the inbox mark of an event, the handler's effects and the events that it answers are committed in
//! one transaction, or not at all. Independent events share a commit.
//!
//! ```
//! use commute_core::{Event, HandlerError};
//! use commute_sqlite::{Sqlite, Tx};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Deposited { account: String, amount: i64 }
//!
//! impl Event for Deposited {
//!     const TYPE: &'static str = "bank.deposited";
//! }
//!
//! fn deposit(event: Deposited, tx: &Tx<'_>) -> Result<(), HandlerError> {
//!     tx.execute("UPDATE accounts SET balance = balance + ?2 WHERE id = ?1", (event.account, event.amount))?;
//!     Ok(())
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! let db = Sqlite::builder(directory.path().join("bank.db"))
//!     .setup(|db| db.execute_batch("CREATE TABLE IF NOT EXISTS accounts (id TEXT PRIMARY KEY, balance INTEGER)"))
//!     .open()?;
//! // App::new("bank").store(db.clone()).on("bank.deposits", handler(db.transaction(deposit)))
//! let _handler = db.transaction(deposit);
//! # Ok(())
//! # }
//! ```
//!
//! A handler that must wait for something first is an async function that ends with `Ok(db.write(move |tx| …))`: nothing
//! is written until the handler has returned it.
//!
//! The database stays an ordinary one: commute adds `commute_inbox`, `commute_outbox` and `commute_meta`.

mod error;
mod handler;
mod outbox;
mod sqlite;
mod tx;
mod writer;

pub use handler::{Transaction, TransactionHandler, Write};
pub use rusqlite::{self, OptionalExtension};
pub use sqlite::{Builder, Sqlite};
pub use tx::Tx;
