//! Generic receive offload at the container's end: its kernel takes in what one `sendto` sent as one batch.
//!
//! As veths come, the kernel's transmit path runs the container's receive work frame by frame: each segment of a TCP
//! stream goes up the stack alone and every second one is acknowledged. With GRO on, a frame only joins a queue
//! (`veth_xmit`, drivers/net/veth.c) that a NAPI thread empties. Pinned to the core of the worker that sends and with a
//! real-time priority, that thread runs exactly when the worker's `sendto` returns: neither in the middle of it, nor
//! late. TCP segments of a burst are merged then and acknowledged once.
//!
//! That holds for kernels that do not preempt system calls (`preempt=none`). Others would change over to the thread and
//! back for each frame, which costs more than it brings: [`probe`](super::gro_probe) finds out at start.
//!
//! A veth queues for NAPI only where the sending end segments nothing itself (`veth_skb_is_eligible_for_gro`), so TCP
//! segmentation is switched off at the host's end, which only the host's own stack would use.
//!
//! Control thread and its helpers, and the thread that closes ports.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;

use super::ethtool::Device;
use super::netlink::Link;
use super::peer::{self, PeerEnd};
use super::{napi, netdev, program};

/// As the kernel calls GRO among an interface's features.
const GRO: &str = "rx-gro";
/// The parts of `NETIF_F_ALL_TSO`; the last is of recent kernels.
const SEGMENTATION: [&str; 5] = [
    "tx-tcp-segmentation",
    "tx-tcp6-segmentation",
    "tx-tcp-ecn-segmentation",
    "tx-tcp-mangleid-segmentation",
    "tx-tcp-accecn-segmentation",
];

/// How the container's end was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    gro: bool,
    threaded: bool,
}

/// What was changed at both ends, and is put back when the port is detached.
#[derive(Default)]
pub(super) struct Merged {
    /// `None` until the far end was seen.
    far: Option<Found>,
    /// Somebody turned GRO off there since.
    declined: bool,
    /// Segmentation offloads of the host's end that were on.
    segmentation: Vec<&'static str>,
    /// The receive threads of the container's end, in the order of its queues; none while its GRO is off, because
    /// somebody turned it off there.
    pub(super) threads: Vec<i32>,
}

impl Merged {
    /// True while frames for the container behind `near` queue for the threads that were placed. The kernel makes them
    /// anew when a link comes up, or somebody sets GRO in the container.
    pub(super) fn holds(&self, near: &str) -> bool {
        let lives = |thread: &i32| comm(*thread).is_some_and(|name| name.starts_with("napi/"));
        let whole = || Device::open(near)?.is_active(SEGMENTATION[0]);
        !self.threads.is_empty() && self.threads.iter().all(lives) && matches!(whole(), Ok(Some(false)))
    }
}

/// Has the container behind `link` receive in batches, queue i on `cores[i]`, further ones on the first. `merged` is
/// what earlier calls changed. `false` where GRO was turned off in the container since then: it stays off.
///
/// # Errors
/// Everything is as it was found before the first call then. The container's end must be up, or it has no receive
/// queue.
pub(super) fn merge(link: &Link, cores: &[usize], merged: &mut Option<Merged>) -> io::Result<bool> {
    let changed = merged.get_or_insert_default();
    let done = attempt(link, cores, changed);
    if done.is_err() && undo(link, changed).is_ok() {
        *merged = None;
    }
    done
}

fn attempt(link: &Link, cores: &[usize], merged: &mut Merged) -> io::Result<bool> {
    let before = merged.segmentation.len();
    disable_segmentation(&Device::open(&link.name)?, &mut merged.segmentation)?;
    // Nobody else leaves the host's end like that: an earlier switch was killed.
    let untouched = merged.segmentation.len() == before;
    peer::visit(link, |end| enable(end, cores, merged, untouched)).map_err(io::Error::other)?
}

/// Puts back what [`merge`] changed. Every step may find an interface gone, which is as good.
///
/// # Errors
/// The far end could not be visited.
pub(super) fn undo(link: &Link, merged: &Merged) -> io::Result<()> {
    if let Ok(near) = Device::open(&link.name) {
        restore_segmentation(&near, &merged.segmentation);
    }
    let Some(found) = merged.far else { return Ok(()) };
    peer::visit(link, |end| restore(end, found)).map_err(io::Error::other)
}

/// Turns GRO on at `end` and places its threads, unless it was turned off since an earlier call. `untouched` says that
/// the near end looks as a killed switch leaves it. In the far end's network namespace.
pub(super) fn enable(end: &PeerEnd, cores: &[usize], merged: &mut Merged, untouched: bool) -> io::Result<bool> {
    merged.threads.clear();
    if program::attached_program(end.link.ifindex).is_some() {
        return Err(io::Error::other("it has an XDP program of its own"));
    }
    let device = Device::open(&end.link.name)?;
    let threaded = napi::open_attribute(&end.link.name, "threaded")?;
    let was_threaded = is_set(&threaded)?;
    let gro = device.is_active(GRO)?.unwrap_or(false);
    match merged.far {
        Some(found) if !gro => {
            // Its threads are gone. The setting stays until the end: it can be written only while GRO is on, and to
            // turn that on and off again would cost the frames that are on their way.
            merged.far = Some(Found { gro: false, ..found });
            merged.declined = true;
            return Ok(false);
        }
        Some(found) => {
            // Turned on again: that is how it is left, then.
            let gro = found.gro || std::mem::take(&mut merged.declined);
            merged.far = Some(Found { gro, ..found });
        }
        None => {
            let leftover = untouched && was_threaded;
            if leftover {
                merged.segmentation.extend(SEGMENTATION);
            }
            merged.far = Some(Found { gro: gro && !leftover, threaded: was_threaded && !leftover });
        }
    }
    // Off and on again: that ends the threads of an earlier time, which may be anywhere.
    if device.set_feature(GRO, false)?.is_none() {
        return Err(io::Error::other("its GRO cannot be switched"));
    }
    merged.threads = start(&device, &threaded, &end.link, cores)?;
    Ok(true)
}

/// In the far end's network namespace.
fn restore(end: &PeerEnd, found: Found) {
    let (Ok(device), Ok(threaded)) = (Device::open(&end.link.name), napi::open_attribute(&end.link.name, "threaded"))
    else {
        return;
    };
    put_back(&device, &threaded, found);
}

/// GRO goes off in any case, which ends the threads that were placed; on before, as `threaded` can be written only
/// then. Every step may find the interface gone.
fn put_back(device: &Device, threaded: &File, found: Found) {
    let _ = device.set_feature(GRO, true);
    let _ = threaded.write_all_at(if found.threaded { b"1\n" } else { b"0\n" }, 0);
    let _ = device.set_feature(GRO, false);
    let _ = device.set_feature(GRO, found.gro);
}

fn is_set(threaded: &File) -> io::Result<bool> {
    let mut value = [0];
    threaded.read_exact_at(&mut value, 0)?;
    Ok(value != *b"0")
}

/// GRO on, its threads made, found and placed.
fn start(device: &Device, threaded: &File, link: &Link, cores: &[usize]) -> io::Result<Vec<i32>> {
    let before = kernel_threads();
    if device.set_feature(GRO, true)?.is_none() {
        return Err(io::Error::other("its GRO cannot be switched"));
    }
    // Where it was 1 before, the threads are there by now.
    threaded.write_all_at(b"1\n", 0)?;
    let threads = match netdev::receive_threads(link.ifindex) {
        Ok(threads) => threads,
        Err(error) if error.kind() == io::ErrorKind::NotFound => new_threads(&link.name, &before),
        Err(error) => return Err(error),
    };
    let named = |thread: &i32| comm(*thread).is_some_and(|name| napi::is_napi_thread(&name, &link.name));
    let queues = device.rx_queues()? as usize;
    let (Some(first), true, true) = (cores.first(), threads.len() == queues, threads.iter().all(named)) else {
        return Err(io::Error::other(
            "its receive threads were not found: run switchd in the host's process namespace",
        ));
    };
    for (queue, &thread) in threads.iter().enumerate() {
        napi::pin(thread, &[*cores.get(queue).unwrap_or(first)])?;
        preempt_workers(thread)?;
    }
    Ok(threads)
}

/// Threads for this interface's name that were not there before, in the order of their queues, for kernels that do not
/// tell. An interface of the same name in another namespace may be counted in: the caller compares the number.
fn new_threads(interface: &str, before: &[i32]) -> Vec<i32> {
    let made = kernel_threads().into_iter().filter(|thread| !before.contains(thread));
    let named = made.filter_map(|thread| {
        let name = comm(thread)?;
        napi::is_napi_thread(&name, interface).then(|| (queue_order(&name), thread))
    });
    let mut threads: Vec<(u64, i32)> = named.collect();
    threads.sort_unstable();
    threads.into_iter().map(|(_, thread)| thread).collect()
}

/// What a thread is called.
fn comm(thread: i32) -> Option<String> {
    let name = fs::read_to_string(format!("/proc/{thread}/comm")).ok()?;
    Some(name.trim_end().to_string())
}

/// The number that `napi/<interface>-<number>` ends with: a device's queues get theirs in order. 0 where the name was
/// cut off.
fn queue_order(name: &str) -> u64 {
    name.rsplit_once('-').and_then(|(_, number)| number.parse().ok()).unwrap_or(0)
}

/// All threads of the kernel: the children of kthreadd, which is process 2. None where /proc does not show them.
fn kernel_threads() -> Vec<i32> {
    let children = fs::read_to_string("/proc/2/task/2/children").unwrap_or_default();
    children.split_ascii_whitespace().filter_map(|thread| thread.parse().ok()).collect()
}

/// Lets a thread run before any worker whenever there is something for it to do: the lowest real-time priority.
fn preempt_workers(thread: i32) -> io::Result<()> {
    let parameter = libc::sched_param { sched_priority: 1 };
    // SAFETY: the parameter outlives the call.
    let result = unsafe { libc::sched_setscheduler(thread, libc::SCHED_FIFO, &parameter) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Switches TCP segmentation off at the host's end; adds to `changed` what was on.
pub(super) fn disable_segmentation(near: &Device, changed: &mut Vec<&'static str>) -> io::Result<()> {
    for feature in SEGMENTATION {
        match near.set_feature(feature, false)? {
            Some(true) => changed.push(feature),
            Some(false) => {}
            // An older kernel.
            None if near.is_active(feature)?.is_none() => {}
            None => return Err(io::Error::other(format!("{feature} of the host's end cannot be switched off"))),
        }
    }
    Ok(())
}

/// Switches it on again, as far as it was.
fn restore_segmentation(near: &Device, changed: &[&'static str]) {
    for feature in changed {
        let _ = near.set_feature(feature, true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_come_in_the_order_of_their_queues() {
        assert!(queue_order("napi/eth0-8200") < queue_order("napi/eth0-10001"));
        assert_eq!(queue_order("napi/web-a-8193"), 8193);
        assert_eq!(queue_order("napi/container0"), 0);
    }

    #[test]
    fn kernel_threads_are_listed() {
        if comm(2).is_none_or(|name| name != "kthreadd") || !std::path::Path::new("/proc/2/task/2/children").exists() {
            return eprintln!("SKIPPED: the kernel's threads are not to be seen here");
        }
        let threads = kernel_threads();
        let named = |thread: &i32| comm(*thread).is_some_and(|name| name.starts_with("ksoftirqd"));
        assert!(threads.iter().any(named), "{threads:?}");
    }
}
