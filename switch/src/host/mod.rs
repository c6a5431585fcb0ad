//! The switch as a host: its own addresses on bridge domains, off the packet path.
//!
//! [`Host`] stands under one lock. Its thread ([`HostThread`]) takes what workers left for it ([`Host::turn`]); the
//! control thread configures it and lists what it knows. It is the only writer of the neighbour table that workers
//! read. Everything takes the time as an argument.
//!
//! `neighbour`: who has which MAC address; `arp` and `ndp`: the messages about that; `own`: the switch's own
//! addresses, and who else claims them; `icmp`, `icmp6` and `limit`: what ICMP may say, and how often, `tell`: to
//! whom; `reassembly` and `extensions`: packets that come in fragments, and behind IPv6 extension headers; `dhcp` and
//! `ra`: what is done for hosts, `service`: by which frames; `receive`: what to do with a frame; `emit`: how to send
//! one; `run`: the thread.

mod arp;
pub mod dhcp;
mod emit;
mod extensions;
pub mod icmp;
pub mod icmp6;
pub mod limit;
mod ndp;
pub mod neighbour;
mod own;
pub mod ra;
mod random;
pub mod reassembly;
mod receive;
mod run;
mod service;
pub mod settings;
mod tell;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

pub use neighbour::{AddError, NeighbourCounters, NeighbourRow, State};
pub use own::Conflict;
pub use run::HostThread;
pub use settings::{HostSettings, Interface};

use crate::ids::{DomainId, Mac};
use crate::table::neighbour::{NeighbourKey, NeighbourSlot};
use crate::table::snapshot::Snapshot;
use crate::worker::Shared;
use dhcp::writer::{Batch, Writer};
use emit::Out;
use limit::Limiter;
use neighbour::Cache;
use own::OwnAddresses;
use random::Identifications;
use reassembly::Reassembly;
use service::Services;

/// The host, as its thread and the control thread share it. The lock is held for a bounded piece of work at a time.
pub type SharedHost = Arc<Mutex<Host>>;

/// Frames that one turn takes, and uses of neighbours.
const PUNTS: usize = 256;

/// Of them, news of neighbours that come before everything else.
const NEWS: usize = 64;

/// Neighbours, and own addresses, that one turn sees to when they are due.
const TIMERS: usize = 256;

/// What the switch as a host did since the start.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct HostCounters {
    /// ARP requests and neighbour solicitations sent.
    pub asked: u64,
    /// Replies and advertisements sent for own addresses.
    pub answered: u64,
    /// The same for hosts behind other interfaces (proxy).
    pub proxied: u64,
    /// The same for known neighbours (suppression).
    pub suppressed: u64,
    /// Announcements of own addresses, defences among them.
    pub announced: u64,
    /// Messages of others that claimed an own address.
    pub conflicts: u64,
    /// ARP and ND messages that were not valid.
    pub invalid: u64,
    /// Messages to DHCP servers.
    pub dhcp_requests: u64,
    /// Replies of DHCP servers.
    pub dhcp_replies: u64,
    /// Router advertisements sent.
    pub advertised: u64,
    /// Packets put together from fragments.
    pub reassembled: u64,
    /// Echo requests answered.
    pub echoes: u64,
    /// ICMP errors and redirects sent.
    pub icmp_errors: u64,
    /// ICMP errors and redirects not sent, to keep within their rate.
    pub icmp_limited: u64,
}

/// How much of what is limited there is.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct HostLevels {
    /// Neighbours.
    pub neighbours: usize,
    /// Of them, those without a MAC address that are no next hops.
    pub unresolved: usize,
    /// Pool frames in packets that wait for a MAC address.
    pub waiting_frames: usize,
    /// Most of them.
    pub waiting_frames_max: usize,
    /// ICMP errors and redirects that count against their rate now.
    pub icmp_recent: usize,
}

/// Which neighbours to forget.
#[derive(Clone, Copy, Default, Debug)]
pub struct NeighbourFilter {
    /// Only those of this domain.
    pub domain: Option<DomainId>,
    /// Only the one with this address.
    pub address: Option<IpAddr>,
    /// Only those with this MAC address.
    pub mac: Option<Mac>,
}

/// The switch as a host. See the module text.
pub struct Host {
    shared: Arc<Shared>,
    settings: HostSettings,
    interfaces: BTreeMap<DomainId, Interface>,
    view: Arc<Snapshot>,
    cache: Cache,
    own: OwnAddresses,
    services: Services,
    out: Out,
    limiter: Limiter,
    fragments: Reassembly,
    /// Of the last IPv4 packet.
    identification: u16,
    /// Of IPv6 packets in fragments.
    identifications: Identifications,
    counters: HostCounters,
    /// Kinds of punts take turns: see [`HostQueues::next`](crate::path::HostQueues::next).
    kind: usize,
    now_ns: u64,
    turns: u64,
    /// Somebody else changed something: the thread must not sleep over it.
    changed: Arc<AtomicBool>,
}

impl Host {
    /// A host without interfaces.
    pub fn new(shared: Arc<Shared>, settings: HostSettings) -> Host {
        Host {
            cache: Cache::new(Arc::clone(&shared), settings),
            own: OwnAddresses::new(settings),
            services: Services::new(settings.epoch_s, settings.seed),
            out: Out::new(Arc::clone(&shared)),
            limiter: Limiter::new(settings.icmp),
            fragments: Reassembly::new(settings.reassembly),
            identification: 0,
            identifications: Identifications::default(),
            shared,
            settings,
            interfaces: BTreeMap::new(),
            view: Arc::new(Snapshot::default()),
            counters: HostCounters::default(),
            kind: 0,
            now_ns: 0,
            turns: 0,
            changed: Arc::new(AtomicBool::new(false)),
        }
    }

    /// Takes a new configuration: announces addresses that are new, forgets neighbours of interfaces that are gone.
    /// Next hops keep their slots. Control thread, with every snapshot that it publishes.
    pub fn configure(&mut self, interfaces: Vec<Interface>, view: Arc<Snapshot>) {
        let interfaces: BTreeMap<DomainId, Interface> =
            interfaces.into_iter().map(|interface| (interface.domain, interface)).collect();
        // While the old interfaces are still there to say it.
        for (domain, source, message) in self.services.configure(&interfaces, self.now_ns) {
            self.advertise(domain, source, message);
        }
        let before = std::mem::replace(&mut self.interfaces, interfaces);
        self.view = view;
        let now_ns = self.now_ns;
        let is_lost = |key: NeighbourKey| {
            self.interfaces.get(&key.domain()).is_none_or(|interface| interface.owns(key.address()))
        };
        self.cache.remove_if(now_ns, |row| is_lost(row.key));
        for domain in self.interfaces.keys().filter(|domain| !before.contains_key(domain)) {
            self.cache.restart(*domain, now_ns);
        }
        self.own.configure(self.interfaces.values(), now_ns);
        self.attend();
    }

    /// One turn at `now_ns`, nanoseconds on the switch's clock: a bounded amount of work. Answers when it wants to be
    /// called again; `u64::MAX` if only a waker or a change can make it necessary.
    pub fn turn(&mut self, now_ns: u64) -> u64 {
        self.changed.store(false, Ordering::SeqCst);
        self.now_ns = self.now_ns.max(now_ns);
        self.turns += 1;
        let reader = self.shared.workers();
        self.shared.grace().wake(reader);
        let mut idle = false;
        // News of neighbours first, up to a limit: what is answered next goes where they are now.
        for _ in 0..NEWS {
            let Some(punt) = self.shared.host().next_heard() else { break };
            self.take(punt);
            self.act();
        }
        for _ in 0..PUNTS {
            self.kind = self.kind.wrapping_add(1);
            let Some(punt) = self.shared.host().next(self.kind) else {
                idle = true;
                break;
            };
            self.take(punt);
            self.act();
        }
        for _ in 0..PUNTS {
            let Some(slot) = self.shared.host().next_used() else { break };
            self.cache.used(slot, self.now_ns);
        }
        self.cache.expire(self.now_ns, TIMERS);
        self.expire_fragments(TIMERS);
        self.act();
        self.speak(TIMERS);
        self.serve();
        self.act();
        self.out.flush();
        self.shared.grace().sleep(reader);
        if idle { self.next_due() } else { self.now_ns }
    }

    /// When something is due without anybody's doing.
    fn next_due(&self) -> u64 {
        let due = [self.cache.next_due(), self.own.next_due(), self.services.next_due(), self.fragments.next_due()];
        due.into_iter().flatten().min().unwrap_or(u64::MAX)
    }

    /// A next hop of routes: the neighbour keeps its slot until [`Host::let_go`], and is asked for ahead of traffic.
    /// `None` if the table is full of neighbours that may not go. Control thread.
    pub fn hold(&mut self, key: NeighbourKey) -> Option<NeighbourSlot> {
        let slot = self.cache.hold(key, self.now_ns);
        self.attend();
        slot
    }

    /// Takes one [`Host::hold`] back, once no worker can refer to the slot any more. Control thread.
    pub fn let_go(&mut self, slot: NeighbourSlot) {
        self.cache.let_go(slot);
        self.attend();
    }

    /// Sets a neighbour's MAC address for good. Control thread.
    ///
    /// # Errors
    /// Why not; a line for the operator.
    pub fn add_neighbour(&mut self, key: NeighbourKey, mac: Mac) -> Result<(), AddError> {
        let interface = self.interfaces.get(&key.domain()).ok_or(AddError::NoInterface)?;
        if interface.owns(key.address()) {
            return Err(AddError::Own);
        }
        if mac.is_group() || mac == Mac::ZERO || mac == interface.mac {
            return Err(AddError::BadMac);
        }
        self.attend();
        self.cache.add_permanent(key, mac, self.now_ns)
    }

    /// Forgets a neighbour, permanent or not; a next hop of routes is asked for anew. False if it was not known.
    pub fn remove_neighbour(&mut self, key: NeighbourKey) -> bool {
        self.attend();
        self.cache.remove(key, self.now_ns)
    }

    /// Forgets what was learned of the neighbours that the filter names; how many that were. Control thread.
    pub fn flush_neighbours(&mut self, filter: NeighbourFilter) -> usize {
        self.attend();
        self.cache.remove_if(self.now_ns, |row| {
            row.state != State::Permanent
                && filter.domain.is_none_or(|domain| row.key.domain() == domain)
                && filter.address.is_none_or(|address| row.key.address() == address)
                && filter.mac.is_none_or(|mac| row.mac == Some(mac))
        })
    }

    /// Up to `most` neighbours behind `after`, in order of domain and address.
    pub fn neighbours(&self, after: Option<NeighbourKey>, most: usize) -> Vec<NeighbourRow> {
        self.cache.rows(after, most, self.now_ns)
    }

    /// One neighbour.
    pub fn neighbour(&self, key: NeighbourKey) -> Option<NeighbourRow> {
        let entry = self.cache.entry(self.cache.slot(key)?)?;
        Some(entry.row(self.now_ns))
    }

    /// Number of neighbours.
    pub fn neighbours_len(&self) -> usize {
        self.cache.len()
    }

    /// Keeps DHCP leases in a store from now on, on a thread of their own, and goes on with those in it. Before the
    /// first [`Host::configure`] with a DHCP server.
    ///
    /// # Errors
    /// The operating system's, if it has no thread to give: then leases are not kept.
    pub fn keep_leases(&mut self, opened: dhcp::store::Opened) -> std::io::Result<()> {
        let dhcp::store::Opened { mut store, leases, .. } = opened;
        let writer = if store.is_off() {
            Ok(Writer::off())
        } else {
            let (changed, shared) = (self.changed(), Arc::clone(&self.shared));
            let commit = move |batch: Batch| {
                store
                    .commit(batch.changes.iter().map(|(bridge, change)| (bridge.as_str(), change.clone())), batch.now_s)
            };
            Writer::spawn(commit, move || {
                changed.store(true, Ordering::SeqCst);
                shared.host_waker().wake();
            })
        };
        let (writer, failed) = match writer {
            Ok(writer) => (writer, Ok(())),
            Err(error) => (Writer::off(), Err(error)),
        };
        self.services.keep(writer, leases);
        failed
    }

    /// Every lease that a DHCP server knows of, in order of domain and address.
    pub fn leases(&self) -> Vec<(DomainId, dhcp::Lease)> {
        self.services.leases().map(|(domain, lease)| (domain, lease.clone())).collect()
    }

    /// Who else claimed one of the switch's own addresses, and when.
    pub fn conflicts(&self) -> Vec<Conflict> {
        self.own.conflicts()
    }

    /// The time of its last turn, on the switch's clock.
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// What the host did.
    pub fn counters(&self) -> HostCounters {
        self.counters
    }

    /// What happened to its neighbours.
    pub fn neighbour_counters(&self) -> NeighbourCounters {
        self.cache.counters
    }

    /// How much of what is limited there is at `now_ns`, on the switch's clock.
    pub fn levels(&self, now_ns: u64) -> HostLevels {
        HostLevels {
            neighbours: self.cache.len(),
            unresolved: self.cache.unresolved(),
            waiting_frames: self.cache.frames_held(),
            waiting_frames_max: self.cache.frames_held_max(),
            icmp_recent: self.limiter.fill(now_ns),
        }
    }

    /// Its limits and timers.
    pub fn settings(&self) -> HostSettings {
        self.settings
    }

    /// References to pool frames that the host holds, for the conservation check.
    pub fn frames_held(&self) -> usize {
        self.cache.frames_held()
    }

    /// Free frames in the host's own list.
    pub fn frames_free(&self) -> usize {
        self.out.frames_free()
    }

    /// Turns so far.
    pub fn turns(&self) -> u64 {
        self.turns
    }

    /// Set when the thread must not sleep over a change.
    fn changed(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.changed)
    }

    /// Has the thread take a turn soon.
    fn attend(&self) {
        self.changed.store(true, Ordering::SeqCst);
        self.shared.host_waker().wake();
    }
}
