//! Building a whole trie aside: of routes, or of another trie, packed without gaps.

use super::lookup::Fib;
use super::node::{Block, Line, SLOTS, is_child, line_of, slots_of};
use super::prefix::{Address, Prefix};
use super::root::{Grid, OCTET_BITS, OCTETS, Octet};
use super::sync::Ordering;

/// Lines that a table has free beside those in use: a quarter, and what small tables begin with.
fn room_beside(used: usize) -> usize {
    used / 4 + 2 * super::writer::CHANGE_LINES_MAX
}

struct Builder {
    lines: Vec<Line>,
}

impl Builder {
    /// With the empty node, which is line 0 of every table.
    fn new() -> Builder {
        Builder { lines: vec![Line::new()] }
    }

    fn put(&mut self, block: &Block) -> u32 {
        let at = self.lines.len();
        self.lines.extend((0..block.lines()).map(|_| Line::new()));
        block.write(&self.lines, at)
    }

    /// The trie below a slot behind `from` bits of the address, of routes that are all longer than that.
    fn below<A: Address>(&mut self, routes: &[(Prefix<A>, u32)], grid: Grid, from: usize, above: u32) -> u32 {
        let (Some(&(first, _)), Some(&(last, _))) = (routes.first(), routes.last()) else { return above };
        // Where they part or some of them end.
        let parting = grid.floor(first.address().common(last.address()));
        let ending = routes.iter().map(|(prefix, _)| grid.node_of(prefix.length())).min().unwrap_or(from);
        let bits = ending.min(parting).min(grid.halt(from));
        let mut slots = [0; SLOTS];
        self.fill(routes, grid, bits + super::node::STRIDE, |address| address.window(bits).0, &mut slots);
        self.put(&Block::new(&slots, first.address(), bits, above))
    }

    /// Fills slots of a node or of the root that go by the address's bits up to `end`.
    fn fill<A: Address>(
        &mut self,
        routes: &[(Prefix<A>, u32)],
        grid: Grid,
        end: usize,
        slot_of: impl Fn(A) -> usize,
        slots: &mut [u32],
    ) {
        let mut rest = routes;
        while let Some((&(prefix, hop), behind)) = rest.split_first() {
            let slot = slot_of(prefix.address());
            if prefix.length() <= end {
                // What covers a slot sorts before what is inside it, so the longest is painted last.
                slots[slot..slot + (1 << (end - prefix.length()))].fill(hop);
                rest = behind;
                continue;
            }
            let count = rest.iter().take_while(|&&(prefix, _)| slot_of(prefix.address()) == slot).count();
            let (inner, behind) = rest.split_at(count);
            slots[slot] = self.below(inner, grid, end, slots[slot]);
            rest = behind;
        }
    }

    /// A copy of what `value` leads to.
    fn copy<A: Address>(&mut self, lines: &[Line], value: u32) -> u32 {
        if !is_child(value) {
            return value;
        }
        let old = line_of(value);
        let at = self.lines.len();
        let count = lines[old].node_lines::<A>();
        self.lines.extend((0..count).map(|_| Line::new()));
        let mut slots = slots_of::<A>(lines, old);
        for slot in &mut slots {
            *slot = self.copy::<A>(lines, *slot);
        }
        Block::again::<A>(&slots, &lines[old]).write(&self.lines, at)
    }

    /// Adds free lines and answers how many are in use.
    fn finish<A: Address>(mut self, octets: Box<[Octet; OCTETS]>, root: &[u32]) -> (Fib<A>, usize) {
        let used = self.lines.len();
        let room = if used == 1 { 0 } else { room_beside(used) };
        self.lines.reserve_exact(room);
        self.lines.extend((0..room).map(|_| Line::new()));
        (Fib::with(octets, root, self.lines), used)
    }
}

/// A trie of sorted routes, no prefix of which is there twice, and how many of its lines are in use.
pub(super) fn build<A: Address>(routes: &[(Prefix<A>, u32)]) -> (Fib<A>, usize) {
    let mut builder = Builder::new();
    let mut above = [0; OCTETS];
    for &(prefix, hop) in routes.iter().filter(|(prefix, _)| prefix.length() <= OCTET_BITS) {
        let first = prefix.address().octet(0);
        above[first..first + (1 << (OCTET_BITS - prefix.length()))].fill(hop);
    }
    let mut root = Vec::new();
    let mut rest = routes;
    let octets = Box::new(std::array::from_fn(|octet| {
        let count = rest.partition_point(|(prefix, _)| prefix.address().octet(0) <= octet);
        let (own, behind) = rest.split_at(count);
        rest = behind;
        let (_, own) = own.split_at(own.partition_point(|(prefix, _)| prefix.length() <= OCTET_BITS));
        let first = root.len();
        let octet = Octet::new(above[octet], first, if own.len() < A::WIDE_ROUTES { 0 } else { A::WIDE_BITS });
        root.resize(first + (1 << octet.width()), 0);
        let grid = octet.grid::<A>();
        builder.fill(own, grid, grid.start(), |address| octet.slot(address) - first, &mut root[first..]);
        octet
    }));
    builder.finish(octets, &root)
}

/// A copy of a trie with more free lines, and how many are in use.
pub(super) fn copy<A: Address>(fib: &Fib<A>) -> (Fib<A>, usize) {
    let mut builder = Builder::new();
    let values = fib.root.iter().map(|slot| slot.load(Ordering::Relaxed));
    let root: Vec<u32> = values.map(|value| builder.copy::<A>(&fib.lines, value)).collect();
    let octets = Box::new(std::array::from_fn(|octet| fib.octets[octet].copy()));
    let (mut fib, used) = builder.finish(octets, &root);
    if fib.lines.len() == used {
        fib.lines = (0..used + room_beside(used)).map(|_| Line::new()).collect();
    }
    (fib, used)
}
