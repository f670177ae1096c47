//! A commute node: the program `commute` of this repository, in release.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::cache;
use crate::node::Node;

fn program() -> PathBuf {
    cache().with_file_name("release").join("commute")
}

/// Builds it, if its sources are newer.
pub(crate) fn build() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--release", "--quiet", "-p", "commute-cli"]).current_dir(root).stdin(Stdio::null());
    let status = cargo.status().context("cannot start cargo")?;
    ensure!(status.success(), "the commute node does not build ({status})");
    Ok(())
}

pub(crate) fn command(node: &Node) -> Command {
    let mut command = Command::new(program());
    command.arg("node").arg("--data").arg(node.dir.join("data"));
    // Short, so that what a killed client held goes to the next soon.
    command.args(["--lease", "2", "--listen"]).arg(format!("zmq://127.0.0.1:{}", node.port));
    command
}
