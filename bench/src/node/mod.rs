//! A commute node over loopback, against the embedded log in process and against an echo of the same frames.
//!
//! Node and echo are in a process of their own; the echo has no storage.

mod load;
mod served;

use std::time::Duration;

use anyhow::Result;
use commute::SharedBroker;
use tokio::task::JoinSet;

pub(crate) use self::served::serve;

use self::load::{handle, publish};
use self::served::{CONNECTIONS, Served, descriptors, echo};
use crate::row::{Row, cpu, median};

const MANY: usize = 64;

/// What one round finds, beside what is found in the same round about the embedded log.
#[derive(Default)]
struct Found {
    echo: Vec<f64>,
    /// Time of one publish, embedded and node.
    one: [Vec<f64>; 2],
    one_ratio: Vec<f64>,
    many: Pair,
    handled_one: Pair,
    handled: Pair,
    /// Time of the processor for one event from publish to acknowledgement.
    cpu: [Vec<f64>; 2],
    /// Of the node, after the load, in MiB.
    memory: Vec<f64>,
    most_memory: Vec<f64>,
}

/// Rates of both, and their ratio.
#[derive(Default)]
struct Pair([Vec<f64>; 2], Vec<f64>);

impl Pair {
    fn add(&mut self, embedded: f64, node: f64) {
        self.0.iter_mut().zip([embedded, node]).for_each(|(all, one)| all.push(one));
        self.1.push(node / embedded);
    }

    fn rows(self, name: &str, target: Option<f64>) -> Vec<Row> {
        let Pair([embedded, node], ratio) = self;
        let rate = |of: &str, values| row(&format!("{name}, {of}"), median(values), "events/s", "higher", None);
        let ratio = row(&format!("{name}, node to embedded"), median(ratio), "ratio", "higher", target);
        vec![rate("embedded", embedded), rate("node", node), ratio]
    }
}

fn row(row: &str, value: f64, unit: &'static str, better: &'static str, target: Option<f64>) -> Row {
    Row { bench: "node", row: row.to_owned(), value, unit, better, target }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// All rows. Each round has everything in it, one thing after the other; ratios are those within a round.
pub(crate) async fn measure(events: usize, rounds: usize) -> Result<Vec<Row>> {
    let few = (events / 50).max(MANY);
    let mut found = Found::default();
    for _ in 0..rounds {
        let folders = (tempfile::tempdir()?, tempfile::tempdir()?);
        let embedded = commute::connect(&format!("embedded:{}", folders.0.path().join("log").display())).await?;
        let served = Served::on(&folders.1.path().join("log"))?;
        let node = commute::connect(&served.node).await?;
        round(&mut found, &embedded, (&served, &node), (few, events)).await?;
        node.close().await?;
        drop(served);
        embedded.close().await?;
    }
    let time = |name: &str, values| row(name, median(values), "us", "lower", None);
    let ([one_embedded, one_node], [cpu_embedded, cpu_node]) = (found.one, found.cpu);
    let mut rows = vec![
        time("1 publisher, raw echo of the frames", found.echo),
        time("1 publisher, embedded", one_embedded),
        time("1 publisher, node", one_node),
        row("1 publisher, node to echo and embedded", median(found.one_ratio), "ratio", "lower", Some(1.2)),
    ];
    rows.extend(found.many.rows("64 publishers", Some(0.5)));
    rows.extend(found.handled_one.rows("1 publisher to handled", None));
    rows.extend(found.handled.rows("64 publishers to handled", Some(0.5)));
    rows.push(time("64 publishers to handled, embedded, processor", cpu_embedded));
    rows.push(time("64 publishers to handled, client and node, processor", cpu_node));
    let mebibytes = |name: &str, value| row(name, value, "MiB", "lower", None);
    rows.push(mebibytes("node's memory after that", median(found.memory)));
    rows.push(mebibytes("node's memory at most", median(found.most_memory)));
    rows.extend(idle(few).await?);
    Ok(rows)
}

async fn round(
    found: &mut Found,
    embedded: &SharedBroker,
    (served, node): (&Served, &SharedBroker),
    (few, events): (usize, usize),
) -> Result<()> {
    let echo = micros(echo(&served.echo, few).await?);
    let one = [micros(publish(embedded, 1, few).await?.1), micros(publish(node, 1, few).await?.1)];
    found.echo.push(echo);
    found.one_ratio.push(one[1] / (echo + one[0]));
    found.one.iter_mut().zip(one).for_each(|(all, one)| all.push(one));
    found.many.add(publish(embedded, MANY, events).await?.0, publish(node, MANY, events).await?.0);
    found.handled_one.add(handle(embedded, 1, few).await?, handle(node, 1, few).await?);
    let mut rates = [0.0; 2];
    for (n, broker) in [embedded, node].into_iter().enumerate() {
        let before = cpu()? + served.cpu()?;
        rates[n] = handle(broker, MANY, events).await?;
        found.cpu[n].push(micros(cpu()? + served.cpu()? - before) / events as f64);
    }
    found.handled.add(rates[0], rates[1]);
    let (now, most) = served.memory()?;
    found.memory.push(now / 1024.0);
    found.most_memory.push(most / 1024.0);
    Ok(())
}

/// What clients cost that are connected and do nothing but say that they are there, and whether others notice them.
async fn idle(few: usize) -> Result<Vec<Row>> {
    let room = descriptors()?;
    if room < CONNECTIONS as u64 + 200 {
        eprintln!("no row about {CONNECTIONS} idle connections: this process may have {room} descriptors (ulimit -Hn)");
        return Ok(Vec::new());
    }
    let folder = tempfile::tempdir()?;
    let served = Served::on(&folder.path().join("log"))?;
    let busy = commute::connect(&served.node).await?;
    let alone = micros(publish(&busy, 1, few).await?.1);
    let (before, _) = served.memory()?;
    let (mut clients, mut connecting) = (Vec::new(), JoinSet::new());
    for n in 0..CONNECTIONS {
        let url = served.node.clone();
        connecting.spawn(async move { commute::connect(&url).await });
        if n >= MANY
            && let Some(connected) = connecting.join_next().await
        {
            clients.push(connected??);
        }
    }
    while let Some(connected) = connecting.join_next().await {
        clients.push(connected??);
    }
    let (after, _) = served.memory()?;
    let beside = micros(publish(&busy, 1, few).await?.1);
    let each = (after - before) / clients.len() as f64;
    Ok(vec![
        row("node's memory with 10,000 idle connections", after / 1024.0, "MiB", "lower", None),
        row("of it for one idle connection", each, "KiB", "lower", None),
        row("1 publisher, node, before them", alone, "us", "lower", None),
        row("1 publisher, node, beside them", beside, "us", "lower", None),
    ])
}
