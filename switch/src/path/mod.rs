//! What happens to a burst: the stages in call order, one file each.
//!
//! Every stage takes the worker's [`Ctx`] and the [`Burst`] and fills in or reads each lane's [`Meta`]
//! and [`Verdict`]. After `route` every lane has a final verdict; `output` acts on it. Stages run on
//! the worker's thread: no lock, no allocation, no system call, no panic; time comes in as `now_s`.

pub mod admit;
pub mod burst;
pub mod checksum;
pub mod forward;
pub mod learn;
pub mod listen;
pub mod output;
pub mod parse;
pub mod punt;
pub mod route;
pub mod transport;
pub mod vlan;

pub use burst::{Asides, Burst, Lane, Meta, TxStage, Verdict};
use crossbeam::queue::ArrayQueue;
pub use punt::{Aside, Complaint, HostQueues, Injected, Punt, PuntKind, Why, leave};
pub use route::Redirects;

use crate::ids::PortId;
use crate::port::FramePool;
use crate::stats::WorkerStats;
use crate::table::fdb::Fdb;
use crate::table::router::RouterTables;
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
    /// The router's tables.
    pub router: &'a RouterTables,
    /// What is left for the switch as a host.
    pub host: &'a HostQueues,
    /// What this worker is to send in a later turn.
    pub again: &'a ArrayQueue<Injected>,
    /// How many redirects it may still ask for.
    pub redirects: &'a mut Redirects,
    /// Port that the burst came from.
    pub ingress: PortId,
    /// Set when something was left for the host.
    pub punted: &'a mut bool,
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
    listen::listen(ctx, burst);
    route::route(ctx, burst);
    output::output(ctx, burst);
}

/// Takes frames that the router sends through what is left to do: they are admitted to `domain`, nobody learns
/// from them and the host has no interest in them. `burst.ingress` is [`PortId::ROUTER`].
pub fn process_injected(ctx: &mut Ctx<'_>, burst: &mut Burst, domains: &[crate::ids::DomainId]) {
    parse::parse(ctx, burst);
    for (lane, domain) in burst.lanes().iter_mut().zip(domains) {
        lane.admit(*domain, ctx.fdb);
        lane.meta.routed = true;
    }
    forward::forward(ctx, burst);
    output::output(ctx, burst);
}
