//! What each stage of the path costs per frame, alone, with a table of that many addresses.
//!
//! A burst is received and taken through all stages; the clock runs for one of them, and what reading the clock
//! takes is subtracted. Every frame has another pair of known addresses. Headers were written just before, as a
//! prefetched frame's are in the cache.
//! Run with `cargo bench -p bench --bench stages`; times are per frame.

use std::time::{Duration, Instant};

use bed::{NOW_S, Source, conversations, port, stations, table, view};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use crossbeam::queue::ArrayQueue;
use switch::limits::{BURST, FRAMES_DEFAULT};
use switch::path::{self, Burst, Ctx, HostQueues, Injected, Redirects, TxStage};
use switch::port::{FramePool, Port, SharedPool};
use switch::stats::WorkerStats;
use switch::table::fdb::Fdb;
use switch::table::router::RouterTables;
use switch::table::snapshot::Snapshot;

/// Addresses in the table.
const ENTRIES: [usize; 3] = [1_000, 65_536, 1_000_000];

type Stage = fn(&mut Ctx<'_>, &mut Burst);

/// The stages by name, in the order of `path::process`.
const STAGES: [(&str, Stage); 7] = [
    ("parse", path::parse::parse),
    ("admit", path::admit::admit),
    ("learn", path::learn::learn),
    ("forward", path::forward::forward),
    ("listen", path::listen::listen),
    ("route", path::route::route),
    ("output", path::output::output),
];

/// What the stages need, without a worker around them.
struct Stages {
    source: Source,
    pool: FramePool,
    view: Snapshot,
    fdb: Fdb,
    stats: WorkerStats,
    tx: TxStage,
    burst: Burst,
    router: RouterTables,
    host: HostQueues,
    again: ArrayQueue<Injected>,
    redirects: Redirects,
    /// What reading the clock takes.
    clock: Duration,
}

impl Stages {
    /// Half of the addresses send, from port 0, and half receive, behind port 1.
    fn new(entries: usize) -> Stages {
        let (here, there) = (stations(0x02, entries / 2), stations(0x06, entries / 2));
        Stages {
            source: Source::new(conversations(&there, &here)),
            pool: FramePool::new(SharedPool::heap(FRAMES_DEFAULT)),
            view: view(1),
            fdb: table(&[(0, &here), (1, &there)]),
            stats: WorkerStats::default(),
            tx: TxStage::default(),
            burst: Burst::default(),
            router: RouterTables::default(),
            host: HostQueues::new(1),
            again: ArrayQueue::new(1),
            redirects: Redirects::default(),
            clock: (0..1_000).map(|_| Instant::now().elapsed()).min().unwrap_or_default(),
        }
    }

    /// Takes a burst through all stages; the time that the one numbered `timed` took.
    fn turn(&mut self, timed: usize) -> Duration {
        self.source.rx(&mut self.pool, &mut self.burst.frames);
        self.burst.ingress = port(0);
        let Stages { pool, view, fdb, stats, tx, burst, router, host, again, redirects, .. } = self;
        let mut ctx = Ctx {
            pool,
            view,
            fdb,
            stats,
            tx,
            router,
            host,
            again,
            redirects,
            ingress: burst.ingress,
            punted: &mut false,
            now_s: NOW_S,
        };
        let mut time = Duration::ZERO;
        for (at, (_, stage)) in STAGES.into_iter().enumerate() {
            if at == timed {
                let start = Instant::now();
                stage(&mut ctx, burst);
                time = start.elapsed();
            } else {
                stage(&mut ctx, burst);
            }
        }
        let queue = self.tx.next_dirty().and_then(|port| self.tx.queue(port)).expect("frames for port 1");
        assert_eq!(queue.len(), BURST, "every frame is for the other port");
        queue.drain(..).for_each(|frame| self.pool.free(frame));
        time.saturating_sub(self.clock)
    }
}

fn stages(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("stages");
    group.throughput(Throughput::Elements(1));
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2)).sample_size(20);
    for entries in ENTRIES {
        let mut stages = Stages::new(entries);
        for (at, (name, _)) in STAGES.into_iter().enumerate() {
            group.bench_function(BenchmarkId::new(name, entries), |bencher| {
                bencher.iter_custom(|frames| {
                    let turns = frames.div_ceil(BURST as u64);
                    let time: Duration = (0..turns).map(|_| stages.turn(at)).sum();
                    time.mul_f64(frames as f64 / (turns * BURST as u64) as f64)
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, stages);
criterion_main!(benches);
