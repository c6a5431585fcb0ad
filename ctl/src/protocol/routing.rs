//! The router's part of the protocol: routes, neighbours, leases.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::mac::Mac;

/// Largest weight of a next hop.
pub const WEIGHT_MAX: u16 = 256;

/// What a route does with packets. Local, connected and broadcast routes come with the router's interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RouteType {
    /// They go to a next hop.
    Unicast,
    /// They are on a subnet of an interface.
    Connected,
    /// They are for the switch itself.
    Local,
    /// Network or broadcast address of a subnet: dropped.
    Broadcast,
    /// They vanish.
    Blackhole,
    /// Dropped, and the sender is told that the host cannot be reached.
    Unreachable,
    /// Dropped, and the sender is told that communication is prohibited.
    Prohibit,
}

impl RouteType {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            RouteType::Unicast => "unicast",
            RouteType::Connected => "connected",
            RouteType::Local => "local",
            RouteType::Broadcast => "broadcast",
            RouteType::Blackhole => "blackhole",
            RouteType::Unreachable => "unreachable",
            RouteType::Prohibit => "prohibit",
        }
    }
}

/// Where a route comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RouteOrigin {
    /// An address of an interface.
    Kernel,
    /// The configuration file.
    Static,
    /// A request at run time; reload removes it.
    Runtime,
}

impl RouteOrigin {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            RouteOrigin::Kernel => "kernel",
            RouteOrigin::Static => "static",
            RouteOrigin::Runtime => "runtime",
        }
    }
}

/// How a neighbour stands, in the words of `ip neigh`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NeighState {
    /// Asked for, not answered yet.
    Incomplete,
    /// Confirmed not long ago.
    Reachable,
    /// Not confirmed for some time; used nevertheless.
    Stale,
    /// Used while stale: about to be asked.
    Delay,
    /// Asked whether it is still there.
    Probe,
    /// Nobody answered.
    Failed,
    /// Set by a user.
    Permanent,
}

impl NeighState {
    /// Every state.
    pub const ALL: [NeighState; 7] = [
        NeighState::Incomplete,
        NeighState::Reachable,
        NeighState::Stale,
        NeighState::Delay,
        NeighState::Probe,
        NeighState::Failed,
        NeighState::Permanent,
    ];

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            NeighState::Incomplete => "incomplete",
            NeighState::Reachable => "reachable",
            NeighState::Stale => "stale",
            NeighState::Delay => "delay",
            NeighState::Probe => "probe",
            NeighState::Failed => "failed",
            NeighState::Permanent => "permanent",
        }
    }
}

/// Which routes to show. Absent means any; all conditions must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RouteFilter {
    /// VRF name; `default` for the default one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vrf: Option<String>,
    /// Routes to this prefix and within.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Routes with this next hop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub via: Option<IpAddr>,
    /// Routes of this type.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<RouteType>,
    /// 4 or 6: routes of that IP version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family: Option<u8>,
}

/// Whose route to explain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteGet {
    /// Destination.
    pub to: IpAddr,
    /// VRF name; the default one if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vrf: Option<String>,
    /// Source of the flow whose next hop is wanted, where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<IpAddr>,
    /// The flow's transport.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow: Option<Flow>,
}

/// What tells flows between two hosts apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flow {
    /// IP protocol number: 6 for TCP, 17 for UDP.
    pub protocol: u8,
    /// Source port.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
}

/// A next hop of a route to add.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hop {
    /// Its address.
    pub to: IpAddr,
    /// Its part of the traffic, 1 to [`WEIGHT_MAX`].
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub weight: u16,
}

fn one() -> u16 {
    1
}

fn is_one(weight: &u16) -> bool {
    *weight == 1
}

/// A route to add.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddRoute {
    /// Prefix, such as `10.9.0.0/16`.
    pub to: String,
    /// Next hops.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub via: Vec<Hop>,
    /// `blackhole`, `unreachable` or `prohibit`, in place of next hops.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<RouteType>,
    /// Bridge or routed port that the next hops are on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// VRF name; the default one if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vrf: Option<String>,
}

/// A route to remove.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DelRoute {
    /// Its prefix.
    pub to: String,
    /// VRF name; the default one if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vrf: Option<String>,
}

/// Routes to add, a line each; `done.affected` counts those added, items are [`LoadError`]s.
///
/// A line is `PREFIX via ADDRESS[,ADDRESS...] [dev NAME] [vrf NAME]`, or `PREFIX blackhole|unreachable|prohibit [vrf
/// NAME]`, as `ip route` prints them; empty lines and those that begin with `#` say nothing. Lines that are right are
/// applied, whatever the others are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoadRoutes {
    /// Number of the first line, for messages.
    pub first_line: u64,
    /// The lines.
    pub text: String,
}

/// Which neighbours to show. Absent means any.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NeighFilter {
    /// On this bridge or routed port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bridge: Option<String>,
    /// In this state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<NeighState>,
}

/// A neighbour to set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddNeigh {
    /// Its IP address.
    pub address: IpAddr,
    /// Its MAC address.
    pub mac: Mac,
    /// The bridge or routed port it is on.
    pub bridge: String,
}

/// A neighbour to forget.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DelNeigh {
    /// Its IP address.
    pub address: IpAddr,
    /// The bridge or routed port it is on; absent where only one has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge: Option<String>,
}

/// One route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteEntry {
    /// Prefix.
    pub prefix: IpNet,
    /// VRF name.
    pub vrf: String,
    /// What it does.
    #[serde(rename = "type")]
    pub kind: RouteType,
    /// Where it comes from.
    pub origin: RouteOrigin,
    /// The interface, for those that come with one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// Next hops.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub next_hops: Vec<RouteHop>,
    /// False while none of its next hops can be reached: it is not in the routing table.
    pub active: bool,
}

/// A next hop of a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteHop {
    /// Its address.
    pub via: IpAddr,
    /// The bridge or routed port it is on; null while there is none.
    pub interface: Option<String>,
    /// Its part of the traffic.
    pub weight: u16,
    /// False while its interface is gone or down.
    pub active: bool,
}

/// Where packets to an address go, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteAnswer {
    /// The address asked for.
    pub to: IpAddr,
    /// VRF name.
    pub vrf: String,
    /// The route that matches; null without one.
    pub route: Option<RouteEntry>,
    /// What is known of the neighbours that packets go to.
    pub neighbours: Vec<RouteNeighbour>,
    /// What else there is to know, a line each: for an address without a route, why.
    pub notes: Vec<String>,
}

/// A neighbour that packets go to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteNeighbour {
    /// Its address.
    pub address: IpAddr,
    /// The bridge or routed port it is on.
    pub interface: String,
    /// Its MAC address, if known.
    pub mac: Option<Mac>,
    /// How it stands; null if nobody asked for it yet.
    pub state: Option<NeighState>,
    /// The port it is behind; null if unknown.
    pub port: Option<String>,
    /// Largest packet that may go there, in bytes.
    pub mtu: u32,
    /// True for the one that the flow asked for takes.
    pub chosen: bool,
}

/// One neighbour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeighEntry {
    /// Its IP address.
    pub address: IpAddr,
    /// The bridge or routed port it is on.
    pub bridge: String,
    /// Its MAC address, if known.
    pub mac: Option<Mac>,
    /// The port it is behind; null if unknown.
    pub port: Option<String>,
    /// How it stands.
    pub state: NeighState,
    /// Seconds since it was confirmed, or since it is in its state where it never was.
    pub age_seconds: u64,
}

/// One DHCP lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseEntry {
    /// Its address.
    pub address: Ipv4Addr,
    /// Bridge name.
    pub bridge: String,
    /// Who has it: a hardware address, or `id` and a client identifier.
    pub client: String,
    /// Its name, if it told.
    #[serde(default)]
    pub hostname: Option<String>,
    /// `bound`, `offered`, `static` or `declined`.
    pub state: String,
    /// Seconds until it ends; null for one that does not.
    #[serde(default)]
    pub expires_seconds: Option<u64>,
}

/// A line of `load-routes` that was not applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadError {
    /// Its number.
    pub line: u64,
    /// Why not.
    pub message: String,
}

/// Checks a prefix as far as no state is needed.
pub(super) fn check_prefix(text: &str) -> Result<(), String> {
    let shown: String = text.chars().take(50).collect();
    let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let net = net.map_err(|_| format!("{shown:?} is not a prefix: write an address and a length, like 10.9.0.0/16"))?;
    if net.addr() != net.network() {
        return Err(format!("{net} has bits set behind its length: write {}", net.trunc()));
    }
    Ok(())
}

/// The same for a route.
pub(super) fn check_route(add: &AddRoute) -> Result<(), String> {
    check_prefix(&add.to)?;
    let to = &add.to;
    match add.kind {
        None | Some(RouteType::Unicast) if add.via.is_empty() => {
            return Err(format!(
                "route {to} leads nowhere: give a next hop with --via, or blackhole, unreachable or prohibit with --type"
            ));
        }
        Some(kind @ (RouteType::Connected | RouteType::Local | RouteType::Broadcast)) => {
            return Err(format!("routes of type {} come with interfaces: give one an address", kind.as_str()));
        }
        Some(kind @ (RouteType::Blackhole | RouteType::Unreachable | RouteType::Prohibit)) if !add.via.is_empty() => {
            return Err(format!("route {to} has next hops and type {}: leave one of the two out", kind.as_str()));
        }
        _ => {}
    }
    match add.via.iter().find(|hop| !(1..=WEIGHT_MAX).contains(&hop.weight)) {
        Some(hop) => Err(format!("next hop {} has weight {}: use 1 to {WEIGHT_MAX}", hop.to, hop.weight)),
        None => Ok(()),
    }
}

/// The same for a question about a route.
pub(super) fn check_get(get: &RouteGet) -> Result<(), String> {
    match get.from {
        Some(from) if from.is_ipv4() != get.to.is_ipv4() => {
            Err(format!("{from} and {} are of different IP versions: no packet has both", get.to))
        }
        None if get.flow.is_some() => Err("a flow needs its source: give --from".to_owned()),
        _ => Ok(()),
    }
}
