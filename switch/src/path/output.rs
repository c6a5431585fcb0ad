//! Last stage: acts on the verdicts. Finishes checksums, sets the egress tag, floods by reference,
//! queues frames by egress port, counts what is dropped.

use super::checksum::Partial;
use super::parse::ETHERTYPE_VLAN;
use super::route::fragment::fragment;
use super::vlan::{egress_tci, retag};
use super::{Aside, Burst, Ctx, Lane, Meta, Punt, Verdict, Why, leave};
use crate::ids::{DomainId, Mac, PortId};
use crate::limits::{ETHERNET_HEADER, SEGMENTS_MAX, VLAN_TAG};
use crate::port::Frame;
use crate::stats::Drop;
use crate::table::snapshot::{FloodClass, Member, Snapshot, Tagging};

/// Empties the burst into the transmit stage and the pool.
pub fn output(ctx: &mut Ctx<'_>, burst: &mut Burst) {
    let from = burst.ingress;
    // No frame goes back to where it came from: no way yet.
    let mut way = Way { to: from, domain: None, len_max: 0 };
    let (frames, lanes, asides) = burst.parts();
    for (mut frame, lane) in frames.drain(..).zip(&*lanes) {
        let meta = &lane.meta;
        if let (Verdict::Port(to), None) = (lane.verdict, meta.tci) {
            if way.to != to || way.domain.is_some() {
                way = Way { domain: None, ..Way::find(ctx.view, from, to, meta.domain) };
            }
            if frame.len() <= way.len_max {
                finish_checksum(ctx, &mut frame, from, meta, ETHERNET_HEADER);
                queue(ctx, to, frame);
                continue;
            }
        } else if let (Verdict::Routed(to), None) = (lane.verdict, meta.tci) {
            // Routed frames of one burst may leave by several domains.
            if way.to != to || way.domain != meta.domain {
                way = Way::find(ctx.view, PortId::ROUTER, to, meta.domain);
            }
            if frame.len() <= way.len_max {
                finish_checksum(ctx, &mut frame, from, meta, ETHERNET_HEADER);
                queue(ctx, to, frame);
                continue;
            }
        }
        settle(ctx, frame, from, lane, asides);
    }
    asides.clear();
}

/// Acts on any verdict.
#[inline(never)]
fn settle(ctx: &mut Ctx<'_>, frame: Frame, ingress: PortId, lane: &Lane, asides: &[Aside]) {
    let meta = &lane.meta;
    let from = if meta.routed { PortId::ROUTER } else { ingress };
    match lane.verdict {
        Verdict::Port(port) | Verdict::Routed(port) => unicast(ctx, frame, from, meta, port),
        Verdict::Flood(class) => flood(ctx, frame, from, meta, class),
        Verdict::Drop(reason) => discard(ctx, frame, ingress, reason),
        // Only the router sends to itself, and that by mistake: a host behind it has its address.
        Verdict::Router => discard(ctx, frame, ingress, Drop::L2Local),
        Verdict::Aside(number) => match asides.get(usize::from(number)) {
            Some(Aside::Punt(why)) => punt(ctx, frame, ingress, meta, *why),
            Some(Aside::Fragment(mtu)) => cut(ctx, frame, ingress, meta, *mtu),
            None => discard(ctx, frame, ingress, Drop::PuntFull),
        },
        Verdict::Pending => {
            debug_assert!(false, "a stage left a lane without a verdict");
            discard(ctx, frame, from, Drop::RxMalformed);
        }
    }
}

/// The way of a burst's untagged frames, all of one bridge domain, to a port that takes them so: what [`unicast`]
/// checks is known to pass, but for the length. Most frames of a burst go one way.
struct Way {
    to: PortId,
    /// Domain of routed frames; `None` for bridged ones, which are all of one domain.
    domain: Option<DomainId>,
    /// Longest frame that may go this way; 0 if none may.
    len_max: usize,
}

impl Way {
    #[inline(never)]
    fn find(view: &Snapshot, from: PortId, to: PortId, domain: Option<DomainId>) -> Way {
        let from_isolated = view.port(from).is_some_and(|ingress| ingress.flags.isolated);
        let open = view.port(to).filter(|egress| {
            let untagged = domain.and_then(|domain| egress.tagging(domain)) == Some(Tagging::Untagged);
            egress.forwarding && untagged && !(egress.flags.isolated && from_isolated)
        });
        Way { to, domain, len_max: open.map_or(0, |egress| egress.untagged_len_max) }
    }
}

/// Leaves a frame to the switch as a host.
fn punt(ctx: &mut Ctx<'_>, mut frame: Frame, port: PortId, meta: &Meta, why: Why) {
    let Some(domain) = meta.domain else { return discard(ctx, frame, port, Drop::RxPortDown) };
    finish_checksum(ctx, &mut frame, port, meta, meta.l3_offset());
    // What is complained about is lost whether or not its sender is told.
    let lost = if let Why::Complain(complaint) = why { Some(complaint.reason()) } else { None };
    if let Some(reason) = lost {
        ctx.stats.port(port).drop(reason, 1);
    }
    match leave(ctx, Punt { frame, port, domain, why }) {
        Ok(()) => {}
        Err(frame) if lost.is_some() => ctx.pool.free(frame),
        // What the host has no time to answer, its neighbours may.
        Err(frame) if why == Why::Suppress => {
            let class = if meta.dst == Mac::BROADCAST { FloodClass::Broadcast } else { FloodClass::Multicast };
            flood(ctx, frame, port, meta, class);
        }
        Err(frame) => discard(ctx, frame, port, Drop::PuntFull),
    }
}

/// Cuts a routed packet into fragments, which this worker sends in its next turn.
fn cut(ctx: &mut Ctx<'_>, mut frame: Frame, ingress: PortId, meta: &Meta, mtu: u32) {
    let Some(domain) = meta.domain else { return discard(ctx, frame, ingress, Drop::RxPortDown) };
    finish_checksum(ctx, &mut frame, ingress, meta, meta.l3_offset());
    let again = ctx.again;
    let whole = fragment(ctx.pool, &frame, meta.l3_offset(), mtu as usize, |_, piece| {
        again.push((domain, piece)).map_err(|(_, piece)| piece)
    });
    if whole {
        ctx.pool.free(frame);
    } else {
        discard(ctx, frame, ingress, Drop::FragmentFailed);
    }
}

/// Frees a frame and counts it at `port` under `reason`.
#[inline]
fn discard(ctx: &mut Ctx<'_>, frame: Frame, port: PortId, reason: Drop) {
    ctx.stats.port(port).drop(reason, 1);
    ctx.pool.free(frame);
}

#[inline]
fn unicast(ctx: &mut Ctx<'_>, mut frame: Frame, from: PortId, meta: &Meta, port: PortId) {
    let (ingress, egress) = (ctx.view.port(from), ctx.view.port(port));
    let Some(egress) = egress.filter(|view| view.forwarding) else {
        return discard(ctx, frame, port, Drop::TxPortDown);
    };
    let Some(tagging) = meta.domain.and_then(|domain| egress.tagging(domain)) else {
        return discard(ctx, frame, from, Drop::L2NotMember);
    };
    if egress.flags.isolated && ingress.is_some_and(|view| view.flags.isolated) {
        return discard(ctx, frame, from, Drop::L2Isolated);
    }
    if hops(meta, tagging, egress.is_trunk()) {
        return discard(ctx, frame, from, Drop::VlanNotMember);
    }
    if !fits(&frame, meta.tci, egress.untagged_len_max) {
        return discard(ctx, frame, port, Drop::MtuExceeded);
    }
    finish_checksum(ctx, &mut frame, from, meta, meta.l3_offset());
    if !retag(ctx.pool, &mut frame, meta.tci, egress_tci(meta.tci, tagging)) {
        let reason = unchanged(&frame);
        return discard(ctx, frame, port, reason);
    }
    queue(ctx, port, frame);
}

/// True if taking the tag off would leave another one in front on a port that takes tags for VLANs: a frame with
/// two tags must not choose the VLAN that it continues in.
#[inline]
fn hops(meta: &Meta, tagging: Tagging, trunk: bool) -> bool {
    trunk && meta.tci.is_some() && tagging == Tagging::Untagged && meta.ethertype == ETHERTYPE_VLAN
}

/// Why [`retag`] left a frame as it was: it spans as many chunks as a packet may, or the pool is empty.
#[cold]
fn unchanged(frame: &Frame) -> Drop {
    if frame.segments() >= SEGMENTS_MAX { Drop::MtuExceeded } else { Drop::PoolExhausted }
}

/// True if the frame, without its tag, is no longer than `untagged_len_max`.
#[inline]
fn fits(frame: &Frame, tci: Option<u16>, untagged_len_max: usize) -> bool {
    let tag = if tci.is_some() { VLAN_TAG } else { 0 };
    frame.len() <= untagged_len_max + tag
}

/// Frames from a container may carry only the pseudo-header sum (the kernel's CHECKSUM_PARTIAL). The
/// receiver gets the frame as a new one and verifies it, so the sum is finished here, once. `l3_offset` is `meta`'s.
#[inline(always)]
pub(super) fn finish_checksum(ctx: &mut Ctx<'_>, frame: &mut Frame, from: PortId, meta: &Meta, l3_offset: usize) {
    match Partial::find_plain(ctx.pool.region().head(frame), l3_offset, meta.ethertype) {
        Some(None) => {}
        Some(Some(partial)) => finish(ctx, frame, from, partial),
        None => finish_anywhere(ctx, frame, from, meta),
    }
}

/// The same for what is not plain TCP or UDP over IPv4. Apart, so that the short way keeps few registers busy.
#[inline(never)]
fn finish_anywhere(ctx: &mut Ctx<'_>, frame: &mut Frame, from: PortId, meta: &Meta) {
    let head = ctx.pool.region().head(frame);
    if let Some(partial) = Partial::find_anywhere(head, meta.l3_offset(), meta.ethertype) {
        finish(ctx, frame, from, partial);
    }
}

#[inline(never)]
fn finish(ctx: &mut Ctx<'_>, frame: &mut Frame, from: PortId, partial: Partial) {
    let (head, tail) = ctx.pool.region().split_mut(frame);
    if let Some(value) = partial.value(head, tail) {
        partial.write(head, value);
        ctx.stats.port(from).checksums_finished.add(1);
    }
}

#[inline]
fn queue(ctx: &mut Ctx<'_>, port: PortId, frame: Frame) {
    if let Err(frame) = ctx.tx.push(port, frame) {
        debug_assert!(false, "the transmit stage holds a whole burst per port");
        discard(ctx, frame, port, Drop::TxRingFull);
    }
}

/// Sends one frame to every member by reference. Members come sorted by tagging; where that changes,
/// the frame is copied once (or changed in place, if nobody holds the old form yet).
fn flood(ctx: &mut Ctx<'_>, mut frame: Frame, from: PortId, meta: &Meta, class: FloodClass) {
    let view = ctx.view;
    let Some(domain) = meta.domain.and_then(|domain| view.domain(domain)) else {
        return discard(ctx, frame, from, Drop::RxPortDown);
    };
    finish_checksum(ctx, &mut frame, from, meta, meta.l3_offset());
    let from_isolated = view.port(from).is_some_and(|port| port.flags.isolated);
    let mut form = Form { frame: Some(frame), tci: meta.tci };
    let mut receivers = 0u32;
    for member in domain.members(class) {
        if member.port == from || (from_isolated && member.isolated) {
            continue;
        }
        receivers += 1;
        if let Err(reason) = send(ctx, &mut form, meta, member) {
            ctx.stats.port(member.port).drop(reason, 1);
        }
    }
    let heard = meta.heard && hear(ctx, &form, from, meta, receivers == 0);
    let stats = ctx.stats.port(from);
    if receivers > 0 {
        stats.flooded.add(1);
        if let Some(domain) = meta.domain {
            ctx.stats.flooded(domain, class as usize).add(1);
        }
    } else if !heard {
        stats.drop(Drop::L2NoReceiver, 1);
    }
    if let Some(frame) = form.frame {
        ctx.pool.free(frame);
    }
}

/// Gives the host its share of a flooded frame, or the frame if it is `alone`; the tag it has by now does not matter.
/// False if there is none to give.
fn hear(ctx: &mut Ctx<'_>, form: &Form, port: PortId, meta: &Meta, alone: bool) -> bool {
    let (Some(frame), Some(domain)) = (&form.frame, meta.domain) else { return false };
    let share = ctx.pool.region().share(frame);
    let why = if alone { Why::HeardAlone } else { Why::Heard };
    if let Err(share) = leave(ctx, Punt { frame: share, port, domain, why }) {
        ctx.pool.free(share);
        ctx.stats.port(port).drop(Drop::PuntFull, 1);
    }
    true
}

/// A flooded frame in the form (tag) that it has now.
struct Form {
    /// `None` only between taking it apart and putting it back.
    frame: Option<Frame>,
    tci: Option<u16>,
}

fn send(ctx: &mut Ctx<'_>, form: &mut Form, meta: &Meta, member: &Member) -> Result<(), Drop> {
    let Some(mut frame) = form.frame.take() else { return Err(Drop::PoolExhausted) };
    if hops(meta, member.tagging, member.trunk) {
        form.frame = Some(frame);
        return Err(Drop::VlanNotMember);
    }
    if !fits(&frame, form.tci, member.untagged_len_max) {
        form.frame = Some(frame);
        return Err(Drop::MtuExceeded);
    }
    let tci = egress_tci(meta.tci, member.tagging);
    if tci != form.tci {
        if ctx.pool.region().is_shared(&frame) {
            let Some(copy) = ctx.pool.copy(&frame) else {
                form.frame = Some(frame);
                return Err(Drop::PoolExhausted);
            };
            ctx.pool.free(frame);
            frame = copy;
        }
        if !retag(ctx.pool, &mut frame, form.tci, tci) {
            let reason = unchanged(&frame);
            form.frame = Some(frame);
            return Err(reason);
        }
        form.tci = tci;
    }
    let share = ctx.pool.region().share(&frame);
    form.frame = Some(frame);
    queue(ctx, member.port, share);
    Ok(())
}
