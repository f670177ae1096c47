//! The promises that every store makes.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use commute_conformance::{Ending, StoreFixture, Verdict, Work};
use commute_core::{Answer, BoxFuture, Emitted, HandlerError, IntoOutcome, Outcome, Result, Store, Transact};
use commute_sqlite::rusqlite::Connection;
use commute_sqlite::{Sqlite, Tx};
use tempfile::TempDir;

commute_conformance::store_suite!(Files::new());

/// A directory, and in it a file for every life of the store: a killed one leaves its file to the next as a copy.
struct Files {
    directory: TempDir,
    life: AtomicU32,
    db: Mutex<Option<Sqlite>>,
}

impl Files {
    fn new() -> Self {
        Files { directory: tempfile::tempdir().unwrap(), life: AtomicU32::new(0), db: Mutex::new(None) }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join(format!("life-{}.db", self.life.load(Ordering::Relaxed)))
    }

    fn start(&self) -> Arc<dyn Store> {
        let table = "CREATE TABLE IF NOT EXISTS effects (n INTEGER PRIMARY KEY, text TEXT NOT NULL)";
        let db = Sqlite::builder(self.path()).setup(move |db| db.execute_batch(table)).open().unwrap();
        *self.db.lock().unwrap() = Some(db.clone());
        Arc::new(db)
    }

    /// What a killed process leaves: the database as it was at the last checkpoint, and the log up to some point.
    fn leave_as_killed(&self) {
        let before = self.path();
        self.life.fetch_add(1, Ordering::Relaxed);
        std::fs::copy(&before, self.path()).unwrap();
        let log = |path: &Path| format!("{}-wal", path.display());
        std::fs::copy(log(&before), log(&self.path())).unwrap();
    }
}

impl StoreFixture for Files {
    fn open(&self) -> BoxFuture<'_, Arc<dyn Store>> {
        Box::pin(async { self.start() })
    }

    fn reopen(&self, previous: Arc<dyn Store>, ending: Ending) -> BoxFuture<'_, Arc<dyn Store>> {
        Box::pin(async move {
            match ending {
                Ending::Close => previous.close().await.unwrap(),
                Ending::Kill => self.leave_as_killed(),
            }
            self.start()
        })
    }

    fn work(&self, work: Work) -> Box<dyn Transact> {
        let db = self.db.lock().unwrap().clone().unwrap();
        let write = db.write(move |tx: &Tx<'_>| {
            tx.execute("INSERT INTO effects (text) VALUES (?1)", [&work.effect])?;
            match work.verdict {
                Verdict::Succeed => Ok(Encoded(work.emits)),
                Verdict::Fail => Err(HandlerError::retry("the suite wants it to fail")),
            }
        });
        match write.into_outcome() {
            Ok(Outcome::Transact(work)) => work,
            other => panic!("a write is left to its store: {other:?}"),
        }
    }

    // Not through the store, which may be closed.
    fn effects(&self) -> BoxFuture<'_, Vec<String>> {
        Box::pin(async {
            let db = Connection::open(self.path()).unwrap();
            let mut effects = db.prepare("SELECT text FROM effects ORDER BY n").unwrap();
            effects.query_map([], |row| row.get(0)).unwrap().map(|text| text.unwrap()).collect()
        })
    }
}

/// Events that the suite has encoded already.
struct Encoded(Vec<Emitted>);

impl Answer for Encoded {
    fn emits(_types: &mut Vec<&'static str>) {}

    fn emit(self, events: &mut Vec<Emitted>) -> Result<()> {
        events.extend(self.0);
        Ok(())
    }
}
