//! What the switch as a host is told: its interfaces, its limits and its timers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::limit::LimiterSettings;
use super::reassembly::ReassemblySettings;
use super::{dhcp, ra};
use crate::ids::{DomainId, Mac, VrfId};
use crate::limits::NEIGHBOURS_MAX;
use crate::table::router::{RouterFlags, RouterView};

/// The switch's own interface on a bridge domain, as configured.
#[derive(Clone, Debug)]
pub struct Interface {
    /// The bridge domain.
    pub domain: DomainId,
    /// The bridge's name (or the routed port's), for messages.
    pub name: String,
    /// The routing table of what comes in here.
    pub vrf: VrfId,
    /// Its MAC address.
    pub mac: Mac,
    /// Largest IP packet, in bytes.
    pub mtu: u32,
    /// Its IPv4 addresses with their prefix lengths.
    pub ipv4: Vec<(Ipv4Addr, u8)>,
    /// Its IPv6 addresses with their prefix lengths. With any of them the link-local address that goes with the MAC
    /// address is the interface's, too; it need not be named.
    pub ipv6: Vec<(Ipv6Addr, u8)>,
    /// Its switches.
    pub flags: RouterFlags,
    /// The DHCP server of its hosts.
    pub dhcp: Option<dhcp::Settings>,
    /// The router advertisements to its hosts.
    pub ra: Option<ra::Settings>,
}

impl Interface {
    /// The link-local address, if the interface speaks IPv6.
    pub fn link_local(&self) -> Option<Ipv6Addr> {
        (!self.ipv6.is_empty()).then(|| RouterView::link_local(self.mac))
    }

    /// Every address of the interface, the link-local one among them.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let link_local = self.link_local().filter(|address| self.ipv6.iter().all(|(own, _)| own != address));
        let ipv6 = self.ipv6.iter().map(|(address, _)| *address).chain(link_local);
        self.ipv4.iter().map(|(address, _)| IpAddr::V4(*address)).chain(ipv6.map(IpAddr::V6))
    }

    /// True for one of its own addresses.
    pub fn owns(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.ipv4.iter().any(|(own, _)| *own == address),
            IpAddr::V6(address) => {
                self.ipv6.iter().any(|(own, _)| *own == address) || self.link_local() == Some(address)
            }
        }
    }

    /// True for addresses of its subnets, the link-local one among them.
    pub fn has_in_subnet(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.ipv4.iter().any(|(own, len)| same_subnet4(*own, address, *len)),
            IpAddr::V6(address) => {
                let link_local = !self.ipv6.is_empty() && address.is_unicast_link_local();
                link_local || self.ipv6.iter().any(|(own, len)| same_subnet6(*own, address, *len))
            }
        }
    }

    /// True for the network and the broadcast address of one of its IPv4 subnets (RFC 1122 3.2.1.3): no host has
    /// them. Subnets of one or two addresses have neither (RFC 3021).
    pub fn is_subnet_broadcast(&self, address: Ipv4Addr) -> bool {
        let address = u32::from(address);
        self.ipv4.iter().filter(|(_, len)| *len <= 30).any(|(own, len)| {
            let host = u32::MAX.checked_shr(u32::from(*len)).unwrap_or(0);
            let network = u32::from(*own) & !host;
            address == network || address == network | host
        })
    }

    /// The interface's IPv4 address to ask from for `target`: that of its subnet, else the first.
    pub fn source4(&self, target: Ipv4Addr) -> Option<Ipv4Addr> {
        let mut all = self.ipv4.iter();
        let near = self.ipv4.iter().find(|(own, len)| same_subnet4(*own, target, *len));
        near.or_else(|| all.next()).map(|(own, _)| *own)
    }
}

fn same_subnet4(a: Ipv4Addr, b: Ipv4Addr, len: u8) -> bool {
    let host = u32::MAX.checked_shr(u32::from(len)).unwrap_or(0);
    (u32::from(a) ^ u32::from(b)) & !host == 0
}

fn same_subnet6(a: Ipv6Addr, b: Ipv6Addr, len: u8) -> bool {
    let host = u128::MAX.checked_shr(u32::from(len)).unwrap_or(0);
    (u128::from(a) ^ u128::from(b)) & !host == 0
}

/// Limits and timers of the switch as a host.
#[derive(Clone, Copy, Debug)]
pub struct HostSettings {
    /// Neighbours of all interfaces together; at most [`NEIGHBOURS_MAX`].
    pub neighbours_max: usize,
    /// Neighbours of one interface.
    pub interface_neighbours_max: usize,
    /// Neighbours whose MAC address is not known, of all interfaces together. Next hops of routes do not count.
    pub unresolved_max: usize,
    /// The same of one interface: what a scan of its subnet can take.
    pub interface_unresolved_max: usize,
    /// Packets that wait for one neighbour's MAC address; a newer one replaces the oldest (RFC 4861 7.2.2).
    pub waiting_max: usize,
    /// Pool frames that wait for MAC addresses altogether, in parts of the pool: one in so many. Packets of one port
    /// may have as many of them as are free.
    pub waiting_share: usize,
    /// Time for which a confirmed neighbour counts as reachable, times 0.5 to 1.5 (RFC 4861 REACHABLE_TIME).
    pub reachable_ms: u64,
    /// Time between two questions for one neighbour (RFC 4861 RETRANS_TIMER, RFC 1122 2.3.2.1).
    pub retrans_ms: u64,
    /// Time from the first use of a stale neighbour to the first question (RFC 4861 DELAY_FIRST_PROBE_TIME).
    pub delay_ms: u64,
    /// Questions to everybody before a neighbour is given up (RFC 4861 MAX_MULTICAST_SOLICIT).
    pub multicast_solicit: u8,
    /// Questions to a neighbour that was known (RFC 4861 MAX_UNICAST_SOLICIT).
    pub unicast_solicit: u8,
    /// Time after which a stale neighbour that nobody uses is forgotten.
    pub stale_ms: u64,
    /// Time for which a failed neighbour is listed, and after which a next hop of routes is asked for again.
    pub failed_ms: u64,
    /// Announcements of an own IPv4 address (RFC 5227 ANNOUNCE_NUM), and the time between them (ANNOUNCE_INTERVAL).
    pub announce_num: u8,
    /// See [`HostSettings::announce_num`].
    pub announce_ms: u64,
    /// Shortest time between two defences of an address (RFC 5227 DEFEND_INTERVAL).
    pub defend_ms: u64,
    /// Shortest time between two warnings about one address.
    pub warn_ms: u64,
    /// How many ICMP errors and redirects are sent.
    pub icmp: LimiterSettings,
    /// What fragments of packets to own addresses may take up, and for how long.
    pub reassembly: ReassemblySettings,
    /// Unix time, in seconds, when the switch's clock was zero: leases end by it.
    pub epoch_s: u64,
    /// Where random times start from; any number.
    pub seed: u64,
}

impl Default for HostSettings {
    fn default() -> Self {
        HostSettings {
            neighbours_max: NEIGHBOURS_MAX,
            interface_neighbours_max: NEIGHBOURS_MAX / 2,
            unresolved_max: 4_096,
            interface_unresolved_max: 1_024,
            waiting_max: 3,
            waiting_share: 16,
            reachable_ms: 30_000,
            retrans_ms: 1_000,
            delay_ms: 5_000,
            multicast_solicit: 3,
            unicast_solicit: 3,
            stale_ms: 600_000,
            failed_ms: 20_000,
            announce_num: 2,
            announce_ms: 2_000,
            defend_ms: 10_000,
            warn_ms: 60_000,
            icmp: LimiterSettings::default(),
            reassembly: ReassemblySettings::default(),
            epoch_s: 0,
            seed: 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface() -> Interface {
        Interface {
            domain: DomainId::new(1).unwrap(),
            name: "pods".to_string(),
            vrf: VrfId::DEFAULT,
            mac: Mac::new([2, 0, 0, 0, 0, 0xfe]),
            mtu: 1500,
            ipv4: vec![(Ipv4Addr::new(10, 0, 0, 1), 24), (Ipv4Addr::new(10, 9, 0, 1), 31)],
            ipv6: vec![("2001:db8::1".parse().unwrap(), 64)],
            flags: RouterFlags { proxy: false, suppress: false, dhcp: false, redirects: false, clamp_mss: false },
            dhcp: None,
            ra: None,
        }
    }

    #[test]
    fn addresses_and_subnets_of_both_families() {
        let interface = interface();
        let is = |address: &str| {
            let address: IpAddr = address.parse().unwrap();
            (interface.owns(address), interface.has_in_subnet(address))
        };
        assert_eq!(is("10.0.0.1"), (true, true));
        assert_eq!(is("10.0.0.77"), (false, true));
        assert_eq!(is("10.0.1.77"), (false, false));
        assert_eq!(is("2001:db8::9"), (false, true));
        assert_eq!(is("2001:db8:0:1::9"), (false, false));
        assert_eq!(is("fe80::fe"), (false, true));
        assert_eq!(is("fe80::ff:fe00:fe"), (true, true));
        assert_eq!(interface.addresses().count(), 4);
        let mut quiet = interface.clone();
        quiet.ipv6.clear();
        assert!(quiet.link_local().is_none() && !quiet.has_in_subnet("fe80::fe".parse().unwrap()));
    }

    #[test]
    fn broadcast_addresses_are_those_of_subnets_that_have_them() {
        let interface = interface();
        let is = |last: [u8; 4]| interface.is_subnet_broadcast(last.into());
        assert!(is([10, 0, 0, 0]) && is([10, 0, 0, 255]) && !is([10, 0, 0, 254]));
        assert!(!is([10, 9, 0, 0]) && !is([10, 9, 0, 1]));
    }

    #[test]
    fn the_source_is_of_the_targets_subnet() {
        let interface = interface();
        assert_eq!(interface.source4([10, 9, 0, 0].into()), Some([10, 9, 0, 1].into()));
        assert_eq!(interface.source4([192, 0, 2, 1].into()), Some([10, 0, 0, 1].into()));
    }
}
