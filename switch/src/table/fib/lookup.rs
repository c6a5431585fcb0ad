//! The readers' half: longest-prefix match, one address or a burst. Any thread; writes nothing.

use super::node::{Line, WORDS, is_child, is_skip, line_of};
use super::prefix::Address;
use super::sync::{AtomicU32, Ordering};
use crate::ids::NextHopId;
use crate::limits::BURST;

/// A table of routes as readers see it: [`Fib4`](super::Fib4), [`Fib6`](super::Fib6).
///
/// Its [`FibWriter`](super::FibWriter) changes it under its readers. A worker may hold what it read only until its next
/// [`Grace::pass`](crate::table::grace::Grace::pass); lookups hold nothing once they answer.
pub struct Fib<A> {
    pub(super) root: Box<[AtomicU32]>,
    pub(super) lines: Box<[Line]>,
    /// The next hop of the default route, or 0.
    pub(super) default: AtomicU32,
    pub(super) address: std::marker::PhantomData<A>,
}

/// Slots of a root that goes by two octets.
pub(super) const WIDE: usize = 1 << 16;

impl<A: Address> Default for Fib<A> {
    /// A table without routes.
    fn default() -> Self {
        super::build::build(&[]).0
    }
}

impl<A: Address> Fib<A> {
    pub(super) fn with(root: &[u32], lines: Vec<Line>, default: u32) -> Fib<A> {
        Fib {
            root: root.iter().map(|&value| AtomicU32::new(value)).collect(),
            lines: lines.into_boxed_slice(),
            default: AtomicU32::new(default),
            address: std::marker::PhantomData,
        }
    }

    /// Octets that the root goes by.
    #[inline(always)]
    pub(super) fn root_octets(&self) -> usize {
        if self.root.len() == WIDE { 2 } else { 1 }
    }

    /// The root's slot for an address.
    #[inline(always)]
    pub(super) fn root_slot(&self, address: A, wide: bool) -> usize {
        if wide { address.top_two() } else { address.octet(0) }
    }

    /// The next hop of the longest prefix that contains `address`, or [`NextHopId::NONE`].
    #[inline]
    pub fn lookup(&self, address: A) -> NextHopId {
        let mut octets = self.root_octets();
        let mut best = self.default.load(Ordering::Relaxed);
        let mut value = self.root_value(address, octets == 2);
        // Every step but a failed one looks at an octet more, so this ends whatever the table says.
        while is_child(value) && octets < A::OCTETS {
            value = self.step(address, value, &mut octets, &mut best);
        }
        NextHopId::from_bits(if value == 0 { best } else { value })
    }

    /// Looks up each of `addresses` and writes the answers to the places of the same number in `found`; what is
    /// longer of the two is not looked at.
    ///
    /// Bursts of [`BURST`] go down the trie together, a level at a time, so that their cache misses overlap.
    pub fn lookup_batch(&self, addresses: &[A], found: &mut [NextHopId]) {
        for (addresses, found) in addresses.chunks(BURST).zip(found.chunks_mut(BURST)) {
            self.lookup_burst(addresses, found);
        }
    }

    fn lookup_burst(&self, addresses: &[A], found: &mut [NextHopId]) {
        let mut octets = [0; BURST];
        let mut values = [0; BURST];
        // Lanes that are not done yet.
        let mut open = [0u8; BURST];
        let mut count = 0;
        let root_octets = self.root_octets();
        let wide = root_octets == 2;
        let default = self.default.load(Ordering::Relaxed);
        for (lane, ((&address, found), value)) in addresses.iter().zip(found.iter_mut()).zip(&mut values).enumerate() {
            *value = self.root_value(address, wide);
            octets[lane] = root_octets as u8;
            let done = !is_child(*value);
            *found = NextHopId::from_bits(if done && *value != 0 { *value } else { default });
            open[count] = lane as u8;
            count += usize::from(!done);
        }
        for _ in 1..A::OCTETS {
            if count == 0 {
                return;
            }
            let mut left = 0;
            for at in 0..count {
                let lane = open[at] as usize % BURST;
                let (Some(&address), Some(found)) = (addresses.get(lane), found.get_mut(lane)) else { continue };
                let mut depth = octets[lane] as usize;
                let mut best = found.bits();
                let value = self.step(address, values[lane], &mut depth, &mut best);
                let done = !is_child(value);
                *found = NextHopId::from_bits(if done && value != 0 { value } else { best });
                octets[lane] = depth as u8;
                values[lane] = value;
                open[left] = lane as u8;
                left += usize::from(!done);
            }
            count = left;
        }
    }

    #[inline(always)]
    fn root_value(&self, address: A, wide: bool) -> u32 {
        // Always there: 0 only spares the packet path a panic.
        self.root.get(self.root_slot(address, wide)).map_or(0, |slot| slot.load(Ordering::Acquire))
    }

    /// What the child that `value` leads to says of the address, of which `octets` have been looked at.
    #[inline(always)]
    fn step(&self, address: A, value: u32, octets: &mut usize, best: &mut u32) -> u32 {
        let at = line_of(value);
        let Some(node) = self.lines.get(at) else { return 0 };
        let above = node.above();
        *best = if above == 0 { *best } else { above };
        if is_skip(value) {
            return skip(node, address, octets);
        }
        let word = node.run_word(address.octet(*octets));
        *octets += 1;
        self.lines.get(at + word / WORDS).map_or(0, |line| line.word(word))
    }
}

/// The node behind a skip, if the address goes there.
#[inline(never)]
fn skip<A: Address>(line: &Line, address: A, octets: &mut usize) -> u32 {
    let skip = line.skip();
    if address.common(A::from_words(skip.words)) < skip.octets * 8 {
        return 0;
    }
    *octets = skip.octets;
    skip.child
}
