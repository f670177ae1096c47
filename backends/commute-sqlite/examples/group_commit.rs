//! What sharing a commit gives: the same units, one transaction each and together, with 64 in flight.
//!
//! A unit is what a handler of an order typically leaves: an inbox mark, ten updates, one staged event. Run it with
//! `cargo run --release -p commute-sqlite --example group_commit`, with a directory as argument to try another disk.

use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Instant;

use commute_core::{
    Committed, Emitted, Envelope, Event, EventId, IntoOutcome, Outcome, Outgoing, Store, Timestamp, Topic, Unit,
};
use commute_macros::Event;
use commute_sqlite::{Sqlite, Tx};
use serde::{Deserialize, Serialize};

const IN_FLIGHT: usize = 64;
const PRODUCTS: usize = 10_000;
const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS stock (product INTEGER PRIMARY KEY, units INTEGER NOT NULL);
    WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 9999)
    INSERT OR IGNORE INTO stock SELECT i, 0 FROM n";

#[derive(Debug, Serialize, Deserialize, Event)]
#[event(type = "shop.stock.reserved", key = "order", crate = "commute_core")]
struct StockReserved {
    order: usize,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = match std::env::args_os().nth(1) {
        Some(parent) => tempfile::tempdir_in(parent)?,
        None => tempfile::tempdir()?,
    };
    let alone = measure(&directory.path().join("alone.db"), 1, 20_000)?;
    let shared = measure(&directory.path().join("shared.db"), 256, 200_000)?;
    println!("one transaction each  {alone:>9.0} units/s");
    println!("shared transactions   {shared:>9.0} units/s");
    println!("ratio                 {:>9.1}", shared / alone);
    Ok(())
}

fn measure(path: &Path, max_group: usize, units: usize) -> Result<f64, Box<dyn std::error::Error>> {
    let db = Sqlite::builder(path).max_group(max_group).setup(|db| db.execute_batch(TABLE)).open()?;
    let topic = Topic::new("shop.stock")?;
    let (done, finished) = sync_channel(10_000);
    let begun = Instant::now();
    let mut ended = 0;
    for n in 0..units {
        if n >= IN_FLIGHT {
            finished.recv()?;
            ended += 1;
        }
        submit(&db, n, &topic, done.clone())?;
    }
    for _ in ended..units {
        finished.recv()?;
    }
    let rate = units as f64 / begun.elapsed().as_secs_f64();
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(db.close())?;
    Ok(rate)
}

fn submit(db: &Sqlite, n: usize, topic: &Topic, done: SyncSender<()>) -> Result<(), Box<dyn std::error::Error>> {
    let write = db.write(move |tx: &Tx<'_>| {
        for line in 0..10 {
            let product = ((n * 7919 + line * 104_729) % PRODUCTS) as i64;
            tx.execute("UPDATE stock SET units = units - 1 WHERE product = ?1", [product])?;
        }
        Ok(StockReserved { order: n })
    });
    let Ok(Outcome::Transact(work)) = write.into_outcome() else { return Err("a write is left to its store".into()) };
    let (event, topic) = (EventId::generate(), topic.clone());
    let cause = event.clone();
    let stage = move |emitted: Vec<Emitted>| {
        let outgoing = |(n, emitted): (usize, Emitted)| {
            let mut envelope = Envelope::new("group_commit", StockReserved::TYPE, Timestamp(0), emitted.data);
            envelope.id = cause.derive("inventory", n as u32);
            Outgoing { topic: topic.clone(), envelope, not_before: None }
        };
        Ok(emitted.into_iter().enumerate().map(outgoing).collect())
    };
    let unit = Unit { subscription: "inventory".into(), event, stage: Box::new(stage) };
    work.submit(
        unit,
        Box::new(move |fate| {
            if matches!(fate, Ok(Committed::Fresh)) {
                // The receiver counts what is committed; it outlives all units.
                let _counted = done.send(());
            }
        }),
    );
    Ok(())
}
