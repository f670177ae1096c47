//! Staged events: handed over in commit order, forgotten when confirmed, and still there after a crash.

mod fixture;

use std::time::Duration;

use commute_core::{Code, Envelope, EventId, Outgoing, Store, Timestamp, Topic};
use commute_sqlite::rusqlite::Connection;
use fixture::{Fate, Place, block_on, close, group, hold, note, rows, run, staged, staged_after, step, submit};

fn ids(staged: &[(u64, Outgoing)]) -> Vec<EventId> {
    staged.iter().map(|(_, outgoing)| outgoing.envelope.id.clone()).collect()
}

#[test]
fn the_relay_waits_until_something_is_committed() {
    let place = Place::new();
    let db = place.open();
    let outbox = db.outbox();
    block_on(async {
        let mut next = outbox.next(0, 10);
        let nothing = tokio::time::timeout(Duration::ZERO, &mut next).await;
        assert!(nothing.is_err());
        let (fates, results) = std::sync::mpsc::sync_channel(10_000);
        submit(&db, note("a"), fates);
        let staged = next.await.unwrap();
        assert_eq!((staged.len(), staged[0].0), (1, 1));
        // Whoever is told has been told before, or will be: the commit is what counts.
        assert_eq!(results.recv().unwrap().1, Fate::Fresh);
    });
}

#[test]
fn what_is_not_committed_is_not_handed_over() {
    let place = Place::new();
    let db = place.open();
    let gate = hold(&db);
    let (fates, results) = std::sync::mpsc::sync_channel(10_000);
    submit(&db, note("a"), fates);
    assert!(db.outbox().is_empty());
    drop(gate);
    results.recv().unwrap();
    assert_eq!(db.outbox().len(), 1);
}

#[test]
fn confirming_forgets_up_to_a_number_at_once_and_in_the_file_before_the_end() {
    let place = Place::new();
    let db = place.open();
    group(&db, vec![note("a"), note("b"), note("c")]);
    block_on(db.outbox().confirm(2)).unwrap();
    assert_eq!(db.outbox().len(), 1);
    assert_eq!(staged(&db), ["c"]);
    close(&db);
    let db = place.open();
    assert_eq!((staged(&db), rows(&db, "commute_outbox")), (vec!["c".to_owned()], 1));
}

#[test]
fn confirmed_events_are_deleted_with_the_next_group() {
    let place = Place::new();
    let db = place.open();
    run(&db, note("a"));
    block_on(db.outbox().confirm(1)).unwrap();
    run(&db, note("b"));
    assert_eq!(rows(&db, "commute_outbox"), 1);
}

#[test]
fn confirming_what_was_never_staged_forgets_nothing_that_comes_later() {
    let place = Place::new();
    let db = place.open();
    run(&db, note("a"));
    block_on(db.outbox().confirm(u64::MAX)).unwrap();
    run(&db, note("b"));
    assert_eq!((staged(&db), db.outbox().len()), (vec!["b".to_owned()], 1));
}

#[test]
fn staged_events_survive_a_restart_with_their_ids_order_and_bytes() {
    let place = Place::new();
    let db = place.open();
    group(&db, vec![note("a"), note("b"), note("c")]);
    let before = staged_after(&db, 0);
    close(&db);
    let db = place.open();
    assert_eq!(staged_after(&db, 0), before);
    assert_eq!(staged_after(&db, 1), before[1..]);
    run(&db, note("d"));
    assert_eq!(staged(&db), ["a", "b", "c", "d"]);
}

#[test]
fn what_was_published_but_not_forgotten_is_offered_again_with_the_same_ids() {
    let place = Place::new();
    let copy = Place::new();
    let db = place.open();
    group(&db, vec![note("a"), note("b")]);
    let before = staged_after(&db, 0);
    // The file as a crash leaves it: the process is gone, the log was never folded into the database.
    let _held = hold(&db);
    block_on(db.outbox().confirm(2)).unwrap();
    std::fs::copy(place.path(), copy.path()).unwrap();
    let log = |place: &Place| format!("{}-wal", place.path().display());
    std::fs::copy(log(&place), log(&copy)).unwrap();
    let crashed = copy.open();
    assert_eq!(ids(&staged_after(&crashed, 0)), ids(&before));
    assert_eq!(run(&crashed, note("a")), Fate::Duplicate);
}

#[test]
fn a_relay_far_behind_gets_everything_in_order() {
    let names: Vec<&'static str> = (0..20_000).map(|n| &*format!("{n:05}").leak()).collect();
    let place = Place::new();
    let db = place.open();
    for some in names.chunks(5000) {
        group(&db, some.iter().map(|name| note(name)).collect());
    }
    let (mut after, mut seen) = (0, Vec::new());
    while seen.len() < names.len() {
        let batch = block_on(db.outbox().next(after, 700)).unwrap();
        assert!(batch.len() <= 700);
        after = batch.last().unwrap().0;
        seen.extend(batch.into_iter().map(|(_, outgoing)| outgoing.envelope.id));
    }
    let expected = names.iter().map(|name| EventId::new(name).unwrap().derive("test", 0));
    assert!(seen.into_iter().eq(expected));
}

#[test]
fn an_envelope_keeps_every_attribute_and_every_byte_of_its_payload_in_the_table() {
    let mut envelope = Envelope::new("shop", "t", Timestamp(1_291_191_960_123_456), "{ \"b\":1,\"a\":1.10 }".into());
    envelope.subject = Some("s".into());
    envelope.data_content_type = Some("application/json".into());
    envelope.data_schema = Some("schema".into());
    envelope.extensions.set("partitionkey", "k").unwrap();
    envelope.extensions.set("other", "x").unwrap();
    let binary = Envelope::new("shop", "t", Timestamp(0), vec![0, 255, 10].into());
    let outgoing = |envelope, not_before| Outgoing { topic: Topic::new("a.b").unwrap(), envelope, not_before };
    let all = vec![outgoing(envelope, Some(Timestamp(5))), outgoing(binary, None)];

    let place = Place::new();
    let db = place.open();
    let staged = all.clone();
    let (fates, results) = std::sync::mpsc::sync_channel(10_000);
    fixture::submit_staging(&db, step("a", |_| Ok(Vec::new())), Box::new(move |_| Ok(staged)), fates);
    assert_eq!(results.recv().unwrap().1, Fate::Fresh);
    close(&db);
    let db = place.open();
    assert!(staged_after(&db, 0).into_iter().map(|(_, outgoing)| outgoing).eq(all));
}

#[test]
fn an_event_whose_answer_cannot_be_staged_is_rolled_back_alone() {
    let place = Place::new();
    let db = place.open();
    let refuse = |_| Err(commute_core::Error::new(Code::PayloadTooLarge, "on purpose"));
    let (fates, results) = std::sync::mpsc::sync_channel(10_000);
    fixture::submit_staging(&db, note("a"), Box::new(refuse), fates);
    assert_eq!(results.recv().unwrap().1, Fate::Failed(Code::PayloadTooLarge));
    assert_eq!((rows(&db, "notes"), rows(&db, "commute_inbox")), (0, 0));
}

#[test]
fn a_relay_is_not_stuck_when_somebody_else_deletes_staged_events() {
    let place = Place::new();
    let db = place.open();
    group(&db, vec![note("a"), note("b")]);
    close(&db);
    let db = place.open();
    Connection::open(place.path()).unwrap().execute("DELETE FROM commute_outbox", []).unwrap();
    let outbox = db.outbox();
    block_on(async {
        let mut next = outbox.next(0, 10);
        assert!(tokio::time::timeout(Duration::ZERO, &mut next).await.is_err());
        let (fates, _results) = std::sync::mpsc::sync_channel(10_000);
        submit(&db, note("c"), fates);
        assert_eq!(next.await.unwrap().len(), 1);
    });
}

#[test]
fn a_relay_that_waits_hears_of_the_end() {
    let place = Place::new();
    let db = place.open();
    let outbox = db.outbox();
    block_on(async {
        let (next, closed) = tokio::join!(outbox.next(0, 10), db.close());
        closed.unwrap();
        assert_eq!(next.unwrap_err().code(), Code::Closed);
    });
}
