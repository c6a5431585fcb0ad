//! What the switch itself costs per frame: a worker's whole turn, with ports that are memory (see `bed`).
//!
//! `ports_alone` is the ports without a switch: what is above it is parse, admit, learn, forward, output, the
//! transmit stage and the counters.
//! Run with `cargo bench -p bench --bench path`; times are per frame received, in bursts of 64.

use std::hint::black_box;
use std::time::{Duration, Instant};

use bed::routed::Routed;
use bed::{FLOOD_PORTS, Sink, Source, conversations, stations};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use switch::limits::{BURST, FRAMES_DEFAULT};
use switch::port::{FramePool, Frames, Port, SharedPool};

/// Known addresses behind each of the two ports of a unicast run.
const STATIONS: [usize; 4] = [1, 1_000, 65_536, 500_000];

/// Routes in the table of a routed run.
const ROUTES: [usize; 3] = [1, 1_000, 1_000_000];

/// New senders until the table is emptied: as many whole bursts as it takes (see `FDB_ENTRIES_MAX`).
const NEWCOMERS: usize = 1_000_000;

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
        let mut bench = bed::unicast(count);
        // Named by the addresses in the table.
        group.bench_function(BenchmarkId::from_parameter(2 * count), |bencher| {
            bencher.iter_custom(|frames| per_frame(frames, || bench.turn()));
        });
        bench.check(1);
    }
    group.finish();
}

fn flood(criterion: &mut Criterion) {
    let mut group = group(criterion, "path_flood");
    let mut bench = bed::flood();
    group.bench_function(BenchmarkId::from_parameter(FLOOD_PORTS), |bencher| {
        bencher.iter_custom(|frames| per_frame(frames, || bench.turn()));
    });
    bench.check(FLOOD_PORTS);
    group.finish();
}

/// Every packet is routed: by one of so many routes, to one of 64 neighbours.
fn routed(criterion: &mut Criterion) {
    let mut group = group(criterion, "path_routed");
    for routes in ROUTES {
        let mut bench = Routed::new(routes);
        group.bench_function(BenchmarkId::from_parameter(routes), |bencher| {
            bencher.iter_custom(|frames| per_frame(frames, || bench.turn()));
        });
        bench.check();
    }
    group.finish();
}

/// Every frame is the first of its sender: what learning costs. Emptying the full table is not timed.
fn learning(criterion: &mut Criterion) {
    let mut group = group(criterion, "path_learning");
    let mut bench = bed::newcomers(NEWCOMERS);
    let bursts_max = (NEWCOMERS / BURST) as u64;
    // The set-up has moved the first burst.
    let mut left = bursts_max - 1;
    group.bench_function(BenchmarkId::from_parameter(NEWCOMERS), |bencher| {
        bencher.iter_custom(|frames| {
            let (mut bursts, mut taken) = (frames.div_ceil(BURST as u64), Duration::ZERO);
            while bursts > 0 {
                if left == 0 {
                    bench.forget();
                    left = bursts_max;
                }
                let now = bursts.min(left);
                taken += per_frame(now * BURST as u64, || bench.turn());
                (bursts, left) = (bursts - now, left - now);
            }
            taken.mul_f64(frames as f64 / frames.next_multiple_of(BURST as u64) as f64)
        });
    });
    bench.check(1);
    bench.check_learned();
    group.finish();
}

criterion_group!(benches, ports_alone, unicast, routed, flood, learning);
criterion_main!(benches);
