//! The command line: what every command understands, and the commands.

use std::path::PathBuf;

use clap::{ColorChoice, Parser, Subcommand, ValueEnum};

use crate::command::{
    completions, contract, dead, doctor, explain, hold, lanes, parked, publish, replay, skip, status, tail, topics,
    trace,
};
use crate::exit::Exit;

/// Events, dead letters, lanes and services of commute.
#[derive(Debug, Parser)]
#[command(name = "commute", version, after_help = Exit::help(), color = ColorChoice::Auto)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command understands.
#[derive(Debug, clap::Args)]
pub(crate) struct Global {
    /// The broker, as in embedded:data; without it the directory `data` here, if there is one.
    #[arg(long, global = true, value_name = "URL", env = "COMMUTE_BROKER", hide_env_values = true)]
    pub(crate) broker: Option<String>,
    /// The socket of a running app, instead of a broker.
    #[arg(long, global = true, value_name = "PATH", conflicts_with = "broker")]
    pub(crate) socket: Option<PathBuf>,
    /// One JSON object per line, instead of tables.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// When to use colours; NO_COLOR turns them off, too.
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: Color,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal.
    Auto,
    /// Everywhere.
    Always,
    /// Nowhere.
    Never,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Publish events: an argument, a file or standard input, as JSON or CloudEvents.
    Publish(publish::Args),
    /// Show the events of a topic.
    Tail(tail::Args),
    /// List the topics.
    Topics(topics::Args),
    /// Show what every group has before it, and what the services do.
    Status(status::Args),
    /// Show the lanes of running services, those with most events first.
    Lanes(lanes::Args),
    /// Show what became of an event.
    Trace(trace::Args),
    /// Dead letters: look, publish again, throw away.
    #[command(subcommand)]
    Dead(dead::Args),
    /// Parked events: look, bring back, give up.
    #[command(subcommand)]
    Parked(parked::Args),
    /// Begin no event of a subscription, or of a key, in the running service.
    Pause(hold::Args),
    /// End a pause.
    Resume(hold::Args),
    /// Give up an event that others wait for; it becomes a dead letter.
    Skip(skip::Args),
    /// Let a group that does not run handle events once more.
    Replay(replay::Args),
    /// Show what running services are promised.
    Contract(contract::Args),
    /// Look for what is wrong, and say what to do.
    Doctor(doctor::Args),
    /// Explain an error code, or list them.
    Explain(explain::Args),
    /// Write a completion script for a shell.
    Completions(completions::Args),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_whole() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_lists_every_exit_code() {
        let help = Cli::command().render_long_help().to_string();
        for (exit, meaning) in Exit::ALL {
            assert!(help.contains(&format!("{} {meaning}", *exit as u8)), "{help}");
        }
    }
}
