//! Confluent's Parallel Consumer as a peer: a Java program, compiled against the jars that Maven fetches.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::peer;
use crate::work::Work;

/// Which events it keeps in order.
#[derive(Clone, Copy)]
pub(crate) enum Order {
    Key,
    Partition,
}

/// The program, compiled.
pub(crate) struct ParallelConsumer {
    jars: PathBuf,
    classes: PathBuf,
}

impl ParallelConsumer {
    /// Compiles it; nothing when that is not possible here.
    pub(crate) fn build() -> Result<Option<Self>> {
        let built = compile();
        Ok(built.inspect_err(|cause| eprintln!("LEFT OUT: the Parallel Consumer: {cause:#}")).ok())
    }

    /// Handles so many of the work's events. From the first to the last.
    pub(crate) fn consume(
        &self,
        servers: &str,
        topic: &str,
        work: &Work,
        order: Order,
        events: usize,
    ) -> Result<Duration> {
        let mut java = Command::new("java");
        java.args(["-XX:-UsePerfData", "-Dorg.slf4j.simpleLogger.defaultLogLevel=off", "-cp"]);
        java.arg(format!("{}/*:{}", self.jars.display(), self.classes.display())).arg("Peer").args([servers, topic]);
        java.arg(match order {
            Order::Key => "KEY",
            Order::Partition => "PARTITION",
        });
        java.args([work.workers.to_string(), work.handler.as_millis().to_string(), events.to_string()]);
        match peer::answer(java, "the Parallel Consumer")?[..] {
            [took] => Ok(Duration::from_secs_f64(took)),
            _ => bail!("the Parallel Consumer answered something else than one number"),
        }
    }
}

fn compile() -> Result<ParallelConsumer> {
    let sources = peer::sources("parallel-consumer");
    let target = servers::cache().join("bench-parallel-consumer");
    let (jars, classes) = (target.join("lib"), target.join("classes"));
    fs::create_dir_all(&classes)?;
    if !jars.is_dir() {
        let mut maven = Command::new("mvn");
        maven.args(["-q", "-B", "-Dstyle.color=never", "dependency:copy-dependencies"]).arg("-f").arg(&sources);
        maven.arg(format!("-DoutputDirectory={}", jars.display()));
        succeeds(maven).context("Maven cannot fetch its jars").inspect_err(|_| drop(fs::remove_dir_all(&jars)))?;
    }
    let mut javac = Command::new("javac");
    javac.arg("-cp").arg(jars.join("*")).arg("-d").arg(&classes).arg(sources.join("src/main/java/Peer.java"));
    succeeds(javac).context("javac cannot compile it")?;
    Ok(ParallelConsumer { jars, classes })
}

fn succeeds(mut command: Command) -> Result<()> {
    let status = command.stdin(Stdio::null()).status()?;
    if !status.success() {
        bail!("{status}");
    }
    Ok(())
}
