//! How busy the workers were lately, for show-workers, and how often it is worth looking. Control thread.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::receive::{SAMPLE_BUSY, SAMPLE_IDLE, TRAFFIC_PPS};
use crate::stats::WorkerStats;
use crate::worker::Shared;

/// Marks kept, one a second: the longest measurement behind a percentage.
const MARKS: usize = 10;

/// The loop counters of one worker at one time.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Load {
    /// Nanoseconds spent on turns that moved packets.
    pub busy_ns: u64,
    /// Nanoseconds slept.
    pub sleep_ns: u64,
    /// Turns that moved packets.
    pub busy_iterations: u64,
    /// Packets moved.
    pub packets: u64,
}

impl Load {
    /// The counters now.
    pub fn of(stats: &WorkerStats) -> Load {
        let poll = &stats.poll;
        Load {
            busy_ns: poll.busy_ns.get(),
            sleep_ns: poll.sleep_ns.get(),
            busy_iterations: poll.busy_iterations.get(),
            packets: poll.packets.get(),
        }
    }

    /// What was counted since `before`.
    pub fn since(self, before: Load) -> Load {
        Load {
            busy_ns: self.busy_ns.saturating_sub(before.busy_ns),
            sleep_ns: self.sleep_ns.saturating_sub(before.sleep_ns),
            busy_iterations: self.busy_iterations.saturating_sub(before.busy_iterations),
            packets: self.packets.saturating_sub(before.packets),
        }
    }
}

/// Samples of the recent past.
pub struct Watch {
    due: Instant,
    marks: VecDeque<(Instant, Vec<Load>)>,
}

impl Watch {
    /// Nothing counted at `epoch`.
    pub fn new(epoch: Instant, workers: usize) -> Watch {
        Watch { due: epoch, marks: VecDeque::from([(epoch, vec![Load::default(); workers])]) }
    }

    /// When to look next.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// The ports were looked at and received `pps` packets a second in all.
    pub fn sampled(&mut self, shared: &Shared, pps: u64, now: Instant) {
        self.due = now + if pps >= TRAFFIC_PPS { SAMPLE_BUSY } else { SAMPLE_IDLE };
        let newest = self.marks.back().map(|(at, _)| *at);
        // Half a pause of grace, so that timers that fire a little early do not halve the rate of marks.
        if newest.is_none_or(|at| now.saturating_duration_since(at) + SAMPLE_BUSY / 2 >= SAMPLE_IDLE) {
            self.marks.push_back((now, shared.all_stats().map(Load::of).collect()));
            if self.marks.len() > MARKS {
                self.marks.pop_front();
            }
        }
    }

    /// What worker `index` did over the last [`MARKS`] seconds or less, and how long exactly that was.
    pub fn recent(&self, index: usize, stats: &WorkerStats, now: Instant) -> (Duration, Load) {
        let (at, loads) = match self.marks.front() {
            Some((at, loads)) => (*at, loads.get(index).copied().unwrap_or_default()),
            None => (now, Load::of(stats)),
        };
        (now.saturating_duration_since(at), Load::of(stats).since(loads))
    }
}
