//! Parking: what is set aside, in which order, and what goes on.

use commute_core::{Footprint, Key, Lane, Mode, reads, writes};
use commute_scheduler::{Options, ParkScope, Scheduler, Ticket};

/// Admits events written as `w:a+r:b`, runs the first, parks it, and answers the numbers of what was set aside.
fn parked(scope: ParkScope, events: &str) -> (Vec<usize>, Scheduler) {
    let mut scheduler = Scheduler::new(Options::default());
    let tickets: Vec<Ticket> =
        events.split(' ').map(|event| scheduler.admit(&footprint(event), false).unwrap().0).collect();
    let mut claimed = Vec::new();
    scheduler.claim(usize::MAX, &mut claimed);
    let parked = scheduler.park(tickets[0], scope);
    let number = |ticket| tickets.iter().position(|known| *known == ticket).unwrap() + 1;
    (parked.iter().map(|parked| number(parked.ticket)).collect(), scheduler)
}

fn footprint(event: &str) -> Footprint {
    event
        .split('+')
        .map(|access| match access.split_once(':').unwrap() {
            ("r", key) => reads(key),
            (_, key) => writes(key),
        })
        .collect()
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
fn parking_a_long_lane_takes_one_walk() {
    let events = vec!["w:a"; 30_000].join(" ");
    let (together, scheduler) = parked(ParkScope::All, &events);
    assert_eq!(together.len(), 30_000);
    assert!(scheduler.is_idle());
}
