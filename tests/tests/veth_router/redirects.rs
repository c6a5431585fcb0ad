//! Redirects (RFC 792, RFC 4861 section 8): believed by the sender's kernel where they should come, and nowhere else.

use std::net::IpAddr;
use std::time::Duration;

use tests::net::capture::Capture;
use tests::net::packets::{icmp_of, is_ip};
use tests::net::process::wait_for;
use tests::net::router::{Net, Route, Router, forward, gateway_mac, gateway_v4, net, route_get, wait_gateway};
use tests::net::traffic::{ping, wait_reachable};
use tests::net::{Container, Lab, Link};

/// Lets the container's kernel believe redirects from its default routers. The one of IPv6 must be known by its
/// link-local address for that (RFC 4861 section 8.1).
fn believes(container: &Container) {
    for (key, value) in [
        ("ipv4/conf/all/accept_redirects", "1"),
        ("ipv4/conf/eth0/accept_redirects", "1"),
        ("ipv4/conf/all/secure_redirects", "1"),
        ("ipv4/conf/eth0/secure_redirects", "1"),
        ("ipv6/conf/eth0/accept_redirects", "1"),
    ] {
        container.space().sysctl(key, value);
    }
    let router = router_of(container, container.v6());
    container.space().ip(&format!("-6 route replace default via {router} dev eth0"));
}

/// The link-local address that goes with a MAC address (RFC 4291 appendix A).
fn link_local(mac: [u8; 6]) -> IpAddr {
    let [a, b, c, d, e, f] = mac.map(u16::from);
    let groups = [0xfe80, 0, 0, 0, (a ^ 2) << 8 | b, c << 8 | 0xff, 0xfe00 | d, e << 8 | f];
    IpAddr::V6(groups.into())
}

/// The router as a container knows it: by its address of the version of `target`, link-local for IPv6.
fn router_of(container: &Container, target: IpAddr) -> IpAddr {
    let subnet = container.subnet().expect("a member");
    if target.is_ipv4() { gateway_v4(subnet).into() } else { link_local(gateway_mac(subnet)) }
}

/// Types and codes of the redirects among frames.
fn redirects(frames: &[Vec<u8>]) -> Vec<(u8, u8)> {
    let messages = frames.iter().filter(|frame| is_ip(frame)).filter_map(|frame| icmp_of(frame));
    messages.map(|message| message.kind).filter(|kind| matches!(kind.0, 5 | 137)).collect()
}

/// Two hosts and a Linux router on subnet 1, a host on subnet 2 and one on subnet 3 whose bridge tells of nothing.
struct Site {
    a: Container,
    b: Container,
    linux: Container,
    others: [Container; 3],
    router: Router,
}

fn site(lab: &mut Lab) -> Site {
    let [a, b, linux, c, d, e] = [(1, "a0"), (1, "b0"), (1, "r0"), (2, "c0"), (3, "d0"), (3, "e0")]
        .map(|(subnet, end)| lab.member(subnet, end, &Link::default()));
    [&a, &b, &c, &d].into_iter().for_each(believes);
    for router in [&linux, &e] {
        forward(router.space());
        router.space().ip_batch("address add 10.70.0.1/32 dev lo\naddress add fd70::1/128 dev lo nodad\n");
        router.space().ip_batch("address add 10.71.0.1/32 dev lo\naddress add fd71::1/128 dev lo nodad\n");
    }
    let routes = [
        Route { to: "10.70.0.0/16", via: linux.v4(), bridge: None },
        Route { to: "fd70::/32", via: link_local(linux.mac()), bridge: Some("one") },
        // A next hop by its global address must not be named in a redirect (RFC 4861 section 8.2).
        Route { to: "fd71::/32", via: linux.v6(), bridge: None },
        Route { to: "10.71.0.0/16", via: e.v4(), bridge: None },
    ];
    let silent = Net { keys: "redirects = false", ..net("three", 3, &["d0", "e0"]) };
    let nets = [net("one", 1, &["a0", "b0", "r0"]), net("two", 2, &["c0"]), silent];
    let router = Router::start(lab, &nets, &routes, "");
    [&a, &b, &linux, &c, &d, &e].into_iter().for_each(wait_gateway);
    Site { a, b, linux, others: [c, d, e], router }
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[test]
fn a_sender_is_told_of_a_better_router_on_its_own_subnet() {
    let Some(mut lab) = Lab::new("a_sender_is_told_of_a_better_router_on_its_own_subnet") else { return };
    let Site { a, b, linux, router, others: _others } = site(&mut lab);
    let capture = Capture::start(&a);
    for (target, via) in [(address("10.70.0.1"), linux.v4()), (address("fd70::1"), link_local(linux.mac()))] {
        let route = wait_route(&a, target, |route| route.contains(&format!("via {via} ")));
        assert!(target.is_ipv6() || route.contains("redirected"), "{target}: {route}");
        // The other host of the subnet has asked for nothing.
        assert!(!route_get(&b, target).contains(&via.to_string()), "{target}");
    }
    // The destination itself is on the subnet: it is its own better router.
    for (target, length) in [(b.v4(), 32), (b.v6(), 128)] {
        let gateway = router_of(&a, target);
        a.space().ip(&format!("route add {target}/{length} via {gateway} dev eth0"));
        wait_route(&a, target, |route| !route.contains(&format!("via {gateway} ")));
    }
    let frames = capture.stop();
    let told = redirects(&frames);
    assert!(told.contains(&(5, 1)) && told.contains(&(137, 0)) && told.len() <= 16, "{told:?}");
    let from_router = |frame: &&Vec<u8>| icmp_of(frame).is_some_and(|message| matches!(message.kind.0, 5 | 137));
    assert!(frames.iter().filter(from_router).all(|frame| frame[6..12] == gateway_mac(1)), "the router's own frames");
    router.stop();
}

/// Pings until the route to `target` is the wanted one. The kernel asks for a new router first, when it hears of it,
/// and believes only the next redirect.
fn wait_route(from: &Container, target: IpAddr, wanted: impl Fn(&str) -> bool) -> String {
    wait_for(&format!("a redirect for {target}"), Duration::from_secs(10), || {
        // The first ones may meet a neighbour that is still being asked for.
        ping(from, target, 56, 2);
        Some(route_get(from, target)).filter(|route| wanted(route))
    })
}

#[test]
fn nobody_else_is_redirected() {
    let Some(mut lab) = Lab::new("nobody_else_is_redirected") else { return };
    let Site { a, others: [c, d, _e], router, b: _b, linux: _linux } = site(&mut lab);
    let captures = [&a, &c, &d].map(Capture::start);
    // From another subnet; to a next hop without a link-local address; on a bridge that tells of nothing.
    for (from, target) in [
        (&c, "10.70.0.1"),
        (&c, "fd70::1"),
        (&c, "fd71::1"),
        (&a, "fd71::1"),
        (&d, "10.71.0.1"),
        (&d, "10.70.0.1"),
        (&a, "10.71.0.1"),
    ] {
        let target = address(target);
        wait_reachable(from, target);
        assert_eq!(ping(from, target, 56, 2), 2, "{target}");
        let route = route_get(from, target);
        assert!(route.contains(&format!("via {} ", router_of(from, target))), "{target}: {route}");
        assert!(!route.contains("redirected"), "{target}: {route}");
    }
    for capture in captures {
        assert_eq!(redirects(&capture.stop()), []);
    }
    router.stop();
}
