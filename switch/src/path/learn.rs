//! Stage 3: source addresses into the forwarding database (IEEE 802.1Q-2018 8.7).

use super::{Burst, Ctx, Verdict};
use crate::ids::Mac;
use crate::table::fdb::{Learn, LearnLimits, MacKey};

/// Learns each admitted lane's source address. A known address costs a lookup; its stamp is written at
/// most once a second. A refused one changes nothing: the frame goes on, and answers to it are flooded.
pub fn learn(ctx: &mut Ctx<'_>, burst: &mut Burst) {
    // Frames of one sender come in a row; the first of them says all.
    let mut known = None;
    for lane in burst.lanes.iter().filter(|lane| lane.verdict == Verdict::Pending) {
        let meta = &lane.meta;
        let (Some(port), Some(domain)) = (ctx.view.port(meta.port), meta.domain) else { continue };
        let key = MacKey::new(domain, meta.src);
        if !port.flags.learning || meta.src == Mac::ZERO || known == Some((key, meta.port)) {
            continue;
        }
        if ctx.fdb.is_fresh(key, meta.port, ctx.now_s) {
            known = Some((key, meta.port));
            continue;
        }
        let limits = LearnLimits { port_max: port.mac_limit };
        let stats = ctx.stats.port(meta.port);
        match ctx.fdb.learn(key, meta.port, ctx.now_s, limits) {
            Learn::Known | Learn::Refreshed | Learn::RefusedStatic => {}
            Learn::Learned => stats.learned.add(1),
            Learn::Moved { .. } => stats.moved.add(1),
            Learn::RefusedTableFull | Learn::RefusedPortLimit | Learn::RefusedTotalLimit => {
                stats.learn_refused.add(1);
                continue;
            }
        }
        known = Some((key, meta.port));
    }
}
