//! What tools see of the path: hops, path MTUs, fragments, segment sizes.

use std::net::IpAddr;

use tests::net::capture::Capture;
use tests::net::packets::{self, IP, TCP};
use tests::net::router::{
    Net, Route, Router, forward, gateway_v4, gateway_v6, net, route_get, tool, v4, v6, wait_gateway,
};
use tests::net::traffic::{UdpEcho, ping, tcp_transfer, udp_round_trip, udp_to, wait_reachable};
use tests::net::{Container, Lab, Link};

/// The words of each line that begins with a hop's number, as traceroute and mtr print them: the addresses of hops.
fn hops(text: &str) -> Vec<String> {
    let hop = |line: &str| {
        let mut words = line.split_whitespace();
        let number = words.next()?.trim_end_matches(".|--");
        number.parse::<u8>().ok()?;
        words.next().map(str::to_owned)
    };
    text.lines().filter_map(hop).collect()
}

/// A host, the switch, a Linux router, a server: and what of the path a tool sees from either end.
#[test]
fn tools_see_the_switch_and_a_linux_router_at_their_hops() {
    let test = "tools_see_the_switch_and_a_linux_router_at_their_hops";
    let Some(mut lab) = Lab::new(test) else { return };
    let [a, linux] = [(1, "a0"), (2, "up0")].map(|(subnet, end)| lab.member(subnet, end, &Link::default()));
    let server = lab.unplugged("none");
    forward(linux.space());
    let name = server.space().name();
    linux.space().ip_batch(&format!(
        "link add x type veth peer name eth0 netns {name}\nlink set x up\naddress add {}/24 dev x\n\
         address add {}/64 dev x nodad\n",
        v4(60, 1),
        v6(60, 1)
    ));
    server.space().ip_batch(&format!(
        "link set eth0 up\naddress add {}/24 dev eth0\naddress add {}/64 dev eth0 nodad\nroute add default via {}\n\
         route add default via {}\n",
        v4(60, 2),
        v6(60, 2),
        v4(60, 1),
        v6(60, 1)
    ));
    let routes = [
        Route { to: "10.60.0.0/24", via: linux.v4(), bridge: None },
        Route { to: "fd00:3c::/64", via: linux.v6(), bridge: None },
    ];
    let router = Router::start(&lab, &[net("one", 1, &["a0"]), net("two", 2, &["up0"])], &routes, "");
    [&a, &linux].into_iter().for_each(wait_gateway);
    let there: [(IpAddr, [IpAddr; 3]); 2] = [
        (v4(60, 2).into(), [gateway_v4(1).into(), linux.v4(), v4(60, 2).into()]),
        (v6(60, 2).into(), [gateway_v6(1).into(), linux.v6(), v6(60, 2).into()]),
    ];
    let back: [(IpAddr, [IpAddr; 3]); 2] = [
        (a.v4(), [v4(60, 1).into(), gateway_v4(2).into(), a.v4()]),
        (a.v6(), [v6(60, 1).into(), gateway_v6(2).into(), a.v6()]),
    ];
    for (from, target, path) in
        there.iter().map(|(to, path)| (&a, to, path)).chain(back.iter().map(|(to, path)| (&server, to, path)))
    {
        wait_reachable(from, *target);
        sees_path(test, from, *target, &path.map(|hop| hop.to_string()));
    }
    router.stop();
}

fn sees_path(test: &str, from: &Container, target: IpAddr, path: &[String]) {
    let version = if target.is_ipv4() { "-4" } else { "-6" };
    // Many probes at once would meet the limits of ICMP errors.
    for line in [
        format!("traceroute {version} -n -q 1 -N 1 -w 2 {target}"),
        format!("traceroute {version} -n -q 1 -N 1 -w 2 -I {target}"),
        format!("traceroute {version} -n -q 1 -N 1 -w 2 -T -p 9 {target}"),
        format!("mtr {version} -n --report --report-cycles 2 --interval 0.2 --gracetime 1 {target}"),
    ] {
        let Some(done) = tool(test, from, &line) else { continue };
        assert_eq!(hops(&done.stdout), path, "{line}:\n{}{}", done.stdout, done.stderr);
        assert!(!line.starts_with("mtr") || done.stdout.matches(" 0.0%").count() == 3, "{line}:\n{}", done.stdout);
    }
}

/// A host with the usual MTU and one each behind ports of 1400 and 1280.
fn narrow(lab: &mut Lab) -> ([Container; 3], Router) {
    let hosts = [(1, "a0", 1500), (2, "b0", 1400), (3, "c0", 1280)]
        .map(|(subnet, end, mtu)| lab.member(subnet, end, &Link { mtu, ..Link::default() }));
    let nets = [net("one", 1, &["a0"]), net("two", 2, &["b0"]), net("three", 3, &["c0"])];
    let router = Router::start(lab, &nets, &[], "");
    hosts.iter().for_each(wait_gateway);
    (hosts, router)
}

#[test]
fn a_sender_learns_the_path_mtu() {
    let Some(mut lab) = Lab::new("a_sender_learns_the_path_mtu") else { return };
    let ([a, b, c], router) = narrow(&mut lab);
    for (to, mtu) in [(&b, 1400), (&c, 1280)] {
        for (target, header) in [(to.v4(), 28), (to.v6(), 48)] {
            wait_reachable(&a, target);
            assert!(!route_get(&a, target).contains("mtu"), "nothing is known yet of {target}");
            // The first is refused by the router; the sender's own kernel refuses the next ones.
            assert_eq!(ping(&a, target, 1500 - header, 1), 0, "{target}");
            let learned = route_get(&a, target);
            assert!(learned.contains(&format!("mtu {mtu}")), "{target}: {learned}");
            assert_eq!(ping(&a, target, mtu - header, 2), 2, "what fits gets to {target}");
            assert_eq!(ping(&a, target, mtu - header + 1, 1), 0, "one byte more does not get to {target}");
        }
    }
    // What fits the link's own MTU but nothing else: the way back is as narrow.
    assert_eq!((ping(&b, a.v4(), 1372, 2), ping(&c, a.v6(), 1232, 2), ping(&b, c.v4(), 1252, 2)), (2, 2, 2));
    let (sent, received) = tcp_transfer(&a, &c, c.v6(), 1 << 20, 1).expect("TCP gets through");
    assert_eq!(sent, received);
    router.stop();
}

#[test]
fn tracepath_finds_the_path_mtu() {
    let test = "tracepath_finds_the_path_mtu";
    let Some(mut lab) = Lab::new(test) else { return };
    let ([a, b, c], router) = narrow(&mut lab);
    for (to, mtu) in [(&b, 1400), (&c, 1280)] {
        for (target, gateway) in [(to.v4(), gateway_v4(1).to_string()), (to.v6(), gateway_v6(1).to_string())] {
            let version = if target.is_ipv4() { "-4" } else { "-6" };
            let Some(done) = tool(test, &a, &format!("tracepath {version} -n -m 4 {target}")) else { continue };
            let (text, found) = (&done.stdout, format!("pmtu {mtu}"));
            assert!(text.contains(&found) && text.contains(&gateway) && text.contains("reached"), "{target}:\n{text}");
            assert!(text.contains("Resume: pmtu") && text.contains("hops 2"), "{target}:\n{text}");
        }
    }
    router.stop();
}

/// IPv4 packets of at least this many received bytes among frames: (longest, fragments).
fn shape(frames: &[Vec<u8>]) -> (usize, usize) {
    let packets: Vec<&Vec<u8>> = frames.iter().filter(|frame| frame[12..14] == [8, 0]).collect();
    let fragments = packets.iter().filter(|frame| frame[IP + 6] & 0x3f != 0 || frame[IP + 7] != 0).count();
    (packets.iter().filter_map(|frame| packets::ip_length(frame)).max().unwrap_or(0), fragments)
}

#[test]
fn packets_that_may_be_cut_arrive_through_a_narrow_port() {
    let Some(mut lab) = Lab::new("packets_that_may_be_cut_arrive_through_a_narrow_port") else { return };
    let wide = lab.mtu(9000);
    let hosts = [(1, "a0", 1500), (2, "j0", wide), (3, "n0", 1000)]
        .map(|(subnet, end, mtu)| lab.member(subnet, end, &Link { mtu, ..Link::default() }));
    let only_v4 = Net { ipv6: false, ..net("narrow", 3, &["n0"]) };
    let router = Router::start(&lab, &[net("one", 1, &["a0"]), net("two", 2, &["j0"]), only_v4], &[], "");
    let [a, jumbo, narrow] = &hosts;
    for from in [a, jumbo] {
        // Sockets of this namespace send without DF.
        from.space().sysctl("ipv4/ip_no_pmtu_disc", "1");
        wait_reachable(from, narrow.v4());
        let capture = Capture::start(narrow);
        let echo = UdpEcho::start(narrow, narrow.v4());
        let socket = udp_to(from, from.v4(), echo.address());
        // The first fits everywhere, the second is cut by the router alone or once more, the last to the full.
        for size in [900, 1400, 2900, 8000] {
            assert!(udp_round_trip(&socket, size, 7).is_some(), "{size} bytes from {}", from.host_end());
        }
        let (longest, fragments) = shape(&capture.stop());
        assert!(longest <= 1000 && longest > 980, "the longest packet has {longest} bytes");
        assert!(fragments >= 2 + 3 + 9, "only {fragments} fragments");
        assert_eq!(narrow.space().counter_v4("Ip", "ReasmFails"), 0);
    }
    router.stop();
}

#[test]
fn ports_of_1500_and_9000_bytes_live_in_one_switch() {
    let Some(mut lab) = Lab::new("ports_of_1500_and_9000_bytes_live_in_one_switch") else { return };
    let wide = lab.mtu(9000);
    let hosts = [(1, "a0", 1500), (2, "j0", wide), (3, "k0", wide)]
        .map(|(subnet, end, mtu)| lab.member(subnet, end, &Link { mtu, ..Link::default() }));
    let nets = [net("one", 1, &["a0"]), net("two", 2, &["j0"]), net("three", 3, &["k0"])];
    let router = Router::start(&lab, &nets, &[], "");
    hosts.iter().for_each(wait_gateway);
    let [a, j, k] = &hosts;
    for (target, header) in [(k.v4(), 28), (k.v6(), 48)] {
        assert_eq!(ping(j, target, wide as usize - header, 3), 3, "whole packets from {wide} to {wide} bytes");
    }
    for (from, to) in [(j, a), (a, j), (j, k)] {
        for target in [to.v4(), to.v6()] {
            let (sent, received) = tcp_transfer(from, to, target, 4 << 20, 1).expect("TCP gets through");
            assert_eq!(sent, received, "{} to {target}", from.host_end());
        }
    }
    assert!(route_get(j, a.v4()).contains(&format!("via {}", gateway_v4(2))));
    assert_eq!((ping(j, a.v4(), 1473, 1), ping(j, a.v4(), 1472, 1)), (0, 1));
    router.stop();
}

/// The maximum segment sizes in the SYN segments among frames.
fn segment_sizes(frames: &[Vec<u8>]) -> Vec<u16> {
    let size = |frame: &Vec<u8>| {
        let header = match frame.get(12..14)? {
            [8, 0] if frame.get(IP + 9) == Some(&TCP) => IP + 20,
            [0x86, 0xdd] if frame.get(IP + 6) == Some(&TCP) => IP + 40,
            _ => return None,
        };
        let syn = frame.get(header + 13)? & 2 != 0;
        let option = frame.get(header + 20..header + 24)?;
        (syn && option.starts_with(&[2, 4])).then(|| u16::from_be_bytes([option[2], option[3]]))
    };
    frames.iter().filter_map(size).collect()
}

#[test]
fn segment_sizes_are_clamped_where_the_bridge_asks_for_it() {
    let Some(mut lab) = Lab::new("segment_sizes_are_clamped_where_the_bridge_asks_for_it") else { return };
    let link = Link { mtu: 1500, ..Link::default() };
    let hosts = [(1, "a0"), (2, "b0"), (3, "c0")].map(|(subnet, end)| lab.member(subnet, end, &link));
    let clamped = Net { keys: "mtu = 1400\nclamp_mss = true", ..net("two", 2, &["b0"]) };
    let unclamped = Net { keys: "mtu = 1400", ..net("three", 3, &["c0"]) };
    let router = Router::start(&lab, &[net("one", 1, &["a0"]), clamped, unclamped], &[], "");
    hosts.iter().for_each(wait_gateway);
    let [a, b, c] = &hosts;
    for (to, v4, v6) in [(b, 1360, 1340), (c, 1460, 1440)] {
        for (target, expected) in [(to.v4(), v4), (to.v6(), v6)] {
            let captures = [Capture::start(to), Capture::start(a)];
            let (sent, received) = tcp_transfer(a, to, target, 1 << 20, 1).expect("TCP gets through");
            assert_eq!(sent, received, "{target}");
            let [there, back] = captures.map(|capture| segment_sizes(&capture.stop()));
            assert_eq!((&there[..], &back[..]), (&[expected][..], &[expected][..]), "SYN and SYN+ACK, {target}");
        }
    }
    assert_eq!([a, b, c].map(|container| container.space().checksum_errors()), [0; 3]);
    router.stop();
}
