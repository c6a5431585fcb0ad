//! What the trie is made of: words, cache lines, and how a node is laid out in them.
//!
//! A word of the trie, called a value, is one of three:
//!
//! | bits        | meaning                                                            |
//! |-------------|--------------------------------------------------------------------|
//! | 0           | no prefix of this node covers the slot: what was found above counts |
//! | 1 to 2^24-1 | leaf: a [`NextHopId`](crate::ids::NextHopId)                        |
//! | 1 line      | a node begins at that line                                         |
//!
//! A node has a slot for each value of [`STRIDE`] bits of the address. Slots in a row with equal values are a run,
//! stored once:
//!
//! | words   | content                                                                              |
//! |---------|--------------------------------------------------------------------------------------|
//! | 0 and 1 | a bit for each slot: a run starts here                                               |
//! | 2       | above: the leaf that the parent's prefixes have for this whole node, or 0 (24 bits); |
//! |         | and how many bits of the address are before those that the node goes by              |
//! | 3 (4)   | the key: what the address must have in the 32 bits before those (64 with IPv6)       |
//! | 4 (5) on | the value of each run; more than 12 (11) go on in the lines behind                  |
//!
//! A node may hang further up than it belongs: bits that all prefixes below have in common are skipped, and the key is
//! what tells other addresses. So nearly every node is one line with all that a step down must know.

use super::prefix::Address;
use super::sync::{AtomicU32, Ordering};

/// Bits that a node goes by.
pub(super) const STRIDE: usize = 6;

/// Slots of a node.
pub(super) const SLOTS: usize = 1 << STRIDE;

/// Words of a line.
pub(super) const WORDS: usize = 16;

/// The word that has what the parent's prefixes say, and the bits before the node.
const ABOVE: usize = 2;
const ABOVE_BITS: usize = 24;
const KEY: usize = 3;

/// Most words of a node's head.
const HEAD_MAX: usize = KEY + 2;

/// Most lines of one node.
pub(super) const NODE_LINES_MAX: usize = (HEAD_MAX + SLOTS).div_ceil(WORDS);

const CHILD: u32 = 1 << 31;
/// Most lines of one table: their words are numbered in 32 bits.
pub(super) const LINES_MAX: usize = u32::MAX as usize / WORDS;

const _: () = assert!(crate::limits::NEXT_HOPS_MAX <= 1 << ABOVE_BITS);

/// Words of a node's head: where its runs begin.
const fn head<A: Address>() -> usize {
    KEY + A::KEY_WORDS
}

/// True if the value leads to a node.
#[inline(always)]
pub(super) fn is_child(value: u32) -> bool {
    value & CHILD != 0
}

/// The leaf that a value is, or 0.
#[inline(always)]
pub(super) fn leaf_of(value: u32) -> u32 {
    value & (value >> 31).wrapping_sub(1)
}

/// The line in which a child begins; that of the empty node, which answers nothing, if the value is none.
#[inline(always)]
pub(super) fn node_of(value: u32) -> u32 {
    value & (CHILD - 1) & ((value >> 31).wrapping_neg())
}

/// The line in which a child begins.
#[inline(always)]
pub(super) fn line_of(value: u32) -> usize {
    (value & (CHILD - 1)) as usize
}

/// The line and the word in it of a word counted from the first of the node at line `at`.
#[inline(always)]
pub(super) fn word_of(at: usize, word: usize) -> (usize, usize) {
    (at + word / WORDS, word % WORDS)
}

/// A cache line of words.
#[repr(align(64))]
pub(super) struct Line([AtomicU32; WORDS]);

impl Line {
    pub(super) fn new() -> Line {
        Line(std::array::from_fn(|_| AtomicU32::new(0)))
    }

    #[inline(always)]
    pub(super) fn word(&self, at: usize) -> u32 {
        // Acquire: the word may be the one that leads to lines just written. An ordinary load on x86.
        self.0[at % WORDS].load(Ordering::Acquire)
    }

    /// Writes a word that readers may meet at once.
    pub(super) fn set(&self, at: usize, word: u32) {
        self.0[at % WORDS].store(word, Ordering::Release);
    }

    /// The leaf that the parent has for this child.
    #[inline(always)]
    pub(super) fn above(&self) -> u32 {
        self.0[ABOVE].load(Ordering::Relaxed) & ((1 << ABOVE_BITS) - 1)
    }

    /// How many bits of the address are before those that the node goes by.
    #[inline(always)]
    pub(super) fn bits(&self) -> usize {
        (self.0[ABOVE].load(Ordering::Relaxed) >> ABOVE_BITS) as usize
    }

    /// Changes what [`above`](Line::above) says.
    pub(super) fn set_above(&self, leaf: u32) {
        self.set(ABOVE, (self.bits() as u32) << ABOVE_BITS | leaf);
    }

    /// What an address must have in the bits before those that the node goes by, as [`Address::window`] has it.
    #[inline(always)]
    pub(super) fn key<A: Address>(&self) -> u64 {
        let word = |at: usize| u64::from(self.0[at].load(Ordering::Relaxed));
        if A::KEY_WORDS == 1 { word(KEY) } else { word(KEY) | word(KEY + 1) << 32 }
    }

    /// A bit for each slot where a run starts.
    #[inline(always)]
    fn starts(&self) -> u64 {
        let word = |at: usize| u64::from(self.0[at].load(Ordering::Relaxed));
        word(0) | word(1) << 32
    }

    /// The number of the run that a slot belongs to, counted from the first word of the node.
    #[inline(always)]
    pub(super) fn run_word<A: Address>(&self, slot: usize) -> usize {
        // Those up to the slot itself, of which there is always one: slot 0 starts a run.
        (self.starts() << (SLOTS - 1 - slot % SLOTS)).count_ones() as usize + (head::<A>() - 1)
    }

    /// True if no other slot is in this slot's run.
    pub(super) fn stands_alone(&self, slot: usize) -> bool {
        let starts = |slot: usize| self.starts() >> slot & 1 != 0;
        starts(slot) && (slot + 1 == SLOTS || starts(slot + 1))
    }

    /// Lines of this node.
    pub(super) fn node_lines<A: Address>(&self) -> usize {
        self.run_word::<A>(SLOTS - 1) / WORDS + 1
    }
}

/// A node as it will stand in its lines.
pub(super) struct Block {
    words: [u32; NODE_LINES_MAX * WORDS],
    head: usize,
    lines: usize,
}

impl Block {
    /// A node on the way to `address`, `bits` bits of which are before those that it goes by.
    pub(super) fn new<A: Address>(slots: &[u32; SLOTS], address: A, bits: usize, above: u32) -> Block {
        let (_, key) = address.window(bits);
        Block::with::<A>(slots, key, (bits as u32) << ABOVE_BITS | above)
    }

    /// The node that begins in `line` as the child of another one, whose prefixes have `above` for it.
    pub(super) fn below<A: Address>(slots: &[u32; SLOTS], line: &Line, above: u32) -> Block {
        Block::with::<A>(slots, line.key::<A>(), (line.bits() as u32) << ABOVE_BITS | above)
    }

    /// The node that begins in `line` with other slots.
    pub(super) fn again<A: Address>(slots: &[u32; SLOTS], line: &Line) -> Block {
        Block::with::<A>(slots, line.key::<A>(), line.word(ABOVE))
    }

    fn with<A: Address>(slots: &[u32; SLOTS], key: u64, above: u32) -> Block {
        let mut words = [0; NODE_LINES_MAX * WORDS];
        let head = head::<A>();
        words[ABOVE] = above;
        words[KEY] = key as u32;
        if A::KEY_WORDS > 1 {
            words[KEY + 1] = (key >> 32) as u32;
        }
        let (mut starts, mut runs, mut last) = (0u64, 0, None);
        for (slot, &value) in slots.iter().enumerate() {
            if last != Some(value) {
                starts |= 1 << slot;
                words[head + runs] = value;
                runs += 1;
                last = Some(value);
            }
        }
        words[0] = starts as u32;
        words[1] = (starts >> 32) as u32;
        Block { words, head, lines: (head + runs).div_ceil(WORDS) }
    }

    /// How many lines it takes.
    pub(super) fn lines(&self) -> usize {
        self.lines
    }

    /// Writes it into its lines, which no reader may know yet, and answers the value that leads there.
    pub(super) fn write(&self, lines: &[Line], at: usize) -> u32 {
        for (line, words) in lines[at..at + self.lines].iter().zip(self.words.chunks_exact(WORDS)) {
            for (place, &word) in line.0.iter().zip(words) {
                place.store(word, Ordering::Relaxed);
            }
        }
        CHILD | at as u32
    }

    /// Where it differs from the node at `at`, if nothing but values of runs does: pairs of a word's number, counted
    /// from the node's first, and what it should be.
    pub(super) fn changes<'a>(
        &'a self,
        lines: &'a [Line],
        at: usize,
    ) -> Option<impl Iterator<Item = (usize, u32)> + 'a> {
        let old = &lines[at..];
        if (0..self.head).any(|word| old[0].word(word) != self.words[word]) {
            return None;
        }
        let all = (self.head..self.lines * WORDS).map(|word| (word, self.words[word]));
        Some(all.filter(|&(word, value)| old[word / WORDS].word(word) != value))
    }
}

/// The value of each slot of the node that begins at line `at`.
pub(super) fn slots_of<A: Address>(lines: &[Line], at: usize) -> [u32; SLOTS] {
    let starts = lines[at].starts();
    let mut next = head::<A>();
    let mut value = 0;
    std::array::from_fn(|slot| {
        if starts >> slot & 1 != 0 {
            let (line, word) = word_of(at, next);
            value = lines[line].word(word);
            next += 1;
        }
        value
    })
}
