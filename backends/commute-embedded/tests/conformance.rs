//! The embedded broker keeps every promise of the suite, on files and in memory.

use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use commute_conformance::Harness;
use commute_core::{BoxFuture, Clock, SharedBroker, SystemClock, Timestamp};
use commute_embedded::storage::Memory;
use commute_embedded::{Embedded, Options};

/// The machine's clock, with time added to it.
#[derive(Default)]
struct Ahead(AtomicI64);

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        Timestamp(SystemClock.now().0 + self.0.load(Ordering::Relaxed))
    }
}

enum Place {
    Files(PathBuf, #[allow(dead_code, reason = "removed when dropped")] tempfile::TempDir),
    Memory(Mutex<Memory>),
}

struct Here {
    place: Place,
    clock: Arc<Ahead>,
}

impl Here {
    fn files() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Here { place: Place::Files(directory.path().join("log"), directory), clock: Arc::default() }
    }

    fn memory() -> Self {
        Here { place: Place::Memory(Mutex::default()), clock: Arc::default() }
    }
}

impl Harness for Here {
    fn connect(&self) -> BoxFuture<'_, SharedBroker> {
        // Small segments and a small tail, so that rolling and reading from files are part of every case.
        let options =
            Options { clock: self.clock.clone(), segment_bytes: 4096, tail_bytes: 2048, ..Options::default() };
        let broker = match &self.place {
            Place::Files(path, _) => Embedded::open(path, options),
            Place::Memory(memory) => Embedded::in_memory(&memory.lock().unwrap(), options),
        };
        Box::pin(std::future::ready(broker.unwrap() as SharedBroker))
    }

    fn crash(&self, broker: SharedBroker) -> BoxFuture<'_, ()> {
        match &self.place {
            // What was not synced is lost.
            Place::Memory(memory) => {
                let mut memory = memory.lock().unwrap();
                let left = memory.after_power_loss(0);
                drop(broker);
                *memory = left;
            }
            // The log of a process that dies is as it is now: a copy of the files, before anything is closed.
            Place::Files(path, _) => {
                let copy = path.with_extension("copy");
                std::fs::create_dir_all(&copy).unwrap();
                for entry in std::fs::read_dir(path).unwrap() {
                    let entry = entry.unwrap();
                    std::fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
                }
                drop(broker);
                std::fs::remove_dir_all(path).unwrap();
                std::fs::rename(&copy, path).unwrap();
            }
        }
        Box::pin(std::future::ready(()))
    }

    fn advance(&self, time: Duration) -> BoxFuture<'_, ()> {
        self.clock.0.fetch_add(time.as_micros() as i64, Ordering::Relaxed);
        Box::pin(std::future::ready(()))
    }
}

mod files {
    commute_conformance::broker_suite!(super::Here::files());
}

mod memory {
    commute_conformance::broker_suite!(super::Here::memory());
}
