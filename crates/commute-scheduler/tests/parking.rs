//! Parking: what is set aside, in which order, and what goes on.

mod notation;

use commute_core::{Key, Lane, Mode};
use commute_scheduler::{Options, ParkScope, Parked, Scheduler};
use notation::{admitted, claimed, footprint, number};

/// Runs what can run, parks the first event, and answers the numbers of what was set aside.
fn parked(scope: ParkScope, events: &str) -> (Vec<usize>, Scheduler) {
    let (mut scheduler, tickets) = admitted(events);
    claimed(&mut scheduler, &tickets);
    let parked = scheduler.park(tickets[0], scope);
    (parked.iter().map(|parked| number(&tickets, parked.ticket)).collect(), scheduler)
}

fn lanes(parked: &Parked) -> Vec<Lane> {
    parked.lanes.iter().map(|(lane, _)| *lane).collect()
}

fn check(events: &str, set_aside: &[usize]) {
    assert_eq!(parked(ParkScope::All, events).0, set_aside, "{events}");
}

#[test]
fn everything_behind_a_parked_event_is_set_aside_in_order() {
    check("w:a w:a w:b w:a", &[1, 2, 4]);
    check("w:a w:b", &[1]);
    check("w:a r:a r:a w:a", &[1, 2, 3, 4]);
}

#[test]
fn what_shares_a_resource_with_the_parked_event_goes_on() {
    check("r:a r:a w:b", &[1]);
    check("r:a r:a w:a r:a", &[1, 3, 4]);
}

#[test]
fn strict_parking_spreads_from_key_to_key() {
    check("w:a w:a+w:b w:b+w:c w:c w:d", &[1, 2, 3, 4]);
}

#[test]
fn primary_parking_spreads_along_first_keys_only() {
    assert_eq!(parked(ParkScope::Primary, "w:a+w:b w:b w:a+w:c w:c").0, [1, 3]);
    assert_eq!(parked(ParkScope::Primary, "w:a w:b+w:a w:b").0, [1, 2, 3]);
}

#[test]
fn later_conflicting_events_are_refused_until_the_lane_is_released() {
    let (_, mut scheduler) = parked(ParkScope::All, "w:a w:a");
    let lane: Lane = "a".lane();
    assert!(scheduler.admit(&footprint("w:a"), false).is_err());
    assert!(scheduler.admit(&footprint("w:b"), false).is_ok());
    assert_eq!(scheduler.park_behind(&footprint("w:a+w:c"), ParkScope::All).len(), 2);
    assert!(scheduler.admit(&footprint("r:c"), false).is_err(), "it would overtake what was set aside");
    scheduler.unpark([lane, "c".lane()]);
    assert!(scheduler.admit(&footprint("w:a"), false).is_ok());
}

#[test]
fn a_parked_reader_refuses_writers_only() {
    let mut scheduler = Scheduler::new(Options::default());
    scheduler.mark_parked("a".lane(), Mode::READ);
    assert!(scheduler.admit(&footprint("r:a"), false).is_ok());
    assert!(scheduler.admit(&footprint("w:a"), false).is_err());
}

#[test]
fn primary_parking_holds_the_first_key_and_the_keys_that_made_it_park() {
    let (mut scheduler, tickets) = admitted("w:a+w:b w:c+w:a+w:d w:b w:d");
    claimed(&mut scheduler, &tickets);
    let parked = scheduler.park(tickets[0], ParkScope::Primary);
    assert_eq!(lanes(&parked[0]), ["a".lane()]);
    assert_eq!(lanes(&parked[1]), ["c".lane(), "a".lane()]);
    assert_eq!(parked.len(), 2);
    assert_eq!(claimed(&mut scheduler, &tickets), [3, 4], "the order on b and d is given up");
    assert_eq!(scheduler.park_behind(&footprint("w:e+w:c+w:f"), ParkScope::Primary).len(), 2);
}

#[test]
fn a_lane_with_two_kinds_of_parked_access_refuses_both() {
    let (_, mut scheduler) = parked(ParkScope::All, "r:a");
    scheduler.mark_parked("a".lane(), Mode::READ);
    assert!(scheduler.admit(&footprint("r:a"), false).is_ok());
    let refused = scheduler.admit(&footprint("add:a"), false).unwrap_err();
    assert_eq!(refused.0, "a".lane());
    scheduler.park_behind(&footprint("add:a"), ParkScope::All);
    assert!(scheduler.admit(&footprint("r:a"), false).is_err(), "it would overtake the addition");
    assert!(scheduler.admit(&footprint("add:a"), false).is_err(), "it would overtake the reader");
}

#[test]
fn a_backing_off_event_can_be_parked_and_a_waiting_or_ready_one_cannot() {
    let (mut scheduler, tickets) = admitted("w:a w:a w:b");
    assert!(scheduler.park(tickets[0], ParkScope::All).is_empty(), "it is ready");
    claimed(&mut scheduler, &tickets);
    assert!(scheduler.park(tickets[1], ParkScope::All).is_empty(), "it waits");
    scheduler.back_off(tickets[0]);
    assert_eq!(scheduler.park(tickets[0], ParkScope::All).len(), 2);
    assert!(scheduler.park(tickets[0], ParkScope::All).is_empty(), "it is over");
    assert_eq!((scheduler.running(), scheduler.live_lanes(), scheduler.parked_lanes()), (1, 1, 1));
}

#[test]
fn an_earlier_event_runs_on_beside_what_is_parked_behind_it() {
    let (mut scheduler, tickets) = admitted("w:b w:a w:a+w:b w:b");
    assert_eq!(claimed(&mut scheduler, &tickets), [1, 2]);
    let parked = scheduler.park(tickets[1], ParkScope::All);
    assert_eq!(parked.iter().map(|parked| number(&tickets, parked.ticket)).collect::<Vec<_>>(), [2, 3, 4]);
    assert_eq!((scheduler.complete(tickets[0]), scheduler.is_idle()), (0, true));
}

#[test]
fn an_earlier_event_may_be_parked_after_those_behind_it() {
    let (mut scheduler, tickets) = admitted("w:b w:a w:a+w:b");
    claimed(&mut scheduler, &tickets);
    let mut aside = scheduler.park(tickets[1], ParkScope::All);
    aside.extend(scheduler.park(tickets[0], ParkScope::All));
    let numbers: Vec<_> = aside.iter().map(|parked| number(&tickets, parked.ticket)).collect();
    assert_eq!(numbers, [2, 3, 1], "3 comes back after 1: in the order of arrival, not of the calls");
}

#[test]
fn the_blast_radius_is_what_parking_would_set_aside() {
    let (mut scheduler, tickets) = admitted("w:a w:a+w:b r:b r:b w:c w:b+w:c");
    claimed(&mut scheduler, &tickets);
    assert_eq!(scheduler.dependents(tickets[0]), 4);
    assert_eq!(scheduler.park(tickets[0], ParkScope::All).len(), 5);
}

#[test]
fn parking_a_long_lane_takes_one_walk() {
    let (mut scheduler, tickets) = admitted(&vec!["w:a"; 100_000].join(" "));
    claimed(&mut scheduler, &tickets);
    assert_eq!(scheduler.dependents(tickets[0]), tickets.len() - 1);
    assert_eq!(scheduler.park(tickets[0], ParkScope::All).len(), tickets.len());
    assert!(scheduler.is_idle());
}
