//! Transactional handlers in SQLite: what sharing a commit is worth. Ten updates, the inbox mark and one staged event per
//! event; 64 workers.

use std::time::Instant;

use anyhow::Result;
use commute::prelude::*;
use commute_sqlite::{Sqlite, Tx};

use crate::app::{Measured, finish, messages, publish};
use crate::raw;
use crate::row::{Row, median};

/// What the handler answers.
#[derive(Debug, Serialize, Deserialize, Event)]
#[event(type = "bench.done")]
struct Done {
    key: u64,
}

fn ten_updates(event: Measured, tx: &Tx<'_>) -> Result<Done, HandlerError> {
    for n in 0..10_i64 {
        tx.execute("UPDATE counters SET n = n + 1 WHERE id = ?1", [(event.key as i64 * 10 + n) % 10_000])?;
    }
    Ok(Done { key: event.key })
}

/// Events per second from the first published to the last settled.
async fn pass(events: usize, group: usize) -> Result<f64> {
    let directory = tempfile::tempdir()?;
    let broker = commute::connect(&format!("embedded:{}", directory.path().join("log").display())).await?;
    let rows: String = (0..10_000).map(|n| format!("INSERT INTO counters VALUES ({n}, 0);")).collect();
    let db = Sqlite::builder(directory.path().join("bench.db"))
        .max_group(group)
        .setup(move |db| {
            db.execute_batch("CREATE TABLE counters (id INTEGER PRIMARY KEY, n INTEGER NOT NULL); BEGIN;")?;
            db.execute_batch(&rows)?;
            db.execute_batch("COMMIT")
        })
        .open()?;
    // The events are there before the handlers begin, so that only handling is measured.
    publish(&broker, messages(events, 100_000)?, raw::BATCH).await?;
    let app = App::new("bench").broker(broker.clone()).store(db.clone()).workers(64);
    let began = Instant::now();
    let app = app.on("bench", handler(db.transaction(ten_updates)).independent().publishes("done")).start().await?;
    app.idle().await?;
    let rate = events as f64 / began.elapsed().as_secs_f64();
    finish(app).await?;
    broker.close().await?;
    Ok(rate)
}

/// All rows.
pub(crate) async fn measure(events: usize, repeat: usize) -> Result<Vec<Row>> {
    let (mut shared, mut own, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..repeat {
        let one = pass(events / 5, 1).await?;
        let many = pass(events, 256).await?;
        ratios.push(many / one);
        own.push(one);
        shared.push(many);
    }
    let row = |row: &str, value, unit, target| Row {
        bench: "store",
        row: row.to_owned(),
        value,
        unit,
        better: "higher",
        target,
    };
    Ok(vec![
        row("one transaction each, 64 workers", median(own), "events/s", None),
        row("shared transactions, 64 workers", median(shared), "events/s", None),
        row("shared to one each", median(ratios), "ratio", Some(6.0)),
    ])
}
