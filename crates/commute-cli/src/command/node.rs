//! `commute node`: the embedded log, served to other processes.

use std::path::PathBuf;
use std::time::Duration;

use commute::{Node, NodeOptions};
use tokio::signal::unix::{SignalKind, signal};

use crate::exit::{Exit, Failure, Result};
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The directory that holds the events; it is made when it is not there.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Where to listen: zmq://127.0.0.1:5599, or zmq+ipc:///run/commute.sock. May be said several times.
    #[arg(long, value_name = "URL", required = true)]
    listen: Vec<String>,
    /// A file with a shared key of at least 16 bytes, which every client must have; needed beyond this machine.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Carry between a plain ZeroMQ socket and a topic, as in zmq+pull://127.0.0.1:5555?topic=jobs&type=job. May be said several times.
    #[arg(long, value_name = "URL")]
    bridge: Vec<String>,
    /// The largest message, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 16 << 20)]
    max_message_bytes: usize,
    /// How many connections there may be.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    connections: usize,
    /// How long a session outlives its connection, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    lease: u64,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result {
    // Before anything else, so that a signal during the start is not missed.
    let listen = |kind| signal(kind).map_err(Failure::from);
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    descriptors(args.connections, session);
    let broker = commute::connect(&format!("embedded:{}", args.data.display())).await?;
    let options = NodeOptions {
        key_file: args.key_file,
        max_message_bytes: args.max_message_bytes,
        connections: args.connections,
        lease: Duration::from_secs(args.lease.max(1)),
        ..NodeOptions::default()
    };
    let mut nodes = Vec::new();
    for url in &args.listen {
        let node = Node::serve(broker.clone(), url, options.clone()).await?;
        session.out.note(&format!("serving {} at {}", args.data.display(), node.url()));
        nodes.push(node);
    }
    if let Some(node) = nodes.first() {
        for url in &args.bridge {
            let contract = node.bridge(url)?;
            session.out.note(&format!("bridge: {contract}"));
        }
    }
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    for node in nodes {
        node.stop().await;
    }
    broker.close().await?;
    Ok(Exit::Done)
}

/// Every connection needs a descriptor, and most systems give a program far fewer than it may ask for.
fn descriptors(connections: usize, session: &mut Session) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let most = getrlimit(Resource::Nofile).maximum;
    let _ = setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most });
    let room = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    // The log has some, too.
    let needed = u64::try_from(connections).unwrap_or(u64::MAX).saturating_add(100);
    if room < needed {
        session.out.note(&format!(
            "this system gives {room} descriptors, and {connections} connections need {needed}: others wait; raise the limit (ulimit -n)"
        ));
    }
}
