//! Random histories of all operations against an obvious quadratic model.
//!
//! They check exclusion, order, exactness, fairness, determinism, and that nothing leaks.

mod oracle;

use commute_core::{Access, Footprint, Lane, Mode};
use commute_scheduler::{Options, ParkScope, Scheduler, Ticket, Withdrawn};
use fastrand::Rng;
use oracle::{Oracle, Place};

/// A scheduler beside its model. Every step is done to both.
struct History {
    rng: Rng,
    lanes: u64,
    scheduler: Scheduler,
    oracle: Oracle,
    /// Tickets that are over: whatever is done with them must do nothing.
    stale: Vec<Ticket>,
    /// The numbers of the events in the order in which they were claimed.
    trace: Vec<u64>,
}

/// One random history; returns the order of claims, so that the same seed can be compared with itself.
fn history(seed: u64, steps: usize) -> Vec<u64> {
    let mut rng = Rng::with_seed(seed);
    // Few lanes make conflicts, many make parallelism; some histories are short of claims, so that queues get long.
    let (lanes, eager) = (rng.u64(1..=8), rng.u32(4..30));
    let (scheduler, oracle) = (Scheduler::new(Options::default()), Oracle::default());
    let mut history = History { rng, lanes, scheduler, oracle, stale: Vec::new(), trace: Vec::new() };
    for step in 0..steps {
        match history.rng.u32(0..70 + eager) {
            0..30 => history.admit(),
            30..42 => history.complete(),
            42..47 => history.back_off(),
            47..53 => history.due(),
            53..57 => history.give_back(),
            57..62 => history.withdraw(),
            62..64 => history.park(),
            64..65 => history.mark(),
            65..67 => history.unpark(),
            67..70 => history.misuse(),
            _ => history.claim(),
        }
        history.oracle.check(&history.scheduler, &(seed, step));
    }
    history.oracle.check_lanes(&history.scheduler);
    history.drain();
    assert!(history.scheduler.is_idle() && history.scheduler.live_lanes() == 0, "seed {seed}: something leaked");
    history.trace
}

impl History {
    fn footprint(&mut self) -> Footprint {
        let (rng, lanes) = (&mut self.rng, self.lanes);
        let mut access = || {
            let mode = match rng.u8(0..10) {
                0..6 => Mode::Exclusive,
                6..8 => Mode::READ,
                class => Mode::Shared(u32::from(class)),
            };
            Access { lane: Lane(rng.u64(0..lanes)), mode }
        };
        let several = [access(), access(), access(), access()];
        several.into_iter().take(self.rng.usize(0..=4)).collect()
    }

    fn scope(&mut self) -> ParkScope {
        if self.rng.bool() { ParkScope::All } else { ParkScope::Primary }
    }

    fn any(&mut self, place: impl Fn(Place) -> bool) -> Option<Ticket> {
        self.rng.choice(self.oracle.tickets(place))
    }

    fn admit(&mut self) {
        let (footprint, deferred) = (self.footprint(), self.rng.u8(0..8) == 0);
        match self.scheduler.admit(&footprint, deferred) {
            Ok((ticket, admission)) => {
                assert!(!self.oracle.must_park(&footprint));
                let granted = self.oracle.admit(ticket, footprint, deferred);
                assert_eq!(admission.is_ready(), granted && !deferred);
            }
            Err(refusal) => {
                assert!(self.oracle.must_park(&footprint));
                assert!(footprint.lanes().any(|lane| lane == refusal.0));
                let scope = self.scope();
                let held = self.scheduler.park_behind(&footprint, scope);
                assert_eq!(held.to_vec(), self.oracle.park_behind(&footprint, scope));
            }
        }
    }

    fn claim(&mut self) {
        let (max, mut claimed) = (self.rng.usize(0..5), Vec::new());
        let could = self.oracle.count(|place| place == Place::Ready);
        assert_eq!(self.scheduler.claim(max, &mut claimed), could.min(max));
        for ticket in claimed {
            self.trace.push(self.oracle.begin(ticket));
        }
    }

    fn complete(&mut self) {
        let Some(ticket) = self.any(Place::is_active) else { return };
        let became_ready = self.oracle.remove(&[ticket]);
        assert_eq!(self.scheduler.complete(ticket), became_ready);
        self.stale.push(ticket);
    }

    fn back_off(&mut self) {
        let Some(ticket) = self.any(|place| place == Place::Running) else { return };
        assert!(self.scheduler.back_off(ticket));
        self.oracle.fail(ticket);
    }

    fn due(&mut self) {
        let Some(ticket) = self.any(|place| place != Place::Ready) else { return };
        assert_eq!(self.scheduler.due(ticket), self.oracle.due(ticket));
    }

    fn give_back(&mut self) {
        let Some(ticket) = self.any(|place| place == Place::Running) else { return };
        assert!(self.scheduler.give_back(ticket));
        self.oracle.give_back(ticket);
    }

    fn withdraw(&mut self) {
        let Some(ticket) = self.any(|_| true) else { return };
        match self.oracle.place(ticket) {
            Place::Running => assert_eq!(self.scheduler.withdraw(ticket), Some(Withdrawn::Running)),
            _ => {
                assert_eq!(self.scheduler.withdraw(ticket), Some(Withdrawn::Gone));
                self.oracle.remove(&[ticket]);
                self.stale.push(ticket);
            }
        }
    }

    fn park(&mut self) {
        let Some(ticket) = self.any(Place::is_active) else { return };
        assert_eq!(self.scheduler.dependents(ticket), self.oracle.dependents(ticket).len());
        let scope = self.scope();
        let expected = self.oracle.park(ticket, scope);
        let parked = self.scheduler.park(ticket, scope);
        let parked: Vec<_> = parked.into_iter().map(|parked| (parked.ticket, parked.lanes.to_vec())).collect();
        assert_eq!(parked, expected);
        let gone: Vec<_> = expected.into_iter().map(|(ticket, _)| ticket).collect();
        self.oracle.remove(&gone);
        self.stale.extend(gone);
    }

    fn mark(&mut self) {
        let Some(access) = self.footprint().accesses().first().copied() else { return };
        self.scheduler.mark_parked(access.lane, access.mode);
        self.oracle.mark(access.lane, access.mode);
    }

    fn unpark(&mut self) {
        let lane = Lane(self.rng.u64(0..self.lanes));
        assert_eq!(self.scheduler.is_parked(lane), self.oracle.unmark(lane));
        self.scheduler.unpark([lane]);
    }

    /// Calls that have no sense here change nothing.
    fn misuse(&mut self) {
        if let Some(ticket) = self.rng.choice(&self.stale).copied() {
            let scheduler = &mut self.scheduler;
            assert_eq!((scheduler.complete(ticket), scheduler.withdraw(ticket)), (0, None));
            assert!(!scheduler.back_off(ticket) && !scheduler.give_back(ticket) && !scheduler.due(ticket));
            assert!(scheduler.park(ticket, ParkScope::All).is_empty() && scheduler.dependents(ticket) == 0);
        }
        if let Some(ticket) = self.any(|place| !place.is_active()) {
            let scheduler = &mut self.scheduler;
            assert_eq!(scheduler.complete(ticket), 0);
            assert!(!scheduler.back_off(ticket) && !scheduler.give_back(ticket));
            assert!(scheduler.park(ticket, ParkScope::All).is_empty());
        }
        if let Some(ticket) = self.any(|place| matches!(place, Place::Ready | Place::Running)) {
            assert!(!self.scheduler.due(ticket));
        }
    }

    /// Lets everything run to its end.
    fn drain(&mut self) {
        loop {
            for ticket in self.oracle.tickets(|_| true) {
                assert_eq!(self.scheduler.due(ticket), self.oracle.due(ticket));
            }
            let mut claimed = Vec::new();
            if self.scheduler.claim(usize::MAX, &mut claimed) == 0 && self.oracle.count(Place::is_active) == 0 {
                break;
            }
            for ticket in claimed {
                self.trace.push(self.oracle.begin(ticket));
            }
            for ticket in self.oracle.tickets(Place::is_active) {
                let became_ready = self.oracle.remove(&[ticket]);
                assert_eq!(self.scheduler.complete(ticket), became_ready);
            }
        }
        assert_eq!(self.oracle.count(|_| true), 0, "something waits for nobody");
    }
}

#[test]
fn random_histories_agree_with_the_quadratic_model() {
    for seed in 0..4_000 {
        history(seed, 120);
    }
}

#[test]
fn long_histories_agree_with_the_quadratic_model() {
    for seed in 0..20 {
        history(seed, 2_000);
    }
}

#[test]
fn the_same_history_gives_the_same_grants() {
    for seed in 0..50 {
        assert_eq!(history(seed, 300), history(seed, 300), "seed {seed}");
    }
}
