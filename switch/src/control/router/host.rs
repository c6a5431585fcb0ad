//! What the control thread asks of the switch as a host: neighbours of its interfaces.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::ids::{DomainId, Mac, VrfId};
use crate::table::neighbour::{NeighbourKey, NeighbourSlot};
use crate::table::router::RouterFlags;
use crate::table::snapshot::Snapshot;

/// An interface as the host is told of it.
#[derive(Clone, Debug, PartialEq)]
pub struct HostInterface {
    /// The bridge domain.
    pub domain: DomainId,
    /// The bridge's name, or the routed port's.
    pub name: String,
    /// The routing table of what comes in here.
    pub vrf: VrfId,
    /// Its MAC address.
    pub mac: Mac,
    /// Largest IP packet, in bytes.
    pub mtu: u32,
    /// IPv4 addresses with their prefix lengths.
    pub ipv4: Vec<(Ipv4Addr, u8)>,
    /// IPv6 addresses with their prefix lengths, without the link-local one.
    pub ipv6: Vec<(Ipv6Addr, u8)>,
    /// Its switches.
    pub flags: RouterFlags,
}

/// How a neighbour stands, in the words of `ip neigh` (RFC 4861 7.3.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NeighbourState {
    /// Asked for, not answered yet.
    Incomplete,
    /// Confirmed not long ago.
    Reachable,
    /// Not confirmed for some time; used nevertheless.
    Stale,
    /// Used while stale: about to be asked.
    Delay,
    /// Asked whether it is still there.
    Probe,
    /// Nobody answered.
    Failed,
    /// Set by the operator.
    Permanent,
}

/// One neighbour as listings show it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NeighbourRow {
    /// Who.
    pub key: NeighbourKey,
    /// Its MAC address, if known.
    pub mac: Option<Mac>,
    /// How it stands.
    pub state: NeighbourState,
    /// Seconds since it was confirmed, or since it got its state where it never was.
    pub age_s: u64,
}

/// A lease of the DHCP server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeaseRow {
    /// The bridge domain.
    pub domain: DomainId,
    /// The address.
    pub address: Ipv4Addr,
    /// Who has it: a hardware address, or a client identifier.
    pub client: String,
    /// Its name, if it told.
    pub hostname: Option<String>,
    /// `bound`, `offered`, `static`, `declined`.
    pub state: String,
    /// Seconds until it ends; `None` for one that does not.
    pub expires_s: Option<u64>,
}

/// The switch as a host, as far as control needs it. Called on the control thread, under the host's lock.
pub trait HostSide: Send {
    /// The interfaces there are now; neighbours of others are forgotten. `view` has the routing tables.
    fn configure(&mut self, interfaces: Vec<HostInterface>, view: &Arc<Snapshot>);

    /// Keeps a neighbour resolved for routes: its slot is its own until it is let go as often. `None`: no room.
    fn hold(&mut self, key: NeighbourKey) -> Option<NeighbourSlot>;

    /// Takes back one [`HostSide::hold`]. After a grace period: no packet can refer to the slot.
    fn let_go(&mut self, slot: NeighbourSlot);

    /// Sets a neighbour for good.
    ///
    /// # Errors
    /// Why not, to be told to the operator.
    fn add_neighbour(&mut self, key: NeighbourKey, mac: Mac) -> Result<(), String>;

    /// Forgets a neighbour; false if it is not known.
    fn remove_neighbour(&mut self, key: NeighbourKey) -> bool;

    /// Forgets learned neighbours, all or those of a domain; answers how many.
    fn flush_neighbours(&mut self, domain: Option<DomainId>) -> usize;

    /// At most `most` neighbours in order of their names, behind `after`.
    fn neighbours(&self, after: Option<NeighbourKey>, most: usize) -> Vec<NeighbourRow>;

    /// The neighbour of that name.
    fn neighbour(&self, key: NeighbourKey) -> Option<NeighbourRow>;

    /// All leases of the DHCP servers, in order of address.
    fn leases(&self) -> Vec<LeaseRow>;
}

/// The host as control keeps it.
pub type SharedHost = Arc<Mutex<dyn HostSide>>;

/// The host, whatever happened to the thread that had it before.
pub fn lock(host: &SharedHost) -> MutexGuard<'_, dyn HostSide + 'static> {
    host.lock().unwrap_or_else(PoisonError::into_inner)
}
