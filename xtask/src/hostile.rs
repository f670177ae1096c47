//! Faults on real servers: handed on to the crate hostile, in release.

use std::process::Command;

use anyhow::Result;
use servers::Kind;

use crate::run;

/// The servers that the program knows.
const SERVERS: &[Kind] = &[Kind::Rabbitmq, Kind::Kafka, Kind::Zeromq];

/// What to run.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Everything is the program's own: `--short`, `--scenario NAME`, `--broker NAME`, `--times N`, `--seed N`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Runs it.
///
/// # Errors
/// When it does not compile, or finds something.
pub(crate) fn run(args: &Args) -> Result<()> {
    let mut command = Command::new(run::build_release("hostile", &[])?);
    command.args(&args.rest);
    run::shown(command)
}

/// Every scenario once, with few events, on the brokers that can be had. Says which cannot, and why.
///
/// # Errors
/// As [`run`].
pub(crate) fn run_short() -> Result<Vec<String>> {
    let mut rest = vec!["--short".to_owned(), "--broker=embedded".to_owned()];
    let mut left_out = Vec::new();
    for kind in SERVERS {
        match servers::install(*kind) {
            Ok(()) => rest.push(format!("--broker={}", kind.name())),
            Err(cause) => left_out.push(format!("hostile on {}: {cause:#}", kind.name())),
        }
    }
    run(&Args { rest })?;
    Ok(left_out)
}
