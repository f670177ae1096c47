//! What is measured against: a node in a process of its own, and beside it an echo of the same frames without any storage.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use commute::{Node, NodeOptions};
use zeromq::{DealerSocket, RouterSocket, Socket, SocketRecv, SocketSend, ZmqMessage};

use super::load::PAYLOAD;

/// As many as a node has room for.
pub(super) const CONNECTIONS: usize = 10_000;

/// The other process. It ends when this is dropped.
pub(super) struct Served {
    child: Child,
    pub(super) node: String,
    pub(super) echo: String,
}

impl Served {
    /// On a log of its own in this directory.
    pub(super) fn on(directory: &std::path::Path) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["node-at", "--url"]).arg(format!("embedded:{}", directory.display()));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut said = BufReader::new(child.stdout.take().context("its output")?);
        let (node, echo) = (line(&mut said)?, line(&mut said)?);
        Ok(Served { child, node, echo })
    }

    pub(super) fn cpu(&self) -> Result<Duration> {
        crate::row::cpu_of(&self.child.id().to_string())
    }

    /// The memory that it has now, and the most that it had, in KiB.
    pub(super) fn memory(&self) -> Result<(f64, f64)> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
            number.with_context(|| format!("{name} of the node"))
        };
        Ok((field("VmRSS:")?, field("VmHWM:")?))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It ends when nobody is at the other end of its input; killed, it could not end its log.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

fn line(from: &mut BufReader<ChildStdout>) -> Result<String> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    anyhow::ensure!(!line.is_empty(), "the node did not start");
    Ok(line.trim().to_owned())
}

/// The other process: as `commute node`, on one thread and the log's.
pub(crate) async fn serve(url: &str) -> Result<()> {
    descriptors()?;
    let broker = commute::connect(url).await?;
    let options = NodeOptions { connections: CONNECTIONS + 2, ..NodeOptions::default() };
    let node = Node::serve(broker.clone(), "zmq://127.0.0.1:0", options).await?;
    let mut router = RouterSocket::new();
    let echo = router.bind("tcp://127.0.0.1:0").await?;
    println!("{}\n{echo}", node.url());
    let echoing = tokio::spawn(async move {
        while let Ok(message) = router.recv().await {
            if router.send(message).await.is_err() {
                return;
            }
        }
    });
    tokio::task::spawn_blocking(|| std::io::stdin().lock().lines().count()).await?;
    echoing.abort();
    node.stop().await;
    Ok(broker.close().await?)
}

/// As many descriptors as may be had. How many that are.
pub(super) fn descriptors() -> Result<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most })?;
    Ok(most.unwrap_or(u64::MAX))
}

/// The median time of one message of the same frames to the ROUTER and back, by the crate `zeromq`.
pub(super) async fn echo(place: &str, times: usize) -> Result<Duration> {
    let mut dealer = DealerSocket::new();
    dealer.connect(place).await?;
    let header = r#"{"events":[{"topic":"bench","size":512,"event":{"specversion":"1.0","id":"0197-0000-0000-0000-000000000000"}}]}"#;
    let frames = [Bytes::from("PUBLISH"), Bytes::from("1"), Bytes::from(header), Bytes::from(vec![b'x'; PAYLOAD])];
    let mut took = Vec::with_capacity(times);
    for _ in 0..times {
        let mut message = ZmqMessage::from("CM1");
        frames.iter().cloned().for_each(|frame| message.push_back(frame));
        let asked = Instant::now();
        dealer.send(message).await?;
        dealer.recv().await?;
        took.push(asked.elapsed());
    }
    took.sort_unstable();
    Ok(took.get(times / 2).copied().unwrap_or_default())
}
