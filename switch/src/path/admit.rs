//! Stage 2: is the frame allowed in, and into which bridge domain (IEEE 802.1Q-2018 8.6.1, 8.6.2)?

use super::{Burst, Ctx, Meta, Verdict};
use crate::ids::DomainId;
use crate::stats::Drop;
use crate::table::snapshot::PortView;

/// The VLAN id bits of a tag.
pub const VLAN_ID_MASK: u16 = 0x0fff;

/// Sets each lane's bridge domain, or drops it.
pub fn admit(ctx: &mut Ctx<'_>, burst: &mut Burst) {
    let port = ctx.view.port(burst.ingress).filter(|port| port.forwarding);
    let native = port.and_then(PortView::native);
    // Most bursts: a port that forwards, individual source addresses, no tags.
    if burst.plain
        && let Some(native) = native
    {
        burst.lanes().iter_mut().for_each(|lane| lane.admit(native, ctx.fdb));
        return;
    }
    for lane in burst.lanes() {
        if !lane.is_pending() {
            continue;
        }
        match port.ok_or(Drop::RxPortDown).and_then(|port| domain(port, &lane.meta)) {
            Ok(domain) => lane.admit(domain, ctx.fdb),
            Err(reason) => lane.verdict = Verdict::Drop(reason),
        }
    }
}

/// The domain of any frame.
#[inline(never)]
fn domain(port: &PortView, meta: &Meta) -> Result<DomainId, Drop> {
    if meta.src.is_group() {
        return Err(Drop::L2SourceGroup);
    }
    match meta.tci.map(|tci| tci & VLAN_ID_MASK) {
        // A priority tag carries no VLAN id: the frame belongs where untagged ones do.
        None | Some(0) => port.native().ok_or(Drop::VlanUntagged),
        Some(VLAN_ID_MASK) => Err(Drop::VlanReserved),
        Some(vlan) => port.domain_of(vlan).ok_or(Drop::VlanNotMember),
    }
}
