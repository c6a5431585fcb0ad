//! The UMEM: the frame memory that all AF_XDP sockets share, and the socket that anchors it.
//!
//! The kernel ties a UMEM to the first socket bound with it, and libxdp keeps that socket for as long as
//! the UMEM lives. If it sat on a container's veth, no port could be added after that container died (bind
//! fails with EBADF), and the veth's queue could never be used again. So the first socket is bound
//! to `lo`, which never goes away, and carries no traffic. Called once by the factory, at start.

use std::io;
use std::num::NonZeroU32;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use xsk_rs::config::{BindFlags, FrameSize, LibxdpFlags, QueueSize, SocketConfig, UmemConfig, XdpFlags};
use xsk_rs::{CompQueue, FillQueue, FrameDesc, RxQueue, Socket, TxQueue, Umem};

use super::StartError;
use super::region::{Frame, Region};
use crate::limits::{FRAME_HEADROOM, FRAME_SIZE, RING_SIZE};

/// How long a (device, queue) stays busy after its owner was killed, at most: the kernel releases it from a
/// work queue (about 28 ms measured).
pub(super) const BUSY_WAIT: Duration = Duration::from_millis(500);

/// The queues of one bound socket.
pub(super) struct Queues {
    pub(super) tx: TxQueue,
    pub(super) rx: RxQueue,
    pub(super) fill: FillQueue,
    pub(super) done: CompQueue,
}

/// Frame memory registered with the kernel. Cheap to clone.
#[derive(Clone)]
pub(super) struct Memory {
    pub(super) umem: Umem,
    /// One descriptor per chunk, since xsk-rs makes them in [`Umem::new`] only.
    pub(super) descs: Arc<[FrameDesc]>,
}

/// What [`create`] made.
pub(super) struct Created {
    pub(super) memory: Memory,
    pub(super) region: Region,
    pub(super) frames: Vec<Frame>,
    /// Packets longer than a chunk can be received and sent.
    pub(super) multi_buffer: bool,
    /// The anchor's descriptor, for probing socket options while the region lives.
    pub(super) probe_fd: RawFd,
}

/// Keeps the anchor bound while frame memory is in use.
struct Anchor(#[allow(dead_code, reason = "held, not used")] Mutex<Queues>);

/// Registers `frames` chunks with the kernel and anchors them on `lo`.
pub(super) fn create(frames: u32) -> Result<Created, StartError> {
    // Kernels before 6.6 refuse the multi-buffer flag; then one packet is one chunk.
    match create_with(frames, BindFlags::XDP_COPY | BindFlags::XDP_USE_SG, true) {
        Err(StartError::Anchor { source }) if source.raw_os_error() == Some(libc::EINVAL) => {
            create_with(frames, BindFlags::XDP_COPY, false)
        }
        other => other,
    }
}

fn create_with(frames: u32, flags: BindFlags, multi_buffer: bool) -> Result<Created, StartError> {
    let count = NonZeroU32::new(frames).ok_or(StartError::Invalid { what: "a pool of 0 frames" })?;
    let (umem, mut descs, queues) = match anchor_in_own_namespace(count, flags) {
        // Another switch (or one that was just killed) anchors here. A namespace of our own has a `lo` of its own.
        Err(StartError::Anchor { source }) if source.raw_os_error() == Some(libc::EBUSY) => {
            match anchor_in_private_namespace(count, flags) {
                Err(StartError::PrivateNamespace(_)) => anchor_patiently(count, flags)?,
                other => other?,
            }
        }
        other => other?,
    };
    let probe_fd = queues.tx.fd().as_raw_fd();
    let base = base_of(&umem, &mut descs)?;
    let memory = Memory { umem: umem.clone(), descs: descs.into() };
    // SAFETY: xsk-rs mapped `frames` chunks of FRAME_SIZE bytes from `base` on, and unmaps them when the last
    // clone of the UMEM goes; the anchor's queues in the owner hold one. This process touches the bytes through
    // tokens only: descriptors are used for their address and length.
    let (region, tokens) = unsafe { Region::new(base, frames, Box::new(Anchor(Mutex::new(queues)))) };
    Ok(Created { memory, region, frames: tokens, multi_buffer, probe_fd })
}

type Anchored = (Umem, Vec<FrameDesc>, Queues);

fn anchor_in_own_namespace(count: NonZeroU32, flags: BindFlags) -> Result<Anchored, StartError> {
    let (umem, descs) = register(count)?;
    let queues = bind(&umem, "lo", 0, flags).map_err(|source| StartError::Anchor { source })?;
    Ok((umem, descs, queues))
}

/// Creates UMEM and anchor on a thread that moved to a fresh network namespace. The sockets keep that
/// namespace alive; later sockets are created in the namespace of the thread that attaches a port.
fn anchor_in_private_namespace(count: NonZeroU32, flags: BindFlags) -> Result<Anchored, StartError> {
    let thread = std::thread::Builder::new().name("anchor".into()).spawn(move || {
        // SAFETY: plain system call; it moves this thread only, and the thread ends below.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            return Err(StartError::PrivateNamespace(io::Error::last_os_error()));
        }
        anchor_in_own_namespace(count, flags)
    });
    let thread = thread.map_err(StartError::PrivateNamespace)?;
    thread.join().unwrap_or(Err(StartError::Invalid { what: "the anchor thread panicked" }))
}

fn anchor_patiently(count: NonZeroU32, flags: BindFlags) -> Result<Anchored, StartError> {
    let start = Instant::now();
    loop {
        match anchor_in_own_namespace(count, flags) {
            Err(StartError::Anchor { source })
                if source.raw_os_error() == Some(libc::EBUSY) && start.elapsed() < BUSY_WAIT =>
            {
                std::thread::sleep(Duration::from_millis(10));
            }
            other => return other,
        }
    }
}

fn register(count: NonZeroU32) -> Result<(Umem, Vec<FrameDesc>), StartError> {
    let pool = |source: io::Error| StartError::Pool {
        frames: count.get(),
        mib: (u64::from(count.get()) * FRAME_SIZE as u64) >> 20,
        source,
    };
    let config = UmemConfig::builder()
        .frame_size(FrameSize::new(FRAME_SIZE as u32).map_err(|error| pool(io::Error::other(error)))?)
        .fill_queue_size(ring_size().map_err(pool)?)
        .comp_queue_size(ring_size().map_err(pool)?)
        .build()
        .map_err(|error| pool(io::Error::other(error)))?;
    Umem::new(config, count, false).map_err(|error| pool(os_error(&error)))
}

fn ring_size() -> io::Result<QueueSize> {
    QueueSize::new(RING_SIZE).map_err(io::Error::other)
}

/// The errno that xsk-rs wrapped.
fn os_error(error: &(dyn std::error::Error + 'static)) -> io::Error {
    match error.source().and_then(|source| source.downcast_ref::<io::Error>()).and_then(io::Error::raw_os_error) {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::other(error.to_string()),
    }
}

/// Where chunk 0 begins.
fn base_of(umem: &Umem, descs: &mut [FrameDesc]) -> Result<NonNull<u8>, StartError> {
    let first = descs.first_mut().ok_or(StartError::Invalid { what: "a pool of 0 frames" })?;
    let offset = first.addr();
    // SAFETY: the descriptor is of this UMEM, and nobody else knows the memory yet.
    let mut data = unsafe { umem.data_mut(first) };
    data.cursor().set_pos(1);
    let start = data.contents_mut().as_mut_ptr().expose_provenance() - offset;
    first_chunk_is_plain(offset)?;
    // The slice covers one chunk; the whole mapping came from mmap, so its address alone names it.
    NonNull::new(std::ptr::with_exposed_provenance_mut(start)).ok_or(StartError::Invalid { what: "a null UMEM" })
}

fn first_chunk_is_plain(offset: usize) -> Result<(), StartError> {
    if offset == FRAME_HEADROOM {
        return Ok(());
    }
    Err(StartError::Invalid { what: "a packet headroom that differs from XDP_PACKET_HEADROOM" })
}

/// Creates a socket on `interface` and `queue` and binds it. `flags` count for the first socket of a UMEM only:
/// the others inherit its mode.
pub(super) fn bind(umem: &Umem, interface: &str, queue: u32, flags: BindFlags) -> io::Result<Queues> {
    let config = SocketConfig::builder()
        .rx_queue_size(ring_size()?)
        .tx_queue_size(ring_size()?)
        .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
        .xdp_flags(XdpFlags::empty())
        .bind_flags(flags)
        .build();
    let name = interface.parse().map_err(io::Error::other)?;
    // SAFETY: libxdp loads no program (the inhibit flag is set), which is what the contract asks for.
    let (tx, rx, rings) = unsafe { Socket::new(config, umem, &name, queue) }.map_err(|error| os_error(&error))?;
    // libxdp does not ask for it. A child that inherited the socket would keep it bound, and its chunks in the
    // kernel's hands, after we closed it.
    // SAFETY: a plain call on the socket that `rx` holds open.
    if unsafe { libc::fcntl(rx.fd().as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let (fill, done) = rings.ok_or_else(|| io::Error::from_raw_os_error(libc::EBUSY))?;
    Ok(Queues { tx, rx, fill, done })
}

/// [`bind`], waiting for up to `patience` while the kernel still releases the queue of an owner that was killed or
/// closed.
pub(super) fn bind_patiently(umem: &Umem, interface: &str, queue: u32, patience: Duration) -> io::Result<Queues> {
    let start = Instant::now();
    loop {
        match bind(umem, interface, queue, BindFlags::empty()) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && start.elapsed() < patience => {
                std::thread::sleep(Duration::from_millis(2));
            }
            other => return other,
        }
    }
}
