//! The admin socket's file: created with its final mode, never taken from a live server, removed
//! at the end.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// Connections the kernel holds while the server is busy accepting others.
const BACKLOG: i32 = 16;

/// Why the admin socket could not be opened. All are fatal at start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// Another server answers there.
    #[error(
        "a server is already listening on {}: stop it (or talk to it with `fanmill ctl`), or \
         choose another socket with --admin",
        .0.display()
    )]
    InUse(PathBuf),
    /// Something else is in the way.
    #[error("{} exists and is not a socket: remove it, or choose another path with --admin", .0.display())]
    NotASocket(PathBuf),
    /// The system refused.
    #[error("cannot {action} {}: {source}; check that its directory exists and is yours to write, \
             or choose another path with --admin", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A listening socket's file. Dropping it removes the file, unless another has taken its place.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
    /// Held (flock) as long as the socket is in use: of two servers starting at once over the
    /// remains of a third, only one gets to remove them. The lock file itself stays; removing it
    /// would let two servers lock two files of one name.
    _lock: File,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = std::fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == self.inode);
        if ours && let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the admin socket stays behind");
        }
    }
}

/// Opens the socket at `path`, replacing what a dead server left there.
pub(super) fn listen(path: &Path) -> Result<(UnixListener, SocketFile), AdminError> {
    let failed = |action| {
        move |source: std::io::Error| AdminError::Io {
            action,
            path: path.to_owned(),
            source,
        }
    };
    let lock = lock(path)?;
    remove_stale(path)?;

    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(|e| failed("create")(e.into()))?;
    // Linux gives the file the mode of the unbound socket: it is private from its first moment,
    // and no other thread's files are touched, as they would be by a umask.
    let private = Mode::RUSR | Mode::WUSR;
    rustix::fs::fchmod(&socket, private).map_err(|e| failed("protect")(e.into()))?;
    let address = SocketAddrUnix::new(path).map_err(|e| failed("bind")(e.into()))?;
    rustix::net::bind(&socket, &address).map_err(|e| failed("bind")(e.into()))?;
    let found = std::fs::symlink_metadata(path).map_err(failed("inspect"))?;
    let inode = (found.dev(), found.ino());
    let file = SocketFile {
        path: path.to_owned(),
        inode,
        _lock: lock,
    };
    if found.mode() & 0o077 != 0 {
        let source = std::io::Error::other("its file system ignores permissions");
        return Err(failed("protect")(source));
    }
    rustix::net::listen(&socket, BACKLOG).map_err(|e| failed("listen on")(e.into()))?;
    Ok((UnixListener::from(socket), file))
}

fn lock(path: &Path) -> Result<File, AdminError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock_path = PathBuf::from(name);
    let failed = |source| AdminError::Io {
        action: "lock",
        path: lock_path.clone(),
        source,
    };
    let nofollow = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .custom_flags(nofollow)
        .open(&lock_path)
        .map_err(failed)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(AdminError::InUse(path.to_owned())),
        Err(errno) => Err(failed(errno.into())),
    }
}

fn remove_stale(path: &Path) -> Result<(), AdminError> {
    let failed = |action, source| {
        Err(AdminError::Io {
            action,
            path: path.to_owned(),
            source,
        })
    };
    match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return failed("inspect", e),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(AdminError::NotASocket(path.to_owned()));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(AdminError::InUse(path.to_owned())),
        Err(e) if e.kind() == ErrorKind::ConnectionRefused => match std::fs::remove_file(path) {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            Err(e) => failed("remove the stale socket", e),
        },
        Err(e) => failed("ask who uses", e),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test's unwrap is an assertion

    use super::*;

    #[test]
    fn the_socket_is_private_and_removed_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        let (listener, file) = listen(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        drop((listener, file));
        assert!(!path.exists());
    }

    #[test]
    fn a_live_socket_is_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        let _live = listen(&path).unwrap();
        assert!(matches!(listen(&path), Err(AdminError::InUse(_))));
        assert!(UnixStream::connect(&path).is_ok());
    }

    #[test]
    fn a_live_socket_of_another_program_is_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        let _other = UnixListener::bind(&path).unwrap();
        assert!(matches!(listen(&path), Err(AdminError::InUse(_))));
    }

    #[test]
    fn a_stale_socket_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let _server = listen(&path).unwrap();
        assert!(UnixStream::connect(&path).is_ok());
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        std::fs::write(&path, "precious").unwrap();
        assert!(matches!(listen(&path), Err(AdminError::NotASocket(_))));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn another_servers_socket_is_not_removed_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        let (_listener, file) = listen(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        drop(file);
        assert!(path.exists());
    }
}
