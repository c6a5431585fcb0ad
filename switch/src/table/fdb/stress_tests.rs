//! Many threads: workers learn, move and look up while a control thread does everything it may.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering as StdOrdering};
use std::thread;

use super::*;
use crate::ids::{DomainId, Mac};

const STATIONS: u64 = 512;
const WORKERS: u64 = 4;
const ROUNDS: u64 = 60_000;
const PORTS: usize = 8;

fn key(station: u64) -> MacKey {
    MacKey::new(DomainId::new(1 + station as usize % 5).unwrap(), Mac::from_bits(0x0200_0000_0000 + station))
}

/// The `n`-th of the three ports a station may ever be behind: an answer with another port is
/// another station's.
fn port_of(station: u64, n: u64) -> PortId {
    PortId::new((station * 3 + n % 3) as usize % PORTS).unwrap()
}

fn may_be_behind(station: u64, port: PortId) -> bool {
    (0..3).any(|n| port_of(station, n) == port)
}

struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        // xorshift64 (Marsaglia 2003).
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % below
    }
}

fn work(fdb: &Fdb, clock_s: &AtomicU32, seed: u64) {
    let mut random = Random(seed);
    for _ in 0..ROUNDS {
        let station = random.next(STATIONS);
        match fdb.learn(key(station), port_of(station, random.next(3)), clock_s.load(StdOrdering::Relaxed), LIMITS) {
            Learn::Moved { from } => assert!(may_be_behind(station, from), "moved from another's port"),
            Learn::RefusedTotalLimit => assert!(fdb.entries_max() < STATIONS as u32),
            _ => {}
        }
        let station = random.next(STATIONS);
        if let Some(port) = fdb.port_of_dynamic(key(station), fdb.home(key(station)), u32::MAX, u32::MAX) {
            assert!(may_be_behind(station, port), "{port:?} was never told of station {station}");
        }
        if let Some(hit) = fdb.lookup(key(station)) {
            assert!(may_be_behind(station, hit.port), "station {station} found behind {:?}", hit.port);
        }
    }
}

const LIMITS: LearnLimits = LearnLimits { port_max: 60 };

fn control(fdb: &Fdb, clock_s: &AtomicU32, stop: &AtomicBool) {
    let mut random = Random(99);
    while !stop.load(StdOrdering::Relaxed) {
        let now_s = clock_s.fetch_add(1, StdOrdering::Relaxed) + 1;
        let station = random.next(STATIONS);
        let entry = Entry { key: key(station), port: port_of(station, 0), kind: Kind::Static, stamp_s: now_s };
        match fdb.insert(entry) {
            Ok(_) => {
                assert_eq!(fdb.remove(key(station)).map(|gone| gone.kind), Some(Kind::Static));
            }
            Err(error) => assert!(matches!(error, FdbError::BucketsFull { .. }), "{error}"),
        }
        let flushed = port_of(random.next(STATIONS), 0);
        fdb.sweep(random.next(64) as usize, 16, |entry| entry.port != flushed);
        fdb.sweep(random.next(64) as usize, 16, |entry| now_s.saturating_sub(entry.stamp_s) < 20);
        fdb.scan(0, usize::MAX, |entry| {
            let station = entry.key.mac().bits() & 0xffff;
            assert!(entry.key == key(station) && may_be_behind(station, entry.port));
        });
        assert!(fdb.dynamic_len() <= fdb.entries_max());
    }
}

fn storm(buckets: u32, entries_max: u32, seed: u64) {
    let fdb = Fdb::with_buckets(buckets, entries_max, 4, seed);
    let (clock_s, stop) = (AtomicU32::new(1), AtomicBool::new(false));
    thread::scope(|scope| {
        let controller = scope.spawn(|| control(&fdb, &clock_s, &stop));
        let workers: Vec<_> = (1..=WORKERS)
            .map(|n| {
                scope.spawn({
                    let (fdb, clock_s) = (&fdb, &clock_s);
                    move || work(fdb, clock_s, seed + n)
                })
            })
            .collect();
        let failed = workers.into_iter().filter_map(|worker| worker.join().err()).count();
        stop.store(true, StdOrdering::Relaxed);
        assert!(controller.join().is_ok() && failed == 0, "a thread panicked, see above");
    });
    check_at_rest(&fdb);
}

fn check_at_rest(fdb: &Fdb) {
    let mut keys = HashSet::new();
    let (mut dynamic, mut ports) = (0, [0; PORTS]);
    fdb.scan(0, usize::MAX, |entry| {
        assert!(keys.insert(entry.key), "{} is there twice", entry.key);
        assert_eq!(fdb.lookup(entry.key).map(|hit| hit.entry(entry.key)), Some(entry));
        let moves = entry.kind == Kind::Dynamic;
        // The first bucket as a home is wrong for nearly all, and changes no answer.
        for home in [fdb.home(entry.key), Home::default()] {
            assert_eq!(fdb.port_of_dynamic(entry.key, home, entry.stamp_s, 0), moves.then_some(entry.port));
            assert_eq!(fdb.is_fresh(entry.key, home, Fresh::new(entry.port, entry.stamp_s)), moves);
        }
        if entry.kind == Kind::Dynamic {
            dynamic += 1;
            ports[entry.port.index()] += 1;
        }
    });
    assert_eq!((fdb.len() as usize, fdb.dynamic_len()), (keys.len(), dynamic));
    for (index, count) in ports.into_iter().enumerate() {
        assert_eq!(fdb.port_len(PortId::new(index).unwrap()), count, "port {index}");
    }
    // No slot was lost on the way: what can be swept can be filled again.
    fdb.sweep(0, usize::MAX, |_| false);
    assert!(fdb.is_empty() && fdb.buckets.iter().all(|bucket| bucket.used() == 0));
}

#[test]
fn workers_and_control_at_once_leave_exact_counts_and_one_entry_per_address() {
    storm(1_024, 400, 11);
}

#[test]
fn the_same_when_buckets_overflow_and_slots_change_hands_all_the_time() {
    storm(32, 1_000, 12);
}
