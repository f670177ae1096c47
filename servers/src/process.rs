//! Processes: each program runs in a process group of its own, which ends as a whole, and ends with us.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// A program and everything it starts.
#[derive(Debug)]
pub(crate) struct Group {
    /// Of the first process, and so of the group.
    pid: u32,
    /// None when another process started it.
    child: Option<Child>,
    guard: Option<Child>,
}

impl Group {
    /// Starts a program whose output goes to a file, and a guard that kills it should this process die.
    pub(crate) fn spawn(command: &mut Command, log: &Path) -> Result<Self> {
        let output = File::options().create(true).append(true).open(log);
        let output = output.with_context(|| format!("cannot write {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).process_group(0);
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().with_context(|| format!("cannot start {program}"))?;
        let mut group = Group { pid: child.id(), child: Some(child), guard: None };
        match guard(group.pid) {
            Ok(guard) => group.guard = Some(guard),
            Err(cause) => {
                group.kill();
                return Err(cause);
            }
        }
        Ok(group)
    }

    /// A group that another process started in `home`, if it still runs.
    pub(crate) fn adopt(pid: u32, home: &Path) -> Option<Self> {
        // The number may be somebody else's by now. What we start has its folder as HOME.
        if has_proc() && !has_home(&Path::new("/proc").join(pid.to_string()), home) {
            return None;
        }
        let group = Group { pid, child: None, guard: None };
        group.is_alive().then_some(group)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether anything in the group still runs.
    pub(crate) fn is_alive(&self) -> bool {
        if !has_proc() {
            return signal(self.pid, "0");
        }
        let Ok(processes) = fs::read_dir("/proc") else { return false };
        processes.flatten().any(|entry| {
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            // After the name, which may contain anything: the state, the parent, the group. A zombie has ended.
            let mut fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
            let ended = matches!(fields.next(), None | Some("" | "Z" | "X"));
            !ended && fields.nth(1) == Some(&self.pid.to_string())
        })
    }

    /// Whether the first process has ended, for one that this process started.
    pub(crate) fn has_ended(&mut self) -> bool {
        match &mut self.child {
            Some(child) => !matches!(child.try_wait(), Ok(None)),
            None => !self.is_alive(),
        }
    }

    /// Asks every process of the group to end.
    pub(crate) fn terminate(&self) {
        signal(self.pid, "TERM");
    }

    /// Waits until nothing of the group runs.
    pub(crate) fn wait(&mut self, limit: Duration) -> bool {
        poll(limit, || {
            let ended = self.has_ended();
            ended && !self.is_alive()
        })
    }

    /// Ends every process of the group at once, and waits until they are gone.
    pub(crate) fn kill(&mut self) {
        // Before the first process is waited for: until then, nobody else can have its number.
        self.release();
        signal(self.pid, "KILL");
        self.wait(Duration::from_secs(10));
    }

    /// From now on the group does not end with this process.
    pub(crate) fn release(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            if let Some(mut told) = guard.stdin.take() {
                // It fails when somebody killed the guard, which is as good.
                let _ = told.write_all(b"\n");
            }
            let _ = guard.wait();
        }
    }
}

/// Waits until nothing that was started with this HOME runs. Erlang's own helper programs leave the group, and end when
/// they notice that the server has.
pub(crate) fn wait_for_all(home: &Path, limit: Duration) -> bool {
    poll(limit, || {
        let Ok(processes) = fs::read_dir("/proc") else { return true };
        !processes.flatten().any(|process| has_home(&process.path(), home))
    })
}

fn has_home(process: &Path, home: &Path) -> bool {
    let wanted = format!("HOME={}", home.display());
    // A process that has ended, or is somebody else's, tells nothing.
    let environment = fs::read(process.join("environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|pair| pair == wanted.as_bytes())
}

/// A shell that reads from us. If we end without a word, however we end, it kills the group.
fn guard(pid: u32) -> Result<Child> {
    let script = format!("read -r word || kill -s KILL -- -{pid}");
    let mut command = Command::new("sh");
    command.args(["-c", &script]).process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().context("cannot start sh, which guards what is started")
}

/// Sends a signal to a group. The shell's own `kill` is there where the program is not installed.
fn signal(pid: u32, name: &str) -> bool {
    let sent = Command::new("sh").args(["-c", &format!("kill -s {name} -- -{pid}")]).stderr(Stdio::null()).status();
    sent.is_ok_and(|status| status.success())
}

fn has_proc() -> bool {
    Path::new("/proc/self/stat").exists()
}

/// Looks again and again until something holds; whether it did in time.
pub(crate) fn poll(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    loop {
        if holds() {
            return true;
        }
        if began.elapsed() > limit {
            return false;
        }
        #[expect(clippy::disallowed_methods, reason = "a server says nothing when it is ready: there is only asking")]
        std::thread::sleep(Duration::from_millis(25));
    }
}

/// The program of that name in the PATH.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}
