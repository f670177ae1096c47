//! What all rooms of the harness share: the journal, the failures that were asked for, chance, and the end of a life.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use commute_core::{Clock, Code, Context, Error, EventId, Lane, Outgoing, Timestamp};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::gate::Gate;
use super::journal::{Entry, Taken, What};
use super::rule::{Rule, Strike};
use super::time::TestClock;
use crate::lock::lock;

/// How the name of a subscription's own lane begins.
pub(super) const WHOLE: &str = "all of ";

/// The harness as the wrappers see it.
pub(super) struct Shared {
    pub(super) clock: Arc<TestClock>,
    pub(super) chance: Chance,
    journal: Mutex<Vec<Entry>>,
    pub(super) rules: Mutex<Vec<Rule>>,
    names: Mutex<HashMap<Lane, String>>,
    /// Where deliveries wait for their turn, when they are shuffled.
    pub(super) gates: Mutex<Vec<Arc<Gate>>>,
    /// Calls of the broker that are under way.
    calls: AtomicUsize,
    /// Counts everything that happens.
    activity: AtomicU64,
    pub(super) changed: Notify,
}

/// What is left to chance, all from one seed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chance {
    pub(super) seed: u64,
    /// The part of handled events that are delivered again.
    pub(super) duplicates: f64,
    pub(super) shuffled: bool,
}

impl Chance {
    pub(super) fn is_used(&self) -> bool {
        self.shuffled || self.duplicates > 0.0
    }

    /// The same answer for the same event, whatever else happens.
    pub(super) fn duplicates(&self, subscription: &str, event: &EventId) -> bool {
        let mut hasher = std::hash::DefaultHasher::new();
        (self.seed, subscription, event.as_str()).hash(&mut hasher);
        fastrand::Rng::with_seed(hasher.finish()).f64() < self.duplicates
    }
}

/// A call that is under way until this is dropped.
pub(super) struct Call<'a>(&'a Shared);

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::AcqRel);
        self.0.touch();
    }
}

impl Shared {
    pub(super) fn new(clock: Arc<TestClock>, chance: Chance) -> Self {
        Shared {
            clock,
            chance,
            journal: Mutex::default(),
            rules: Mutex::default(),
            names: Mutex::default(),
            gates: Mutex::default(),
            calls: AtomicUsize::new(0),
            activity: AtomicU64::new(0),
            changed: Notify::new(),
        }
    }

    pub(super) fn journal(&self) -> MutexGuard<'_, Vec<Entry>> {
        lock(&self.journal)
    }

    /// What happens to an attempt, by the first rule that meets it.
    pub(super) fn strike(&self, context: &Context) -> Option<Strike> {
        let mut rules = lock(&self.rules);
        let rule = rules.iter_mut().find(|rule| rule.meets(context))?;
        rule.left = rule.left.map(|left| left - 1);
        Some(rule.strike.clone())
    }

    /// Writes an entry and answers its number.
    pub(super) fn record(&self, event: Option<&EventId>, what: What) -> usize {
        let at = self.clock.elapsed();
        let mut journal = self.journal();
        journal.push(Entry { at, event: event.cloned(), what });
        let number = journal.len() - 1;
        drop(journal);
        self.touch();
        number
    }

    /// Writes down what is being published, before anybody can receive it. Answers the number of the first entry.
    pub(super) fn publishing<'a>(&self, batch: impl IntoIterator<Item = &'a Outgoing>) -> usize {
        let first = self.journal().len();
        for outgoing in batch {
            let what = What::Published {
                topic: outgoing.topic.as_str().into(),
                envelope: Arc::new(outgoing.envelope.clone()),
                due: outgoing.not_before,
                taken: Taken::Yes,
            };
            self.record(Some(&outgoing.envelope.id), what);
        }
        first
    }

    /// Corrects what was written down of the `n`-th event of a batch, wherever other entries came in between.
    pub(super) fn correct(&self, first: usize, id: &EventId, now: Taken) {
        let mut journal = self.journal();
        let entries = journal.iter_mut().skip(first).filter(|entry| entry.event.as_ref() == Some(id));
        for entry in entries {
            if let What::Published { taken: taken @ Taken::Yes, .. } = &mut entry.what {
                *taken = now;
                return;
            }
        }
    }

    /// How many events of a topic are published and not due yet, and whether one has become due within the last
    /// milliseconds, so that the timer which brings it may not have fired.
    pub(super) fn delayed(&self, topic: &str) -> (u64, bool) {
        let now = self.clock.now();
        let (mut delayed, mut just_due) = (0, false);
        for entry in self.journal().iter() {
            if let What::Published { topic: to, due: Some(due), taken: Taken::Yes, .. } = &entry.what
                && **to == *topic
            {
                delayed += u64::from(*due > now);
                just_due |= *due <= now && now <= due.plus(std::time::Duration::from_millis(3));
            }
        }
        (delayed, just_due)
    }

    /// Whether anything that was published is not due yet.
    pub(super) fn anything_delayed(&self) -> bool {
        let now: Timestamp = self.clock.now();
        let later = |entry: &Entry| matches!(entry.what, What::Published { due: Some(due), .. } if due > now);
        self.journal().iter().any(later)
    }

    pub(super) fn touch(&self) {
        self.activity.fetch_add(1, Ordering::AcqRel);
        self.changed.notify_waiters();
    }

    pub(super) fn activity(&self) -> u64 {
        self.activity.load(Ordering::Acquire)
    }

    pub(super) fn call(&self) -> Call<'_> {
        self.calls.fetch_add(1, Ordering::AcqRel);
        self.touch();
        Call(self)
    }

    pub(super) fn calls(&self) -> usize {
        self.calls.load(Ordering::Acquire)
    }

    pub(super) fn name(&self, names: impl IntoIterator<Item = (Lane, String)>) {
        lock(&self.names).extend(names);
    }

    /// Whether a lane is that of everything in a subscription.
    pub(super) fn is_whole(&self, lane: Lane) -> bool {
        lock(&self.names).get(&lane).is_some_and(|name| name.starts_with(WHOLE))
    }

    /// What a person calls a lane.
    pub(super) fn name_of(&self, lane: Lane) -> String {
        lock(&self.names).get(&lane).cloned().unwrap_or_else(|| lane.to_string())
    }
}

/// From one start of the app to its stop or crash.
#[derive(Debug, Clone, Default)]
pub(super) struct Life {
    cut: CancellationToken,
}

impl Life {
    /// Ends it here: whatever the app still does reaches nobody.
    pub(super) fn crash(&self, shared: &Shared) {
        if !self.cut.is_cancelled() {
            shared.record(None, What::Crashed);
            self.cut.cancel();
            shared.touch();
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.cut.is_cancelled()
    }

    /// Waits for its end. Cancel safe.
    pub(super) async fn over(&self) {
        self.cut.cancelled().await;
    }

    pub(super) fn error() -> Error {
        Error::new(Code::Closed, "the app crashed on purpose")
    }
}
