//! The same frames through switchd and through the kernel's bridge: the same receivers get the same frames.
//!
//! Listed differences, which the generator avoids or the comparison knows:
//! - 01:80:C2:00:00:00 (spanning tree): the kernel's bridge forwards it while its own spanning tree is off;
//!   switchd never forwards a link-local group.
//! - A source address of zero: the kernel's bridge drops the frame; switchd forwards it and does not learn it.
//! - 01:80:C2:00:00:01 (pause): both drop the frame, but the kernel's bridge learns nothing from it, unlike from the
//!   other link-local groups. Not generated.
//! - Order inside a burst of one port: switchd learns all source addresses of a burst before it forwards the first
//!   frame; the kernel's bridge goes frame by frame. So a frame to a station whose own first frame from this port
//!   follows within the burst is already known to stay on the port. Blocks are cut before such a frame.
//! - A frame with a VLAN tag: a bridge that filters no VLANs passes it as it is; an access port of switchd takes the
//!   tag VLAN 0 off and drops the rest. Not generated.
//!
//! `VETH_SEED=n` repeats a run; `VETH_FULL=1` sends a million frames.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tests::net::raw::RawSocket;
use tests::net::stations::{BROADCAST, frame, station};
use tests::net::switchd::{UNMERGED, pods};
use tests::net::{Lab, Namespace, Switchd, full, report, stretched};

/// Ports of each switch.
const PORTS: usize = 4;

/// Stations that appear behind any of them.
const STATIONS: u8 = 24;

/// Frames of one container before another one sends.
const BLOCK: usize = 48;

/// Ethertype of the frame that ends a block.
const MARKER_TYPE: u16 = 0x88b6;

/// The group address of spanning tree, the first listed difference.
const SPANNING_TREE: [u8; 6] = [0x01, 0x80, 0xc2, 0, 0, 0];

/// Containers with two interfaces each: `sw` behind switchd, `kb` behind the kernel's bridge.
struct Rig {
    switch: Vec<RawSocket>,
    bridge: Vec<RawSocket>,
    markers: u64,
    // Removed last.
    _spaces: Vec<Namespace>,
}

fn build(lab: &Lab, spaces: Vec<Namespace>) -> Rig {
    let host = lab.host();
    host.sysctl("ipv6/conf/default/disable_ipv6", "1");
    // Where the bridge shows frames to iptables, that drops what is no sound IP packet.
    for family in ["ip", "ip6", "arp"] {
        let path = format!("/proc/sys/net/bridge/bridge-nf-call-{family}tables");
        let _ = host.run(|| std::fs::write(&path, "0"));
    }
    host.ip_batch("link add br0 type bridge mcast_snooping 0\nlink set br0 up\n");
    for (index, space) in spaces.iter().enumerate() {
        space.sysctl("ipv6/conf/default/disable_ipv6", "1");
        for (name, end) in [("sw", format!("p{index}")), ("kb", format!("q{index}"))] {
            let to = host.name();
            space.ip(&format!("link add {name} mtu 1500 type veth peer name {end} mtu 1500 netns {to}"));
            space.ip(&format!("link set {name} arp off up"));
            host.ip(&format!("link set {end} up"));
        }
        host.ip(&format!("link set q{index} master br0"));
    }
    let open = |name: &str| spaces.iter().map(|space| RawSocket::open(space, name)).collect::<Vec<_>>();
    let (switch, bridge) = (open("sw"), open("kb"));
    Rig { switch, bridge, markers: 0, _spaces: spaces }
}

/// A frame for the block: few addresses, so that they are known, unknown, moved and met on their own port.
fn random_frame(random: &mut StdRng) -> Vec<u8> {
    let any = |random: &mut StdRng| station(random.random_range(0..STATIONS));
    let to = match random.random_range(0..100) {
        0..=69 => any(random),
        70..=79 => BROADCAST,
        80..=84 => [0x01, 0, 0x5e, random.random_range(0..128), 0, 1],
        85..=89 => [0x33, 0x33, 0, 0, 0, random.random()],
        90 => SPANNING_TREE,
        91..=93 => [0x01, 0x80, 0xc2, 0, 0, random.random_range(2..32)],
        _ => [0x02, 0x77, random.random(), random.random(), random.random(), random.random()],
    };
    let from = match random.random_range(0..100) {
        0 => [0x03, 0, 0, 0, 0, random.random()],
        _ => any(random),
    };
    let ethertype = match random.random_range(0..4) {
        0 => random.random_range(0..0x0600),
        1 => 0x0800,
        2 => 0x88b5,
        _ => random.random_range(0x0600..=0xffff),
    };
    // Tags are a listed difference; the marker's type is taken.
    let ethertype = if matches!(ethertype, 0x8100 | 0x88a8 | MARKER_TYPE) { 0x88b5 } else { ethertype };
    let length = match random.random_range(0..10) {
        0 => random.random_range(0..46),
        1 => random.random_range(46..=1500),
        _ => 46,
    };
    let mut body = vec![0; length];
    random.fill(&mut body[..]);
    frame(to, from, ethertype, &body)
}

/// Frames of one container, cut where the order inside a burst would matter (see the head of this file).
fn random_block(random: &mut StdRng) -> Vec<Vec<u8>> {
    let mut block: Vec<Vec<u8>> = Vec::new();
    for _ in 0..random.random_range(1..=BLOCK) {
        let frame = random_frame(random);
        if block.iter().any(|earlier| earlier[..6] == frame[6..12]) {
            break;
        }
        block.push(frame);
    }
    block
}

/// Sends a block on one side; what each port received, up to the marker that ends the block.
fn pass(sockets: &mut [RawSocket], from: usize, block: &[Vec<u8>], marker: &[u8]) -> Vec<Vec<Vec<u8>>> {
    block.iter().for_each(|frame| sockets[from].send(frame));
    sockets[from].send(marker);
    let mut received = vec![Vec::new(); sockets.len()];
    for (index, socket) in sockets.iter_mut().enumerate().filter(|(index, _)| *index != from) {
        let deadline = Instant::now() + stretched(Duration::from_secs(5));
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match socket.receive(left) {
                Some(frame) if frame == marker => break,
                Some(frame) => received[index].push(frame),
                None => panic!("the frame that ends the block did not get from {from} to {index}"),
            }
        }
    }
    // Nothing comes back to the sender; what would is there by now.
    while let Some(frame) = sockets[from].receive_now() {
        received[from].push(frame);
    }
    received
}

/// Frames of one (destination, source) pair keep their order; between pairs it is free.
fn by_pair(frames: &[Vec<u8>]) -> Vec<&Vec<u8>> {
    let mut sorted: Vec<&Vec<u8>> = frames.iter().collect();
    sorted.sort_by(|a, b| a[..12].cmp(&b[..12]));
    sorted
}

impl Rig {
    fn marker(&mut self, from: usize) -> Vec<u8> {
        self.markers += 1;
        let body = [&[0xa5; 38][..], &self.markers.to_be_bytes()].concat();
        frame(BROADCAST, [0x02, 0xff, 0xff, 0xff, 0xff, from as u8], MARKER_TYPE, &body)
    }

    /// Sends one block through both; panics where they differ. Frames compared.
    fn compare(&mut self, from: usize, block: &[Vec<u8>], context: &str) -> usize {
        let marker = self.marker(from);
        let ours = pass(&mut self.switch, from, block, &marker);
        let theirs = pass(&mut self.bridge, from, block, &marker);
        for (port, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
            let expected: Vec<Vec<u8>> =
                theirs.iter().filter(|frame| !frame.starts_with(&SPANNING_TREE)).cloned().collect();
            let (got, expected) = (by_pair(ours), by_pair(&expected));
            let differs = got.iter().zip(&expected).position(|(a, b)| a != b);
            let at = differs.unwrap_or(got.len().min(expected.len()));
            assert!(
                got == expected,
                "{context}: from port {from}, port {port} received {} frames through switchd and {} through the \
                 bridge; they differ at {at}:\n{:02x?}\n{:02x?}",
                got.len(),
                expected.len(),
                got.get(at),
                expected.get(at)
            );
        }
        theirs.iter().map(Vec::len).sum()
    }
}

#[test]
fn switchd_delivers_what_the_kernels_bridge_delivers() {
    let Some(mut lab) = Lab::alone("switchd_delivers_what_the_kernels_bridge_delivers") else { return };
    let spaces: Vec<Namespace> = (0..PORTS).map(|_| lab.space()).collect();
    let mut rig = build(&lab, spaces);
    let names: Vec<String> = (0..PORTS).map(|index| format!("p{index}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let switch = Switchd::start(&lab, UNMERGED, &pods(&names));
    let seed = std::env::var("VETH_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(rand::random);
    let frames = if full() { 1_000_000 } else { 10_000 };
    let mut random = StdRng::seed_from_u64(seed);
    let (start, mut sent, mut delivered) = (Instant::now(), 0, 0);
    while sent < frames {
        let block = random_block(&mut random);
        let from = random.random_range(0..PORTS);
        delivered += rig.compare(from, &block, &format!("VETH_SEED={seed}, after {sent} frames"));
        sent += block.len();
    }
    report(&format!(
        "differential: seed {seed}, {sent} frames in, {delivered} out, equal, {:.1} s",
        start.elapsed().as_secs_f64()
    ));
    assert!(delivered > sent / 2, "{delivered} of {sent}: the comparison must compare something");
    assert!(switch.stop().success());
}
