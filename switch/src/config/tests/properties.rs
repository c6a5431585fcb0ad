//! Arbitrary text never panics, valid configurations survive a round trip, and a diff leads where it says.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;

use super::services::ROUTED;
use super::{DEMO, VLAN};
use crate::config::{
    BridgeConfig, BridgeRouter, Config, DhcpConfig, Diff, PollMode, PortConfig, RaConfig, ResumeLatency, RouteConfig,
    RouteKind, StaticEntry, StaticLease, SwitchConfig, VRF_DEFAULT, Via,
};
use crate::ids::Mac;

const BRIDGES: [&str; 4] = ["pods", "blue", "Green_2", "a.b-c"];
const PORTS: [&str; 5] = ["web0", "db0", "it's", "quo\"te\\", "15-bytes-is-max"];

/// Parses and checks what every outcome must obey.
fn probe(text: &str) {
    match Config::parse("f", text, &[0, 1]) {
        Ok(config) => assert_eq!(Config::parse("f", &config.to_toml(), &[0, 1]), Ok(config)),
        Err(errors) => {
            assert!(!errors.all().is_empty());
            for error in errors.all() {
                let line = error.to_string();
                assert!(!line.contains(char::is_control), "one line: {line:?}");
                let place = error.place.as_ref().unwrap();
                assert!(place.line >= 1 && place.line <= text.split('\n').count(), "{line}");
                assert!(line.starts_with(&format!("f:{}:{}: ", place.line, place.column)), "{line}");
            }
        }
    }
}

/// Words of the format in any order: gets much further into the reader than random characters.
fn soup() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "[switch]",
        "[[bridge]]",
        "[[port]]",
        "[[fdb]]",
        "[port.trunk]",
        "[bridge.dhcp]",
        "[[bridge.dhcp.static]]",
        "[bridge.ra]",
        "gateway",
        "range",
        "address",
        "prefixes",
        "\"10.0.0.1/24\"",
        "\"fd00::1/64\"",
        "\"10.0.0.9\"",
        "\n",
        "\n",
        "name",
        "interface",
        "bridge",
        "trunk",
        "workers",
        "frames",
        "poll",
        "mac",
        "port",
        "10",
        "0",
        "4095",
        "-1",
        "99999999999",
        "=",
        "=",
        "=",
        "{",
        "}",
        "[",
        "]",
        ",",
        "\"pods\"",
        "\"web0\"",
        "\"02:00:00:00:00:01\"",
        "true",
        "1.5",
        "1979-05-27",
        "#",
        "\"",
        "'''",
        ".",
    ]);
    vec(word, 0..60).prop_map(|words| words.join(" "))
}

/// A working file with a stretch replaced.
fn damaged() -> impl Strategy<Value = String> {
    let file = prop::sample::select(vec![DEMO, VLAN, ROUTED]);
    (file, any::<prop::sample::Index>(), 0usize..30, "\\PC{0,8}").prop_map(|(file, at, cut, with)| {
        let letters: Vec<char> = file.chars().collect();
        let at = at.index(letters.len());
        let head: String = letters[..at].iter().collect();
        let tail: String = letters[(at + cut).min(letters.len())..].iter().collect();
        head + &with + &tail
    })
}

fn resume_latency() -> impl Strategy<Value = ResumeLatency> {
    prop_oneof![Just(ResumeLatency::Auto), Just(ResumeLatency::Off), (0u32..=1_000_000).prop_map(ResumeLatency::Us)]
}

fn switch() -> impl Strategy<Value = SwitchConfig> {
    let socket = "/[a-z0-9 '\"\\\\#/]{0,40}[a-z'\"\\\\]";
    let group = option::of("[a-z'\"\\\\]{1,32}");
    let state_dir = "/[a-z0-9 '\"\\\\#/]{0,40}";
    (
        socket,
        group,
        btree_set(0usize..64, 1..16),
        1024u32..2_097_152,
        resume_latency(),
        any::<bool>(),
        16u32..1_048_576,
        state_dir,
    )
        .prop_map(
            |(control_socket, control_group, workers, frames, resume_latency_us, spin, fdb_entries, state_dir)| {
                SwitchConfig {
                    control_socket,
                    control_group,
                    workers: workers.into_iter().rev().collect(),
                    frames,
                    receive_threads: spin,
                    container_gro: !spin,
                    resume_latency_us,
                    poll: if spin { PollMode::Spin } else { PollMode::Adaptive },
                    fdb_entries,
                    state_dir,
                }
            },
        )
}

/// What the bridge with this index has as a routed subnet: 10.`index`.0.0/16 and fd00:`index`::/64, or nothing.
fn routed(index: usize, name: String, ageing_seconds: u32) -> impl Strategy<Value = BridgeConfig> {
    let index = index as u8;
    let v4 = option::of((100u8..200, 60u32..9_999_999, option::of("[a-z]{1,20}[.][a-z0-9_-]{1,40}"), 0u8..3));
    let v6 = option::of((option::of(1280u32..=65_535), 4u16..1800, any::<[bool; 4]>()));
    (v4, v6, prop::sample::select(vec!["default", "blue"])).prop_map(move |(v4, v6, vrf)| {
        let mut bridge = BridgeConfig { ageing_seconds, vrf: vrf.to_string(), ..BridgeConfig::new(&name) };
        let address = |last| Ipv4Addr::new(10, index, 0, last);
        if let Some((last, lease_seconds, domain, statics)) = v4 {
            bridge.gateway.push(format!("10.{index}.0.1/16").parse().unwrap());
            let lease = |number: u8| StaticLease {
                mac: (number != 1).then(|| Mac::new([2, 0, 0, 0, 0, number])),
                client_id: (number == 1).then(|| "00:ff:07".parse().unwrap()),
                address: address(240 + number),
                hostname: domain.clone(),
            };
            bridge.dhcp = Some(DhcpConfig {
                range: [address(10), address(last)],
                lease_seconds,
                router: address(last),
                dns: vec![address(2); usize::from(statics)],
                ntp: vec![address(2); usize::from(last % 3)],
                mtu: domain.as_ref().map(|_| 68 + u16::from(last)),
                domain: domain.clone(),
                statics: (0..statics).map(lease).collect(),
            });
        }
        if let Some((mtu, interval_seconds, [managed, other, named, lasting])) = v6 {
            bridge.gateway.push(format!("fd00:{index}::1/64").parse().unwrap());
            bridge.ra = Some(RaConfig {
                prefixes: if named { vec![format!("fd00:{index}::/64").parse().unwrap()] } else { Vec::new() },
                dns: if named { vec!["fe80::53".parse().unwrap(); 2] } else { Vec::new() },
                search: if other { vec!["a.b".to_string(), "c".to_string()] } else { Vec::new() },
                mtu,
                lifetime_seconds: if lasting { 9000 } else { 0 },
                interval_seconds,
                managed,
                other,
            });
        }
        bridge
    })
}

/// A port whose domains are drawn from `bridges`: each bridge is untagged, tagged, or not carried.
fn port(interface: &str, bridges: Vec<String>) -> impl Strategy<Value = PortConfig> + use<> {
    let interface = interface.to_string();
    let vlans = btree_set(1u16..4095, bridges.len());
    let roles = (0..=bridges.len(), vec(any::<bool>(), bridges.len()));
    (vlans, roles, any::<[bool; 5]>(), 0u32..1_048_577).prop_map(move |(vlans, (native, tagged), flags, mac_limit)| {
        let [isolated, learning, flood_unicast, flood_broadcast, flood_multicast] = flags;
        let carried = bridges.iter().zip(vlans).enumerate().filter(|(index, _)| *index != native && tagged[*index]);
        let trunk: BTreeMap<u16, String> = carried.map(|(_, (name, vlan))| (vlan, name.clone())).collect();
        // Somewhere it must be: with nothing drawn, the first bridge is its untagged one.
        let bridge = bridges.get(native).or(if trunk.is_empty() { bridges.first() } else { None }).cloned();
        let interface = interface.clone();
        PortConfig {
            interface,
            bridge,
            trunk,
            address: Vec::new(),
            vrf: None,
            isolated,
            learning,
            flood_unicast,
            flood_broadcast,
            flood_multicast,
            mac_limit,
        }
    })
}

fn static_entries(ports: Vec<PortConfig>) -> impl Strategy<Value = Vec<StaticEntry>> {
    let picks = (any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<bool>());
    let most = if ports.is_empty() { 0 } else { 8 };
    btree_map(1u64..12, picks, 0..=most).prop_map(move |picked| {
        let entry = |(bits, (port, domain, sticky)): (u64, (prop::sample::Index, prop::sample::Index, bool))| {
            let port = port.get(&ports);
            let domains: Vec<&str> = port.domains().collect();
            let (bridge, port) = (domain.get(&domains).to_string(), port.interface.clone());
            StaticEntry { mac: Mac::from_bits(bits), bridge, port, sticky }
        };
        picked.into_iter().map(entry).collect()
    })
}

/// Bridges that have a gateway, with what else there is to say of it.
fn with_router(bridges: Vec<BridgeConfig>) -> impl Strategy<Value = Vec<BridgeConfig>> {
    let choices = vec((any::<[bool; 4]>(), option::of(1_280u32..9_000)), bridges.len());
    choices.prop_map(move |choices| {
        let mut bridges = bridges.clone();
        let routed = bridges.iter_mut().filter(|bridge| !bridge.gateway.is_empty());
        for (number, (bridge, (flags, mtu))) in routed.zip(choices).enumerate() {
            let [proxy_arp, suppress, redirects, clamp_mss] = flags;
            let gateway_mac = suppress.then(|| Mac::from_bits(0x0600_0000_0000 | number as u64));
            bridge.router = BridgeRouter { gateway_mac, mtu, proxy_arp, suppress, redirects, clamp_mss };
        }
        bridges
    })
}

fn routed_ports() -> impl Strategy<Value = Vec<PortConfig>> {
    (0usize..3, option::of(Just("red".to_string()))).prop_map(|(count, vrf)| {
        let port = |number: usize| PortConfig {
            address: vec![format!("192.168.{number}.1/30").parse().unwrap()],
            vrf: vrf.clone(),
            ..PortConfig::new(&format!("up{number}"))
        };
        (0..count).map(port).collect()
    })
}

/// Routes through the interfaces of `config`, to prefixes that none of them has.
fn routes(config: &Config) -> impl Strategy<Value = Vec<RouteConfig>> + use<> {
    let hops: Vec<(Via, Option<String>)> = config
        .interfaces()
        .flat_map(|interface| {
            let vrf = Some(interface.vrf.to_string()).filter(|vrf| vrf != VRF_DEFAULT);
            interface.addresses.iter().map(move |net| {
                let other = net.hosts().find(|host| ![net.addr(), net.network()].contains(host)).unwrap();
                (Via { to: other, weight: 1 }, vrf.clone())
            })
        })
        .collect();
    let choice = (any::<prop::sample::Index>(), 1u16..=256, 0u8..5, any::<bool>());
    vec(choice, 0..6).prop_map(move |choices| {
        let route = |(number, (at, weight, kind, named)): (usize, (prop::sample::Index, u16, u8, bool))| {
            let prefix =
                |v4: bool| if v4 { format!("172.16.{number}.0/24") } else { format!("2001:db8:{number}::/48") };
            let leads = kind > 1 && !hops.is_empty();
            let (hop, vrf) = if leads { at.get(&hops).clone() } else { (Via { to: [0; 4].into(), weight: 1 }, None) };
            let kinds = [RouteKind::Blackhole, RouteKind::Prohibit];
            RouteConfig {
                to: prefix(hop.to.is_ipv4()).parse().unwrap(),
                via: if leads { vec![Via { weight: if named { weight } else { 1 }, ..hop }] } else { Vec::new() },
                kind: if leads { RouteKind::Unicast } else { kinds[usize::from(kind) % 2] },
                interface: None,
                vrf,
            }
        };
        choices.into_iter().enumerate().map(route).collect()
    })
}

/// A configuration that keeps every rule.
fn config() -> impl Strategy<Value = Config> {
    let bridges = prop::sample::subsequence(BRIDGES.to_vec(), 1..=BRIDGES.len());
    let interfaces = prop::sample::subsequence(PORTS.to_vec(), 0..=PORTS.len());
    (bridges, interfaces)
        .prop_flat_map(|(bridges, interfaces)| {
            let names: Vec<String> = bridges.iter().map(|name| name.to_string()).collect();
            let ports: Vec<_> = interfaces.into_iter().map(|interface| port(interface, names.clone())).collect();
            (Just(names.clone()), vec(10u32..1_000_001, names.len()), ports)
        })
        .prop_flat_map(|(names, ages, ports)| {
            let bridges = names.into_iter().zip(ages);
            let bridges = bridges.enumerate().map(|(index, (name, age))| routed(index, name, age));
            let bridges = bridges.collect::<Vec<_>>().prop_flat_map(with_router);
            (switch(), bridges, Just(ports.clone()), static_entries(ports), routed_ports())
        })
        .prop_flat_map(|(switch, bridges, mut ports, fdb, routed)| {
            ports.extend(routed);
            let config = Config { switch, bridges, ports, fdb, routes: Vec::new() };
            let routes = routes(&config);
            (Just(config), routes)
        })
        .prop_map(|(config, routes)| Config { routes, ..config })
}

/// Every name in `config` names something that is there.
fn coherent(config: &Config) {
    for port in &config.ports {
        assert!(port.domains().all(|domain| config.bridge(domain).is_some()), "{port:?}");
    }
    for entry in &config.fdb {
        let port = config.port(&entry.port).unwrap();
        assert!(port.domains().any(|domain| domain == entry.bridge), "{entry:?} {port:?}");
    }
}

/// Follows `diff` step by step in the documented order.
fn apply(config: &mut Config, diff: &Diff) {
    config.routes.retain(|route| !diff.routes_removed.contains(route));
    coherent(config);
    config.fdb.retain(|entry| !diff.fdb_removed.contains(entry));
    coherent(config);
    config.ports.retain(|port| !diff.ports_removed.contains(&port.interface));
    coherent(config);
    config.bridges.extend(diff.bridges_added.iter().cloned());
    for changed in &diff.bridges_changed {
        config.bridges.iter_mut().find(|bridge| bridge.name == changed.name).unwrap().clone_from(changed);
    }
    for change in &diff.ports_changed {
        let port = config.ports.iter_mut().find(|port| port.interface == change.port.interface).unwrap();
        assert_eq!(change.membership, !port.domains().eq(change.port.domains()) || port.trunk != change.port.trunk);
        port.clone_from(&change.port);
        coherent(config);
    }
    config.ports.extend(diff.ports_added.iter().cloned());
    coherent(config);
    config.bridges.retain(|bridge| !diff.bridges_removed.contains(&bridge.name));
    coherent(config);
    config.fdb.extend(diff.fdb_added.iter().cloned());
    coherent(config);
    config.routes.extend(diff.routes_added.iter().cloned());
    coherent(config);
}

fn sorted(mut config: Config) -> Config {
    config.bridges.sort_by(|a, b| a.name.cmp(&b.name));
    config.ports.sort_by(|a, b| a.interface.cmp(&b.interface));
    config.routes.sort_by(|a, b| (&a.vrf, a.to).cmp(&(&b.vrf, b.to)));
    config.fdb.sort_by(|a, b| (a.mac, &a.bridge).cmp(&(b.mac, &b.bridge)));
    config
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text_never_panics(text in "(?s).{0,200}") {
        probe(&text);
    }

    #[test]
    fn arbitrary_words_never_panic(text in soup()) {
        probe(&text);
    }

    #[test]
    fn damaged_files_never_panic(text in damaged()) {
        probe(&text);
    }

    #[test]
    fn valid_configurations_survive_a_round_trip(config in config()) {
        let text = config.to_toml();
        let again = Config::parse("t", &text, &[]);
        prop_assert_eq!(again.as_ref(), Ok(&config), "{}", text);
        // The JSON form has the same keys and values as the text.
        let from_text: serde_json::Value = toml::from_str(&text).unwrap();
        prop_assert_eq!(from_text, serde_json::to_value(&config).unwrap());
    }

    #[test]
    fn a_diff_leads_from_one_to_the_other(old in config(), new in config()) {
        let diff = Config::diff(&old, &new);
        let mut config = old.clone();
        apply(&mut config, &diff);
        config.switch = new.switch.clone();
        prop_assert_eq!(sorted(config), sorted(new.clone()));
        prop_assert_eq!(diff.restart_needed.is_empty(), old.switch == new.switch);
        prop_assert!(Config::diff(&new, &new).is_empty());
    }
}

#[test]
fn deep_nesting_never_overflows_the_stack() {
    let deep = |open: &str| open.repeat(100_000);
    probe(&format!("a = {}", deep("[")));
    probe(&format!("a = {}", deep("{ a = ")));
    probe(&format!("{}a = 1", deep("a.")));
    probe(&format!("[{}a]", deep("a.")));
    probe(&format!("[[port]]\ntrunk.{}a = 1", deep("1.")));
}
