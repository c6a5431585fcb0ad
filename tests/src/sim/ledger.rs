//! The books of a simulation: what the reference says must come out of each port, against what did.
//!
//! Frames are named by their last eight bytes, the high sixteen bits of which say which tap they came in by. Books
//! are kept per egress port and tap, since order is promised between the frames of one source only; in exact runs
//! (one worker, no faults) all taps share one column, and nothing may be missing.
//!
//! Order is promised while the route to the egress port stands. When the port is attached anew at another worker, a
//! frame on its old route goes round by the former worker and may be overtaken, but neither doubled nor lost unseen.

use std::collections::{HashMap, VecDeque};

use switch::ids::PortId;
use switch::stats::{Drop, PortStats};

use super::random::ID_LEN;
use crate::reference::{Lesson, Outcome};

/// Reasons for which a frame that should have left did not, with faults or several workers.
const ON_THE_WAY_OUT: [Drop; 5] =
    [Drop::TxRingFull, Drop::TxRefused, Drop::PoolExhausted, Drop::HandoffFull, Drop::TxPortDown];

/// The name of a frame from tap `tap`.
pub fn name(tap: usize, serial: u64) -> u64 {
    (tap as u64) << 48 | serial
}

fn tap_of(frame: &[u8]) -> usize {
    let name = frame.last_chunk::<ID_LEN>().map_or(0, |id| u64::from_be_bytes(*id));
    (name >> 48) as usize
}

/// Counters of one port, summed over workers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    rx_packets: u64,
    rx_bytes: u64,
    tx_packets: u64,
    flooded: u64,
    learned: u64,
    moved: u64,
    learn_refused: u64,
    checksums_finished: u64,
    drops: HashMap<Drop, u64>,
}

impl Tally {
    /// Adds the switch's own counters.
    pub fn add(&mut self, stats: &PortStats) {
        self.rx_packets += stats.rx_packets.get();
        self.rx_bytes += stats.rx_bytes.get();
        self.tx_packets += stats.tx_packets.get();
        self.flooded += stats.flooded.get();
        self.learned += stats.learned.get();
        self.moved += stats.moved.get();
        self.learn_refused += stats.learn_refused.get();
        self.checksums_finished += stats.checksums_finished.get();
        for &reason in Drop::ALL {
            *self.drops.entry(reason).or_default() += stats.drops(reason);
        }
    }

    /// Drops of a reason.
    pub fn drops(&self, reason: Drop) -> u64 {
        self.drops.get(&reason).copied().unwrap_or_default()
    }
}

/// The way a frame takes to its egress port: the worker that transmits there, and how many times it was attached.
pub type Route = (usize, u64);

/// A frame that should leave.
struct Expected {
    frame: Vec<u8>,
    route: Route,
}

/// See the module text.
pub struct Ledger {
    exact: bool,
    expected: HashMap<(PortId, usize), VecDeque<Expected>>,
    /// Frames that later ones left before, counted in `missing`.
    overtaken: HashMap<PortId, Vec<Expected>>,
    tallies: HashMap<PortId, Tally>,
    /// Frames that left, by port.
    delivered: HashMap<PortId, u64>,
    /// Frames that should have left and did not, by port.
    missing: HashMap<PortId, u64>,
    /// Frames that a closed port's device took with it.
    abandoned: HashMap<PortId, u64>,
}

impl Ledger {
    /// Empty books.
    pub fn new(exact: bool) -> Ledger {
        Ledger {
            exact,
            expected: HashMap::new(),
            overtaken: HashMap::new(),
            tallies: HashMap::new(),
            delivered: HashMap::new(),
            missing: HashMap::new(),
            abandoned: HashMap::new(),
        }
    }

    /// Frames that left all ports so far.
    pub fn delivered(&self) -> u64 {
        self.delivered.values().sum()
    }

    /// Frames dropped on the way out so far, beyond what the rules drop.
    pub fn missing(&self) -> u64 {
        self.missing.values().sum()
    }

    fn column(&self, tap: usize) -> usize {
        if self.exact { 0 } else { tap }
    }

    /// Books a frame that a port received through a tap, and its fate.
    ///
    /// `route` says which way frames take to a port, `None` if it has no device: in exact runs, what it should send
    /// is then known to be dropped.
    pub fn book(
        &mut self,
        (port, tap): (PortId, usize),
        frame: &[u8],
        fate: Outcome,
        route: impl Fn(PortId) -> Option<Route>,
    ) {
        let column = self.column(tap);
        let tally = self.tallies.entry(port).or_default();
        tally.rx_packets += 1;
        tally.rx_bytes += frame.len() as u64;
        tally.flooded += u64::from(fate.flooded);
        tally.checksums_finished += u64::from(fate.finished);
        match fate.lesson {
            Some(Lesson::Learned) => tally.learned += 1,
            Some(Lesson::Moved) => tally.moved += 1,
            Some(Lesson::Refused) => tally.learn_refused += 1,
            None => {}
        }
        for (at, reason) in fate.drops {
            *self.tallies.entry(at).or_default().drops.entry(reason).or_default() += 1;
        }
        for (egress, frame) in fate.sent {
            let route = route(egress);
            if self.exact && route.is_none() {
                *self.tallies.entry(egress).or_default().drops.entry(Drop::TxPortDown).or_default() += 1;
            } else {
                let expected = Expected { frame, route: route.unwrap_or_default() };
                self.expected.entry((egress, column)).or_default().push_back(expected);
            }
        }
    }

    /// Checks a frame that left through `port`: expected, unchanged, once, in order. `route` is the way that frames
    /// from its tap take now.
    pub fn deliver(
        &mut self,
        port: PortId,
        frame: &[u8],
        route: impl Fn(usize) -> Option<Route>,
    ) -> Result<(), String> {
        let tap = tap_of(frame);
        *self.delivered.entry(port).or_default() += 1;
        let queue = self.expected.entry((port, self.column(tap))).or_default();
        let overtaken = self.overtaken.entry(port).or_default();
        let Some(at) = queue.iter().position(|expected| expected.frame == frame) else {
            let late = overtaken.iter().position(|expected| expected.frame == frame);
            let late = late.map(|at| overtaken.swap_remove(at));
            if late.as_ref().is_some_and(|late| route(tap) != Some(late.route)) {
                *self.missing.entry(port).or_default() -= 1;
                return Ok(());
            }
            let what = if late.is_some() { "out of order" } else { "that it must not send or has sent already" };
            let (len, port, start) = (frame.len(), port.index(), &frame[..frame.len().min(64)]);
            return Err(format!("port {port} sent a frame of {len} bytes from tap {tap} {what}: {start:02x?}"));
        };
        overtaken.extend(queue.drain(..at));
        queue.pop_front();
        *self.missing.entry(port).or_default() += at as u64;
        if self.exact && at > 0 {
            return Err(format!("port {} left out {at} frames before {:02x?}", port.index(), &frame[..18]));
        }
        Ok(())
    }

    /// Books frames that a device took with it when it was closed.
    pub fn abandon(&mut self, port: PortId, frames: u64) {
        *self.abandoned.entry(port).or_default() += frames;
    }

    /// When all is quiet: nothing is still expected, and the switch's counters explain every frame.
    pub fn settle(&mut self, actual: &HashMap<PortId, Tally>) -> Result<(), String> {
        for ((port, _), queue) in &mut self.expected {
            *self.missing.entry(*port).or_default() += queue.len() as u64;
            if self.exact && !queue.is_empty() {
                return Err(format!("port {} did not send {} frames", port.index(), queue.len()));
            }
            queue.clear();
        }
        self.overtaken.clear();
        actual.iter().try_for_each(|(port, actual)| self.compare(*port, actual))
    }

    fn compare(&self, port: PortId, actual: &Tally) -> Result<(), String> {
        let count = |counts: &HashMap<PortId, u64>| counts.get(&port).copied().unwrap_or_default();
        let expected = self.tallies.get(&port).cloned().unwrap_or_default();
        let mut lost = count(&self.abandoned);
        for &reason in Drop::ALL {
            let (is, should) = (actual.drops(reason), expected.drops(reason));
            if ON_THE_WAY_OUT.contains(&reason) && !self.exact && is >= should {
                lost += is - should;
            } else if is != should {
                return Err(format!("port {}: {is} drops for {reason:?}, should be {should}", port.index()));
            }
        }
        let missing = count(&self.missing);
        if missing != lost {
            return Err(format!("port {}: {missing} frames did not leave, counters explain {lost}", port.index()));
        }
        let sent = count(&self.delivered) + actual.drops(Drop::TxRefused) + count(&self.abandoned);
        let should = Tally { tx_packets: sent, drops: actual.drops.clone(), ..expected };
        if *actual != should {
            return Err(format!("port {}: counters say {actual:?}, should be {should:?}", port.index()));
        }
        Ok(())
    }
}
