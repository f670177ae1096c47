//! Payment: charges the customer for what was reserved.
//!
//! Charges add up, and adding commutes: two charges of one customer are independent of each other.

use commute::prelude::*;
use commute_sqlite::{OptionalExtension, Sqlite, Tx};

use super::Setting;
use crate::events::{PAYMENTS, PaymentTaken, STOCK, StockReserved};
use crate::money::Money;

const TABLES: &str =
    "CREATE TABLE IF NOT EXISTS charges (customer TEXT PRIMARY KEY, amount TEXT NOT NULL) WITHOUT ROWID";

/// The service.
///
/// # Errors
/// When its database cannot be opened.
pub fn payment(setting: &Setting) -> commute::Result<(App, Sqlite)> {
    let (app, db) = setting.app("payment", TABLES)?;
    let app = app
        .on(
            setting.topic(STOCK),
            handler(db.transaction(charge))
                .footprint(|order| commutes("charge", ("customer", &order.customer)).into())
                .publishes(setting.topic(PAYMENTS))
                .retry(super::backoff()),
        )
        .ignore_unknown_types(setting.topic(STOCK));
    Ok((app, db))
}

fn charge(order: StockReserved, tx: &Tx<'_>) -> Result<PaymentTaken, HandlerError> {
    let amount: Money = order.lines.iter().map(|line| line.price * line.quantity).sum();
    let before: Option<String> = tx
        .query_row("SELECT amount FROM charges WHERE customer = ?1", [&order.customer], |row| row.get(0))
        .optional()?;
    let before: Money = before.map_or(Ok(Money::ZERO), |text| text.parse()).reject()?;
    tx.execute("INSERT OR REPLACE INTO charges VALUES (?1, ?2)", (&order.customer, (before + amount).exact()))?;
    Ok(PaymentTaken { order: order.order, customer: order.customer, amount })
}
