//! The command line: the commands, and which file runs each.

use clap::{ColorChoice, CommandFactory, Parser, Subcommand};

use crate::command::{
    completions, contract, dead, doctor, explain, hold, lanes, new, node, parked, publish, replay, skip, status, tail,
    topics, trace,
};
use crate::exit::{Exit, Failure};
use crate::global::Global;
use crate::session::Session;

/// Events, dead letters, lanes and services of commute.
#[derive(Debug, Parser)]
#[command(name = "commute", version, after_help = Exit::help(), color = ColorChoice::Auto)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a service that compiles and passes its test.
    New(new::Args),
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
    /// Serve a directory to services in other processes and other languages, over ZeroMQ.
    Node(node::Args),
    /// Look for what is wrong, and say what to do.
    Doctor(doctor::Args),
    /// Explain an error code, or list them.
    Explain(explain::Args),
    /// Write a completion script for a shell.
    Completions(completions::Args),
}

/// Runs a command, and says why when it fails.
pub(crate) async fn run(cli: Cli) -> Exit {
    let mut session = Session::new(cli.global);
    let s = &mut session;
    let done = match cli.command {
        Command::New(args) => new::run(&args, s),
        Command::Publish(args) => publish::run(args, s).await,
        Command::Tail(args) => tail::run(args, s).await,
        Command::Topics(args) => topics::run(args, s).await,
        Command::Status(args) => status::run(args, s).await,
        Command::Lanes(args) => lanes::run(args, s).await,
        Command::Trace(args) => trace::run(args, s).await,
        Command::Dead(args) => dead::run(args, s).await,
        Command::Parked(args) => parked::run(args, s).await,
        Command::Pause(args) => hold::pause(args, s).await,
        Command::Resume(args) => hold::resume(args, s).await,
        Command::Skip(args) => skip::run(args, s).await,
        Command::Replay(args) => replay::run(args, s).await,
        Command::Contract(args) => contract::run(args, s).await,
        Command::Node(args) => node::run(args, s).await,
        Command::Doctor(args) => doctor::run(args, s).await,
        Command::Explain(args) => explain::run(args, s),
        Command::Completions(args) => completions::run(args, Cli::command()),
    };
    let flushed = session.out.flush().map_err(Failure::from);
    match done.and_then(|exit| flushed.map(|()| exit)) {
        Ok(exit) => exit,
        Err(failure) if failure.silent => Exit::Done,
        Err(failure) => {
            session.out.failure(&failure);
            failure.exit
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_command_line_is_whole() {
        Cli::command().debug_assert();
    }

    const PAGE: &str = include_str!("../../../docs/guide/cli.md");

    /// Commands that do something, by their whole names.
    fn leaves(command: &clap::Command, name: &str) -> Vec<(String, clap::Command)> {
        let below = command.get_subcommands().filter(|below| below.get_name() != "help");
        let below: Vec<_> = below.flat_map(|below| leaves(below, &format!("{name} {}", below.get_name()))).collect();
        if below.is_empty() { vec![(name.to_owned(), command.clone())] } else { below }
    }

    #[test]
    fn the_page_has_every_command_with_its_options_and_no_other() {
        let cli = Cli::command();
        let leaves = leaves(&cli, "commute");
        for (name, command) in &leaves {
            let section = PAGE.split("\n### ").find(|section| section.lines().next() == Some(name));
            let section = section.unwrap_or_else(|| panic!("docs/guide/cli.md has no section {name}"));
            for option in command.get_arguments().filter_map(|arg| arg.get_long()) {
                assert!(section.contains(&format!("--{option}")), "the section {name} does not say --{option}");
            }
        }
        assert_eq!(PAGE.matches("\n### ").count(), leaves.len());
        for option in cli.get_arguments().filter_map(|arg| arg.get_long()) {
            assert!(PAGE.contains(&format!("`--{option}")), "--{option}");
        }
        for (exit, meaning) in Exit::ALL {
            assert!(PAGE.contains(&format!("| {} | {} |", *exit as u8, meaning.trim())), "{exit:?}");
        }
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas");
        for schema in std::fs::read_dir(folder).unwrap() {
            let name = schema.unwrap().file_name().into_string().unwrap();
            assert!(PAGE.contains(&format!("/schemas/{name})")), "{name}");
        }
    }

    /// Commands in the code of a page: what is between two backticks and begins with the program's name.
    fn named(page: &str) -> impl Iterator<Item = &str> {
        let code = page.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
        code.filter(|code| code.split(' ').next() == Some("commute") && code.contains(' '))
    }

    #[test]
    fn whatever_command_a_page_names_there_is() {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
        let (cli, mut seen) = (Cli::command(), 0);
        for folder in ["guide", "errors", "brokers"] {
            for page in std::fs::read_dir(docs.join(folder)).unwrap().map(|page| page.unwrap().path()) {
                let Ok(text) = std::fs::read_to_string(&page) else { continue };
                for code in named(&text) {
                    let (mut command, mut below) = (&cli, code.split_whitespace().skip(1).peekable());
                    while let Some(next) = below.peek().and_then(|name| command.find_subcommand(name)) {
                        (command, _) = (next, below.next());
                    }
                    let is_known =
                        command.get_name() != "commute" || below.peek().is_some_and(|word| word.starts_with("--"));
                    assert!(is_known, "{}: there is no `{code}`", page.display());
                    for option in below.filter_map(|word| word.strip_prefix("--")) {
                        let mut known = command.get_arguments().chain(cli.get_arguments());
                        let is_known = known.any(|arg| arg.get_long() == Some(option));
                        assert!(is_known, "{}: `{code}` takes no --{option}", page.display());
                    }
                    seen += 1;
                }
            }
        }
        assert!(seen > 20, "commands were found: {seen}");
    }

    #[test]
    fn help_lists_every_exit_code() {
        let help = Cli::command().render_long_help().to_string();
        for (exit, meaning) in Exit::ALL {
            assert!(help.contains(&format!("{} {meaning}", *exit as u8)), "{help}");
        }
    }
}
