//! Random times, repeatable from a seed (SplitMix64, Steele, Lea and Flood 2014). Not for secrets.

/// A source of numbers.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_stay_in_range_and_fill_it() {
        let mut random = Random::new(7);
        let drawn: Vec<u64> = (0..1_000).map(|_| random.around(30_000)).collect();
        assert!(drawn.iter().all(|time| (15_000..=45_000).contains(time)));
        assert!(drawn.iter().any(|time| *time < 17_000) && drawn.iter().any(|time| *time > 43_000));
    }
}
