//! Random histories against an obvious quadratic model: exclusion, order, exactness, determinism, no leak.

mod oracle;

use commute_core::{Access, Footprint, Lane, Mode};
use commute_scheduler::{Options, ParkScope, Scheduler, Ticket, Withdrawn};
use fastrand::Rng;
use oracle::{Oracle, Place};

/// One random history; returns a trace, so that the same seed can be compared with itself.
fn history(seed: u64, steps: usize) -> Vec<u64> {
    let mut rng = Rng::with_seed(seed);
    let lanes = rng.u64(1..=6);
    let mut scheduler = Scheduler::new(Options::default());
    let mut oracle = Oracle::default();
    let mut trace = Vec::new();
    for _ in 0..steps {
        match rng.u32(0..100) {
            0..35 => admit(&mut scheduler, &mut oracle, footprint(&mut rng, lanes), rng.u8(0..10) == 0),
            35..60 => claim(&mut scheduler, &mut oracle, rng.usize(0..4), &mut trace),
            60..80 => over(&mut scheduler, &mut oracle, &mut rng),
            80..86 => fail(&mut scheduler, &mut oracle, &mut rng),
            86..91 => due(&mut scheduler, &mut oracle, &mut rng),
            91..94 => give_back(&mut scheduler, &mut oracle, &mut rng),
            94..96 => withdraw(&mut scheduler, &mut oracle, &mut rng),
            96..98 => park(&mut scheduler, &mut oracle, &mut rng),
            _ => unpark(&mut scheduler, &mut oracle, &mut rng, lanes),
        }
        oracle.check(&scheduler, seed);
    }
    drain(&mut scheduler, &mut oracle, &mut trace);
    assert!(scheduler.is_idle() && scheduler.live_lanes() == 0, "seed {seed}: something leaked");
    trace
}

fn footprint(rng: &mut Rng, lanes: u64) -> Footprint {
    let access = |rng: &mut Rng| {
        let mode = match rng.u8(0..10) {
            0..6 => Mode::Exclusive,
            6..8 => Mode::READ,
            class => Mode::Shared(u32::from(class)),
        };
        Access { lane: Lane(rng.u64(0..lanes)), mode }
    };
    (0..rng.usize(0..4)).map(|_| access(rng)).collect()
}

fn admit(scheduler: &mut Scheduler, oracle: &mut Oracle, footprint: Footprint, deferred: bool) {
    match scheduler.admit(&footprint, deferred) {
        Ok((ticket, admission)) => {
            assert!(!oracle.must_park(&footprint));
            let ready = oracle.admit(ticket, footprint, deferred);
            assert_eq!(admission.is_ready(), ready && !deferred);
        }
        Err(_) => {
            assert!(oracle.must_park(&footprint));
            for (lane, mode) in scheduler.park_behind(&footprint, ParkScope::All) {
                oracle.mark(lane, mode);
            }
        }
    }
}

fn claim(scheduler: &mut Scheduler, oracle: &mut Oracle, max: usize, trace: &mut Vec<u64>) {
    let mut claimed = Vec::new();
    let could = oracle.count(|place| place == Place::Ready);
    assert_eq!(scheduler.claim(max, &mut claimed), could.min(max));
    for ticket in claimed {
        trace.push(oracle.begin(ticket));
    }
}

fn any(oracle: &Oracle, rng: &mut Rng, place: impl Fn(Place) -> bool) -> Option<Ticket> {
    let all: Vec<_> = oracle.tickets(place);
    rng.choice(all)
}

fn over(scheduler: &mut Scheduler, oracle: &mut Oracle, rng: &mut Rng) {
    let Some(ticket) = any(oracle, rng, |place| place == Place::Running) else { return };
    let became_ready = oracle.remove(&[ticket]);
    assert_eq!(scheduler.complete(ticket), became_ready);
    assert_eq!(scheduler.complete(ticket), 0, "a ticket that is over does nothing");
}

fn fail(scheduler: &mut Scheduler, oracle: &mut Oracle, rng: &mut Rng) {
    let Some(ticket) = any(oracle, rng, |place| place == Place::Running) else { return };
    assert!(scheduler.back_off(ticket));
    oracle.put(ticket, Place::BackingOff);
}

fn due(scheduler: &mut Scheduler, oracle: &mut Oracle, rng: &mut Rng) {
    let Some(ticket) = any(oracle, rng, |_| true) else { return };
    assert_eq!(scheduler.due(ticket), oracle.due(ticket));
}

fn give_back(scheduler: &mut Scheduler, oracle: &mut Oracle, rng: &mut Rng) {
    let Some(ticket) = any(oracle, rng, |place| place == Place::Running) else { return };
    assert!(scheduler.give_back(ticket));
    oracle.put(ticket, Place::Ready);
}

fn withdraw(scheduler: &mut Scheduler, oracle: &mut Oracle, rng: &mut Rng) {
    let Some(ticket) = any(oracle, rng, |_| true) else { return };
    match oracle.place(ticket) {
        Place::Running => assert_eq!(scheduler.withdraw(ticket), Some(Withdrawn::Running)),
        _ => {
            assert_eq!(scheduler.withdraw(ticket), Some(Withdrawn::Gone));
            oracle.remove(&[ticket]);
        }
    }
}

fn park(scheduler: &mut Scheduler, oracle: &mut Oracle, rng: &mut Rng) {
    let Some(ticket) = any(oracle, rng, |place| matches!(place, Place::Running | Place::BackingOff)) else { return };
    let dependents = oracle.dependents(ticket);
    assert_eq!(scheduler.dependents(ticket), dependents.len());
    let expected: Vec<_> = std::iter::once(ticket).chain(dependents).collect();
    let parked = scheduler.park(ticket, ParkScope::All);
    assert_eq!(parked.iter().map(|parked| parked.ticket).collect::<Vec<_>>(), expected);
    for parked in &parked {
        for (lane, mode) in &parked.lanes {
            oracle.mark(*lane, *mode);
        }
    }
    oracle.remove(&expected);
}

fn unpark(scheduler: &mut Scheduler, oracle: &mut Oracle, rng: &mut Rng, lanes: u64) {
    let lane = Lane(rng.u64(0..lanes));
    assert_eq!(scheduler.is_parked(lane), oracle.unmark(lane));
    scheduler.unpark([lane]);
}

fn drain(scheduler: &mut Scheduler, oracle: &mut Oracle, trace: &mut Vec<u64>) {
    loop {
        for ticket in oracle.tickets(|_| true) {
            assert_eq!(scheduler.due(ticket), oracle.due(ticket));
        }
        claim(scheduler, oracle, usize::MAX, trace);
        let running = oracle.tickets(|place| place == Place::Running);
        if running.is_empty() {
            break;
        }
        for ticket in running {
            oracle.remove(&[ticket]);
            scheduler.complete(ticket);
        }
    }
    assert_eq!(oracle.count(|_| true), 0, "something waits for nobody");
}

#[test]
fn random_histories_agree_with_the_quadratic_model() {
    for seed in 0..3_000 {
        history(seed, 120);
    }
}

#[test]
fn the_same_history_gives_the_same_grants() {
    for seed in 0..50 {
        assert_eq!(history(seed, 300), history(seed, 300), "seed {seed}");
    }
}
