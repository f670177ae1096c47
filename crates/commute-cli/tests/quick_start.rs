//! The shell blocks of the guide do what the pages show: each page in one bash, in a folder of its own, with `commute` in its PATH.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

/// Whoever waits longer for a block waits for something that does not come. A first build takes minutes.
const LONGEST: Duration = Duration::from_secs(1800);

/// The line behind the output of a block.
const END: &str = "── the block ends here";

/// What is before a block: services must not outlive a page that went wrong.
const BEGIN: &str = "set -eo pipefail; trap 'kill $(jobs -p) 2> /dev/null' EXIT";

fn root() -> PathBuf {
    fs::canonicalize(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).unwrap()
}

/// A fenced block of a page.
struct Block {
    /// Of its first line.
    line: usize,
    language: String,
    text: String,
}

fn blocks(page: &str) -> Vec<Block> {
    let (mut blocks, mut open): (Vec<Block>, Option<Block>) = (Vec::new(), None);
    for (n, line) in page.lines().enumerate() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(language), None) => {
                open = Some(Block { line: n + 2, language: language.to_owned(), text: String::new() });
            }
            (None, Some(block)) => block.text.extend([line, "\n"]),
            (None, None) => {}
        }
    }
    blocks
}

/// A bash that runs one block after the other.
struct Session {
    folder: tempfile::TempDir,
    bash: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Session {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // The registry's version is this checkout, and what it depends on is there already.
        fs::create_dir(folder.path().join(".cargo")).unwrap();
        let checkout = root().join("crates/commute");
        let patch = format!("[patch.crates-io]\ncommute = {{ path = {checkout:?} }}\n");
        fs::write(folder.path().join(".cargo/config.toml"), patch).unwrap();

        let program = Path::new(env!("CARGO_BIN_EXE_commute")).parent().unwrap();
        let path = std::env::join_paths(
            [program.to_owned()].into_iter().chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
        );
        let mut command = Command::new("bash");
        command.arg("--norc").current_dir(folder.path()).env("PATH", path.unwrap()).env("NO_COLOR", "1");
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("COMMUTE_") {
                command.env_remove(name);
            }
        }
        // What was built for the last run is not built again.
        command.env("CARGO_TARGET_DIR", program.parent().unwrap().join("quick-start"));
        command.env("CARGO_NET_OFFLINE", "true").env("CARGO_INCREMENTAL", "0").env("CARGO_PROFILE_DEV_DEBUG", "0");
        let errors = File::create(folder.path().join("stderr")).unwrap();
        let mut bash = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors).spawn().unwrap();
        let stdout = BufReader::new(bash.stdout.take().unwrap());
        let (to, lines) = sync_channel(1024);
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| to.send(line)));
        let mut stdin = bash.stdin.take().unwrap();
        writeln!(stdin, "{BEGIN}").unwrap();
        Session { folder, bash, stdin: Some(stdin), lines }
    }

    /// Runs a block to its end, and answers what it wrote.
    fn run(&mut self, block: &Block) -> Result<Vec<String>, String> {
        self.lock_projects();
        let script = self.folder.path().join("block");
        fs::write(&script, &block.text).unwrap();
        let stdin = self.stdin.as_mut().unwrap();
        writeln!(stdin, ". {script:?} < /dev/null\necho '{END}'").unwrap();
        let mut output = Vec::new();
        loop {
            match self.lines.recv_timeout(LONGEST) {
                Ok(line) if line == END => return Ok(output),
                Ok(line) => output.push(line),
                Err(ended) => {
                    let errors = fs::read_to_string(self.folder.path().join("stderr")).unwrap();
                    return Err(format!("{ended}; it wrote\n{}\nand\n{errors}", output.join("\n")));
                }
            }
        }
    }

    /// Projects that a page has made depend on the versions that this workspace was built with.
    fn lock_projects(&self) {
        for entry in fs::read_dir(self.folder.path()).unwrap() {
            let project = entry.unwrap().path();
            if project.join("Cargo.toml").exists() && !project.join("Cargo.lock").exists() {
                fs::copy(root().join("Cargo.lock"), project.join("Cargo.lock")).unwrap();
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // At the end of its input bash ends what it has started. One that hangs in a block is ended with its block.
        drop(self.stdin.take());
        if std::thread::panicking() {
            let _ = Command::new("kill").arg(self.bash.id().to_string()).status();
        }
        let _ = self.bash.wait();
    }
}

/// A line without what differs from run to run: times, ids that are drawn, and how wide columns are.
fn steady(line: &str) -> String {
    let is_time = |word: &str| {
        let digits = |part: Option<&str>| part.is_some_and(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
        word.len() > 19 && word.ends_with('Z') && digits(word.get(..4)) && word.get(10..11) == Some("T")
    };
    let is_id = |word: &str| {
        let parts: Vec<_> = word.split('-').map(str::len).collect();
        parts == [8, 4, 4, 4, 12] && word.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
    };
    let mut steady = String::new();
    for piece in line.split_inclusive(|c: char| !c.is_ascii_alphanumeric() && !"-:.".contains(c)) {
        let word = piece.trim_end_matches(|c: char| !c.is_ascii_alphanumeric() && !"-:.".contains(c));
        steady.push_str(if is_time(word) {
            "TIME"
        } else if is_id(word) {
            "ID"
        } else {
            word
        });
        steady.push_str(&piece[word.len()..]);
    }
    steady.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Runs the `sh` blocks of a page; a `text` block right behind one is what it writes.
fn follow(page: &str) {
    let text = fs::read_to_string(root().join(page)).unwrap();
    let blocks = blocks(&text);
    let mut session = Session::new();
    for (n, block) in blocks.iter().enumerate().filter(|(_, block)| block.language == "sh") {
        let wrote = session.run(block).unwrap_or_else(|why| panic!("{page}:{}: {why}", block.line));
        if let Some(shown) = blocks.get(n + 1).filter(|next| next.language == "text") {
            let wrote: Vec<_> = wrote.iter().map(|line| steady(line)).collect();
            let shown_lines: Vec<_> = shown.text.lines().map(steady).collect();
            assert_eq!(wrote, shown_lines, "{page}:{}: left is what was written, right the page", shown.line);
        }
    }
}

#[test]
fn the_quick_start_does_what_it_shows() {
    follow("docs/guide/quick-start.md");
}

#[test]
fn the_quick_start_shows_the_service_that_is_made() {
    let page = fs::read_to_string(root().join("docs/guide/quick-start.md")).unwrap();
    let template = include_str!("../templates/service/src/lib.rs").replace("{{name}}", "hello");
    let shown = blocks(&page).into_iter().find(|block| block.language == "rust").unwrap().text;
    // The page explains in its text what the file explains in comments.
    let code = |text: &str| {
        let lines = text.lines().filter(|line| !line.trim_start().starts_with("//") && !line.is_empty());
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(code(&shown), code(&template));
}

#[test]
fn the_other_pages_do_what_they_show() {
    for folder in ["docs/guide", "docs/brokers"] {
        for page in fs::read_dir(root().join(folder)).unwrap() {
            let page = format!("{folder}/{}", page.unwrap().file_name().into_string().unwrap());
            if !page.ends_with(".md") || page.ends_with("/quick-start.md") {
                continue;
            }
            let blocks = blocks(&fs::read_to_string(root().join(&page)).unwrap());
            for block in &blocks {
                let is_script = ["sh", "bash", "shell", "console"].iter().any(|name| block.language.starts_with(name));
                let is_marked = ["sh", "sh,not-run"].contains(&block.language.as_str());
                assert!(
                    !is_script || is_marked,
                    "{page}:{}: say sh, or sh,not-run for what cannot run here",
                    block.line
                );
            }
            if blocks.iter().any(|block| block.language == "sh") {
                follow(&page);
            }
        }
    }
}

#[test]
fn what_differs_from_run_to_run_is_not_compared() {
    let line = r#"  0  2026-11-21T13:29:50.2Z  1f31a27a-2b95-816e-96bc-8e2d52bdaff3  t  {"at":"2026-11-21T13:29:50Z","id":"nobody"}"#;
    assert_eq!(steady(line), r#"0 TIME ID t {"at":"TIME","id":"nobody"}"#);
}
