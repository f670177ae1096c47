//! What the shop can be told.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

/// Five services handle the orders of a shop: in parallel where the orders are independent, in order where they are not,
/// every event once. Without arguments it makes 20,000 orders up.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Args {
    /// Read the orders from a CSV file instead of making them up.
    #[arg(long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,

    /// How many orders to make up.
    #[arg(long, default_value_t = 20_000)]
    pub(crate) orders: u64,

    /// Which orders to make up, and which attempts fail.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,

    /// Where everything is kept; run again on it after a crash to go on. A new temporary directory unless said.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,

    /// Events handled at once, per service.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) workers: u16,

    /// Write stock, orders, customers and totals to a JSON file.
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,

    /// The part of attempts that fail on purpose, from 0 to 1.
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    pub(crate) fail_rate: f64,

    /// The broker; embedded in the data directory unless said.
    #[arg(long, value_name = "URL")]
    pub(crate) broker: Option<String>,

    /// Settings of all five services, and of their broker, from a TOML file and from COMMUTE_ variables. They go before the
    /// arguments.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Begin the names of all topics with this, so that several shops can share a server.
    #[arg(long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,

    /// Run these services here and the others elsewhere, on the same broker. `feed` publishes the orders; `none` only
    /// reads the databases.
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_enum)]
    pub(crate) service: Vec<Part>,

    /// With --service: end when nothing has come for so many seconds, instead of when asked to.
    #[arg(long, value_name = "SECONDS", requires = "service")]
    pub(crate) quiet_for: Option<u64>,

    /// Simulated work of every handler, in milliseconds.
    #[arg(long, value_name = "MS", default_value = "0", value_parser = milliseconds)]
    pub(crate) work: Duration,

    /// Write the made-up orders to a CSV file and do nothing else.
    #[arg(long, value_name = "FILE", conflicts_with = "input")]
    pub(crate) write_orders: Option<PathBuf>,

    /// Do not print the delivery contract of every service at start.
    #[arg(long)]
    pub(crate) no_contract: bool,
}

/// A part of the shop that can run in a process of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Publishes the orders.
    Feed,
    /// Registers customers.
    Users,
    /// Keeps the order book.
    Orders,
    /// Reserves stock.
    Inventory,
    /// Charges customers.
    Payment,
    /// Ships orders.
    Shipping,
    /// Nothing; the databases are read and reported.
    None,
}

impl Args {
    /// Whether all parts run in this process.
    pub(crate) fn is_whole(&self) -> bool {
        self.service.is_empty()
    }

    /// Whether the service of this name runs in this process.
    pub(crate) fn runs_named(&self, name: &str) -> bool {
        let named = |part: &Part| part.to_possible_value().is_some_and(|value| value.get_name() == name);
        self.is_whole() || self.service.iter().any(named)
    }

    /// Whether a part runs in this process.
    pub(crate) fn runs(&self, part: Part) -> bool {
        (self.is_whole() && part != Part::None) || self.service.contains(&part)
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("a number from 0 to 1".to_owned()),
    }
}

fn milliseconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>().map(|ms| Duration::try_from_secs_f64(ms / 1000.0)) {
        Ok(Ok(work)) => Ok(work),
        _ => Err("a number of milliseconds that is not negative".to_owned()),
    }
}
