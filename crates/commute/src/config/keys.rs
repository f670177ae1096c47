//! The keys as data for others: documentation, completion, a test that the page in the guide is right.

use serde::Serialize;

use super::environment::variable;
use super::schema::{APP, HANDLER, Key, Kind, MAPPING};

/// A key that a configuration can have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConfigKey {
    /// The key from the root; `TOPIC` and `TYPE` stand for names.
    pub key: String,
    /// What it takes.
    pub takes: String,
    /// The variable that says it, if one can.
    pub variable: Option<String>,
    /// What it means, and what holds without it.
    pub doc: &'static str,
}

pub(super) fn all() -> Vec<ConfigKey> {
    let mut keys = Vec::new();
    add(APP, &[], true, &mut keys);
    keys
}

fn add<T>(table: &'static [Key<T>], path: &[&str], fits: bool, keys: &mut Vec<ConfigKey>) {
    for key in table {
        let path = [path, &[key.name]].concat();
        if !matches!(key.kind, Kind::Table(_) | Kind::MappingByTopic(_) | Kind::Handlers) {
            keys.push(ConfigKey {
                key: path.join("."),
                takes: key.kind.takes(),
                variable: (fits && key.kind.fits_a_variable()).then(|| variable(&path)),
                doc: key.doc,
            });
        }
        match &key.kind {
            Kind::Table(inner) => add(inner, &path, fits, keys),
            Kind::MappingByTopic(_) => add(MAPPING, &[&path[..], &["\"TOPIC\""]].concat(), false, keys),
            Kind::Handlers => add(HANDLER, &[&path[..], &["\"TOPIC\"", "\"TYPE\""]].concat(), false, keys),
            _ => {}
        }
    }
}
