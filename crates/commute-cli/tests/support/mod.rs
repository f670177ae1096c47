//! What the tests of the program share: running it, and a service that it can meet.
#![allow(dead_code, missing_docs, unreachable_pub, reason = "each test uses a part")]

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use commute::prelude::*;
use serde_json::Value;

/// Checks every line, and that there is one.
#[track_caller]
pub fn follows(name: &str, lines: &str) {
    let schema = format!("{}/schemas/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(schema).unwrap()).unwrap();
    let schema = jsonschema::options().should_validate_formats(true).build(&schema).unwrap();
    assert!(!lines.trim().is_empty(), "nothing was said for {name}");
    for line in lines.lines() {
        let value: Value = serde_json::from_str(line).unwrap();
        let wrong: Vec<_> = schema.iter_errors(&value).map(|wrong| wrong.to_string()).collect();
        assert!(wrong.is_empty(), "{name}: {wrong:?} in {line}");
    }
}

/// The program, about the directory `data` of a folder, or about a node on it.
pub struct Place {
    folder: tempfile::TempDir,
    node: Option<String>,
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
        Place { folder: tempfile::tempdir().unwrap(), node: None }
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub fn url(&self) -> String {
        self.node.clone().unwrap_or_else(|| format!("embedded:{}", self.data().display()))
    }

    /// Starts a node on the directory; from here on everybody goes to it.
    pub fn node(&mut self) -> Node {
        let mut command = self.command(&["node", "--lease", "6", "--data"]);
        // Again at the same place, when there was one.
        let listen = self.node.as_deref().unwrap_or("zmq://127.0.0.1:0");
        command.arg(self.data()).args(["--listen", listen]);
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim_end().rsplit(' ').next().unwrap().to_owned();
        assert!(url.starts_with("zmq://127.0.0.1:"), "{line}");
        self.node = Some(url);
        Node(child)
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
        Service::start(&self.url(), "inventory", false)
    }

    /// The same with handlers that succeed.
    pub fn repaired(&self) -> Service {
        Service::start(&self.url(), "inventory", true)
    }

    /// The same under another name.
    pub fn named(&self, name: &str) -> Service {
        Service::start(&self.url(), name, true)
    }
}

/// A node in a process of its own.
pub struct Node(Child);

impl Node {
    /// Kills it.
    pub fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A service in a process of its own: this test binary once more.
pub struct Service {
    child: Child,
    stdin: Option<std::process::ChildStdin>,
    lines: BufReader<std::process::ChildStdout>,
}

impl Service {
    fn start(url: &str, name: &str, repaired: bool) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "the_service", "--ignored", "--nocapture", "--test-threads=1"]);
        command.env("SERVICE_URL", url).env("SERVICE_NAME", name);
        command.env("SERVICE_REPAIRED", if repaired { "yes" } else { "no" });
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

    /// By this operators know it on a node.
    pub fn instance(&self) -> String {
        self.child.id().to_string()
    }

    /// It stands still, or goes on, as the kernel lets it.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([name, &self.instance()]).status().unwrap();
        assert!(sent.success());
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
    let (Ok(url), Ok(name)) = (std::env::var("SERVICE_URL"), std::env::var("SERVICE_NAME")) else { return };
    let repaired = std::env::var("SERVICE_REPAIRED").is_ok_and(|said| said == "yes");
    let broker = commute::connect(&url).await.unwrap();
    let retry = Backoff::fixed(Duration::from_millis(1)).attempts(2);
    let app = App::new(name)
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
