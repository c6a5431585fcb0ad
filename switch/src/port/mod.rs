//! How frames enter and leave the switch.
//!
//! A [`Port`] is one receive/transmit queue pair of an interface, driven by one worker. Frames pass from port
//! to port as tokens of one shared pool, never by copy. `afxdp` is the real one; `mem` connects a
//! test to the switch, `pcap` reads and writes capture files, `fault` wraps any of them and misbehaves.

pub mod afxdp;
pub mod fault;
pub mod mem;
pub mod pcap;
mod pool;

use std::io;
use std::os::fd::BorrowedFd;

use arrayvec::ArrayVec;

pub use afxdp::prefer_huge;
pub use afxdp::region::{Frame, Region, Segments};
pub use pool::{FramePool, SharedPool};

use crate::limits::BURST;

/// Frames on their way from or to a port.
pub type Frames = ArrayVec<Frame, BURST>;

/// What one [`Port::service`] did.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Service {
    /// Frames still waiting in the transmit ring: call again soon.
    pub unsent: u32,
    /// Frames that the far side refused since the last call (they came back to the pool).
    pub refused: u32,
    /// Frames that came back from transmission.
    pub completed: u32,
}

/// Why a port can no longer be used.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// The interface was deleted or the socket unbound (ENXIO, ENETDOWN with the device gone).
    #[error("the interface is gone")]
    Gone,
    /// Anything else the kernel said.
    #[error("transmit failed: {0}")]
    Io(#[from] io::Error),
}

/// Counters kept by the kernel for a socket (`XDP_STATISTICS`, net/xdp/xsk.c), cumulative.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct KernelCounters {
    /// Frames lost because the fill ring was empty or the frame did not fit.
    pub rx_dropped: u64,
    /// Frames lost because the receive ring was full.
    pub rx_ring_full: u64,
    /// Times the fill ring was found empty (these are in `rx_dropped` too).
    pub rx_fill_ring_empty: u64,
    /// Transmit descriptors the kernel refused.
    pub tx_invalid: u64,
}

/// One receive/transmit queue pair. Called by the worker that owns it, and by the control thread before
/// it is handed over and after it came back.
pub trait Port: Send {
    /// Appends received packets to `out`, at most as many as it has room for.
    fn rx(&mut self, pool: &mut FramePool, out: &mut Frames);

    /// Takes packets for transmission from the front of `frames`, in order, leaving what does not fit.
    /// They leave at the next [`Port::service`].
    fn tx(&mut self, pool: &mut FramePool, frames: &mut Frames);

    /// Sends what waits, takes back what was sent, refills the receive side. Cheap when there is
    /// nothing to do.
    fn service(&mut self, pool: &mut FramePool) -> Result<Service, PortError>;

    /// Readable when packets wait; what an idle worker sleeps on.
    fn fd(&self) -> Option<BorrowedFd<'_>>;

    /// Frame references the port holds: in the fill ring, received but not taken, being transmitted.
    fn held(&self) -> usize;

    /// What the kernel counted.
    fn kernel_counters(&self) -> KernelCounters {
        KernelCounters::default()
    }

    /// Sets how many frames may wait in the fill ring. Frames in it already stay.
    fn set_fill_target(&mut self, _frames: u32) {}

    /// Closes the port and gives back every frame it held. May block: for the control thread and its closing threads,
    /// or for a worker that ends. Several ports may close at the same time.
    fn close(self: Box<Self>) -> Vec<Frame>;
}

/// An interface to attach.
#[derive(Clone, Debug)]
pub struct PortSpec {
    /// Interface name in the switch's own network namespace.
    pub interface: String,
    /// Its index.
    pub ifindex: u32,
    /// Most frames to keep in each queue's fill ring.
    pub fill_target: u32,
    /// Wait for a queue that its last owner, killed or closed, may not have let go of yet.
    pub patient: bool,
}

/// What attaching did and could not do, for the operator.
#[derive(Clone, Debug, Default)]
pub struct AttachReport {
    /// The far end, when it could be found: `eth0 in namespace web`.
    pub peer: Option<String>,
    /// Receive queues opened.
    pub queues: usize,
    /// Kernel memory that the sockets cost, in bytes (estimate).
    pub kernel_bytes: u64,
    /// One line for everything that was worked around or could not be set, with the command that would.
    pub notes: Vec<String>,
}

/// Settings of an attached interface that end with it; dropping it detaches and undoes them.
/// Control thread, and the closing thread that drops it; may block.
pub trait Attachment: Send {
    /// Moves the kernel's receive work of this interface to a thread of its own (`true`: throughput)
    /// or back to the sender's core (`false`: latency). Never called, it leaves the interface as it is; called, what
    /// was set before returns when the attachment ends.
    fn set_threaded(&mut self, threaded: bool) -> io::Result<()>;

    /// Has the container's kernel take in what one burst sent as a batch (GRO), on the core of the worker that sends:
    /// `cores[i]` for queue i. Called again after the link came up; undone when the attachment ends. Only with the
    /// feature [`CONTAINER_GRO`], and while the link is up. `false` if somebody turned GRO off in the container since
    /// the first call: it stays off then.
    ///
    /// # Errors
    /// The container is as it was before the first call then.
    fn merge_at_container(&mut self, cores: &[usize]) -> io::Result<bool>;

    /// Whether it still does: the kernel forgets where its threads were to run when a link comes up, and the container
    /// may set GRO itself. Reads a file per queue.
    fn merges_at_container(&self) -> bool;
}

/// An attached interface.
pub struct Opened {
    /// One port per receive queue, in queue order.
    pub queues: Vec<Box<dyn Port>>,
    /// Ends the attachment when dropped.
    pub attachment: Box<dyn Attachment>,
    /// For the operator.
    pub report: AttachReport,
}

/// Why an interface could not be attached.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No such interface (it may have just gone): wait for it.
    #[error("{0}: no such interface")]
    Missing(String),
    /// One clear line: what, why, how to mend it.
    #[error("{0}")]
    Refused(String),
}

/// Attaches interfaces. Owned by the control thread.
pub trait PortFactory: Send {
    /// Attaches one interface. May block for milliseconds.
    fn open(&mut self, spec: &PortSpec) -> Result<Opened, OpenError>;

    /// Kernel features that were probed: name, present, what is done without it.
    fn features(&self) -> Vec<Feature>;
}

/// Name of the [`Feature`] behind [`Attachment::set_threaded`], which matters only where that is used.
pub const THREADED_NAPI: &str = "threaded-napi";

/// Name of the [`Feature`] behind [`Attachment::merge_at_container`].
pub const CONTAINER_GRO: &str = "container-gro";

/// A probed kernel feature.
#[derive(Clone, Debug)]
pub struct Feature {
    /// Short name, for example `multi-buffer`.
    pub name: &'static str,
    /// Whether the running kernel has it.
    pub present: bool,
    /// What the switch does without it.
    pub without: &'static str,
}
