//! One id, one event.

use commute_core::Settlement;

use crate::Harness;
use crate::kit::{event, numbers, publish, receive, settle, silence, subscribe};

/// The second publish gets a receipt all the same.
pub async fn an_id_is_stored_once(harness: &impl Harness) {
    let broker = harness.connect().await;
    if broker.capabilities().dedup_window.is_none() {
        return;
    }
    let first = publish(&broker, [event("a", 1)]).await;
    let again = publish(&broker, [event("a", 1), event("a", 2)]).await;
    assert_eq!((again[0].duplicate, again[0].position), (true, first[0].position));
    assert!(!again[1].duplicate);
    let mut subscription = subscribe(&broker, "a", "g").await;
    assert_eq!(numbers(&receive(&mut subscription, 2).await), [1, 2]);
    silence(&mut subscription).await;
}

/// A publisher that did not see its receipt publishes again, perhaps to a restarted broker.
pub async fn an_id_is_stored_once_across_a_crash(harness: &impl Harness) {
    let broker = harness.connect().await;
    if broker.capabilities().dedup_window.is_none() {
        return;
    }
    publish(&broker, [event("a", 1)]).await;
    harness.crash(broker).await;
    let broker = harness.connect().await;
    assert!(publish(&broker, [event("a", 1)]).await[0].duplicate);
    let closed = broker.clone();
    closed.close().await.expect("closed");
    drop((broker, closed));
    let broker = harness.connect().await;
    assert!(publish(&broker, [event("a", 1)]).await[0].duplicate, "after a clean close, too");
}

/// Also before any of them is durable.
pub async fn the_same_id_in_one_batch_is_one_event(harness: &impl Harness) {
    let broker = harness.connect().await;
    if broker.capabilities().dedup_window.is_none() {
        return;
    }
    let receipts = publish(&broker, [event("a", 1), event("a", 1)]).await;
    assert_eq!((receipts[0].duplicate, receipts[1].duplicate), (false, true));
    let mut subscription = subscribe(&broker, "a", "g").await;
    receive(&mut subscription, 1).await;
    silence(&mut subscription).await;
}

/// Ids are remembered per topic.
pub async fn the_same_id_on_another_topic_is_another_event(harness: &impl Harness) {
    let broker = harness.connect().await;
    let mut other = event("b", 9);
    other.envelope.id = event("a", 1).envelope.id;
    let receipts = publish(&broker, [event("a", 1), other]).await;
    assert!(!receipts[1].duplicate);
    assert_eq!(numbers(&receive(&mut subscribe(&broker, "b", "g").await, 1).await), [9]);
}

/// The inbox mark is part of the acknowledgement.
pub async fn a_marked_id_stays_handled_across_a_crash(harness: &impl Harness) {
    let broker = harness.connect().await;
    if broker.capabilities().inbox_retention.is_none() {
        return;
    }
    publish(&broker, [event("a", 1)]).await;
    let mut subscription = subscribe(&broker, "a", "g").await;
    let taken = receive(&mut subscription, 1).await;
    settle(&subscription, [Settlement::Ack { tag: taken[0].tag, publish: Vec::new(), mark: true }]).await;
    drop(subscription);
    harness.crash(broker).await;
    let broker = harness.connect().await;
    let mut subscription = subscribe(&broker, "a", "g").await;
    publish(&broker, [event("a", 1), event("a", 2)]).await;
    assert_eq!(numbers(&receive(&mut subscription, 1).await), [2]);
}
