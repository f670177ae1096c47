//! The oracle: the shop's rules calculated plainly, one invoice after the other.
//!
//! It shares no code with the services, not even the reading of the file: what both had wrong, none would find.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, bail};
use csv::StringRecord;

use super::outcome::Outcome;

/// Units of a product when it is first touched, and what arrives when it was short.
const DELIVERY: i64 = 1000;

/// Amounts are whole billionths: exact for every price with up to nine decimals.
const UNIT: i128 = 1_000_000_000;

/// What the shop must end with on a file.
///
/// # Errors
/// When the file cannot be read or a row is malformed.
pub(crate) fn calculate(file: &Path) -> Result<Outcome> {
    let reader = csv::Reader::from_path(file).with_context(|| format!("cannot read {}", file.display()))?;
    calculate_from(reader).with_context(|| format!("cannot calculate {}", file.display()))
}

fn calculate_from(mut reader: csv::Reader<impl std::io::Read>) -> Result<Outcome> {
    let header = reader.headers()?.clone();
    let place =
        |name: &str| header.iter().position(|column| column == name).with_context(|| format!("no column {name}"));
    let places =
        [place("InvoiceNo")?, place("StockCode")?, place("Quantity")?, place("UnitPrice")?, place("CustomerID")?];
    let mut books = Books::default();
    let mut invoice: Option<Invoice> = None;
    for record in reader.records() {
        let record = record?;
        let row = Row::new(&record, places)
            .with_context(|| format!("line {}", record.position().map_or(0, csv::Position::line)))?;
        match &mut invoice {
            Some(open) if open.number == row.invoice => open.rows.push(row),
            _ => {
                let next = Invoice { number: row.invoice.clone(), customer: row.customer.clone(), rows: vec![row] };
                if let Some(done) = invoice.replace(next) {
                    books.enter(&done);
                }
            }
        }
    }
    if let Some(done) = invoice {
        books.enter(&done);
    }
    Ok(books.close())
}

struct Row {
    invoice: String,
    customer: String,
    product: String,
    quantity: i64,
    price: i128,
}

impl Row {
    fn new(record: &StringRecord, places: [usize; 5]) -> Result<Row> {
        let [invoice, product, quantity, price, customer] = places.map(|place| record.get(place).unwrap_or_default());
        let number = customer.split('.').next().unwrap_or_default();
        Ok(Row {
            invoice: invoice.to_owned(),
            customer: if number.is_empty() { "guest".to_owned() } else { number.to_owned() },
            product: product.to_owned(),
            quantity: quantity.trim().parse().with_context(|| format!("quantity {quantity:?}"))?,
            price: billionths(price.trim())?,
        })
    }
}

struct Invoice {
    number: String,
    customer: String,
    rows: Vec<Row>,
}

#[derive(Default)]
struct Books {
    count: usize,
    stock: BTreeMap<String, i64>,
    orders: BTreeMap<String, String>,
    charged: BTreeMap<String, i128>,
}

impl Books {
    fn enter(&mut self, invoice: &Invoice) {
        let status = if invoice.number.starts_with('C') { self.cancel(invoice) } else { self.place(invoice) };
        self.orders.insert(format!("{}-{}", invoice.number, self.count), status.to_owned());
        self.count += 1;
    }

    fn units(&mut self, product: &str) -> &mut i64 {
        self.stock.entry(product.to_owned()).or_insert(DELIVERY)
    }

    fn cancel(&mut self, invoice: &Invoice) -> &'static str {
        for row in &invoice.rows {
            *self.units(&row.product) += row.quantity.abs();
        }
        "cancelled"
    }

    fn place(&mut self, invoice: &Invoice) -> &'static str {
        if invoice.rows.iter().any(|row| row.price < 0) {
            return "rejected";
        }
        let mut wanted: BTreeMap<&str, i64> = BTreeMap::new();
        let mut amount = 0;
        for row in invoice.rows.iter().filter(|row| row.quantity > 0) {
            *wanted.entry(&row.product).or_default() += row.quantity;
            amount += i128::from(row.quantity) * row.price;
        }
        if wanted.is_empty() {
            return "rejected";
        }
        let short: BTreeSet<&str> = wanted
            .iter()
            .filter(|(product, units)| *self.units(product) < **units)
            .map(|(product, _)| *product)
            .collect();
        if !short.is_empty() {
            for product in short {
                *self.units(product) += DELIVERY;
            }
            return "short";
        }
        for (product, units) in wanted {
            *self.units(product) -= units;
        }
        *self.charged.entry(invoice.customer.clone()).or_default() += amount;
        "shipped"
    }

    fn close(self) -> Outcome {
        let customers = self.charged.into_iter().map(|(customer, amount)| (customer, three_decimals(amount))).collect();
        Outcome { stock: self.stock, orders: self.orders, customers }
    }
}

fn billionths(text: &str) -> Result<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || fraction.len() > 9 || !all_digits(whole) || !all_digits(fraction) {
        bail!("price {text:?} is no decimal number with up to nine decimals");
    }
    let amount = whole.parse::<i128>()? * UNIT + format!("{fraction:0<9}").parse::<i128>()?;
    Ok(if negative { -amount } else { amount })
}

/// Rounded half to even. Amounts charged are never negative.
fn three_decimals(amount: i128) -> String {
    let unit = UNIT / 1000;
    let (mut thousandths, rest) = (amount / unit, amount % unit);
    if rest * 2 > unit || (rest * 2 == unit && thousandths % 2 == 1) {
        thousandths += 1;
    }
    format!("{}.{:03}", thousandths / 1000, thousandths % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows are `invoice product quantity price customer`, with spaces between; `-` is no customer.
    fn check(rows: &str, stock: &str, orders: &str, customers: &str) {
        let mut text = "Country,CustomerID,UnitPrice,InvoiceDate,Quantity,Description,StockCode,InvoiceNo\n".to_owned();
        for row in rows.split(';') {
            let fields: Vec<_> = row.split_whitespace().collect();
            let customer = fields[4].trim_matches('-');
            text.push_str(&format!(
                "UK,{customer},{},t,{},\"a, b\",{},{}\n",
                fields[3], fields[2], fields[1], fields[0]
            ));
        }
        let outcome = calculate_from(csv::Reader::from_reader(text.as_bytes())).unwrap();
        fn words<T: std::fmt::Display>(map: &BTreeMap<String, T>) -> String {
            map.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
        }
        let got = (words(&outcome.stock), words(&outcome.orders), words(&outcome.customers));
        assert_eq!(got, (stock.to_owned(), orders.to_owned(), customers.to_owned()), "{rows}");
    }

    #[test]
    fn an_order_takes_its_units_and_is_charged() {
        check("1 a 6 2.55 7.0; 1 b 1 0.001 8.0", "a=994 b=999", "1-0=shipped", "7=15.301");
        check("1 a 1 0 -", "a=999", "1-0=shipped", "guest=0.000");
    }

    #[test]
    fn rows_of_one_product_are_summed_and_negative_ones_left_out() {
        check("1 a 600 1 7; 1 a 600 1 7; 1 b -4 1 7", "a=2000", "1-0=short", "");
        check("1 a 2 1 7; 1 a -1 1 7; 1 b 0 1 7", "a=998", "1-0=shipped", "7=2.000");
    }

    #[test]
    fn a_short_order_takes_nothing_and_only_what_was_short_arrives() {
        check("1 a 1001 1 7; 1 b 5 1 7; 2 a 1001 1 7", "a=999 b=1000", "1-0=short 2-1=shipped", "7=1001.000");
    }

    #[test]
    fn a_rejected_order_touches_nothing() {
        check("1 a 1 -0.01 7; 1 b 1 1 7", "", "1-0=rejected", "");
        check("1 a -1 1 7; 1 b 0 1 7", "", "1-0=rejected", "");
    }

    #[test]
    fn a_cancellation_puts_every_row_back_whatever_its_price_and_sign() {
        check("C1 a -3 1 7; C1 a 2 -1 7; C1 b 0 1 7", "a=1005 b=1000", "C1-0=cancelled", "");
    }

    #[test]
    fn the_same_invoice_number_further_down_is_another_order() {
        check("1 a 1 1 7; 2 a 1 1 7; 1 a 1 1 8", "a=997", "1-0=shipped 1-2=shipped 2-1=shipped", "7=2.000 8=1.000");
    }

    #[test]
    fn amounts_are_exact_and_what_is_no_number_is_refused() {
        assert_eq!(three_decimals(billionths("0.0025").unwrap()), "0.002");
        assert_eq!(three_decimals(billionths("0.0035").unwrap()), "0.004");
        assert_eq!(billionths("-11062.06").unwrap(), -11_062_060_000_000);
        for bad in ["", "1,5", "1e3", "--1", "1.2.3", ".5", "0.1234567891"] {
            assert!(billionths(bad).is_err(), "{bad}");
        }
    }
}
