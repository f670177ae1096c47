//! Outbox: staged events come in commit order, unchanged, until they are confirmed.

use commute_core::EventId;

use super::bench::{Bench, emitted, staged};
use crate::fixture::Ending;
use crate::trial::{poll_once, waiting};

pub(super) async fn staged_events_come_unchanged_in_commit_order(bench: Bench) {
    let mut expected = Vec::new();
    for (n, emits) in [3, 0, 1, 7].into_iter().enumerate() {
        let id = EventId::generate();
        bench.run(&id, &n.to_string(), emits).await;
        expected.extend(staged(&id, "subscription", (0..emits).map(emitted).collect()));
    }
    let (mut found, mut after) = (Vec::new(), 0);
    while found.len() < expected.len() {
        let some = bench.staged(after, 100).await;
        after = some.last().expect("it is not empty").0;
        found.extend(some.into_iter().map(|(_, event)| event));
    }
    assert_eq!(found, expected);
    assert_eq!(bench.outbox().len(), expected.len());
}

pub(super) async fn at_most_what_was_asked_is_given(bench: Bench) {
    bench.run(&EventId::generate(), "effect", 10).await;
    let (mut count, mut after) = (0, 0);
    for max in [1, 2, 3, 4] {
        let mut left = max;
        while left > 0 {
            let some = bench.staged(after, left).await;
            (left, count, after) = (left - some.len(), count + some.len(), some.last().expect("it is not empty").0);
        }
    }
    assert_eq!(count, 10);
    // Asking for the same again gives the same again.
    assert_eq!(bench.staged(0, 1).await, bench.staged(0, 1).await);
}

pub(super) async fn whoever_waits_is_woken_by_the_next_commit(bench: Bench) {
    let outbox = bench.outbox();
    let waiting = waiting(async move { outbox.next(0, 10).await.expect("the outbox works").len() }).await;
    bench.run(&EventId::generate(), "one", 0).await;
    bench.run(&EventId::generate(), "two", 1).await;
    assert_eq!(bench.within("the waiting relay", waiting).await.expect("it ends"), 1);
}

pub(super) async fn a_next_that_is_dropped_takes_nothing_with_it(bench: Bench) {
    let outbox = bench.outbox();
    for n in 0..50 {
        let mut next = outbox.next(n, 10);
        let _ = poll_once(&mut next).await;
        drop(next);
        if n % 10 == 0 {
            bench.run(&EventId::generate(), &n.to_string(), 1).await;
        }
    }
    let (mut count, mut after) = (0, 0);
    while count < 5 {
        let some = bench.staged(after, 10).await;
        (count, after) = (count + some.len(), some.last().expect("it is not empty").0);
    }
    assert_eq!(bench.outbox().len(), 5);
}

pub(super) async fn confirmed_events_are_forgotten(mut bench: Bench) {
    bench.run(&EventId::generate(), "effect", 5).await;
    let all = bench.staged(0, 5).await;
    bench.within("confirming", bench.outbox().confirm(all[2].0)).await.expect("the outbox works");
    assert_eq!(bench.outbox().len(), 2);
    assert_eq!(bench.staged(0, 1).await[0], all[3]);
    // Confirming less than is confirmed, and nothing new, changes nothing.
    bench.within("confirming", bench.outbox().confirm(all[0].0)).await.expect("the outbox works");
    assert_eq!(bench.outbox().len(), 2);
    bench.reopen(Ending::Close).await;
    assert_eq!(bench.staged(0, 1).await[0].1, all[3].1, "what a closed store has forgotten stays forgotten");
    let last = bench.staged(0, 5).await.last().expect("it is not empty").0;
    bench.within("confirming", bench.outbox().confirm(last)).await.expect("the outbox works");
    assert!(bench.outbox().is_empty());
    // Sequence numbers go on growing, so that a relay that asks for what is after the last one finds it.
    bench.run(&EventId::generate(), "later", 1).await;
    assert_eq!(bench.staged(last, 5).await.len(), 1);
}

pub(super) async fn unconfirmed_events_survive_a_reopen(mut bench: Bench) {
    let mut expected = Vec::new();
    for ending in Ending::ALL {
        let id = EventId::generate();
        bench.run(&id, "effect", 4).await;
        expected.extend(staged(&id, "subscription", (0..4).map(emitted).collect()));
        bench.reopen(ending).await;
        assert_eq!(bench.outbox().len(), expected.len(), "after {ending:?}");
        let found: Vec<_> = bench.staged(0, 100).await.into_iter().map(|(_, event)| event).collect();
        assert_eq!(found, expected, "with the same ids, so that publishing again is noticed");
    }
}
