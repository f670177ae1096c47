//! The `commute` program: an operator's way to events, dead letters, lanes and services.
//!
//! ```text
//! cli ─► session ─► command/… ─► Console ─► owner, files or server
//!           └─► show: tables for people, JSON lines for programs
//! ```

mod cli;
mod command;
mod confirm;
mod exit;
mod global;
mod letters;
mod running;
mod session;
mod show;
mod watch;
mod when;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { exit::Exit::Usage.into() } else { exit::Exit::Done.into() };
        }
    };
    // A node waits for its log's thread and for sockets: with one thread of its own, whatever comes wakes that one and no other.
    let mut threads = match cli.command {
        cli::Command::Node(_) => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = match threads.worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(cause) => {
            eprintln!("commute: cannot start: {cause}");
            return exit::Exit::Failed.into();
        }
    };
    let exit = runtime.block_on(cli::run(cli));
    // A thread that waits for standard input must not keep the program from ending.
    runtime.shutdown_background();
    exit.into()
}
