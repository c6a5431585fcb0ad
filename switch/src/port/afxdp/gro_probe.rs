//! Whether receive threads of containers batch on this kernel: tried once at start, on a veth pair of our own.
//!
//! One `sendto` of [`FRAMES`] frames has to wake the thread about once. A kernel that preempts system calls wakes it up
//! to once a frame.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use super::ethtool::Device;
use super::netlink;
use super::peer::PeerEnd;
use super::socket::AfxdpPort;
use super::umem::{self, Memory};
use super::{features, gro, napi};
use crate::port::{FramePool, Frames, Port, SharedPool};

/// Frames of the one `sendto`: what every kernel sends in one.
const FRAMES: usize = 32;
/// Bytes of each.
const FRAME_LEN: usize = 60;
/// Most times it may wake the thread.
const WAKE_UPS_MAX: u64 = FRAMES as u64 / 4;

/// What the trial showed.
#[derive(Debug)]
pub(super) enum Trial {
    /// A burst reaches a container's stack as a batch.
    Batches,
    /// Frame by frame: the kernel changes over to the thread in the middle of the system call.
    Preempts,
    /// It could not be tried.
    Failed,
}

/// Tries it from `core`. Everything it needs ends with it; it takes some milliseconds.
pub(super) fn attempt(memory: &Memory, shared: &Arc<SharedPool>, core: usize) -> Trial {
    let counted = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("probe".into());
        let thread = thread.spawn_scoped(scope, || wake_ups(memory, shared, core))?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the helper thread panicked")))
    });
    tracing::debug!("times that {FRAMES} frames woke a container's receive thread: {counted:?}");
    match counted {
        Ok(count) if (1..=WAKE_UPS_MAX).contains(&count) => Trial::Batches,
        Ok(count) if count > 0 => Trial::Preempts,
        _ => Trial::Failed,
    }
}

/// How often one `sendto` wakes the receive thread of the far end.
fn wake_ups(memory: &Memory, shared: &Arc<SharedPool>, core: usize) -> io::Result<u64> {
    // SAFETY: plain system call; it moves this thread only, and the thread ends with this function.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // Another switch may be trying at the same time, and threads are told apart by their interface's name.
    let number = rustix::thread::gettid().as_raw_nonzero();
    let (near, far) = (format!("near{number}"), format!("far{number}"));
    netlink::add_veth(&near, &far)?;
    napi::pin(0, &[core])?;
    let end = PeerEnd { link: netlink::link_by_name(&far)?, label: far };
    gro::disable_segmentation(&Device::open(&near)?, &mut Vec::new())?;
    let mut merged = gro::Merged::default();
    gro::enable(&end, &[core], &mut merged, false)?;
    let thread = *merged.threads.first().ok_or(io::ErrorKind::NotFound)?;
    let queues = umem::bind_patiently(&memory.umem, &near, 0, umem::BUSY_WAIT)?;
    features::tune(queues.tx.fd().as_raw_fd());
    let mut port = AfxdpPort::new(queues, memory.clone(), Arc::clone(shared), 0, false);
    let mut pool = FramePool::new(Arc::clone(shared));
    let mut frames = burst(&mut pool);
    let counted = send_once(&mut port, &mut pool, &mut frames, thread);
    frames.drain(..).for_each(|frame| pool.free(frame));
    drop(pool);
    shared.reclaim(Box::new(port).close());
    counted
}

/// Frames to everyone, of an EtherType that nobody listens to (IEEE 802 local experimental).
fn burst(pool: &mut FramePool) -> Frames {
    let mut bytes = [0u8; FRAME_LEN];
    bytes[..14].copy_from_slice(&[255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 1, 0x88, 0xb5]);
    let mut frames = Frames::new();
    while frames.len() < FRAMES
        && let Some(mut frame) = pool.alloc()
    {
        pool.region().write(&mut frame, &bytes);
        frames.push(frame);
    }
    frames
}

fn send_once(port: &mut AfxdpPort, pool: &mut FramePool, frames: &mut Frames, thread: i32) -> io::Result<u64> {
    let before = naps(thread)?;
    port.tx(pool, frames);
    port.service(pool).map_err(io::Error::other)?;
    // The thread, on this core, has run before this one goes on, if it does its work at once.
    Ok(naps(thread)? - before)
}

/// How often a thread went to sleep.
pub(super) fn naps(thread: i32) -> io::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{thread}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.and_then(|count| count.trim().parse().ok()).ok_or_else(|| io::ErrorKind::InvalidData.into())
}
