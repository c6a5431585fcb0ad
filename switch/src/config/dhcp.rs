//! `[bridge.dhcp]`: what the switch leases to the hosts of a bridge.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use serde::{Serialize, Serializer};
use thiserror::Error;

use super::BridgeConfig;
use super::check::{Finding, Report, finding};
use super::error::Problem;
use super::gateway::{self, ServiceSpots};
use super::read::{Section, Spot};
use super::write::{Text, list, quoted};
use crate::ids::Mac;
use crate::limits::{DHCP_RANGE_MAX, LEASE_SECONDS_DEFAULT, LEASE_SECONDS_MAX, LEASE_SECONDS_MIN};

const DHCP_KEYS: &[&str] = &["range", "lease_seconds", "router", "dns", "domain", "ntp", "mtu", "static"];
const STATIC_KEYS: &[&str] = &["mac", "client_id", "address", "hostname"];

/// Smallest interface MTU that option 26 can name (RFC 2132 section 5.1).
const MTU_MIN: u32 = 68;

const ADDRESS: &str = "an IPv4 address, like \"10.244.1.2\"";

/// `[bridge.dhcp]`: a DHCPv4 server for one subnet of the bridge.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DhcpConfig {
    /// First and last address that any client may get.
    pub range: [Ipv4Addr; 2],
    /// Length of a lease in seconds.
    pub lease_seconds: u32,
    /// Default router that clients are told.
    pub router: Ipv4Addr,
    /// Name servers that clients are told.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<Ipv4Addr>,
    /// Domain name that clients are told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Time servers that clients are told.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ntp: Vec<Ipv4Addr>,
    /// MTU that clients are told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// Every `[[bridge.dhcp.static]]`; no client and no address twice.
    #[serde(rename = "static", skip_serializing_if = "Vec::is_empty")]
    pub statics: Vec<StaticLease>,
}

/// `[[bridge.dhcp.static]]`: an address for one client.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StaticLease {
    /// The client by its MAC address, or by its identifier; one of them.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "mac_as_text")]
    pub mac: Option<Mac>,
    /// Option 61 as the client sends it, its type octet included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<ClientId>,
    /// In the subnet, in or out of the range.
    pub address: Ipv4Addr,
    /// Host name that the client is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
}

/// A client identifier, 1 to 255 octets; as text hex octets with colons between them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientId(Vec<u8>);

fn mac_as_text<S: Serializer>(mac: &Option<Mac>, serializer: S) -> Result<S::Ok, S::Error> {
    match mac {
        Some(mac) => serializer.collect_str(mac),
        None => serializer.serialize_none(),
    }
}

impl ClientId {
    /// The octets.
    pub fn octets(&self) -> &[u8] {
        &self.0
    }
}

impl std::str::FromStr for ClientId {
    type Err = ();

    fn from_str(text: &str) -> Result<ClientId, ()> {
        let octet = |part: &str| match part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            true => u8::from_str_radix(part, 16).map_err(|_| ()),
            false => Err(()),
        };
        let octets: Vec<u8> = text.split(':').map(octet).collect::<Result<_, _>>()?;
        if (1..=255).contains(&octets.len()) { Ok(ClientId(octets)) } else { Err(()) }
    }
}

impl std::fmt::Display for ClientId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, octet) in self.0.iter().enumerate() {
            write!(f, "{}{octet:02x}", if index == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

impl Serialize for ClientId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl DhcpConfig {
    /// The switch's address and subnet among `gateway` that the range belongs to; a checked one has it.
    pub fn subnet(&self, gateway: &[IpNet]) -> Option<Ipv4Net> {
        subnet(self.range[0], gateway)
    }
}

fn subnet(address: Ipv4Addr, gateway: &[IpNet]) -> Option<Ipv4Net> {
    gateway::v4(gateway).find(|net| net.contains(&address))
}

/// What is wrong with a DHCP server.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs, reason = "each message says what its fields are")]
pub enum DhcpProblem {
    #[error("the bridge has no IPv4 address of the switch; add one, like gateway = [\"10.244.1.1/24\"]")]
    NoGateway,
    #[error("\"range\" is not two addresses; write the first and the last, like [\"10.244.1.100\", \"10.244.1.199\"]")]
    RangeShape,
    #[error("\"range\" ends with {last}, before its start {first}; write the lower address first")]
    RangeOrder { first: Ipv4Addr, last: Ipv4Addr },
    #[error("\"range\" has {count} addresses; write one of at most {DHCP_RANGE_MAX}")]
    RangeSize { count: u64 },
    #[error("\"range\" has {address}, {kind}; leave that out")]
    RangeHas { address: Ipv4Addr, kind: &'static str },
    #[error("\"{key}\" is {address}, which is in no subnet of the bridge; its gateway has {subnets}")]
    NoSubnet { key: &'static str, address: Ipv4Addr, subnets: String },
    #[error("\"{key}\" is {address}, outside the range's subnet {subnet}; write an address inside it")]
    Outside { key: &'static str, address: Ipv4Addr, subnet: Ipv4Net },
    #[error("\"{key}\" is {address}, {kind}; write an address that a host of the subnet could have")]
    NoHost { key: &'static str, address: Ipv4Addr, kind: &'static str },
    #[error("names no client; add mac = \"02:42:ac:11:00:02\" or client_id = \"01:02:42:ac:11:00:02\"")]
    NoClient,
    #[error("has \"mac\" and \"client_id\"; keep the one by which the client is known")]
    TwoClients,
    #[error("the client has an address at line {line} already; keep one of the two")]
    ClientTwice { line: usize },
    #[error("{address} is reserved at line {line} already; keep one of the two")]
    AddressTwice { address: Ipv4Addr, line: usize },
}

/// Reads the table, if there is one. The router defaults to the switch itself.
pub(super) fn read(bridge: &mut Section<'_, '_>, gateway: &[IpNet], spots: &mut ServiceSpots) -> Option<DhcpConfig> {
    let mut section = bridge.part("dhcp", "a table, [bridge.dhcp] below its [[bridge]]")?;
    section.refuse_unknown(DHCP_KEYS);
    let range = read_range(&mut section);
    let lease_seconds = section.number("lease_seconds", LEASE_SECONDS_MIN, LEASE_SECONDS_MAX);
    let router = section.parsed("router", ADDRESS);
    let dns = section.parsed_list("dns", ADDRESS).unwrap_or_default();
    let domain = section.text("domain", "a string, like \"pods.example\"");
    let ntp = section.parsed_list("ntp", ADDRESS).unwrap_or_default();
    let mtu = section.number("mtu", MTU_MIN, u16::MAX.into()).map(|mtu| mtu as u16);
    let mut statics = Vec::new();
    let tables = section.tables("static", "a list of tables, [[bridge.dhcp.static]] in double brackets");
    for (number, (at, table)) in tables.into_iter().enumerate() {
        let object = format!("{} static number {}", section.spot.object, number + 1);
        let mut section = section.inner(at, table, object);
        section.refuse_unknown(STATIC_KEYS);
        statics.extend(read_static(&mut section));
        spots.statics.push(section.spot);
    }
    spots.dhcp = section.spot;
    let range = range?;
    let switch = subnet(range[0], gateway).map_or(Ipv4Addr::UNSPECIFIED, |net| net.addr());
    let (router, lease_seconds) = (router.unwrap_or(switch), lease_seconds.unwrap_or(LEASE_SECONDS_DEFAULT));
    Some(DhcpConfig { range, lease_seconds, router, dns, domain, ntp, mtu, statics })
}

fn read_range(section: &mut Section<'_, '_>) -> Option<[Ipv4Addr; 2]> {
    if section.value("range").is_none() {
        let example = "range = [\"10.244.1.100\", \"10.244.1.199\"]";
        section.report("range", Problem::Missing { key: "range", example });
    }
    let errors = section.error_count();
    let range: Vec<Ipv4Addr> = section.parsed_list("range", ADDRESS)?;
    match <[Ipv4Addr; 2]>::try_from(range) {
        Ok(range) => Some(range),
        Err(_) => {
            // Entries that are no addresses are reported themselves.
            if section.error_count() == errors {
                section.report("range", DhcpProblem::RangeShape.into());
            }
            None
        }
    }
}

fn read_static(section: &mut Section<'_, '_>) -> Option<StaticLease> {
    let mac = section.parsed("mac", "six hex octets, like \"02:42:ac:11:00:02\"");
    let client_id = section.parsed("client_id", "hex octets with colons between them, like \"01:02:42:ac:11:00:02\"");
    if section.value("address").is_none() {
        section.report("address", Problem::Missing { key: "address", example: "address = \"10.244.1.50\"" });
    }
    let address = section.parsed("address", ADDRESS);
    let hostname = section.text("hostname", "a string, like \"web\"");
    Some(StaticLease { mac, client_id, address: address?, hostname })
}

/// Rules of one bridge's server.
pub(super) fn check(bridge: &BridgeConfig, spots: &ServiceSpots, report: &mut Report<'_>) {
    let Some(dhcp) = &bridge.dhcp else { return };
    report.add(&spots.dhcp, dhcp.domain.iter().filter_map(|name| gateway::domain_name("domain", name)));
    report.add(&spots.dhcp, gateway::servers("dns", dhcp.dns.iter().copied().map(IpAddr::V4)));
    report.add(&spots.dhcp, gateway::servers("ntp", dhcp.ntp.iter().copied().map(IpAddr::V4)));
    if gateway::v4(&bridge.gateway).next().is_none() {
        report.add(&spots.dhcp, [finding("", DhcpProblem::NoGateway.into())]);
        return;
    }
    let [first, _] = dhcp.range;
    let Some(subnet) = dhcp.subnet(&bridge.gateway) else {
        let subnets: BTreeSet<Ipv4Net> = gateway::v4(&bridge.gateway).map(|net| net.trunc()).collect();
        let subnets: Vec<String> = subnets.iter().map(Ipv4Net::to_string).collect();
        let problem = DhcpProblem::NoSubnet { key: "range", address: first, subnets: subnets.join(", ") };
        report.add(&spots.dhcp, [finding("range", problem.into())]);
        return;
    };
    report.add(&spots.dhcp, range(dhcp.range, subnet, &bridge.gateway));
    report.add(&spots.dhcp, host_of(subnet, "router", dhcp.router));
    statics(dhcp, subnet, &bridge.gateway, &spots.statics, report);
}

fn range([first, last]: [Ipv4Addr; 2], subnet: Ipv4Net, gateway: &[IpNet]) -> Option<Finding> {
    let within = |address: &Ipv4Addr| (first..=last).contains(address);
    let count = u64::from(u32::from(last).saturating_sub(u32::from(first))) + 1;
    let edges = [first, last].into_iter().find_map(|address| Some((address, gateway::edge_v4(subnet, address)?)));
    let own = gateway::v4(gateway).map(|net| net.addr()).find(within);
    let problem = if !subnet.contains(&last) {
        DhcpProblem::Outside { key: "range", address: last, subnet: subnet.trunc() }
    } else if first > last {
        DhcpProblem::RangeOrder { first, last }
    } else if let Some((address, kind)) = edges {
        DhcpProblem::RangeHas { address, kind }
    } else if let Some(address) = own {
        DhcpProblem::RangeHas { address, kind: "an address of the switch" }
    } else if count > DHCP_RANGE_MAX {
        DhcpProblem::RangeSize { count }
    } else {
        return None;
    };
    Some(finding("range", problem.into()))
}

/// The address must be one of a host in the subnet.
fn host_of(subnet: Ipv4Net, key: &'static str, address: Ipv4Addr) -> Option<Finding> {
    let problem = if !subnet.contains(&address) {
        DhcpProblem::Outside { key, address, subnet: subnet.trunc() }
    } else {
        DhcpProblem::NoHost { key, address, kind: gateway::edge_v4(subnet, address)? }
    };
    Some(finding(key, problem.into()))
}

fn statics(dhcp: &DhcpConfig, subnet: Ipv4Net, gateway: &[IpNet], spots: &[Spot], report: &mut Report<'_>) {
    let (mut clients, mut addresses) = (HashMap::new(), HashMap::new());
    for (entry, spot) in dhcp.statics.iter().zip(spots) {
        if report.full() {
            return;
        }
        let address = entry.address;
        report.add(spot, entry.hostname.iter().filter_map(|name| gateway::domain_name("hostname", name)));
        report.add(spot, host_of(subnet, "address", address));
        if gateway::v4(gateway).any(|net| net.addr() == address) {
            let problem = DhcpProblem::NoHost { key: "address", address, kind: "an address of the switch" };
            report.add(spot, [finding("address", problem.into())]);
        }
        let kind = match entry.mac {
            Some(Mac::ZERO) => Some("all zero"),
            Some(mac) if mac.is_group() => Some("a group address"),
            _ => None,
        };
        report.add(spot, kind.map(|kind| finding("mac", Problem::MacKind { kind })));
        let client = match (entry.mac, &entry.client_id) {
            (None, None) => Some(("", DhcpProblem::NoClient)),
            (Some(_), Some(_)) => Some(("client_id", DhcpProblem::TwoClients)),
            (mac, _) => {
                let first = clients.insert((mac, &entry.client_id), spot);
                let key = if mac.is_some() { "mac" } else { "client_id" };
                first.map(|first| (key, DhcpProblem::ClientTwice { line: report.line(first) }))
            }
        };
        report.add(spot, client.map(|(key, problem)| finding(key, problem.into())));
        if let Some(first) = addresses.insert(address, spot) {
            let problem = DhcpProblem::AddressTwice { address, line: report.line(first) };
            report.add(spot, [finding("address", problem.into())]);
        }
    }
}

/// The table as TOML.
pub(super) fn write(dhcp: &DhcpConfig, text: &mut Text) {
    text.heading("[bridge.dhcp]");
    text.key("range", list(&dhcp.range));
    text.key("lease_seconds", dhcp.lease_seconds);
    text.key("router", quoted(&dhcp.router.to_string()));
    text.optional("dns", (!dhcp.dns.is_empty()).then(|| list(&dhcp.dns)));
    text.optional("domain", dhcp.domain.as_deref().map(quoted));
    text.optional("ntp", (!dhcp.ntp.is_empty()).then(|| list(&dhcp.ntp)));
    text.optional("mtu", dhcp.mtu.map(|mtu| mtu.to_string()));
    for entry in &dhcp.statics {
        text.heading("[[bridge.dhcp.static]]");
        text.optional("mac", entry.mac.map(|mac| quoted(&mac.to_string())));
        text.optional("client_id", entry.client_id.as_ref().map(|id| quoted(&id.to_string())));
        text.key("address", quoted(&entry.address.to_string()));
        text.optional("hostname", entry.hostname.as_deref().map(quoted));
    }
}
