//! What the operator wants: TOML text in, a checked [`Config`] out. Pure: reads no file, no clock, no host.
//!
//! `main` calls [`Config::parse`] once at start; the control thread calls the rest (reload, run-time
//! changes, show-config). Workers never see these types: control turns names into numbers for them.
//!
//! `read` walks the TOML tree, `check` holds the rules, `change` compares two configurations and
//! applies run-time changes, `gateway`, `dhcp` and `ra` do all of that for what a bridge has as a routed subnet,
//! `interface` and `route` for the router's interfaces and static routes, `write` prints one, `error` is what a user
//! sees when something is wrong.

mod change;
mod check;
mod dhcp;
mod error;
mod gateway;
mod interface;
mod ra;
mod read;
mod route;
mod write;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde::{Serialize, Serializer};

use self::read::{Draft, Source};
use crate::ids::Mac;
use crate::limits::{AGEING_SECONDS_DEFAULT, FDB_ENTRIES_DEFAULT, FILL_MIN, FRAMES_DEFAULT};

pub use change::{Diff, PortChange, PortSettings};
pub use dhcp::{ClientId, DhcpConfig, DhcpProblem, StaticLease};
pub use error::{ConfigError, ConfigErrors, Place, Problem};
pub use gateway::{GatewayProblem, VRF_DEFAULT};
pub use interface::{BridgeRouter, Interface, InterfaceKind};
pub use ra::{RaConfig, RaProblem};
pub use route::{Nets, RouteConfig, RouteKind, Via, fixed, prefix, vrf_text};

/// Where the control socket is when the configuration does not say.
pub const CONTROL_SOCKET_DEFAULT: &str = "/run/switchd/control.sock";

/// Where state that outlives a restart is kept when the configuration does not say.
pub const STATE_DIR_DEFAULT: &str = "/var/lib/switchd";

/// A whole configuration, with every default filled in and every rule checked.
///
/// Names only: ports and bridges get their numbers from the control thread. The fields are public to
/// read; change them through the methods of this type, which keep the rules.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Config {
    /// The `[switch]` table.
    pub switch: SwitchConfig,
    /// Every `[[bridge]]`, in file order; names are unique.
    #[serde(rename = "bridge", skip_serializing_if = "Vec::is_empty")]
    pub bridges: Vec<BridgeConfig>,
    /// Every `[[port]]`, in file order; interfaces are unique.
    #[serde(rename = "port", skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortConfig>,
    /// Every `[[fdb]]` (static entry), in file order; a MAC address is unique in its bridge.
    #[serde(rename = "fdb", skip_serializing_if = "Vec::is_empty")]
    pub fdb: Vec<StaticEntry>,
    /// Every `[[route]]`, in file order; a prefix is unique in its VRF.
    #[serde(rename = "route", skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<RouteConfig>,
}

/// The `[switch]` table: what one process needs, and what only a restart can change.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SwitchConfig {
    /// Absolute path of the control socket, at most 107 bytes.
    pub control_socket: String,
    /// Group that may use the control socket, by name or number; `None` leaves root's group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control_group: Option<String>,
    /// Core of each worker, at least one, no core twice; worker i runs on `workers[i]`.
    pub workers: Vec<usize>,
    /// Frames in the pool.
    pub frames: u32,
    /// What workers do when there is nothing to do.
    pub poll: PollMode,
    /// Under load, the kernel's receive work of a port gets a thread of its own, off the workers' cores.
    pub receive_threads: bool,
    /// Containers take in a burst as one batch where the kernel is made for it (generic receive offload).
    pub container_gro: bool,
    /// How soon idle cores of the host resume while packets flow.
    pub resume_latency_us: ResumeLatency,
    /// Most learned addresses of the whole switch. Static entries stand beside them:
    /// [`fixed_entries_max`](crate::limits::fixed_entries_max) of this number.
    pub fdb_entries: u32,
    /// Absolute path of the directory for state that outlives a restart: the leases.
    pub state_dir: String,
}

/// What a worker does when its ports are idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PollMode {
    /// Spin under load, sleep on the sockets when idle.
    Adaptive,
    /// Never sleep.
    Spin,
}

/// How soon idle cores of the host are asked to resume while packets flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResumeLatency {
    /// As suits the machine; where that is refused, nobody is bothered.
    #[default]
    Auto,
    /// Left to the host.
    Off,
    /// Within so many microseconds.
    Us(u32),
}

/// One `[[bridge]]`: a bridge domain.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BridgeConfig {
    /// 1 to 63 letters, digits, `.`, `_` or `-`.
    pub name: String,
    /// Seconds without a frame from a learned address before it is forgotten.
    pub ageing_seconds: u32,
    /// Name of the routing table its subnets belong to; subnets of one VRF do not overlap.
    #[serde(skip_serializing_if = "is_default_vrf")]
    pub vrf: String,
    /// The switch's own addresses in the bridge, each with the length of its subnet's prefix. Without any, the router
    /// has no interface here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gateway: Vec<IpNet>,
    /// What else there is to say of the router's interface.
    #[serde(flatten)]
    pub router: BridgeRouter,
    /// The DHCPv4 server, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dhcp: Option<DhcpConfig>,
    /// IPv6 router advertisements, if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ra: Option<RaConfig>,
}

/// One `[[port]]`: the host end of a veth pair, and how its frames map to bridge domains.
///
/// `bridge` alone is an access port, `trunk` alone carries only tagged frames, both together carry
/// untagged (and priority-tagged) frames in `bridge` beside the tagged ones. A port with `address` is a routed one,
/// in no bridge.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PortConfig {
    /// Interface name, 1 to 15 bytes; it is the port's identity.
    pub interface: String,
    /// Domain of untagged frames.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bridge: Option<String>,
    /// VLAN id (1 to 4094) to the domain of frames tagged with it; no domain twice.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub trunk: BTreeMap<u16, String>,
    /// The router's addresses on a routed port, each with its subnet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub address: Vec<IpNet>,
    /// The routing table of a routed port; `None` is the default one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vrf: Option<String>,
    /// True: exchanges no frame with other isolated ports.
    pub isolated: bool,
    /// False: source addresses of this port are not learned.
    pub learning: bool,
    /// False: frames to unknown unicast addresses do not leave here.
    pub flood_unicast: bool,
    /// False: broadcasts do not leave here.
    pub flood_broadcast: bool,
    /// False: multicasts do not leave here.
    pub flood_multicast: bool,
    /// Most dynamic addresses on this port; 0 is no limit, as for Linux bridge's `fdb_max_learned`.
    pub mac_limit: u32,
}

/// One `[[fdb]]`: a static entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct StaticEntry {
    /// A unicast address, not zero.
    #[serde(serialize_with = "mac_as_text")]
    pub mac: Mac,
    /// The domain it lives in; its port carries that domain.
    pub bridge: String,
    /// Interface of its port.
    pub port: String,
    /// True: frames from this address on another port do not move it.
    pub sticky: bool,
}

fn mac_as_text<S: Serializer>(mac: &Mac, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(mac)
}

fn is_default_vrf(vrf: &str) -> bool {
    vrf == VRF_DEFAULT
}

impl PollMode {
    /// The word the configuration uses.
    pub const fn as_str(self) -> &'static str {
        match self {
            PollMode::Adaptive => "adaptive",
            PollMode::Spin => "spin",
        }
    }
}

impl Serialize for ResumeLatency {
    /// As the configuration writes it: a word or a number.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            ResumeLatency::Auto => serializer.serialize_str("auto"),
            ResumeLatency::Off => serializer.serialize_str("off"),
            ResumeLatency::Us(latency_us) => serializer.serialize_u32(*latency_us),
        }
    }
}

impl BridgeConfig {
    /// A bridge called `name` with every default. Not checked.
    pub fn new(name: &str) -> BridgeConfig {
        BridgeConfig {
            name: name.to_string(),
            ageing_seconds: AGEING_SECONDS_DEFAULT,
            vrf: VRF_DEFAULT.to_string(),
            gateway: Vec::new(),
            router: BridgeRouter::default(),
            dhcp: None,
            ra: None,
        }
    }
}

impl PortConfig {
    /// A port in no domain yet, with every default. Not checked: [`Config::add_port`] does that.
    pub fn new(interface: &str) -> PortConfig {
        PortConfig {
            interface: interface.to_string(),
            bridge: None,
            trunk: BTreeMap::new(),
            address: Vec::new(),
            vrf: None,
            isolated: false,
            learning: true,
            flood_unicast: true,
            flood_broadcast: true,
            flood_multicast: true,
            mac_limit: 0,
        }
    }

    /// True for a port of the router, in no bridge.
    pub fn is_routed(&self) -> bool {
        !self.address.is_empty()
    }

    /// Every bridge the port carries: the untagged one first, then by VLAN id.
    pub fn domains(&self) -> impl Iterator<Item = &str> {
        self.bridge.iter().chain(self.trunk.values()).map(String::as_str)
    }
}

/// Pool frames that `ports` ports need: two shallow fill rings each, so that half of the pool is beyond what
/// every ring has in any case.
pub const fn frames_needed(ports: usize) -> u32 {
    // PORTS_MAX bounds a checked configuration; saturating keeps an unchecked count harmless.
    let per_port = 2 * FILL_MIN as usize;
    let frames = ports.saturating_mul(per_port);
    if frames > u32::MAX as usize { u32::MAX } else { frames as u32 }
}

/// Pool size for `ports` ports when the configuration names none.
const fn frames_default(ports: usize) -> u32 {
    let needed = frames_needed(ports);
    if needed > FRAMES_DEFAULT { needed } else { FRAMES_DEFAULT }
}

impl Config {
    /// Reads and checks the text of a configuration at start. `file` is the name that messages give
    /// it; `cores` are the cores this process may run on.
    ///
    /// `workers` defaults to the last of `cores`, `frames` to what the ports need. With no `cores`
    /// (the host would not tell), every core number is taken and the default is core 0.
    ///
    /// # Errors
    /// Everything wrong with the text: its shape first; its rules once the shape is right.
    pub fn parse(file: &str, text: &str, cores: &[usize]) -> Result<Config, ConfigErrors> {
        let source = Source::new(file, text);
        let mut draft = read::read(&source)?;
        let last = cores.iter().copied().max().unwrap_or(0);
        let workers = draft.workers.take().unwrap_or_else(|| vec![last]);
        let frames = draft.frames.unwrap_or_else(|| frames_default(draft.ports.len()));
        let config = Config::settle(&mut draft, workers, frames);
        let known = (!cores.is_empty()).then_some(cores);
        ConfigErrors::none_in(check::whole(&config, &draft, &source, known))
            .map_err(|errors| errors.with_hints(&config))?;
        Ok(config)
    }

    /// Reads and checks a configuration for a switch that runs with `running`, and says what to do.
    ///
    /// `workers` and `frames` that the text leaves out stay as they are, so that a default which
    /// depends on the host or on the number of ports asks for no restart.
    ///
    /// # Errors
    /// As [`Config::parse`], and each key of `[switch]` that only a restart can change. On an error
    /// nothing of the text should be applied.
    pub fn parse_reload(file: &str, text: &str, running: &Config) -> Result<(Config, Diff), ConfigErrors> {
        let source = Source::new(file, text);
        let mut draft = read::read(&source)?;
        let workers = draft.workers.take().unwrap_or_else(|| running.switch.workers.clone());
        let frames = draft.frames.unwrap_or(running.switch.frames);
        let config = Config::settle(&mut draft, workers, frames);
        let diff = Config::diff(running, &config);
        let mut errors = check::whole(&config, &draft, &source, None);
        let values = running.switch.items().into_iter().zip(config.switch.items());
        for ((key, old), (_, new)) in values.filter(|((key, _), _)| diff.restart_needed.contains(key)) {
            let unset = || "not set".to_string();
            let (running, wanted) = (old.unwrap_or_else(unset), new.unwrap_or_else(unset));
            errors.push(source.error(&draft.switch_spot, key, Problem::NeedsRestart { key, running, wanted }));
        }
        ConfigErrors::none_in(errors).map_err(|errors| errors.with_hints(&config))?;
        Ok((config, diff))
    }

    /// The configuration a draft means, with `workers` and `frames` settled by the caller.
    fn settle(draft: &mut Draft, workers: Vec<usize>, frames: u32) -> Config {
        let usual = SwitchConfig::default();
        let switch = SwitchConfig {
            control_socket: draft.control_socket.take().unwrap_or(usual.control_socket),
            control_group: draft.control_group.take(),
            workers,
            frames,
            poll: draft.poll.unwrap_or(usual.poll),
            receive_threads: draft.receive_threads.unwrap_or(usual.receive_threads),
            container_gro: draft.container_gro.unwrap_or(usual.container_gro),
            resume_latency_us: draft.resume_latency_us.unwrap_or(usual.resume_latency_us),
            fdb_entries: draft.fdb_entries.unwrap_or(usual.fdb_entries),
            state_dir: draft.state_dir.take().unwrap_or(usual.state_dir),
        };
        Config {
            switch,
            bridges: std::mem::take(&mut draft.bridges),
            ports: std::mem::take(&mut draft.ports),
            fdb: std::mem::take(&mut draft.fdb),
            routes: std::mem::take(&mut draft.routes),
        }
    }
}

impl Default for SwitchConfig {
    /// Every default; one worker on core 0, because only the caller knows the cores.
    fn default() -> SwitchConfig {
        SwitchConfig {
            control_socket: CONTROL_SOCKET_DEFAULT.to_string(),
            control_group: None,
            workers: vec![0],
            frames: frames_default(0),
            poll: PollMode::Adaptive,
            receive_threads: false,
            container_gro: true,
            resume_latency_us: ResumeLatency::Auto,
            fdb_entries: FDB_ENTRIES_DEFAULT,
            state_dir: STATE_DIR_DEFAULT.to_string(),
        }
    }
}
