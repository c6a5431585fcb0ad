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
use super::node::{Block, LINES_MAX, Line, NODE_LINES_MAX, SLOTS, Skip, is_child, is_skip, line_of, slots_of};
use super::prefix::{Address, Prefix};
use super::rib::{Rib, level_of};
use super::sync::Ordering;
use crate::ids::NextHopId;
use crate::limits::FIB_WIDE_ROUTES;
use crate::table::grace::Grace;

/// Most lines that one change takes: a node in full that is written anew, and nodes and skips for the new prefix.
pub(super) const CHANGE_LINES_MAX: usize = NODE_LINES_MAX + 8;

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
    /// In a skip: the node behind it.
    Skip(usize),
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
    /// At a leaf, or at nothing, where the node should hang; octets looked at.
    Leaf(u32, usize),
    /// In a skip that its way leaves; octets looked at before the skip, and in all where they part or the node should
    /// be.
    Skip(usize, usize, usize),
}

impl<A: Address> FibWriter<A> {
    /// A table without routes, which takes 2 KiB. `grace` is the one that all its readers pass.
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
        size_of_val(&*self.fib.root) + size_of_val(&*self.fib.lines) + self.arena.bytes() + self.rib.bytes()
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

    /// Lines in use by the trie.
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
        if prefix.length() <= self.fib.root_octets() * 8 || self.arena.has_room(CHANGE_LINES_MAX) {
            return None;
        }
        let widen = self.fib.root_octets() == 1 && self.rib.len() >= FIB_WIDE_ROUTES;
        let new = if widen { build::build(&self.rib.iter(None).collect::<Vec<_>>()) } else { build::copy(&self.fib) };
        debug_assert!(new.0.lines.len() < LINES_MAX);
        Some(self.replace(new))
    }

    /// The shortest prefix that belongs to the same node, or to the root, in bits.
    fn shortest_beside(&self, prefix: Prefix<A>) -> usize {
        let level = level_of(prefix.length());
        if level < self.fib.root_octets() { 1 } else { level * 8 + 1 }
    }

    /// Makes the trie say `leaf` for what is in `prefix` and in no longer route of its node.
    fn apply(&mut self, prefix: Prefix<A>, leaf: u32) {
        if prefix.is_default() {
            self.fib.default.store(leaf, Ordering::Release);
        } else if prefix.length() <= self.fib.root_octets() * 8 {
            self.apply_to_root(prefix, leaf);
        } else {
            let mut trail = Vec::with_capacity(A::OCTETS);
            match self.find(prefix, &mut trail) {
                Found::Node(at) => self.apply_to_node(prefix, leaf, at, trail),
                Found::Leaf(above, octets) => {
                    let branch = self.branch(prefix, leaf, octets, above);
                    self.put(trail, branch);
                }
                Found::Skip(at, start, parting) => {
                    let fork = self.fork(prefix, leaf, at, start, parting);
                    self.put(trail, fork);
                    self.arena.give(at, 1);
                }
            }
        }
    }

    fn lines(&self) -> &[Line] {
        &self.fib.lines
    }

    /// The way from the root to the node that `prefix` belongs to.
    fn find(&self, prefix: Prefix<A>, trail: &mut Vec<Place>) -> Found {
        let end = level_of(prefix.length());
        let mut octets = self.fib.root_octets();
        let slot = self.fib.root_slot(prefix.address(), octets == 2);
        trail.push(Place::Root(slot));
        let mut value = self.fib.root[slot].load(Ordering::Relaxed);
        while is_child(value) {
            let at = line_of(value);
            if is_skip(value) {
                let skip = self.lines()[at].skip();
                let common = prefix.address().common(A::from_words(skip.words)) / 8;
                let parting = common.min(end);
                if parting < skip.octets {
                    return Found::Skip(at, octets, parting);
                }
                trail.push(Place::Skip(at));
                (value, octets) = (skip.child, skip.octets);
            } else if octets == end {
                return Found::Node(at);
            } else {
                let slot = prefix.address().octet(octets);
                trail.push(Place::Node(at, slot));
                value = self.value(at, slot);
                octets += 1;
            }
        }
        Found::Leaf(value, octets)
    }

    fn value(&self, node: usize, slot: usize) -> u32 {
        let (line, word) = word_of(node, self.lines()[node].run_word(slot));
        self.lines()[line].word(word)
    }

    /// Paints `leaf` and the routes inside `prefix` over the slots that begin with its first.
    fn paint(&self, prefix: Prefix<A>, leaf: u32, end: usize, slots: &mut [u32]) {
        slots.fill(leaf);
        let slot_of = |inner: Prefix<A>| {
            if end <= self.fib.root_octets() {
                self.fib.root_slot(inner.address(), end == 2)
            } else {
                inner.address().octet(end - 1)
            }
        };
        let first = slot_of(prefix);
        // Shorter ones first: level by level, and in a level what covers sorts before what is inside.
        for level in level_of(prefix.length())..end {
            for (inner, hop) in self.rib.inside(level, prefix) {
                let from = slot_of(inner) - first;
                slots[from..from + (1 << (end * 8 - inner.length()))].fill(hop);
            }
        }
    }

    fn apply_to_root(&mut self, prefix: Prefix<A>, leaf: u32) {
        let octets = self.fib.root_octets();
        let mut painted = vec![0; 1 << (octets * 8 - prefix.length())];
        self.paint(prefix, leaf, octets, &mut painted);
        let first = self.fib.root_slot(prefix.address(), octets == 2);
        for (slot, leaf) in self.fib.root[first..].iter().zip(painted) {
            let value = slot.load(Ordering::Relaxed);
            if is_child(value) {
                self.set_above(value, leaf);
            } else if value != leaf {
                slot.store(leaf, Ordering::Release);
            }
        }
    }

    fn apply_to_node(&mut self, prefix: Prefix<A>, leaf: u32, at: usize, trail: Vec<Place>) {
        let end = level_of(prefix.length()) + 1;
        let mut painted = [0; SLOTS];
        let count = 1 << (end * 8 - prefix.length());
        self.paint(prefix, leaf, end, &mut painted[..count]);
        let mut slots = slots_of(self.lines(), at);
        let first = prefix.address().octet(end - 1);
        for (slot, &leaf) in slots[first..].iter_mut().zip(&painted[..count]) {
            if is_child(*slot) {
                self.set_above(*slot, leaf);
            } else {
                *slot = leaf;
            }
        }
        self.settle(prefix.address(), end - 1, at, slots, trail);
    }

    /// Changes in place what a child has from its parent's prefixes.
    fn set_above(&self, child: u32, leaf: u32) {
        let line = &self.lines()[line_of(child)];
        if line.above() != leaf {
            line.set_above(leaf);
        }
    }

    /// Gives the node at `at`, on the way to `address` behind `octets` octets, these slots; or takes it out, if it has
    /// no prefix of its own any more and less than two children.
    fn settle(&mut self, address: A, octets: usize, at: usize, slots: [u32; SLOTS], mut trail: Vec<Place>) {
        let own = |&value: &u32| if is_child(value) { self.lines()[line_of(value)].above() != 0 } else { value != 0 };
        let mut children = slots.iter().enumerate().filter(|(_, value)| is_child(**value));
        let (first, second) = (children.next(), children.next());
        if slots.iter().any(own) || second.is_some() {
            return self.rewrite(at, &slots, trail);
        }
        let mut above = self.lines()[at].above();
        self.give(at, false);
        // A skip before it goes with it.
        if let Some(&Place::Skip(skip)) = trail.last() {
            above = self.lines()[skip].above();
            self.give(skip, true);
            trail.pop();
        }
        let Some((slot, &child)) = first else { return self.put_leaf(address, above, trail) };
        let next = line_of(child);
        let skip = if is_skip(child) {
            self.give(next, true);
            self.lines()[next].skip()
        } else {
            let words = address.keep(octets * 8).with_octet(octets, slot).to_words();
            Skip { words, octets: octets + 1, child }
        };
        let value = self.write(&Block::skip(skip, above));
        self.put(trail, value);
    }

    /// Leaves `leaf` where a node was.
    fn put_leaf(&mut self, address: A, leaf: u32, mut trail: Vec<Place>) {
        match trail.pop() {
            Some(Place::Root(slot)) => self.fib.root[slot].store(leaf, Ordering::Release),
            Some(Place::Node(at, slot)) => {
                let mut slots = slots_of(self.lines(), at);
                slots[slot] = leaf;
                let octets = self.octets_before(&trail);
                self.settle(address, octets, at, slots, trail);
            }
            // A skip went with its node.
            Some(Place::Skip(_)) | None => {}
        }
    }

    /// Octets looked at on the way that these places are.
    fn octets_before(&self, trail: &[Place]) -> usize {
        trail.iter().fold(0, |octets, place| match *place {
            Place::Root(_) => self.fib.root_octets(),
            Place::Skip(at) => self.lines()[at].skip().octets,
            Place::Node(..) => octets + 1,
        })
    }

    /// Gives a node other slots: in place if its runs stay what they are, else anew.
    fn rewrite(&mut self, at: usize, slots: &[u32; SLOTS], trail: Vec<Place>) {
        let block = Block::node(slots, self.lines()[at].above());
        if let Some(changes) = block.changes(self.lines(), at) {
            for (word, value) in changes {
                let (line, word) = word_of(at, word);
                self.lines()[line].set(word, value);
            }
            return;
        }
        let value = self.write(&block);
        self.put(trail, value);
        self.give(at, false);
    }

    /// Publishes the child `value` at the end of the way.
    fn put(&mut self, mut trail: Vec<Place>, value: u32) {
        match trail.pop() {
            Some(Place::Root(slot)) => self.fib.root[slot].store(value, Ordering::Release),
            Some(Place::Skip(at)) => self.lines()[at].set_skip_child(value),
            Some(Place::Node(at, slot)) if is_child(self.value(at, slot)) || self.lines()[at].stands_alone(slot) => {
                let (line, word) = word_of(at, self.lines()[at].run_word(slot));
                self.lines()[line].set(word, value);
            }
            Some(Place::Node(at, slot)) => {
                let mut slots = slots_of(self.lines(), at);
                slots[slot] = value;
                self.rewrite(at, &slots, trail);
            }
            None => {}
        }
    }

    /// A new node for `prefix`, to hang at a slot behind `octets` octets whose leaf was `above`.
    fn branch(&mut self, prefix: Prefix<A>, leaf: u32, octets: usize, above: u32) -> u32 {
        let end = level_of(prefix.length());
        let mut slots = [0; SLOTS];
        let first = prefix.address().octet(end);
        slots[first..first + (1 << (end * 8 + 8 - prefix.length()))].fill(leaf);
        self.node_behind(prefix.address(), octets, end, &slots, above)
    }

    /// A node behind `end` octets, with a skip before it if the slot it hangs at is further up.
    fn node_behind(&mut self, address: A, octets: usize, end: usize, slots: &[u32; SLOTS], above: u32) -> u32 {
        if octets == end {
            return self.write(&Block::node(slots, above));
        }
        let child = self.write(&Block::node(slots, 0));
        let words = address.keep(end * 8).to_words();
        self.write(&Block::skip(Skip { words, octets: end, child }, above))
    }

    /// What stands instead of the skip at `at`, which begins behind `start` octets, when `prefix` has its node in the
    /// midst of it, or leaves it, behind `parting` octets.
    fn fork(&mut self, prefix: Prefix<A>, leaf: u32, at: usize, start: usize, parting: usize) -> u32 {
        let skip = self.lines()[at].skip();
        let above = self.lines()[at].above();
        let end = level_of(prefix.length());
        let old_slot = A::from_words(skip.words).octet(parting);
        let old = if parting + 1 == skip.octets { skip.child } else { self.write(&Block::skip(skip, 0)) };
        let mut slots = [0; SLOTS];
        if parting == end {
            let first = prefix.address().octet(end);
            let covered = first..first + (1 << (end * 8 + 8 - prefix.length()));
            slots[covered.clone()].fill(leaf);
            if covered.contains(&old_slot) {
                self.set_above(old, leaf);
            }
        } else {
            slots[prefix.address().octet(parting)] = self.branch(prefix, leaf, parting + 1, 0);
        }
        slots[old_slot] = old;
        self.node_behind(prefix.address(), start, parting, &slots, above)
    }

    fn write(&mut self, block: &Block) -> u32 {
        let at = self.arena.take(block.lines());
        block.write(&self.fib.lines, at)
    }

    /// Gives back the lines of a node or skip that readers are no longer led to.
    fn give(&mut self, at: usize, skip: bool) {
        let lines = if skip { 1 } else { self.lines()[at].node_lines() };
        self.arena.give(at, lines);
    }
}

/// The line and the word in it of a word counted from the first of the node at line `at`.
fn word_of(at: usize, word: usize) -> (usize, usize) {
    (at + word / super::node::WORDS, word % super::node::WORDS)
}
