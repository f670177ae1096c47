//! `commute completions`: what a shell needs to complete the command line.

use clap_complete::Shell;

use crate::exit::{Exit, Result};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell.
    shell: Shell,
}

pub(crate) fn run(args: Args, mut program: clap::Command) -> Result {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut program, "commute", &mut script);
    std::io::Write::write_all(&mut std::io::stdout(), &script)?;
    Ok(Exit::Done)
}
