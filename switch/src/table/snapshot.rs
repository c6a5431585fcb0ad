//! The configuration as the packet path sees it: an immutable picture of ports and bridge domains.
//!
//! The control thread builds a new [`Snapshot`] for every change and hands an `Arc` to each worker,
//! which swaps it between two bursts and sends the old one back, so that only the control thread ever
//! frees one. Reading it takes no lock and no atomic.

use super::router::{RouterSetup, RouterView, VrfView};
use crate::ids::{DomainId, PortId, VrfId};
use crate::limits::{ETHERNET_HEADER, WORKERS_MAX};

/// How frames of one bridge domain look on a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
pub enum Tagging {
    /// Without a tag.
    Untagged,
    /// With an 802.1Q tag of this VLAN id.
    Vlan(u16),
}

/// Kinds of flooding that a port can be excluded from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum FloodClass {
    /// Unicast to an address not in the FDB.
    UnknownUnicast,
    /// ff:ff:ff:ff:ff:ff.
    Broadcast,
    /// Any other group address.
    Multicast,
}

/// The switches of one port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortFlags {
    /// Source addresses are learned.
    pub learning: bool,
    /// Frames from other isolated ports are not passed to this one.
    pub isolated: bool,
    /// Unknown unicast is flooded to this port.
    pub flood_unicast: bool,
    /// Broadcast is flooded to this port.
    pub flood_broadcast: bool,
    /// Multicast is flooded to this port.
    pub flood_multicast: bool,
}

impl Default for PortFlags {
    fn default() -> Self {
        PortFlags { learning: true, isolated: false, flood_unicast: true, flood_broadcast: true, flood_multicast: true }
    }
}

impl PortFlags {
    fn floods(&self, class: FloodClass) -> bool {
        match class {
            FloodClass::UnknownUnicast => self.flood_unicast,
            FloodClass::Broadcast => self.flood_broadcast,
            FloodClass::Multicast => self.flood_multicast,
        }
    }
}

/// What the control thread knows of a port when it builds a snapshot.
#[derive(Clone, Debug)]
pub struct PortSetup {
    /// The port.
    pub id: PortId,
    /// Attached and its link is up.
    pub forwarding: bool,
    /// Largest payload the interface takes, in bytes.
    pub mtu: u32,
    /// Domain of untagged (and priority-tagged) frames.
    pub native: Option<DomainId>,
    /// Domains of tagged frames, by VLAN id 1..=4094.
    pub trunk: Vec<(u16, DomainId)>,
    /// The port's switches.
    pub flags: PortFlags,
    /// Most dynamic addresses on this port; `u32::MAX` for no limit.
    pub mac_limit: u32,
    /// Worker that transmits to this port, for each worker: itself if it owns a queue of the port.
    pub tx_worker: [u8; WORKERS_MAX],
}

/// A port as the packet path sees it.
#[derive(Debug)]
pub struct PortView {
    /// The port's switches.
    pub flags: PortFlags,
    /// Attached and its link is up.
    pub forwarding: bool,
    /// Most dynamic addresses on this port.
    pub mac_limit: u32,
    /// Longest frame without a tag that the port takes.
    pub untagged_len_max: usize,
    native: Option<DomainId>,
    /// Domain by VLAN id; empty on access ports.
    by_vlan: Box<[Option<DomainId>]>,
    /// VLAN id by domain number (0 for none); empty on access ports.
    by_domain: Box<[u16]>,
    tx_worker: [u8; WORKERS_MAX],
}

impl PortView {
    fn new(setup: &PortSetup, domains: usize) -> PortView {
        let (mut by_vlan, mut by_domain) = (Vec::new(), Vec::new());
        if !setup.trunk.is_empty() {
            by_vlan.resize(4096, None);
            by_domain.resize(domains, 0);
        }
        for &(vlan, domain) in &setup.trunk {
            if let (Some(slot), Some(back)) = (by_vlan.get_mut(vlan as usize), by_domain.get_mut(domain.index())) {
                *slot = Some(domain);
                *back = vlan;
            }
        }
        PortView {
            flags: setup.flags,
            forwarding: setup.forwarding,
            mac_limit: setup.mac_limit,
            untagged_len_max: setup.mtu as usize + ETHERNET_HEADER,
            native: setup.native,
            by_vlan: by_vlan.into(),
            by_domain: by_domain.into(),
            tx_worker: setup.tx_worker,
        }
    }

    /// Domain of untagged frames from this port.
    #[inline]
    pub fn native(&self) -> Option<DomainId> {
        self.native
    }

    /// Domain of frames tagged `vlan` from this port.
    #[inline]
    pub fn domain_of(&self, vlan: u16) -> Option<DomainId> {
        self.by_vlan.get(vlan as usize).copied().flatten()
    }

    /// True if the port carries tagged frames.
    #[inline]
    pub fn is_trunk(&self) -> bool {
        !self.by_vlan.is_empty()
    }

    /// How frames of `domain` look on this port, or `None` if the port is not a member.
    #[inline]
    pub fn tagging(&self, domain: DomainId) -> Option<Tagging> {
        if self.native == Some(domain) {
            return Some(Tagging::Untagged);
        }
        match self.by_domain.get(domain.index()) {
            None | Some(0) => None,
            Some(&vlan) => Some(Tagging::Vlan(vlan)),
        }
    }

    /// The worker that transmits to this port for `worker`.
    #[inline]
    pub fn tx_worker(&self, worker: usize) -> usize {
        self.tx_worker.get(worker).map_or(0, |&owner| owner as usize)
    }
}

/// A port that floods reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// The port.
    pub port: PortId,
    /// How the domain's frames look on it.
    pub tagging: Tagging,
    /// Whether it is isolated.
    pub isolated: bool,
    /// Whether it carries tagged frames as well.
    pub trunk: bool,
    /// Longest frame without a tag that it takes.
    pub untagged_len_max: usize,
}

/// A bridge domain as the packet path sees it.
#[derive(Debug)]
pub struct DomainView {
    /// Seconds after which an address that was not seen again is forgotten.
    pub ageing_s: u32,
    /// The router's interface, if the domain has one.
    pub router: Option<Box<RouterView>>,
    /// Its MAC address as a number; [`NO_MAC`] without one.
    router_mac: u64,
    /// Members by flood class, each sorted by tagging so that a flood changes the tag as rarely as can be.
    unicast: Box<[Member]>,
    broadcast: Box<[Member]>,
    multicast: Box<[Member]>,
}

/// No MAC address: more than 48 bits.
const NO_MAC: u64 = u64::MAX;

impl DomainView {
    /// The router's MAC address as a number, or one that no frame carries.
    #[inline]
    pub fn router_mac_bits(&self) -> u64 {
        self.router_mac
    }

    /// The ports that a flood of `class` reaches.
    #[inline]
    pub fn members(&self, class: FloodClass) -> &[Member] {
        match class {
            FloodClass::UnknownUnicast => &self.unicast,
            FloodClass::Broadcast => &self.broadcast,
            FloodClass::Multicast => &self.multicast,
        }
    }
}

/// See the module text.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Counts up with every change.
    pub generation: u64,
    ports: Vec<Option<PortView>>,
    domains: Vec<Option<DomainView>>,
    vrfs: Vec<VrfView>,
}

impl Snapshot {
    /// Builds the picture. `domains` lists each bridge domain with its ageing time in seconds.
    pub fn new(generation: u64, ports: &[PortSetup], domains: &[(DomainId, u32)]) -> Snapshot {
        let port_slots = ports.iter().map(|port| port.id.index() + 1).max().unwrap_or(0);
        let domain_slots = domains.iter().map(|(id, _)| id.index() + 1).max().unwrap_or(0);
        let mut views: Vec<Option<PortView>> = (0..port_slots).map(|_| None).collect();
        for setup in ports {
            views[setup.id.index()] = Some(PortView::new(setup, domain_slots));
        }
        let mut domain_views: Vec<Option<DomainView>> = (0..domain_slots).map(|_| None).collect();
        for &(id, ageing_s) in domains {
            domain_views[id.index()] = Some(DomainView {
                ageing_s,
                router: None,
                router_mac: NO_MAC,
                unicast: members(&views, id, FloodClass::UnknownUnicast),
                broadcast: members(&views, id, FloodClass::Broadcast),
                multicast: members(&views, id, FloodClass::Multicast),
            });
        }
        Snapshot { generation, ports: views, domains: domain_views, vrfs: Vec::new() }
    }

    /// The same with a router. Interfaces on domains that do not exist are left out.
    pub fn with_router(mut self, router: RouterSetup) -> Snapshot {
        for (id, interface) in router.interfaces {
            if let Some(Some(domain)) = self.domains.get_mut(id.index()) {
                domain.router_mac = interface.mac.bits();
                domain.router = Some(Box::new(interface));
            }
        }
        self.vrfs = router.vrfs;
        self
    }

    /// The routing tables of a VRF.
    #[inline]
    pub fn vrf(&self, id: VrfId) -> Option<&VrfView> {
        self.vrfs.get(id.index())
    }

    /// The router's interface on a domain.
    #[inline]
    pub fn router(&self, domain: DomainId) -> Option<&RouterView> {
        self.domain(domain)?.router.as_deref()
    }

    /// The port `id`, if it is configured.
    #[inline]
    pub fn port(&self, id: PortId) -> Option<&PortView> {
        self.ports.get(id.index())?.as_ref()
    }

    /// The domain `id`, if it is configured.
    #[inline]
    pub fn domain(&self, id: DomainId) -> Option<&DomainView> {
        self.domains.get(id.index())?.as_ref()
    }
}

fn members(ports: &[Option<PortView>], domain: DomainId, class: FloodClass) -> Box<[Member]> {
    let mut members: Vec<Member> = ports
        .iter()
        .enumerate()
        .filter_map(|(index, view)| {
            let view = view.as_ref().filter(|view| view.forwarding && view.flags.floods(class))?;
            Some(Member {
                port: PortId::new(index)?,
                tagging: view.tagging(domain)?,
                isolated: view.flags.isolated,
                trunk: view.is_trunk(),
                untagged_len_max: view.untagged_len_max,
            })
        })
        .collect();
    members.sort_by_key(|member| (member.tagging, member.port));
    members.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setup(id: usize, native: Option<usize>, trunk: &[(u16, usize)]) -> PortSetup {
        PortSetup {
            id: PortId::new(id).unwrap(),
            forwarding: true,
            mtu: 1500,
            native: native.and_then(DomainId::new),
            trunk: trunk.iter().map(|&(vlan, domain)| (vlan, DomainId::new(domain).unwrap())).collect(),
            flags: PortFlags::default(),
            mac_limit: u32::MAX,
            tx_worker: [0; WORKERS_MAX],
        }
    }

    #[test]
    fn membership_and_tagging_follow_the_ports() {
        let mut quiet = setup(2, Some(1), &[]);
        quiet.flags.flood_broadcast = false;
        let mut down = setup(3, Some(1), &[]);
        down.forwarding = false;
        let ports = [setup(0, Some(1), &[]), setup(1, None, &[(10, 1), (20, 2)]), quiet, down];
        let one = DomainId::new(1).unwrap();
        let two = DomainId::new(2).unwrap();
        let snapshot = Snapshot::new(1, &ports, &[(one, 300), (two, 10)]);
        let trunk = snapshot.port(PortId::new(1).unwrap()).unwrap();
        assert_eq!(trunk.tagging(two), Some(Tagging::Vlan(20)));
        assert_eq!((trunk.domain_of(10), trunk.domain_of(11), trunk.native()), (Some(one), None, None));
        let ids = |class| -> Vec<usize> {
            snapshot.domain(one).unwrap().members(class).iter().map(|member| member.port.index()).collect()
        };
        assert_eq!(ids(FloodClass::UnknownUnicast), [0, 2, 1]);
        assert_eq!(ids(FloodClass::Broadcast), [0, 1]);
        assert!(snapshot.port(PortId::new(9).unwrap()).is_none());
        assert!(snapshot.domain(DomainId::new(3).unwrap()).is_none());
    }
}
