//! What happens to a burst: the stages in call order, one file each.
//!
//! Every stage takes the worker's [`Ctx`] and the [`Burst`] and fills in or reads each lane's [`Meta`]
//! and [`Verdict`]. After `forward` every lane has a final verdict; `output` acts on it. Stages run on
//! the worker's thread: no lock, no allocation, no system call, no panic; time comes in as `now_s`.

pub mod admit;
pub mod burst;
pub mod checksum;
pub mod forward;
pub mod learn;
pub mod output;
pub mod parse;
pub mod transport;
pub mod vlan;

pub use burst::{Burst, Lane, Meta, TxStage, Verdict};

use crate::port::FramePool;
use crate::stats::WorkerStats;
use crate::table::fdb::Fdb;
use crate::table::snapshot::Snapshot;

/// What the stages work with, borrowed from the worker for one burst.
pub struct Ctx<'a> {
    /// The worker's end of the frame pool.
    pub pool: &'a mut FramePool,
    /// The configuration.
    pub view: &'a Snapshot,
    /// The forwarding database.
    pub fdb: &'a Fdb,
    /// The worker's counters.
    pub stats: &'a WorkerStats,
    /// Where output puts frames, by egress port.
    pub tx: &'a mut TxStage,
    /// Seconds on the worker's clock.
    pub now_s: u32,
}

/// Takes a burst through every stage. A feature is a file and a line here.
#[inline]
pub fn process(ctx: &mut Ctx<'_>, burst: &mut Burst) {
    parse::parse(ctx, burst);
    admit::admit(ctx, burst);
    learn::learn(ctx, burst);
    forward::forward(ctx, burst);
    output::output(ctx, burst);
}
