//! Benchmarks: handed on to the bench crate, in release.

use anyhow::Result;

use crate::run;

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The benchmark; without one, the bench crate lists them.
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
    let mut command = run::cargo(&["run", "--release", "--quiet", "-p", "commute-bench", "--"]);
    command.args(&args.name).args(&args.rest);
    run::shown(command)
}
