//! Storage in a directory, owned by one process through a lock file.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use commute_core::{Code, Error, Result};

use super::{Storage, StoredFile};

/// Says whose directory this is, and in which format. A non-empty directory without it is left alone.
const MARKER: &str = "commute.format";
const MARKER_UNREADY: &str = "commute.format.new";
const LOCK: &str = "commute.lock";
const MARKER_TEXT: &str = "commute embedded log, format 1\n";
/// What markers of every format begin with.
const MARKER_PREFIX: &str = "commute embedded log, format ";

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
    /// open, `UnknownFormat`, `DirectoryUnusable` when it cannot be created, read or written.
    pub fn open(path: &Path) -> Result<Self> {
        let unusable = |what: &str, cause: io::Error| {
            let code =
                if cause.kind() == io::ErrorKind::StorageFull { Code::DiskFull } else { Code::DirectoryUnusable };
            Error::new(code, format!("cannot {what} {}", path.display())).caused_by(cause)
        };
        create(path).map_err(|cause| unusable("create the directory", cause))?;
        let others = strangers(path).map_err(|cause| unusable("read the directory", cause))?;
        // Nothing may be written into a foreign directory, not even a lock.
        if others && !path.join(MARKER).exists() && !path.join(LOCK).exists() {
            return Err(foreign(path));
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
        match std::fs::read(path.join(MARKER)) {
            Ok(text) if text == MARKER_TEXT.as_bytes() => {}
            Ok(text) if text.starts_with(MARKER_PREFIX.as_bytes()) => {
                let found = String::from_utf8_lossy(&text[MARKER_PREFIX.len()..]).trim().to_owned();
                let detail = format!("{} has format {found}; this program knows 1", path.display());
                return Err(Error::new(Code::UnknownFormat, detail));
            }
            Ok(_) => return Err(foreign(path)),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                // Looked at again, because somebody may have made the directory theirs before the lock was ours.
                if strangers(path).map_err(|cause| unusable("read the directory", cause))? {
                    return Err(foreign(path));
                }
                mark(path).map_err(|cause| unusable("write into the directory", cause))?;
            }
            Err(cause) => return Err(unusable("read the format of", cause)),
        }
        Ok(Directory { path: path.to_owned(), _lock: lock })
    }
}

fn foreign(path: &Path) -> Error {
    Error::new(Code::ForeignDirectory, format!("{} holds something that commute did not write", path.display()))
}

/// Creates the directory, durably.
fn create(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    std::fs::create_dir_all(path)?;
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => File::open(parent)?.sync_all(),
        None => File::open(".")?.sync_all(),
    }
}

/// Whether there is something that is neither lock nor marker.
fn strangers(path: &Path) -> io::Result<bool> {
    for entry in std::fs::read_dir(path)? {
        let name = entry?.file_name();
        if ![LOCK, MARKER, MARKER_UNREADY].iter().any(|known| name == *known) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Writes the marker, so that it is there as a whole or not at all.
fn mark(path: &Path) -> io::Result<()> {
    let unready = path.join(MARKER_UNREADY);
    std::fs::write(&unready, MARKER_TEXT)?;
    File::open(&unready)?.sync_all()?;
    std::fs::rename(unready, path.join(MARKER))?;
    File::open(path)?.sync_all()
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
        self.0.set_len(length)
    }
}
