//! The keeper: a thread that does beside the writer what need not be waited for. It makes the next segment ready, writes
//! snapshots, and removes segments that a snapshot has made dispensable.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use commute_core::Result;

use crate::error::failed;
use crate::journal::segment::{Segment, name};
use crate::options::Options;
use crate::state::snapshot;
use crate::storage::Storage;

/// The first segment has at most so many bytes, and each next one twice as many up to the limit, so that a small log
/// stays small.
const FIRST_SEGMENT: u64 = 1 << 20;

/// The writer waits for each segment, so there are never more jobs than between two of them.
const JOBS: usize = 8;

enum Job {
    Prepare { serial: u32, bytes: u64 },
    Outline { outline: Vec<u8> },
    Save { snapshot: Vec<u8>, saved: Option<SyncSender<io::Result<()>>> },
    Remove { segments: Vec<u32> },
}

/// The writer's hold on it.
pub(crate) struct Keeper {
    jobs: Option<SyncSender<Job>>,
    spares: Receiver<io::Result<Segment>>,
    /// One that was there when the log was opened.
    spare: Option<Segment>,
    limit: u64,
    thread: Option<JoinHandle<()>>,
}

/// How large the first segment is.
pub(crate) fn first_capacity(options: &Options) -> u64 {
    FIRST_SEGMENT.min(options.segment_bytes)
}

impl Keeper {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system's, when it has no thread left.
    pub(crate) fn start(storage: Arc<dyn Storage>, options: &Options, spare: Option<Segment>) -> Result<Self> {
        let ((jobs, inbox), (ready, spares)) = (sync_channel(JOBS), sync_channel(1));
        let mut room = Room { storage, options: options.clone(), dispensable: Vec::new() };
        let thread = std::thread::Builder::new().name("commute-keeper".to_owned()).spawn(move || {
            for job in inbox {
                room.work(job, &ready);
            }
        });
        let thread = thread.map_err(|cause| failed("cannot start a thread", cause))?;
        Ok(Keeper { jobs: Some(jobs), spares, spare, limit: options.segment_bytes, thread: Some(thread) })
    }

    /// Begins to make a segment ready, behind one of a certain size.
    pub(crate) fn prepare(&self, serial: u32, last: u64) {
        if self.spare.is_none() {
            let bytes = last.saturating_mul(2).min(self.limit);
            self.ask(Job::Prepare { serial, bytes });
        }
    }

    /// The next segment, and how large it should become. Waits for it if the writer was faster.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn take_spare(&mut self, last: u64) -> Result<(Segment, u64)> {
        let segment = match self.spare.take() {
            Some(segment) => segment,
            None => {
                let made = self.spares.recv().unwrap_or_else(|_| Err(io::Error::other("the keeper is gone")));
                made.map_err(|cause| failed("cannot create a segment", cause))?
            }
        };
        let length = segment.file.length().map_err(|cause| failed("cannot measure a segment", cause))?;
        Ok((segment, length.max(last.saturating_mul(2).min(self.limit))))
    }

    /// Writes a snapshot at leisure. If that fails, the last one and all segments since are kept.
    pub(crate) fn save(&self, snapshot: Vec<u8>) {
        self.ask(Job::Save { snapshot, saved: None });
    }

    /// Writes an outline at leisure. If that fails, whoever looks has more to read.
    pub(crate) fn outline(&self, outline: Vec<u8>) {
        self.ask(Job::Outline { outline });
    }

    /// Writes a snapshot and waits for it.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn save_and_wait(&self, snapshot: Vec<u8>) -> Result<()> {
        let (saved, answer) = sync_channel(1);
        self.ask(Job::Save { snapshot, saved: Some(saved) });
        let answer = answer.recv().unwrap_or_else(|_| Err(io::Error::other("the keeper is gone")));
        answer.map_err(|cause| failed("cannot write a snapshot", cause))
    }

    /// Removes segments after the next snapshot.
    pub(crate) fn remove(&self, segments: Vec<u32>) {
        if !segments.is_empty() {
            self.ask(Job::Remove { segments });
        }
    }

    /// If the thread is gone, whoever waits for its answer learns that.
    fn ask(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            let _ = jobs.send(job);
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The thread's own.
struct Room {
    storage: Arc<dyn Storage>,
    options: Options,
    /// Oldest first. The next snapshot does not need them.
    dispensable: Vec<u32>,
}

impl Room {
    fn work(&mut self, job: Job, ready: &SyncSender<io::Result<Segment>>) {
        match job {
            Job::Prepare { serial, bytes } => {
                let (nonce, fill) = (self.options.nonce(serial), self.options.prepare.then_some(bytes));
                let _ = ready.send(Segment::create(&*self.storage, serial, nonce, fill));
            }
            Job::Remove { segments } => self.dispensable.extend(segments),
            Job::Outline { outline } => {
                if let Err(error) = snapshot::save(&*self.storage, snapshot::OUTLINE, &outline) {
                    tracing::warn!(%error, "an outline could not be written");
                }
            }
            Job::Save { snapshot, saved } => {
                let result = snapshot::save(&*self.storage, snapshot::NAME, &snapshot);
                match &result {
                    Ok(()) => self.clean_up(),
                    Err(error) => tracing::warn!(%error, "a snapshot could not be written; the log is kept"),
                }
                if let Some(saved) = saved {
                    let _ = saved.send(result);
                }
            }
        }
    }

    /// Removes what the last snapshot does not need. Oldest first and each durably, so that no gap can stay behind.
    fn clean_up(&mut self) {
        while let Some(segment) = self.dispensable.first().copied() {
            let name = name(segment);
            if let Err(error) = self.storage.remove(&name).and_then(|()| self.storage.sync_names())
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(%error, %name, "a segment that is not needed could not be removed");
                return;
            }
            self.dispensable.remove(0);
        }
    }
}
