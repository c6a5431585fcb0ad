//! Stage 5: which group frames does the switch as a host want to see, too? ARP, neighbour discovery and DHCP, on
//! domains that the router has an interface on.
//!
//! A frame is heard beside being flooded, or, where a known neighbour is asked for and the domain suppresses
//! that, answered instead. What nobody here asked for is not taken, so that other hosts' noise costs little.

use super::transport::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, ICMPV6, UDP};
use super::{Aside, Burst, Ctx, Meta, Verdict, Why};
use crate::ids::DomainId;
use crate::table::neighbour::NeighbourKey;
use crate::table::router::RouterView;

/// EtherType of ARP (RFC 826).
pub const ETHERTYPE_ARP: u16 = 0x0806;

/// Bytes of an ARP packet for IPv4 over Ethernet.
pub const ARP_LEN: usize = 28;

const DHCP_SERVER_PORT: u16 = 67;

const ECHO_REQUEST: u8 = 128;
const ROUTER_SOLICITATION: u8 = 133;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;

/// What the host has to do with a group frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Interest {
    Not,
    Hear,
    Answer,
}

/// Marks flooded lanes that the host wants, and takes those that it answers for others.
pub fn listen(ctx: &mut Ctx<'_>, burst: &mut Burst) {
    if burst.for_router == 0 {
        return;
    }
    let (view, pool) = (ctx.view, &*ctx.pool);
    let (frames, lanes, asides) = burst.parts();
    for (frame, lane) in frames.iter().zip(lanes) {
        let (Verdict::Flood(_), true, Some(domain)) = (lane.verdict, lane.meta.dst.is_group(), lane.meta.domain) else {
            continue;
        };
        let Some(router) = view.router(domain) else { continue };
        match interest(ctx, pool.region().head(frame), &lane.meta, domain, router) {
            Interest::Not => {}
            Interest::Hear => lane.meta.heard = true,
            Interest::Answer => {
                lane.verdict = Verdict::Aside(asides.len() as u16);
                // As many asides as lanes.
                let _ = asides.try_push(Aside::Punt(Why::Suppress));
            }
        }
    }
}

#[inline(never)]
fn interest(ctx: &Ctx<'_>, head: &[u8], meta: &Meta, domain: DomainId, router: &RouterView) -> Interest {
    let Some(packet) = head.get(meta.l3_offset()..) else { return Interest::Not };
    let found = match meta.ethertype {
        ETHERTYPE_ARP => arp(ctx, packet, domain, router),
        ETHERTYPE_IPV4 if router.flags.dhcp => dhcp(packet),
        ETHERTYPE_IPV6 => icmpv6(ctx, packet, domain, router),
        _ => None,
    };
    found.unwrap_or(Interest::Not)
}

fn arp(ctx: &Ctx<'_>, packet: &[u8], domain: DomainId, router: &RouterView) -> Option<Interest> {
    let packet: &[u8; ARP_LEN] = packet.first_chunk()?;
    let sender = u32::from_be_bytes(*packet.get(14..)?.first_chunk()?);
    let target = u32::from_be_bytes(*packet.get(24..)?.first_chunk()?);
    let is_request = packet.get(6..8) == Some(&[0, 1]);
    if router.has_ipv4(target) || router.has_ipv4(sender) {
        return Some(Interest::Hear);
    }
    // A probe for the address (RFC 5227) or an announcement of it must reach its owner and everybody.
    let asks = is_request && sender != 0 && sender != target;
    let known = |address| ctx.router.neighbours.find(NeighbourKey::v4(domain, address));
    if asks && router.flags.suppress && known(target).is_some() {
        return Some(Interest::Answer);
    }
    let news = known(sender).is_some_and(|(_, found)| packet.get(8..14) != Some(&found.mac.octets()));
    let useful = router.flags.suppress && sender != 0 && known(sender).is_none();
    Some(if news || useful || (asks && router.flags.proxy) { Interest::Hear } else { Interest::Not })
}

/// A message to the DHCP server's port.
fn dhcp(packet: &[u8]) -> Option<Interest> {
    let header = usize::from(packet.first()? & 0xf) * 4;
    if *packet.get(9)? != UDP {
        return None;
    }
    let port = u16::from_be_bytes(*packet.get(header + 2..)?.first_chunk()?);
    (port == DHCP_SERVER_PORT).then_some(Interest::Hear)
}

fn icmpv6(ctx: &Ctx<'_>, packet: &[u8], domain: DomainId, router: &RouterView) -> Option<Interest> {
    if *packet.get(6)? != ICMPV6 || router.ipv6.is_empty() {
        return None;
    }
    let address = |at: usize| Some(u128::from_be_bytes(*packet.get(at..)?.first_chunk()?));
    let known = |address| ctx.router.neighbours.find(NeighbourKey::v6(domain, address));
    let hear = match *packet.get(40)? {
        ROUTER_SOLICITATION | ECHO_REQUEST => true,
        NEIGHBOUR_SOLICITATION => {
            let (source, target) = (address(8)?, address(48)?);
            if router.has_ipv6(target) {
                return Some(Interest::Hear);
            }
            // Without a source it is duplicate address detection, which the owner must see.
            if source != 0 && router.flags.suppress && known(target).is_some() {
                return Some(Interest::Answer);
            }
            (source != 0 && router.flags.proxy) || (router.flags.suppress && source != 0 && known(source).is_none())
        }
        NEIGHBOUR_ADVERTISEMENT => router.has_ipv6(address(48)?) || known(address(48)?).is_some(),
        _ => false,
    };
    hear.then_some(Interest::Hear)
}
