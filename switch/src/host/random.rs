//! Random times, repeatable from a seed (SplitMix64, Steele, Lea and Flood 2014), and numbers that nobody can guess.

use std::hash::{BuildHasher, RandomState};

/// A source of times. Not for secrets.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ value >> 31
    }

    /// A number from 0 to `max`, which is not the largest there is.
    pub fn up_to(&mut self, max: u64) -> u64 {
        self.next() % (max + 1)
    }

    /// `base` times 0.5 to 1.5 (RFC 4861 MIN_RANDOM_FACTOR, MAX_RANDOM_FACTOR).
    pub fn around(&mut self, base: u64) -> u64 {
        base / 2 + self.up_to(base)
    }
}

/// Identifications of packets that others cannot foretell from those that they saw (RFC 7739 5.2): a keyed hash of a
/// counter, whose key the standard library takes from the operating system.
#[derive(Debug, Default)]
pub(super) struct Identifications {
    key: RandomState,
    count: u64,
}

impl Identifications {
    pub fn next(&mut self) -> u32 {
        self.count += 1;
        self.key.hash_one(self.count) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifications_differ_from_each_other_and_from_run_to_run() {
        let mut one = Identifications::default();
        let mut drawn: Vec<u32> = (0..100).map(|_| one.next()).collect();
        let step = drawn[1].wrapping_sub(drawn[0]);
        assert!(drawn.windows(2).any(|pair| pair[1].wrapping_sub(pair[0]) != step), "no counter");
        let mut other = Identifications::default();
        drawn.extend((0..100).map(|_| other.next()));
        drawn.sort_unstable();
        drawn.dedup();
        // Two equal ones among 200 come once in 200,000 runs.
        assert!(drawn.len() >= 199);
    }

    #[test]
    fn times_stay_in_range_and_fill_it() {
        let mut random = Random::new(7);
        let drawn: Vec<u64> = (0..1_000).map(|_| random.around(30_000)).collect();
        assert!(drawn.iter().all(|time| (15_000..=45_000).contains(time)));
        assert!(drawn.iter().any(|time| *time < 17_000) && drawn.iter().any(|time| *time > 43_000));
    }
}
