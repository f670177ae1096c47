//! Storage in a directory, owned by one process through a lock file.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use commute_core::{Code, Error, Result};

use super::{Storage, StoredFile};

/// Says whose directory this is. Written first; a non-empty directory without it is left alone.
const MARKER: &str = "commute.format";
const MARKER_TEXT: &str = "commute embedded log\n";
const LOCK: &str = "commute.lock";

/// A directory on disk.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// Held as long as the directory is owned; the system lets go of it when the process dies.
    _lock: File,
}

impl Directory {
    /// Takes ownership of a directory, creating it when it does not exist.
    ///
    /// # Errors
    /// `ForeignDirectory` when it holds something else (which is left untouched), `DirectoryOwned` when somebody has it
    /// open, `DirectoryUnusable` when it cannot be created, read or written.
    pub fn open(path: &Path) -> Result<Self> {
        let unusable = |what: &str, cause: io::Error| {
            Error::new(Code::DirectoryUnusable, format!("cannot {what} {}", path.display())).caused_by(cause)
        };
        std::fs::create_dir_all(path).map_err(|cause| unusable("create the directory", cause))?;
        let marker = path.join(MARKER);
        let known = match std::fs::read_to_string(&marker) {
            Ok(text) => text.starts_with(MARKER_TEXT.trim_end()),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => false,
            Err(cause) => return Err(unusable("read the format of", cause)),
        };
        if !known {
            let mut entries = std::fs::read_dir(path).map_err(|cause| unusable("read the directory", cause))?;
            if entries.any(|entry| entry.map_or(true, |entry| entry.file_name() != LOCK)) {
                let detail = format!("{} holds something that commute did not write", path.display());
                return Err(Error::new(Code::ForeignDirectory, detail));
            }
        }
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(path.join(LOCK));
        let lock = lock.map_err(|cause| unusable("write into the directory", cause))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let detail = format!("somebody else has {} open", path.display());
                return Err(Error::new(Code::DirectoryOwned, detail));
            }
            Err(TryLockError::Error(cause)) => return Err(unusable("lock the directory", cause)),
        }
        if !known {
            std::fs::write(&marker, MARKER_TEXT).map_err(|cause| unusable("write into the directory", cause))?;
        }
        Ok(Directory { path: path.to_owned(), _lock: lock })
    }
}

impl Storage for Directory {
    fn open(&self, name: &str) -> io::Result<Arc<dyn StoredFile>> {
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(self.path.join(name))?;
        Ok(Arc::new(OnDisk(file)))
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            names.extend(entry?.file_name().into_string());
        }
        names.sort();
        Ok(names)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path.join(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path.join(from), self.path.join(to))
    }

    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    fn label(&self) -> String {
        self.path.display().to_string()
    }
}

struct OnDisk(File);

impl StoredFile for OnDisk {
    fn length(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, bytes: &mut [u8], position: u64) -> io::Result<()> {
        self.0.read_exact_at(bytes, position)
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, position)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)?;
        self.0.sync_all()
    }
}
