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
    ///
    /// They are gone from the scheduler, and their lanes are marked. An earlier event may be parked later, while it is
    /// still running now; it belongs before those behind it that are set aside here. So what is set aside is brought back
    /// in the order of arrival, not in that of the calls.
    pub fn park(&mut self, ticket: Ticket, scope: ParkScope) -> Vec<Parked> {
        if !matches!(self.state(ticket), Some(State::Running(_) | State::BackingOff)) {
            return Vec::new();
        }
        let together = self.held_up(ticket.index, scope);
        for (lane, mode) in together.iter().flat_map(|parked| &parked.lanes) {
            self.mark_parked(*lane, *mode);
        }
        self.remove(together.iter().map(|parked| parked.ticket.index));
        together
    }

    /// An event and all that must not overtake it if it holds its lanes in this scope, in the order of admission.
    pub(crate) fn held_up(&self, first: u32, scope: ParkScope) -> Vec<Parked> {
        let mut together = Vec::new();
        let mut marks = LaneMap::<Mode>::default();
        let mut known = BTreeSet::from([first]);
        // In the order of admission, so that every event is judged after all that it could be behind.
        let mut next = BinaryHeap::from([Reverse((self.events[first as usize].admitted, first))]);
        while let Some(Reverse((_, index))) = next.pop() {
            let mut lanes = SmallVec::new();
            for (node, primary) in self.nodes_of(index) {
                let (lane, mode) = (self.lanes.lane_of(node), self.lanes.node(node).mode);
                let caught = conflicts(&self.parked, lane, mode) || conflicts(&marks, lane, mode);
                if scope == ParkScope::Primary && !primary && !caught {
                    continue;
                }
                lanes.push((lane, mode));
                // Who conflicts with the mark is known already. So a lane is walked only when its mark grows, which is
                // twice at most, however many events stand in it.
                if mark(&mut marks, lane, mode) {
                    for behind in self.lanes.behind(node) {
                        // A hold keeps its place, whoever is set aside around it.
                        if self.events[behind as usize].state != State::Held && known.insert(behind) {
                            next.push(Reverse((self.events[behind as usize].admitted, behind)));
                        }
                    }
                }
            }
            together.push(Parked { ticket: self.ticket(index), lanes });
        }
        together
    }

    /// An event that could not be admitted was set aside behind what is parked. Answers the lanes that it holds.
    pub fn park_behind(&mut self, footprint: &Footprint, scope: ParkScope) -> SmallVec<[(Lane, Mode); 4]> {
        let mut lanes = SmallVec::new();
        for (n, access) in footprint.accesses().iter().enumerate() {
            let caught = conflicts(&self.parked, access.lane, access.mode);
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
        mark(&mut self.parked, lane, mode);
    }

    /// Nothing is set aside on these lanes any more. The caller admits what was, in order, before anything else. A lane
    /// that others are still set aside on is marked again by [`Scheduler::mark_parked`].
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
        match footprint.accesses().iter().find(|access| conflicts(&self.parked, access.lane, access.mode)) {
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

/// Adds an access to the mark of its lane: sharers of one class keep sharing it, everything else makes it exclusive.
/// Answers whether the mark grew.
fn mark(marks: &mut LaneMap<Mode>, lane: Lane, mode: Mode) -> bool {
    let before = marks.get(&lane).copied();
    let after = match before {
        Some(before) if before.conflicts_with(mode) => Mode::Exclusive,
        _ => mode,
    };
    marks.insert(lane, after);
    before != Some(after)
}

fn conflicts(marks: &LaneMap<Mode>, lane: Lane, mode: Mode) -> bool {
    marks.get(&lane).is_some_and(|mark| mark.conflicts_with(mode))
}
