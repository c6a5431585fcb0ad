//! The simulation's ports: which devices are attached where, and the control thread's part in their life.

use std::collections::HashMap;
use std::sync::Arc;

use rand::Rng;
use rand::rngs::StdRng;
use switch::ids::PortId;
use switch::port::Port;
use switch::port::fault::{FaultLog, FaultPort};
use switch::port::mem::{MemPort, Wire};
use switch::worker::{Command, Event, Shared};

use super::ledger::{Route, Tally};
use super::tap::TapPort;
use super::{Simulation, random};
use crate::lab::port;
use crate::reference::Config;

/// Packets a wire holds in each direction.
const WIRE_DEPTH: usize = 4096;

/// A command that was sent to a worker and not obeyed yet.
pub enum Pending {
    /// Go by this configuration.
    View(Config),
    /// Drive a queue of this port.
    Attach,
    /// Give this tap's queue back.
    Detach(usize),
}

/// One queue of an attached port.
#[derive(Clone)]
pub struct Queue {
    /// The port.
    pub port: PortId,
    /// The number of its tap, never used twice.
    pub tap: usize,
    /// The worker that drives it.
    pub worker: usize,
    /// Its far side.
    pub wire: Arc<Wire>,
    faults: Option<Arc<FaultLog>>,
    /// Until the worker was asked for it back and obeyed.
    working: bool,
    /// The worker was asked for it back.
    leaving: bool,
}

/// All ports; see the module text.
pub struct Ports {
    queues: Vec<Queue>,
    /// Port and worker of every tap there ever was.
    taps: Vec<(PortId, usize)>,
    /// How many times each port was attached.
    attached: Vec<u64>,
    /// Whether a port has a queue for each worker.
    multi: Vec<bool>,
    /// Worker of a port's only queue.
    owner: Vec<usize>,
}

impl Ports {
    /// `count` ports, none attached.
    pub fn new(count: usize) -> Ports {
        Ports {
            queues: Vec::new(),
            taps: Vec::new(),
            attached: vec![0; count],
            multi: vec![false; count],
            owner: vec![0; count],
        }
    }

    /// The attached queues.
    pub fn queues(&self) -> impl Iterator<Item = &Queue> {
        self.queues.iter()
    }

    /// Any attached queue.
    pub fn random_queue(&self, rng: &mut StdRng) -> Option<Queue> {
        if self.queues.is_empty() {
            return None;
        }
        self.queues.get(rng.random_range(0..self.queues.len())).cloned()
    }

    /// The port of a tap.
    pub fn port_of(&self, tap: usize) -> PortId {
        self.taps[tap].0
    }

    /// The worker of a tap.
    pub fn worker_of(&self, tap: usize) -> usize {
        self.taps[tap].1
    }

    /// The way to `port` for frames that `worker` receives, by `view`; `None` if no worker drives the port.
    pub fn route(&self, view: &Config, worker: usize, port: PortId) -> Option<Route> {
        let owner = usize::from(view.port(port)?.tx_worker[worker]);
        let works = self.queues.iter().any(|queue| queue.port == port && queue.working);
        works.then_some((owner, self.attached[port.index()]))
    }

    /// Notes that a worker has (or no longer has) a tap's queue.
    pub fn set_working(&mut self, tap: usize, working: bool) {
        self.queues.iter_mut().filter(|queue| queue.tap == tap).for_each(|queue| queue.working = working);
    }

    /// Counters of all ports, summed over workers. They go on over a new attachment.
    pub fn tallies(&self, shared: &Shared) -> HashMap<PortId, Tally> {
        let sum = |index| {
            let mut tally = Tally::default();
            shared.all_stats().for_each(|stats| tally.add(stats.port(port(index))));
            (port(index), tally)
        };
        (0..self.multi.len()).map(sum).collect()
    }

    /// True if no packet waits to be received.
    pub fn is_drained(&self) -> bool {
        self.queues.iter().all(|queue| queue.wire.waiting() == 0 && !queue.leaving)
    }

    /// Writes into `config` which worker transmits to which port.
    pub fn place(&self, config: &mut Config, workers: usize) {
        for setup in &mut config.ports {
            let index = setup.id.index();
            for worker in 0..workers {
                setup.tx_worker[worker] = if self.multi[index] { worker } else { self.owner[index] } as u8;
            }
        }
    }
}

impl Simulation {
    /// Attaches a port: one queue at a random worker, or one at each.
    pub(super) fn attach(&mut self, index: usize) {
        let workers = self.plan.workers;
        let multi = workers > 1 && self.rng.random_bool(0.3);
        let owner = self.rng.random_range(0..workers);
        self.ports.attached[index] += 1;
        (self.ports.multi[index], self.ports.owner[index]) = (multi, owner);
        for worker in if multi { 0..workers } else { owner..owner + 1 } {
            let tap = self.ports.taps.len();
            self.ports.taps.push((port(index), worker));
            let wire = Wire::new(WIRE_DEPTH);
            let mut dev: Box<dyn Port> = Box::new(MemPort::new(Arc::clone(&wire), self.rng.random_range(0..3)));
            let mut faults = None;
            if self.plan.faults {
                let faulty = FaultPort::new(dev, random::faults(&mut self.rng), self.rng.random());
                faults = Some(faulty.log());
                dev = Box::new(faulty);
            }
            let dev = Box::new(TapPort::new(dev, tap, Arc::clone(&self.taps)));
            self.shared.command(worker, Command::Attach { port: port(index), dev });
            self.pending[worker].push_back(Pending::Attach);
            let queue = Queue { port: port(index), tap, worker, wire, faults, working: true, leaving: false };
            self.ports.queues.push(queue);
        }
        self.done.attached += 1;
    }

    /// Asks for all queues of a port back.
    fn detach(&mut self, at: PortId) {
        for queue in self.ports.queues.iter_mut().filter(|queue| queue.port == at && !queue.leaving) {
            queue.leaving = true;
            self.shared.command(queue.worker, Command::Detach { port: at });
            self.pending[queue.worker].push_back(Pending::Detach(queue.tap));
        }
    }

    /// Attaches a detached port or detaches an attached one, with or without telling the workers first.
    pub(super) fn toggle_port(&mut self) {
        let is_attached = |index: &usize| self.ports.queues.iter().any(|queue| queue.port == port(*index));
        // Ports that are gone come back before others go.
        let missing = (0..self.plan.ports).find(|index| !is_attached(index));
        let index = missing.unwrap_or_else(|| self.rng.random_range(0..self.plan.ports));
        let attached = missing.is_none();
        if self.rng.random_bool(0.5) {
            self.config.ports[index].forwarding = !attached;
            self.send_view();
        }
        if attached {
            self.detach(port(index));
        } else {
            self.attach(index);
            self.send_view();
        }
    }

    /// Takes the workers' news, as the control thread does.
    pub(super) fn hear(&mut self) {
        while let Some(event) = self.shared.next_event() {
            match event {
                Event::Retired(_) => {}
                Event::Gone { port, .. } => self.detach(port),
                Event::Detached { worker, port, dev } => {
                    self.shared.pool().reclaim(dev.close());
                    self.forget(worker, port);
                }
            }
        }
    }

    /// A queue came back: books what it took with it; after the last one, the port's addresses go.
    fn forget(&mut self, worker: usize, at: PortId) {
        let of = |queue: &Queue| queue.port == at && queue.worker == worker && queue.leaving;
        if let Some(index) = self.ports.queues.iter().position(of) {
            let queue = self.ports.queues.swap_remove(index);
            self.ledger.abandon(at, queue.faults.map_or(0, |log| log.tx_abandoned()));
        }
        if !self.ports.queues.iter().any(|queue| queue.port == at) {
            self.flush(at);
        }
    }
}
