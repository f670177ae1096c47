//! Ready queues: which of the events that may run goes first.
//!
//! Just-unblocked events go before fresh ones 3 : 1. Fresh first would leave hot lanes idle between two of their events
//! and stretch the whole run; unblocked first would starve everybody else while a hot lane is long. Retries have a small
//! share of their own, so that a failing dependency does not take the workers from healthy events.
//!
//! Of the just-unblocked ones the oldest goes first, not the one that became ready first. A lane that lags behind the others
//! is the one that the end of the run waits for, and its next event is the oldest; in the order of becoming ready it would
//! get turns like any other lane, and stay as far behind. Fresh ones become ready in the order of their age anyway. Retries take
//! turns: old ones that fail again and again would otherwise take the whole share from younger ones.
//!
//! A withdrawn event leaves at once: one that stayed would take a turn when it is found, and a fresh event behind many of
//! them would wait for many claims.

use std::collections::BTreeMap;

use crate::fifo::Fifo;

/// How ready events share the workers.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How many just-unblocked events go before one fresh one. Zero: fresh events always go first.
    pub fairness: u32,
    /// Of how many claims one may be a retry while something else is ready. One or zero: retries are not held back.
    pub retry_every: u32,
}

impl Default for Options {
    fn default() -> Self {
        Options { fairness: 3, retry_every: 8 }
    }
}

/// Why an event is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// An earlier conflicting event has just finished.
    Promoted,
    /// It never had to wait.
    Fresh,
    /// Its back-off is over.
    Retry,
}

/// In the order in which they are asked when nobody's share is due.
const CLASSES: [Class; 3] = [Class::Promoted, Class::Fresh, Class::Retry];

#[derive(Debug, Clone)]
pub(crate) struct Ready {
    /// By the number of their admission.
    promoted: BTreeMap<u64, u32>,
    fresh: Fifo,
    retries: Fifo,
    /// Other claims since the last fresh one.
    since_fresh: u32,
    /// Claims since the last retry.
    since_retry: u32,
    options: Options,
}

impl Ready {
    pub(crate) fn new(options: Options) -> Self {
        let (promoted, fresh, retries) = (BTreeMap::new(), Fifo::default(), Fifo::default());
        Ready { promoted, fresh, retries, since_fresh: 0, since_retry: 0, options }
    }

    /// An event may run; `admitted` is its number.
    pub(crate) fn push(&mut self, event: u32, class: Class, admitted: u64) {
        match class {
            Class::Promoted => _ = self.promoted.insert(admitted, event),
            Class::Fresh => self.fresh.push_back(event),
            Class::Retry => self.retries.push_back(event),
        }
    }

    /// An event that was claimed and not begun goes back to where it was.
    pub(crate) fn give_back(&mut self, event: u32, class: Class, admitted: u64) {
        match class {
            Class::Fresh => self.fresh.push_front(event),
            Class::Promoted => self.push(event, class, admitted),
            Class::Retry => self.retries.push_front(event),
        }
    }

    /// Takes the next event.
    pub(crate) fn pop(&mut self) -> Option<(u32, Class)> {
        let class = self.next()?;
        let event = match class {
            Class::Promoted => self.promoted.pop_first()?.1,
            Class::Fresh => self.fresh.pop_front()?,
            Class::Retry => self.retries.pop_front()?,
        };
        match class {
            Class::Fresh => self.since_fresh = 0,
            // A retry takes the turn of a promoted event, so that fresh ones do not wait longer for it.
            Class::Promoted | Class::Retry => self.since_fresh = self.since_fresh.saturating_add(1),
        }
        self.since_retry = if class == Class::Retry { 0 } else { self.since_retry.saturating_add(1) };
        Some((event, class))
    }

    /// Takes out one that stands anywhere in the queue of its class.
    pub(crate) fn remove(&mut self, event: u32, class: Class, admitted: u64) {
        match class {
            Class::Promoted => _ = self.promoted.remove(&admitted),
            Class::Fresh => self.fresh.remove(event),
            Class::Retry => self.retries.remove(event),
        }
    }

    fn next(&self) -> Option<Class> {
        if self.has(Class::Fresh) && self.since_fresh >= self.options.fairness {
            return Some(Class::Fresh);
        }
        if self.has(Class::Retry) && self.since_retry.saturating_add(1) >= self.options.retry_every {
            return Some(Class::Retry);
        }
        CLASSES.into_iter().find(|class| self.has(*class))
    }

    fn has(&self, class: Class) -> bool {
        match class {
            Class::Promoted => !self.promoted.is_empty(),
            Class::Fresh => !self.fresh.is_empty(),
            Class::Retry => !self.retries.is_empty(),
        }
    }
}
