//! Holding: a lane that is closed by hand. What runs is finished; everything else keeps its place and waits.
//!
//! A hold stands in its lane like an event that writes, but in front of everybody who does not run, and nobody claims it.

use std::cmp::Reverse;

use commute_core::Lane;

use crate::ready::Class;
use crate::scheduler::{Pause, Scheduler, State, Ticket};

impl Scheduler {
    /// Closes a lane until [`Scheduler::let_go`]: no event that touches it becomes ready, and one that is ready, or would
    /// be as soon as it is due, waits again. The order of the events is what it would have been. O(events).
    ///
    /// A lane may be closed while something is parked on it, and by several holds. Parking passes holds by.
    pub fn hold(&mut self, lane: Lane) -> Ticket {
        for (index, node) in self.not_running_in(lane) {
            self.lanes.stand_back(node);
            self.wait_again(index);
        }
        let index = self.next_index();
        let node = self.lanes.enter_first(lane, index);
        self.place(index, State::Held, 0, node, Pause::None)
    }

    /// Ends a hold. Answers how many events became ready by it.
    pub fn let_go(&mut self, hold: Ticket) -> usize {
        match self.state(hold) {
            Some(State::Held) => self.remove([hold.index]),
            _ => 0,
        }
    }

    /// The events that have a lane and do not run, with their nodes in it; the youngest first.
    fn not_running_in(&self, lane: Lane) -> Vec<(u32, u32)> {
        let mut found = Vec::new();
        if !self.lanes.has(lane) {
            return found;
        }
        for index in 0..self.events.len() as u32 {
            if let State::Waiting | State::Ready(_) | State::BackingOff = self.events[index as usize].state {
                let mut nodes = self.nodes_of(index).into_iter().map(|(node, _)| node);
                found.extend(nodes.find(|node| self.holds(*node, lane)).map(|node| (index, node)));
            }
        }
        found.sort_unstable_by_key(|(index, _)| Reverse(self.events[*index as usize].admitted));
        found
    }

    /// An event that ran does not run any more: it is behind the holds that waited for it.
    pub(crate) fn yield_to_holds(&mut self, index: u32) {
        if self.holds_in_use() == 0 {
            return;
        }
        let mut granted = Vec::new();
        for (node, _) in self.nodes_of(index) {
            let events = &self.events;
            let held = |event: u32| events[event as usize].state == State::Held;
            if self.lanes.node(node).holds && self.lanes.stand_behind(node, held, &mut granted) {
                self.wait_again(index);
            }
        }
        debug_assert!(granted.iter().all(|hold| self.events[*hold as usize].state == State::Held));
    }

    fn holds(&self, node: u32, lane: Lane) -> bool {
        self.lanes.node(node).holds && self.lanes.lane_of(node) == lane
    }

    /// An event has lost one of its lanes.
    fn wait_again(&mut self, index: u32) {
        let event = &mut self.events[index as usize];
        let state = event.state;
        if let State::Ready(class) = state {
            self.ready.remove(index, class, event.admitted);
        }
        event.blocked += 1;
        match state {
            State::Ready(Class::Retry) => event.pause = Pause::Over,
            State::BackingOff => event.pause = Pause::Deferred,
            _ => {}
        }
        self.set(index, State::Waiting);
    }
}
