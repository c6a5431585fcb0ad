//! DHCP servers and router advertisements: from the configuration to what the host is told, and leases to the operator.

use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;
use std::time::SystemTime;

use ctl::protocol::{Done, ErrorBody, Item, LeaseEntry};
use ipnet::{IpNet, Ipv4Net};

use super::super::Control;
use super::super::server::Reply;
use super::routes::lock;
use crate::config::{BridgeConfig, ClientId, DhcpConfig, RaConfig, StaticLease};
use crate::host::dhcp::store::Store;
use crate::host::dhcp::{self, Client, Static};
use crate::host::ra;
use crate::ids::Mac;
use crate::table::router::RouterView;

/// The DHCP server of a bridge; on the gateway's subnet that its range is in.
pub(super) fn dhcp(bridge: &BridgeConfig) -> Option<dhcp::Settings> {
    let DhcpConfig { range: [first, last], lease_seconds, router, dns, domain, ntp, mtu, statics } =
        bridge.dhcp.as_ref()?;
    let subnets = bridge.gateway.iter().filter_map(|net| match net {
        IpNet::V4(net) => Some(*net),
        IpNet::V6(_) => None,
    });
    let own: Ipv4Net = subnets.into_iter().find(|net| net.contains(first))?;
    Some(dhcp::Settings {
        bridge: bridge.name.clone(),
        server: own.addr(),
        subnet: own.trunc(),
        first: *first,
        last: *last,
        lease_seconds: *lease_seconds,
        router: *router,
        dns: dns.clone(),
        domain: domain.clone(),
        ntp: ntp.clone(),
        mtu: *mtu,
        statics: statics.iter().filter_map(reserved).collect(),
        probe: true,
    })
}

fn reserved(lease: &StaticLease) -> Option<Static> {
    let by_id = lease.client_id.as_ref().map(ClientId::octets).map(|octets| Client::Id(octets.to_vec()));
    let client = by_id.or_else(|| lease.mac.map(Client::of_mac))?;
    Some(Static { client, address: lease.address, hostname: lease.hostname.clone() })
}

/// The router advertisements of a bridge, whose interface has that MAC address.
pub(super) fn ra(bridge: &BridgeConfig, mac: Mac) -> Option<ra::Settings> {
    let RaConfig { prefixes, dns, search, mtu, lifetime_seconds, interval_seconds, managed, other } =
        bridge.ra.as_ref()?;
    let source: Ipv6Addr = RouterView::link_local(mac);
    Some(ra::Settings {
        mac,
        source,
        prefixes: prefixes.clone(),
        dns: dns.clone(),
        search: search.clone(),
        mtu: *mtu,
        lifetime_seconds: *lifetime_seconds,
        interval_seconds: *interval_seconds,
        managed: *managed,
        other: *other,
    })
}

/// Seconds since 1970.
fn unix_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl Control {
    /// Opens the store of leases as soon as a bridge has a DHCP server, at start or after a reload: before the host
    /// hears of the server.
    pub(super) fn keep_leases(&mut self) {
        let needed = self.config.bridges.iter().any(|bridge| bridge.dhcp.is_some());
        if needed && !self.router.keeps_leases {
            self.router.keeps_leases = true;
            let opened = Store::open(Path::new(&self.config.switch.state_dir), unix_s());
            opened.problems.iter().for_each(|problem| tracing::error!("{problem}"));
            let path = opened.store.path().to_path_buf();
            if let Err(error) = self.router.host.lock().keep_leases(opened) {
                tracing::error!(
                    "leases: no thread to write {path:?} ({error}); DHCP leases are not kept over a restart of switchd"
                );
            }
        }
    }

    pub(in super::super) fn show_dhcp(&self, bridge: Option<&str>) -> Result<Reply, ErrorBody> {
        let only = bridge.map(|bridge| self.known_interface(bridge)).transpose()?;
        let (now_s, leases) = (unix_s(), self.router.host.lock().leases());
        let routes = lock(&self.router.routes);
        let item = |(domain, lease): (_, dhcp::Lease)| {
            let iface = routes.interfaces.on(domain).filter(|_| only.is_none_or(|only| only == domain))?;
            let current = lease.is_current(now_s);
            let state = match lease.state {
                dhcp::State::Offered if current => "offered",
                dhcp::State::Bound if current => "bound",
                dhcp::State::Released => "released",
                dhcp::State::Quarantined if current => "declined",
                _ => "expired",
            };
            let client = lease.client.map_or_else(|| "-".to_string(), |client| client.to_string());
            let expires_seconds = current.then(|| lease.expires_s - now_s);
            let (bridge, state) = (iface.name.to_string(), state.to_string());
            let (address, hostname) = (lease.address, lease.hostname);
            Some(Item::Lease(LeaseEntry { address, bridge, client, hostname, state, expires_seconds }))
        };
        Ok(Reply::Done(leases.into_iter().filter_map(item).collect(), Done::default()))
    }
}

/// True for an address that a bridge's DHCP server may be asked at.
pub(super) fn serves(bridge: &BridgeConfig) -> bool {
    bridge.dhcp.is_some() && bridge.gateway.iter().any(|net| matches!(net.addr(), IpAddr::V4(_)))
}
