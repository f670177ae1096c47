//! The scheduler: admits events, hands out what may run, and takes back what is over.

use std::fmt;

use commute_core::{Footprint, Lane, Mode};

use crate::lanes::{LaneMap, Lanes, NONE};
use crate::ready::{Class, Options, Ready};

/// Names an admitted event until it is over. A ticket that is over names nobody: every call with it does nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl Ticket {
    /// A small number that no other live ticket has, for a table beside the scheduler.
    pub fn index(self) -> usize {
        self.index as usize
    }
}

/// What came of an admission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Nothing before it conflicts with it.
    Ready,
    /// It waits for an earlier event.
    Waiting,
}

impl Admission {
    /// Whether nothing before it conflicts with it.
    pub fn is_ready(self) -> bool {
        self == Admission::Ready
    }
}

/// The event conflicts with something that is parked on this lane, and was not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneParked(pub Lane);

impl fmt::Display for LaneParked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lane {} is parked", self.0)
    }
}

impl std::error::Error for LaneParked {}

/// What came of a withdrawal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Withdrawn {
    /// It is gone.
    Gone,
    /// It is running and keeps its lanes until it is completed.
    Running,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Free,
    Waiting,
    Ready(Class),
    Running(Class),
    BackingOff,
    /// It is no event, but a hold.
    Held,
}

#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) generation: u32,
    pub(crate) state: State,
    /// In how many lanes it waits.
    pub(crate) blocked: u32,
    /// Its primary lane is the last of this list.
    pub(crate) first_node: u32,
    /// Which admission it was: events that conflict go in this order.
    pub(crate) admitted: u64,
    pub(crate) pause: Pause,
}

/// Whether an event has to wait for the clock besides its lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pause {
    None,
    /// It must not become ready before `due`.
    Deferred,
    /// It was due before its lanes were its own: it is a retry, and is counted as one when it becomes ready.
    Over,
}

/// See the [crate documentation](crate).
///
/// A clone goes on by itself, from the same point: the tickets of one are good for the other, too.
#[derive(Debug, Clone)]
pub struct Scheduler {
    pub(crate) lanes: Lanes,
    pub(crate) events: Vec<Event>,
    free_events: Vec<u32>,
    pub(crate) ready: Ready,
    pub(crate) parked: LaneMap<Mode>,
    admissions: u64,
    counts: Counts,
    granted: Vec<u32>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    waiting: usize,
    ready: usize,
    running: usize,
    backing_off: usize,
    held: usize,
}

impl Scheduler {
    /// An empty one.
    pub fn new(options: Options) -> Self {
        Scheduler {
            lanes: Lanes::default(),
            events: Vec::new(),
            free_events: Vec::new(),
            ready: Ready::new(options),
            parked: LaneMap::default(),
            admissions: 0,
            counts: Counts::default(),
            granted: Vec::new(),
        }
    }

    /// Admits an event behind all earlier ones. A `deferred` one does not become ready before [`Scheduler::due`].
    ///
    /// # Errors
    /// [`LaneParked`] when it conflicts with something that is set aside: the caller must set it aside too, and say so by
    /// [`Scheduler::park_behind`].
    pub fn admit(&mut self, footprint: &Footprint, deferred: bool) -> Result<(Ticket, Admission), LaneParked> {
        self.check_parked(footprint)?;
        let index = self.next_index();
        self.admissions += 1;
        let (mut first_node, mut blocked) = (NONE, 0);
        for access in footprint.accesses() {
            first_node = self.lanes.enter(access.lane, access.mode, index, first_node);
            blocked += u32::from(!self.lanes.node(first_node).holds);
        }
        let pause = if deferred { Pause::Deferred } else { Pause::None };
        let ticket = self.place(index, State::Waiting, blocked, first_node, pause);
        if blocked > 0 {
            return Ok((ticket, Admission::Waiting));
        }
        self.unblock(index, Class::Fresh);
        Ok((ticket, if deferred { Admission::Waiting } else { Admission::Ready }))
    }

    pub(crate) fn next_index(&mut self) -> u32 {
        self.free_events.pop().unwrap_or(self.events.len() as u32)
    }

    pub(crate) fn place(&mut self, index: u32, state: State, blocked: u32, first_node: u32, pause: Pause) -> Ticket {
        let generation = self.events.get(index as usize).map_or(0, |event| event.generation);
        let event = Event { generation, state, blocked, first_node, admitted: self.admissions, pause };
        match self.events.get_mut(index as usize) {
            Some(slot) => *slot = event,
            None => self.events.push(event),
        }
        if let Some(count) = self.counts.of(state) {
            *count += 1;
        }
        Ticket { index, generation }
    }

    /// Hands out up to `max` ready events, and answers how many. They run until they are completed, given back, backed
    /// off or parked.
    pub fn claim(&mut self, max: usize, claimed: &mut Vec<Ticket>) -> usize {
        let mut count = 0;
        while count < max {
            let Some((index, class)) = self.ready.pop() else { break };
            self.set(index, State::Running(class));
            claimed.push(self.ticket(index));
            count += 1;
        }
        count
    }

    /// A claimed event was not begun: it is ready again. Several are given back youngest first.
    pub fn give_back(&mut self, ticket: Ticket) -> bool {
        let Some(State::Running(class)) = self.state(ticket) else { return false };
        self.set(ticket.index, State::Ready(class));
        self.ready.give_back(ticket.index, class, self.events[ticket.index()].admitted);
        self.yield_to_holds(ticket.index);
        true
    }

    /// A running or backing-off event is over. Answers how many events became ready by it.
    pub fn complete(&mut self, ticket: Ticket) -> usize {
        match self.state(ticket) {
            Some(State::Running(_) | State::BackingOff) => self.remove([ticket.index]),
            _ => 0,
        }
    }

    /// A running event failed and will be tried again: it keeps its lanes and gives back its worker.
    pub fn back_off(&mut self, ticket: Ticket) -> bool {
        let running = matches!(self.state(ticket), Some(State::Running(_)));
        if running {
            self.set(ticket.index, State::BackingOff);
            self.yield_to_holds(ticket.index);
        }
        running
    }

    /// The back-off of an event is over: it is ready as soon as its lanes are its own. Answers whether it was in
    /// back-off, or deferred.
    pub fn due(&mut self, ticket: Ticket) -> bool {
        let Some(state) = self.state(ticket) else { return false };
        let event = &mut self.events[ticket.index()];
        match state {
            State::BackingOff => {
                event.pause = Pause::None;
                self.ready.push(ticket.index, Class::Retry, event.admitted);
                self.set(ticket.index, State::Ready(Class::Retry));
                true
            }
            State::Waiting if event.pause == Pause::Deferred => {
                event.pause = Pause::Over;
                true
            }
            _ => false,
        }
    }

    /// Takes an event back that nobody will handle here. A running one is not interrupted: it keeps its lanes until the
    /// caller completes it, so that the same event, should it come back, does not overlap with it.
    pub fn withdraw(&mut self, ticket: Ticket) -> Option<Withdrawn> {
        match self.state(ticket)? {
            State::Running(_) => Some(Withdrawn::Running),
            _ => {
                self.remove([ticket.index]);
                Some(Withdrawn::Gone)
            }
        }
    }

    pub(crate) fn state(&self, ticket: Ticket) -> Option<State> {
        let event = self.events.get(ticket.index())?;
        (event.generation == ticket.generation && event.state != State::Free).then_some(event.state)
    }

    pub(crate) fn ticket(&self, index: u32) -> Ticket {
        Ticket { index, generation: self.events[index as usize].generation }
    }

    /// Takes events out of all their lanes. Answers how many others became ready.
    pub(crate) fn remove(&mut self, indices: impl IntoIterator<Item = u32>) -> usize {
        let mut granted = std::mem::take(&mut self.granted);
        for index in indices {
            let event = &self.events[index as usize];
            if let State::Ready(class) = event.state {
                self.ready.remove(index, class, event.admitted);
            }
            let mut at = event.first_node;
            while at != NONE {
                let node = *self.lanes.node(at);
                match node.holds {
                    true => self.lanes.release(at, &mut granted),
                    false => self.lanes.leave(at, &mut granted),
                }
                at = node.next_of_event;
            }
            self.set(index, State::Free);
            let event = &mut self.events[index as usize];
            event.generation = event.generation.wrapping_add(1);
            self.free_events.push(index);
        }
        let ready = self.grant(&mut granted);
        granted.clear();
        self.granted = granted;
        ready
    }

    /// Each of these events got hold of one more lane. Answers how many became ready; they do so in the order of
    /// admission, whatever the lanes.
    fn grant(&mut self, granted: &mut Vec<u32>) -> usize {
        if granted.is_empty() {
            return 0;
        }
        let events = &mut self.events;
        granted.retain(|index| {
            let event = &mut events[*index as usize];
            // Of several that are removed, an earlier one hands its lane to the next.
            let waits = event.state == State::Waiting;
            event.blocked -= u32::from(waits);
            waits && event.blocked == 0
        });
        if granted.len() > 1 {
            granted.sort_unstable_by_key(|index| events[*index as usize].admitted);
        }
        granted.iter().filter(|index| self.unblock(**index, Class::Promoted)).count()
    }

    /// All lanes of an event are its own. Answers whether it is ready.
    fn unblock(&mut self, index: u32, class: Class) -> bool {
        let class = match self.events[index as usize].pause {
            Pause::Deferred => {
                self.set(index, State::BackingOff);
                return false;
            }
            Pause::Over => Class::Retry,
            Pause::None => class,
        };
        self.set(index, State::Ready(class));
        self.ready.push(index, class, self.events[index as usize].admitted);
        true
    }

    pub(crate) fn set(&mut self, index: u32, state: State) {
        let before = std::mem::replace(&mut self.events[index as usize].state, state);
        // A waiting event is counted when it is admitted, before its first change of state.
        if let Some(count) = self.counts.of(before) {
            *count -= 1;
        }
        if let Some(count) = self.counts.of(state) {
            *count += 1;
        }
    }

    /// How many events could run if a worker took them.
    pub fn ready(&self) -> usize {
        self.counts.ready
    }

    /// How many events wait for an earlier one.
    pub fn waiting(&self) -> usize {
        self.counts.waiting
    }

    /// How many events were handed out.
    pub fn running(&self) -> usize {
        self.counts.running
    }

    /// How many events wait for their next attempt and hold their lanes.
    pub fn backing_off(&self) -> usize {
        self.counts.backing_off
    }

    pub(crate) fn holds_in_use(&self) -> usize {
        self.counts.held
    }

    /// Whether nothing is admitted; then nothing but parked marks takes memory.
    pub fn is_idle(&self) -> bool {
        let counts = self.counts;
        let idle = counts.waiting + counts.ready + counts.running + counts.backing_off + counts.held == 0;
        debug_assert!(!idle || (self.lanes.len() == 0 && self.lanes.nodes_in_use() == 0));
        idle
    }

    /// How many lanes somebody stands in.
    pub fn live_lanes(&self) -> usize {
        self.lanes.len()
    }
}

impl Counts {
    fn of(&mut self, state: State) -> Option<&mut usize> {
        match state {
            State::Free => None,
            State::Waiting => Some(&mut self.waiting),
            State::Ready(_) => Some(&mut self.ready),
            State::Running(_) => Some(&mut self.running),
            State::BackingOff => Some(&mut self.backing_off),
            State::Held => Some(&mut self.held),
        }
    }
}
