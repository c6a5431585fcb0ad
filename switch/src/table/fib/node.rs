//! What the trie is made of: words, cache lines, and how a node is laid out in them.
//!
//! A word of the trie, called a value, is one of three:
//!
//! | bits        | meaning                                                            |
//! |-------------|--------------------------------------------------------------------|
//! | 0           | no prefix of this node covers the slot: what was found above counts |
//! | 1 to 2^24-1 | leaf: a [`NextHopId`](crate::ids::NextHopId)                        |
//! | 1 0 line    | a node begins at that line                                         |
//! | 1 1 line    | a skip lies in that line                                           |
//!
//! A node has a slot for each value of one octet. Slots in a row with equal values are a run, stored once:
//!
//! | words   | content                                                                        |
//! |---------|--------------------------------------------------------------------------------|
//! | 0 to 7  | a bit for each slot: a run starts here                                         |
//! | 8 and 9 | an octet for each of those eight words: runs that start before it               |
//! | 10      | above: the leaf that the parent's prefixes have for this whole node, or 0      |
//! | 11 on   | the value of each run; more than five go on in the lines behind                |
//!
//! A skip stands for a chain of nodes with one child each: words 0 to 3 are the address that the octets skipped must
//! equal, with all octets before them; word 4 is how many octets that are; word 5 the node behind; 10 as above.

use super::sync::{AtomicU32, Ordering};

/// Slots of a node: one for each value of an octet.
pub(super) const SLOTS: usize = 256;

/// Words of a line.
pub(super) const WORDS: usize = 16;

/// Most lines of one node.
pub(super) const NODE_LINES_MAX: usize = (RUNS + SLOTS).div_ceil(WORDS);

const RANKS: usize = 8;
/// The word in which a child says what the parent's prefixes have for it.
const ABOVE: usize = 10;
const RUNS: usize = 11;

const SKIP_OCTETS: usize = 4;
/// The word of a skip that leads to the node behind.
pub(super) const SKIP_CHILD: usize = 5;

const CHILD: u32 = 1 << 31;
const SKIP: u32 = 1 << 30;
/// Most lines of one table: their words are numbered in 32 bits, and the last number stands for none.
pub(super) const LINES_MAX: usize = u32::MAX as usize / WORDS;
const _: () = assert!(LINES_MAX < SKIP as usize);

/// True if the value leads to a node or a skip.
#[inline(always)]
pub(super) fn is_child(value: u32) -> bool {
    value & CHILD != 0
}

/// The leaf that a value is, or 0.
#[inline(always)]
pub(super) fn leaf_of(value: u32) -> u32 {
    value & (value >> 31).wrapping_sub(1)
}

/// True if a child is a skip.
#[inline(always)]
pub(super) fn is_skip(value: u32) -> bool {
    value & SKIP != 0
}

/// The line in which a child begins.
#[inline(always)]
pub(super) fn line_of(value: u32) -> usize {
    (value & (SKIP - 1)) as usize
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
        self.0[ABOVE].load(Ordering::Relaxed)
    }

    /// Changes what [`above`](Line::above) says.
    pub(super) fn set_above(&self, leaf: u32) {
        self.set(ABOVE, leaf);
    }

    /// The number of the run that a slot belongs to, counted from the first word of the node.
    #[inline(always)]
    pub(super) fn run_word(&self, slot: usize) -> usize {
        let part = slot / 32 % 8;
        let starts = self.0[part].load(Ordering::Relaxed);
        let ranks = self.0[RANKS + part / 4].load(Ordering::Relaxed);
        let before = ranks >> (part % 4 * 8) & 0xff;
        // Those up to the slot itself, of which there is always one: slot 0 starts a run.
        (before + (starts << (31 - slot as u32 % 32)).count_ones()) as usize + (RUNS - 1)
    }

    /// True if a run starts at the slot.
    fn starts(&self, slot: usize) -> bool {
        self.0[slot / 32 % 8].load(Ordering::Relaxed) >> (slot % 32) & 1 != 0
    }

    /// True if no other slot is in this slot's run.
    pub(super) fn stands_alone(&self, slot: usize) -> bool {
        self.starts(slot) && (slot + 1 == SLOTS || self.starts(slot + 1))
    }

    /// Runs of this node.
    fn runs(&self) -> usize {
        self.run_word(SLOTS - 1) + 1 - RUNS
    }

    /// Lines of this node.
    pub(super) fn node_lines(&self) -> usize {
        (RUNS + self.runs()).div_ceil(WORDS)
    }

    /// What a skip says.
    pub(super) fn skip(&self) -> Skip {
        let words = [0, 1, 2, 3].map(|at| self.word(at));
        Skip { words, octets: self.word(SKIP_OCTETS) as usize, child: self.word(SKIP_CHILD) }
    }

    /// Leads a skip to another child.
    pub(super) fn set_skip_child(&self, child: u32) {
        self.set(SKIP_CHILD, child);
    }
}

/// The content of a skip.
#[derive(Clone, Copy)]
pub(super) struct Skip {
    /// The octets that must match, as an address; those behind are zero.
    pub(super) words: [u32; 4],
    /// How many octets of the address have been looked at behind it.
    pub(super) octets: usize,
    /// The node behind.
    pub(super) child: u32,
}

/// A node or skip as it will stand in its lines.
pub(super) struct Block {
    words: [u32; NODE_LINES_MAX * WORDS],
    lines: usize,
    mark: u32,
}

impl Block {
    /// A node with these slots.
    pub(super) fn node(slots: &[u32; SLOTS], above: u32) -> Block {
        let mut words = [0; NODE_LINES_MAX * WORDS];
        let (mut runs, mut last) = (0, None);
        for (part, values) in slots.chunks_exact(32).enumerate() {
            let mut starts = 0;
            words[RANKS + part / 4] |= (runs as u32) << (part % 4 * 8);
            for (bit, &value) in values.iter().enumerate() {
                if last != Some(value) {
                    starts |= 1 << bit;
                    words[RUNS + runs] = value;
                    runs += 1;
                    last = Some(value);
                }
            }
            words[part] = starts;
        }
        words[ABOVE] = above;
        Block { words, lines: (RUNS + runs).div_ceil(WORDS), mark: CHILD }
    }

    /// A skip.
    pub(super) fn skip(skip: Skip, above: u32) -> Block {
        let mut words = [0; NODE_LINES_MAX * WORDS];
        words[..4].copy_from_slice(&skip.words);
        words[SKIP_OCTETS] = skip.octets as u32;
        words[SKIP_CHILD] = skip.child;
        words[ABOVE] = above;
        Block { words, lines: 1, mark: CHILD | SKIP }
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
        self.mark | at as u32
    }

    /// Where it differs from the node at `at`, if nothing but values of runs does: pairs of a word's number, counted
    /// from the node's first, and what it should be.
    pub(super) fn changes<'a>(
        &'a self,
        lines: &'a [Line],
        at: usize,
    ) -> Option<impl Iterator<Item = (usize, u32)> + 'a> {
        let old = &lines[at..];
        if (0..RUNS).any(|word| old[0].word(word) != self.words[word]) {
            return None;
        }
        let all = (RUNS..self.lines * WORDS).map(|word| (word, self.words[word]));
        Some(all.filter(|&(word, value)| old[word / WORDS].word(word) != value))
    }
}

/// The value of each slot of the node that begins at line `at`.
pub(super) fn slots_of(lines: &[Line], at: usize) -> [u32; SLOTS] {
    let node = &lines[at..];
    let mut word = RUNS - 1;
    let mut value = 0;
    std::array::from_fn(|slot| {
        if node[0].starts(slot) {
            word += 1;
            value = node[word / WORDS].word(word);
        }
        value
    })
}
