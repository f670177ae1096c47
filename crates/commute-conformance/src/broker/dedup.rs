//! Dedup: an id is stored once within its window, and the inbox absorbs what gets past it.

use std::time::Duration;

use commute_core::Topic;

use crate::fixture::Ending;
use crate::trial::{Trial, ack, event, marked, numbers, to};

pub(super) async fn an_id_is_noticed_if_and_only_if_the_broker_says_so(trial: Trial) {
    let topic = trial.topic("id");
    let (one, two) = (event(1), event(2));
    let first = trial.publish(&topic, [one.clone(), two.clone()]).await;
    let second = trial.publish(&topic, [two, event(3), one]).await;
    let noticed = trial.broker().capabilities().dedup_window.is_some();
    assert_eq!(second.iter().map(|receipt| receipt.duplicate).collect::<Vec<_>>(), [noticed, false, noticed]);
    let mut reader = trial.open(&topic, "group").await;
    if noticed {
        assert_eq!([second[0].position, second[2].position], [first[1].position, first[0].position]);
        trial.expect_rest(&topic, &mut reader, &[1, 2, 3]).await;
    } else {
        // Whoever receives may notice what the topic does not.
        let mut rest = numbers(&trial.rest(&topic, &mut reader).await);
        let mut seen = std::collections::HashSet::new();
        rest.retain(|number| seen.insert(*number));
        assert_eq!(rest, [1, 2, 3], "every event came, first copies in order");
    }
}

pub(super) async fn an_id_is_noticed_across_a_restart(mut trial: Trial) {
    for ending in Ending::ALL {
        let topic = trial.topic("id");
        let (one, two) = (event(1), event(2));
        trial.publish(&topic, [one.clone(), two.clone()]).await;
        // One is handled, the other is not; both are remembered.
        let mut reader = trial.open(&topic, "group").await;
        let taken = reader.expect(&[1, 2]).await;
        reader.ack(&taken[..1]).await;
        trial.restart(ending).await;
        let receipts = trial.publish(&topic, [one, two, event(3)]).await;
        assert_eq!(receipts.iter().map(|receipt| receipt.duplicate).collect::<Vec<_>>(), [true, true, false]);
        let mut reader = trial.open(&topic, "group").await;
        trial.expect_rest(&topic, &mut reader, &[2, 3]).await;
    }
}

pub(super) async fn an_id_twice_in_one_batch_is_stored_once(trial: Trial) {
    let topic = trial.topic("batch");
    let one = event(1);
    let receipts = trial.publish(&topic, [one.clone(), event(2), one]).await;
    assert_eq!(receipts.iter().map(|receipt| receipt.duplicate).collect::<Vec<_>>(), [false, false, true]);
    let mut reader = trial.open(&topic, "group").await;
    trial.expect_rest(&topic, &mut reader, &[1, 2]).await;
}

pub(super) async fn concurrent_publishes_of_an_id_store_it_once(trial: Trial) {
    let topic = trial.topic("concurrent");
    let events: Vec<_> = (0..20).map(event).collect();
    let publishers: Vec<_> = (0..8)
        .map(|_| {
            let (broker, topic, events) = (trial.broker().clone(), topic.clone(), events.clone());
            tokio::spawn(async move {
                let mut stored = 0;
                for event in events {
                    let receipts = broker.publish(vec![to(&topic, event)]).await.expect("publishing works");
                    stored += receipts.iter().filter(|receipt| !receipt.duplicate).count();
                }
                stored
            })
        })
        .collect();
    let mut stored = 0;
    for publisher in publishers {
        stored += trial.within("a publisher", publisher).await.expect("it ends");
    }
    assert_eq!(stored, 20, "receipts that say that the event was stored");
    let mut reader = trial.open(&topic, "group").await;
    trial.expect_rest(&topic, &mut reader, &(0..20).collect::<Vec<_>>()).await;
}

pub(super) async fn the_same_id_on_another_topic_is_another_event(trial: Trial) {
    let (a, b) = (trial.topic("a"), trial.topic("b"));
    let one = event(1);
    let receipts = trial.publish_all(vec![to(&a, one.clone()), to(&b, one)]).await;
    assert!(receipts.iter().all(|receipt| !receipt.duplicate));
    for topic in [a, b] {
        let mut reader = trial.open(&topic, "group").await;
        let taken = reader.expect(&[1]).await;
        reader.settle(vec![marked(taken[0].tag)]).await;
    }
}

/// Lets the topic forget the ids it knows. Others are published meanwhile, because some brokers forget when they store.
async fn outlive_dedup(trial: &Trial, topic: &Topic) {
    if let Some(window) = trial.broker().capabilities().dedup_window {
        trial.pass(window + Duration::from_secs(1)).await;
    }
    trial.publish_numbers(topic, [100]).await;
}

pub(super) async fn the_inbox_absorbs_what_was_handled_before(trial: Trial) {
    let topic = trial.topic("inbox");
    trial.groups(&topic, &["group", "other"]).await;
    let one = event(1);
    trial.publish(&topic, [one.clone()]).await;
    let mut reader = trial.open(&topic, "group").await;
    let taken = reader.expect(&[1]).await;
    reader.settle(vec![marked(taken[0].tag)]).await;
    outlive_dedup(&trial, &topic).await;
    let receipt = trial.publish(&topic, [one]).await[0];
    assert!(!receipt.duplicate, "it is stored again, so that the inbox has something to do");
    let before = reader.settler.absorbed();
    trial.expect_rest(&topic, &mut reader, &[100]).await;
    assert_eq!(reader.settler.absorbed(), before + 1, "absorbed duplicates are counted");
    // Another group has not handled it, and gets both.
    let mut other = trial.open(&topic, "other").await;
    trial.expect_rest(&topic, &mut other, &[1, 100, 1, u64::MAX]).await;
}

pub(super) async fn the_inbox_remembers_across_a_restart(mut trial: Trial) {
    for ending in Ending::ALL {
        let topic = trial.topic("inbox");
        let one = event(1);
        trial.publish(&topic, [one.clone()]).await;
        let mut reader = trial.open(&topic, "group").await;
        let taken = reader.expect(&[1]).await;
        reader.settle(vec![marked(taken[0].tag)]).await;
        trial.restart(ending).await;
        outlive_dedup(&trial, &topic).await;
        trial.publish(&topic, [one]).await;
        let mut reader = trial.open(&topic, "group").await;
        trial.expect_rest(&topic, &mut reader, &[100]).await;
    }
}

pub(super) async fn the_inbox_remembers_only_what_was_marked(trial: Trial) {
    let topic = trial.topic("inbox");
    let one = event(1);
    trial.publish(&topic, [one.clone()]).await;
    let mut reader = trial.open(&topic, "group").await;
    let taken = reader.expect(&[1]).await;
    reader.settle(vec![ack(taken[0].tag)]).await;
    outlive_dedup(&trial, &topic).await;
    assert!(!trial.publish(&topic, [one]).await[0].duplicate);
    trial.expect_rest(&topic, &mut reader, &[100, 1]).await;
}
