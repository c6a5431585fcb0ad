//! One worker, some ports on wires, a clock in hand: what a test of a single rule needs.

use std::sync::Arc;

use switch::ids::{DomainId, Mac, PortId};
use switch::limits::{FRAME_LEN_MAX, WORKERS_MAX};
use switch::port::mem::{MemPort, Wire};
use switch::port::{Port, SharedPool};
use switch::stats::{Drop, PortStats};
use switch::table::fdb::{Entry, Fdb, Kind, MacKey};
use switch::table::snapshot::{PortFlags, PortSetup};
use switch::worker::{Command, Event, Shared, Worker};

use crate::reference::Config;

/// Packets a wire holds in each direction.
const WIRE_DEPTH: usize = 1024;

/// Frames in the lab's pool.
const FRAMES: u32 = 2048;

/// The domain `number`, from 1.
pub fn domain(number: usize) -> DomainId {
    DomainId::new(number).expect("a domain number of the test")
}

/// The port `index`, from 0.
pub fn port(index: usize) -> PortId {
    PortId::new(index).expect("a port number of the test")
}

/// A port that carries `native` untagged and `trunk` tagged: up, MTU 1500, default switches, worker 0.
pub fn setup(index: usize, native: Option<usize>, trunk: &[(u16, usize)]) -> PortSetup {
    PortSetup {
        id: port(index),
        forwarding: true,
        mtu: 1500,
        native: native.map(domain),
        trunk: trunk.iter().map(|&(vlan, number)| (vlan, domain(number))).collect(),
        flags: PortFlags::default(),
        mac_limit: u32::MAX,
        tx_worker: [0; WORKERS_MAX],
    }
}

/// An access port of domain 1.
pub fn access(index: usize) -> PortSetup {
    setup(index, Some(1), &[])
}

/// A switch of one worker whose ports are wires.
pub struct Lab {
    shared: Arc<Shared>,
    worker: Worker,
    wires: Vec<Arc<Wire>>,
    /// The configuration in force; change it and call [`Lab::apply`].
    pub config: Config,
    /// Nanoseconds on the switch's clock.
    pub now_ns: u64,
    generation: u64,
}

impl Lab {
    /// A switch with these ports on wires, and domains 1 to 3 with an ageing time of 300 s.
    pub fn new(ports: &[PortSetup]) -> Lab {
        Lab::with_entries(ports, 1024)
    }

    /// The same with room for `entries_max` learned addresses.
    pub fn with_entries(ports: &[PortSetup], entries_max: u32) -> Lab {
        let count = ports.iter().map(|setup| setup.id.index() + 1).max().unwrap_or(0);
        let wires: Vec<_> = (0..count).map(|_| Wire::new(WIRE_DEPTH)).collect();
        let devices = ports.iter().map(|setup| {
            let wire = Arc::clone(&wires[setup.id.index()]);
            (setup.id, Box::new(MemPort::new(wire, 1)) as Box<dyn Port>)
        });
        let mut lab = Lab::on_devices(ports, devices.collect(), entries_max);
        lab.wires = wires;
        lab
    }

    /// A switch whose ports are `devices`; they are polled in this order.
    pub fn on_devices(ports: &[PortSetup], devices: Vec<(PortId, Box<dyn Port>)>, entries_max: u32) -> Lab {
        let config = Config { ports: ports.to_vec(), domains: (1..=3).map(|number| (domain(number), 300)).collect() };
        let fdb = Arc::new(Fdb::new(entries_max, 0x5eed));
        let shared = Shared::new(1, SharedPool::heap(FRAMES), fdb).expect("event descriptors");
        let worker = Worker::new(0, Arc::clone(&shared));
        for (port, dev) in devices {
            shared.command(0, Command::Attach { port, dev });
        }
        let mut lab = Lab { shared, worker, wires: Vec::new(), config, now_ns: 1_000_000_000, generation: 0 };
        lab.apply();
        lab
    }

    /// Puts [`Lab::config`] in force.
    pub fn apply(&mut self) {
        self.generation += 1;
        self.shared.command(0, Command::View(Arc::new(self.config.snapshot(self.generation))));
        self.poll();
    }

    /// Changes one port and puts that in force.
    pub fn change(&mut self, index: usize, change: impl FnOnce(&mut PortSetup)) {
        change(self.config.port_mut(port(index)).expect("a port of this lab"));
        self.apply();
    }

    /// Puts a frame on the wire of a port, without polling.
    pub fn offer(&mut self, index: usize, frame: &[u8]) {
        assert!(frame.len() <= FRAME_LEN_MAX && self.wires[index].send(frame), "the wire takes the frame");
    }

    /// One turn of the worker.
    pub fn poll(&mut self) -> usize {
        let moved = self.worker.poll_once(self.now_ns);
        while let Some(event) = self.shared.next_event() {
            if let Event::Detached { dev, .. } = event {
                self.shared.pool().reclaim(dev.close());
            }
        }
        moved
    }

    /// Sends one frame into a port and runs the switch until all is quiet.
    pub fn send(&mut self, index: usize, frame: &[u8]) {
        self.offer(index, frame);
        self.settle();
    }

    /// Runs the switch until nothing moves and every transmission completed.
    pub fn settle(&mut self) {
        while self.poll() > 0 || self.worker.frames_held() > 0 {}
    }

    /// What left through a port since the last call.
    pub fn take(&mut self, index: usize) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| self.wires[index].receive()).collect()
    }

    /// Throws away what left so far and gives the buffers back to the wires.
    pub fn recycle(&mut self) {
        for wire in &self.wires {
            while let Some(frame) = wire.receive() {
                wire.recycle(frame);
            }
        }
    }

    /// Throws away what left so far.
    pub fn clear(&mut self) {
        (0..self.wires.len()).for_each(|index| drop(self.take(index)));
    }

    /// The ports through which exactly `frame` left, once, since the last call; nothing else may have left.
    pub fn receivers(&mut self, frame: &[u8]) -> Vec<usize> {
        let mut receivers = Vec::new();
        for index in 0..self.wires.len() {
            let frames = self.take(index);
            assert!(frames.len() <= 1, "port {index} sent {} copies", frames.len());
            assert!(frames.iter().all(|sent| sent == frame), "port {index} sent {frames:02x?}, not {frame:02x?}");
            receivers.extend(frames.iter().map(|_| index));
        }
        receivers
    }

    /// Lets time pass.
    pub fn advance_s(&mut self, seconds: u64) {
        self.now_ns += seconds * 1_000_000_000;
    }

    /// The forwarding database.
    pub fn fdb(&self) -> &Fdb {
        self.shared.fdb()
    }

    /// Adds a static, sticky or local entry in domain 1.
    pub fn insert(&mut self, mac: Mac, index: usize, kind: Kind) {
        let key = MacKey::new(domain(1), mac);
        self.fdb().insert(Entry { key, port: port(index), kind, stamp_s: 0 }).expect("room for a fixed entry");
    }

    /// Port of an address in domain 1, aged or not.
    pub fn port_of(&self, mac: Mac) -> Option<usize> {
        self.fdb().lookup(MacKey::new(domain(1), mac)).map(|hit| hit.port.index())
    }

    /// The worker's counters of a port.
    pub fn stats(&self, index: usize) -> &PortStats {
        self.shared.stats(0).port(port(index))
    }

    /// Drops counted at a port.
    pub fn drops(&self, index: usize, reason: Drop) -> u64 {
        self.stats(index).drops(reason)
    }

    /// All drops counted at a port, by reason, without zeros.
    pub fn all_drops(&self, index: usize) -> Vec<(Drop, u64)> {
        let all = Drop::ALL.iter().map(|&reason| (reason, self.drops(index, reason)));
        all.filter(|(_, count)| *count > 0).collect()
    }

    /// Takes a port from the worker.
    pub fn detach(&mut self, index: usize) {
        self.shared.command(0, Command::Detach { port: port(index) });
        self.poll();
    }

    /// Removes the learned addresses of a port, as the control thread does when it goes down.
    pub fn flush(&mut self, index: usize) {
        self.fdb().sweep(0, usize::MAX, |entry| entry.port != port(index) || entry.kind != Kind::Dynamic);
    }

    /// Asserts that every frame of the pool is free again.
    pub fn assert_no_frame_lost(&mut self) {
        self.settle();
        let free = self.shared.pool().free_estimate() + self.worker.frames_free();
        assert_eq!(free, FRAMES as usize, "every frame is free when nothing moves");
        let region = self.shared.pool().region();
        assert!((0..FRAMES).all(|index| region.references(index) == 1), "and free frames have one reference");
    }
}
