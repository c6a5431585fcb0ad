//! The rules: which values may stand together. Pure functions, used by the parser and by run-time changes.

use std::collections::HashMap;

use super::error::{ConfigError, Problem};
use super::read::{Draft, Source, Spot, trunk_key};
use super::{Config, PortConfig, StaticEntry, SwitchConfig, frames_needed, gateway, interface, route};
use crate::ids::Mac;
use crate::limits::{DOMAINS_MAX, FDB_ENTRIES_MAX, PORTS_MAX, WORKERS_MAX, fixed_entries_max};

/// Longest path a Unix socket address holds, without its final NUL (`sun_path`, unix(7)).
const SOCKET_PATH_MAX: usize = 107;

/// Longest path of the state directory: with room for a file's name below the kernel's `PATH_MAX`.
const STATE_DIR_MAX: usize = 4000;

/// Longest interface name, without its final NUL (`IFNAMSIZ` of linux/if.h).
const INTERFACE_NAME_MAX: usize = 15;

/// Longest bridge name in bytes.
const BRIDGE_NAME_MAX: usize = 63;

/// Longest group name in bytes (groupadd(8)).
const GROUP_NAME_MAX: usize = 32;

/// Checking stops after so many errors: nobody reads on, and hints for a million of them take long.
const ERRORS_KEPT: usize = 1_000;

/// A broken rule and the key to point at.
pub(super) type Finding = (String, Problem);

pub(super) fn finding(key: &str, problem: Problem) -> Finding {
    (key.to_string(), problem)
}

/// The errors found in one text.
pub(super) struct Report<'r> {
    pub source: &'r Source<'r>,
    errors: Vec<ConfigError>,
}

impl Report<'_> {
    pub fn add(&mut self, spot: &Spot, findings: impl IntoIterator<Item = Finding>) {
        let source = self.source;
        self.errors.extend(findings.into_iter().map(|(key, problem)| source.error(spot, &key, problem)));
    }

    pub fn full(&self) -> bool {
        self.errors.len() >= ERRORS_KEPT
    }

    /// The line of an object.
    pub fn line(&self, spot: &Spot) -> usize {
        self.source.line(spot)
    }
}

/// Every broken rule of `config`, which was read from `draft`; `cores` are the usable ones, if known.
pub(super) fn whole(config: &Config, draft: &Draft, source: &Source<'_>, cores: Option<&[usize]>) -> Vec<ConfigError> {
    let mut report = Report { source, errors: Vec::new() };
    report.add(&draft.switch_spot, switch(&config.switch, cores));
    report.add(&draft.switch_spot, pool(config, draft.frames.is_some()));
    let too_many = statics_total(config.fdb.len(), config.switch.fdb_entries);
    report.add(&draft.switch_spot, too_many.map(|problem| finding("fdb_entries", problem)));
    if let Some(spot) = draft.bridge_spots.get(DOMAINS_MAX) {
        report.add(spot, [finding("", Problem::TooManyBridges { count: config.bridges.len() })]);
    }
    if let Some(spot) = draft.port_spots.get(PORTS_MAX) {
        report.add(spot, [finding("", Problem::TooManyPorts { count: config.ports.len() })]);
    }
    let mut names = HashMap::new();
    for (bridge, spot) in config.bridges.iter().zip(&draft.bridge_spots) {
        report.add(spot, bridge_name(&bridge.name).map(|problem| finding("name", problem)));
        if let Some(first) = names.insert(bridge.name.as_str(), spot) {
            report.add(spot, [finding("name", Problem::BridgeTwice { line: source.line(first) })]);
        }
    }
    gateway::whole(config, draft, &mut report);
    objects(config, draft, &mut report, &|name| names.contains_key(name));
    interface::check_all(config, draft, &mut report);
    route::check_all(config, draft, &mut report);
    report.errors
}

/// The ports and static entries of [`whole`]: what refers to something else.
fn objects(config: &Config, draft: &Draft, report: &mut Report<'_>, known: &dyn Fn(&str) -> bool) {
    let mut ports: HashMap<&str, (&PortConfig, &Spot)> = HashMap::new();
    for (config_port, spot) in config.ports.iter().zip(&draft.port_spots) {
        if report.full() {
            return;
        }
        report.add(spot, port(config_port, known));
        if let Some((first, at)) = ports.insert(&config_port.interface, (config_port, spot)) {
            let (line, domains) = (report.source.line(at), domain_list(first));
            report.add(spot, [finding("interface", Problem::PortTwice { line, domains })]);
        }
    }
    let mut entries = HashMap::new();
    for (entry, spot) in config.fdb.iter().zip(&draft.fdb_spots) {
        if report.full() {
            return;
        }
        let on = ports.get(entry.port.as_str()).map(|(port, _)| *port);
        report.add(spot, static_entry(entry, on, known));
        if let Some(first) = entries.insert((entry.mac, entry.bridge.as_str()), spot) {
            let (bridge, line) = (entry.bridge.clone(), report.source.line(first));
            report.add(spot, [finding("mac", Problem::StaticTwice { bridge, line })]);
        }
    }
}

/// Rules of `[switch]` alone.
fn switch(switch: &SwitchConfig, cores: Option<&[usize]>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let path = &switch.control_socket;
    let file = path.rsplit('/').next().unwrap_or_default();
    let whole = path.starts_with('/') && !matches!(file, "" | "." | "..");
    if !whole || path.len() > SOCKET_PATH_MAX || path.chars().any(char::is_control) {
        findings.push(finding("control_socket", Problem::SocketPath { path: path.clone() }));
    }
    let path = &switch.state_dir;
    if !path.starts_with('/') || path.len() > STATE_DIR_MAX || path.chars().any(char::is_control) {
        findings.push(finding("state_dir", Problem::StateDir { path: path.clone() }));
    }
    if let Some(group) = &switch.control_group {
        let wrong = |c: char| c.is_control() || c.is_whitespace() || matches!(c, ':' | ',' | '/');
        if group.is_empty() || group.len() > GROUP_NAME_MAX || group.contains(wrong) {
            findings.push(finding("control_group", Problem::GroupName { group: group.clone() }));
        }
    }
    findings.extend(workers(&switch.workers, cores).map(|problem| finding("workers", problem)));
    findings
}

/// The pool must hold the ports. Its size is `named` by the text, or that of the running switch.
fn pool(config: &Config, named: bool) -> Option<Finding> {
    let (frames, ports) = (config.switch.frames, config.ports.len());
    let needed = frames_needed(ports);
    if ports > PORTS_MAX || frames >= needed {
        return None;
    }
    let problem = match named {
        true => Problem::FramesTooFew { frames, ports, needed },
        false => Problem::PoolFull { frames, ports, needed },
    };
    Some(finding("frames", problem))
}

fn workers(workers: &[usize], cores: Option<&[usize]>) -> Option<Problem> {
    if workers.is_empty() {
        return Some(Problem::NoWorkers);
    }
    if workers.len() > WORKERS_MAX {
        return Some(Problem::TooManyWorkers { count: workers.len() });
    }
    let twice = workers.iter().enumerate().find(|(index, core)| workers[..*index].contains(core));
    if let Some((_, core)) = twice {
        return Some(Problem::WorkerTwice { core: *core });
    }
    let cores = cores?;
    let missing = workers.iter().find(|core| !cores.contains(core))?;
    Some(Problem::NoSuchCore { core: *missing, cores: ranges(cores) })
}

/// The table must have room for every static entry, those of ports that are not attached yet included: one
/// that is accepted comes into force. `entries` is the limit on learned ones.
pub(super) fn statics_total(count: usize, entries: u32) -> Option<Problem> {
    let limit = fixed_entries_max(entries);
    (count > limit as usize).then_some(Problem::TooManyStatics { count, limit, entries })
}

/// The rule for names of bridges and VRFs.
pub(super) fn bridge_name(name: &str) -> Option<Problem> {
    (!is_plain_name(name)).then(|| Problem::BridgeName { name: name.to_string() })
}

/// What names of bridges and VRFs look like.
pub(super) fn is_plain_name(name: &str) -> bool {
    let right = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !name.is_empty() && name.len() <= BRIDGE_NAME_MAX && name.bytes().all(right)
}

/// What the kernel takes as an interface name (`dev_valid_name` of net/core/dev.c), less `lo`.
fn interface_name(name: &str) -> Option<Problem> {
    let wrong = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '/' | ':');
    let why = match name {
        "" => "write the host end of a veth pair, like \"web0\"",
        "." | ".." => "no interface can be called that",
        "lo" => "the loopback interface cannot be a port",
        _ if name.len() > INTERFACE_NAME_MAX => "interface names have at most 15 bytes",
        _ if name.contains(wrong) => "interface names have no spaces, '/', ':' or control characters",
        // The kernel's isspace() knows only single bytes, and takes this one for Latin-1.
        _ if name.bytes().any(|byte| byte == 0xa0) => "the kernel takes a byte of this name (0xa0) for a space",
        _ => return None,
    };
    Some(Problem::InterfaceName { name: name.to_string(), why })
}

/// Rules of one port, whose bridges `known` finds. Hints are left to [`Problem::add_hint`].
pub(super) fn port(port: &PortConfig, known: &dyn Fn(&str) -> bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(interface_name(&port.interface).map(|problem| finding("interface", problem)));
    if port.is_routed() {
        if port.domains().next().is_some() {
            findings.push(finding("address", Problem::RoutedAndBridged));
        }
    } else if port.bridge.is_none() && port.trunk.is_empty() {
        findings.push(finding("", Problem::NoDomain));
    }
    if port.vrf.is_some() && !port.is_routed() {
        findings.push(finding("vrf", Problem::NeedsAddress));
    }
    let unknown = |key: &'static str, bridge: &str| Problem::UnknownBridge {
        key,
        bridge: bridge.to_string(),
        hint: String::new(),
    };
    if let Some(bridge) = port.bridge.as_deref().filter(|bridge| !known(bridge)) {
        findings.push(finding("bridge", unknown("bridge", bridge)));
    }
    let mut first_vlan: HashMap<&str, u16> = HashMap::new();
    for (vlan, domain) in &port.trunk {
        let key = trunk_key(&vlan.to_string());
        if !(1..=4094).contains(vlan) {
            findings.push(finding(&key, Problem::VlanId { vlan: vlan.to_string() }));
        }
        let bridge = domain.clone();
        if !known(domain) {
            findings.push(finding(&key, unknown("trunk", domain)));
        } else if port.bridge.as_ref() == Some(domain) {
            findings.push(finding(&key, Problem::NativeInTrunk { bridge, vlan: *vlan }));
        } else if let Some(first) = first_vlan.insert(domain, *vlan) {
            findings.push(finding(&key, Problem::DomainTwice { bridge, first, second: *vlan }));
        }
    }
    if port.mac_limit > FDB_ENTRIES_MAX {
        let (value, max) = (port.mac_limit.to_string(), FDB_ENTRIES_MAX.into());
        findings.push(finding("mac_limit", Problem::Range { key: "mac_limit", value, min: 0, max }));
    }
    findings
}

/// Rules of one static entry, on the port `on` if that exists. Hints as for [`port`].
pub(super) fn static_entry(entry: &StaticEntry, on: Option<&PortConfig>, known: &dyn Fn(&str) -> bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(no_station(entry.mac).map(|kind| finding("mac", Problem::MacKind { kind })));
    if !known(&entry.bridge) {
        let bridge = entry.bridge.clone();
        let hint = String::new();
        findings.push(finding("bridge", Problem::UnknownBridge { key: "bridge", bridge, hint }));
    }
    match on {
        None => {
            let port = entry.port.clone();
            let hint = String::new();
            findings.push(finding("port", Problem::UnknownPort { port, hint }));
        }
        Some(port) if known(&entry.bridge) && !port.domains().any(|domain| domain == entry.bridge) => {
            let (bridge, domains) = (entry.bridge.clone(), domain_list(port));
            findings.push(finding("bridge", Problem::PortNotInBridge { port: entry.port.clone(), bridge, domains }));
        }
        Some(_) => {}
    }
    findings
}

/// What an address is that no single station has.
pub(super) fn no_station(mac: Mac) -> Option<&'static str> {
    match mac {
        Mac::ZERO => Some("all zero"),
        Mac::BROADCAST => Some("the broadcast address"),
        mac if mac.is_group() => Some("a multicast address"),
        _ => None,
    }
}

/// `bridge "pods"` or `bridges "pods", "blue"`, for messages.
fn domain_list(port: &PortConfig) -> String {
    let names: Vec<String> = port.domains().take(8).map(super::error::quote).collect();
    match names.len() {
        0 if port.is_routed() => "no bridge: it is routed".to_string(),
        0 => "no bridge".to_string(),
        1 => format!("bridge {}", names.concat()),
        _ => format!("bridges {}", names.join(", ")),
    }
}

/// `0-3, 8` for the cores 0, 1, 2, 3 and 8.
fn ranges(cores: &[usize]) -> String {
    let mut sorted = cores.to_vec();
    sorted.sort_unstable();
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for core in sorted {
        match ranges.last_mut() {
            Some((_, last)) if core <= last.saturating_add(1) => *last = core,
            _ => ranges.push((core, core)),
        }
    }
    let text = |(first, last): &(usize, usize)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    ranges.iter().map(text).collect::<Vec<_>>().join(", ")
}
