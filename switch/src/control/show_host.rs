//! The items of show-host: what the switch does as a host, what waits for it, and its limits. Control thread.

use std::time::Instant;

use ctl::protocol::{HostStatus, HostValueKind, Item};

use super::Control;
use crate::host::{HostCounters, HostLevels, HostSettings, NeighbourCounters};
use crate::limits::INJECTED_MAX;
use crate::path::PuntKind;

/// Name of a counter, what it means, and which it is.
type Named<T> = (&'static str, &'static str, fn(&T) -> u64);

/// In the order of [`HostCounters`].
const HOST: [Named<HostCounters>; 13] = [
    ("asked", "ARP requests and neighbour solicitations sent.", |c| c.asked),
    ("answered", "Replies and advertisements sent for own addresses.", |c| c.answered),
    ("proxied", "The same for hosts behind other interfaces (proxy_arp).", |c| c.proxied),
    ("suppressed", "The same for known neighbours (suppress).", |c| c.suppressed),
    ("announced", "Announcements of own addresses, defences among them.", |c| c.announced),
    ("conflicts", "Messages of others that claimed an own address.", |c| c.conflicts),
    ("invalid", "ARP and neighbour discovery messages that were not valid.", |c| c.invalid),
    ("dhcp_requests", "Messages to the DHCP server.", |c| c.dhcp_requests),
    ("dhcp_replies", "Replies of the DHCP server.", |c| c.dhcp_replies),
    ("advertised", "Router advertisements sent.", |c| c.advertised),
    ("echoes", "Echo requests answered.", |c| c.echoes),
    ("icmp_errors", "ICMP errors and redirects sent.", |c| c.icmp_errors),
    ("icmp_limited", "ICMP errors and redirects not sent, to keep within the rates below.", |c| c.icmp_limited),
];

/// In the order of [`NeighbourCounters`].
const NEIGHBOURS: [Named<NeighbourCounters>; 5] = [
    ("neighbours_created", "Neighbours that became known, or were asked for.", |c| c.created),
    ("neighbours_failed", "Neighbours given up for want of an answer.", |c| c.failed),
    ("neighbours_evicted", "Neighbours that made room for others.", |c| c.evicted),
    ("neighbours_refused", "Neighbours for which there was no room.", |c| c.refused),
    ("neighbours_moved", "MAC addresses of neighbours that changed.", |c| c.moved),
];

/// What packets of a kind are.
const fn packets(kind: PuntKind) -> &'static str {
    match kind {
        PuntKind::Heard => "ARP, neighbour discovery and DHCP",
        PuntKind::Local => "packets to own addresses",
        PuntKind::Resolve => "packets to neighbours not known",
        PuntKind::Complain => "packets whose senders are to be told",
    }
}

fn item(name: impl Into<String>, kind: HostValueKind, value: u64, help: impl Into<String>) -> HostStatus {
    HostStatus { name: name.into(), kind, value, limit: None, rate_per_second: None, help: help.into() }
}

fn level(name: impl Into<String>, value: usize, limit: usize, help: impl Into<String>) -> HostStatus {
    HostStatus { limit: Some(limit as u64), ..item(name, HostValueKind::Level, value as u64, help) }
}

impl Control {
    /// Every number of the switch as a host: what waits, what was done, which limits there are.
    pub(super) fn host_items(&self) -> Vec<Item> {
        let now_ns = self.uptime(Instant::now()).as_nanos() as u64;
        let host = self.router.host.lock();
        let (counters, neighbours) = (host.counters(), host.neighbour_counters());
        let (levels, settings) = (host.levels(now_ns), host.settings());
        drop(host);
        let named = |(name, help, value): (&str, &str, u64)| item(name, HostValueKind::Counter, value, help);
        let mut items = levels_of(&levels, &settings);
        items.extend(self.queues());
        items.extend(HOST.map(|(name, help, value)| named((name, help, value(&counters)))));
        items.extend(NEIGHBOURS.map(|(name, help, value)| named((name, help, value(&neighbours)))));
        items.extend(PuntKind::ALL.map(|kind| {
            let count = self.shared.all_stats().map(|stats| stats.refused(kind as usize).get()).sum();
            let help = format!("No room in the queue, or none for their port: {}.", packets(kind));
            item(format!("{}_refused", kind.name()), HostValueKind::Counter, count, help)
        }));
        items.extend(limits_of(&settings));
        items.into_iter().map(Item::Host).collect()
    }

    /// What waits between the workers and the host.
    fn queues(&self) -> Vec<HostStatus> {
        let queue = |kind: PuntKind| {
            let (frames, room) = self.shared.host().fill(kind);
            let help =
                format!("Pool frames that wait for the host: {}. A port may have as many as are free.", packets(kind));
            level(format!("{}_queue_frames", kind.name()), frames, room, help)
        };
        let sending = self.shared.injected(0).len();
        let sending = level("send_queue", sending, INJECTED_MAX, "Packets on their way from the host to worker 0.");
        PuntKind::ALL.map(queue).into_iter().chain([sending]).collect()
    }
}

fn levels_of(levels: &HostLevels, settings: &HostSettings) -> Vec<HostStatus> {
    vec![
        level(
            "neighbours",
            levels.neighbours,
            settings.neighbours_max,
            "Neighbours known, asked for, or given up lately.",
        ),
        level(
            "neighbours_unresolved",
            levels.unresolved,
            settings.unresolved_max,
            "Neighbours without a MAC address; next hops of routes do not count.",
        ),
        level(
            "waiting_frames",
            levels.waiting_frames,
            levels.waiting_frames_max,
            "Pool frames that wait for a neighbour's MAC address. A port may have as many as are free.",
        ),
        level(
            "icmp_recent",
            levels.icmp_recent,
            settings.icmp.burst as usize,
            "ICMP errors that count against their rate now. A port may have as many as are free.",
        ),
    ]
}

fn limits_of(settings: &HostSettings) -> Vec<HostStatus> {
    let limit = |name: &str, value: u64, help: &str| item(name, HostValueKind::Limit, value, help);
    let icmp = &settings.icmp;
    vec![
        limit("icmp_rate_per_s", icmp.rate_per_s.into(), "ICMP errors a second, shared out evenly between busy ports."),
        limit(
            "icmp_receiver_rate_per_s",
            icmp.receiver_rate_per_s.into(),
            "Of them, to one receiver (IPv6: one /64), about packets of one port.",
        ),
        limit(
            "icmp_receiver_burst",
            icmp.receiver_burst.into(),
            "ICMP errors at once to one receiver, about packets of one port.",
        ),
        limit("interface_neighbours_max", settings.interface_neighbours_max as u64, "Neighbours of one interface."),
        limit(
            "interface_unresolved_max",
            settings.interface_unresolved_max as u64,
            "Neighbours of one interface without a MAC address.",
        ),
        limit("waiting_packets_max", settings.waiting_max as u64, "Packets that wait for one neighbour."),
    ]
}
