//! The model: a list of live events in the order of admission, and nothing clever.
//!
//! Every question is answered by comparing every pair. After each step the model compares itself with the scheduler:
//! the very same events must be ready, and the same lanes must be live.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use commute_core::{Access, Footprint, Lane, Mode};
use commute_scheduler::{ParkScope, Scheduler, Ticket};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Waiting,
    Ready,
    Running,
    BackingOff,
}

impl Place {
    pub(crate) fn is_active(self) -> bool {
        matches!(self, Place::Running | Place::BackingOff)
    }
}

/// Why an event is ready, once it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Promoted,
    Fresh,
    Retry,
}

#[derive(Debug, Clone)]
struct Live {
    ticket: Ticket,
    number: u64,
    footprint: Footprint,
    place: Place,
    class: Class,
    deferred: bool,
}

/// What a test expects to be set aside: whom, and which lanes it holds.
pub(crate) type Aside = Vec<(Ticket, Vec<(Lane, Mode)>)>;

#[derive(Debug, Default, Clone)]
pub(crate) struct Oracle {
    live: Vec<Live>,
    parked: BTreeMap<Lane, Mode>,
    admitted: u64,
    /// What is ready, by class. Of the promoted ones the oldest must be claimed first, of the others the first.
    promoted: VecDeque<Ticket>,
    fresh: VecDeque<Ticket>,
    retries: VecDeque<Ticket>,
    /// Other claims since the last one of the class, and those of them that passed a ready one.
    since_fresh: u32,
    passed_fresh: u32,
    since_retry: u32,
    passed_retry: u32,
}

impl Oracle {
    pub(crate) fn must_park(&self, footprint: &Footprint) -> bool {
        footprint.accesses().iter().any(|access| self.is_caught(access))
    }

    fn is_caught(&self, access: &Access) -> bool {
        self.parked.get(&access.lane).is_some_and(|mode| mode.conflicts_with(access.mode))
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
        assert!(self.live.iter().all(|live| live.ticket.index() != ticket.index()), "two live events share an index");
        self.admitted += 1;
        let (number, place, class) = (self.admitted, Place::Waiting, Class::Promoted);
        self.live.push(Live { ticket, number, footprint, place, class, deferred });
        let granted = self.is_granted(self.live.len() - 1);
        self.settle(Class::Fresh);
        granted
    }

    /// No earlier live event conflicts with it.
    fn is_granted(&self, n: usize) -> bool {
        self.live[..n].iter().all(|earlier| !earlier.footprint.conflicts_with(&self.live[n].footprint))
    }

    /// Moves what is granted out of waiting; answers how many became ready.
    fn settle(&mut self, class: Class) -> usize {
        let mut ready = 0;
        for n in 0..self.live.len() {
            if self.live[n].place == Place::Waiting && self.is_granted(n) {
                match self.live[n].deferred {
                    true => self.live[n].place = Place::BackingOff,
                    false => self.make_ready(n, class),
                }
                ready += usize::from(!self.live[n].deferred);
            }
        }
        ready
    }

    fn make_ready(&mut self, n: usize, class: Class) {
        let live = &mut self.live[n];
        live.place = Place::Ready;
        // What was due before its lanes were free is a retry already.
        if live.class != Class::Retry {
            live.class = class;
        }
        let (class, ticket) = (live.class, live.ticket);
        self.queue(class).push_back(ticket);
    }

    fn queue(&mut self, class: Class) -> &mut VecDeque<Ticket> {
        match class {
            Class::Promoted => &mut self.promoted,
            Class::Fresh => &mut self.fresh,
            Class::Retry => &mut self.retries,
        }
    }

    fn find(&self, ticket: Ticket) -> usize {
        self.live.iter().position(|live| live.ticket == ticket).expect("the ticket is live")
    }

    /// A ready event begins; answers its number.
    pub(crate) fn begin(&mut self, ticket: Ticket) -> u64 {
        let n = self.find(ticket);
        assert_eq!(self.live[n].place, Place::Ready);
        assert!(self.is_granted(n), "it overtakes an earlier conflicting event");
        for other in &self.live {
            let overlap = other.place.is_active() && other.footprint.conflicts_with(&self.live[n].footprint);
            assert!(!overlap, "two conflicting events overlap");
        }
        self.check_turn(n);
        self.live[n].place = Place::Running;
        self.live[n].number
    }

    /// Each class goes in its order; three claims at most pass a fresh one; of eight claims one is a retry, unless nothing
    /// else is ready; and just-unblocked events go before all whose share is not due.
    fn check_turn(&mut self, n: usize) {
        let (ticket, class) = (self.live[n].ticket, self.live[n].class);
        let others = !self.fresh.is_empty() || !self.promoted.is_empty();
        let number = |ticket: &Ticket| self.live[self.find(*ticket)].number;
        let first = match class {
            Class::Fresh => self.fresh.front().copied(),
            Class::Promoted => self.promoted.iter().copied().min_by_key(number),
            Class::Retry => self.retries.front().copied(),
        };
        assert_eq!(first, Some(ticket), "{class:?} events go in order");
        self.queue(class).retain(|other| *other != ticket);
        match class {
            Class::Fresh => {
                assert!(self.promoted.is_empty() || self.since_fresh >= 3, "fresh after {} others", self.since_fresh);
                (self.since_fresh, self.passed_fresh) = (0, 0);
            }
            _ => {
                self.since_fresh += 1;
                self.passed_fresh += u32::from(!self.fresh.is_empty());
                assert!(self.passed_fresh <= 3, "{} claims passed a fresh event", self.passed_fresh);
            }
        }
        match class {
            Class::Retry => {
                assert!(!others || self.since_retry >= 7, "a retry after {} others", self.since_retry);
                (self.since_retry, self.passed_retry) = (0, 0);
            }
            _ => {
                self.since_retry += 1;
                self.passed_retry += u32::from(!self.retries.is_empty());
                // One more than seven: the turn of a fresh event may fall on that of a retry.
                assert!(self.passed_retry <= 8, "{} claims passed a retry", self.passed_retry);
            }
        }
    }

    pub(crate) fn fail(&mut self, ticket: Ticket) {
        let n = self.find(ticket);
        self.live[n].place = Place::BackingOff;
    }

    pub(crate) fn give_back(&mut self, ticket: Ticket) {
        let n = self.find(ticket);
        self.live[n].place = Place::Ready;
        self.queue(self.live[n].class).push_front(ticket);
    }

    pub(crate) fn place(&self, ticket: Ticket) -> Place {
        self.live[self.find(ticket)].place
    }

    pub(crate) fn due(&mut self, ticket: Ticket) -> bool {
        let n = self.find(ticket);
        let live = &mut self.live[n];
        let counts = live.place == Place::BackingOff || (live.place == Place::Waiting && live.deferred);
        if counts {
            (live.class, live.deferred) = (Class::Retry, false);
            if live.place == Place::BackingOff {
                self.make_ready(n, Class::Retry);
            }
        }
        counts
    }

    /// Answers how many became ready.
    pub(crate) fn remove(&mut self, tickets: &[Ticket]) -> usize {
        self.live.retain(|live| !tickets.contains(&live.ticket));
        for queue in [&mut self.promoted, &mut self.fresh, &mut self.retries] {
            queue.retain(|ticket| !tickets.contains(ticket));
        }
        self.settle(Class::Promoted)
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

    /// Sets aside an event and all that conflict with a lane that an earlier one of them holds.
    pub(crate) fn park(&mut self, ticket: Ticket, scope: ParkScope) -> Aside {
        let first = self.find(ticket);
        let mut aside: Aside = Vec::new();
        for n in first..self.live.len() {
            let (ticket, footprint) = (self.live[n].ticket, self.live[n].footprint.clone());
            let behind = |access: &Access| {
                let mut held = aside.iter().flat_map(|(_, lanes)| lanes);
                held.any(|(lane, mode)| *lane == access.lane && mode.conflicts_with(access.mode))
            };
            if n == first || footprint.accesses().iter().any(behind) {
                let lanes = self.held(&footprint, scope);
                lanes.iter().for_each(|(lane, mode)| self.mark(*lane, *mode));
                aside.push((ticket, lanes));
            }
        }
        aside
    }

    /// An event that could not be admitted.
    pub(crate) fn park_behind(&mut self, footprint: &Footprint, scope: ParkScope) -> Vec<(Lane, Mode)> {
        let lanes = self.held(footprint, scope);
        lanes.iter().for_each(|(lane, mode)| self.mark(*lane, *mode));
        lanes
    }

    fn held(&self, footprint: &Footprint, scope: ParkScope) -> Vec<(Lane, Mode)> {
        let accesses = footprint.accesses().iter().enumerate();
        accesses
            .filter(|(n, access)| scope == ParkScope::All || *n == 0 || self.is_caught(access))
            .map(|(_, access)| (access.lane, access.mode))
            .collect()
    }

    pub(crate) fn tickets(&self, place: impl Fn(Place) -> bool) -> Vec<Ticket> {
        self.live.iter().filter(|live| place(live.place)).map(|live| live.ticket).collect()
    }

    /// What waits for the clock.
    pub(crate) fn deferred(&self) -> Vec<Ticket> {
        let waits = |live: &&Live| live.place == Place::BackingOff || (live.place == Place::Waiting && live.deferred);
        self.live.iter().filter(waits).map(|live| live.ticket).collect()
    }

    pub(crate) fn count(&self, place: impl Fn(Place) -> bool) -> usize {
        self.tickets(place).len()
    }

    fn lanes(&self) -> BTreeSet<Lane> {
        self.live.iter().flat_map(|live| live.footprint.lanes()).collect()
    }

    /// Exactness: the very events that the model calls ready are those that a copy of the scheduler hands out.
    pub(crate) fn check(&self, scheduler: &Scheduler, history: &dyn std::fmt::Debug) {
        let counts = (
            self.count(|place| place == Place::Waiting),
            self.count(|place| place == Place::Ready),
            self.count(|place| place == Place::Running),
            self.count(|place| place == Place::BackingOff),
        );
        let found = (scheduler.waiting(), scheduler.ready(), scheduler.running(), scheduler.backing_off());
        assert_eq!(found, counts, "{history:?}: waiting, ready, running, backing off");
        assert_eq!(scheduler.live_lanes(), self.lanes().len(), "{history:?}: live lanes");
        assert_eq!(scheduler.parked_lanes(), self.parked.len(), "{history:?}: parked lanes");
        assert_eq!(scheduler.is_idle(), self.live.is_empty(), "{history:?}: idle");
        let mut ready = Vec::new();
        scheduler.clone().claim(usize::MAX, &mut ready);
        ready.sort();
        let mut expected = self.tickets(|place| place == Place::Ready);
        expected.sort();
        assert_eq!(ready, expected, "{history:?}: which are ready");
    }

    /// What people see of the lanes is so.
    pub(crate) fn check_lanes(&self, scheduler: &Scheduler) {
        for report in scheduler.busiest_lanes(usize::MAX) {
            let in_lane = |n: &usize| self.live[*n].footprint.lanes().any(|lane| lane == report.lane);
            let mode = |n: usize| {
                let accesses = self.live[n].footprint.accesses();
                accesses.iter().find(|access| access.lane == report.lane).map(|access| access.mode)
            };
            let all: Vec<_> = (0..self.live.len()).filter(in_lane).collect();
            let conflict = |a: usize, b: usize| mode(a).zip(mode(b)).is_some_and(|(a, b)| a.conflicts_with(b));
            let holds = |n: &&usize| all.iter().take_while(|m| m < n).all(|m| !conflict(*m, **n));
            let holders = all.iter().filter(holds).count();
            assert_eq!((report.holders, report.waiting), (holders, all.len() - holders), "{}", report.lane);
            assert_eq!(report.parked, self.parked.contains_key(&report.lane));
        }
    }
}
