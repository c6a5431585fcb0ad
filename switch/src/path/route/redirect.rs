//! Redirects: the sender of a packet that leaves by the interface it came in by is told of the better way, and the
//! packet is forwarded all the same (RFC 1812 5.2.7.2, RFC 4861 8.2).
//!
//! Here is decided whether somebody may be told, and how often the host is bothered with it; the message is the host's.

use std::net::IpAddr;

use super::Version;
use super::hop::Way;
use crate::ids::{DomainId, PortId};
use crate::limits::PORTS_MAX;
use crate::path::{Ctx, Punt, Why, leave};
use crate::port::Frame;
use crate::table::next_hop::NextHop;
use crate::table::router::RouterView;

/// How many redirects a worker may ask for in a second, for packets of one port: enough to tell a few senders, too few
/// to be a load.
const PER_SECOND: u8 = 32;

/// What was asked for lately, for packets of one port.
#[derive(Clone, Copy, Default)]
struct Asked {
    second: u32,
    count: u8,
}

/// A worker's allowance of redirects, for each port one of its own.
pub struct Redirects(Box<[Asked]>);

impl Default for Redirects {
    fn default() -> Self {
        Redirects(vec![Asked::default(); PORTS_MAX].into())
    }
}

impl Redirects {
    /// What is left of a port's allowance.
    fn left(&mut self, port: PortId, now_s: u32) -> Option<&mut Asked> {
        let asked = self.0.get_mut(port.index())?;
        if asked.second != now_s {
            *asked = Asked { second: now_s, count: 0 };
        }
        (asked.count < PER_SECOND).then_some(asked)
    }
}

/// Has the host tell the sender of a packet that goes back where it came from, if he may be told.
#[inline(never)]
pub(super) fn redirect<V: Version>(ctx: &mut Ctx<'_>, frame: &Frame, router: &RouterView, l3_offset: usize, way: &Way) {
    let (port, now_s) = (ctx.ingress, ctx.now_s);
    // Cheapest first: of a stream of packets few are looked at any further.
    if ctx.redirects.left(port, now_s).is_none() || !may_be_told::<V>(ctx, frame, router, l3_offset, way) {
        return;
    }
    let Some(copy) = ctx.pool.copy(frame) else { return };
    let punt = Punt { frame: copy, port, domain: way.domain, why: Why::Redirect(way.key) };
    match leave(ctx, punt) {
        Ok(()) => ctx.redirects.left(port, now_s).into_iter().for_each(|asked| asked.count += 1),
        Err(frame) => ctx.pool.free(frame),
    }
}

/// True if the packet's sender is a neighbour of the better router and not that router itself. The host looks more
/// closely; what matters is that packets of nobody who could be told use up no allowance.
fn may_be_told<V: Version>(ctx: &Ctx<'_>, frame: &Frame, router: &RouterView, l3_offset: usize, way: &Way) -> bool {
    let head = ctx.pool.region().head(frame);
    let Some((from, to)) = V::addresses(head, l3_offset) else { return false };
    let better = V::key(way.domain, from) != way.key;
    // IPv6 hosts believe in routers by their link-local addresses only; the destination itself is as good.
    let named = match way.key.address() {
        IpAddr::V4(_) => true,
        IpAddr::V6(hop) => hop.is_unicast_link_local() || V::key(way.domain, to) == way.key,
    };
    better && named && (V::source_is_scoped(head, l3_offset) || is_on_link::<V>(ctx, router, way.domain, from))
}

/// True if the sender could reach a next hop behind `port` without the router: isolated ports reach each other only by
/// it, so that a redirect would cut them off.
#[inline(never)]
pub(super) fn may_be_reached(ctx: &Ctx<'_>, port: Option<PortId>) -> bool {
    let is_isolated = |port| ctx.view.port(port).is_some_and(|port| port.flags.isolated);
    !is_isolated(ctx.ingress) || port.is_some_and(|port| port == ctx.ingress || !is_isolated(port))
}

/// True for addresses that the router reaches on a domain without another router.
fn is_on_link<V: Version>(ctx: &Ctx<'_>, router: &RouterView, domain: DomainId, address: V::Address) -> bool {
    let Some(vrf) = ctx.view.vrf(router.vrf) else { return false };
    let mut found = [crate::ids::NextHopId::NONE];
    V::look_up(vrf, &[address], &mut found);
    ctx.router.next_hops.get(found[0]) == Some(NextHop::Connected(domain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_port_has_an_allowance_of_its_own_every_second() {
        let mut redirects = Redirects::default();
        let mut take = |port: usize, now_s: u32| {
            let left = redirects.left(PortId::new(port).unwrap(), now_s);
            left.map(|asked| asked.count += 1).is_some()
        };
        assert_eq!((0..100).filter(|_| take(3, 7)).count(), usize::from(PER_SECOND));
        assert_eq!((0..100).filter(|_| take(4, 7)).count(), usize::from(PER_SECOND));
        assert!(!take(3, 7) && take(3, 8));
        assert!(redirects.left(PortId::ROUTER, 8).is_none(), "the switch tells itself nothing");
    }
}
