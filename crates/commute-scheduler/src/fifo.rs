//! A queue of events, linked, so that one leaves it from anywhere at once.

use crate::lanes::NONE;

/// Events in the order of arrival, each at most once.
#[derive(Debug, Clone)]
pub(crate) struct Fifo {
    head: u32,
    tail: u32,
    /// One per event of the scheduler, whether it is in the queue or not.
    links: Vec<Link>,
}

/// The neighbours of an event.
#[derive(Debug, Clone, Copy)]
struct Link {
    before: u32,
    after: u32,
}

const ALONE: Link = Link { before: NONE, after: NONE };

impl Default for Fifo {
    fn default() -> Self {
        Fifo { head: NONE, tail: NONE, links: Vec::new() }
    }
}

impl Fifo {
    pub(crate) fn is_empty(&self) -> bool {
        self.head == NONE
    }

    pub(crate) fn push_back(&mut self, event: u32) {
        self.insert(event, Link { before: self.tail, after: NONE });
    }

    pub(crate) fn push_front(&mut self, event: u32) {
        self.insert(event, Link { before: NONE, after: self.head });
    }

    pub(crate) fn pop_front(&mut self) -> Option<u32> {
        let event = (self.head != NONE).then_some(self.head)?;
        self.remove(event);
        Some(event)
    }

    /// Takes out an event that is in the queue.
    pub(crate) fn remove(&mut self, event: u32) {
        let Link { before, after } = std::mem::replace(&mut self.links[event as usize], ALONE);
        match before {
            NONE => self.head = after,
            before => self.links[before as usize].after = after,
        }
        match after {
            NONE => self.tail = before,
            after => self.links[after as usize].before = before,
        }
    }

    fn insert(&mut self, event: u32, link: Link) {
        if event as usize >= self.links.len() {
            self.links.resize(event as usize + 1, ALONE);
        }
        self.links[event as usize] = link;
        match link.before {
            NONE => self.head = event,
            before => self.links[before as usize].after = event,
        }
        match link.after {
            NONE => self.tail = event,
            after => self.links[after as usize].before = event,
        }
    }
}
