//! Opening and closing: who owns the file, what is in it, and what becomes of those who come too late.

mod fixture;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use commute_core::{Clock, Code, Store, Timestamp};
use commute_sqlite::Sqlite;
use commute_sqlite::rusqlite::Connection;
use fixture::{Fate, Place, block_on, close, hold, note, notes, rows, run, submit};

fn refused(opened: commute_core::Result<Sqlite>) -> Code {
    opened.map(|_| ()).unwrap_err().code()
}

#[test]
fn a_second_owner_is_refused_until_the_first_has_closed() {
    let place = Place::new();
    let db = place.open();
    assert_eq!(refused(Sqlite::open(place.path())), Code::DirectoryOwned);
    close(&db);
    assert_eq!(run(&place.open(), note("a")), Fate::Fresh);
}

#[test]
fn marks_are_remembered_after_a_restart() {
    let place = Place::new();
    let db = place.open();
    run(&db, note("a"));
    close(&db);
    assert_eq!(run(&place.open(), note("a")), Fate::Duplicate);
}

#[test]
fn closing_commits_what_was_submitted_and_can_be_done_again() {
    let place = Place::new();
    let db = place.open();
    let gate = hold(&db);
    let (fates, results) = sync_channel(10_000);
    for name in ["a", "b", "c"] {
        submit(&db, note(name), fates.clone());
    }
    block_on(async {
        let opening = async { drop(gate) };
        let (first, second, ()) = tokio::join!(db.close(), db.close(), opening);
        first.and(second).unwrap();
    });
    assert!(results.try_iter().map(|(_, fate)| fate).eq([Fate::Fresh; 3]));
    close(&db);
    assert_eq!(notes(&place.open()), ["a", "b", "c"]);
}

#[test]
fn who_comes_after_the_end_is_lost_and_not_forgotten() {
    let place = Place::new();
    let db = place.open();
    close(&db);
    assert_eq!(run(&db, note("a")), Fate::Lost(Code::Closed));
    assert_eq!(db.read_blocking(|_| Ok(())).unwrap_err().code(), Code::Closed);
    assert_eq!(block_on(db.read(|_| Ok(()))).unwrap_err().code(), Code::Closed);
}

#[test]
fn dropping_the_last_handle_commits_what_was_submitted_and_frees_the_file() {
    let place = Place::new();
    let db = place.open();
    let (fates, results) = sync_channel(10_000);
    submit(&db, note("a"), fates);
    drop(db);
    assert_eq!(results.recv().unwrap().1, Fate::Fresh);
    assert_eq!(notes(&place.open()), ["a"]);
}

#[test]
fn after_a_close_the_database_is_one_file_again() {
    let place = Place::new();
    let db = place.open();
    run(&db, note("a"));
    close(&db);
    let names: Vec<_> = std::fs::read_dir(place.path().parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "test.db.lock")
        .collect();
    assert_eq!(names, ["test.db"]);
}

#[test]
fn a_file_that_is_no_database_is_refused_and_left_as_it_is() {
    let place = Place::new();
    let text = "this is a letter, and long enough to be looked at as a database of some kind".repeat(20);
    std::fs::write(place.path(), &text).unwrap();
    assert_eq!(refused(Sqlite::open(place.path())), Code::ForeignDirectory);
    assert_eq!(std::fs::read_to_string(place.path()).unwrap(), text);
}

#[test]
fn a_database_of_a_later_format_is_refused() {
    let place = Place::new();
    close(&place.open());
    Connection::open(place.path()).unwrap().execute("UPDATE commute_meta SET value = 2", []).unwrap();
    assert_eq!(refused(Sqlite::open(place.path())), Code::UnknownFormat);
}

#[test]
fn a_place_that_cannot_be_used_is_refused() {
    let place = Place::new();
    std::fs::write(place.path(), "").unwrap();
    assert_eq!(refused(Sqlite::open(place.path().join("below.db"))), Code::DirectoryUnusable);
    assert_eq!(refused(Sqlite::open(":memory:")), Code::InvalidOption);
    assert_eq!(refused(Sqlite::open("")), Code::InvalidOption);
}

#[test]
fn a_setup_that_fails_or_stays_in_a_transaction_is_refused_and_the_file_is_free_again() {
    let place = Place::new();
    for sql in ["CREATE NONSENSE", "BEGIN"] {
        assert_eq!(refused(place.builder().setup(move |db| db.execute_batch(sql)).open()), Code::StoreFailed);
    }
    place.open();
}

#[test]
fn no_setup_can_weaken_what_committed_means() {
    let place = Place::new();
    let weaken = "PRAGMA synchronous = OFF; PRAGMA journal_mode = DELETE";
    let db = place.builder().setup(move |db| db.execute_batch(weaken)).open().unwrap();
    let asked = fixture::step("a", |tx| {
        let mode: String = tx.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
        let synchronous: i64 = tx.query_row("PRAGMA synchronous", [], |row| row.get(0))?;
        assert_eq!((mode.as_str(), synchronous), ("wal", 2));
        Ok(Vec::new())
    });
    assert_eq!(run(&db, asked), Fate::Fresh);
}

#[test]
fn a_reader_can_change_nothing_and_leaves_no_transaction_open() {
    let place = Place::new();
    let db = place.open();
    let write = db.read_blocking(|db| db.execute("INSERT INTO notes VALUES ('a')", []));
    assert_eq!(write.unwrap_err().code(), Code::StoreFailed);
    let count = |db: &Connection| db.query_row("SELECT count(*) FROM notes", [], |row| row.get::<_, i64>(0));
    let begun = db.read_blocking(move |db| {
        db.execute_batch("BEGIN")?;
        count(db)
    });
    assert_eq!(begun.unwrap(), 0);
    run(&db, note("a"));
    assert_eq!(block_on(db.read(count)).unwrap(), 1);
}

#[derive(Clone, Default)]
struct Hand(Arc<AtomicI64>);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }
}

#[test]
fn marks_older_than_the_retention_go_away_a_few_at_a_time_and_younger_ones_stay() {
    let place = Place::new();
    let clock = Hand::default();
    let day = Duration::from_secs(24 * 60 * 60);
    let db = place.builder().clock(clock.clone()).inbox_retention(day).open().unwrap();
    assert_eq!(db.inbox_retention(), day);
    let pass = |days: f64| clock.0.store((days * day.as_micros() as f64) as i64, Ordering::Relaxed);
    let name = |day: &str, n: usize| &*format!("{day}-{n:04}").leak();

    for n in 0..500 {
        submit(&db, note(name("old", n)), sync_channel(10_000).0);
    }
    run(&db, note("last of the old"));
    pass(0.9);
    run(&db, note("young"));
    pass(1.1);
    let before = rows(&db, "commute_inbox");
    run(&db, note("next"));
    assert!(rows(&db, "commute_inbox") > before - 100, "a sweep is spread over many groups");
    for n in 0..20 {
        run(&db, note(name("new", n)));
    }
    assert_eq!(rows(&db, "commute_inbox"), 22);
    assert_eq!(run(&db, note("young")), Fate::Duplicate);
    assert_eq!(run(&db, note("old-0000")), Fate::Fresh);
}
