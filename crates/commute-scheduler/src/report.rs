//! Questions of people: which lanes are busy, and what would a failure hold up.

use commute_core::Lane;

use crate::lanes::{LaneMap, NONE};
use crate::parking::ParkScope;
use crate::scheduler::{Scheduler, State, Ticket};

/// One lane, for people who look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneReport {
    /// Which.
    pub lane: Lane,
    /// How many events hold it.
    pub holders: usize,
    /// How many events wait in it.
    pub waiting: usize,
    /// Whether something is set aside on it.
    pub parked: bool,
}

/// What an admitted event does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It waits for an earlier one.
    Waiting,
    /// It could run if a worker took it.
    Ready,
    /// It was handed out.
    Running,
    /// It waits for its next attempt and holds its lanes.
    BackingOff,
}

impl Scheduler {
    /// Every lane that somebody stands in, in no order. A hold counts like an event.
    pub fn lanes(&self) -> impl Iterator<Item = LaneReport> + '_ {
        self.lanes.live().map(|queue| LaneReport {
            lane: queue.lane,
            holders: queue.holders as usize,
            waiting: queue.waiting as usize,
            parked: self.is_parked(queue.lane),
        })
    }

    /// Whether somebody stands in a lane.
    pub fn is_live(&self, lane: Lane) -> bool {
        self.lanes.has(lane)
    }

    /// The first event of each of these lanes, if there is one. O(events).
    pub fn heads(&self, lanes: &[Lane]) -> Vec<Option<Ticket>> {
        let places: LaneMap<usize> = (0..).zip(lanes).map(|(n, lane)| (*lane, n)).collect();
        let mut heads: Vec<Option<u32>> = vec![None; lanes.len()];
        for (index, event) in (0..).zip(&self.events) {
            if matches!(event.state, State::Free | State::Held) {
                continue;
            }
            let mut node = event.first_node;
            while node != NONE {
                if let Some(n) = places.get(&self.lanes.lane_of(node)) {
                    let first = heads[*n].is_none_or(|head| event.admitted < self.events[head as usize].admitted);
                    heads[*n] = if first { Some(index) } else { heads[*n] };
                }
                node = self.lanes.node(node).next_of_event;
            }
        }
        heads.into_iter().map(|head| head.map(|index| self.ticket(index))).collect()
    }

    /// What an event does; nothing when its ticket is over.
    pub fn standing(&self, ticket: Ticket) -> Option<Standing> {
        match self.state(ticket)? {
            State::Free | State::Held => None,
            State::Waiting => Some(Standing::Waiting),
            State::Ready(_) => Some(Standing::Ready),
            State::Running(_) => Some(Standing::Running),
            State::BackingOff => Some(Standing::BackingOff),
        }
    }

    /// The lanes in which an event waits, the primary one first.
    pub fn waits_in(&self, ticket: Ticket) -> Vec<Lane> {
        if self.standing(ticket).is_none() {
            return Vec::new();
        }
        let waiting = self.nodes_of(ticket.index).into_iter().filter(|(node, _)| !self.lanes.node(*node).holds);
        waiting.map(|(node, _)| self.lanes.lane_of(node)).collect()
    }

    /// The lanes in which most events wait, longest first. O(lanes).
    pub fn busiest_lanes(&self, most: usize) -> Vec<LaneReport> {
        let mut lanes: Vec<_> = self.lanes().collect();
        lanes.sort_by_key(|lane| (std::cmp::Reverse(lane.waiting), lane.lane));
        lanes.truncate(most);
        lanes
    }

    /// How many events wait for this one, directly or through others: what its failure holds up.
    pub fn dependents(&self, ticket: Ticket) -> usize {
        match self.state(ticket) {
            Some(_) => self.held_up(ticket.index, ParkScope::All).len() - 1,
            None => 0,
        }
    }
}
