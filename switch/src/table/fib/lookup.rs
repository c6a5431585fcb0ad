//! The readers' half: longest-prefix match, one address or a burst. Any thread; writes nothing.

use std::hint::select_unpredictable;

use super::node::{Line, SKIP_CHILD, WORDS, is_child, is_skip, leaf_of, line_of};
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

/// A burst on its way down: the best found so far, and of the lanes that are not done, which stand in front, the rest.
/// Arrays rather than an array of structures: each part is read as it was written, in one piece.
struct Lanes {
    found: [NextHopId; BURST],
    values: [u32; BURST],
    /// The words that have the next values.
    words: [u32; BURST],
    /// Which of the burst it is.
    numbers: [u8; BURST],
    /// Octets looked at.
    octets: [u8; BURST],
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
        let mut best = NextHopId::from_bits(self.default.load(Ordering::Relaxed));
        let mut value = self.root_value(address, octets == 2);
        // Every step but a failed one looks at an octet more, so this ends whatever the table says.
        while is_child(value) && octets < A::OCTETS {
            let Some(above) = above(&self.lines, value) else { return best };
            best = better(best, above);
            let (number, then) = next_word(&self.lines, address, value, octets);
            let Some(next) = word(&self.lines, number) else { return best };
            (value, octets) = (next, then);
        }
        better(best, leaf_of(value))
    }

    /// Looks up each of `addresses` and writes the answers to the places of the same number in `found`; what is longer
    /// of the two is not looked at.
    ///
    /// Bursts of [`BURST`] go down the trie together, a level at a time, so that their cache misses overlap.
    pub fn lookup_batch(&self, addresses: &[A], found: &mut [NextHopId]) {
        for (addresses, found) in addresses.chunks(BURST).zip(found.chunks_mut(BURST)) {
            let Some(&last) = addresses.last() else { return };
            let all = match <&[A; BURST]>::try_from(addresses) {
                Ok(all) => self.lookup_burst(all, BURST),
                Err(_) => {
                    let mut padded = [last; BURST];
                    padded.iter_mut().zip(addresses).for_each(|(place, &address)| *place = address);
                    self.lookup_burst(&padded, addresses.len())
                }
            };
            found.iter_mut().zip(all).for_each(|(place, hop)| *place = hop);
        }
    }

    /// Looks up the first `count` addresses.
    fn lookup_burst(&self, addresses: &[A; BURST], count: usize) -> [NextHopId; BURST] {
        let default = NextHopId::from_bits(self.default.load(Ordering::Relaxed));
        let none = [0; BURST];
        let mut lanes =
            Lanes { found: [default; BURST], values: [0; BURST], words: [0; BURST], numbers: none, octets: none };
        let mut open = 0;
        let octets = self.root_octets();
        for (number, &address) in addresses.iter().enumerate().take(count) {
            let value = self.root_value(address, octets == 2);
            lanes.found[number] = better(default, leaf_of(value));
            lanes.values[open % BURST] = value;
            lanes.numbers[open % BURST] = number as u8;
            lanes.octets[open % BURST] = octets as u8;
            open += usize::from(is_child(value));
        }
        for _ in 1..A::OCTETS {
            if open == 0 {
                break;
            }
            open = descend(&self.lines, addresses, &mut lanes, open);
        }
        lanes.found
    }

    #[inline(always)]
    pub(super) fn root_value(&self, address: A, wide: bool) -> u32 {
        // Always there: 0 only spares the packet path a panic.
        self.root.get(self.root_slot(address, wide)).map_or(0, |slot| slot.load(Ordering::Acquire))
    }
}

/// Takes the first `open` lanes a step down; answers how many are not done then.
///
/// Three short loops instead of a long one: the core looks some hundred instructions ahead, and so has the misses of
/// more lanes under way at once.
#[inline(always)]
fn descend<A: Address>(lines: &[Line], addresses: &[A; BURST], lanes: &mut Lanes, open: usize) -> usize {
    let open = open.min(BURST);
    for at in 0..open {
        let number = lanes.numbers[at] as usize % BURST;
        let Some(above) = above(lines, lanes.values[at]) else { continue };
        lanes.found[number] = better(lanes.found[number], above);
    }
    for at in 0..open {
        let address = addresses[lanes.numbers[at] as usize % BURST];
        let octets = lanes.octets[at] as usize;
        let (word, octets) = next_word(lines, address, lanes.values[at], octets);
        lanes.words[at] = word;
        lanes.octets[at] = octets as u8;
    }
    let mut left = 0;
    for at in 0..open {
        let number = lanes.numbers[at];
        let octets = lanes.octets[at];
        let Some(value) = word(lines, lanes.words[at]) else { continue };
        let found = &mut lanes.found[number as usize % BURST];
        *found = better(*found, leaf_of(value));
        lanes.values[left % BURST] = value;
        lanes.numbers[left % BURST] = number;
        lanes.octets[left % BURST] = octets;
        left += usize::from(is_child(value));
    }
    left
}

/// The leaf that the parent has for a child.
#[inline(always)]
pub(super) fn above(lines: &[Line], child: u32) -> Option<u32> {
    lines.get(line_of(child)).map(Line::above)
}

/// The word of a number, counted from the first of all lines, unless it is [`NO_WORD`].
#[inline(always)]
pub(super) fn word(lines: &[Line], number: u32) -> Option<u32> {
    lines.get(number as usize / WORDS).map(|line| line.word(number as usize))
}

/// The number of the word in which a child says what comes next for the address, of which `octets` have been looked at;
/// and how many have been looked at then.
#[inline(always)]
pub(super) fn next_word<A: Address>(lines: &[Line], address: A, child: u32, octets: usize) -> (u32, usize) {
    let at = line_of(child);
    let Some(line) = lines.get(at) else { return (NO_WORD, octets) };
    let (word, octets) = if is_skip(child) {
        let Some(octets) = skip(line, address) else { return (NO_WORD, octets) };
        (SKIP_CHILD, octets)
    } else {
        (line.run_word(address.octet(octets)), octets + 1)
    };
    ((at * WORDS + word) as u32, octets)
}

/// The next hop of a leaf, or the one found so far if there is none (0). Without a branch: whether there is a leaf
/// cannot be foreseen, and a wrong guess would wait for the memory that the leaf comes from.
#[inline(always)]
fn better(found: NextHopId, leaf: u32) -> NextHopId {
    select_unpredictable(leaf == 0, found, NextHopId::from_bits(leaf))
}

/// Octets looked at behind a skip, if the address goes there.
#[inline(never)]
fn skip<A: Address>(line: &Line, address: A) -> Option<usize> {
    let skip = line.skip();
    (address.common(A::from_words(skip.words)) >= skip.octets * 8).then_some(skip.octets)
}
