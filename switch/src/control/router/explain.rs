//! Where packets to an address go, and why: `route-get`. Control thread.

use std::net::IpAddr;

use ctl::protocol::{Done, ErrorBody, Flow, Item, RouteAnswer, RouteGet, RouteNeighbour};

use super::super::Control;
use super::super::server::Reply;
use super::MTU_DEFAULT;
use super::commands::known_vrf;
use super::list::{ctl_mac, neigh_state, port_of, route_entry};
use super::next_hops::Target;
use super::routes::{Listed, Routes, lock};
use crate::config::VRF_DEFAULT;
use crate::ids::VrfId;
use crate::path::route::{ipv4, ipv6};
use crate::path::transport::{ICMP, ICMPV6};
use crate::table::neighbour::NeighbourKey;

impl Control {
    pub(in super::super) fn route_get(&self, get: &RouteGet) -> Result<Reply, ErrorBody> {
        let routes = lock(&self.router.routes);
        let name = get.vrf.as_deref().unwrap_or(VRF_DEFAULT);
        let vrf = known_vrf(&routes, &self.router.nets, name)?;
        let mut answer =
            RouteAnswer { to: get.to, vrf: name.to_string(), route: None, neighbours: Vec::new(), notes: Vec::new() };
        if let Some(why) = never(get.to) {
            answer.notes.push(format!("{} is {why}: packets to it are never forwarded", get.to));
        } else if let Some((to, hop)) = routes.longest(vrf, get.to) {
            let listed = Listed { to, hop, active: true };
            answer.route = route_entry(&routes, vrf, listed);
            self.explain_hops(&routes, get, listed, &mut answer);
        } else {
            answer.notes.push(format!("no route in VRF {name} leads to {}", get.to));
        }
        if answer.route.is_none() && never(get.to).is_none() {
            near_misses(&routes, vrf, get.to, &mut answer.notes);
        }
        Ok(Reply::Done(vec![Item::RouteAnswer(Box::new(answer))], Done::default()))
    }

    fn explain_hops(&self, routes: &Routes, get: &RouteGet, listed: Listed, answer: &mut RouteAnswer) {
        let Some(spec) = routes.hops.spec(listed.hop) else { return };
        let keys = match &spec.target {
            Target::Connected(_, domain) => vec![NeighbourKey::new(*domain, get.to)],
            Target::Via { .. } => routes.hops.keys(listed.hop).iter().flatten().copied().collect(),
            Target::Local(name) => {
                answer.notes.push(format!("{} is the switch's own address on {name}", get.to));
                Vec::new()
            }
            Target::Broadcast(name) => {
                let to = get.to;
                answer.notes.push(format!("{to} is the network or broadcast address of {name}: packets are dropped"));
                Vec::new()
            }
            Target::Blackhole => vec![],
            Target::Unreachable | Target::Prohibited => vec![],
        };
        if keys.is_empty() && matches!(spec.target, Target::Via { .. }) {
            answer.notes.push("none of its next hops can be reached: packets are dropped".to_string());
        }
        let chosen = match (get.from, keys.as_slice()) {
            (_, [only]) => Some(*only),
            (Some(from), _) => routes.hops.member(listed.hop, flow_hash(from, get.to, get.flow)),
            (None, _) => None,
        };
        if chosen.is_none() && keys.len() > 1 {
            answer.notes.push("each flow takes one of the next hops: --from says which one of a flow".to_string());
        }
        let names = self.names();
        for key in keys {
            let row = self.router.host.lock().neighbour(key);
            let mac = row.as_ref().and_then(|row| row.mac);
            let port = mac.and_then(|mac| port_of(self.shared.fdb(), &names, key.domain(), mac));
            let iface = routes.interfaces.on(key.domain());
            let mtu = iface.map_or(MTU_DEFAULT, |iface| iface.mtu);
            let slot = port.as_deref().and_then(|port| self.ports.by_name(port)).and_then(|slot| slot.attached());
            answer.neighbours.push(RouteNeighbour {
                address: key.address(),
                interface: iface.map_or_else(String::new, |iface| iface.name.to_string()),
                mac: mac.map(ctl_mac),
                state: row.map(|row| neigh_state(row.state)),
                port,
                mtu: slot.map_or(mtu, |attached| mtu.min(attached.link.mtu)),
                chosen: chosen == Some(key),
            });
        }
    }
}

/// What comes nearest to a route.
fn near_misses(routes: &Routes, vrf: VrfId, to: IpAddr, notes: &mut Vec<String>) {
    if let Some((prefix, _)) = routes.longest_idle(vrf, to) {
        notes
            .push(format!("{prefix} would, but none of its next hops can be reached: their interface is gone or down"));
    }
    match routes.nearest(vrf, to) {
        Some(prefix) => notes.push(format!("the route that comes nearest is {prefix}")),
        None => {
            let version = if to.is_ipv4() { "IPv4" } else { "IPv6" };
            notes.push(format!("there are no {version} routes in that VRF"));
        }
    }
}

/// Destinations that a router does not forward to.
fn never(to: IpAddr) -> Option<&'static str> {
    match to {
        to if to.is_unspecified() => Some("the unspecified address"),
        to if to.is_loopback() => Some("a loopback address"),
        to if to.is_multicast() => Some("a multicast address"),
        IpAddr::V4(to) if ipv4::is_martian_destination(to.to_bits()) => Some("reserved or link-local"),
        IpAddr::V6(to) if to.is_unicast_link_local() => Some("link-local"),
        _ => None,
    }
}

/// The hash that the packet path computes for a flow: of a header made for it.
fn flow_hash(from: IpAddr, to: IpAddr, flow: Option<Flow>) -> u32 {
    // What a flow is taken to have if nothing is said of it; it has no ports.
    let icmp = if to.is_ipv4() { ICMP } else { ICMPV6 };
    let flow = flow.unwrap_or(Flow { protocol: icmp, sport: 0, dport: 0 });
    let mut packet = Vec::new();
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            packet.extend([0x45, 0, 0, 24, 0, 0, 0, 0, 64, flow.protocol, 0, 0]);
            packet.extend(from.octets());
            packet.extend(to.octets());
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            packet.extend([0x60, 0, 0, 0, 0, 4, flow.protocol, 64]);
            packet.extend(from.octets());
            packet.extend(to.octets());
        }
        _ => return 0,
    }
    packet.extend(flow.sport.to_be_bytes());
    packet.extend(flow.dport.to_be_bytes());
    if to.is_ipv4() { ipv4::flow_hash(&packet, 0) } else { ipv6::flow_hash(&packet, 0) }
}
