//! The router as the packet path sees it: gateway interfaces of bridge domains, and routing tables (VRFs).

use std::net::Ipv6Addr;
use std::sync::Arc;

use super::fib::{Fib4, Fib6, FibWriter};
use super::grace::Grace;
use super::neighbour::Neighbours;
use super::next_hop::NextHops;
use crate::ids::{DomainId, Mac, VrfId};

/// The router's interface on a bridge domain.
#[derive(Clone, Debug)]
pub struct RouterView {
    /// Its MAC address, the same for every address of the interface.
    pub mac: Mac,
    /// The routing table of packets that come in here.
    pub vrf: VrfId,
    /// Largest IP packet, in bytes, whatever the port it leaves by would take.
    pub mtu: u32,
    /// Its own IPv4 addresses, in host byte order.
    pub ipv4: Box<[u32]>,
    /// Its own IPv6 addresses, the link-local one among them.
    pub ipv6: Box<[u128]>,
    /// The interface's switches.
    pub flags: RouterFlags,
}

/// The switches of a router's interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RouterFlags {
    /// ARP requests and neighbour solicitations for hosts behind other interfaces are answered (RFC 1027, RFC 4861
    /// 7.2.8).
    pub proxy: bool,
    /// ARP requests and neighbour solicitations for known neighbours are answered instead of flooded.
    pub suppress: bool,
    /// DHCP requests are answered.
    pub dhcp: bool,
    /// Senders are told of a better router on their own subnet.
    pub redirects: bool,
    /// The TCP maximum segment size is lowered to what fits the interface.
    pub clamp_mss: bool,
}

impl RouterView {
    /// True for one of the interface's IPv4 addresses.
    #[inline]
    pub fn has_ipv4(&self, address: u32) -> bool {
        self.ipv4.contains(&address)
    }

    /// True for one of the interface's IPv6 addresses.
    #[inline]
    pub fn has_ipv6(&self, address: u128) -> bool {
        self.ipv6.contains(&address)
    }

    /// The link-local address that goes with a MAC address (modified EUI-64, RFC 4291 2.5.1 and appendix A).
    pub fn link_local(mac: Mac) -> Ipv6Addr {
        let [a, b, c, d, e, f] = mac.octets();
        Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
    }
}

/// A routing table as workers read it.
#[derive(Clone)]
pub struct VrfView {
    /// IPv4 routes.
    pub ipv4: Arc<Fib4>,
    /// IPv6 routes.
    pub ipv6: Arc<Fib6>,
}

impl Default for VrfView {
    /// Without routes.
    fn default() -> Self {
        let grace = Arc::new(Grace::new(0));
        let (ipv4, ipv6) = (FibWriter::new(Arc::clone(&grace)), FibWriter::new(grace));
        VrfView { ipv4: Arc::clone(ipv4.table()), ipv6: Arc::clone(ipv6.table()) }
    }
}

impl std::fmt::Debug for VrfView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("VrfView")
    }
}

/// What a snapshot is told of the router.
#[derive(Clone, Debug, Default)]
pub struct RouterSetup {
    /// The interfaces.
    pub interfaces: Vec<(DomainId, RouterView)>,
    /// The routing tables, by [`VrfId`].
    pub vrfs: Vec<VrfView>,
}

/// The tables of the router that are written in place, without a new snapshot.
#[derive(Default)]
pub struct RouterTables {
    /// ARP and ND entries. Written by the switch as a host.
    pub neighbours: Neighbours,
    /// Next hops of routes. Written by the control thread.
    pub next_hops: NextHops,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_local_addresses_are_modified_eui_64() {
        // RFC 4291 appendix A: the universal/local bit is inverted, ff:fe goes in the middle.
        let mac: Mac = "34:56:78:9a:bc:de".parse().unwrap();
        assert_eq!(RouterView::link_local(mac).to_string(), "fe80::3656:78ff:fe9a:bcde");
    }
}
