//! Opening: options, the lock, and the connections.

use std::fs::{File, TryLockError, create_dir_all};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use commute_core::{Clock, Code, Error, Result, SystemClock};
use rusqlite::Connection;

use crate::outbox::Staged;
use crate::reader::Reader;
use crate::sqlite::Sqlite;
use crate::writer::Writer;
use crate::{error, schema};

/// How long a redelivery may come late: as long as brokers commonly keep events.
const INBOX_RETENTION: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Beyond this many events the cost of a commit is no longer visible, but the latency of the first one is.
const MAX_GROUP: usize = 256;

impl Sqlite {
    /// Opens a database with the defaults of [`Builder`].
    ///
    /// # Errors
    /// As [`Builder::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::builder(path).open()
    }

    /// Says how to open a database.
    pub fn builder(path: impl AsRef<Path>) -> Builder {
        Builder::new(path.as_ref().to_owned())
    }
}

type Setup = Box<dyn FnOnce(&mut Connection) -> rusqlite::Result<()>>;

/// How a database is opened. See [`Sqlite::builder`].
#[must_use = "nothing is opened until `open`"]
pub struct Builder {
    path: PathBuf,
    inbox_retention: Duration,
    max_group: usize,
    setup: Vec<Setup>,
    clock: Arc<dyn Clock>,
}

impl Builder {
    pub(crate) fn new(path: PathBuf) -> Self {
        Builder {
            path,
            inbox_retention: INBOX_RETENTION,
            max_group: MAX_GROUP,
            setup: Vec::new(),
            clock: Arc::new(SystemClock),
        }
    }

    /// For how long it is remembered that an event was handled; seven days unless said. A redelivery later than this
    /// would have a second effect, so it should be longer than the broker keeps events.
    pub fn inbox_retention(mut self, retention: Duration) -> Self {
        self.inbox_retention = retention;
        self
    }

    /// How many events share a transaction at most; 256 unless said. With 1 each has its own, which is only good for
    /// measuring what sharing gives.
    pub fn max_group(mut self, events: usize) -> Self {
        self.max_group = events.max(1);
        self
    }

    /// Runs at every open, before the first event: creates tables that do not exist, migrates, registers functions.
    /// Several run in the order in which they were given.
    pub fn setup(mut self, setup: impl FnOnce(&mut Connection) -> rusqlite::Result<()> + 'static) -> Self {
        self.setup.push(Box::new(setup));
        self
    }

    /// Where the time of inbox marks comes from; the machine's clock unless said.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Opens the database, creating the file and its directory if they do not exist.
    ///
    /// # Errors
    /// [`Code::DirectoryOwned`] when another [`Sqlite`] has it open; [`Code::DirectoryUnusable`],
    /// [`Code::ForeignDirectory`], [`Code::Damaged`], [`Code::UnknownFormat`] or [`Code::DiskFull`] as the file is;
    /// [`Code::StoreFailed`] when the setup failed.
    pub fn open(self) -> Result<Sqlite> {
        let shown = self.path.display().to_string();
        let lock = own(&self.path)?;
        let unusable = |cause| error::failed(format!("cannot open the database {shown}"), cause);
        let mut connection = Connection::open(&self.path).map_err(unusable)?;
        schema::prepare(&mut connection, &shown)?;
        let no_setup = |cause| error::failed(format!("the setup of the database {shown} failed"), cause);
        for setup in self.setup {
            setup(&mut connection).map_err(no_setup)?;
        }
        if !connection.is_autocommit() {
            let detail = format!("the setup of the database {shown} left a transaction open");
            return Err(Error::new(Code::StoreFailed, detail));
        }
        schema::promise(&connection, &shown)?;
        let stored = schema::staged(&connection).map_err(unusable)?;
        let reader = Arc::new(Reader::open(&self.path)?);
        let staged = Arc::new(Staged::new(stored, reader.clone()));
        let writer = Writer {
            connection,
            lock,
            staged: staged.clone(),
            max_group: self.max_group,
            retention: self.inbox_retention,
            clock: self.clock,
        };
        Sqlite::start(&self.path, self.inbox_retention, writer, staged, reader)
    }
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder")
            .field("path", &self.path)
            .field("inbox_retention", &self.inbox_retention)
            .field("max_group", &self.max_group)
            .finish_non_exhaustive()
    }
}

/// Two owners would run each other's marks and staged events out of sync, so the second is refused. The lock ends with
/// the process, however it ends; the file stays, because removing it would race with the next owner.
fn own(path: &Path) -> Result<File> {
    if path.as_os_str().is_empty() || path.as_os_str() == ":memory:" {
        return Err(Error::new(Code::InvalidOption, "a store needs a file; its promises are about surviving a crash"));
    }
    let unusable = |cause: std::io::Error| {
        let detail = format!("cannot use the place of the database {}", path.display());
        Error::new(Code::DirectoryUnusable, detail).caused_by(cause)
    };
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        create_dir_all(directory).map_err(unusable)?;
    }
    let mut lock = path.as_os_str().to_owned();
    lock.push(".lock");
    let lock = File::options().write(true).create(true).truncate(false).open(lock).map_err(unusable)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => {
            let detail = format!("the database {} is open in another place", path.display());
            Err(Error::new(Code::DirectoryOwned, detail))
        }
        Err(TryLockError::Error(cause)) => Err(unusable(cause)),
    }
}
