//! Who is at the other end of a control connection (`SO_PEERCRED`, unix(7)). Control thread.

use std::os::fd::AsFd;

use nix::sys::socket::{getsockopt, sockopt};

/// A process as the kernel noted it when the connection was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Peer {
    /// Its id; `None` for a process that this one's pid namespace does not show.
    pub pid: Option<i32>,
    /// Its effective user.
    pub uid: u32,
}

/// The peer of a connected Unix socket; `None` if the kernel does not tell.
///
/// The kernel reports pid 0 for a process outside the caller's pid namespace (a switchd in a container, a switchctl
/// on its host), so the id is read as a plain number: rustix's `UCred` has a `Pid`, which cannot be 0.
pub(super) fn peer(socket: &impl AsFd) -> Option<Peer> {
    let credentials = getsockopt(socket, sockopt::PeerCredentials).ok()?;
    Some(Peer { pid: visible(credentials.pid()), uid: credentials.uid() })
}

fn visible(pid: i32) -> Option<i32> {
    (pid > 0).then_some(pid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_peer_is_known_by_process_and_user() {
        let (near, _far) = UnixStream::pair().unwrap();
        let pid = i32::try_from(std::process::id()).ok();
        assert_eq!(peer(&near), Some(Peer { pid, uid: rustix::process::geteuid().as_raw() }));
    }

    #[test]
    fn a_peer_outside_the_pid_namespace_has_no_pid() {
        assert_eq!((visible(0), visible(1)), (None, Some(1)));
    }

    #[test]
    fn what_has_no_peer_has_no_credentials() {
        assert_eq!(peer(&std::fs::File::open("/dev/null").unwrap()), None);
    }
}
