//! Where the kernel does its receive work: on the sender's core, or in a thread of its own, by load.
//!
//! Only with `receive_threads`: whether a thread pays depends on the machine. It batches, and was measured
//! to bring 25 to 35 % more packets a second on an AMD EPYC guest with two cores; on an Intel Xeon guest with
//! two cores, where it has to share the sender's, it cost 60 %. It always adds a wake-up to each packet of
//! a quiet port (60 % more round-trip time), so each port switches by its own rate, with a gap between
//! the two thresholds and a pause after each change. Control thread.

use std::time::{Duration, Instant};

/// Rate from which the thread pays, and how many samples in a row it must last.
const BUSY_PPS: u64 = 50_000;
/// See [`BUSY_PPS`].
const BUSY_SAMPLES: u8 = 2;

/// Rate below which the thread costs more than it brings, and how long that must last.
const QUIET_PPS: u64 = 20_000;
/// See [`QUIET_PPS`].
const QUIET_SAMPLES: u8 = 20;

/// Shortest time between two changes of one port.
const CHANGE_PAUSE: Duration = Duration::from_secs(1);

/// Time between samples while there is traffic.
pub const SAMPLE_BUSY: Duration = Duration::from_millis(100);

/// Time between samples otherwise.
pub const SAMPLE_IDLE: Duration = Duration::from_secs(1);

/// Packets a second, all ports together, from which sampling is frequent.
pub const TRAFFIC_PPS: u64 = 1_000;

/// The receive rate of one port and what follows from it.
pub struct Meter {
    packets: Option<u64>,
    at: Instant,
    pps: u64,
    busy: u8,
    quiet: u8,
    threaded: bool,
    changed: Option<Instant>,
    /// The kernel refused: asking again would not help.
    refused: bool,
}

impl Meter {
    /// A port that has received nothing yet; receive work starts on the sender's core.
    pub fn new(now: Instant) -> Meter {
        let (packets, changed) = (None, None);
        Meter { packets, at: now, pps: 0, busy: 0, quiet: 0, threaded: false, changed, refused: false }
    }

    /// Takes the port's packet counter in; `Some` when the receive work should move.
    pub fn sample(&mut self, packets: u64, now: Instant) -> Option<bool> {
        let millis = now.saturating_duration_since(self.at).as_millis() as u64;
        let before = self.packets.replace(packets);
        self.at = now;
        // The first sample has nothing to compare with.
        self.pps = before.map_or(0, |before| packets.saturating_sub(before) * 1000 / millis.max(1));
        self.busy = if self.pps > BUSY_PPS { self.busy.saturating_add(1) } else { 0 };
        self.quiet = if self.pps < QUIET_PPS { self.quiet.saturating_add(1) } else { 0 };
        let wanted = if self.threaded { self.quiet < QUIET_SAMPLES } else { self.busy >= BUSY_SAMPLES };
        let rested = self.changed.is_none_or(|at| now.saturating_duration_since(at) >= CHANGE_PAUSE);
        (wanted != self.threaded && rested && !self.refused).then_some(wanted)
    }

    /// The receive work moved.
    pub fn moved(&mut self, threaded: bool, now: Instant) {
        self.threaded = threaded;
        self.changed = Some(now);
    }

    /// The kernel refused to move it.
    pub fn refused(&mut self) {
        self.refused = true;
    }

    /// Packets a second, by the last sample.
    pub fn pps(&self) -> u64 {
        self.pps
    }

    /// True while the receive work has a thread of its own.
    pub fn threaded(&self) -> bool {
        self.threaded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `samples` samples of `pps`, obeying the meter; answers how often it changed its mind.
    fn feed(meter: &mut Meter, clock: &mut (Instant, u64), pps: u64, samples: usize) -> usize {
        let mut changes = 0;
        for _ in 0..samples {
            clock.0 += SAMPLE_BUSY;
            clock.1 += pps / 10;
            if let Some(threaded) = meter.sample(clock.1, clock.0) {
                meter.moved(threaded, clock.0);
                changes += 1;
            }
        }
        changes
    }

    #[test]
    fn load_moves_the_work_and_quiet_brings_it_back() {
        let start = Instant::now();
        let mut meter = Meter::new(start);
        let mut clock = (start, 7_000_000);
        // A large counter is no rate: the first sample only sets the mark.
        assert_eq!(feed(&mut meter, &mut clock, 10_000, 10), 0);
        assert_eq!(feed(&mut meter, &mut clock, 200_000, 1), 0, "one sample is a burst");
        assert_eq!((feed(&mut meter, &mut clock, 200_000, 1), meter.threaded()), (1, true));
        assert_eq!(feed(&mut meter, &mut clock, 30_000, 100), 0, "between the thresholds nothing changes");
        assert_eq!(feed(&mut meter, &mut clock, 5_000, 19), 0);
        assert_eq!((feed(&mut meter, &mut clock, 5_000, 1), meter.threaded()), (1, false));
    }

    #[test]
    fn at_most_one_change_a_second_and_none_after_a_refusal() {
        let start = Instant::now();
        let mut meter = Meter::new(start);
        let mut clock = (start, 0);
        assert_eq!(feed(&mut meter, &mut clock, 100_000, 3), 1);
        meter.moved(false, clock.0);
        assert_eq!(feed(&mut meter, &mut clock, 100_000, 9), 0, "less than a second since the last change");
        assert_eq!(feed(&mut meter, &mut clock, 100_000, 1), 1);
        meter.moved(false, clock.0);
        meter.refused();
        assert_eq!(feed(&mut meter, &mut clock, 100_000, 50), 0);
    }
}
