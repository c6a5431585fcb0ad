//! The *socket* load: AF_XDP transmit in copy mode. Every frame becomes an skb and crosses the veth one by one, as a
//! frame sent by a program in the container would.

use super::pace::Pace;
use super::{Job, Load, Macs, Sent, Watch, fault, frame};
use crate::error::Result;
use crate::netns;
use crate::sink::now_ns;
use rustix::time::ClockId;
use std::fmt::Display;
use std::io::Write;
use std::num::NonZeroU32;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use xsk_rs::config::{
    BindFlags, FrameSize, Interface, LibxdpFlags, QueueSize, SocketConfig, SocketConfigBuilder, UmemConfig,
    UmemConfigBuilder,
};
use xsk_rs::umem::frame::FrameDesc;
use xsk_rs::{CompQueue, FillQueue, RxQueue, Socket, TxQueue, Umem};

/// Frames handed over per system call.
const BURST: usize = 64;
/// Frames of the pool; also the size of the transmit and completion rings, so that neither can overflow.
pub const FRAMES: u32 = 2048;
/// Bytes per frame in the pool; the kernel's smallest chunk.
const CHUNK: u32 = 2048;
/// `XDP_MAX_TX_SKB_BUDGET` (include/uapi/linux/if_xdp.h, 6.17): frames sent per system call.
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;
/// Send buffer wanted, bytes: the default keeps fewer than 100 frames in flight.
const SEND_BUFFER: libc::c_int = 8 << 20;
/// How long the kernel may take to let go of the interface after an earlier socket there was closed: it does that in a
/// work item, which waits for the other work of a busy core.
const BUSY_LIMIT: Duration = Duration::from_secs(5);
const BUSY_STEP: Duration = Duration::from_millis(20);
/// How long to wait at the end for the ring to empty.
const DRAIN_LIMIT: Duration = Duration::from_millis(500);

/// A transmit-only AF_XDP socket and its pool of frames.
struct Sender {
    tx: TxQueue,
    completed: CompQueue,
    /// Descriptor of every frame of the pool, in order of address.
    template: Vec<FrameDesc>,
    /// Frames in our hands.
    free: Vec<FrameDesc>,
    /// Frames to send in turn, each with what a stamp adds to its checksum.
    models: Vec<(Vec<u8>, u32)>,
    /// Addresses to write into each.
    macs: Macs,
    umem: Umem,
    /// Kept for their Drop only: libxdp wants every ring alive until the socket is gone.
    _rest: (RxQueue, FillQueue),
}

/// Runs the load on the calling thread, which must be in the job's namespace.
///
/// # Errors
/// [`crate::error::Error::Generator`] when the socket is refused or a send fails for good.
pub fn send(job: &Job) -> Result<Sent> {
    send_all(std::slice::from_ref(job))
}

/// Runs several loads in turn, a burst of each, on the calling thread. It moves from namespace to namespace to open a
/// socket in each. The frames of the result are those of all.
///
/// # Errors
/// As [`send`].
pub fn send_all(jobs: &[Job]) -> Result<Sent> {
    let mut runs = Vec::new();
    for job in jobs {
        if jobs.len() > 1 {
            netns::enter(&job.netns)?;
        }
        runs.push(Run { job, sender: Sender::open(job)?, pace: Pace::new(job.rate_pps, job.time), submitted: 0 });
    }
    let watch = Watch::start();
    let mut going = true;
    while going {
        going = false;
        for run in &mut runs {
            going |= run.step(watch.elapsed())?;
        }
    }
    let sent = watch.sent(0);
    let mut frames = 0;
    for run in runs {
        frames += run.finish()?;
    }
    Ok(Sent { frames, ..sent })
}

/// A load that is running.
struct Run<'a> {
    job: &'a Job,
    sender: Sender,
    pace: Pace,
    submitted: u64,
}

impl Run<'_> {
    /// Sends what is due, a burst at most; says whether there is more to come.
    fn step(&mut self, elapsed: Duration) -> Result<bool> {
        let left = self.job.left(self.submitted);
        let due = self.pace.due(elapsed, self.submitted, BURST);
        let Some(due) = due.filter(|_| left > 0 && !self.job.stop.raised()) else { return Ok(false) };
        self.sender.reclaim();
        self.submitted += self.sender.submit(left.min(due as u64) as usize, self.submitted) as u64;
        self.sender.kick()?;
        self.job.sent.store(self.submitted, Ordering::Relaxed);
        Ok(true)
    }

    /// Waits for the last frames; returns how many were sent.
    fn finish(mut self) -> Result<u64> {
        let frames = self.submitted - u64::from(self.sender.drain()?);
        self.job.sent.store(frames, Ordering::Relaxed);
        Ok(frames)
    }
}

impl Sender {
    fn open(job: &Job) -> Result<Self> {
        let deadline = Instant::now() + BUSY_LIMIT;
        loop {
            if let Some(sender) = Self::try_open(job, Instant::now() < deadline)? {
                return Ok(sender);
            }
            std::thread::sleep(BUSY_STEP);
        }
    }

    /// `None` when another socket still has the interface's queue; without patience that is an error. A pool whose
    /// socket was refused is not used again.
    fn try_open(job: &Job, patient: bool) -> Result<Option<Self>> {
        let interface: Interface = job.interface.parse().map_err(bad)?;
        let frames = NonZeroU32::new(FRAMES).ok_or_else(|| bad("empty pool"))?;
        let (umem, mut template) = Umem::new(pool_config()?, frames, false).map_err(bad)?;
        let first = job.frames.first().ok_or_else(|| bad("no frame to send"))?;
        for desc in &mut template {
            // SAFETY: the descriptor was made by this pool and no socket exists yet, so nobody else sees the frame.
            let (_, mut data) = unsafe { umem.frame_mut(desc) };
            data.cursor().write_all(first).map_err(bad)?;
        }
        // SAFETY: the first socket of this pool, and libxdp loads no program (the flag is set in socket_config).
        let (tx, rx, rings) = match unsafe { Socket::new(socket_config()?, &umem, &interface, 0) } {
            Err(e) if patient && is_busy(&e) => return Ok(None),
            answer => answer.map_err(|e| bad(chain(&e)))?,
        };
        let (fill, completed) = rings.ok_or_else(|| bad("no completion ring"))?;
        let fd = tx.fd().as_raw_fd();
        set_option(fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, SEND_BUFFER).map_err(bad)?;
        // Absent before 6.17: then 32 frames go per call, which costs a little and changes nothing else.
        let _ = set_option(fd, libc::SOL_XDP, XDP_MAX_TX_SKB_BUDGET, BURST as libc::c_int);
        let free = template.clone();
        let models = job.frames.iter().map(|frame| (frame.clone(), frame::checksum_base(frame))).collect();
        Ok(Some(Sender { tx, completed, template, free, models, macs: job.macs, umem, _rest: (rx, fill) }))
    }

    /// Takes back the frames the kernel has finished with.
    fn reclaim(&mut self) {
        let mut done = [FrameDesc::default(); BURST];
        loop {
            // SAFETY: the ring belongs to the pool all our descriptors come from.
            let n = unsafe { self.completed.consume(&mut done) };
            for desc in done.iter().take(n) {
                // A completion carries the address only; the template has the length as well.
                if let Some(full) = self.template.get(desc.addr() / CHUNK as usize) {
                    self.free.push(*full);
                }
            }
            if n < BURST {
                return;
            }
        }
    }

    /// Queues up to `count` frames, numbered from `sequence` on and stamped with the present time; returns how many.
    fn submit(&mut self, count: usize, sequence: u64) -> usize {
        let first = self.free.len() - count.min(self.free.len());
        let Some(batch) = self.free.get_mut(first..) else { return 0 };
        let now_ns = now_ns(ClockId::Monotonic);
        let mut turn = sequence as usize % self.models.len().max(1);
        for (sequence, desc) in (sequence..).zip(batch.iter_mut()) {
            let Some((model, checksum_base)) = self.models.get(turn) else { return 0 };
            // SAFETY: the descriptor is of this pool and free, so nobody else sees the frame.
            let mut data = unsafe { self.umem.data_mut(desc) };
            if self.models.len() > 1 {
                // The frame was of another length when it was sent last. Behind the stamp all of them are zero.
                data.cursor().set_pos(model.len());
                data.contents_mut()[..frame::STAMP_END].copy_from_slice(&model[..frame::STAMP_END]);
                turn = if turn + 1 == self.models.len() { 0 } else { turn + 1 };
            }
            self.macs.write(data.contents_mut(), sequence as u32);
            frame::stamp(data.contents_mut(), *checksum_base, sequence as u32, now_ns);
        }
        let Some(batch) = self.free.get(first..) else { return 0 };
        // SAFETY: these frames are free, so only this call hands them to the kernel.
        let queued = unsafe { self.tx.produce(batch) };
        self.free.drain(first..first + queued);
        queued
    }

    /// Makes the kernel send. What it leaves in the ring goes with the next call.
    fn kick(&mut self) -> Result<()> {
        if self.queued() == 0 {
            return Ok(());
        }
        self.tx.wakeup().map_err(|e| fault(Load::Socket, format!("send: {e}")))
    }

    fn queued(&mut self) -> u32 {
        FRAMES - self.tx.nb_free_exact().min(FRAMES)
    }

    /// Sends what is queued; returns how many frames could not be sent in time.
    fn drain(&mut self) -> Result<u32> {
        let deadline = Instant::now() + DRAIN_LIMIT;
        while self.queued() > 0 && Instant::now() < deadline {
            self.reclaim();
            self.kick()?;
        }
        Ok(self.queued())
    }
}

fn pool_config() -> Result<UmemConfig> {
    let size = QueueSize::new(FRAMES).map_err(bad)?;
    UmemConfigBuilder::new()
        .frame_size(FrameSize::new(CHUNK).map_err(bad)?)
        .fill_queue_size(size)
        .comp_queue_size(size)
        .build()
        .map_err(bad)
}

fn socket_config() -> Result<SocketConfig> {
    let size = QueueSize::new(FRAMES).map_err(bad)?;
    Ok(SocketConfigBuilder::new()
        .tx_queue_size(size)
        .rx_queue_size(size)
        .bind_flags(BindFlags::XDP_COPY | BindFlags::XDP_USE_NEED_WAKEUP)
        .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
        .build())
}

fn set_option(fd: RawFd, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> std::io::Result<()> {
    let size = std::mem::size_of_val(&value) as libc::socklen_t;
    // SAFETY: the pointer and size describe `value`, which lives across the call; the kernel only reads it.
    let answer = unsafe { libc::setsockopt(fd, level, name, std::ptr::from_ref(&value).cast(), size) };
    if answer == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

fn bad(why: impl Display) -> crate::error::Error {
    fault(Load::Socket, format!("AF_XDP socket: {why}"))
}

/// Whether another socket still has the interface's queue.
fn is_busy(error: &(dyn std::error::Error + 'static)) -> bool {
    let causes = std::iter::successors(Some(error), |e| e.source());
    let mut numbers = causes.filter_map(|e| e.downcast_ref::<std::io::Error>()?.raw_os_error());
    numbers.any(|number| number == libc::EBUSY)
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |e| e.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
