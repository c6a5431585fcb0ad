//! Building a whole trie aside: of routes, or of another trie, packed without gaps.

use super::lookup::{Fib, WIDE};
use super::node::{Block, Line, SLOTS, Skip, is_child, is_skip, line_of, slots_of};
use super::prefix::{Address, Prefix};
use super::rib::level_of;
use super::sync::Ordering;
use crate::limits::FIB_WIDE_ROUTES;

/// Lines that a table has free beside those in use: a quarter, and what small tables begin with.
fn room_beside(used: usize) -> usize {
    used / 4 + 2 * super::writer::CHANGE_LINES_MAX
}

struct Builder {
    lines: Vec<Line>,
}

impl Builder {
    fn put(&mut self, block: &Block) -> u32 {
        let at = self.lines.len();
        self.lines.extend((0..block.lines()).map(|_| Line::new()));
        block.write(&self.lines, at)
    }

    /// The trie below a slot whose address has had `octets` looked at, of routes that are all longer than that.
    fn below<A: Address>(&mut self, routes: &[(Prefix<A>, u32)], octets: usize, above: u32) -> u32 {
        let (Some(&(first, _)), Some(&(last, _))) = (routes.first(), routes.last()) else { return above };
        // The first octet in which they part or some of them end.
        let parting = first.address().common(last.address()) / 8;
        let node = routes.iter().map(|(prefix, _)| level_of(prefix.length())).min().unwrap_or(0).min(parting);
        let skipped = node > octets;
        let mut slots = [0; SLOTS];
        self.fill(routes, node, 1, &mut slots);
        let value = self.put(&Block::node(&slots, if skipped { 0 } else { above }));
        if !skipped {
            return value;
        }
        let words = first.address().keep(node * 8).to_words();
        self.put(&Block::skip(Skip { words, octets: node, child: value }, above))
    }

    /// Fills the slots of a node, or of the root, that goes by `width` octets from number `octets` on.
    fn fill<A: Address>(&mut self, routes: &[(Prefix<A>, u32)], octets: usize, width: usize, slots: &mut [u32]) {
        let end = (octets + width) * 8;
        let slot_of = |prefix: Prefix<A>| {
            if width == 2 { prefix.address().top_two() } else { prefix.address().octet(octets) }
        };
        let mut rest = routes;
        while let Some((&(prefix, hop), behind)) = rest.split_first() {
            let slot = slot_of(prefix);
            if prefix.length() <= end {
                // What covers a slot sorts before what is inside it, so the longest is painted last.
                slots[slot..slot + (1 << (end - prefix.length()))].fill(hop);
                rest = behind;
                continue;
            }
            let count = rest.iter().take_while(|&&(prefix, _)| slot_of(prefix) == slot).count();
            let (inner, behind) = rest.split_at(count);
            slots[slot] = self.below(inner, octets + width, slots[slot]);
            rest = behind;
        }
    }

    /// A copy of what `value` leads to.
    fn copy(&mut self, lines: &[Line], value: u32) -> u32 {
        if !is_child(value) {
            return value;
        }
        let at = line_of(value);
        let above = lines[at].above();
        if is_skip(value) {
            let skip = lines[at].skip();
            let child = self.copy(lines, skip.child);
            return self.put(&Block::skip(Skip { child, ..skip }, above));
        }
        let mut slots = slots_of(lines, at);
        for slot in &mut slots {
            *slot = self.copy(lines, *slot);
        }
        self.put(&Block::node(&slots, above))
    }

    /// Adds free lines and answers how many are in use.
    fn finish<A: Address>(mut self, root: &[u32], default: u32) -> (Fib<A>, usize) {
        let used = self.lines.len();
        let room = if used == 0 { 0 } else { room_beside(used) };
        self.lines.reserve_exact(room);
        self.lines.extend((0..room).map(|_| Line::new()));
        (Fib::with(root, self.lines, default), used)
    }
}

/// A trie of sorted routes, no prefix of which is there twice, and how many of its lines are in use.
pub(super) fn build<A: Address>(routes: &[(Prefix<A>, u32)]) -> (Fib<A>, usize) {
    let mut builder = Builder { lines: Vec::new() };
    let (default, routes) = match routes.split_first() {
        Some((&(prefix, hop), rest)) if prefix.is_default() => (hop, rest),
        _ => (0, routes),
    };
    let wide = routes.len() >= FIB_WIDE_ROUTES;
    let mut root = vec![0; if wide { WIDE } else { SLOTS }];
    builder.fill(routes, 0, if wide { 2 } else { 1 }, &mut root);
    builder.finish(&root, default)
}

/// A copy of a trie with more free lines, and how many are in use.
pub(super) fn copy<A: Address>(fib: &Fib<A>) -> (Fib<A>, usize) {
    let mut builder = Builder { lines: Vec::new() };
    let root: Vec<u32> = fib.root.iter().map(|slot| builder.copy(&fib.lines, slot.load(Ordering::Relaxed))).collect();
    let mut finished = builder.finish(&root, fib.default.load(Ordering::Relaxed));
    if finished.1 == 0 {
        finished.0.lines = (0..room_beside(0)).map(|_| Line::new()).collect();
    }
    finished
}
