//! Failing and trying again.

use commute_core::{Settlement, Timestamp};

use crate::Harness;
use crate::kit::{event, numbers, publish, receive, settle, silence, subscribe, tags};

/// In the event's place.
pub async fn attempts_and_back_off_survive_a_crash(harness: &impl Harness) {
    let broker = harness.connect().await;
    if !broker.capabilities().durable_retry {
        return;
    }
    publish(&broker, (0..3).map(|n| event("a", n))).await;
    let mut subscription = subscribe(&broker, "a", "g").await;
    let taken = receive(&mut subscription, 3).await;
    let later = Timestamp(4_000_000_000_000_000);
    settle(&subscription, [Settlement::Defer { tag: taken[1].tag, attempts: 2, not_before: later }]).await;
    drop(subscription);
    harness.crash(broker).await;
    let broker = harness.connect().await;
    let again = receive(&mut subscribe(&broker, "a", "g").await, 3).await;
    assert_eq!(numbers(&again), [0, 1, 2], "it keeps its place");
    assert_eq!((again[1].attempt, again[1].not_before), (3, Some(later)));
    assert_eq!((again[0].attempt, again[0].not_before), (1, None));
}

/// Whoever holds it waits for it.
pub async fn a_deferred_event_is_not_delivered_again_while_it_is_held(harness: &impl Harness) {
    let broker = harness.connect().await;
    publish(&broker, [event("a", 1)]).await;
    let mut subscription = subscribe(&broker, "a", "g").await;
    let taken = receive(&mut subscription, 1).await;
    let defer = Settlement::Defer { tag: taken[0].tag, attempts: 1, not_before: Timestamp(0) };
    settle(&subscription, [defer]).await;
    silence(&mut subscription).await;
}

/// Nobody has tried it.
pub async fn a_returned_event_comes_back_without_an_attempt(harness: &impl Harness) {
    let broker = harness.connect().await;
    publish(&broker, [event("a", 1), event("a", 2)]).await;
    let mut subscription = subscribe(&broker, "a", "g").await;
    let taken = receive(&mut subscription, 2).await;
    settle(&subscription, [Settlement::Return { tag: taken[0].tag }]).await;
    let again = receive(&mut subscription, 1).await;
    assert_eq!((numbers(&again), again[0].attempt), (vec![1], 1));
}

/// So that whoever has many waiting need not keep them in memory.
pub async fn payloads_of_unsettled_deliveries_can_be_read_again(harness: &impl Harness) {
    let broker = harness.connect().await;
    publish(&broker, (0..3).map(|n| event("a", n))).await;
    let mut subscription = subscribe(&broker, "a", "g").await;
    let taken = receive(&mut subscription, 3).await;
    let mut wanted = tags(&taken);
    wanted.reverse();
    let read = subscription.settler.read(&wanted).await.expect("read");
    let envelopes: Vec<_> = taken.iter().rev().map(|delivery| delivery.envelope.clone()).collect();
    assert_eq!(read, envelopes);
}
