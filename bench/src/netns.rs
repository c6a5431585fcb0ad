//! Work done inside a network namespace, on a thread of its own: a thread that entered a namespace never comes back,
//! it ends there.

use crate::error::{Error, Result};
use rustix::process::Pid;
use rustix::thread::{CpuSet, LinkNameSpaceType, move_into_link_name_space, sched_setaffinity};
use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::thread::JoinHandle;

/// Starts a thread inside the namespace `netns` (a name known to `ip netns`), on `core` only when one is given, and
/// runs `work` there. The thread's result is the work's, or why the namespace could not be entered.
///
/// # Errors
/// [`Error::Io`] when the thread cannot be started.
pub fn spawn<T, F>(netns: &str, core: Option<usize>, work: F) -> Result<JoinHandle<Result<T>>>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T> + Send + 'static,
{
    let netns = netns.to_owned();
    let name = format!("in-{netns}");
    let body = move || {
        enter(&netns)?;
        if let Some(core) = core {
            pin(None, core)?;
        }
        work()
    };
    std::thread::Builder::new().name(name).spawn(body).map_err(|e| Error::io("start a thread", e))
}

/// Runs `work` inside the namespace and waits for it.
///
/// # Errors
/// The work's own, or [`Error::Io`] when the namespace cannot be entered.
pub fn run<T, F>(netns: &str, core: Option<usize>, work: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T> + Send + 'static,
{
    join(spawn(netns, core, work)?)
}

/// Waits for a thread started by [`spawn`]; a panic there goes on here.
///
/// # Errors
/// The thread's own.
pub fn join<T>(handle: JoinHandle<Result<T>>) -> Result<T> {
    handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Binds a thread or process (`None`: the caller) to one core.
///
/// # Errors
/// [`Error::Io`] when the core does not exist or the target is gone.
pub fn pin(pid: Option<Pid>, core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    if core < CpuSet::MAX_CPU {
        set.set(core);
    }
    sched_setaffinity(pid, &set).map_err(|e| Error::io(format!("pin to core {core}"), e))
}

/// Index of an interface of the calling thread's namespace.
///
/// # Errors
/// [`Error::Io`] when there is no such interface.
pub fn interface_index(interface: &str) -> Result<u32> {
    let what = || format!("find the index of interface {interface}");
    let any = || rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None);
    let socket = any().map_err(|e| Error::io(what(), e))?;
    rustix::net::netdevice::name_to_index(socket, interface).map_err(|e| Error::io(what(), e))
}

/// Number of cores this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Moves the calling thread, one of [`spawn`]'s, into another namespace. What it opened before stays where it is.
///
/// # Errors
/// [`Error::Io`] when the namespace cannot be entered.
pub fn enter(netns: &str) -> Result<()> {
    let path = PathBuf::from("/run/netns").join(netns);
    let what = || format!("enter network namespace {netns}");
    let file = File::open(&path).map_err(|e| Error::io(what(), e))?;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).map_err(|e| Error::io(what(), e))
}
