//! Stage 3: source addresses into the forwarding database (IEEE 802.1Q-2018 8.7).

use super::{Burst, Ctx};
use crate::ids::{Mac, PortId};
use crate::table::fdb::{Fresh, Learn, LearnLimits, MacKey};

/// Learns each admitted lane's source address. A known address costs a lookup; its stamp is written at
/// most once a second. A refused one changes nothing: the frame goes on, and answers to it are flooded.
pub fn learn(ctx: &mut Ctx<'_>, burst: &mut Burst) {
    let ingress = burst.ingress;
    let Some(port) = ctx.view.port(ingress).filter(|port| port.flags.learning) else { return };
    let limits = LearnLimits { port_max: port.mac_limit };
    let fresh = Fresh::new(ingress, ctx.now_s);
    for lane in burst.lanes() {
        if !lane.is_pending() {
            continue;
        }
        let Some(domain) = lane.meta.domain else { continue };
        let key = MacKey::new(domain, lane.meta.src);
        if !ctx.fdb.is_fresh(key, lane.src_home, fresh) {
            note(ctx, key, ingress, limits);
        }
    }
}

/// Has the table learn a sender that it does not know as fresh.
#[inline(never)]
fn note(ctx: &Ctx<'_>, key: MacKey, ingress: PortId, limits: LearnLimits) {
    if key.mac() == Mac::ZERO {
        return;
    }
    let stats = ctx.stats.port(ingress);
    match ctx.fdb.learn(key, ingress, ctx.now_s, limits) {
        Learn::Known | Learn::Refreshed | Learn::RefusedStatic => {}
        Learn::Learned => stats.learned.add(1),
        Learn::Moved { .. } => stats.moved.add(1),
        Learn::RefusedTableFull | Learn::RefusedPortLimit | Learn::RefusedTotalLimit => stats.learn_refused.add(1),
    }
}
