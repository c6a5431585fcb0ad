//! The router's control side: from the configuration and the attached ports to interfaces, routing tables and next
//! hops.
//!
//! `interfaces`: what there is to route between; `next_hops` and `balance`: what routes lead to; `routes`: the routes
//! of all VRFs; `identity`: MAC addresses; `services`: DHCP and router advertisements; `mtu`: how
//! large packets may be; `commands`, `load`, `list` and
//! `explain`: the control socket's commands. Control thread.
//!
//! The order of a change: what goes is taken out of the routing tables and next hops first; then workers and host get
//! the snapshot with the interfaces as they are now; then what is new goes in, next hops before the routes that lead
//! to them.

mod balance;
mod commands;
mod explain;
pub(super) mod identity;
mod interfaces;
mod list;
mod load;
mod mtu;
mod next_hops;
mod routes;
mod services;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ipnet::IpNet;

use self::interfaces::{Iface, Interfaces};
use self::next_hops::{Origin, Spec, Target};
use self::routes::{Routes, SharedRoutes, lock};
use super::Control;
use super::view::routed_domain;
use crate::config::{self, InterfaceKind, Nets, RouteConfig, RouteKind};
use crate::host::SharedHost;
use crate::ids::{PortId, VrfId};
use crate::table::fdb::{Entry, Kind, MacKey};
use crate::table::router::{RouterFlags, RouterSetup};
use crate::table::snapshot::Snapshot;
use crate::worker::Shared;

/// MTU of a bridge's interface while the bridge has no attached port.
const MTU_DEFAULT: u32 = 1_500;

/// The control side of the router.
pub(super) struct Router {
    /// All routes.
    pub routes: SharedRoutes,
    /// The switch as a host.
    pub host: SharedHost,
    /// What derived MAC addresses are made of.
    machine: String,
    /// The connected subnets, for checks; of the configuration of the last publication.
    nets: Nets,
    /// Routes of the configuration may be missing.
    incomplete: bool,
    /// The store of leases was opened, or could not be.
    keeps_leases: bool,
    /// What the log says of ports whose MTU is too small, by interface.
    mtu_notes: BTreeMap<String, String>,
}

impl Router {
    /// A router without interfaces.
    pub fn new(shared: &Arc<Shared>, host: SharedHost, machine: String) -> Router {
        let routes = Arc::new(std::sync::Mutex::new(Routes::new(shared, &host)));
        let (nets, mtu_notes) = (Nets::default(), BTreeMap::new());
        Router { routes, host, machine, nets, incomplete: true, keeps_leases: false, mtu_notes }
    }

    /// The configuration has other routes now.
    pub fn set_incomplete(&mut self) {
        self.incomplete = true;
    }
}

/// The routes, for tests of the control thread.
#[cfg(test)]
pub(super) fn lock_routes(router: &Router) -> std::sync::MutexGuard<'_, Routes> {
    lock(&router.routes)
}

/// What a configured route says beside its prefix.
fn spec_of(route: &RouteConfig, vrf: VrfId, origin: Origin) -> Spec {
    let target = match route.kind {
        RouteKind::Unicast => {
            let interface = route.interface.as_deref().map(Arc::from);
            Target::Via { vrf, hops: route.via.clone(), interface }
        }
        RouteKind::Blackhole => Target::Blackhole,
        RouteKind::Unreachable => Target::Unreachable,
        RouteKind::Prohibit => Target::Prohibited,
    };
    Spec { origin, target }
}

/// The routes that come with interfaces.
fn kernel_routes(interfaces: &[Iface]) -> HashMap<(VrfId, IpNet), Spec> {
    let mut routes = HashMap::new();
    for (at, spec) in interfaces.iter().flat_map(|iface| iface.routes().map(|(to, spec)| ((iface.vrf, to), spec))) {
        // An own address may be the broadcast address of a smaller subnet of the same interface.
        let own = |spec: &Spec| matches!(spec.target, Target::Local(_));
        if own(&spec) || !routes.get(&at).is_some_and(own) {
            routes.insert(at, spec);
        }
    }
    routes
}

impl Control {
    /// The router's interfaces as the configuration and the ports say now.
    fn wanted_interfaces(&self) -> Vec<Iface> {
        let mut routes = lock(&self.router.routes);
        let mtus = self.domain_mtus();
        let iface = |interface: config::Interface<'_>| {
            let (domain, up) = match interface.kind {
                InterfaceKind::Bridge(bridge) => (self.domains.get(&bridge.name)?, true),
                InterfaceKind::Port(port) => {
                    let slot = self.ports.by_name(&port.interface);
                    let up = slot.and_then(|slot| slot.attached()).is_some_and(|attached| attached.link.up);
                    (self.domains.get(&routed_domain(&port.interface))?, up)
                }
            };
            let bridge = match interface.kind {
                InterfaceKind::Bridge(bridge) => Some(bridge),
                InterfaceKind::Port(_) => None,
            };
            let settings = bridge.map(|bridge| bridge.router.clone()).unwrap_or_default();
            let mac = settings.gateway_mac.unwrap_or_else(|| identity::mac(&self.router.machine, interface.name));
            let mtu = settings.mtu.or_else(|| mtus.get(&domain).copied()).unwrap_or(MTU_DEFAULT);
            let flags = RouterFlags {
                proxy: settings.proxy_arp,
                suppress: settings.suppress,
                dhcp: bridge.is_some_and(services::serves),
                redirects: settings.redirects,
                clamp_mss: settings.clamp_mss,
            };
            // A checked configuration has no more VRFs than there are numbers, but old ones may still have routes.
            let vrf = routes.number(interface.vrf)?;
            let (name, addresses) = (Arc::from(interface.name), interface.addresses.to_vec());
            let (dhcp, ra) = (bridge.and_then(services::dhcp), bridge.and_then(|bridge| services::ra(bridge, mac)));
            Some(Iface { name, domain, vrf, mac, mtu, addresses, flags, dhcp, ra, up })
        };
        self.config.interfaces().filter_map(iface).collect()
    }

    /// What comes before a publication: interfaces that go, or change, take along what depends on them. Answers what
    /// the workers are told of the router, and whether the interfaces changed.
    pub(super) fn leave_interfaces(&mut self) -> (RouterSetup, bool) {
        self.warn_of_mtus();
        let wanted = self.wanted_interfaces();
        self.router.nets = Nets::of(&self.config);
        let fdb = self.shared.fdb();
        let mut routes = lock(&self.router.routes);
        let changed = routes.interfaces.all() != wanted;
        if changed {
            let old = routes.interfaces.all().to_vec();
            let stays = kernel_routes(&wanted);
            for ((vrf, to), spec) in kernel_routes(&old) {
                let gone = stays.get(&(vrf, to)) != Some(&spec);
                if gone && routes.spec(vrf, to) == Some(&spec) {
                    routes.remove(vrf, to);
                    // The prefix may be a configured route's, too.
                    self.router.incomplete = true;
                }
            }
            for iface in &old {
                let key = MacKey::new(iface.domain, iface.mac);
                let stays = wanted.iter().any(|new| (new.domain, new.mac) == (iface.domain, iface.mac));
                if !stays && fdb.lookup(key).is_some_and(|hit| hit.kind == Kind::Local) {
                    fdb.remove(key);
                }
            }
            routes.interfaces = Interfaces::new(wanted);
            routes.refresh(false);
        }
        let interfaces = routes.interfaces.all().iter().map(|iface| (iface.domain, iface.view())).collect();
        (RouterSetup { interfaces, vrfs: routes.views() }, changed)
    }

    /// The snapshot that is about to be sent to the workers: the host sees it first.
    pub(super) fn tell_host(&mut self, view: &Arc<Snapshot>) {
        self.keep_leases();
        let mut routes = lock(&self.router.routes);
        let interfaces = routes.interfaces.all().iter().map(Iface::for_host).collect();
        routes.published(view.generation);
        self.router.host.lock().configure(interfaces, Arc::clone(view));
    }

    /// What comes after a publication: interfaces that are new bring along what depends on them.
    pub(super) fn enter_interfaces(&mut self, changed: bool) {
        let mut routes = lock(&self.router.routes);
        if changed {
            for iface in routes.interfaces.all() {
                let key = MacKey::new(iface.domain, iface.mac);
                let entry = Entry { key, port: PortId::ROUTER, kind: Kind::Local, stamp_s: self.now_s };
                if let Err(error) = self.shared.fdb().insert(entry) {
                    tracing::warn!("interface {}: its MAC address is not in the forwarding table: {error}", iface.name);
                }
            }
            for ((vrf, to), spec) in kernel_routes(routes.interfaces.all()) {
                if routes.spec(vrf, to) != Some(&spec)
                    && let Err(error) = routes.put(vrf, to, spec)
                {
                    tracing::error!("{to}: not routed: {error}");
                }
            }
            routes.refresh(true);
            routes.drop_idle_vrfs();
        }
        if std::mem::take(&mut self.router.incomplete) {
            for route in &self.config.routes {
                configure(&mut routes, route);
            }
        }
        self.changed |= routes.is_replaced();
    }

    /// Takes the routes of the configuration that a reload removes out of the tables.
    pub(super) fn remove_routes(&mut self, removed: &[RouteConfig]) {
        let mut routes = lock(&self.router.routes);
        for route in removed {
            let Some(vrf) = routes.vrf(route.vrf()) else { continue };
            if routes.spec(vrf, route.to).is_some_and(|spec| spec.origin == Origin::File) {
                routes.remove(vrf, route.to);
            }
        }
        self.changed |= routes.is_replaced();
    }

    /// A reload begins: routes that were added at run time are to go. Answers how many.
    pub(super) fn forget_added_routes(&mut self) -> u64 {
        lock(&self.router.routes).forget_added() as u64
    }

    /// A moment's work on routes. True if there is more to do.
    pub(super) fn turn_routes(&mut self) -> bool {
        let mut routes = lock(&self.router.routes);
        let more = routes.turn(self.publisher.settled());
        self.changed |= routes.is_replaced();
        more
    }

    /// True while a next hop waits for the workers to be free again.
    pub(super) fn routes_owe(&self) -> bool {
        lock(&self.router.routes).hops.owes()
    }
}

/// Sees to it that a route of the configuration is there. A route that was added at run time gives way; one that comes
/// with an interface does not.
fn configure(routes: &mut Routes, route: &RouteConfig) {
    let Some(vrf) = routes.number(route.vrf()) else { return };
    let spec = spec_of(route, vrf, Origin::File);
    match routes.spec(vrf, route.to) {
        Some(there) if *there == spec || there.origin == Origin::Kernel => {}
        _ => {
            if let Err(error) = routes.put(vrf, route.to, spec) {
                tracing::error!("{}: not in force: {error}", route.object());
            }
        }
    }
}
