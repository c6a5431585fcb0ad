//! The trie's root: a word for each first octet and, where an octet has many routes, a slot for each value of some more
//! bits; and at which bits of the address nodes below may begin.

use super::node::STRIDE;
use super::prefix::Address;
use super::sync::{AtomicU32, Ordering};

/// First octets.
pub(super) const OCTETS: usize = 256;

/// Bits of a first octet.
pub(super) const OCTET_BITS: usize = 8;

/// Bits of [`Octet::place`] for the shift.
const SHIFT_BITS: usize = 6;

/// What the root has for one first octet.
pub(super) struct Octet {
    /// The leaf that the prefixes of at most eight bits have for it, or 0.
    above: AtomicU32,
    /// Which of the root's slots is its first, and behind that by how many bits the 32 bits that follow the octet are
    /// shifted to tell its slots apart. Never changes.
    place: u32,
}

impl Octet {
    /// One with 2^`width` slots from `first` on.
    pub(super) fn new(above: u32, first: usize, width: usize) -> Octet {
        Octet { above: AtomicU32::new(above), place: (first << SHIFT_BITS | (32 - width)) as u32 }
    }

    #[inline(always)]
    pub(super) fn above(&self) -> u32 {
        self.above.load(Ordering::Relaxed)
    }

    pub(super) fn set_above(&self, leaf: u32) {
        self.above.store(leaf, Ordering::Release);
    }

    #[inline(always)]
    fn shift(&self) -> u32 {
        self.place & ((1 << SHIFT_BITS) - 1)
    }

    /// How many bits behind the octet tell its slots apart.
    pub(super) fn width(&self) -> usize {
        32 - self.shift() as usize
    }

    /// The number of the slot for an address with this octet.
    #[inline(always)]
    pub(super) fn slot<A: Address>(&self, address: A) -> usize {
        (self.place >> SHIFT_BITS) as usize + (u64::from(address.behind_octet()) >> self.shift()) as usize
    }

    /// Where nodes below may begin.
    pub(super) fn grid<A: Address>(&self) -> Grid {
        Grid::new::<A>(self.width())
    }

    /// The same octet for another table.
    pub(super) fn copy(&self) -> Octet {
        Octet { above: AtomicU32::new(self.above()), place: self.place }
    }
}

const _: () = assert!(OCTETS << <u128 as Address>::WIDE_BITS <= 1 << (32 - SHIFT_BITS));

/// Where nodes may begin, in bits before them: every [`STRIDE`] bits from the root's slots on.
///
/// A node may skip what its key covers. Where the way down would skip more there is a node in any case, if only with
/// one child: a halt. So that a route's nodes do not depend on the order in which routes came.
#[derive(Clone, Copy)]
pub(super) struct Grid {
    start: usize,
    /// Most bits that are skipped.
    skip: usize,
}

impl Grid {
    /// Below slots of an octet with 2^`width` of them.
    pub(super) fn new<A: Address>(width: usize) -> Grid {
        Grid { start: OCTET_BITS + width, skip: A::KEY_WORDS * 32 / STRIDE * STRIDE }
    }

    /// Bits that the root's slots go by.
    pub(super) fn start(self) -> usize {
        self.start
    }

    /// Where the node of prefixes of `length` bits begins, which are more than [`start`](Grid::start).
    pub(super) fn node_of(self, length: usize) -> usize {
        self.floor(length - 1)
    }

    /// The last place up to `bits`.
    pub(super) fn floor(self, bits: usize) -> usize {
        self.start + (bits - self.start) / STRIDE * STRIDE
    }

    /// The first halt from the place `from` on.
    pub(super) fn halt(self, from: usize) -> usize {
        from + self.skip - (from - self.start) % (self.skip + STRIDE)
    }
}
