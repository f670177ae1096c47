//! Reading: values against the schema, into changes that wait for an app.

use std::path::PathBuf;
use std::sync::Arc;

use commute_core::foreign::Origin;
use commute_core::{Address, Mapping, Topic};

use super::document::{Entry, Node, Value};
use super::fault::{Faults, Place, nearest, quoted};
use super::schema::{EITHER_OR, HANDLER, Key, Kind, MAPPING, ORIGIN_KEYS, ORIGINS};
use super::time;
use crate::handler::Parts;

/// What one key says.
pub(super) struct Leaf<T> {
    /// The key from the root, as TOML writes it.
    pub(super) path: String,
    pub(super) place: Place,
    /// The value as it may be shown.
    pub(super) shown: String,
    /// Of an app: topics that it must subscribe to. Of a handler: types that it must answer.
    pub(super) names: Vec<(Place, String)>,
    pub(super) broker: Option<BrokerFrom>,
    pub(super) change: Change<T>,
}

pub(super) type Change<T> = Arc<dyn Fn(T) -> T + Send + Sync>;

// Written out, because a derived one would want a `T` that can be cloned.
impl<T> Clone for Leaf<T> {
    fn clone(&self) -> Self {
        Leaf {
            path: self.path.clone(),
            place: self.place.clone(),
            shown: self.shown.clone(),
            names: self.names.clone(),
            broker: self.broker.clone(),
            change: self.change.clone(),
        }
    }
}

/// Where the broker's URL is. It has no `Debug`, because the URL may hold a password.
#[derive(Clone)]
pub(super) enum BrokerFrom {
    Url(String),
    File(PathBuf),
}

/// What is said of one handler.
#[derive(Clone)]
pub(super) struct HandlerTable {
    pub(super) topic: (Place, String),
    /// The name of a subscription of its own.
    pub(super) name: Option<String>,
    pub(super) event_type: (Place, String),
    pub(super) leaves: Vec<Leaf<Parts>>,
}

/// Reads tables and collects what is wrong with them.
#[derive(Default)]
pub(super) struct Reader {
    pub(super) faults: Faults,
    pub(super) handlers: Vec<HandlerTable>,
}

impl Reader {
    /// Reads a table, in the order of the schema.
    pub(super) fn read<T: 'static>(&mut self, keys: &'static [Key<T>], table: &[Entry], path: &str) -> Vec<Leaf<T>> {
        for entry in table.iter().filter(|entry| keys.iter().all(|key| key.name != entry.key)) {
            let unquoted = matches!(entry.node.value, Value::Table(_)) && !path.is_empty();
            let hint = if unquoted { "; a name with dots needs quotes" } else { "" };
            let near = nearest(&entry.key, keys.iter().map(|key| key.name));
            self.faults.say(&entry.place, format!("unknown key {}{near}{hint}", quoted(&entry.key)));
        }
        for (one, other) in EITHER_OR {
            let find = |name: &str| table.iter().find(|entry| entry.key == name);
            if let (Some(_), Some(second)) = (find(one), find(other)) {
                self.faults.say(&second.place, format!("{other} and {one} exclude each other; leave one out"));
            }
        }
        let find = |key: &'static Key<T>| table.iter().find(|entry| entry.key == key.name).map(|entry| (key, entry));
        let said: Vec<_> = keys.iter().filter_map(find).collect();
        said.into_iter().flat_map(|(key, entry)| self.key(key, &entry.node, &join(path, key.name))).collect()
    }

    fn key<T: 'static>(&mut self, key: &'static Key<T>, node: &Node, path: &str) -> Vec<Leaf<T>> {
        let leaf = |change: Change<T>| Leaf {
            path: path.to_owned(),
            place: node.place.clone(),
            shown: shown(&node.value),
            names: Vec::new(),
            broker: None,
            change,
        };
        let change: Change<T> = match (&key.kind, &node.value) {
            (Kind::Count(range, set), Value::Whole(n)) => match u32::try_from(*n) {
                Ok(n) if range.contains(&n) => {
                    let set = *set;
                    Arc::new(move |to| set(to, n))
                }
                _ => return self.refuse(&node.place, format!("{path} is {n}; it takes {}", key.kind.takes())),
            },
            (Kind::Number(range, set), Value::Number(_) | Value::Whole(_)) => {
                let n = match node.value {
                    Value::Number(n) => n,
                    Value::Whole(n) => n as f64,
                    _ => f64::NAN,
                };
                if !range.contains(&n) {
                    return self.refuse(&node.place, format!("{path} is {n}; it takes {}", key.kind.takes()));
                }
                let set = *set;
                Arc::new(move |to| set(to, n))
            }
            (Kind::Time(range, set), Value::Text(text)) => match time::parse(text) {
                Ok(time) if range.contains(&time) => {
                    let set = *set;
                    Arc::new(move |to| set(to, time))
                }
                Ok(time) => {
                    let said = time::text(time);
                    return self.refuse(&node.place, format!("{path} is {said}; it takes {}", key.kind.takes()));
                }
                Err(wrong) => return self.refuse(&node.place, format!("{path} {wrong}")),
            },
            (Kind::Time(..), Value::Whole(_) | Value::Number(_)) => {
                return self.refuse(&node.place, format!("{path} needs a unit; there are {}", time::KNOWN));
            }
            (Kind::Flag(set), Value::Flag(yes)) => {
                let (set, yes) = (*set, *yes);
                Arc::new(move |to| set(to, yes))
            }
            (Kind::Mark(set), Value::Flag(true)) => Arc::new(*set),
            (Kind::Word(words), Value::Text(said)) => match words.iter().find(|(word, _)| word == said) {
                Some((_, set)) => Arc::new(*set),
                None => {
                    let near = nearest(said, words.iter().map(|(word, _)| *word));
                    return self.refuse(&node.place, format!("{path} takes {}{near}", key.kind.takes()));
                }
            },
            (Kind::Text(set), Value::Text(text)) if !text.is_empty() => {
                let (set, text) = (*set, text.clone());
                Arc::new(move |to| set(to, text.clone()))
            }
            (Kind::Topic(set), Value::Text(topic)) => {
                let (set, topic) = (*set, topic.clone());
                self.topic(&node.place, path, &topic);
                Arc::new(move |to| set(to, topic.clone()))
            }
            (Kind::Topics(set), Value::List(list)) => {
                let Some(names) = self.texts(list, path) else { return Vec::new() };
                let (set, topics): (_, Vec<_>) = (*set, names.iter().map(|(_, name)| name.clone()).collect());
                return vec![Leaf { names, ..leaf(Arc::new(move |to| set(to, topics.clone()))) }];
            }
            (Kind::Url, Value::Text(url)) => {
                if let Err(error) = Address::parse(url.trim()) {
                    return self.refuse(&node.place, format!("{path}: {}", error.detail()));
                }
                let broker = Some(BrokerFrom::Url(url.trim().to_owned()));
                let shown = quoted_url(url.trim());
                return vec![Leaf { broker, shown, ..leaf(Arc::new(|to| to)) }];
            }
            (Kind::UrlFile, Value::Text(file)) if !file.is_empty() => {
                if file.contains("://") {
                    return self.refuse(&node.place, format!("{path} names a file; a URL is said as broker"));
                }
                return vec![Leaf { broker: Some(BrokerFrom::File(file.into())), ..leaf(Arc::new(|to| to)) }];
            }
            (Kind::TextByTopic(set), Value::Table(topics)) => {
                let set = *set;
                return topics.iter().filter_map(|entry| self.text_of_topic(set, entry, path)).collect();
            }
            (Kind::MappingByTopic(set), Value::Table(topics)) => {
                let set = *set;
                return topics.iter().filter_map(|entry| self.mapping_of_topic(set, entry, path)).collect();
            }
            (Kind::Answers { all, .. }, Value::Text(topic)) => {
                let (set, topic) = (*all, topic.clone());
                self.topic(&node.place, path, &topic);
                Arc::new(move |to| set(to, topic.clone()))
            }
            (Kind::Answers { of_type, .. }, Value::Table(types)) => {
                let set = *of_type;
                return types.iter().filter_map(|entry| self.answer(set, entry, path)).collect();
            }
            (Kind::Handlers, Value::Table(topics)) => {
                topics.iter().for_each(|topic| self.handlers_of(topic, path));
                return Vec::new();
            }
            (Kind::Table(keys), Value::Table(table)) => return self.read(keys, table, path),
            (Kind::Origin(set), _) => {
                let (set, Some(origin)) = (*set, self.origin(node, path)) else { return Vec::new() };
                Arc::new(move |to| set(to, origin.clone()))
            }
            _ => return self.refuse(&node.place, format!("{path} takes {}", key.kind.takes())),
        };
        vec![leaf(change)]
    }

    fn refuse<T>(&mut self, place: &Place, what: String) -> Vec<Leaf<T>> {
        self.faults.say(place, what);
        Vec::new()
    }

    fn topic(&mut self, place: &Place, path: &str, name: &str) {
        if let Err(error) = Topic::new(name) {
            self.faults.say(place, format!("{path} takes the name of a topic: {}", error.remedy()));
        }
    }

    fn texts(&mut self, list: &[Node], path: &str) -> Option<Vec<(Place, String)>> {
        let texts: Option<_> = list
            .iter()
            .map(|node| match &node.value {
                Value::Text(text) => Some((node.place.clone(), text.clone())),
                _ => {
                    self.faults.say(&node.place, format!("{path} takes names of topics, in quotes"));
                    None
                }
            })
            .collect();
        texts
    }

    fn text_of_topic<T: 'static>(
        &mut self,
        set: fn(T, String, String) -> T,
        entry: &Entry,
        path: &str,
    ) -> Option<Leaf<T>> {
        let path = join(path, &entry.key);
        let text = match &entry.node.value {
            Value::Text(text) if !text.is_empty() => text.clone(),
            Value::Table(_) => {
                self.faults.say(&entry.place, format!("{path} takes a name; a topic with dots needs quotes"));
                return None;
            }
            _ => {
                self.faults.say(&entry.node.place, format!("{path} takes a name, in quotes"));
                return None;
            }
        };
        let topic = entry.key.clone();
        Some(of_topic(path, entry, Arc::new(move |to| set(to, topic.clone(), text.clone()))))
    }

    fn mapping_of_topic<T: 'static>(
        &mut self,
        set: fn(T, String, Mapping) -> T,
        entry: &Entry,
        path: &str,
    ) -> Option<Leaf<T>> {
        let path = join(path, &entry.key);
        let Value::Table(table) = &entry.node.value else {
            self.faults.say(&entry.node.place, format!("{path} takes a table with the key type, and others"));
            return None;
        };
        let leaves = self.read(MAPPING, table, &path);
        if table.iter().all(|entry| entry.key != "type") {
            self.faults.say(&entry.place, format!("{path} has no key \"type\", which says where the event's type is"));
        }
        let mapping = leaves.iter().fold(None, |mapping, leaf| (leaf.change)(mapping))?;
        let topic = entry.key.clone();
        Some(of_topic(path, entry, Arc::new(move |to| set(to, topic.clone(), mapping.clone()))))
    }

    fn answer<T: 'static>(&mut self, set: fn(T, &str, String) -> T, entry: &Entry, path: &str) -> Option<Leaf<T>> {
        let path = join(path, &entry.key);
        let Value::Text(topic) = &entry.node.value else {
            self.faults
                .say(&entry.node.place, format!("{path} takes the name of a topic; a type with dots needs quotes"));
            return None;
        };
        self.topic(&entry.node.place, &path, topic);
        let (name, topic) = (entry.key.clone(), topic.clone());
        Some(of_topic(path, entry, Arc::new(move |to| set(to, &name, topic.clone()))))
    }

    fn origin(&mut self, node: &Node, path: &str) -> Option<Origin> {
        let words = || ORIGINS.iter().map(|(word, _)| *word);
        let found = match &node.value {
            Value::Text(said) => {
                let found = ORIGINS.iter().find(|(word, _)| word == said).map(|(_, origin)| origin.clone());
                found.ok_or_else(|| nearest(said, words()))
            }
            Value::Table(table) => match table.as_slice() {
                [Entry { key, node: Node { value: Value::Text(text), .. }, .. }] if !text.is_empty() => {
                    let found = ORIGIN_KEYS.iter().find(|(known, _)| known == key).map(|(_, of)| of(text.clone()));
                    found.ok_or_else(|| nearest(key, ORIGIN_KEYS.iter().map(|(known, _)| *known)))
                }
                _ => Err(String::new()),
            },
            _ => Err(String::new()),
        };
        found
            .map_err(|near| {
                let keys: Vec<_> = ORIGIN_KEYS.iter().map(|(key, _)| format!("{{ {key} = \"…\" }}")).collect();
                let words: Vec<_> = words().map(|word| format!("\"{word}\"")).collect();
                let what = format!("{path} takes {} or {}{near}", keys.join(", "), words.join(", "));
                self.faults.say(&node.place, what);
            })
            .ok()
    }

    fn handlers_of(&mut self, topic: &Entry, path: &str) {
        let path = join(path, &topic.key);
        let Value::Table(types) = &topic.node.value else {
            return self.faults.say(&topic.node.place, format!("{path} takes a table for each type"));
        };
        let (name, group) = match topic.key.split_once('@') {
            Some((name, group)) => (name.to_owned(), Some(group.to_owned())),
            None => (topic.key.clone(), None),
        };
        for entry in types {
            let path = join(&path, &entry.key);
            let Value::Table(table) = &entry.node.value else {
                let what = format!("{path} takes a table: handlers are said by topic and by type of event");
                self.faults.say(&entry.place, what);
                continue;
            };
            let leaves = self.read(HANDLER, table, &path);
            self.handlers.push(HandlerTable {
                topic: (topic.place.clone(), name.clone()),
                name: group.clone(),
                event_type: (entry.place.clone(), entry.key.clone()),
                leaves,
            });
        }
    }
}

fn of_topic<T>(path: String, entry: &Entry, change: Change<T>) -> Leaf<T> {
    Leaf {
        path,
        place: entry.node.place.clone(),
        shown: shown(&entry.node.value),
        names: vec![(entry.place.clone(), entry.key.clone())],
        broker: None,
        change,
    }
}

/// A path with one more key, quoted where TOML wants it.
pub(super) fn join(path: &str, key: &str) -> String {
    let is_bare = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    let key = if is_bare { key.to_owned() } else { quoted(key) };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

fn quoted_url(url: &str) -> String {
    format!("\"{}\"", crate::drivers::shown(url))
}

fn shown(value: &Value) -> String {
    match value {
        Value::Text(text) => quoted(text),
        Value::Whole(n) => n.to_string(),
        Value::Number(n) => n.to_string(),
        Value::Flag(yes) => yes.to_string(),
        Value::List(list) => format!("[{}]", list.iter().map(|node| shown(&node.value)).collect::<Vec<_>>().join(", ")),
        Value::Table(table) => {
            let entries: Vec<_> =
                table.iter().map(|entry| format!("{} = {}", join("", &entry.key), shown(&entry.node.value))).collect();
            format!("{{ {} }}", entries.join(", "))
        }
        Value::Other => "…".to_owned(),
    }
}
