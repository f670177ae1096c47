//! Running other programs: cargo, mostly, always in the root of the workspace.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The folder that holds the workspace's manifest.
pub(crate) fn root() -> &'static Path {
    // The path is compiled in; a checkout that is moved is compiled again, because cargo sees that too.
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Where cargo builds: what lies there is on a real disk and ignored by git.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |named| root().join(named))
}

/// The cargo that runs this.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).args(arguments);
    command
}

/// The compiler that cargo uses.
pub(crate) fn rustc(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    command.current_dir(root()).args(arguments);
    command
}

/// Runs a command that shows its own output.
///
/// # Errors
/// When it cannot start or does not succeed.
pub(crate) fn shown(mut command: Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {}", text(&command)))?;
    if !status.success() {
        bail!("`{}` failed ({status})", text(&command));
    }
    Ok(())
}

/// Runs a command and gives what it printed.
///
/// # Errors
/// When it cannot start or does not succeed.
pub(crate) fn read(mut command: Command) -> Result<String> {
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("cannot start {}", text(&command)))?;
    if !output.status.success() {
        bail!("`{}` failed ({})", text(&command), output.status);
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Builds a program of the workspace in release, with some of its features, and says where it is.
///
/// # Errors
/// When it does not compile.
pub(crate) fn build_release(package: &str, features: &[&str]) -> Result<PathBuf> {
    let features = features.join(",");
    let format = "json-render-diagnostics";
    let build = ["build", "--release", "-p", package, "--features", &features, "--message-format", format];
    let messages = read(cargo(&build))?;
    let executable = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).find_map(|message| {
        let ours = message["target"]["name"] == package && message["target"]["kind"][0] == "bin";
        ours.then(|| message["executable"].as_str().map(PathBuf::from)).flatten()
    });
    executable.with_context(|| format!("the package {package} has no program called {package}"))
}

/// One named step: says when it begins, how long it took, and which one failed.
///
/// # Errors
/// The step's, with its name.
pub(crate) fn step(name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    println!("── {name}");
    let began = Instant::now();
    let done = work();
    let took = began.elapsed().as_secs_f64();
    match &done {
        Ok(()) => println!("── {name}: ok, {took:.1} s\n"),
        Err(_) => println!("── {name}: FAILED after {took:.1} s\n"),
    }
    done.with_context(|| format!("step \"{name}\" failed"))
}

fn text(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
