//! Tests of the host as a whole: frames left in its queues, time stepped by hand, and what it sends read where worker 0
//! would take it.

mod arp;
mod flood;
mod frames;
mod icmp;
mod ndp;
mod proxy;
mod random;
mod resolve;
mod service;

use std::net::IpAddr;
use std::sync::Arc;

use super::neighbour::MS;
use super::*;
use crate::ids::{NextHopId, PortId, VrfId};
use crate::path::{Punt, Why};
use crate::port::{FramePool, SharedPool};
use crate::stats::Drop;
use crate::table::fdb::Fdb;
use crate::table::fib::{FibWriter, Prefix};
use crate::table::next_hop::NextHop;
use crate::table::router::{RouterFlags, RouterSetup, RouterView, VrfView};
use crate::table::snapshot::{PortFlags, PortSetup};

pub const FLAGS: RouterFlags =
    RouterFlags { proxy: false, suppress: false, dhcp: false, redirects: false, clamp_mss: false };

/// The switch's own MAC address on every domain.
pub const OWN: Mac = Mac::new([2, 0, 0, 0, 0, 0xfe]);

/// A station's MAC address.
pub fn mac(number: u8) -> Mac {
    Mac::new([2, 0, 0, 0, 1, number])
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn domain(number: usize) -> DomainId {
    DomainId::new(number).unwrap()
}

pub fn key(number: usize, address: &str) -> NeighbourKey {
    NeighbourKey::new(domain(number), ip(address))
}

pub fn port(index: usize) -> PortId {
    PortId::new(index).unwrap()
}

/// Interface `number`: 10.0.`number`.1/24 and 2001:db8:0:`number`::1/64.
pub fn interface(number: usize, flags: RouterFlags) -> Interface {
    Interface {
        domain: domain(number),
        name: format!("bridge{number}"),
        vrf: VrfId::DEFAULT,
        mac: OWN,
        mtu: 1500,
        ipv4: vec![([10, 0, number as u8, 1].into(), 24)],
        ipv6: vec![(format!("2001:db8:0:{number}::1").parse().unwrap(), 64)],
        flags,
        dhcp: None,
        ra: None,
    }
}

/// A host with its surroundings. Port 0 is on domain 1, port 1 on domain 2 and so on.
pub struct Bed {
    pub shared: Arc<Shared>,
    pub host: Host,
    pub pool: FramePool,
    pub now_ns: u64,
    frames: usize,
    fib4: FibWriter<u32>,
    fib6: FibWriter<u128>,
    next_hops: usize,
}

impl Bed {
    /// Two interfaces whose announcements are over.
    pub fn new() -> Bed {
        Bed::with(HostSettings::default(), FLAGS)
    }

    pub fn with(settings: HostSettings, flags: RouterFlags) -> Bed {
        let mut bed = Bed::bare(settings, 4_096);
        bed.configure(vec![interface(1, flags), interface(2, flags)]);
        bed.pass(10_000);
        bed.sent();
        bed
    }

    /// Without interfaces.
    pub fn bare(settings: HostSettings, frames: u32) -> Bed {
        let pool = SharedPool::heap(frames);
        let shared = Shared::new(1, Arc::clone(&pool), Arc::new(Fdb::new(1_024, 1))).unwrap();
        let host = Host::new(Arc::clone(&shared), settings);
        let grace = shared.grace();
        let (fib4, fib6) = (FibWriter::new(Arc::clone(grace)), FibWriter::new(Arc::clone(grace)));
        let (pool, frames) = (FramePool::new(pool), frames as usize);
        Bed { shared, host, pool, now_ns: 0, frames, fib4, fib6, next_hops: 0 }
    }

    /// A route; in force with the next configuration.
    pub fn route(&mut self, prefix: &str, hop: NextHop) {
        let (address, len) = prefix.split_once('/').unwrap();
        let len = len.parse().unwrap();
        self.next_hops += 1;
        let id = NextHopId::new(self.next_hops).unwrap();
        self.shared.router().next_hops.set(id, Some(hop));
        let _ = match ip(address) {
            IpAddr::V4(address) => self.fib4.insert(Prefix::of(address.into(), len).unwrap(), id).was,
            IpAddr::V6(address) => self.fib6.insert(Prefix::of(address.into(), len).unwrap(), id).was,
        };
    }

    pub fn configure(&mut self, interfaces: Vec<Interface>) {
        let setup = |interface: &Interface| {
            let number = interface.domain.index();
            PortSetup {
                id: port(number - 1),
                forwarding: true,
                mtu: 1500,
                native: Some(interface.domain),
                trunk: Vec::new(),
                flags: PortFlags::default(),
                mac_limit: u32::MAX,
                tx_worker: [0; crate::limits::WORKERS_MAX],
            }
        };
        let view = |interface: &Interface| {
            let view = RouterView {
                mac: interface.mac,
                vrf: interface.vrf,
                mtu: interface.mtu,
                ipv4: interface.ipv4.iter().map(|(address, _)| u32::from(*address)).collect(),
                ipv6: interface.ipv6.iter().map(|(address, _)| u128::from(*address)).collect(),
                flags: interface.flags,
            };
            (interface.domain, view)
        };
        let ports: Vec<PortSetup> = interfaces.iter().map(setup).collect();
        let domains: Vec<_> = interfaces.iter().map(|interface| (interface.domain, 300)).collect();
        for interface in &interfaces {
            let number = interface.domain;
            for (address, len) in &interface.ipv4 {
                self.route(&format!("{address}/{len}"), NextHop::Connected(number));
                self.route(&format!("{address}/32"), NextHop::Local);
            }
            for (address, len) in &interface.ipv6 {
                self.route(&format!("{address}/{len}"), NextHop::Connected(number));
                self.route(&format!("{address}/128"), NextHop::Local);
            }
        }
        let vrf = VrfView { ipv4: Arc::clone(self.fib4.table()), ipv6: Arc::clone(self.fib6.table()) };
        let router = RouterSetup { interfaces: interfaces.iter().map(view).collect(), vrfs: vec![vrf] };
        self.host.configure(interfaces, Arc::new(Snapshot::new(1, &ports, &domains).with_router(router)));
    }

    /// Leaves a frame as a worker does; false if the queue was full.
    pub fn leave(&mut self, number: usize, why: Why, bytes: &[u8]) -> bool {
        let mut frame = self.pool.alloc().expect("a free frame");
        assert!(self.pool.region().write(&mut frame, bytes));
        let punt = Punt { frame, port: port(number - 1), domain: domain(number), why };
        self.shared.host().punt(punt).map_err(|frame| self.pool.free(frame)).is_ok()
    }

    /// Leaves a frame and takes a turn.
    pub fn punt(&mut self, number: usize, why: Why, bytes: &[u8]) {
        assert!(self.leave(number, why, bytes));
        self.host.turn(self.now_ns);
    }

    pub fn hear(&mut self, number: usize, bytes: &[u8]) {
        self.punt(number, Why::Heard, bytes);
    }

    /// A routed packet whose next hop is not known: on its way to `address` on domain `number`, from the other one.
    pub fn resolve(&mut self, number: usize, address: &str, bytes: &[u8]) {
        self.punt(3 - number, Why::Resolve(key(number, address)), bytes);
    }

    /// Lets time pass, turn by turn as the host wants them.
    pub fn pass(&mut self, ms: u64) {
        let end_ns = self.now_ns + ms * MS;
        loop {
            let due_ns = self.host.turn(self.now_ns);
            if due_ns > end_ns {
                break;
            }
            self.now_ns = self.now_ns.max(due_ns);
        }
        self.now_ns = end_ns;
        self.host.turn(end_ns);
    }

    /// What was sent since the last call.
    pub fn sent(&mut self) -> Vec<(usize, Vec<u8>)> {
        let mut sent = Vec::new();
        while let Some((domain, frame)) = self.shared.injected(0).pop() {
            let bytes = self.pool.region().segments(&frame).flatten().copied().collect();
            self.pool.free(frame);
            sent.push((domain.index(), bytes));
        }
        sent
    }

    /// The one frame that was sent since the last call.
    pub fn sent_one(&mut self) -> (usize, Vec<u8>) {
        let mut sent = self.sent();
        assert_eq!(sent.len(), 1, "{sent:?}");
        sent.remove(0)
    }

    pub fn row(&self, number: usize, address: &str) -> Option<NeighbourRow> {
        self.host.neighbour(key(number, address))
    }

    /// State and MAC address of a neighbour.
    pub fn state(&self, number: usize, address: &str) -> Option<(State, Option<Mac>)> {
        self.row(number, address).map(|row| (row.state, row.mac))
    }

    /// What workers see of a neighbour: its MAC address, and whether they are to tell of its use.
    pub fn seen(&self, number: usize, address: &str) -> Option<(Mac, bool)> {
        let (_, found) = self.shared.router().neighbours.find(key(number, address))?;
        Some((found.mac, found.tell_use))
    }

    /// A worker sends to a neighbour.
    pub fn use_it(&mut self, number: usize, address: &str) {
        let neighbours = &self.shared.router().neighbours;
        let (slot, found) = neighbours.find(key(number, address)).expect("a known neighbour");
        if found.tell_use && neighbours.note_use(slot) {
            self.shared.host().used(slot);
        }
        self.host.turn(self.now_ns);
    }

    pub fn drops(&self, number: usize, reason: Drop) -> u64 {
        self.shared.host_stats().port(port(number - 1)).drops(reason)
    }

    /// Every frame is somewhere, once.
    pub fn check_frames(&self) {
        let held = self.host.frames_held() + self.host.frames_free() + self.pool.local_len();
        let found = held + self.shared.pool().free_estimate() + self.shared.handoffs();
        assert_eq!(found, self.frames, "a frame is lost, or there twice");
    }

    /// Workers see what the host knows, and nothing else.
    pub fn check_table(&self) {
        for row in self.host.neighbours(None, usize::MAX) {
            let seen = self.shared.router().neighbours.find(row.key).map(|(_, found)| found.mac);
            assert_eq!(seen, row.mac, "{row:?}");
            let known = matches!(row.state, State::Incomplete | State::Failed);
            assert_eq!(row.mac.is_none(), known, "{row:?}");
        }
    }
}

impl std::ops::Drop for Bed {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.check_table();
            self.check_frames();
        }
    }
}

#[test]
fn no_interface_no_work() {
    let mut bed = Bed::bare(HostSettings::default(), 256);
    assert_eq!(bed.host.turn(0), u64::MAX);
    bed.hear(1, &frames::arp_request(mac(5), [10, 0, 1, 5], [10, 0, 1, 1]));
    assert_eq!((bed.sent().len(), bed.host.neighbours_len()), (0, 0));
}

#[test]
fn what_the_host_still_has_when_it_ends_goes_back_to_the_pool() {
    let pool = SharedPool::heap(256);
    let shared = Shared::new(1, Arc::clone(&pool), Arc::new(Fdb::new(1_024, 1))).unwrap();
    let mut host = Host::new(Arc::clone(&shared), HostSettings::default());
    host.configure(vec![interface(1, FLAGS)], Arc::default());
    let mut own = FramePool::new(Arc::clone(&pool));
    for number in 2..5u8 {
        let mut frame = own.alloc().unwrap();
        assert!(own.region().write(&mut frame, &frames::packet([10, 0, 2, 9], [10, 0, 1, number], 20)));
        let why = Why::Resolve(key(1, &format!("10.0.1.{number}")));
        shared.host().punt(Punt { frame, port: port(1), domain: domain(2), why }).unwrap();
        if number == 3 {
            host.turn(0);
        }
    }
    assert_eq!(host.frames_held(), 2);
    drop(host);
    own.give_all();
    assert_eq!((pool.free_estimate(), shared.handoffs()), (256, 0));
}
