//! Handlers: what the engine gets of a transactional function, and what a `Write` promises before it runs.

mod fixture;

use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use bytes::Bytes;
use commute_core::{
    Code, Committed, Context, Envelope, Handler, HandlerError, Incoming, IntoOutcome, Meta, Needs, Outcome, Route,
    State, States, Timestamp, Topic, Types, Unit, UnitError,
};
use commute_macros::{Event, Events};
use commute_sqlite::{OptionalExtension, Sqlite, Tx, Write};
use fixture::{Noted, Place, block_on, notes, rows, staged};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize, Event)]
#[event(type = "test.said", key = "text", crate = "commute_core")]
struct Said {
    text: String,
}

#[derive(Debug, Serialize, Deserialize, Event)]
#[event(type = "test.refused", crate = "commute_core")]
struct Refused;

#[derive(Debug, Events)]
#[event(crate = "commute_core")]
enum Answered {
    Noted(Noted),
    Refused(Refused),
}

#[derive(Clone)]
struct Prefix(&'static str);

fn write_down(
    said: Said,
    tx: &Tx<'_>,
    State(Prefix(prefix)): State<Prefix>,
    meta: Meta,
) -> Result<Answered, HandlerError> {
    let text = format!("{prefix}{} by {}", said.text, meta.id);
    let known: Option<i64> =
        tx.query_row("SELECT rowid FROM notes WHERE text = ?1", [&text], |row| row.get(0)).optional()?;
    if known.is_some() {
        return Ok(Answered::Refused(Refused));
    }
    tx.execute("INSERT INTO notes VALUES (?1)", [&text])?;
    assert_eq!((tx.last_insert_rowid(), tx.changes()), (1, 1));
    assert!(tx.exists("SELECT 1 FROM notes WHERE text = ?1", [&text])?);
    assert_eq!(tx.query_map("SELECT text FROM notes", [], |row| row.get::<_, String>(0))?, std::slice::from_ref(&text));
    Ok(Answered::Noted(Noted { text }))
}

fn context(event: &str) -> Context {
    let mut states = States::default();
    states.insert(Prefix("> "));
    let data = Bytes::from(format!("{{\"text\":\"{event}\"}}"));
    let mut envelope = Envelope::new("test", "test.said", Timestamp(0), data);
    envelope.id = commute_core::EventId::new(event).unwrap();
    let route = Route { topic: Topic::new("test").unwrap(), subscription: "test".into(), states };
    Context { envelope: Arc::new(envelope), route: Arc::new(route), attempt: 1, published: Timestamp(0) }
}

/// What the engine does with a handler and an event.
fn handle<Args, H: Handler<Args>>(handler: &H, event: &str) -> Result<Committed, Code> {
    let context = context(event);
    let incoming = H::Event::decode(&context.envelope).unwrap();
    let answer = block_on(handler.call(incoming, &context).map_err(|error| error.code())?);
    let Outcome::Transact(work) = answer.into_outcome().map_err(|error| error.code())? else {
        panic!("a transactional handler transacts")
    };
    let id = context.envelope.id.clone();
    let (done, result) = sync_channel(10_000);
    let unit = Unit { subscription: "test".into(), event: id.clone(), stage: fixture::stage(id) };
    work.submit(unit, Box::new(move |fate| done.send(fate).unwrap()));
    result.recv().unwrap().map_err(|error| match error {
        UnitError::Failed(error) => error.code(),
        UnitError::Lost(error) => error.code(),
    })
}

fn described<Args, H: Handler<Args>>(_: &H) -> (Types, Vec<&'static str>, usize, bool) {
    let (mut types, mut needs) = (Vec::new(), Needs::default());
    H::Output::emits(&mut types);
    H::needs(&mut needs);
    (H::Event::types(), types, needs.states.len(), H::Output::transacts())
}

#[test]
fn a_function_of_event_transaction_and_extractors_is_a_handler_that_says_what_it_takes_needs_and_emits() {
    let place = Place::new();
    let db = place.open();
    let handler = db.transaction(write_down);
    let expected = (Types::Only(vec!["test.said"]), vec!["test.noted", "test.refused"], 1, true);
    assert_eq!(described(&handler), expected);
    assert_eq!(handle(&handler, "a"), Ok(Committed::Fresh));
    assert_eq!(handle(&handler, "a"), Ok(Committed::Duplicate));
    assert_eq!((notes(&db), staged(&db)), (vec!["> a by a".to_owned()], vec!["> a by a".to_owned()]));
}

#[test]
fn functions_answer_nothing_events_options_or_results_with_errors_of_their_own() {
    let place = Place::new();
    let db = place.open();
    fn nothing(_: Said, _: &Tx<'_>) {}
    fn plain(said: Said, _: &Tx<'_>) -> Noted {
        Noted { text: said.text }
    }
    let own_error = |said: Said, tx: &Tx<'_>| -> Result<Option<Noted>, commute_sqlite::rusqlite::Error> {
        tx.execute("INSERT INTO notes VALUES (?1)", [&said.text])?;
        tx.query_row("SELECT text FROM notes WHERE text = 'other'", [], |row| row.get(0))
            .map(|text| Some(Noted { text }))
    };
    assert_eq!(handle(&db.transaction(nothing), "a"), Ok(Committed::Fresh));
    assert_eq!(handle(&db.transaction(plain), "b"), Ok(Committed::Fresh));
    assert_eq!(handle(&db.transaction(own_error), "c"), Err(Code::HandlerFailed));
    assert_eq!((notes(&db).len(), staged(&db)), (0, vec!["b".to_owned()]));
}

#[test]
fn an_extractor_that_fails_runs_nothing() {
    let place = Place::new();
    let db = place.open();
    let handler = db.transaction(|_: Said, _: &Tx<'_>, _: State<u8>| -> Result<(), HandlerError> { unreachable!() });
    assert_eq!(handle(&handler, "a"), Err(Code::ExtractorFailed));
    assert_eq!(rows(&db, "commute_inbox"), 0);
}

#[test]
fn an_async_handler_writes_what_it_answers_with() {
    let place = Place::new();
    let db = place.open();
    let handler = {
        let db = db.clone();
        move |said: Said| {
            let db = db.clone();
            async move { answer(said, &db).await }
        }
    };
    assert_eq!(described(&handler), (Types::Only(vec!["test.said"]), vec!["test.noted"], 0, true));
    assert_eq!(handle(&handler, "a"), Ok(Committed::Fresh));
    assert_eq!((notes(&db), staged(&db)), (vec!["a".to_owned()], vec!["a".to_owned()]));
}

async fn answer(said: Said, db: &Sqlite) -> Result<Write<Noted>, HandlerError> {
    tokio::task::yield_now().await;
    Ok(db.write(move |tx: &Tx<'_>| {
        tx.execute("INSERT INTO notes VALUES (?1)", [&said.text])?;
        Ok(Noted { text: said.text })
    }))
}

#[test]
fn a_write_that_is_not_returned_writes_nothing() {
    let place = Place::new();
    let db = place.open();
    drop(db.write(|tx| Ok(tx.execute_batch("INSERT INTO notes VALUES ('a')")?)));
    assert_eq!(fixture::run(&db, fixture::note("b")), fixture::Fate::Fresh);
    assert_eq!(notes(&db), ["b"]);
}

#[test]
fn a_transaction_cannot_answer_with_another() {
    let place = Place::new();
    let db = place.open();
    let inner = db.clone();
    let nested = db.transaction(move |_: Said, _: &Tx<'_>| inner.write(|_| Ok(())));
    assert_eq!(handle(&nested, "a"), Err(Code::InvalidApp));
}
