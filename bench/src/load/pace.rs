//! Sending on schedule: how many frames are due at a moment. Pure arithmetic, so that it can be tested; the generators
//! pass the time in.

use std::time::Duration;

/// A constant-rate schedule starting at time zero.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    rate_pps: Option<f64>,
    time: Duration,
}

impl Pace {
    /// `rate_pps` frames per second (`None`: no limit) for `time`.
    pub fn new(rate_pps: Option<f64>, time: Duration) -> Self {
        Pace { rate_pps, time }
    }

    /// Frames that may be sent now, `elapsed` after the start with `sent` frames gone, in bursts of at most `burst`;
    /// `None` when the time is over. A generator that fell behind catches up in full bursts.
    pub fn due(&self, elapsed: Duration, sent: u64, burst: usize) -> Option<usize> {
        let Some(rate) = self.rate_pps else {
            return (elapsed < self.time).then_some(burst);
        };
        let scheduled = (elapsed.min(self.time).as_secs_f64() * rate) as u64;
        let due = scheduled.saturating_sub(sent).min(burst as u64) as usize;
        (elapsed < self.time).then_some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unlimited_pace_gives_full_bursts_until_the_end() {
        let pace = Pace::new(None, Duration::from_secs(1));
        assert_eq!(pace.due(Duration::ZERO, 0, 64), Some(64));
        assert_eq!(pace.due(Duration::from_millis(999), 1 << 40, 64), Some(64));
        assert_eq!(pace.due(Duration::from_secs(1), 0, 64), None);
    }

    #[test]
    fn a_rate_is_kept_over_the_whole_time() {
        let pace = Pace::new(Some(100_000.0), Duration::from_secs(2));
        let mut sent = 0;
        let mut now = Duration::ZERO;
        while let Some(n) = pace.due(now, sent, 64) {
            sent += n as u64;
            now += Duration::from_micros(37);
        }
        assert!((199_980..=200_000).contains(&sent), "{sent}");
    }

    #[test]
    fn a_late_generator_catches_up_in_bursts() {
        let pace = Pace::new(Some(1000.0), Duration::from_secs(1));
        assert_eq!(pace.due(Duration::from_millis(500), 0, 64), Some(64));
        assert_eq!(pace.due(Duration::from_millis(500), 500, 64), Some(0));
        assert_eq!(pace.due(Duration::from_millis(500), 490, 64), Some(10));
    }
}
