//! `gateway`, `vrf`, `[bridge.dhcp]` and `[bridge.ra]`: what is read, what is refused, what a reload sees.

use std::net::Ipv4Addr;

use super::*;

/// A bridge with every key that makes it routed.
pub const ROUTED: &str = "[[bridge]]
name = \"pods\"
vrf = \"blue\"
gateway = [\"10.244.1.1/24\", \"fd00:244:1::1/64\", \"10.9.0.1/31\"]
[bridge.dhcp]
range = [\"10.244.1.100\", \"10.244.1.199\"]
lease_seconds = 600
router = \"10.244.1.2\"
dns = [\"10.96.0.10\", \"9.9.9.9\"]
domain = \"pods.example\"
ntp = [\"10.244.1.3\"]
mtu = 1450
[[bridge.dhcp.static]]
mac = \"02:42:00:00:00:50\"
address = \"10.244.1.50\"
hostname = \"web\"
[[bridge.dhcp.static]]
client_id = \"00:64:62\"
address = \"10.244.1.101\"
[bridge.ra]
prefixes = [\"fd00:244:1::7/64\"]
dns = [\"fd00:244:1::53\", \"fe80::53\"]
search = [\"pods.example\", \"example\"]
mtu = 1400
lifetime_seconds = 0
interval_seconds = 30
managed = true
other = true
";

#[test]
fn every_key_of_a_routed_bridge_is_read_and_written_back() {
    let config = parse(ROUTED);
    let ip = |last| Ipv4Addr::new(10, 244, 1, last);
    let expected = BridgeConfig {
        vrf: "blue".into(),
        gateway: ["10.244.1.1/24", "fd00:244:1::1/64", "10.9.0.1/31"].map(|net| net.parse().unwrap()).into(),
        dhcp: Some(DhcpConfig {
            range: [ip(100), ip(199)],
            lease_seconds: 600,
            router: ip(2),
            dns: vec![Ipv4Addr::new(10, 96, 0, 10), Ipv4Addr::new(9, 9, 9, 9)],
            domain: Some("pods.example".into()),
            ntp: vec![ip(3)],
            mtu: Some(1450),
            statics: vec![
                StaticLease {
                    mac: Some(Mac::new([2, 0x42, 0, 0, 0, 0x50])),
                    client_id: None,
                    address: ip(50),
                    hostname: Some("web".into()),
                },
                StaticLease { mac: None, client_id: "00:64:62".parse().ok(), address: ip(101), hostname: None },
            ],
        }),
        ra: Some(RaConfig {
            prefixes: vec!["fd00:244:1::/64".parse().unwrap()],
            dns: vec!["fd00:244:1::53".parse().unwrap(), "fe80::53".parse().unwrap()],
            search: vec!["pods.example".into(), "example".into()],
            mtu: Some(1400),
            lifetime_seconds: 0,
            interval_seconds: 30,
            managed: true,
            other: true,
        }),
        ..BridgeConfig::new("pods")
    };
    assert_eq!(config.bridges, [expected]);
    let dhcp = config.bridges[0].dhcp.as_ref().unwrap();
    assert_eq!(dhcp.subnet(&config.bridges[0].gateway).unwrap().to_string(), "10.244.1.1/24");
    assert_eq!(dhcp.statics[1].client_id.as_ref().unwrap().octets(), b"\0db");
    let text = config.to_toml();
    assert!(text.ends_with(&ROUTED[ROUTED.find("prefixes").unwrap()..].replace("::7/64", "::/64")), "{text}");
    assert_eq!(parse(&text), config);
}

#[test]
fn a_routed_bridge_has_defaults() {
    let text = "[[bridge]]\nname = \"a\"\ngateway = [\"10.0.0.1/24\", \"10.0.1.1/24\", \"fd00::1/64\", \"fd00:1::1/80\"]\n\
        [bridge.dhcp]\nrange = [\"10.0.1.9\", \"10.0.1.9\"]\n[bridge.ra]\n";
    let bridge = parse(text).bridges.remove(0);
    let (dhcp, ra) = (bridge.dhcp.unwrap(), bridge.ra.unwrap());
    assert_eq!(bridge.vrf, VRF_DEFAULT);
    assert_eq!((dhcp.lease_seconds, dhcp.router.to_string().as_str()), (3600, "10.0.1.1"), "of the range's own subnet");
    assert_eq!((dhcp.mtu, dhcp.domain, dhcp.dns.len(), dhcp.ntp.len()), (None, None, 0, 0));
    assert_eq!(ra.prefixes.iter().map(ToString::to_string).collect::<Vec<_>>(), ["fd00::/64"]);
    assert_eq!((ra.interval_seconds, ra.lifetime_seconds, ra.managed, ra.other), (600, 1800, false, false));
}

#[test]
fn inline_tables_as_switchctl_shows_them_are_read() {
    let text = "[[bridge]]\nname = \"a\"\ngateway = [\"10.0.0.1/24\", \"fd00::1/80\"]\nra = { prefixes = [] }\n\
        dhcp = { range = [\"10.0.0.9\", \"10.0.0.9\"], static = [{ mac = \"02:00:00:00:00:01\", address = \"10.0.0.7\" }] }\n";
    let config = parse(text);
    let values = serde_json::to_value(&config.bridges[0]).unwrap();
    assert_eq!(values["dhcp"]["static"][0], serde_json::json!({"mac": "02:00:00:00:00:01", "address": "10.0.0.7"}));
    assert_eq!((&values["ra"]["prefixes"], &values["gateway"][0]), (&serde_json::json!([]), &"10.0.0.1/24".into()));
}

#[test]
fn a_reload_sees_every_change_of_a_routed_bridge() {
    let running = parse(ROUTED);
    assert!(Config::parse_reload("t", ROUTED, &running).unwrap().1.is_empty());
    for (old, new) in [
        ("vrf = \"blue\"", "vrf = \"red\""),
        ("10.9.0.1/31", "10.9.0.3/31"),
        (".199\"]", ".200\"]"),
        ("lease_seconds = 600", "lease_seconds = 60"),
        ("hostname = \"web\"", "hostname = \"www\""),
        ("managed = true", "managed = false"),
    ] {
        let text = ROUTED.replace(old, new);
        let (config, diff) = Config::parse_reload("t", &text, &running).unwrap();
        assert_eq!(diff, Diff { bridges_changed: config.bridges, ..Diff::default() }, "{new}");
    }
}

/// Each text behind `before` is refused with the given lines (less the file's name).
fn refused(before: &str, table: &[(&str, &str)]) {
    for (text, lines) in table {
        let errors = Config::parse("t.toml", &format!("{before}{text}"), &[0, 1]).expect_err(text);
        let expected: Vec<String> = lines.lines().map(|line| format!("t.toml:{line}")).collect();
        assert_eq!(errors.to_string(), expected.join("\n"), "{text}");
    }
}

#[test]
fn bad_addresses_are_refused() {
    refused("[[bridge]]\nname = \"a\"\n", GATEWAY);
}

#[test]
fn seventeen_addresses_are_refused() {
    let nets = |count| (0..count).map(|n| format!("\"10.{n}.0.1/16\"")).collect::<Vec<_>>().join(", ");
    let text = |count| format!("[[bridge]]\nname = \"a\"\ngateway = [{}]\n", nets(count));
    assert_eq!(parse(&text(16)).bridges[0].gateway.len(), 16);
    refused(&text(17), &[("", "3:1: bridge \"a\": \"gateway\" has 17 addresses; a bridge has at most 16")]);
}

#[test]
fn bad_dhcp_servers_are_refused() {
    refused(
        "[[bridge]]\nname = \"a\"\ngateway = [\"10.0.0.1/24\", \"10.0.0.20/24\", \"fd00::1/64\"]\n[bridge.dhcp]\n",
        DHCP,
    );
    refused(
        "[[bridge]]\nname = \"a\"\ngateway = [\"fd00::1/64\"]\n",
        &[(
            "dhcp = { range = [\"10.0.0.5\", \"10.0.0.9\"] }",
            "4:1: bridge \"a\" dhcp: the bridge has no IPv4 address of the switch; add one, like \
            gateway = [\"10.244.1.1/24\"]",
        )],
    );
}

#[test]
fn a_range_has_a_bounded_size() {
    let text = |last: &str| {
        format!(
            "[[bridge]]\nname = \"a\"\ngateway = [\"10.0.0.1/8\"]\n[bridge.dhcp]\nrange = [\"10.1.0.0\", \"{last}\"]"
        )
    };
    parse(&text("10.1.255.255"));
    let line = "5:1: bridge \"a\" dhcp: \"range\" has 65537 addresses; write one of at most 65536";
    refused(&text("10.2.0.0"), &[("", line)]);
}

#[test]
fn a_search_list_has_a_bounded_size() {
    let name = ["x".repeat(63), "y".repeat(63), "z".repeat(63), "w".repeat(46)].join(".");
    let before = "[[bridge]]\nname = \"a\"\ngateway = [\"fd00::1/64\"]\n[bridge.ra]\n";
    let list = |name: &str| format!("search = [\"{name}\", \"{name}\"]");
    parse(&format!("{before}{}", list(&name)));
    let line = "5:1: bridge \"a\" ra: \"search\" has 482 octets in all; write names of at most 480 together";
    refused(before, &[(&list(&(name + "w")), line)]);
}

#[test]
fn bad_static_leases_are_refused() {
    let before = "[[bridge]]\nname = \"a\"\ngateway = [\"10.0.0.1/24\"]\n[bridge.dhcp]\n\
        range = [\"10.0.0.5\", \"10.0.0.9\"]\n[[bridge.dhcp.static]]\n";
    refused(before, STATIC);
}

#[test]
fn bad_advertisements_are_refused() {
    refused("[[bridge]]\nname = \"a\"\ngateway = [\"fd00::1/64\", \"fd00:1::1/80\"]\n[bridge.ra]\n", RA);
    let none = "4:1: bridge \"a\" ra: the bridge has no IPv6 address of the switch; add one, like \
        gateway = [\"fd00:244:1::1/64\"]";
    refused("[[bridge]]\nname = \"a\"\ngateway = [\"10.0.0.1/24\"]\n", &[("ra = {}", none)]);
    let long = "4:1: bridge \"a\" ra: no IPv6 address of \"gateway\" has a prefix of 64 bits, from which hosts make \
        theirs; add one, or write prefixes = [] to advertise the router alone";
    refused("[[bridge]]\nname = \"a\"\ngateway = [\"fd00::1/80\"]\n", &[("ra = {}", long)]);
}

#[test]
fn subnets_of_one_vrf_do_not_overlap() {
    let bridge = |name: &str, vrf: &str, nets: &str| {
        format!("[[bridge]]\nname = \"{name}\"\nvrf = \"{vrf}\"\ngateway = [{nets}]\n")
    };
    let two = |first: &str, second: &str| bridge("a", "default", first) + &bridge("b", "default", second);
    let overlap = |net: &str, other: &str| {
        format!(
            "8:1: bridge \"b\": \"gateway\" has {net}, which overlaps {other} of bridge \"a\" at line 1; \
             use another subnet, or put one of the bridges in a VRF of its own with vrf = \"NAME\""
        )
    };
    for (first, second) in [
        ("10.0.0.1/24", "10.0.0.2/24"),
        ("10.0.0.1/16", "10.0.5.1/24"),
        ("10.0.5.1/24", "10.0.0.1/16"),
        ("10.0.0.1/24", "10.0.0.1/24"),
        ("10.0.0.1/32", "10.0.0.1/32"),
        ("fd00::1/48", "fd00:0:0:7::1/64"),
    ] {
        let nets = (&format!("\"{first}\""), &format!("\"192.168.0.1/24\", \"{second}\""));
        refused(&two(nets.0, nets.1), &[("", &overlap(second, first))]);
    }
    parse(&two("\"10.0.0.1/25\"", "\"10.0.0.129/25\""));
    parse(&two("\"10.0.0.1/24\"", "\"fd00::1/64\""));
    parse(&(bridge("a", "red", "\"10.0.0.1/24\"") + &bridge("b", "blue", "\"10.0.0.1/24\"")));
    parse(&bridge("a", "default", "\"10.0.0.1/24\", \"10.0.0.2/24\""));
    // The nearest subnet that contains another may be of the same bridge, and a farther one of another.
    let three = bridge("a", "default", "\"10.0.0.1/8\"") + &bridge("b", "default", "\"10.1.0.1/16\", \"10.1.1.1/24\"");
    refused(&three, &[("", &[overlap("10.1.0.1/16", "10.0.0.1/8"), overlap("10.1.1.1/24", "10.0.0.1/8")].join("\n"))]);
    let between =
        bridge("a", "default", "\"10.0.0.1/8\", \"10.1.0.1/16\"") + &bridge("b", "default", "\"10.2.0.1/16\"");
    refused(&between, &[("", &overlap("10.2.0.1/16", "10.0.0.1/8"))]);
}

#[test]
fn a_text_full_of_subnets_is_checked_soon() {
    let bridge = |n: usize, second: usize| {
        let nets: Vec<String> = (0..16).map(|k| format!("\"10.{}.{}.{}/28\"", n / 256, n % 256, 16 * k + 1)).collect();
        format!("[[bridge]]\nname = \"b{second}-{n}\"\ngateway = [{}]\n", nets.join(", "))
    };
    let apart: String = (0..2000).map(|n| bridge(n, 0)).collect();
    assert_eq!(parse(&apart).bridges.len(), 2000);
    let twice = apart + &(0..2000).map(|n| bridge(n, 1)).collect::<String>();
    let errors = Config::parse("t", &twice, &[]).unwrap_err();
    assert!((1_000..1_100).contains(&errors.all().len()), "{}", errors.all().len());
}

/// `gateway` and `vrf`, from line 3 on.
const GATEWAY: &[(&str, &str)] = &[
    ("vrf = \"a b\"", "3:1: bridge \"a\": \"vrf\" is \"a b\"; use 1 to 63 letters, digits, '.', '_' or '-'"),
    ("vrf = 1", "3:1: bridge \"a\": \"vrf\" is an integer; write a string, like \"blue\""),
    (
        "gateway = \"10.0.0.1/24\"",
        "3:1: bridge \"a\": \"gateway\" is a string; write a list of strings in square brackets",
    ),
    ("gateway = [1]", "3:1: bridge \"a\": \"gateway\" is an integer; write a list of strings in square brackets"),
    (
        "gateway = [\"10.0.0.1\"]",
        "3:1: bridge \"a\": \"gateway\" has \"10.0.0.1\"; write an address with the length of its subnet's prefix, \
            like \"10.244.1.1/24\"",
    ),
    (
        "gateway = [\"10.0.0.1/33\", \"pods\"]",
        "3:1: bridge \"a\": \"gateway\" has \"10.0.0.1/33\"; write an address with the length of its subnet's \
            prefix, like \"10.244.1.1/24\"\n3:1: bridge \"a\": \"gateway\" has \"pods\"; write an address with the \
            length of its subnet's prefix, like \"10.244.1.1/24\"",
    ),
    (
        "gateway = [\"10.0.0.1/7\"]",
        "3:1: bridge \"a\": \"gateway\" has 10.0.0.1/7, whose prefix is too short; write a length of 8 or more",
    ),
    (
        "gateway = [\"10.0.0.0/24\"]",
        "3:1: bridge \"a\": \"gateway\" has 10.0.0.0/24, the network address of its subnet; write an address that a \
            host of the subnet could have",
    ),
    (
        "gateway = [\"10.0.0.255/24\"]",
        "3:1: bridge \"a\": \"gateway\" has 10.0.0.255/24, the broadcast address of its subnet; write an address \
            that a host of the subnet could have",
    ),
    (
        "gateway = [\"fd00::/64\"]",
        "3:1: bridge \"a\": \"gateway\" has fd00::/64, the anycast address of its subnet's routers; write an address \
            that a host of the subnet could have",
    ),
    (
        "gateway = [\"224.0.0.1/24\", \"127.0.0.1/8\", \"169.254.0.1/16\", \"0.0.0.1/8\", \"250.0.0.1/8\"]",
        "3:1: bridge \"a\": \"gateway\" has 224.0.0.1/24, a multicast address; write an address that a host of the \
            subnet could have\n3:1: bridge \"a\": \"gateway\" has 127.0.0.1/8, a loopback address; write an address \
            that a host of the subnet could have\n3:1: bridge \"a\": \"gateway\" has 169.254.0.1/16, a link-local \
            address; write an address that a host of the subnet could have\n3:1: bridge \"a\": \"gateway\" has \
            0.0.0.1/8, an address of \"this network\"; write an address that a host of the subnet could have\n\
            3:1: bridge \"a\": \"gateway\" has 250.0.0.1/8, a reserved address; write an address that a host of the \
            subnet could have",
    ),
    (
        "gateway = [\"ff02::1/64\", \"::1/64\", \"fe80::1/64\", \"::ffff:10.0.0.1/120\"]",
        "3:1: bridge \"a\": \"gateway\" has ff02::1/64, a multicast address; write an address that a host of the \
            subnet could have\n3:1: bridge \"a\": \"gateway\" has ::1/64, a loopback address; write an address \
            that a host of the subnet could have\n3:1: bridge \"a\": \"gateway\" has fe80::1/64, a link-local \
            address; write an address that a host of the subnet could have\n3:1: bridge \"a\": \"gateway\" has \
            ::ffff:10.0.0.1/120, an IPv4 address in the form of IPv6; write an address that a host of the subnet \
            could have",
    ),
    (
        "gateway = [\"10.0.0.1/24\", \"10.0.0.1/16\"]",
        "3:1: bridge \"a\": \"gateway\" has the address 10.0.0.1 twice; write it once",
    ),
];

/// `[bridge.dhcp]`, from line 5 on.
const DHCP: &[(&str, &str)] = &[
    ("", "4:9: bridge \"a\" dhcp: \"range\" is missing; add range = [\"10.244.1.100\", \"10.244.1.199\"]"),
    (
        "range = [\"10.0.0.5\"]",
        "5:1: bridge \"a\" dhcp: \"range\" is not two addresses; write the first and the last, like [\"10.244.1.100\", \
            \"10.244.1.199\"]",
    ),
    (
        "range = [\"10.0.0.5\", \"fd00::9\"]",
        "5:1: bridge \"a\" dhcp: \"range\" has \"fd00::9\"; write an IPv4 address, like \"10.244.1.2\"",
    ),
    (
        "range = [\"10.0.0.9\", \"10.0.0.5\"]",
        "5:1: bridge \"a\" dhcp: \"range\" ends with 10.0.0.5, before its start 10.0.0.9; write the lower address \
            first",
    ),
    (
        "range = [\"10.0.1.5\", \"10.0.1.9\"]",
        "5:1: bridge \"a\" dhcp: \"range\" is 10.0.1.5, which is in no subnet of the bridge; its gateway has \
            10.0.0.0/24",
    ),
    (
        "range = [\"10.0.0.250\", \"10.0.1.9\"]",
        "5:1: bridge \"a\" dhcp: \"range\" is 10.0.1.9, outside the range's subnet 10.0.0.0/24; write an address \
            inside it",
    ),
    (
        "range = [\"10.0.0.0\", \"10.0.0.9\"]",
        "5:1: bridge \"a\" dhcp: \"range\" has 10.0.0.0, the network address of its subnet; leave that out",
    ),
    (
        "range = [\"10.0.0.2\", \"10.0.0.255\"]",
        "5:1: bridge \"a\" dhcp: \"range\" has 10.0.0.255, the broadcast address of its subnet; leave that out",
    ),
    (
        "range = [\"10.0.0.2\", \"10.0.0.30\"]",
        "5:1: bridge \"a\" dhcp: \"range\" has 10.0.0.20, an address of the switch; leave that out",
    ),
    (
        "range = [\"10.0.0.5\", \"10.0.0.9\"]\nlease_seconds = 59",
        "6:1: bridge \"a\" dhcp: \"lease_seconds\" is 59; write a number from 60 to 31536000",
    ),
    (
        "range = [\"10.0.0.5\", \"10.0.0.9\"]\nmtu = 67",
        "6:1: bridge \"a\" dhcp: \"mtu\" is 67; write a number from 68 to 65535",
    ),
    (
        "range = [\"10.0.0.5\", \"10.0.0.9\"]\nrouter = \"10.0.1.1\"",
        "6:1: bridge \"a\" dhcp: \"router\" is 10.0.1.1, outside the range's subnet 10.0.0.0/24; write an address \
            inside it",
    ),
    (
        "range = [\"10.0.0.5\", \"10.0.0.9\"]\nrouter = \"10.0.0.255\"",
        "6:1: bridge \"a\" dhcp: \"router\" is 10.0.0.255, the broadcast address of its subnet; write an address \
            that a host of the subnet could have",
    ),
    (
        "range = [\"10.0.0.5\", \"10.0.0.9\"]\ndns = [\"224.0.0.1\"]\nntp = [\"0.0.0.0\"]",
        "6:1: bridge \"a\" dhcp: \"dns\" has 224.0.0.1, a multicast address; write the address of one host\n\
            7:1: bridge \"a\" dhcp: \"ntp\" has 0.0.0.0, the unspecified address; write the address of one host",
    ),
    (
        "range = [\"10.0.0.5\", \"10.0.0.9\"]\ndns = [\"9.9.9.1\", \"9.9.9.2\", \"9.9.9.3\", \"9.9.9.4\", \
            \"9.9.9.5\", \"9.9.9.6\", \"9.9.9.7\", \"9.9.9.8\", \"9.9.9.9\"]",
        "6:1: bridge \"a\" dhcp: \"dns\" has 9 entries; write at most 8",
    ),
    (
        "range = [\"10.0.0.5\", \"10.0.0.9\"]\ndomain = \"a..b\"",
        "6:1: bridge \"a\" dhcp: \"domain\" has \"a..b\"; write labels of letters, digits, '-' and '_' with dots \
            between them, like \"pods.example\"",
    ),
    (
        "range = [\"10.0.0.5\", \"10.0.0.9\"]\nlease = 60",
        "6:1: bridge \"a\" dhcp: unknown key \"lease\" (known keys: \"range\", \"lease_seconds\", \"router\", \
            \"dns\", \"domain\", \"ntp\", \"mtu\", \"static\")",
    ),
    (
        "range = [\"10.0.0.5\", \"10.0.0.9\"]\nstatic = { }",
        "6:1: bridge \"a\" dhcp: \"static\" is a table; write a list of tables, [[bridge.dhcp.static]] in double \
            brackets",
    ),
    (
        "range = [\"10.0.0.5\", \"10.0.0.9\"]\n[[bridge]]\nname = \"b\"\ndhcp = 1",
        "8:1: bridge \"b\": \"dhcp\" is an integer; write a table, [bridge.dhcp] below its [[bridge]]",
    ),
];

/// `[[bridge.dhcp.static]]`, from line 7 on.
const STATIC: &[(&str, &str)] = &[
    ("", "6:1: bridge \"a\" dhcp static number 1: \"address\" is missing; add address = \"10.244.1.50\""),
    (
        "address = \"10.0.0.7\"",
        "6:1: bridge \"a\" dhcp static number 1: names no client; add mac = \"02:42:ac:11:00:02\" or client_id = \
            \"01:02:42:ac:11:00:02\"",
    ),
    (
        "address = \"10.0.0.7\"\nmac = \"02:00:00:00:00:01\"\nclient_id = \"01:02\"",
        "9:1: bridge \"a\" dhcp static number 1: has \"mac\" and \"client_id\"; keep the one by which the client is \
            known",
    ),
    (
        "address = \"10.0.0.7\"\nmac = \"02:00\"",
        "8:1: bridge \"a\" dhcp static number 1: \"mac\" has \"02:00\"; write six hex octets, like \
            \"02:42:ac:11:00:02\"",
    ),
    (
        "address = \"10.0.0.7\"\nmac = \"ff:ff:ff:ff:ff:ff\"",
        "8:1: bridge \"a\" dhcp static number 1: \"mac\" is a group address; a static entry needs the address of one \
            station",
    ),
    (
        "address = \"10.0.0.7\"\nclient_id = \"web\"",
        "8:1: bridge \"a\" dhcp static number 1: \"client_id\" has \"web\"; write hex octets with colons between \
            them, like \"01:02:42:ac:11:00:02\"",
    ),
    (
        "address = \"10.0.1.7\"\nclient_id = \"01:02\"",
        "7:1: bridge \"a\" dhcp static number 1: \"address\" is 10.0.1.7, outside the range's subnet 10.0.0.0/24; \
            write an address inside it",
    ),
    (
        "address = \"10.0.0.1\"\nclient_id = \"01:02\"",
        "7:1: bridge \"a\" dhcp static number 1: \"address\" is 10.0.0.1, an address of the switch; write an address \
            that a host of the subnet could have",
    ),
    (
        "address = \"10.0.0.0\"\nclient_id = \"01:02\"\nhostname = \"a b\"",
        "7:1: bridge \"a\" dhcp static number 1: \"address\" is 10.0.0.0, the network address of its subnet; write \
            an address that a host of the subnet could have\n9:1: bridge \"a\" dhcp static number 1: \"hostname\" \
            has \"a b\"; write labels of letters, digits, '-' and '_' with dots between them, like \"pods.example\"",
    ),
    (
        "address = \"10.0.0.7\"\nclient_id = \"01:02\"\n[[bridge.dhcp.static]]\naddress = \"10.0.0.7\"\nclient_id = \
            \"01:02\"",
        "10:1: bridge \"a\" dhcp static number 2: 10.0.0.7 is reserved at line 6 already; keep one of the two\n\
            11:1: bridge \"a\" dhcp static number 2: the client has an address at line 6 already; keep one of the two",
    ),
    (
        "address = \"10.0.0.7\"\nname = \"x\"",
        "8:1: bridge \"a\" dhcp static number 1: unknown key \"name\" (known keys: \"mac\", \"client_id\", \
            \"address\", \"hostname\")",
    ),
];

/// `[bridge.ra]`, from line 5 on.
const RA: &[(&str, &str)] = &[
    (
        "prefixes = [\"fd00:1::/80\"]",
        "5:1: bridge \"a\" ra: \"prefixes\" has fd00:1::/80; hosts make addresses from prefixes of 64 bits only",
    ),
    (
        "prefixes = [\"fd00:2::/64\"]",
        "5:1: bridge \"a\" ra: \"prefixes\" has fd00:2::/64, in which the switch has no address; add one to \
            \"gateway\", or leave it out",
    ),
    (
        "prefixes = [\"fd00::/64\", \"fd00::1/64\"]",
        "5:1: bridge \"a\" ra: \"prefixes\" has fd00::/64 twice; write it once",
    ),
    (
        "prefixes = [\"10.0.0.0/24\"]",
        "5:1: bridge \"a\" ra: \"prefixes\" has \"10.0.0.0/24\"; write an IPv6 prefix with its length, like \
            \"fd00:244:1::/64\"",
    ),
    (
        "dns = [\"9.9.9.9\"]",
        "5:1: bridge \"a\" ra: \"dns\" has \"9.9.9.9\"; write an IPv6 address, like \"fd00:244:1::53\"",
    ),
    (
        "dns = [\"ff02::1\"]",
        "5:1: bridge \"a\" ra: \"dns\" has ff02::1, a multicast address; write the address of one host",
    ),
    (
        "search = [\"a b\"]",
        "5:1: bridge \"a\" ra: \"search\" has \"a b\"; write labels of letters, digits, '-' and '_' with dots \
            between them, like \"pods.example\"",
    ),
    (
        "search = [\"a\", \"b\", \"c\", \"d\", \"e\", \"f\", \"g\", \"h\", \"i\"]",
        "5:1: bridge \"a\" ra: \"search\" has 9 entries; write at most 8",
    ),
    ("mtu = 1279", "5:1: bridge \"a\" ra: \"mtu\" is 1279; write a number from 1280 to 65535"),
    ("interval_seconds = 3", "5:1: bridge \"a\" ra: \"interval_seconds\" is 3; write a number from 4 to 1800"),
    ("lifetime_seconds = 9001", "5:1: bridge \"a\" ra: \"lifetime_seconds\" is 9001; write a number from 0 to 9000"),
    (
        "lifetime_seconds = 599",
        "5:1: bridge \"a\" ra: \"lifetime_seconds\" is 599, less than interval_seconds = 600: hosts would lose the \
            router in between; write 600 or more, or 0 for no default router",
    ),
    ("managed = 1", "5:1: bridge \"a\" ra: \"managed\" is an integer; write true or false"),
    (
        "enabled = true",
        "5:1: bridge \"a\" ra: unknown key \"enabled\" (known keys: \"prefixes\", \"dns\", \"search\", \
        \"mtu\", \"lifetime_seconds\", \"interval_seconds\", \"managed\", \"other\")",
    ),
];
