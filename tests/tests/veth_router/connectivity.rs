//! Who reaches whom: subnets, VRFs, routed ports, next hops of equal cost, VLANs of a trunk.

use std::net::IpAddr;
use std::time::Duration;

use ctl::protocol::PortState;
use tests::net::capture::{Capture, tshark_complaints};
use tests::net::packets::{self, IP};
use tests::net::process::wait_for;
use tests::net::router::{
    RawHost, Router, config, forward, gateway_mac, gateway_v4, gateway_v6, linux, net, v4, v6, wait_gateway,
};
use tests::net::traffic::{Stream, UdpEcho, ping, tcp_transfer, udp_round_trip, udp_to, wait_reachable};
use tests::net::{Container, Lab, Link, Namespace, Switchd, full, slowness, stretched};

/// Bytes of a TCP transfer.
fn transfer_bytes() -> u64 {
    if full() { 64 << 20 } else { (256 << 10) / u64::from(slowness()) }
}

/// Pings, datagrams and a TCP connection of both versions.
fn reaches(from: &Container, to: &Container) {
    let names = format!("{} to {}", from.host_end(), to.host_end());
    for (own, target) in [(from.v4(), to.v4()), (from.v6(), to.v6())] {
        wait_reachable(from, target);
        assert_eq!(ping(from, target, 1400, 2), 2, "pings, {names}, {target}");
        let echo = UdpEcho::start(to, target);
        let socket = udp_to(from, own, echo.address());
        for size in [0, 1, 1400, 20_000] {
            assert!(udp_round_trip(&socket, size, 1).is_some(), "UDP, {size} bytes, {names}, {target}");
        }
        let (sent, received) = tcp_transfer(from, to, target, transfer_bytes(), 1).expect("TCP gets through");
        assert_eq!(sent, received, "TCP, {names}, {target}");
    }
}

/// Neither pings nor datagrams of either version.
fn does_not_reach(from: &Container, to: &Container) {
    let names = format!("{} to {}", from.host_end(), to.host_end());
    std::thread::scope(|scope| {
        for (own, target) in [(from.v4(), to.v4()), (from.v6(), to.v6())] {
            let names = &names;
            scope.spawn(move || assert_eq!(ping(from, target, 56, 1), 0, "pings, {names}, {target}"));
            scope.spawn(move || {
                let echo = UdpEcho::start(to, target);
                let socket = udp_to(from, own, echo.address());
                assert!(udp_round_trip(&socket, 64, 1).is_none(), "UDP, {names}, {target}");
            });
        }
    });
}

fn assert_no_checksum_errors(containers: &[&Container]) {
    for container in containers {
        assert_eq!(container.space().checksum_errors(), 0, "wrong checksums behind {}", container.host_end());
    }
}

/// Hosts of three subnets, the first with two.
fn hosts(lab: &mut Lab, link: &Link) -> [Container; 4] {
    [(1, "a0"), (1, "b0"), (2, "c0"), (3, "d0")].map(|(subnet, end)| lab.member(subnet, end, link))
}

/// All pairs reach each other, and what arrives is sound.
fn all_reach_all(test: &str, lab: &Lab, hosts: &[Container; 4]) {
    reaches(&hosts[0], &hosts[2]);
    // Frames as the switch sent them, not as the containers merged them.
    hosts.iter().for_each(|host| drop(host.ethtool("-K eth0 gro off")));
    let captures: Vec<Capture> = hosts.iter().map(Capture::start).collect();
    for (index, from) in hosts.iter().enumerate() {
        hosts[index + 1..].iter().for_each(|to| reaches(from, to));
    }
    reaches(&hosts[3], &hosts[0]);
    for capture in captures {
        let frames = capture.stop();
        assert!(frames.len() > 50, "only {} frames captured", frames.len());
        if let Some(lines) = tshark_complaints(test, &frames, lab.files()) {
            assert!(lines.is_empty(), "tshark finds bad frames:\n{}", lines.join("\n"));
        }
    }
}

#[test]
fn the_kernels_router_connects_three_subnets() {
    let test = "the_kernels_router_connects_three_subnets";
    let Some(mut lab) = Lab::new(test) else { return };
    let link = Link { tx_off: true, ..Link::default() };
    let hosts = hosts(&mut lab, &link);
    linux(&lab, &[net("one", 1, &["a0", "b0"]), net("two", 2, &["c0"]), net("three", 3, &["d0"])]);
    reaches(&hosts[0], &hosts[2]);
    reaches(&hosts[3], &hosts[1]);
    // What does not get through is seen: without forwarding nothing does.
    lab.host().sysctl("ipv4/ip_forward", "0");
    lab.host().sysctl("ipv6/conf/all/forwarding", "0");
    does_not_reach(&hosts[0], &hosts[2]);
}

/// Three subnets in the default VRF; two of another VRF, one of which has the numbers of the first.
fn subnets_and_vrfs(test: &str, tx_off: bool) {
    let Some(mut lab) = Lab::new(test) else { return };
    let link = Link { tx_off, ..Link::default() };
    let hosts = hosts(&mut lab, &link);
    let [e, f] = [(1, "e0"), (4, "f0")].map(|(subnet, end)| lab.member(subnet, end, &link));
    let mut blue = [net("blue-one", 1, &["e0"]), net("blue-four", 4, &["f0"])];
    blue.iter_mut().for_each(|net| net.keys = "vrf = \"blue\"");
    let nets = [net("one", 1, &["a0", "b0"]), net("two", 2, &["c0"]), net("three", 3, &["d0"]), blue[0], blue[1]];
    let router = Router::start(&lab, &nets, &[], "");
    hosts.iter().chain([&e, &f]).for_each(wait_gateway);
    let watch = [Capture::start(&e), Capture::start(&f)];
    all_reach_all(test, &lab, &hosts);
    let [a, b, c, d] = &hosts;
    std::thread::scope(|scope| {
        let pairs = [(a, &f), (b, &e), (c, &e), (d, &f), (&f, c), (&e, a), (&e, d)];
        pairs.into_iter().for_each(|(from, to)| {
            scope.spawn(move || does_not_reach(from, to));
        });
    });
    for capture in watch {
        let strangers = hosts.each_ref().map(Container::mac);
        let leaked = capture.stop().into_iter().find(|frame| {
            let (source, text) = (frame[6..12].to_vec(), frame.as_slice());
            let ours = |host: &Container| holds_address(text, host.v4()) || holds_address(text, host.v6());
            strangers.iter().any(|mac| source == mac) || hosts.iter().any(ours)
        });
        // The VRF's hosts name those of the other one themselves; nothing comes from there.
        assert_eq!(leaked, None, "a frame of the default VRF");
    }
    reaches(&e, &f);
    assert_no_checksum_errors(&[a, b, c, d, &e, &f]);
    router.stop();
}

/// True if the frame's IP source is this address.
fn holds_address(frame: &[u8], address: IpAddr) -> bool {
    match (address, frame.get(12..14)) {
        (IpAddr::V4(address), Some([8, 0])) => frame.get(IP + 12..IP + 16) == Some(&address.octets()[..]),
        (IpAddr::V6(address), Some([0x86, 0xdd])) => frame.get(IP + 8..IP + 24) == Some(&address.octets()[..]),
        _ => false,
    }
}

#[test]
fn subnets_reach_each_other_and_vrfs_do_not_with_default_offloads() {
    subnets_and_vrfs("subnets_reach_each_other_and_vrfs_do_not_with_default_offloads", false);
}

#[test]
fn subnets_reach_each_other_and_vrfs_do_not_with_tx_off() {
    subnets_and_vrfs("subnets_reach_each_other_and_vrfs_do_not_with_tx_off", true);
}

/// A Linux router between the switch's routed port and a subnet of its own, numbered `subnet`, to which it is joined
/// by the cable `cable`.
fn linux_router(lab: &mut Lab, subnet: u8, end: &str, server: &Namespace, cable: &str) -> Container {
    let router = lab.member(subnet, end, &Link::default());
    forward(router.space());
    let (here, there) = (v4(subnet + 60, 1), v4(subnet + 60, 2));
    let (here_v6, there_v6) = (v6(subnet + 60, 1), v6(subnet + 60, 2));
    let name = server.name();
    router.space().ip_batch(&format!(
        "link add {cable} type veth peer name {cable} netns {name}\nlink set {cable} up\n\
         address add {here}/24 dev {cable}\naddress add {here_v6}/64 dev {cable} nodad\n\
         route add 10.50.0.0/16 via {there}\nroute add fd50::/32 via {there_v6}\n"
    ));
    server.ip_batch(&format!(
        "link set {cable} up\naddress add {there}/24 dev {cable}\naddress add {there_v6}/64 dev {cable} nodad\n\
         route append default via {here}\nroute append default via {here_v6} metric {subnet}\n"
    ));
    router
}

/// Packets that a Linux router has passed on, of both versions.
fn forwarded(router: &Container) -> [u64; 2] {
    [router.space().counter_v4("Ip", "ForwDatagrams"), router.space().counter_v6("Ip6OutForwDatagrams")]
}

/// A namespace behind two Linux routers, known as 10.50.0.1 and fd50::1.
fn server_behind(lab: &mut Lab) -> (Container, [Container; 2]) {
    let server = lab.unplugged("none");
    server.space().sysctl("ipv4/conf/all/rp_filter", "0");
    server.space().sysctl("ipv4/conf/default/rp_filter", "0");
    server.space().ip_batch("address add 10.50.0.1/32 dev lo\naddress add fd50::1/128 dev lo nodad\n");
    let routers = [(20, "up0", "x0"), (21, "up1", "x1")]
        .map(|(subnet, end, cable)| linux_router(lab, subnet, end, server.space(), cable));
    (server, routers)
}

/// Sends datagrams of 64 flows; panics where one is not answered.
fn many_flows(from: &Container, server: &Container, own: IpAddr, target: IpAddr) {
    let echo = UdpEcho::start(server, target);
    for flow in 0..64 {
        let socket = udp_to(from, own, echo.address());
        for seed in 0..2 {
            assert!(udp_round_trip(&socket, 100, seed).is_some(), "flow {flow} to {target}");
        }
    }
}

#[test]
fn routed_ports_lead_to_linux_routers_of_equal_cost() {
    let Some(mut lab) = Lab::new("routed_ports_lead_to_linux_routers_of_equal_cost") else { return };
    let a = lab.member(1, "a0", &Link::default());
    let (server, routers) = server_behind(&mut lab);
    let hops = |ip: fn(&Container) -> IpAddr| routers.each_ref().map(|router| format!("\"{}\"", ip(router))).join(", ");
    let mut rest = String::new();
    for router in &routers {
        let subnet = router.subnet().expect("a member");
        let (end, own) = (router.host_end(), format!("\"{}/24\", \"{}/64\"", gateway_v4(subnet), gateway_v6(subnet)));
        rest += &format!("[[port]]\ninterface = \"{end}\"\naddress = [{own}]\n");
    }
    rest += &format!("[[route]]\nto = \"10.50.0.0/16\"\nvia = [{}]\n", hops(Container::v4));
    rest += &format!("[[route]]\nto = \"fd50::/32\"\nvia = [{}]\n", hops(Container::v6));
    let router = Router::start(&lab, &[net("one", 1, &["a0"])], &[], &rest);
    ["up0", "up1"].iter().for_each(|end| drop(router.switch().wait_state(end, PortState::Up)));
    let targets: [(IpAddr, IpAddr); 2] = [(a.v4(), "10.50.0.1".parse().unwrap()), (a.v6(), "fd50::1".parse().unwrap())];
    targets.iter().for_each(|(_, target)| wait_reachable(&a, *target));
    for (version, (own, target)) in targets.into_iter().enumerate() {
        let before = routers.each_ref().map(|router| forwarded(router)[version]);
        many_flows(&a, &server, own, target);
        let shares = [0, 1].map(|index| forwarded(&routers[index])[version] - before[index]);
        // The server's answers take the first router: 128 packets on top of its share.
        assert!(shares[1] >= 128 / 8 && shares[0] + shares[1] >= 256, "{shares:?} of 128 there and 128 back");
        assert!(shares[0] >= 128 + 128 / 8, "{shares:?} of 128 there and 128 back");
        // A flow keeps its way: all of one flow's packets are the second router's, or none.
        let echo = UdpEcho::start(&server, target);
        let socket = udp_to(&a, own, echo.address());
        let before = forwarded(&routers[1])[version];
        (0..20).for_each(|seed| assert!(udp_round_trip(&socket, 100, seed).is_some()));
        let taken = forwarded(&routers[1])[version] - before;
        assert!(taken == 0 || taken >= 20, "a flow of 20 packets sent {taken} by one of two ways");
        let (sent, received) = tcp_transfer(&a, &server, target, transfer_bytes(), 3).expect("TCP gets through");
        assert_eq!(sent, received);
    }
    one_way_is_left(&a, &server, &routers, targets);
    assert_no_checksum_errors(&[&a, &server]);
    router.stop();
}

/// The second router goes: every flow takes the first one.
fn one_way_is_left(a: &Container, server: &Container, routers: &[Container; 2], targets: [(IpAddr, IpAddr); 2]) {
    routers[1].unplug();
    for (own, target) in targets {
        // A flow that goes there until the switch has seen it is lost.
        let echo = UdpEcho::start(server, target);
        let through = || (0..16).all(|seed| udp_round_trip(&udp_to(a, own, echo.address()), 10, seed).is_some());
        wait_for("16 flows in a row by the way that is left", Duration::from_secs(20), || through().then_some(()));
        many_flows(a, server, own, target);
    }
}

#[test]
fn a_stream_between_subnets_loses_nothing_and_keeps_its_order() {
    let Some(mut lab) = Lab::new("a_stream_between_subnets_loses_nothing_and_keeps_its_order") else { return };
    let [a, c] = [(1, "a0"), (2, "c0")].map(|(subnet, end)| lab.member(subnet, end, &Link::default()));
    let router = Router::start(&lab, &[net("one", 1, &["a0"]), net("two", 2, &["c0"])], &[], "");
    [&a, &c].into_iter().for_each(wait_gateway);
    wait_reachable(&a, c.v4());
    let stream = Stream::start(&a, &c, 2_000);
    std::thread::sleep(stretched(Duration::from_millis(700)));
    let (sent, received) = stream.stop();
    assert!(
        sent > 100 && received.count == sent && received.misordered == 0,
        "{sent} {received:?}\n{}",
        router.switch().losses()
    );
    router.stop();
}

/// Isolated ports of one subnet: no frame goes between them, but what they send to the gateway does.
#[test]
fn isolated_ports_reach_each_other_by_the_gateway_only() {
    let Some(mut lab) = Lab::new("isolated_ports_reach_each_other_by_the_gateway_only") else { return };
    let [a, b] = ["a0", "b0"].map(|end| lab.member(1, end, &Link::default()));
    let port = |end: &str| format!("[[port]]\ninterface = \"{end}\"\nbridge = \"one\"\nisolated = true\n");
    let router = Router::start(&lab, &[net("one", 1, &[])], &[], &(port("a0") + &port("b0")));
    ["a0", "b0"].iter().for_each(|end| drop(router.switch().wait_state(end, PortState::Up)));
    [&a, &b].into_iter().for_each(wait_gateway);
    does_not_reach(&a, &b);
    for (from, to) in [(&a, &b), (&b, &a)] {
        // Its kernel would believe a redirect.
        from.space().sysctl("ipv4/conf/all/accept_redirects", "1");
        from.space().sysctl("ipv4/conf/eth0/accept_redirects", "1");
        let (v4, v6) = (gateway_v4(1), gateway_v6(1));
        from.space().ip_batch(&format!("route add {} via {v4}\nroute add {} via {v6}\n", to.v4(), to.v6()));
    }
    reaches(&a, &b);
    reaches(&b, &a);
    router.stop();
}

/// A router on a stick: one port, two VLANs, and a third one on an access port.
#[test]
fn vlans_of_a_trunk_are_routed_between_one_another() {
    let Some(mut lab) = Lab::new("vlans_of_a_trunk_are_routed_between_one_another") else { return };
    let trunk = lab.member(1, "trunk0", &Link::quiet());
    let c = lab.member(3, "c0", &Link::quiet());
    let nets = [net("ten", 1, &[]), net("twenty", 2, &[]), net("three", 3, &["c0"])];
    let port = "[[port]]\ninterface = \"trunk0\"\ntrunk = { 10 = \"ten\", 20 = \"twenty\" }\n";
    let switch = Switchd::start(&lab, "", &format!("{}{port}", config(&nets)));
    ["trunk0", "c0"].iter().for_each(|end| drop(switch.wait_state(end, PortState::Up)));
    let mut hosts = [RawHost::tagged(&trunk, 1, 10, 10), RawHost::tagged(&trunk, 2, 20, 20), RawHost::new(&c)];
    hosts.iter_mut().for_each(RawHost::introduce);
    for (from, to) in [(0, 1), (1, 0), (0, 2), (2, 1)] {
        for target in [IpAddr::from(hosts[to].v4), hosts[to].v6.into()] {
            let sent = packets::udp(&hosts[from].ends(target), (1000, 2000), b"from VLAN to VLAN");
            hosts[from].send(&sent);
            let (router, mac) = (gateway_mac(hosts[to].subnet), hosts[to].mac);
            let got = hosts[to].expect("the packet", |frame| frame[6..12] == router && frame.ends_with(b"to VLAN"));
            assert_eq!(got, routed(sent, mac, router), "from {from} to {to}");
        }
    }
    // A tag that the trunk does not have leads nowhere, not even to the router.
    let mut stray = RawHost::tagged(&trunk, 1, 11, 30);
    let target = hosts[2].v4.into();
    stray.send(&packets::udp(&stray.ends(target), (1000, 2000), b"from nowhere"));
    let last = packets::udp(&hosts[0].ends(target), (1000, 2000), b"the last");
    hosts[0].send(&last);
    let got = hosts[2].expect("a packet", packets::is_ip);
    assert!(got.ends_with(b"the last"), "{got:02x?}");
    assert_eq!(stray.find(Duration::ZERO, |_| true), None);
    assert!(switch.stop().success());
}

/// What a router makes of a packet: MAC addresses, TTL, checksum.
fn routed(mut frame: Vec<u8>, to: [u8; 6], from: [u8; 6]) -> Vec<u8> {
    frame[..12].copy_from_slice(&[to, from].concat());
    let ttl = if frame[12..14] == [8, 0] { IP + 8 } else { IP + 7 };
    frame[ttl] -= 1;
    packets::seal(&mut frame);
    frame
}
