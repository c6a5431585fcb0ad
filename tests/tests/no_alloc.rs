//! The packet path allocates nothing in steady state: an allocator that counts says so.

use etherparse::PacketBuilder;
use switch::ids::{Mac, PortId};
use switch::path::checksum;
use tests::frames::{Checksum, Net, Packet, Transport, host, sized, tagged};
use tests::lab::{Lab, access, setup};
use tests::router_lab::{RouterLab, gateway, station, v4, v6};

/// Allocations that this thread makes in `work`, and blocks of before that it frees.
fn calls(work: impl FnOnce()) -> u64 {
    let count = allocation_counter::measure(work);
    count.count_total + count.count_current.unsigned_abs()
}

/// A switch that frames are sent through.
trait Bed {
    fn offer(&mut self, frame: &[u8]);
    /// One turn of the worker.
    fn poll(&mut self);
    /// Throws away what left.
    fn recycle(&mut self);
    /// The clock moves, so that stamps are refreshed and limits renewed.
    fn pass_ms(&mut self, millis: u64);
}

impl Bed for Lab {
    fn offer(&mut self, frame: &[u8]) {
        Lab::offer(self, 0, frame);
    }

    fn poll(&mut self) {
        Lab::poll(self);
    }

    fn recycle(&mut self) {
        Lab::recycle(self);
    }

    fn pass_ms(&mut self, millis: u64) {
        self.now_ns += millis * 1_000_000;
    }
}

impl Bed for RouterLab {
    fn offer(&mut self, frame: &[u8]) {
        RouterLab::offer(self, 0, frame);
    }

    fn poll(&mut self) {
        RouterLab::poll(self);
    }

    fn recycle(&mut self) {
        RouterLab::recycle(self);
    }

    fn pass_ms(&mut self, millis: u64) {
        self.now_ns += millis * 1_000_000;
    }
}

/// Sends `packets` frames round robin into port 0, one turn of the worker for each four, recycling what leaves.
/// Returns the allocator calls of the worker's turns alone.
fn run(bed: &mut impl Bed, frames: &[Vec<u8>], packets: usize) -> u64 {
    let mut total = 0;
    for at in 0..packets {
        bed.offer(&frames[at % frames.len()]);
        if at % 4 == 3 {
            total += calls(|| bed.poll());
            bed.recycle();
        }
        bed.pass_ms(1);
    }
    total
}

#[test]
fn the_allocator_is_counted() {
    assert_eq!(calls(|| drop(std::hint::black_box(vec![1u8; 100]))), 1);
    let before = vec![1u8; 100];
    assert_eq!(calls(|| drop(std::hint::black_box(before))), 1);
}

#[test]
fn a_hundred_thousand_packets_allocate_nothing() {
    let ports = [access(0), access(1), setup(2, None, &[(10, 1)]), setup(3, Some(1), &[]), setup(4, None, &[(30, 1)])];
    let mut lab = Lab::new(&ports);
    for index in 0..ports.len() {
        lab.change(index, |port| port.mtu = 9000);
    }
    let (a, on_access, on_trunk, unknown) = (host(1), host(2), host(3), host(4));
    lab.send(1, &sized(Mac::BROADCAST, on_access, 60));
    lab.send(2, &tagged(&sized(Mac::BROADCAST, on_trunk, 60), 10));
    let partial = |net, len| {
        let packet = Packet::new(on_access, a, net, Transport::Tcp, vec![7; len]);
        Packet { checksum: Checksum::Partial, ..packet }.build()
    };
    let frames = [
        sized(on_access, a, 60),
        sized(on_trunk, a, 1514),
        sized(unknown, a, 60),
        sized(Mac::BROADCAST, a, 60),
        partial(Net::V4, 1400),
        partial(Net::V6, 8800),
        sized(on_trunk, a, 3840),
        sized(Mac::BROADCAST, a, 9014),
        sized(Mac::BROADCAST, Mac::BROADCAST, 60),
    ];
    run(&mut lab, &frames, 20_000);
    let (before, refreshed) = (lab.stats(2).tx_packets.get(), lab.port_of(a));
    assert_eq!(run(&mut lab, &frames, 100_000), 0);
    assert!(lab.stats(2).tx_packets.get() - before > 50_000 && refreshed == Some(0));
    assert!(lab.all_drops(2).is_empty(), "{:?}", lab.all_drops(2));
    lab.assert_no_frame_lost();
}

/// An IPv4 or IPv6 packet from the host behind port 0, by way of its gateway.
fn routed(to: std::net::IpAddr, ttl: u8, len: usize) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(station(0).octets(), gateway(0).octets());
    let mut frame = Vec::new();
    match to {
        std::net::IpAddr::V4(to) => {
            builder.ipv4(v4(0, 2).octets(), to.octets(), ttl).udp(1, 2).write(&mut frame, &vec![7; len])
        }
        std::net::IpAddr::V6(to) => {
            builder.ipv6(v6(0, 2).octets(), to.octets(), ttl).udp(1, 2).write(&mut frame, &vec![7; len])
        }
    }
    .expect("a Vec takes everything");
    // etherparse forbids fragments.
    frame[20] &= if frame[12..14] == [8, 0] { !0x40 } else { 0xff };
    if frame[12..14] == [8, 0] {
        frame[24..26].fill(0);
        let sum = !checksum::sum(&frame[14..34]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
    }
    frame
}

#[test]
fn a_hundred_thousand_routed_packets_allocate_nothing() {
    let mut lab = RouterLab::with(3, |setup, interface| {
        let mtu = if setup.id.index() == 1 { 1_500 } else { 9_000 };
        (setup.mtu, interface.mtu) = (mtu, mtu);
    });
    let frames = [
        routed(v4(1, 2).into(), 64, 18),
        routed(v6(2, 2).into(), 64, 1_400),
        routed(v4(2, 2).into(), 64, 8_000),
        // Fragments, and what the host is to see: an error, a next hop that nobody knows, its own address.
        routed(v4(1, 2).into(), 64, 4_000),
        routed(v4(1, 2).into(), 1, 18),
        routed(v4(1, 77).into(), 64, 18),
        routed(v6(0, 1).into(), 64, 18),
    ];
    // The host empties its queues now and then.
    let rounds = |lab: &mut RouterLab, count: usize| {
        let round = |_| {
            let calls = run(lab, &frames, 1_000);
            lab.settle();
            calls
        };
        (0..count).map(round).sum::<u64>()
    };
    rounds(&mut lab, 20);
    let before = lab.shared().stats(0).port(PortId::FIRST).routed.get();
    assert_eq!(rounds(&mut lab, 100), 0);
    assert!(lab.shared().stats(0).port(PortId::FIRST).routed.get() - before > 50_000);
}
