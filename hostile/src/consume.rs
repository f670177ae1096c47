//! The consumer: a process of its own, which handles events and writes down every run, until its input ends.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use commute::prelude::*;
use commute::{Backoff, DeadLetter, Exhausted};
use commute_sqlite::{Sqlite, Tx, Write};
use tokio::io::AsyncReadExt;

use crate::broker::connect;
use crate::event::{ATTEMPTS, Echo, Plain, Stored, Touch};
use crate::history::{History, Outcome, Reader, Record, Run, now};
use crate::plan::Workload;
use crate::publish::{self, publish};

/// What the process is told by the one that starts it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) url: String,
    /// The app's name, the same for every instance.
    pub(crate) app: String,
    /// The process's own name, the same when it is started again.
    pub(crate) process: String,
    pub(crate) topic: String,
    pub(crate) history: PathBuf,
    pub(crate) database: PathBuf,
    pub(crate) look_ahead: usize,
    /// It publishes, too: a directory has one owner.
    pub(crate) publishes: Option<Workload>,
}

/// Where effects are: `run` is who was here and when, `echo` which answers arrived.
const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS effect (n INTEGER, process TEXT, attempt INTEGER, began INTEGER, ended INTEGER);
    CREATE TABLE IF NOT EXISTS echo (n INTEGER);
";

/// How often the process says what it holds.
const STATS: Duration = Duration::from_millis(50);

/// What handlers write to.
#[derive(Clone)]
struct Witness {
    history: History,
    /// With the number of the operating system, so that a process and its successor are two.
    process: Arc<str>,
    topic: Arc<str>,
    db: Sqlite,
}

impl Witness {
    fn run(&self, touch: &Touch, attempt: u32, start: u64, outcome: Outcome) -> u64 {
        let end = now();
        self.history.write(&Record::Run(Run {
            n: touch.n,
            id: publish::id(&self.topic, touch.n),
            keys: touch.keys.clone(),
            process: self.process.as_ref().to_owned(),
            attempt,
            start,
            end,
            outcome,
        }));
        end
    }
}

/// Runs until the input ends, then stops as a service should.
///
/// # Errors
/// The failure that ended the app.
pub(crate) async fn consume(order: Order) -> Result<()> {
    let history = History::open(&order.history)?;
    let process: Arc<str> = format!("{}-{}", order.process, std::process::id()).into();
    history.process(&process, "starts");
    let broker = connect(&order.url).await?;
    let db = Sqlite::builder(&order.database).setup(|db| db.execute_batch(TABLES)).open()?;
    let witness = Witness {
        history: history.clone(),
        process: process.clone(),
        topic: order.topic.as_str().into(),
        db: db.clone(),
    };
    let (echoes, dead) = (format!("{}.echo", order.topic), format!("{}.dead", order.topic));
    let app = App::new(&order.app)
        .broker(broker.clone())
        .store(db.clone())
        .state(witness)
        .look_ahead(order.look_ahead)
        .on(&order.topic, troubled(handler(plain).footprint(|event: &Plain| event.touch.footprint()), &echoes))
        .on(&order.topic, troubled(handler(stored).footprint(|event: &Stored| event.touch.footprint()), &echoes))
        .on(&echoes, handler(db.transaction(count)).independent())
        .on(&dead, handler(bury).independent());
    let app = app.start().await?;
    history.process(&process, "handles");
    let publishing = async {
        let Some(workload) = order.publishes.clone() else { return std::future::pending().await };
        let confirmed = confirmed(&order)?;
        publish(broker.clone(), order.topic.clone(), workload, history.clone(), confirmed).await?;
        std::future::pending::<Result<()>>().await
    };
    tokio::select! {
        () = input_ends() => {}
        failure = app.failed() => {
            history.process(&process, format!("fails: {failure:#}"));
            return Err(failure.into());
        }
        failed = publishing => return failed,
        () = tell(&app, &history, &process) => {}
    }
    history.process(&process, "stops");
    say(&app, &history, &process);
    let left = app.stop().await?;
    broker.close().await?;
    history.process(&process, format!("has stopped, {} unhandled, {} staged", left.unhandled, left.staged));
    Ok(())
}

/// A few attempts close together; then a dead letter.
fn troubled<E: commute::Incoming>(handler: commute::HandlerSpec<E>, echoes: &str) -> commute::HandlerSpec<E> {
    let backoff = Backoff::exponential().first(Duration::from_millis(5)).longest(Duration::from_millis(50));
    handler.retry(backoff.attempts(ATTEMPTS).budget(1.0)).when_exhausted(Exhausted::Skip).publishes(echoes)
}

async fn plain(
    Plain { touch }: Plain,
    State(witness): State<Witness>,
    meta: Meta,
) -> Result<Option<Echo>, HandlerError> {
    let start = now();
    tokio::time::sleep(Duration::from_micros(touch.micros)).await;
    if meta.attempt <= touch.failures {
        witness.run(&touch, meta.attempt, start, Outcome::Failed);
        return Err(HandlerError::retry("it fails on purpose"));
    }
    witness.run(&touch, meta.attempt, start, Outcome::Done);
    Ok(echo(&touch))
}

async fn stored(Stored { touch }: Stored, State(witness): State<Witness>, meta: Meta) -> Write<Option<Echo>> {
    let start = now();
    tokio::time::sleep(Duration::from_micros(touch.micros)).await;
    witness.db.clone().write(move |tx: &Tx<'_>| {
        let row = (touch.n as i64, witness.process.as_ref(), meta.attempt, start as i64, now() as i64);
        tx.execute("INSERT INTO effect VALUES (?1, ?2, ?3, ?4, ?5)", row)?;
        // After the effect, which must then be undone.
        if meta.attempt <= touch.failures {
            witness.run(&touch, meta.attempt, start, Outcome::Failed);
            return Err(HandlerError::retry("it fails on purpose"));
        }
        witness.run(&touch, meta.attempt, start, Outcome::Written);
        Ok(echo(&touch))
    })
}

fn echo(touch: &Touch) -> Option<Echo> {
    touch.echoes.then_some(Echo { n: touch.n, group: touch.group })
}

fn count(echo: Echo, tx: &Tx<'_>) -> Result<(), HandlerError> {
    tx.execute("INSERT INTO echo VALUES (?1)", [echo.n as i64])?;
    Ok(())
}

async fn bury(letter: DeadLetter, State(witness): State<Witness>) -> Result<(), HandlerError> {
    let n = publish::number(letter.original_id()?.as_str()).reject()?;
    witness.history.write(&Record::Dead { at: now(), n, reason: letter.reason });
    Ok(())
}

/// What has a receipt from an earlier life.
fn confirmed(order: &Order) -> Result<HashSet<usize>> {
    let records = Reader::new(&order.history).next()?;
    let events = records.into_iter().filter_map(|record| match record {
        Record::Confirmed { events, .. } => Some(events),
        _ => None,
    });
    Ok(events.flatten().collect())
}

/// Whoever started the process asks it to stop by closing its input, and does so, too, by going away.
async fn input_ends() {
    let mut input = tokio::io::stdin();
    let mut bytes = [0; 64];
    while matches!(input.read(&mut bytes).await, Ok(read) if read > 0) {}
}

async fn tell(app: &commute::Running, history: &History, process: &str) {
    loop {
        tokio::time::sleep(STATS).await;
        say(app, history, process);
    }
}

fn say(app: &commute::Running, history: &History, process: &str) {
    let stats = app.stats();
    let duplicates = stats.subscriptions.iter().map(|subscription| subscription.duplicates).sum();
    let held = stats.running + stats.waiting + stats.ready;
    history.write(&Record::Stats { at: now(), process: process.to_owned(), held, duplicates });
}
