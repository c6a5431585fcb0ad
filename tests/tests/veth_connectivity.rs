//! Containers reach each other through switchd: ping, UDP, TCP, IPv4 and IPv6, whatever their offloads are, with VLAN
//! tags and without.

use std::net::IpAddr;

use ctl::protocol::PortState;
use tests::net::capture::{Capture, tshark_complaints};
use tests::net::switchd::pods;
use tests::net::tagging::{can_tag, tag_all};
use tests::net::traffic::{UdpEcho, ping, tcp_transfer, udp_round_trip, udp_to, wait_reachable};
use tests::net::{Container, Lab, Link, Switchd, full, report, slowness};

/// Host ends of every test here.
const ENDS: [&str; 3] = ["web0", "db0", "client0"];

/// Bytes of a large transfer, each way.
fn transfer_bytes() -> u64 {
    if full() { 1 << 30 } else { (64 << 20) / u64::from(slowness()) }
}

/// A switch with three containers, ready to forward.
fn start(lab: &mut Lab, keys: &str, link: &Link) -> ([Container; 3], Switchd) {
    let containers = ENDS.map(|end| lab.container(end, link));
    let switch = Switchd::start(lab, keys, &pods(&ENDS));
    for end in ENDS {
        switch.wait_state(end, PortState::Up);
    }
    for to in &containers[1..] {
        wait_reachable(&containers[0], to.v4());
        wait_reachable(&containers[0], to.v6());
    }
    (containers, switch)
}

fn assert_no_checksum_errors(containers: &[Container]) {
    for container in containers {
        assert_eq!(container.space().checksum_errors(), 0, "wrong checksums behind {}", container.host_end());
    }
}

fn pings_of_all_sizes(a: &Container, b: &Container, sizes: &[usize]) {
    for to in [b.v4(), b.v6()] {
        for size in sizes {
            assert_eq!(ping(a, to, *size, 3), 3, "ping {to} with {size} bytes");
        }
    }
}

fn udp_of_all_sizes(a: &Container, b: &Container, sizes: &[usize]) {
    for (from, to) in [(a.v4(), b.v4()), (a.v6(), b.v6())] {
        let echo = UdpEcho::start(b, to);
        let socket = udp_to(a, from, echo.address());
        for size in sizes {
            for seed in 0..3 {
                assert!(udp_round_trip(&socket, *size, seed).is_some(), "UDP {from} to {to}, {size} bytes");
            }
        }
    }
}

/// One transfer each way, both at once.
fn tcp_both_ways(a: &Container, b: &Container, (to_a, to_b): (IpAddr, IpAddr), bytes: u64) {
    std::thread::scope(|scope| {
        let there = scope.spawn(|| tcp_transfer(a, b, to_b, bytes, 1));
        let back = scope.spawn(|| tcp_transfer(b, a, to_a, bytes, 2));
        for transfer in [there, back] {
            let (sent, received) = transfer.join().expect("a transfer does not panic").expect("TCP gets through");
            assert_eq!(sent, received, "SHA-256 of what was sent and of what arrived");
        }
    });
}

fn parallel_streams(a: &Container, b: &Container) {
    std::thread::scope(|scope| {
        let streams: Vec<_> = (0..16)
            .map(|seed| {
                scope.spawn(move || tcp_transfer(a, b, if seed % 2 == 0 { b.v4() } else { b.v6() }, 2 << 20, seed))
            })
            .collect();
        for stream in streams {
            let (sent, received) = stream.join().expect("a stream does not panic").expect("TCP gets through");
            assert_eq!(sent, received);
        }
    });
}

/// A small exchange of every kind, received frames judged by tshark: those that the switch sent, not what the container
/// merged them to.
fn captures_are_clean(test: &str, lab: &Lab, a: &Container, b: &Container) {
    for container in [a, b] {
        container.ethtool("-K eth0 gro off");
    }
    let captures = [Capture::start(a), Capture::start(b)];
    pings_of_all_sizes(a, b, &[56, 1452]);
    udp_of_all_sizes(a, b, &[1, 2, 63, 1400, 20_000]);
    tcp_both_ways(a, b, (a.v4(), b.v6()), 1 << 20);
    for capture in captures {
        let frames = capture.stop();
        assert!(frames.len() > 50, "only {} frames captured", frames.len());
        if let Some(lines) = tshark_complaints(test, &frames, lab.files()) {
            assert!(lines.is_empty(), "tshark finds bad frames:\n{}", lines.join("\n"));
        }
    }
}

fn everything_gets_through(test: &str, tx_off: bool) {
    let Some(mut lab) = Lab::new(test) else { return };
    let mtu = lab.mtu(9000);
    let link = Link { mtu, tx_off, ..Link::default() };
    let (containers, switch) = start(&mut lab, "", &link);
    let [a, b, c] = &containers;
    assert_eq!(a.offload("tx-checksumming"), !tx_off, "attaching must not change the container's checksum offload");
    // The largest payload behind IPv6 and UDP (or ICMPv6) headers, in one frame.
    let longest = mtu as usize - 48;
    pings_of_all_sizes(a, b, &[56, 1472, longest - 900]);
    pings_of_all_sizes(b, c, &[56, longest]);
    udp_of_all_sizes(a, b, &[0, 1, 1472, longest - 900, longest, 30_000]);
    let start = std::time::Instant::now();
    tcp_both_ways(a, b, (a.v4(), b.v4()), transfer_bytes());
    let mib = transfer_bytes() >> 20;
    report(&format!("{test}: {mib} MiB each way at once in {:.1} s", start.elapsed().as_secs_f64()));
    parallel_streams(a, c);
    captures_are_clean(test, &lab, a, b);
    assert_no_checksum_errors(&containers);
    let packets: u64 = switch.ports().iter().map(|port| port.rx_packets).sum();
    assert!(packets > 1000, "all of it went through the switch");
    assert!(switch.stop().success());
}

#[test]
fn everything_gets_through_with_default_offloads() {
    everything_gets_through("everything_gets_through_with_default_offloads", false);
}

#[test]
fn everything_gets_through_with_tx_off() {
    everything_gets_through("everything_gets_through_with_tx_off", true);
}

#[test]
fn two_workers_and_two_queues_keep_tcp_whole() {
    let test = "two_workers_and_two_queues_keep_tcp_whole";
    let Some(mut lab) = Lab::new(test) else { return };
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        return tests::net::skipped(test, "needs two cores");
    }
    let link = Link { queues: 2, ..Link::default() };
    let (containers, switch) = start(&mut lab, "workers = [0, 1]", &link);
    let [a, b, c] = &containers;
    pings_of_all_sizes(a, b, &[56, 1472 - 20]);
    udp_of_all_sizes(a, b, &[1, 1400, 20_000]);
    tcp_both_ways(a, b, (a.v6(), b.v4()), 16 << 20);
    parallel_streams(b, c);
    assert_no_checksum_errors(&containers);
    assert!(switch.stop().success());
}

/// A trunk each for two containers that tag, and an access port each for one that does not and one that tells a
/// priority only. All of them are on one bridge.
const VLANS: &str = r#"
[[bridge]]
name = "blue"
[[bridge]]
name = "green"
[[port]]
interface = "router0"
trunk = { 10 = "blue", 20 = "green" }
[[port]]
interface = "probe0"
bridge = "green"
trunk = { 30 = "blue" }
[[port]]
interface = "web0"
bridge = "blue"
[[port]]
interface = "phone0"
bridge = "blue"
"#;

/// Every kind of traffic of containers that send VLAN tags; their kernels leave the checksums unfinished all the same.
fn tagged_traffic_gets_through(test: &str, mtu: u32) {
    let Some(mut lab) = Lab::new(test) else { return };
    if !can_tag(test, "all of it", &lab) {
        return;
    }
    // Where a frame must fit one chunk, its tag must fit there too.
    let mtu = lab.mtu(mtu + 4) - 4;
    let containers =
        ["router0", "probe0", "web0", "phone0"].map(|end| lab.container(end, &Link { mtu, ..Link::default() }));
    let [router, probe, web, phone] = &containers;
    // Priority 5 in VLAN 10; VLAN 30; priority 6 and no VLAN.
    for (container, control) in [(router, 0xa00a), (probe, 30), (phone, 0xc000)] {
        tag_all(container, control, &lab);
    }
    let switch = Switchd::start(&lab, "", VLANS);
    for container in &containers {
        switch.wait_state(container.host_end(), PortState::Up);
        assert!(container.offload("tx-checksumming"), "its checksums are to arrive unfinished");
        assert!(!container.offload("tx-vlan-offload"), "{:?}", switch.port(container.host_end()).notes);
    }
    // The longest that fits: IPv6 has the longer header, 40 bytes, and ICMP and UDP take 8 more.
    let fits = mtu as usize - 48;
    for (a, b) in [(router, web), (router, probe), (phone, web), (phone, router)] {
        for (from, to) in [(a, b), (b, a)] {
            wait_reachable(from, to.v4());
            wait_reachable(from, to.v6());
        }
        pings_of_all_sizes(a, b, &[56, fits]);
        udp_of_all_sizes(a, b, &[0, 1, 1400, fits, 20_000]);
        tcp_both_ways(a, b, (a.v4(), b.v6()), 8 << 20);
        tcp_both_ways(a, b, (a.v6(), b.v4()), 1 << 20);
    }
    captures_are_clean(test, &lab, router, web);
    captures_are_clean(test, &lab, phone, probe);
    assert_no_checksum_errors(&containers);
    for port in switch.ports() {
        assert!(port.checksums_finished > 1000, "{}: only {}", port.interface, port.checksums_finished);
    }
    let vlans = containers.each_ref().map(|container| switch.fdb_entry(&container.mac_text()).map(|entry| entry.vlan));
    assert_eq!(vlans, [Some(10), Some(30), Some(0), Some(0)], "the trunks' containers did send tags");
    assert!(switch.stop().success());
}

#[test]
fn tagged_traffic_gets_through_trunks_and_access_ports() {
    tagged_traffic_gets_through("tagged_traffic_gets_through_trunks_and_access_ports", 1500);
}

#[test]
fn tagged_traffic_in_big_frames_gets_through() {
    tagged_traffic_gets_through("tagged_traffic_in_big_frames_gets_through", 9000);
}
