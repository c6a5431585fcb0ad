//! The keyed hash that places an address: which two buckets may hold it. Pure, any thread.

/// Secrets of one table, spread from one seed.
#[derive(Clone, Debug)]
pub(super) struct Hasher {
    whiten: [u64; 2],
    multiply: [u64; 2],
}

impl Hasher {
    /// The hash of a table. A sender who cannot guess `seed` cannot aim at a bucket.
    pub(super) fn new(seed: u64) -> Hasher {
        let mut state = seed;
        let mut secret = || {
            // SplitMix64 (Steele, Lea, Flood 2014): each step is a bijection, so no seed is weak.
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ mixed >> 31
        };
        Hasher { whiten: [secret(), secret()], multiply: [secret() | 1, secret() | 1] }
    }

    /// 64 well-mixed bits of `key`: two widening multiplies, whose upper halves are folded back in.
    #[inline]
    pub(super) fn hash(&self, key: u64) -> u64 {
        let [whiten_a, whiten_b] = self.whiten;
        let [multiply_a, multiply_b] = self.multiply;
        fold(fold(key ^ whiten_a, multiply_a) ^ whiten_b, multiply_b)
    }
}

/// The first bucket of a key with this `hash` in a table of `buckets`, below that.
///
/// Scaling by a multiply instead of a mask leaves the table's size free (up to 2^32 buckets).
#[inline]
pub(super) fn first(hash: u64, buckets: usize) -> usize {
    (((hash >> 32) * buckets as u64) >> 32) as usize
}

/// The second one: another than the `first`, below `buckets` (at least 2) too.
#[inline]
pub(super) fn second(hash: u64, first: usize, buckets: usize) -> usize {
    let (first, count) = (first as u64, buckets as u64);
    let distance = 1 + (((hash & 0xffff_ffff) * (count - 1)) >> 32);
    let second = if first + distance < count { first + distance } else { first + distance - count };
    second as usize
}

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn pair(hasher: &Hasher, key: u64, buckets: usize) -> (usize, usize) {
        let hash = hasher.hash(key);
        let first = first(hash, buckets);
        (first, second(hash, first, buckets))
    }

    #[test]
    fn the_two_buckets_differ_and_exist() {
        for buckets in [2, 3, 5, 64, 73_728, u32::MAX as usize] {
            let hasher = Hasher::new(buckets as u64);
            for key in 1..2_000 {
                let (first, second) = pair(&hasher, key, buckets);
                assert!(first != second && first < buckets && second < buckets);
            }
        }
    }

    #[test]
    fn sequential_keys_spread_evenly_under_any_seed() {
        const BUCKETS: usize = 1_024;
        const KEYS: u64 = 102_400;
        for seed in [0, 1, u64::MAX, 0x1234_5678_9abc_def0] {
            let hasher = Hasher::new(seed);
            for shift in [0, 8, 16, 24, 40] {
                let mut counts = [[0f64; BUCKETS]; 2];
                for key in 1..=KEYS {
                    let (first, second) = pair(&hasher, key << shift & 0x0fff_ffff_ffff_ffff, BUCKETS);
                    counts[0][first] += 1.0;
                    counts[1][second] += 1.0;
                }
                let expected = KEYS as f64 / BUCKETS as f64;
                for counts in counts {
                    let chi2: f64 = counts.iter().map(|count| (count - expected).powi(2) / expected).sum();
                    // 1023 degrees of freedom: mean 1023, deviation 45; six deviations to be safe.
                    assert!(chi2 < 1_300.0, "seed {seed}, shift {shift}: chi2 {chi2}");
                }
            }
        }
    }
}
