//! Before starting: is the app put together rightly, and what does this broker give it?
//!
//! Everything that is wrong is reported together, before an event is read.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use commute_core::{Broker, Code, Error, Result, Route, States, Topic, Types};

use crate::app::App;
use crate::contract::{self, Contract, SubscriptionContract};
use crate::handler::{Parts, Scope};
use crate::planned::{Planned, PlannedHandler};
use crate::retry::{Budget, Exhausted};

/// Checks an app and says what it will do.
pub(crate) fn plan(app: App, broker: &dyn Broker) -> Result<(Vec<Planned>, Contract)> {
    let mut wrong = Wrong::default();
    wrong.check(Topic::new(&*app.name).is_ok(), || {
        format!("app name {:?}: use the characters of a topic name", app.name)
    });
    #[cfg(not(feature = "admin"))]
    wrong.check(app.admin.address.is_none(), || {
        "admin is said, and this build of commute is without its feature \"admin\"".to_owned()
    });
    #[cfg(feature = "admin")]
    if let Err(why) = app.admin.checked() {
        wrong.say(why);
    }
    for name in &app.repeated_states {
        wrong.say(format!("state {name} is given twice"));
    }
    let states = app.states.clone();
    let has_store = app.store.is_some();
    let mut planned: BTreeMap<(String, Arc<str>), Planned> = BTreeMap::new();
    let handlers = app.handlers.len();
    let mut names = Vec::with_capacity(handlers);
    for (topic, mut parts) in app.handlers {
        let group = match &parts.group {
            Some(name) => format!("{}.{name}", app.name).into(),
            None => app.name.clone(),
        };
        for layer in &app.layers {
            parts.run = layer(parts.run);
        }
        let place = (topic, group);
        names.push(place.clone());
        let handler = match check(&place, parts, &states, has_store, &mut wrong) {
            Some(handler) => handler,
            None => continue,
        };
        let Ok(topic) = Topic::new(&place.0) else { continue };
        let ignore_unknown = app.ignored.contains(&place.0);
        let (mapping, queue) = (app.mappings.get(&place.0).cloned(), app.queues.get(&place.0).cloned());
        let dead_letters = handler.dead_letters.clone();
        let group = place.1.clone();
        let subscription = match planned.entry(place) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(Planned {
                route: Arc::new(Route { topic, subscription: group, states: states.clone() }),
                handlers: Vec::new(),
                by_type: BTreeMap::new(),
                any: None,
                ignore_unknown,
                mapping,
                queue,
                mixed: false,
                dead_letters,
            }),
        };
        subscription.add(handler, &mut wrong);
    }
    wrong.check(handlers > 0, || "no handler: say .on(topic, handler(…)) at least once".to_owned());
    let said = app.ignored.iter().map(|topic| ("ignore_unknown_types", topic));
    let said = said.chain(app.mappings.keys().map(|topic| ("mapping", topic)));
    for (what, topic) in said.chain(app.queues.keys().map(|topic| ("queue", topic))) {
        wrong.check(names.iter().any(|(known, _)| known == topic), || {
            format!("{what}({topic:?}): the app has no subscription on that topic")
        });
    }
    for topic in app.queues.keys() {
        let groups: BTreeSet<_> = names.iter().filter(|(known, _)| known == topic).map(|(_, group)| group).collect();
        wrong.check(groups.len() < 2, || format!("queue({topic:?}): several subscriptions cannot share one queue"));
    }
    wrong.result(&app.name)?;
    let planned: Vec<Planned> = planned.into_values().collect();
    let capabilities = broker.capabilities();
    let subscriptions: Vec<_> = planned.iter().map(|planned| SubscriptionContract::of(planned, capabilities)).collect();
    let contract = Contract {
        app: app.name.to_string(),
        broker: broker.driver().to_owned(),
        address: broker.address().to_owned(),
        server: broker.server().cloned(),
        capabilities: capabilities.clone(),
        workers: app.workers,
        store: app.store.as_ref().map(|store| store.name().to_owned()),
        inbox_retention: match &app.store {
            Some(store) => Some(store.inbox_retention()),
            None => capabilities.inbox_retention,
        },
        warnings: contract::warnings(broker, &subscriptions),
        settings: app.config.settings().collect(),
        subscriptions,
    };
    Ok((planned, contract))
}

impl Planned {
    fn add(&mut self, handler: PlannedHandler, wrong: &mut Wrong) {
        let n = self.handlers.len();
        let place = format!("{} of {}", self.route.subscription, self.route.topic);
        match &handler.parts.types {
            Types::Any => {
                wrong.check(self.any.is_none(), || format!("subscription {place}: two handlers take every type"));
                self.any = Some(n);
            }
            Types::Only(types) => {
                for name in types {
                    let free = self.by_type.insert(name, n).is_none();
                    wrong.check(free, || format!("subscription {place}: two handlers take {name}"));
                }
            }
        }
        self.mixed |= matches!(handler.parts.scope, Scope::ByKey | Scope::Exclusive);
        self.handlers.push(handler);
    }
}

fn check(
    place: &(String, Arc<str>),
    parts: Parts,
    states: &States,
    has_store: bool,
    wrong: &mut Wrong,
) -> Option<PlannedHandler> {
    let (topic, group) = place;
    let place = format!("subscription {group} of {topic}");
    for (id, name) in &parts.needs {
        wrong.check(states.has(*id), || format!("{place}: no state {name}; say .state(…)"));
    }
    wrong.check(has_store || !parts.transacts, || {
        format!("{place}: a transactional handler needs .store(…), so that what it stages is published")
    });
    let mut valid = |topic: &str| match Topic::new(topic) {
        Ok(topic) => Some(topic),
        Err(error) => {
            wrong.say(error.detail().to_owned());
            None
        }
    };
    let source = valid(topic);
    let all = parts.topics.all.as_deref().and_then(&mut valid);
    let dead_letters = match &parts.dead_letters {
        Some(topic) => valid(topic),
        None => source.as_ref().and_then(|topic| valid(&format!("{topic}.dead"))),
    };
    let mut topics = BTreeMap::new();
    for (name, topic) in &parts.topics.by_type {
        topics.extend(valid(topic).map(|topic| (*name, topic)));
    }
    for name in parts.topics.by_type.keys() {
        wrong.check(parts.emits.contains(name), || {
            format!("{place}: publishes_type names {name}, which the handler never answers")
        });
    }
    for name in &parts.emits {
        if topics.contains_key(name) {
            continue;
        }
        match &all {
            Some(topic) => drop(topics.insert(name, topic.clone())),
            None if parts.topics.all.is_some() || parts.replies => {}
            None => wrong.say(format!(
                "{place}: answers with {name}, but says no topic; add .publishes(topic), or .replies() when only whoever \
                 asked shall have it"
            )),
        }
    }
    let when_exhausted = parts.when_exhausted.unwrap_or(match parts.scope {
        Scope::Declared => Exhausted::Skip,
        Scope::ByKey | Scope::Exclusive | Scope::Independent => Exhausted::Park,
    });
    let budget = Budget::new(parts.backoff.budget);
    source.and(dead_letters).map(|dead_letters| PlannedHandler { parts, topics, when_exhausted, dead_letters, budget })
}

/// Everything that is wrong with an app.
#[derive(Default)]
struct Wrong(Vec<String>);

impl Wrong {
    fn say(&mut self, what: String) {
        if !self.0.contains(&what) {
            self.0.push(what);
        }
    }

    fn check(&mut self, right: bool, what: impl FnOnce() -> String) {
        if !right {
            self.say(what());
        }
    }

    fn result(self, app: &str) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        Err(Error::new(Code::InvalidApp, format!("app {app:?} cannot start:\n  - {}", self.0.join("\n  - "))))
    }
}
