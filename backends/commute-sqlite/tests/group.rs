//! What becomes of events that share a transaction, when one of them misbehaves.

mod fixture;

use commute_core::{Code, HandlerError};
use fixture::{Fate, Place, group, note, note_and, notes, rows, run, staged, step};

#[test]
fn effects_mark_and_staged_event_are_there_together() {
    let place = Place::new();
    let db = place.open();
    assert_eq!(run(&db, note("a")), Fate::Fresh);
    assert_eq!((notes(&db), staged(&db)), (vec!["a".to_owned()], vec!["a".to_owned()]));
    assert_eq!(rows(&db, "commute_inbox"), 1);
}

#[test]
fn an_event_that_comes_again_has_no_second_effect_and_stages_nothing() {
    let place = Place::new();
    let db = place.open();
    assert_eq!(group(&db, vec![note("a"), note("a")]), [("a", Fate::Fresh), ("a", Fate::Duplicate)]);
    assert_eq!(run(&db, note("a")), Fate::Duplicate);
    assert_eq!((notes(&db).len(), staged(&db).len()), (1, 1));
}

#[test]
fn an_event_that_fails_is_rolled_back_alone_and_can_come_again() {
    let place = Place::new();
    let db = place.open();
    let failing = step("b", |tx| {
        tx.execute("INSERT INTO notes VALUES ('b')", [])?;
        Err(HandlerError::reject("no"))
    });
    let fates = group(&db, vec![note("a"), failing, note("c"), note("b")]);
    assert_eq!(
        fates,
        [("a", Fate::Fresh), ("b", Fate::Failed(Code::Rejected)), ("c", Fate::Fresh), ("b", Fate::Fresh)]
    );
    assert_eq!(notes(&db), ["a", "c", "b"]);
    assert_eq!(staged(&db), ["a", "c", "b"]);
}

#[test]
fn wrong_sql_fails_its_event_alone() {
    let place = Place::new();
    let db = place.open();
    let fates = group(&db, vec![note("a"), note_and("b", "INSERT INTO nowhere VALUES (1)"), note("c")]);
    assert_eq!(fates, [("a", Fate::Fresh), ("b", Fate::Failed(Code::HandlerFailed)), ("c", Fate::Fresh)]);
    assert_eq!(notes(&db), ["a", "c"]);
}

#[test]
fn an_event_that_panics_is_rolled_back_alone_and_the_writer_goes_on() {
    let place = Place::new();
    let db = place.open();
    let panicking = step("b", |tx| {
        tx.execute("INSERT INTO notes VALUES ('b')", [])?;
        panic!("on purpose")
    });
    let fates = group(&db, vec![note("a"), panicking, note("c")]);
    assert_eq!(fates, [("a", Fate::Fresh), ("b", Fate::Failed(Code::Panicked)), ("c", Fate::Fresh)]);
    assert_eq!(notes(&db), ["a", "c"]);
}

#[test]
fn sql_that_tries_to_end_the_transaction_is_refused_and_harms_nobody_else() {
    for sql in
        ["COMMIT", "ROLLBACK", "END", "BEGIN", "SAVEPOINT mine", "RELEASE commute_event", "ROLLBACK TO commute_event"]
    {
        let place = Place::new();
        let db = place.open();
        let fates = group(&db, vec![note("a"), note_and("b", sql), note("c")]);
        let expected = [("a", Fate::Fresh), ("b", Fate::Failed(Code::TransactionEnded)), ("c", Fate::Fresh)];
        assert_eq!(fates, expected, "{sql}");
        assert_eq!(notes(&db), ["a", "c"], "{sql}");
    }
}

#[test]
fn trying_to_end_the_transaction_and_hiding_it_fails_all_the_same() {
    let place = Place::new();
    let db = place.open();
    let hiding = step("a", |tx| {
        for sql in ["COMMIT", "BEGIN IMMEDIATE", "SAVEPOINT commute_event", "RELEASE commute_event"] {
            assert!(tx.execute(sql, []).is_err());
        }
        Ok(Vec::new())
    });
    assert_eq!(run(&db, note("before")), Fate::Fresh);
    assert_eq!(run(&db, hiding), Fate::Failed(Code::TransactionEnded));
    assert_eq!(rows(&db, "commute_inbox"), 1);
}

#[test]
fn sql_that_does_end_the_transaction_fails_alone_and_what_was_before_it_is_lost_and_succeeds_again() {
    let place = Place::new();
    let db = place.open();
    assert_eq!(run(&db, note_and("setup", "CREATE UNIQUE INDEX one ON notes (text)")), Fate::Fresh);
    let failing = || step("f", |_| Err(HandlerError::reject("no")));
    let culprit = || note_and("b", "INSERT OR ROLLBACK INTO notes VALUES ('b')");
    let fates = group(&db, vec![note("a"), failing(), note("a"), culprit(), note("c"), note("a")]);
    assert_eq!(
        fates,
        [
            // Lost, even where they had failed or been met before: all of that was seen in what is gone.
            ("a", Fate::Lost(Code::StoreFailed)),
            ("f", Fate::Lost(Code::StoreFailed)),
            ("a", Fate::Lost(Code::StoreFailed)),
            ("b", Fate::Failed(Code::TransactionEnded)),
            ("c", Fate::Fresh),
            ("a", Fate::Fresh),
        ]
    );
    assert_eq!(run(&db, note("a")), Fate::Duplicate);
    assert_eq!(run(&db, failing()), Fate::Failed(Code::Rejected));
    assert_eq!(notes(&db), ["setup", "c", "a"]);
    assert_eq!(staged(&db), ["setup", "c", "a"]);
}

#[test]
fn events_run_in_the_order_in_which_they_were_submitted() {
    let names: Vec<&'static str> = (0..1000).map(|n| &*format!("{n:04}").leak()).collect();
    let place = Place::new();
    let db = place.open();
    let fates = group(&db, names.iter().map(|name| note(name)).collect());
    assert!(fates.iter().all(|(_, fate)| *fate == Fate::Fresh));
    assert_eq!(fates.iter().map(|(name, _)| *name).collect::<Vec<_>>(), names);
    assert_eq!(notes(&db), names);
    assert_eq!(staged(&db), names);
}

#[test]
fn who_submits_more_than_can_wait_is_told_and_nothing_blocks() {
    let place = Place::new();
    let db = place.open();
    let names: Vec<&'static str> = (0..9000).map(|n| &*format!("{n:04}").leak()).collect();
    let fates = group(&db, names.iter().map(|name| note(name)).collect());
    let lost = fates.iter().filter(|(_, fate)| *fate == Fate::Lost(Code::StoreFailed)).count();
    assert!((1..1000).contains(&lost), "{lost}");
    assert_eq!(notes(&db).len(), 9000 - lost);
}

#[test]
fn a_full_disk_loses_events_and_fails_none_and_they_succeed_when_there_is_room() {
    let place = Place::new();
    let db = place.builder().setup(|db| db.execute_batch("PRAGMA max_page_count = 40")).open().unwrap();
    let large = |event| {
        step(event, move |tx| {
            tx.execute("INSERT INTO notes VALUES (?1 || hex(zeroblob(100000)))", [event])?;
            Ok(Vec::new())
        })
    };
    let fates = group(&db, vec![note("a"), large("b"), note("c")]);
    assert_eq!(fates[1], ("b", Fate::Lost(Code::DiskFull)));
    assert_eq!(fates[2], ("c", Fate::Fresh));
    for (event, fate) in fates {
        let again = run(&db, note(event));
        assert_eq!(again == Fate::Duplicate, fate == Fate::Fresh, "{event}: {fate:?}, then {again:?}");
    }
    assert_eq!(rows(&db, "notes"), 3);
}

#[test]
fn a_full_disk_is_seen_behind_the_errors_that_a_handler_makes_of_it() {
    let place = Place::new();
    let db = place.builder().setup(|db| db.execute_batch("PRAGMA max_page_count = 40")).open().unwrap();
    let renamed = step("a", |tx| {
        let large = tx.execute("INSERT INTO notes VALUES (hex(zeroblob(100000)))", []);
        large.map_err(|_| HandlerError::reject("something else"))?;
        Ok(Vec::new())
    });
    let prepared = step("b", |tx| {
        tx.prepare_cached("INSERT INTO notes VALUES (hex(zeroblob(100000)))")?.execute([])?;
        Ok(Vec::new())
    });
    assert_eq!(run(&db, renamed), Fate::Lost(Code::DiskFull));
    assert_eq!(run(&db, prepared), Fate::Lost(Code::DiskFull));
}
