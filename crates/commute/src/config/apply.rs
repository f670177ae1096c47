//! Applying: what a configuration says, put on an app that has everything it speaks of.

use std::collections::{BTreeMap, BTreeSet};

use commute_core::{Result, Types};

use super::Config;
use super::fault::{Faults, Place, nearest, quoted};
use super::read::{HandlerTable, join};
use crate::app::App;
use crate::handler::Parts;

impl Config {
    /// Changes the app as the configuration says.
    ///
    /// # Errors
    /// `InvalidConfig` with every topic, handler and answer that the app does not have.
    pub(crate) fn apply(&self, mut app: App) -> Result<App> {
        let mut faults = Faults::default();
        let topics: BTreeSet<String> = app.handlers.iter().map(|(topic, _)| topic.clone()).collect();
        for leaf in &self.settings {
            for (place, topic) in leaf.names.iter().filter(|(_, topic)| !topics.contains(topic)) {
                let near = nearest(topic, topics.iter().map(String::as_str));
                let what = format!("{}: the app has no subscription on {}{near}", leaf.path, quoted(topic));
                faults.say(place, what);
            }
            app = (leaf.change)(app);
        }
        let mut taken: BTreeMap<usize, &(Place, String)> = BTreeMap::new();
        for table in &self.handlers {
            let Some(n) = find(&app.handlers, table, &mut faults) else { continue };
            let (place, name) = &table.event_type;
            // A later source may speak of it again; one that calls it by two of its types contradicts itself.
            if let Some((earlier, other)) = taken.insert(n, &table.event_type).filter(|(_, other)| other != name) {
                let what =
                    format!("{} is the handler of {} at {earlier}; make them one table", quoted(name), quoted(other));
                faults.say(place, what);
            }
            if n < app.handlers.len() {
                let (topic, mut parts) = app.handlers.remove(n);
                for leaf in &table.leaves {
                    check_answers(&parts, &leaf.names, &mut faults);
                    parts = (leaf.change)(parts);
                }
                app.handlers.insert(n, (topic, parts));
            }
        }
        faults.or(app)
    }
}

fn check_answers(parts: &Parts, names: &[(Place, String)], faults: &mut Faults) {
    for (place, name) in names.iter().filter(|(_, name)| !parts.emits.contains(&name.as_str())) {
        let near = nearest(name, parts.emits.iter().copied());
        faults.say(place, format!("the handler answers no {}{near}", quoted(name)));
    }
}

/// The handler that a table speaks of.
fn find(handlers: &[(String, Parts)], table: &HandlerTable, faults: &mut Faults) -> Option<usize> {
    let (topic_place, topic) = &table.topic;
    let (place, event_type) = &table.event_type;
    let key = |topic: &str, name: Option<&str>| name.map_or_else(|| topic.to_owned(), |name| format!("{topic}@{name}"));
    let asked = key(topic, table.name.as_deref());
    let is_there = |(of, parts): &(String, Parts)| key(of, parts.group.as_deref()) == asked;
    let is_it = |handler: &(String, Parts)| is_there(handler) && takes(&handler.1).any(|name| name == *event_type);
    if let Some(n) = handlers.iter().position(is_it) {
        return Some(n);
    }
    if handlers.iter().any(is_there) {
        let known: Vec<_> = handlers.iter().filter(|handler| is_there(handler)).flat_map(|(_, p)| takes(p)).collect();
        let near = nearest(event_type, known.iter().copied());
        let place_of = join("handlers", &asked);
        faults.say(place, format!("{place_of}: no handler takes {} there{near}", quoted(event_type)));
    } else {
        let known: BTreeSet<_> = handlers.iter().map(|(topic, parts)| key(topic, parts.group.as_deref())).collect();
        let near = nearest(&asked, known.iter().map(String::as_str));
        faults.say(topic_place, format!("handlers: the app has no subscription on {}{near}", quoted(&asked)));
    }
    None
}

/// The types that a handler takes; `*` for any.
fn takes(parts: &Parts) -> impl Iterator<Item = &str> {
    let types: &[&str] = match &parts.types {
        Types::Any => &["*"],
        Types::Only(types) => types,
    };
    types.iter().copied()
}
