//! The receiving end: a BPF program at the ingress of a station's interface (b0 of most tests) that reads every
//! generated frame's sequence number and time and drops the frame before the station's stack sees it. Exact to the
//! frame. Main thread; [`interface_frames`] on any thread inside the namespace.
//!
//! It stands where an nftables rule on the ingress hook would (the tcx hook is the one just before), because there it
//! changes nothing on the way to it: an XDP program on b0 would turn the veth pair's receive path into another one.

mod program;

use crate::bpf::{self, Link, Map, Program};
use crate::error::{Error, Result};
use crate::latency::Histogram;
use crate::load::frame::{Clock, SECOND_NS};
use crate::netns;
use crate::rig::{B_IF, Station};
use crate::stop::Stop;
use program::{STATE_WORDS, TALLY_WORDS, state, tally};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use std::io;
use std::time::{Duration, Instant};

/// How often a counter is read again to see whether it still moves.
const SETTLE_STEP: Duration = Duration::from_millis(200);
/// When waiting for a counter to rest is given up.
const SETTLE_LIMIT: Duration = Duration::from_secs(5);
/// Tries to read the sink and the interface without a frame in between.
const QUIET_TRIES: usize = 10;

/// How the sink tells generated frames from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marks {
    /// By their source address: one without a stamp is noticed.
    Source,
    /// By the magic of the stamp, whatever their addresses.
    Magic,
}

/// The program at a station's interface, and its maps.
#[derive(Debug)]
pub struct Sink {
    station: Station,
    core: Core,
    _link: Link,
}

/// The program and its maps, attached or not.
#[derive(Debug)]
struct Core {
    program: Program,
    tallies: Map,
    state: Map,
}

/// What the sink knows of the frames since it was last cleared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Generated frames that arrived, duplicates included.
    pub received: u64,
    /// Their bytes, without FCS.
    pub bytes: u64,
    /// Other frames, which were passed on to the stack.
    pub others: u64,
    /// Generated frames without a stamp.
    pub unstamped: u64,
    /// First arrivals behind a later sequence number (RFC 4737 section 3).
    pub reordered: u64,
    /// Second and further arrivals of a sequence number, within 65536 of each other.
    pub duplicates: u64,
    /// Arrivals that left a hole before them.
    pub gaps: u64,
    /// The sequence number after the highest that arrived, counted from that of the first frame, modulo 2^32.
    pub next: u32,
    /// One-way latency from the stamp to the sink.
    pub latency: Histogram,
}

/// Sink and interface, read with no frame between them.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The sink's tallies.
    pub tally: Tally,
    /// Frames received by the interface since it was made, by its own counter.
    pub interface: u64,
}

/// The sequence numbers of one trial against its other counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sequence {
    /// Sequence numbers that arrived.
    pub unique: u64,
    /// Frames that arrived again.
    pub duplicates: u64,
    /// Frames that arrived behind a later one (RFC 4737).
    pub reordered: u64,
    /// Holes in the sequence when they were seen first.
    pub gaps: u64,
    /// Sequence numbers missing before the highest that arrived.
    pub lost_within: u64,
    /// Sequence numbers missing after it.
    pub lost_at_end: u64,
    /// Frames missing by the counter of interface b0.
    pub lost_by_interface: i64,
}

impl Sink {
    /// Puts the sink in place.
    ///
    /// # Errors
    /// [`Error::Io`] when the kernel refuses.
    pub fn install(station: &Station, marks: Marks) -> Result<Self> {
        let (core, interface) =
            (Core::load(marks).map_err(|e| Error::io("load the sink's program", e))?, station.interface);
        let attach = move || {
            let index = netns::interface_index(interface)?;
            let what = || format!("attach the sink's program to {interface}");
            let link = core.program.attach(index).map_err(|e| Error::io(what(), e))?;
            Ok((core, link))
        };
        let (core, link) = netns::run(&station.netns, None, attach)?;
        Ok(Sink { station: station.clone(), core, _link: link })
    }

    /// Forgets everything and reads the interface: the start of a trial whose frames are numbered from `first` on and
    /// carry the time of `clock`.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Parse`].
    pub fn begin(&self, clock: Clock, first: u32) -> Result<Reading> {
        self.core.clear(clock, first).map_err(sink_error)?;
        self.read()
    }

    /// Waits until no more frames arrive and reads everything.
    ///
    /// # Errors
    /// As [`Sink::begin`], and [`Error::Interrupted`].
    pub fn settled(&self, stop: &Stop) -> Result<Reading> {
        settled(std::slice::from_ref(self), stop)?.pop().map_or_else(|| self.read(), Ok)
    }

    /// Both counters; tried again while frames arrive in between.
    fn read(&self) -> Result<Reading> {
        let name = self.station.interface;
        let interface = || netns::run(&self.station.netns, None, move || interface_frames(name));
        let mut before = interface()?;
        for _ in 0..QUIET_TRIES {
            let tally = self.core.read().map_err(sink_error)?;
            let after = interface()?;
            if after == before {
                return Ok(Reading { tally, interface: after });
            }
            before = after;
        }
        Ok(Reading { tally: self.core.read().map_err(sink_error)?, interface: before })
    }
}

/// Waits until no more frames arrive at any of the sinks and reads all of them.
///
/// # Errors
/// As [`Sink::settled`].
pub fn settled(sinks: &[Sink], stop: &Stop) -> Result<Vec<Reading>> {
    let deadline = Instant::now() + SETTLE_LIMIT;
    let read = || sinks.iter().map(Sink::read).collect::<Result<Vec<_>>>();
    let mut last = read()?;
    loop {
        stop.sleep(SETTLE_STEP)?;
        let now = read()?;
        let rests = now.iter().zip(&last).all(|(now, last)| now.tally.received == last.tally.received);
        if rests || Instant::now() > deadline {
            return Ok(now);
        }
        last = now;
    }
}

impl Core {
    fn load(marks: Marks) -> io::Result<Self> {
        let tallies = Map::per_cpu(c"swbench_tallies", TALLY_WORDS)?;
        let state = Map::shared(c"swbench_state", STATE_WORDS)?;
        let code = program::instructions(marks, tallies.fd(), state.fd());
        let program = Program::load(bpf::Kind::Tcx, c"swbench_sink", &code)?;
        let core = Core { program, tallies, state };
        core.clear(Clock::MonotonicNs, 0)?;
        Ok(core)
    }

    fn clear(&self, clock: Clock, first: u32) -> io::Result<()> {
        let mut start = [0u64; state::SEEN];
        let [a, b, c, d] = first.to_ne_bytes();
        (start[state::NEXT], start[state::FIRST]) = (u64::from_ne_bytes([a, b, c, d, 0, 0, 0, 0]), u64::from(first));
        (start[state::UNIT_NS], start[state::OFFSET_NS]) = match clock {
            Clock::MonotonicNs => (1, 0),
            Clock::RealtimeUs => (1000, now_ns(ClockId::Realtime).wrapping_sub(now_ns(ClockId::Monotonic))),
        };
        self.state.write(&start)?;
        self.tallies.write(&[])
    }

    fn read(&self) -> io::Result<Tally> {
        let rows = self.tallies.read()?;
        let rows = || rows.chunks_exact(TALLY_WORDS);
        let sum = |word: usize| rows().filter_map(|row| row.get(word)).sum();
        let counts = (tally::HISTOGRAM..TALLY_WORDS).map(sum).collect();
        let max_ns = rows().filter_map(|row| row.get(tally::MAX_NS)).max().copied().unwrap_or(0);
        let shared = self.state.read()?;
        let word = |at: usize| shared.get(at).copied().unwrap_or(0);
        Ok(Tally {
            received: sum(tally::RECEIVED),
            bytes: sum(tally::BYTES),
            others: sum(tally::OTHERS),
            unstamped: sum(tally::UNSTAMPED),
            reordered: sum(tally::REORDERED),
            duplicates: sum(tally::DUPLICATES),
            gaps: sum(tally::GAPS),
            // The program writes 32 bits, the first in memory.
            next: u32::from_ne_bytes(first_half(word(state::NEXT))).wrapping_sub(word(state::FIRST) as u32),
            latency: Histogram { counts, sum_ns: sum(tally::SUM_NS), max_ns },
        })
    }
}

impl Reading {
    /// Generated frames since `before` by the interface's counter.
    pub fn generated_since(&self, before: &Reading) -> u64 {
        let others = self.tally.others.saturating_sub(before.tally.others);
        self.interface.saturating_sub(before.interface).saturating_sub(others)
    }

    /// What is wrong when interface and sink do not agree on the frames since `before`.
    pub fn disagreement(&self, before: &Reading, interface: &str) -> Option<String> {
        let (generated, received) = (self.generated_since(before), self.tally.received);
        let text = || format!("{interface} counted {generated} generated frames, the sink {received}");
        (generated != received).then(text)
    }
}

impl Sequence {
    /// Of a trial that sent `sent` frames between two readings; and what does not fit together, one line each.
    pub fn check(sent: u64, before: &Reading, after: &Reading) -> (Self, Vec<String>) {
        let tally = &after.tally;
        let unique = tally.received.saturating_sub(tally.duplicates);
        // The sequence has 32 bits and may have gone round: what is missing to a full round is missing at the end.
        let lost_at_end = u64::from((sent as u32).wrapping_sub(tally.next));
        let reached = sent.saturating_sub(lost_at_end);
        let sequence = Sequence {
            unique,
            duplicates: tally.duplicates,
            reordered: tally.reordered,
            gaps: tally.gaps,
            lost_within: reached.saturating_sub(unique),
            lost_at_end,
            lost_by_interface: sent as i64 - after.generated_since(before) as i64,
        };
        let mut faults: Vec<String> = after.disagreement(before, B_IF).into_iter().collect();
        if tally.unstamped > 0 {
            faults.push(format!("{} frames arrived without their stamp", tally.unstamped));
        }
        if lost_at_end > sent {
            faults.push(format!("sequence number {} arrived, {sent} frames were sent", tally.next.wrapping_sub(1)));
        } else if unique > reached {
            faults.push(format!("{unique} sequence numbers arrived of {reached}"));
        }
        (sequence, faults)
    }

    /// Sequence numbers that did not arrive.
    pub fn lost(&self) -> u64 {
        self.lost_within + self.lost_at_end
    }
}

/// Frames an interface has received according to its own counter; for the calling thread's namespace. Cheap enough to
/// be read during a load.
///
/// # Errors
/// [`Error::Io`] or [`Error::Parse`].
pub fn interface_frames(interface: &str) -> Result<u64> {
    let path = "/proc/thread-self/net/dev";
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(format!("read {path}"), e))?;
    parse_net_dev(&text, interface)
}

fn sink_error(error: io::Error) -> Error {
    Error::io("use the sink's maps", error)
}

/// The time of a clock, nanoseconds.
pub fn now_ns(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    now.tv_sec.unsigned_abs() * SECOND_NS + now.tv_nsec.unsigned_abs()
}

fn first_half(word: u64) -> [u8; 4] {
    let [a, b, c, d, ..] = word.to_ne_bytes();
    [a, b, c, d]
}

/// The "packets received" column (the second) of an interface in the format of /proc/net/dev.
fn parse_net_dev(text: &str, interface: &str) -> Result<u64> {
    let fields = text.lines().filter_map(|line| line.split_once(':')).find(|(name, _)| name.trim() == interface);
    let packets = fields.and_then(|(_, fields)| fields.split_whitespace().nth(1)?.parse().ok());
    packets.ok_or_else(|| Error::Parse { tool: "/proc/net/dev", why: format!("no packets of {interface}") })
}

#[cfg(test)]
mod tests;
