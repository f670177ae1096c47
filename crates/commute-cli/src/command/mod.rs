//! The commands, one file each.

pub(crate) mod completions;
pub(crate) mod contract;
pub(crate) mod dead;
pub(crate) mod doctor;
pub(crate) mod explain;
pub(crate) mod hold;
pub(crate) mod lanes;
pub(crate) mod new;
pub(crate) mod node;
pub(crate) mod parked;
pub(crate) mod publish;
pub(crate) mod replay;
pub(crate) mod skip;
pub(crate) mod status;
pub(crate) mod tail;
pub(crate) mod topics;
pub(crate) mod trace;

use crate::args::{Cli, Command};
use crate::exit::{Exit, Failure};
use crate::session::Session;

/// What pages a listing.
#[derive(Debug, clap::Args)]
pub(crate) struct Paging {
    /// How many to show at most.
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub(crate) limit: usize,
    /// Go on behind this one, as the end of the page before said.
    #[arg(long, value_name = "PLACE")]
    pub(crate) after: Option<String>,
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
        Command::Completions(args) => completions::run(args),
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
