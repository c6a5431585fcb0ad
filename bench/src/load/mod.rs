//! The traffic generators. Each runs on a thread of its own inside namespace A, pinned to the traffic core, and sends
//! through a0 until its time is over. (The directory is not called `gen` because that word is reserved.)
//!
//! Every frame has a sequence number and the time of its sending ([`frame`]). Unsafe code stands in [`socket`], which
//! drives AF_XDP rings; [`flood`] runs a program of [`crate::bpf`].

pub mod address;
pub mod flood;
pub mod frame;
pub mod pace;
pub mod pktgen;
pub mod size;
pub mod socket;

pub use address::Macs;
pub use size::{Size, Sizes};

use crate::error::{Error, Result};
use crate::netns;
use crate::stop::Stop;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Load {
    /// AF_XDP transmit on the container's interface: every frame becomes an skb, as a container's own would.
    Socket,
    /// Live XDP frames redirected into the container's interface: several times what any device can take.
    Flood,
    /// The kernel's own packet generator: an skb per frame, made in the kernel, without a socket.
    Pktgen,
}

impl Job {
    /// Frames that may still be sent when `sent` are gone.
    fn left(&self, sent: u64) -> u64 {
        self.count.map_or(u64::MAX, |count| count.saturating_sub(sent))
    }
}

impl Load {
    /// Name in options, tables and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Load::Socket => "socket",
            Load::Flood => "flood",
            Load::Pktgen => "pktgen",
        }
    }

    /// Checks that the kernel can offer it.
    ///
    /// # Errors
    /// [`Error::Absent`] with what is missing.
    pub fn available(self) -> Result<()> {
        match self {
            Load::Socket | Load::Flood => Ok(()),
            Load::Pktgen => pktgen::available(),
        }
    }

    /// The clock of the time stamps in its frames.
    pub fn clock(self) -> frame::Clock {
        match self {
            Load::Socket | Load::Flood => frame::Clock::MonotonicNs,
            Load::Pktgen => frame::Clock::RealtimeUs,
        }
    }

    /// Sequence number of its first frame.
    pub fn first_sequence(self) -> u32 {
        match self {
            Load::Socket | Load::Flood => 0,
            Load::Pktgen => 1,
        }
    }

    /// Lowest rate it can keep, frames per second.
    pub fn rate_min(self) -> f64 {
        match self {
            Load::Socket | Load::Pktgen => 0.0,
            Load::Flood => flood::RATE_MIN,
        }
    }

    /// Fails when the load cannot send frames of these lengths.
    ///
    /// # Errors
    /// [`Error::Generator`] for a mix, except of the socket load.
    pub fn check_size(self, size: Size) -> Result<()> {
        match (self, size) {
            (Load::Flood | Load::Pktgen, Size::Imix) => {
                Err(fault(self, "the kernel's generators send frames of one length; use socket load"))
            }
            _ => Ok(()),
        }
    }
}

/// The loads of `wanted` that this kernel can offer; the others are named on stderr and skipped.
///
/// # Errors
/// [`Error::Absent`] when none is left.
pub fn present(wanted: &[Load]) -> Result<Vec<Load>> {
    let mut there = Vec::new();
    for load in wanted {
        match load.available() {
            Ok(()) => there.push(*load),
            Err(absent) => eprintln!("skipped: {absent}"),
        }
    }
    if there.is_empty() {
        return Err(Error::Absent { device: "every load", why: "nothing to offer; choose with --load".into() });
    }
    Ok(there)
}

/// What a generator shall do.
#[derive(Clone, Debug)]
pub struct Job {
    /// Namespace of the interface.
    pub netns: String,
    /// Core to run on.
    pub core: usize,
    /// Interface to send through.
    pub interface: &'static str,
    /// Its index in that namespace.
    pub index: u32,
    /// The frames to send in turn, without checksum (FCS); not empty.
    pub frames: Vec<Vec<u8>>,
    /// Frames per second; `None` for as many as possible.
    pub rate_pps: Option<f64>,
    /// Addresses that frames get before they are sent.
    pub macs: Macs,
    /// How long to send.
    pub time: Duration,
    /// Ends the job when this many frames are sent; then `time` is no more than a limit.
    pub count: Option<u64>,
    /// Ends the job early.
    pub stop: Stop,
    /// Frames handed to the kernel so far, readable from other threads meanwhile.
    pub sent: Arc<AtomicU64>,
}

/// What a generator did.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// Frames the kernel took.
    pub frames: u64,
    /// From the first to the last of them.
    pub time: Duration,
    /// Processor time of the generator's thread over that time, 0..=1: what is missing to 1 went to other programs.
    pub cpu: f64,
}

/// Wall and processor time of the calling thread since it was made.
struct Watch {
    wall: Instant,
    cpu: Duration,
}

impl Watch {
    fn start() -> Self {
        Watch { wall: Instant::now(), cpu: thread_time() }
    }

    fn elapsed(&self) -> Duration {
        self.wall.elapsed()
    }

    /// The result of a generator that sent `frames` until now.
    fn sent(&self, frames: u64) -> Sent {
        let time = self.elapsed();
        let cpu = thread_time().saturating_sub(self.cpu).as_secs_f64() / time.as_secs_f64().max(1e-9);
        Sent { frames, time, cpu }
    }
}

fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// Starts the generator of `load` on a thread of its own.
///
/// # Errors
/// [`Error::Io`] when there is no thread to be had; what goes wrong later is the thread's result.
pub fn start(load: Load, job: Job) -> Result<JoinHandle<Result<Sent>>> {
    let (netns, core) = (job.netns.clone(), job.core);
    netns::spawn(&netns, Some(core), move || match load {
        Load::Socket => socket::send(&job),
        Load::Flood => flood::send(&job),
        Load::Pktgen => pktgen::send(&job),
    })
}

/// Runs socket loads of several stations on one thread, a burst of each in turn, so that all of them send at any moment
/// although they share one core. Namespace and core are those of the first job.
///
/// # Errors
/// As [`start`] and [`socket::send`].
pub fn send_together(jobs: Vec<Job>) -> Result<Sent> {
    let Some(first) = jobs.first() else { return Err(fault(Load::Socket, "no job")) };
    let (netns, core) = (first.netns.clone(), first.core);
    netns::run(&netns, Some(core), move || socket::send_all(&jobs))
}

/// A [`Error::Generator`] of `load`.
fn fault(load: Load, why: impl std::fmt::Display) -> Error {
    Error::Generator { load: load.name(), why: why.to_string() }
}
