//! Stage 4: where does the frame go (IEEE 802.1Q-2018 8.6.3, 8.8)?

use super::{Burst, Ctx, Meta, Verdict};
use crate::ids::{DomainId, Mac};
use crate::stats::Drop;
use crate::table::fdb::{Kind, MacKey};
use crate::table::snapshot::FloodClass;

/// Decides every lane that is still pending.
pub fn forward(ctx: &mut Ctx<'_>, burst: &mut Burst) {
    // Frames to one receiver come in a row and fare alike; addresses were learned before the first of them.
    let (mut asked, mut port, mut verdict) = (None, None, Verdict::Pending);
    for lane in burst.lanes.iter_mut().filter(|lane| lane.verdict == Verdict::Pending) {
        let Some(domain) = lane.meta.domain else {
            lane.verdict = Verdict::Drop(Drop::RxPortDown);
            continue;
        };
        let key = MacKey::new(domain, lane.meta.dst);
        if asked != Some(key) || port != Some(lane.meta.port) {
            (asked, port) = (Some(key), Some(lane.meta.port));
            verdict = decide(ctx, &lane.meta, domain, key);
        }
        lane.verdict = verdict;
    }
}

#[inline]
fn decide(ctx: &Ctx<'_>, meta: &Meta, domain: DomainId, key: MacKey) -> Verdict {
    if meta.dst.is_group() {
        return if meta.dst == Mac::BROADCAST {
            Verdict::Flood(FloodClass::Broadcast)
        } else if meta.dst.is_link_local() {
            Verdict::Drop(Drop::L2LinkLocal)
        } else {
            Verdict::Flood(FloodClass::Multicast)
        };
    }
    let Some(hit) = ctx.fdb.lookup(key) else {
        return Verdict::Flood(FloodClass::UnknownUnicast);
    };
    match hit.kind {
        Kind::Local => Verdict::Drop(Drop::L2Local),
        // The sweep that forgets old addresses runs in slices; one that it has not come to yet is
        // treated as forgotten all the same.
        Kind::Dynamic if expired(ctx, domain, hit.stamp_s) => Verdict::Flood(FloodClass::UnknownUnicast),
        _ if hit.port == meta.port => Verdict::Drop(Drop::L2SamePort),
        _ => Verdict::Port(hit.port),
    }
}

#[inline]
fn expired(ctx: &Ctx<'_>, domain: DomainId, stamp_s: u32) -> bool {
    let age_s = ctx.now_s.saturating_sub(stamp_s);
    ctx.view.domain(domain).is_none_or(|domain| age_s > domain.ageing_s)
}
