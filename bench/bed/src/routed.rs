//! The bed with a router: port 0 sends to the gateway of its domain, the routes lead to hosts behind port 1.

use std::sync::Arc;

use etherparse::PacketBuilder;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use switch::ids::{DomainId, Mac, NextHopId, VrfId};
use switch::limits::{BURST, FRAMES_DEFAULT};
use switch::port::{FramePool, Frames, Port, PortError, Service, SharedPool};
use switch::table::fdb::{Fdb, LearnLimits, MacKey};
use switch::table::fib::{FibWriter, Prefix};
use switch::table::neighbour::{NeighbourKey, NeighbourSlot};
use switch::table::next_hop::NextHop;
use switch::table::router::{RouterFlags, RouterSetup, RouterView, VrfView};
use switch::table::snapshot::Snapshot;
use switch::worker::{Command, Shared, Worker};

use crate::{FRAME_LEN, NOW_S, Sink, port, setup};

const GATEWAY: [u8; 6] = [2, 0xff, 0, 0, 0, 1];
const SENDER: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// Hosts that the routes lead to.
const NEXT_HOPS: usize = 64;

/// The port that receives: whole bursts of these frames, over and over.
struct Packets {
    frames: Vec<[u8; FRAME_LEN]>,
    at: usize,
}

impl Port for Packets {
    fn rx(&mut self, pool: &mut FramePool, out: &mut Frames) {
        for bytes in &self.frames[self.at..self.at + BURST] {
            let Some(mut frame) = pool.alloc() else { return };
            pool.region().write(&mut frame, bytes);
            out.push(frame);
        }
        self.at = (self.at + BURST) % self.frames.len();
    }

    fn tx(&mut self, _pool: &mut FramePool, _frames: &mut Frames) {}

    fn service(&mut self, _pool: &mut FramePool) -> Result<Service, PortError> {
        Ok(Service::default())
    }

    fn fd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        None
    }

    fn held(&self) -> usize {
        0
    }

    fn close(self: Box<Self>) -> Vec<switch::port::Frame> {
        Vec::new()
    }
}

fn domain(number: usize) -> DomainId {
    DomainId::new(number).expect("a domain")
}

fn packet(to: u32) -> [u8; FRAME_LEN] {
    let builder = PacketBuilder::ethernet2(SENDER, GATEWAY).ipv4([10, 0, 0, 2], to.to_be_bytes(), 64).udp(40_000, 5201);
    let mut bytes = Vec::with_capacity(FRAME_LEN);
    builder.write(&mut bytes, &[7; FRAME_LEN - 14 - 20 - 8]).expect("a vector takes any frame");
    bytes.try_into().expect("the headers and the payload are 60 bytes")
}

/// A router of one worker and a table of so many routes, /24s from 11.0.0.0 on.
pub struct Routed {
    shared: Arc<Shared>,
    worker: Worker,
    /// Owns the routes.
    _routes: FibWriter<u32>,
}

impl Routed {
    /// With `routes` routes, to which packets go at random.
    pub fn new(routes: usize) -> Routed {
        let fdb = Arc::new(Fdb::new(1_024, 0x5eed));
        let shared = Shared::new(1, SharedPool::heap(FRAMES_DEFAULT), Arc::clone(&fdb)).expect("event descriptors");
        for number in 0..NEXT_HOPS {
            let mac = Mac::new([6, 0, 0, 0, 0, number as u8]);
            let slot = NeighbourSlot::new(number).expect("a slot");
            shared.router().neighbours.claim(slot, NeighbourKey::v4(domain(2), 0x0a00_0100 + number as u32));
            shared.router().neighbours.set(slot, Some(mac), false);
            let id = NextHopId::new(1 + number).expect("a number");
            shared.router().next_hops.set(id, Some(NextHop::Gateway(slot)));
            fdb.learn(MacKey::new(domain(2), mac), port(1), NOW_S, LearnLimits::NONE);
        }
        let mut writer = FibWriter::new(Arc::clone(shared.grace()));
        let prefix = |number: usize| 0x0b00_0000 + ((number as u32) << 8);
        let table = writer.load((0..routes).map(|number| {
            let id = NextHopId::new(1 + number % NEXT_HOPS).expect("a number");
            (Prefix::new(prefix(number), 24).expect("a prefix"), id)
        }));
        let mut random = SmallRng::seed_from_u64(routes as u64);
        let count = (4 * routes).next_multiple_of(BURST).min(65_536);
        let frames = (0..count).map(|_| packet(prefix(random.random_range(0..routes)) + random.random_range(1..255)));
        let source = Packets { frames: frames.collect(), at: 0 };
        let none = FibWriter::new(Arc::clone(shared.grace()));
        let view = view(VrfView { ipv4: table, ipv6: Arc::clone(none.table()) });
        shared.command(0, Command::View(Arc::new(view)));
        shared.command(0, Command::Attach { port: port(0), dev: Box::new(source) });
        shared.command(0, Command::Attach { port: port(1), dev: Box::new(Sink) });
        let worker = Worker::new(0, Arc::clone(&shared));
        let mut routed = Routed { shared, worker, _routes: writer };
        routed.turn();
        routed
    }

    /// One turn of the worker, which moves one burst.
    pub fn turn(&mut self) {
        assert_eq!(self.worker.poll_once(u64::from(NOW_S) * 1_000_000_000), BURST, "the source always has a burst");
    }

    /// Every frame received so far was routed and left through port 1.
    pub fn check(&self) {
        let stats = self.shared.stats(0);
        let (received, sent) = (stats.port(port(0)).rx_packets.get(), stats.port(port(1)).tx_packets.get());
        assert!(received > 0 && sent == received, "{received} frames received, {sent} sent");
        assert_eq!(stats.port(port(0)).routed.get(), sent);
    }
}

fn view(vrf: VrfView) -> Snapshot {
    let interface = |last: u8| RouterView {
        mac: Mac::new([2, 0xff, 0, 0, 0, last]),
        vrf: VrfId::DEFAULT,
        mtu: 1_500,
        ipv4: [0x0a00_0001 + (u32::from(last) - 1) * 256].into(),
        ipv6: Box::default(),
        flags: RouterFlags { proxy: false, suppress: false, dhcp: false, redirects: true, clamp_mss: false },
    };
    let mut ports = [setup(0), setup(1)];
    ports[1].native = Some(domain(2));
    let router =
        RouterSetup { interfaces: vec![(domain(1), interface(1)), (domain(2), interface(2))], vrfs: vec![vrf] };
    Snapshot::new(1, &ports, &[(domain(1), 300), (domain(2), 300)]).with_router(router)
}
