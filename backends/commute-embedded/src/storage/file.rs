//! Storage in a directory, owned by one process through a lock file.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use commute_core::{Code, Error, Result};

use super::{Storage, StoredFile};
use crate::journal::segment::VERSION;

/// Says whose directory this is, and in which format. A non-empty directory without it is left alone.
const MARKER: &str = "commute.format";
const MARKER_UNREADY: &str = "commute.format.new";
const LOCK: &str = "commute.lock";
/// What markers of every format begin with.
const MARKER_PREFIX: &str = "commute embedded log, format ";

/// A directory on disk.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// What the marker says.
    format: u32,
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
        let format = match format_of(path)? {
            Some(format) => format,
            None => {
                // Looked at again, because somebody may have made the directory theirs before the lock was ours.
                if strangers(path).map_err(|cause| unusable("read the directory", cause))? {
                    return Err(foreign(path));
                }
                mark(path).map_err(|cause| unusable("write into the directory", cause))?;
                VERSION
            }
        };
        Ok(Directory { path: path.to_owned(), format, _lock: lock })
    }
}

/// The format of a directory of ours; `None` when it has no marker.
///
/// # Errors
/// `ForeignDirectory`, `UnknownFormat`, or the disk's.
pub(super) fn format_of(path: &Path) -> Result<Option<u32>> {
    let text = match std::fs::read(path.join(MARKER)) {
        Ok(text) => text,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => {
            let detail = format!("cannot read the format of {}", path.display());
            return Err(Error::new(Code::DirectoryUnusable, detail).caused_by(cause));
        }
    };
    let found = text.strip_prefix(MARKER_PREFIX.as_bytes()).ok_or_else(|| foreign(path))?;
    let found = String::from_utf8_lossy(found);
    let format = found.trim().parse::<u32>().ok().filter(|format| (1..=VERSION).contains(format));
    let unknown =
        || format!("{} has format {}; this program knows those up to {VERSION}", path.display(), found.trim());
    format.map(Some).ok_or_else(|| Error::new(Code::UnknownFormat, unknown()))
}

pub(super) fn foreign(path: &Path) -> Error {
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

pub(super) fn names_in(path: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path)? {
        names.extend(entry?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

/// Writes the marker of today's format, so that it is there as a whole or not at all.
fn mark(path: &Path) -> io::Result<()> {
    let unready = path.join(MARKER_UNREADY);
    std::fs::write(&unready, format!("{MARKER_PREFIX}{VERSION}\n"))?;
    File::open(&unready)?.sync_all()?;
    std::fs::rename(unready, path.join(MARKER))?;
    File::open(path)?.sync_all()
}

impl Storage for Directory {
    fn open(&self, name: &str) -> io::Result<Arc<dyn StoredFile>> {
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(self.path.join(name))?;
        Ok(Arc::new(OnDisk(file)))
    }

    fn mark(&self) -> io::Result<()> {
        if self.format == VERSION { Ok(()) } else { mark(&self.path) }
    }

    fn names(&self) -> io::Result<Vec<String>> {
        names_in(&self.path)
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

pub(super) struct OnDisk(pub(super) File);

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
