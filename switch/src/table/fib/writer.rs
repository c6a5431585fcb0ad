//! The writer's half: routes come and go under the readers. Control thread.
//!
//! A change touches one node. Its new form is written aside and published by one store of the word that leads to it;
//! the old form is used again after a grace period. What a short prefix means for what lies below it is said in one
//! word of each child (`above`), so nothing below is rebuilt. Every address is answered as before the change or as
//! after it, since for each of them one word decides.

use std::sync::Arc;

use super::arena::Arena;
use super::build;
use super::lookup::Fib;
use super::node::{Block, LINES_MAX, Line, NODE_LINES_MAX, SLOTS, STRIDE, is_child, line_of, slots_of, word_of};
use super::prefix::{Address, Prefix};
use super::rib::Rib;
use super::root::{Grid, OCTET_BITS, OCTETS};
use super::sync::Ordering;
use crate::ids::NextHopId;
use crate::table::grace::Grace;

/// Most lines that one change takes: two nodes in full that are written anew, and nodes for the new prefix.
pub(super) const CHANGE_LINES_MAX: usize = 2 * NODE_LINES_MAX + 8;

/// What a change did.
#[must_use = "a table that was replaced has to be published"]
pub struct Changed<A> {
    /// The next hop that the prefix had before; [`NextHopId::NONE`] without a route.
    pub was: NextHopId,
    /// The table that readers must be given instead of the one they have, which does not have this change nor will have
    /// any further one. `None`: the change is in the table that they have.
    pub replaced: Option<Arc<Fib<A>>>,
}

/// Where a value stands.
#[derive(Clone, Copy)]
enum Place {
    /// In a slot of the root.
    Root(usize),
    /// In a slot of the node that begins at a line.
    Node(usize, usize),
}

/// All routes of one table (one address family of one VRF), and the trie that readers look them up in.
pub struct FibWriter<A: Address> {
    rib: Rib<A>,
    fib: Arc<Fib<A>>,
    arena: Arena,
    grace: Arc<Grace>,
}

/// How the way down to a prefix's node ended, the places passed being in the trail.
enum Found {
    /// At its node.
    Node(usize),
    /// At a leaf, or at nothing, where the node should hang; bits looked at.
    Leaf(u32, usize),
    /// At a node that hangs too far up: there must be one before it. Bits looked at before it, and in all where the two
    /// ways part or the prefix's node should be.
    Before(usize, usize, usize),
}

impl<A: Address> FibWriter<A> {
    /// A table without routes, which takes 3 KiB. `grace` is the one that all its readers pass.
    pub fn new(grace: Arc<Grace>) -> FibWriter<A> {
        let (fib, used) = build::build(&[]);
        FibWriter { rib: Rib::new(), arena: Arena::new(fib.lines.len(), used), fib: Arc::new(fib), grace }
    }

    /// What readers are to be given.
    pub fn table(&self) -> &Arc<Fib<A>> {
        &self.fib
    }

    /// Routes in the table.
    pub fn len(&self) -> usize {
        self.rib.len()
    }

    /// True without any route.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that the table takes: what readers see, exactly, and the control thread's own part, estimated as maps
    /// filled to two thirds.
    pub fn bytes(&self) -> usize {
        let readers = size_of_val(&*self.fib.octets) + size_of_val(&*self.fib.root) + size_of_val(&*self.fib.lines);
        readers + self.arena.bytes() + self.rib.bytes()
    }

    /// The next hop of exactly this prefix.
    pub fn get(&self, prefix: Prefix<A>) -> Option<NextHopId> {
        self.rib.get(prefix).map(NextHopId::from_bits)
    }

    /// The longest prefix that contains `address`, with its next hop: what [`Fib::lookup`] answers, and why. Takes
    /// microseconds.
    pub fn longest(&self, address: A) -> Option<(Prefix<A>, NextHopId)> {
        let (prefix, hop) = self.rib.longest(address, 0, A::OCTETS * 8)?;
        Some((prefix, NextHopId::from_bits(hop)))
    }

    /// All routes in order of address, shorter prefixes first; behind `after` if given, which need not be there any
    /// more. So a dump may go in slices, between which routes come and go.
    pub fn routes(&self, after: Option<Prefix<A>>) -> impl Iterator<Item = (Prefix<A>, NextHopId)> + '_ {
        self.rib.iter(after).map(|(prefix, hop)| (prefix, NextHopId::from_bits(hop)))
    }

    /// Gives `prefix` a next hop, instead of the one it may have. [`NextHopId::NONE`] removes it.
    pub fn insert(&mut self, prefix: Prefix<A>, hop: NextHopId) -> Changed<A> {
        if hop.is_none() {
            return self.remove(prefix);
        }
        if self.rib.get(prefix) == Some(hop.bits()) {
            return Changed { was: hop, replaced: None };
        }
        let replaced = self.make_room(prefix);
        let was = self.rib.insert(prefix, hop.bits()).unwrap_or(0);
        self.apply(prefix, hop.bits());
        self.arena.retire(&self.grace);
        Changed { was: NextHopId::from_bits(was), replaced }
    }

    /// Removes `prefix`, if it is there.
    pub fn remove(&mut self, prefix: Prefix<A>) -> Changed<A> {
        if self.rib.get(prefix).is_none() {
            return Changed { was: NextHopId::NONE, replaced: None };
        }
        let replaced = self.make_room(prefix);
        let was = self.rib.remove(prefix).unwrap_or(0);
        let cover = self.rib.longest(prefix.address(), self.shortest_beside(prefix), prefix.length().saturating_sub(1));
        self.apply(prefix, cover.filter(|_| !prefix.is_default()).map_or(0, |(_, hop)| hop));
        self.arena.retire(&self.grace);
        Changed { was: NextHopId::from_bits(was), replaced }
    }

    /// Replaces all routes by these; of several with one prefix the last counts, and one to [`NextHopId::NONE`] is
    /// none. Answers the table that readers must be given now. Much quicker than inserting them one by one.
    pub fn load(&mut self, routes: impl IntoIterator<Item = (Prefix<A>, NextHopId)>) -> Arc<Fib<A>> {
        let mut routes: Vec<_> = routes.into_iter().map(|(prefix, hop)| (prefix, hop.bits())).collect();
        routes.sort_by_key(|&(prefix, _)| prefix);
        routes.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            if same {
                kept.1 = next.1;
            }
            same
        });
        routes.retain(|&(_, hop)| hop != 0);
        self.rib = Rib::of(&routes);
        self.replace(build::build(&routes))
    }

    /// Makes memory that no reader can see any more free for further changes; changes do so themselves. To be called
    /// now and then. Answers how many pieces still wait for the workers.
    pub fn reclaim(&mut self) -> usize {
        self.arena.reclaim(&self.grace);
        self.arena.waiting()
    }

    /// Lines in use by the trie, the empty node's among them.
    #[cfg(test)]
    pub(super) fn lines_used(&self) -> usize {
        self.arena.used()
    }

    fn replace(&mut self, (fib, used): (Fib<A>, usize)) -> Arc<Fib<A>> {
        // What waited was taken out of the old table, whose readers keep it alive as a whole.
        self.arena = Arena::new(fib.lines.len(), used);
        self.fib = Arc::new(fib);
        self.fib.clone()
    }

    /// Sees to it that there are lines for a change, if need be in a new table.
    fn make_room(&mut self, prefix: Prefix<A>) -> Option<Arc<Fib<A>>> {
        self.arena.reclaim(&self.grace);
        if prefix.length() <= self.grid(prefix.address()).start() || self.arena.has_room(CHANGE_LINES_MAX) {
            return None;
        }
        let mut octets = self.fib.octets.iter().enumerate();
        let widens = octets.any(|(at, octet)| octet.width() == 0 && self.rib.has_below(at, A::WIDE_ROUTES));
        let new = if widens { build::build(&self.rib.iter(None).collect::<Vec<_>>()) } else { build::copy(&self.fib) };
        debug_assert!(new.0.lines.len() < LINES_MAX);
        Some(self.replace(new))
    }

    /// Where nodes on the way to an address may begin.
    fn grid(&self, address: A) -> Grid {
        self.fib.octet(address).grid::<A>()
    }

    /// The shortest prefix that belongs to the same node, or to the root's slots, or to the first octets, in bits.
    fn shortest_beside(&self, prefix: Prefix<A>) -> usize {
        let grid = self.grid(prefix.address());
        match prefix.length() {
            0..=OCTET_BITS => 0,
            length if length <= grid.start() => OCTET_BITS + 1,
            length => grid.node_of(length) + 1,
        }
    }

    /// Makes the trie say `leaf` for what is in `prefix` and in no longer route of its node.
    fn apply(&mut self, prefix: Prefix<A>, leaf: u32) {
        let grid = self.grid(prefix.address());
        if prefix.length() <= OCTET_BITS {
            self.apply_to_octets(prefix, leaf);
        } else if prefix.length() <= grid.start() {
            self.apply_to_root(prefix, leaf, grid);
        } else {
            let mut trail = Vec::with_capacity(A::OCTETS);
            match self.find(prefix, grid, &mut trail) {
                Found::Node(at) => self.apply_to_node(prefix, leaf, at, trail),
                Found::Leaf(above, bits) => {
                    let branch = self.branch(prefix, leaf, bits, above);
                    self.put(trail, branch);
                }
                Found::Before(at, start, parting) => {
                    let fork = self.fork(prefix, leaf, at, start, parting);
                    self.put(trail, fork);
                    self.give(at);
                }
            }
        }
    }

    fn lines(&self) -> &[Line] {
        &self.fib.lines
    }

    /// The way from the root to the node that `prefix` belongs to.
    fn find(&self, prefix: Prefix<A>, grid: Grid, trail: &mut Vec<Place>) -> Found {
        let goal = grid.node_of(prefix.length());
        let slot = self.fib.octet(prefix.address()).slot(prefix.address());
        trail.push(Place::Root(slot));
        let mut value = self.fib.root_value(slot);
        let mut from = grid.start();
        while is_child(value) {
            let at = line_of(value);
            let node = &self.lines()[at];
            let bits = node.bits();
            let (slot, key) = prefix.address().window(bits);
            // Up to `from` there is no difference.
            let differing = 64 - (key ^ node.key::<A>()).leading_zeros() as usize;
            let parting = grid.floor(bits - differing).min(goal);
            if parting < bits {
                return Found::Before(at, from, parting);
            }
            if bits == goal {
                return Found::Node(at);
            }
            trail.push(Place::Node(at, slot));
            value = self.value(at, slot);
            from = bits + STRIDE;
        }
        Found::Leaf(value, from)
    }

    fn value(&self, node: usize, slot: usize) -> u32 {
        let (line, word) = word_of(node, self.lines()[node].run_word::<A>(slot));
        self.lines()[line].word(word)
    }

    /// Paints `leaf` and the routes of at most `end` bits inside `prefix` over the slots that begin with its first,
    /// `slot_of` being the slot of an address.
    fn paint(&self, prefix: Prefix<A>, leaf: u32, end: usize, slot_of: impl Fn(A) -> usize, slots: &mut [u32]) {
        slots.fill(leaf);
        let first = slot_of(prefix.address());
        // What covers comes before what is inside.
        for (inner, hop) in self.rib.inside(prefix, end.min(A::OCTETS * 8)) {
            let from = slot_of(inner.address()) - first;
            slots[from..from + (1 << (end - inner.length()))].fill(hop);
        }
    }

    fn apply_to_octets(&mut self, prefix: Prefix<A>, leaf: u32) {
        let mut painted = [0; OCTETS];
        let first = prefix.address().octet(0);
        let count = 1 << (OCTET_BITS - prefix.length());
        self.paint(prefix, leaf, OCTET_BITS, |address| address.octet(0), &mut painted[..count]);
        for (octet, leaf) in self.fib.octets[first..].iter().zip(&painted[..count]) {
            octet.set_above(*leaf);
        }
    }

    fn apply_to_root(&mut self, prefix: Prefix<A>, leaf: u32, grid: Grid) {
        let octet = self.fib.octet(prefix.address());
        let mut painted = vec![0; 1 << (grid.start() - prefix.length())];
        self.paint(prefix, leaf, grid.start(), |address| octet.slot(address), &mut painted);
        for (slot, leaf) in self.fib.root[octet.slot(prefix.address())..].iter().zip(painted) {
            let value = slot.load(Ordering::Relaxed);
            if is_child(value) {
                self.set_above(value, leaf);
            } else if value != leaf {
                slot.store(leaf, Ordering::Release);
            }
        }
    }

    fn apply_to_node(&mut self, prefix: Prefix<A>, leaf: u32, at: usize, trail: Vec<Place>) {
        let bits = self.lines()[at].bits();
        let slot_of = |address: A| address.window(bits).0;
        let mut painted = [0; SLOTS];
        let count = 1 << (bits + STRIDE - prefix.length());
        self.paint(prefix, leaf, bits + STRIDE, slot_of, &mut painted[..count]);
        let mut slots = slots_of::<A>(self.lines(), at);
        for (slot, &leaf) in slots[slot_of(prefix.address())..].iter_mut().zip(&painted[..count]) {
            if is_child(*slot) {
                self.set_above(*slot, leaf);
            } else {
                *slot = leaf;
            }
        }
        self.settle(prefix.address(), at, slots, trail);
    }

    /// Changes in place what a child has from its parent's prefixes.
    fn set_above(&self, child: u32, leaf: u32) {
        let line = &self.lines()[line_of(child)];
        if line.above() != leaf {
            line.set_above(leaf);
        }
    }

    /// Gives the node at `at`, on the way to `address`, these slots; or takes it out, if it has no prefix of its own
    /// any more, less than two children, and is not needed as a halt.
    fn settle(&mut self, address: A, at: usize, slots: [u32; SLOTS], trail: Vec<Place>) {
        let own = |&value: &u32| if is_child(value) { self.lines()[line_of(value)].above() != 0 } else { value != 0 };
        let mut children = slots.iter().filter(|value| is_child(**value));
        let (first, second) = (children.next(), children.next());
        let bits = self.lines()[at].bits();
        let halts = first.is_some() && self.grid(address).halt(bits) == bits;
        if halts || slots.iter().any(own) || second.is_some() {
            return self.rewrite(at, &slots, trail);
        }
        let above = self.lines()[at].above();
        self.give(at);
        match first {
            // It hangs further up now. Who comes by the old way finds the same above it twice.
            Some(&child) => {
                self.set_above(child, above);
                self.put(trail, child);
            }
            None => self.put_leaf(address, above, trail),
        }
    }

    /// Leaves `leaf` where a node was.
    fn put_leaf(&mut self, address: A, leaf: u32, mut trail: Vec<Place>) {
        match trail.pop() {
            Some(Place::Root(slot)) => self.fib.root[slot].store(leaf, Ordering::Release),
            Some(Place::Node(at, slot)) => {
                let mut slots = slots_of::<A>(self.lines(), at);
                slots[slot] = leaf;
                self.settle(address, at, slots, trail);
            }
            None => {}
        }
    }

    /// Gives a node other slots: in place if its runs stay what they are, else anew.
    fn rewrite(&mut self, at: usize, slots: &[u32; SLOTS], trail: Vec<Place>) {
        let block = Block::again::<A>(slots, &self.lines()[at]);
        if let Some(changes) = block.changes(self.lines(), at) {
            for (word, value) in changes {
                let (line, word) = word_of(at, word);
                self.lines()[line].set(word, value);
            }
            return;
        }
        let value = self.write(&block);
        self.put(trail, value);
        self.give(at);
    }

    /// Publishes the child `value` at the end of the way.
    fn put(&mut self, mut trail: Vec<Place>, value: u32) {
        match trail.pop() {
            Some(Place::Root(slot)) => self.fib.root[slot].store(value, Ordering::Release),
            Some(Place::Node(at, slot)) if is_child(self.value(at, slot)) || self.lines()[at].stands_alone(slot) => {
                let (line, word) = word_of(at, self.lines()[at].run_word::<A>(slot));
                self.lines()[line].set(word, value);
            }
            Some(Place::Node(at, slot)) => {
                let mut slots = slots_of::<A>(self.lines(), at);
                slots[slot] = value;
                self.rewrite(at, &slots, trail);
            }
            None => {}
        }
    }

    /// A new node for `prefix`, to hang at a slot behind `from` bits whose leaf was `above`.
    fn branch(&mut self, prefix: Prefix<A>, leaf: u32, from: usize, above: u32) -> u32 {
        let bits = self.grid(prefix.address()).node_of(prefix.length());
        let mut slots = [0; SLOTS];
        slots[slots_in(prefix, bits)].fill(leaf);
        self.node_behind(prefix.address(), from, bits, &slots, above)
    }

    /// A node behind `bits` bits, to hang at a slot behind `from`, with the halts between.
    fn node_behind(&mut self, address: A, from: usize, bits: usize, slots: &[u32; SLOTS], above: u32) -> u32 {
        let halt = self.grid(address).halt(from);
        if halt >= bits {
            return self.write(&Block::new(slots, address, bits, above));
        }
        let child = self.node_behind(address, halt + STRIDE, bits, slots, 0);
        let mut only = [0; SLOTS];
        only[address.window(halt).0] = child;
        self.write(&Block::new(&only, address, halt, above))
    }

    /// What stands instead of the node at `at`, which hangs at a slot behind `start` bits, when `prefix` has its node
    /// before it, or parts from it, behind `parting` bits.
    fn fork(&mut self, prefix: Prefix<A>, leaf: u32, at: usize, start: usize, parting: usize) -> u32 {
        let node = &self.lines()[at];
        let (above, old_slot) = (node.above(), slot_before::<A>(node, parting));
        let old = slots_of::<A>(self.lines(), at);
        let mut slots = [0; SLOTS];
        let mut inherits = 0;
        if parting == self.grid(prefix.address()).node_of(prefix.length()) {
            let covered = slots_in(prefix, parting);
            slots[covered.clone()].fill(leaf);
            inherits = if covered.contains(&old_slot) { leaf } else { 0 };
        } else {
            slots[prefix.address().window(parting).0] = self.branch(prefix, leaf, parting + STRIDE, 0);
        }
        // A copy: where it hangs now it must go on saying what the slot's prefixes say.
        slots[old_slot] = self.write(&Block::below::<A>(&old, &self.lines()[at], inherits));
        self.node_behind(prefix.address(), start, parting, &slots, above)
    }

    fn write(&mut self, block: &Block) -> u32 {
        let at = self.arena.take(block.lines());
        block.write(&self.fib.lines, at)
    }

    /// Gives back the lines of a node that readers are no longer led to.
    fn give(&mut self, at: usize) {
        let lines = self.lines()[at].node_lines::<A>();
        self.arena.give(at, lines);
    }
}

/// The slots that a prefix covers in its node, which is behind `bits` bits.
fn slots_in<A: Address>(prefix: Prefix<A>, bits: usize) -> std::ops::Range<usize> {
    let first = prefix.address().window(bits).0;
    first..first + (1 << (bits + STRIDE - prefix.length()))
}

/// The slot of a node behind `bits` bits in which all is that is in the node of this line, further down.
fn slot_before<A: Address>(line: &Line, bits: usize) -> usize {
    (line.key::<A>() >> (line.bits() - bits - STRIDE)) as usize % SLOTS
}
