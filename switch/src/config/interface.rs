//! The router's interfaces as configured: gateways of bridges, and routed ports.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Serialize, Serializer};
use toml::de::DeValue;

use super::check::{Report, finding, is_plain_name, no_station};
use super::error::Problem;
use super::gateway::VRF_DEFAULT;
use super::read::{Draft, Section, Spot};
use super::write::{Text, quoted};
use super::{BridgeConfig, Config, PortConfig};
use crate::ids::Mac;
use crate::limits::{DOMAINS_MAX, IPV6_MTU_MIN, VRFS_MAX};

/// Smallest and largest `mtu` of an interface, in bytes: what every IPv4 host takes (RFC 1122 3.3.3), and what an IPv4
/// packet can be long.
const MTU_MIN: u32 = 576;
const MTU_MAX: u32 = 65_535;

/// What there is to say of the router's interface on a bridge beside its addresses.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BridgeRouter {
    /// Its MAC address; `None` derives one.
    #[serde(serialize_with = "mac_as_text", skip_serializing_if = "Option::is_none")]
    pub gateway_mac: Option<Mac>,
    /// Largest IP packet in bytes; `None` is what the bridge's ports take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// ARP requests and neighbour solicitations for hosts behind other interfaces are answered.
    #[serde(skip_serializing_if = "is_false")]
    pub proxy_arp: bool,
    /// ARP requests and neighbour solicitations for known neighbours are answered instead of flooded.
    #[serde(skip_serializing_if = "is_false")]
    pub suppress: bool,
    /// Senders are told of a better router on their own subnet.
    #[serde(skip_serializing_if = "is_true")]
    pub redirects: bool,
    /// The TCP maximum segment size is lowered to what fits the interface.
    #[serde(skip_serializing_if = "is_false")]
    pub clamp_mss: bool,
}

impl Default for BridgeRouter {
    fn default() -> Self {
        BridgeRouter {
            gateway_mac: None,
            mtu: None,
            proxy_arp: false,
            suppress: false,
            redirects: true,
            clamp_mss: false,
        }
    }
}

fn mac_as_text<S: Serializer>(mac: &Option<Mac>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&mac.unwrap_or(Mac::ZERO))
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_true(value: &bool) -> bool {
    *value
}

/// An interface of the router: a bridge with a gateway, or a routed port.
#[derive(Clone, Copy, Debug)]
pub struct Interface<'c> {
    /// Name of the bridge, or of the port's interface.
    pub name: &'c str,
    /// Its VRF.
    pub vrf: &'c str,
    /// The router's addresses on it, each with its subnet.
    pub addresses: &'c [IpNet],
    /// What it is.
    pub kind: InterfaceKind<'c>,
}

/// What an [`Interface`] is.
#[derive(Clone, Copy, Debug)]
pub enum InterfaceKind<'c> {
    /// A bridge's gateway.
    Bridge(&'c BridgeConfig),
    /// A routed port.
    Port(&'c PortConfig),
}

impl BridgeConfig {
    /// The router's interface on this bridge, if it has a gateway.
    pub fn interface(&self) -> Option<Interface<'_>> {
        let interface =
            Interface { name: &self.name, vrf: &self.vrf, addresses: &self.gateway, kind: InterfaceKind::Bridge(self) };
        (!self.gateway.is_empty()).then_some(interface)
    }
}

impl PortConfig {
    /// The router's interface on this port, if it is routed.
    pub fn routed(&self) -> Option<Interface<'_>> {
        let vrf = self.vrf.as_deref().unwrap_or(VRF_DEFAULT);
        let kind = InterfaceKind::Port(self);
        self.is_routed().then_some(Interface { name: &self.interface, vrf, addresses: &self.address, kind })
    }
}

impl Config {
    /// The router's interfaces: gateways of bridges, then routed ports.
    pub fn interfaces(&self) -> impl Iterator<Item = Interface<'_>> {
        let bridges = self.bridges.iter().filter_map(BridgeConfig::interface);
        bridges.chain(self.ports.iter().filter_map(PortConfig::routed))
    }
}

impl Section<'_, '_> {
    /// Interface addresses: one as a string, or a list of strings.
    pub(super) fn interface_addresses(&mut self, key: &'static str) -> Vec<IpNet> {
        const EXPECTED: &str = "a list of addresses with the length of their subnet, like [\"10.244.1.1/24\"]";
        let Some(value) = self.table.get(key) else { return Vec::new() };
        let one = std::slice::from_ref(value);
        let items = match value.get_ref() {
            DeValue::Array(list) => list.iter().as_slice(),
            _ => one,
        };
        let mut addresses = Vec::with_capacity(items.len());
        for item in items {
            let Some(text) = item.get_ref().as_str() else {
                self.wrong_type(key, EXPECTED, item.get_ref());
                return addresses;
            };
            match text.parse::<IpNet>() {
                Ok(net) => addresses.push(net),
                Err(_) => self.report(key, Problem::AddressText { key, text: text.to_string() }),
            }
        }
        if items.is_empty() {
            self.wrong_type(key, EXPECTED, value.get_ref());
        }
        addresses
    }

    /// The key `vrf`; the default one's name says nothing.
    pub(super) fn vrf(&mut self) -> Option<String> {
        let vrf = self.text("vrf", "a string, like \"blue\"")?;
        if !is_plain_name(&vrf) {
            self.report("vrf", Problem::VrfName { vrf: vrf.clone() });
        }
        Some(vrf).filter(|vrf| vrf != VRF_DEFAULT)
    }
}

/// Reads what a bridge says of the router beside its addresses.
pub(super) fn read(section: &mut Section<'_, '_>) -> BridgeRouter {
    let usual = BridgeRouter::default();
    let mac = section.text("gateway_mac", "a string, like \"02:42:ac:11:00:01\"");
    BridgeRouter {
        gateway_mac: mac.and_then(|text| section.mac("gateway_mac", text)),
        mtu: section.number("mtu", MTU_MIN, MTU_MAX),
        proxy_arp: section.flag("proxy_arp").unwrap_or(usual.proxy_arp),
        suppress: section.flag("suppress").unwrap_or(usual.suppress),
        redirects: section.flag("redirects").unwrap_or(usual.redirects),
        clamp_mss: section.flag("clamp_mss").unwrap_or(usual.clamp_mss),
    }
}

/// Writes what a bridge says of the router; what is not set, or stands as it is by default, is left out.
pub(super) fn write(bridge: &BridgeConfig, text: &mut Text) {
    let router = &bridge.router;
    text.optional("gateway_mac", router.gateway_mac.map(|mac| quoted(&mac.to_string())));
    text.optional("mtu", router.mtu.map(|mtu| mtu.to_string()));
    text.optional("proxy_arp", router.proxy_arp.then(|| "true".to_string()));
    text.optional("suppress", router.suppress.then(|| "true".to_string()));
    text.optional("redirects", (!router.redirects).then(|| "false".to_string()));
    text.optional("clamp_mss", router.clamp_mss.then(|| "true".to_string()));
}

/// Every broken rule of the router's interfaces.
pub(super) fn check_all(config: &Config, draft: &Draft, report: &mut Report<'_>) {
    for (bridge, spot) in config.bridges.iter().zip(&draft.bridge_spots) {
        report.add(spot, check_bridge(bridge).map(|(key, problem)| finding(key, problem)));
    }
    let macs: HashMap<&str, Mac> =
        config.bridges.iter().filter_map(|bridge| Some((bridge.name.as_str(), bridge.router.gateway_mac?))).collect();
    for (entry, spot) in config.fdb.iter().zip(&draft.fdb_spots) {
        if macs.get(entry.bridge.as_str()) == Some(&entry.mac) {
            report.add(spot, [finding("mac", Problem::StaticIsGateway { bridge: entry.bridge.clone() })]);
        }
    }
    let bridges: HashSet<&str> = config.bridges.iter().map(|bridge| bridge.name.as_str()).collect();
    let mut routed = 0;
    for (port, spot) in config.ports.iter().zip(&draft.port_spots).filter(|(port, _)| port.is_routed()) {
        routed += 1;
        if bridges.contains(port.interface.as_str()) {
            report.add(spot, [finding("interface", Problem::PortLikeBridge)]);
        }
        if bridges.len() <= DOMAINS_MAX && bridges.len() + routed == DOMAINS_MAX + 1 {
            report.add(spot, [finding("address", Problem::TooManyDomains { count: DOMAINS_MAX + 1 })]);
        }
    }
    let spots = spots(config, draft);
    check_vrfs(config, &spots, report);
    check_addresses(config, &spots, report);
}

/// Places of [`Config::interfaces`], with the key of their addresses.
fn spots<'d>(config: &Config, draft: &'d Draft) -> Vec<(&'d Spot, &'static str)> {
    let bridges = config.bridges.iter().zip(&draft.bridge_spots).filter(|(bridge, _)| !bridge.gateway.is_empty());
    let ports = config.ports.iter().zip(&draft.port_spots).filter(|(port, _)| port.is_routed());
    bridges.map(|(_, spot)| (spot, "gateway")).chain(ports.map(|(_, spot)| (spot, "address"))).collect()
}

fn check_bridge(bridge: &BridgeConfig) -> impl Iterator<Item = (&'static str, Problem)> {
    let router = &bridge.router;
    let set = [
        ("gateway_mac", router.gateway_mac.is_some()),
        ("mtu", router.mtu.is_some()),
        ("proxy_arp", router.proxy_arp),
        ("suppress", router.suppress),
        ("redirects", !router.redirects),
        ("clamp_mss", router.clamp_mss),
    ];
    let bare = bridge.gateway.is_empty();
    let useless = set.into_iter().filter(move |(_, set)| *set && bare);
    let useless = useless.map(|(key, _)| (key, Problem::NeedsGateway { key }));
    let kind = router.gateway_mac.and_then(no_station).map(|kind| ("gateway_mac", Problem::GatewayMacKind { kind }));
    let ipv6 = bridge.gateway.iter().any(|address| address.addr().is_ipv6());
    let mtu = router.mtu.filter(|&mtu| ipv6 && mtu < IPV6_MTU_MIN).map(|mtu| ("mtu", Problem::MtuIpv6 { mtu }));
    useless.chain(kind).chain(mtu)
}

fn check_vrfs(config: &Config, spots: &[(&Spot, &'static str)], report: &mut Report<'_>) {
    let mut vrfs = HashSet::from([VRF_DEFAULT]);
    for (interface, (spot, _)) in config.interfaces().zip(spots) {
        if vrfs.insert(interface.vrf) && vrfs.len() == VRFS_MAX + 1 {
            report.add(spot, [finding("vrf", Problem::TooManyVrfs { vrf: interface.vrf.to_string() })]);
        }
    }
}

fn check_addresses(config: &Config, spots: &[(&Spot, &'static str)], report: &mut Report<'_>) {
    let mut nets = Vec::new();
    for (number, (interface, (spot, key))) in config.interfaces().zip(spots).enumerate() {
        for address in interface.addresses {
            // Those of bridges are looked at by themselves.
            if let InterfaceKind::Port(_) = interface.kind {
                report.add(spot, address_kind(key, *address).map(|problem| finding(key, problem)));
            }
            nets.push((interface.vrf, address.trunc(), number, *address));
        }
    }
    // Of two prefixes, one is inside the other or they are apart: sorted, a prefix stands behind those that contain it.
    nets.sort_by_key(|(vrf, net, number, _)| (*vrf, net.addr(), net.prefix_len(), *number));
    let names: Vec<&str> = config.interfaces().map(|interface| interface.name).collect();
    // Overlaps of one bridge with another are found with the bridges; an interface may have several addresses in a
    // subnet.
    let is_bridge: Vec<bool> =
        config.interfaces().map(|interface| matches!(interface.kind, InterfaceKind::Bridge(_))).collect();
    let mut outer: Option<&(&str, IpNet, usize, IpNet)> = None;
    for entry in &nets {
        let Some(over) = outer.filter(|over| over.0 == entry.0 && over.1.contains(&entry.1)) else {
            outer = Some(entry);
            continue;
        };
        if over.2 == entry.2 || [over.2, entry.2].iter().all(|at| is_bridge.get(*at) == Some(&true)) {
            continue;
        }
        // The one that comes later in the file is to be mended.
        let (first, second) = if over.2 <= entry.2 { (over, entry) } else { (entry, over) };
        let (Some((spot, key)), Some((other, _)), Some(name)) =
            (spots.get(second.2), spots.get(first.2), names.get(first.2))
        else {
            continue;
        };
        let other_text = format!("{} of interface {}", first.3, super::error::quote(name));
        let line = report.source.line(other);
        let problem = Problem::SubnetOverlaps { key, address: second.3.to_string(), other: other_text, line };
        report.add(spot, [finding(key, problem)]);
    }
}

/// What is wrong with an interface address by itself.
fn address_kind(key: &'static str, net: IpNet) -> Option<Problem> {
    let whole = net.prefix_len() == net.max_prefix_len();
    let pair = net.prefix_len() + 1 == net.max_prefix_len();
    let kind = match net.addr() {
        _ if net.prefix_len() == 0 => "whose subnet is all addresses there are",
        address if address.is_unspecified() => "the unspecified address",
        address if address.is_loopback() => "a loopback address",
        address if address.is_multicast() => "a multicast address",
        IpAddr::V4(address) if address.octets()[0] == 0 || address.octets()[0] >= 240 => "a reserved address",
        IpAddr::V4(address) if address.is_link_local() => "a link-local address, which is not forwarded",
        IpAddr::V6(address) if address.to_ipv4_mapped().is_some() => "an IPv4 address in the form of IPv6",
        IpAddr::V6(address) if address.is_unicast_link_local() => {
            "a link-local address, which every interface has anyway"
        }
        address if !whole && !pair && address == net.network() => match address {
            IpAddr::V4(_) => "the network address of its subnet",
            IpAddr::V6(_) => "the subnet-router anycast address of its subnet",
        },
        address if !whole && !pair && address.is_ipv4() && address == net.broadcast() => {
            "the broadcast address of its subnet"
        }
        _ => return None,
    };
    Some(Problem::AddressKind { key, address: net.to_string(), kind })
}

/// The rules of one port that is added to a running configuration, as far as it is routed.
pub(super) fn check_new_port(config: &Config, port: &PortConfig) -> Result<(), Problem> {
    let Some(new) = port.routed() else { return Ok(()) };
    if config.bridge(new.name).is_some() {
        return Err(Problem::PortLikeBridge);
    }
    let routed = config.ports.iter().filter(|port| port.is_routed()).count();
    if config.bridges.len() + routed >= DOMAINS_MAX {
        return Err(Problem::TooManyDomains { count: config.bridges.len() + routed + 1 });
    }
    if !is_plain_name(new.vrf) {
        return Err(Problem::VrfName { vrf: new.vrf.to_string() });
    }
    let mut vrfs: HashSet<&str> = config.interfaces().map(|interface| interface.vrf).collect();
    vrfs.insert(VRF_DEFAULT);
    if !vrfs.contains(new.vrf) && vrfs.len() >= VRFS_MAX {
        return Err(Problem::TooManyVrfs { vrf: new.vrf.to_string() });
    }
    for address in new.addresses {
        if let Some(problem) = address_kind("address", *address) {
            return Err(problem);
        }
        let others = config.interfaces().filter(|other| other.vrf == new.vrf);
        let others = others.flat_map(|other| other.addresses.iter().map(move |address| (other.name, address)));
        for (name, other) in others {
            if other.contains(&address.trunc()) || address.contains(&other.trunc()) {
                let other = format!("{other} of interface {}", super::error::quote(name));
                return Err(Problem::SubnetOverlaps { key: "address", address: address.to_string(), other, line: 0 });
            }
        }
    }
    Ok(())
}
