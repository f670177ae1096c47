//! Shipping: ships what is paid.

use commute::prelude::*;
use commute_sqlite::{Sqlite, Tx};

use super::Setting;
use crate::events::{OrderShipped, PAYMENTS, PaymentTaken, SHIPPING};

const TABLES: &str = "CREATE TABLE IF NOT EXISTS shipments (id TEXT PRIMARY KEY) WITHOUT ROWID";

/// The service. It declares no footprint: the key of a payment is its order, and one lane per order is what shipping
/// needs.
///
/// # Errors
/// When its database cannot be opened.
pub fn shipping(setting: &Setting) -> commute::Result<(App, Sqlite)> {
    let (app, db) = setting.app("shipping", TABLES)?;
    let app = app.on(
        setting.topic(PAYMENTS),
        handler(db.transaction(ship)).publishes(setting.topic(SHIPPING)).retry(super::backoff()),
    );
    Ok((app, db))
}

fn ship(payment: PaymentTaken, tx: &Tx<'_>) -> Result<OrderShipped, HandlerError> {
    tx.execute("INSERT INTO shipments VALUES (?1)", [&payment.order])?;
    Ok(OrderShipped { order: payment.order })
}
