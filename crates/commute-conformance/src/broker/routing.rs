//! Where events go, and that they arrive as they were.

use bytes::Bytes;
use commute_core::{Code, Timestamp};

use crate::Harness;
use crate::kit::{event, number, numbers, publish, receive, silence, soon, subscribe};

/// Attributes, extensions and payload are the publisher's, byte for byte.
pub async fn every_attribute_of_an_envelope_arrives_unchanged(harness: &impl Harness) {
    let broker = harness.connect().await;
    let mut full = event("a", 1);
    let envelope = &mut full.envelope;
    envelope.subject = Some("über".into());
    envelope.time = Timestamp(-1);
    envelope.data_content_type = Some("application/octet-stream".into());
    envelope.data_schema = Some("urn:schema".into());
    envelope.extensions.set("traceparent", "00-x").expect("a valid name");
    envelope.extensions.set("empty", "").expect("a valid name");
    envelope.data = Bytes::from_static(&[0, 255, 10, 13, 0]);
    let mut bare = event("a", 2);
    bare.envelope.data = Bytes::new();
    publish(&broker, [full.clone(), bare.clone()]).await;
    let taken = receive(&mut subscribe(&broker, "a", "g").await, 2).await;
    assert_eq!((&taken[0].envelope, &taken[1].envelope), (&full.envelope, &bare.envelope));
    assert_eq!((taken[0].attempt, taken[0].not_before), (1, None));
}

/// A batch has as many receipts as events, with growing positions.
pub async fn receipts_come_in_order_one_for_each(harness: &impl Harness) {
    let broker = harness.connect().await;
    let receipts = publish(&broker, (0..10).map(|n| event("a", n))).await;
    assert_eq!(receipts.len(), 10);
    assert!(receipts.windows(2).all(|pair| pair[0].position < pair[1].position));
    assert!(receipts.iter().all(|receipt| !receipt.duplicate));
    assert!(publish(&broker, []).await.is_empty());
}

/// Groups are independent of each other.
pub async fn every_group_gets_every_event(harness: &impl Harness) {
    let broker = harness.connect().await;
    let (mut one, mut two) = (subscribe(&broker, "a", "one").await, subscribe(&broker, "a", "two").await);
    publish(&broker, (0..3).map(|n| event("a", n))).await;
    assert_eq!(numbers(&receive(&mut one, 3).await), [0, 1, 2]);
    assert_eq!(numbers(&receive(&mut two, 3).await), [0, 1, 2]);
}

/// A batch may go to several topics.
pub async fn topics_do_not_mix(harness: &impl Harness) {
    let broker = harness.connect().await;
    publish(&broker, (0..6).map(|n| event(if n % 2 == 0 { "even" } else { "odd" }, n))).await;
    let mut even = subscribe(&broker, "even", "g").await;
    assert_eq!(numbers(&receive(&mut even, 3).await), [0, 2, 4]);
    silence(&mut even).await;
    assert_eq!(numbers(&receive(&mut subscribe(&broker, "odd", "g").await, 3).await), [1, 3, 5]);
}

/// A group that comes late misses nothing.
pub async fn a_subscription_begins_at_the_beginning_of_its_topic(harness: &impl Harness) {
    let broker = harness.connect().await;
    publish(&broker, (0..3).map(|n| event("a", n))).await;
    let mut late = subscribe(&broker, "a", "late").await;
    assert_eq!(numbers(&receive(&mut late, 3).await), [0, 1, 2]);
}

/// The limit counts payload and attributes.
pub async fn an_event_at_the_limit_is_taken_and_a_larger_one_refuses_its_batch(harness: &impl Harness) {
    let broker = harness.connect().await;
    let limit = broker.capabilities().max_event_bytes;
    let sized = |n, size: usize| {
        let mut event = event("a", n);
        let attributes = event.envelope.size() - event.envelope.data.len();
        event.envelope.data = Bytes::from(vec![b'7'; size - attributes]);
        event
    };
    let refused = soon("a refusal", broker.publish(vec![event("a", 1), sized(2, limit + 1)])).await;
    assert_eq!(refused.expect_err("too large").code(), Code::PayloadTooLarge);
    publish(&broker, [sized(3, limit), event("a", 4)]).await;
    let taken = receive(&mut subscribe(&broker, "a", "g").await, 2).await;
    assert_eq!(taken[0].envelope.size(), limit);
    assert_eq!(number(&taken[1].envelope), 4, "nothing of the refused batch was stored");
}
