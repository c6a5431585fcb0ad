//! Stage 4: where does the frame go (IEEE 802.1Q-2018 8.6.3, 8.8)?

use super::{Burst, Ctx, Verdict};
use crate::ids::{DomainId, Mac, PortId};
use crate::stats::Drop;
use crate::table::fdb::{Kind, MacKey};
use crate::table::snapshot::FloodClass;

/// Decides every lane that is still pending.
pub fn forward(ctx: &mut Ctx<'_>, burst: &mut Burst) {
    let ingress = burst.ingress;
    // The domain of the frame before, if it exists, its ageing time, and its router's address.
    let (mut home, mut age_max_s) = (None, 0);
    let (mut router_mac, mut for_router) = (u64::MAX, 0);
    for lane in burst.lanes() {
        if !lane.is_pending() {
            continue;
        }
        if lane.meta.domain != home {
            (home, age_max_s, router_mac) = enter(ctx, lane.meta.domain);
        }
        let Some(domain) = home else {
            lane.verdict = Verdict::Drop(Drop::RxPortDown);
            continue;
        };
        let key = MacKey::new(domain, lane.meta.dst);
        if lane.meta.dst.is_group() {
            for_router += u16::from(router_mac != u64::MAX);
            lane.verdict = group(lane.meta.dst);
            continue;
        }
        if lane.meta.dst.bits() == router_mac {
            for_router += 1;
            lane.verdict = Verdict::Router;
            continue;
        }
        lane.verdict = match ctx.fdb.port_of_dynamic(key, lane.dst_home, ctx.now_s, age_max_s) {
            Some(port) if port != ingress => Verdict::Port(port),
            _ => decide(ctx, key, ingress, age_max_s),
        };
    }
    burst.for_router = for_router;
}

/// The domain that a lane is in, if it exists, its ageing time, and its router's MAC address as a number.
#[inline(never)]
fn enter(ctx: &Ctx<'_>, domain: Option<DomainId>) -> (Option<DomainId>, u32, u64) {
    let view = domain.and_then(|domain| ctx.view.domain(domain));
    view.map_or((None, 0, u64::MAX), |view| (domain, view.ageing_s, view.router_mac_bits()))
}

/// The same for any station.
#[inline(never)]
fn decide(ctx: &Ctx<'_>, key: MacKey, ingress: PortId, age_max_s: u32) -> Verdict {
    let Some(hit) = ctx.fdb.lookup(key) else {
        return Verdict::Flood(FloodClass::UnknownUnicast);
    };
    match hit.kind {
        Kind::Local => Verdict::Drop(Drop::L2Local),
        // The sweep that forgets old addresses runs in slices; one that it has not come to yet is
        // treated as forgotten all the same.
        Kind::Dynamic if ctx.now_s.saturating_sub(hit.stamp_s) > age_max_s => {
            Verdict::Flood(FloodClass::UnknownUnicast)
        }
        _ if hit.port == ingress => Verdict::Drop(Drop::L2SamePort),
        _ => Verdict::Port(hit.port),
    }
}

fn group(dst: Mac) -> Verdict {
    if dst == Mac::BROADCAST {
        Verdict::Flood(FloodClass::Broadcast)
    } else if dst.is_link_local() {
        Verdict::Drop(Drop::L2LinkLocal)
    } else {
        Verdict::Flood(FloodClass::Multicast)
    }
}
