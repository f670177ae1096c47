//! Ready queues: which of the events that may run goes first.
//!
//! Just-unblocked events go before fresh ones 3 : 1. Fresh first would leave hot lanes idle between two of their events
//! and stretch the whole run; unblocked first would starve everybody else while a hot lane is long. Retries have a small
//! share of their own, so that a failing dependency does not take the workers from healthy events.
//!
//! The queues are linked, so that a withdrawn event leaves at once: one that stayed behind would take a turn when it is
//! found, and a fresh event behind many of them would wait for many claims.

use crate::lanes::NONE;

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
    /// One per class.
    lists: [List; 3],
    /// One per event of the scheduler, whether it is ready or not.
    links: Vec<Link>,
    /// Other claims since the last fresh one.
    since_fresh: u32,
    /// Claims since the last retry.
    since_retry: u32,
    options: Options,
}

/// The ends of a queue.
#[derive(Debug, Clone, Copy)]
struct List {
    head: u32,
    tail: u32,
}

/// The neighbours of an event in its queue.
#[derive(Debug, Clone, Copy)]
struct Link {
    before: u32,
    after: u32,
}

const ALONE: Link = Link { before: NONE, after: NONE };

impl Ready {
    pub(crate) fn new(options: Options) -> Self {
        let empty = List { head: NONE, tail: NONE };
        Ready { lists: [empty; 3], links: Vec::new(), since_fresh: 0, since_retry: 0, options }
    }

    pub(crate) fn push(&mut self, event: u32, class: Class) {
        let before = self.lists[class as usize].tail;
        self.insert(event, class, Link { before, after: NONE });
    }

    /// An event that was claimed and not begun goes back to where it was.
    pub(crate) fn push_front(&mut self, event: u32, class: Class) {
        let after = self.lists[class as usize].head;
        self.insert(event, class, Link { before: NONE, after });
    }

    /// Takes the next event.
    pub(crate) fn pop(&mut self) -> Option<(u32, Class)> {
        let class = self.next()?;
        let event = self.lists[class as usize].head;
        self.remove(event, class);
        match class {
            Class::Fresh => self.since_fresh = 0,
            // A retry takes the turn of a promoted event, so that fresh ones do not wait longer for it.
            Class::Promoted | Class::Retry => self.since_fresh = self.since_fresh.saturating_add(1),
        }
        self.since_retry = if class == Class::Retry { 0 } else { self.since_retry.saturating_add(1) };
        Some((event, class))
    }

    /// Takes out one that stands anywhere in the queue of its class.
    pub(crate) fn remove(&mut self, event: u32, class: Class) {
        let Link { before, after } = std::mem::replace(&mut self.links[event as usize], ALONE);
        let list = &mut self.lists[class as usize];
        match before {
            NONE => list.head = after,
            before => self.links[before as usize].after = after,
        }
        match after {
            NONE => list.tail = before,
            after => self.links[after as usize].before = before,
        }
    }

    fn insert(&mut self, event: u32, class: Class, link: Link) {
        if event as usize >= self.links.len() {
            self.links.resize(event as usize + 1, ALONE);
        }
        self.links[event as usize] = link;
        let list = &mut self.lists[class as usize];
        match link.before {
            NONE => list.head = event,
            before => self.links[before as usize].after = event,
        }
        match link.after {
            NONE => list.tail = event,
            after => self.links[after as usize].before = event,
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
        self.lists[class as usize].head != NONE
    }
}
