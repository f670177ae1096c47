//! Benchmarks: handed on to the crate that has them, in release.

use std::ffi::OsString;
use std::io::Write;

use anyhow::{Context, Result};

use crate::run;

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The benchmark: `brokers`, or one of the bench crate's; without one, that crate lists them.
    name: Option<String>,
    /// Everything else is the benchmark's own.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Runs it.
///
/// # Errors
/// When it does not compile or fails.
pub(crate) fn run(args: &Args) -> Result<()> {
    // The adapters bring clients in C and C++ with them, which the others need not wait for.
    let (krate, name) = match args.name.as_deref() {
        Some("brokers") => ("commute-bench-brokers", None),
        name => ("commute-bench", name),
    };
    let mut command = run::cargo(&["run", "--release", "--quiet", "-p", krate, "--"]);
    command.args(name).args(&args.rest);
    // The process has the threads of many clients, more than glibc has heaps for on a small machine; whose threads shared one
    // would be chance, and the chance of the client that is measured.
    command.env("MALLOC_ARENA_MAX", "64");
    run::shown(command)?;
    match name {
        Some("node") if !args.rest.iter().any(|arg| arg == "--help") => beside(&args.rest),
        _ => Ok(()),
    }
}

/// RabbitMQ on the same machine, in the same run. Its rows follow the others, also in the file.
fn beside(rest: &[String]) -> Result<()> {
    let own = tempfile::NamedTempFile::new()?;
    let krate = "commute-bench-brokers";
    let mut command = run::cargo(&["run", "--release", "--quiet", "-p", krate, "--", "--only", "rabbitmq-confirms"]);
    command.args([OsString::from("--json"), own.path().into()]);
    run::shown(command).context(
        "the rows above are all there is about the node; those of RabbitMQ are missing, because its server cannot be had",
    )?;
    let Some(file) = rest.iter().skip_while(|arg| *arg != "--json").nth(1) else { return Ok(()) };
    let mut file = std::fs::OpenOptions::new().append(true).open(file)?;
    Ok(file.write_all(&std::fs::read(own.path())?)?)
}
