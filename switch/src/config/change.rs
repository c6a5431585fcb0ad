//! Going from one configuration to the next: what a reload must do, and the changes made at run time.
//!
//! Called by the control thread. Nothing here touches a port: it says what to do, control does it.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::check::{self, Finding};
use super::error::{ConfigError, Problem, hint, quote};
use super::{BridgeConfig, Config, PortConfig, RouteConfig, StaticEntry, frames_needed, interface};
use crate::ids::Mac;
use crate::limits::PORTS_MAX;

/// What lies between two configurations; made by [`Config::diff`](super::Config::diff).
///
/// Apply in this order, so that nothing ever names what is gone or not there yet: `routes_removed`, `fdb_removed`,
/// `ports_removed`, `bridges_added`, `bridges_changed`, `ports_changed`, `ports_added`,
/// `bridges_removed`, `fdb_added`, `routes_added`. Everything not listed is equal in both and stays untouched.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Diff {
    /// Ports to attach.
    pub ports_added: Vec<PortConfig>,
    /// Interfaces to detach.
    pub ports_removed: Vec<String>,
    /// Ports that stay attached and change their settings.
    pub ports_changed: Vec<PortChange>,
    /// Bridges to make.
    pub bridges_added: Vec<BridgeConfig>,
    /// Names of bridges to remove; after the port changes no port carries them.
    pub bridges_removed: Vec<String>,
    /// Bridges whose settings change, as they are to be.
    pub bridges_changed: Vec<BridgeConfig>,
    /// Static entries to add. One that changed (port, sticky) is in both lists.
    pub fdb_added: Vec<StaticEntry>,
    /// Static entries to remove.
    pub fdb_removed: Vec<StaticEntry>,
    /// Routes to add. One that changed (next hops, type) is in both lists.
    pub routes_added: Vec<RouteConfig>,
    /// Routes to remove.
    pub routes_removed: Vec<RouteConfig>,
    /// Keys of `[switch]` that differ; each of them needs a restart.
    pub restart_needed: Vec<&'static str>,
}

/// A port that stays and changes.
///
/// No change of settings re-attaches a port: the interface is its identity, everything else is state
/// of the switch, so the socket and the frames in its rings stay.
#[derive(Clone, Debug, PartialEq)]
pub struct PortChange {
    /// The port as it is to be.
    pub port: PortConfig,
    /// True when `bridge`, `trunk` or `address` changed: flush what was learned on the port.
    pub membership: bool,
}

/// The keys a `set-port` request may name; `None` leaves a key as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PortSettings {
    /// `Some(None)` takes the untagged domain away.
    pub bridge: Option<Option<String>>,
    /// The whole new VLAN map; `Some` of an empty map makes an access port.
    pub trunk: Option<BTreeMap<u16, String>>,
    /// See [`PortConfig::isolated`].
    pub isolated: Option<bool>,
    /// See [`PortConfig::learning`].
    pub learning: Option<bool>,
    /// See [`PortConfig::flood_unicast`].
    pub flood_unicast: Option<bool>,
    /// See [`PortConfig::flood_broadcast`].
    pub flood_broadcast: Option<bool>,
    /// See [`PortConfig::flood_multicast`].
    pub flood_multicast: Option<bool>,
    /// See [`PortConfig::mac_limit`]; 0 takes the limit away.
    pub mac_limit: Option<u32>,
}

impl Diff {
    /// True when both configurations are equal.
    pub fn is_empty(&self) -> bool {
        *self == Diff::default()
    }
}

impl PortSettings {
    /// `port` with these settings laid over it. Not checked.
    fn over(&self, port: &PortConfig) -> PortConfig {
        PortConfig {
            interface: port.interface.clone(),
            bridge: self.bridge.clone().unwrap_or_else(|| port.bridge.clone()),
            trunk: self.trunk.clone().unwrap_or_else(|| port.trunk.clone()),
            address: port.address.clone(),
            vrf: port.vrf.clone(),
            isolated: self.isolated.unwrap_or(port.isolated),
            learning: self.learning.unwrap_or(port.learning),
            flood_unicast: self.flood_unicast.unwrap_or(port.flood_unicast),
            flood_broadcast: self.flood_broadcast.unwrap_or(port.flood_broadcast),
            flood_multicast: self.flood_multicast.unwrap_or(port.flood_multicast),
            mac_limit: self.mac_limit.unwrap_or(port.mac_limit),
        }
    }
}

impl PortChange {
    /// What turns `old` into `new`, or `None` when they are equal.
    fn between(old: &PortConfig, new: &PortConfig) -> Option<PortChange> {
        let membership = old.bridge != new.bridge || old.trunk != new.trunk || old.address != new.address;
        (old != new).then(|| PortChange { port: new.clone(), membership })
    }
}

impl Config {
    /// What must be done to go from `old` to `new`. The order of bridges, ports and entries is no difference.
    pub fn diff(old: &Config, new: &Config) -> Diff {
        let mut diff = Diff::default();
        let was: HashMap<&str, &BridgeConfig> = old.bridges.iter().map(|b| (b.name.as_str(), b)).collect();
        let is: HashSet<&str> = new.bridges.iter().map(|bridge| bridge.name.as_str()).collect();
        for bridge in &new.bridges {
            match was.get(bridge.name.as_str()) {
                None => diff.bridges_added.push(bridge.clone()),
                Some(before) if *before != bridge => diff.bridges_changed.push(bridge.clone()),
                Some(_) => {}
            }
        }
        let gone = old.bridges.iter().filter(|bridge| !is.contains(bridge.name.as_str()));
        diff.bridges_removed = gone.map(|bridge| bridge.name.clone()).collect();

        let was: HashMap<&str, &PortConfig> = old.ports.iter().map(|p| (p.interface.as_str(), p)).collect();
        let is: HashSet<&str> = new.ports.iter().map(|port| port.interface.as_str()).collect();
        for port in &new.ports {
            match was.get(port.interface.as_str()) {
                None => diff.ports_added.push(port.clone()),
                Some(before) => diff.ports_changed.extend(PortChange::between(before, port)),
            }
        }
        let gone = old.ports.iter().filter(|port| !is.contains(port.interface.as_str()));
        diff.ports_removed = gone.map(|port| port.interface.clone()).collect();

        let was: HashSet<&StaticEntry> = old.fdb.iter().collect();
        let is: HashSet<&StaticEntry> = new.fdb.iter().collect();
        diff.fdb_added = new.fdb.iter().filter(|entry| !was.contains(entry)).cloned().collect();
        diff.fdb_removed = old.fdb.iter().filter(|entry| !is.contains(entry)).cloned().collect();

        let was: HashSet<&RouteConfig> = old.routes.iter().collect();
        let is: HashSet<&RouteConfig> = new.routes.iter().collect();
        diff.routes_added = new.routes.iter().filter(|route| !was.contains(route)).cloned().collect();
        diff.routes_removed = old.routes.iter().filter(|route| !is.contains(route)).cloned().collect();

        let keys = old.switch.items().into_iter().zip(new.switch.items());
        diff.restart_needed = keys.filter(|(before, after)| before != after).map(|((key, _), _)| key).collect();
        diff
    }

    /// The port on `interface`.
    pub fn port(&self, interface: &str) -> Option<&PortConfig> {
        self.ports.iter().find(|port| port.interface == interface)
    }

    /// The bridge called `name`.
    pub fn bridge(&self, name: &str) -> Option<&BridgeConfig> {
        self.bridges.iter().find(|bridge| bridge.name == name)
    }

    /// Whether `port` may be added to this configuration.
    ///
    /// # Errors
    /// The first broken rule: a name, an unknown bridge, a VLAN id, a port already there, no room.
    pub fn check_new_port(&self, port: &PortConfig) -> Result<(), ConfigError> {
        let object = port_object(&port.interface);
        self.port_rules(port)?;
        if self.port(&port.interface).is_some() {
            return Err(refuse(object, Problem::PortExists));
        }
        interface::check_new_port(self, port).map_err(|problem| refuse(object.clone(), problem))?;
        let ports = self.ports.len() + 1;
        if ports > PORTS_MAX {
            return Err(refuse(object, Problem::TooManyPorts { count: ports }));
        }
        let (frames, needed) = (self.switch.frames, frames_needed(ports));
        if needed > frames {
            return Err(refuse(object, Problem::PoolFull { frames, ports, needed }));
        }
        Ok(())
    }

    /// Adds a port at run time.
    ///
    /// # Errors
    /// As [`Config::check_new_port`]; the configuration is then unchanged.
    pub fn add_port(&mut self, port: PortConfig) -> Result<(), ConfigError> {
        self.check_new_port(&port)?;
        self.ports.push(port);
        Ok(())
    }

    /// Changes a port at run time; `Ok(None)` when nothing differs.
    ///
    /// # Errors
    /// The first broken rule, or a static entry that would be left on a port outside its bridge; the
    /// configuration is then unchanged.
    pub fn set_port(&mut self, interface: &str, settings: &PortSettings) -> Result<Option<PortChange>, ConfigError> {
        let index = self.port_index(interface)?;
        let new = settings.over(&self.ports[index]);
        self.port_rules(&new)?;
        let left = self.fdb.iter().filter(|entry| entry.port == interface);
        if let Some(entry) = left.clone().find(|entry| !new.domains().any(|domain| domain == entry.bridge)) {
            let (mac, bridge) = (entry.mac.to_string(), entry.bridge.clone());
            return Err(refuse(port_object(interface), Problem::HeldByStatic { mac, bridge }));
        }
        let change = PortChange::between(&self.ports[index], &new);
        self.ports[index] = new;
        Ok(change)
    }

    /// Removes a port at run time, and its static entries with it; returns both.
    ///
    /// # Errors
    /// When there is no such port.
    pub fn remove_port(&mut self, interface: &str) -> Result<(PortConfig, Vec<StaticEntry>), ConfigError> {
        let index = self.port_index(interface)?;
        let entries = self.fdb.extract_if(.., |entry| entry.port == interface).collect();
        Ok((self.ports.remove(index), entries))
    }

    /// Adds a static entry at run time.
    ///
    /// # Errors
    /// The first broken rule, or an entry for this address in this bridge; nothing is changed then.
    pub fn add_static(&mut self, entry: StaticEntry) -> Result<(), ConfigError> {
        let object = static_object(entry.mac);
        let known = |name: &str| self.bridge(name).is_some();
        self.first_refused(&object, check::static_entry(&entry, self.port(&entry.port), &known))?;
        if self.fdb.iter().any(|other| other.mac == entry.mac && other.bridge == entry.bridge) {
            return Err(refuse(object, Problem::StaticExists { bridge: entry.bridge }));
        }
        if let Some(problem) = check::statics_total(self.fdb.len() + 1, self.switch.fdb_entries) {
            return Err(refuse(object, problem));
        }
        self.fdb.push(entry);
        Ok(())
    }

    /// Removes the static entry for `mac` in `bridge` at run time and returns it.
    ///
    /// # Errors
    /// When there is none.
    pub fn remove_static(&mut self, mac: Mac, bridge: &str) -> Result<StaticEntry, ConfigError> {
        let index = self.fdb.iter().position(|entry| entry.mac == mac && entry.bridge == bridge);
        match index {
            Some(index) => Ok(self.fdb.remove(index)),
            None => Err(refuse(static_object(mac), Problem::NoSuchStatic { bridge: bridge.to_string() })),
        }
    }

    fn port_rules(&self, port: &PortConfig) -> Result<(), ConfigError> {
        let known = |name: &str| self.bridge(name).is_some();
        self.first_refused(&port_object(&port.interface), check::port(port, &known))
    }

    pub(super) fn first_refused(&self, object: &str, findings: Vec<Finding>) -> Result<(), ConfigError> {
        match findings.into_iter().next() {
            Some((_, mut problem)) => {
                problem.add_hint(self);
                Err(refuse(object.to_string(), problem))
            }
            None => Ok(()),
        }
    }

    fn port_index(&self, interface: &str) -> Result<usize, ConfigError> {
        self.ports.iter().position(|port| port.interface == interface).ok_or_else(|| {
            let hint = hint(interface, "port", self.ports.iter().map(|port| port.interface.as_str()));
            refuse(port_object(interface), Problem::NoSuchPort { hint })
        })
    }
}

pub(super) fn port_object(interface: &str) -> String {
    format!("port {}", quote(interface))
}

fn static_object(mac: Mac) -> String {
    format!("static entry \"{mac}\"")
}

pub(super) fn refuse(object: String, problem: Problem) -> ConfigError {
    ConfigError { place: None, object, problem: Box::new(problem) }
}
