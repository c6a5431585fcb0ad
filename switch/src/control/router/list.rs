//! Routes and neighbours listed bit by bit, so that packets and other clients do not notice. Control thread.

use std::sync::Arc;

use ctl::protocol::{
    Done, ErrorBody, Item, NeighEntry, NeighFilter, NeighState, RouteEntry, RouteFilter, RouteHop, RouteOrigin,
    RouteType,
};
use ipnet::IpNet;

use super::super::Control;
use super::super::dump::Names;
use super::super::server::{ChunkContext, Progress, Reply, ResponseStream};
use super::commands::known_vrf;
use super::next_hops::{Origin, Target};
use super::routes::{Cursor, Listed, Routes, SharedRoutes, lock};
use crate::config;
use crate::host::{Conflict, SharedHost, State};
use crate::ids::{DomainId, Mac, VrfId};
use crate::table::fdb::{Fdb, Kind, MacKey};
use crate::table::neighbour::NeighbourKey;

/// Routes, and neighbours, looked at by one call, whether they are meant or not.
const SLICE: usize = 4_096;

impl Control {
    pub(in super::super) fn show_routes(&self, filter: &RouteFilter) -> Result<Reply, ErrorBody> {
        let within = filter.prefix.as_deref().map(|text| config::prefix("prefix", text)).transpose();
        let within = within.map_err(|problem| ErrorBody::usage(problem.to_string()))?;
        let routes = lock(&self.router.routes);
        let vrf = filter.vrf.as_deref().map(|name| known_vrf(&routes, &self.router.nets, name)).transpose()?;
        drop(routes);
        let routes = Arc::clone(&self.router.routes);
        let stream = RouteStream { routes, filter: filter.clone(), vrf, within, cursor: Cursor::default() };
        Ok(Reply::Stream(Box::new(stream)))
    }

    pub(in super::super) fn show_neigh(&self, filter: &NeighFilter) -> Result<Reply, ErrorBody> {
        let domain = filter.bridge.as_deref().map(|bridge| self.known_interface(bridge)).transpose()?;
        let stream = NeighStream {
            host: Arc::clone(&self.router.host),
            routes: Arc::clone(&self.router.routes),
            fdb: self.shared.fdb_arc(),
            names: self.names(),
            domain,
            state: filter.state,
            after: None,
        };
        Ok(Reply::Stream(Box::new(stream)))
    }
}

/// A route as clients see it; `None` for one that is about to go.
pub(super) fn route_entry(routes: &Routes, vrf: VrfId, listed: Listed) -> Option<RouteEntry> {
    let spec = routes.hops.spec(listed.hop)?;
    let origin = match spec.origin {
        Origin::Kernel => RouteOrigin::Kernel,
        Origin::File => RouteOrigin::Static,
        Origin::Added(_) if spec.origin == routes.origin_added() => RouteOrigin::Runtime,
        Origin::Added(_) => return None,
    };
    let interface = |name: &Arc<str>| Some(name.to_string());
    let (kind, interface) = match &spec.target {
        Target::Local(name) => (RouteType::Local, interface(name)),
        Target::Connected(name, _) => (RouteType::Connected, interface(name)),
        Target::Broadcast(name) => (RouteType::Broadcast, interface(name)),
        Target::Blackhole => (RouteType::Blackhole, None),
        Target::Unreachable => (RouteType::Unreachable, None),
        Target::Prohibited => (RouteType::Prohibit, None),
        Target::Via { .. } => (RouteType::Unicast, None),
    };
    let next_hops = if let Target::Via { vrf, hops, interface } = &spec.target {
        let keys = routes.hops.keys(listed.hop);
        let hop = |(hop, key): (&config::Via, &Option<NeighbourKey>)| {
            let there = routes.interfaces.towards(*vrf, hop.to, interface.as_deref());
            let name = there.map(|iface| iface.name.to_string()).or_else(|| interface.as_deref().map(str::to_string));
            RouteHop { via: hop.to, interface: name, weight: hop.weight, active: key.is_some() }
        };
        hops.iter().zip(keys).map(hop).collect()
    } else {
        Vec::new()
    };
    let active = routes.hops.is_active(listed.hop);
    let vrf = routes.vrf_name(vrf).to_string();
    Some(RouteEntry { prefix: listed.to, vrf, kind, origin, interface, next_hops, active })
}

/// The routes that a filter lets through.
struct RouteStream {
    routes: SharedRoutes,
    filter: RouteFilter,
    vrf: Option<VrfId>,
    within: Option<IpNet>,
    cursor: Cursor,
}

impl RouteStream {
    fn is_meant(&self, routes: &Routes, vrf: VrfId, listed: &Listed) -> bool {
        let family = if listed.to.addr().is_ipv4() { 4 } else { 6 };
        self.vrf.is_none_or(|only| only == vrf)
            && self.filter.family.is_none_or(|only| only == family)
            && self.within.is_none_or(|within| within.contains(&listed.to))
            && self.filter.via.is_none_or(|via| match routes.hops.spec(listed.hop).map(|spec| &spec.target) {
                Some(Target::Via { hops, .. }) => hops.iter().any(|hop| hop.to == via),
                _ => false,
            })
    }
}

impl ResponseStream for RouteStream {
    fn next_chunk(&mut self, out: &mut Vec<Item>, context: &ChunkContext) -> Progress {
        let routes = lock(&self.routes);
        let mut looked_at = 0;
        while looked_at < SLICE && out.len() < context.items_max {
            let mut cursor = self.cursor;
            let Some((vrf, listed)) = routes.list(&mut cursor, context.items_max - out.len()) else {
                return Progress::Done(Done::default());
            };
            self.cursor = cursor;
            looked_at += listed.len();
            let meant = listed.into_iter().filter(|listed| self.is_meant(&routes, vrf, listed));
            let entries = meant.filter_map(|listed| route_entry(&routes, vrf, listed));
            out.extend(entries.filter(|entry| self.filter.kind.is_none_or(|kind| kind == entry.kind)).map(Item::Route));
        }
        Progress::More
    }
}

/// The neighbours that a filter lets through.
struct NeighStream {
    host: SharedHost,
    routes: SharedRoutes,
    fdb: Arc<Fdb>,
    names: Names,
    domain: Option<DomainId>,
    state: Option<NeighState>,
    after: Option<NeighbourKey>,
}

impl ResponseStream for NeighStream {
    fn next_chunk(&mut self, out: &mut Vec<Item>, context: &ChunkContext) -> Progress {
        let rows = self.host.lock().neighbours(self.after, context.items_max);
        let Some(last) = rows.last() else {
            return Progress::Done(Done { notes: self.conflicts(), ..Done::default() });
        };
        self.after = Some(last.key);
        let routes = lock(&self.routes);
        for row in rows {
            let (domain, state) = (row.key.domain(), neigh_state(row.state));
            let meant = self.domain.is_none_or(|only| only == domain) && self.state.is_none_or(|only| only == state);
            let Some(iface) = routes.interfaces.on(domain).filter(|_| meant) else { continue };
            out.push(Item::Neigh(NeighEntry {
                address: row.key.address(),
                bridge: iface.name.to_string(),
                mac: row.mac.map(ctl_mac),
                port: row.mac.and_then(|mac| port_of(&self.fdb, &self.names, domain, mac)),
                state,
                age_seconds: row.since_ns / 1_000_000_000,
            }));
        }
        Progress::More
    }
}

impl NeighStream {
    /// A line for each of the switch's own addresses that somebody else claims.
    fn conflicts(&self) -> Vec<String> {
        let (conflicts, now_ns) = {
            let host = self.host.lock();
            (host.conflicts(), host.now_ns())
        };
        let routes = lock(&self.routes);
        let meant = conflicts.iter().filter(|conflict| self.domain.is_none_or(|only| only == conflict.domain));
        let line = |conflict: &Conflict| {
            let iface = routes.interfaces.on(conflict.domain)?;
            let Conflict { address, other, count, .. } = conflict;
            let ago_s = now_ns.saturating_sub(conflict.last_ns) / 1_000_000_000;
            let place = self.fdb_port(conflict);
            Some(format!(
                "{other}{place} claims the switch's address {address} on {}: {count} times, last {ago_s} s ago; \
                 take the address away there",
                iface.name
            ))
        };
        meant.filter_map(line).collect()
    }

    /// Where the other owner of an address is: ` on port web0`, if that is known.
    fn fdb_port(&self, conflict: &Conflict) -> String {
        let port = port_of(&self.fdb, &self.names, conflict.domain, conflict.other);
        port.map_or_else(String::new, |port| format!(" on port {port}"))
    }
}

/// The name of the port that a station is behind.
pub(super) fn port_of(fdb: &Fdb, names: &Names, domain: DomainId, mac: Mac) -> Option<String> {
    let hit = fdb.lookup(MacKey::new(domain, mac)).filter(|hit| hit.kind != Kind::Local)?;
    names.port(hit.port).map(|port| port.interface.clone())
}

pub(super) fn ctl_mac(mac: Mac) -> ctl::mac::Mac {
    ctl::mac::Mac(mac.octets())
}

pub(super) fn neigh_state(state: State) -> NeighState {
    match state {
        State::Incomplete => NeighState::Incomplete,
        State::Reachable => NeighState::Reachable,
        State::Stale => NeighState::Stale,
        State::Delay => NeighState::Delay,
        State::Probe => NeighState::Probe,
        State::Failed => NeighState::Failed,
        State::Permanent => NeighState::Permanent,
    }
}
