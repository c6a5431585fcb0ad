//! One worker and the switch as a host around it, routing between subnets: what a test of a router's rule needs.
//!
//! Port `i` is alone in domain `i + 1`, whose gateway is 10.`i + 1`.0.1/24 and fd00:`i + 1`::1/64; the host behind
//! it is .2 (::2) with the MAC address of [`host`]`(i + 1)`, and is known to the switch.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use switch::host::{Host, HostSettings, Interface};
use switch::ids::{DomainId, Mac, NextHopId, VrfId};
use switch::limits::GROUP_SLOTS;
use switch::port::mem::{MemPort, Wire};
use switch::port::{Port, SharedPool};
use switch::stats::Drop;
use switch::table::fdb::{Entry, Fdb, Kind, MacKey};
use switch::table::fib::{FibWriter, Prefix};
use switch::table::neighbour::NeighbourKey;
use switch::table::next_hop::NextHop;
use switch::table::router::{RouterFlags, RouterSetup, RouterView, VrfView};
use switch::table::snapshot::{PortSetup, Snapshot};
use switch::worker::{Command, Event, Shared, Worker};

use crate::frames::host;
use crate::lab::{domain, port, setup};

const WIRE_DEPTH: usize = 4_096;
const FRAMES: u32 = 8_192;

/// The MAC address of the gateway that port `index` sees.
pub fn gateway(index: usize) -> Mac {
    Mac::new([2, 0xff, 0, 0, 0, index as u8 + 1])
}

/// The MAC address of the host behind port `index`.
pub fn station(index: usize) -> Mac {
    host(index as u16 + 1)
}

/// Address number `last` on the subnet of port `index`: 1 is the gateway, 2 the host.
pub fn v4(index: usize, last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, index as u8 + 1, 0, last)
}

/// The same for IPv6.
pub fn v6(index: usize, last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, index as u16 + 1, 0, 0, 0, 0, 0, last)
}

/// The routes of one VRF.
struct Vrf {
    ipv4: FibWriter<u32>,
    ipv6: FibWriter<u128>,
}

/// See the module text.
pub struct RouterLab {
    shared: Arc<Shared>,
    worker: Worker,
    /// The switch as a host.
    pub host: Host,
    wires: Vec<Arc<Wire>>,
    ports: Vec<PortSetup>,
    /// The router's interfaces, by port; change them and call [`RouterLab::apply`].
    pub interfaces: Vec<Interface>,
    vrfs: Vec<Vrf>,
    next_hop: usize,
    generation: u64,
    frames: u32,
    /// Nanoseconds on the switch's clock.
    pub now_ns: u64,
}

impl RouterLab {
    /// A router with so many ports, all of MTU 1500 in the default VRF.
    pub fn new(count: usize) -> RouterLab {
        RouterLab::with(count, |_, _| {})
    }

    /// The same with ports and interfaces changed by `change`.
    pub fn with(count: usize, change: impl FnMut(&mut PortSetup, &mut Interface)) -> RouterLab {
        RouterLab::of(count, FRAMES, change)
    }

    /// The same with a pool of so many frames.
    pub fn of(count: usize, frames: u32, mut change: impl FnMut(&mut PortSetup, &mut Interface)) -> RouterLab {
        let wires: Vec<_> = (0..count).map(|_| Wire::new(WIRE_DEPTH)).collect();
        let fdb = Arc::new(Fdb::new(4_096, 0x5eed));
        let shared = Shared::new(1, SharedPool::heap(frames), fdb).expect("event descriptors");
        let (mut ports, mut interfaces) = (Vec::new(), Vec::new());
        for (index, wire) in wires.iter().enumerate() {
            let (mut setup, mut interface) = (setup(index, Some(index + 1), &[]), interface(index));
            change(&mut setup, &mut interface);
            let dev = Box::new(MemPort::new(Arc::clone(wire), 1)) as Box<dyn Port>;
            shared.command(0, Command::Attach { port: setup.id, dev });
            ports.push(setup);
            interfaces.push(interface);
        }
        let vrfs = 1 + interfaces.iter().map(|interface| interface.vrf.index()).max().unwrap_or(0);
        let vrf = |_| {
            let grace = shared.grace();
            Vrf { ipv4: FibWriter::new(Arc::clone(grace)), ipv6: FibWriter::new(Arc::clone(grace)) }
        };
        let mut lab = RouterLab {
            worker: Worker::new(0, Arc::clone(&shared)),
            host: Host::new(Arc::clone(&shared), HostSettings::default()),
            wires,
            ports,
            interfaces,
            vrfs: (0..vrfs).map(vrf).collect(),
            shared,
            next_hop: 1,
            generation: 0,
            frames,
            now_ns: 1_000_000_000,
        };
        lab.connect();
        lab.apply();
        lab.meet();
        // The switch announces its addresses; tests are about what follows.
        lab.advance_ms(5_000);
        (0..count).for_each(|index| drop(lab.take(index)));
        lab
    }

    /// Routes to the interfaces' own subnets and addresses.
    fn connect(&mut self) {
        for interface in self.interfaces.clone() {
            let (vrf, domain) = (interface.vrf.index(), interface.domain);
            for &(address, len) in &interface.ipv4 {
                let net = Prefix::of(u32::from(address), len.into()).expect("a prefix length");
                self.set4(vrf, net, NextHop::Connected(domain));
                if len <= 30 {
                    self.set4(vrf, Prefix::host(net.address()), NextHop::Broadcast);
                    self.set4(vrf, Prefix::host(net.last()), NextHop::Broadcast);
                }
                self.set4(vrf, Prefix::host(address.into()), NextHop::Local);
            }
            for &(address, len) in &interface.ipv6 {
                let net = Prefix::of(u128::from(address), len.into()).expect("a prefix length");
                self.set6(vrf, net, NextHop::Connected(domain));
                self.set6(vrf, Prefix::host(address.into()), NextHop::Local);
            }
        }
    }

    /// Makes the hosts behind the ports known, in the FDB and as neighbours.
    fn meet(&mut self) {
        for index in 0..self.ports.len() {
            let (mac, home) = (station(index), domain(index + 1));
            let key = MacKey::new(home, mac);
            let entry = Entry { key, port: port(index), kind: Kind::Static, stamp_s: 0 };
            self.shared.fdb().insert(entry).expect("room for an entry");
            for address in [IpAddr::V4(v4(index, 2)), IpAddr::V6(v6(index, 2))] {
                self.host.add_neighbour(NeighbourKey::new(home, address), mac).expect("room for a neighbour");
            }
        }
        self.settle();
        (0..self.ports.len()).for_each(|index| drop(self.take(index)));
    }

    /// Numbers a next hop.
    pub fn hop(&mut self, hop: NextHop) -> NextHopId {
        let id = NextHopId::new(self.next_hop).expect("a free number");
        self.next_hop += 1;
        self.shared.router().next_hops.set(id, Some(hop));
        id
    }

    /// The next hop that is the router with this address on the subnet of port `index`.
    pub fn via(&mut self, index: usize, address: IpAddr) -> NextHop {
        let slot = self.host.hold(NeighbourKey::new(domain(index + 1), address)).expect("a free slot");
        NextHop::Gateway(slot)
    }

    /// A group of next hops, which share flows evenly.
    pub fn group(&mut self, number: u16, hops: &[NextHop]) -> NextHop {
        let ids: Vec<NextHopId> = hops.iter().map(|hop| self.hop(*hop)).collect();
        let slots: [NextHopId; GROUP_SLOTS] = std::array::from_fn(|slot| ids[slot % ids.len()]);
        self.shared.router().next_hops.set_group(number, &slots);
        NextHop::Group(number)
    }

    /// Adds an IPv4 route, written as `10.9.0.0/16`.
    pub fn route4(&mut self, vrf: usize, prefix: &str, hop: NextHop) {
        self.set4(vrf, prefix.parse().expect("a prefix"), hop);
        self.apply();
    }

    /// Adds an IPv6 route.
    pub fn route6(&mut self, vrf: usize, prefix: &str, hop: NextHop) {
        self.set6(vrf, prefix.parse().expect("a prefix"), hop);
        self.apply();
    }

    fn set4(&mut self, vrf: usize, prefix: Prefix<u32>, hop: NextHop) {
        let id = self.hop(hop);
        // The table is published with every change of the lab.
        let _ = self.vrfs[vrf].ipv4.insert(prefix, id);
    }

    fn set6(&mut self, vrf: usize, prefix: Prefix<u128>, hop: NextHop) {
        let id = self.hop(hop);
        let _ = self.vrfs[vrf].ipv6.insert(prefix, id);
    }

    /// Puts ports, interfaces and routes in force.
    pub fn apply(&mut self) {
        self.generation += 1;
        let domains: Vec<(DomainId, u32)> = (1..=self.ports.len()).map(|number| (domain(number), 300)).collect();
        let router = RouterSetup {
            interfaces: self.interfaces.iter().map(|interface| (interface.domain, view(interface))).collect(),
            vrfs: self.vrfs.iter().map(Vrf::view).collect(),
        };
        let snapshot = Arc::new(Snapshot::new(self.generation, &self.ports, &domains).with_router(router));
        self.shared.command(0, Command::View(Arc::clone(&snapshot)));
        self.host.configure(self.interfaces.clone(), snapshot);
        self.settle();
    }

    /// Puts a frame on the wire of a port and runs the switch until all is quiet.
    pub fn send(&mut self, index: usize, frame: &[u8]) {
        self.offer(index, frame);
        self.settle();
    }

    /// Puts a frame on the wire of a port.
    pub fn offer(&mut self, index: usize, frame: &[u8]) {
        assert!(self.wires[index].send(frame), "the wire takes the frame");
    }

    /// Runs worker and host until nothing moves; no time passes.
    pub fn settle(&mut self) {
        let mut quiet = 0;
        while quiet < 3 {
            let moved = self.worker.poll_once(self.now_ns);
            while let Some(event) = self.shared.next_event() {
                if let Event::Detached { dev, .. } = event {
                    self.shared.pool().reclaim(dev.close());
                }
            }
            self.host.turn(self.now_ns);
            let idle = moved == 0 && self.worker.frames_held() == 0 && self.shared.is_quiet(0);
            quiet = if idle && self.shared.host().is_empty() { quiet + 1 } else { 0 };
        }
    }

    /// One turn of the worker alone; what it leaves to the host waits.
    pub fn poll(&mut self) -> usize {
        self.worker.poll_once(self.now_ns)
    }

    /// Throws away what left so far and gives the buffers back to the wires.
    pub fn recycle(&mut self) {
        for wire in &self.wires {
            while let Some(frame) = wire.receive() {
                wire.recycle(frame);
            }
        }
    }

    /// Lets time pass, in steps short enough for every timer.
    pub fn advance_ms(&mut self, millis: u64) {
        self.advance_by(100, millis);
    }

    /// Lets time pass in steps of `step_ms`.
    pub fn advance_by(&mut self, step_ms: u64, millis: u64) {
        for _ in 0..millis.div_ceil(step_ms) {
            self.now_ns += step_ms * 1_000_000;
            self.settle();
        }
    }

    /// What left through a port since the last call.
    pub fn take(&mut self, index: usize) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| self.wires[index].receive()).collect()
    }

    /// The one frame that left through this port; nothing left through any other.
    pub fn only(&mut self, index: usize) -> Vec<u8> {
        let mut found = self.take(index);
        assert_eq!(found.len(), 1, "port {index} sent {found:02x?}; dropped: {:?}", self.drops());
        self.assert_silent();
        found.remove(0)
    }

    /// Nothing left through any port since the last call.
    pub fn assert_silent(&mut self) {
        for index in 0..self.wires.len() {
            let sent = self.take(index);
            assert!(sent.is_empty(), "port {index} sent {sent:02x?}");
        }
    }

    /// Drops counted anywhere under this reason.
    pub fn dropped(&self, reason: Drop) -> u64 {
        let ports = (0..self.ports.len()).map(port).chain([switch::ids::PortId::ROUTER]);
        ports.map(|port| self.shared.all_stats().map(|stats| stats.port(port).drops(reason)).sum::<u64>()).sum()
    }

    /// All drops by reason, without zeros.
    pub fn drops(&self) -> Vec<(Drop, u64)> {
        Drop::ALL.iter().map(|&reason| (reason, self.dropped(reason))).filter(|(_, count)| *count > 0).collect()
    }

    /// What is shared between the threads.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Asserts that every frame is free, but for `kept` that the host keeps.
    pub fn assert_no_frame_lost(&mut self, kept: usize) {
        self.settle();
        let free = self.shared.pool().free_estimate() + self.worker.frames_free() + self.host.frames_free();
        assert_eq!(free + kept, self.frames as usize, "every frame is free when nothing moves");
    }
}

impl Vrf {
    fn view(&self) -> VrfView {
        VrfView { ipv4: Arc::clone(self.ipv4.table()), ipv6: Arc::clone(self.ipv6.table()) }
    }
}

/// The usual interface of port `index`.
pub fn interface(index: usize) -> Interface {
    Interface {
        domain: domain(index + 1),
        name: format!("net{}", index + 1),
        vrf: VrfId::DEFAULT,
        mac: gateway(index),
        mtu: 1_500,
        ipv4: vec![(v4(index, 1), 24)],
        ipv6: vec![(v6(index, 1), 64)],
        flags: RouterFlags { proxy: false, suppress: false, dhcp: false, redirects: true, clamp_mss: false },
        dhcp: None,
        ra: None,
    }
}

/// What the packet path is told of an interface.
fn view(interface: &Interface) -> RouterView {
    let own = |address: IpAddr| match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => Some(u128::from(address)),
    };
    RouterView {
        mac: interface.mac,
        vrf: interface.vrf,
        mtu: interface.mtu,
        ipv4: interface.ipv4.iter().map(|(address, _)| u32::from(*address)).collect(),
        ipv6: interface.addresses().filter_map(own).collect(),
        flags: interface.flags,
    }
}
