//! Shop-check: the shop's result must be exact, however it is run and however often it is killed.
//!
//! `brokers` runs it on real servers, `shop` starts it, `kills` kills it, `oracle` calculates what it must end with, `outcome` compares.

mod brokers;
mod kills;
mod oracle;
mod outcome;
mod shop;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::run;
use outcome::Outcome;
use shop::{Ended, Shop};

/// What to check it on.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Orders to check it on; made up unless given.
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// What it must end with; the plain calculation's result unless given.
    #[arg(long, value_name = "FILE", requires = "input")]
    expected: Option<PathBuf>,
    /// How many orders to make up.
    #[arg(long, conflicts_with = "input")]
    orders: Option<u64>,
    /// Which orders to make up, which attempts fail, and when it is killed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Fewer orders, for every day.
    #[arg(long)]
    short: bool,
    /// How long one run may take before it counts as stuck.
    #[arg(long, value_name = "SECONDS", default_value_t = 1800)]
    limit: u64,
    /// Run it on real servers of these kinds, instead of on the embedded broker.
    #[arg(long, value_name = "KIND")]
    broker: Vec<servers::Kind>,
    /// Build it for every broker although it runs on the embedded one: what is built already is not built again.
    #[arg(long)]
    with_brokers: bool,
    /// Only calculate, and write what the shop must end with.
    #[arg(long, value_name = "FILE", requires = "input")]
    calculate: Option<PathBuf>,
}

/// The features of the shop for brokers beside the embedded one.
const BROKERS: [&str; 3] = ["kafka", "rabbitmq", "zeromq"];

const ORDERS: u64 = 20_000;
/// Enough for the kills to find it at work.
const ORDERS_SHORT: u64 = 3_000;
const KILLS: usize = 5;

/// The short check that every change passes: made-up orders, and the same as a file with its expected result.
///
/// # Errors
/// As [`run`].
pub(crate) fn run_short(with_brokers: bool) -> Result<()> {
    run(&Args { with_brokers, ..Args::short() })
}

/// The short check on one kind of server.
///
/// # Errors
/// As [`run`].
pub(crate) fn run_on(kind: servers::Kind) -> Result<()> {
    run(&Args { broker: vec![kind], ..Args::short() })
}

impl Args {
    fn short() -> Self {
        Args {
            input: None,
            expected: None,
            orders: None,
            seed: 1,
            short: true,
            limit: 300,
            broker: Vec::new(),
            with_brokers: false,
            calculate: None,
        }
    }
}

/// Does all the runs.
///
/// # Errors
/// When a run fails, does not settle, or ends with anything but the expected result.
pub(crate) fn run(args: &Args) -> Result<()> {
    if let (Some(file), Some(input)) = (&args.calculate, &args.input) {
        return oracle::calculate(input)?.save(file);
    }
    let scratch = tempfile::Builder::new().prefix("shop-check-").tempdir_in(run::target())?;
    let checked = Check::new(args, scratch.path()).and_then(|check| match args.broker.is_empty() {
        true => check.all_runs(),
        false => args.broker.iter().try_for_each(|kind| check.runs_on(*kind)),
    });
    if checked.is_err() {
        eprintln!("everything the runs left is kept in {}", scratch.keep().display());
    }
    checked
}

/// Those of the brokers that it runs on, so that nothing is compiled for others.
fn features(args: &Args) -> Vec<&'static str> {
    let wanted = |feature: &&str| args.with_brokers || args.broker.iter().any(|kind| kind.name().starts_with(*feature));
    BROKERS.into_iter().filter(wanted).collect()
}

struct Check<'a> {
    args: &'a Args,
    shop: Shop,
    folder: &'a Path,
    input: PathBuf,
    expected: Outcome,
}

impl<'a> Check<'a> {
    fn new(args: &'a Args, folder: &'a Path) -> Result<Self> {
        let shop =
            Shop { program: run::build_release("shop", &features(args))?, limit: Duration::from_secs(args.limit) };
        let input = match &args.input {
            Some(file) => file.canonicalize().with_context(|| format!("cannot read {}", file.display()))?,
            None => {
                let file = folder.join("orders.csv");
                shop.write_orders(&file, orders(args), args.seed)?;
                file
            }
        };
        let calculated = oracle::calculate(&input)?;
        let expected = match &args.expected {
            Some(file) => {
                let expected = Outcome::load(file)?;
                calculated.compare(&expected).context("the plain calculation differs from the expected result")?;
                expected
            }
            None => {
                // Through a file, so that what reads expected results is checked every day.
                let file = folder.join("expected.json");
                calculated.save(&file)?;
                Outcome::load(&file)?
            }
        };
        println!("{}: {}", input.display(), expected.summary());
        Ok(Check { args, shop, folder, input, expected })
    }

    fn all_runs(&self) -> Result<()> {
        let input = vec!["--input".to_owned(), self.input.display().to_string()];
        let with =
            |more: &[&str]| [&input, &more.iter().map(|word| (*word).to_owned()).collect()].map(Vec::clone).concat();
        let seed = self.args.seed.to_string();
        self.whole_run("workers-1", &with(&["--workers", "1"]))?;
        let uninterrupted = self.whole_run("workers-64", &with(&["--workers", "64"]))?;
        self.whole_run("fail-rate", &with(&["--fail-rate", "0.2", "--seed", &seed]))?;
        if self.args.input.is_none() {
            let made_up = ["--orders", &orders(self.args).to_string(), "--seed", &seed].map(str::to_owned);
            self.whole_run("made-up", &made_up)?;
        }
        self.killed_runs(&with(&["--workers", "64"]), uninterrupted)
    }

    /// A run from beginning to end; says how long it took.
    fn whole_run(&self, name: &str, arguments: &[String]) -> Result<Duration> {
        let ended = self.shop.start(&self.folder.join(name), arguments)?.wait()?;
        self.compare(name, &ended)?;
        println!("ok   {name:<12} {:6.1} s  {}", ended.took.as_secs_f64(), arguments.join(" "));
        Ok(ended.took)
    }

    /// Kills it again and again at random moments of its work, and lets it finish.
    fn killed_runs(&self, arguments: &[String], uninterrupted: Duration) -> Result<()> {
        let mut work = uninterrupted;
        // A run that ends before its kill proves nothing: begin anew, with kills closer together.
        for attempt in 0..8 {
            let name = format!("kills-{attempt}");
            let moments = kills::moments(KILLS, work, self.args.seed + attempt);
            match self.kill_at(&self.folder.join(&name), arguments, &moments)? {
                None => work = work.mul_f64(0.6),
                Some(last) => {
                    self.compare(&name, &last)?;
                    let moments =
                        moments.iter().map(|m| format!("{:.0}", m.as_secs_f64() * 1000.0)).collect::<Vec<_>>();
                    println!(
                        "ok   {:<12} {:6.1} s  killed {KILLS} times, after {} ms of work each; the last run {}",
                        "kill -9",
                        last.took.as_secs_f64(),
                        moments.join(", "),
                        last.handled
                            .map_or("finished".to_owned(), |handled| format!("handled the last {handled} events"))
                    );
                    return Ok(());
                }
            }
        }
        bail!("the shop is done before it can be killed {KILLS} times; check it on more orders")
    }

    /// One life per moment and a last one to the end; `None` when a life ended before its kill, or nothing was left.
    fn kill_at(&self, folder: &Path, arguments: &[String], moments: &[Duration]) -> Result<Option<Ended>> {
        for moment in moments {
            if let Some(ended) = self.shop.start(folder, arguments)?.kill_after(*moment)? {
                ensure!(ended.status.success(), "a run after a kill failed ({})\n{}", ended.status, ended.tail());
                return Ok(None);
            }
        }
        let last = self.shop.start(folder, arguments)?.wait()?;
        Ok((last.handled != Some(0)).then_some(last))
    }

    fn compare(&self, name: &str, ended: &Ended) -> Result<()> {
        ensure!(ended.status.success(), "run {name} failed ({})\n{}", ended.status, ended.tail());
        let report = Outcome::load(&ended.report)?;
        report.compare(&self.expected).with_context(|| format!("run {name} does not end with the expected result"))
    }
}

fn orders(args: &Args) -> u64 {
    args.orders.unwrap_or(if args.short { ORDERS_SHORT } else { ORDERS })
}
