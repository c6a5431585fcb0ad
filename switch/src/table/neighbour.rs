//! Who has which MAC address on a router's interface (ARP and ND), as the packet path reads it.
//!
//! One thread at a time writes (the switch as a host, under its lock); workers read without a lock and write nothing
//! but one flag. A neighbour has a slot, which next hops refer to by number, and is found by its address through an
//! index of slot numbers with open addressing. Entries of the index never move; when too many of them lead nowhere,
//! a second index is filled and takes its place by one store, so that a reader always finds who is there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

#[cfg(loom)]
use loom::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

use crate::ids::{DomainId, Mac};
use crate::limits::NEIGHBOURS_MAX;

/// A neighbour's name: an IP address on a bridge domain.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct NeighbourKey {
    domain: DomainId,
    high: u64,
    low: u64,
}

/// Upper half of the low word of an IPv4 address written as an IPv6 one (`::ffff:a.b.c.d`, RFC 4291 2.5.5.2).
const MAPPED: u64 = 0xffff_0000_0000;

impl NeighbourKey {
    /// An IPv4 neighbour; the address in host byte order.
    #[inline]
    pub fn v4(domain: DomainId, address: u32) -> NeighbourKey {
        NeighbourKey { domain, high: 0, low: MAPPED | u64::from(address) }
    }

    /// An IPv6 neighbour.
    #[inline]
    pub fn v6(domain: DomainId, address: u128) -> NeighbourKey {
        NeighbourKey { domain, high: (address >> 64) as u64, low: address as u64 }
    }

    /// Of either family.
    pub fn new(domain: DomainId, address: IpAddr) -> NeighbourKey {
        match address {
            IpAddr::V4(address) => NeighbourKey::v4(domain, address.into()),
            IpAddr::V6(address) => NeighbourKey::v6(domain, address.into()),
        }
    }

    /// The bridge domain.
    pub fn domain(self) -> DomainId {
        self.domain
    }

    /// The address.
    pub fn address(self) -> IpAddr {
        if self.high == 0 && self.low & !0xffff_ffff == MAPPED {
            IpAddr::V4(Ipv4Addr::from(self.low as u32))
        } else {
            IpAddr::V6(Ipv6Addr::from(u128::from(self.high) << 64 | u128::from(self.low)))
        }
    }

    /// Well-mixed bits. Who cannot guess the secrets cannot choose addresses that collide.
    #[inline]
    fn hash(self, [whiten, multiply]: [u64; 2]) -> u64 {
        let hash = fold(self.high ^ (self.domain.index() as u64) << 48 ^ whiten, multiply);
        fold(hash ^ self.low, multiply)
    }
}

/// A widening multiply, whose upper half is folded back in.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// A number from a seed, with all its bits depending on all of the seed's (SplitMix64's last steps).
fn spread(seed: u64) -> u64 {
    let mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

/// Number of a neighbour's slot, below [`NEIGHBOURS_MAX`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct NeighbourSlot(u32);

impl NeighbourSlot {
    /// The slot with this index, or `None` at or above [`NEIGHBOURS_MAX`].
    #[inline]
    pub fn new(index: usize) -> Option<NeighbourSlot> {
        (index < NEIGHBOURS_MAX).then_some(NeighbourSlot(index as u32))
    }

    /// The index.
    #[inline]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a worker wants of a neighbour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Resolved {
    /// Its bridge domain.
    pub domain: DomainId,
    /// Its MAC address.
    pub mac: Mac,
    /// Whoever uses the entry is to say so: see [`Neighbours::note_use`].
    pub tell_use: bool,
}

// The first word of a slot. Zero: nothing to read. Bits 0..48: MAC address.
const TELL_USE: u64 = 1 << 48;
const RESOLVED: u64 = 1 << 49;
const VERSION_SHIFT: u32 = 52;

/// One neighbour: its state, its address, its domain.
#[derive(Default)]
#[repr(align(32))]
struct Slot {
    state: AtomicU64,
    high: AtomicU64,
    low: AtomicU64,
    domain: AtomicU64,
}

/// An entry of the index that was never used since the last [`Neighbours::rebuild`]: a search ends here.
const EMPTY: u32 = 0;
/// An entry whose slot was given up: a search goes on.
const GONE: u32 = u32::MAX;

/// Slot numbers plus one, by the hash of the neighbour's name. At most half of the entries are in use.
struct Index(Box<[AtomicU32]>);

impl Index {
    fn new(entries: usize) -> Index {
        Index((0..entries).map(|_| AtomicU32::new(EMPTY)).collect())
    }

    /// Where a search for a key with this hash begins.
    #[inline]
    fn place(&self, hash: u64) -> usize {
        (((hash >> 32) * self.0.len() as u64) >> 32) as usize
    }

    /// The entry that a search looks at next.
    #[inline]
    fn behind(&self, at: usize) -> usize {
        if at + 1 < self.0.len() { at + 1 } else { 0 }
    }

    /// Leads searches for a key with this hash to `slot`. True if that took an entry which led nowhere.
    fn point(&self, hash: u64, slot: NeighbourSlot) -> bool {
        let mut at = self.place(hash);
        for _ in 0..self.0.len() {
            let Some(entry) = self.0.get(at) else { return false };
            let was = entry.load(Ordering::Relaxed);
            if matches!(was, EMPTY | GONE) {
                entry.store(slot.0 + 1, Ordering::Release);
                return was == GONE;
            }
            at = self.behind(at);
        }
        false
    }

    /// Leads no search to `slot` any more, whose key has this hash. True if that left an entry which leads nowhere.
    fn unpoint(&self, hash: u64, slot: NeighbourSlot) -> bool {
        let mut at = self.place(hash);
        for _ in 0..self.0.len() {
            let Some(entry) = self.0.get(at) else { return false };
            match entry.load(Ordering::Relaxed) {
                EMPTY => return false,
                number if number == slot.0 + 1 => {
                    let next = self.0.get(self.behind(at));
                    let last = next.is_some_and(|next| next.load(Ordering::Relaxed) == EMPTY);
                    entry.store(if last { EMPTY } else { GONE }, Ordering::Release);
                    return !last;
                }
                _ => at = self.behind(at),
            }
        }
        false
    }
}

/// The table. See the module text.
pub struct Neighbours {
    slots: Box<[Slot]>,
    /// One that readers search, and one for the next [`Neighbours::rebuild`].
    indexes: [Index; 2],
    /// Which one readers search: the last bit.
    current: AtomicUsize,
    /// Entries of that index which lead nowhere. The writer's.
    gone: AtomicUsize,
    /// Where a search begins depends on them: hosts choose their IPv6 addresses, and must not choose long searches.
    secrets: [u64; 2],
}

impl Default for Neighbours {
    /// A table of the largest size with a random seed.
    fn default() -> Self {
        use std::hash::{BuildHasher, Hasher};
        Neighbours::new(NEIGHBOURS_MAX, std::hash::RandomState::new().build_hasher().finish())
    }
}

impl Neighbours {
    /// A table with room for so many neighbours, at most [`NEIGHBOURS_MAX`]. `seed` must not be guessable from the
    /// network.
    pub fn new(slots: usize, seed: u64) -> Neighbours {
        Neighbours {
            slots: (0..slots).map(|_| Slot::default()).collect(),
            indexes: [Index::new(2 * slots), Index::new(2 * slots)],
            current: AtomicUsize::new(0),
            gone: AtomicUsize::new(0),
            secrets: [spread(seed), spread(!seed) | 1],
        }
    }

    /// The neighbour with this name, if its MAC address is known. Any thread.
    #[inline]
    pub fn find(&self, key: NeighbourKey) -> Option<(NeighbourSlot, Resolved)> {
        let index = self.index();
        let mut at = index.place(key.hash(self.secrets));
        for _ in 0..index.0.len() {
            match index.0.get(at)?.load(Ordering::Acquire) {
                EMPTY => return None,
                GONE => {}
                number => {
                    let slot = NeighbourSlot(number - 1);
                    if let Some(resolved) = self.read(slot, Some(key)) {
                        return Some((slot, resolved));
                    }
                }
            }
            at = index.behind(at);
        }
        None
    }

    /// The index that readers search now. A reader asks once per search: the other one may lack entries.
    #[inline]
    fn index(&self) -> &Index {
        // Acquire pairs with `rebuild`: who gets an index gets it filled.
        &self.indexes[self.current.load(Ordering::Acquire) & 1]
    }

    /// The neighbour in this slot, if its MAC address is known. Any thread.
    #[inline]
    pub fn at(&self, slot: NeighbourSlot) -> Option<Resolved> {
        self.read(slot, None)
    }

    /// The name of the neighbour in this slot, resolved or not. Any thread; a slot changes its name only while no next
    /// hop refers to it.
    pub fn key(&self, slot: NeighbourSlot) -> Option<NeighbourKey> {
        let slot = self.slots.get(slot.index())?;
        let domain = DomainId::new(slot.domain.load(Ordering::Acquire) as usize)?;
        Some(NeighbourKey { domain, high: slot.high.load(Ordering::Relaxed), low: slot.low.load(Ordering::Relaxed) })
    }

    #[inline]
    fn read(&self, slot: NeighbourSlot, wanted: Option<NeighbourKey>) -> Option<Resolved> {
        let slot = self.slots.get(slot.index())?;
        let state = slot.state.load(Ordering::Acquire);
        let domain = slot.domain.load(Ordering::Relaxed);
        if let Some(key) = wanted {
            let same = slot.high.load(Ordering::Relaxed) == key.high && slot.low.load(Ordering::Relaxed) == key.low;
            if !same || domain != key.domain.index() as u64 {
                return None;
            }
        }
        fence(Ordering::Acquire);
        // Still the same entry: a slot that is given away passes through zero and comes back with another version.
        if state & RESOLVED == 0 || slot.state.load(Ordering::Relaxed) & !TELL_USE != state & !TELL_USE {
            return None;
        }
        Some(Resolved {
            domain: DomainId::new(domain as usize)?,
            mac: Mac::from_bits(state),
            tell_use: state & TELL_USE != 0,
        })
    }

    /// Takes back the wish of [`Neighbours::set`] to be told of the next use. True for the one caller who is to
    /// tell the host.
    pub fn note_use(&self, slot: NeighbourSlot) -> bool {
        self.slots
            .get(slot.index())
            .is_some_and(|slot| slot.state.fetch_and(!TELL_USE, Ordering::Relaxed) & TELL_USE != 0)
    }

    /// Gives `slot` to a neighbour whose MAC address is not known yet. The writer; `slot` must be free.
    pub fn claim(&self, slot: NeighbourSlot, key: NeighbourKey) {
        let Some(entry) = self.slots.get(slot.index()) else { return };
        let version = (entry.state.load(Ordering::Relaxed) >> VERSION_SHIFT).wrapping_add(1);
        entry.state.store(version << VERSION_SHIFT, Ordering::Relaxed);
        fence(Ordering::Release);
        entry.high.store(key.high, Ordering::Relaxed);
        entry.low.store(key.low, Ordering::Relaxed);
        entry.domain.store(key.domain.index() as u64, Ordering::Release);
        if self.index().point(key.hash(self.secrets), slot) {
            self.gone.store(self.gone() - 1, Ordering::Relaxed);
        }
    }

    /// Sets the MAC address of a claimed slot, or takes it away. With `tell_use` the next worker that uses it says so.
    pub fn set(&self, slot: NeighbourSlot, mac: Option<Mac>, tell_use: bool) {
        let Some(entry) = self.slots.get(slot.index()) else { return };
        let version = entry.state.load(Ordering::Relaxed) >> VERSION_SHIFT << VERSION_SHIFT;
        let known = mac.map_or(0, |mac| mac.bits() | RESOLVED);
        let flag = if tell_use && mac.is_some() { TELL_USE } else { 0 };
        entry.state.store(version | known | flag, Ordering::Release);
    }

    /// Gives a slot up. The writer.
    pub fn release(&self, slot: NeighbourSlot) {
        let (Some(entry), Some(key)) = (self.slots.get(slot.index()), self.key(slot)) else { return };
        if self.index().unpoint(key.hash(self.secrets), slot) {
            self.gone.store(self.gone() + 1, Ordering::Relaxed);
        }
        let version = entry.state.load(Ordering::Relaxed) >> VERSION_SHIFT;
        entry.state.store(version << VERSION_SHIFT, Ordering::Release);
        entry.domain.store(0, Ordering::Release);
    }

    /// Entries of the index that a search has to pass though they lead nowhere. The writer.
    pub fn gone(&self) -> usize {
        self.gone.load(Ordering::Relaxed)
    }

    /// Fills the other index and has readers search that one, where nothing is [gone](Neighbours::gone). The writer;
    /// not again before a grace period is over: a reader of the index that this replaces would miss entries.
    pub fn rebuild(&self) {
        let current = self.current.load(Ordering::Relaxed) & 1;
        let other = &self.indexes[current ^ 1];
        other.0.iter().for_each(|entry| entry.store(EMPTY, Ordering::Relaxed));
        for number in 0..self.slots.len() {
            let slot = NeighbourSlot(number as u32);
            if let Some(key) = self.key(slot) {
                other.point(key.hash(self.secrets), slot);
            }
        }
        self.current.store(current ^ 1, Ordering::Release);
        self.gone.store(0, Ordering::Relaxed);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::sync::Arc;
    use loom::thread;

    use super::super::grace::Grace;
    use super::*;

    fn key(number: u32) -> NeighbourKey {
        NeighbourKey::v4(DomainId::new(1).unwrap(), number)
    }

    fn mac(number: u32) -> Mac {
        Mac::from_bits(u64::from(number))
    }

    /// A slot goes from one neighbour to another under a reader who finds both by the same entry of the index.
    #[test]
    fn loom_a_reader_never_takes_one_neighbour_for_another() {
        let mut model = loom::model::Builder::new();
        // Enough to find each fence and check that is missing, and quick.
        model.preemption_bound = Some(3);
        model.check(|| {
            let table = Arc::new(Neighbours::new(2, 1));
            let place = |number| table.index().place(key(number).hash(table.secrets));
            let new = (8..).find(|&number| place(number) == place(7)).unwrap();
            let slot = NeighbourSlot(0);
            table.claim(slot, key(7));
            table.set(slot, Some(mac(70)), false);
            let reader = {
                let table = Arc::clone(&table);
                thread::spawn(move || {
                    for (number, own) in [(7, 70), (new, 80)] {
                        if let Some((_, found)) = table.find(key(number)) {
                            assert_eq!(found.mac, mac(own), "neighbour {number}");
                        }
                    }
                })
            };
            table.release(slot);
            table.claim(slot, key(new));
            table.set(slot, Some(mac(80)), false);
            reader.join().unwrap();
            assert!(table.find(key(7)).is_none() && table.find(key(new)).is_some());
        });
    }

    /// A neighbour that stays is found whatever happens to others, and while indexes are made anew: one after the
    /// other, with a grace period between.
    #[test]
    fn loom_a_reader_finds_who_is_there_while_the_index_is_made_anew() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(2);
        model.check(|| {
            let (table, grace) = (Arc::new(Neighbours::new(2, 1)), Arc::new(Grace::new(1)));
            let (other, stays) = (NeighbourSlot(0), NeighbourSlot(1));
            table.claim(other, key(6));
            table.claim(stays, key(7));
            table.set(stays, Some(mac(70)), false);
            let reader = {
                let (table, grace) = (Arc::clone(&table), Arc::clone(&grace));
                thread::spawn(move || {
                    for _ in 0..2 {
                        grace.pass(0);
                        assert_eq!(table.find(key(7)).map(|(slot, found)| (slot, found.mac)), Some((stays, mac(70))));
                    }
                    grace.sleep(0);
                })
            };
            table.release(other);
            table.rebuild();
            let epoch = grace.retire();
            while !grace.is_over(epoch) {
                thread::yield_now();
            }
            table.rebuild();
            reader.join().unwrap();
        });
    }

    /// Of two workers that use a neighbour at once, one tells.
    #[test]
    fn loom_a_use_is_told_by_one_worker() {
        loom::model(|| {
            let table = Arc::new(Neighbours::new(1, 1));
            let slot = NeighbourSlot(0);
            table.claim(slot, key(7));
            table.set(slot, Some(mac(70)), true);
            let other = {
                let table = Arc::clone(&table);
                thread::spawn(move || table.note_use(slot))
            };
            let own = table.note_use(slot);
            assert!(own != other.join().unwrap());
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::grace::Grace;
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn key(number: u32) -> NeighbourKey {
        NeighbourKey::v4(DomainId::new(1 + number as usize % 3).unwrap(), number / 3)
    }

    #[test]
    fn names_give_back_domain_and_address() {
        let domain = DomainId::new(7).unwrap();
        for address in ["10.0.0.1", "0.0.0.0", "fe80::1", "2001:db8::ffff:1", "::"] {
            let address: IpAddr = address.parse().unwrap();
            let key = NeighbourKey::new(domain, address);
            assert_eq!((key.domain(), key.address()), (domain, address));
        }
    }

    #[test]
    fn a_use_is_told_once() {
        let table = Neighbours::default();
        let slot = NeighbourSlot::new(5).unwrap();
        table.claim(slot, key(1));
        assert!(table.find(key(1)).is_none() && table.at(slot).is_none());
        table.set(slot, Some(Mac::new([2, 0, 0, 0, 0, 1])), true);
        assert!(table.at(slot).unwrap().tell_use);
        assert!(table.note_use(slot) && !table.note_use(slot));
        assert_eq!(table.find(key(1)).map(|(slot, found)| (slot.index(), found.tell_use)), Some((5, false)));
    }

    #[test]
    fn addresses_that_collide_in_one_table_are_spread_in_another() {
        let place = |table: &Neighbours, key: &NeighbourKey| table.index().place(key.hash(table.secrets));
        let (known, other) = (Neighbours::new(1_024, 1), Neighbours::new(1_024, 2));
        let key = |number| NeighbourKey::v6(DomainId::new(1).unwrap(), 0xfd00_u128 << 112 | number);
        let chosen: Vec<NeighbourKey> = (0..).map(key).filter(|key| place(&known, key) == 0).take(64).collect();
        let places: std::collections::HashSet<usize> = chosen.iter().map(|key| place(&other, key)).collect();
        assert!(places.len() > 48, "{} places", places.len());
        let (one, two) = (Neighbours::default(), Neighbours::default());
        assert_ne!(one.secrets, two.secrets, "a seed that everybody knows is none");
    }

    #[test]
    fn readers_find_who_is_there_while_the_index_is_made_anew() {
        let (table, grace) = (Neighbours::new(256, 1), Grace::new(1));
        let stay = 0..64;
        for number in stay.clone() {
            table.claim(NeighbourSlot(number), key(number));
            table.set(NeighbourSlot(number), Some(Mac::from_bits(number.into())), false);
        }
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                for turn in 0..20_000 {
                    grace.pass(0);
                    let number = turn % stay.end;
                    let found = table.find(key(number)).map(|(slot, found)| (slot.0, found.mac.bits()));
                    assert_eq!(found, Some((number, number.into())), "turn {turn}");
                }
            });
            let mut spare = None;
            while !reader.is_finished() {
                for number in stay.end..256 {
                    table.claim(NeighbourSlot(number), key(number));
                }
                (stay.end..256).for_each(|number| table.release(NeighbourSlot(number)));
                if spare.is_none_or(|epoch| grace.is_over(epoch)) {
                    table.rebuild();
                    spare = Some(grace.retire());
                }
            }
            grace.sleep(0);
        });
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        // A plain map is the oracle, over claims, changes, releases and rebuilds.
        #[test]
        fn agrees_with_a_map(steps in proptest::collection::vec((0u8..10, 0u32..60, 1u64..9), 1..300)) {
            let table = Neighbours::default();
            let mut model: HashMap<NeighbourKey, (usize, u64)> = HashMap::new();
            let mut free: Vec<usize> = (0..60).collect();
            for (what, number, mac) in steps {
                let key = key(number);
                match (what, model.get(&key).copied()) {
                    (0..=5, None) => {
                        let index = free.pop().unwrap();
                        let slot = NeighbourSlot::new(index).unwrap();
                        table.claim(slot, key);
                        table.set(slot, Some(Mac::from_bits(mac)), false);
                        model.insert(key, (index, mac));
                    }
                    (0..=5, Some((index, _))) => {
                        table.set(NeighbourSlot::new(index).unwrap(), Some(Mac::from_bits(mac)), false);
                        model.insert(key, (index, mac));
                    }
                    (6..=8, Some((index, _))) => {
                        table.release(NeighbourSlot::new(index).unwrap());
                        model.remove(&key);
                        free.push(index);
                    }
                    (9, _) => table.rebuild(),
                    _ => {}
                }
                let gone = table.index().0.iter().filter(|entry| entry.load(Ordering::Relaxed) == GONE).count();
                prop_assert_eq!(table.gone(), gone);
                for number in 0..60 {
                    let key = self::key(number);
                    let found = table.find(key).map(|(slot, found)| (slot.index(), found.mac.bits(), found.domain));
                    prop_assert_eq!(found, model.get(&key).map(|&(slot, mac)| (slot, mac, key.domain())));
                }
            }
        }
    }
}
