//! A request that was published, and what came of it so far.

use std::collections::BTreeSet;

use commute_core::{Event, EventId, Result};
use serde::{Deserialize, Serialize};

use super::handled::{Answered, HandledResult};

/// Names a request, and who should answer it. Store it to collect the rest after a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The id of the request: its event's, and the correlation id of everything that it causes.
    pub id: EventId,
    /// Where it was published.
    pub topic: String,
    /// Who should answer.
    pub expect: Expect,
}

impl Asked {
    /// A request that was published to a topic. Every group of the topic should answer it, as [`Expect::Groups`] says.
    pub fn new(id: EventId, topic: impl Into<String>) -> Self {
        Asked { id, topic: topic.into(), expect: Expect::Groups }
    }

    /// So many subscriptions should answer.
    pub fn expect(mut self, subscriptions: usize) -> Self {
        self.expect = Expect::Count(subscriptions);
        self
    }

    /// These subscriptions (groups) should answer.
    pub fn expect_from<S: Into<String>>(mut self, subscriptions: impl IntoIterator<Item = S>) -> Self {
        self.expect = Expect::From(subscriptions.into_iter().map(Into::into).collect());
        self
    }
}

/// How many subscriptions should answer a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expect {
    /// The groups that the topic has when the results are collected, where the broker can say; else one.
    Groups,
    /// So many, whoever they are.
    Count(usize),
    /// These.
    From(BTreeSet<String>),
}

/// What the subscriptions have answered, and who has not yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Results {
    /// The request.
    pub asked: Asked,
    /// The last word of every subscription that has answered, in the order in which they answered.
    pub answered: Vec<HandledResult>,
    /// The subscriptions that have not answered yet, where it is known who should.
    pub missing: Vec<String>,
    /// How many have not answered yet, named or not.
    pub not_yet: usize,
}

impl Results {
    pub(super) fn of(asked: &Asked, expect: &Expect, results: impl Iterator<Item = HandledResult>) -> Self {
        let mut answered: Vec<HandledResult> = Vec::new();
        for result in results {
            match answered.iter_mut().find(|known| known.subscription == result.subscription) {
                // It was parked before, or redriven since.
                Some(known) => *known = result,
                None => answered.push(result),
            }
        }
        let has = |name: &String| answered.iter().any(|result| result.subscription == *name);
        let missing: Vec<String> = match expect {
            Expect::From(names) => names.iter().filter(|name| !has(name)).cloned().collect(),
            Expect::Groups | Expect::Count(_) => Vec::new(),
        };
        let not_yet = match expect {
            Expect::From(_) => missing.len(),
            Expect::Count(count) => count.saturating_sub(answered.len()),
            Expect::Groups => 1_usize.saturating_sub(answered.len()),
        };
        Results { asked: asked.clone(), answered, missing, not_yet }
    }

    /// Whether everybody has answered who should.
    pub fn is_complete(&self) -> bool {
        self.not_yet == 0
    }

    /// The events that the handlers answered.
    pub fn values(&self) -> impl Iterator<Item = &Answered> {
        self.answered.iter().flat_map(HandledResult::answers)
    }

    /// The first event of this type that a handler answered; `None` when there is none (yet).
    ///
    /// # Errors
    /// `Undecodable` when its payload is no `E`.
    pub fn value<E: Event>(&self) -> Result<Option<E>> {
        self.values().find(|answer| answer.event_type == E::TYPE).map(Answered::decode).transpose()
    }

    /// The subscriptions that failed: dead letters and parked events, with their reasons.
    pub fn failures(&self) -> impl Iterator<Item = &HandledResult> {
        self.answered.iter().filter(|result| result.failure().is_some())
    }

    /// Whether nothing more is to come by itself: everybody has answered, and nobody has parked it.
    pub(super) fn is_final(&self) -> bool {
        self.is_complete() && !self.answered.iter().any(HandledResult::is_parked)
    }
}
