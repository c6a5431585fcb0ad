//! Requests: every command of switchctl as data, with the checks that need no state.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use super::routing::{self, AddNeigh, AddRoute, DelNeigh, DelRoute, LoadRoutes, NeighFilter, RouteFilter, RouteGet};
use crate::mac::Mac;

/// Largest VLAN id of a trunk; 0 means untagged and 4095 is reserved (IEEE 802.1Q-2018 table 9-2).
pub const VLAN_MAX: u16 = 4094;

/// Longest interface name in bytes (`IFNAMSIZ` less its NUL, linux/if.h).
const INTERFACE_NAME_MAX: usize = 15;

/// Longest bridge name in bytes.
const BRIDGE_NAME_MAX: usize = 63;

/// One command. On the wire an object with one key: `{"show-ports":{}}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// List forwarding entries; answers [`FdbEntry`](super::FdbEntry) items, `done.limit` is the table's.
    ShowFdb(FdbFilter),
    /// List ports; answers [`PortStatus`](super::PortStatus) items.
    ShowPorts {
        /// Only this interface.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        port: Option<String>,
    },
    /// List bridge domains; answers [`BridgeStatus`](super::BridgeStatus) items.
    ShowBridges {},
    /// List workers; answers [`WorkerStatus`](super::WorkerStatus) items.
    ShowWorkers {},
    /// List drop counters; answers [`DropStatus`](super::DropStatus) items.
    ShowDrops {
        /// Only drops charged to this interface.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        port: Option<String>,
    },
    /// What the switch does as a host; answers [`HostStatus`](super::HostStatus) items.
    ShowHost {},
    /// The configuration in force; answers [`ConfigSection`](super::ConfigSection) items in file order.
    ShowConfig {},
    /// Attach a port.
    AddPort(AddPort),
    /// Detach a port.
    DelPort {
        /// Interface name of the port.
        port: String,
    },
    /// Change switches of a port.
    SetPort {
        /// Interface name of the port.
        port: String,
        /// What to change; what is absent stays.
        settings: PortSettings,
    },
    /// Add a static or sticky entry.
    AddFdb(AddFdb),
    /// Remove one entry.
    DelFdb(DelFdb),
    /// Remove many entries; `done.affected` says how many.
    FlushFdb(FdbFlush),
    /// List routes; answers [`RouteEntry`](super::RouteEntry) items.
    ShowRoutes(RouteFilter),
    /// Explain where packets to an address go; answers one [`RouteAnswer`](super::RouteAnswer).
    RouteGet(RouteGet),
    /// Add a route until the next reload.
    AddRoute(AddRoute),
    /// Remove a route.
    DelRoute(DelRoute),
    /// Add many routes; answers [`LoadError`](super::LoadError) items.
    LoadRoutes(LoadRoutes),
    /// List neighbours; answers [`NeighEntry`](super::NeighEntry) items.
    ShowNeigh(NeighFilter),
    /// Set a neighbour's MAC address.
    AddNeigh(AddNeigh),
    /// Forget a neighbour.
    DelNeigh(DelNeigh),
    /// Forget learned neighbours; `done.affected` says how many.
    FlushNeigh {
        /// On this bridge or routed port only.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bridge: Option<String>,
    },
    /// List DHCP leases; answers [`LeaseEntry`](super::LeaseEntry) items.
    ShowDhcp {
        /// On this bridge only.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bridge: Option<String>,
    },
    /// Make the running configuration equal to the file, all or nothing; `done.notes` name what is removed, which
    /// includes what was added at run time only.
    Reload {},
    /// End the switch cleanly.
    Shutdown {},
    /// Who answers; one [`VersionReport`](super::VersionReport) item.
    Version {},
}

/// Which entries to show. Absent means any; all conditions must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FdbFilter {
    /// Bridge name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bridge: Option<String>,
    /// Interface name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// VLAN id on the entry's port; 0 for untagged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// Learned entries only.
    #[serde(skip_serializing_if = "is_false")]
    pub dynamic: bool,
}

/// Which entries to remove: learned ones, and static and sticky ones only when asked for. Local ones stay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FdbFlush {
    /// Bridge name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bridge: Option<String>,
    /// Interface name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// VLAN id on the entry's port; 0 for untagged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// Static and sticky entries too.
    #[serde(skip_serializing_if = "is_false")]
    pub include_static: bool,
}

/// A port to attach: an access port of `bridge`, a trunk, or a trunk whose untagged frames go to `bridge`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddPort {
    /// Interface name, the host end of the veth. It may not exist yet.
    pub interface: String,
    /// Bridge of untagged frames.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge: Option<String>,
    /// VLAN id to bridge name, for tagged frames.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub trunk: BTreeMap<u16, String>,
    /// The router's addresses with the length of their subnets, for a routed port, which is in no bridge.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub address: Vec<String>,
    /// VRF of a routed port; the default one if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vrf: Option<String>,
    /// Switches that differ from the defaults.
    #[serde(default, skip_serializing_if = "PortSettings::is_empty")]
    pub settings: PortSettings,
}

/// Switches of a port; absent means unchanged, or the default for a new port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PortSettings {
    /// No frames to or from other isolated ports (default off).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isolated: Option<bool>,
    /// Learn source addresses (default on).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning: Option<bool>,
    /// Send frames for unknown stations out of this port (default on).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flood_unicast: Option<bool>,
    /// Send broadcast frames out of this port (default on).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flood_broadcast: Option<bool>,
    /// Send multicast frames out of this port (default on).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flood_multicast: Option<bool>,
    /// Most learned addresses on this port; 0 for no limit (default).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac_limit: Option<u32>,
}

/// An entry to add. On a trunk port `bridge` or `vlan` says which domain; an access port has only one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddFdb {
    /// Address of the station.
    pub mac: Mac,
    /// Interface name of the port it is behind.
    pub port: String,
    /// Bridge name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge: Option<String>,
    /// VLAN id on that port; 0 for untagged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// Mark the entry sticky, as `bridge fdb add ... sticky` does; neither kind ages or moves.
    #[serde(default, skip_serializing_if = "is_false")]
    pub sticky: bool,
}

/// An entry to remove. What is absent must be clear from the rest, else the request is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DelFdb {
    /// Address of the station.
    pub mac: Mac,
    /// Bridge name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge: Option<String>,
    /// Interface name of its port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// VLAN id on that port; 0 for untagged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
}

fn is_false(value: &bool) -> bool {
    !value
}

impl PortSettings {
    /// True when nothing is to be changed.
    pub fn is_empty(&self) -> bool {
        *self == PortSettings::default()
    }
}

impl Request {
    /// The command's name as switchctl and the wire spell it.
    pub fn name(&self) -> &'static str {
        match self {
            Request::ShowFdb(_) => "show-fdb",
            Request::ShowPorts { .. } => "show-ports",
            Request::ShowBridges {} => "show-bridges",
            Request::ShowWorkers {} => "show-workers",
            Request::ShowDrops { .. } => "show-drops",
            Request::ShowHost {} => "show-host",
            Request::ShowConfig {} => "show-config",
            Request::AddPort(_) => "add-port",
            Request::DelPort { .. } => "del-port",
            Request::SetPort { .. } => "set-port",
            Request::AddFdb(_) => "add-fdb",
            Request::DelFdb(_) => "del-fdb",
            Request::FlushFdb(_) => "flush-fdb",
            Request::ShowRoutes(_) => "show-routes",
            Request::RouteGet(_) => "route-get",
            Request::AddRoute(_) => "add-route",
            Request::DelRoute(_) => "del-route",
            Request::LoadRoutes(_) => "load-routes",
            Request::ShowNeigh(_) => "show-neigh",
            Request::AddNeigh(_) => "add-neigh",
            Request::DelNeigh(_) => "del-neigh",
            Request::FlushNeigh { .. } => "flush-neigh",
            Request::ShowDhcp { .. } => "show-dhcp",
            Request::Reload {} => "reload",
            Request::Shutdown {} => "shutdown",
            Request::Version {} => "version",
        }
    }

    /// True for requests that change the switch; they are worth a line in its log.
    pub fn changes_state(&self) -> bool {
        !self.name().starts_with("show-") && !matches!(self, Request::Version {} | Request::RouteGet(_))
    }

    /// True for a further piece of a request that came in pieces; the first one is enough for the log.
    pub fn goes_on(&self) -> bool {
        matches!(self, Request::LoadRoutes(load) if load.first_line > 1)
    }

    /// Checks what needs no state: names, VLAN ids, addresses, a request that asks for nothing. The client
    /// calls it before sending and [`RequestLine::parse`](super::RequestLine::parse) on arrival.
    ///
    /// # Errors
    /// One clear line saying what to change.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Request::ShowFdb(f) => check_place(&f.bridge, &f.port, f.vlan),
            Request::FlushFdb(f) => check_place(&f.bridge, &f.port, f.vlan),
            Request::ShowPorts { port } | Request::ShowDrops { port } => check_place(&None, port, None),
            Request::AddPort(add) => check_add_port(add),
            Request::DelPort { port } => check_interface(port),
            Request::SetPort { port, settings } => {
                check_interface(port)?;
                if settings.is_empty() {
                    return Err(format!("set-port {port} changes nothing: name a setting, like isolated or mac_limit"));
                }
                Ok(())
            }
            Request::AddFdb(add) => {
                check_station(add.mac)?;
                check_place(&add.bridge, &Some(add.port.clone()), add.vlan)
            }
            Request::DelFdb(del) => {
                check_station(del.mac)?;
                check_place(&del.bridge, &del.port, del.vlan)
            }
            Request::ShowRoutes(f) => check_routes(f),
            Request::RouteGet(get) => routing::check_get(get).and_then(|()| check_vrf(&get.vrf)),
            Request::AddRoute(add) => routing::check_route(add).and_then(|()| check_vrf(&add.vrf)),
            Request::DelRoute(del) => routing::check_prefix(&del.to).and_then(|()| check_vrf(&del.vrf)),
            Request::ShowNeigh(NeighFilter { bridge, .. })
            | Request::DelNeigh(DelNeigh { bridge, .. })
            | Request::FlushNeigh { bridge }
            | Request::ShowDhcp { bridge } => bridge.as_deref().map_or(Ok(()), check_on),
            Request::AddNeigh(add) => {
                check_station(add.mac)?;
                check_on(&add.bridge)
            }
            Request::LoadRoutes(_)
            | Request::ShowBridges {}
            | Request::ShowWorkers {}
            | Request::ShowHost {}
            | Request::ShowConfig {}
            | Request::Reload {}
            | Request::Shutdown {}
            | Request::Version {} => Ok(()),
        }
    }
}

fn check_place(bridge: &Option<String>, port: &Option<String>, vlan: Option<u16>) -> Result<(), String> {
    if let Some(bridge) = bridge {
        check_bridge(bridge)?;
    }
    if let Some(port) = port {
        check_interface(port)?;
    }
    match vlan {
        Some(vlan) if vlan > VLAN_MAX => {
            Err(format!("VLAN {vlan} does not exist: use 0 for untagged or 1 to {VLAN_MAX}"))
        }
        _ => Ok(()),
    }
}

fn check_routes(filter: &RouteFilter) -> Result<(), String> {
    check_vrf(&filter.vrf)?;
    filter.prefix.as_deref().map_or(Ok(()), routing::check_prefix)?;
    match filter.family {
        None | Some(4 | 6) => Ok(()),
        Some(family) => Err(format!("there is no IP version {family}: use 4 or 6")),
    }
}

/// A bridge's name, or that of a routed port.
fn check_on(name: &str) -> Result<(), String> {
    check_bridge(name).or_else(|error| check_interface(name).map_err(|_| error))
}

fn check_vrf(name: &Option<String>) -> Result<(), String> {
    match name {
        Some(name) if check_bridge(name).is_err() => Err(format!(
            "{:?} is not a VRF name: use 1 to {BRIDGE_NAME_MAX} letters, digits, '.', '_' or '-'",
            shorten(name)
        )),
        _ => Ok(()),
    }
}

fn check_add_port(add: &AddPort) -> Result<(), String> {
    let name = &add.interface;
    check_interface(name)?;
    check_vrf(&add.vrf)?;
    if !add.address.is_empty() {
        if add.bridge.is_some() || !add.trunk.is_empty() {
            return Err(format!("port {name} cannot be routed and in a bridge: leave the address or the bridge out"));
        }
    } else if add.vrf.is_some() {
        return Err(format!("port {name} has a VRF and no address: only routed ports are in a VRF"));
    } else if add.bridge.is_none() && add.trunk.is_empty() {
        return Err(format!("port {name} belongs to no bridge: give a bridge or a trunk"));
    }
    if let Some(bridge) = &add.bridge {
        check_bridge(bridge)?;
    }
    let mut taken: HashSet<&String> = add.bridge.iter().collect();
    for (&vlan, bridge) in &add.trunk {
        if !(1..=VLAN_MAX).contains(&vlan) {
            return Err(format!("port {name}: a trunk cannot carry VLAN {vlan}: use 1 to {VLAN_MAX}"));
        }
        check_bridge(bridge)?;
        if !taken.insert(bridge) {
            return Err(format!("port {name} would be in bridge {bridge} twice: give each VLAN its own bridge"));
        }
    }
    Ok(())
}

fn check_interface(name: &str) -> Result<(), String> {
    let bad = |c: char| c == '/' || c.is_ascii_whitespace() || c.is_control();
    let wrong =
        name.is_empty() || name.len() > INTERFACE_NAME_MAX || matches!(name, "." | "..") || name.chars().any(bad);
    if wrong {
        return Err(format!(
            "{:?} is not an interface name: use 1 to {INTERFACE_NAME_MAX} bytes without blanks or slashes",
            shorten(name)
        ));
    }
    Ok(())
}

fn check_bridge(name: &str) -> Result<(), String> {
    let right = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if name.is_empty() || name.len() > BRIDGE_NAME_MAX || !name.bytes().all(right) {
        return Err(format!(
            "{:?} is not a bridge name: use 1 to {BRIDGE_NAME_MAX} letters, digits, '.', '_' or '-'",
            shorten(name)
        ));
    }
    Ok(())
}

fn check_station(mac: Mac) -> Result<(), String> {
    if mac.is_group() || mac.is_zero() {
        return Err(format!("{mac} is not the address of a station: use an individual (unicast) MAC address"));
    }
    Ok(())
}

/// Names in messages are cut, so that a message stays one readable line.
fn shorten(name: &str) -> String {
    name.chars().take(BRIDGE_NAME_MAX).collect()
}
