//! Inbox: an event is handled once for each subscription, for as long as it is remembered.

use commute_core::{Committed, EventId};

use super::bench::{Bench, stage};
use crate::fixture::{Ending, Verdict, Work};

pub(super) async fn an_event_has_one_effect_however_often_it_is_submitted(bench: Bench) {
    // Ids that differ in little; case and length count.
    let ids = ["a", "A", "a ", "536365-0", &"x".repeat(256), &EventId::generate().to_string()];
    let ids: Vec<_> = ids.iter().map(|id| EventId::new(id).expect("a valid id")).collect();
    for round in 0..3 {
        for (n, id) in ids.iter().enumerate() {
            let expected = if round == 0 { Committed::Fresh } else { Committed::Duplicate };
            assert_eq!(bench.run(id, &format!("effect {n}"), 0).await, expected, "{id:?} in round {round}");
        }
    }
    assert_eq!(bench.effects().await, (0..ids.len()).map(|n| format!("effect {n}")).collect::<Vec<_>>());
}

pub(super) async fn an_event_submitted_twice_at_once_has_one_effect(bench: Bench) {
    let id = EventId::generate();
    let fates: Vec<_> = (0..10).map(|_| bench.submit_effect(&id, "one", 1, Verdict::Succeed)).collect();
    let mut fresh = 0;
    for fate in fates {
        fresh += usize::from(bench.fate(fate).await.expect("it succeeds") == Committed::Fresh);
    }
    assert_eq!((fresh, bench.effects().await.len(), bench.outbox().len()), (1, 1, 1));
}

pub(super) async fn a_mark_survives_a_reopen(mut bench: Bench) {
    for ending in Ending::ALL {
        let id = EventId::generate();
        assert_eq!(bench.run(&id, "effect", 0).await, Committed::Fresh);
        bench.reopen(ending).await;
        assert_eq!(bench.run(&id, "effect", 0).await, Committed::Duplicate, "after {ending:?}");
    }
    assert_eq!(bench.effects().await.len(), 2);
}

pub(super) async fn subscriptions_mark_independently(bench: Bench) {
    let id = EventId::generate();
    for subscription in ["orders/billing", "orders/shipping", "orders/billing"] {
        let work = Work { effect: subscription.into(), emits: Vec::new(), verdict: Verdict::Succeed };
        let fate = bench.submit(subscription, &id, work, stage(&id, subscription));
        bench.fate(fate).await.expect("it succeeds");
    }
    assert_eq!(bench.effects().await, ["orders/billing", "orders/shipping"]);
}

pub(super) async fn a_duplicate_stages_nothing(bench: Bench) {
    let id = EventId::generate();
    bench.run(&id, "effect", 3).await;
    assert_eq!(bench.outbox().len(), 3);
    assert_eq!(bench.run(&id, "effect", 3).await, Committed::Duplicate);
    assert_eq!(bench.outbox().len(), 3);
}
