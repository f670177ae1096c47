//! The model: a list of live events in the order of admission, and nothing clever.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;

use commute_core::{Footprint, Lane, Mode};
use commute_scheduler::{Scheduler, Ticket};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Waiting,
    Ready,
    Running,
    BackingOff,
}

#[derive(Debug, Clone)]
struct Live {
    ticket: Ticket,
    number: u64,
    footprint: Footprint,
    place: Place,
    deferred: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Oracle {
    live: Vec<Live>,
    parked: BTreeMap<Lane, Mode>,
    admitted: u64,
}

impl Oracle {
    pub(crate) fn must_park(&self, footprint: &Footprint) -> bool {
        footprint.accesses().iter().any(|a| self.parked.get(&a.lane).is_some_and(|mode| mode.conflicts_with(a.mode)))
    }

    pub(crate) fn mark(&mut self, lane: Lane, mode: Mode) {
        let parked = self.parked.entry(lane).or_insert(mode);
        if parked.conflicts_with(mode) {
            *parked = Mode::Exclusive;
        }
    }

    pub(crate) fn unmark(&mut self, lane: Lane) -> bool {
        self.parked.remove(&lane).is_some()
    }

    pub(crate) fn admit(&mut self, ticket: Ticket, footprint: Footprint, deferred: bool) -> bool {
        self.admitted += 1;
        self.live.push(Live { ticket, number: self.admitted, footprint, place: Place::Waiting, deferred });
        let granted = self.is_granted(self.live.len() - 1);
        self.settle();
        granted
    }

    /// No earlier live event conflicts with it.
    fn is_granted(&self, n: usize) -> bool {
        self.live[..n].iter().all(|earlier| !earlier.footprint.conflicts_with(&self.live[n].footprint))
    }

    /// Moves what is granted out of waiting; answers how many became ready.
    fn settle(&mut self) -> usize {
        let mut ready = 0;
        for n in 0..self.live.len() {
            if self.live[n].place == Place::Waiting && self.is_granted(n) {
                self.live[n].place = if self.live[n].deferred { Place::BackingOff } else { Place::Ready };
                ready += usize::from(!self.live[n].deferred);
            }
        }
        ready
    }

    fn find(&self, ticket: Ticket) -> usize {
        self.live.iter().position(|live| live.ticket == ticket).expect("the ticket is live")
    }

    /// A ready event begins; answers its number.
    pub(crate) fn begin(&mut self, ticket: Ticket) -> u64 {
        let n = self.find(ticket);
        assert_eq!(self.live[n].place, Place::Ready);
        for other in &self.live {
            let active = matches!(other.place, Place::Running | Place::BackingOff);
            assert!(
                !active || !other.footprint.conflicts_with(&self.live[n].footprint),
                "two conflicting events overlap"
            );
        }
        self.live[n].place = Place::Running;
        self.live[n].number
    }

    pub(crate) fn put(&mut self, ticket: Ticket, place: Place) {
        let n = self.find(ticket);
        self.live[n].place = place;
    }

    pub(crate) fn place(&self, ticket: Ticket) -> Place {
        self.live[self.find(ticket)].place
    }

    pub(crate) fn due(&mut self, ticket: Ticket) -> bool {
        let n = self.find(ticket);
        let live = &mut self.live[n];
        match live.place {
            Place::BackingOff => {
                (live.place, live.deferred) = (Place::Ready, false);
                true
            }
            Place::Waiting => std::mem::take(&mut live.deferred),
            _ => false,
        }
    }

    /// Answers how many became ready.
    pub(crate) fn remove(&mut self, tickets: &[Ticket]) -> usize {
        self.live.retain(|live| !tickets.contains(&live.ticket));
        self.settle()
    }

    /// Everything that must not overtake an event: what conflicts with it or with another such event before it.
    pub(crate) fn dependents(&self, ticket: Ticket) -> Vec<Ticket> {
        let first = self.find(ticket);
        let mut together = vec![first];
        for n in first + 1..self.live.len() {
            if together.iter().any(|m| self.live[*m].footprint.conflicts_with(&self.live[n].footprint)) {
                together.push(n);
            }
        }
        together[1..].iter().map(|n| self.live[*n].ticket).collect()
    }

    pub(crate) fn tickets(&self, place: impl Fn(Place) -> bool) -> Vec<Ticket> {
        self.live.iter().filter(|live| place(live.place)).map(|live| live.ticket).collect()
    }

    pub(crate) fn count(&self, place: impl Fn(Place) -> bool) -> usize {
        self.tickets(place).len()
    }

    /// Exactness: the scheduler has as many events in each state as the model.
    pub(crate) fn check(&self, scheduler: &Scheduler, seed: u64) {
        let counts = (
            self.count(|place| place == Place::Waiting),
            self.count(|place| place == Place::Ready),
            self.count(|place| place == Place::Running),
            self.count(|place| place == Place::BackingOff),
        );
        let found = (scheduler.waiting(), scheduler.ready(), scheduler.running(), scheduler.backing_off());
        assert_eq!(found, counts, "seed {seed}: waiting, ready, running, backing off");
    }
}
