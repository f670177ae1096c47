//! The report: what the services' databases say at the end.

use std::collections::BTreeMap;
use std::path::Path;

use commute::Stats;
use commute_sqlite::rusqlite::{Connection, OpenFlags, Result, Row};
use serde::Serialize;

use crate::feed::Fed;
use crate::money::Money;
use crate::services::database;

/// What the shop ends with.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Units of every product touched.
    pub stock: BTreeMap<String, i64>,
    /// Status of every order.
    pub orders: BTreeMap<String, String>,
    /// Amount charged, of every customer charged at least once.
    pub customers: BTreeMap<String, String>,
    /// Sums.
    pub totals: Totals,
    /// Rejected orders by reason, numbers and products left out.
    #[serde(skip)]
    pub rejections: BTreeMap<String, u64>,
}

/// Sums over the whole run.
#[derive(Debug, Serialize)]
pub struct Totals {
    /// Orders published.
    pub orders: u64,
    /// Orders by status.
    pub by_status: BTreeMap<String, u64>,
    /// Customers registered.
    pub users: i64,
    /// Order books opened.
    pub books: i64,
    /// Orders shipped.
    pub shipments: i64,
    /// Everything charged.
    pub charged: String,
    /// Events handled in this run, over all services.
    pub handled: u64,
    /// Deliveries absorbed in this run because the event had taken effect before.
    pub duplicates: u64,
}

impl Report {
    /// Reads the databases of the services.
    ///
    /// # Errors
    /// SQLite's.
    pub fn read(data: &Path, fed: &Fed, stats: &[Stats]) -> Result<Self> {
        let stock = Table::open(data, "inventory")?.pairs("SELECT product, units FROM stock", |row| row.get(1))?;
        let orders_table = Table::open(data, "orders")?;
        let orders = orders_table.pairs("SELECT id, status FROM orders", |row| row.get::<_, String>(1))?;
        let reasons = orders_table
            .pairs("SELECT id, reason FROM orders WHERE status = 'rejected'", |row| row.get::<_, Option<String>>(1))?;
        let charges = Table::open(data, "payment")?
            .pairs("SELECT customer, amount FROM charges", |row| row.get::<_, String>(1))?;
        let amounts: BTreeMap<_, Money> =
            charges.into_iter().map(|(customer, text)| (customer, text.parse().unwrap_or(Money::ZERO))).collect();
        let mut by_status = BTreeMap::new();
        for status in orders.values() {
            *by_status.entry(status.clone()).or_default() += 1;
        }
        let mut rejections = BTreeMap::new();
        for reason in reasons.into_values() {
            *rejections.entry(kind_of(&reason.unwrap_or_default())).or_default() += 1;
        }
        let subscriptions = || stats.iter().flat_map(|app| &app.subscriptions);
        let totals = Totals {
            orders: fed.orders,
            by_status,
            users: Table::open(data, "users")?.count("users")?,
            books: orders_table.count("books")?,
            shipments: Table::open(data, "shipping")?.count("shipments")?,
            charged: amounts.values().copied().sum::<Money>().to_string(),
            handled: subscriptions().map(|sub| sub.handled).sum(),
            duplicates: subscriptions().map(|sub| sub.duplicates).sum(),
        };
        let customers = amounts.into_iter().map(|(customer, amount)| (customer, amount.to_string())).collect();
        Ok(Report { stock, orders, customers, totals, rejections })
    }

    /// Writes it as JSON.
    ///
    /// # Errors
    /// The disk's.
    pub fn save(&self, file: &Path) -> std::io::Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        std::fs::write(file, text)
    }
}

/// Reasons that differ in a product only are one kind.
fn kind_of(reason: &str) -> String {
    match reason.strip_prefix("product ").and_then(|rest| rest.split_once(' ')) {
        Some((_, rest)) => format!("a product {rest}"),
        None => reason.to_owned(),
    }
}

/// The database of a service; nothing when the service runs elsewhere.
struct Table(Option<Connection>);

impl Table {
    fn open(data: &Path, service: &str) -> Result<Self> {
        let file = database(data, service);
        let open = || Connection::open_with_flags(&file, OpenFlags::SQLITE_OPEN_READ_ONLY);
        Ok(Table(file.exists().then(open).transpose()?))
    }

    fn pairs<T>(&self, sql: &str, value: impl Fn(&Row<'_>) -> Result<T>) -> Result<BTreeMap<String, T>> {
        let Some(connection) = &self.0 else { return Ok(BTreeMap::new()) };
        connection.prepare(sql)?.query_map([], |row| Ok((row.get(0)?, value(row)?)))?.collect()
    }

    fn count(&self, table: &str) -> Result<i64> {
        let Some(connection) = &self.0 else { return Ok(0) };
        connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))
    }
}
