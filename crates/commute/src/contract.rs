//! The delivery contract: what an app is promised by this broker, in words and as JSON.

use std::fmt;
use std::time::Duration;

use commute_core::{Broker, Capabilities, Durability, GroupOrder, Ordering, Server, Types};
use serde::Serialize;

use crate::config::Setting;
use crate::handler::Scope;
use crate::planned::{Planned, PlannedHandler};
use crate::retry::{Exhausted, OnFailure};

/// What an app is promised. `Display` is for people, `Serialize` for programs.
#[derive(Debug, Clone, Serialize)]
pub struct Contract {
    /// The app.
    pub app: String,
    /// The driver of its broker.
    pub broker: String,
    /// Where the broker is, without secrets.
    pub address: String,
    /// What the server says that it is; what it gives less is among the warnings, too.
    pub server: Option<Server>,
    /// What the broker gives.
    pub capabilities: Capabilities,
    /// How many events are handled at once at most.
    pub workers: usize,
    /// The store of its transactional handlers.
    pub store: Option<String>,
    /// For how long a handled event is remembered.
    pub inbox_retention: Option<Duration>,
    /// What whoever starts it should know before: what this server gives less than others of its kind, and what
    /// several instances would keep less than one.
    pub warnings: Vec<String>,
    /// What a configuration said, and where; the rest is the builder's.
    pub settings: Vec<Setting>,
    /// Its subscriptions.
    pub subscriptions: Vec<SubscriptionContract>,
}

/// What one subscription is promised.
#[derive(Debug, Clone, Serialize)]
pub struct SubscriptionContract {
    /// The topic.
    pub topic: String,
    /// The group.
    pub subscription: String,
    /// What happens to events of a type that no handler takes.
    pub unknown_types: &'static str,
    /// Its handlers.
    pub handlers: Vec<HandlerContract>,
}

/// What one handler is promised.
#[derive(Debug, Clone, Serialize)]
pub struct HandlerContract {
    /// The types that it takes; `*` for every other.
    pub types: Vec<String>,
    /// Which events wait for each other.
    pub order: &'static str,
    /// How much of that order several instances keep between them.
    pub instances: &'static str,
    /// Whether several instances keep less order than one.
    pub needs_one_instance: bool,
    /// How its effects happen once.
    pub effects: &'static str,
    /// Where its answers go, by type.
    pub publishes: Vec<(String, String)>,
    /// How often an event is tried.
    pub attempts: u32,
    /// The ceilings of the first and of the longest delay between attempts.
    pub backoff: (Duration, Duration),
    /// What happens to the lanes of an event that waits for its next attempt.
    pub on_failure: &'static str,
    /// What happens when the attempts are used up.
    pub when_exhausted: &'static str,
    /// Where its dead letters go.
    pub dead_letters: String,
    /// How long an attempt may take.
    pub timeout: Option<Duration>,
}

impl SubscriptionContract {
    pub(crate) fn of(planned: &Planned, given: &Capabilities) -> Self {
        SubscriptionContract {
            topic: planned.route.topic.to_string(),
            subscription: planned.route.subscription.to_string(),
            unknown_types: if planned.ignore_unknown { "acknowledged and counted" } else { "dead letter" },
            handlers: planned
                .handlers
                .iter()
                .map(|handler| HandlerContract {
                    types: match &handler.parts.types {
                        Types::Any => vec!["*".to_owned()],
                        Types::Only(types) => types.iter().map(|name| (*name).to_owned()).collect(),
                    },
                    order: match handler.parts.scope {
                        Scope::ByKey => "events with the same key, in order; events without a key one at a time",
                        Scope::Declared => "events whose declared footprints conflict, in order",
                        Scope::Independent => "none: declared independent",
                        Scope::Exclusive => "one event at a time, in order",
                    },
                    instances: across_instances(handler.parts.scope, given.group_order).0,
                    needs_one_instance: across_instances(handler.parts.scope, given.group_order).1,
                    effects: match (handler.parts.transacts, given.atomic_settle) {
                        (true, _) => "inbox mark, effects and staged events in one transaction of the store",
                        (false, true) => {
                            "inbox mark, published events and acknowledgement together; other effects at least once"
                        }
                        (false, false) => {
                            "at least once: events are published, then the delivery is acknowledged; after a crash in \
                             between they are published again with the same ids"
                        }
                    },
                    publishes: handler
                        .topics
                        .iter()
                        .map(|(name, topic)| ((*name).to_owned(), topic.to_string()))
                        .chain(only_replied(handler))
                        .collect(),
                    attempts: handler.parts.backoff.attempts,
                    backoff: (handler.parts.backoff.ceiling(1), handler.parts.backoff.longest),
                    on_failure: match handler.parts.on_failure {
                        OnFailure::HoldLane => "later conflicting events wait",
                        OnFailure::ReleaseLane => "later conflicting events may pass",
                    },
                    when_exhausted: match handler.when_exhausted {
                        Exhausted::Park => "parked with everything that conflicts behind it, in order",
                        Exhausted::ParkPrimary => "parked; only the order of its first key is kept",
                        Exhausted::Skip => "dead letter; its lanes go on",
                    },
                    dead_letters: handler.dead_letters.to_string(),
                    timeout: handler.parts.timeout,
                })
                .collect(),
        }
    }
}

/// What goes to no topic.
fn only_replied(handler: &PlannedHandler) -> impl Iterator<Item = (String, String)> {
    let without = handler.parts.emits.iter().filter(|name| !handler.topics.contains_key(*name));
    without.map(|name| ((*name).to_owned(), "whoever asked".to_owned()))
}

/// What several instances keep of a handler's order, and whether that is less than one instance does.
fn across_instances(scope: Scope, given: GroupOrder) -> (&'static str, bool) {
    match (scope, given) {
        (Scope::Independent, _) => ("nothing to keep", false),
        (_, GroupOrder::SingleActive) => {
            ("all of it: one instance at a time gets the events, the others stand by", false)
        }
        (Scope::ByKey, GroupOrder::Key) => ("all of it: events with the same key go to one instance", false),
        (Scope::ByKey, GroupOrder::Partition) => {
            ("all of it: events with the same key are in one partition, and a partition belongs to one instance", false)
        }
        (_, GroupOrder::Key) => ("only between events with the same key; a footprint reaches beyond", true),
        (_, GroupOrder::Partition) => ("only within a partition; a footprint reaches beyond", true),
        (_, GroupOrder::None) => ("none: each instance orders only what it happens to get", true),
    }
}

/// What start-up warns of.
pub(crate) fn warnings(broker: &dyn Broker, subscriptions: &[SubscriptionContract]) -> Vec<String> {
    let mut warnings = broker.server().map_or_else(Vec::new, degradations);
    let subscriptions = if broker.capabilities().shared { subscriptions } else { &[] };
    for subscription in subscriptions {
        for handler in subscription.handlers.iter().filter(|handler| handler.needs_one_instance) {
            warnings.push(format!(
                "{} of {}, {}: several instances would keep less order than one ({}); run one instance, or give events \
                 that conflict the same key",
                subscription.subscription,
                subscription.topic,
                handler.types.join(", "),
                handler.instances
            ));
        }
    }
    warnings
}

/// What a server gives less, for people.
pub(crate) fn degradations(server: &Server) -> Vec<String> {
    server.degradations.iter().map(|what| format!("{server}: {what}")).collect()
}

/// What a broker gives, for people.
pub(crate) struct Given<'a>(pub(crate) &'a Capabilities);

impl fmt::Display for Given<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let given = self.0;
        writeln!(
            f,
            "  a receipt means: {}",
            match given.durability {
                Durability::Memory => "in memory, lost with the process",
                Durability::Written => "handed to the server's operating system; a power failure may take it",
                Durability::Synced => "on disk and synced",
                Durability::Replicated => "on several machines",
            }
        )?;
        writeln!(
            f,
            "  every event is delivered at least once, in the order of {}; several instances keep {}",
            match given.ordering {
                Ordering::None => "no kind",
                Ordering::Partition => "its partition",
                Ordering::Topic => "its topic",
            },
            match given.group_order {
                GroupOrder::None => "no order between them",
                GroupOrder::Key => "the order per event key, not per footprint",
                GroupOrder::Partition => "the order per partition, not per footprint",
                GroupOrder::SingleActive => "all order: one of them gets everything, the others stand by",
            }
        )?;
        let kept = |keeps: bool| if keeps { "survive a restart" } else { "are lost at a restart" };
        write!(f, "  retries {}; parked events {}", kept(given.durable_retry), kept(given.durable_parking))
    }
}

impl fmt::Display for Contract {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "delivery contract of {} on {} ({})", self.app, self.broker, self.address)?;
        if let Some(server) = &self.server {
            writeln!(f, "  server: {server}")?;
        }
        writeln!(f, "{}", Given(&self.capabilities))?;
        match self.inbox_retention {
            Some(time) => {
                writeln!(f, "  a handled event is remembered for {time:?}; a copy within that has no effect")?
            }
            None => writeln!(f, "  handled events are not remembered: a redelivery has a second effect")?,
        }
        writeln!(
            f,
            "  an event that says replyto=NAME.results is answered there with what became of it, in the step that settles it; \
             any other replyto is ignored"
        )?;
        writeln!(f, "  {} workers; store: {}", self.workers, self.store.as_deref().unwrap_or("none"))?;
        for subscription in &self.subscriptions {
            writeln!(f, "  {} of {}", subscription.subscription, subscription.topic)?;
            for handler in &subscription.handlers {
                writeln!(f, "    {}", handler.types.join(", "))?;
                writeln!(f, "      order: {}", handler.order)?;
                writeln!(f, "      several instances keep: {}", handler.instances)?;
                writeln!(f, "      effects: {}", handler.effects)?;
                for (name, topic) in &handler.publishes {
                    writeln!(f, "      publishes: {name} to {topic}")?;
                }
                let (first, longest) = handler.backoff;
                writeln!(
                    f,
                    "      on an error: up to {} attempts, {first:?} to {longest:?} apart; meanwhile {}; then {}",
                    handler.attempts, handler.on_failure, handler.when_exhausted
                )?;
                writeln!(f, "      on a rejection: dead letter to {}", handler.dead_letters)?;
            }
            writeln!(f, "    any other type: {}", subscription.unknown_types)?;
        }
        for setting in &self.settings {
            writeln!(f, "  configured: {setting}")?;
        }
        for warning in &self.warnings {
            writeln!(f, "  warning: {warning}")?;
        }
        write!(f, "  after a crash: everything not settled is delivered again, in order")
    }
}
