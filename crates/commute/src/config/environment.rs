//! The environment: variables as values of the same schema.

use std::ffi::OsString;

use super::document::{Entry, Node, Value};
use super::fault::{Faults, Place, nearest};
use super::schema::{APP, Key, Kind};

/// What the names of all variables begin with.
const PREFIX: &str = "COMMUTE_";

/// Variables that are not settings: the project's own tests read them.
const RESERVED: &[&str] = &["COMMUTE_WRITE", "COMMUTE_SEED", "COMMUTE_NO_SUCH_NAME"];
const RESERVED_PREFIX: &str = "COMMUTE_TEST_";

/// The variable of a key.
pub(super) fn variable(path: &[&str]) -> String {
    format!("{PREFIX}{}", path.join("__").to_ascii_uppercase())
}

/// Makes a table of the variables that begin with `COMMUTE_`; says what is unknown.
pub(super) fn parse(variables: impl Iterator<Item = (OsString, OsString)>, faults: &mut Faults) -> Vec<Entry> {
    let (mut settable, mut others) = (Vec::new(), Vec::new());
    collect(APP, &mut Vec::new(), &mut settable, &mut others);
    let mut table = Vec::new();
    for (name, value) in variables {
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
        if RESERVED.contains(&name) || name.starts_with(RESERVED_PREFIX) {
            continue;
        }
        let place = Place::Variable(name.into());
        let Some(known) = settable.iter().find(|known| known.variable == name) else {
            let in_file_only = |other: &&String| {
                name.strip_prefix(other.as_str()).is_some_and(|r| r.is_empty() || r.starts_with("__"))
            };
            match others.iter().find(in_file_only) {
                Some(_) => faults.say(&place, "a variable cannot say this; say it in a file"),
                None => {
                    let near = nearest(name, settable.iter().map(|known| known.variable.as_str()));
                    faults.say(&place, format!("unknown variable{near}"));
                }
            }
            continue;
        };
        match value.to_str() {
            Some(text) => put(&mut table, &known.path, &place, (known.value)(text, &place)),
            None => faults.say(&place, "is not UTF-8"),
        }
    }
    table
}

/// A key that a variable can say.
struct Settable {
    variable: String,
    path: Vec<&'static str>,
    value: Box<Reading>,
}

/// How the text of a variable becomes a value.
type Reading = dyn Fn(&str, &Place) -> Value;

fn collect<T: 'static>(
    keys: &'static [Key<T>],
    path: &mut Vec<&'static str>,
    settable: &mut Vec<Settable>,
    others: &mut Vec<String>,
) {
    for key in keys {
        path.push(key.name);
        match &key.kind {
            Kind::Table(keys) => collect(keys, path, settable, others),
            kind if kind.fits_a_variable() => settable.push(Settable {
                variable: variable(path),
                path: path.clone(),
                value: Box::new(move |text, place| value(kind, text, place)),
            }),
            _ => others.push(variable(path)),
        }
        path.pop();
    }
}

/// A text as what the key takes, if it is that.
fn value<T>(kind: &Kind<T>, text: &str, place: &Place) -> Value {
    let text = text.trim();
    let is = match kind {
        Kind::Count(..) => text.parse().ok().map(Value::Whole),
        Kind::Number(..) => text.parse().ok().map(Value::Number),
        Kind::Flag(_) | Kind::Mark(_) => text.parse().ok().map(Value::Flag),
        Kind::Topics(_) => {
            let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
            let node = |name: &str| Node { place: place.clone(), value: Value::Text(name.to_owned()) };
            Some(Value::List(names.map(node).collect()))
        }
        _ => None,
    };
    is.unwrap_or_else(|| Value::Text(text.to_owned()))
}

/// Puts a value where its path leads.
fn put(table: &mut Vec<Entry>, path: &[&'static str], place: &Place, value: Value) {
    let Some((key, rest)) = path.split_first() else { return };
    let node = |value| Node { place: place.clone(), value };
    if rest.is_empty() {
        return table.push(Entry { key: (*key).to_owned(), place: place.clone(), node: node(value) });
    }
    let n = table.iter().position(|entry| entry.key == *key).unwrap_or_else(|| {
        table.push(Entry { key: (*key).to_owned(), place: place.clone(), node: node(Value::Table(Vec::new())) });
        table.len() - 1
    });
    if let Some(Entry { node: Node { value: Value::Table(inner), .. }, .. }) = table.get_mut(n) {
        put(inner, rest, place, value);
    }
}
