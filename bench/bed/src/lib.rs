//! A worker over ports that are memory, shared by the benches that time it, or its stages,
//! and that count its instructions.
//!
//! The ingress port takes frames from the pool and writes 60 bytes into each, as the kernel's copy does; egress
//! ports give them back to the pool. Nothing else is copied.

pub mod routed;

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use etherparse::PacketBuilder;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use switch::ids::{DomainId, Mac, PortId};
use switch::limits::{BURST, FDB_ENTRIES_MAX, FRAMES_DEFAULT, WORKERS_MAX};
use switch::port::afxdp::prefer_huge;
use switch::port::{Frame, FramePool, Frames, Port, PortError, Service, SharedPool};
use switch::table::fdb::{Entry, Fdb, Kind, Learn, LearnLimits, MacKey};
use switch::table::snapshot::{PortFlags, PortSetup, Snapshot};
use switch::worker::{Command, Event, Shared, Worker};

/// Ports that a flooded frame leaves through.
pub const FLOOD_PORTS: usize = 8;

/// Second in which everything happens: known addresses are fresh, as in all but one frame a second.
pub const NOW_S: u32 = 1;

/// Shortest Ethernet frame, without its check sequence.
const FRAME_LEN: usize = 60;

/// Destination and source address, as they stand in a frame.
pub type Addresses = [u8; 12];

/// A frame of 60 bytes that carries UDP over IPv4 with a complete checksum; the addresses are set per frame.
fn template() -> [u8; FRAME_LEN] {
    let step = PacketBuilder::ethernet2([0; 6], [0; 6]).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).udp(40_000, 5201);
    let mut bytes = Vec::with_capacity(FRAME_LEN);
    step.write(&mut bytes, &[7; FRAME_LEN - 14 - 20 - 8]).expect("a vector takes any frame");
    bytes.try_into().expect("the headers and the payload are 60 bytes")
}

/// The port that receives: always a full burst, each frame with the next pair of addresses.
pub struct Source {
    template: [u8; FRAME_LEN],
    /// Whole bursts, over and over.
    addresses: Vec<Addresses>,
    at: usize,
}

impl Source {
    /// One that sends these over and over.
    pub fn new(addresses: Vec<Addresses>) -> Source {
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
pub struct Sink;

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

/// The port of this number.
pub fn port(index: usize) -> PortId {
    PortId::new(index).expect("below the most ports")
}

/// `count` different unicast addresses that begin with `octet`.
pub fn stations(octet: u64, count: usize) -> Vec<Mac> {
    // An odd factor permutes the 40 bits below: different numbers, different addresses.
    let bits = |number: u64| octet << 40 | number.wrapping_mul(0x9e_3779_b97f_4a7c) & 0xff_ffff_ffff;
    (0..count as u64).map(|number| Mac::from_bits(bits(number))).collect()
}

/// Pairs of one address of `to` and one of `from` in random order: as many as `from` has, in whole bursts.
pub fn conversations(to: &[Mac], from: &[Mac]) -> Vec<Addresses> {
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

/// A table that knows these addresses, each behind its port.
pub fn table(known: &[(usize, &[Mac])]) -> Fdb {
    let fdb = Fdb::new(FDB_ENTRIES_MAX, 0x5eed);
    for &(index, macs) in known {
        for &mac in macs {
            let answer = fdb.learn(MacKey::new(domain(), mac), port(index), NOW_S, LearnLimits::NONE);
            assert_eq!(answer, Learn::Learned, "the table has room for {mac:?}");
        }
    }
    // As switchd does.
    prefer_huge(fdb.memory());
    fdb
}

/// The configuration: port 0 and `egress` others in one bridge domain.
pub fn view(egress: usize) -> Snapshot {
    let setups: Vec<PortSetup> = (0..=egress).map(setup).collect();
    Snapshot::new(1, &setups, &[(domain(), 300)])
}

/// A switch of one worker: port 0 receives, the others transmit, all in one bridge domain.
pub struct Bench {
    shared: Arc<Shared>,
    fdb: Arc<Fdb>,
    worker: Worker,
    egress: usize,
}

impl Bench {
    /// `egress` transmitting ports and a table.
    pub fn new(source: Source, egress: usize, fdb: Fdb) -> Bench {
        let fdb = Arc::new(fdb);
        let shared = Shared::new(1, SharedPool::heap(FRAMES_DEFAULT), Arc::clone(&fdb)).expect("event descriptors");
        let view = Arc::new(view(egress));
        shared.command(0, Command::View(view));
        shared.command(0, Command::Attach { port: port(0), dev: Box::new(source) });
        for index in 1..=egress {
            shared.command(0, Command::Attach { port: port(index), dev: Box::new(Sink) });
        }
        let mut bench = Bench { worker: Worker::new(0, Arc::clone(&shared)), shared, fdb, egress };
        bench.turn();
        assert!(matches!(bench.shared.next_event(), Some(Event::Retired(_))), "the worker took the view");
        bench
    }

    /// One turn of the worker, which moves one burst.
    pub fn turn(&mut self) {
        let moved = self.worker.poll_once(u64::from(NOW_S) * 1_000_000_000);
        assert_eq!(moved, BURST, "the source always has a burst");
    }

    /// Every frame received so far left through `copies` ports, and nothing was lost on the way.
    pub fn check(&self, copies: usize) {
        let stats = self.shared.stats(0);
        let received = stats.port(port(0)).rx_packets.get();
        let sent: u64 = (1..=self.egress).map(|index| stats.port(port(index)).tx_packets.get()).sum();
        assert!(received > 0 && sent == received * copies as u64, "{received} frames received, {sent} sent");
    }

    /// Forgets every learned address.
    pub fn forget(&self) {
        self.fdb.sweep(0, usize::MAX, |entry| entry.kind != Kind::Dynamic);
        assert_eq!(self.fdb.dynamic_len(), 0, "nothing is left that was learned");
    }

    /// Every frame received so far brought a new address.
    pub fn check_learned(&self) {
        let counters = self.shared.stats(0).port(port(0));
        let (received, learned) = (counters.rx_packets.get(), counters.learned.get());
        assert!(received > 0 && learned == received, "{received} frames received, {learned} addresses learned");
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

/// A switch that knows `count` stations behind each of two ports; every frame goes from one to the other.
pub fn unicast(count: usize) -> Bench {
    let (here, there) = (stations(0x02, count), stations(0x06, count));
    Bench::new(Source::new(conversations(&there, &here)), 1, table(&[(0, &here), (1, &there)]))
}

/// A switch that knows every sender and no receiver: each frame is flooded to [`FLOOD_PORTS`] ports.
pub fn flood() -> Bench {
    let (here, unknown) = (stations(0x02, 1_000), stations(0x06, 1_000));
    Bench::new(Source::new(conversations(&unknown, &here)), FLOOD_PORTS, table(&[(0, &here)]))
}

/// A switch that knows one receiver; each of `count` frames, whole bursts, comes from a sender of its own. After those
/// the senders begin anew.
pub fn newcomers(count: usize) -> Bench {
    let receiver = Mac::from_bits(0x06 << 40 | 1);
    let pair = |from: &Mac| {
        let mut addresses = Addresses::default();
        addresses[..6].copy_from_slice(&receiver.octets());
        addresses[6..].copy_from_slice(&from.octets());
        addresses
    };
    let source = Source::new(stations(0x02, count).iter().map(pair).collect());
    // The receiver stays when the senders are forgotten.
    let fixed = Entry { key: MacKey::new(domain(), receiver), port: port(1), kind: Kind::Static, stamp_s: NOW_S };
    let fdb = table(&[]);
    fdb.insert(fixed).expect("the table has room for a static entry");
    Bench::new(source, 1, fdb)
}
