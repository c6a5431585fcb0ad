//! Stage 4: where does the frame go (IEEE 802.1Q-2018 8.6.3, 8.8)?

use super::{Burst, Ctx, Meta, Verdict};
use crate::ids::Mac;
use crate::stats::Drop;
use crate::table::fdb::{Kind, MacKey};
use crate::table::snapshot::FloodClass;

/// Decides every lane that is still pending.
pub fn forward(ctx: &mut Ctx<'_>, burst: &mut Burst) {
    // Frames to one receiver come in a row and fare alike; addresses were learned before the first of them.
    let mut last = None;
    for lane in burst.lanes.iter_mut().filter(|lane| lane.verdict == Verdict::Pending) {
        let question = (lane.meta.port, lane.meta.domain, lane.meta.dst);
        lane.verdict = match last {
            Some((asked, verdict)) if asked == question => verdict,
            _ => decide(ctx, &lane.meta),
        };
        last = Some((question, lane.verdict));
    }
}

#[inline]
fn decide(ctx: &Ctx<'_>, meta: &Meta) -> Verdict {
    let Some(domain) = meta.domain else { return Verdict::Drop(Drop::RxPortDown) };
    if meta.dst.is_group() {
        return if meta.dst == Mac::BROADCAST {
            Verdict::Flood(FloodClass::Broadcast)
        } else if meta.dst.is_link_local() {
            Verdict::Drop(Drop::L2LinkLocal)
        } else {
            Verdict::Flood(FloodClass::Multicast)
        };
    }
    let Some(hit) = ctx.fdb.lookup(MacKey::new(domain, meta.dst)) else {
        return Verdict::Flood(FloodClass::UnknownUnicast);
    };
    match hit.kind {
        Kind::Local => Verdict::Drop(Drop::L2Local),
        // The sweep that forgets old addresses runs in slices; one that it has not come to yet is
        // treated as forgotten all the same.
        Kind::Dynamic if expired(ctx, meta, hit.stamp_s) => Verdict::Flood(FloodClass::UnknownUnicast),
        _ if hit.port == meta.port => Verdict::Drop(Drop::L2SamePort),
        _ => Verdict::Port(hit.port),
    }
}

#[inline]
fn expired(ctx: &Ctx<'_>, meta: &Meta, stamp_s: u32) -> bool {
    let age_s = ctx.now_s.saturating_sub(stamp_s);
    meta.domain.and_then(|domain| ctx.view.domain(domain)).is_none_or(|domain| age_s > domain.ageing_s)
}
