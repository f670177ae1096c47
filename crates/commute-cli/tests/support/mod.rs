//! What the tests of the program share: running it, and a service that it can meet.
#![allow(dead_code, missing_docs, unreachable_pub, reason = "each test uses a part")]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use commute::prelude::*;
use serde_json::Value;

/// The program, about the directory `data` of a folder.
pub struct Place {
    folder: tempfile::TempDir,
}

/// What a run of the program left.
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ran { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Its output, when it ended well.
    #[track_caller]
    pub fn done(self) -> String {
        assert_eq!(self.code, 0, "{}{}", self.out, self.err);
        self.out
    }

    /// Its lines as JSON.
    pub fn json(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Place {
    pub fn new() -> Self {
        Place { folder: tempfile::tempdir().unwrap() }
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub fn url(&self) -> String {
        format!("embedded:{}", self.data().display())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_commute"));
        command.args(args).env("COMMUTE_BROKER", self.url()).env_remove("NO_COLOR").current_dir(self.folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs the program.
    pub fn run(&self, args: &[&str]) -> Ran {
        Ran::of(self.command(args).output().unwrap())
    }

    /// Runs the program, and writes to it.
    pub fn feed(&self, args: &[&str], text: &str) -> Ran {
        let mut child = self.command(args).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(text.as_bytes()).unwrap();
        drop(stdin);
        Ran::of(child.wait_with_output().unwrap())
    }

    /// Starts the service below in a process of its own, and waits until it has settled what it can.
    pub fn service(&self) -> Service {
        Service::start(&self.data(), false)
    }

    /// The same with handlers that succeed.
    pub fn repaired(&self) -> Service {
        Service::start(&self.data(), true)
    }
}

/// A service in a process of its own: this test binary once more.
pub struct Service {
    child: Child,
    stdin: Option<std::process::ChildStdin>,
    lines: BufReader<std::process::ChildStdout>,
}

impl Service {
    fn start(data: &Path, repaired: bool) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "the_service", "--ignored", "--nocapture", "--test-threads=1"]);
        command.env("SERVICE_DATA", data).env("SERVICE_REPAIRED", if repaired { "yes" } else { "no" });
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stdin = child.stdin.take();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let mut service = Service { child, stdin, lines };
        service.said("ready");
        service
    }

    fn said(&mut self, wanted: &str) {
        let mut line = String::new();
        // The harness writes before the service does, on the same line.
        while !line.trim_end().ends_with(wanted) {
            line.clear();
            assert_ne!(self.lines.read_line(&mut line).unwrap(), 0, "the service ended before it said {wanted}");
        }
    }

    fn say(&mut self, word: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{word}").unwrap();
    }

    /// Waits until nothing is left that can be handled.
    pub fn idle(&mut self) {
        self.say("idle");
        self.said("idle now");
    }

    /// Asks it to stop, and waits until it has.
    pub fn stop(mut self) {
        self.stdin = None;
        assert!(self.child.wait().unwrap().success());
    }

    /// Kills it.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An order. Its handler rejects, fails for good, or takes it.
#[derive(Debug, Serialize, Deserialize, Event)]
#[event(type = "order", key = "key")]
pub struct Order {
    pub key: String,
    #[serde(default)]
    pub wrong: Option<String>,
}

/// Whether orders that were wrong are not wrong any more.
#[derive(Clone, Copy)]
struct Repaired(bool);

async fn handle(order: Order, State(Repaired(repaired)): State<Repaired>) -> Result<(), HandlerError> {
    match order.wrong.as_deref().filter(|_| !repaired) {
        Some("reject") => Err(HandlerError::reject("no such customer")),
        Some("park") => Err(HandlerError::retry("the warehouse is closed")),
        _ => Ok(()),
    }
}

/// The service: `reject` becomes a dead letter, `park` is parked, unless it was repaired.
pub async fn serve() {
    let Ok(data) = std::env::var("SERVICE_DATA") else { return };
    let repaired = std::env::var("SERVICE_REPAIRED").is_ok_and(|said| said == "yes");
    let broker = commute::connect(&format!("embedded:{data}")).await.unwrap();
    let retry = Backoff::fixed(Duration::from_millis(1)).attempts(2);
    let app = App::new("inventory")
        .broker(broker.clone())
        .state(Repaired(repaired))
        .on("orders", handler(handle).retry(retry).when_exhausted(Exhausted::Park))
        .start()
        .await
        .unwrap();
    println!("ready");
    let mut words = tokio::task::spawn_blocking(word);
    while words.await.unwrap() {
        app.idle().await.unwrap();
        println!("idle now");
        words = tokio::task::spawn_blocking(word);
    }
    app.stop().await.unwrap();
    broker.close().await.unwrap();
}

fn word() -> bool {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).is_ok_and(|read| read > 0)
}
