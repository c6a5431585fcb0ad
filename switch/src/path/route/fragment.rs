//! Cuts an IPv4 packet into fragments (RFC 791 section 3.2, RFC 1812 4.2.2.7): in order, at multiples of eight bytes,
//! options copied where they say so.

use crate::limits::{ETHERNET_HEADER, FRAME_ROOM, VLAN_TAG};
use crate::path::checksum;
use crate::path::transport::IPV4_HEADER;
use crate::port::{Frame, FramePool};

/// Longest IPv4 header.
const HEADER_MAX: usize = 60;

/// Longest IPv4 packet, put together.
const PACKET_MAX: usize = 65_535;

/// Bytes in front of the payload at most.
const FRONT_MAX: usize = ETHERNET_HEADER + VLAN_TAG + HEADER_MAX;

/// Flag "more fragments".
const MORE: u16 = 0x2000;
const OFFSET_MASK: u16 = 0x1fff;

/// Bytes in front of a fragment's payload: what is in front of the IP header, and that header.
struct Front {
    bytes: [u8; FRONT_MAX],
    l3_offset: usize,
    ihl: usize,
}

/// Cuts the packet in `frame` into fragments of at most `mtu` bytes, header included, and hands each to `send`, in
/// order; `frame` itself stays. False if not all of them could be made: the pool is empty, `send` refused one, there is
/// no room for a payload, or it ends where no packet does. What was sent by then is lost at the receiver, as with
/// any lost fragment.
pub fn fragment(
    pool: &mut FramePool,
    frame: &Frame,
    l3_offset: usize,
    mtu: usize,
    mut send: impl FnMut(&mut FramePool, Frame) -> Result<(), Frame>,
) -> bool {
    let Some((mut front, total, word)) = read(pool.region().head(frame), l3_offset) else { return false };
    let (start, mut at) = (l3_offset + front.ihl, 0);
    let payload = total - front.ihl;
    while at < payload {
        let room = mtu.min(FRAME_ROOM - l3_offset).saturating_sub(front.ihl) & !7;
        if room == 0 {
            return false;
        }
        let len = room.min(payload - at);
        let more = word & MORE != 0 || at + len < payload;
        let offset = (word & OFFSET_MASK) + (at / 8) as u16;
        front.set(front.ihl + len, offset | if more { MORE } else { 0 });
        let Some(mut piece) = pool.alloc() else { return false };
        let done = compose(pool, frame, &mut piece, &front, start + at, len);
        let sent = if done { send(pool, piece) } else { Err(piece) };
        if let Err(piece) = sent {
            pool.free(piece);
            return false;
        }
        if at == 0 {
            front.keep_copied_options();
        }
        at += len;
    }
    true
}

/// The front of the packet, its length, and its word of flags and offset without "don't fragment".
fn read(head: &[u8], l3_offset: usize) -> Option<(Front, usize, u16)> {
    let header = head.get(l3_offset..)?;
    let ihl = usize::from(header.first()? & 0xf) * 4;
    let total = usize::from(u16::from_be_bytes(*header.get(2..)?.first_chunk()?));
    let word = u16::from_be_bytes(*header.get(6..)?.first_chunk()?) & (MORE | OFFSET_MASK);
    let mut front = Front { bytes: [0; FRONT_MAX], l3_offset, ihl };
    front.bytes.get_mut(..l3_offset + ihl)?.copy_from_slice(head.get(..l3_offset + ihl)?);
    // Behind 65535 bytes offsets would start anew, and the rest would overlap the packet's beginning.
    let end = usize::from(word & OFFSET_MASK) * 8 + total;
    (ihl >= IPV4_HEADER && total > ihl && end <= PACKET_MAX).then_some((front, total, word))
}

impl Front {
    fn header(&mut self) -> &mut [u8] {
        // Both were in range when the front was read.
        self.bytes.get_mut(self.l3_offset..self.l3_offset + self.ihl).unwrap_or_default()
    }

    fn set(&mut self, total: usize, flags_and_offset: u16) {
        let ihl = self.ihl;
        let header = self.header();
        if let Some(fixed) = header.first_chunk_mut::<IPV4_HEADER>() {
            fixed[0] = 0x40 | (ihl / 4) as u8;
            [fixed[2], fixed[3]] = (total as u16).to_be_bytes();
            [fixed[6], fixed[7]] = flags_and_offset.to_be_bytes();
            [fixed[10], fixed[11]] = [0, 0];
        }
        let sum = !checksum::sum(header);
        if let Some(field) = header.get_mut(10..12) {
            field.copy_from_slice(&sum.to_be_bytes());
        }
    }

    /// All fragments but the first carry only options with the copy bit (RFC 791 section 3.1).
    fn keep_copied_options(&mut self) {
        let mut kept = [0u8; HEADER_MAX - IPV4_HEADER];
        let (mut from, mut to) = (IPV4_HEADER, 0);
        let header = self.header();
        while let Some(&kind) = header.get(from) {
            let len = match kind {
                0 => break,
                1 => 1,
                _ => header.get(from + 1).map_or(0, |len| usize::from(*len)),
            };
            let Some(option) = header.get(from..from + len).filter(|option| !option.is_empty()) else { break };
            if kind & 0x80 != 0
                && let Some(place) = kept.get_mut(to..to + len)
            {
                place.copy_from_slice(option);
                to += len;
            }
            from += len;
        }
        let padded = to.next_multiple_of(4);
        if let (Some(options), Some(kept)) = (header.get_mut(IPV4_HEADER..IPV4_HEADER + padded), kept.get(..padded)) {
            options.copy_from_slice(kept);
        }
        self.ihl = IPV4_HEADER + padded;
    }
}

/// Writes front and `len` bytes of the packet from `from` on into `piece`.
fn compose(pool: &FramePool, frame: &Frame, piece: &mut Frame, front: &Front, from: usize, len: usize) -> bool {
    let mut bytes = [0u8; FRAME_ROOM];
    let front_len = front.l3_offset + front.ihl;
    let (Some(head), Some(source)) = (bytes.get_mut(..front_len), front.bytes.get(..front_len)) else { return false };
    head.copy_from_slice(source);
    let (mut skip, mut at) = (from, front_len);
    let end = front_len + len;
    for segment in pool.region().segments(frame) {
        let part = segment.get(skip.min(segment.len())..).unwrap_or_default();
        skip = skip.saturating_sub(segment.len());
        let take = part.len().min(end - at);
        if let (Some(to), Some(part)) = (bytes.get_mut(at..at + take), part.get(..take)) {
            to.copy_from_slice(part);
            at += take;
        }
    }
    at == end && bytes.get(..end).is_some_and(|bytes| pool.region().write(piece, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::route::ipv4;
    use crate::port::SharedPool;
    use proptest::prelude::*;

    /// A packet with `options` and a payload that counts, as pool frames.
    fn packet(pool: &mut FramePool, options: &[u8], payload: usize, word: u16) -> Frame {
        let ihl = 20 + options.len();
        let mut bytes = vec![0u8; 14 + ihl];
        bytes[14] = 0x40 | (ihl / 4) as u8;
        bytes[16..18].copy_from_slice(&((ihl + payload) as u16).to_be_bytes());
        bytes[18..20].copy_from_slice(&[0xab, 0xcd]);
        bytes[20..22].copy_from_slice(&word.to_be_bytes());
        bytes[22..24].copy_from_slice(&[64, 17]);
        bytes[26..34].copy_from_slice(&[10, 1, 0, 2, 10, 2, 0, 3]);
        bytes[34..14 + ihl].copy_from_slice(options);
        let sum = !checksum::sum(&bytes[14..14 + ihl]);
        bytes[24..26].copy_from_slice(&sum.to_be_bytes());
        bytes.extend((0..payload).map(|at| (at * 7 + at / 256) as u8));
        let mut chain: Option<Frame> = None;
        for part in bytes.chunks(FRAME_ROOM) {
            let mut frame = pool.alloc().unwrap();
            assert!(pool.region().write(&mut frame, part));
            match &mut chain {
                None => chain = Some(frame),
                Some(head) => pool.region().append(head, frame).unwrap(),
            }
        }
        chain.unwrap()
    }

    fn cut(options: &[u8], payload: usize, word: u16, mtu: usize) -> Vec<Vec<u8>> {
        let mut pool = FramePool::new(SharedPool::heap(128));
        let frame = packet(&mut pool, options, payload, word);
        let mut pieces = Vec::new();
        let done = fragment(&mut pool, &frame, 14, mtu, |pool, piece| {
            pieces.push(pool.region().head(&piece).to_vec());
            pool.free(piece);
            Ok(())
        });
        pool.free(frame);
        assert!(done);
        pieces
    }

    #[test]
    fn options_are_copied_by_their_copy_bit() {
        // Security (copied), router alert's place taken by an uncopied timestamp, then padding.
        let options = [0x82, 4, 9, 9, 68, 4, 5, 0, 1, 1, 1, 0];
        let pieces = cut(&options, 100, 0, 72);
        assert_eq!(&pieces[0][34..46], &options);
        assert_eq!(pieces[1][14], 0x46);
        assert_eq!(&pieces[1][34..38], &options[..4]);
        assert_eq!(pieces.iter().map(|piece| piece.len() - 14).collect::<Vec<_>>(), [72, 72, 36]);
    }

    #[test]
    fn a_fragment_is_cut_again_where_it_stands() {
        let pieces = cut(&[], 64, MORE | 100, 44);
        let words: Vec<u16> = pieces.iter().map(|piece| u16::from_be_bytes([piece[20], piece[21]])).collect();
        assert_eq!(words, [MORE | 100, MORE | 103, MORE | 106]);
    }

    #[test]
    fn a_fragment_that_ends_behind_the_longest_packet_is_not_cut() {
        let last = |payload: usize, offset: u16| {
            let mut pool = FramePool::new(SharedPool::heap(64));
            let frame = packet(&mut pool, &[], payload, offset);
            let mut words = Vec::new();
            let done = fragment(&mut pool, &frame, 14, 1500, |pool, piece| {
                let head = pool.region().head(&piece);
                words.push(u16::from_be_bytes([head[20], head[21]]));
                pool.free(piece);
                Ok(())
            });
            pool.free(frame);
            (done, words)
        };
        assert_eq!(last(4_000, 0x1fff), (false, vec![]), "its rest would be the packet's beginning");
        assert_eq!(last(2_004, 0x1f03), (false, vec![]));
        assert_eq!(last(2_003, 0x1f03).1, [MORE | 0x1f03, 0x1f03 + 185]);
    }

    #[test]
    fn no_room_for_a_payload_or_no_frame_is_a_failure() {
        let mut pool = FramePool::new(SharedPool::heap(4));
        let frame = packet(&mut pool, &[], 900, 0);
        assert!(!fragment(&mut pool, &frame, 14, 27, |_, piece| Err(piece)));
        assert!(!fragment(&mut pool, &frame, 14, 100, |_, piece| Err(piece)));
        let mut kept = Vec::new();
        assert!(!fragment(&mut pool, &frame, 14, 100, |_, piece| {
            kept.push(piece);
            Ok(())
        }));
        kept.into_iter().for_each(|piece| pool.free(piece));
        pool.free(frame);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        // Put together again, the fragments are the packet; each is valid and fits.
        #[test]
        fn fragments_make_the_packet(payload in 1usize..20_000, mtu in 68usize..4_000) {
            let pieces = cut(&[], payload, 0, mtu);
            let mut whole = vec![None; payload];
            for (number, piece) in pieces.iter().enumerate() {
                let (packet, _) = ipv4::check(piece, 14, piece.len()).unwrap();
                prop_assert!(packet.len <= mtu && packet.len + 14 == piece.len());
                let word = u16::from_be_bytes([piece[20], piece[21]]);
                prop_assert_eq!(word & MORE != 0, number + 1 < pieces.len());
                let offset = usize::from(word & OFFSET_MASK) * 8;
                for (at, byte) in piece[34..].iter().enumerate() {
                    prop_assert!(whole[offset + at].replace(*byte).is_none());
                }
            }
            for (at, byte) in whole.into_iter().enumerate() {
                prop_assert_eq!(byte, Some((at * 7 + at / 256) as u8));
            }
        }
    }
}
