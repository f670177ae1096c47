//! Faults on real servers, and a checker over what happened: `cargo xtask hostile [--short] [--scenario NAME]…`.
//!
//! ```text
//! plan ─► publish ─► broker ─► consume (a process of its own) ─► history, stores ─► check ─► report
//!            ▲         ▲          ▲                                   │
//!            └───── scenario ─────┘ ◄──────────── progress ───────────┘
//! ```

mod broker;
mod check;
mod consume;
mod consumers;
mod event;
mod evidence;
mod history;
mod plan;
mod progress;
mod publish;
mod report;
mod scenario;
mod trial;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use servers::{Options, Server};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::broker::{Broker, Place};
use crate::report::Report;
use crate::scenario::Scenario;
use crate::trial::Subject;

/// Runs services on real brokers while something goes wrong, and checks that no event was lost, repeated or overtaken.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask hostile", bin_name = "cargo xtask hostile")]
struct Args {
    /// The broker; may be said several times. All, unless said.
    #[arg(long)]
    broker: Vec<Broker>,
    /// The scenario; may be said several times. All, unless said.
    #[arg(long)]
    scenario: Vec<Scenario>,
    /// How often each is run, every time with the next seed.
    #[arg(long, default_value_t = 1)]
    times: u64,
    /// Few events and few faults.
    #[arg(long)]
    short: bool,
    /// The first seed; a random one, unless said.
    #[arg(long)]
    seed: Option<u64>,
    /// Keeps the histories of runs that are ok, too.
    #[arg(long)]
    keep: bool,
    /// How many run at once.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let is_consumer = arguments.next().is_some_and(|first| first == consumers::COMMAND);
    let levels = tracing_subscriber::EnvFilter::try_from_default_env();
    let levels = levels.unwrap_or_else(|_| if is_consumer { "info" } else { "off" }.into());
    tracing_subscriber::fmt().with_env_filter(levels).with_ansi(false).with_writer(std::io::stderr).init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    let done = if is_consumer {
        let order = arguments
            .next()
            .context("a consumer needs its order")
            .and_then(|text| serde_json::from_str(&text).context("the order cannot be read"));
        order.and_then(|order| runtime.block_on(consume::consume(order))).map(|()| true)
    } else {
        runtime.block_on(run(Args::parse()))
    };
    // Somebody may still wait for input.
    runtime.shutdown_timeout(Duration::from_millis(100));
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}

/// Runs what is asked for. Answers whether all of it is ok.
async fn run(args: Args) -> Result<bool> {
    let began = Instant::now();
    let brokers = or_all(&args.broker);
    let scenarios = or_all(&args.scenario);
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(1..100_000));
    let jobs = Arc::new(Semaphore::new(args.jobs.max(1)));
    let stuck = trial::STUCK * u32::try_from(args.jobs.div_ceil(2)).unwrap_or(u32::MAX).max(1);
    let (mut all, mut bad) = (0, 0);
    for broker in brokers {
        let subjects: Vec<_> = (0..args.times)
            .flat_map(|time| scenarios.iter().map(move |scenario| (time, *scenario)))
            .filter(|(_, scenario)| scenario.runs_on(broker))
            .map(|(time, scenario)| Subject { scenario, broker, seed: seed + time, is_short: args.short, stuck })
            .collect();
        let shares = |subject: &Subject| broker.kind().is_some() && !needs_its_own(subject);
        let server = match broker.kind().filter(|_| subjects.iter().any(shares)) {
            Some(kind) => {
                let memory_mib = broker::memory_mib(subjects.len());
                Some(broker::start(kind, Options { memory_mib, ..Options::default() }).await?)
            }
            None => None,
        };
        let address = server.as_ref().map(|server: &Server| (server.url().to_owned(), server.ports()[0]));
        let mut trials = JoinSet::new();
        for subject in subjects {
            let (address, jobs, keep) = (address.clone(), jobs.clone(), args.keep);
            trials.spawn(async move {
                let _turn = jobs.acquire_owned().await?;
                try_one(subject, address, keep).await.with_context(|| {
                    let Subject { scenario, broker, seed, .. } = subject;
                    format!("{} on {} with seed {seed} could not be run", scenario.name(), broker.name())
                })
            });
        }
        while let Some(report) = trials.join_next().await {
            all += 1;
            match report? {
                Ok((report, directory)) => {
                    println!("{report}");
                    bad += usize::from(!report.is_ok());
                    if args.keep || !report.is_ok() {
                        println!("       history: {}", directory.join("history.jsonl").display());
                    }
                }
                Err(cause) => {
                    bad += 1;
                    println!("FAILED {cause:#}");
                }
            }
        }
        drop(server);
    }
    println!("{} of {all} ok, {:.1} s", all - bad, began.elapsed().as_secs_f64());
    Ok(bad == 0)
}

fn or_all<T: ValueEnum + Copy>(named: &[T]) -> Vec<T> {
    if named.is_empty() { T::value_variants().to_vec() } else { named.to_vec() }
}

fn needs_its_own(subject: &Subject) -> bool {
    let Subject { scenario, broker, .. } = subject;
    scenario.hurts_the_server() || (scenario.is_publisher_proxied() && broker.has_servers_for_proxies())
}

async fn try_one(subject: Subject, address: Option<(String, u16)>, keep: bool) -> Result<(Report, PathBuf)> {
    let Subject { scenario, broker, seed, .. } = subject;
    let parent = servers::cache().with_file_name("hostile");
    let name = format!("{}-{}-{seed}-{:x}", scenario.name(), broker.name(), history::now());
    let directory = parent.join(name);
    std::fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let with_proxy = scenario.is_publisher_proxied();
    let place = match (broker.kind(), address) {
        (None, _) => Place::embedded(&directory),
        (Some(kind), _) if needs_its_own(&subject) => Place::owned(broker, kind, with_proxy).await?,
        (Some(_), Some((url, port))) => Place::shared(broker, &url, port, with_proxy).await?,
        (Some(kind), None) => Place::owned(broker, kind, with_proxy).await?,
    };
    let report = trial::run(subject, place, directory.clone()).await?;
    if report.is_ok() && !keep {
        std::fs::remove_dir_all(&directory)?;
    }
    Ok((report, directory))
}
