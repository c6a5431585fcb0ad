//! One thread: the rules of learning, a random comparison with a plain map, and capacity.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;

use super::*;
use crate::ids::{DomainId, Mac};
use crate::limits::{DOMAINS_MAX, PORTS_MAX};

const NO_LIMIT: LearnLimits = LearnLimits::NONE;

fn port(index: usize) -> PortId {
    PortId::new(index).unwrap()
}

fn key(domain: usize, mac: u64) -> MacKey {
    MacKey::new(DomainId::new(domain).unwrap(), Mac::from_bits(mac))
}

fn fixed(key: MacKey, at: usize, kind: Kind) -> Entry {
    Entry { key, port: port(at), kind, stamp_s: 7 }
}

fn dump(fdb: &Fdb) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut from = Some(0);
    while let Some(bucket) = from {
        from = fdb.scan(bucket, 1_000, |entry| entries.push(entry));
    }
    entries
}

fn sweep_all(fdb: &Fdb, mut keep: impl FnMut(&Entry) -> bool) -> u32 {
    let mut removed = 0;
    let mut from = Some(0);
    while let Some(bucket) = from {
        let slice = fdb.sweep(bucket, 777, &mut keep);
        removed += slice.removed;
        from = slice.next;
    }
    removed
}

#[test]
fn a_station_is_learned_refreshed_once_a_second_and_moved_at_once() {
    let fdb = Fdb::new(16, 1);
    let station = key(1, 0x0242_ac11_0002);
    assert_eq!(fdb.lookup(station), None);
    assert_eq!(fdb.learn(station, port(1), 100, NO_LIMIT), Learn::Learned);
    assert_eq!(fdb.learn(station, port(1), 100, NO_LIMIT), Learn::Known);
    assert_eq!(fdb.learn(station, port(1), 99, NO_LIMIT), Learn::Known);
    assert_eq!(fdb.learn(station, port(1), 101, NO_LIMIT), Learn::Refreshed);
    assert_eq!(fdb.lookup(station), Some(Hit { port: port(1), kind: Kind::Dynamic, stamp_s: 101 }));
    assert_eq!(fdb.learn(station, port(2), 101, NO_LIMIT), Learn::Moved { from: port(1) });
    assert_eq!(fdb.lookup(station), Some(Hit { port: port(2), kind: Kind::Dynamic, stamp_s: 101 }));
    assert_eq!((fdb.len(), fdb.port_len(port(1)), fdb.port_len(port(2))), (1, 0, 1));
    assert_eq!(fdb.lookup(key(2, 0x0242_ac11_0002)), None, "another bridge domain has its own addresses");
}

#[test]
fn fixed_entries_neither_move_nor_change_when_their_station_speaks() {
    for kind in [Kind::Static, Kind::Sticky, Kind::Local] {
        let fdb = Fdb::new(16, 2);
        let station = key(1, 5);
        assert_eq!(fdb.insert(fixed(station, 3, kind)), Ok(None));
        assert_eq!(fdb.learn(station, port(3), 50, NO_LIMIT), Learn::Known);
        assert_eq!(fdb.learn(station, port(4), 50, NO_LIMIT), Learn::RefusedStatic);
        assert_eq!(fdb.lookup(station), Some(Hit { port: port(3), kind, stamp_s: 7 }));
        assert_eq!((fdb.len(), fdb.dynamic_len(), fdb.port_len(port(3))), (1, 0, 0));
    }
}

#[test]
fn insert_takes_over_a_learned_address_and_remove_tells_what_was_there() {
    let fdb = Fdb::new(16, 3);
    let station = key(9, 77);
    fdb.learn(station, port(1), 10, NO_LIMIT);
    let learned = Entry { key: station, port: port(1), kind: Kind::Dynamic, stamp_s: 10 };
    assert_eq!(fdb.insert(learned), Err(FdbError::Dynamic { key: station }));
    assert_eq!(fdb.insert(fixed(station, 2, Kind::Static)), Ok(Some(learned)));
    assert_eq!((fdb.len(), fdb.dynamic_len(), fdb.port_len(port(1))), (1, 0, 0));
    assert_eq!(fdb.insert(fixed(station, 2, Kind::Sticky)), Ok(Some(fixed(station, 2, Kind::Static))));
    assert_eq!(fdb.remove(station), Some(fixed(station, 2, Kind::Sticky)));
    assert_eq!(fdb.remove(station), None);
    assert!(fdb.is_empty() && fdb.lookup(station).is_none());
}

#[test]
fn limits_refuse_new_addresses_and_moves_but_never_known_ones() {
    let fdb = Fdb::new(3, 4);
    let two = LearnLimits { port_max: 2 };
    assert_eq!(fdb.learn(key(1, 1), port(0), 1, two), Learn::Learned);
    assert_eq!(fdb.learn(key(1, 2), port(0), 1, two), Learn::Learned);
    assert_eq!(fdb.learn(key(1, 3), port(0), 1, two), Learn::RefusedPortLimit);
    assert_eq!(fdb.learn(key(1, 3), port(1), 1, two), Learn::Learned);
    assert_eq!(fdb.learn(key(1, 3), port(0), 1, two), Learn::RefusedPortLimit, "the new port is full");
    assert_eq!(fdb.lookup(key(1, 3)).unwrap().port, port(1), "so the station stays where it was");
    assert_eq!(fdb.learn(key(1, 4), port(1), 1, two), Learn::RefusedTotalLimit);
    assert_eq!(fdb.learn(key(1, 1), port(0), 2, two), Learn::Refreshed);
    assert_eq!(fdb.learn(key(1, 1), port(1), 2, two), Learn::Moved { from: port(0) });
    // Fixed entries are not counted among the learned ones.
    assert_eq!(fdb.insert(fixed(key(1, 4), 1, Kind::Static)), Ok(None));
    assert_eq!((fdb.len(), fdb.dynamic_len()), (4, 3));
    assert_eq!((fdb.port_len(port(0)), fdb.port_len(port(1))), (1, 2));
}

#[test]
fn full_buckets_refuse_and_change_nothing() {
    let fdb = Fdb::with_buckets(2, 100, 2, 5);
    for mac in 1..=8 {
        assert_eq!(fdb.learn(key(1, mac), port(1), 1, NO_LIMIT), Learn::Learned, "{mac}");
    }
    assert_eq!(fdb.learn(key(1, 9), port(1), 1, NO_LIMIT), Learn::RefusedTableFull);
    assert_eq!(fdb.insert(fixed(key(1, 9), 1, Kind::Local)), Err(FdbError::BucketsFull { key: key(1, 9) }));
    assert_eq!((fdb.len(), fdb.port_len(port(1)), dump(&fdb).len()), (8, 8, 8));
    assert_eq!(fdb.insert(fixed(key(1, 1), 1, Kind::Static)).map(|old| old.is_some()), Ok(true));
    assert_eq!(fdb.insert(fixed(key(1, 2), 1, Kind::Static)).map(|old| old.is_some()), Ok(true));
    let refused = FdbError::FixedLimit { key: key(1, 3), max: 2 };
    assert_eq!(fdb.insert(fixed(key(1, 3), 1, Kind::Static)), Err(refused));
    fdb.remove(key(1, 4));
    assert_eq!(fdb.learn(key(1, 9), port(1), 1, NO_LIMIT), Learn::Learned, "a freed slot is used again");
}

#[test]
fn a_sweep_removes_what_it_is_told_to_and_shows_every_entry_once() {
    let fdb = Fdb::new(1_000, 6);
    for mac in 1..=1_000 {
        assert_eq!(fdb.learn(key(1, mac), port(mac as usize % 4), mac as u32, NO_LIMIT), Learn::Learned);
    }
    fdb.insert(fixed(key(1, 5_000), 2, Kind::Static)).unwrap();
    let mut seen = HashMap::new();
    let removed = sweep_all(&fdb, |entry| {
        *seen.entry(entry.key).or_insert(0) += 1;
        entry.kind != Kind::Dynamic || entry.stamp_s > 400
    });
    assert_eq!(removed, 400);
    assert!(seen.len() == 1_001 && seen.values().all(|&times| times == 1));
    assert_eq!(sweep_all(&fdb, |entry| entry.port != port(2)), 151);
    assert!(dump(&fdb).iter().all(|entry| entry.stamp_s > 400 && entry.port != port(2)));
    assert_eq!((fdb.len(), fdb.port_len(port(2)), fdb.port_len(port(1))), (450, 0, 150));
    assert_eq!(fdb.scan(usize::MAX, 1, |_| panic!("nothing there")), None);
    assert_eq!(fdb.sweep(0, 0, |_| false), Sweep { next: Some(0), removed: 0 });
}

#[test]
fn an_entry_refreshed_behind_the_sweep_s_back_is_shown_again() {
    let fdb = Fdb::new(4, 7);
    fdb.learn(key(1, 1), port(1), 10, NO_LIMIT);
    let mut stamps = Vec::new();
    let removed = sweep_all(&fdb, |entry| {
        stamps.push(entry.stamp_s);
        fdb.learn(key(1, 1), port(1), 20, NO_LIMIT);
        entry.stamp_s >= 20
    });
    assert_eq!((removed, stamps, fdb.len()), (0, vec![10, 20], 1));
}

/// What the table should do, with none of its machinery.
#[derive(Default)]
struct Model {
    entries: BTreeMap<u64, Entry>,
    entries_max: usize,
    fixed_max: usize,
}

impl Model {
    fn dynamic(&self, at: Option<PortId>) -> usize {
        let counted = |entry: &&Entry| entry.kind == Kind::Dynamic && at.is_none_or(|port| entry.port == port);
        self.entries.values().filter(counted).count()
    }

    fn fixed(&self) -> usize {
        self.entries.len() - self.dynamic(None)
    }

    fn learn(&mut self, key: MacKey, port: PortId, now_s: u32, limits: LearnLimits) -> Learn {
        let port_full = self.dynamic(Some(port)) >= limits.port_max as usize;
        let Some(entry) = self.entries.get_mut(&key.bits()) else {
            if self.dynamic(None) >= self.entries_max {
                return Learn::RefusedTotalLimit;
            }
            if port_full {
                return Learn::RefusedPortLimit;
            }
            self.entries.insert(key.bits(), Entry { key, port, kind: Kind::Dynamic, stamp_s: now_s });
            return Learn::Learned;
        };
        match (entry.port == port, entry.kind == Kind::Dynamic) {
            (true, true) if entry.stamp_s < now_s => {
                entry.stamp_s = now_s;
                Learn::Refreshed
            }
            (true, _) => Learn::Known,
            (false, false) => Learn::RefusedStatic,
            (false, true) if port_full => Learn::RefusedPortLimit,
            (false, true) => {
                let from = std::mem::replace(&mut entry.port, port);
                entry.stamp_s = now_s;
                Learn::Moved { from }
            }
        }
    }

    fn insert(&mut self, entry: Entry) -> Result<Option<Entry>, FdbError> {
        let key = entry.key;
        let was_fixed = self.entries.get(&key.bits()).is_some_and(|old| old.kind != Kind::Dynamic);
        if !was_fixed && self.fixed() >= self.fixed_max {
            return Err(FdbError::FixedLimit { key, max: self.fixed_max as u32 });
        }
        Ok(self.entries.insert(key.bits(), entry))
    }
}

#[derive(Clone, Debug)]
enum Op {
    Learn { mac: u64, port: usize, port_max: u32 },
    Insert { mac: u64, port: usize, kind: Kind },
    Remove { mac: u64 },
    Age { older_s: u32 },
    Flush { port: usize },
    Wait { seconds: u32 },
}

fn op() -> impl Strategy<Value = Op> {
    let kind = prop_oneof![Just(Kind::Static), Just(Kind::Sticky), Just(Kind::Local)];
    prop_oneof![
        12 => (0..24u64, 0..4usize, 1..9u32).prop_map(|(mac, port, port_max)| Op::Learn { mac, port, port_max }),
        3 => (0..24u64, 0..4usize, kind).prop_map(|(mac, port, kind)| Op::Insert { mac, port, kind }),
        3 => (0..24u64).prop_map(|mac| Op::Remove { mac }),
        1 => (0..6u32).prop_map(|older_s| Op::Age { older_s }),
        1 => (0..4usize).prop_map(|port| Op::Flush { port }),
        3 => (1..3u32).prop_map(|seconds| Op::Wait { seconds }),
    ]
}

/// Runs `ops` on table and model. A refusal for full buckets is the table's own business: it must
/// then be true, and the model forgets the step.
fn compare(fdb: &Fdb, ops: &[Op]) -> Result<(), TestCaseError> {
    let mut model =
        Model { entries_max: fdb.entries_max as usize, fixed_max: fdb.fixed_max as usize, ..Model::default() };
    let mut now_s = 100;
    let address = |mac: u64| key(1 + mac as usize % 3, mac);
    let crowded = |key: MacKey| fdb.pair(key).unwrap().slots().all(|slot| slot.read().is_some());
    for op in ops {
        match *op {
            Op::Wait { seconds } => now_s += seconds,
            Op::Learn { mac, port: at, port_max } => {
                let (key, limits) = (address(mac), LearnLimits { port_max });
                let answer = fdb.learn(key, port(at), now_s, limits);
                if answer == Learn::RefusedTableFull {
                    prop_assert!(crowded(key) && !model.entries.contains_key(&key.bits()));
                } else {
                    prop_assert_eq!(answer, model.learn(key, port(at), now_s, limits), "{:?}", op);
                }
            }
            Op::Insert { mac, port: at, kind } => {
                let entry = Entry { key: address(mac), port: port(at), kind, stamp_s: now_s };
                let answer = fdb.insert(entry);
                if matches!(answer, Err(FdbError::BucketsFull { .. })) {
                    prop_assert!(crowded(entry.key) && !model.entries.contains_key(&entry.key.bits()));
                } else {
                    prop_assert_eq!(answer, model.insert(entry), "{:?}", op);
                }
            }
            Op::Remove { mac } => {
                prop_assert_eq!(fdb.remove(address(mac)), model.entries.remove(&address(mac).bits()));
            }
            Op::Age { older_s } => {
                let keep = |entry: &Entry| entry.kind != Kind::Dynamic || now_s - entry.stamp_s < older_s;
                let before = model.entries.len();
                model.entries.retain(|_, entry| keep(entry));
                prop_assert_eq!(sweep_all(fdb, keep) as usize, before - model.entries.len());
            }
            Op::Flush { port: at } => {
                let keep = |entry: &Entry| entry.port != port(at);
                model.entries.retain(|_, entry| keep(entry));
                sweep_all(fdb, keep);
            }
        }
        prop_assert_eq!(fdb.len() as usize, model.entries.len());
    }
    let mut entries = dump(fdb);
    entries.sort_by_key(|entry| entry.key.bits());
    prop_assert_eq!(entries, model.entries.values().copied().collect::<Vec<_>>());
    for mac in 0..24 {
        let found = fdb.lookup(address(mac)).map(|hit| hit.entry(address(mac)));
        prop_assert_eq!(found, model.entries.get(&address(mac).bits()).copied());
    }
    for at in 0..4 {
        prop_assert_eq!(fdb.port_len(port(at)) as usize, model.dynamic(Some(port(at))));
    }
    prop_assert_eq!(fdb.dynamic_len() as usize, model.dynamic(None));
    Ok(())
}

proptest! {
    #[test]
    fn agrees_with_a_plain_map(seed: u64, ops in prop::collection::vec(op(), 1..300)) {
        compare(&Fdb::with_buckets(64, 12, 5, seed), &ops)?;
    }

    #[test]
    fn agrees_with_a_plain_map_when_buckets_overflow(seed: u64, ops in prop::collection::vec(op(), 1..300)) {
        compare(&Fdb::with_buckets(3, 100, 100, seed), &ops)?;
    }
}

/// SplitMix64: the `n`-th of a sequence of different, well-spread numbers.
fn spread(n: u64) -> u64 {
    let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

#[test]
fn a_million_addresses_of_any_pattern_fit() {
    const ADDRESSES: u64 = 1_000_000;
    type Pattern = fn(u64) -> u64;
    let patterns: [(&str, Pattern); 4] = [
        ("random", |n| spread(n) >> 16),
        ("sequential", |n| 0x0200_0000_0000 + n),
        // Forty vendors' prefixes, numbered from 0 in each.
        ("clustered", |n| ((spread(n % 40) >> 40) << 24) | (n / 40)),
        // Only high bits differ.
        ("high bits", |n| n << 28),
    ];
    for (name, pattern) in patterns {
        for domains in [1, DOMAINS_MAX] {
            let fdb = Fdb::new(FDB_ENTRIES_MAX, spread(domains as u64));
            let address = |n: u64| key(1 + n as usize % domains, pattern(n));
            for n in 0..ADDRESSES {
                let answer = fdb.learn(address(n), port(n as usize % PORTS_MAX), 1, NO_LIMIT);
                assert!(answer == Learn::Learned, "{name}, {domains} domains: address {n}: {answer:?}");
            }
            assert_eq!(fdb.len() as u64, ADDRESSES);
            let lost = (0..ADDRESSES).filter(|&n| fdb.lookup(address(n)).is_none()).count();
            assert_eq!(lost, 0, "{name}, {domains} domains");
            let mut fills = [0u32; SLOTS + 1];
            fdb.buckets.iter().for_each(|bucket| fills[bucket.used()] += 1);
            let firsts = (0..ADDRESSES).filter(|&n| in_first(&fdb, address(n))).count();
            println!("{name}, {domains} domains: buckets by fill {fills:?}, {firsts} in their first bucket");
            assert!(firsts as u64 > ADDRESSES * 9 / 10, "{name}, {domains} domains: {firsts} in the first bucket");
        }
    }
}

fn in_first(fdb: &Fdb, key: MacKey) -> bool {
    fdb.pair(key).is_some_and(|pair| pair.first.slots().iter().any(|slot| slot.get(key.bits()).is_some()))
}

#[test]
fn small_tables_fill_to_their_limit() {
    for entries_max in [0, 1, 7, 4_096, 65_536] {
        for seed in 0..4 {
            let fdb = Fdb::new(entries_max, seed);
            assert_eq!(fdb.entries_max(), entries_max);
            for n in 0..u64::from(entries_max) {
                assert_eq!(fdb.learn(key(1, 1 + n), port(1), 1, NO_LIMIT), Learn::Learned);
            }
            let next = key(1, 1 + u64::from(entries_max));
            assert_eq!(fdb.learn(next, port(1), 1, NO_LIMIT), Learn::RefusedTotalLimit);
        }
    }
    assert_eq!(Fdb::new(u32::MAX, 0).entries_max(), FDB_ENTRIES_MAX);
}
