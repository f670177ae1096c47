//! Lanes: one queue per resource. Whoever shares the head shares it; the others wait in order.

use std::hash::{BuildHasherDefault, Hasher};

use commute_core::{Lane, Mode};
use hashbrown::HashMap;

/// No node.
pub(crate) const NONE: u32 = u32::MAX;

/// A lane is a hash already, so hashing it again is wasted.
#[derive(Default, Clone)]
pub(crate) struct LaneHasher(u64);

impl Hasher for LaneHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0.rotate_left(5) ^ u64::from(*byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }
    fn write_u64(&mut self, lane: u64) {
        self.0 = lane;
    }
}

/// A map keyed by lanes.
pub(crate) type LaneMap<T> = HashMap<Lane, T, BuildHasherDefault<LaneHasher>>;

/// One access of one event: it holds its lane, or waits in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Node {
    pub(crate) event: u32,
    pub(crate) queue: u32,
    pub(crate) mode: Mode,
    pub(crate) holds: bool,
    /// Its neighbours among those who wait.
    previous_in_lane: u32,
    next_in_lane: u32,
    pub(crate) next_of_event: u32,
}

/// The queue of one resource.
#[derive(Debug, Clone)]
pub(crate) struct Queue {
    pub(crate) lane: Lane,
    pub(crate) holders: u32,
    /// Of all holders; means nothing when there is none.
    mode: Mode,
    head: u32,
    tail: u32,
    pub(crate) waiting: u32,
}

/// All lanes that somebody stands in. A lane that nobody stands in takes no memory.
#[derive(Debug, Default, Clone)]
pub(crate) struct Lanes {
    table: LaneMap<u32>,
    queues: Vec<Queue>,
    free_queues: Vec<u32>,
    nodes: Vec<Node>,
    free_nodes: Vec<u32>,
}

impl Lanes {
    /// Puts an event into a lane, in front of its other nodes; answers the node.
    ///
    /// It holds the lane at once if nobody waits and all holders share it. That is exact: whoever waits at the head
    /// conflicts with the holders, so a newcomer that shares with the holders conflicts with the head.
    pub(crate) fn enter(&mut self, lane: Lane, mode: Mode, event: u32, next_of_event: u32) -> u32 {
        let queue = self.queue_of(lane);
        let entry = &mut self.queues[queue as usize];
        let holds = entry.waiting == 0 && (entry.holders == 0 || !entry.mode.conflicts_with(mode));
        let previous_in_lane = if holds { NONE } else { entry.tail };
        let node = Node { event, queue, mode, holds, previous_in_lane, next_in_lane: NONE, next_of_event };
        let index = self.put(node);
        let entry = &mut self.queues[queue as usize];
        if holds {
            (entry.holders, entry.mode) = (entry.holders + 1, mode);
        } else {
            (entry.waiting, entry.tail) = (entry.waiting + 1, index);
            match previous_in_lane {
                NONE => entry.head = index,
                previous => self.nodes[previous as usize].next_in_lane = index,
            }
        }
        index
    }

    fn put(&mut self, node: Node) -> u32 {
        match self.free_nodes.pop() {
            Some(index) => {
                self.nodes[index as usize] = node;
                index
            }
            None => {
                self.nodes.push(node);
                (self.nodes.len() - 1) as u32
            }
        }
    }

    /// Puts one that writes into a lane, in front of all that wait; answers the node.
    pub(crate) fn enter_first(&mut self, lane: Lane, event: u32) -> u32 {
        let (queue, mode) = (self.queue_of(lane), Mode::Exclusive);
        let holds = self.queues[queue as usize].holders == 0;
        let alone = Node { event, queue, mode, holds, previous_in_lane: NONE, next_in_lane: NONE, next_of_event: NONE };
        let node = self.put(alone);
        match holds {
            true => (self.queues[queue as usize].holders, self.queues[queue as usize].mode) = (1, mode),
            false => self.link_first(node),
        }
        node
    }

    /// A node that holds its lane gives it up and waits at its head. Nobody gets hold of the lane by it: somebody must enter
    /// first afterwards.
    pub(crate) fn stand_back(&mut self, node: u32) {
        let queue = self.nodes[node as usize].queue;
        self.queues[queue as usize].holders -= 1;
        self.nodes[node as usize].holds = false;
        self.link_first(node);
    }

    /// A node that holds its lane gives it up if those at its head are `first`, and waits behind them. Answers whether it did.
    pub(crate) fn stand_behind(&mut self, node: u32, first: impl Fn(u32) -> bool, granted: &mut Vec<u32>) -> bool {
        let queue = self.nodes[node as usize].queue;
        let (mut before, mut next) = (NONE, self.queues[queue as usize].head);
        while next != NONE && first(self.nodes[next as usize].event) {
            (before, next) = (next, self.nodes[next as usize].next_in_lane);
        }
        if before == NONE {
            return false;
        }
        let here = &mut self.nodes[node as usize];
        (here.holds, here.previous_in_lane, here.next_in_lane) = (false, before, next);
        self.nodes[before as usize].next_in_lane = node;
        let entry = &mut self.queues[queue as usize];
        (entry.holders, entry.waiting) = (entry.holders - 1, entry.waiting + 1);
        match next {
            NONE => entry.tail = node,
            next => self.nodes[next as usize].previous_in_lane = node,
        }
        self.grant(queue, granted);
        true
    }

    fn link_first(&mut self, node: u32) {
        let entry = &mut self.queues[self.nodes[node as usize].queue as usize];
        entry.waiting += 1;
        let next = std::mem::replace(&mut entry.head, node);
        self.nodes[node as usize].next_in_lane = next;
        match next {
            NONE => entry.tail = node,
            next => self.nodes[next as usize].previous_in_lane = node,
        }
    }

    pub(crate) fn has(&self, lane: Lane) -> bool {
        self.table.contains_key(&lane)
    }

    /// Takes a holding node out of its lane and appends to `granted` the events that got hold of the lane by it.
    pub(crate) fn release(&mut self, node: u32, granted: &mut Vec<u32>) {
        let queue = self.nodes[node as usize].queue;
        self.free_nodes.push(node);
        self.queues[queue as usize].holders -= 1;
        self.grant(queue, granted);
    }

    /// Takes a waiting node out of its lane; those behind it may get hold of the lane by it.
    pub(crate) fn leave(&mut self, node: u32, granted: &mut Vec<u32>) {
        let Node { queue, previous_in_lane: previous, next_in_lane: next, .. } = self.nodes[node as usize];
        let entry = &mut self.queues[queue as usize];
        entry.waiting -= 1;
        match previous {
            NONE => entry.head = next,
            previous => self.nodes[previous as usize].next_in_lane = next,
        }
        match next {
            NONE => entry.tail = previous,
            next => self.nodes[next as usize].previous_in_lane = previous,
        }
        self.free_nodes.push(node);
        self.grant(queue, granted);
    }

    /// Lets the head of the queue hold the lane as far as it can be shared, and forgets the lane when nobody is left.
    fn grant(&mut self, queue: u32, granted: &mut Vec<u32>) {
        let entry = &mut self.queues[queue as usize];
        while entry.head != NONE {
            let node = &mut self.nodes[entry.head as usize];
            if entry.holders > 0 && entry.mode.conflicts_with(node.mode) {
                return;
            }
            node.holds = true;
            (entry.holders, entry.mode) = (entry.holders + 1, node.mode);
            entry.waiting -= 1;
            entry.head = std::mem::replace(&mut node.next_in_lane, NONE);
            granted.push(node.event);
            if entry.head != NONE {
                self.nodes[entry.head as usize].previous_in_lane = NONE;
            }
        }
        entry.tail = NONE;
        if entry.holders == 0 {
            self.table.remove(&entry.lane);
            self.free_queues.push(queue);
        }
    }

    fn queue_of(&mut self, lane: Lane) -> u32 {
        let (queues, free) = (&mut self.queues, &mut self.free_queues);
        *self.table.entry(lane).or_insert_with(|| {
            let queue = Queue { lane, holders: 0, mode: Mode::Exclusive, head: NONE, tail: NONE, waiting: 0 };
            match free.pop() {
                Some(index) => {
                    queues[index as usize] = queue;
                    index
                }
                None => {
                    queues.push(queue);
                    (queues.len() - 1) as u32
                }
            }
        })
    }

    pub(crate) fn node(&self, node: u32) -> &Node {
        &self.nodes[node as usize]
    }

    pub(crate) fn lane_of(&self, node: u32) -> Lane {
        self.queues[self.nodes[node as usize].queue as usize].lane
    }

    /// The events that wait in the lane of a node behind it and conflict with it.
    pub(crate) fn behind(&self, node: u32) -> impl Iterator<Item = u32> + '_ {
        let node_ref = self.nodes[node as usize];
        let first = if node_ref.holds { self.queues[node_ref.queue as usize].head } else { node_ref.next_in_lane };
        let some = |at: u32| (at != NONE).then_some(at);
        std::iter::successors(some(first), move |at| some(self.nodes[*at as usize].next_in_lane))
            .map(|at| self.nodes[at as usize])
            .filter(move |other| other.mode.conflicts_with(node_ref.mode))
            .map(|other| other.event)
    }

    /// Every lane that somebody stands in.
    pub(crate) fn live(&self) -> impl Iterator<Item = &Queue> + '_ {
        self.table.values().map(|queue| &self.queues[*queue as usize])
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    pub(crate) fn nodes_in_use(&self) -> usize {
        self.nodes.len() - self.free_nodes.len()
    }
}
