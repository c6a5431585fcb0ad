//! Items: what the show commands list. Keys are `snake_case` and part of the contract with scripts.
//!
//! Counters run from the start of the switch and never fall. Units stand in the names.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::routing::{LeaseEntry, LoadError, NeighEntry, RouteAnswer, RouteEntry};
use crate::mac::Mac;

/// Any element of an answer. On the wire the element itself: the request says which kind it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Item {
    /// Element of show-fdb.
    Fdb(FdbEntry),
    /// Element of show-ports.
    Port(Box<PortStatus>),
    /// Element of show-bridges.
    Bridge(BridgeStatus),
    /// Element of show-workers.
    Worker(WorkerStatus),
    /// Element of show-drops.
    Drop(DropStatus),
    /// Element of show-host.
    Host(HostStatus),
    /// Element of show-config.
    Config(ConfigSection),
    /// The element of version.
    Version(VersionReport),
    /// Element of show-routes.
    Route(RouteEntry),
    /// The element of route-get.
    RouteAnswer(Box<RouteAnswer>),
    /// Element of show-neigh.
    Neigh(NeighEntry),
    /// Element of show-dhcp.
    Lease(LeaseEntry),
    /// Element of load-routes: a line that was not applied.
    LoadError(LoadError),
}

/// How a forwarding entry came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FdbKind {
    /// Learned from traffic; ages.
    Dynamic,
    /// Set by a user, sticky or not; does not age or move.
    Static,
    /// An address of the switch itself.
    Local,
}

/// One forwarding entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FdbEntry {
    /// Address of the station.
    pub mac: Mac,
    /// Bridge name.
    pub bridge: String,
    /// VLAN id the station's frames carry on its port; 0 for untagged.
    pub vlan: u16,
    /// Interface name of the port the station is behind.
    pub port: String,
    /// How it came to be.
    #[serde(rename = "type")]
    pub kind: FdbKind,
    /// True for a static entry marked sticky.
    #[serde(default)]
    pub sticky: bool,
    /// True for a static entry that is not in force yet: its port is not attached.
    #[serde(default, skip_serializing_if = "is_false")]
    pub waiting: bool,
    /// Seconds since the station was last heard; 0 for entries that do not age.
    pub age_seconds: u64,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// Whether a port carries frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PortState {
    /// Attached and its link is up.
    Up,
    /// Attached, but its link is down.
    Down,
    /// Configured, but its interface does not exist or cannot be attached (see `notes`).
    Waiting,
}

/// One port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortStatus {
    /// Interface name.
    pub interface: String,
    /// Bridge of untagged frames; null on a trunk without one.
    pub bridge: Option<String>,
    /// Whether it carries frames.
    pub state: PortState,
    /// Largest packet in bytes, without the Ethernet header; 0 while waiting.
    pub mtu: u32,
    /// Frames received from the port.
    pub rx_packets: u64,
    /// Bytes of those frames, without the frame check sequence.
    pub rx_bytes: u64,
    /// Frames sent to the port.
    pub tx_packets: u64,
    /// Bytes of those frames.
    pub tx_bytes: u64,
    /// Drops charged to this port, by reason; reasons never seen are absent.
    pub drops: BTreeMap<String, u64>,
    /// VLAN id to bridge name for tagged frames; empty on an access port.
    #[serde(default)]
    pub trunk: BTreeMap<u16, String>,
    /// The router's addresses on a routed port; empty on others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub address: Vec<String>,
    /// VRF of a routed port; null for the default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vrf: Option<String>,
    /// Interface index; 0 while waiting.
    #[serde(default)]
    pub ifindex: u32,
    /// Address of the interface; null while waiting.
    #[serde(default)]
    pub mac: Option<Mac>,
    /// Workers that own a queue of this port, by number.
    #[serde(default)]
    pub workers: Vec<u32>,
    /// Receive queues attached.
    #[serde(default)]
    pub queues: u32,
    /// How the XDP program is attached: `native`; null while waiting.
    #[serde(default)]
    pub mode: Option<String>,
    /// The other end where it is known, such as `eth0 in netns web`.
    #[serde(default)]
    pub peer: Option<String>,
    /// Learned addresses behind the port.
    #[serde(default)]
    pub learned: u64,
    /// Addresses ever learned behind the port.
    #[serde(default)]
    pub learned_total: u64,
    /// Addresses that moved to the port from another.
    #[serde(default)]
    pub moved: u64,
    /// Source addresses that were not learned because a limit was reached or the table was full.
    #[serde(default)]
    pub learn_refused: u64,
    /// Frames from the port that were flooded.
    #[serde(default)]
    pub flooded: u64,
    /// Partial checksums finished for the port's senders.
    #[serde(default)]
    pub checksums_finished: u64,
    /// Most learned addresses; 0 for no limit.
    #[serde(default)]
    pub mac_limit: u32,
    /// No frames to or from other isolated ports.
    #[serde(default)]
    pub isolated: bool,
    /// Source addresses are learned.
    #[serde(default)]
    pub learning: bool,
    /// Frames for unknown stations are sent here.
    #[serde(default)]
    pub flood_unicast: bool,
    /// Broadcast frames are sent here.
    #[serde(default)]
    pub flood_broadcast: bool,
    /// Multicast frames are sent here.
    #[serde(default)]
    pub flood_multicast: bool,
    /// The container takes in a burst as one batch (generic receive offload).
    #[serde(default)]
    pub container_gro: bool,
    /// Most pool frames kept in the fill rings of the port.
    #[serde(default)]
    pub fill_frames: u32,
    /// Estimate of the kernel memory that the port's sockets and rings take.
    #[serde(default)]
    pub kernel_memory_bytes: u64,
    /// The kernel's own socket counters, by the field names of `xdp_statistics` (linux/if_xdp.h).
    #[serde(default)]
    pub kernel: BTreeMap<String, u64>,
    /// Things to know about the port, warnings first, one line each.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// One bridge domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeStatus {
    /// Bridge name.
    pub name: String,
    /// Seconds a learned address lives without being heard.
    pub ageing_seconds: u32,
    /// Members in configuration order: `web0`, or `up0.10` for VLAN 10 of a trunk.
    pub ports: Vec<String>,
    /// Learned entries.
    pub fdb_learned: u64,
    /// Static, sticky and local entries.
    pub fdb_static: u64,
    /// Most learned entries, shared by all bridges unless this one has its own limit.
    pub fdb_limit: u64,
    /// Frames flooded because their destination was unknown.
    pub flooded_unicast: u64,
    /// Broadcast frames flooded.
    pub flooded_broadcast: u64,
    /// Multicast frames flooded.
    pub flooded_multicast: u64,
    /// Learned addresses removed because they were not heard for `ageing_seconds`.
    #[serde(default)]
    pub aged: u64,
}

/// What a worker was mostly doing since the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkerState {
    /// Polls and finds frames.
    Busy,
    /// Polls and finds none.
    Idle,
    /// Sleeps on its sockets.
    Sleeping,
}

/// One worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// Number of the worker, from 0.
    pub worker: u32,
    /// Core it is pinned to.
    pub core: u32,
    /// `adaptive` or `spin`.
    pub poll: String,
    /// What it was mostly doing.
    pub state: WorkerState,
    /// Share of the measured time spent on rounds that moved frames, 0 to 100.
    pub busy_percent: f64,
    /// The rest: empty rounds and sleep.
    pub idle_percent: f64,
    /// Rounds of its loop.
    pub iterations: u64,
    /// Rounds that moved frames.
    pub busy_iterations: u64,
    /// Times it went to sleep.
    pub sleeps: u64,
    /// Frames per round that moved any.
    pub packets_per_burst: f64,
    /// Frames received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Ports it polls, by interface name.
    #[serde(default)]
    pub ports: Vec<String>,
    /// Length of the measurement behind the percentages.
    #[serde(default)]
    pub measured_seconds: f64,
    /// Microseconds within which the host's idle cores are asked to resume now, the same for all workers; null while
    /// that is left to the host.
    #[serde(default)]
    pub resume_latency_us: Option<u32>,
    /// Something else needs its core while it waits for packets: it sleeps as soon as none are there.
    #[serde(default)]
    pub shares_core: bool,
}

/// One drop counter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DropStatus {
    /// Name of the reason, `snake_case`.
    pub reason: String,
    /// Interface name of the port charged, `router` for what the switch itself sent; null for drops of the switch as a
    /// whole.
    pub port: Option<String>,
    /// Frames dropped.
    pub count: u64,
    /// Frames a second since the last look; set by a watching client, never by the switch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_per_second: Option<f64>,
    /// What it means and what to do about it.
    pub help: String,
}

/// What the number of a [`HostStatus`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HostValueKind {
    /// Counts up from the start of the switch.
    Counter,
    /// How much there is now.
    Level,
    /// A limit in force; kinds of newer switches read as this one.
    #[serde(other)]
    Limit,
}

/// One number of the switch as a host: ARP, neighbour discovery, ICMP, DHCP, router advertisements.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostStatus {
    /// Its name, `snake_case`, with its unit.
    pub name: String,
    /// What it is.
    pub kind: HostValueKind,
    /// The number.
    pub value: u64,
    /// The most that it can be; null for counters and limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// Growth of a counter a second since the last look; set by a watching client, never by the switch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_per_second: Option<f64>,
    /// What it means.
    pub help: String,
}

/// One table of the configuration in force, defaults filled in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfigSection {
    /// Name of the TOML table: `switch`, `bridge`, `port`, `fdb`, `route`.
    pub section: String,
    /// True for a table that may occur many times (`[[port]]`).
    #[serde(default)]
    pub repeated: bool,
    /// Its keys, as they would stand in the file.
    pub values: serde_json::Map<String, serde_json::Value>,
}

/// Who answers on the socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionReport {
    /// Version of switchd.
    pub version: String,
    /// Protocol version it speaks.
    pub protocol: u32,
    /// Its process id.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime_seconds: u64,
    /// Kernel release it runs on.
    #[serde(default)]
    pub kernel: String,
    /// Configuration file it reads, if any.
    #[serde(default)]
    pub config: Option<String>,
    /// Kernel features found missing at start and what is done instead, one line each.
    #[serde(default)]
    pub notes: Vec<String>,
}
