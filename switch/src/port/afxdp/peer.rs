//! The far end of a veth: finding its network namespace and doing something there.
//!
//! The kernel tells the index of the far end and the number that our namespace gave to its namespace; the
//! namespace itself is found by asking for the number of every namespace that has a name or a process. No
//! descriptor of it is kept: an open one would keep a dead container's interfaces alive. Control thread,
//! and the thread that closes ports.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::netlink::{self, Link};

/// Folders whose entries are network namespaces: of iproute2, of Docker.
const NAMED: [&str; 2] = ["/run/netns", "/var/run/docker/netns"];

/// Why nothing was done at the far end.
#[derive(Debug, thiserror::Error)]
pub(super) enum PeerError {
    /// Not a veth.
    #[error("the interface has no far end")]
    None,
    /// No process or name leads to the namespace, or it may not be looked at.
    #[error("its network namespace was not found among /run/netns, /var/run/docker/netns and /proc/*/ns/net")]
    NotFound,
    /// Entering the namespace needs CAP_SYS_ADMIN.
    #[error("cannot enter its network namespace: {0}")]
    Enter(#[source] io::Error),
    /// The far end vanished meanwhile, or rtnetlink failed.
    #[error("cannot look at it: {0}")]
    Io(#[from] io::Error),
}

/// Where the far end was found.
#[derive(Clone, Debug)]
pub(super) struct PeerEnd {
    /// As it is in its own namespace now.
    pub(super) link: Link,
    /// For the operator: `eth0 in namespace web`.
    pub(super) label: String,
}

/// Runs `work` in the network namespace of the far end of `link`, on a thread of its own.
pub(super) fn visit<T: Send>(link: &Link, work: impl FnOnce(&PeerEnd) -> T + Send) -> Result<T, PeerError> {
    let ifindex = link.peer_ifindex.ok_or(PeerError::None)?;
    let Some(nsid) = link.peer_nsid else {
        let end = peer_end(ifindex, "this namespace")?;
        return Ok(work(&end));
    };
    let (namespace, place) = find_namespace(nsid).ok_or(PeerError::NotFound)?;
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("peer".into()).spawn_scoped(scope, move || {
            // Moves this thread only.
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .map_err(|error| PeerError::Enter(error.into()))?;
            drop(namespace);
            let end = peer_end(ifindex, &place)?;
            Ok(work(&end))
        });
        thread?.join().unwrap_or_else(|_| Err(PeerError::Io(io::Error::other("the helper thread panicked"))))
    })
}

fn peer_end(ifindex: u32, place: &str) -> Result<PeerEnd, PeerError> {
    let link = netlink::link_by_index(ifindex)?;
    let label = format!("{} in {place}", link.name);
    Ok(PeerEnd { link, label })
}

/// The namespace that ours calls `nsid`, and what people call it.
fn find_namespace(nsid: i32) -> Option<(File, String)> {
    let nsids = netlink::Nsids::open().ok()?;
    let mut seen = HashSet::new();
    named().chain(of_processes()).find_map(|(path, place)| {
        if !seen.insert(inode(&path)?) {
            return None;
        }
        let file = File::open(&path).ok()?;
        (nsids.of(file.as_fd()).ok()? == Some(nsid)).then_some((file, place))
    })
}

fn named() -> impl Iterator<Item = (PathBuf, String)> {
    let files = NAMED.into_iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
    files.map(|entry| (entry.path(), format!("namespace {}", entry.file_name().to_string_lossy())))
}

fn of_processes() -> impl Iterator<Item = (PathBuf, String)> {
    let entries = fs::read_dir("/proc").ok().into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        Some((entry.path().join("ns/net"), format!("the namespace of process {pid}")))
    })
}

/// Inode of the namespace behind a path; kernel threads and foreign processes may have none to show.
fn inode(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|data| data.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_without_far_end_is_not_visited() {
        let lo = netlink::link_by_name("lo").unwrap();
        assert!(matches!(visit(&lo, |_| ()), Err(PeerError::None)));
    }

    #[test]
    fn a_far_end_in_the_same_namespace_needs_no_search() {
        let mut link = netlink::link_by_name("lo").unwrap();
        link.peer_ifindex = Some(1);
        let label = visit(&link, |end| end.label.clone()).unwrap();
        assert_eq!(label, "lo in this namespace");
    }

    #[test]
    fn a_number_nobody_has_is_not_found() {
        let mut link = netlink::link_by_name("lo").unwrap();
        link.peer_ifindex = Some(1);
        link.peer_nsid = Some(i32::MAX);
        assert!(matches!(visit(&link, |_| ()), Err(PeerError::NotFound)));
    }

    #[test]
    fn processes_lead_to_their_namespace() {
        let own = inode(Path::new("/proc/self/ns/net")).unwrap();
        assert!(of_processes().any(|(path, _)| inode(&path) == Some(own)));
    }
}
