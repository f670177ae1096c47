//! The document: TOML text as a tree of values that know where they stand.

use std::sync::Arc;

use commute_core::Result;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{Faults, Place};

/// A value and where it stands.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

/// What a file or a variable says.
#[derive(Debug)]
pub(super) enum Value {
    Text(String),
    Whole(i128),
    Number(f64),
    Flag(bool),
    List(Vec<Node>),
    Table(Vec<Entry>),
    /// Dates, which no key takes.
    Other,
}

/// A key of a table with its value.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) place: Place,
    pub(super) node: Node,
}

/// Reads a document, or says everything that is wrong with its syntax.
pub(super) fn parse(name: &str, text: &str) -> Result<Vec<Entry>> {
    let source = Source { name: name.into(), text };
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut faults = Faults::default();
    for error in &errors {
        // The whole error would show the line, and with it whatever secret is there; the message holds no text of the file.
        let end = || text.len()..text.len();
        faults.say(&source.place(error.span().unwrap_or_else(end).start), error.message());
    }
    faults.or(source.entries(table.get_ref()))
}

struct Source<'a> {
    name: Arc<str>,
    text: &'a str,
}

impl Source<'_> {
    fn place(&self, offset: usize) -> Place {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line = before.rsplit('\n').next().unwrap_or_default();
        Place::File {
            name: self.name.clone(),
            line: before.matches('\n').count() + 1,
            column: line.chars().count() + 1,
        }
    }

    fn entries(&self, table: &DeTable<'_>) -> Vec<Entry> {
        table
            .iter()
            .map(|(key, value)| Entry {
                key: key.get_ref().as_ref().to_owned(),
                place: self.place(key.span().start),
                node: self.node(value),
            })
            .collect()
    }

    fn node(&self, value: &Spanned<DeValue<'_>>) -> Node {
        let place = self.place(value.span().start);
        let value = match value.get_ref() {
            DeValue::String(text) => Value::Text(text.as_ref().to_owned()),
            // What does not fit is out of every range.
            DeValue::Integer(digits) => {
                Value::Whole(i128::from_str_radix(digits.as_str(), digits.radix()).unwrap_or(i128::MAX))
            }
            DeValue::Float(digits) => Value::Number(digits.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(yes) => Value::Flag(*yes),
            DeValue::Array(list) => Value::List(list.iter().map(|value| self.node(value)).collect()),
            DeValue::Table(table) => Value::Table(self.entries(table)),
            DeValue::Datetime(_) => Value::Other,
        };
        Node { place, value }
    }
}
