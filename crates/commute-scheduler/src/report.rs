//! Questions of people: which lanes are busy, and what would a failure hold up.

use std::collections::BTreeSet;

use commute_core::Lane;

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
        if self.state(ticket).is_none() {
            return 0;
        }
        let mut known = BTreeSet::from([ticket.index]);
        let mut next = vec![ticket.index];
        while let Some(index) = next.pop() {
            for (node, _) in self.nodes_of(index) {
                next.extend(self.lanes.behind(node).filter(|behind| known.insert(*behind)));
            }
        }
        known.len() - 1
    }
}
