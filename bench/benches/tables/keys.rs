//! The addresses that every table is given: drawn here and in `bench/yardstick/rte_hash.c` alike, from the same seed.

use switch::ids::{DomainId, Mac};
use switch::limits::BURST;
use switch::table::fdb::MacKey;

/// First octets of the stations that are learned, and of those that never are.
const OCTETS: [u64; 2] = [0x02, 0x06];

/// Bits of a key above the address: bridge domain 1.
const DOMAIN_BITS: u64 = 1 << 48;

/// The addresses of one size.
pub struct Keys {
    /// Every station, in the order of learning.
    pub known: Vec<MacKey>,
    /// The same in another order, in whole bursts: no table may find what it stored in a row in a row.
    pub hits: Vec<MacKey>,
    /// As many stations that were never learned.
    pub misses: Vec<MacKey>,
    /// Over all of them in their order. Equal sums: equal keys.
    pub sum: u64,
}

impl Keys {
    /// `count` random stations and as many others. One in a million may be drawn twice.
    pub fn draw(count: usize) -> Keys {
        let mut state = count as u64;
        let [known, mut misses] =
            OCTETS.map(|octet| (0..count).map(|_| octet << 40 | next(&mut state) & 0xff_ffff_ffff).collect::<Vec<_>>());
        let mut hits = known.clone();
        for last in (1..count).rev() {
            hits.swap(last, (next(&mut state) % (last as u64 + 1)) as usize);
        }
        let all = known.iter().chain(&hits).chain(&misses);
        let sum = all.fold(0, |sum, bits| (sum ^ (DOMAIN_BITS | bits)).wrapping_mul(0x100_0000_01b3));
        hits.truncate(count / BURST * BURST);
        misses.truncate(count / BURST * BURST);
        let [known, hits, misses] = [known, hits, misses].map(|all| all.into_iter().map(key).collect());
        Keys { known, hits, misses, sum }
    }
}

fn key(bits: u64) -> MacKey {
    MacKey::new(DomainId::new(1).expect("domain 1 exists"), Mac::from_bits(bits))
}

/// SplitMix64 (Steele, Lea, Flood 2014): the same few lines in any language.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ *state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}
