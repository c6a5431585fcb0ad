//! Stage 6: packets for the router's MAC address, from validated header to the next hop's MAC address
//! (RFC 1812 section 5.2, RFC 8200).
//!
//! `ipv4` and `ipv6` check and change headers, `hop` finds the way from the routing table to a port, `mss` and
//! `fragment` are for the few packets that need them. Everything that takes longer is left to the host.

pub mod fragment;
mod hop;
pub mod ipv4;
pub mod ipv6;
pub mod mss;
mod redirect;

use arrayvec::ArrayVec;

use super::listen::ETHERTYPE_ARP;
use super::transport::{ETHERTYPE_IPV4, ETHERTYPE_IPV6};
use super::{Aside, Asides, Burst, Complaint, Ctx, Lane, Meta, Verdict, Why};
use crate::ids::{DomainId, Mac, NextHopId, PortId};
use crate::limits::BURST;
use crate::port::Frame;
use crate::stats::Drop;
use crate::table::neighbour::NeighbourKey;
use crate::table::router::{RouterView, VrfView};
use crate::table::snapshot::FloodClass;
use hop::Way;
pub use redirect::Redirects;

/// What becomes of one packet.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    /// Settled: verdict and frame are as they must be.
    Done(Verdict),
    /// Something rarer.
    Aside(Aside),
}

/// A packet whose header was checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet {
    /// Where the IP header starts in the frame.
    pub l3_offset: usize,
    /// Bytes of the packet, header included, without padding.
    pub len: usize,
    /// TTL or hop limit.
    pub ttl: u8,
    /// It may be cut into fragments on the way.
    pub may_fragment: bool,
}

/// Packets of one IP version in a burst: number of the lane, and what is known; their destinations apart, for the
/// lookup.
struct Batch<A> {
    packets: ArrayVec<(u8, Packet), BURST>,
    to: ArrayVec<A, BURST>,
}

impl<A> Batch<A> {
    fn new() -> Batch<A> {
        Batch { packets: ArrayVec::new(), to: ArrayVec::new() }
    }

    /// Takes a packet whose header was checked, or answers why it is dropped.
    #[inline]
    fn take(&mut self, index: usize, checked: Result<(Packet, A), Drop>) -> Verdict {
        match checked {
            Ok((packet, to)) => {
                // A batch has room for a burst.
                let _ = (self.packets.try_push((index as u8, packet)), self.to.try_push(to));
                Verdict::Router
            }
            Err(reason) => Verdict::Drop(reason),
        }
    }
}

/// Decides every lane that is for the router.
pub fn route(ctx: &mut Ctx<'_>, burst: &mut Burst) {
    if burst.for_router == 0 {
        return;
    }
    let (mut v4, mut v6) = (Batch::new(), Batch::new());
    let (frames, lanes, asides) = burst.parts();
    for (index, (frame, lane)) in frames.iter().zip(lanes).enumerate() {
        if lane.verdict != Verdict::Router {
            continue;
        }
        let (head, l3_offset) = (ctx.pool.region().head(frame), lane.meta.l3_offset());
        lane.verdict = match lane.meta.ethertype {
            ETHERTYPE_IPV4 => v4.take(index, ipv4::check(head, l3_offset, frame.len())),
            ETHERTYPE_IPV6 => v6.take(index, ipv6::check(head, l3_offset, frame.len())),
            ETHERTYPE_ARP => aside(asides, Aside::Punt(Why::HeardAlone)),
            _ => Verdict::Drop(Drop::RouterNotIp),
        };
    }
    if !v4.packets.is_empty() {
        route_batch::<V4>(ctx, burst, &v4);
    }
    if !v6.packets.is_empty() {
        route_batch::<V6>(ctx, burst, &v6);
    }
}

/// Routes the packets of one IP version.
fn route_batch<V: Version>(ctx: &mut Ctx<'_>, burst: &mut Burst, batch: &Batch<V::Address>) {
    let found = look_up(ctx, burst, batch, V::look_up);
    let (view, ingress) = (ctx.view, burst.ingress);
    let (frames, lanes, asides) = burst.parts();
    // Packets of one flow come in trains: what was found for one holds for the next.
    let mut last: Option<Last<'_, V::Address>> = None;
    let mut routed = 0;
    for ((&(index, packet), &to), &id) in batch.packets.iter().zip(&batch.to).zip(&found) {
        let index = usize::from(index);
        let (Some(frame), Some(lane)) = (frames.get_mut(index), lanes.get_mut(index)) else { continue };
        let Some(router) = lane.meta.domain.and_then(|domain| view.router(domain)) else {
            lane.verdict = Verdict::Drop(Drop::RxPortDown);
            continue;
        };
        let outcome = match known::<V>(ctx, frame, router, (to, id), packet.l3_offset, &mut last) {
            Ok(known) => forward::<V>(ctx, frame, &mut lane.meta, router, packet, &known),
            Err(outcome) => outcome,
        };
        lane.verdict = match outcome {
            Outcome::Done(verdict) => {
                routed += u64::from(!matches!(verdict, Verdict::Drop(_)));
                verdict
            }
            Outcome::Aside(what) => {
                routed += u64::from(matches!(what, Aside::Fragment(_)));
                aside(asides, what)
            }
        };
    }
    ctx.stats.port(ingress).routed.add(routed);
}

fn aside(asides: &mut Asides, what: Aside) -> Verdict {
    let number = asides.len() as u16;
    // As many asides as lanes.
    let _ = asides.try_push(what);
    Verdict::Aside(number)
}

/// Looks all destinations up, those of one VRF together.
#[inline(never)]
fn look_up<A: Copy>(
    ctx: &Ctx<'_>,
    burst: &mut Burst,
    batch: &Batch<A>,
    lookup: impl Fn(&VrfView, &[A], &mut [NextHopId]),
) -> [NextHopId; BURST] {
    let mut found = [NextHopId::NONE; BURST];
    let lanes = burst.lanes();
    let domain = |index: u8| lanes.get(usize::from(index)).and_then(|lane: &Lane| lane.meta.domain);
    let mut start = 0;
    while let Some(&(first, _)) = batch.packets.get(start) {
        // All packets of an access port are of one domain; those of a trunk go domain by domain.
        let here = domain(first);
        let rest = batch.packets.get(start..).unwrap_or_default();
        let same = rest.iter().take_while(|(index, _)| domain(*index) == here).count();
        let vrf = here.and_then(|domain| ctx.view.router(domain)).and_then(|router| ctx.view.vrf(router.vrf));
        let range = start..start + same;
        if let (Some(vrf), Some(to), Some(found)) = (vrf, batch.to.get(range.clone()), found.get_mut(range)) {
            lookup(vrf, to, found);
        }
        start += same;
    }
    found
}

/// What differs between the IP versions once the header was checked.
trait Version {
    /// A destination as the routing table knows it.
    type Address: Copy + Eq;
    /// Looks routes up.
    fn look_up(vrf: &VrfView, to: &[Self::Address], found: &mut [NextHopId]);
    /// The neighbour with this address.
    fn key(domain: DomainId, address: Self::Address) -> NeighbourKey;
    /// True for a destination that is never forwarded to: it is this interface's, or nobody's (RFC 4291 2.5.6, 2.7).
    fn stays_here(to: Self::Address) -> bool;
    /// True for an address of the interface, or a group that it listens to.
    fn owns(router: &RouterView, address: Self::Address) -> bool;
    /// Counts the TTL down, with what depends on it.
    fn decrement(head: &mut [u8], l3_offset: usize);
    /// A number that is the same for all packets of a flow.
    fn flow_hash(head: &[u8], l3_offset: usize) -> u32;
    /// A source address that must not leave its link.
    fn source_is_scoped(head: &[u8], l3_offset: usize) -> bool;
    /// Source and destination.
    fn addresses(head: &[u8], l3_offset: usize) -> Option<(Self::Address, Self::Address)>;
}

struct V4;
struct V6;

impl Version for V4 {
    type Address = u32;

    fn look_up(vrf: &VrfView, to: &[u32], found: &mut [NextHopId]) {
        vrf.ipv4.lookup_batch(to, found);
    }

    #[inline]
    fn key(domain: DomainId, address: u32) -> NeighbourKey {
        NeighbourKey::v4(domain, address)
    }

    fn stays_here(_to: u32) -> bool {
        // 169.254/16 and groups are martians.
        false
    }

    fn owns(router: &RouterView, address: u32) -> bool {
        router.has_ipv4(address)
    }

    #[inline]
    fn decrement(head: &mut [u8], l3_offset: usize) {
        ipv4::decrement(head, l3_offset);
    }

    fn flow_hash(head: &[u8], l3_offset: usize) -> u32 {
        ipv4::flow_hash(head, l3_offset)
    }

    fn source_is_scoped(_head: &[u8], _l3_offset: usize) -> bool {
        false
    }

    fn addresses(head: &[u8], l3_offset: usize) -> Option<(u32, u32)> {
        let (words, _) = head.get(l3_offset + 12..)?.first_chunk::<8>()?.as_chunks();
        let &[from, to] = words else { return None };
        Some((u32::from_be_bytes(from), u32::from_be_bytes(to)))
    }
}

impl Version for V6 {
    type Address = u128;

    fn look_up(vrf: &VrfView, to: &[u128], found: &mut [NextHopId]) {
        vrf.ipv6.lookup_batch(to, found);
    }

    #[inline]
    fn key(domain: DomainId, address: u128) -> NeighbourKey {
        NeighbourKey::v6(domain, address)
    }

    fn stays_here(to: u128) -> bool {
        ipv6::is_link_local(to) || ipv6::is_multicast(to)
    }

    fn owns(router: &RouterView, address: u128) -> bool {
        router.has_ipv6(address) || router.listens_to(address)
    }

    #[inline]
    fn decrement(head: &mut [u8], l3_offset: usize) {
        ipv6::decrement(head, l3_offset);
    }

    fn flow_hash(head: &[u8], l3_offset: usize) -> u32 {
        ipv6::flow_hash(head, l3_offset)
    }

    #[inline]
    fn source_is_scoped(head: &[u8], l3_offset: usize) -> bool {
        ipv6::source_is_link_local(head, l3_offset)
    }

    fn addresses(head: &[u8], l3_offset: usize) -> Option<(u128, u128)> {
        let (words, _) = head.get(l3_offset + 8..)?.first_chunk::<32>()?.as_chunks();
        let &[from, to] = words else { return None };
        Some((u128::from_be_bytes(from), u128::from_be_bytes(to)))
    }
}

/// Where packets to one destination go.
#[derive(Clone, Copy)]
struct Known<'v> {
    way: Way,
    /// Port behind which the next hop is, if known.
    port: Option<PortId>,
    egress: &'v RouterView,
    /// Largest packet that may go there.
    mtu: u32,
}

/// The last destination, and the interface that the packet came in by.
struct Last<'v, A> {
    to: A,
    router: &'v RouterView,
    known: Known<'v>,
}

/// Finds where a packet goes, or what becomes of it instead.
#[inline]
fn known<'v, V: Version>(
    ctx: &mut Ctx<'v>,
    frame: &Frame,
    router: &'v RouterView,
    (to, id): (V::Address, NextHopId),
    l3_offset: usize,
    last: &mut Option<Last<'v, V::Address>>,
) -> Result<Known<'v>, Outcome> {
    if let Some(last) = last
        && last.to == to
        && std::ptr::eq(last.router, router)
    {
        return Ok(last.known);
    }
    if V::stays_here(to) {
        let own = V::owns(router, to);
        return Err(if own { punt(Why::Local) } else { Outcome::Done(Verdict::Drop(Drop::IpMartian)) });
    }
    let flow = || V::flow_hash(ctx.pool.region().head(frame), l3_offset);
    let (way, by_flow) = hop::find(ctx, id, |domain| V::key(domain, to), flow)?;
    if let Some(slot) = way.tell_use {
        hop::tell_use(ctx, slot);
    }
    let Some(egress) = ctx.view.router(way.domain) else { return Err(complain(Complaint::NoRoute)) };
    let port = way.mac.and_then(|mac| hop::port(ctx, way.domain, mac));
    let known = Known { way, port, egress, mtu: hop::mtu(ctx, egress, port) };
    *last = (!by_flow).then_some(Last { to, router, known });
    Ok(known)
}

const fn punt(why: Why) -> Outcome {
    Outcome::Aside(Aside::Punt(why))
}

const fn complain(what: Complaint) -> Outcome {
    punt(Why::Complain(what))
}

/// Sends a packet the way that was found for it. Packets to the router itself have left before: it takes them
/// whatever their TTL (RFC 1812 4.2.2.9).
#[inline]
fn forward<V: Version>(
    ctx: &mut Ctx<'_>,
    frame: &mut Frame,
    meta: &mut Meta,
    router: &RouterView,
    packet: Packet,
    &Known { way, port, egress, mtu }: &Known<'_>,
) -> Outcome {
    let l3_offset = packet.l3_offset;
    if packet.ttl <= 1 {
        return complain(Complaint::TtlExceeded);
    }
    // A link-local source stays on its link (RFC 4291 2.5.6), but may go back there.
    if V::source_is_scoped(ctx.pool.region().head(frame), l3_offset) && Some(way.domain) != meta.domain {
        return complain(Complaint::BeyondScope);
    }
    if packet.len > mtu as usize && !packet.may_fragment {
        return complain(Complaint::TooBig(mtu));
    }
    if Some(way.domain) == meta.domain && router.flags.redirects && redirect::may_be_reached(ctx, port) {
        redirect::redirect::<V>(ctx, frame, router, l3_offset, &way);
    }
    if router.flags.clamp_mss || egress.flags.clamp_mss {
        mss::clamp(ctx, frame, meta, packet, mtu.min(router.mtu));
    }
    let stays = l3_offset + packet.len;
    let head = ctx.pool.region().head_mut(frame);
    V::decrement(head, l3_offset);
    address(head, way.mac.unwrap_or(Mac::ZERO), egress.mac);
    if frame.len() > stays {
        // Padding of a short frame is the link's business, not the packet's (RFC 1812 5.2.2).
        ctx.pool.truncate(frame, stays);
    }
    let Some(mac) = way.mac else { return punt(Why::Resolve(way.key)) };
    meta.dst = mac;
    meta.src = egress.mac;
    meta.domain = Some(way.domain);
    meta.routed = true;
    if packet.len > mtu as usize {
        return Outcome::Aside(Aside::Fragment(mtu));
    }
    Outcome::Done(port.map_or(Verdict::Flood(FloodClass::UnknownUnicast), Verdict::Routed))
}

/// Writes both MAC addresses.
#[inline]
fn address(head: &mut [u8], dst: Mac, src: Mac) {
    if let Some(addresses) = head.first_chunk_mut::<12>() {
        addresses[..6].copy_from_slice(&dst.octets());
        addresses[6..].copy_from_slice(&src.octets());
    }
}
