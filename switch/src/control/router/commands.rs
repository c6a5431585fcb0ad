//! Routes and neighbours that are changed at run time, one by one. Control thread.

use std::net::IpAddr;

use ctl::protocol::{self, AddNeigh, AddRoute, DelNeigh, DelRoute, Done, ErrorBody, RouteType};
use ipnet::IpNet;

use super::super::Control;
use super::super::requests::Answer;
use super::next_hops::{Origin, Target};
use super::routes::{Routes, lock};
use super::spec_of;
use crate::config::{self, Nets, RouteConfig, RouteKind, VRF_DEFAULT, Via, vrf_text};
use crate::host::NeighbourFilter;
use crate::ids::{DomainId, Mac, VrfId};
use crate::table::neighbour::NeighbourKey;

impl Control {
    pub(super) fn nets(&mut self) -> &Nets {
        if self.changed {
            // Ports came or went since the last publication.
            self.router.nets = Nets::of(&self.config);
        }
        &self.router.nets
    }

    pub(in super::super) fn add_route(&mut self, add: &AddRoute) -> Answer {
        let route = route_of(add)?;
        self.nets();
        let mut routes = lock(&self.router.routes);
        add_checked(&mut routes, &self.router.nets, &route)?;
        self.changed |= routes.is_replaced();
        let note = "it goes with the next reload; put it into the configuration to keep it".to_string();
        Ok(Done { affected: Some(1), notes: vec![note], ..Done::message(format!("route {} added", route.to)) })
    }

    pub(in super::super) fn del_route(&mut self, del: &DelRoute) -> Answer {
        let to = config::prefix("to", &del.to).map_err(|problem| ErrorBody::usage(problem.to_string()))?;
        let name = del.vrf.as_deref().unwrap_or(VRF_DEFAULT);
        let mut routes = lock(&self.router.routes);
        let vrf = known_vrf(&routes, &self.router.nets, name)?;
        let Some(origin) = routes.spec(vrf, to).map(|spec| spec.origin) else {
            let text = vrf_text(name);
            return Err(ErrorBody::refused(format!(
                "no route to exactly {to} in {text}: show-routes lists the routes"
            )));
        };
        if origin == Origin::Kernel {
            let message = format!("route {to} comes with an interface's address: change the address to be rid of it");
            return Err(ErrorBody::refused(message));
        }
        routes.remove(vrf, to);
        self.changed |= routes.is_replaced();
        drop(routes);
        let note = (origin == Origin::File).then(|| {
            self.config.routes.retain(|route| (route.vrf(), route.to) != (name, to));
            "the configuration file has it: it comes back with the next reload".to_string()
        });
        let notes = note.into_iter().collect();
        Ok(Done { affected: Some(1), notes, ..Done::message(format!("route {to} removed")) })
    }

    pub(in super::super) fn add_neigh(&mut self, add: &AddNeigh) -> Answer {
        let domain = self.known_interface(&add.bridge)?;
        let mac = Mac::new(add.mac.0);
        self.check_neighbour(domain, &add.bridge, add.address)?;
        let key = NeighbourKey::new(domain, add.address);
        self.router
            .host
            .lock()
            .add_neighbour(key, mac)
            .map_err(|error| ErrorBody::refused(format!("neighbour {} on {}: {error}", add.address, add.bridge)))?;
        let message = format!("neighbour {} on {} set to {mac}", add.address, add.bridge);
        Ok(Done { affected: Some(1), ..Done::message(message) })
    }

    /// A neighbour has an address of one of the interface's subnets, and not the interface's own.
    fn check_neighbour(&self, domain: DomainId, on: &str, address: IpAddr) -> Result<(), ErrorBody> {
        let routes = lock(&self.router.routes);
        let Some(iface) = routes.interfaces.on(domain) else { return Ok(()) };
        let link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        if iface.addresses.iter().any(|net| net.addr() == address) {
            return Err(ErrorBody::refused(format!(
                "{address} is the switch's own address on {on}: name another host"
            )));
        }
        if link_local || iface.addresses.iter().any(|net| net.contains(&address)) {
            return Ok(());
        }
        let subnets: Vec<String> = iface.addresses.iter().map(|net| net.trunc().to_string()).collect();
        let subnets = subnets.join(", ");
        Err(ErrorBody::refused(format!("{address} is on no subnet of {on}: its subnets are {subnets}")))
    }

    pub(in super::super) fn del_neigh(&mut self, del: &DelNeigh) -> Answer {
        let domains: Vec<DomainId> = match &del.bridge {
            Some(bridge) => vec![self.known_interface(bridge)?],
            None => lock(&self.router.routes).interfaces.all().iter().map(|iface| iface.domain).collect(),
        };
        let mut host = self.router.host.lock();
        let keys = domains.into_iter().map(|domain| NeighbourKey::new(domain, del.address));
        let keys: Vec<NeighbourKey> = keys.filter(|key| host.neighbour(*key).is_some()).collect();
        let address = del.address;
        match keys.as_slice() {
            [] => Err(ErrorBody::refused(format!("no neighbour {address}: show-neigh lists the neighbours"))),
            [key] => {
                host.remove_neighbour(*key);
                Ok(Done { affected: Some(1), ..Done::message(format!("neighbour {address} removed")) })
            }
            several => {
                let count = several.len();
                let message = format!("{address} is a neighbour on {count} bridges: say which with a bridge");
                Err(ErrorBody::refused(message))
            }
        }
    }

    pub(in super::super) fn flush_neigh(&mut self, bridge: Option<&str>) -> Answer {
        let domain = bridge.map(|bridge| self.known_interface(bridge)).transpose()?;
        let count =
            self.router.host.lock().flush_neighbours(NeighbourFilter { domain, ..NeighbourFilter::default() }) as u64;
        let neighbours = if count == 1 { "neighbour" } else { "neighbours" };
        Ok(Done { affected: Some(count), ..Done::message(format!("{count} {neighbours} removed")) })
    }

    /// The domain of an interface of the router that a request names.
    pub(super) fn known_interface(&self, name: &str) -> Result<DomainId, ErrorBody> {
        if let Some(iface) = lock(&self.router.routes).interfaces.by_name(name) {
            return Ok(iface.domain);
        }
        if self.config.interfaces().any(|interface| interface.name == name) {
            return Err(ErrorBody::refused(format!("interface {name} is being set up: try again")));
        }
        let why = match self.domains.get(name) {
            Some(_) => "the bridge has no gateway: add one to the configuration",
            None => "name a bridge with a gateway, or a routed port",
        };
        Err(ErrorBody::refused(format!("{name} is no interface of the router: {why}")))
    }
}

/// The number of a VRF that a request names.
pub(super) fn known_vrf(routes: &Routes, nets: &Nets, name: &str) -> Result<VrfId, ErrorBody> {
    routes.vrf(name).ok_or_else(|| {
        let hint = nets.vrf_hint(name);
        ErrorBody::refused(format!("no bridge or port is in VRF {name}: {hint}"))
    })
}

/// A request's route as the configuration would have it.
fn route_of(add: &AddRoute) -> Result<RouteConfig, ErrorBody> {
    let to = config::prefix("to", &add.to).map_err(|problem| ErrorBody::usage(problem.to_string()))?;
    let via = add.via.iter().map(|&protocol::Hop { to, weight }| Via { to, weight }).collect();
    let kind = match add.kind {
        Some(RouteType::Blackhole) => RouteKind::Blackhole,
        Some(RouteType::Unreachable) => RouteKind::Unreachable,
        Some(RouteType::Prohibit) => RouteKind::Prohibit,
        _ => RouteKind::Unicast,
    };
    let vrf = add.vrf.clone().filter(|vrf| vrf != VRF_DEFAULT);
    Ok(RouteConfig { to, via, kind, interface: add.interface.clone(), vrf })
}

/// Adds a run-time route that keeps all rules.
///
/// # Errors
/// The first broken one, or no room.
pub(super) fn add_checked(routes: &mut Routes, nets: &Nets, route: &RouteConfig) -> Result<(), ErrorBody> {
    if let Err(error) = nets.check_route(route) {
        return Err(ErrorBody::refused(explained(routes, route, error)));
    }
    let vrf = known_vrf(routes, nets, route.vrf())?;
    add_known(routes, vrf, route)
}

/// Adds a route whose next hops are known to be right.
pub(super) fn add_known(routes: &mut Routes, vrf: VrfId, route: &RouteConfig) -> Result<(), ErrorBody> {
    let reloads = routes.origin_added();
    if let Some(spec) = routes.spec(vrf, route.to) {
        // What a reload removes is as good as gone, though its turn may not have come.
        let gone = matches!(spec.origin, Origin::Added(_)) && spec.origin != reloads;
        if !gone {
            return Err(ErrorBody::refused(taken(route.to, &spec.target)));
        }
    }
    let spec = spec_of(route, vrf, reloads);
    routes.put(vrf, route.to, spec).map_err(|error| ErrorBody::refused(format!("{}: {error}", route.object())))
}

fn taken(to: IpNet, target: &Target) -> String {
    match target {
        Target::Connected(name, _) => format!("{to} is the subnet of interface {name} and needs no route"),
        Target::Local(name) => format!("{to} is the switch's own address on {name} and needs no route"),
        Target::Broadcast(name) => format!("{to} is the network or broadcast address of {name} and cannot be routed"),
        _ => format!("{to} has a route already: remove it with del-route first"),
    }
}

/// A refusal, saying which other route leads to a next hop that is on no subnet.
fn explained(routes: &Routes, route: &RouteConfig, error: config::ConfigError) -> String {
    let config::Problem::HopNotConnected { hop, .. } = &*error.problem else { return error.to_string() };
    let by = hop.parse().ok().and_then(|hop| Some(routes.longest(routes.vrf(route.vrf())?, hop)?.0));
    match by.filter(|by| by.prefix_len() > 0) {
        Some(by) => {
            let problem = config::Problem::HopRecursive { hop: hop.clone(), route: by.to_string(), line: 0 };
            format!("{}: {problem}", error.object)
        }
        None => error.to_string(),
    }
}
