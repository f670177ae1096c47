//! Orders: the order book of every customer, and the status of every order.
//!
//! It listens to five topics that are independent of each other. Whatever arrives first, the end is the same, because
//! an order has one final status and a later one never goes back to `placed`.

use commute::prelude::*;
use commute_sqlite::{Sqlite, Tx};

use super::Setting;
use crate::events::{
    ORDERS, OrderCancelled, OrderPlaced, OrderShipped, SHIPPING, STOCK, StockShort, USERS, UserCreated,
};

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS books (customer TEXT PRIMARY KEY) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS orders
        (id TEXT PRIMARY KEY, customer TEXT, status TEXT NOT NULL, reason TEXT) WITHOUT ROWID";

/// The service.
///
/// # Errors
/// When its database cannot be opened.
pub fn orders(setting: &Setting) -> commute::Result<(App, Sqlite)> {
    let (app, db) = setting.app("orders", TABLES)?;
    let app = app
        .on(setting.topic(USERS), handler(db.transaction(open_book)).retry(super::backoff()))
        .on(
            setting.topic(ORDERS),
            handler(db.transaction(placed)).footprint(|order| order_lane(&order.order)).retry(super::backoff()),
        )
        .on(
            setting.topic(ORDERS),
            handler(db.transaction(cancelled)).footprint(|order| order_lane(&order.order)).retry(super::backoff()),
        )
        .on(
            setting.topic(STOCK),
            handler(db.transaction(short)).footprint(|order| order_lane(&order.order)).retry(super::backoff()),
        )
        .ignore_unknown_types(setting.topic(STOCK))
        .on(
            setting.topic(SHIPPING),
            handler(db.transaction(shipped)).footprint(|order| order_lane(&order.order)).retry(super::backoff()),
        )
        .on(
            format!("{}.dead", setting.topic(ORDERS)),
            handler(db.transaction(rejected)).footprint(rejected_lane).retry(super::backoff()),
        );
    Ok((app, db))
}

fn order_lane(order: &str) -> Footprint {
    writes(("order", order)).into()
}

fn rejected_lane(letter: &DeadLetter) -> Footprint {
    match letter.decode::<OrderPlaced>() {
        Ok(order) => order_lane(&order.order),
        Err(_) => Footprint::independent(),
    }
}

fn open_book(user: UserCreated, tx: &Tx<'_>) -> Result<(), HandlerError> {
    tx.execute("INSERT OR IGNORE INTO books VALUES (?1)", [&user.customer])?;
    Ok(())
}

fn placed(order: OrderPlaced, tx: &Tx<'_>) -> Result<(), HandlerError> {
    tx.execute(
        "INSERT INTO orders (id, customer, status) VALUES (?1, ?2, 'placed')
         ON CONFLICT (id) DO UPDATE SET customer = excluded.customer",
        (&order.order, &order.customer),
    )?;
    Ok(())
}

fn cancelled(order: OrderCancelled, tx: &Tx<'_>) -> Result<(), HandlerError> {
    tx.execute(
        "INSERT INTO orders (id, customer, status) VALUES (?1, ?2, 'cancelled')
         ON CONFLICT (id) DO UPDATE SET customer = excluded.customer, status = 'cancelled'",
        (&order.order, &order.customer),
    )?;
    Ok(())
}

fn short(order: StockShort, tx: &Tx<'_>) -> Result<(), HandlerError> {
    finish(tx, &order.order, "short", None)
}

fn shipped(order: OrderShipped, tx: &Tx<'_>) -> Result<(), HandlerError> {
    finish(tx, &order.order, "shipped", None)
}

/// What the inventory rejected comes back as a dead letter. Dead letters of other services on the topic are theirs.
fn rejected(letter: DeadLetter, tx: &Tx<'_>) -> Result<(), HandlerError> {
    if letter.subscription != "inventory" {
        return Ok(());
    }
    let order: OrderPlaced = letter.decode().reject()?;
    finish(tx, &order.order, "rejected", Some(&letter.reason))
}

fn finish(tx: &Tx<'_>, order: &str, status: &str, reason: Option<&str>) -> Result<(), HandlerError> {
    tx.execute(
        "INSERT INTO orders (id, status, reason) VALUES (?1, ?2, ?3)
         ON CONFLICT (id) DO UPDATE SET status = excluded.status, reason = excluded.reason",
        (order, status, reason),
    )?;
    Ok(())
}
