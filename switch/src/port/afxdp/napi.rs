//! Threaded NAPI: the kernel's receive work of an interface on a thread of its own, and on which cores.
//!
//! Without it the sender's core does that work, one packet at a time; with it a kernel thread does, in batches. The
//! thread must never run on a worker's core (that halves the rate), so it is pinned to the others. The setting
//! outlives the XDP program and the process: what was found is put back at detach. Control thread, and the thread
//! that closes ports.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{Mode, OFlags, openat};
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};

use super::{netdev, netlink};

/// Longest kernel thread name that old kernels show (`TASK_COMM_LEN` without its zero).
const COMM_LEN: usize = 15;

/// The `threaded` attribute of one interface, open.
pub(super) struct Napi {
    interface: String,
    ifindex: u32,
    attribute: File,
    /// The setting that was found, with its newline.
    found: Vec<u8>,
    cores: Vec<usize>,
}

impl Napi {
    /// Opens the setting of `interface` in the calling thread's network namespace. `cores` are those the kernel
    /// threads may use; if it is empty, the receive work is left where it is.
    pub(super) fn open(interface: &str, cores: &[usize]) -> io::Result<Napi> {
        let attribute = open_attribute(interface, "threaded")?;
        let mut found = vec![0; 8];
        let length = attribute.read_at(&mut found, 0)?;
        found.truncate(length);
        let ifindex = netlink::link_by_name(interface)?.ifindex;
        Ok(Napi { interface: interface.to_string(), ifindex, attribute, found, cores: cores.to_vec() })
    }

    /// Puts back what was found, if it is something else now. The interface may be gone, which is as good.
    pub(super) fn restore(self) {
        let mut now = vec![0; 8];
        let length = self.attribute.read_at(&mut now, 0).unwrap_or(0);
        if now.get(..length) != Some(&self.found) {
            let _ = self.attribute.write_all_at(&self.found, 0);
        }
    }

    /// See [`Attachment::set_threaded`](crate::port::Attachment::set_threaded). Fails where no core is free for the
    /// threads. The kernel makes the threads anew when a link comes up, on any core: set it again then.
    /// Fails while the link is down (no receive queue is set up).
    pub(super) fn set(&self, threaded: bool) -> io::Result<()> {
        if !threaded {
            return self.attribute.write_all_at(b"0\n", 0);
        }
        if self.cores.is_empty() {
            return Err(io::Error::other("every core has a worker: leave one to the kernel's threads"));
        }
        let before: HashSet<i32> = threads_of(&self.interface).into_iter().collect();
        self.attribute.write_all_at(b"1\n", 0)?;
        let after = threads_of(&self.interface);
        let told = netdev::receive_threads(self.ifindex).unwrap_or_default();
        let told: Vec<i32> = told.into_iter().filter(|thread| after.contains(thread)).collect();
        // Where the kernel does not tell: threads of a namesake in another namespace were there before. If none is new,
        // ours was kept from an earlier time, and cannot be told from a namesake's: those are pinned as well.
        let fresh: Vec<i32> = after.iter().copied().filter(|thread| !before.contains(thread)).collect();
        let ours = [told, fresh].into_iter().find(|threads| !threads.is_empty()).unwrap_or(after);
        let pinned = if ours.is_empty() {
            Err(io::Error::other("its kernel thread is not in /proc: run switchd in the host's process namespace"))
        } else {
            ours.into_iter().try_for_each(|thread| pin(thread, &self.cores))
        };
        if pinned.is_err() {
            // Unpinned threads do more harm than good.
            self.attribute.write_all_at(b"0\n", 0)?;
        }
        pinned
    }
}

/// Opens an attribute of an interface, for reading and writing. `/sys` may show another network namespace than
/// the one this thread is in, so a private mount of sysfs is made, which shows the right one; without
/// CAP_SYS_ADMIN `/sys` is used if it shows the same interface.
pub(super) fn open_attribute(interface: &str, attribute: &str) -> io::Result<File> {
    let root = match private_sysfs() {
        Ok(root) => root,
        Err(_) => {
            let shown = fs::read_to_string(format!("/sys/class/net/{interface}/ifindex"))?;
            let wanted = netlink::link_by_name(interface)?.ifindex;
            if shown.trim().parse() != Ok(wanted) {
                return Err(io::Error::other("/sys shows another network namespace"));
            }
            File::open("/sys")?.into()
        }
    };
    let path = format!("class/net/{interface}/{attribute}");
    Ok(openat(root, path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?.into())
}

/// A mount of sysfs for this thread's network namespace that no path leads to.
fn private_sysfs() -> io::Result<OwnedFd> {
    const FSOPEN_CLOEXEC: libc::c_uint = 1;
    const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
    const FSMOUNT_CLOEXEC: libc::c_uint = 1;
    // SAFETY: the type is a C string.
    let context = owned(unsafe { libc::syscall(libc::SYS_fsopen, c"sysfs".as_ptr(), FSOPEN_CLOEXEC) })?;
    let none = std::ptr::null::<libc::c_char>();
    // SAFETY: this command takes neither key nor value.
    let done = unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), FSCONFIG_CMD_CREATE, none, none, 0) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: plain system call on our own descriptor.
    owned(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), FSMOUNT_CLOEXEC, 0) })
}

fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    let fd = i32::try_from(result).unwrap_or(-1);
    // SAFETY: the call just made this descriptor for us.
    if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(unsafe { OwnedFd::from_raw_fd(fd) }) }
}

/// Kernel threads that do the receive work of interfaces with this name.
fn threads_of(interface: &str) -> Vec<i32> {
    let entries = fs::read_dir("/proc").ok().into_iter().flatten().flatten();
    let threads = entries.filter_map(|entry| {
        let id: i32 = entry.file_name().to_str()?.parse().ok()?;
        let name = fs::read_to_string(entry.path().join("comm")).ok()?;
        is_napi_thread(name.trim_end(), interface).then_some(id)
    });
    threads.collect()
}

/// True for `napi/<interface>-<id>`, also when it was cut off as kernels before 5.17 do.
pub(super) fn is_napi_thread(name: &str, interface: &str) -> bool {
    let Some(rest) = name.strip_prefix("napi/") else { return false };
    match rest.strip_prefix(interface).and_then(|rest| rest.strip_prefix('-')) {
        Some(id) => id.bytes().all(|byte| byte.is_ascii_digit()),
        None => name.len() == COMM_LEN && format!("{interface}-").starts_with(rest),
    }
}

/// Lets a thread, the calling one if it is 0, run on these cores only.
pub(super) fn pin(thread: i32, cores: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    cores.iter().filter(|&&core| core < CpuSet::MAX_CPU).for_each(|&core| set.set(core));
    Ok(sched_setaffinity(Pid::from_raw(thread), &set)?)
}

/// Cores that are online and not in `taken`.
pub(super) fn free_cores(taken: &[usize]) -> Vec<usize> {
    let online = fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    let mut cores = parse_cores(online.trim());
    cores.retain(|core| !taken.contains(core));
    cores
}

/// The kernel's list notation: `0-3,8`.
fn parse_cores(list: &str) -> Vec<usize> {
    let parts = list.split(',').filter_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<usize>().ok()?..=last.parse::<usize>().ok()?)
    });
    parts.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_known_by_name() {
        assert!(is_napi_thread("napi/web0-17", "web0"));
        assert!(!is_napi_thread("napi/web01-17", "web0"));
        assert!(!is_napi_thread("napi/web0-x", "web0"));
        assert!(!is_napi_thread("kworker/web0-1", "web0"));
        assert!(is_napi_thread("napi/container0-8193", "container0"));
        assert!(is_napi_thread("napi/container0", "container0"), "cut off at 15 characters");
        assert!(!is_napi_thread("napi/container1", "container0"));
    }

    #[test]
    fn core_lists_are_read() {
        assert_eq!(parse_cores("0-3,8,10-11"), [0, 1, 2, 3, 8, 10, 11]);
        assert_eq!(parse_cores("0"), [0]);
        assert!(parse_cores("").is_empty());
        let all = free_cores(&[]);
        assert!(!all.is_empty());
        assert_eq!(free_cores(&all), [0usize; 0]);
    }
}
