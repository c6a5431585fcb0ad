//! The items of the show requests that are short. Control thread.

use std::collections::BTreeMap;
use std::time::Instant;

use ctl::protocol::{
    BridgeStatus, ConfigSection, DropStatus, Item, PROTOCOL_VERSION, PortState, PortStatus, VersionReport, WorkerState,
    WorkerStatus,
};

use super::Control;
use super::ports::{Attached, Life, Slot};
use super::requests::ROUTER;
use crate::config::PortConfig;
use crate::ids::{DomainId, PortId};
use crate::stats::{Counter, Drop, PortStats};
use crate::table::snapshot::FloodClass;

/// The one way in which ports are attached: in the driver, never in the generic path.
const XDP_MODE: &str = "native";

/// Drops that the kernel counts for a port's sockets, with what they mean.
type KernelDrop = (&'static str, &'static str, fn(&PortStats) -> &Counter);
const KERNEL_DROPS: [KernelDrop; 3] = [
    (
        "kernel_rx_dropped",
        "The fill ring was empty or the frame did not fit: the switch was too slow, or the pool ([switch] frames) is small.",
        |stats| &stats.kernel_rx_dropped,
    ),
    ("kernel_rx_ring_full", "The receive ring was full: the switch was too slow.", |stats| &stats.kernel_rx_ring_full),
    ("kernel_tx_invalid", "The kernel refused transmit descriptors; this should not happen.", |stats| {
        &stats.kernel_tx_invalid
    }),
];

impl Control {
    /// The configured ports in configuration order, or the one with number `only`.
    fn chosen(&self, only: Option<PortId>) -> impl Iterator<Item = (&PortConfig, &Slot)> {
        let ports = self.config.ports.iter();
        let ports = ports.filter_map(|port| Some((port, self.ports.by_name(&port.interface)?)));
        ports.filter(move |(_, slot)| only.is_none_or(|only| only == slot.id))
    }

    /// Adds one of a port's counters up over the workers.
    fn total(&self, port: PortId, counter: impl Fn(&PortStats) -> &Counter) -> u64 {
        self.shared.all_stats().map(|stats| counter(stats.port(port)).get()).sum()
    }

    /// Drops charged to a port, by name, with their explanation; only reasons that were seen.
    fn drops(&self, port: PortId) -> Vec<(&'static str, u64, &'static str)> {
        let count = |reason: &Drop| self.shared.all_stats().map(|stats| stats.port(port).drops(*reason)).sum();
        let own = Drop::ALL.iter().map(|reason| (reason.name(), count(reason), reason.help()));
        let kernel = KERNEL_DROPS.iter().map(|(name, help, counter)| (*name, self.total(port, counter), *help));
        own.chain(kernel).filter(|(_, count, _)| *count > 0).collect()
    }

    pub(super) fn drop_items(&self, only: Option<PortId>) -> Vec<Item> {
        let ports = self.chosen(only).flat_map(|(port, slot)| {
            let name = port.interface.clone();
            self.drops(slot.id).into_iter().map(move |(reason, count, help)| DropStatus {
                reason: reason.to_string(),
                port: Some(name.clone()),
                count,
                rate_per_second: None,
                help: help.to_string(),
            })
        });
        let router = only.is_none_or(|only| only == PortId::ROUTER).then(|| self.drops(PortId::ROUTER));
        let router = router.into_iter().flatten().map(|(reason, count, help)| DropStatus {
            reason: reason.to_string(),
            port: Some(ROUTER.to_string()),
            count,
            rate_per_second: None,
            help: help.to_string(),
        });
        let mut drops: Vec<DropStatus> = ports.chain(router).collect();
        drops.sort_by_key(|drop| std::cmp::Reverse(drop.count));
        drops.into_iter().map(Item::Drop).collect()
    }

    pub(super) fn port_items(&self, only: Option<PortId>) -> Vec<Item> {
        self.chosen(only).map(|(port, slot)| Item::Port(Box::new(self.port_item(port, slot)))).collect()
    }

    fn port_item(&self, port: &PortConfig, slot: &Slot) -> PortStatus {
        let attached = slot.attached();
        let link = attached.map(|attached| &attached.link);
        let kernel = |name: &str, counter: fn(&PortStats) -> &Counter| (name.to_string(), self.total(slot.id, counter));
        PortStatus {
            interface: port.interface.clone(),
            bridge: port.bridge.clone(),
            state: link.map_or(PortState::Waiting, |link| if link.up { PortState::Up } else { PortState::Down }),
            mtu: link.map_or(0, |link| link.mtu),
            rx_packets: self.total(slot.id, |stats| &stats.rx_packets),
            rx_bytes: self.total(slot.id, |stats| &stats.rx_bytes),
            tx_packets: self.total(slot.id, |stats| &stats.tx_packets),
            tx_bytes: self.total(slot.id, |stats| &stats.tx_bytes),
            drops: self.drops(slot.id).into_iter().map(|(reason, count, _)| (reason.to_string(), count)).collect(),
            trunk: port.trunk.clone(),
            address: port.address.iter().map(ToString::to_string).collect(),
            vrf: port.vrf.clone(),
            ifindex: link.map_or(0, |link| link.ifindex),
            mac: link.and_then(|link| link.mac).map(|mac| ctl::mac::Mac(mac.octets())),
            workers: attached.map_or_else(Vec::new, workers_of),
            queues: attached.map_or(0, |attached| attached.owners.len() as u32),
            mode: attached.map(|_| XDP_MODE.to_string()),
            peer: attached.and_then(|attached| attached.report.peer.clone()),
            learned: u64::from(self.shared.fdb().port_len(slot.id)),
            learned_total: self.total(slot.id, |stats| &stats.learned),
            moved: self.total(slot.id, |stats| &stats.moved),
            learn_refused: self.total(slot.id, |stats| &stats.learn_refused),
            flooded: self.total(slot.id, |stats| &stats.flooded),
            checksums_finished: self.total(slot.id, |stats| &stats.checksums_finished),
            mac_limit: port.mac_limit,
            isolated: port.isolated,
            learning: port.learning,
            flood_unicast: port.flood_unicast,
            flood_broadcast: port.flood_broadcast,
            flood_multicast: port.flood_multicast,
            container_gro: attached.is_some_and(|attached| attached.merge.is_done()),
            fill_frames: attached.map_or(0, |attached| attached.fill.target * attached.owners.len() as u32),
            kernel_memory_bytes: attached.map_or(0, |attached| attached.report.kernel_bytes),
            kernel: BTreeMap::from([
                kernel("rx_dropped", |stats| &stats.kernel_rx_dropped),
                kernel("rx_ring_full", |stats| &stats.kernel_rx_ring_full),
                kernel("rx_fill_ring_empty_descs", |stats| &stats.kernel_rx_fill_ring_empty),
                kernel("tx_invalid_descs", |stats| &stats.kernel_tx_invalid),
            ]),
            notes: self.port_notes(port, slot),
        }
    }

    fn port_notes(&self, port: &PortConfig, slot: &Slot) -> Vec<String> {
        match &slot.life {
            Life::Attached(attached) => {
                let threaded =
                    attached.meter.threaded().then(|| "kernel receive work has a thread of its own".to_string());
                let mtu = self.mtu_note(port, attached.link.mtu);
                attached.report.notes.iter().cloned().chain(attached.merge.note()).chain(threaded).chain(mtu).collect()
            }
            Life::Waiting(waiting) => match &waiting.note {
                Some(note) => vec![note.clone()],
                None => vec![format!("interface {} does not exist", slot.interface)],
            },
            Life::Detaching(_) | Life::Leaving => vec!["being detached".to_string()],
        }
    }

    /// The bridges with their numbers, entries not counted yet.
    pub(super) fn bridge_items(&self) -> Vec<(DomainId, BridgeStatus)> {
        let bridges = self.config.bridges.iter().filter_map(|bridge| {
            let id = self.domains.get(&bridge.name)?;
            let flooded =
                |class: FloodClass| self.shared.all_stats().map(|stats| stats.flooded(id, class as usize).get()).sum();
            let status = BridgeStatus {
                name: bridge.name.clone(),
                ageing_seconds: bridge.ageing_seconds,
                ports: self.config.ports.iter().flat_map(|port| members(port, &bridge.name)).collect(),
                fdb_learned: 0,
                fdb_static: 0,
                fdb_limit: u64::from(self.shared.fdb().entries_max()),
                flooded_unicast: flooded(FloodClass::UnknownUnicast),
                flooded_broadcast: flooded(FloodClass::Broadcast),
                flooded_multicast: flooded(FloodClass::Multicast),
                aged: self.sweeper.aged(id),
            };
            Some((id, status))
        });
        bridges.collect()
    }

    pub(super) fn worker_items(&self, now: Instant) -> Vec<Item> {
        let workers = self.config.switch.workers.iter().take(self.shared.workers()).enumerate();
        workers.map(|(index, &core)| Item::Worker(self.worker_item(index, core, now))).collect()
    }

    fn worker_item(&self, index: usize, core: usize, now: Instant) -> WorkerStatus {
        let stats = self.shared.stats(index);
        let (measured, load) = self.watch.recent(index, stats, now);
        let share = |ns: u64| (100.0 * ns as f64 / (measured.as_nanos() as f64).max(1.0)).clamp(0.0, 100.0);
        let busy_percent = share(load.busy_ns);
        let slots = || self.ports.all();
        let total = |counter: fn(&PortStats) -> &Counter| slots().map(|slot| counter(stats.port(slot.id)).get()).sum();
        let drives = |slot: &&Slot| slot.attached().is_some_and(|attached| attached.owners.contains(&index));
        WorkerStatus {
            worker: index as u32,
            core: core as u32,
            poll: self.config.switch.poll.as_str().to_string(),
            state: match () {
                () if busy_percent >= 50.0 => WorkerState::Busy,
                () if share(load.sleep_ns) >= 50.0 => WorkerState::Sleeping,
                () => WorkerState::Idle,
            },
            busy_percent,
            idle_percent: 100.0 - busy_percent,
            iterations: stats.poll.iterations.get(),
            busy_iterations: stats.poll.busy_iterations.get(),
            sleeps: stats.poll.sleeps.get(),
            packets_per_burst: load.packets as f64 / load.busy_iterations.max(1) as f64,
            rx_packets: total(|stats| &stats.rx_packets),
            rx_bytes: total(|stats| &stats.rx_bytes),
            tx_packets: total(|stats| &stats.tx_packets),
            tx_bytes: total(|stats| &stats.tx_bytes),
            ports: slots().filter(drives).map(|slot| slot.interface.clone()).collect(),
            measured_seconds: measured.as_secs_f64(),
            resume_latency_us: self.resume.held_us(),
            shares_core: stats.poll.elapsed_ns.get() < stats.poll.core_shared_until_ns.get(),
        }
    }

    /// The configuration in force, table by table.
    pub(super) fn config_items(&self) -> Vec<Item> {
        let Ok(serde_json::Value::Object(tables)) = serde_json::to_value(&self.config) else { return Vec::new() };
        let mut items = Vec::new();
        for section in ["switch", "bridge", "port", "fdb", "route"] {
            let (repeated, values) = match tables.get(section) {
                Some(serde_json::Value::Array(values)) => (true, values.as_slice()),
                Some(value) => (false, std::slice::from_ref(value)),
                None => continue,
            };
            for values in values.iter().filter_map(serde_json::Value::as_object) {
                let (section, values) = (section.to_string(), values.clone());
                items.push(Item::Config(ConfigSection { section, repeated, values }));
            }
        }
        items
    }

    pub(super) fn version_item(&self) -> Item {
        Item::Version(VersionReport {
            version: env!("CARGO_PKG_VERSION").to_string(),
            protocol: PROTOCOL_VERSION,
            pid: std::process::id(),
            uptime_seconds: self.uptime(Instant::now()).as_secs(),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            config: self.source.as_ref().map(|source| source.display().to_string()),
            notes: self.missing_features(),
        })
    }
}

/// Workers that drive a port, each once.
fn workers_of(attached: &Attached) -> Vec<u32> {
    let mut workers: Vec<u32> = attached.owners.iter().map(|&owner| owner as u32).collect();
    workers.sort_unstable();
    workers.dedup();
    workers
}

/// How a port is listed among the members of `bridge`: `up0`, or `up0.10` for a VLAN of a trunk.
fn members(port: &PortConfig, bridge: &str) -> Vec<String> {
    let native = port.bridge.iter().filter(|name| *name == bridge).map(|_| port.interface.clone());
    let tagged = port.trunk.iter().filter(|(_, name)| *name == bridge);
    native.chain(tagged.map(|(vlan, _)| format!("{}.{vlan}", port.interface))).collect()
}
