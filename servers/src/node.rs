//! One node: its folder, its ports, and the processes that make it up.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::process::{self, Group, poll};
use crate::{Kind, kafka, rabbitmq, ready, zeromq};

/// How long a start may take on a machine that is busy.
const START: Duration = Duration::from_secs(120);
/// How long a node may take to end when asked to.
const STOP: Duration = Duration::from_secs(30);

fn usual_memory() -> u32 {
    512
}

/// A node of a server.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    /// Its data, configuration and logs, and its HOME.
    pub(crate) dir: PathBuf,
    /// For clients.
    pub(crate) port: u16,
    /// For the other nodes: Erlang's distribution, or Kafka's controller.
    pub(crate) inner: u16,
    /// Erlang's port mapper, or Kafka's second listener.
    pub(crate) side: u16,
    /// In MiB.
    #[serde(default = "usual_memory")]
    pub(crate) memory: u32,
    /// The first process of each group; the last is the broker itself.
    pids: Vec<u32>,
    #[serde(skip)]
    groups: Vec<Group>,
}

impl Node {
    pub(crate) fn new(kind: Kind, dir: PathBuf, [port, inner, side]: [u16; 3]) -> Self {
        Node { kind, dir, port, inner, side, memory: usual_memory(), pids: Vec::new(), groups: Vec::new() }
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.dir.join("output.log")
    }

    /// Starts its processes, and does not wait for them.
    pub(crate) fn launch(&mut self) -> Result<()> {
        self.kill();
        let mut commands = match self.kind {
            Kind::Rabbitmq => rabbitmq::commands(self)?,
            Kind::Kafka | Kind::Kafka3 => vec![kafka::command(self)?],
            Kind::Zeromq => vec![zeromq::command(self)],
        };
        let last = commands.len() - 1;
        for (n, command) in commands.iter_mut().enumerate() {
            let group = Group::spawn(command.env("HOME", &self.dir).current_dir(&self.dir), &self.log())?;
            self.pids.push(group.pid());
            self.groups.push(group);
            // RabbitMQ would start a port mapper of its own, which would outlive it, if ours were late.
            if n < last && !poll(START, || ready::connects(self.side)) {
                bail!("nothing listens on port {} after {} s", self.side, START.as_secs());
            }
        }
        Ok(())
    }

    /// Waits until it serves, together with as many nodes as there should be.
    pub(crate) fn wait(&mut self, nodes: usize) -> Result<()> {
        let mut ended = false;
        let served = poll(START, || {
            ended = self.groups.iter_mut().any(Group::has_ended);
            ended || self.is_ready(nodes)
        });
        if served && !ended {
            return Ok(());
        }
        let why = if ended { "ended while it started".into() } else { format!("does not serve after {START:?}") };
        let output = last_lines(&self.log());
        self.kill();
        bail!("the {} node on port {} {why}; its last words:\n{output}", self.kind.name(), self.port)
    }

    /// Whether it answers and sees as many nodes as there should be.
    pub(crate) fn is_ready(&self, nodes: usize) -> bool {
        match self.kind {
            Kind::Rabbitmq => ready::amqp(self.port),
            Kind::Kafka | Kind::Kafka3 => ready::kafka(self.port).is_some_and(|seen| seen >= nodes),
            Kind::Zeromq => ready::zmtp(self.port),
        }
    }

    /// Whether the broker runs, ready or not.
    pub(crate) fn is_alive(&self) -> bool {
        let broker = self.groups.last().filter(|last| Some(&last.pid()) == self.pids.last());
        broker.is_some_and(Group::is_alive)
    }

    /// Takes over the processes that another process has started.
    pub(crate) fn adopt(&mut self) {
        self.groups = self.pids.iter().filter_map(|pid| Group::adopt(*pid, &self.dir)).collect();
    }

    /// Its processes no longer end with this process.
    pub(crate) fn release(&mut self) {
        self.groups.iter_mut().for_each(Group::release);
    }

    /// Asks the broker to end; `kill` or `end` must follow.
    pub(crate) fn terminate(&self) {
        // The others are needed until it has ended.
        if let Some(broker) = self.groups.last() {
            broker.terminate();
        }
    }

    /// Waits for the broker to end, ends it if it does not, and then the others.
    pub(crate) fn end(&mut self) {
        if let Some(broker) = self.groups.last_mut() {
            broker.wait(STOP);
        }
        self.kill();
    }

    /// Ends all of it at once, with no time to write anything.
    pub(crate) fn kill(&mut self) {
        // The broker first: it is the one that must not notice.
        self.groups.iter_mut().rev().for_each(Group::kill);
        if !self.groups.is_empty() {
            process::wait_for_all(&self.dir, Duration::from_secs(10));
        }
        self.groups.clear();
        self.pids.clear();
    }
}

/// Writes a configuration file.
pub(crate) fn write(file: &Path, text: &str) -> Result<()> {
    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

fn last_lines(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
