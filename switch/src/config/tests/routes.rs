//! The router's configuration: what is read, and every refusal with its exact line.

use super::*;
use crate::limits::{GROUP_MEMBERS_MAX, VRFS_MAX};

const ROUTER: &str = include_str!("../../../../configs/router.toml");

/// What stands before each text of [`BRIDGE`].
const BEFORE_BRIDGE: &str = "[[bridge]]\nname = \"pods\"\n";

/// What stands before each text of [`PORT`].
const BEFORE_PORT: &str = "[[bridge]]\nname = \"pods\"\ngateway = [\"10.244.1.1/24\"]\n[[port]]\ninterface = \"up0\"\n";

/// What stands before each text of [`ROUTE`].
const BEFORE_ROUTE: &str = "[[bridge]]\nname = \"pods\"\ngateway = [\"10.244.1.1/24\", \"fd00::1/64\"]\n\
    [[bridge]]\nname = \"blue\"\ngateway = [\"10.1.0.1/24\"]\nvrf = \"tenant\"\n\
    [[port]]\ninterface = \"up0\"\naddress = [\"192.168.0.1/30\"]\n[[route]]\n";

fn refused(before: &str, table: &[(&str, &str)]) {
    for (text, lines) in table {
        let errors = Config::parse("t.toml", &format!("{before}{text}"), &[0]).expect_err(text);
        let expected: Vec<String> = lines.lines().map(|line| format!("t.toml:{line}")).collect();
        assert_eq!(errors.to_string(), expected.join("\n"), "{text}");
    }
}

#[test]
fn gateways_and_routed_ports_are_refused_with_a_mend() {
    refused(BEFORE_BRIDGE, BRIDGE);
    refused(BEFORE_PORT, PORT);
}

#[test]
fn routes_are_refused_with_a_mend() {
    refused(BEFORE_ROUTE, ROUTE);
}

#[test]
fn every_key_of_the_router_is_read() {
    let config = parse(ROUTER);
    let services = config.bridge("services").unwrap();
    let mac = "02:00:5e:00:00:01".parse().ok();
    let router = BridgeRouter { gateway_mac: mac, mtu: Some(1400), clamp_mss: true, ..BridgeRouter::default() };
    assert_eq!((&services.router, services.vrf.as_str()), (&router, "default"));
    let tenant = config.bridge("tenant").unwrap();
    assert!(tenant.router.proxy_arp && tenant.router.suppress && tenant.router.redirects && tenant.vrf == "blue");
    assert!(!config.bridge("pods").unwrap().router.redirects);
    let names: Vec<(&str, &str)> = config.interfaces().map(|interface| (interface.name, interface.vrf)).collect();
    let expected = [("pods", "default"), ("services", "default"), ("tenant", "blue"), ("uplink0", "default")];
    assert_eq!(names[..4], expected);
    let hop = |to: &str, weight| Via { to: to.parse().unwrap(), weight };
    assert_eq!(config.routes[0].via, [hop("192.168.0.2", 3), hop("192.168.0.6", 1)]);
    assert_eq!(config.routes[1].interface.as_deref(), Some("uplink0"));
    assert_eq!((config.routes[3].kind, config.routes[4].kind), (RouteKind::Unreachable, RouteKind::Blackhole));
    assert_eq!((config.routes[5].vrf(), config.routes[4].vrf()), ("blue", "default"));
    let host = parse("[[route]]\nto = \"10.1.2.3\"\ntype = \"prohibit\"\nvrf = \"default\"");
    assert_eq!(host.routes[0].to.to_string(), "10.1.2.3/32", "an address alone is a host route");
    assert_eq!(host.routes[0].vrf, None);
}

#[test]
fn a_reload_names_the_routes_that_differ() {
    let running = parse(ROUTER);
    assert!(Config::parse_reload("t", ROUTER, &running).unwrap().1.is_empty());
    let text = ROUTER.replace("10.244.1.9", "10.244.1.8").replace("\"172.16.0.0/12\"", "\"172.20.0.0/14\"");
    let (config, diff) = Config::parse_reload("t", &text, &running).unwrap();
    let to = |routes: &[RouteConfig]| routes.iter().map(|route| route.to.to_string()).collect::<Vec<_>>();
    assert_eq!(to(&diff.routes_added), ["10.9.0.0/16", "172.20.0.0/14"]);
    assert_eq!(to(&diff.routes_removed), ["10.9.0.0/16", "172.16.0.0/12"]);
    let twice = ROUTER.replace("[\"192.168.0.5/30\"]", "[\"192.168.0.5/29\", \"192.168.0.4/29\"]");
    assert!(Config::parse_reload("t", &twice, &running).is_err(), "it covers uplink0");
    assert!(
        diff.ports_changed.is_empty() && diff.bridges_changed.is_empty() && config.routes.len() == running.routes.len()
    );
    let text = ROUTER.replace("192.168.0.1/30", "192.168.1.1/30");
    let errors = Config::parse_reload("t", &text, &running).unwrap_err().to_string();
    assert!(errors.contains("next hop 192.168.0.2 is on no connected subnet"), "{errors}");
}

#[test]
fn there_are_so_many_vrfs_and_next_hops() {
    let bridges = |count: usize| -> String {
        let bridge = |n: usize| format!("[[bridge]]\nname = \"b{n}\"\ngateway = [\"10.0.0.1/8\"]\nvrf = \"v{n}\"\n");
        (1..count).map(bridge).collect()
    };
    assert!(Config::parse("t", &bridges(VRFS_MAX), &[]).is_ok());
    assert_eq!(
        Config::parse("t", &bridges(VRFS_MAX + 1), &[]).unwrap_err().to_string(),
        "t:256:1: bridge \"b64\": VRF \"v64\" is one too many; a switch has at most 64, the default one included"
    );
    let hops = |count: usize| {
        let hops: Vec<String> = (0..count).map(|n| format!("\"10.0.1.{n}\"")).collect();
        let bridge = "[[bridge]]\nname = \"pods\"\ngateway = [\"10.0.0.1/8\"]\n";
        format!("{bridge}[[route]]\nto = \"0.0.0.0/0\"\nvia = [{}]", hops.join(", "))
    };
    assert!(Config::parse("t", &hops(GROUP_MEMBERS_MAX), &[]).is_ok());
    assert_eq!(
        Config::parse("t", &hops(GROUP_MEMBERS_MAX + 1), &[]).unwrap_err().to_string(),
        "t:6:1: route \"0.0.0.0/0\": \"via\" names 65 next hops; name at most 64"
    );
}

#[test]
fn routed_ports_come_at_run_time() {
    let mut config = parse(ROUTER);
    let port =
        |name: &str, address: &str| PortConfig { address: vec![address.parse().unwrap()], ..PortConfig::new(name) };
    let refused = |port: &PortConfig| config.check_new_port(port).unwrap_err().to_string();
    assert_eq!(
        refused(&port("up2", "192.168.0.9/28")),
        "port \"up2\": \"address\" has 192.168.0.9/28, whose subnet overlaps that of 192.168.0.1/30 of interface \
            \"uplink0\"; give each interface of a VRF a subnet of its own"
    );
    assert!(refused(&port("up2", "10.3.0.0/16")).contains("the network address of its subnet"));
    assert!(refused(&port("pods", "10.3.0.1/16")).contains("a bridge has the same name"));
    let both = PortConfig { bridge: Some("pods".to_string()), ..port("up2", "10.3.0.1/16") };
    assert!(refused(&both).contains("is routed (\"address\") and in a bridge"));
    config.add_port(port("up2", "10.3.0.1/16")).unwrap();
    assert_eq!(config.remove_port("up2").unwrap().0.address.len(), 1);
}

/// Bridges, from line 3 on.
const BRIDGE: &[(&str, &str)] = &[
    (
        "suppress = true",
        "3:1: bridge \"pods\": \"suppress\" is set, but the bridge has no gateway; add gateway = [\"10.244.1.1/24\"], \
            or leave it out",
    ),
    (
        "gateway = [\"10.244.1.1/24\"]\ngateway_mac = \"01:00:00:00:00:01\"",
        "4:1: bridge \"pods\": \"gateway_mac\" is a multicast address; write the address of one station, or leave it \
            out and have one derived",
    ),
    (
        "gateway = [\"10.244.1.1/24\"]\ngateway_mac = \"x\"",
        "4:1: bridge \"pods\": \"gateway_mac\" is \"x\"; write six hex octets, like \"02:42:ac:11:00:02\"",
    ),
    (
        "gateway = [\"10.244.1.1/24\"]\nmtu = 500",
        "4:1: bridge \"pods\": \"mtu\" is 500; write a number from 576 to 65535",
    ),
    (
        "gateway = [\"fd00::1/64\"]\nmtu = 1000",
        "4:1: bridge \"pods\": \"mtu\" is 1000, too little for IPv6; write 1280 or more, or take the IPv6 address away",
    ),
    (
        "gateway = [\"10.244.1.1/24\"]\ngateway_mac = \"02:00:00:00:00:01\"\n[[port]]\ninterface = \"a\"\n\
            bridge = \"pods\"\n[[fdb]]\nmac = \"02:00:00:00:00:01\"\nbridge = \"pods\"\nport = \"a\"",
        "9:1: static entry \"02:00:00:00:00:01\": \"mac\" is the gateway's MAC address on bridge \"pods\"; choose \
            another, or another gateway_mac",
    ),
];

/// Ports, from line 6 on.
const PORT: &[(&str, &str)] = &[
    (
        "address = [\"192.168.0.1/30\"]\nbridge = \"pods\"",
        "6:1: port \"up0\": is routed (\"address\") and in a bridge; leave \"address\" out, or \"bridge\" and \"trunk\"",
    ),
    (
        "bridge = \"pods\"\nvrf = \"blue\"",
        "7:1: port \"up0\": \"vrf\" is set, but the port is not routed; add address = [\"192.168.0.1/30\"], or leave \
            \"vrf\" out",
    ),
    (
        "address = [\"10.244.1.9/30\"]",
        "6:1: port \"up0\": \"address\" has 10.244.1.9/30, whose subnet overlaps that of 10.244.1.1/24 of interface \
            \"pods\" (line 1); give each interface of a VRF a subnet of its own",
    ),
    (
        "address = [\"::ffff:10.9.0.1/120\"]",
        "6:1: port \"up0\": \"address\" has ::ffff:10.9.0.1/120, an IPv4 address in the form of IPv6; write an address \
            of a host in the subnet, like \"10.244.1.1/24\"",
    ),
    (
        "address = []",
        "6:1: port \"up0\": \"address\" is a list; write a list of addresses with the length of their subnet, like \
            [\"10.244.1.1/24\"]",
    ),
    (
        "address = [\"192.168.0.1\"]",
        "6:1: port \"up0\": \"address\" has \"192.168.0.1\"; write an address and the length of its subnet, like \
            \"10.244.1.1/24\"",
    ),
    (
        "address = [\"192.168.0.0/30\"]",
        "6:1: port \"up0\": \"address\" has 192.168.0.0/30, the network address of its subnet; write an address of \
            a host in the subnet, like \"10.244.1.1/24\"",
    ),
    (
        "address = [\"fe80::1/64\"]",
        "6:1: port \"up0\": \"address\" has fe80::1/64, a link-local address, which every interface has anyway; \
            write an address of a host in the subnet, like \"10.244.1.1/24\"",
    ),
    (
        "address = [\"192.168.0.1/30\"]\nvrf = \"a b\"",
        "7:1: port \"up0\": \"vrf\" is \"a b\"; use 1 to 63 letters, digits, '.', '_' or '-'",
    ),
    (
        "address = [\"192.168.0.1/30\"]\n[[bridge]]\nname = \"up0\"",
        "5:1: port \"up0\": is routed, and a bridge has the same name; give the bridge another name, so that routes \
            can tell them apart",
    ),
];

/// Routes, from line 12 on.
const ROUTE: &[(&str, &str)] = &[
    ("via = \"10.244.1.9\"", "11:1: route number 1: \"to\" is missing; add to = \"10.9.0.0/16\""),
    (
        "to = \"10.9.0.1/16\"\nvia = \"10.244.1.9\"",
        "12:1: route \"10.9.0.1/16\": \"to\" is 10.9.0.1/16, which has bits set behind its length; write \"10.9.0.0/16\"",
    ),
    (
        "to = \"ten\"\nvia = \"10.244.1.9\"",
        "12:1: route \"ten\": \"to\" is \"ten\"; write an address and a length, like \"10.9.0.0/16\"",
    ),
    (
        "to = \"::ffff:10.0.0.0/104\"\ntype = \"blackhole\"",
        "12:1: route \"::ffff:10.0.0.0/104\": packets to IPv4 addresses in the form of IPv6 are never forwarded; write \
            \"10.0.0.0/8\"",
    ),
    (
        "to = \"10.9.0.0/16\"",
        "12:1: route \"10.9.0.0/16\": leads nowhere; add via = \"ADDRESS\", or type = \"blackhole\", \"unreachable\" \
            or \"prohibit\"",
    ),
    (
        "to = \"10.9.0.0/16\"\ntype = \"nowhere\"",
        "13:1: route \"10.9.0.0/16\": \"type\" is \"nowhere\"; write \"blackhole\", \"unreachable\" or \"prohibit\", or \
            leave it out and set \"via\"",
    ),
    (
        "to = \"10.9.0.0/16\"\ntype = \"blackhole\"\nvia = \"10.244.1.9\"",
        "14:1: route \"10.9.0.0/16\": has \"via\" and type = \"blackhole\"; leave one of the two out",
    ),
    (
        "to = \"10.9.0.0/16\"\nvia = []",
        "13:1: route \"10.9.0.0/16\": \"via\" is empty; name the next hop, like via = \
            \"10.244.1.9\"",
    ),
    (
        "to = \"10.9.0.0/16\"\nvia = \"router\"",
        "13:1: route \"10.9.0.0/16\": \"via\" has \"router\"; write an IP address, like \"10.244.1.9\"",
    ),
    (
        "to = \"10.9.0.0/16\"\nvia = [{ to = \"10.244.1.9\", weight = 0 }]",
        "13:1: route \"10.9.0.0/16\": \"weight\" is 0; write a number from 1 to 256",
    ),
    (
        "to = \"10.9.0.0/16\"\nvia = [{ to = \"10.244.1.9\", weight = 257 }]",
        "13:1: route \"10.9.0.0/16\": \"weight\" is 257; write a number from 1 to 256",
    ),
    (
        "to = \"10.9.0.0/16\"\nvia = [{ to = \"10.244.1.9\", wieght = 2 }]",
        "13:1: route \"10.9.0.0/16\": unknown key \"wieght\" (did you mean \"weight\"?)",
    ),
    (
        "to = \"10.9.0.0/16\"\nvia = 9",
        "13:1: route \"10.9.0.0/16\": \"via\" is an integer; write a next hop, a list of them, or { to = \
            \"10.0.0.2\", weight = 3 } in a list",
    ),
    (
        "to = \"10.9.0.0/16\"\nvia = [\"10.244.1.9\", \"10.244.1.9\"]",
        "13:1: route \"10.9.0.0/16\": \"via\" names 10.244.1.9 twice; name it once, with a weight",
    ),
    (
        "to = \"10.9.0.0/16\"\nvia = \"fd00::9\"",
        "13:1: route \"10.9.0.0/16\": next hop fd00::9 is IPv6, the prefix is IPv4; name next hops of the prefix's \
            family",
    ),
    (
        "to = \"10.9.0.0/16\"\nvia = \"10.244.1.1\"",
        "13:1: route \"10.9.0.0/16\": next hop 10.244.1.1 is an address of this switch (interface \"pods\"); name \
            another router",
    ),
    (
        "to = \"10.9.0.0/16\"\nvia = \"10.244.1.255\"",
        "13:1: route \"10.9.0.0/16\": next hop 10.244.1.255 is the network or broadcast address of a subnet; name the \
            address of a router on a connected subnet",
    ),
    (
        "to = \"10.9.0.0/16\"\nvia = \"224.0.0.9\"",
        "13:1: route \"10.9.0.0/16\": next hop 224.0.0.9 is a multicast address; name the address of a router on a \
            connected subnet",
    ),
    (
        "to = \"10.9.0.0/16\"\nvia = \"10.5.0.9\"",
        "13:1: route \"10.9.0.0/16\": next hop 10.5.0.9 is on no connected subnet of the default VRF; connected \
            subnets: 10.244.1.0/24, 192.168.0.0/30",
    ),
    (
        "to = \"10.9.0.0/16\"\nvia = \"10.5.0.9\"\n[[route]]\nto = \"10.5.0.0/16\"\nvia = \"10.244.1.9\"",
        "13:1: route \"10.9.0.0/16\": next hop 10.5.0.9 is reached only by another route (10.5.0.0/16 (line 14)), and \
            routes are not recursive; name the router on a connected subnet that leads there",
    ),
    (
        "to = \"2001:db8::/32\"\nvia = \"fe80::9\"",
        "13:1: route \"2001:db8::/32\": next hop fe80::9 is link-local; say on which interface, like interface = \
            \"pods\"",
    ),
    (
        "to = \"10.9.0.0/16\"\nvia = \"10.244.1.9\"\ninterface = \"up0\"",
        "13:1: route \"10.9.0.0/16\": next hop 10.244.1.9 is not on a subnet of interface \"up0\"; it is on one of \
            interface \"pods\"",
    ),
    (
        "to = \"10.9.0.0/16\"\nvia = \"10.244.1.9\"\ninterface = \"pod\"",
        "14:1: route \"10.9.0.0/16\": \"interface\" names \"pod\", which is no interface of the router in the default \
            VRF; did you mean \"pods\"?",
    ),
    (
        "to = \"10.9.0.0/16\"\nvia = \"10.1.0.9\"\ninterface = \"blue\"",
        "14:1: route \"10.9.0.0/16\": \"interface\" names \"blue\", which is no interface of the router in the default \
            VRF; it is in VRF \"tenant\"",
    ),
    (
        "to = \"10.9.0.0/16\"\nvia = \"10.244.1.9\"\nvrf = \"tenent\"",
        "14:1: route \"10.9.0.0/16\": \"vrf\" names \"tenent\", which no bridge or port is in; did you mean \"tenant\"?",
    ),
    (
        "to = \"10.244.1.0/24\"\nvia = \"192.168.0.2\"",
        "12:1: route \"10.244.1.0/24\": the prefix is the subnet of interface \"pods\" and needs no route; leave the \
            route out",
    ),
    (
        "to = \"224.0.0.0/8\"\ntype = \"blackhole\"",
        "12:1: route \"224.0.0.0/8\": packets to multicast addresses are never forwarded; leave the route out",
    ),
    (
        "to = \"10.9.0.0/16\"\nvia = \"10.244.1.9\"\n[[route]]\nto = \"10.9.0.0/16\"\ntype = \"blackhole\"",
        "15:1: route \"10.9.0.0/16\": the prefix has a route in the default VRF already (line 11); keep one of the \
            two, or one with both next hops in \"via\"",
    ),
    (
        "to = \"10.9.0.0/16\"\nmetric = 1\nvia = \"10.244.1.9\"",
        "13:1: route \"10.9.0.0/16\": unknown key \"metric\" \
            (known keys: \"to\", \"via\", \"type\", \"interface\", \"vrf\")",
    ),
];
