//! What the switch itself costs per frame: a worker's whole turn, with ports that are memory.
//!
//! The ingress port takes frames from the pool and writes 60 bytes into each, as the kernel's copy does; egress
//! ports give them back to the pool. Nothing else is copied. `ports_alone` is just that, without a switch: what is
//! above it is parse, admit, learn, forward, output, the transmit stage and the counters.
//! Run with `cargo bench -p bench --bench path`; times are per frame received, in bursts of 64.

use std::hint::black_box;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use etherparse::PacketBuilder;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use switch::ids::{DomainId, Mac, PortId};
use switch::limits::{BURST, FDB_ENTRIES_MAX, FRAMES_DEFAULT, WORKERS_MAX};
use switch::port::{Frame, FramePool, Frames, Port, PortError, Service, SharedPool};
use switch::table::fdb::{Fdb, Learn, LearnLimits, MacKey};
use switch::table::snapshot::{PortFlags, PortSetup, Snapshot};
use switch::worker::{Command, Event, Shared, Worker};

/// Known addresses behind each of the two ports of a unicast run.
const STATIONS: [usize; 4] = [1, 1_000, 65_536, 500_000];

/// Ports that a flooded frame leaves through.
const FLOOD_PORTS: usize = 8;

/// Second in which everything happens: known addresses are fresh, as in all but one frame a second.
const NOW_S: u32 = 1;

/// Shortest Ethernet frame, without its check sequence.
const FRAME_LEN: usize = 60;

/// Destination and source address, as they stand in a frame.
type Addresses = [u8; 12];

/// A frame of 60 bytes that carries UDP over IPv4 with a complete checksum; the addresses are set per frame.
fn template() -> [u8; FRAME_LEN] {
    let step = PacketBuilder::ethernet2([0; 6], [0; 6]).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).udp(40_000, 5201);
    let mut bytes = Vec::with_capacity(FRAME_LEN);
    step.write(&mut bytes, &[7; FRAME_LEN - 14 - 20 - 8]).expect("a vector takes any frame");
    bytes.try_into().expect("the headers and the payload are 60 bytes")
}

/// The port that receives: always a full burst, each frame with the next pair of addresses.
struct Source {
    template: [u8; FRAME_LEN],
    /// Whole bursts, over and over.
    addresses: Vec<Addresses>,
    at: usize,
}

impl Source {
    fn new(addresses: Vec<Addresses>) -> Source {
        assert!(!addresses.is_empty() && addresses.len().is_multiple_of(BURST), "whole bursts");
        Source { template: template(), addresses, at: 0 }
    }
}

impl Port for Source {
    fn rx(&mut self, pool: &mut FramePool, out: &mut Frames) {
        for addresses in &self.addresses[self.at..self.at + BURST] {
            let Some(mut frame) = pool.alloc() else { return };
            self.template[..12].copy_from_slice(addresses);
            pool.region().write(&mut frame, &self.template);
            out.push(frame);
        }
        self.at = (self.at + BURST) % self.addresses.len();
    }

    fn tx(&mut self, pool: &mut FramePool, frames: &mut Frames) {
        frames.drain(..).for_each(|frame| pool.free(frame));
    }

    fn service(&mut self, _pool: &mut FramePool) -> Result<Service, PortError> {
        Ok(Service::default())
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn held(&self) -> usize {
        0
    }

    fn close(self: Box<Self>) -> Vec<Frame> {
        Vec::new()
    }
}

/// A port that only transmits, which takes no time: the frames are free again at once.
struct Sink;

impl Port for Sink {
    fn rx(&mut self, _pool: &mut FramePool, _out: &mut Frames) {}

    fn tx(&mut self, pool: &mut FramePool, frames: &mut Frames) {
        frames.drain(..).for_each(|frame| pool.free(frame));
    }

    fn service(&mut self, _pool: &mut FramePool) -> Result<Service, PortError> {
        Ok(Service::default())
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn held(&self) -> usize {
        0
    }

    fn close(self: Box<Self>) -> Vec<Frame> {
        Vec::new()
    }
}

fn domain() -> DomainId {
    DomainId::new(1).expect("domain 1 exists")
}

fn port(index: usize) -> PortId {
    PortId::new(index).expect("below the most ports")
}

/// `count` different unicast addresses that begin with `octet`.
fn stations(octet: u64, count: usize) -> Vec<Mac> {
    // An odd factor permutes the 40 bits below: different numbers, different addresses.
    let bits = |number: u64| octet << 40 | number.wrapping_mul(0x9e_3779_b97f_4a7c) & 0xff_ffff_ffff;
    (0..count as u64).map(|number| Mac::from_bits(bits(number))).collect()
}

/// Pairs of one address of `to` and one of `from` in random order: as many as `from` has, in whole bursts.
fn conversations(to: &[Mac], from: &[Mac]) -> Vec<Addresses> {
    let mut random = SmallRng::seed_from_u64(from.len() as u64);
    let mut any = |of: &[Mac]| of[random.random_range(0..of.len())].bits().to_be_bytes();
    let pair = |_| {
        let (dst, src) = (any(to), any(from));
        let mut addresses = Addresses::default();
        addresses[..6].copy_from_slice(&dst[2..]);
        addresses[6..].copy_from_slice(&src[2..]);
        addresses
    };
    (0..from.len().next_multiple_of(BURST)).map(pair).collect()
}

/// A switch of one worker: port 0 receives, the others transmit, all in one bridge domain.
struct Bench {
    shared: Arc<Shared>,
    worker: Worker,
    egress: usize,
}

impl Bench {
    /// `egress` transmitting ports, and a table that knows `known`, each behind its port.
    fn new(source: Source, egress: usize, known: &[(usize, &[Mac])]) -> Bench {
        let fdb = Fdb::new(FDB_ENTRIES_MAX, 0x5eed);
        for &(index, macs) in known {
            for &mac in macs {
                let answer = fdb.learn(MacKey::new(domain(), mac), port(index), NOW_S, LearnLimits::NONE);
                assert_eq!(answer, Learn::Learned, "the table has room for {mac:?}");
            }
        }
        let shared = Shared::new(1, SharedPool::heap(FRAMES_DEFAULT), Arc::new(fdb)).expect("event descriptors");
        let setups: Vec<PortSetup> = (0..=egress).map(setup).collect();
        let view = Arc::new(Snapshot::new(1, &setups, &[(domain(), 300)]));
        shared.command(0, Command::View(view));
        shared.command(0, Command::Attach { port: port(0), dev: Box::new(source) });
        for index in 1..=egress {
            shared.command(0, Command::Attach { port: port(index), dev: Box::new(Sink) });
        }
        let mut bench = Bench { worker: Worker::new(0, Arc::clone(&shared)), shared, egress };
        bench.turn();
        assert!(matches!(bench.shared.next_event(), Some(Event::Retired(_))), "the worker took the view");
        bench
    }

    fn turn(&mut self) {
        let moved = self.worker.poll_once(u64::from(NOW_S) * 1_000_000_000);
        assert_eq!(moved, BURST, "the source always has a burst");
    }

    /// Time of `frames` frames, rounded up to whole bursts and scaled back.
    fn time(&mut self, frames: u64) -> Duration {
        per_frame(frames, || self.turn())
    }

    /// Every frame received so far left through `copies` ports, and nothing was lost on the way.
    fn check(&self, copies: usize) {
        let stats = self.shared.stats(0);
        let received = stats.port(port(0)).rx_packets.get();
        let sent: u64 = (1..=self.egress).map(|index| stats.port(port(index)).tx_packets.get()).sum();
        assert!(received > 0 && sent == received * copies as u64, "{received} frames received, {sent} sent");
    }
}

fn setup(index: usize) -> PortSetup {
    PortSetup {
        id: port(index),
        forwarding: true,
        mtu: 1500,
        native: Some(domain()),
        trunk: Vec::new(),
        flags: PortFlags::default(),
        mac_limit: u32::MAX,
        tx_worker: [0; WORKERS_MAX],
    }
}

/// Time that `turn`, which moves a burst, takes for `frames` frames.
fn per_frame(frames: u64, mut turn: impl FnMut()) -> Duration {
    let bursts = frames.div_ceil(BURST as u64);
    let start = Instant::now();
    (0..bursts).for_each(|_| turn());
    start.elapsed().mul_f64(frames as f64 / (bursts * BURST as u64) as f64)
}

fn group<'a>(criterion: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(1));
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2)).sample_size(20);
    group
}

fn ports_alone(criterion: &mut Criterion) {
    let macs = stations(0x02, 1_000);
    let mut source = Source::new(conversations(&macs, &macs));
    let mut pool = FramePool::new(SharedPool::heap(FRAMES_DEFAULT));
    let (mut sink, mut frames) = (Sink, Frames::new());
    let mut group = group(criterion, "path");
    group.bench_function("ports_alone", |bencher| {
        bencher.iter_custom(|count| {
            per_frame(count, || {
                source.rx(&mut pool, &mut frames);
                sink.tx(&mut pool, black_box(&mut frames));
            })
        });
    });
    group.finish();
}

fn unicast(criterion: &mut Criterion) {
    let mut group = group(criterion, "path_unicast");
    for count in STATIONS {
        let (here, there) = (stations(0x02, count), stations(0x06, count));
        let source = Source::new(conversations(&there, &here));
        let mut bench = Bench::new(source, 1, &[(0, &here), (1, &there)]);
        // Named by the addresses in the table.
        group.bench_function(BenchmarkId::from_parameter(2 * count), |bencher| {
            bencher.iter_custom(|frames| bench.time(frames));
        });
        bench.check(1);
    }
    group.finish();
}

fn flood(criterion: &mut Criterion) {
    let mut group = group(criterion, "path_flood");
    let (here, unknown) = (stations(0x02, 1_000), stations(0x06, 1_000));
    let source = Source::new(conversations(&unknown, &here));
    let mut bench = Bench::new(source, FLOOD_PORTS, &[(0, &here)]);
    group.bench_function(BenchmarkId::from_parameter(FLOOD_PORTS), |bencher| {
        bencher.iter_custom(|frames| bench.time(frames));
    });
    bench.check(FLOOD_PORTS);
    group.finish();
}

criterion_group!(benches, ports_alone, unicast, flood);
criterion_main!(benches);
