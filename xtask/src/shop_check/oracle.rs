//! The oracle: the rules of the shop, applied to one order after the other. Shares no code with the services.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use rust_decimal::Decimal;
use serde_json::{Value, json};

#[derive(Default)]
struct Books {
    stock: BTreeMap<String, i64>,
    orders: BTreeMap<String, &'static str>,
    charged: BTreeMap<String, Decimal>,
}

struct Row {
    product: String,
    quantity: i64,
    price: Decimal,
}

/// What the shop must end with on a file of orders.
pub(crate) fn calculate(input: &Path) -> Result<Value> {
    let mut reader = csv::Reader::from_path(input).with_context(|| format!("cannot read {}", input.display()))?;
    let header = reader.headers()?.clone();
    let column =
        |name: &str| header.iter().position(|found| found == name).with_context(|| format!("no column {name}"));
    let (invoice, product, quantity) = (column("InvoiceNo")?, column("StockCode")?, column("Quantity")?);
    let (price, customer) = (column("UnitPrice")?, column("CustomerID")?);
    let mut books = Books::default();
    let mut n = 0;
    let mut open: Option<(String, String, Vec<Row>)> = None;
    for record in reader.records() {
        let record = record?;
        let row = Row {
            product: record[product].trim().to_owned(),
            quantity: record[quantity].trim().parse()?,
            price: record[price].trim().parse()?,
        };
        match &mut open {
            Some((number, _, rows)) if *number == record[invoice] => rows.push(row),
            _ => {
                if let Some((number, buyer, rows)) = open.take() {
                    books.order(&number, n, &buyer, &rows);
                    n += 1;
                }
                let buyer = match record[customer].trim() {
                    "" => "guest",
                    text => text.split_once('.').map_or(text, |(whole, _)| whole),
                };
                open = Some((record[invoice].to_owned(), buyer.to_owned(), vec![row]));
            }
        }
    }
    if let Some((number, buyer, rows)) = open {
        books.order(&number, n, &buyer, &rows);
    }
    let customers: BTreeMap<_, _> =
        books.charged.iter().map(|(customer, amount)| (customer, format!("{amount:.3}"))).collect();
    Ok(json!({ "stock": books.stock, "orders": books.orders, "customers": customers }))
}

impl Books {
    fn shelf(&mut self, product: &str) -> &mut i64 {
        self.stock.entry(product.to_owned()).or_insert(1000)
    }

    fn order(&mut self, invoice: &str, n: usize, customer: &str, rows: &[Row]) {
        let status = self.handle(invoice, customer, rows);
        self.orders.insert(format!("{invoice}-{n}"), status);
    }

    fn handle(&mut self, invoice: &str, customer: &str, rows: &[Row]) -> &'static str {
        if invoice.starts_with('C') {
            for row in rows {
                *self.shelf(&row.product) += row.quantity.abs();
            }
            return "cancelled";
        }
        let mut wanted = BTreeMap::<&str, i64>::new();
        for row in rows.iter().filter(|row| row.quantity > 0) {
            *wanted.entry(&row.product).or_default() += row.quantity;
        }
        if wanted.is_empty() || rows.iter().any(|row| row.price < Decimal::ZERO) {
            return "rejected";
        }
        let short: Vec<&str> = wanted
            .iter()
            .filter(|(product, units)| *self.shelf(product) < **units)
            .map(|(product, _)| *product)
            .collect();
        if !short.is_empty() {
            for product in short {
                *self.shelf(product) += 1000;
            }
            return "short";
        }
        for (product, units) in wanted {
            *self.shelf(product) -= units;
        }
        let amount: Decimal =
            rows.iter().filter(|row| row.quantity > 0).map(|row| row.price * Decimal::from(row.quantity)).sum();
        *self.charged.entry(customer.to_owned()).or_default() += amount;
        "shipped"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n";

    fn check(rows: &str, expected: Value) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("{HEADER}{rows}")).unwrap();
        assert_eq!(calculate(file.path()).unwrap(), expected);
    }

    #[test]
    fn an_order_that_can_be_filled_is_shipped_and_charged() {
        check(
            "1,a,x,3,t,0.10,17850.0,UK\n1,b,x,-1,t,5,17850.0,UK\n",
            json!({"stock": {"a": 997}, "orders": {"1-0": "shipped"}, "customers": {"17850": "0.300"}}),
        );
    }

    #[test]
    fn an_order_that_is_short_takes_nothing_and_more_comes_in() {
        check(
            "1,a,x,1001,t,1,,UK\n1,b,x,1,t,1,,UK\n2,a,x,1001,t,0,,UK\n",
            json!({
                "stock": {"a": 999, "b": 1000}, "orders": {"1-0": "short", "2-1": "shipped"},
                "customers": {"guest": "0.000"}
            }),
        );
    }

    #[test]
    fn rejected_orders_touch_nothing_and_cancellations_put_back() {
        check(
            "1,a,x,1,t,-1,,UK\n2,a,x,-1,t,1,,UK\nC3,a,x,-5,t,1,,UK\n",
            json!({
                "stock": {"a": 1005}, "orders": {"1-0": "rejected", "2-1": "rejected", "C3-2": "cancelled"},
                "customers": {}
            }),
        );
    }
}
