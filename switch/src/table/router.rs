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

/// ff02::1, all nodes on a link; ff02::2 and ff05::2, all routers on a link and of a site (RFC 4291 2.7.1).
const ALL_GROUPS: [u128; 3] = [0xff02 << 112 | 1, 0xff02 << 112 | 2, 0xff05 << 112 | 2];

/// ff02::1:ff00:0, and the part of an address that goes into its solicited-node group.
const SOLICITED_NODE: u128 = 0xff02 << 112 | 0x1_ff00_0000;
const SOLICITED_NODE_OWN: u128 = 0xff_ffff;

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

    /// True for an IPv6 group that the interface listens to: all nodes, all routers, and those that its addresses are
    /// asked for by (RFC 4291 2.8).
    pub fn listens_to(&self, group: u128) -> bool {
        let is_asked_for = |own: &u128| SOLICITED_NODE | (own & SOLICITED_NODE_OWN) == group;
        !self.ipv6.is_empty() && (ALL_GROUPS.contains(&group) || self.ipv6.iter().any(is_asked_for))
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
    fn an_interface_listens_to_its_own_groups_only() {
        let address = |text: &str| u128::from(text.parse::<Ipv6Addr>().unwrap());
        let mut view = RouterView {
            mac: Mac::ZERO,
            vrf: VrfId::DEFAULT,
            mtu: 1_500,
            ipv4: Box::default(),
            ipv6: Box::new([address("2001:db8::12:3456"), address("fe80::ffff:ffff")]),
            flags: RouterFlags { proxy: false, suppress: false, dhcp: false, redirects: false, clamp_mss: false },
        };
        for own in ["ff02::1", "ff02::2", "ff05::2", "ff02::1:ff12:3456", "ff02::1:ffff:ffff"] {
            assert!(view.listens_to(address(own)), "{own}");
        }
        for other in ["ff01::1", "ff02::5", "ff02::fb", "ff05::1", "ff0e::1", "ff02::1:ff12:3457", "ff02::1:fe12:3456"]
        {
            assert!(!view.listens_to(address(other)), "{other}");
        }
        view.ipv6 = Box::default();
        assert!(!view.listens_to(address("ff02::1")), "it does not speak IPv6");
    }

    #[test]
    fn link_local_addresses_are_modified_eui_64() {
        // RFC 4291 appendix A: the universal/local bit is inverted, ff:fe goes in the middle.
        let mac: Mac = "34:56:78:9a:bc:de".parse().unwrap();
        assert_eq!(RouterView::link_local(mac).to_string(), "fe80::3656:78ff:fe9a:bcde");
    }
}
