//! The events: each touches one or two keys and carries its place in the order of each.

use commute::prelude::*;

/// How often a handler tries before it gives up; what fails fewer times succeeds in the end.
pub(crate) const ATTEMPTS: u32 = 4;

/// What an event touches, and how its handler behaves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Touch {
    /// Its number in the plan.
    pub(crate) n: usize,
    /// What brokers partition by: all events of a key have the same group, so that brokers which keep the order of a
    /// partition only keep that of every key.
    pub(crate) group: u32,
    /// The keys, each with the number of this event in the key's order.
    pub(crate) keys: Vec<(u32, u32)>,
    /// How many attempts fail; [`ATTEMPTS`] or more is a dead letter.
    pub(crate) failures: u32,
    /// How long the handler takes.
    pub(crate) micros: u64,
    /// Whether the handler answers with an [`Echo`].
    pub(crate) echoes: bool,
}

impl Touch {
    /// Whether it becomes a dead letter.
    pub(crate) fn is_doomed(&self) -> bool {
        self.failures >= ATTEMPTS
    }

    /// Whether its handler is the transactional one.
    pub(crate) fn is_stored(&self) -> bool {
        self.n % 2 == 1
    }

    pub(crate) fn footprint(&self) -> Footprint {
        self.keys.iter().map(|(key, _)| writes(("key", *key))).collect()
    }
}

/// Handled without a store: its effects happen at least once.
#[derive(Debug, Serialize, Deserialize, Event)]
#[event(type = "hostile.plain", key = "touch.group")]
pub(crate) struct Plain {
    pub(crate) touch: Touch,
}

/// Handled in a transaction: its effect happens once.
#[derive(Debug, Serialize, Deserialize, Event)]
#[event(type = "hostile.stored", key = "touch.group")]
pub(crate) struct Stored {
    pub(crate) touch: Touch,
}

/// What a handler answers, counted in a transaction.
#[derive(Debug, Serialize, Deserialize, Event)]
#[event(type = "hostile.echo", key = "group")]
pub(crate) struct Echo {
    pub(crate) n: usize,
    pub(crate) group: u32,
}
