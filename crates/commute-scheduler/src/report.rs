//! Questions of people: which lanes are busy, and what would a failure hold up.

use commute_core::Lane;

use crate::parking::ParkScope;
use crate::scheduler::{Scheduler, Ticket};

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

impl Scheduler {
    /// The lanes in which most events wait, longest first. O(lanes).
    pub fn busiest_lanes(&self, most: usize) -> Vec<LaneReport> {
        let mut lanes: Vec<_> = self
            .lanes
            .live()
            .map(|queue| LaneReport {
                lane: queue.lane,
                holders: queue.holders as usize,
                waiting: queue.waiting as usize,
                parked: self.is_parked(queue.lane),
            })
            .collect();
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
