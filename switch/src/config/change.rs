//! Going from one configuration to the next: what a reload must do, and the changes made at run time.
//!
//! Called by the control thread. Nothing here touches a port: it says what to do, control does it.

use std::collections::BTreeMap;

use super::{BridgeConfig, PortConfig, StaticEntry};

/// What lies between two configurations; made by [`Config::diff`](super::Config::diff).
///
/// Apply in this order, so that nothing ever names what is gone or not there yet: `fdb_removed`,
/// `ports_removed`, `bridges_added`, `bridges_changed`, `ports_changed`, `ports_added`,
/// `bridges_removed`, `fdb_added`. Everything not listed is equal in both and stays untouched.
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
    /// True when `bridge` or `trunk` changed: flush what was learned on the port.
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
