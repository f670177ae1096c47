//! Crashes: whenever the power fails, what was confirmed is there, and nothing is there by half.

mod support;

use commute_core::{Broker, Code};
use commute_embedded::storage::Memory;
use commute_embedded::{Embedded, Options};
use support::{Script, drain, event, expected, open, seen, segments, small};

/// Runs the script until the disk refuses a sync, then lets the power fail. Answers whether a sync was refused.
async fn power_fails_at(sync: u64, options: Options, expected: &[String], random: &mut fastrand::Rng) -> bool {
    let disk = Memory::new();
    disk.fail_sync(sync);
    let mut confirmed = None;
    if let Ok(mut script) = Script::begin(&disk, options).await {
        confirmed = Some(0);
        while confirmed < Some(Script::STEPS) && script.step().await.is_ok() {
            confirmed = confirmed.map(|steps| steps + 1);
        }
    }
    let refused = disk.syncs() >= sync;
    for _ in 0..4 {
        let found = seen(&disk.after_power_loss(|| random.bool())).await.unwrap();
        match confirmed {
            None => assert_eq!(found, expected[0], "sync {sync}"),
            Some(steps) => {
                let allowed = &expected[steps..expected.len().min(steps + 2)];
                assert!(
                    allowed.contains(&found),
                    "sync {sync}, {steps} steps confirmed:\n{found}\n{}",
                    allowed.join("\n")
                );
            }
        }
    }
    refused
}

#[tokio::test]
async fn whenever_the_power_fails_what_was_confirmed_is_there() {
    let expected = expected().await;
    for prepare in [false, true] {
        let mut random = fastrand::Rng::with_seed(3);
        let mut sync = 1;
        let options = || Options { prepare, ..small() };
        while power_fails_at(sync, options(), &expected, &mut random).await {
            sync += 1;
        }
        assert!(sync > Script::STEPS as u64, "every step has a sync of its own");
    }
}

#[tokio::test]
async fn a_killed_process_loses_nothing_either() {
    let expected = expected().await;
    let disk = Memory::new();
    let mut script = Script::begin(&disk, small()).await.unwrap();
    for expected in &expected[1..] {
        script.step().await.unwrap();
        assert_eq!(seen(&disk.after_kill()).await.unwrap(), *expected);
    }
}

#[tokio::test]
async fn crash_after_crash_loses_nothing() {
    let mut random = fastrand::Rng::with_seed(5);
    let mut disk = Memory::new();
    for round in 0..40 {
        let broker = Embedded::in_memory(&disk, small()).unwrap();
        let mut orders = open(&broker, "orders", 1000).await.unwrap();
        let taken = drain(&mut orders).await.unwrap();
        let found: Vec<_> = taken.iter().map(|taken| taken.envelope.id.to_string()).collect();
        assert_eq!(found, (0..round).map(|n| n.to_string()).collect::<Vec<_>>());
        broker.publish(vec![event(&round.to_string(), "orders")]).await.unwrap();
        // The next one is refused by the disk, and part of it is there all the same, or all of it.
        disk.fail_sync(disk.syncs() + 1);
        let torn = ["a", "b"].map(|part| event(&format!("torn-{round}-{part}"), "other"));
        // It may also be the next segment that is refused; then this is confirmed.
        let _ = broker.publish(torn.to_vec()).await;
        disk = disk.after_power_loss(|| random.bool());
    }
}

#[tokio::test]
async fn a_log_that_is_cut_anywhere_is_a_prefix_of_whole_steps() {
    let expected = expected().await;
    let disk = Memory::new();
    let mut script = Script::begin(&disk, Options { segment_bytes: 1 << 20, ..small() }).await.unwrap();
    for _ in 0..Script::STEPS {
        script.step().await.unwrap();
    }
    let disk = disk.after_power_loss(|| false);
    let name = &segments(&disk)[0];
    let whole = disk.bytes(name).unwrap();
    let mut steps = 0;
    for length in 32..=whole.len() {
        let cut = disk.after_kill();
        cut.put(name, whole[..length].to_vec());
        let found = seen(&cut).await.unwrap();
        let reached = (steps..expected.len()).find(|n| expected[*n] == found);
        steps = reached.unwrap_or_else(|| panic!("cut to {length} after {steps} steps:\n{found}"));
    }
    assert_eq!(expected[steps], expected[Script::STEPS]);
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_accepted_and_no_later_success_is_believed() {
    let disk = Memory::new();
    let broker = Embedded::in_memory(&disk, small()).unwrap();
    let mut subscription = open(&broker, "orders", 10).await.unwrap();
    broker.publish(vec![event("a", "orders")]).await.unwrap();
    let taken = drain(&mut subscription).await.unwrap();
    disk.fail_sync(disk.syncs() + 1);
    let code = |error: commute_core::Error| error.code();
    assert_eq!(code(broker.publish(vec![event("b", "orders")]).await.unwrap_err()), Code::Poisoned);
    // The disk works again, and still nothing is believed.
    assert_eq!(code(broker.publish(vec![event("c", "orders")]).await.unwrap_err()), Code::Poisoned);
    let ack = commute_core::Settlement::Ack { tag: taken[0].tag, publish: Vec::new(), mark: false };
    assert_eq!(code(subscription.settler.settle(vec![ack]).await.unwrap_err()), Code::Poisoned);
    assert_eq!(code(subscription.receiver.receive(1).await.unwrap_err()), Code::Poisoned);
    assert_eq!(code(open(&broker, "orders", 1).await.unwrap_err()), Code::Poisoned);
    assert_eq!(code(broker.close().await.unwrap_err()), Code::Poisoned);
    let broker = Embedded::in_memory(&disk.after_power_loss(|| false), small()).unwrap();
    let mut subscription = open(&broker, "orders", 10).await.unwrap();
    let taken = drain(&mut subscription).await.unwrap();
    assert_eq!(taken.iter().map(|taken| taken.envelope.id.as_str()).collect::<Vec<_>>(), ["a"]);
}

#[tokio::test]
async fn a_full_disk_is_named_and_what_was_confirmed_is_kept() {
    let disk = Memory::new();
    let broker = Embedded::in_memory(&disk, Options { segment_bytes: 1 << 20, ..small() }).unwrap();
    broker.publish(vec![event("a", "orders")]).await.unwrap();
    disk.limit(2000);
    let mut stored = 1;
    let full = loop {
        match broker.publish(vec![event(&stored.to_string(), "orders")]).await {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(full.code(), Code::DiskFull);
    assert_eq!(broker.publish(vec![event("b", "orders")]).await.unwrap_err().code(), Code::DiskFull);
    let broker = Embedded::in_memory(&disk.after_kill(), small()).unwrap();
    let mut subscription = open(&broker, "orders", 1000).await.unwrap();
    assert_eq!(drain(&mut subscription).await.unwrap().len(), stored, "nothing half done is believed");
}
