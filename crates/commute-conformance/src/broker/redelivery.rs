//! Redelivery: what is not settled comes back, in its place, with what is known about it.

use std::time::Duration;

use commute_core::{Settlement, Timestamp};

use crate::fixture::Ending;
use crate::trial::{Trial, assert_each_once, number, numbers, poll_once};

pub(super) async fn unsettled_events_are_delivered_again_in_order_after_a_restart(mut trial: Trial) {
    let topic = trial.topic("unsettled");
    trial.publish_numbers(&topic, 0..20).await;
    let expected: Vec<_> = (0..20).collect();
    for ending in [Ending::Close, Ending::Kill, Ending::Kill, Ending::Close] {
        let mut reader = trial.open(&topic, "group").await;
        let taken = reader.expect(&expected).await;
        assert!(taken.iter().all(|taken| taken.attempt == 1), "being handed over is not an attempt");
        trial.restart(ending).await;
    }
    let mut reader = trial.open(&topic, "group").await;
    trial.expect_rest(&topic, &mut reader, &expected).await;
}

pub(super) async fn a_receive_that_is_dropped_takes_nothing_with_it(mut trial: Trial) {
    let topic = trial.topic("dropped");
    let mut random = trial.random();
    let mut reader = trial.open(&topic, "group").await;
    let (mut published, mut taken) = (0, Vec::new());
    for round in 0..400 {
        if round % 2 == 0 {
            let batch = random.u64(0..4);
            trial.publish_numbers(&topic, published..published + batch).await;
            published += batch;
        }
        // After a restart some payloads have to be fetched from farther away.
        if round == 200 && trial.fixture().restarts() {
            reader.ack(&taken).await;
            trial.publish_numbers(&topic, published..published + 200).await;
            published += 200;
            trial.restart(Ending::Close).await;
            reader = trial.open(&topic, "group").await;
        }
        let mut receive = reader.receiver().receive(random.usize(1..5));
        for _ in 0..random.u8(1..4) {
            if let Some(deliveries) = poll_once(&mut receive).await {
                taken.extend(deliveries.expect("receiving works"));
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    let missing = published as usize - taken.len();
    taken.extend(reader.take(missing).await);
    let mut all = numbers(&taken);
    assert_each_once(&all);
    all.sort_unstable();
    assert_eq!(all, (0..published).collect::<Vec<_>>(), "every event came");
}

pub(super) async fn attempts_and_back_off_survive_a_restart(mut trial: Trial) {
    for ending in Ending::ALL {
        let topic = trial.topic("attempts");
        trial.publish_numbers(&topic, [0, 1]).await;
        let mut reader = trial.open(&topic, "group").await;
        let taken = reader.expect(&[0, 1]).await;
        let due = trial.now().plus(Duration::from_micros(3_600_000_001));
        reader.settle(vec![Settlement::Defer { tag: taken[0].tag, attempts: 4, not_before: due }]).await;
        for ending in [ending, ending] {
            trial.restart(ending).await;
            let mut reader = trial.open(&topic, "group").await;
            let again = reader.expect(&[0, 1]).await;
            let by = |n| again.iter().find(|taken| number(&taken.envelope) == n).expect("it came");
            assert_eq!((by(0).attempt, by(0).not_before), (5, Some(due)), "the deferred event");
            assert_eq!((by(1).attempt, by(1).not_before), (1, None), "the other event");
        }
    }
}

pub(super) async fn the_last_deferral_counts(mut trial: Trial) {
    let topic = trial.topic("deferrals");
    trial.publish_numbers(&topic, [0]).await;
    let mut reader = trial.open(&topic, "group").await;
    let taken = reader.expect(&[0]).await;
    for attempts in 1..=5 {
        let not_before = Timestamp(1_700_000_000_000_000 + i64::from(attempts));
        reader.settle(vec![Settlement::Defer { tag: taken[0].tag, attempts, not_before }]).await;
    }
    trial.restart(Ending::Kill).await;
    let mut reader = trial.open(&topic, "group").await;
    let again = reader.expect(&[0]).await;
    assert_eq!((again[0].attempt, again[0].not_before), (6, Some(Timestamp(1_700_000_000_000_005))));
}

pub(super) async fn a_deferred_event_comes_back_in_its_place(mut trial: Trial) {
    for ending in Ending::ALL {
        let topic = trial.topic("place");
        trial.publish_numbers(&topic, 0..5).await;
        let mut reader = trial.open(&topic, "group").await;
        let taken = reader.expect(&[0, 1, 2, 3, 4]).await;
        // Not due for an hour: it comes at once all the same, because its holder needs to know what waits behind it.
        let due = trial.now().plus(Duration::from_secs(3600));
        let defer = |n: usize| Settlement::Defer { tag: taken[n].tag, attempts: 1, not_before: due };
        reader.settle(vec![defer(2), defer(0)]).await;
        reader.ack(&taken[3..4]).await;
        trial.restart(ending).await;
        let mut reader = trial.open(&topic, "group").await;
        trial.expect_rest(&topic, &mut reader, &[0, 1, 2, 4]).await;
    }
}

pub(super) async fn progress_is_kept_over_many_restarts(mut trial: Trial) {
    let topic = trial.topic("restarts");
    let mut random = trial.random();
    let (mut published, mut open) = (0, Vec::new());
    for _ in 0..12 {
        let batch = random.u64(1..30);
        trial.publish_numbers(&topic, published..published + batch).await;
        open.extend(published..published + batch);
        published += batch;
        let mut reader = trial.open(&topic, "group").await;
        let taken = reader.expect(&open).await;
        let (acked, left): (Vec<_>, Vec<_>) = taken.into_iter().partition(|_| random.bool());
        reader.ack(&acked).await;
        open = numbers(&left);
        open.sort_unstable();
        trial.restart(if random.bool() { Ending::Close } else { Ending::Kill }).await;
    }
    let mut reader = trial.open(&topic, "group").await;
    trial.expect_rest(&topic, &mut reader, &open).await;
}

pub(super) async fn ten_thousand_events_survive_a_restart(mut trial: Trial) {
    const EVENTS: u64 = 10_000;
    let topic = trial.topic("many");
    for start in (0..EVENTS).step_by(500) {
        trial.publish_numbers(&topic, start..start + 500).await;
    }
    for (ending, acked) in [(Ending::Close, 0), (Ending::Kill, 4_000)] {
        trial.restart(ending).await;
        let mut reader = trial.open(&topic, "group").await;
        let backlog = reader.backlog().await;
        assert!(backlog.is_none_or(|backlog| backlog == EVENTS - acked), "a backlog of {backlog:?}");
        let mut next = acked;
        while next < EVENTS {
            let taken = reader.receive(1_000).await;
            let came = numbers(&taken);
            if trial.broker().capabilities().ordering != commute_core::Ordering::None {
                assert_eq!(came, (next..next + came.len() as u64).collect::<Vec<_>>());
            }
            next += came.len() as u64;
            if acked == 0 {
                let first: Vec<_> = taken.into_iter().filter(|taken| number(&taken.envelope) < 4_000).collect();
                reader.ack(&first).await;
            }
        }
    }
}
