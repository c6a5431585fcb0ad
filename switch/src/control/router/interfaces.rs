//! The router's interfaces as they are in force, and the routes that come with them. Control thread.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::next_hops::{Origin, Spec, Target};
use crate::config;
use crate::host::{self, dhcp, ra};
use crate::ids::{DomainId, Mac, VrfId};
use crate::table::neighbour::NeighbourKey;
use crate::table::router::{RouterFlags, RouterView};

/// An interface in force.
#[derive(Clone, PartialEq, Debug)]
pub struct Iface {
    /// The bridge's name, or the routed port's.
    pub name: Arc<str>,
    /// Its bridge domain.
    pub domain: DomainId,
    /// Its VRF.
    pub vrf: VrfId,
    /// Its MAC address.
    pub mac: Mac,
    /// Largest IP packet, in bytes.
    pub mtu: u32,
    /// The router's addresses, each with its subnet.
    pub addresses: Vec<IpNet>,
    /// Its switches.
    pub flags: RouterFlags,
    /// The DHCP server of its hosts.
    pub dhcp: Option<dhcp::Settings>,
    /// The router advertisements to its hosts.
    pub ra: Option<ra::Settings>,
    /// False for a routed port whose link is down, or that is not attached: nobody can be reached there.
    pub up: bool,
}

impl Iface {
    /// As the packet path sees it.
    pub fn view(&self) -> RouterView {
        let ipv4 = self.addresses.iter().filter_map(|net| match net.addr() {
            IpAddr::V4(address) => Some(address.to_bits()),
            IpAddr::V6(_) => None,
        });
        let ipv6 = self.addresses.iter().filter_map(|net| match net.addr() {
            IpAddr::V6(address) => Some(address.to_bits()),
            IpAddr::V4(_) => None,
        });
        let mut ipv6: Vec<u128> = ipv6.collect();
        if !ipv6.is_empty() {
            ipv6.push(RouterView::link_local(self.mac).to_bits());
        }
        RouterView {
            mac: self.mac,
            vrf: self.vrf,
            mtu: self.mtu,
            ipv4: ipv4.collect(),
            ipv6: ipv6.into(),
            flags: self.flags,
        }
    }

    /// As the host is told of it.
    pub fn for_host(&self) -> host::Interface {
        let ipv4 = self.addresses.iter().filter_map(|net| match net.addr() {
            IpAddr::V4(address) => Some((address, net.prefix_len())),
            IpAddr::V6(_) => None,
        });
        let ipv6 = self.addresses.iter().filter_map(|net| match net.addr() {
            IpAddr::V6(address) => Some((address, net.prefix_len())),
            IpAddr::V4(_) => None,
        });
        host::Interface {
            domain: self.domain,
            name: self.name.to_string(),
            vrf: self.vrf,
            mac: self.mac,
            mtu: self.mtu,
            ipv4: ipv4.collect(),
            ipv6: ipv6.collect(),
            flags: self.flags,
            dhcp: self.dhcp.clone(),
            ra: self.ra.clone(),
        }
    }

    /// The routes that are there because the interface is.
    pub fn routes(&self) -> impl Iterator<Item = (IpNet, Spec)> + '_ {
        let spec = |target| Spec { origin: Origin::Kernel, target };
        self.addresses.iter().flat_map(move |net| {
            let whole = net.prefix_len() == net.max_prefix_len();
            let own = (IpNet::from(net.addr()), spec(Target::Local(Arc::clone(&self.name))));
            let connected = spec(Target::Connected(Arc::clone(&self.name), self.domain));
            let subnet = (!whole && self.up).then(|| (net.trunc(), connected));
            let broadcasts = config::fixed(*net).into_iter().flatten().filter(|address| address.is_ipv4());
            let broadcast = spec(Target::Broadcast(Arc::clone(&self.name)));
            let broadcasts = broadcasts.map(move |address| (IpNet::from(address), broadcast.clone()));
            std::iter::once(own).chain(subnet).chain(broadcasts)
        })
    }
}

/// All of them, to be found by name and by subnet.
#[derive(Default)]
pub struct Interfaces {
    all: Vec<Iface>,
    by_name: HashMap<Arc<str>, usize>,
    by_domain: HashMap<DomainId, usize>,
}

impl Interfaces {
    /// An index of `all`.
    pub fn new(all: Vec<Iface>) -> Interfaces {
        let by_name = all.iter().enumerate().map(|(at, iface)| (Arc::clone(&iface.name), at)).collect();
        let by_domain = all.iter().enumerate().map(|(at, iface)| (iface.domain, at)).collect();
        Interfaces { all, by_name, by_domain }
    }

    /// Every interface.
    pub fn all(&self) -> &[Iface] {
        &self.all
    }

    /// The one of that name.
    pub fn by_name(&self, name: &str) -> Option<&Iface> {
        self.by_name.get(name).and_then(|at| self.all.get(*at))
    }

    /// The one on that domain.
    pub fn on(&self, domain: DomainId) -> Option<&Iface> {
        self.by_domain.get(&domain).and_then(|at| self.all.get(*at))
    }

    /// The interface that leads to the neighbour `hop`: the one named, or the one whose subnet it is in.
    pub fn towards(&self, vrf: VrfId, hop: IpAddr, named: Option<&str>) -> Option<&Iface> {
        let iface = match named {
            Some(name) => self.by_name(name)?,
            None => self
                .all
                .iter()
                .find(|iface| iface.vrf == vrf && iface.addresses.iter().any(|net| net.contains(&hop)))?,
        };
        (iface.vrf == vrf).then_some(iface)
    }

    /// The neighbour that a next hop is, while it can be reached.
    pub fn resolve(&self, vrf: VrfId, hop: IpAddr, named: Option<&str>) -> Option<NeighbourKey> {
        let iface = self.towards(vrf, hop, named).filter(|iface| iface.up)?;
        Some(NeighbourKey::new(iface.domain, hop))
    }
}
