//! From a route to a port: next hop, neighbour, forwarding database.

use super::{Outcome, complain, punt};
use crate::ids::{DomainId, Mac, NextHopId, PortId};
use crate::limits::ETHERNET_HEADER;
use crate::path::{Complaint, Ctx, Verdict, Why};
use crate::stats::Drop;
use crate::table::fdb::{Kind, MacKey};
use crate::table::neighbour::{NeighbourKey, NeighbourSlot, Resolved};
use crate::table::next_hop::NextHop;
use crate::table::router::RouterView;

/// Where a packet goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    /// Bridge domain that it leaves by.
    pub domain: DomainId,
    /// The next hop's name.
    pub key: NeighbourKey,
    /// Its MAC address, if known.
    pub mac: Option<Mac>,
    /// The neighbour, if whoever uses it is to say so.
    pub tell_use: Option<NeighbourSlot>,
}

/// Follows a route to the neighbour. `key` names the destination as a neighbour on a domain; `flow` is asked where
/// there is a choice: then the second answer is true, and another flow may go another way.
#[inline]
pub(super) fn find(
    ctx: &Ctx<'_>,
    id: NextHopId,
    key: impl Fn(DomainId) -> NeighbourKey,
    flow: impl Fn() -> u32,
) -> Result<(Way, bool), Outcome> {
    let mut hop = ctx.router.next_hops.get(id);
    let mut by_flow = false;
    if let Some(NextHop::Group(group)) = hop {
        hop = ctx.router.next_hops.member(group, flow());
        by_flow = true;
    }
    let way = match hop {
        Some(NextHop::Connected(domain)) => {
            let key = key(domain);
            match ctx.router.neighbours.find(key) {
                Some((slot, found)) => way(key, slot, found),
                None => Way { domain, key, mac: None, tell_use: None },
            }
        }
        Some(NextHop::Gateway(slot)) => gateway(ctx, slot)?,
        other => return Err(stop(other)),
    };
    Ok((way, by_flow))
}

#[inline]
fn gateway(ctx: &Ctx<'_>, slot: NeighbourSlot) -> Result<Way, Outcome> {
    let key = ctx.router.neighbours.key(slot).ok_or(complain(Complaint::NoRoute))?;
    match ctx.router.neighbours.at(slot) {
        Some(found) => Ok(way(key, slot, found)),
        None => Ok(Way { domain: key.domain(), key, mac: None, tell_use: None }),
    }
}

#[inline]
fn way(key: NeighbourKey, slot: NeighbourSlot, found: Resolved) -> Way {
    Way { domain: found.domain, key, mac: Some(found.mac), tell_use: found.tell_use.then_some(slot) }
}

/// Tells the host that a neighbour is used, and has it woken: it may sleep for long.
#[inline(never)]
pub(super) fn tell_use(ctx: &mut Ctx<'_>, slot: NeighbourSlot) {
    if ctx.router.neighbours.note_use(slot) {
        ctx.host.used(slot);
        *ctx.punted = true;
    }
}

/// What a route says that leads nowhere.
#[inline(never)]
fn stop(hop: Option<NextHop>) -> Outcome {
    match hop {
        Some(NextHop::Local) => punt(Why::Local),
        Some(NextHop::Broadcast) => Outcome::Done(Verdict::Drop(Drop::IpBroadcast)),
        Some(NextHop::Blackhole) => Outcome::Done(Verdict::Drop(Drop::RouteBlackhole)),
        Some(NextHop::Unreachable) => complain(Complaint::Unreachable),
        Some(NextHop::Prohibited) => complain(Complaint::Prohibited),
        _ => complain(Complaint::NoRoute),
    }
}

/// The port behind which a station is, if that is known.
#[inline]
pub(super) fn port(ctx: &Ctx<'_>, domain: DomainId, mac: Mac) -> Option<PortId> {
    let age_max_s = ctx.view.domain(domain)?.ageing_s;
    let key = MacKey::new(domain, mac);
    if let Some(port) = ctx.fdb.port_of_dynamic(key, ctx.fdb.home(key), ctx.now_s, age_max_s) {
        return Some(port);
    }
    let hit = ctx.fdb.lookup(key)?;
    match hit.kind {
        Kind::Local => None,
        Kind::Dynamic if ctx.now_s.saturating_sub(hit.stamp_s) > age_max_s => None,
        _ => Some(hit.port),
    }
}

/// Largest packet that may leave by this interface, and port if that is known.
#[inline]
pub(super) fn mtu(ctx: &Ctx<'_>, egress: &RouterView, port: Option<PortId>) -> u32 {
    let port = port.and_then(|port| ctx.view.port(port));
    port.map_or(egress.mtu, |port| egress.mtu.min((port.untagged_len_max - ETHERNET_HEADER) as u32))
}
