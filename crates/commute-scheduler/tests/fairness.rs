//! Who goes first among what may run.

use commute_core::{Footprint, writes};
use commute_scheduler::{Options, Scheduler, Ticket};

fn claim_one(scheduler: &mut Scheduler) -> Ticket {
    let mut claimed = Vec::new();
    assert_eq!(scheduler.claim(1, &mut claimed), 1);
    claimed[0]
}

#[test]
fn a_fresh_event_waits_for_at_most_three_claims_while_a_hot_lane_is_long() {
    let mut scheduler = Scheduler::new(Options::default());
    for lane in 0..8_u32 {
        for _ in 0..50 {
            scheduler.admit(&writes(("hot", lane)).into(), false).unwrap();
        }
    }
    // All eight heads run, so that everything else on the hot lanes becomes ready by completion.
    let mut running: Vec<_> = (0..8).map(|_| claim_one(&mut scheduler)).collect();
    let mut since = 0;
    for cold in 0..40_u32 {
        let (fresh, _) = scheduler.admit(&writes(("cold", cold)).into(), false).unwrap();
        for oldest in running.drain(..) {
            scheduler.complete(oldest);
        }
        loop {
            let claimed = claim_one(&mut scheduler);
            running.push(claimed);
            if claimed == fresh {
                break;
            }
            since += 1;
            assert!(since <= 3, "the head of fresh waited for {since} claims");
        }
        since = 0;
    }
}

#[test]
fn an_unblocked_event_goes_before_fresh_ones() {
    let mut scheduler = Scheduler::new(Options::default());
    let (first, _) = scheduler.admit(&writes("hot").into(), false).unwrap();
    let (second, _) = scheduler.admit(&writes("hot").into(), false).unwrap();
    assert_eq!(claim_one(&mut scheduler), first);
    for cold in 0..10_u32 {
        scheduler.admit(&writes(("cold", cold)).into(), false).unwrap();
    }
    scheduler.complete(first);
    assert_eq!(claim_one(&mut scheduler), second);
}

#[test]
fn of_unblocked_events_the_oldest_goes_first_whichever_was_unblocked_first() {
    let mut scheduler = Scheduler::new(Options::default());
    let mut admit = |key| scheduler.admit(&writes(key).into(), false).unwrap().0;
    let (slow, fast) = (admit("slow"), admit("fast"));
    let (lags, leads) = (admit("slow"), admit("fast"));
    scheduler.claim(2, &mut Vec::new());
    scheduler.complete(fast);
    scheduler.complete(slow);
    assert_eq!((claim_one(&mut scheduler), claim_one(&mut scheduler)), (lags, leads));
}

#[test]
fn retries_get_at_most_one_of_eight_claims_while_others_are_ready() {
    let mut scheduler = Scheduler::new(Options::default());
    let admit = |scheduler: &mut Scheduler, n: u32| scheduler.admit(&writes(("key", n)).into(), false).unwrap().0;
    let failing: Vec<_> = (0..100).map(|n| admit(&mut scheduler, n)).collect();
    let mut claimed = Vec::new();
    scheduler.claim(100, &mut claimed);
    for ticket in &failing {
        scheduler.back_off(*ticket);
        assert!(scheduler.due(*ticket));
    }
    for n in 0..200 {
        admit(&mut scheduler, 1000 + n);
    }
    claimed.clear();
    scheduler.claim(160, &mut claimed);
    let retries = claimed.iter().filter(|ticket| failing.contains(ticket)).count();
    assert!((15..=20).contains(&retries), "{retries} of 160");
    claimed.clear();
    assert_eq!(scheduler.claim(500, &mut claimed), 140, "with nothing else ready, retries take every claim");
}

#[test]
fn an_old_retry_that_fails_again_and_again_lets_younger_ones_take_turns() {
    let mut scheduler = Scheduler::new(Options::default());
    let [old, young] = ["old", "young"].map(|key| scheduler.admit(&writes(key).into(), false).unwrap().0);
    scheduler.claim(2, &mut Vec::new());
    for ticket in [old, young] {
        scheduler.back_off(ticket);
        assert!(scheduler.due(ticket));
    }
    assert_eq!(claim_one(&mut scheduler), old);
    scheduler.back_off(old);
    assert!(scheduler.due(old));
    assert_eq!(claim_one(&mut scheduler), young);
}

#[test]
fn withdrawn_events_take_no_turn() {
    let mut scheduler = Scheduler::new(Options::default());
    let admit = |scheduler: &mut Scheduler, n: u32| scheduler.admit(&writes(("key", n)).into(), false).unwrap().0;
    // Hot lanes whose second events become ready together.
    let hot: Vec<_> = (0..40).map(|n| admit(&mut scheduler, n % 20)).collect();
    let mut running = Vec::new();
    assert_eq!(scheduler.claim(usize::MAX, &mut running), 20);
    let withdrawn: Vec<_> = (100..200).map(|n| admit(&mut scheduler, n)).collect();
    let fresh = admit(&mut scheduler, 200);
    for ticket in withdrawn {
        scheduler.withdraw(ticket);
    }
    for ticket in &hot[..20] {
        assert_eq!(scheduler.complete(*ticket), 1);
    }
    let others = (0..).take_while(|_| claim_one(&mut scheduler) != fresh).count();
    assert!(others <= 3, "{others} claims passed the only fresh event");
}

#[test]
fn what_is_given_back_is_claimed_again_in_the_old_order() {
    let mut scheduler = Scheduler::new(Options::default());
    let tickets: Vec<_> = (0..10_u32).map(|n| scheduler.admit(&writes(n).into(), false).unwrap().0).collect();
    let mut claimed = Vec::new();
    scheduler.claim(6, &mut claimed);
    for ticket in claimed.drain(..).rev() {
        assert!(scheduler.give_back(ticket));
    }
    scheduler.claim(10, &mut claimed);
    assert_eq!(claimed, tickets);
}

#[test]
fn independent_events_never_wait() {
    let mut scheduler = Scheduler::new(Options::default());
    for _ in 0..100 {
        assert!(scheduler.admit(&Footprint::independent(), false).unwrap().1.is_ready());
    }
}
