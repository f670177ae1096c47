//! Benchmarks: handed on to the crate that has them, in release.

use anyhow::Result;

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
    run::shown(command)
}
