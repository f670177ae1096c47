//! The consumers as the one who starts, kills and stops them sees them: processes of this very program.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::consume::Order;
use crate::history::History;

/// The hidden command that makes this program a consumer.
pub(crate) const COMMAND: &str = "consume";

/// A stop takes at most the drain time of an app and a little.
const STOP: Duration = Duration::from_secs(40);

/// A process that fails by itself this often will not get better.
const FAILURES: usize = 60;

/// One consumer. It is started again when it ends by itself, as whoever operates a service does.
pub(crate) struct Consumer {
    name: String,
    asks: mpsc::Sender<Ask>,
    /// Answers how often it ended by itself.
    task: JoinHandle<Result<usize>>,
}

enum Ask {
    /// SIGKILL, and a new process after a while, if at all.
    Kill(Option<Duration>, oneshot::Sender<()>),
    /// It stops as a service should, and a new process begins, if it is wanted.
    Leave(Option<oneshot::Sender<()>>),
}

impl Consumer {
    pub(crate) fn start(order: Order, history: History) -> Self {
        let (asks, asked) = mpsc::channel(1);
        let name = order.process.clone();
        Consumer { name, asks, task: tokio::spawn(attend(order, history, asked)) }
    }

    /// Kills it and starts it again after a while.
    pub(crate) async fn kill_and_start(&self, pause: Duration) -> Result<()> {
        self.ask_to_die(Some(pause)).await
    }

    /// Lets it stop and starts it again at once.
    pub(crate) async fn restart(&self) -> Result<()> {
        let (reply, begun) = oneshot::channel();
        let gone = || format!("the consumer {} is gone", self.name);
        self.asks.send(Ask::Leave(Some(reply))).await.ok().with_context(gone)?;
        begun.await.with_context(gone)
    }

    /// Kills it for good. Answers how often it ended by itself.
    pub(crate) async fn kill(self) -> Result<usize> {
        self.ask_to_die(None).await?;
        self.task.await?
    }

    /// Lets it stop. Answers how often it ended by itself.
    pub(crate) async fn leave(self) -> Result<usize> {
        // If it is gone, its task says why.
        let _ = self.asks.send(Ask::Leave(None)).await;
        self.task.await?
    }

    async fn ask_to_die(&self, pause: Option<Duration>) -> Result<()> {
        let (reply, died) = oneshot::channel();
        let gone = || format!("the consumer {} is gone", self.name);
        self.asks.send(Ask::Kill(pause, reply)).await.ok().with_context(gone)?;
        died.await.with_context(gone)
    }
}

async fn attend(order: Order, history: History, mut asked: mpsc::Receiver<Ask>) -> Result<usize> {
    let log = order.history.with_file_name(format!("{}.log", order.process));
    let mut ended = 0;
    // The input is held beside the child, because waiting for a child closes its input.
    let (mut child, mut input) = spawn(&order, &log)?;
    loop {
        let ask = tokio::select! {
            ask = asked.recv() => ask,
            status = child.wait() => {
                history.process(&order.process, format!("ended by itself: {}", status?));
                ended += 1;
                if ended >= FAILURES {
                    bail!("{} ended by itself {ended} times; see {}", order.process, log.display());
                }
                tokio::time::sleep(Duration::from_millis(300)).await;
                (child, input) = spawn(&order, &log)?;
                continue;
            }
        };
        match ask {
            Some(Ask::Kill(pause, reply)) => {
                child.kill().await?;
                let _ = reply.send(());
                let Some(pause) = pause else { return Ok(ended) };
                tokio::time::sleep(pause).await;
                (child, input) = spawn(&order, &log)?;
            }
            Some(Ask::Leave(begins)) => {
                drop(input.take());
                match tokio::time::timeout(STOP, child.wait()).await {
                    Ok(status) => ended += usize::from(!status?.success()),
                    Err(_) => bail!("{} did not stop within {STOP:?}", order.process),
                }
                let Some(begun) = begins else { return Ok(ended) };
                (child, input) = spawn(&order, &log)?;
                let _ = begun.send(());
            }
            None => return Ok(ended),
        }
    }
}

fn spawn(order: &Order, log: &Path) -> Result<(Child, Option<ChildStdin>)> {
    let log = File::options().create(true).append(true).open(log)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(COMMAND).arg(serde_json::to_string(order)?);
    command.stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
    let mut child = command.spawn().context("cannot start a consumer")?;
    let input = child.stdin.take();
    Ok((child, input))
}
