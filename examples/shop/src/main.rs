//! The shop: five services in one process, from an input file to a report.

mod args;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;
use commute::Config;
use shop::events::ORDERS;
use shop::feed::{Fed, Feed};
use shop::orders_csv::Orders;
use shop::report::Report;
use shop::services::Setting;
use shop::shop::Shop;
use shop::trouble::Trouble;
use shop::{generate, orders_csv, progress, summary};

use crate::args::{Args, Part};

fn main() -> ExitCode {
    let args = Args::parse();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "error".into()))
        .with_writer(std::io::stderr)
        .init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    match runtime.block_on(run(args)) {
        Ok(code) => code,
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    match error.downcast_ref::<commute::Error>() {
        Some(known) => eprintln!("error: {}", known.report()),
        None => eprintln!("error: {error:#}"),
    }
    ExitCode::FAILURE
}

async fn run(args: Args) -> anyhow::Result<ExitCode> {
    if let Some(file) = &args.write_orders {
        let written = generate::write_csv(file, args.orders, args.seed);
        written.with_context(|| format!("cannot write {}", file.display()))?;
        return Ok(ExitCode::SUCCESS);
    }
    // Before anything is created, so that a wrong name leaves nothing behind.
    let input = args.input.as_deref().map(orders_csv::read).transpose()?;
    let config = match &args.config {
        Some(file) => Config::from_file(file)?.environment()?,
        None => Config::default(),
    };
    let (data, _temporary) = data_directory(args.data.as_deref())?;
    let url = args.broker.clone().unwrap_or_else(|| format!("embedded:{}", data.join("broker").display()));
    let setting = Setting {
        broker: match config.has_broker() {
            true => config.connect().await?,
            false => commute::connect(&url).await?,
        },
        namespace: args.namespace.clone(),
        data,
        workers: usize::from(args.workers),
        config,
        trouble: Trouble { fail_rate: args.fail_rate, seed: args.seed, work: args.work },
    };
    let shop = Shop::open(&setting, |name| args.runs_named(name)).await?;
    if !args.no_contract {
        for contract in shop.contracts() {
            eprintln!("{contract}\n");
        }
    }
    let began = Instant::now();
    let shown = progress::show(shop.watch());
    let fed = feed(&args, input, &setting).await;
    let settled = finished(&args, &shop).await;
    let took = began.elapsed();
    shown.finish();
    settled?;
    conclude(&args, shop, &setting, fed, took).await
}

/// Waits until everything is handled. Whoever runs a part of the shop does not know what the other parts will send: it goes on
/// until it is asked to stop, or nothing has come for the time that was said.
async fn finished(args: &Args, shop: &Shop) -> commute::Result<()> {
    match args.quiet_for {
        None if args.is_whole() => shop.settled().await,
        None if args.runs(Part::None) => Ok(()),
        None => tokio::select! {
            asked = tokio::signal::ctrl_c() => asked.map_err(|cause| {
                commute::Error::new(commute::Code::Io, "cannot listen for signals").caused_by(cause)
            }),
            failure = shop.failed() => Err(failure),
        },
        Some(seconds) => shop.quiet(Duration::from_secs(seconds)).await,
    }
}

/// A directory that was named stays; one that was not is removed at the end.
fn data_directory(named: Option<&Path>) -> anyhow::Result<(PathBuf, Option<tempfile::TempDir>)> {
    match named {
        Some(named) => {
            std::fs::create_dir_all(named).map_err(|cause| {
                let detail = format!("cannot use the data directory {}", named.display());
                commute::Error::new(commute::Code::DirectoryUnusable, detail).caused_by(cause)
            })?;
            Ok((named.to_owned(), None))
        }
        None => {
            let temporary = tempfile::tempdir().context("cannot make a temporary directory")?;
            Ok((temporary.path().to_owned(), Some(temporary)))
        }
    }
}

/// Publishes the input. What was read before a malformed row stays published.
async fn feed(args: &Args, input: Option<Orders<File>>, setting: &Setting) -> (Fed, anyhow::Result<()>) {
    if !args.runs(Part::Feed) {
        return (Fed::default(), Ok(()));
    }
    let mut feed = Feed::new(setting.broker.clone(), setting.topic(ORDERS));
    let result = match input {
        Some(orders) => feed.publish_all(orders).await,
        None => feed.publish_all(generate::orders(args.orders, args.seed).map(Ok)).await,
    };
    (feed.fed(), result)
}

async fn conclude(
    args: &Args,
    shop: Shop,
    setting: &Setting,
    (fed, input): (Fed, anyhow::Result<()>),
    took: Duration,
) -> anyhow::Result<ExitCode> {
    let stats = shop.stats();
    let report = Report::read(&setting.data, &fed, &stats).context("cannot read the databases of the services")?;
    let unsettled = shop.stop().await?;
    setting.broker.close().await?;
    print!("{}", summary::table(&stats, &fed, took, &report));
    if let Some(file) = &args.report {
        report.save(file).with_context(|| format!("cannot write the report {}", file.display()))?;
    }
    input?;
    if unsettled > 0 {
        eprintln!("error: {unsettled} events are not settled; run again with the same --data to go on");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}
