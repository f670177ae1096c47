//! Cost of admit + claim + complete at 4,096 pending and 64 running events, by footprint size and number of lanes.

use std::time::Instant;

use commute_core::{Access, Footprint, Lane, Mode};
use commute_scheduler::{Options, Scheduler, Ticket};

const PENDING: usize = 4096;
const RUNNING: usize = 64;
const EVENTS: usize = 1_000_000;

fn main() {
    println!("{:>5} {:>9} {:>9} {:>6}", "lanes", "of", "ns/event", "busy");
    for (size, lanes) in [(1, 100_000), (1, 100), (2, 100_000), (2, 1_000), (4, 100_000), (10, 100_000)] {
        let best = (0..5).map(|seed| run(size, lanes, seed)).min_by(|a, b| a.0.total_cmp(&b.0));
        let (nanos, busy) = best.unwrap_or_default();
        println!("{size:>5} {lanes:>9} {nanos:>9.0} {busy:>6.1}");
    }
}

fn run(size: usize, lanes: u64, seed: u64) -> (f64, f64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let footprints: Vec<Footprint> = (0..EVENTS)
        .map(|_| (0..size).map(|_| Access { lane: Lane(mix(rng.u64(0..lanes))), mode: Mode::Exclusive }).collect())
        .collect();
    let mut scheduler = Scheduler::new(Options::default());
    let mut running: Vec<Ticket> = Vec::new();
    let (mut busy, mut rounds) = (0, 0);
    let began = Instant::now();
    let mut footprints = footprints.iter();
    loop {
        while scheduler.waiting() + scheduler.ready() + running.len() < PENDING {
            let Some(footprint) = footprints.next() else { break };
            let _ = scheduler.admit(footprint, false);
        }
        scheduler.claim(RUNNING - running.len(), &mut running);
        if running.is_empty() {
            break;
        }
        (busy, rounds) = (busy + running.len(), rounds + 1);
        let any = rng.usize(..running.len());
        scheduler.complete(running.swap_remove(any));
    }
    (began.elapsed().as_nanos() as f64 / EVENTS as f64, busy as f64 / rounds as f64)
}

/// Lanes are hashes; consecutive numbers would flatter the table.
fn mix(n: u64) -> u64 {
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb)
}
