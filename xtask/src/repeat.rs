//! Repetitions: the same suite again and again, several at once, with one line for each and a log of each.

use std::fs::{self, File};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::run;

/// So many share a server: what they have declared stays until it ends, and a server has no room for more of it.
const ON_ONE_SERVER: usize = 20;

/// How often, and how many at once.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Repeat {
    /// How often; each has a log of its own.
    #[arg(long, default_value = "1")]
    times: NonZeroUsize,
    /// How many at once, on one server.
    #[arg(long, default_value = "1")]
    jobs: NonZeroUsize,
    /// Only this test program, such as `conformance`; may be said several times.
    #[arg(long, value_name = "NAME")]
    suite: Vec<String>,
    /// How many there were before, on other servers.
    #[arg(skip)]
    before: usize,
}

/// What one repetition came to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    passed: usize,
    failed: Vec<String>,
    /// Whether every test program has said how it went, and none that it went wrong.
    is_ok: bool,
}

impl Repeat {
    /// What is run on one server after the other; nothing stands for the suite, once.
    pub(crate) fn rounds(&self) -> Vec<Option<Repeat>> {
        let times = self.times.get();
        if times == 1 && self.suite.is_empty() {
            return vec![None];
        }
        let most = ON_ONE_SERVER.max(self.jobs.get());
        let round = |before| {
            let times = NonZeroUsize::new(most.min(times - before))?;
            Some(Repeat { times, before, ..self.clone() })
        };
        (0..times).step_by(most).map(round).collect()
    }

    /// Whether the program that tests encrypted connections is among what is run.
    pub(crate) fn needs_tls(&self) -> bool {
        self.suite.is_empty() || self.suite.iter().any(|name| name == "tls")
    }

    /// What a server needs for so many at once: much of what they declare stays until it ends.
    pub(crate) fn memory_mib(&self) -> u32 {
        u32::try_from(self.jobs.get()).unwrap_or(u32::MAX).saturating_mul(256).clamp(512, 4_096)
    }

    /// What is appended to `cargo test`.
    fn only(&self) -> impl Iterator<Item = [&str; 2]> {
        self.suite.iter().map(|name| ["--test", name.as_str()])
    }

    /// Builds a suite with `cargo test`, and runs it as often as asked, every test program with these variables.
    ///
    /// # Errors
    /// When it does not compile, or any run of it fails.
    pub(crate) fn run(&self, name: &str, mut build: Command, variables: &[(&str, &str)]) -> Result<()> {
        build.args(["--no-run", "--message-format", "json-render-diagnostics"]);
        self.only().for_each(|words| _ = build.args(words));
        let programs = programs(&run::read(build)?);
        self.run_all(name, || {
            let commands = programs.iter().map(|Program { executable, folder }| {
                let mut command = Command::new(executable);
                // A test that fails says why at once: a run may take long, or be ended.
                command.arg("--nocapture").current_dir(folder).envs(variables.iter().copied());
                // Each gets a part of the machine, and is to wait accordingly.
                command.env("COMMUTE_PATIENCE", self.jobs.to_string());
                command
            });
            commands.collect()
        })
    }

    /// Says how each repetition went as it ends, and all of them in the end.
    fn run_all(&self, name: &str, programs: impl Fn() -> Vec<Command> + Sync) -> Result<()> {
        let (times, jobs, before) = (self.times.get(), self.jobs.get(), self.before);
        let logs = run::target().join("repetitions");
        fs::create_dir_all(&logs).with_context(|| format!("cannot create {}", logs.display()))?;
        let (began, next, good) = (Instant::now(), AtomicUsize::new(1), AtomicUsize::new(0));
        let work = || {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n > times {
                    return Ok(());
                }
                let n = before + n;
                let log = logs.join(format!("{name}-{n}.log"));
                let began = Instant::now();
                let outcome = one(programs(), &log)?;
                let (took, Outcome { passed, failed, is_ok }) = (began.elapsed().as_secs_f64(), outcome);
                let word = if is_ok { "ok    " } else { "FAILED" };
                let log = if is_ok { String::new() } else { format!(" {}: {}", log.display(), failed.join(", ")) };
                println!("{word} {name} {n:>3} {passed:>5} passed {took:>7.1} s{log}");
                good.fetch_add(usize::from(is_ok), Ordering::Relaxed);
            }
        };
        thread::scope(|scope| {
            let threads: Vec<_> = (0..jobs.min(times)).map(|_| scope.spawn(work)).collect();
            let ended = threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| bail!("a thread panicked")));
            ended.collect::<Result<Vec<()>>>()
        })?;
        let (good, took) = (good.load(Ordering::Relaxed), began.elapsed().as_secs_f64());
        println!("{name}: {good} of {times} repetitions ok, {jobs} at once, {took:.1} s");
        if good < times {
            bail!("{name}: {} of {times} repetitions failed", times - good);
        }
        Ok(())
    }
}

/// A test program, and where it expects to be run.
struct Program {
    executable: PathBuf,
    folder: PathBuf,
}

/// What cargo has built.
fn programs(messages: &str) -> Vec<Program> {
    let built = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).filter_map(|message| {
        let is_test = message["profile"]["test"] == true;
        let executable = message["executable"].as_str().filter(|_| is_test)?;
        let folder = Path::new(message["manifest_path"].as_str()?).parent()?;
        Some(Program { executable: executable.into(), folder: folder.to_owned() })
    });
    built.collect()
}

/// Runs all programs, one after the other, also those after one that fails.
fn one(programs: Vec<Command>, log: &Path) -> Result<Outcome> {
    let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut succeeded = true;
    for mut command in programs {
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file.try_clone()?);
        succeeded &= command.status().context("cannot start a test program")?.success();
    }
    let said = fs::read(log).with_context(|| format!("cannot read {}", log.display()))?;
    let mut outcome = read(&String::from_utf8_lossy(&said));
    outcome.is_ok &= succeeded;
    Ok(outcome)
}

/// Reads what the test programs have said.
fn read(text: &str) -> Outcome {
    let mut outcome = Outcome::default();
    for line in text.lines() {
        if let Some(result) = line.strip_prefix("test result: ") {
            let passed =
                result.split("; ").next().and_then(|first| first.split(' ').rev().nth(1)?.parse::<usize>().ok());
            outcome.passed += passed.unwrap_or_default();
            outcome.is_ok = true;
        } else if let Some(name) = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED")) {
            outcome.failed.push(name.to_owned());
        }
    }
    outcome.is_ok &= outcome.failed.is_empty();
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_test_programs_say_is_added_up() {
        let good = "running 2 tests\ntest a::b ... ok\n\ntest result: ok. 192 passed; 0 failed; 1 ignored; 0 measured\n\n\
                    test result: ok. 14 passed; 0 failed; 0 ignored\n";
        assert_eq!(read(good), Outcome { passed: 206, failed: Vec::new(), is_ok: true });
        let bad = "test a::b ... FAILED\ntest c ... ok\ntest result: FAILED. 1 passed; 1 failed; 0 ignored\n";
        assert_eq!(read(bad), Outcome { passed: 1, failed: vec!["a::b".to_owned()], is_ok: false });
        assert!(!read("error: could not compile").is_ok);
    }

    #[test]
    fn programs_are_what_cargo_has_built_for_testing() {
        let messages = r#"
            {"reason":"compiler-artifact","profile":{"test":false},"executable":"/t/bin","manifest_path":"/w/a/Cargo.toml"}
            {"reason":"compiler-artifact","profile":{"test":true},"executable":null,"manifest_path":"/w/a/Cargo.toml"}
            {"reason":"compiler-artifact","profile":{"test":true},"executable":"/t/x-1","manifest_path":"/w/a/Cargo.toml"}
            {"reason":"build-finished","success":true}"#;
        let found = programs(messages);
        assert_eq!(found.len(), 1);
        assert_eq!((&*found[0].executable, &*found[0].folder), (Path::new("/t/x-1"), Path::new("/w/a")));
    }

    #[test]
    fn all_run_and_one_that_fails_is_counted() {
        let repeat = |times: usize, jobs: usize| Repeat {
            times: NonZeroUsize::new(times).expect("some"),
            jobs: NonZeroUsize::new(jobs).expect("some"),
            suite: Vec::new(),
            before: 0,
        };
        let shell = |script: &'static str| {
            move || {
                let mut command = Command::new("sh");
                command.args(["-c", script, "sh"]);
                vec![command]
            }
        };
        let good = shell("echo 'test result: ok. 1 passed; 0 failed'");
        repeat(5, 3).run_all("xtask-good", good).expect("five are good");
        let rounds = |times, jobs| -> Vec<_> {
            let rounds = repeat(times, jobs).rounds().into_iter().map(|round| round.map(|r| (r.before, r.times.get())));
            rounds.collect()
        };
        assert_eq!(rounds(1, 1), [None], "the suite, as ever");
        assert_eq!(rounds(50, 10), [Some((0, 20)), Some((20, 20)), Some((40, 10))], "each on a server of its own");
        assert_eq!(rounds(30, 30), [Some((0, 30))]);
        let killed = shell("echo 'test result: ok. 1 passed; 0 failed'; exit 3");
        let failed = repeat(2, 2).run_all("xtask-bad", killed).expect_err("two fail");
        assert!(failed.to_string().contains("2 of 2"), "{failed}");
    }
}
