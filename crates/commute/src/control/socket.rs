//! The socket: a name in the file system that only its owner may connect to.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

/// What every system takes as the path of a socket; longer ones go another way.
const LONGEST: usize = 100;

/// Listens at a path, in place of whatever socket is there. Nobody else can connect at any moment: the socket is made in a
/// directory that is closed to others, and moved when it is closed itself.
pub(super) fn listen(path: &Path) -> io::Result<UnixListener> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    if fs::symlink_metadata(path).is_ok_and(|there| !is_socket(&there)) {
        let detail = format!("{} is there and is no socket", path.display());
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, detail));
    }
    let making = path.with_file_name(format!(".{name}.making"));
    let made = making.join("s");
    // A process that was killed may have left them.
    let _ = fs::remove_file(&made);
    let _ = fs::remove_dir(&making);
    DirBuilder::new().mode(0o700).create(&making)?;
    let listener = bind(&made).and_then(|listener| {
        fs::set_permissions(&made, Permissions::from_mode(0o600))?;
        fs::rename(&made, path)?;
        Ok(listener)
    });
    let _ = fs::remove_file(&made);
    let _ = fs::remove_dir(&making);
    listener
}

fn is_socket(there: &fs::Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt;
    there.file_type().is_socket()
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    let (short, _folder) = short(path)?;
    UnixListener::bind(short)
}

/// Connects to a path.
pub(super) async fn connect(path: &Path) -> io::Result<UnixStream> {
    let (short, _folder) = short(path)?;
    UnixStream::connect(short).await
}

/// A name for the path that is short enough, valid while the folder is open.
fn short(path: &Path) -> io::Result<(PathBuf, Option<File>)> {
    if path.as_os_str().len() <= LONGEST {
        return Ok((path.to_owned(), None));
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    // Linux names an open folder by its number.
    let folder = File::open(folder)?;
    Ok((Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name), Some(folder)))
}
