//! RustStream as a peer: a program of its own, because it has dependencies of its own.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Result, bail};

use crate::peer;

/// The program, built.
pub(crate) struct RustStream(PathBuf);

impl RustStream {
    /// Builds it; nothing when that is not possible here.
    pub(crate) fn build() -> Result<Option<Self>> {
        let target = servers::cache().join("bench-ruststream");
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["build", "--quiet", "--release", "--locked", "--manifest-path"]);
        cargo.arg(peer::sources("ruststream").join("Cargo.toml")).arg("--target-dir").arg(&target);
        eprintln!("building RustStream's side, once");
        if !cargo.stdin(Stdio::null()).status().is_ok_and(|status| status.success()) {
            eprintln!("LEFT OUT: RustStream could not be built");
            return Ok(None);
        }
        Ok(Some(RustStream(target.join("release/bench-ruststream"))))
    }

    /// Consumes so many records in tracked mode; asks for their headers, too, if it is told. From the first to the last.
    pub(crate) fn consume(
        &self,
        servers: &str,
        topic: &str,
        events: usize,
        workers: usize,
        headers: bool,
    ) -> Result<Duration> {
        let mut program = Command::new(&self.0);
        program.args([servers, topic, &events.to_string(), &workers.to_string()]);
        program.arg(if headers { "headers" } else { "no-headers" });
        let seconds = peer::answer(program, "RustStream's side")?;
        match seconds.first() {
            Some(seconds) => Ok(Duration::from_secs_f64(*seconds)),
            None => bail!("RustStream's side answered nothing"),
        }
    }
}
