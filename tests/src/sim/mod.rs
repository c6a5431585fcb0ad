//! The deterministic simulator: workers stepped in seeded order over in-memory ports, time as an argument.
//!
//! From one seed come the topology, its changes, the faults, the traffic and the order of events. Every frame that
//! the switch takes from a port is also given to the [reference switch](crate::reference), and what leaves is
//! checked against it. Throughout, no frame of the pool may be lost or counted twice; whenever all is quiet, the
//! tables must be equal and the counters must explain every frame.

mod ledger;
mod ports;
mod random;
mod tap;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use switch::ids::{DomainId, Mac};
use switch::limits::SEGMENTS_MAX;
use switch::port::SharedPool;
use switch::table::fdb::{Entry, Fdb, Kind, MacKey};
use switch::worker::{Command, Shared, Worker};

use crate::lab::{domain, port};
use crate::reference::{Config, Reference, Row};
use ledger::Ledger;
pub use ledger::Tally;
use ports::{Pending, Ports};
pub use random::Plan;
use tap::TapLog;

/// Turns within which the switch must come to rest once nothing arrives any more.
const REST_TURNS: usize = 20_000;

/// Packets that may wait on one wire.
const BACKLOG_MAX: usize = 12;

/// Steps between two conservation checks.
const CONSERVE_EVERY: u64 = 16;

/// A broken rule, and how to see it again.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// The step, from 1.
    pub step: u64,
    /// What was drawn from the seed.
    pub plan: Plan,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { seed, step, plan, what } = self;
        write!(
            f,
            "seed {seed}, step {step}: {what}\n  with {plan:?}\n  \
             again: SIM_SEED={seed} SIM_STEPS={step} cargo test -p tests --test simulation"
        )
    }
}

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Steps.
    pub steps: u64,
    /// Frames given to the ports.
    pub offered: u64,
    /// Frames that left.
    pub delivered: u64,
    /// Frames that faults or full queues kept from leaving.
    pub lost: u64,
    /// Configurations put in force.
    pub changes: u64,
    /// Ports attached, the first ones included.
    pub attached: u64,
    /// Addresses that aged out.
    pub aged: u64,
}

impl std::ops::AddAssign for Summary {
    fn add_assign(&mut self, other: Summary) {
        self.steps += other.steps;
        self.offered += other.offered;
        self.delivered += other.delivered;
        self.lost += other.lost;
        self.changes += other.changes;
        self.attached += other.attached;
        self.aged += other.aged;
    }
}

/// Runs `steps` steps from `seed`, brings the switch to rest and takes it down.
///
/// # Errors
/// The first broken rule.
pub fn run(seed: u64, steps: u64) -> Result<Summary, Failure> {
    let mut simulation = Simulation::new(seed);
    let plan = simulation.plan.clone();
    let failed = |step, what| Failure { seed, step, plan: plan.clone(), what };
    for step in 1..=steps {
        simulation.step(step).map_err(|what| failed(step, what))?;
    }
    simulation.rest().map_err(|what| failed(steps, what))?;
    simulation.end(steps).map_err(|what| failed(steps, what))
}

struct Simulation {
    rng: StdRng,
    plan: Plan,
    shared: Arc<Shared>,
    workers: Vec<Worker>,
    /// What the control thread wants.
    config: Config,
    /// What each worker goes by.
    views: Vec<Config>,
    /// Commands that each worker has not obeyed yet.
    pending: Vec<VecDeque<Pending>>,
    ports: Ports,
    taps: TapLog,
    reference: Reference,
    ledger: Ledger,
    now_ns: u64,
    serial: u64,
    sweep_from: usize,
    done: Summary,
}

impl Simulation {
    fn new(seed: u64) -> Simulation {
        let mut rng = StdRng::seed_from_u64(seed);
        let plan = Plan::draw(&mut rng);
        let config = random::config(&mut rng, &plan);
        let fdb = Arc::new(Fdb::new(plan.entries_max, seed));
        let shared = Shared::new(plan.workers, SharedPool::heap(plan.frames), fdb).expect("event descriptors");
        let mut simulation = Simulation {
            workers: (0..plan.workers).map(|index| Worker::new(index, Arc::clone(&shared))).collect(),
            views: vec![Config::default(); plan.workers],
            pending: (0..plan.workers).map(|_| VecDeque::new()).collect(),
            ports: Ports::new(plan.ports),
            taps: TapLog::default(),
            reference: Reference::new(plan.entries_max as usize),
            ledger: Ledger::new(plan.is_exact()),
            now_ns: 1_000_000_000,
            serial: 0,
            sweep_from: 0,
            done: Summary::default(),
            rng,
            plan,
            shared,
            config,
        };
        (0..simulation.plan.ports).for_each(|index| simulation.attach(index));
        simulation.send_view();
        simulation
    }

    fn now_s(&self) -> u32 {
        (self.now_ns / 1_000_000_000) as u32
    }

    fn step(&mut self, step: u64) -> Result<(), String> {
        match self.rng.random_range(0..1000) {
            0..430 => self.offer(),
            430..900 => {
                let worker = self.rng.random_range(0..self.plan.workers);
                self.poll(worker)?;
            }
            900..940 => self.pass_time(),
            940..960 => {
                random::change(&mut self.rng, &self.plan, &mut self.config);
                self.send_view();
            }
            960..966 => self.toggle_port(),
            966..980 => self.edit_table()?,
            980..995 => self.age()?,
            _ => self.rest()?,
        }
        if step.is_multiple_of(CONSERVE_EVERY) { self.conserve() } else { Ok(()) }
    }

    /// Puts a few frames on the wire of a random queue.
    fn offer(&mut self) {
        let Some(queue) = self.ports.random_queue(&mut self.rng) else { return };
        for _ in 0..self.rng.random_range(1..=6) {
            if queue.wire.waiting() >= BACKLOG_MAX {
                return;
            }
            self.serial += 1;
            let id = ledger::name(queue.tap, self.serial);
            let frame = random::frame(&mut self.rng, &self.plan, id, self.plan.is_exact());
            self.done.offered += u64::from(queue.wire.send(&frame));
        }
    }

    fn pass_time(&mut self) {
        self.now_ns += match self.rng.random_range(0..100) {
            0..60 => self.rng.random_range(1..1_000_000),
            60..90 => self.rng.random_range(0..4_000_000_000),
            90..98 => 11_000_000_000,
            _ => 301_000_000_000,
        };
    }

    fn send_view(&mut self) {
        self.done.changes += 1;
        self.ports.place(&mut self.config, self.plan.workers);
        let snapshot = Arc::new(self.config.snapshot(self.done.changes));
        for worker in 0..self.plan.workers {
            self.shared.command(worker, Command::View(Arc::clone(&snapshot)));
            self.pending[worker].push_back(Pending::View(self.config.clone()));
        }
    }

    /// One turn of a worker, and everything that must be true after it.
    fn poll(&mut self, worker: usize) -> Result<usize, String> {
        self.obey(worker);
        let moved = self.workers[worker].poll_once(self.now_ns);
        self.judge(worker);
        self.collect()?;
        self.hear();
        Ok(moved)
    }

    /// Does in the model what the worker is about to do with its commands.
    fn obey(&mut self, worker: usize) {
        while let Some(command) = self.pending[worker].pop_front() {
            match command {
                Pending::View(config) => self.views[worker] = config,
                Pending::Attach => {}
                Pending::Detach(tap) => self.ports.set_working(tap, false),
            }
        }
    }

    /// Gives what the worker received to the reference switch and books the fates.
    fn judge(&mut self, worker: usize) {
        let bursts = std::mem::take(&mut *self.taps.lock().expect("one thread"));
        let now_s = self.now_s();
        for burst in bursts {
            let port = self.ports.port_of(burst.tap);
            let fates = self.reference.burst(&self.views[worker], port, &burst.packets, now_s);
            for (packet, fate) in burst.packets.iter().zip(fates) {
                assert!(fate.sent.iter().all(|(egress, _)| *egress != port), "the reference sends a frame back");
                let (ports, view) = (&self.ports, &self.views[worker]);
                self.ledger.book((port, burst.tap), packet, fate, |egress| ports.route(view, worker, egress));
            }
        }
    }

    /// Takes what left the ports and checks it.
    fn collect(&mut self) -> Result<(), String> {
        for queue in self.ports.queues() {
            while let Some(frame) = queue.wire.receive() {
                let route = |tap| self.ports.route(&self.config, self.ports.worker_of(tap), queue.port);
                self.ledger.deliver(queue.port, &frame, route)?;
                queue.wire.recycle(frame);
            }
        }
        Ok(())
    }

    /// Adds or removes a table entry as a user would, or flushes a port.
    fn edit_table(&mut self) -> Result<(), String> {
        let at = port(self.rng.random_range(0..self.plan.ports));
        let key = (domain(self.rng.random_range(1..=self.plan.domains)), random::host(&mut self.rng));
        match self.rng.random_range(0..10) {
            0..3 => {
                let kind = [Kind::Static, Kind::Sticky, Kind::Local][self.rng.random_range(0..3)];
                let row = Row { port: at, kind, stamp_s: self.now_s() };
                let before = self.shared.fdb().insert(entry(key, row)).map_err(|error| error.to_string())?;
                self.expect_before(key, before, self.reference.table.get(&key).copied())?;
                self.reference.table.insert(key, row);
            }
            3..9 => {
                let before = self.shared.fdb().remove(MacKey::new(key.0, key.1));
                let known = self.reference.table.remove(&key);
                self.expect_before(key, before, known)?;
            }
            _ => self.flush(at),
        }
        Ok(())
    }

    fn expect_before(&self, key: (DomainId, Mac), is: Option<Entry>, should: Option<Row>) -> Result<(), String> {
        let should = should.map(|row| entry(key, row));
        if is == should { Ok(()) } else { Err(format!("the table held {is:?}, should be {should:?}")) }
    }

    /// Forgets what was learned on a port.
    fn flush(&mut self, at: switch::ids::PortId) {
        let dynamic_here = |entry: &Entry| entry.port == at && entry.kind == Kind::Dynamic;
        self.shared.fdb().sweep(0, usize::MAX, |entry| !dynamic_here(entry));
        self.reference.flush_port(at);
    }

    /// One slice of ageing, by the configuration that the control thread has.
    fn age(&mut self) -> Result<(), String> {
        let (config, now_s) = (&self.config, self.now_s());
        let ageing = |id| config.domains.iter().find(|entry| entry.0 == id).map_or(0, |entry| entry.1);
        let mut removed = Vec::new();
        let slice = if self.rng.random_bool(0.5) { usize::MAX } else { 3000 };
        let sweep = self.shared.fdb().sweep(self.sweep_from, slice, |entry| {
            let age_s = now_s.saturating_sub(entry.stamp_s);
            let keep = entry.kind != Kind::Dynamic || age_s <= ageing(entry.key.domain());
            if !keep {
                removed.push(entry.key);
            }
            keep
        });
        self.sweep_from = sweep.next.unwrap_or(0);
        self.done.aged += removed.len() as u64;
        for key in removed {
            let row = self.reference.table.remove(&(key.domain(), key.mac()));
            if !row.is_some_and(|row| self.reference.is_expired(&self.config, key.domain(), &row, now_s)) {
                return Err(format!("ageing removed {key}, which stood as {row:?}"));
            }
        }
        Ok(())
    }

    /// Lets the switch come to rest and checks what must hold then.
    fn rest(&mut self) -> Result<(), String> {
        for _ in 0..REST_TURNS {
            let mut moved = 0;
            for worker in 0..self.plan.workers {
                moved += self.poll(worker)?;
            }
            let held: usize = self.workers.iter().map(Worker::frames_held).sum();
            if moved == 0 && held == 0 && self.shared.handoffs() == 0 && self.ports.is_drained() {
                self.conserve()?;
                self.compare_tables()?;
                let actual = self.ports.tallies(&self.shared);
                return self.ledger.settle(&actual);
            }
        }
        Err(format!("the switch did not come to rest in {REST_TURNS} turns"))
    }

    fn compare_tables(&self) -> Result<(), String> {
        let mut table = HashMap::new();
        let mut twice = None;
        self.shared.fdb().scan(0, usize::MAX, |entry| {
            let row = Row { port: entry.port, kind: entry.kind, stamp_s: entry.stamp_s };
            if table.insert((entry.key.domain(), entry.key.mac()), row).is_some() {
                twice = Some(entry);
            }
        });
        if let Some(entry) = twice {
            return Err(format!("{} stands twice in the table", entry.key));
        }
        if table == self.reference.table {
            return Ok(());
        }
        let differs = table.iter().find(|(key, row)| self.reference.table.get(key) != Some(row));
        let lacks = self.reference.table.iter().find(|(key, _)| !table.contains_key(key));
        Err(format!("the table differs: it says {differs:?}, it lacks {lacks:?}"))
    }

    /// No frame of the pool is lost, or owned twice.
    fn conserve(&self) -> Result<(), String> {
        let pool = self.shared.pool();
        let region = pool.region();
        let references: usize = (0..region.count()).map(|index| usize::from(region.references(index))).sum();
        let held: usize = self.workers.iter().map(Worker::frames_held).sum();
        let local: usize = self.workers.iter().map(Worker::frames_free).sum();
        let accounted = pool.free_estimate() + local + held;
        // Packets between workers, of one frame each or several.
        let between = self.shared.handoffs();
        if (accounted + between..=accounted + between * SEGMENTS_MAX).contains(&references) {
            return Ok(());
        }
        Err(format!(
            "{references} frame references, but {} + {local} free, {held} in ports, {between} packets between workers",
            pool.free_estimate()
        ))
    }

    /// Takes everything down: then every frame must be free.
    fn end(mut self, steps: u64) -> Result<Summary, String> {
        self.done.steps = steps;
        self.done.delivered = self.ledger.delivered();
        self.done.lost = self.ledger.missing();
        self.workers.clear();
        let free = self.shared.pool().free_estimate();
        let region = self.shared.pool().region();
        let shared = (0..region.count()).filter(|index| region.references(*index) != 1).count();
        if (free, shared) != (region.count() as usize, 0) {
            return Err(format!("of {} frames {free} came back at the end, {shared} still shared", region.count()));
        }
        Ok(self.done)
    }
}

fn entry(key: (DomainId, Mac), row: Row) -> Entry {
    Entry { key: MacKey::new(key.0, key.1), port: row.port, kind: row.kind, stamp_s: row.stamp_s }
}
