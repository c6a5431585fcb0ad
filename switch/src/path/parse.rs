//! Stage 1: reads the Ethernet header and one 802.1Q tag, length-checked. Nothing later reads a field
//! that was not checked here.

use super::{Burst, Ctx, Lane, Meta, Verdict};
use crate::ids::Mac;
use crate::limits::{ETHERNET_HEADER, VLAN_TAG};
use crate::stats::Drop;

/// EtherType of an 802.1Q customer tag. The 802.1ad service tag (0x88a8) is payload to this switch.
pub const ETHERTYPE_VLAN: u16 = 0x8100;

/// Fills in each lane's [`Meta`], or drops what is too short to have one; says whether the burst is plain.
pub fn parse(ctx: &mut Ctx<'_>, burst: &mut Burst) {
    let region = ctx.pool.region();
    // All source addresses, one upon the other, and a group bit for every lane that is not plain.
    let mut sources = 0;
    for (frame, lane) in burst.iter_mut() {
        let bytes = region.head(frame);
        let Some(header) = bytes.first_chunk() else {
            *lane = Lane::new(Meta::UNKNOWN, Verdict::Drop(Drop::RxMalformed));
            sources |= Mac::BROADCAST.bits();
            continue;
        };
        // Most frames have no tag.
        *lane = Lane::new(read_untagged(header), Verdict::Pending);
        sources |= lane.meta.src.bits();
        if lane.meta.ethertype == ETHERTYPE_VLAN {
            read_behind_tag(bytes, lane);
            sources |= Mac::BROADCAST.bits();
        }
    }
    burst.plain = !Mac::from_bits(sources).is_group();
}

/// The lane of a frame with a tag.
#[inline(never)]
fn read_behind_tag(bytes: &[u8], lane: &mut Lane) {
    match read(bytes) {
        Some(meta) => lane.meta = meta,
        None => *lane = Lane::new(Meta::UNKNOWN, Verdict::Drop(Drop::RxMalformed)),
    }
}

/// What the header at the start of `bytes` says; `None` if it is not all there.
#[inline]
pub fn read(bytes: &[u8]) -> Option<Meta> {
    let mut meta = read_untagged(bytes.first_chunk()?);
    if meta.ethertype == ETHERTYPE_VLAN {
        let [c0, c1, t0, t1] = *bytes.get(ETHERNET_HEADER..)?.first_chunk::<VLAN_TAG>()?;
        meta.tci = Some(u16::from_be_bytes([c0, c1]));
        meta.ethertype = u16::from_be_bytes([t0, t1]);
    }
    Some(meta)
}

/// The same, with a tag taken for what the frame carries.
#[inline(always)]
fn read_untagged(header: &[u8; ETHERNET_HEADER]) -> Meta {
    // Two words that overlap: the destination with the first octets of the source, the source with the EtherType.
    let [front, back] =
        [header.first_chunk(), header.last_chunk()].map(|word| word.copied().map_or(0, u64::from_be_bytes));
    Meta {
        dst: Mac::from_bits(front >> 16),
        src: Mac::from_bits(back >> 16),
        domain: None,
        tci: None,
        ethertype: back as u16,
        routed: false,
        heard: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(bytes: &[u8]) -> Option<Meta> {
        read(bytes)
    }

    #[test]
    fn short_frames_are_refused() {
        assert!(parsed(&[0; 13]).is_none());
        assert!(parsed(&[0; 14]).is_some());
        let mut tagged = [0u8; 18];
        tagged[12..14].copy_from_slice(&[0x81, 0]);
        assert!(parsed(&tagged[..17]).is_none());
        assert_eq!(parsed(&tagged).unwrap().tci, Some(0));
    }

    proptest! {
        // etherparse is the oracle: same addresses, tag and EtherType for any bytes.
        #[test]
        fn agrees_with_etherparse(mut bytes in proptest::collection::vec(any::<u8>(), 0..64), tagged: bool) {
            if tagged && bytes.len() >= 14 {
                bytes[12..14].copy_from_slice(&[0x81, 0]);
            }
            let expected = etherparse::Ethernet2Header::from_slice(&bytes);
            let meta = parsed(&bytes);
            match expected {
                Err(_) => prop_assert!(meta.is_none()),
                Ok((ether, rest)) if ether.ether_type.0 == ETHERTYPE_VLAN => {
                    match etherparse::SingleVlanHeader::from_slice(rest) {
                        Err(_) => prop_assert!(meta.is_none()),
                        Ok((vlan, _)) => {
                            let meta = meta.unwrap();
                            prop_assert_eq!(meta.tci.unwrap() & 0xfff, vlan.vlan_id.value());
                            prop_assert_eq!(meta.tci.unwrap() >> 13, u16::from(vlan.pcp.value()));
                            prop_assert_eq!(meta.ethertype, vlan.ether_type.0);
                            prop_assert_eq!(meta.l3_offset(), 18);
                        }
                    }
                }
                Ok((ether, _)) => {
                    let meta = meta.unwrap();
                    prop_assert_eq!(meta.dst.octets(), ether.destination);
                    prop_assert_eq!(meta.src.octets(), ether.source);
                    prop_assert_eq!((meta.ethertype, meta.tci, meta.l3_offset()), (ether.ether_type.0, None, 14));
                }
            }
        }
    }
}
