//! Benchmarks of the broker adapters: `cargo xtask bench brokers [--json FILE] [--only ROW] [--short]`. Every figure of ours
//! stands beside the raw client's, or beside another project's, on the same server, in turn, in the same run.

mod confirms;
mod device;
mod kafka;
mod kafka_raw;
mod keyed;
mod load;
mod parallel_consumer;
mod peer;
mod poisoned;
mod rabbitmq;
mod rabbitmq_raw;
// One form of figures for all benchmarks; that crate itself would bring a database with it.
#[path = "../../bench/src/row.rs"]
mod row;
mod ruststream;
mod tally;
mod turns;
mod work;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use servers::{Kind, Options, Server};

use crate::row::Row;

/// Every row, in the order in which they are measured; those of one line are measured together.
const ROWS: &[&str] = &[
    "rabbitmq-confirms",
    "rabbitmq-publish",
    "rabbitmq-consume",
    "kafka-publish",
    "kafka-consume",
    "kafka-keyed",
    "kafka-transfers",
    "kafka-poisoned",
];

/// Measures the broker adapters.
#[derive(Parser)]
struct Args {
    /// Write one JSON object per row.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Only these rows; may be given several times.
    #[arg(long, value_name = "ROW", value_parser = clap::builder::PossibleValuesParser::new(ROWS), num_args = 1..)]
    only: Vec<String>,
    /// A fifth of the events.
    #[arg(long)]
    short: bool,
    /// How many turns every variant has; the median is shown.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// A RabbitMQ that runs already; without it, one is started.
    #[arg(long, value_name = "URL")]
    rabbitmq: Option<String>,
    /// A Kafka that runs already; without it, one is started.
    #[arg(long, value_name = "URL")]
    kafka: Option<String>,
}

impl Args {
    fn wants(&self, rows: &[&str]) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| rows.contains(&only.as_str()))
    }

    fn events(&self, usual: usize) -> usize {
        if self.short { usual / 5 } else { usual }
    }
}

/// The server that is named, or one that lives as long as what is returned.
fn server(named: Option<&String>, kind: Kind) -> Result<(String, Option<Server>)> {
    if let Some(url) = named {
        return Ok((url.clone(), None));
    }
    servers::install(kind)?;
    eprintln!("starting {}", kind.name());
    // RabbitMQ stops taking events when it runs short of memory, and gives back what it had only now and then.
    let memory_mib = if kind == Kind::Rabbitmq { 2_048 } else { 0 };
    let options = Options { memory_mib, ..Options::default() };
    let server = Server::start(kind, options).with_context(|| format!("cannot start {}", kind.name()))?;
    Ok((server.url().to_owned(), Some(server)))
}

async fn measure(args: &Args) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    if args.wants(&ROWS[..3]) {
        let (url, _server) = server(args.rabbitmq.as_ref(), Kind::Rabbitmq)?;
        if args.wants(&["rabbitmq-confirms"]) {
            rows.extend(confirms::measure(&url, args.events(10_000), args.rounds).await?);
        }
        if args.wants(&["rabbitmq-publish", "rabbitmq-consume"]) {
            rows.extend(rabbitmq::measure(&url, args.events(40_000), args.rounds).await?);
        }
    }
    if args.wants(&ROWS[3..]) {
        let (url, _server) = server(args.kafka.as_ref(), Kind::Kafka)?;
        if args.wants(&["kafka-publish", "kafka-consume"]) {
            rows.extend(kafka::measure(&url, args.events(300_000), args.rounds).await?);
        }
        for (row, keyed) in [("kafka-keyed", true), ("kafka-transfers", false)] {
            if args.wants(&[row]) {
                rows.extend(keyed::measure(&url, keyed, args.events(10_000), args.rounds).await?);
            }
        }
        if args.wants(&["kafka-poisoned"]) {
            // A percentile of the slowest needs more turns than a rate.
            rows.extend(poisoned::measure(&url, args.events(10_000), args.rounds.max(5)).await?);
        }
    }
    if !args.only.is_empty() {
        rows.retain(|row| args.only.iter().any(|only| only == row.bench));
    }
    Ok(rows)
}

fn main() -> Result<()> {
    let args = Args::parse();
    // As many threads as the smallest machine that this is meant for has cores: the server needs some, too.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let rows = runtime.block_on(measure(&args))?;
    row::show(&rows);
    args.json.as_ref().map_or(Ok(()), |file| row::save(&rows, file))
}
