//! Changes of the running configuration: one by one from the control socket, or all at once by a reload.
//!
//! The configuration's own functions decide what is allowed; nothing is touched before they agree. Control thread.

use std::collections::HashSet;
use std::sync::Arc;

use ctl::protocol::{AddFdb, AddPort, DelFdb, Done, ErrorBody, FdbFlush, PortSettings};

use super::ageing::{Flush, Then, Ticket};
use super::dump::FlushStream;
use super::fill::Division;
use super::requests::Answer;
use super::server::Reply;
use super::view::routed_domain;
use super::{Control, tell_service_manager};
use crate::config::{self, Config, ConfigErrors, Diff, PortChange, PortConfig, StaticEntry};
use crate::ids::{DomainId, Mac};
use crate::table::fdb::{Entry, Kind, MacKey};

/// Most notes of one answer.
const NOTES_MAX: usize = 1_000;

impl Control {
    pub(super) fn add_port(&mut self, add: AddPort) -> Answer {
        let mut port = PortConfig::new(&add.interface);
        port.bridge = add.bridge;
        port.trunk = add.trunk;
        port.vrf = add.vrf.filter(|vrf| vrf != config::VRF_DEFAULT);
        for text in &add.address {
            let address = text.parse().map_err(|_| {
                let text = text.clone();
                ErrorBody::usage(config::Problem::AddressText { key: "address", text }.to_string())
            })?;
            port.address.push(address);
        }
        lay_over(&mut port, &add.settings);
        let interface = port.interface.clone();
        self.config.add_port(port).map_err(refused)?;
        self.number();
        let waits = self.links.by_name(&interface).is_none();
        let note = waits.then(|| format!("interface {interface} does not exist yet: the port waits for it"));
        Ok(Done {
            affected: Some(1),
            notes: note.into_iter().collect(),
            ..Done::message(format!("port {interface} added"))
        })
    }

    pub(super) fn del_port(&mut self, interface: &str) -> Answer {
        let (_, entries) = self.config.remove_port(interface).map_err(refused)?;
        entries.iter().for_each(|entry| self.remove_static(entry));
        self.ports.remove(interface);
        self.number();
        Ok(Done { affected: Some(1), ..Done::message(format!("port {interface} removed")) })
    }

    pub(super) fn set_port(&mut self, interface: &str, settings: &PortSettings) -> Answer {
        let wanted = config::PortSettings {
            isolated: settings.isolated,
            learning: settings.learning,
            flood_unicast: settings.flood_unicast,
            flood_broadcast: settings.flood_broadcast,
            flood_multicast: settings.flood_multicast,
            mac_limit: settings.mac_limit,
            ..config::PortSettings::default()
        };
        let Some(change) = self.config.set_port(interface, &wanted).map_err(refused)? else {
            return Ok(Done { affected: Some(0), ..Done::message(format!("port {interface} is set so already")) });
        };
        self.port_changed(&change);
        Ok(Done { affected: Some(1), ..Done::message(format!("port {interface} changed")) })
    }

    pub(super) fn add_fdb(&mut self, add: &AddFdb) -> Answer {
        let bridge = self.bridge_on_port(&add.port, add.bridge.as_deref(), add.vlan)?;
        let mac = Mac::new(add.mac.0);
        let entry = StaticEntry { mac, bridge, port: add.port.clone(), sticky: add.sticky };
        self.config.add_static(entry.clone()).map_err(refused)?;
        if let Err(error) = self.insert_static(&entry) {
            // Just added, so it is there; the request must leave nothing behind.
            let _ = self.config.remove_static(mac, &entry.bridge);
            return Err(ErrorBody::refused(error.to_string()));
        }
        let waits = self.ports.by_name(&entry.port).is_none_or(|slot| slot.attached().is_none());
        let note = waits.then(|| format!("port {} is not attached: the entry waits with it", entry.port));
        let message = format!("{mac} added to bridge {} on port {}", entry.bridge, entry.port);
        Ok(Done { affected: Some(1), notes: note.into_iter().collect(), ..Done::message(message) })
    }

    pub(super) fn del_fdb(&mut self, del: &DelFdb) -> Answer {
        let filter = self.filter(del.bridge.as_deref(), del.port.as_deref(), del.vlan, false)?;
        let (mac, names) = (Mac::new(del.mac.0), self.names());
        let matches = |entry: &Entry| entry.kind != Kind::Local && filter.matches(entry, &names);
        let find = |bridge: &str| {
            let key = MacKey::new(self.domains.get(bridge)?, mac);
            // What is configured comes first: while its port is not attached, the address may be learned elsewhere.
            let configured = self.config.fdb.iter().find(|entry| entry.mac == mac && entry.bridge == *bridge);
            let configured = configured.and_then(|entry| self.fixed_entry(entry)).filter(matches);
            let found = configured.or_else(|| self.shared.fdb().lookup(key).map(|hit| hit.entry(key)).filter(matches));
            Some((bridge.to_string(), found?))
        };
        let mut found: Vec<(String, Entry)> =
            self.config.bridges.iter().filter_map(|bridge| find(&bridge.name)).collect();
        let (bridge, entry) = match (found.pop(), found.len()) {
            (Some(one), 0) => one,
            (None, _) => {
                return Err(ErrorBody::refused(format!("{mac} has no such entry: show-fdb lists what there is")));
            }
            (Some(_), others) => {
                let message = format!("{mac} has entries in {} bridges: say which with a bridge or a port", others + 1);
                return Err(ErrorBody::refused(message));
            }
        };
        if entry.kind == Kind::Dynamic {
            self.shared.fdb().remove(entry.key);
        } else if let Ok(entry) = self.config.remove_static(mac, &bridge) {
            self.remove_static(&entry);
        }
        Ok(Done { affected: Some(1), ..Done::message(format!("{mac} removed from bridge {bridge}")) })
    }

    pub(super) fn flush_fdb(&mut self, flush: &FdbFlush) -> Result<Reply, ErrorBody> {
        let filter = self.filter(flush.bridge.as_deref(), flush.port.as_deref(), flush.vlan, !flush.include_static)?;
        let names = self.names();
        let mut waiting = 0;
        if flush.include_static {
            let mut entries = std::mem::take(&mut self.config.fdb);
            entries.retain(|entry| {
                let Some(fixed) = self.fixed_entry(entry).filter(|fixed| filter.matches(fixed, &names)) else {
                    return true;
                };
                waiting += u64::from(!self.is_in_force(&fixed));
                false
            });
            self.config.fdb = entries;
        }
        let ticket = Arc::new(Ticket::default());
        let matches = move |entry: &Entry| entry.kind != Kind::Local && filter.matches(entry, &names);
        let then = Then::Tell(Arc::clone(&ticket));
        self.sweeper.flush(Flush { matches: Box::new(matches), after: 0, then });
        Ok(Reply::Stream(Box::new(FlushStream { ticket, waiting })))
    }

    /// Makes the running configuration equal to the file, ports and entries added at run time included: what the file
    /// does not name goes, and the answer says so. Nothing of a bad file is applied.
    pub(super) fn reload(&mut self) -> Answer {
        let Some(source) = self.source.clone() else {
            return Err(ErrorBody::refused(
                "switchd was started without a configuration file: there is none to reload",
            ));
        };
        let file = source.display().to_string();
        tell_service_manager(sd_notify::NotifyState::Reloading);
        let result = self.reload_from(&source, &file);
        tell_service_manager(sd_notify::NotifyState::Ready);
        result
    }

    fn reload_from(&mut self, source: &std::path::Path, file: &str) -> Answer {
        let text = std::fs::read_to_string(source).map_err(|error| {
            ErrorBody::failed(format!("cannot read {file}: {error}: the configuration stays as it is"))
        })?;
        let (config, diff) = Config::parse_reload(file, &text, &self.config).map_err(|errors| refused_all(&errors))?;
        let (mut changes, mut notes) = (changes(&diff), removals(&diff));
        let added = self.forget_added_routes();
        if added > 0 {
            changes += added;
            notes.push(match added {
                1 => "1 route added at run time removed: the file does not name it".to_string(),
                more => format!("{more} routes added at run time removed: the file does not name them"),
            });
        }
        notes.iter().for_each(|note| tracing::info!("reload: {note}"));
        self.apply(config, diff);
        let message = match changes {
            0 => "nothing changed".to_string(),
            1 => "1 change applied".to_string(),
            more => format!("{more} changes applied"),
        };
        Ok(Done { affected: Some(changes), notes: shortened(notes), ..Done::message(format!("{file}: {message}")) })
    }

    /// As [`Control::reload`], for a signal: the log is the only one to hear the result.
    pub(super) fn reload_and_log(&mut self) {
        match self.reload() {
            Ok(done) => tracing::info!("reload: {}", done.message.unwrap_or_default()),
            Err(error) => tracing::error!("reload refused: {error}"),
        }
    }

    /// Makes `config` the running configuration; `diff` is what lies between.
    fn apply(&mut self, config: Config, diff: Diff) {
        diff.fdb_removed.iter().for_each(|entry| self.remove_static(entry));
        diff.ports_removed.iter().for_each(|interface| self.ports.remove(interface));
        self.remove_routes(&diff.routes_removed);
        self.router.set_incomplete();
        self.config = config;
        self.number();
        diff.ports_changed.iter().for_each(|change| self.port_changed(change));
        for entry in &diff.fdb_added {
            if let Err(error) = self.insert_static(entry) {
                tracing::warn!("port {}: static entry not in force: {error}", entry.port);
            }
        }
    }

    /// Gives numbers to ports and bridges that have none, as far as there are free ones; called again when
    /// some become free.
    pub(super) fn number(&mut self) {
        if self.is_stopping() {
            return;
        }
        let bridges = self.config.bridges.iter().map(|bridge| bridge.name.clone());
        let routed = self.config.ports.iter().filter(|port| port.is_routed());
        let wanted: HashSet<String> = bridges.chain(routed.map(|port| routed_domain(&port.interface))).collect();
        let gone: Vec<String> =
            self.domains.names().filter(|name| !wanted.contains(*name)).map(str::to_string).collect();
        for name in gone {
            let Some(id) = self.domains.remove(&name) else { continue };
            let matches = Box::new(move |entry: &Entry| entry.key.domain() == id);
            let after = self.publisher.generation() + 1;
            self.sweeper.flush(Flush { matches, after, then: Then::FreeDomain(id) });
        }
        for name in &wanted {
            if self.domains.get(name).is_none() {
                // None free: the next freed one comes here.
                let _ = self.domains.add(name);
            }
        }
        for port in &self.config.ports {
            if self.ports.by_name(&port.interface).is_none() {
                let _ = self.ports.add(&port.interface, true);
            }
        }
        self.divide_pool(Division::More);
        self.changed = true;
        self.look = true;
    }

    /// Frees a bridge's number, which nothing refers to any more.
    pub(super) fn free_domain(&mut self, id: DomainId) {
        self.shared.all_stats().for_each(|stats| stats.clear_domain(id));
        self.sweeper.clear_aged(id);
        self.domains.free(id);
        self.number();
    }

    fn port_changed(&mut self, change: &PortChange) {
        self.changed = true;
        if let Some(id) = self.port_id(&change.port.interface).filter(|_| change.membership) {
            self.flush_learned(id);
        }
    }

    /// The bridge of `interface` that a request means by a name, a VLAN id, or by saying nothing.
    fn bridge_on_port(&self, interface: &str, bridge: Option<&str>, vlan: Option<u16>) -> Result<String, ErrorBody> {
        self.known_port(interface)?;
        let Some(port) = self.config.port(interface) else {
            return Err(ErrorBody::refused(format!("no port on interface {interface}: show-ports lists the ports")));
        };
        let by_vlan = match vlan {
            None => None,
            Some(0) => Some(port.bridge.as_ref()),
            Some(vlan) => Some(port.trunk.get(&vlan)),
        };
        let by_vlan = match (by_vlan, vlan) {
            (Some(None), Some(0)) => {
                return Err(ErrorBody::refused(format!(
                    "port {interface} takes no untagged frames: give a VLAN of its trunk"
                )));
            }
            (Some(None), _) => {
                let vlan = vlan.unwrap_or_default();
                return Err(ErrorBody::refused(format!("port {interface} does not carry VLAN {vlan}: see show-ports")));
            }
            (by_vlan, _) => by_vlan.flatten().map(String::as_str),
        };
        match (bridge, by_vlan) {
            (Some(bridge), Some(other)) if bridge != other => {
                let message =
                    format!("that VLAN of port {interface} is in bridge {other}, not {bridge}: give one of the two");
                Err(ErrorBody::refused(message))
            }
            (Some(bridge), _) | (None, Some(bridge)) => Ok(bridge.to_string()),
            (None, None) => {
                let mut domains = port.domains();
                match (domains.next(), domains.next()) {
                    (Some(only), None) => Ok(only.to_string()),
                    _ => Err(ErrorBody::refused(format!(
                        "port {interface} is in several bridges: say which, or give a VLAN"
                    ))),
                }
            }
        }
    }
}

fn lay_over(port: &mut PortConfig, settings: &PortSettings) {
    port.isolated = settings.isolated.unwrap_or(port.isolated);
    port.learning = settings.learning.unwrap_or(port.learning);
    port.flood_unicast = settings.flood_unicast.unwrap_or(port.flood_unicast);
    port.flood_broadcast = settings.flood_broadcast.unwrap_or(port.flood_broadcast);
    port.flood_multicast = settings.flood_multicast.unwrap_or(port.flood_multicast);
    port.mac_limit = settings.mac_limit.unwrap_or(port.mac_limit);
}

/// How many things a reload changes.
fn changes(diff: &Diff) -> u64 {
    let ports = diff.ports_added.len() + diff.ports_removed.len() + diff.ports_changed.len();
    let bridges = diff.bridges_added.len() + diff.bridges_removed.len() + diff.bridges_changed.len();
    let entries = diff.fdb_added.len() + diff.fdb_removed.len();
    (ports + bridges + entries + diff.routes_added.len() + diff.routes_removed.len()) as u64
}

/// What a reload takes away, a line each.
fn removals(diff: &Diff) -> Vec<String> {
    let replaced: HashSet<(Mac, &str)> =
        diff.fdb_added.iter().map(|entry| (entry.mac, entry.bridge.as_str())).collect();
    let entries = diff.fdb_removed.iter().filter(|entry| !replaced.contains(&(entry.mac, entry.bridge.as_str())));
    let bridges =
        diff.bridges_removed.iter().map(|bridge| format!("bridge {bridge} removed: the file does not name it"));
    let ports = diff.ports_removed.iter().map(|port| format!("port {port} removed: the file does not name it"));
    let entries = entries.map(|entry| {
        let StaticEntry { mac, bridge, port, .. } = entry;
        format!("static entry {mac} (bridge {bridge}, port {port}) removed: the file does not name it")
    });
    let replaced: HashSet<_> = diff.routes_added.iter().map(|route| (route.vrf(), route.to)).collect();
    let routes = diff.routes_removed.iter().filter(|route| !replaced.contains(&(route.vrf(), route.to)));
    let routes = routes.map(|route| {
        format!("route {} ({}) removed: the file does not name it", route.to, config::vrf_text(route.vrf()))
    });
    bridges.chain(ports).chain(entries).chain(routes).collect()
}

/// As many notes as one answer can carry and a user reads; the log has all.
fn shortened(mut notes: Vec<String>) -> Vec<String> {
    let more = notes.len().saturating_sub(NOTES_MAX);
    if more > 0 {
        notes.truncate(NOTES_MAX);
        notes.push(format!("and {more} more removed: the log of switchd names them"));
    }
    notes
}

fn refused(error: config::ConfigError) -> ErrorBody {
    ErrorBody::refused(error.to_string())
}

/// All of them on one line.
fn refused_all(errors: &ConfigErrors) -> ErrorBody {
    ErrorBody::refused(errors.to_string().replace('\n', "; "))
}
