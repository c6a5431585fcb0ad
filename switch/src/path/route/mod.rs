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

use arrayvec::ArrayVec;

use super::listen::ETHERTYPE_ARP;
use super::transport::{ETHERTYPE_IPV4, ETHERTYPE_IPV6};
use super::{Aside, Burst, Ctx, Lane, Meta, Verdict, Why};
use crate::ids::NextHopId;
use crate::limits::BURST;
use crate::port::Frame;
use crate::stats::Drop;
use crate::table::neighbour::NeighbourKey;
use crate::table::router::{RouterView, VrfView};
use hop::Way;

/// What becomes of one packet, or of its lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Sent on: verdict and frame are as they must be.
    Done(Verdict),
    /// Something rarer.
    Aside(AsideKind),
}

/// An aside before it has its number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AsideKind {
    /// For the host.
    Punt(Why),
    /// To be cut into fragments of at most so many bytes.
    Fragment(u32),
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
            ETHERTYPE_ARP => aside(asides, Aside::Punt(Why::Heard)),
            _ => Verdict::Drop(Drop::RouterNotIp),
        };
    }
    if !v4.packets.is_empty() {
        route_v4(ctx, burst, &v4);
    }
    if !v6.packets.is_empty() {
        route_v6(ctx, burst, &v6);
    }
}

fn route_v4(ctx: &mut Ctx<'_>, burst: &mut Burst, batch: &Batch<u32>) {
    let found = look_up(ctx, burst, batch, |vrf, to, found| vrf.ipv4.lookup_batch(to, found));
    for ((&(index, packet), &to), &id) in batch.packets.iter().zip(&batch.to).zip(&found) {
        settle(ctx, burst, index, id, packet, |domain| NeighbourKey::v4(domain, to), &V4);
    }
}

fn route_v6(ctx: &mut Ctx<'_>, burst: &mut Burst, batch: &Batch<u128>) {
    let found = look_up(ctx, burst, batch, |vrf, to, found| vrf.ipv6.lookup_batch(to, found));
    for ((&(index, packet), &to), &id) in batch.packets.iter().zip(&batch.to).zip(&found) {
        if ipv6::is_link_local(to) {
            link_local(ctx, burst, index, to);
        } else {
            settle(ctx, burst, index, id, packet, |domain| NeighbourKey::v6(domain, to), &V6);
        }
    }
}

fn aside(asides: &mut super::Asides, what: Aside) -> Verdict {
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

/// A packet to a link-local address is for this interface or for nobody: it is never forwarded (RFC 4291 2.5.6).
fn link_local(ctx: &Ctx<'_>, burst: &mut Burst, index: u8, to: u128) {
    let (_, lanes, asides) = burst.parts();
    let Some(lane) = lanes.get_mut(usize::from(index)) else { return };
    let own = lane.meta.domain.and_then(|domain| ctx.view.router(domain)).is_some_and(|router| router.has_ipv6(to));
    lane.verdict = if own { aside(asides, Aside::Punt(Why::Local)) } else { Verdict::Drop(Drop::IpMartian) };
}

/// What differs between the IP versions once the header was checked.
trait Version {
    /// Counts the TTL down, with what depends on it.
    fn decrement(&self, head: &mut [u8], l3_offset: usize);
    /// A number that is the same for all packets of a flow.
    fn flow_hash(&self, head: &[u8], l3_offset: usize) -> u32;
    /// A source address that must not leave its link, or that no error may be sent to.
    fn source_is_scoped(&self, head: &[u8], l3_offset: usize) -> bool;
}

struct V4;
struct V6;

impl Version for V4 {
    fn decrement(&self, head: &mut [u8], l3_offset: usize) {
        ipv4::decrement(head, l3_offset);
    }

    fn flow_hash(&self, head: &[u8], l3_offset: usize) -> u32 {
        ipv4::flow_hash(head, l3_offset)
    }

    fn source_is_scoped(&self, _head: &[u8], _l3_offset: usize) -> bool {
        false
    }
}

impl Version for V6 {
    fn decrement(&self, head: &mut [u8], l3_offset: usize) {
        ipv6::decrement(head, l3_offset);
    }

    fn flow_hash(&self, head: &[u8], l3_offset: usize) -> u32 {
        ipv6::flow_hash(head, l3_offset)
    }

    fn source_is_scoped(&self, head: &[u8], l3_offset: usize) -> bool {
        ipv6::source_is_link_local(head, l3_offset)
    }
}

/// Takes one packet from its route to its verdict.
fn settle(
    ctx: &mut Ctx<'_>,
    burst: &mut Burst,
    index: u8,
    id: NextHopId,
    packet: Packet,
    key: impl Fn(crate::ids::DomainId) -> NeighbourKey,
    version: &impl Version,
) {
    let ingress = burst.ingress;
    let (frames, lanes, asides) = burst.parts();
    let (Some(frame), Some(lane)) = (frames.get_mut(usize::from(index)), lanes.get_mut(usize::from(index))) else {
        return;
    };
    let Some(router) = lane.meta.domain.and_then(|domain| ctx.view.router(domain)) else {
        lane.verdict = Verdict::Drop(Drop::RxPortDown);
        return;
    };
    let outcome = forward(ctx, frame, &mut lane.meta, router, id, packet, key, version);
    lane.verdict = match outcome {
        Outcome::Done(verdict) => {
            if !matches!(verdict, Verdict::Drop(_)) {
                ctx.stats.port(ingress).routed.add(1);
            }
            verdict
        }
        Outcome::Aside(AsideKind::Punt(why)) => aside(asides, Aside::Punt(why)),
        Outcome::Aside(AsideKind::Fragment(mtu)) => {
            ctx.stats.port(ingress).routed.add(1);
            aside(asides, Aside::Fragment(mtu))
        }
    };
}

const fn complain(what: super::Complaint) -> Outcome {
    Outcome::Aside(AsideKind::Punt(Why::Complain(what)))
}

#[allow(clippy::too_many_arguments, reason = "one packet's whole state, in registers")]
#[inline]
fn forward(
    ctx: &mut Ctx<'_>,
    frame: &mut Frame,
    meta: &mut Meta,
    router: &RouterView,
    id: NextHopId,
    packet: Packet,
    key: impl Fn(crate::ids::DomainId) -> NeighbourKey,
    version: &impl Version,
) -> Outcome {
    let l3_offset = packet.l3_offset;
    let flow = || version.flow_hash(ctx.pool.region().head(frame), l3_offset);
    let way = match hop::find(ctx, id, key, flow) {
        Ok(way) => way,
        Err(outcome) => return outcome,
    };
    if let Some(slot) = way.tell_use {
        hop::tell_use(ctx, slot);
    }
    // Local delivery came first: the router takes packets to itself whatever their TTL (RFC 1812 4.2.2.9).
    if packet.ttl <= 1 {
        return complain(super::Complaint::TtlExceeded);
    }
    if version.source_is_scoped(ctx.pool.region().head(frame), l3_offset) {
        return complain(super::Complaint::BeyondScope);
    }
    let Some(egress) = ctx.view.router(way.domain) else { return complain(super::Complaint::NoRoute) };
    let port = way.mac.and_then(|mac| hop::port(ctx, way.domain, mac));
    let mtu = hop::mtu(ctx, egress, port);
    if packet.len > mtu as usize && !packet.may_fragment {
        return complain(super::Complaint::TooBig(mtu));
    }
    if Some(way.domain) == meta.domain && router.flags.redirects && ctx.redirects.take(ctx.now_s) {
        redirect(ctx, frame, meta, &way);
    }
    if router.flags.clamp_mss || egress.flags.clamp_mss {
        mss::clamp(ctx, frame, meta, packet, mtu.min(router.mtu));
    }
    let stays = l3_offset + packet.len;
    let head = ctx.pool.region().head_mut(frame);
    version.decrement(head, l3_offset);
    address(head, way.mac.unwrap_or(crate::ids::Mac::ZERO), egress.mac);
    if frame.len() > stays {
        // Padding of a short frame is the link's business, not the packet's (RFC 1812 5.2.2).
        let excess = frame.len() - stays;
        ctx.pool.region().cut(frame, stays, excess);
    }
    let Some(mac) = way.mac else { return Outcome::Aside(AsideKind::Punt(Why::Resolve(way.key))) };
    meta.dst = mac;
    meta.src = egress.mac;
    meta.domain = Some(way.domain);
    meta.routed = true;
    if packet.len > mtu as usize {
        return Outcome::Aside(AsideKind::Fragment(mtu));
    }
    Outcome::Done(match port {
        Some(port) => Verdict::Routed(port),
        None => Verdict::Flood(crate::table::snapshot::FloodClass::UnknownUnicast),
    })
}

/// Writes both MAC addresses.
#[inline]
fn address(head: &mut [u8], dst: crate::ids::Mac, src: crate::ids::Mac) {
    if let Some(addresses) = head.first_chunk_mut::<12>() {
        addresses[..6].copy_from_slice(&dst.octets());
        addresses[6..].copy_from_slice(&src.octets());
    }
}

/// Has the host tell the sender of a better way; the packet is forwarded all the same (RFC 1812 5.2.7.2).
#[inline(never)]
fn redirect(ctx: &mut Ctx<'_>, frame: &Frame, meta: &Meta, way: &Way) {
    let Some(domain) = meta.domain else { return };
    let Some(copy) = ctx.pool.copy(frame) else { return };
    let punt = super::Punt { frame: copy, port: ctx.ingress, domain, why: Why::Redirect(way.key) };
    match ctx.host.punt(punt) {
        Ok(()) => *ctx.punted = true,
        Err(frame) => ctx.pool.free(frame),
    }
}

/// How many redirects a worker may ask for in a second: enough to tell a few senders, too few to be a load.
const REDIRECTS_PER_SECOND: u8 = 32;

/// A worker's allowance of redirects.
#[derive(Default)]
pub struct Redirects {
    second: u32,
    used: u8,
}

impl Redirects {
    fn take(&mut self, now_s: u32) -> bool {
        if self.second != now_s {
            *self = Redirects { second: now_s, used: 0 };
        }
        let free = self.used < REDIRECTS_PER_SECOND;
        self.used += u8::from(free);
        free
    }
}
