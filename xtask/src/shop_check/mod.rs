//! Shop-check: the shop gives exactly the result of a plain sequential calculation, however it is run.

mod oracle;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::run::{cargo, root};

/// What to check.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A file of orders; made-up ones unless said.
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// What the shop must end with on the input; the sequential calculation alone decides unless said.
    #[arg(long, value_name = "FILE", requires = "input")]
    expected: Option<PathBuf>,
    /// How many orders to make up.
    #[arg(long, default_value_t = 20_000)]
    orders: u64,
    /// Which orders to make up, and when to kill.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many kills there are.
    #[arg(long, default_value_t = 5)]
    kills: u32,
}

impl Args {
    /// The version of every continuous build.
    pub(crate) fn short() -> Self {
        Args { input: None, expected: None, orders: 3_000, seed: 7, kills: 3 }
    }
}

/// The shop and what it is checked with.
struct Check {
    shop: PathBuf,
    input: PathBuf,
    expected: Value,
    scratch: tempfile::TempDir,
}

/// Runs the shop in every way and compares.
pub(crate) fn check(args: &Args) -> Result<()> {
    cargo(["build", "--release", "--quiet", "--package", "shop"], &[])?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let shop = target.join("release/shop");
    let scratch = tempfile::tempdir().context("cannot make a temporary directory")?;
    let (input, expected) = match (&args.input, &args.expected) {
        (Some(input), Some(expected)) => {
            let given: Value =
                serde_json::from_slice(&fs::read(expected)?).context("the expected result is no JSON")?;
            // The plain calculation is checked, too: it is what made-up orders are compared with.
            compare("sequential calculation", &oracle::calculate(input)?, &given)?;
            (input.clone(), given)
        }
        (Some(input), None) => (input.clone(), oracle::calculate(input)?),
        (None, _) => {
            let input = scratch.path().join("orders.csv");
            let orders = args.orders.to_string();
            let seed = args.seed.to_string();
            let mut write = Command::new(&shop);
            write.args(["--orders", &orders, "--seed", &seed, "--write-orders"]).arg(&input);
            ensure!(write.status()?.success(), "{write:?} failed");
            let expected = oracle::calculate(&input)?;
            (input, expected)
        }
    };
    let check = Check { shop, input, expected, scratch };
    check.run("64 workers", &["--workers", "64"])?;
    check.run("1 worker", &["--workers", "1"])?;
    check.run("64 workers, 20 % of attempts fail", &["--workers", "64", "--fail-rate", "0.2"])?;
    check.run("1 worker, 20 % of attempts fail", &["--workers", "1", "--fail-rate", "0.2"])?;
    check.killed(args)
}

impl Check {
    fn command(&self, data: &Path, report: &Path, more: &[&str]) -> Command {
        let mut command = Command::new(&self.shop);
        command.arg("--input").arg(&self.input).arg("--data").arg(data).arg("--report").arg(report).args(more);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    /// A whole run on a directory of its own.
    fn run(&self, name: &str, more: &[&str]) -> Result<()> {
        let data = self.scratch.path().join(name.replace(' ', "-"));
        self.finish(name, &data, more)
    }

    fn finish(&self, name: &str, data: &Path, more: &[&str]) -> Result<()> {
        let report = self.scratch.path().join("report.json");
        let _ = fs::remove_file(&report);
        let began = Instant::now();
        let output = self.command(data, &report, more).output().context("cannot run the shop")?;
        if !output.status.success() {
            bail!("{name}: the shop ended with {}:\n{}", output.status, String::from_utf8_lossy(&output.stderr));
        }
        let found: Value = serde_json::from_slice(&fs::read(&report)?).context("the report is no JSON")?;
        compare(name, &found, &self.expected)?;
        println!("{name}: exact, {:.2?}", began.elapsed());
        Ok(())
    }

    /// Killed at random moments and started again on the same data.
    ///
    /// Handlers work for a moment and some fail, so that a run is long enough to be killed in the middle, and kills meet
    /// retries, too. The moments are spread over the time that a whole run takes.
    fn killed(&self, args: &Args) -> Result<()> {
        let more = ["--fail-rate", "0.2", "--work", "1"];
        let began = Instant::now();
        self.run("an undisturbed run with slow handlers", &more)?;
        let whole = began.elapsed();
        let data = self.scratch.path().join("killed");
        let report = self.scratch.path().join("killed.json");
        let mut rng = fastrand::Rng::with_seed(args.seed);
        let mut landed = 0;
        for kill in 1..=args.kills {
            let wait = whole.mul_f64((0.2 + rng.f64()) / f64::from(args.kills + 1));
            let child =
                self.command(&data, &report, &more).stderr(Stdio::null()).spawn().context("cannot run the shop")?;
            match kill_after(child, wait)? {
                None => landed += 1,
                Some(status) => println!("kill {kill} came too late: the shop had ended with {status}"),
            }
        }
        ensure!(landed > 0, "no kill landed; use more orders");
        self.finish(&format!("after {landed} kills of {}", args.kills), &data, &["--fail-rate", "0.2"])
    }
}

/// Kills a process after a time; answers how it had ended if it was over before.
fn kill_after(mut child: Child, wait: Duration) -> Result<Option<ExitStatus>> {
    let until = Instant::now() + wait;
    while Instant::now() < until {
        if let Some(status) = child.try_wait()? {
            ensure!(status.success(), "the shop failed by itself: {status}");
            return Ok(Some(status));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().context("cannot kill the shop")?;
    child.wait()?;
    Ok(None)
}

/// Compares the sections that must be exact, and shows the first differences.
fn compare(name: &str, found: &Value, expected: &Value) -> Result<()> {
    let mut differences = Vec::new();
    for section in ["stock", "orders", "customers"] {
        let empty = serde_json::Map::new();
        let part = |value: &Value| value[section].as_object().cloned().unwrap_or_else(|| empty.clone());
        let (found, expected) = (part(found), part(expected));
        ensure!(!expected.is_empty(), "{name}: nothing is expected in {section}");
        let keys: std::collections::BTreeSet<&String> = found.keys().chain(expected.keys()).collect();
        for key in keys {
            if found.get(key) != expected.get(key) {
                let show = |value: Option<&Value>| value.map_or("nothing".to_owned(), Value::to_string);
                differences.push(format!(
                    "  {section} {key}: {} instead of {}",
                    show(found.get(key)),
                    show(expected.get(key))
                ));
            }
        }
    }
    if differences.is_empty() {
        return Ok(());
    }
    bail!("{name}: {} differences:\n{}", differences.len(), differences[..differences.len().min(10)].join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn one_difference_anywhere_is_found() {
        let right = json!({"stock": {"a": 1}, "orders": {"1-0": "shipped"}, "customers": {"guest": "0.000"}});
        assert!(compare("same", &right, &right).is_ok());
        for (section, key, value) in
            [("stock", "a", json!(2)), ("orders", "2-1", json!("short")), ("customers", "guest", json!("0.00"))]
        {
            let mut wrong = right.clone();
            wrong[section][key] = value;
            assert!(compare("other", &wrong, &right).is_err(), "{section}");
            assert!(compare("other", &right, &wrong).is_err(), "{section}");
        }
    }
}
