//! Peers: programs of others, each in a process of its own that answers with numbers on one line.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Where the sources of a peer are.
pub(crate) fn sources(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).join("bench-compare").join(name)
}

/// Runs a program and reads its last line: numbers between blanks.
pub(crate) fn answer(mut program: Command, what: &str) -> Result<Vec<f64>> {
    let output = program.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("cannot start {what}"))?;
    if !output.status.success() {
        bail!("{what} failed ({})", output.status);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().next_back().unwrap_or_default();
    line.split_whitespace().map(|word| word.parse().with_context(|| format!("{what} answered {line:?}"))).collect()
}
