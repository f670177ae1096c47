//! Atomicity: effect, mark and staged events are there together or not at all, and `done` says which.

use std::collections::BTreeSet;

use commute_core::{Committed, EventId, UnitError};

use super::bench::{Bench, emitted, refuse};
use crate::fixture::{Ending, Verdict, Work};

pub(super) async fn a_failed_work_leaves_nothing_and_can_be_run_again(bench: Bench) {
    let id = EventId::generate();
    for _ in 0..3 {
        let fate = bench.fate(bench.submit_effect(&id, "effect", 2, Verdict::Fail)).await;
        assert!(matches!(fate, Err(UnitError::Failed(_))), "the handler failed: {fate:?}");
        assert!(bench.effects().await.is_empty(), "its effect is undone");
        assert!(bench.outbox().is_empty(), "nothing is staged");
    }
    assert_eq!(bench.run(&id, "effect", 2).await, Committed::Fresh, "no mark was left");
    assert_eq!((bench.effects().await.len(), bench.outbox().len()), (1, 2));
}

pub(super) async fn a_failed_work_does_not_undo_its_neighbours(bench: Bench) {
    let mut random = bench.random();
    let plan: Vec<_> = (0..200).map(|_| if random.u8(..3) == 0 { Verdict::Fail } else { Verdict::Succeed }).collect();
    let submit = |(n, verdict): (usize, &Verdict)| {
        bench.submit_effect(&EventId::generate(), &n.to_string(), usize::from(n % 5 == 0), *verdict)
    };
    let fates: Vec<_> = plan.iter().enumerate().map(submit).collect();
    for (n, (fate, verdict)) in fates.into_iter().zip(&plan).enumerate() {
        let fate = bench.fate(fate).await;
        assert_eq!(fate.is_ok(), *verdict == Verdict::Succeed, "work {n}: {fate:?}");
    }
    let succeeded = || plan.iter().enumerate().filter(|(_, verdict)| **verdict == Verdict::Succeed).map(|(n, _)| n);
    assert_eq!(bench.effects().await, succeeded().map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!(bench.outbox().len(), succeeded().filter(|n| n % 5 == 0).count());
}

pub(super) async fn a_work_whose_events_cannot_be_staged_leaves_nothing(bench: Bench) {
    let id = EventId::generate();
    let work = Work { effect: "effect".into(), emits: vec![emitted(0)], verdict: Verdict::Succeed };
    let fate = bench.fate(bench.submit("subscription", &id, work, refuse())).await;
    assert!(fate.is_err(), "it cannot succeed: {fate:?}");
    assert!(bench.effects().await.is_empty() && bench.outbox().is_empty());
    assert_eq!(bench.run(&id, "effect", 1).await, Committed::Fresh, "no mark was left");
}

pub(super) async fn effects_are_made_in_the_order_of_submission(bench: Bench) {
    let submit = |n: usize| bench.submit_effect(&EventId::generate(), &n.to_string(), 0, Verdict::Succeed);
    let mut fates: Vec<_> = (0..500).map(submit).collect();
    bench.random().shuffle(&mut fates);
    for fate in fates {
        bench.fate(fate).await.expect("it succeeds");
    }
    assert_eq!(bench.effects().await, (0..500).map(|n| n.to_string()).collect::<Vec<_>>());
}

pub(super) async fn what_is_done_is_committed_even_if_the_store_is_killed(mut bench: Bench) {
    for n in 0..5 {
        bench.run(&EventId::generate(), &n.to_string(), 1).await;
        bench.reopen(Ending::Kill).await;
        assert_eq!((bench.effects().await.len(), bench.outbox().len()), (n + 1, n + 1));
    }
}

pub(super) async fn after_a_kill_effect_mark_and_events_are_all_there_or_none(mut bench: Bench) {
    let mut random = bench.random();
    let mut known = BTreeSet::new();
    for _ in 0..5 {
        let ids: Vec<_> = (0..40).map(|_| EventId::generate()).collect();
        let submit = |id: &EventId| bench.submit_effect(id, id.as_str(), 1, Verdict::Succeed);
        let mut fates: Vec<_> = ids.iter().map(submit).collect();
        // Some are waited for; what becomes of the others is open.
        let waited = random.usize(..20);
        for fate in fates.drain(..waited) {
            bench.fate(fate).await.expect("it succeeds");
        }
        known.extend(ids[..waited].iter().map(ToString::to_string));
        bench.reopen(Ending::Kill).await;
        let effects: BTreeSet<_> = bench.effects().await.into_iter().collect();
        assert!(known.is_subset(&effects), "what was done is there");
        let mut staged = BTreeSet::new();
        while staged.len() < bench.outbox().len() {
            staged = bench.staged(0, 10_000).await.into_iter().map(|(_, event)| event.envelope.id).collect();
        }
        let derived = |id: &String| EventId::new(id).expect("a valid id").derive("subscription", 0);
        assert_eq!(staged, effects.iter().map(derived).collect(), "the staged events of these effects, and no others");
        for id in &ids {
            let before = effects.contains(id.as_str());
            let expected = if before { Committed::Duplicate } else { Committed::Fresh };
            assert_eq!(bench.run(id, id.as_str(), 1).await, expected, "a mark for each effect, and no other");
        }
        known.extend(ids.iter().map(ToString::to_string));
    }
}

pub(super) async fn every_work_is_answered_once_even_across_a_close(bench: Bench) {
    let mut fates = Vec::new();
    for n in 0..100 {
        let (id, effect) = (EventId::generate(), n.to_string());
        fates.push((effect.clone(), bench.submit_effect(&id, &effect, 0, Verdict::Succeed)));
    }
    bench.within("close", bench.store().close()).await.expect("closing works");
    for n in 100..110 {
        let (id, effect) = (EventId::generate(), n.to_string());
        fates.push((effect.clone(), bench.submit_effect(&id, &effect, 0, Verdict::Succeed)));
    }
    let mut committed = Vec::new();
    for (effect, fate) in fates {
        match bench.fate(fate).await {
            Ok(Committed::Fresh) => committed.push(effect),
            Err(UnitError::Lost(_)) => {}
            other => panic!("work {effect} is neither committed nor lost: {other:?}"),
        }
    }
    assert!(committed.len() >= 100, "what was submitted before the close is committed: {}", committed.len());
    assert_eq!(bench.effects().await, committed);
}

pub(super) async fn closing_twice_is_closing_once(bench: Bench) {
    bench.run(&EventId::generate(), "effect", 0).await;
    for _ in 0..2 {
        bench.within("close", bench.store().close()).await.expect("closing works");
    }
}
