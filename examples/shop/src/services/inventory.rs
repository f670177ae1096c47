//! Inventory: takes what an order needs off the shelves, or nothing.
//!
//! An order touches its products and nothing else, so orders without a common product are handled side by side.

use std::collections::BTreeMap;

use commute::prelude::*;
use commute_sqlite::{Sqlite, Tx, Write};

use super::Setting;
use crate::events::{Line, ORDERS, OrderCancelled, OrderPlaced, STOCK, StockAnswer, StockReserved, StockShort};

/// What lies on the shelf of a product when it is first touched, and what comes in when it was short.
const DELIVERY: i64 = 1000;

const TABLES: &str =
    "CREATE TABLE IF NOT EXISTS stock (product TEXT PRIMARY KEY, units INTEGER NOT NULL) WITHOUT ROWID";

/// The service.
///
/// # Errors
/// When its database cannot be opened.
pub fn inventory(setting: &Setting) -> commute::Result<(App, Sqlite)> {
    let (app, db) = setting.app("inventory", TABLES)?;
    let app = app
        .state(db.clone())
        .on(
            setting.topic(ORDERS),
            handler(reserve)
                .footprint(|order: &OrderPlaced| products(&order.lines))
                .publishes(setting.topic(STOCK))
                .retry(super::backoff()),
        )
        .on(
            setting.topic(ORDERS),
            handler(put_back).footprint(|order: &OrderCancelled| products(&order.lines)).retry(super::backoff()),
        );
    Ok((app, db))
}

fn products(lines: &[Line]) -> Footprint {
    lines.iter().map(|line| writes(("product", &line.product))).collect()
}

/// Takes every product of the order, or none.
async fn reserve(order: OrderPlaced, State(db): State<Sqlite>) -> Result<Write<StockAnswer>, HandlerError> {
    if let Some(line) = order.lines.iter().find(|line| line.price.is_negative()) {
        return Err(HandlerError::reject(format!("product {} has a negative price", line.product)));
    }
    let mut wanted = BTreeMap::<String, i64>::new();
    for line in order.lines.iter().filter(|line| line.quantity > 0) {
        *wanted.entry(line.product.clone()).or_default() += line.quantity;
    }
    if wanted.is_empty() {
        return Err(HandlerError::reject("nothing with a positive quantity"));
    }
    Ok(db.write(move |tx: &Tx<'_>| {
        let mut short = Vec::new();
        for (product, quantity) in &wanted {
            if units(tx, product)? < *quantity {
                short.push(product.clone());
            }
        }
        if !short.is_empty() {
            for product in &short {
                add(tx, product, DELIVERY)?;
            }
            return Ok(StockAnswer::Short(StockShort { order: order.order, products: short }));
        }
        for (product, quantity) in &wanted {
            add(tx, product, -quantity)?;
        }
        let lines = order.lines.into_iter().filter(|line| line.quantity > 0).collect();
        Ok(StockAnswer::Reserved(StockReserved { order: order.order, customer: order.customer, lines }))
    }))
}

/// Puts back what a customer sent back.
async fn put_back(order: OrderCancelled, State(db): State<Sqlite>) -> Write<()> {
    db.write(move |tx: &Tx<'_>| {
        for line in &order.lines {
            units(tx, &line.product)?;
            add(tx, &line.product, line.quantity.abs())?;
        }
        Ok(())
    })
}

/// How many there are; a product that nobody touched before is put on the shelf.
fn units(tx: &Tx<'_>, product: &str) -> Result<i64, HandlerError> {
    tx.execute("INSERT OR IGNORE INTO stock VALUES (?1, ?2)", (product, DELIVERY))?;
    Ok(tx.query_row("SELECT units FROM stock WHERE product = ?1", [product], |row| row.get(0))?)
}

fn add(tx: &Tx<'_>, product: &str, units: i64) -> Result<(), HandlerError> {
    tx.execute("UPDATE stock SET units = units + ?2 WHERE product = ?1", (product, units))?;
    Ok(())
}
