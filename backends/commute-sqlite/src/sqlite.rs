//! The database: opened once, written by one thread, read by anybody.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use commute_core::{BoxFuture, Clock, Code, Error, Outbox, Result, Store, SystemClock};
use rusqlite::{Connection, OpenFlags};

use crate::error::failed;
use crate::outbox::Staged;
use crate::writer::{self, Queue};

/// Of commute's own tables.
const FORMAT: i64 = 1;

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS commute_meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS commute_inbox (
        subscription TEXT NOT NULL, event BLOB NOT NULL, at INTEGER NOT NULL,
        PRIMARY KEY (subscription, event)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS commute_outbox (
        seq INTEGER PRIMARY KEY, topic TEXT NOT NULL, id TEXT NOT NULL, source TEXT NOT NULL, type TEXT NOT NULL,
        subject TEXT, time INTEGER NOT NULL, datacontenttype TEXT, dataschema TEXT, extensions TEXT NOT NULL,
        not_before INTEGER, data BLOB NOT NULL);";

/// A database whose writer runs transactional handlers. Cheap to clone; all clones are the same database.
#[derive(Clone)]
pub struct Sqlite {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) queue: Arc<Queue>,
    staged: Arc<Staged>,
    name: String,
    inbox_retention: Duration,
    reader: Mutex<Connection>,
    thread: Mutex<Option<JoinHandle<()>>>,
    _lock: File,
}

type Setup = Box<dyn FnOnce(&Connection) -> rusqlite::Result<()> + Send>;

/// How to open a database.
pub struct Builder {
    path: PathBuf,
    inbox_retention: Duration,
    max_group: usize,
    setup: Vec<Setup>,
    clock: Arc<dyn Clock>,
}

impl Sqlite {
    /// Opens a database, creating it when it does not exist.
    ///
    /// # Errors
    /// See [`Builder::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::builder(path).open()
    }

    /// Opens a database with settings.
    pub fn builder(path: impl AsRef<Path>) -> Builder {
        Builder {
            path: path.as_ref().to_owned(),
            inbox_retention: Duration::from_secs(7 * 24 * 3600),
            max_group: 256,
            setup: Vec::new(),
            clock: Arc::new(SystemClock),
        }
    }

    /// Reads, beside the writer: sees what was committed. Blocking.
    ///
    /// # Errors
    /// `StoreFailed`, with SQLite's error.
    pub fn read_blocking<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        let reader = self.inner.reader.lock().unwrap_or_else(PoisonError::into_inner);
        read(&reader).map_err(|cause| failed("cannot read", cause))
    }

    /// Reads, beside the writer, without blocking the runtime.
    ///
    /// # Errors
    /// `StoreFailed`, with SQLite's error.
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let this = self.clone();
        let read = tokio::task::spawn_blocking(move || this.read_blocking(read)).await;
        read.unwrap_or_else(|cause| Err(Error::new(Code::StoreFailed, "reading was given up").caused_by(cause)))
    }
}

impl Builder {
    /// For how long a handled event is remembered: seven days unless said. A redelivery later than that would have a
    /// second effect.
    pub fn inbox_retention(mut self, time: Duration) -> Self {
        self.inbox_retention = time;
        self
    }

    /// How many events share a commit at most: 256 unless said.
    pub fn max_group(mut self, events: usize) -> Self {
        self.max_group = events.max(1);
        self
    }

    /// Runs once after opening: the place to create tables.
    pub fn setup(mut self, setup: impl FnOnce(&Connection) -> rusqlite::Result<()> + Send + 'static) -> Self {
        self.setup.push(Box::new(setup));
        self
    }

    /// Where the time comes from.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Opens the database: WAL, every commit synced. Blocking.
    ///
    /// # Errors
    /// `DirectoryOwned` when another process, or another part of this one, has it open as a store; `DirectoryUnusable`,
    /// `UnknownFormat`, `StoreFailed`.
    pub fn open(self) -> Result<Sqlite> {
        let name = self.path.display().to_string();
        let lock = own(&self.path)?;
        let cannot_open = |cause| failed(&format!("cannot open {name}"), cause);
        let writer = Connection::open(&self.path).map_err(cannot_open)?;
        prepare(&writer).map_err(cannot_open)?;
        check_format(&writer, &name)?;
        for setup in self.setup {
            setup(&writer).map_err(|cause| failed(&format!("cannot set up {name}"), cause))?;
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let reader = Connection::open_with_flags(&self.path, flags).map_err(cannot_open)?;
        let staged = Arc::new(Staged::load(&writer).map_err(cannot_open)?);
        let queue = Arc::new(Queue::default());
        let worker = writer::Writer {
            connection: writer,
            queue: queue.clone(),
            staged: staged.clone(),
            clock: self.clock,
            max_group: self.max_group,
            inbox_retention: self.inbox_retention,
            pruned: None,
        };
        let thread = std::thread::Builder::new().name("commute-sqlite".to_owned()).spawn(move || worker.run());
        let thread = thread.map_err(|cause| Error::new(Code::Io, "cannot start the writer").caused_by(cause))?;
        let inner = Inner {
            queue,
            staged,
            name,
            inbox_retention: self.inbox_retention,
            reader: Mutex::new(reader),
            thread: Mutex::new(Some(thread)),
            _lock: lock,
        };
        Ok(Sqlite { inner: Arc::new(inner) })
    }
}

/// One owner per database: two writers would each believe that their inbox is the only one.
fn own(path: &Path) -> Result<File> {
    let mut lock = path.as_os_str().to_owned();
    lock.push(".lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&lock).map_err(|cause| {
        Error::new(Code::DirectoryUnusable, format!("cannot write beside {}", path.display())).caused_by(cause)
    })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(Error::new(Code::DirectoryOwned, format!("somebody else has {} open", path.display())))
        }
        Err(TryLockError::Error(cause)) => {
            Err(Error::new(Code::DirectoryUnusable, format!("cannot lock {}", path.display())).caused_by(cause))
        }
    }
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "wal_autocheckpoint", 4000)?;
    connection.set_prepared_statement_cache_capacity(128);
    connection.execute_batch(TABLES)
}

fn check_format(connection: &Connection, name: &str) -> Result<()> {
    let cannot = |cause| failed(&format!("cannot read the format of {name}"), cause);
    let insert = "INSERT OR IGNORE INTO commute_meta VALUES ('format', ?1)";
    connection.execute(insert, [FORMAT]).map_err(cannot)?;
    let read = "SELECT value FROM commute_meta WHERE name = 'format'";
    let found: i64 = connection.query_row(read, [], |row| row.get(0)).map_err(cannot)?;
    if found == FORMAT {
        return Ok(());
    }
    let detail = format!("{name}: format version {found}; this program knows {FORMAT}");
    Err(Error::new(Code::UnknownFormat, detail))
}

impl Inner {
    /// Ends the writer after what was submitted.
    fn end(&self) {
        self.queue.close();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.end();
    }
}

impl Store for Sqlite {
    fn name(&self) -> &str {
        &self.inner.name
    }

    fn inbox_retention(&self) -> Duration {
        self.inner.inbox_retention
    }

    fn outbox(&self) -> Arc<dyn Outbox> {
        self.inner.staged.clone()
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        let inner = self.inner.clone();
        Box::pin(async move {
            let ended = tokio::task::spawn_blocking(move || inner.end()).await;
            ended.map_err(|cause| Error::new(Code::StoreFailed, "closing was given up").caused_by(cause))
        })
    }
}

impl std::fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sqlite({})", self.inner.name)
    }
}
