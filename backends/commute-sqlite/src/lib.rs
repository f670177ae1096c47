//! SQLite as a store: a handler's effects, the mark that it ran, and what it publishes, in one transaction.
//!
//! A handler whose effects live in SQLite is a plain function of the event, the transaction and extractors:
//!
//! ```
//! use commute_core::{HandlerError, State};
//! use commute_sqlite::{Sqlite, Tx};
//! # use commute_macros::Event;
//! # use serde::{Deserialize, Serialize};
//! # #[derive(Debug, Serialize, Deserialize, Event)]
//! # #[event(type = "shop.order.placed", key = "order", crate = "commute_core")]
//! # struct OrderPlaced { order: String, product: String, quantity: i64 }
//! # #[derive(Debug, Serialize, Deserialize, Event)]
//! # #[event(type = "shop.stock.reserved", key = "order", crate = "commute_core")]
//! # struct StockReserved { order: String }
//!
//! fn reserve(order: OrderPlaced, tx: &Tx<'_>) -> Result<StockReserved, HandlerError> {
//!     tx.execute("UPDATE stock SET units = units - ?2 WHERE product = ?1", (&order.product, order.quantity))?;
//!     Ok(StockReserved { order: order.order })
//! }
//!
//! # fn main() -> commute_core::Result<()> {
//! # let dir = tempfile::tempdir().unwrap();
//! # let path = dir.path().join("inventory.db");
//! const TABLES: &str = "CREATE TABLE IF NOT EXISTS stock (product TEXT PRIMARY KEY, units INTEGER NOT NULL)";
//! let db = Sqlite::builder(path).setup(|db| db.execute_batch(TABLES)).open()?;
//! let handler = db.transaction(reserve);
//! // App::new("inventory").store(db).on("shop.orders", handler(handler).publishes("shop.stock"))
//! # Ok(())
//! # }
//! ```
//!
//! An async handler first does its asynchronous work and then answers with [`Sqlite::write`].
//!
//! ```text
//! submit ─► writer thread ─► group: begin ─► per event: savepoint, inbox mark, function, staged events
//!                                   commit ─► done ─► settle
//!                                         └─► outbox ─► relay ─► confirm
//! ```
//!
//! | Room | What happens there |
//! |---|---|
//! | `sqlite`, `builder`, `schema` | the handle; how it is opened; what is in the file |
//! | `transaction`, `write`, `tx` | what handlers are written with |
//! | `job`, `writer`, `group`, `guard` | what is asked for; the thread; one transaction shared by many events, which none of them ends |
//! | `inbox`, `outbox`, `reader` | marks; staged events; reading beside the writer |

mod builder;
mod error;
mod group;
mod guard;
mod inbox;
mod job;
mod outbox;
mod reader;
mod schema;
mod sqlite;
mod transaction;
mod tx;
mod write;
mod writer;

pub use builder::Builder;
pub use rusqlite;
pub use rusqlite::{Connection, OptionalExtension, Row, params};
pub use sqlite::Sqlite;
pub use transaction::{Transaction, Transactional};
pub use tx::Tx;
pub use write::Write;
