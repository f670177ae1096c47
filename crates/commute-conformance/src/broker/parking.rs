//! Parking: what is set aside stays aside, in order and with all that is known about it, until it is taken back.

use std::time::Duration;

use commute_core::{Code, Delivery, DeliveryTag, Lane, Mode, Parked, Settlement};

use crate::fixture::Ending;
use crate::trial::{Reader, Trial, numbers, park, tags};

async fn parked(trial: &Trial, reader: &Reader) -> Vec<Parked> {
    trial.within("what is parked", reader.settler.parked()).await.expect("listing works")
}

async fn unpark(trial: &Trial, reader: &Reader, tags: Vec<DeliveryTag>) -> Vec<Delivery> {
    trial.within("unparking", reader.settler.unpark(tags)).await.expect("unparking works")
}

async fn parked_numbers(trial: &Trial, reader: &Reader) -> Vec<u64> {
    let parked: Vec<_> = parked(trial, reader).await.iter().map(|parked| parked.tag).collect();
    let read = trial.within("payloads", reader.settler.read(&parked)).await.expect("reading works");
    read.iter().map(crate::trial::number).collect()
}

pub(super) async fn parked_events_are_not_delivered(trial: Trial) {
    let topic = trial.topic("parked");
    trial.publish_numbers(&topic, 0..5).await;
    let mut reader = trial.open(&topic, "group").await;
    let taken = reader.expect(&[0, 1, 2, 3, 4]).await;
    reader.settle(vec![park(taken[1].tag), park(taken[3].tag)]).await;
    trial.expect_rest(&topic, &mut reader, &[]).await;
    drop(reader);
    let mut reader = trial.open(&topic, "group").await;
    trial.expect_rest(&topic, &mut reader, &[0, 2, 4]).await;
}

/// Parks four of six events, out of their order, each with something different.
async fn park_four(trial: &Trial, reader: &mut Reader) {
    let taken = reader.expect(&[0, 1, 2, 3, 4, 5]).await;
    let lanes = vec![
        (Lane(u64::MAX), Mode::Exclusive),
        (Lane(0), Mode::READ),
        (Lane(7), Mode::Shared(u32::MAX)),
        (Lane(3), Mode::Shared(1)),
    ];
    let park = |n: usize, attempts, lanes: &[(Lane, Mode)], reason: Option<&str>| Settlement::Park {
        tag: taken[n].tag,
        attempts,
        lanes: lanes.to_vec(),
        reason: reason.map(str::to_owned),
    };
    reader
        .settle(vec![park(4, 3, &lanes, Some("the card was declined: \"ü\"\n")), park(1, 0, &lanes[..1], None)])
        .await;
    trial.pass(Duration::from_millis(1)).await;
    reader.settle(vec![park(3, u32::MAX, &[], Some(""))]).await;
    reader.settle(vec![park(0, 1, &lanes[1..], Some(&"x".repeat(5_000)))]).await;
}

/// Checks what [`park_four`] parked.
async fn check_four(trial: &Trial, reader: &Reader) {
    let found = parked(trial, reader).await;
    let shape: Vec<_> = found.iter().map(|p| (p.attempts, p.lanes.len(), p.reason.as_deref().map(str::len))).collect();
    assert_eq!(shape, [(3, 4, Some(28)), (0, 1, None), (u32::MAX, 0, Some(0)), (1, 3, Some(5_000))]);
    assert_eq!(found[0].reason.as_deref(), Some("the card was declined: \"ü\"\n"));
    let lanes = [
        (Lane(u64::MAX), Mode::Exclusive),
        (Lane(0), Mode::READ),
        (Lane(7), Mode::Shared(u32::MAX)),
        (Lane(3), Mode::Shared(1)),
    ];
    assert_eq!((&found[0].lanes[..], &found[1].lanes[..], &found[3].lanes[..]), (&lanes[..], &lanes[..1], &lanes[1..]));
    assert!(found.is_sorted_by_key(|parked| parked.since), "times of parking grow");
    assert_eq!(parked_numbers(trial, reader).await, [4, 1, 3, 0], "in the order of parking");
}

pub(super) async fn parked_events_are_listed_as_they_were_parked(trial: Trial) {
    let topic = trial.topic("parked");
    trial.publish_numbers(&topic, 0..6).await;
    let mut reader = trial.open(&topic, "group").await;
    assert!(parked(&trial, &reader).await.is_empty());
    park_four(&trial, &mut reader).await;
    check_four(&trial, &reader).await;
}

pub(super) async fn parked_events_survive_a_restart(mut trial: Trial) {
    for ending in Ending::ALL {
        let topic = trial.topic("parked");
        trial.publish_numbers(&topic, 0..6).await;
        let mut reader = trial.open(&topic, "group").await;
        park_four(&trial, &mut reader).await;
        let before = parked(&trial, &reader).await;
        for ending in [ending, ending] {
            trial.restart(ending).await;
            let mut reader = trial.open(&topic, "group").await;
            check_four(&trial, &reader).await;
            let since = |parked: &[Parked]| parked.iter().map(|parked| parked.since).collect::<Vec<_>>();
            assert_eq!(since(&parked(&trial, &reader).await), since(&before), "the times of parking");
            reader.expect(&[2, 5]).await;
        }
    }
}

pub(super) async fn unparked_events_are_given_back_in_order(trial: Trial) {
    let topic = trial.topic("unparked");
    trial.publish_numbers(&topic, 0..6).await;
    let mut reader = trial.open(&topic, "group").await;
    park_four(&trial, &mut reader).await;
    let aside: Vec<_> = parked(&trial, &reader).await.iter().map(|parked| parked.tag).collect();
    let back = unpark(&trial, &reader, aside[..3].to_vec()).await;
    assert_eq!(numbers(&back), [4, 1, 3], "in the order that was asked for");
    assert!(back.iter().all(|back| back.attempt == 1 && back.not_before.is_none()), "attempts start anew");
    assert_eq!(parked_numbers(&trial, &reader).await, [0], "the others stay parked");
    // They are with the caller already.
    trial.expect_rest(&topic, &mut reader, &[]).await;
    reader.ack(&back).await;
}

pub(super) async fn unparking_what_is_not_parked_is_refused_and_does_nothing(trial: Trial) {
    let topic = trial.topic("unparked");
    trial.publish_numbers(&topic, 0..4).await;
    let mut reader = trial.open(&topic, "group").await;
    let taken = reader.expect(&[0, 1, 2, 3]).await;
    reader.settle(vec![park(taken[0].tag), park(taken[2].tag)]).await;
    reader.ack(&taken[3..]).await;
    let aside: Vec<_> = parked(&trial, &reader).await.iter().map(|parked| parked.tag).collect();
    // One that is in flight, and one that is forgotten, among others that are parked.
    for wrong in [taken[1].tag, taken[3].tag] {
        let refused = trial.within("unparking", reader.settler.unpark(vec![aside[0], wrong, aside[1]])).await;
        assert_eq!(refused.expect_err("one is not parked").code(), Code::NotParked);
        assert_eq!(parked_numbers(&trial, &reader).await, [0, 2], "nothing was done");
    }
    assert!(unpark(&trial, &reader, Vec::new()).await.is_empty());
    trial.expect_rest(&topic, &mut reader, &[]).await;
}

pub(super) async fn unparking_twice_is_refused(trial: Trial) {
    let topic = trial.topic("unparked");
    trial.publish_numbers(&topic, [0]).await;
    let mut reader = trial.open(&topic, "group").await;
    let taken = reader.expect(&[0]).await;
    reader.settle(vec![park(taken[0].tag)]).await;
    let aside: Vec<_> = parked(&trial, &reader).await.iter().map(|parked| parked.tag).collect();
    assert_eq!(numbers(&unpark(&trial, &reader, aside.clone()).await), [0]);
    let refused = trial.within("unparking", reader.settler.unpark(aside)).await;
    assert_eq!(refused.expect_err("it is not parked any more").code(), Code::NotParked);
}

pub(super) async fn an_unparked_event_can_be_acked(mut trial: Trial) {
    for ending in Ending::ALL {
        let topic = trial.topic("unparked");
        trial.publish_numbers(&topic, [0, 1]).await;
        let mut reader = trial.open(&topic, "group").await;
        let taken = reader.expect(&[0, 1]).await;
        reader.settle(taken.iter().map(|taken| park(taken.tag)).collect()).await;
        let aside: Vec<_> = parked(&trial, &reader).await.iter().map(|parked| parked.tag).collect();
        let back = unpark(&trial, &reader, aside[..1].to_vec()).await;
        reader.ack(&back).await;
        trial.restart(ending).await;
        let mut reader = trial.open(&topic, "group").await;
        trial.expect_rest(&topic, &mut reader, &[]).await;
        assert_eq!(parked_numbers(&trial, &reader).await, [1]);
    }
}

pub(super) async fn an_unparked_event_can_be_parked_again_behind_the_others(trial: Trial) {
    let topic = trial.topic("again");
    trial.publish_numbers(&topic, 0..3).await;
    let mut reader = trial.open(&topic, "group").await;
    let taken = reader.expect(&[0, 1, 2]).await;
    reader.settle(taken.iter().map(|taken| park(taken.tag)).collect()).await;
    let aside: Vec<_> = parked(&trial, &reader).await.iter().map(|parked| parked.tag).collect();
    let back = unpark(&trial, &reader, aside[..1].to_vec()).await;
    reader.settle(tags(&back).into_iter().map(park).collect()).await;
    assert_eq!(parked_numbers(&trial, &reader).await, [1, 2, 0]);
}

pub(super) async fn unparked_and_unsettled_events_are_delivered_again_after_a_restart(mut trial: Trial) {
    for ending in Ending::ALL {
        let topic = trial.topic("unparked");
        trial.publish_numbers(&topic, 0..6).await;
        let mut reader = trial.open(&topic, "group").await;
        park_four(&trial, &mut reader).await;
        let aside: Vec<_> = parked(&trial, &reader).await.iter().map(|parked| parked.tag).collect();
        unpark(&trial, &reader, aside[..2].to_vec()).await;
        trial.restart(ending).await;
        let mut reader = trial.open(&topic, "group").await;
        let rest = trial.expect_rest(&topic, &mut reader, &[1, 2, 4, 5]).await;
        assert!(rest.iter().all(|rest| rest.attempt == 1), "attempts started anew when it was unparked");
        assert_eq!(parked_numbers(&trial, &reader).await, [3, 0]);
    }
}

pub(super) async fn an_unparked_event_is_not_received_as_well(mut trial: Trial) {
    for ending in Ending::ALL {
        let topic = trial.topic("unparked");
        trial.publish_numbers(&topic, 0..6).await;
        let mut reader = trial.open(&topic, "group").await;
        park_four(&trial, &mut reader).await;
        trial.restart(ending).await;
        // It is taken back before the receiver has come to its place.
        let mut reader = trial.open(&topic, "group").await;
        let aside: Vec<_> = parked(&trial, &reader).await.iter().map(|parked| parked.tag).collect();
        let back = unpark(&trial, &reader, aside[..2].to_vec()).await;
        assert_eq!(numbers(&back), [4, 1]);
        trial.expect_rest(&topic, &mut reader, &[2, 5]).await;
        reader.ack(&back).await;
    }
}

pub(super) async fn an_event_parked_after_deferrals_keeps_its_attempts(trial: Trial) {
    let topic = trial.topic("deferred");
    trial.publish_numbers(&topic, [0]).await;
    let mut reader = trial.open(&topic, "group").await;
    let taken = reader.expect(&[0]).await;
    let (tag, later) = (taken[0].tag, trial.now().plus(Duration::from_secs(60)));
    reader.settle(vec![Settlement::Defer { tag, attempts: 2, not_before: later }]).await;
    reader.settle(vec![Settlement::Park { tag, attempts: 3, lanes: Vec::new(), reason: Some("no".into()) }]).await;
    let aside = parked(&trial, &reader).await;
    assert_eq!(aside.iter().map(|parked| parked.attempts).collect::<Vec<_>>(), [3]);
    let back = unpark(&trial, &reader, vec![aside[0].tag]).await;
    assert_eq!((back[0].attempt, back[0].not_before), (1, None), "attempts start anew");
}

pub(super) async fn groups_park_independently(trial: Trial) {
    let topic = trial.topic("groups");
    trial.groups(&topic, &["a", "b"]).await;
    trial.publish_numbers(&topic, [0, 1]).await;
    let (mut a, mut b) = (trial.open(&topic, "a").await, trial.open(&topic, "b").await);
    let taken = a.expect(&[0, 1]).await;
    a.settle(vec![park(taken[0].tag)]).await;
    assert!(parked(&trial, &b).await.is_empty());
    b.expect(&[0, 1]).await;
    assert_eq!(parked_numbers(&trial, &a).await, [0]);
}
