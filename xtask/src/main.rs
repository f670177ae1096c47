//! The project's own commands: `cargo xtask --help`.

mod docs;
mod run;
mod shop_check;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Builds, checks and measures commute.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Everything that must be green: format, lints, tests, tidy, and a short shop-check.
    Test,
    /// Compares ARCHITECTURE.md, the arrows between crates and the files with what they promise.
    Tidy,
    /// Runs the shop in every way that must give exactly the same result.
    ShopCheck(shop_check::Args),
    /// Measures; see `cargo xtask bench --help`.
    Bench {
        /// What to measure, and options.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Writes the pages of the error codes.
    Docs,
}

fn main() -> ExitCode {
    let result = match Args::parse().command {
        Command::Test => test::test(),
        Command::Tidy => tidy::tidy(),
        Command::ShopCheck(args) => shop_check::check(&args),
        Command::Bench { args } => {
            run::cargo(["run", "--release", "--quiet", "--package", "commute-bench", "--"], &args)
        }
        Command::Docs => docs::write(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
