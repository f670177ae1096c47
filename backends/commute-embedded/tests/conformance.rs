//! The embedded broker keeps the contract, on files and in memory.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use commute_conformance::{Ending, Fixture, ManualClock, broker_suite};
use commute_core::{BoxFuture, SharedBroker};
use commute_embedded::storage::Memory;
use commute_embedded::{Embedded, Options};

fn options(clock: &Arc<ManualClock>) -> Options {
    // Small segments, and little of the topic's end in memory, so that every case meets the files.
    Options { segment_bytes: 64 << 10, tail_bytes: 4 << 10, clock: clock.clone(), ..Options::default() }
}

/// Copies a directory; answers whether no name came or went meanwhile.
fn copied(from: &Path, to: &Path) -> bool {
    let names = || -> BTreeSet<_> {
        let entries = std::fs::read_dir(from).expect("the directory is there");
        entries.flatten().map(|entry| entry.file_name()).collect()
    };
    let before = names();
    let _ = std::fs::remove_dir_all(to);
    std::fs::create_dir(to).expect("a directory");
    before.iter().all(|name| std::fs::copy(from.join(name), to.join(name)).is_ok()) && names() == before
}

/// A directory; after a kill, a copy of it as the process left it.
struct OnDisk {
    root: tempfile::TempDir,
    state: Mutex<(PathBuf, Vec<SharedBroker>)>,
    clock: Arc<ManualClock>,
}

impl OnDisk {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a directory");
        let state = Mutex::new((root.path().join("0"), Vec::new()));
        OnDisk { root, state, clock: ManualClock::new() }
    }

    fn open(&self, directory: &Path) -> SharedBroker {
        Embedded::open(directory, options(&self.clock)).expect("the directory opens")
    }
}

impl Fixture for OnDisk {
    fn connect(&self) -> BoxFuture<'_, SharedBroker> {
        Box::pin(async { self.open(&self.root.path().join("0")) })
    }

    fn reconnect(&self, previous: SharedBroker, ending: Ending) -> BoxFuture<'_, SharedBroker> {
        Box::pin(async move {
            if ending == Ending::Close {
                previous.close().await.expect("closing works");
            }
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let (directory, killed) = &mut *state;
            if ending == Ending::Kill {
                let copy = self.root.path().join((killed.len() + 1).to_string());
                // The keeper may be at work; a process that is killed stops between two of its steps.
                while !copied(directory, &copy) {}
                // It still owns its own directory, and would tidy up there.
                killed.push(previous);
                *directory = copy;
            }
            self.open(directory)
        })
    }

    fn clock(&self) -> Option<Arc<ManualClock>> {
        Some(self.clock.clone())
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(20)
    }
}

/// A disk in memory; after a kill, what a power loss leaves of it, with some of the sectors that were not synced.
struct InMemory {
    disk: Mutex<Memory>,
    clock: Arc<ManualClock>,
}

impl InMemory {
    fn new() -> Self {
        InMemory { disk: Mutex::new(Memory::new()), clock: ManualClock::new() }
    }

    fn open(&self, disk: &Memory) -> SharedBroker {
        Embedded::in_memory(disk, options(&self.clock)).expect("the disk opens")
    }
}

impl Fixture for InMemory {
    fn connect(&self) -> BoxFuture<'_, SharedBroker> {
        Box::pin(async { self.open(&self.disk.lock().unwrap_or_else(PoisonError::into_inner)) })
    }

    fn reconnect(&self, previous: SharedBroker, ending: Ending) -> BoxFuture<'_, SharedBroker> {
        Box::pin(async move {
            if ending == Ending::Close {
                previous.close().await.expect("closing works");
            }
            let mut disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
            if ending == Ending::Kill {
                *disk = disk.after_power_loss(fastrand::bool);
            }
            self.open(&disk)
        })
    }

    fn clock(&self) -> Option<Arc<ManualClock>> {
        Some(self.clock.clone())
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(20)
    }
}

mod on_disk {
    use super::*;
    broker_suite!(OnDisk::new());
}

mod in_memory {
    use super::*;
    broker_suite!(InMemory::new());
}
