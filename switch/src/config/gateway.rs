//! The switch's own addresses in a bridge: `gateway` and `vrf` of `[[bridge]]`, and what DHCP and router
//! advertisements of that bridge share with them.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use thiserror::Error;
use toml::de::DeValue;

use super::check::{Finding, Report, bridge_name, finding};
use super::error::{Problem, quote};
use super::read::{Draft, Section, Spot};
use super::{BridgeConfig, Config, dhcp, ra};
use crate::limits::{GATEWAYS_MAX, NAME_SERVERS_MAX};

/// The VRF of a bridge that names none.
pub const VRF_DEFAULT: &str = "default";

/// Shortest prefix of a subnet: the longest list of hosts anybody bridges, and far more.
const PREFIX_MIN: u8 = 8;

/// What is wrong with addresses of the switch.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs, reason = "each message says what its fields are")]
pub enum GatewayProblem {
    #[error("\"vrf\" is {}; use 1 to 63 letters, digits, '.', '_' or '-'", quote(name))]
    VrfName { name: String },
    #[error("\"gateway\" has {count} addresses; a bridge has at most {GATEWAYS_MAX}")]
    TooMany { count: usize },
    #[error("\"gateway\" has {net}, whose prefix is too short; write a length of {PREFIX_MIN} or more")]
    ShortPrefix { net: IpNet },
    #[error("\"gateway\" has {net}, {kind}; write an address that a host of the subnet could have")]
    NoHost { net: IpNet, kind: &'static str },
    #[error("\"gateway\" has the address {address} twice; write it once")]
    Twice { address: IpAddr },
    #[error(
        "\"gateway\" has {net}, which overlaps {other} of bridge {} at line {line}; \
         use another subnet, or put one of the bridges in a VRF of its own with vrf = \"NAME\"",
        quote(bridge)
    )]
    Overlap { net: IpNet, other: IpNet, bridge: String, line: usize },
    #[error("\"{key}\" has {count} entries; write at most {max}")]
    LongList { key: &'static str, count: usize, max: usize },
    #[error("\"{key}\" has {address}, {kind}; write the address of one host")]
    ServerKind { key: &'static str, address: IpAddr, kind: &'static str },
    #[error(
        "\"{key}\" has {}; write labels of letters, digits, '-' and '_' with dots between them, like \"pods.example\"",
        quote(name)
    )]
    DomainName { key: &'static str, name: String },
}

/// Where the tables inside one `[[bridge]]` are.
#[derive(Debug, Default)]
pub(super) struct ServiceSpots {
    pub dhcp: Spot,
    pub statics: Vec<Spot>,
    pub ra: Spot,
}

/// Reads what makes a bridge routed into `bridge`.
pub(super) fn read(section: &mut Section<'_, '_>, bridge: &mut BridgeConfig) -> ServiceSpots {
    let mut spots = ServiceSpots::default();
    if let Some(vrf) = section.text("vrf", "a string, like \"blue\"") {
        bridge.vrf = vrf;
    }
    const EXPECTED: &str = "an address with the length of its subnet's prefix, like \"10.244.1.1/24\"";
    bridge.gateway = section.parsed_list("gateway", EXPECTED).unwrap_or_default();
    bridge.dhcp = dhcp::read(section, &bridge.gateway, &mut spots);
    bridge.ra = ra::read(section, &bridge.gateway, &mut spots);
    spots
}

/// Rules of every bridge's addresses and services.
pub(super) fn whole(config: &Config, draft: &Draft, report: &mut Report<'_>) {
    let spots = draft.bridge_spots.iter().zip(&draft.service_spots);
    for (bridge, (spot, services)) in config.bridges.iter().zip(spots) {
        if report.full() {
            return;
        }
        let vrf = bridge_name(&bridge.vrf).map(|_| GatewayProblem::VrfName { name: bridge.vrf.clone() });
        report.add(spot, vrf.map(|problem| finding("vrf", problem.into())));
        report.add(spot, addresses(&bridge.gateway));
        dhcp::check(bridge, services, report);
        report.add(&services.ra, ra::check(bridge));
    }
    overlaps(config, draft, report);
}

fn addresses(gateway: &[IpNet]) -> Vec<Finding> {
    let mut problems = Vec::new();
    if gateway.len() > GATEWAYS_MAX {
        problems.push(GatewayProblem::TooMany { count: gateway.len() });
    }
    let mut seen = HashSet::new();
    for net in gateway.iter().copied() {
        if net.prefix_len() < PREFIX_MIN {
            problems.push(GatewayProblem::ShortPrefix { net });
        } else if let Some(kind) = no_unicast(net.addr()).or_else(|| edge(net)) {
            problems.push(GatewayProblem::NoHost { net, kind });
        }
        if !seen.insert(net.addr()) {
            problems.push(GatewayProblem::Twice { address: net.addr() });
        }
    }
    problems.into_iter().map(|problem| finding("gateway", problem.into())).collect()
}

/// Why no router can have this address on a link, if it cannot.
pub(super) fn no_unicast(address: IpAddr) -> Option<&'static str> {
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    match address {
        _ if address.is_unspecified() => Some("the unspecified address"),
        _ if address.is_loopback() => Some("a loopback address"),
        _ if address.is_multicast() => Some("a multicast address"),
        _ if link_local => Some("a link-local address"),
        IpAddr::V4(address) if address.is_broadcast() => Some("the broadcast address"),
        IpAddr::V4(address) if address.octets()[0] == 0 => Some("an address of \"this network\""),
        IpAddr::V4(address) if address.octets()[0] == 127 => Some("a loopback address"),
        IpAddr::V4(address) if address.octets()[0] >= 240 => Some("a reserved address"),
        IpAddr::V6(address) if address.to_ipv4_mapped().is_some() => Some("an IPv4 address in the form of IPv6"),
        _ => None,
    }
}

/// What an address at the edge of its subnet is.
fn edge(net: IpNet) -> Option<&'static str> {
    match net {
        IpNet::V4(net) => edge_v4(net, net.addr()),
        IpNet::V6(net) if net.prefix_len() < 127 && net.addr() == net.network() => {
            Some("the anycast address of its subnet's routers")
        }
        IpNet::V6(_) => None,
    }
}

/// What `address` is when no host of `subnet` can have it.
pub(super) fn edge_v4(subnet: Ipv4Net, address: Ipv4Addr) -> Option<&'static str> {
    if subnet.prefix_len() > 30 {
        return None;
    }
    match address {
        _ if address == subnet.network() => Some("the network address of its subnet"),
        _ if address == subnet.broadcast() => Some("the broadcast address of its subnet"),
        _ => None,
    }
}

/// One subnet, ordered so that what contains another stands before it.
type Span<'c> = (&'c str, bool, u128, Reverse<u128>, usize, IpNet);

/// Two bridges of one VRF have no address in common. Subnets are apart or one inside the other, so each is
/// compared with the nearest that may contain it.
fn overlaps(config: &Config, draft: &Draft, report: &mut Report<'_>) {
    let mut spans: Vec<Span<'_>> = Vec::new();
    for (index, bridge) in config.bridges.iter().enumerate() {
        spans.extend(bridge.gateway.iter().map(|net| {
            let (start, end) = match net {
                IpNet::V4(net) => (u32::from(net.network()).into(), u32::from(net.broadcast()).into()),
                IpNet::V6(net) => (net.network().into(), net.broadcast().into()),
            };
            (bridge.vrf.as_str(), net.addr().is_ipv6(), start, Reverse(end), index, *net)
        }));
    }
    spans.sort();
    let mut outer: Vec<&Span<'_>> = Vec::new();
    for span in &spans {
        let (vrf, is_v6, start, _, index, net) = *span;
        while outer.pop_if(|outer| (outer.0, outer.1) != (vrf, is_v6) || outer.3.0 < start).is_some() {}
        match outer.last().map(|outer| (outer.4, outer.5)) {
            Some((other, other_net)) if other != index => {
                if report.full() {
                    return;
                }
                // The later of the two in the file is to be mended.
                let ((at, net), (other, other_net)) =
                    if index > other { ((index, net), (other, other_net)) } else { ((other, other_net), (index, net)) };
                let (bridge, line) = (config.bridges[other].name.clone(), report.line(&draft.bridge_spots[other]));
                let problem = GatewayProblem::Overlap { net, other: other_net, bridge, line };
                report.add(&draft.bridge_spots[at], [finding("gateway", problem.into())]);
            }
            _ => outer.push(span),
        }
    }
}

/// Rules of a list of servers that clients are told.
pub(super) fn servers(key: &'static str, list: impl Iterator<Item = IpAddr>) -> Vec<Finding> {
    let mut problems = Vec::new();
    let mut count = 0;
    for address in list {
        count += 1;
        let kind = match no_unicast(address) {
            // A router's own name server may well be asked at its link-local address.
            Some("a link-local address") if address.is_ipv6() => None,
            other => other,
        };
        problems.extend(kind.map(|kind| GatewayProblem::ServerKind { key, address, kind }));
    }
    if count > NAME_SERVERS_MAX {
        problems.push(GatewayProblem::LongList { key, count, max: NAME_SERVERS_MAX });
    }
    problems.into_iter().map(|problem| finding(key, problem.into())).collect()
}

/// Whether `name` is a host or domain name, and if not, what to say.
pub(super) fn domain_name(key: &'static str, name: &str) -> Option<Finding> {
    let right = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(right);
    let fits = name.len() <= 253 && name.split('.').all(label);
    (!fits).then(|| finding(key, GatewayProblem::DomainName { key, name: name.to_string() }.into()))
}

/// The IPv4 addresses of the switch in a bridge, each with its subnet.
pub(super) fn v4(gateway: &[IpNet]) -> impl Iterator<Item = Ipv4Net> {
    gateway.iter().filter_map(|net| match net {
        IpNet::V4(net) => Some(*net),
        IpNet::V6(_) => None,
    })
}

/// The IPv6 addresses of the switch in a bridge, each with its subnet.
pub(super) fn v6(gateway: &[IpNet]) -> impl Iterator<Item = Ipv6Net> {
    gateway.iter().filter_map(|net| match net {
        IpNet::V6(net) => Some(*net),
        IpNet::V4(_) => None,
    })
}

impl Section<'_, '_> {
    /// A string that is read as a `T`.
    pub(super) fn parsed<T: FromStr>(&mut self, key: &'static str, expected: &'static str) -> Option<T> {
        let text = self.text(key, expected)?;
        let value = text.parse().ok();
        if value.is_none() {
            self.report(key, Problem::Value { key, text, expected });
        }
        value
    }

    /// A list of strings, each read as a `T`. `None` when there is none; wrong entries are reported and left out.
    pub(super) fn parsed_list<T: FromStr>(&mut self, key: &'static str, expected: &'static str) -> Option<Vec<T>> {
        let value = self.value(key)?;
        let DeValue::Array(list) = value else {
            self.wrong_type(key, "a list of strings in square brackets", value);
            return None;
        };
        let mut values = Vec::with_capacity(list.len());
        for item in list.iter() {
            let Some(text) = item.get_ref().as_str() else {
                self.wrong_type(key, "a list of strings in square brackets", item.get_ref());
                continue;
            };
            match text.parse() {
                Ok(value) => values.push(value),
                Err(_) => self.report(key, Problem::Value { key, text: text.to_string(), expected }),
            }
        }
        Some(values)
    }
}
