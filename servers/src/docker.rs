//! Docker: where an engine answers, `compose.yaml` is easier than packages.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process::poll;
use crate::{Kind, ready};

/// Whether an engine answers, and quickly. A client without an engine is no help, nor is one without compose.
#[must_use]
pub fn answers() -> bool {
    let mut asked = Command::new("docker");
    asked.args(["info", "--format", "{{.ServerVersion}}"]);
    asked.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let composes = Command::new("docker").args(["compose", "version"]).output();
    if !composes.is_ok_and(|output| output.status.success()) {
        return false;
    }
    let Ok(mut asked) = asked.spawn() else { return false };
    let mut status = None;
    poll(Duration::from_secs(5), || {
        status = asked.try_wait().ok().flatten();
        status.is_some()
    });
    if status.is_none() {
        // It may have ended by itself by now.
        let _ = asked.kill();
        let _ = asked.wait();
    }
    status.is_some_and(|status| status.success())
}

/// Whether the compose file has this server.
#[must_use]
pub fn has(kind: Kind) -> bool {
    !matches!(kind, Kind::Kafka3 | Kind::Zeromq)
}

/// Where clients connect.
#[must_use]
pub fn url(kind: Kind) -> String {
    let port = kind.usual_port();
    match kind {
        Kind::Rabbitmq => format!("amqp://guest:guest@127.0.0.1:{port}/%2f"),
        Kind::Kafka | Kind::Kafka3 => format!("kafka://127.0.0.1:{port}"),
        Kind::Zeromq => format!("zmq://127.0.0.1:{port}"),
    }
}

/// Whether the compose project runs this server.
#[must_use]
pub fn is_up(kind: Kind) -> bool {
    let listed = compose(&["ps", "--services", "--status", "running"]).output();
    listed.is_ok_and(|listed| String::from_utf8_lossy(&listed.stdout).lines().any(|name| name == kind.name()))
}

/// Starts it and waits until it serves.
///
/// # Errors
/// When compose fails, or it does not serve in time.
pub fn up(kind: Kind) -> Result<()> {
    run(&["up", "--detach", kind.name()])?;
    let is_ready = || match kind {
        Kind::Rabbitmq => ready::amqp(kind.usual_port()),
        Kind::Kafka | Kind::Kafka3 => ready::kafka(kind.usual_port()).is_some_and(|nodes| nodes > 0),
        Kind::Zeromq => ready::zmtp(kind.usual_port()),
    };
    if !poll(Duration::from_secs(120), is_ready) {
        bail!("the container {} does not serve after two minutes: see `docker compose logs`", kind.name());
    }
    Ok(())
}

/// Stops it and removes its data.
///
/// # Errors
/// When compose fails.
pub fn down(kind: Kind) -> Result<()> {
    run(&["rm", "--stop", "--force", "--volumes", kind.name()])
}

fn run(arguments: &[&str]) -> Result<()> {
    let status = compose(arguments).status().context("cannot start docker")?;
    if !status.success() {
        bail!("`docker compose {}` failed ({status})", arguments.join(" "));
    }
    Ok(())
}

fn compose(arguments: &[&str]) -> Command {
    let mut command = Command::new("docker");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("compose.yaml");
    command.args(["compose", "--file"]).arg(file).args(arguments).stdin(Stdio::null());
    command
}
