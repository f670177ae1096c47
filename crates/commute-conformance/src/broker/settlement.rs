//! How deliveries end.

use commute_core::Settlement;

use crate::Harness;
use crate::kit::{ack, ack_all, event, numbers, publish, receive, settle, silence, subscribe};

/// Neither now nor after a crash.
pub async fn what_is_acknowledged_does_not_come_back(harness: &impl Harness) {
    let broker = harness.connect().await;
    publish(&broker, (0..5).map(|n| event("a", n))).await;
    let mut subscription = subscribe(&broker, "a", "g").await;
    let taken = receive(&mut subscription, 5).await;
    ack_all(&subscription, &taken).await;
    drop(subscription);
    harness.crash(broker).await;
    let broker = harness.connect().await;
    let mut subscription = subscribe(&broker, "a", "g").await;
    silence(&mut subscription).await;
    publish(&broker, [event("a", 5)]).await;
    assert_eq!(numbers(&receive(&mut subscription, 1).await), [5]);
}

/// All of it, before anything new.
pub async fn what_is_not_acknowledged_comes_back_in_order(harness: &impl Harness) {
    let broker = harness.connect().await;
    publish(&broker, (0..5).map(|n| event("a", n))).await;
    let mut subscription = subscribe(&broker, "a", "g").await;
    receive(&mut subscription, 5).await;
    drop(subscription);
    harness.crash(broker).await;
    let broker = harness.connect().await;
    publish(&broker, [event("a", 5)]).await;
    let taken = receive(&mut subscribe(&broker, "a", "g").await, 6).await;
    assert_eq!(numbers(&taken), [0, 1, 2, 3, 4, 5]);
    assert!(taken.iter().all(|delivery| delivery.attempt == 1), "a crash is no attempt");
}

/// The first one counts.
pub async fn settling_twice_does_nothing(harness: &impl Harness) {
    let broker = harness.connect().await;
    publish(&broker, [event("a", 1)]).await;
    let mut subscription = subscribe(&broker, "a", "g").await;
    let taken = receive(&mut subscription, 1).await;
    ack_all(&subscription, &taken).await;
    settle(&subscription, [Settlement::Return { tag: taken[0].tag }, ack(&taken[0])]).await;
    silence(&mut subscription).await;
}

/// A late answer of a receiver that is gone must not end somebody else's delivery.
pub async fn settling_for_an_older_incarnation_does_nothing(harness: &impl Harness) {
    let broker = harness.connect().await;
    publish(&broker, [event("a", 1)]).await;
    let mut old = subscribe(&broker, "a", "g").await;
    let taken = receive(&mut old, 1).await;
    let old_settler = old.settler.clone();
    drop(old);
    let mut new = subscribe(&broker, "a", "g").await;
    let again = receive(&mut new, 1).await;
    old_settler.settle(vec![ack(&taken[0])]).await.expect("settled");
    settle(&new, [Settlement::Return { tag: again[0].tag }]).await;
    assert_eq!(numbers(&receive(&mut new, 1).await), [1]);
}

/// In order, behind what was there.
pub async fn an_acknowledgement_publishes_its_events(harness: &impl Harness) {
    let broker = harness.connect().await;
    if !broker.capabilities().atomic_settle {
        return;
    }
    publish(&broker, [event("a", 1), event("b", 0)]).await;
    let mut subscription = subscribe(&broker, "a", "g").await;
    let taken = receive(&mut subscription, 1).await;
    let publish = vec![event("b", 1), event("b", 2)];
    settle(&subscription, [Settlement::Ack { tag: taken[0].tag, publish, mark: false }]).await;
    assert_eq!(numbers(&receive(&mut subscribe(&broker, "b", "g").await, 3).await), [0, 1, 2]);
}

/// All or nothing; confirmed is all.
pub async fn an_acknowledgement_and_its_events_survive_a_crash_together(harness: &impl Harness) {
    let broker = harness.connect().await;
    if !broker.capabilities().atomic_settle {
        return;
    }
    publish(&broker, [event("a", 1)]).await;
    let mut subscription = subscribe(&broker, "a", "g").await;
    let taken = receive(&mut subscription, 1).await;
    settle(&subscription, [Settlement::Ack { tag: taken[0].tag, publish: vec![event("b", 1)], mark: true }]).await;
    drop(subscription);
    harness.crash(broker).await;
    let broker = harness.connect().await;
    silence(&mut subscribe(&broker, "a", "g").await).await;
    assert_eq!(numbers(&receive(&mut subscribe(&broker, "b", "g").await, 1).await), [1]);
}

/// Derived ids make a repeated effect one effect.
pub async fn events_published_by_two_acknowledgements_of_one_cause_are_one(harness: &impl Harness) {
    let broker = harness.connect().await;
    if !broker.capabilities().atomic_settle || broker.capabilities().dedup_window.is_none() {
        return;
    }
    publish(&broker, [event("a", 1), event("a", 2)]).await;
    let mut subscription = subscribe(&broker, "a", "g").await;
    let taken = receive(&mut subscription, 2).await;
    let same = |n: usize| Settlement::Ack { tag: taken[n].tag, publish: vec![event("b", 7)], mark: false };
    settle(&subscription, [same(0), same(1)]).await;
    let mut b = subscribe(&broker, "b", "g").await;
    assert_eq!(numbers(&receive(&mut b, 1).await), [7]);
    silence(&mut b).await;
}

/// Gaps are remembered, not only a prefix.
pub async fn an_acknowledgement_out_of_order_survives_a_crash(harness: &impl Harness) {
    let broker = harness.connect().await;
    publish(&broker, (0..100).map(|n| event("a", n))).await;
    let mut subscription = subscribe(&broker, "a", "g").await;
    let taken = receive(&mut subscription, 100).await;
    let open = [0, 3, 64, 99];
    let done = taken.iter().enumerate().filter(|(n, _)| !open.contains(n)).map(|(_, delivery)| ack(delivery));
    settle(&subscription, done).await;
    drop(subscription);
    harness.crash(broker).await;
    let broker = harness.connect().await;
    let mut subscription = subscribe(&broker, "a", "g").await;
    assert_eq!(numbers(&receive(&mut subscription, 4).await), [0, 3, 64, 99]);
    silence(&mut subscription).await;
}
