//! The project's own chores, one file or folder each: `cargo xtask --help` lists them.

mod bench;
mod brokers;
mod docs;
mod hostile;
mod python;
mod repeat;
mod run;
mod shop_check;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The project's own chores.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Everything that must hold before a change is done: format, tidy, lints, tests, also with real servers, and a short shop-check.
    Test(test::Args),
    /// Compares the code map, the arrows, the module headers and the error pages with the tree.
    Tidy,
    /// Compares docs/errors with the error codes, or writes it.
    Docs(docs::Args),
    /// Runs the shop in every way that could break it and compares its result exactly.
    ShopCheck(shop_check::Args),
    /// Starts and stops real broker servers on loopback, for tests: `cargo xtask brokers up rabbitmq`.
    Brokers(brokers::Args),
    /// Runs services on real brokers while something goes wrong: `cargo xtask hostile --short --scenario server-kill`.
    Hostile(hostile::Args),
    /// Runs a benchmark: `cargo xtask bench journey --json FILE`.
    Bench(bench::Args),
}

fn main() -> ExitCode {
    let done = match Args::parse().chore {
        Chore::Test(args) => test::run(&args),
        Chore::Tidy => tidy::run(),
        Chore::Docs(args) => docs::run(&args),
        Chore::ShopCheck(args) => shop_check::run(&args),
        Chore::Brokers(args) => brokers::run(&args),
        Chore::Hostile(args) => hostile::run(&args),
        Chore::Bench(args) => bench::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            eprintln!("error: {cause:#}");
            ExitCode::FAILURE
        }
    }
}
