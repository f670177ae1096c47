//! Users: registers a customer with the first order.

use commute::prelude::*;
use commute_sqlite::{Sqlite, Tx};

use super::Setting;
use crate::events::{ORDERS, OrderCancelled, OrderPlaced, USERS, UserCreated};

const TABLES: &str = "CREATE TABLE IF NOT EXISTS users (customer TEXT PRIMARY KEY) WITHOUT ROWID";

/// The service.
///
/// # Errors
/// When its database cannot be opened.
pub fn users(setting: &Setting) -> commute::Result<(App, Sqlite)> {
    let (app, db) = setting.app("users", TABLES)?;
    let app = app
        .on(
            setting.topic(ORDERS),
            handler(db.transaction(|order: OrderPlaced, tx: &Tx<'_>| register(tx, order.customer)))
                .footprint(|order| writes(("customer", &order.customer)).into())
                .publishes(setting.topic(USERS))
                .retry(super::backoff()),
        )
        .on(
            setting.topic(ORDERS),
            handler(db.transaction(|order: OrderCancelled, tx: &Tx<'_>| register(tx, order.customer)))
                .footprint(|order| writes(("customer", &order.customer)).into())
                .publishes(setting.topic(USERS))
                .retry(super::backoff()),
        );
    Ok((app, db))
}

fn register(tx: &Tx<'_>, customer: String) -> Result<Option<UserCreated>, HandlerError> {
    let new = tx.execute("INSERT OR IGNORE INTO users VALUES (?1)", [&customer])? == 1;
    Ok(new.then_some(UserCreated { customer }))
}
