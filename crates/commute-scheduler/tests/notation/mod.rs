//! How tests write events: `w:a+r:b` writes a and reads b, `add:a` applies an operation of the class "add" to a.

#![allow(dead_code, reason = "each test file uses a part of it")]

use commute_core::{Footprint, commutes, reads, writes};
use commute_scheduler::{Options, Scheduler, Ticket};

pub(crate) fn footprint(event: &str) -> Footprint {
    let accesses = event.split('+').map(|access| match access.split_once(':').expect("how:what") {
        ("r", key) => reads(key),
        ("w", key) => writes(key),
        (class, key) => commutes(class, key),
    });
    accesses.collect()
}

/// A scheduler with these events, and their tickets.
pub(crate) fn admitted(events: &str) -> (Scheduler, Vec<Ticket>) {
    let mut scheduler = Scheduler::new(Options::default());
    let admit = |event| scheduler.admit(&footprint(event), false).expect("nothing is parked").0;
    let tickets = events.split(' ').map(admit).collect();
    (scheduler, tickets)
}

/// Claims all that is ready; answers the numbers of the events, from one, in the order of claims.
pub(crate) fn claimed(scheduler: &mut Scheduler, tickets: &[Ticket]) -> Vec<usize> {
    let mut claimed = Vec::new();
    scheduler.claim(usize::MAX, &mut claimed);
    claimed.into_iter().map(|ticket| number(tickets, ticket)).collect()
}

pub(crate) fn number(tickets: &[Ticket], ticket: Ticket) -> usize {
    tickets.iter().position(|known| *known == ticket).expect("a known ticket") + 1
}
