//! Ready queues: which of the events that may run goes first.
//!
//! Just-unblocked events go before fresh ones 3 : 1. Fresh first would leave hot lanes idle between two of their events
//! and stretch the whole run; unblocked first would starve everybody else while a hot lane is long. Retries have a small
//! share of their own, so that a failing dependency does not take the workers from healthy events.

use std::collections::VecDeque;

use crate::scheduler::{Options, Ticket};

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

#[derive(Debug)]
pub(crate) struct Ready {
    promoted: VecDeque<Ticket>,
    fresh: VecDeque<Ticket>,
    retry: VecDeque<Ticket>,
    /// Promoted claims since the last fresh one.
    since_fresh: u32,
    /// Claims since the last retry.
    since_retry: u32,
    options: Options,
}

impl Ready {
    pub(crate) fn new(options: Options) -> Self {
        let empty = VecDeque::new;
        Ready { promoted: empty(), fresh: empty(), retry: empty(), since_fresh: 0, since_retry: 0, options }
    }

    pub(crate) fn push(&mut self, ticket: Ticket, class: Class) {
        self.queue(class).push_back(ticket);
    }

    /// An event that was claimed and not begun goes back to where it was.
    pub(crate) fn push_front(&mut self, ticket: Ticket, class: Class) {
        self.queue(class).push_front(ticket);
    }

    pub(crate) fn pop(&mut self) -> Option<(Ticket, Class)> {
        let class = self.next()?;
        let ticket = self.queue(class).pop_front()?;
        match class {
            Class::Fresh => self.since_fresh = 0,
            // A retry takes the turn of a promoted event, so that fresh ones do not wait longer for it.
            Class::Promoted | Class::Retry => self.since_fresh += 1,
        }
        self.since_retry = if class == Class::Retry { 0 } else { self.since_retry + 1 };
        Some((ticket, class))
    }

    fn next(&self) -> Option<Class> {
        if !self.fresh.is_empty() && self.since_fresh >= self.options.fairness {
            return Some(Class::Fresh);
        }
        if !self.retry.is_empty() && self.since_retry + 1 >= self.options.retry_every {
            return Some(Class::Retry);
        }
        [Class::Promoted, Class::Fresh, Class::Retry].into_iter().find(|class| !self.queue_ref(*class).is_empty())
    }

    fn queue(&mut self, class: Class) -> &mut VecDeque<Ticket> {
        match class {
            Class::Promoted => &mut self.promoted,
            Class::Fresh => &mut self.fresh,
            Class::Retry => &mut self.retry,
        }
    }

    fn queue_ref(&self, class: Class) -> &VecDeque<Ticket> {
        match class {
            Class::Promoted => &self.promoted,
            Class::Fresh => &self.fresh,
            Class::Retry => &self.retry,
        }
    }
}
