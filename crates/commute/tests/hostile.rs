//! A broker that loses answers, leases and settlements: every event still takes effect once.

mod kit;

use std::sync::Arc;

use commute::prelude::*;
use commute::{EventId, Message, SharedBroker};
use commute_conformance::fault::{Faults, Faulty};
use commute_sqlite::{Sqlite, Tx};
use kit::{Log, Ping, Pong, broker, started};

const EVENTS: u64 = 400;

fn count(ping: Ping, tx: &Tx<'_>) -> Result<Pong, HandlerError> {
    tx.execute("INSERT INTO seen VALUES (?1, ?2)", (ping.n as i64, (ping.n % 7) as i64))?;
    Ok(Pong { n: ping.n })
}

/// Publishes again, with the same ids, until there is a receipt.
async fn publish_all(broker: &SharedBroker) {
    let publisher = Publisher::new(broker.clone(), "test");
    for start in (0..EVENTS).step_by(20) {
        let message = |n| Message::of(&Ping::new(n)).unwrap().id(EventId::new(format!("ping-{n}")).unwrap());
        let batch: Vec<_> = (start..start + 20).map(message).collect();
        while let Err(error) = publisher.send("pings", batch.clone()).await {
            assert!(error.is_retryable(), "{error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn duplicates_lost_answers_and_broken_settlements_change_nothing() {
    let (directory, sound) = (tempfile::tempdir().unwrap(), broker().await);
    for seed in 0..3 {
        let faults =
            Faults { refused_publish: 0.1, unanswered_publish: 0.1, broken_settle: 0.05, lost_lease: 0.1, seed };
        let faulty = Faulty::new(sound.clone(), faults);
        let broker: SharedBroker = faulty.clone();
        publish_all(&broker).await;
        // An app whose broker fails for good stops; whoever runs it starts it again.
        let mut starts = 0;
        loop {
            starts += 1;
            let db = Sqlite::builder(directory.path().join("app.db"))
                .setup(|db| db.execute_batch("CREATE TABLE IF NOT EXISTS seen (n INTEGER, lane INTEGER)"))
                .open()
                .unwrap();
            let lanes = |ping: &Ping| writes(("lane", ping.n % 7)).into();
            let handler = handler(db.transaction(count)).footprint(lanes).publishes("pongs");
            let app = App::new("app").broker(broker.clone()).store(db.clone()).workers(8).on("pings", handler);
            let app = started(app).await;
            let idle = app.idle().await;
            let stopped = app.stop().await;
            if idle.is_ok() && stopped.is_ok() {
                break;
            }
            assert!(starts < 200, "it never comes to an end");
        }
        assert!(faulty.happened() > 0);
    }
    let db = Arc::new(Sqlite::open(directory.path().join("app.db")).unwrap());
    let numbers = db.read_blocking(|db| {
        let mut select = db.prepare("SELECT n FROM seen ORDER BY lane, rowid")?;
        select.query_map([], |row| row.get::<_, i64>(0))?.collect::<Result<Vec<i64>, _>>()
    });
    let numbers = numbers.unwrap();
    let expected: Vec<i64> = (0..7).flat_map(|lane| (0..EVENTS as i64).filter(move |n| n % 7 == lane)).collect();
    assert_eq!(numbers, expected, "every effect once, and every lane in order");

    let log = Log::default();
    async fn note(pong: Pong, State(log): State<Log>) {
        log.add(pong.n.to_string());
    }
    let reader = App::new("reader").broker(sound).state(log.clone()).on("pongs", handler(note).independent());
    let reader = started(reader).await;
    reader.idle().await.unwrap();
    assert_eq!(log.taken().len() as u64, EVENTS, "every answer once");
}
