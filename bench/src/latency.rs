//! One-way latency as a histogram of log-linear buckets: every power of two is cut into 32, so a value is known to 3 %
//! from nanoseconds to a minute. The sink's program fills it in the kernel; here it is read. Pure.

use serde::{Deserialize, Serialize};

/// Buckets per power of two, as a power of two.
pub const SUB_BITS: u32 = 5;
/// Largest value told apart, nanoseconds (a little more than a minute); larger ones count as this.
pub const MAX_NS: u64 = (1 << 36) - 1;
/// Number of buckets.
pub const BUCKETS: usize = bucket(MAX_NS) + 1;

/// The bucket of a value: the value itself below 64, then 32 buckets for every doubling.
pub const fn bucket(ns: u64) -> usize {
    let ns = if ns > MAX_NS { MAX_NS } else { ns };
    let top = 63 - (ns | 1).leading_zeros();
    let shift = top.saturating_sub(SUB_BITS);
    ((shift as usize) << SUB_BITS) + (ns >> shift) as usize
}

/// Largest value of a bucket.
fn upper(bucket: usize) -> u64 {
    let shift = (bucket >> SUB_BITS).saturating_sub(1);
    let base = (bucket - (shift << SUB_BITS)) as u64;
    ((base + 1) << shift) - 1
}

/// Latencies of the frames of one trial.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Frames per bucket.
    pub counts: Vec<u64>,
    /// Sum of all values, nanoseconds.
    pub sum_ns: u64,
    /// Largest value, nanoseconds.
    pub max_ns: u64,
}

/// What a report says of the latencies of a trial, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Frames timed.
    pub frames: u64,
    /// Mean.
    pub mean_us: f64,
    /// Median.
    pub p50_us: f64,
    /// 90th percentile.
    pub p90_us: f64,
    /// 99th percentile.
    pub p99_us: f64,
    /// 99.9th percentile.
    pub p999_us: f64,
    /// Longest.
    pub max_us: f64,
}

/// A column of a latency table: its name, and how to get it in microseconds.
pub type Column = (&'static str, fn(&Latency) -> f64);

impl Latency {
    /// What a latency table shows.
    pub const COLUMNS: [Column; 5] = [
        ("p50", |l| l.p50_us),
        ("p90", |l| l.p90_us),
        ("p99", |l| l.p99_us),
        ("p99.9", |l| l.p999_us),
        ("max", |l| l.max_us),
    ];
}

impl Histogram {
    /// Smallest value below or at which `share` (0..=1) of the frames lie: the upper end of its bucket, at most the
    /// largest value seen; `None` without frames.
    pub fn percentile_ns(&self, share: f64) -> Option<u64> {
        let total: u64 = self.counts.iter().sum();
        let rank = ((total as f64 * share).ceil() as u64).max(1);
        let mut below = 0;
        let at = self.counts.iter().position(|count| {
            below += count;
            below >= rank
        })?;
        Some(upper(at).min(self.max_ns))
    }

    /// The summary; `None` without frames.
    pub fn summary(&self) -> Option<Latency> {
        let frames: u64 = self.counts.iter().sum();
        let us = |share| self.percentile_ns(share).map(|ns| ns as f64 / 1000.0);
        Some(Latency {
            frames,
            mean_us: self.sum_ns as f64 / frames as f64 / 1000.0,
            p50_us: us(0.5)?,
            p90_us: us(0.9)?,
            p99_us: us(0.99)?,
            p999_us: us(0.999)?,
            max_us: self.max_ns as f64 / 1000.0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_bucket_and_buckets_are_narrow() {
        let mut last = 0;
        for ns in (0..5000).chain((13..36).flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + (1 << (bit - 2))])) {
            let at = bucket(ns);
            assert!(ns <= upper(at) && (at == 0 || ns > upper(at - 1)), "{ns} in {at}");
            assert!(upper(at) as f64 <= ns as f64 * 1.04 + 1.0, "{ns} in {at}");
            assert!(at >= last);
            last = at;
        }
        assert_eq!((bucket(u64::MAX), upper(BUCKETS - 1), BUCKETS), (BUCKETS - 1, MAX_NS, 1024));
    }

    #[test]
    fn percentiles_are_nearest_rank_within_a_bucket() {
        let mut histogram = Histogram { counts: vec![0; BUCKETS], sum_ns: 0, max_ns: 0 };
        for us in 1..=1000u64 {
            histogram.counts[bucket(us * 1000)] += 1;
            histogram.sum_ns += us * 1000;
            histogram.max_ns = us * 1000;
        }
        let latency = histogram.summary().unwrap();
        for (got, exact) in [(latency.p50_us, 500.0), (latency.p90_us, 900.0), (latency.p99_us, 990.0)] {
            assert!(got >= exact && got <= exact * 1.04, "{got} for {exact}");
        }
        assert_eq!((latency.frames, latency.mean_us, latency.max_us), (1000, 500.5, 1000.0));
        assert_eq!(histogram.percentile_ns(1.0), Some(1_000_000));
        assert_eq!(Histogram::default().summary(), None);
    }
}
