//! Lanes: who runs beside whom, and who waits for whom.

mod notation;

use commute_scheduler::{Options, Scheduler, Withdrawn};
use notation::{admitted, claimed, footprint};

/// Claims and completes these events round by round; each round is all that is ready.
fn check(events: &str, rounds: &[&[usize]]) {
    let (mut scheduler, tickets) = admitted(events);
    for round in rounds {
        let mut running = claimed(&mut scheduler, &tickets);
        running.sort();
        assert_eq!(&running, round, "{events}");
        running.into_iter().for_each(|number| {
            scheduler.complete(tickets[number - 1]);
        });
    }
    assert!(scheduler.is_idle(), "{events}");
}

#[test]
fn writers_of_one_resource_run_one_after_the_other() {
    check("w:a w:a w:a", &[&[1], &[2], &[3]]);
}

#[test]
fn events_that_touch_different_resources_run_together() {
    check("w:a w:b r:c add:d", &[&[1, 2, 3, 4]]);
}

#[test]
fn a_writer_waits_for_every_earlier_reader() {
    check("r:a r:a w:a", &[&[1, 2], &[3]]);
}

#[test]
fn a_reader_does_not_overtake_a_waiting_writer() {
    check("r:a w:a r:a r:a w:a", &[&[1], &[2], &[3, 4], &[5]]);
}

#[test]
fn operations_of_one_class_run_together_and_other_classes_keep_the_order() {
    check("add:a add:a max:a add:a", &[&[1, 2], &[3], &[4]]);
    check("add:a r:a r:a add:a", &[&[1], &[2, 3], &[4]]);
}

#[test]
fn an_event_waits_for_the_slowest_of_its_resources_and_passes_nobody() {
    check("w:a w:b w:a+w:b w:a w:c", &[&[1, 2, 5], &[3], &[4]]);
}

#[test]
fn a_chain_runs_in_order_however_long() {
    check("w:a w:a+w:b w:b+w:c w:c+w:d w:d", &[&[1], &[2], &[3], &[4], &[5]]);
}

#[test]
fn a_backing_off_event_holds_its_lanes_until_it_is_over() {
    let (mut scheduler, tickets) = admitted("w:a w:a w:b");
    assert_eq!(claimed(&mut scheduler, &tickets), [1, 3]);
    assert!(scheduler.back_off(tickets[0]));
    assert_eq!((scheduler.ready(), scheduler.waiting(), scheduler.backing_off()), (0, 1, 1));
    assert!(scheduler.due(tickets[0]));
    assert_eq!(claimed(&mut scheduler, &tickets), [1]);
    assert_eq!(scheduler.complete(tickets[0]), 1);
}

#[test]
fn a_deferred_event_becomes_ready_when_it_is_due_and_its_lanes_are_free_in_either_order() {
    for due_first in [true, false] {
        let (mut scheduler, mut tickets) = admitted("w:a");
        tickets.push(scheduler.admit(&footprint("w:a"), true).unwrap().0);
        claimed(&mut scheduler, &tickets);
        if due_first {
            assert!(scheduler.due(tickets[1]));
        }
        assert_eq!(scheduler.complete(tickets[0]), usize::from(due_first));
        assert_eq!(scheduler.ready(), usize::from(due_first));
        assert_eq!(scheduler.due(tickets[1]), !due_first);
        assert_eq!(claimed(&mut scheduler, &tickets), [2]);
    }
}

#[test]
fn a_withdrawn_event_lets_those_behind_it_go_on() {
    let (mut scheduler, tickets) = admitted("r:a w:a r:a");
    claimed(&mut scheduler, &tickets);
    assert_eq!(scheduler.withdraw(tickets[1]), Some(Withdrawn::Gone));
    assert_eq!(claimed(&mut scheduler, &tickets), [3], "it waited for the writer only");
}

#[test]
fn a_withdrawn_running_event_keeps_its_lanes_until_it_is_completed() {
    let (mut scheduler, tickets) = admitted("w:a w:a");
    claimed(&mut scheduler, &tickets);
    assert_eq!(scheduler.withdraw(tickets[0]), Some(Withdrawn::Running));
    assert_eq!(scheduler.ready(), 0);
    assert_eq!(scheduler.complete(tickets[0]), 1);
}

#[test]
fn a_ticket_that_is_over_names_nobody_even_when_its_place_is_taken_again() {
    let (mut scheduler, tickets) = admitted("w:a");
    claimed(&mut scheduler, &tickets);
    scheduler.complete(tickets[0]);
    let (next, _) = scheduler.admit(&footprint("w:a"), false).unwrap();
    assert_eq!(next.index(), tickets[0].index());
    assert_eq!(scheduler.withdraw(tickets[0]), None);
    assert_eq!(scheduler.ready(), 1);
}

#[test]
fn withdrawing_a_long_lane_youngest_first_takes_one_step_each() {
    let mut scheduler = Scheduler::new(Options::default());
    let tickets: Vec<_> = (0..100_000).map(|_| scheduler.admit(&footprint("w:a"), false).unwrap().0).collect();
    for ticket in tickets.into_iter().rev() {
        assert_eq!(scheduler.withdraw(ticket), Some(Withdrawn::Gone));
    }
    assert!(scheduler.is_idle());
}

#[test]
fn the_busiest_lanes_come_first_and_say_who_holds_and_who_waits() {
    let (scheduler, tickets) = admitted("r:a r:a w:b w:b w:b w:c");
    let lanes = scheduler.busiest_lanes(2);
    assert_eq!((lanes.len(), lanes[0].holders, lanes[0].waiting), (2, 1, 2));
    assert_eq!(scheduler.dependents(tickets[2]), 2);
    assert_eq!(scheduler.dependents(tickets[0]), 0, "readers wait for no reader");
}
