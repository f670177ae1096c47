//! Assertions: what was seen, and what a test expects of it. One that fails panics with the journeys of the events.

use std::collections::HashMap;
use std::fmt::{self, Debug, Write};
use std::hash::Hash;

use commute_core::{DeadLetter, Event, EventId};

use super::journey::journeys;
use super::shared::Shared;

/// What was seen of one kind, in order: handled or published events, dead letters, parked events.
///
/// Every assertion panics when it does not hold, with what was expected, what was seen, the seed, and the journeys of
/// the events in question. They can be chained; asking for nothing asserts nothing.
pub struct Seen<'a, T> {
    pub(super) shared: &'a Shared,
    /// `handled shop.order.placed of shop.orders`.
    pub(super) what: String,
    pub(super) items: Vec<Item<T>>,
    /// Whose journeys tell why something is missing.
    pub(super) candidates: Vec<EventId>,
}

/// One of them.
pub(super) struct Item<T> {
    /// Whose journey it belongs to.
    pub(super) event: EventId,
    pub(super) value: T,
    /// What of it was published, and when: `None` when that was not seen.
    pub(super) published: Option<usize>,
    /// The entries between which it happened.
    pub(super) during: (usize, usize),
}

impl<'a, T> Seen<'a, T> {
    /// Exactly one.
    ///
    /// # Panics
    /// When there are more or none.
    #[track_caller]
    pub fn once(self) -> Self {
        self.times(1)
    }

    /// Exactly so many.
    ///
    /// # Panics
    /// When there are more or fewer.
    #[track_caller]
    pub fn times(self, times: usize) -> Self {
        if self.items.len() != times {
            self.fail(&format!("exactly {times}"), &self.items.len().to_string());
        }
        self
    }

    /// So many or more.
    ///
    /// # Panics
    /// When there are fewer.
    #[track_caller]
    pub fn at_least(self, times: usize) -> Self {
        if self.items.len() < times {
            self.fail(&format!("at least {times}"), &self.items.len().to_string());
        }
        self
    }

    /// Nothing.
    ///
    /// # Panics
    /// When there is something.
    #[track_caller]
    pub fn none(self) {
        self.times(0);
    }

    /// At least one of them meets this; goes on with those that do.
    ///
    /// # Panics
    /// When none does.
    #[track_caller]
    pub fn with(mut self, meets: impl Fn(&T) -> bool) -> Self {
        if !self.items.iter().any(|item| meets(&item.value)) {
            self.fail("one that meets the condition", &format!("none of {}", self.items.len()));
        }
        self.items.retain(|item| meets(&item.value));
        self
    }

    /// None of them meets this.
    ///
    /// # Panics
    /// When one does.
    #[track_caller]
    pub fn without(mut self, meets: impl Fn(&T) -> bool) -> Self {
        let count = self.items.iter().filter(|item| meets(&item.value)).count();
        if count > 0 {
            let all = self.items.len();
            self.items.retain(|item| meets(&item.value));
            self.fail("none that meets the condition", &format!("{count} of {all}"));
        }
        self
    }

    /// All of them meet this.
    ///
    /// # Panics
    /// When one does not.
    #[track_caller]
    pub fn all(self, meets: impl Fn(&T) -> bool) -> Self {
        self.without(|value| !meets(value))
    }

    /// Those with the same key came one after the other, without overlapping, in the order in which they were
    /// published. For published events and dead letters that is the order in which their causes were published.
    ///
    /// # Panics
    /// When two of one key did not.
    #[track_caller]
    pub fn in_order<K: Eq + Hash + Debug>(self, key: impl Fn(&T) -> K) -> Self {
        let mut last: HashMap<K, &Item<T>> = HashMap::new();
        let mut wrong = None;
        for item in &self.items {
            let of = key(&item.value);
            if let Some(before) = last.get(&of) {
                let turned = before.published > item.published;
                if turned || before.during.1 > item.during.0 {
                    let how = if turned { "came after" } else { "overlapped with" };
                    wrong = Some(format!(
                        "{} {how} {} with key {of:?}",
                        before_of(turned, before, item),
                        after_of(turned, before, item)
                    ));
                    break;
                }
            }
            last.insert(of, item);
        }
        match wrong {
            Some(wrong) => self.fail("those of one key one after the other, in the order of publishing", &wrong),
            None => self,
        }
    }

    /// Their values, in order, to look at in other ways.
    #[must_use]
    pub fn values(self) -> Vec<T> {
        self.items.into_iter().map(|item| item.value).collect()
    }

    /// The events that they belong to, in order.
    #[must_use]
    pub fn ids(&self) -> Vec<EventId> {
        self.items.iter().map(|item| item.event.clone()).collect()
    }

    #[track_caller]
    fn fail(&self, expected: &str, actual: &str) -> ! {
        let mut events: Vec<EventId> = self.items.iter().map(|item| item.event.clone()).collect();
        events.extend(self.candidates.iter().cloned());
        panic!("{}", message(self.shared, &self.what, expected, actual, &events))
    }
}

fn before_of<T>(turned: bool, before: &Item<T>, after: &Item<T>) -> EventId {
    if turned { after.event.clone() } else { before.event.clone() }
}

fn after_of<T>(turned: bool, before: &Item<T>, after: &Item<T>) -> EventId {
    before_of(!turned, before, after)
}

/// What a failed assertion says.
pub(super) fn message(shared: &Shared, what: &str, expected: &str, actual: &str, events: &[EventId]) -> String {
    let mut text = format!("{what}\n  expected: {expected}\n    actual: {actual}\n");
    if shared.chance.is_used() {
        let seed = shared.chance.seed;
        let _ = writeln!(text, "      seed: {seed} (COMMUTE_TEST_SEED={seed} repeats it)");
    }
    text.push_str(&journeys(shared, events));
    text
}

impl Seen<'_, DeadLetter> {
    /// Only those whose original is an `E`.
    #[must_use = "say what is expected: once, times, none, with …"]
    pub fn of<E: Event>(mut self) -> Self {
        self.items.retain(|item| item.value.original_type() == E::TYPE);
        let _ = write!(self.what, " of {}", E::TYPE);
        self
    }
}

impl<T> fmt::Debug for Seen<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.items.len())
    }
}
