//! Storage in a directory of which nothing is owned and nothing changed.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use commute_core::{Code, Error, Result};

use super::file::{OnDisk, foreign, format_of, names_in};
use super::{Storage, StoredFile};

/// A directory to look at.
#[derive(Debug)]
pub(crate) struct ReadOnly {
    path: PathBuf,
}

/// What shows that somebody has been at work in a directory.
pub(crate) type Trace = Vec<(String, u64, Option<SystemTime>)>;

impl ReadOnly {
    /// # Errors
    /// `DirectoryUnusable` when it is not there or cannot be read, `ForeignDirectory`, `UnknownFormat`.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        if let Err(cause) = std::fs::read_dir(path) {
            let detail = format!("cannot look into {}", path.display());
            return Err(Error::new(Code::DirectoryUnusable, detail).caused_by(cause));
        }
        match format_of(path)? {
            Some(_) => Ok(ReadOnly { path: path.to_owned() }),
            None => Err(foreign(path)),
        }
    }

    /// # Errors
    /// The disk's.
    pub(crate) fn trace(&self) -> io::Result<Trace> {
        let mut trace = Vec::new();
        for name in self.names()? {
            let metadata = std::fs::metadata(self.path.join(&name));
            let changed = metadata.as_ref().ok().and_then(|metadata| metadata.modified().ok());
            trace.push((name, metadata.map_or(0, |metadata| metadata.len()), changed));
        }
        Ok(trace)
    }
}

fn refused() -> io::Error {
    io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "opened to look")
}

impl Storage for ReadOnly {
    fn open(&self, name: &str) -> io::Result<Arc<dyn StoredFile>> {
        Ok(Arc::new(OnDisk(File::open(self.path.join(name))?)))
    }

    fn names(&self) -> io::Result<Vec<String>> {
        names_in(&self.path)
    }

    fn remove(&self, _name: &str) -> io::Result<()> {
        Err(refused())
    }

    fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
        Err(refused())
    }

    fn sync_names(&self) -> io::Result<()> {
        Err(refused())
    }

    fn label(&self) -> String {
        self.path.display().to_string()
    }
}
