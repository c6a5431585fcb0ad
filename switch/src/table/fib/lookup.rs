//! The readers' half: longest-prefix match, one address or a burst. Any thread; writes nothing.

use std::hint::select_unpredictable;
use std::ops::Range;

use prefetch_index::prefetch_index;

use super::node::{Line, WORDS, is_child, leaf_of, node_of};
use super::prefix::Address;
use super::root::{OCTETS, Octet};
use super::sync::{AtomicU32, Ordering};
use crate::ids::NextHopId;
use crate::limits::BURST;

/// A table of routes as readers see it: [`Fib4`](super::Fib4), [`Fib6`](super::Fib6).
///
/// Its [`FibWriter`](super::FibWriter) changes it under its readers. A worker may hold what it read only until its next
/// [`Grace::pass`](crate::table::grace::Grace::pass); lookups hold nothing once they answer.
pub struct Fib<A> {
    pub(super) octets: Box<[Octet; OCTETS]>,
    pub(super) root: Box<[AtomicU32]>,
    pub(super) lines: Box<[Line]>,
    address: std::marker::PhantomData<A>,
}

/// A burst on its way down: the best found so far, and of the lanes that are not done, which stand in front, the rest.
/// Arrays rather than an array of structures: each part is read as it was written, in one piece.
struct Lanes {
    found: [NextHopId; BURST],
    /// The nodes that they are at.
    nodes: [u32; BURST],
    /// The words that have what comes next.
    words: [u32; BURST],
    /// Which of the burst it is.
    numbers: [u8; BURST],
}

impl<A: Address> Fib<A> {
    pub(super) fn with(octets: Box<[Octet; OCTETS]>, root: &[u32], lines: Vec<Line>) -> Fib<A> {
        Fib {
            octets,
            root: root.iter().map(|&value| AtomicU32::new(value)).collect(),
            lines: lines.into_boxed_slice(),
            address: std::marker::PhantomData,
        }
    }

    /// What the root has for an address's first octet.
    #[inline(always)]
    pub(super) fn octet(&self, address: A) -> &Octet {
        &self.octets[address.octet(0) % OCTETS]
    }

    /// The next hop of the longest prefix that contains `address`, or [`NextHopId::NONE`].
    #[inline]
    pub fn lookup(&self, address: A) -> NextHopId {
        let octet = self.octet(address);
        let mut best = NextHopId::from_bits(octet.above());
        let mut value = self.root_value(octet.slot(address));
        // A node goes by bits behind those of its parent, so this ends; the count sees to it whatever the table says.
        for _ in 0..A::OCTETS * 2 {
            if !is_child(value) {
                break;
            }
            let node = node_of(value);
            let Some(line) = self.lines.get(node as usize) else { break };
            best = better(best, line.above());
            let Some(next) = word(&self.lines, next_word(&self.lines, address, node)) else { break };
            value = next;
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
        let mut lanes =
            Lanes { found: [NextHopId::NONE; BURST], nodes: [0; BURST], words: [0; BURST], numbers: [0; BURST] };
        // Asked for first, and read in a second loop, so that the misses of all lanes are under way at once.
        for (word, &address) in lanes.words.iter_mut().zip(addresses).take(count) {
            let slot = self.octet(address).slot(address);
            prefetch_index(&*self.root, slot);
            *word = slot as u32;
        }
        // The root, and the first node of all: those that are done have the empty one, without a branch.
        for (number, &address) in addresses.iter().enumerate().take(count) {
            let octet = self.octet(address);
            let value = self.root_value(lanes.words[number] as usize);
            prefetch_index(&*self.lines, node_of(value) as usize);
            lanes.found[number] = better(NextHopId::from_bits(octet.above()), leaf_of(value));
            lanes.nodes[number] = node_of(value);
            lanes.numbers[number] = number as u8;
        }
        let mut open = count;
        for _ in 0..A::OCTETS * 2 {
            if open == 0 {
                break;
            }
            open = descend(&self.lines, addresses, &mut lanes, open);
        }
        lanes.found
    }

    #[inline(always)]
    pub(super) fn root_value(&self, slot: usize) -> u32 {
        // Always there: 0 only spares the packet path a panic.
        self.root.get(slot).map_or(0, |slot| slot.load(Ordering::Acquire))
    }
}

impl<A> Fib<A> {
    /// Where the nodes are, for advice to the kernel about that memory.
    pub fn memory(&self) -> [Range<*const u8>; 2] {
        let (root, lines) = (self.root.as_ptr_range(), self.lines.as_ptr_range());
        [root.start.cast()..root.end.cast(), lines.start.cast()..lines.end.cast()]
    }
}

/// Takes the first `open` lanes a step down; answers how many are not done then.
///
/// Two short loops instead of a long one: no lane waits for the places that the one before it wrote.
#[inline(always)]
fn descend<A: Address>(lines: &[Line], addresses: &[A; BURST], lanes: &mut Lanes, open: usize) -> usize {
    let open = open.min(BURST);
    for at in 0..open {
        let lane = lanes.numbers[at] as usize % BURST;
        let Some(line) = lines.get(lanes.nodes[at] as usize) else { continue };
        lanes.found[lane] = better(lanes.found[lane], line.above());
        lanes.words[at] = next_word(lines, addresses[lane], lanes.nodes[at]);
    }
    let mut left = 0;
    for at in 0..open {
        let number = lanes.numbers[at];
        let Some(value) = word(lines, lanes.words[at]) else { continue };
        prefetch_index(lines, node_of(value) as usize);
        let found = &mut lanes.found[number as usize % BURST];
        *found = better(*found, leaf_of(value));
        lanes.nodes[left % BURST] = node_of(value);
        lanes.numbers[left % BURST] = number;
        left += usize::from(is_child(value));
    }
    left
}

/// The word of a number, counted from the first of all lines.
#[inline(always)]
pub(super) fn word(lines: &[Line], number: u32) -> Option<u32> {
    lines.get(number as usize / WORDS).map(|line| line.word(number as usize))
}

/// The number of the word that the node at a line has for an address; 0, which is the first of the empty node, if the
/// address does not go there.
#[inline(always)]
pub(super) fn next_word<A: Address>(lines: &[Line], address: A, node: u32) -> u32 {
    let Some(line) = lines.get(node as usize) else { return 0 };
    let (slot, key) = address.window(line.bits());
    let word = node * WORDS as u32 + line.run_word::<A>(slot) as u32;
    select_unpredictable(key == line.key::<A>(), word, 0)
}

/// The next hop of a leaf, or the one found so far if there is none (0). Without a branch: whether there is a leaf
/// cannot be foreseen, and a wrong guess would wait for the memory that the leaf comes from.
#[inline(always)]
fn better(found: NextHopId, leaf: u32) -> NextHopId {
    select_unpredictable(leaf == 0, found, NextHopId::from_bits(leaf))
}
