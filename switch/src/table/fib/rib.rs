//! The routes themselves, as the control thread knows them: exact, ordered, and by their length.
//!
//! Level n has the prefixes of 8n+1 to 8n+8 bits, in a map of its own: those of one node are in two or three of them,
//! and in each they stand in a row, with few others between.

use std::collections::BTreeMap;
use std::collections::btree_map::Range;
use std::iter::Peekable;
use std::ops::Bound;

use super::prefix::{Address, Prefix};

/// Octets of the address in wire order and length: sorts as [`Prefix`] does, without padding.
type Key<A> = (<A as Address>::Wire, u8);

/// All routes of one table. A next hop is a word, never 0.
pub(super) struct Rib<A: Address> {
    /// The next hop of the default route, or 0.
    default: u32,
    levels: Vec<BTreeMap<Key<A>, u32>>,
}

/// The level of prefixes of that many bits, at least one.
pub(super) fn level_of(length: usize) -> usize {
    length.saturating_sub(1) / 8
}

fn key<A: Address>(prefix: Prefix<A>) -> Key<A> {
    (prefix.address().to_wire(), prefix.length() as u8)
}

/// The prefix of a key. Always there, since keys are made of prefixes.
fn prefix<A: Address>(key: &Key<A>) -> Option<Prefix<A>> {
    Prefix::of(A::from_wire(key.0), key.1 as usize)
}

impl<A: Address> Rib<A> {
    pub(super) fn new() -> Rib<A> {
        Rib { default: 0, levels: (0..A::OCTETS).map(|_| BTreeMap::new()).collect() }
    }

    /// One of sorted routes, no prefix of which is there twice.
    pub(super) fn of(routes: &[(Prefix<A>, u32)]) -> Rib<A> {
        let mut rib = Rib::new();
        rib.default = routes.first().filter(|(prefix, _)| prefix.is_default()).map_or(0, |&(_, hop)| hop);
        for (level, map) in rib.levels.iter_mut().enumerate() {
            let own = routes.iter().filter(|(prefix, _)| !prefix.is_default() && level_of(prefix.length()) == level);
            *map = own.map(|&(prefix, hop)| (key(prefix), hop)).collect();
        }
        rib
    }

    pub(super) fn len(&self) -> usize {
        self.levels.iter().map(BTreeMap::len).sum::<usize>() + usize::from(self.default != 0)
    }

    /// Bytes of the maps: of B-tree nodes of 11 entries, filled to two thirds as random order leaves them.
    pub(super) fn bytes(&self) -> usize {
        let entry = size_of::<Key<A>>() + size_of::<u32>();
        let entries: usize = self.levels.iter().map(BTreeMap::len).sum();
        // Each leaf has 12 bytes beside its entries, and a twelfth of the nodes lead to others by 12 pointers.
        (entries * (11 * entry + 12 + 8)).div_ceil(11) * 3 / 2
    }

    pub(super) fn get(&self, prefix: Prefix<A>) -> Option<u32> {
        if prefix.is_default() {
            return (self.default != 0).then_some(self.default);
        }
        self.levels[level_of(prefix.length())].get(&key(prefix)).copied()
    }

    /// Answers what was there before.
    pub(super) fn insert(&mut self, prefix: Prefix<A>, hop: u32) -> Option<u32> {
        if prefix.is_default() {
            let was = std::mem::replace(&mut self.default, hop);
            return (was != 0).then_some(was);
        }
        self.levels[level_of(prefix.length())].insert(key(prefix), hop)
    }

    /// Answers what was there.
    pub(super) fn remove(&mut self, prefix: Prefix<A>) -> Option<u32> {
        if prefix.is_default() {
            let was = std::mem::take(&mut self.default);
            return (was != 0).then_some(was);
        }
        self.levels[level_of(prefix.length())].remove(&key(prefix))
    }

    /// The longest route to `address` of at least `shortest` and at most `longest` bits.
    pub(super) fn longest(&self, address: A, shortest: usize, longest: usize) -> Option<(Prefix<A>, u32)> {
        (shortest..=longest).rev().find_map(|length| {
            if length > 0 && self.levels[level_of(length)].is_empty() {
                return None;
            }
            let prefix = Prefix::of(address, length)?;
            self.get(prefix).map(|hop| (prefix, hop))
        })
    }

    /// The routes inside `outer` that are longer, and of at most `longest` bits (one or more); what covers another one
    /// comes before it.
    pub(super) fn inside(&self, outer: Prefix<A>, longest: usize) -> impl Iterator<Item = (Prefix<A>, u32)> + '_ {
        let range = (outer.address().to_wire(), 0)..=(outer.last().to_wire(), u8::MAX);
        let levels = self.levels.iter().take(level_of(longest) + 1).skip(level_of(outer.length() + 1));
        let all = levels
            .flat_map(move |level| level.range(range.clone()))
            .filter_map(|(key, &hop)| Some((prefix(key)?, hop)));
        all.filter(move |(prefix, _)| prefix.length() > outer.length() && prefix.length() <= longest)
    }

    /// True if at least `count` routes of more than eight bits begin with the octet.
    pub(super) fn has_below(&self, octet: usize, count: usize) -> bool {
        let Some(outer) = Prefix::of(A::from_words([(octet as u32) << 24, 0, 0, 0]), 8) else { return false };
        self.inside(outer, A::OCTETS * 8).take(count).count() == count
    }

    /// All routes in order; behind `after` if given.
    pub(super) fn iter(&self, after: Option<Prefix<A>>) -> Iter<'_, A> {
        let first = after.map_or(Bound::Unbounded, |after| Bound::Excluded(key(after)));
        let default = after.is_none().then_some(self.default).filter(|&hop| hop != 0);
        let levels = self.levels.iter().map(|map| map.range((first, Bound::Unbounded)).peekable()).collect();
        Iter { default, levels }
    }
}

/// The routes of all levels in one order.
pub(super) struct Iter<'a, A: Address> {
    default: Option<u32>,
    levels: Vec<Peekable<Range<'a, Key<A>, u32>>>,
}

impl<A: Address> Iterator for Iter<'_, A> {
    type Item = (Prefix<A>, u32);

    fn next(&mut self) -> Option<(Prefix<A>, u32)> {
        if let Some(hop) = self.default.take() {
            return Some((Prefix::of(A::from_words([0; 4]), 0)?, hop));
        }
        let heads = self.levels.iter_mut().enumerate().filter_map(|(level, routes)| Some((*routes.peek()?.0, level)));
        let (_, level) = heads.min()?;
        let (key, &hop) = self.levels[level].next()?;
        Some((prefix(key)?, hop))
    }
}
