//! Routing: what is published arrives, unchanged, at every group of its topic and nowhere else.

use std::time::Duration;

use bytes::Bytes;
use commute_core::envelope::extension;
use commute_core::{Envelope, EventId, Timestamp};

use crate::fixture::Ending;
use crate::trial::{Trial, event, numbers, to, waiting};

pub(super) async fn a_publish_gives_a_receipt_for_each_envelope_in_order(trial: Trial) {
    let topic = trial.topic("receipts");
    let mut receipts = trial.publish_numbers(&topic, 0..50).await;
    receipts.extend(trial.publish_numbers(&topic, 50..60).await);
    if trial.broker().capabilities().positions {
        assert!(receipts.iter().all(|receipt| receipt.position.is_some()));
        assert!(receipts.is_sorted_by(|a, b| a.position < b.position), "positions grow in the order of the batch");
    }
    assert!(receipts.iter().all(|receipt| !receipt.duplicate), "none of them was there before");
}

pub(super) async fn an_empty_batch_is_published_and_nothing_comes_of_it(trial: Trial) {
    let topic = trial.topic("empty");
    assert!(trial.publish(&topic, []).await.is_empty());
    let mut reader = trial.open(&topic, "group").await;
    trial.expect_rest(&topic, &mut reader, &[]).await;
}

/// Envelopes with everything that an envelope can have, and with nothing.
fn unusual(trial: &Trial) -> Vec<Envelope> {
    let at = Timestamp(1_291_191_960_123_457);
    let mut full = Envelope::new("urn:shop/é", "shop.order.placed", at, Bytes::from((0..=255).collect::<Vec<u8>>()));
    full.subject = Some("order 536365 \"ü\"\n".into());
    full.data_content_type = Some("application/octet-stream".into());
    full.data_schema = Some("https://example.org/schema?v=1&x=%20".into());
    let extensions = [
        (extension::PARTITION_KEY, "customer 17850"),
        (extension::VERSION, "3"),
        (extension::TRACE_PARENT, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        (extension::TRACE_STATE, "vendor=1,other=2"),
        (extension::CORRELATION_ID, "c"),
        (extension::CAUSATION_ID, "日本語"),
        ("x", ""),
        ("abcdefghij0123456789", "the longest name"),
    ];
    for (name, value) in extensions {
        full.extensions.set(name, value).expect("a valid name");
    }
    let mut own_id = Envelope::new("s", "t", Timestamp(1), Bytes::from_static(b"{\"a\":1}"));
    own_id.id = EventId::new("536365-0 ä/\\?").expect("a valid id");
    let mut long_id = Envelope::new("s", "t", at, Bytes::from_static(b"\0"));
    long_id.id = EventId::new("x".repeat(EventId::MAX_BYTES)).expect("a valid id");
    let mut empty_texts = Envelope::new("s", "t", at, Bytes::new());
    empty_texts.subject = Some("".into());
    let mut random = trial.random();
    let noise: Vec<u8> = (0..10_000).map(|_| random.u8(..)).collect();
    vec![
        full,
        own_id,
        long_id,
        empty_texts,
        Envelope::new("s", "t", at, Bytes::new()),
        Envelope::new("s", "t", at, noise.into()),
    ]
}

pub(super) async fn an_envelope_arrives_unchanged(trial: Trial) {
    let topic = trial.topic("unchanged");
    for envelope in unusual(&trial) {
        let mut reader = trial.open(&topic, "group").await;
        trial.publish(&topic, [envelope.clone()]).await;
        let taken = reader.take(1).await;
        assert_eq!(*taken[0].envelope, envelope);
        assert_eq!((taken[0].attempt, taken[0].not_before), (1, None), "a first delivery");
        reader.ack(&taken).await;
    }
}

pub(super) async fn an_envelope_is_unchanged_after_a_restart(mut trial: Trial) {
    let topic = trial.topic("unchanged");
    let envelopes = unusual(&trial);
    trial.groups(&topic, &Ending::ALL.map(|ending| format!("{ending:?}")).each_ref().map(|name| &**name)).await;
    for envelope in &envelopes {
        trial.publish(&topic, [envelope.clone()]).await;
    }
    for ending in Ending::ALL {
        trial.restart(ending).await;
        let mut reader = trial.open(&topic, &format!("{ending:?}")).await;
        let mut taken: Vec<_> =
            reader.take(envelopes.len()).await.into_iter().map(|taken| (*taken.envelope).clone()).collect();
        let mut expected = envelopes.clone();
        // They have several keys, and none: there need be no order between them.
        taken.sort_by(|a, b| a.id.cmp(&b.id));
        expected.sort_by(|a, b| a.id.cmp(&b.id));
        assert_eq!(taken, expected);
    }
}

pub(super) async fn every_group_gets_every_event(trial: Trial) {
    let topic = trial.topic("fanout");
    let mut readers = Vec::new();
    for group in ["billing", "shipping", "audit"] {
        readers.push(trial.open(&topic, group).await);
    }
    trial.publish_numbers(&topic, 0..20).await;
    for reader in &mut readers {
        let taken = reader.expect(&(0..20).collect::<Vec<_>>()).await;
        reader.ack(&taken).await;
    }
}

pub(super) async fn a_new_group_begins_at_the_beginning_of_the_topic(trial: Trial) {
    let topic = trial.topic("beginning");
    trial.publish_numbers(&topic, 0..10).await;
    let mut first = trial.open(&topic, "first").await;
    let taken = first.expect(&(0..10).collect::<Vec<_>>()).await;
    first.ack(&taken).await;
    trial.publish_numbers(&topic, 10..15).await;
    let mut second = trial.open(&topic, "second").await;
    second.expect(&(0..15).collect::<Vec<_>>()).await;
}

pub(super) async fn a_group_keeps_its_place_while_nobody_listens(trial: Trial) {
    let topic = trial.topic("place");
    trial.publish_numbers(&topic, 0..10).await;
    let mut reader = trial.open(&topic, "group").await;
    let taken = reader.take(6).await;
    reader.ack(&taken).await;
    drop(reader);
    trial.publish_numbers(&topic, 10..12).await;
    let mut reader = trial.open(&topic, "group").await;
    trial.expect_rest(&topic, &mut reader, &(6..12).collect::<Vec<_>>()).await;
}

pub(super) async fn interleaved_topics_do_not_mix(trial: Trial) {
    let topics: Vec<_> = ["a", "b", "c"].map(|name| trial.topic(name)).into();
    let batch = (0..60).map(|n| to(&topics[n as usize % 3], event(n))).collect();
    trial.publish_all(batch).await;
    for n in 60..90 {
        trial.publish_numbers(&topics[n as usize % 3], [n]).await;
    }
    for (n, topic) in topics.iter().enumerate() {
        let mut reader = trial.open(topic, "group").await;
        let expected: Vec<_> = (0..90).filter(|number| number % 3 == n as u64).collect();
        trial.expect_rest(topic, &mut reader, &expected).await;
    }
}

pub(super) async fn a_waiting_receiver_gets_what_is_published_later(trial: Trial) {
    let topic = trial.topic("waiting");
    let mut reader = trial.open(&topic, "group").await;
    for n in 0..3 {
        let task = waiting(async move {
            let taken = reader.take(1).await;
            (reader, numbers(&taken))
        });
        let task = task.await;
        trial.publish_numbers(&topic, [n]).await;
        let (back, taken) = trial.within("the waiting receiver", task).await.expect("it ends");
        assert_eq!(taken, [n]);
        reader = back;
    }
}

pub(super) async fn a_delivery_says_when_the_event_was_taken_in(trial: Trial) {
    let topic = trial.topic("published");
    let before = trial.now();
    trial.publish_numbers(&topic, [0]).await;
    let after = trial.now();
    // Some servers count milliseconds, and have a clock of their own.
    let tolerance = if trial.fixture().clock().is_some() { Duration::ZERO } else { Duration::from_secs(60) };
    let mut reader = trial.open(&topic, "group").await;
    trial.pass(trial.while_()).await;
    let published = reader.take(1).await[0].published;
    assert!(published.plus(tolerance) >= before && published <= after.plus(tolerance), "{published} is {before} or so");
}
