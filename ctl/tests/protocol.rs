//! The words on the wire, letter by letter: scripts and other versions depend on them.

use std::collections::BTreeMap;

use ctl::codec::write_line;
use ctl::protocol::*;
use proptest::prelude::*;
use serde::Serialize;
use serde_json::json;

fn line(value: &impl Serialize) -> String {
    let mut out = Vec::new();
    write_line(&mut out, value).unwrap();
    String::from_utf8(out).unwrap()
}

fn web0() -> PortStatus {
    PortStatus {
        interface: "web0".into(),
        bridge: Some("pods".into()),
        state: PortState::Up,
        mtu: 1500,
        rx_packets: 10,
        rx_bytes: 600,
        tx_packets: 2,
        tx_bytes: 120,
        drops: BTreeMap::from([("own_port".into(), 3)]),
        trunk: BTreeMap::new(),
        address: Vec::new(),
        vrf: None,
        ifindex: 7,
        mac: Some("02:00:00:00:00:07".parse().unwrap()),
        workers: vec![0],
        queues: 1,
        mode: Some("native copy".into()),
        peer: None,
        learned: 1,
        learned_total: 4,
        moved: 2,
        learn_refused: 5,
        flooded: 6,
        checksums_finished: 7,
        mac_limit: 0,
        isolated: false,
        learning: true,
        flood_unicast: true,
        flood_broadcast: true,
        flood_multicast: true,
        container_gro: true,
        fill_frames: 1024,
        kernel_memory_bytes: 2097152,
        kernel: BTreeMap::new(),
        notes: vec![],
    }
}

#[test]
fn an_address_as_scripts_read_it() {
    let entry = FdbEntry {
        mac: "02:42:ac:11:00:02".parse().unwrap(),
        bridge: "pods".into(),
        vlan: 0,
        port: "web0".into(),
        kind: FdbKind::Dynamic,
        sticky: false,
        waiting: false,
        age_seconds: 12,
    };
    assert_eq!(
        line(&ItemLine { id: 7, item: Item::Fdb(entry.clone()) }),
        "{\"id\":7,\"item\":{\"mac\":\"02:42:ac:11:00:02\",\"bridge\":\"pods\",\"vlan\":0,\"port\":\"web0\",\
         \"type\":\"dynamic\",\"sticky\":false,\"age_seconds\":12}}\n"
    );
    for (kind, word) in [(FdbKind::Static, "static"), (FdbKind::Local, "local")] {
        assert_eq!(serde_json::to_value(FdbEntry { kind, ..entry.clone() }).unwrap()["type"], word);
    }
}

#[test]
fn a_port_as_scripts_read_it() {
    let expected = json!({
        "interface": "web0", "bridge": "pods", "state": "up", "mtu": 1500, "rx_packets": 10, "rx_bytes": 600,
        "tx_packets": 2, "tx_bytes": 120, "drops": {"own_port": 3}, "trunk": {}, "ifindex": 7,
        "mac": "02:00:00:00:00:07", "workers": [0], "queues": 1, "mode": "native copy", "peer": null, "learned": 1,
        "learned_total": 4, "moved": 2, "learn_refused": 5, "flooded": 6, "checksums_finished": 7,
        "mac_limit": 0, "isolated": false, "learning": true, "flood_unicast": true, "flood_broadcast": true,
        "flood_multicast": true, "container_gro": true, "fill_frames": 1024, "kernel_memory_bytes": 2097152, "kernel": {}, "notes": []
    });
    assert_eq!(serde_json::to_value(Item::Port(Box::new(web0()))).unwrap(), expected);
    for (state, word) in [(PortState::Down, "down"), (PortState::Waiting, "waiting")] {
        assert_eq!(serde_json::to_value(state).unwrap(), word);
    }
    let trunk = PortStatus { bridge: None, trunk: BTreeMap::from([(10, "blue".into())]), ..web0() };
    let json = serde_json::to_value(&trunk).unwrap();
    assert_eq!((&json["bridge"], &json["trunk"]), (&json!(null), &json!({"10": "blue"})));
    assert_eq!(serde_json::from_value::<PortStatus>(json).unwrap(), trunk);
}

#[test]
fn the_other_items_keep_their_keys() {
    let bridge = json!({"name": "pods", "ageing_seconds": 300, "ports": ["web0"], "fdb_learned": 1, "fdb_static": 0,
        "fdb_limit": 65536, "flooded_unicast": 1, "flooded_broadcast": 2, "flooded_multicast": 3, "aged": 4});
    let parsed: BridgeStatus = serde_json::from_value(bridge.clone()).unwrap();
    assert_eq!(serde_json::to_value(Item::Bridge(parsed)).unwrap(), bridge);

    let worker = json!({"worker": 0, "core": 1, "poll": "adaptive", "state": "sleeping", "busy_percent": 1.5,
        "idle_percent": 98.5, "iterations": 9, "busy_iterations": 1, "sleeps": 8, "packets_per_burst": 2.0,
        "rx_packets": 2, "rx_bytes": 120, "tx_packets": 2, "tx_bytes": 120, "ports": ["web0"], "measured_seconds": 1.0,
        "resume_latency_us": null, "shares_core": true});
    let parsed: WorkerStatus = serde_json::from_value(worker.clone()).unwrap();
    assert_eq!(serde_json::to_value(Item::Worker(parsed)).unwrap(), worker);

    let drop = json!({"reason": "own_port", "port": null, "count": 3, "help": "text"});
    let parsed: DropStatus = serde_json::from_value(drop.clone()).unwrap();
    assert_eq!(serde_json::to_value(Item::Drop(parsed)).unwrap(), drop);

    let version = json!({"version": "0.1.0", "protocol": 1, "pid": 5, "uptime_seconds": 6, "kernel": "6.18",
        "config": "/etc/x.toml", "notes": ["n"]});
    let parsed: VersionReport = serde_json::from_value(version.clone()).unwrap();
    assert_eq!(serde_json::to_value(Item::Version(parsed)).unwrap(), version);

    let section = json!({"section": "port", "repeated": true, "values": {"interface": "web0"}});
    let parsed: ConfigSection = serde_json::from_value(section.clone()).unwrap();
    assert_eq!(serde_json::to_value(Item::Config(parsed)).unwrap(), section);
}

#[test]
fn ends_of_answers() {
    assert_eq!(line(&DoneLine { id: 7, done: Done::default() }), "{\"id\":7,\"done\":{\"items\":0}}\n");
    let done = Done { items: 2, affected: Some(1), limit: Some(9), message: Some("m".into()), notes: vec!["n".into()] };
    assert_eq!(
        line(&DoneLine { id: 7, done }),
        "{\"id\":7,\"done\":{\"items\":2,\"affected\":1,\"limit\":9,\"message\":\"m\",\"notes\":[\"n\"]}}\n"
    );
    assert_eq!(
        line(&ErrorLine { id: 7, error: ErrorBody::refused("no bridge red") }),
        "{\"id\":7,\"error\":{\"code\":\"refused\",\"message\":\"no bridge red\"}}\n"
    );
    for code in [ErrorCode::Refused, ErrorCode::Failed, ErrorCode::Usage, ErrorCode::Version] {
        assert_eq!(serde_json::to_value(code).unwrap(), code.to_string());
    }
    assert_eq!(serde_json::from_str::<ErrorCode>("\"of-a-newer-switch\"").unwrap(), ErrorCode::Failed);
}

#[test]
fn a_client_reads_keys_it_does_not_know() {
    let newer = r#"{"id":1,"item":{"mac":"02:00:00:00:00:01","bridge":"b","vlan":0,"port":"p","type":"local",
        "age_seconds":0,"remote":"10.0.0.1"},"more":true}"#;
    assert_eq!(serde_json::from_str::<ResponseLine<FdbEntry>>(newer).unwrap().item.unwrap().kind, FdbKind::Local);
}

#[test]
fn requests_letter_by_letter() {
    let filter = FdbFilter { bridge: Some("pods".into()), port: None, vlan: Some(0), dynamic: true };
    assert_eq!(
        line(&RequestLine::new(1, Request::ShowFdb(filter))),
        "{\"version\":1,\"id\":1,\"request\":{\"show-fdb\":{\"bridge\":\"pods\",\"vlan\":0,\"dynamic\":true}}}\n"
    );
    let add = AddPort {
        interface: "up0".into(),
        bridge: None,
        trunk: BTreeMap::from([(10, "blue".into())]),
        settings: PortSettings { isolated: Some(true), ..PortSettings::default() },
        ..AddPort::default()
    };
    assert_eq!(
        line(&RequestLine::new(2, Request::AddPort(add))),
        "{\"version\":1,\"id\":2,\"request\":{\"add-port\":{\"interface\":\"up0\",\"trunk\":{\"10\":\"blue\"},\
         \"settings\":{\"isolated\":true}}}}\n"
    );
    assert_eq!(
        line(&RequestLine::new(3, Request::Reload {})),
        "{\"version\":1,\"id\":3,\"request\":{\"reload\":{}}}\n"
    );
}

/// Keys and values may hold anything JSON can escape; a message that quotes them stays one short line.
#[test]
fn refusals_quote_on_one_short_line() {
    let key = |key: &str| format!(r#"{{"version":1,"id":4,"request":{{"{key}":{{}}}}}}"#);
    let lines = [
        key(r"show\nfdb"),
        key(r"\u001b[31m\u007f\u009b"),
        key(&"x".repeat(10_000)),
        r#"{"version":1,"id":4,"requ\nest":{}}"#.to_string(),
        r#"{"version":1,"id":4,"request":{"del-fdb":{"mac":"\r\n"}}}"#.to_string(),
        r#"{"version":1,"id":4,"request":{"set-port":{"port":"a\u0085","settings":{}}}}"#.to_string(),
    ];
    for line in lines {
        let message = RequestLine::parse(line.as_bytes()).expect_err("a refusal").error.message;
        assert!(!message.contains(char::is_control) && message.len() < 1000, "{message:?}");
    }
    let message = RequestLine::parse(key(r"show\nfdb").as_bytes()).expect_err("a refusal").error.message;
    assert!(message.contains(r"unknown variant `show\nfdb`, expected one of `show-fdb`"), "{message}");
}

/// Refusals that need no state, each with the whole of its message.
#[test]
fn refusals_say_what_to_change() {
    let table = [
        (r#"{"add-port":{"interface":"web0"}}"#, "port web0 belongs to no bridge: give a bridge or a trunk"),
        (
            r#"{"add-port":{"interface":"web0","trunk":{"0":"b"}}}"#,
            "port web0: a trunk cannot carry VLAN 0: use 1 to 4094",
        ),
        (
            r#"{"add-port":{"interface":"web0","trunk":{"4095":"b"}}}"#,
            "port web0: a trunk cannot carry VLAN 4095: use 1 to 4094",
        ),
        (
            r#"{"add-port":{"interface":"web0","trunk":{"1":"b","2":"b"}}}"#,
            "port web0 would be in bridge b twice: give each VLAN its own bridge",
        ),
        (
            r#"{"add-port":{"interface":"web0","bridge":"b","trunk":{"1":"b"}}}"#,
            "port web0 would be in bridge b twice: give each VLAN its own bridge",
        ),
        (
            r#"{"add-port":{"interface":"a/b","bridge":"b"}}"#,
            "\"a/b\" is not an interface name: use 1 to 15 bytes without blanks or slashes",
        ),
        (
            r#"{"del-port":{"port":"sixteen-bytes-xx"}}"#,
            "\"sixteen-bytes-xx\" is not an interface name: use 1 to 15 bytes without blanks or slashes",
        ),
        (r#"{"show-fdb":{"bridge":""}}"#, "\"\" is not a bridge name: use 1 to 63 letters, digits, '.', '_' or '-'"),
        (r#"{"flush-fdb":{"vlan":5000}}"#, "VLAN 5000 does not exist: use 0 for untagged or 1 to 4094"),
        (
            r#"{"set-port":{"port":"web0","settings":{}}}"#,
            "set-port web0 changes nothing: name a setting, like isolated or mac_limit",
        ),
        (
            r#"{"add-fdb":{"mac":"01:00:5e:00:00:01","port":"web0"}}"#,
            "01:00:5e:00:00:01 is not the address of a station: use an individual (unicast) MAC address",
        ),
        (
            r#"{"del-fdb":{"mac":"00:00:00:00:00:00"}}"#,
            "00:00:00:00:00:00 is not the address of a station: use an individual (unicast) MAC address",
        ),
        (
            r#"{"del-fdb":{"mac":"zz"}}"#,
            "bad request: 'zz' is not a MAC address: write six hex octets, like 02:42:ac:11:00:02",
        ),
    ];
    assert_refused(&table);
}

/// The same of the router's requests.
#[test]
fn refusals_of_routing_say_what_to_change() {
    let table = [
        (
            r#"{"add-route":{"to":"10.9.0.1/16","via":[{"to":"10.0.0.1"}]}}"#,
            "10.9.0.1/16 has bits set behind its length: write 10.9.0.0/16",
        ),
        (
            r#"{"add-route":{"to":"10.9.0.0/16"}}"#,
            "route 10.9.0.0/16 leads nowhere: give a next hop with --via, or blackhole, unreachable or prohibit with --type",
        ),
        (
            r#"{"add-route":{"to":"10.9.0.0/16","type":"local"}}"#,
            "routes of type local come with interfaces: give one an address",
        ),
        (
            r#"{"add-route":{"to":"10.9.0.0/16","via":[{"to":"10.0.0.1","weight":257}]}}"#,
            "next hop 10.0.0.1 has weight 257: use 1 to 256",
        ),
        (r#"{"del-route":{"to":"ten"}}"#, "\"ten\" is not a prefix: write an address and a length, like 10.9.0.0/16"),
        (r#"{"show-routes":{"vrf":"a b"}}"#, "\"a b\" is not a VRF name: use 1 to 63 letters, digits, '.', '_' or '-'"),
        (r#"{"show-routes":{"family":5}}"#, "there is no IP version 5: use 4 or 6"),
        (
            r#"{"route-get":{"to":"10.0.0.1","from":"fd00::1"}}"#,
            "fd00::1 and 10.0.0.1 are of different IP versions: no packet has both",
        ),
        (
            r#"{"add-port":{"interface":"up0","address":["10.0.0.1/30"],"bridge":"pods"}}"#,
            "port up0 cannot be routed and in a bridge: leave the address or the bridge out",
        ),
        (
            r#"{"add-neigh":{"address":"10.0.0.1","mac":"01:00:00:00:00:00","bridge":"pods"}}"#,
            "01:00:00:00:00:00 is not the address of a station: use an individual (unicast) MAC address",
        ),
    ];
    assert_refused(&table);
}

fn assert_refused(table: &[(&str, &str)]) {
    for (request, message) in table {
        let line = format!("{{\"version\":1,\"id\":4,\"request\":{request}}}");
        let refusal = RequestLine::parse(line.as_bytes()).unwrap_err();
        assert_eq!(refusal, ErrorLine::usage(4, message.to_string()), "{request}");
    }
}

fn names() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9._-]{0,14}"
}

fn macs() -> impl Strategy<Value = ctl::mac::Mac> {
    any::<[u8; 6]>().prop_map(|mut octets| {
        octets[0] = octets[0] & 0xfe | 2;
        ctl::mac::Mac(octets)
    })
}

fn settings() -> impl Strategy<Value = PortSettings> {
    let flag = any::<Option<bool>>;
    (flag(), flag(), flag(), flag(), flag(), any::<Option<u32>>()).prop_map(
        |(isolated, learning, flood_unicast, flood_broadcast, flood_multicast, mac_limit)| PortSettings {
            isolated,
            learning,
            flood_unicast,
            flood_broadcast,
            flood_multicast,
            mac_limit,
        },
    )
}

/// Requests about routes and neighbours.
fn routing() -> impl Strategy<Value = Request> {
    let name = || prop::option::of(names());
    let address = || any::<std::net::IpAddr>();
    let prefix = || {
        (any::<std::net::Ipv4Addr>(), 0u8..=32).prop_map(|(address, length)| {
            let net = ipnet::Ipv4Net::new(address, length).unwrap();
            net.trunc().to_string()
        })
    };
    let hop = (address(), 1u16..=WEIGHT_MAX).prop_map(|(to, weight)| Hop { to, weight });
    prop_oneof![
        (name(), prop::option::of(prefix()), prop::option::of(address())).prop_map(|(vrf, prefix, via)| {
            Request::ShowRoutes(RouteFilter { vrf, prefix, via, ..RouteFilter::default() })
        }),
        (address(), name()).prop_map(|(to, vrf)| Request::RouteGet(RouteGet { to, vrf, from: None, flow: None })),
        (prefix(), prop::collection::vec(hop, 1..5), name(), name()).prop_map(|(to, via, interface, vrf)| {
            Request::AddRoute(AddRoute { to, via, kind: None, interface, vrf })
        }),
        (prefix(), name()).prop_map(|(to, vrf)| Request::DelRoute(DelRoute { to, vrf })),
        (any::<u64>(), ".{0,80}").prop_map(|(first_line, text)| Request::LoadRoutes(LoadRoutes { first_line, text })),
        (name(), prop::option::of(prop::sample::select(NeighState::ALL.to_vec())))
            .prop_map(|(bridge, state)| Request::ShowNeigh(NeighFilter { bridge, state })),
        (address(), macs(), names()).prop_map(|(address, mac, bridge)| Request::AddNeigh(AddNeigh {
            address,
            mac,
            bridge
        })),
        (address(), name()).prop_map(|(address, bridge)| Request::DelNeigh(DelNeigh { address, bridge })),
        name().prop_map(|bridge| Request::FlushNeigh { bridge }),
        name().prop_map(|bridge| Request::ShowDhcp { bridge }),
    ]
}

fn requests() -> impl Strategy<Value = Request> {
    let name = || prop::option::of(names());
    let vlan = || prop::option::of(0u16..=VLAN_MAX);
    let access = (names(), names(), settings()).prop_map(|(interface, bridge, settings)| {
        Request::AddPort(AddPort { interface, bridge: Some(bridge), settings, ..AddPort::default() })
    });
    let trunk = (names(), prop::collection::btree_set(1u16..=VLAN_MAX, 1..9)).prop_map(|(interface, vlans)| {
        let trunk = vlans.into_iter().map(|vlan| (vlan, format!("bridge{vlan}"))).collect();
        Request::AddPort(AddPort { interface, trunk, ..AddPort::default() })
    });
    prop_oneof![
        (name(), name(), vlan(), any::<bool>()).prop_map(|(bridge, port, vlan, dynamic)| Request::ShowFdb(FdbFilter {
            bridge,
            port,
            vlan,
            dynamic
        })),
        name().prop_map(|port| Request::ShowPorts { port }),
        name().prop_map(|port| Request::ShowDrops { port }),
        access,
        trunk,
        names().prop_map(|port| Request::DelPort { port }),
        (names(), settings())
            .prop_filter("changes something", |(_, settings)| !settings.is_empty())
            .prop_map(|(port, settings)| Request::SetPort { port, settings }),
        (macs(), names(), name(), vlan(), any::<bool>())
            .prop_map(|(mac, port, bridge, vlan, sticky)| Request::AddFdb(AddFdb { mac, port, bridge, vlan, sticky })),
        (macs(), name(), name(), vlan()).prop_map(|(mac, bridge, port, vlan)| Request::DelFdb(DelFdb {
            mac,
            bridge,
            port,
            vlan
        })),
        (name(), name(), vlan(), any::<bool>()).prop_map(|(bridge, port, vlan, include_static)| {
            Request::FlushFdb(FdbFlush { bridge, port, vlan, include_static })
        }),
        routing(),
        prop::sample::select(vec![
            Request::ShowBridges {},
            Request::ShowWorkers {},
            Request::ShowHost {},
            Request::ShowConfig {},
            Request::Reload {},
            Request::Shutdown {},
            Request::Version {},
        ]),
    ]
}

proptest! {
    #[test]
    fn every_request_survives_the_wire(request in requests(), id in any::<u64>()) {
        let sent = RequestLine::new(id, request);
        let text = line(&sent);
        prop_assert!(text.contains(&format!("{{\"{}\":{{", sent.request.name())), "{}", text);
        prop_assert_eq!(RequestLine::parse(text.trim_end().as_bytes()), Ok(sent));
    }

    #[test]
    fn any_bytes_in_an_answer_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = serde_json::from_slice::<ResponseLine<PortStatus>>(&bytes);
        let _ = serde_json::from_slice::<ResponseLine<FdbEntry>>(&bytes);
    }
}
