//! Closing lanes by hand: nothing begins on them, everything keeps its place, and nothing stays behind.

mod notation;

use commute_core::{Footprint, Key, Lane};
use commute_scheduler::{Options, ParkScope, Scheduler, Standing, Ticket};
use notation::{admitted, claimed, footprint};

fn lane(key: &str) -> Lane {
    key.lane()
}

#[test]
fn a_held_lane_lets_what_runs_finish_and_begins_nothing() {
    let (mut scheduler, tickets) = admitted("w:a w:a w:b");
    assert_eq!(claimed(&mut scheduler, &tickets), [1, 3]);
    let hold = scheduler.hold(lane("a"));
    assert_eq!(scheduler.complete(tickets[0]), 0, "the second was next");
    assert_eq!(scheduler.let_go(hold), 1);
    assert_eq!(claimed(&mut scheduler, &tickets), [2]);
    scheduler.complete(tickets[1]);
    scheduler.complete(tickets[2]);
    assert!(scheduler.is_idle());
}

#[test]
fn what_was_ready_waits_again_and_keeps_its_other_lanes() {
    let (mut scheduler, tickets) = admitted("w:a+w:b w:b w:a");
    let hold = scheduler.hold(lane("a"));
    assert_eq!(scheduler.standing(tickets[0]), Some(Standing::Waiting));
    assert_eq!(scheduler.waits_in(tickets[0]), [lane("a")]);
    assert!(claimed(&mut scheduler, &tickets).is_empty(), "the second must not pass the first");
    assert_eq!(scheduler.let_go(hold), 1);
    assert_eq!(claimed(&mut scheduler, &tickets), [1]);
    scheduler.complete(tickets[0]);
    assert_eq!(claimed(&mut scheduler, &tickets), [2, 3]);
}

#[test]
fn what_ran_and_is_tried_again_waits_behind_the_hold() {
    let (mut scheduler, tickets) = admitted("w:a w:a");
    claimed(&mut scheduler, &tickets);
    let hold = scheduler.hold(lane("a"));
    scheduler.back_off(tickets[0]);
    scheduler.due(tickets[0]);
    assert!(claimed(&mut scheduler, &tickets).is_empty());
    scheduler.let_go(hold);
    assert_eq!(claimed(&mut scheduler, &tickets), [1]);
    let hold = scheduler.hold(lane("a"));
    scheduler.give_back(tickets[0]);
    assert!(claimed(&mut scheduler, &tickets).is_empty());
    scheduler.let_go(hold);
    assert_eq!(claimed(&mut scheduler, &tickets), [1]);
}

#[test]
fn a_lane_can_be_held_before_anybody_came_and_more_than_once() {
    let mut scheduler = Scheduler::new(Options::default());
    let (first, second) = (scheduler.hold(lane("a")), scheduler.hold(lane("a")));
    let (ticket, _) = scheduler.admit(&footprint("w:a"), false).unwrap();
    assert_eq!((scheduler.let_go(first), scheduler.let_go(first)), (0, 0));
    assert!(claimed(&mut scheduler, &[ticket]).is_empty());
    assert_eq!(scheduler.let_go(second), 1);
    assert_eq!(scheduler.heads(&[lane("a"), lane("b")]), [Some(ticket), None]);
}

#[test]
fn parking_passes_a_hold_by() {
    let (mut scheduler, tickets) = admitted("r:a w:a r:b");
    claimed(&mut scheduler, &tickets);
    let hold = scheduler.hold(lane("a"));
    let (reader, _) = scheduler.admit(&footprint("r:a"), false).unwrap();
    let parked: Vec<_> = scheduler.park(tickets[0], ParkScope::All).into_iter().map(|parked| parked.ticket).collect();
    assert_eq!(parked, [tickets[0], tickets[1], reader], "the hold is none of them");
    scheduler.unpark([lane("a")]);
    let (again, _) = scheduler.admit(&footprint("r:a"), false).unwrap();
    assert!(claimed(&mut scheduler, &[again]).is_empty(), "it is held still");
    assert_eq!(scheduler.let_go(hold), 1);
}

/// What the test knows of an event.
struct Known {
    ticket: Ticket,
    footprint: Footprint,
    running: bool,
    pausing: bool,
}

/// Claims all and checks it against the rule: ready is who is not running, not backing off, conflicts with nobody before it,
/// and touches no lane that is held.
fn check(scheduler: &mut Scheduler, events: &mut [Known], holds: &[(Lane, Ticket)], seed: u64) {
    let free = |n: usize| {
        let event = &events[n];
        let held = event.footprint.lanes().any(|lane| holds.iter().any(|(held, _)| *held == lane));
        let behind = events[..n].iter().any(|before| before.footprint.conflicts_with(&event.footprint));
        !event.running && !event.pausing && !held && !behind
    };
    let mut expected: Vec<_> = (0..events.len()).filter(|n| free(*n)).map(|n| events[n].ticket).collect();
    let mut found = Vec::new();
    scheduler.clone().claim(usize::MAX, &mut found);
    expected.sort();
    found.sort();
    assert_eq!(found, expected, "seed {seed}");
    let mut some = Vec::new();
    scheduler.claim(fastrand::Rng::with_seed(seed).usize(0..3), &mut some);
    for event in events.iter_mut() {
        event.running |= some.contains(&event.ticket);
    }
}

#[test]
fn holds_that_come_and_go_change_no_order_and_lose_nothing() {
    for seed in 0..400 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut scheduler = Scheduler::new(Options::default());
        let (mut events, mut holds) = (Vec::<Known>::new(), Vec::<(Lane, Ticket)>::new());
        for step in 0..120 {
            let any =
                |events: &[Known], rng: &mut fastrand::Rng| (!events.is_empty()).then(|| rng.usize(0..events.len()));
            match rng.u8(0..10) {
                0..=3 if step < 80 => {
                    let access = |rng: &mut fastrand::Rng| {
                        format!("{}:{}", ["w", "r", "add"][rng.usize(0..3)], ["a", "b", "c"][rng.usize(0..3)])
                    };
                    let footprint = footprint(&format!("{}+{}", access(&mut rng), access(&mut rng)));
                    let pausing = rng.u8(0..5) == 0;
                    let (ticket, _) = scheduler.admit(&footprint, pausing).unwrap();
                    events.push(Known { ticket, footprint, running: false, pausing });
                }
                4 => {
                    let lane = lane(["a", "b", "c"][rng.usize(0..3)]);
                    holds.push((lane, scheduler.hold(lane)));
                }
                5 if !holds.is_empty() => {
                    let (_, hold) = holds.swap_remove(rng.usize(0..holds.len()));
                    scheduler.let_go(hold);
                }
                6 => {
                    if let Some(n) = any(&events, &mut rng)
                        && events[n].running
                    {
                        scheduler.back_off(events[n].ticket);
                        (events[n].running, events[n].pausing) = (false, true);
                    }
                }
                7 if rng.bool() => {
                    if let Some(n) = any(&events, &mut rng)
                        && events[n].running
                    {
                        scheduler.give_back(events[n].ticket);
                        events[n].running = false;
                    }
                }
                7 => {
                    if let Some(n) = any(&events, &mut rng)
                        && events[n].pausing
                    {
                        scheduler.due(events[n].ticket);
                        events[n].pausing = false;
                    }
                }
                _ => {
                    if let Some(n) = any(&events, &mut rng) {
                        match events[n].running {
                            true => _ = scheduler.complete(events.remove(n).ticket),
                            false if rng.u8(0..4) == 0 => _ = scheduler.withdraw(events.remove(n).ticket),
                            false => {}
                        }
                    }
                }
            }
            check(&mut scheduler, &mut events, &holds, seed);
        }
        for (_, hold) in holds {
            scheduler.let_go(hold);
        }
        for event in &events {
            scheduler.due(event.ticket);
        }
        let mut ready = Vec::new();
        while scheduler.claim(1, &mut ready) > 0 || events.iter().any(|event| event.running) {
            events.retain(|event| {
                let over = event.running || ready.contains(&event.ticket);
                over.then(|| scheduler.complete(event.ticket));
                !over
            });
        }
        assert!(events.is_empty() && scheduler.is_idle() && scheduler.live_lanes() == 0, "seed {seed}");
    }
}
