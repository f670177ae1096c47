//! Settlement: the last word on a delivery is kept, once, with what was published with it.

use std::time::Duration;

use commute_core::{Settlement, Timestamp};

use crate::fixture::Ending;
use crate::trial::{Trial, ack, event, number, numbers, park, poll_once, tags, to};

pub(super) async fn an_acked_event_is_forgotten(mut trial: Trial) {
    for ending in Ending::ALL {
        let topic = trial.topic("acked");
        trial.publish_numbers(&topic, 0..5).await;
        let mut reader = trial.open(&topic, "group").await;
        let taken = reader.expect(&[0, 1, 2, 3, 4]).await;
        reader.ack(&taken).await;
        trial.expect_rest(&topic, &mut reader, &[]).await;
        trial.restart(ending).await;
        let mut reader = trial.open(&topic, "group").await;
        trial.expect_rest(&topic, &mut reader, &[]).await;
    }
}

pub(super) async fn acks_out_of_order_leave_exactly_the_rest(mut trial: Trial) {
    let mut random = trial.random();
    for ending in Ending::ALL {
        let topic = trial.topic("gaps");
        trial.publish_numbers(&topic, 0..300).await;
        let mut reader = trial.open(&topic, "group").await;
        let mut taken = reader.take(300).await;
        random.shuffle(&mut taken);
        let left = taken.split_off(random.usize(100..200));
        for some in taken.chunks(17) {
            reader.ack(some).await;
        }
        let mut left = numbers(&left);
        left.sort_unstable();
        trial.restart(ending).await;
        let mut reader = trial.open(&topic, "group").await;
        trial.expect_rest(&topic, &mut reader, &left).await;
    }
}

pub(super) async fn a_returned_event_is_delivered_again_and_no_attempt_is_counted(trial: Trial) {
    let topic = trial.topic("returned");
    trial.publish_numbers(&topic, 0..3).await;
    let mut reader = trial.open(&topic, "group").await;
    let mut taken = reader.expect(&[0, 1, 2]).await;
    for _ in 0..5 {
        reader.settle(vec![Settlement::Return { tag: taken[1].tag }]).await;
        let again = reader.expect(&[1]).await;
        assert_eq!(again[0].attempt, 1, "a return counts no attempt");
        assert_eq!(again[0].envelope, taken[1].envelope);
        taken[1] = again.into_iter().next().expect("one");
    }
    reader.ack(&taken).await;
    trial.expect_rest(&topic, &mut reader, &[]).await;
}

pub(super) async fn a_deferred_event_stays_in_flight(trial: Trial) {
    let topic = trial.topic("deferred");
    trial.publish_numbers(&topic, 0..3).await;
    let mut reader = trial.open(&topic, "group").await;
    let taken = reader.expect(&[0, 1, 2]).await;
    // Long due: whoever holds it decides when to try again, not the broker.
    let defer = Settlement::Defer { tag: taken[0].tag, attempts: 1, not_before: Timestamp(1) };
    reader.settle(vec![defer]).await;
    trial.expect_rest(&topic, &mut reader, &[]).await;
    reader.ack(&taken).await;
    drop(reader);
    let mut reader = trial.open(&topic, "group").await;
    trial.expect_rest(&topic, &mut reader, &[]).await;
}

pub(super) async fn settling_twice_does_nothing(trial: Trial) {
    let topic = trial.topic("twice");
    trial.publish_numbers(&topic, 0..6).await;
    let mut reader = trial.open(&topic, "group").await;
    let taken = reader.expect(&[0, 1, 2, 3, 4, 5]).await;
    let tag = |n: usize| taken[n].tag;
    reader.ack(&taken[..5]).await;
    let later = trial.now().plus(Duration::from_secs(1));
    reader.settle(vec![ack(tag(0)), Settlement::Return { tag: tag(1) }, park(tag(2))]).await;
    reader
        .settle(vec![Settlement::Defer { tag: tag(3), attempts: 7, not_before: later }, park(tag(5)), ack(tag(5))])
        .await;
    // An ack of what is over publishes nothing either.
    reader.settle(vec![Settlement::Ack { tag: tag(4), publish: vec![to(&topic, event(99))], mark: false }]).await;
    let parked = trial.within("what is parked", reader.settler.parked()).await.expect("listing works");
    let parked: Vec<_> = parked.iter().map(|parked| parked.tag.position).collect();
    assert_eq!(parked, [tag(5).position], "only what was parked first");
    trial.expect_rest(&topic, &mut reader, &[]).await;
    drop(reader);
    let mut reader = trial.open(&topic, "group").await;
    trial.expect_rest(&topic, &mut reader, &[]).await;
}

pub(super) async fn a_tag_of_an_older_opening_settles_nothing(trial: Trial) {
    let topic = trial.topic("older");
    trial.publish_numbers(&topic, 0..4).await;
    let mut reader = trial.open(&topic, "group").await;
    let old = tags(&reader.expect(&[0, 1, 2, 3]).await);
    drop(reader);
    let mut reader = trial.open(&topic, "group").await;
    reader.expect(&[0, 1, 2, 3]).await;
    let later = trial.now().plus(Duration::from_secs(1));
    let defer = Settlement::Defer { tag: old[3], attempts: 3, not_before: later };
    reader.settle(vec![ack(old[0]), park(old[1]), Settlement::Return { tag: old[2] }, defer]).await;
    trial.expect_rest(&topic, &mut reader, &[]).await;
    let parked = trial.within("what is parked", reader.settler.parked()).await.expect("listing works");
    assert!(parked.is_empty(), "{parked:?}");
    drop(reader);
    let mut reader = trial.open(&topic, "group").await;
    let again = reader.expect(&[0, 1, 2, 3]).await;
    assert!(again.iter().all(|delivery| delivery.attempt == 1), "no attempt was counted");
}

pub(super) async fn a_tag_from_before_a_restart_settles_nothing(mut trial: Trial) {
    for ending in Ending::ALL {
        let topic = trial.topic("older");
        trial.publish_numbers(&topic, 0..2).await;
        let mut reader = trial.open(&topic, "group").await;
        let old = tags(&reader.expect(&[0, 1]).await);
        drop(reader);
        trial.restart(ending).await;
        let mut reader = trial.open(&topic, "group").await;
        reader.expect(&[0, 1]).await;
        reader.settle(vec![ack(old[0]), park(old[1])]).await;
        drop(reader);
        let mut reader = trial.open(&topic, "group").await;
        trial.expect_rest(&topic, &mut reader, &[0, 1]).await;
    }
}

pub(super) async fn events_published_with_an_ack_appear_in_order(trial: Trial) {
    let (topic, other) = (trial.topic("source"), trial.topic("target"));
    trial.publish_numbers(&topic, [0, 1]).await;
    let mut reader = trial.open(&topic, "group").await;
    let taken = reader.expect(&[0, 1]).await;
    let publish = |numbers: [u64; 3]| numbers.map(|n| to(&other, event(n))).to_vec();
    let mut second = publish([20, 21, 22]);
    second.push(to(&topic, event(23)));
    reader
        .settle(vec![
            Settlement::Ack { tag: taken[0].tag, publish: publish([10, 11, 12]), mark: true },
            Settlement::Ack { tag: taken[1].tag, publish: second, mark: true },
        ])
        .await;
    let mut target = trial.open(&other, "group").await;
    trial.expect_rest(&other, &mut target, &[10, 11, 12, 20, 21, 22]).await;
    trial.expect_rest(&topic, &mut reader, &[23]).await;
}

pub(super) async fn an_ack_and_its_events_happen_together_or_not_at_all(mut trial: Trial) {
    let (topic, other) = (trial.topic("source"), trial.topic("target"));
    let mut random = trial.random();
    trial.publish_numbers(&topic, 0..30).await;
    let mut settled = 0;
    for _ in 0..10 {
        let mut reader = trial.open(&topic, "group").await;
        let taken = reader.take(30 - settled).await;
        let settler = reader.settler.clone();
        let settlements = taken.iter().take(2).map(|taken| {
            let publish = vec![to(&other, event(number(&taken.envelope)))];
            Settlement::Ack { tag: taken.tag, publish, mark: true }
        });
        let mut settling = settler.settle(settlements.collect());
        // It begins, and may or may not have happened when the connection is killed.
        let done = poll_once(&mut settling).await.is_some();
        if !done && random.bool() {
            trial.within("settling", &mut settling).await.expect("settling works");
        }
        drop(settling);
        trial.restart(Ending::Kill).await;
        let mut reader = trial.open(&topic, "group").await;
        let mut left = numbers(&trial.rest(&topic, &mut reader).await);
        let mut target = trial.open(&other, &format!("target {}", random.u64(..))).await;
        left.extend(numbers(&trial.rest(&other, &mut target).await).into_iter().filter(|number| *number < 30));
        left.sort_unstable();
        assert_eq!(left, (0..30).collect::<Vec<_>>(), "each event is either not acked or published");
        drop(reader);
        let mut reader = trial.open(&topic, "group").await;
        settled = 30 - trial.rest(&topic, &mut reader).await.len();
    }
}

pub(super) async fn an_event_that_two_acks_publish_is_stored_once(trial: Trial) {
    let (topic, other) = (trial.topic("source"), trial.topic("target"));
    trial.publish_numbers(&topic, [0, 1, 2]).await;
    let mut reader = trial.open(&topic, "group").await;
    let taken = reader.expect(&[0, 1, 2]).await;
    let same = to(&other, event(10));
    let acks: Vec<_> = taken
        .iter()
        .map(|taken| Settlement::Ack { tag: taken.tag, publish: vec![same.clone(), same.clone()], mark: true })
        .collect();
    let (now, then) = acks.split_at(2);
    reader.settle(now.to_vec()).await;
    reader.settle(then.to_vec()).await;
    let mut target = trial.open(&other, "group").await;
    trial.expect_rest(&other, &mut target, &[10]).await;
}

pub(super) async fn an_event_that_was_published_before_is_not_doubled_by_an_ack(trial: Trial) {
    let (topic, other) = (trial.topic("source"), trial.topic("target"));
    trial.publish_numbers(&topic, [0]).await;
    let derived = event(10);
    trial.publish(&other, [derived.clone()]).await;
    let mut reader = trial.open(&topic, "group").await;
    let taken = reader.expect(&[0]).await;
    let publish = vec![to(&other, derived.clone()), to(&other, event(11))];
    reader.settle(vec![Settlement::Ack { tag: taken[0].tag, publish, mark: true }]).await;
    // And the other way round.
    assert!(trial.publish(&other, [derived]).await[0].duplicate);
    let mut target = trial.open(&other, "group").await;
    trial.expect_rest(&other, &mut target, &[10, 11]).await;
    trial.expect_rest(&topic, &mut reader, &[]).await;
}

pub(super) async fn every_settlement_of_a_call_survives_a_restart(mut trial: Trial) {
    for ending in Ending::ALL {
        let (topic, other) = (trial.topic("mixed"), trial.topic("target"));
        trial.publish_numbers(&topic, 0..5).await;
        let mut reader = trial.open(&topic, "group").await;
        let taken = reader.expect(&[0, 1, 2, 3, 4]).await;
        let later = trial.now().plus(Duration::from_secs(5));
        reader
            .settle(vec![
                Settlement::Ack { tag: taken[4].tag, publish: vec![to(&other, event(40))], mark: true },
                Settlement::Defer { tag: taken[1].tag, attempts: 2, not_before: later },
                park(taken[2].tag),
                Settlement::Return { tag: taken[3].tag },
                ack(taken[0].tag),
            ])
            .await;
        trial.restart(ending).await;
        let mut reader = trial.open(&topic, "group").await;
        let rest = trial.expect_rest(&topic, &mut reader, &[1, 3]).await;
        let attempts = |n| rest.iter().find(|taken| number(&taken.envelope) == n).map(|taken| taken.attempt);
        assert_eq!((attempts(1), attempts(3)), (Some(3), Some(1)), "the attempts of 1 and 3");
        assert_eq!(trial.within("what is parked", reader.settler.parked()).await.expect("listing works").len(), 1);
        let mut target = trial.open(&other, "group").await;
        trial.expect_rest(&other, &mut target, &[40]).await;
    }
}

pub(super) async fn unsettled_events_can_be_read_again(trial: Trial) {
    let topic = trial.topic("read");
    trial.publish_numbers(&topic, 0..20).await;
    let mut reader = trial.open(&topic, "group").await;
    let mut taken = reader.take(20).await;
    let later = trial.now().plus(Duration::from_secs(1));
    reader.settle(vec![Settlement::Defer { tag: taken[3].tag, attempts: 1, not_before: later }]).await;
    reader.settle(vec![park(taken[5].tag)]).await;
    trial.random().shuffle(&mut taken);
    let read = trial.within("payloads", reader.settler.read(&tags(&taken))).await.expect("reading works");
    let expected: Vec<_> = taken.into_iter().map(|taken| (*taken.envelope).clone()).collect();
    assert_eq!(read, expected, "the envelopes, in the order of the tags");
}
