//! Neighbours on real links: duplicate addresses, hosts that move, who is asked and who answers, states over time,
//! scans.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use ctl::protocol::NeighState;
use tests::net::capture::Capture;
use tests::net::packets::{self, IP, arp, icmp_of, is_ip};
use tests::net::process::wait_for;
use tests::net::router::{
    Net, RawHost, Router, gateway_mac, gateway_v4, gateway_v6, mac_text, net, tool, v4, v6, wait_gateway,
};
use tests::net::traffic::{Stream, ping, wait_reachable};
use tests::net::{Container, Lab, Link, Switchd, report, slowness, stretched};

/// True for an ARP request for `target`.
fn asks_v4(frame: &[u8], target: IpAddr) -> bool {
    let IpAddr::V4(target) = target else { return false };
    frame[12..14] == [8, 6] && frame[20..22] == [0, 1] && frame[38..42] == target.octets()
}

/// True for a neighbour solicitation for `target`.
fn asks_v6(frame: &[u8], target: IpAddr) -> bool {
    let IpAddr::V6(target) = target else { return false };
    icmp_of(frame).is_some_and(|message| message.kind == (135, 0) && message.body.starts_with(&target.octets()))
}

fn asks(frame: &[u8], target: IpAddr) -> bool {
    asks_v4(frame, target) || asks_v6(frame, target)
}

fn forget_neighbours(container: &Container) {
    container.space().ip("neigh flush dev eth0");
}

/// Whether arping finds somebody who has an address, in the way of a host that wants it for itself (RFC 5227).
fn has_owner(test: &str, from: &Container, address: IpAddr) -> Option<bool> {
    let done = tool(test, from, &format!("arping -D -q -I eth0 -c 1 -w 1 {address}"))?;
    assert!(matches!(done.code, 0 | 1), "arping -D {address}: {} {}", done.code, done.stderr);
    Some(done.code == 1)
}

/// In every kind of bridge: owned addresses are found, free ones are not.
#[test]
fn arping_finds_duplicates_and_none_of_a_free_address() {
    let test = "arping_finds_duplicates_and_none_of_a_free_address";
    let Some(mut lab) = Lab::new(test) else { return };
    let ends = [(1, "a0"), (1, "b0"), (2, "c0"), (2, "d0"), (3, "e0"), (3, "f0")];
    let hosts = ends.map(|(subnet, end)| lab.member(subnet, end, &Link::default()));
    let suppressing = Net { keys: "suppress = true", ..net("two", 2, &["c0", "d0"]) };
    let proxy = Net { keys: "proxy_arp = true", ..net("three", 3, &["e0", "f0"]) };
    let router = Router::start(&lab, &[net("one", 1, &["a0", "b0"]), suppressing, proxy], &[], "");
    hosts.iter().for_each(wait_gateway);
    std::thread::scope(|scope| {
        for pair in hosts.chunks(2) {
            scope.spawn(|| {
                let subnet = pair[0].subnet().expect("a member");
                let free = [v4(subnet, 77), v4(subnet, 78)];
                let found = [gateway_v4(subnet).into(), pair[1].v4(), free[0].into(), free[1].into()]
                    .map(|address| has_owner(test, &pair[0], address));
                let expected = [true, true, false, false].map(Some);
                assert!(found == expected || found == [None; 4], "subnet {subnet}: {found:?}, not {expected:?}");
            });
        }
    });
    router.stop();
}

#[test]
fn a_second_owner_of_the_gateway_raises_an_alarm() {
    let test = "a_second_owner_of_the_gateway_raises_an_alarm";
    let Some(mut lab) = Lab::new(test) else { return };
    let [a, b] = ["a0", "b0"].map(|end| lab.member(1, end, &Link::default()));
    let router = Router::start(&lab, &[net("one", 1, &["a0", "b0"])], &[], "");
    [&a, &b].into_iter().for_each(wait_gateway);
    let alarm = |address: IpAddr| {
        let log = router.switch().log();
        let (address, mac) = (address.to_string(), b.mac_text());
        log.lines().any(|line| line.contains("WARN") && line.contains(&address) && line.contains(&mac))
    };
    assert!(!router.switch().log().contains("WARN"), "no alarm without a reason:\n{}", router.switch().log());
    // The container asks whether its new address is taken, as hosts do: it is defended.
    b.space().sysctl("ipv6/conf/all/accept_dad", "1");
    b.space().sysctl("ipv6/conf/eth0/accept_dad", "1");
    b.space().ip(&format!("address add {}/64 dev eth0", gateway_v6(1)));
    wait_for("the container finds the duplicate", Duration::from_secs(10), || {
        b.space().ip("-6 address show dev eth0").contains("dadfailed").then_some(())
    });
    // It does not ask for that of IPv4: it says that it has it.
    b.space().ip(&format!("address add {}/32 dev eth0", gateway_v4(1)));
    let announced = format!("arping -U -q -I eth0 -c 1 -w 2 -s {0} {0}", gateway_v4(1));
    if tool(test, &b, &announced).is_some() {
        wait_for("an alarm of IPv4", Duration::from_secs(5), || alarm(gateway_v4(1).into()).then_some(()));
        // Hosts that believed it are told the truth.
        wait_for("the gateway is the router again", Duration::from_secs(10), || {
            let entry = a.space().ip(&format!("neigh show {}", gateway_v4(1)));
            (entry.contains(&mac_text(gateway_mac(1))) && ping(&a, gateway_v4(1).into(), 56, 1) == 1).then_some(())
        });
    }
    router.stop();
}

/// Who of two has the address last heard of gets its packets.
#[test]
fn a_gratuitous_arp_moves_a_host() {
    let Some(mut lab) = Lab::new("a_gratuitous_arp_moves_a_host") else { return };
    let ends = [(1, "x0"), (1, "y0"), (2, "z0")].map(|(subnet, end)| lab.member(subnet, end, &Link::quiet()));
    let router = Router::start(&lab, &[net("one", 1, &["x0", "y0"]), net("two", 2, &["z0"])], &[], "");
    let [mut x, mut y, mut z] = ends.each_ref().map(RawHost::new);
    let (moving, moving_v6) = (v4(1, 77), v6(1, 77));
    [&mut x, &mut y, &mut z].into_iter().for_each(RawHost::introduce);
    for host in [&mut x, &mut y] {
        host.v4 = moving;
        host.v6 = moving_v6;
    }
    x.introduce();
    let arrives = |z: &RawHost, host: &mut RawHost, mark: &[u8]| {
        for target in [IpAddr::from(moving), moving_v6.into()] {
            z.send(&packets::udp(&z.ends(target), (1, 2), mark));
            let (mac, got) = (host.mac, host.expect("a packet for the moving host", |frame| frame.ends_with(mark)));
            assert_eq!(got[..6], mac, "{target}");
        }
    };
    arrives(&z, &mut x, b"before the move");
    // It appears behind the other port, with another MAC address.
    y.send(&arp([0xff; 6], 1, (y.mac, moving), ([0; 6], moving)));
    let group = ([0x33, 0x33, 0, 0, 0, 1], "ff02::1".parse::<Ipv6Addr>().expect("an address"));
    let mut tells = packets::advertisement(group, (y.mac, moving_v6));
    // Not solicited: the flag goes (RFC 4861 7.2.6), and with it a bit of the checksum's sum.
    tells[IP + 44] = 0x20;
    let sum = u16::from_be_bytes([tells[IP + 42], tells[IP + 43]]);
    tells[IP + 42..IP + 44].copy_from_slice(&(sum + 0x4000).to_be_bytes());
    y.send(&tells);
    // Both are taken in before this is answered.
    y.send(&packets::echo_request(&y.ends(gateway_v4(1).into()), 1, 1, b""));
    y.expect("an echo", |frame| icmp_of(frame).is_some_and(|message| message.kind == (0, 0)));
    x.drain(Duration::from_millis(20));
    arrives(&z, &mut y, b"after the move");
    assert_eq!(x.find(Duration::from_millis(20), |frame| frame.ends_with(b"after the move")), None);
    router.stop();
}

#[test]
fn questions_for_known_neighbours_are_not_flooded_where_suppressed() {
    let Some(mut lab) = Lab::new("questions_for_known_neighbours_are_not_flooded_where_suppressed") else { return };
    let ends = [(1, "a0"), (1, "b0"), (1, "c0"), (2, "d0"), (2, "e0"), (2, "f0")];
    let hosts = ends.map(|(subnet, end)| lab.member(subnet, end, &Link::default()));
    let suppressing = Net { keys: "suppress = true", ..net("two", 2, &["d0", "e0", "f0"]) };
    let router = Router::start(&lab, &[net("one", 1, &["a0", "b0", "c0"]), suppressing], &[], "");
    hosts.iter().for_each(wait_gateway);
    for (trio, heard) in hosts.chunks(3).zip([true, false]) {
        let [asker, known, third] = trio else { unreachable!("three of each subnet") };
        for target in [known.v4(), known.v6()] {
            forget_neighbours(asker);
            let capture = Capture::start(third);
            wait_reachable(asker, target);
            // A question for nobody known is asked of everybody.
            let nobody = if target.is_ipv4() { v4(2, 99).into() } else { IpAddr::from(v6(2, 99)) };
            if !heard {
                ping(asker, nobody, 56, 1);
            }
            let frames = capture.stop();
            let saw = |address| frames.iter().any(|frame| asks(frame, address));
            assert_eq!(saw(target), heard, "whether a third host hears the question for {target}");
            assert!(heard || saw(nobody), "the question for {nobody}");
        }
    }
    router.stop();
}

/// A host that believes the whole of 10/8 is on its link.
#[test]
fn a_proxy_answers_for_other_subnets_only() {
    let test = "a_proxy_answers_for_other_subnets_only";
    let Some(mut lab) = Lab::new(test) else { return };
    let ends = [(1, "a0"), (1, "b0"), (2, "c0"), (3, "d0")];
    let hosts = ends.map(|(subnet, end)| lab.member(subnet, end, &Link::default()));
    let [a, b, c, d] = &hosts;
    for believer in [a, d] {
        believer.space().ip_batch(&format!(
            "route del default via {}\nroute add 10.0.0.0/8 dev eth0\n",
            gateway_v4(believer.subnet().expect("a member"))
        ));
    }
    let proxy = Net { keys: "proxy_arp = true", ..net("one", 1, &["a0", "b0"]) };
    let router = Router::start(&lab, &[proxy, net("two", 2, &["c0"]), net("three", 3, &["d0"])], &[], "");
    [b, c].into_iter().for_each(wait_gateway);
    wait_reachable(a, c.v4());
    assert_eq!(ping(a, c.v4(), 56, 3), 3);
    let entry = a.space().ip(&format!("neigh show {}", c.v4()));
    assert!(entry.contains(&mac_text(gateway_mac(1))), "{entry}");
    // On the own subnet the owner answers, and nobody for nobody; without a route nobody does, either.
    wait_reachable(a, b.v4());
    let entry = a.space().ip(&format!("neigh show {}", b.v4()));
    assert!(entry.contains(&b.mac_text()), "{entry}");
    for (from, target) in [(a, v4(1, 77)), (a, v4(200, 1)), (d, v4(2, 3))] {
        let Some(done) = tool(test, from, &format!("arping -q -I eth0 -c 1 -w 1 {target}")) else { continue };
        assert_eq!(done.code, 1, "nobody answers for {target}");
    }
    router.stop();
}

/// What the switch knows of a neighbour.
fn state(switch: &Switchd, address: IpAddr) -> Option<NeighState> {
    switch.neighbours().into_iter().find(|entry| entry.address == address).map(|entry| entry.state)
}

/// Waits for a state, through those that may come before it.
fn wait_state(switch: &Switchd, address: IpAddr, wanted: NeighState, before: &[NeighState]) {
    let what = format!("{address} is {wanted:?}");
    wait_for(&what, Duration::from_secs(15), || {
        let now = state(switch, address)?;
        assert!(now == wanted || before.contains(&now), "{address} is {now:?} on the way to {wanted:?}");
        (now == wanted).then_some(())
    });
}

#[test]
fn neighbours_go_through_their_states() {
    let Some(mut lab) = Lab::new("neighbours_go_through_their_states") else { return };
    let a = lab.member(1, "a0", &Link::default());
    let quiet = lab.member(2, "q0", &Link::quiet());
    let router = Router::start(&lab, &[net("one", 1, &["a0"]), net("two", 2, &["q0"])], &[], "");
    let switch = router.switch();
    wait_gateway(&a);
    let mut host = RawHost::new(&quiet);
    host.introduce();
    // Who speaks of himself is known, but nobody knows whether he can hear.
    let silent = [IpAddr::from(host.v4), host.v6.into()];
    silent.iter().for_each(|address| assert_eq!(state(switch, *address), Some(NeighState::Stale), "{address}"));
    let nobody = [IpAddr::from(v4(2, 99)), v6(2, 99).into()];
    std::thread::scope(|scope| {
        // The silent host is used, asked directly, then given up; nobody is asked for.
        for target in nobody.iter().chain(&silent) {
            scope.spawn(|| ping(&a, *target, 56, 1));
        }
    });
    silent.iter().for_each(|address| wait_state(switch, *address, NeighState::Delay, &[NeighState::Stale]));
    nobody.iter().for_each(|address| wait_state(switch, *address, NeighState::Failed, &[NeighState::Incomplete]));
    // Who answers is reachable: the switch pinged nobody, but its echoes had to find their way.
    for address in [a.v4(), a.v6()] {
        wait_reachable(&a, silent_gateway(&a, address));
        assert!(matches!(state(switch, address), Some(NeighState::Reachable | NeighState::Delay | NeighState::Stale)));
    }
    use NeighState::{Delay, Failed, Probe};
    silent.iter().for_each(|address| wait_state(switch, *address, Probe, &[Delay]));
    // Probes go to the one that is asked for alone.
    let probe = host.expect("a probe", |frame| frame[..6] == host_mac(&quiet) && asks_v4(frame, silent[0]));
    assert_eq!(probe[6..12], gateway_mac(2));
    silent.iter().for_each(|address| wait_state(switch, *address, Failed, &[Probe]));
    router.stop();
}

fn host_mac(container: &Container) -> [u8; 6] {
    container.mac()
}

fn silent_gateway(container: &Container, like: IpAddr) -> IpAddr {
    let subnet = container.subnet().expect("a member");
    if like.is_ipv4() { gateway_v4(subnet).into() } else { gateway_v6(subnet).into() }
}

/// A /16 and as much of a /64 behind the switch, all of it asked for by one host.
#[test]
fn a_scan_disturbs_nobody() {
    let Some(mut lab) = Lab::new("a_scan_disturbs_nobody") else { return };
    let [a, b] = [(1, "a0"), (2, "b0")].map(|(subnet, end)| lab.member(subnet, end, &Link::default()));
    let [scanner, scanned] = [(3, "s0"), (4, "t0")].map(|(subnet, end)| lab.member(subnet, end, &Link::quiet()));
    let wide = "[[bridge]]\nname = \"wide\"\ngateway = [\"172.16.0.1/16\", \"fd00:4::fe/64\"]\n\
                [[port]]\ninterface = \"t0\"\nbridge = \"wide\"\n";
    let nets = [net("one", 1, &["a0"]), net("two", 2, &["b0"]), net("three", 3, &["s0"])];
    let router = Router::start(&lab, &nets, &[], wide);
    let switch = router.switch();
    [&a, &b].into_iter().for_each(wait_gateway);
    wait_reachable(&a, b.v4());
    let mut host = RawHost::new(&scanner);
    host.introduce();
    let capture = Capture::start(&scanned);
    scan(&mut host, 2_000);
    let before = switch.process().resident_bytes();
    let stream = Stream::start(&a, &b, 1_000);
    let start = Instant::now();
    scan(&mut host, (1 << 16) / slowness());
    let took = start.elapsed();
    std::thread::sleep(stretched(Duration::from_millis(500)));
    let (sent, received) = stream.stop();
    let grown = switch.process().resident_bytes().saturating_sub(before);
    let known = switch.neighbours().len();
    let questions = capture.stop().iter().filter(|frame| !is_ip(frame) || icmp_of(frame).is_some()).count();
    report(&format!(
        "scan: 2 times 65536 addresses in {:.1} s, {questions} questions, {known} neighbours, {} KiB more",
        took.as_secs_f64(),
        grown >> 10
    ));
    assert_eq!((received.count, received.misordered), (sent, 0), "the known flow\n{}", switch.losses());
    assert!(questions > 100, "somebody is asked for");
    assert!(known <= 65_536 && grown < 48 << 20, "{known} neighbours, {grown} bytes more");
    // Others are found as before, also on the scanned link.
    assert_eq!(ping(&a, b.v6(), 56, 3), 3);
    let mut found = RawHost::new(&scanned);
    (found.v4, found.v6) = (Ipv4Addr::new(172, 16, 3, 3), v6(4, 3));
    found.send(&arp([0xff; 6], 1, (found.mac, found.v4), ([0; 6], Ipv4Addr::new(172, 16, 0, 1))));
    found.expect("an answer of the gateway", |frame| frame[12..14] == [8, 6] && frame[20..22] == [0, 2]);
    host.send(&packets::udp(&host.ends(found.v4.into()), (1, 2), b"there you are"));
    found.expect("a packet among the scanned", |frame| frame.ends_with(b"there you are"));
    router.stop();
}

/// Sends a datagram to each of `count` addresses of both versions, not faster than the link takes them.
fn scan(host: &mut RawHost, count: u32) {
    for number in 0..count {
        let [_, _, c, d] = number.to_be_bytes();
        let last = number as u16;
        for target in [IpAddr::from([172, 16, c, d]), Ipv6Addr::new(0xfd00, 4, 0, 0, 0, 0, 0x77, last).into()] {
            host.send(&packets::udp(&host.ends(target), (1, 2), b""));
        }
        if number % 32 == 31 {
            std::thread::sleep(Duration::from_micros(300));
            host.drain(Duration::ZERO);
        }
    }
}
