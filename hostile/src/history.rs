//! The history: what happened when, one JSON object per line, appended by every process of a run.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// Something that happened. Times are microseconds since 1970.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Record {
    /// A run of a handler, written when it ended.
    Run(Run),
    /// Publishes that have a receipt.
    Confirmed { at: u64, events: Vec<usize> },
    /// A publish failed, or was abandoned, and is begun again with the same ids.
    Again { at: u64, events: Vec<usize>, why: String },
    /// A dead letter arrived.
    Dead { at: u64, n: usize, reason: String },
    /// Something was done to the system.
    Fault { at: u64, what: String, heals: bool },
    /// What a process has done so far and holds now.
    Stats { at: u64, process: String, held: usize, duplicates: u64 },
    /// A process began or ended.
    Process { at: u64, process: String, what: String },
}

/// One run of a handler.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) n: usize,
    pub(crate) id: String,
    pub(crate) keys: Vec<(u32, u32)>,
    pub(crate) process: String,
    pub(crate) attempt: u32,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) outcome: Outcome,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// It succeeded.
    Done,
    /// It wrote its effect; whether that was committed is for the store to say.
    Written,
    /// It failed.
    Failed,
}

/// The time. It never goes back within a process.
pub(crate) fn now() -> u64 {
    static BEGAN: LazyLock<(SystemTime, Instant)> = LazyLock::new(|| (SystemTime::now(), Instant::now()));
    let since = BEGAN.0.duration_since(UNIX_EPOCH).unwrap_or_default() + BEGAN.1.elapsed();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// The file, to write. What was written is there even if the process is killed in the next moment.
#[derive(Debug, Clone)]
pub(crate) struct History(Arc<Mutex<File>>);

impl History {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(path);
        Ok(History(Arc::new(Mutex::new(file.with_context(|| format!("cannot write {}", path.display()))?))))
    }

    /// Appends a record.
    #[allow(clippy::expect_used, reason = "without its history a run says nothing, so it ends here")]
    pub(crate) fn write(&self, record: &Record) {
        let mut line = serde_json::to_vec(record).expect("records are plain data");
        line.push(b'\n');
        // One call, so that lines of several processes do not mix.
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(&line).expect("the history can be written");
    }

    pub(crate) fn process(&self, process: &str, what: impl Into<String>) {
        self.write(&Record::Process { at: now(), process: process.to_owned(), what: what.into() });
    }
}

/// The file, to read while it grows.
#[derive(Debug)]
pub(crate) struct Reader {
    path: PathBuf,
    position: u64,
}

impl Reader {
    pub(crate) fn new(path: &Path) -> Self {
        Reader { path: path.to_owned(), position: 0 }
    }

    /// What was appended since the last call.
    pub(crate) fn next(&mut self) -> Result<Vec<Record>> {
        let mut file = File::open(&self.path).with_context(|| format!("cannot read {}", self.path.display()))?;
        file.seek(SeekFrom::Start(self.position))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        // The last line may be half written.
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        self.position += whole as u64;
        let lines = text[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).context("the history holds a line that is no record")).collect()
    }
}
