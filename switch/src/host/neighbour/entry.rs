//! One neighbour.

use std::collections::VecDeque;

use super::NeighbourRow;
use crate::ids::{DomainId, Mac, PortId};
use crate::port::Frame;
use crate::table::neighbour::{NeighbourKey, NeighbourSlot};

/// What is known of a neighbour (RFC 4861 7.3.2; names as `ip neigh` has them).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Its MAC address is being asked for.
    Incomplete,
    /// It answered a short time ago.
    Reachable,
    /// Its MAC address is known, but not whether it is still there.
    Stale,
    /// As before, and somebody uses it: it will be asked.
    Delay,
    /// It is being asked.
    Probe,
    /// Nobody answered.
    Failed,
    /// Set by the operator.
    Permanent,
}

impl State {
    /// The state's name, as `ip neigh` writes it.
    pub const fn name(self) -> &'static str {
        match self {
            State::Incomplete => "INCOMPLETE",
            State::Reachable => "REACHABLE",
            State::Stale => "STALE",
            State::Delay => "DELAY",
            State::Probe => "PROBE",
            State::Failed => "FAILED",
            State::Permanent => "PERMANENT",
        }
    }
}

/// A packet that waits for its next hop's MAC address.
#[derive(Debug)]
pub(in crate::host) struct Waiting {
    /// Complete but for its destination MAC address.
    pub frame: Frame,
    /// Where it came from.
    pub port: PortId,
    /// Where it came from.
    pub domain: DomainId,
}

impl Waiting {
    /// Pool frames that it spans.
    pub fn frames(&self) -> usize {
        self.frame.segments()
    }
}

/// One neighbour.
#[derive(Debug)]
pub(in crate::host) struct Entry {
    pub key: NeighbourKey,
    pub slot: NeighbourSlot,
    pub state: State,
    pub mac: Option<Mac>,
    /// Next hops that refer to it.
    pub held: u32,
    /// It answered at least once: evicted after those that only ever spoke of themselves.
    pub proved: bool,
    /// It said that it is a router.
    pub router: bool,
    /// When its state began.
    pub since_ns: u64,
    /// When something has to be done about it.
    pub due_ns: Option<u64>,
    /// When it was last asked for.
    pub asked_ns: Option<u64>,
    /// Questions in this state.
    pub asks: u8,
    pub waiting: VecDeque<Waiting>,
    /// What the packet path was told.
    pub published: (Option<Mac>, bool),
}

impl Entry {
    pub fn new(key: NeighbourKey, slot: NeighbourSlot, now_ns: u64) -> Entry {
        Entry {
            key,
            slot,
            state: State::Failed,
            mac: None,
            held: 0,
            proved: false,
            router: false,
            since_ns: now_ns,
            due_ns: None,
            asked_ns: None,
            asks: 0,
            waiting: VecDeque::new(),
            published: (None, false),
        }
    }

    /// Enters a state.
    pub fn become_(&mut self, state: State, now_ns: u64, due_ns: Option<u64>) {
        self.state = state;
        self.since_ns = now_ns;
        self.due_ns = due_ns;
        // A new stale period wants to be told of its first use, whatever became of the last one's.
        if state == State::Stale {
            self.published.1 = false;
        }
    }

    /// What the packet path may know: the MAC address, and whether it is to tell of the next use.
    pub fn visible(&self) -> (Option<Mac>, bool) {
        (self.mac, self.state == State::Stale && self.mac.is_some())
    }

    pub fn row(&self, now_ns: u64) -> NeighbourRow {
        NeighbourRow {
            key: self.key,
            state: self.state,
            mac: self.mac,
            held: self.held,
            router: self.router,
            since_ns: now_ns.saturating_sub(self.since_ns),
            waiting: self.waiting.len(),
        }
    }
}
