//! Every history of a small scope: all footprints over two lanes, four events, every order of claims and completions.

mod oracle;

use commute_core::{Footprint, Lane, Mode};
use commute_scheduler::{Options, Scheduler, Ticket};
use oracle::{Oracle, Place};

const LANES: u64 = 2;
const EVENTS: usize = 4;

fn footprints() -> Vec<Footprint> {
    let modes = [None, Some(Mode::Exclusive), Some(Mode::READ)];
    let mut all = Vec::new();
    for first in modes {
        for second in modes {
            let accesses = (0..LANES).zip([first, second]);
            all.push(
                accesses
                    .filter_map(|(lane, mode)| mode.map(|mode| commute_core::Access { lane: Lane(lane), mode }))
                    .collect(),
            );
        }
    }
    all
}

/// Replays a history and, where it is not over, goes on with every possible next step.
fn explore(footprints: &[Footprint], steps: &mut Vec<u8>, histories: &mut u64) {
    let (mut scheduler, mut oracle) = (Scheduler::new(Options::default()), Oracle::default());
    let mut running: Vec<Ticket> = Vec::new();
    let mut admitted = 0;
    for step in steps.iter() {
        match step {
            0 => {
                let (ticket, _) = scheduler.admit(&footprints[admitted], false).unwrap();
                oracle.admit(ticket, footprints[admitted].clone(), false);
                admitted += 1;
            }
            1 => {
                let mut claimed = Vec::new();
                scheduler.claim(1, &mut claimed);
                oracle.begin(claimed[0]);
                running.push(claimed[0]);
            }
            n => {
                let ticket = running.remove(usize::from(n - 2));
                oracle.remove(&[ticket]);
                scheduler.complete(ticket);
            }
        }
        oracle.check(&scheduler, 0);
    }
    *histories += 1;
    let mut next = Vec::new();
    if admitted < footprints.len() {
        next.push(0);
    }
    if oracle.count(|place| place == Place::Ready) > 0 {
        next.push(1);
    }
    next.extend((0..running.len()).map(|n| n as u8 + 2));
    if next.is_empty() {
        assert!(scheduler.is_idle() && scheduler.live_lanes() == 0);
    }
    for step in next {
        steps.push(step);
        explore(footprints, steps, histories);
        steps.pop();
    }
}

#[test]
fn every_small_history_agrees_with_the_model() {
    let all = footprints();
    let mut histories = 0;
    // Three events over every footprint; four over those that conflict most.
    for a in &all {
        for b in &all {
            for c in &all {
                explore(&[a.clone(), b.clone(), c.clone()], &mut Vec::new(), &mut histories);
            }
        }
    }
    let dense: Vec<_> = all.into_iter().filter(|footprint| footprint.accesses().len() == 2).take(2).collect();
    for n in 0..dense.len().pow(EVENTS as u32) {
        let chosen: Vec<_> = (0..EVENTS as u32).map(|k| dense[n / dense.len().pow(k) % dense.len()].clone()).collect();
        explore(&chosen, &mut Vec::new(), &mut histories);
    }
    assert!(histories > 50_000, "{histories}");
}
