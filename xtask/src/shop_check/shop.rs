//! The shop as a process: started on a data directory, waited for, or killed.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// The program, and how long one run of it may take.
pub(crate) struct Shop {
    pub(crate) program: PathBuf,
    pub(crate) limit: Duration,
}

/// A shop at work.
pub(crate) struct Running {
    child: Child,
    began: Instant,
    limit: Duration,
    /// Its output, once it is over: a process that ended, however, has closed it.
    output: Receiver<String>,
    errors: PathBuf,
    report: PathBuf,
}

/// A shop that ended by itself.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) took: Duration,
    /// Where its report is, if it wrote one.
    pub(crate) report: PathBuf,
    /// How many events it handled in this life, if the report says.
    pub(crate) handled: Option<u64>,
    output: String,
}

impl Shop {
    /// Makes orders up.
    ///
    /// # Errors
    /// When the shop cannot.
    pub(crate) fn write_orders(&self, file: &Path, count: u64, seed: u64) -> Result<()> {
        let (count, seed) = (count.to_string(), seed.to_string());
        let mut command = Command::new(&self.program);
        command.arg("--write-orders").arg(file).args(["--orders", &count, "--seed", &seed]);
        let status = command.status().context("cannot start the shop")?;
        ensure!(status.success(), "the shop cannot write orders ({status})");
        Ok(())
    }

    /// Starts it on the data directory of a folder, new or left by an earlier life.
    ///
    /// # Errors
    /// When it cannot start.
    pub(crate) fn start(&self, folder: &Path, arguments: &[String]) -> Result<Running> {
        self.start_on(&folder.join("data"), folder, arguments)
    }

    /// Starts it, or a part of it, on a data directory; its report and what it says go to a folder of its own.
    ///
    /// # Errors
    /// When it cannot start.
    pub(crate) fn start_on(&self, data: &Path, folder: &Path, arguments: &[String]) -> Result<Running> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let report = folder.join("report.json");
        let errors = folder.join("stderr.txt");
        let mut command = Command::new(&self.program);
        command.args(arguments).arg("--data").arg(data).arg("--report").arg(&report);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&errors)?);
        let began = Instant::now();
        let mut child = command.spawn().context("cannot start the shop")?;
        let mut pipe = child.stdout.take().context("the shop has no output")?;
        let (over, output) = sync_channel(1);
        std::thread::spawn(move || {
            let mut text = Vec::new();
            // What could not be read is not there to be shown; the exit status decides.
            let _ = pipe.read_to_end(&mut text);
            let _ = over.send(String::from_utf8_lossy(&text).into_owned());
        });
        Ok(Running { child, began, limit: self.limit, output, errors, report })
    }
}

impl Running {
    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// When it takes too long; it is killed then.
    pub(crate) fn wait(self) -> Result<Ended> {
        let (limit, errors) = (self.limit, self.errors.clone());
        match self.kill_after(limit)? {
            Some(ended) => Ok(ended),
            None => {
                let said = fs::read_to_string(errors).unwrap_or_default();
                bail!("the shop did not settle within {limit:?} and was stopped\n{}", last_lines(&said))
            }
        }
    }

    /// Kills it (SIGKILL) when it has run for so long; gives how it ended when it was faster.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn kill_after(mut self, time: Duration) -> Result<Option<Ended>> {
        let output = match self.output.recv_timeout(time.saturating_sub(self.began.elapsed())) {
            Ok(output) => output,
            Err(RecvTimeoutError::Timeout) => {
                self.child.kill().context("cannot kill the shop")?;
                // It may have ended by itself in this very moment: only a signal's status is a kill.
                if self.child.wait()?.code().is_none() {
                    return Ok(None);
                }
                self.output.recv().unwrap_or_default()
            }
            Err(RecvTimeoutError::Disconnected) => String::new(),
        };
        let status = self.child.wait()?;
        let took = self.began.elapsed();
        let errors = fs::read_to_string(&self.errors).unwrap_or_default();
        let report = fs::read_to_string(&self.report).ok();
        let report = report.and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
        let handled = report.and_then(|report| report["totals"]["handled"].as_u64());
        Ok(Some(Ended { status, took, report: self.report, handled, output: format!("{output}{errors}") }))
    }
}

impl Ended {
    /// The last things it said.
    pub(crate) fn tail(&self) -> String {
        last_lines(&self.output)
    }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(20)..];
    last.iter().map(|line| format!("  | {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(folder: &Path, script: &str) -> Running {
        let program = folder.join("shop.sh");
        fs::write(&program, script).unwrap();
        let shop = Shop { program: "sh".into(), limit: Duration::from_secs(60) };
        shop.start(folder, &[program.display().to_string()]).unwrap()
    }

    #[test]
    fn a_kill_lands_while_it_works_and_the_end_is_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let killed = shell(folder.path(), "read never < /dev/zero").kill_after(Duration::from_millis(20)).unwrap();
        assert!(killed.is_none());
        let ended = shell(folder.path(), "echo out; echo err >&2; exit 3").wait().unwrap();
        assert_eq!(ended.status.code(), Some(3));
        assert_eq!(ended.tail(), "  | out\n  | err\n");
    }
}
