//! Every history of a small scope: all footprints, every order of operations.
//!
//! A history goes from the first admission to an empty scheduler. Admissions, claims and completions are tried in every
//! order; the rest is *trouble*, of which a history has a fixed number, so that it ends.

mod oracle;

use commute_core::{Access, Footprint, Lane, Mode};
use commute_scheduler::{Options, ParkScope, Scheduler, Ticket, Withdrawn};
use oracle::{Oracle, Place};

#[derive(Debug, Clone, Copy)]
enum Step {
    Admit,
    Claim,
    Complete(Ticket),
    Due(Ticket),
    // Trouble:
    AdmitDeferred,
    BackOff(Ticket),
    GiveBack(Ticket),
    Withdraw(Ticket),
    Park(Ticket, ParkScope),
}

impl Step {
    fn is_trouble(self) -> bool {
        !matches!(self, Step::Admit | Step::Claim | Step::Complete(_) | Step::Due(_))
    }
}

/// A point in a history: a scheduler beside its model.
#[derive(Clone)]
struct Point {
    scheduler: Scheduler,
    oracle: Oracle,
    admitted: usize,
    trouble: usize,
}

impl Point {
    fn next(&self, footprints: &[Footprint]) -> Vec<Step> {
        let oracle = &self.oracle;
        let mut steps = Vec::new();
        if self.admitted < footprints.len() {
            steps.extend([Step::Admit, Step::AdmitDeferred]);
        }
        if oracle.count(|place| place == Place::Ready) > 0 {
            steps.push(Step::Claim);
        }
        for ticket in oracle.tickets(|place| place == Place::Running) {
            steps.extend([Step::Complete(ticket), Step::BackOff(ticket), Step::GiveBack(ticket)]);
        }
        for ticket in oracle.tickets(Place::is_active) {
            steps.extend([Step::Park(ticket, ParkScope::All), Step::Park(ticket, ParkScope::Primary)]);
        }
        for ticket in oracle.tickets(|place| place != Place::Running) {
            steps.push(Step::Withdraw(ticket));
        }
        steps.extend(oracle.deferred().into_iter().map(Step::Due));
        steps.retain(|step| self.trouble > 0 || !step.is_trouble());
        steps
    }

    fn take(&mut self, step: Step, footprints: &[Footprint]) {
        self.trouble -= usize::from(step.is_trouble());
        let Point { scheduler, oracle, admitted, .. } = self;
        match step {
            Step::Admit | Step::AdmitDeferred => {
                let (footprint, deferred) = (&footprints[*admitted], matches!(step, Step::AdmitDeferred));
                *admitted += 1;
                match scheduler.admit(footprint, deferred) {
                    Ok((ticket, admission)) => {
                        assert!(!oracle.must_park(footprint));
                        let granted = oracle.admit(ticket, footprint.clone(), deferred);
                        assert_eq!(admission.is_ready(), granted && !deferred);
                    }
                    Err(_) => {
                        assert!(oracle.must_park(footprint));
                        let held = scheduler.park_behind(footprint, ParkScope::All);
                        assert_eq!(held.to_vec(), oracle.park_behind(footprint, ParkScope::All));
                    }
                }
            }
            Step::Claim => {
                let mut claimed = Vec::new();
                scheduler.claim(1, &mut claimed);
                oracle.begin(claimed[0]);
            }
            Step::Complete(ticket) => {
                let became_ready = oracle.remove(&[ticket]);
                assert_eq!(scheduler.complete(ticket), became_ready);
            }
            Step::Due(ticket) => assert!(scheduler.due(ticket) && oracle.due(ticket)),
            Step::BackOff(ticket) => {
                assert!(scheduler.back_off(ticket));
                oracle.fail(ticket);
            }
            Step::GiveBack(ticket) => {
                assert!(scheduler.give_back(ticket));
                oracle.give_back(ticket);
            }
            Step::Withdraw(ticket) => {
                assert_eq!(scheduler.withdraw(ticket), Some(Withdrawn::Gone));
                oracle.remove(&[ticket]);
            }
            Step::Park(ticket, scope) => {
                let expected = oracle.park(ticket, scope);
                let parked = scheduler.park(ticket, scope).into_iter();
                let parked: Vec<_> = parked.map(|parked| (parked.ticket, parked.lanes.to_vec())).collect();
                assert_eq!(parked, expected);
                oracle.remove(&expected.iter().map(|(ticket, _)| *ticket).collect::<Vec<_>>());
            }
        }
    }
}

/// Tries every next step; answers how many histories came to their end.
fn explore(point: &Point, footprints: &[Footprint], history: &mut Vec<Step>) -> u64 {
    let steps = point.next(footprints);
    if steps.is_empty() {
        assert!(point.scheduler.is_idle() && point.scheduler.live_lanes() == 0, "{footprints:?} {history:?}");
        return 1;
    }
    let mut histories = 0;
    for step in steps {
        let mut next = point.clone();
        history.push(step);
        next.take(step, footprints);
        next.oracle.check(&next.scheduler, &(footprints, &history));
        histories += explore(&next, footprints, history);
        history.pop();
    }
    histories
}

/// Every sequence of `events` footprints out of `choice`; answers how many histories there are.
fn check(events: usize, choice: &[Footprint], trouble: usize) -> u64 {
    let (scheduler, oracle) = (Scheduler::new(Options::default()), Oracle::default());
    let begin = Point { scheduler, oracle, admitted: 0, trouble };
    let sequences = choice.len().pow(events as u32);
    (0..sequences)
        .map(|n| {
            let digit = |place: usize| n / choice.len().pow(place as u32) % choice.len();
            let footprints: Vec<_> = (0..events).map(|place| choice[digit(place)].clone()).collect();
            explore(&begin, &footprints, &mut Vec::new())
        })
        .sum()
}

/// All footprints over so many lanes that write or read some of them; the primary lane is the first or the last.
fn all(lanes: u64) -> Vec<Footprint> {
    let modes = [None, Some(Mode::Exclusive), Some(Mode::READ)];
    let sequences = modes.len().pow(lanes as u32);
    let mut all: Vec<Footprint> = Vec::new();
    for n in 0..sequences {
        let mode = |lane: u64| modes[n / modes.len().pow(lane as u32) % modes.len()];
        let access = |lane| mode(lane).map(|mode| Access { lane: Lane(lane), mode });
        all.push((0..lanes).filter_map(access).collect());
        all.push((0..lanes).rev().filter_map(access).collect());
    }
    all.sort_by_key(|footprint| footprint.accesses().to_vec());
    all.dedup();
    all
}

fn of(accesses: &[(u64, Mode)]) -> Footprint {
    accesses.iter().map(|(lane, mode)| Access { lane: Lane(*lane), mode: *mode }).collect()
}

#[test]
fn three_events_over_two_lanes_in_every_order_without_trouble() {
    let histories = check(3, &all(2), 0);
    println!("{histories} histories");
    assert!(histories > 50_000);
}

#[test]
fn two_events_over_three_lanes_in_every_order_with_trouble() {
    let histories = check(2, &all(3), 1);
    println!("{histories} histories");
    assert!(histories > 50_000);
}

#[test]
fn three_events_of_every_mode_in_every_order_with_trouble() {
    let modes = [Mode::Exclusive, Mode::READ, Mode::Shared(7)];
    let histories = check(3, &modes.map(|mode| of(&[(0, mode)])), 1);
    println!("{histories} histories");
    assert!(histories > 20_000);
}

#[test]
fn three_events_in_every_order_with_trouble_twice() {
    let histories = check(3, &[of(&[(0, Mode::Exclusive)]), of(&[(0, Mode::READ)])], 2);
    println!("{histories} histories");
    assert!(histories > 50_000);
}

#[test]
fn chains_of_four_events_in_every_order_with_trouble() {
    let (write, read) = (Mode::Exclusive, Mode::READ);
    let histories = check(4, &[of(&[(0, write), (1, write)]), of(&[(1, read), (2, write)])], 1);
    println!("{histories} histories");
    assert!(histories > 30_000);
}

#[test]
fn five_events_on_one_lane_in_every_order() {
    let histories = check(5, &[of(&[(0, Mode::Exclusive)]), of(&[(0, Mode::READ)])], 0);
    println!("{histories} histories");
    assert!(histories > 5_000);
}
