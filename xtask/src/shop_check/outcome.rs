//! An outcome: what the shop ends with, read, written and compared exactly.

use std::collections::BTreeMap;
use std::fmt::{Debug, Write};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// The three sections that must be exact. A report may say more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Units of every product touched.
    pub(crate) stock: BTreeMap<String, i64>,
    /// Status of every order.
    pub(crate) orders: BTreeMap<String, String>,
    /// Amount of every customer charged, as text with three decimals.
    pub(crate) customers: BTreeMap<String, String>,
}

/// How many differences of a section are shown; the first tells most.
const SHOWN: usize = 5;

impl Outcome {
    /// Reads one, or a whole report.
    ///
    /// # Errors
    /// When it cannot be read or lacks a section.
    pub(crate) fn load(file: &Path) -> Result<Outcome> {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is not a report of the shop", file.display()))
    }

    /// Writes it.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn save(&self, file: &Path) -> Result<()> {
        fs::write(file, serde_json::to_string_pretty(self)?).with_context(|| format!("cannot write {}", file.display()))
    }

    /// Compares it with what was expected.
    ///
    /// # Errors
    /// The first differences of every section.
    pub(crate) fn compare(&self, expected: &Outcome) -> Result<()> {
        let mut text = String::new();
        differences("stock", &self.stock, &expected.stock, &mut text);
        differences("orders", &self.orders, &expected.orders, &mut text);
        differences("customers", &self.customers, &expected.customers, &mut text);
        if !text.is_empty() {
            bail!("{}", text.trim_end());
        }
        Ok(())
    }

    /// Takes in what another shop did with other events: what customers were charged adds up.
    ///
    /// # Errors
    /// When an amount is no number with up to three decimals.
    pub(crate) fn add(&mut self, other: Outcome) -> Result<()> {
        self.stock.extend(other.stock);
        self.orders.extend(other.orders);
        for (customer, amount) in other.customers {
            let sum = match self.customers.get(&customer) {
                Some(before) => text(thousandths(before)? + thousandths(&amount)?),
                None => amount,
            };
            self.customers.insert(customer, sum);
        }
        Ok(())
    }

    /// How much it is.
    pub(crate) fn summary(&self) -> String {
        let mut statuses: BTreeMap<&str, usize> = BTreeMap::new();
        for status in self.orders.values() {
            *statuses.entry(status).or_default() += 1;
        }
        let statuses: Vec<_> = statuses.iter().map(|(status, count)| format!("{count} {status}")).collect();
        let (orders, stock, customers) = (self.orders.len(), self.stock.len(), self.customers.len());
        format!("{orders} orders ({}), {stock} products, {customers} customers charged", statuses.join(", "))
    }
}

fn thousandths(amount: &str) -> Result<i64> {
    let (whole, part) = amount.split_once('.').unwrap_or((amount, ""));
    let digits = format!("{whole}{part:0<3}");
    digits.parse().with_context(|| format!("{amount:?} is no amount with three decimals"))
}

fn text(thousandths: i64) -> String {
    format!("{}.{:03}", thousandths / 1000, thousandths % 1000)
}

fn differences<T: PartialEq + Debug>(
    section: &str,
    got: &BTreeMap<String, T>,
    expected: &BTreeMap<String, T>,
    text: &mut String,
) {
    let mut found = Vec::new();
    for (key, value) in expected {
        match got.get(key) {
            None => found.push(format!("{key} is missing, expected {value:?}")),
            Some(other) if other != value => found.push(format!("{key} is {other:?}, expected {value:?}")),
            Some(_) => {}
        }
    }
    let surplus = got.iter().filter(|(key, _)| !expected.contains_key(*key));
    found.extend(surplus.map(|(key, value)| format!("{key} is {value:?}, expected not to be there")));
    if !found.is_empty() {
        let _ = writeln!(text, "{section}: {} differences", found.len());
        for difference in found.iter().take(SHOWN) {
            let _ = writeln!(text, "  {difference}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(stock: &[(&str, i64)], customer: &str) -> Outcome {
        Outcome {
            stock: stock.iter().map(|(product, units)| ((*product).to_owned(), *units)).collect(),
            orders: BTreeMap::from([("1-0".to_owned(), "shipped".to_owned())]),
            customers: BTreeMap::from([("guest".to_owned(), customer.to_owned())]),
        }
    }

    #[test]
    fn every_kind_of_difference_is_found() {
        let expected = outcome(&[("a", 1), ("b", 2)], "1.500");
        assert!(expected.compare(&expected).is_ok());
        let error = outcome(&[("b", 3), ("c", 4)], "1.5").compare(&expected).unwrap_err().to_string();
        for part in ["stock: 3", "a is missing", "b is 3, expected 2", "c is 4", "\"1.5\", expected \"1.500\""] {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert!(!error.contains("orders"), "{error}");
    }

    #[test]
    fn what_two_shops_charged_adds_up() {
        let mut sum = outcome(&[], "1.500");
        sum.add(outcome(&[("a", 1)], "2.755")).unwrap();
        assert_eq!((sum.customers["guest"].as_str(), sum.stock["a"]), ("4.255", 1));
        assert!(sum.add(outcome(&[], "x")).is_err());
    }

    #[test]
    fn a_report_may_say_more_but_not_less() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("report.json");
        fs::write(&file, r#"{"stock":{"a":1},"orders":{},"customers":{},"totals":{}}"#).unwrap();
        assert_eq!(Outcome::load(&file).unwrap().stock["a"], 1);
        fs::write(&file, r#"{"stock":{"a":1},"orders":{}}"#).unwrap();
        assert!(Outcome::load(&file).is_err());
    }
}
