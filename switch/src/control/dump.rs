//! Long answers: the FDB listed, counted or flushed bit by bit, so that packets and other clients do not notice.
//!
//! Streams own what they read: the table itself and a copy of the names. Control thread.

use std::sync::Arc;
use std::time::Instant;

use ctl::protocol::{BridgeStatus, Done, FdbEntry, FdbKind, Item};

use super::ageing::Ticket;
use super::server::{ChunkContext, Progress, ResponseStream};
use crate::ids::{DomainId, PortId};
use crate::limits::FDB_SLICE_BUCKETS;
use crate::table::fdb::{Entry, Fdb, Kind};

/// Buckets scanned between two looks at the number of items: at most four entries each.
const SCAN_BUCKETS: usize = 128;

/// A port, to be named in answers.
pub struct PortName {
    /// Its interface.
    pub interface: String,
    /// The VLAN id that frames of each of its domains carry there; 0 for untagged.
    pub vlans: Vec<(DomainId, u16)>,
}

/// A domain, to be named in answers.
pub struct DomainName {
    /// Its bridge.
    pub name: String,
    /// Seconds a learned address lives.
    pub ageing_s: u32,
}

/// Names of numbers, as of one request.
#[derive(Default)]
pub struct Names {
    /// By port number.
    pub ports: Vec<Option<PortName>>,
    /// By domain number.
    pub domains: Vec<Option<DomainName>>,
}

impl Names {
    /// Names a port.
    pub fn set_port(&mut self, id: PortId, name: PortName) {
        if self.ports.len() <= id.index() {
            self.ports.resize_with(id.index() + 1, || None);
        }
        if let Some(slot) = self.ports.get_mut(id.index()) {
            *slot = Some(name);
        }
    }

    /// What a port is called.
    pub fn port(&self, id: PortId) -> Option<&PortName> {
        self.ports.get(id.index())?.as_ref()
    }

    fn domain(&self, id: DomainId) -> Option<&DomainName> {
        self.domains.get(id.index())?.as_ref()
    }

    /// The VLAN id of an entry's frames on its port; `None` if the port no longer carries the domain.
    pub fn vlan(&self, port: PortId, domain: DomainId) -> Option<u16> {
        self.port(port)?.vlans.iter().find(|(carried, _)| *carried == domain).map(|(_, vlan)| *vlan)
    }
}

/// Which entries are meant; what is `None` does not matter.
#[derive(Clone, Copy, Default, Debug)]
pub struct Filter {
    /// Behind this port.
    pub port: Option<PortId>,
    /// In this domain.
    pub domain: Option<DomainId>,
    /// With this VLAN id on their port; 0 for untagged.
    pub vlan: Option<u16>,
    /// Learned ones only.
    pub dynamic: bool,
}

impl Filter {
    /// True for the entries meant.
    pub fn matches(&self, entry: &Entry, names: &Names) -> bool {
        self.port.is_none_or(|port| port == entry.port)
            && self.domain.is_none_or(|domain| domain == entry.key.domain())
            && self.vlan.is_none_or(|vlan| names.vlan(entry.port, entry.key.domain()) == Some(vlan))
            && (!self.dynamic || entry.kind == Kind::Dynamic)
    }
}

/// The entries of the FDB that a filter lets through.
pub struct FdbStream {
    /// The table.
    pub fdb: Arc<Fdb>,
    /// Names for it.
    pub names: Arc<Names>,
    /// What to list.
    pub filter: Filter,
    /// Zero of the clock that stamps count from.
    pub epoch: Instant,
    /// Configured entries that are not in the table; listed first.
    pub waiting: Vec<Entry>,
    /// First bucket not listed yet.
    pub at: usize,
}

impl FdbStream {
    /// Lists what waits, as far as there is room.
    fn list_waiting(&mut self, out: &mut Vec<Item>, items_max: usize) {
        while out.len() < items_max
            && let Some(entry) = self.waiting.pop()
        {
            // In force since the request came: the scan lists it.
            let in_force = self.fdb.lookup(entry.key).is_some_and(|hit| hit.kind == entry.kind);
            let item = self.item(&entry, 0).filter(|_| !in_force);
            out.extend(item.map(|item| Item::Fdb(FdbEntry { waiting: true, ..item })));
        }
    }

    /// The entry as clients see it; `None` for one that is about to go.
    fn item(&self, entry: &Entry, now_s: u32) -> Option<FdbEntry> {
        let (domain, port) = (self.names.domain(entry.key.domain())?, self.names.port(entry.port)?);
        let dynamic = entry.kind == Kind::Dynamic;
        let age_s = if dynamic { now_s.saturating_sub(entry.stamp_s) } else { 0 };
        if !self.filter.matches(entry, &self.names) || age_s > domain.ageing_s {
            return None;
        }
        let kind = match entry.kind {
            Kind::Dynamic => FdbKind::Dynamic,
            Kind::Static | Kind::Sticky => FdbKind::Static,
            Kind::Local => FdbKind::Local,
        };
        Some(FdbEntry {
            mac: ctl::mac::Mac(entry.key.mac().octets()),
            bridge: domain.name.clone(),
            vlan: self.names.vlan(entry.port, entry.key.domain())?,
            port: port.interface.clone(),
            kind,
            sticky: entry.kind == Kind::Sticky,
            waiting: false,
            age_seconds: u64::from(age_s),
        })
    }
}

impl ResponseStream for FdbStream {
    fn next_chunk(&mut self, out: &mut Vec<Item>, context: &ChunkContext) -> Progress {
        let now_s = context.now.saturating_duration_since(self.epoch).as_secs() as u32;
        self.list_waiting(out, context.items_max);
        let end = self.at + FDB_SLICE_BUCKETS;
        while self.at < end && out.len() < context.items_max {
            let next = self.fdb.scan(self.at, SCAN_BUCKETS, |entry| {
                out.extend(self.item(&entry, now_s).map(Item::Fdb));
            });
            match next {
                Some(next) => self.at = next,
                None => {
                    let limit = Some(u64::from(self.fdb.entries_max()));
                    return Progress::Done(Done { limit, ..Done::default() });
                }
            }
        }
        Progress::More
    }
}

/// The bridges, with their entries counted.
pub struct BridgeStream {
    /// The table.
    pub fdb: Arc<Fdb>,
    /// The bridges with their numbers; counts are filled in here.
    pub bridges: Vec<(DomainId, BridgeStatus)>,
    /// First bucket not counted yet.
    pub at: usize,
}

impl ResponseStream for BridgeStream {
    fn next_chunk(&mut self, out: &mut Vec<Item>, _context: &ChunkContext) -> Progress {
        let mut learned = vec![(0u64, 0u64); crate::limits::DOMAINS_MAX + 1];
        let next = self.fdb.scan(self.at, FDB_SLICE_BUCKETS, |entry| {
            if let Some((dynamic, fixed)) = learned.get_mut(entry.key.domain().index()) {
                *(if entry.kind == Kind::Dynamic { dynamic } else { fixed }) += 1;
            }
        });
        for (domain, status) in &mut self.bridges {
            let (dynamic, fixed) = learned.get(domain.index()).copied().unwrap_or_default();
            status.fdb_learned += dynamic;
            status.fdb_static += fixed;
        }
        match next {
            Some(next) => {
                self.at = next;
                Progress::More
            }
            None => {
                out.extend(self.bridges.drain(..).map(|(_, status)| Item::Bridge(status)));
                Progress::Done(Done::default())
            }
        }
    }
}

/// The result of a flush that is under way.
pub struct FlushStream {
    /// Where the sweeper says how it went.
    pub ticket: Arc<Ticket>,
    /// Entries that were not in the table and are removed already.
    pub waiting: u64,
}

impl ResponseStream for FlushStream {
    fn next_chunk(&mut self, _out: &mut Vec<Item>, _context: &ChunkContext) -> Progress {
        match self.ticket.result() {
            None => Progress::Wait,
            Some(swept) => {
                let removed = swept + self.waiting;
                let entries = if removed == 1 { "entry" } else { "entries" };
                let message = Some(format!("{removed} {entries} removed"));
                Progress::Done(Done { affected: Some(removed), message, ..Done::default() })
            }
        }
    }
}
