//! Stopping, crashing and going on, on a directory.

mod kit;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use commute::prelude::*;
use commute::{Key, SharedBroker};
use commute_sqlite::{Sqlite, Tx};
use kit::{Log, Ping, Pong, started};

/// Opens the directory as soon as an app that was dropped has let go of it.
async fn at(path: &Path) -> SharedBroker {
    let url = format!("embedded:{}", path.join("log").display());
    loop {
        match commute::connect(&url).await {
            Err(error) if error.is_retryable() => tokio::task::yield_now().await,
            opened => return opened.unwrap(),
        }
    }
}

#[tokio::test]
async fn parked_lanes_and_attempts_survive_a_restart() {
    let (directory, log) = (tempfile::tempdir().unwrap(), Log::default());
    let broken = Arc::new(AtomicBool::new(true));
    async fn fragile(
        ping: Ping,
        State(broken): State<Arc<AtomicBool>>,
        State(log): State<Log>,
    ) -> Result<(), HandlerError> {
        if ping.n == 1 && broken.load(Ordering::Relaxed) {
            return Err(HandlerError::retry("broken"));
        }
        log.add(ping.n.to_string());
        Ok(())
    }
    let app = async || {
        let once = Backoff::fixed(Duration::from_millis(1)).attempts(2);
        let lanes = |ping: &Ping| writes(("odd", ping.n % 2)).into();
        let handler = handler(fragile).footprint(lanes).retry(once).when_exhausted(Exhausted::Park);
        let broker = at(directory.path()).await;
        started(App::new("app").broker(broker).state(log.clone()).state(broken.clone()).on("pings", handler)).await
    };
    let first = app().await;
    let pings: Vec<_> = (1..6).map(Ping::new).collect();
    first.publisher().publish_batch("pings", &pings).await.unwrap();
    first.idle().await.unwrap();
    assert_eq!(log.taken(), ["2", "4"]);
    first.stop().await.unwrap();

    let second = app().await;
    second.publisher().publish_batch("pings", &[Ping::new(6), Ping::new(7)]).await.unwrap();
    second.idle().await.unwrap();
    assert_eq!(log.taken(), ["6"], "the lane is parked still");
    broken.store(false, Ordering::Relaxed);
    assert_eq!(second.release(("odd", 1_u64).lane()).await.unwrap(), 4);
    second.idle().await.unwrap();
    assert_eq!(log.taken(), ["1", "3", "5", "7"]);
    second.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_app_loses_nothing_and_repeats_no_effect() {
    let directory = tempfile::tempdir().unwrap();
    fn count(ping: Ping, tx: &Tx<'_>) -> Result<Pong, HandlerError> {
        tx.execute("INSERT INTO seen VALUES (?1)", [ping.n as i64])?;
        Ok(Pong { n: ping.n })
    }
    // Without a unique key, a second effect would be a second row.
    let db = || loop {
        let builder = Sqlite::builder(directory.path().join("app.db"));
        match builder.setup(|db| db.execute_batch("CREATE TABLE IF NOT EXISTS seen (n INTEGER)")).open() {
            Err(error) if error.is_retryable() => std::thread::yield_now(),
            opened => return opened.unwrap(),
        }
    };
    for round in 0..4_u64 {
        let (broker, db) = (at(directory.path()).await, db());
        let lanes = |ping: &Ping| writes(("n", ping.n % 7)).into();
        let handler = handler(db.transaction(count)).footprint(lanes).publishes("pongs");
        let app = started(App::new("app").broker(broker).store(db.clone()).on("pings", handler)).await;
        let pings: Vec<_> = (round * 100..(round + 1) * 100).map(Ping::new).collect();
        app.publisher().publish_batch("pings", &pings).await.unwrap();
        if round == 3 {
            app.idle().await.unwrap();
            app.stop().await.unwrap();
        }
        // Otherwise it is dropped in the middle.
    }
    let rows = |sql: &'static str| db().read_blocking(|db| db.query_row(sql, [], |row| row.get::<_, i64>(0))).unwrap();
    assert_eq!(rows("SELECT count(*) FROM seen"), 400);
    assert_eq!(rows("SELECT count(DISTINCT n) FROM seen"), 400);
    let log = Log::default();
    async fn note(pong: Pong, State(log): State<Log>) {
        log.add(pong.n.to_string());
    }
    let reader = App::new("reader")
        .broker(at(directory.path()).await)
        .state(log.clone())
        .on("pongs", handler(note).independent());
    let reader = started(reader).await;
    reader.idle().await.unwrap();
    assert_eq!(log.taken().len(), 400, "every answer is published once");
    reader.stop().await.unwrap();
}

#[tokio::test]
async fn a_stop_finishes_what_is_in_hand_and_keeps_the_rest() {
    let (directory, log) = (tempfile::tempdir().unwrap(), Log::default());
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    async fn gated(ping: Ping, State(gate): State<Arc<tokio::sync::Semaphore>>, State(log): State<Log>) {
        gate.acquire().await.unwrap().forget();
        log.add(ping.n.to_string());
    }
    let app = async || {
        let broker = at(directory.path()).await;
        let app = App::new("app").broker(broker).state(log.clone()).state(gate.clone());
        started(app.on("pings", handler(gated).exclusive())).await
    };
    let first = app().await;
    first.publisher().publish_batch("pings", &[Ping::new(1), Ping::new(2)]).await.unwrap();
    while first.stats().running == 0 {
        tokio::task::yield_now().await;
    }
    let stopping = tokio::spawn(first.stop());
    tokio::task::yield_now().await;
    gate.add_permits(1);
    let left = stopping.await.unwrap().unwrap();
    assert_eq!((log.taken(), left.unhandled), (vec!["1".to_owned()], 1));
    gate.add_permits(1);
    let second = app().await;
    second.idle().await.unwrap();
    assert_eq!(log.taken(), ["2"]);
}
