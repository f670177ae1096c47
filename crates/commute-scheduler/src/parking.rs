//! Parking: an event that cannot be handled is set aside, and everything that must not overtake it with it.
//!
//! The scheduler only remembers which lanes are parked, and in which mode; the events themselves are gone from it and
//! lie, in order, wherever the caller keeps them.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use commute_core::{Footprint, Lane, Mode};
use smallvec::SmallVec;

use crate::lanes::{LaneMap, NONE};
use crate::scheduler::{LaneParked, Scheduler, State, Ticket};

/// Which lanes a parked event holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParkScope {
    /// All of them: no later event overtakes it anywhere.
    All,
    /// Its primary lane, and those on which it stands behind something parked. The order on its other lanes is given up.
    Primary,
}

/// An event that was set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    /// It is over for the scheduler; the ticket is only good for finding what the caller knows of it.
    pub ticket: Ticket,
    /// The lanes that it holds.
    pub lanes: SmallVec<[(Lane, Mode); 4]>,
}

impl Scheduler {
    /// Sets aside a running or backing-off event and the waiting events that must not overtake it: those that conflict
    /// with it, or with another one set aside before them. Answers all of them in the order of admission, the event
    /// itself first; nothing when the ticket is over.
    pub fn park(&mut self, ticket: Ticket, scope: ParkScope) -> Vec<Parked> {
        if !matches!(self.state(ticket), Some(State::Running(_) | State::BackingOff)) {
            return Vec::new();
        }
        let mut together = Vec::new();
        let mut swept = LaneMap::<Mode>::default();
        let mut known = BTreeSet::from([ticket.index]);
        // In the order of admission, so that every event is judged after all that it could be behind.
        let mut next = BinaryHeap::from([Reverse((self.events[ticket.index()].admitted, ticket.index))]);
        while let Some(Reverse((_, index))) = next.pop() {
            let mut lanes = SmallVec::new();
            for (node, primary) in self.nodes_of(index) {
                let (lane, mode) = (self.lanes.lane_of(node), self.lanes.node(node).mode);
                let caught = self.parked.get(&lane).is_some_and(|parked| parked.conflicts_with(mode));
                if scope == ParkScope::Primary && !primary && !caught {
                    continue;
                }
                lanes.push((lane, mode));
                // Everything behind an exclusive access is known already; so is everything that conflicts with a shared
                // one of the same class. So a lane is walked twice at most, however many events stand in it.
                let sweep = match swept.get(&lane) {
                    Some(before) => before.conflicts_with(mode) && *before != Mode::Exclusive,
                    None => true,
                };
                if !sweep {
                    continue;
                }
                swept.entry(lane).and_modify(|before| *before = Mode::Exclusive).or_insert(mode);
                for behind in self.lanes.behind(node) {
                    if known.insert(behind) {
                        next.push(Reverse((self.events[behind as usize].admitted, behind)));
                    }
                }
            }
            for (lane, mode) in &lanes {
                self.mark_parked(*lane, *mode);
            }
            together.push(Parked { ticket: self.ticket(index), lanes });
        }
        // The oldest first: each is found at the head of its lanes. What becomes ready in between goes next.
        for parked in &together {
            self.remove(parked.ticket.index);
        }
        together
    }

    /// An event that could not be admitted was set aside behind what is parked. Answers the lanes that it holds.
    pub fn park_behind(&mut self, footprint: &Footprint, scope: ParkScope) -> SmallVec<[(Lane, Mode); 4]> {
        let mut lanes = SmallVec::new();
        for (n, access) in footprint.accesses().iter().enumerate() {
            let caught = self.parked.get(&access.lane).is_some_and(|parked| parked.conflicts_with(access.mode));
            if scope == ParkScope::All || n == 0 || caught {
                lanes.push((access.lane, access.mode));
            }
        }
        for (lane, mode) in &lanes {
            self.mark_parked(*lane, *mode);
        }
        lanes
    }

    /// Something is set aside on a lane: later events that conflict with it are not admitted.
    pub fn mark_parked(&mut self, lane: Lane, mode: Mode) {
        let parked = self.parked.entry(lane).or_insert(mode);
        if parked.conflicts_with(mode) {
            *parked = Mode::Exclusive;
        }
    }

    /// Nothing is set aside on these lanes any more. The caller admits what was, in order, before anything else.
    pub fn unpark(&mut self, lanes: impl IntoIterator<Item = Lane>) {
        for lane in lanes {
            self.parked.remove(&lane);
        }
    }

    /// Whether something is set aside on a lane.
    pub fn is_parked(&self, lane: Lane) -> bool {
        self.parked.contains_key(&lane)
    }

    /// How many lanes have something set aside.
    pub fn parked_lanes(&self) -> usize {
        self.parked.len()
    }

    pub(crate) fn check_parked(&self, footprint: &Footprint) -> Result<(), LaneParked> {
        if self.parked.is_empty() {
            return Ok(());
        }
        let conflicts = |lane, mode| self.parked.get(&lane).is_some_and(|parked: &Mode| parked.conflicts_with(mode));
        match footprint.accesses().iter().find(|access| conflicts(access.lane, access.mode)) {
            Some(access) => Err(LaneParked(access.lane)),
            None => Ok(()),
        }
    }

    /// The nodes of an event, and whether each is the primary one: nodes are linked last first.
    pub(crate) fn nodes_of(&self, index: u32) -> SmallVec<[(u32, bool); 4]> {
        let mut nodes = SmallVec::new();
        let mut node = self.events[index as usize].first_node;
        while node != NONE {
            let next = self.lanes.node(node).next_of_event;
            nodes.push((node, next == NONE));
            node = next;
        }
        nodes.reverse();
        nodes
    }
}
