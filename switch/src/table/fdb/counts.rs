//! How many entries the table holds, per port and in all: reserved before an entry is published,
//! given back after it is gone, so that no limit is ever exceeded. Any thread.
//!
//! Exact while no call is under way. Only learning, moving and deleting write here; known traffic
//! does not, and an address refused at a limit reads only.

use super::sync::{AtomicU32, Ordering};
use crate::ids::PortId;
use crate::limits::PORTS_MAX;

/// The model checker pays for every atomic, so it gets few ports.
const PORTS: usize = if cfg!(loom) { 4 } else { PORTS_MAX };

/// Entry counts of one table.
pub(super) struct Counts {
    dynamic: AtomicU32,
    fixed: AtomicU32,
    ports: Box<[AtomicU32]>,
}

impl Counts {
    pub(super) fn new() -> Counts {
        Counts {
            dynamic: AtomicU32::new(0),
            fixed: AtomicU32::new(0),
            ports: (0..PORTS).map(|_| AtomicU32::new(0)).collect(),
        }
    }

    pub(super) fn dynamic(&self) -> u32 {
        self.dynamic.load(Ordering::Relaxed)
    }

    pub(super) fn fixed(&self) -> u32 {
        self.fixed.load(Ordering::Relaxed)
    }

    /// Dynamic entries behind `port`.
    pub(super) fn port(&self, port: PortId) -> u32 {
        self.ports.get(port.index()).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Makes room for one dynamic entry in all; false at `max`.
    pub(super) fn take_dynamic(&self, max: u32) -> bool {
        take(&self.dynamic, max)
    }

    /// Gives back a dynamic entry's room.
    pub(super) fn give_dynamic(&self) {
        self.dynamic.fetch_sub(1, Ordering::Relaxed);
    }

    /// Makes room for one dynamic entry behind `port`; false at `max`.
    pub(super) fn take_port(&self, port: PortId, max: u32) -> bool {
        self.ports.get(port.index()).is_some_and(|count| take(count, max))
    }

    /// Gives back a dynamic entry's room behind `port`.
    pub(super) fn give_port(&self, port: PortId) {
        if let Some(count) = self.ports.get(port.index()) {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Makes room for one static, sticky or local entry; false at `max`.
    pub(super) fn take_fixed(&self, max: u32) -> bool {
        take(&self.fixed, max)
    }

    /// Gives back a fixed entry's room.
    pub(super) fn give_fixed(&self) {
        self.fixed.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Adds one below `max`. An add-then-check would refuse others while it stood above the limit.
fn take(count: &AtomicU32, max: u32) -> bool {
    let mut seen = count.load(Ordering::Relaxed);
    while seen < max {
        match count.compare_exchange_weak(seen, seen + 1, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return true,
            Err(now) => seen = now,
        }
    }
    false
}
