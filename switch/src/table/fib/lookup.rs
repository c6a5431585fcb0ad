//! The readers' half: longest-prefix match, one address or a burst. Any thread; writes nothing.

use super::node::{Line, SKIP_CHILD, WORDS, is_child, is_skip, line_of};
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

/// An address on its way down.
#[derive(Clone, Copy)]
struct Lane {
    value: u32,
    /// The word that has the next value.
    word: u32,
    number: u8,
    octets: u8,
}

/// The number of a word that no table has.
const NO_WORD: u32 = u32::MAX;

/// Slots of a root that goes by two octets.
pub(super) const WIDE: usize = 1 << 16;

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
            let above = self.above(value);
            best = if above == 0 { best } else { above };
            value = self.word(self.next_word(address, value, &mut octets));
        }
        NextHopId::from_bits(if value == 0 { best } else { value })
    }

    /// Looks up each of `addresses` and writes the answers to the places of the same number in `found`; what is longer of
    /// the two is not looked at.
    ///
    /// Bursts of [`BURST`] go down the trie together, a level at a time, so that their cache misses overlap.
    pub fn lookup_batch(&self, addresses: &[A], found: &mut [NextHopId]) {
        for (addresses, found) in addresses.chunks(BURST).zip(found.chunks_mut(BURST)) {
            self.lookup_burst(addresses, found);
        }
    }

    fn lookup_burst(&self, addresses: &[A], found: &mut [NextHopId]) {
        let mut lanes = [Lane { value: 0, word: 0, number: 0, octets: 0 }; BURST];
        let mut count = 0;
        let octets = self.root_octets();
        let default = self.default.load(Ordering::Relaxed);
        for (number, (&address, found)) in addresses.iter().zip(found.iter_mut()).enumerate() {
            let value = self.root_value(address, octets == 2);
            let done = !is_child(value);
            *found = NextHopId::from_bits(if done && value != 0 { value } else { default });
            lanes[count % BURST] = Lane { value, word: 0, number: number as u8, octets: octets as u8 };
            count += usize::from(!done);
        }
        // Three short loops instead of a long one: the core looks some hundred instructions ahead, and so has the misses of
        // more lanes under way at once.
        for _ in 1..A::OCTETS {
            if count == 0 {
                return;
            }
            for lane in lanes.iter().take(count) {
                let above = self.above(lane.value);
                if let Some(found) = found.get_mut(lane.number as usize) {
                    *found = if above == 0 { *found } else { NextHopId::from_bits(above) };
                }
            }
            for lane in lanes.iter_mut().take(count) {
                let Some(&address) = addresses.get(lane.number as usize) else { continue };
                let mut octets = lane.octets as usize;
                lane.word = self.next_word(address, lane.value, &mut octets);
                lane.octets = octets as u8;
            }
            let mut left = 0;
            for at in 0..count {
                let lane = lanes[at % BURST];
                let value = self.word(lane.word);
                let done = !is_child(value);
                if let Some(found) = found.get_mut(lane.number as usize) {
                    *found = if done && value != 0 { NextHopId::from_bits(value) } else { *found };
                }
                lanes[left % BURST] = Lane { value, ..lane };
                left += usize::from(!done);
            }
            count = left;
        }
    }

    /// The leaf that the parent has for a child.
    #[inline(always)]
    pub(super) fn above(&self, child: u32) -> u32 {
        self.lines.get(line_of(child)).map_or(0, Line::above)
    }

    /// The word of a number, counted from the first of all lines; 0 if there is none.
    #[inline(always)]
    pub(super) fn word(&self, number: u32) -> u32 {
        self.lines.get(number as usize / WORDS).map_or(0, |line| line.word(number as usize))
    }

    /// The number of the word in which a child says what comes next for the address, of which `octets` have been looked at.
    #[inline(always)]
    pub(super) fn next_word(&self, address: A, child: u32, octets: &mut usize) -> u32 {
        let at = line_of(child);
        let Some(line) = self.lines.get(at) else { return NO_WORD };
        let word = if is_skip(child) {
            let Some(word) = skip(line, address, octets) else { return NO_WORD };
            word
        } else {
            let word = line.run_word(address.octet(*octets));
            *octets += 1;
            word
        };
        (at * WORDS + word) as u32
    }

    #[inline(always)]
    pub(super) fn root_value(&self, address: A, wide: bool) -> u32 {
        // Always there: 0 only spares the packet path a panic.
        self.root.get(self.root_slot(address, wide)).map_or(0, |slot| slot.load(Ordering::Acquire))
    }
}

/// Where a skip's child stands in it, if the address goes there.
#[inline(never)]
fn skip<A: Address>(line: &Line, address: A, octets: &mut usize) -> Option<usize> {
    let skip = line.skip();
    *octets = skip.octets;
    (address.common(A::from_words(skip.words)) >= skip.octets * 8).then_some(SKIP_CHILD)
}
