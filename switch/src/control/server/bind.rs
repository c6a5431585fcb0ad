//! The socket file: made with its final mode, taken over when stale, removed when done. Control thread.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mio::net::UnixListener;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::peer::peer;

/// Connections the kernel holds until they are accepted.
const BACKLOG: i32 = 128;

/// Longest socket path in bytes (`sun_path` less its NUL, linux/un.h).
const PATH_MAX: usize = 107;

/// Why the control socket cannot be opened. Nothing of somebody else's is touched.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Another switch answers there.
    #[error("socket path {path} is in use by a running switchd ({}): stop it or set another control_socket",
            .pid.map_or("pid unknown".to_owned(), |pid| format!("pid {pid}")))]
    InUse {
        /// Socket path.
        path: PathBuf,
        /// Process that listens, where this process can see it.
        pid: Option<i32>,
    },
    /// Something else lies there; it is never deleted.
    #[error("socket path {0} exists and is not a socket: remove it or set another control_socket")]
    NotASocket(PathBuf),
    /// Longer than the kernel takes.
    #[error("socket path {path} has {length} bytes, the kernel takes {PATH_MAX}: set a shorter control_socket")]
    PathTooLong {
        /// Socket path.
        path: PathBuf,
        /// Its length in bytes.
        length: usize,
    },
    /// The group is not known to this host.
    #[error("control_group {0} is not in /etc/group: create it with groupadd or write its number")]
    NoGroup(String),
    /// The group is known, but may not be given.
    #[error("cannot give socket {path} to group {group}: {source}: run as root or leave control_group out")]
    Group {
        /// Socket path.
        path: PathBuf,
        /// The group as configured.
        group: String,
        /// What the system reports.
        source: io::Error,
    },
    /// Another start holds the directory.
    #[error("directory {0} stays locked by another process: see whether another switchd is starting there")]
    Locked(PathBuf),
    /// Any other failure.
    #[error("cannot {what} {path}: {source}: make it possible or set another control_socket")]
    Io {
        /// The step.
        what: &'static str,
        /// File concerned.
        path: PathBuf,
        /// What the system reports.
        source: io::Error,
    },
}

/// A socket file that is removed when dropped, if it is still the one that was made.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<SocketFile> {
        let file = fs::symlink_metadata(path)?;
        Ok(SocketFile { path: path.to_owned(), device: file.dev(), inode: file.ino() })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let own = |file: fs::Metadata| file.dev() == self.device && file.ino() == self.inode;
        if fs::symlink_metadata(&self.path).is_ok_and(own) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Listens at `path` with exactly `mode`, owned by `group` if one is given.
pub(super) fn listen(path: &Path, mode: u32, group: Option<&str>) -> Result<(UnixListener, SocketFile), ServerError> {
    let length = path.as_os_str().len();
    if length > PATH_MAX {
        return Err(ServerError::PathTooLong { path: path.to_owned(), length });
    }
    let gid = group.map(find_group).transpose()?;
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    make_directory(parent)?;
    // Two switches starting at once must not both find the other's socket stale: it is, until it listens.
    let _lock = lock_directory(parent)?;
    clear_stale(path)?;
    let socket = bind(path, mode)?;
    let file = SocketFile::of(path).map_err(|e| io_error("look at", path, e))?;
    if let (Some(gid), Some(name)) = (gid, group) {
        std::os::unix::fs::lchown(path, None, Some(gid)).map_err(|source| ServerError::Group {
            path: path.to_owned(),
            group: name.to_owned(),
            source,
        })?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(|e| io_error("set the mode of", path, e))?;
    rustix::net::listen(&socket, BACKLOG).map_err(|e| io_error("listen at", path, e.into()))?;
    Ok((UnixListener::from_std(socket.into()), file))
}

/// A bound socket that nobody can connect to yet.
fn bind(path: &Path, mode: u32) -> Result<OwnedFd, ServerError> {
    let fail = |e: rustix::io::Errno| io_error("bind", path, e.into());
    let address = SocketAddrUnix::new(path).map_err(fail)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(fail)?;
    // bind() makes the file with the socket's own mode less the umask, so it is never wider than `mode`.
    rustix::fs::fchmod(&socket, Mode::from_raw_mode(mode)).map_err(fail)?;
    rustix::net::bind(&socket, &address).map_err(fail)?;
    Ok(socket)
}

/// Makes sure that nothing lies at `path`: removes a socket nobody listens on, and only that.
fn clear_stale(path: &Path) -> Result<(), ServerError> {
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(io_error("look at", path, e)),
        Ok(file) if !file.file_type().is_socket() => return Err(ServerError::NotASocket(path.to_owned())),
        Ok(_) => {}
    }
    // Non-blocking, so that a live switch with a full backlog cannot hang this one: that is EAGAIN.
    match mio::net::UnixStream::connect(path) {
        Ok(stream) => {
            let pid = peer(&stream).and_then(|peer| peer.pid);
            Err(ServerError::InUse { path: path.to_owned(), pid })
        }
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Err(ServerError::InUse { path: path.to_owned(), pid: None }),
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|e| io_error("remove the stale socket", path, e))
        }
        Err(e) => Err(io_error("test whether anyone listens at", path, e)),
    }
}

fn make_directory(path: &Path) -> Result<(), ServerError> {
    if path.is_dir() {
        return Ok(());
    }
    let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(path);
    // A tight umask must not lock the group out of a directory made for it.
    let made = made.and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755)));
    made.map_err(|e| io_error("create directory", path, e))
}

/// Holds the directory's advisory lock until dropped; waits at most a second for it.
fn lock_directory(path: &Path) -> Result<OwnedFd, ServerError> {
    let directory = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| io_error("open directory", path, e.into()))?;
    for _ in 0..50 {
        match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(directory),
            Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(Duration::from_millis(20)),
            Err(e) => return Err(io_error("lock directory", path, e.into())),
        }
    }
    Err(ServerError::Locked(path.to_owned()))
}

/// The number of a group given by name or number.
fn find_group(name: &str) -> Result<u32, ServerError> {
    let table = fs::read_to_string("/etc/group").unwrap_or_default();
    group_id(name, &table).ok_or_else(|| ServerError::NoGroup(name.to_owned()))
}

/// Looks `name` up in `table`, the text of /etc/group (group(5)).
fn group_id(name: &str, table: &str) -> Option<u32> {
    let named = table.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next() == Some(name) { fields.nth(1)?.parse().ok() } else { None }
    });
    named.or_else(|| name.parse().ok())
}

fn io_error(what: &'static str, path: &Path, source: io::Error) -> ServerError {
    ServerError::Io { what, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};

    fn mode_of(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn makes_directory_and_socket_with_their_modes_and_cleans_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/control.sock");
        let (listener, file) = listen(&path, 0o660, None).unwrap();
        assert_eq!((mode_of(&path), mode_of(path.parent().unwrap())), (0o660, 0o755));
        StdStream::connect(&path).unwrap();
        drop((listener, file));
        assert!(!path.exists());
    }

    #[test]
    fn gives_the_socket_to_a_group() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let own = fs::metadata(dir.path()).unwrap().gid();
        let (_listener, _file) = listen(&path, 0o660, Some(&own.to_string())).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().gid(), own);
        let error = listen(&dir.path().join("t"), 0o660, Some("no-such-group")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "control_group no-such-group is not in /etc/group: create it with groupadd or write its number"
        );
        assert_eq!(group_id("netdev", "root:x:0:\nbad\nnetdev:x:106:a"), Some(106));
    }

    #[test]
    fn takes_a_stale_socket_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        drop(StdListener::bind(&path).unwrap());
        assert!(path.exists());
        let (_listener, _file) = listen(&path, 0o660, None).unwrap();
        StdStream::connect(&path).unwrap();
    }

    #[test]
    fn leaves_a_live_socket_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let _live = StdListener::bind(&path).unwrap();
        let error = listen(&path, 0o660, None).unwrap_err().to_string();
        let pid = std::process::id();
        assert_eq!(
            error,
            format!(
                "socket path {} is in use by a running switchd (pid {pid}): stop it or set another control_socket",
                path.display()
            )
        );
        StdStream::connect(&path).unwrap();
    }

    #[test]
    fn never_deletes_what_is_not_a_socket() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notes.txt");
        fs::write(&path, "precious").unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        for path in [path.as_path(), &link, dir.path()] {
            assert!(matches!(listen(path, 0o660, None), Err(ServerError::NotASocket(_))), "{path:?}");
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn does_not_remove_a_successors_socket() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let (listener, file) = listen(&path, 0o660, None).unwrap();
        fs::remove_file(&path).unwrap();
        let _successor = StdListener::bind(&path).unwrap();
        drop((listener, file));
        assert!(path.exists());
    }

    #[test]
    fn refuses_a_path_the_kernel_cannot_take() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x".repeat(120));
        assert!(matches!(listen(&path, 0o660, None), Err(ServerError::PathTooLong { .. })));
    }

    #[test]
    fn of_two_starting_at_once_one_wins() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let starts: Vec<_> = (0..8)
            .map(|_| {
                std::thread::spawn({
                    let path = path.clone();
                    move || listen(&path, 0o660, None)
                })
            })
            .collect();
        let results: Vec<_> = starts.into_iter().map(|t| t.join().unwrap()).collect();
        assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 1, "{results:?}");
        StdStream::connect(&path).unwrap();
    }
}
