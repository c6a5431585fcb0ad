//! Changing the 802.1Q tag of a frame: pushed, popped, rewritten or left alone. Priority (PCP) and drop
//! eligibility (DEI) of the tag that the frame came with are kept.

use super::admit::VLAN_ID_MASK;
use super::parse::ETHERTYPE_VLAN;
use crate::limits::{ETHERNET_HEADER, VLAN_TAG};
use crate::port::{Frame, FramePool};
use crate::table::snapshot::Tagging;

/// Where the tag stands: behind both addresses.
const TAG_OFFSET: usize = 12;

/// Bytes of the first segment that stay in it when a full one must make room for a tag: headers and a
/// payload long enough that no receiver sees an unusually short first piece.
const SPILL_KEEP: usize = 2048;

/// The tag a frame must carry on a port: the ingress tag's priority bits with the port's VLAN id.
#[inline]
pub fn egress_tci(ingress_tci: Option<u16>, tagging: Tagging) -> Option<u16> {
    match tagging {
        Tagging::Untagged => None,
        Tagging::Vlan(vlan) => Some(ingress_tci.unwrap_or(0) & !VLAN_ID_MASK | vlan),
    }
}

/// Turns a frame tagged `from` into one tagged `to`. False if the frame could not be changed: it is
/// shared, or the pool had no frame for the overflow of a full first segment.
#[inline]
pub fn retag(pool: &mut FramePool, frame: &mut Frame, from: Option<u16>, to: Option<u16>) -> bool {
    match (from, to) {
        (None, None) => true,
        (Some(from), Some(to)) if from == to => true,
        (Some(_), Some(to)) => {
            let Some(tci) = pool.region().head_mut(frame).get_mut(ETHERNET_HEADER..ETHERNET_HEADER + 2) else {
                return false;
            };
            tci.copy_from_slice(&to.to_be_bytes());
            true
        }
        (Some(_), None) => pool.region().cut(frame, TAG_OFFSET, VLAN_TAG),
        (None, Some(to)) => push(pool, frame, to),
    }
}

fn push(pool: &mut FramePool, frame: &mut Frame, tci: u16) -> bool {
    let [e0, e1] = ETHERTYPE_VLAN.to_be_bytes();
    let [t0, t1] = tci.to_be_bytes();
    let tag = [e0, e1, t0, t1];
    if pool.region().insert(frame, TAG_OFFSET, &tag) {
        return true;
    }
    let Some(spare) = pool.alloc() else { return false };
    if let Err(spare) = pool.region().spill(frame, SPILL_KEEP, spare) {
        pool.free(spare);
        return false;
    }
    pool.region().insert(frame, TAG_OFFSET, &tag)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::SharedPool;
    use proptest::prelude::*;

    fn bytes(pool: &FramePool, frame: &Frame) -> Vec<u8> {
        pool.region().segments(frame).flatten().copied().collect()
    }

    #[test]
    fn priority_survives_every_change_of_vlan() {
        assert_eq!(egress_tci(Some(0xb00a), Tagging::Vlan(20)), Some(0xb014));
        assert_eq!(egress_tci(Some(0xb000), Tagging::Vlan(20)), Some(0xb014));
        assert_eq!(egress_tci(None, Tagging::Vlan(20)), Some(20));
        assert_eq!(egress_tci(Some(0xb00a), Tagging::Untagged), None);
    }

    proptest! {
        #[test]
        fn push_then_pop_is_identity(len in 14usize..9000, first in any::<u16>(), second in any::<u16>()) {
            let shared = SharedPool::heap(16);
            let mut pool = FramePool::new(shared);
            let original: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
            let mut chain: Option<Frame> = None;
            for part in original.chunks(crate::limits::FRAME_ROOM) {
                let mut frame = pool.alloc().unwrap();
                prop_assert!(pool.region().write(&mut frame, part));
                match &mut chain {
                    None => chain = Some(frame),
                    Some(head) => pool.region().append(head, frame).unwrap(),
                }
            }
            let mut frame = chain.unwrap();
            prop_assert!(retag(&mut pool, &mut frame, None, Some(first)));
            let mut tagged = original.clone();
            let [t0, t1] = first.to_be_bytes();
            tagged.splice(12..12, [0x81, 0, t0, t1]);
            prop_assert_eq!(bytes(&pool, &frame), tagged);
            prop_assert!(retag(&mut pool, &mut frame, Some(first), Some(second)));
            prop_assert_eq!(&bytes(&pool, &frame)[14..16], &second.to_be_bytes());
            prop_assert!(retag(&mut pool, &mut frame, Some(second), None));
            prop_assert_eq!(bytes(&pool, &frame), original);
            pool.free(frame);
        }
    }
}
