//! What the forwarding database costs per address. The bench `tables` measures it beside others.
//!
//! Addresses are asked for in random order, so that at 1,000,000 of them each lookup meets a cold line.
//! Run with `cargo bench -p bench --bench fdb`; times are per group of 64 addresses, one burst.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hashbrown::HashMap;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use switch::ids::{DomainId, Mac, PortId};
use switch::limits::BURST;
use switch::table::fdb::{Fdb, Home, Learn, LearnLimits, MacKey};

const SIZES: [u32; 3] = [1_000, 65_536, 1_000_000];

/// Random unicast addresses of one domain: `count` known ones, and as many others with another
/// first octet.
fn addresses(count: u32) -> (Vec<MacKey>, Vec<MacKey>) {
    let mut random = SmallRng::seed_from_u64(u64::from(count));
    let domain = DomainId::new(1).expect("domain 1 exists");
    let mut draw = |octet: u64| -> Vec<MacKey> {
        let mac = |random: &mut SmallRng| Mac::from_bits(octet << 40 | random.random::<u64>() & 0xff_ffff_ffff);
        let mut keys: Vec<MacKey> = (0..count).map(|_| MacKey::new(domain, mac(&mut random))).collect();
        keys.shuffle(&mut random);
        // Whole bursts only.
        keys.truncate(keys.len() / BURST * BURST);
        keys
    };
    (draw(0x02), draw(0x06))
}

fn port(index: usize) -> PortId {
    PortId::new(index % 256).expect("below the most ports")
}

fn filled(known: &[MacKey]) -> Fdb {
    let fdb = Fdb::new(known.len() as u32, RandomState::new().hash_one(known.len()));
    for (index, &key) in known.iter().enumerate() {
        let answer = fdb.learn(key, port(index), 1, LearnLimits::NONE);
        assert!(matches!(answer, Learn::Learned | Learn::Known | Learn::Moved { .. }), "{answer:?}");
    }
    fdb
}

/// The bursts of `keys`, over and over, in an order the prefetcher cannot guess.
struct Bursts<'a> {
    keys: &'a [MacKey],
    at: usize,
}

impl<'a> Bursts<'a> {
    fn new(keys: &'a [MacKey]) -> Bursts<'a> {
        Bursts { keys, at: 0 }
    }

    fn next(&mut self) -> &'a [MacKey] {
        let burst = &self.keys[self.at..self.at + BURST];
        self.at = (self.at + BURST) % self.keys.len();
        burst
    }
}

fn one_by_one(fdb: &Fdb, burst: &[MacKey]) -> usize {
    burst.iter().filter_map(|&key| fdb.lookup(key)).map(|hit| hit.port.index()).sum()
}

/// As the packet path does.
fn homed(fdb: &Fdb, burst: &[MacKey]) -> usize {
    let mut homes = [Home::default(); BURST];
    homes.iter_mut().zip(burst).for_each(|(home, &key)| *home = fdb.home(key));
    let ports = homes.iter().zip(burst).filter_map(|(&home, &key)| fdb.port_of_dynamic(key, home, 1, 0));
    ports.map(PortId::index).sum()
}

/// One lookup after the other: the next address depends on the last answer, so no two misses overlap.
fn chained(fdb: &Fdb, burst: &[MacKey]) -> usize {
    let mut sum = 0;
    for &key in burst {
        let after = black_box(sum & 1 << 20);
        let key = MacKey::new(key.domain(), Mac::from_bits(key.mac().bits() ^ after as u64));
        sum += fdb.lookup(key).map_or(0, |hit| hit.port.index());
    }
    sum
}

fn lookups(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fdb_lookup");
    group.throughput(Throughput::Elements(BURST as u64));
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2)).sample_size(20);
    for size in SIZES {
        let (known, unknown) = addresses(size);
        let fdb = filled(&known);
        type Way = fn(&Fdb, &[MacKey]) -> usize;
        let ways: [(&str, &[MacKey], Way); 5] = [
            ("hit", &known, one_by_one),
            ("hit_chained", &known, chained),
            ("hit_homed", &known, homed),
            ("miss", &unknown, one_by_one),
            ("miss_homed", &unknown, homed),
        ];
        for (name, keys, way) in ways {
            let mut bursts = Bursts::new(keys);
            group.bench_function(BenchmarkId::new(name, size), |bench| bench.iter(|| way(&fdb, bursts.next())));
        }
    }
    group.finish();
}

fn learning(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fdb_learn");
    group.throughput(Throughput::Elements(BURST as u64));
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2)).sample_size(20);
    for size in SIZES {
        let (known, unknown) = addresses(size);
        let fdb = filled(&known);
        let here = |key: MacKey| fdb.lookup(key).map_or(port(0), |hit| hit.port);
        let ports: HashMap<MacKey, PortId> = known.iter().map(|&key| (key, here(key))).collect();
        let known: Vec<(MacKey, PortId)> = known.iter().map(|&key| (key, ports[&key])).collect();
        let mut learn = |name: &str, tick: u32| {
            let (mut at, mut now_s) = (0, 1u32);
            group.bench_function(BenchmarkId::new(name, size), |bench| {
                bench.iter(|| {
                    now_s = now_s.wrapping_add(tick);
                    for &(key, port) in &known[at..at + BURST] {
                        black_box(fdb.learn(key, port, now_s, LearnLimits::NONE));
                    }
                    at = (at + BURST) % known.len();
                });
            });
        };
        learn("known", 0);
        // Every call finds an older second and writes; in traffic that is one frame a second and station.
        learn("refresh", 1);
        // The table holds as many as it may: a MAC flood.
        let mut bursts = Bursts::new(&unknown);
        group.bench_function(BenchmarkId::new("refused", size), |bench| {
            bench.iter(|| {
                bursts.next().iter().for_each(|&key| {
                    black_box(fdb.learn(key, port(1), 1, LearnLimits { port_max: 0 }));
                });
            });
        });
    }
    group.finish();
}

criterion_group!(benches, lookups, learning);
criterion_main!(benches);
