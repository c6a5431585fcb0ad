//! IPv4 headers: what makes one valid, what may be forwarded, how it changes (RFC 791, RFC 1812, RFC 1624).

use super::Packet;
use crate::path::checksum;
use crate::path::transport::{IPV4_FRAGMENTED, IPV4_HEADER, TCP, UDP};
use crate::stats::Drop;

/// Flag "don't fragment" in the word of flags and offset.
pub const DONT_FRAGMENT: u16 = 0x4000;

/// Options that name the packet's route (RFC 791: loose, strict).
const SOURCE_ROUTES: [u8; 2] = [131, 137];

/// Checks the header of a packet to be forwarded or delivered (RFC 1812 5.2.2): the packet and its destination, in
/// host byte order. `frame_len` counts the whole frame, of which `head` is the first part.
///
/// # Errors
/// Why the packet is dropped without a word.
#[inline]
pub fn check(head: &[u8], l3_offset: usize, frame_len: usize) -> Result<(Packet, u32), Drop> {
    let header: &[u8; IPV4_HEADER] = head.get(l3_offset..).and_then(<[u8]>::first_chunk).ok_or(Drop::IpMalformed)?;
    let (words, _) = header.as_chunks::<4>();
    let &[first, second, third, source, destination] = words else { return Err(Drop::IpMalformed) };
    let [first, second, third, source, destination] =
        [first, second, third, source, destination].map(u32::from_be_bytes);
    let len = (first & 0xffff) as usize;
    if l3_offset + len > frame_len || len < IPV4_HEADER {
        return Err(Drop::IpMalformed);
    }
    if first >> 24 != 0x45 {
        with_options(head.get(l3_offset..).unwrap_or_default(), len)?;
    } else {
        // A one's-complement sum is the same over words of 32 bits, folded (RFC 1071 section 2).
        let sum = [first, second, third, source, destination].iter().map(|word| u64::from(*word)).sum();
        if checksum::fold(sum) != 0xffff {
            return Err(Drop::IpMalformed);
        }
    }
    if is_martian_source(source) || is_martian_destination(destination) {
        return Err(Drop::IpMartian);
    }
    let may_fragment = second as u16 & DONT_FRAGMENT == 0;
    Ok((Packet { l3_offset, len, ttl: (third >> 24) as u8, may_fragment }, destination))
}

/// The rest of [`check`] for a header that is longer than usual, or none.
#[inline(never)]
fn with_options(packet: &[u8], len: usize) -> Result<(), Drop> {
    let ihl = packet.first().map_or(0, |first| usize::from(first & 0xf) * 4);
    let header = packet.get(..ihl).filter(|header| header.len() >= IPV4_HEADER && len >= ihl && header[0] >> 4 == 4);
    let header = header.filter(|header| checksum::sum(header) == 0xffff).ok_or(Drop::IpMalformed)?;
    let routed = names_route(header.get(IPV4_HEADER..).unwrap_or_default());
    if routed { Err(Drop::IpSourceRoute) } else { Ok(()) }
}

/// Sources that no packet to be forwarded has (RFC 1812 5.3.7): 0/8, loopback, link-local (RFC 3927 section 7),
/// multicast, class E with the broadcast address.
#[inline]
pub fn is_martian_source(address: u32) -> bool {
    let first = address >> 24;
    first.wrapping_sub(1) >= 223 || first == 127 || address >> 16 == 0xa9fe
}

/// Destinations that a router does not forward to: the same. Multicast routing is not one of its trades.
#[inline]
pub fn is_martian_destination(address: u32) -> bool {
    is_martian_source(address)
}

/// True if the options name a route. What is malformed behind the end of the known is passed on unseen.
#[inline(never)]
fn names_route(mut options: &[u8]) -> bool {
    while let [kind, rest @ ..] = options {
        match kind {
            0 => return false,
            1 => options = rest,
            kind if SOURCE_ROUTES.contains(kind) => return true,
            _ => {
                let len = rest.first().map_or(0, |len| usize::from(*len));
                match options.get(len..).filter(|_| len >= 2) {
                    Some(next) => options = next,
                    None => return false,
                }
            }
        }
    }
    false
}

/// Counts the TTL down and changes the checksum with it: HC' = ~(~HC + ~m + m') (RFC 1624 equation 3).
#[inline]
pub fn decrement(head: &mut [u8], l3_offset: usize) {
    let Some(header) = head.get_mut(l3_offset..).and_then(<[u8]>::first_chunk_mut::<IPV4_HEADER>) else { return };
    let before = u16::from_be_bytes([header[8], header[9]]);
    header[8] = header[8].wrapping_sub(1);
    let after = u16::from_be_bytes([header[8], header[9]]);
    let sum = u16::from_be_bytes([header[10], header[11]]);
    [header[10], header[11]] = update(sum, before, after).to_be_bytes();
}

/// A checksum after one of the words that it covers changed (RFC 1624 equation 3).
#[inline]
pub fn update(checksum: u16, before: u16, after: u16) -> u16 {
    !crate::path::checksum::fold(u64::from(!checksum) + u64::from(!before) + u64::from(after))
}

/// The same for all packets of a flow: addresses and protocol, and ports where every packet has them. Fragments have no
/// ports but in the first one, so that for all of them the ports do not count.
#[inline(never)]
pub fn flow_hash(head: &[u8], l3_offset: usize) -> u32 {
    let Some(header) = head.get(l3_offset..).and_then(<[u8]>::first_chunk::<IPV4_HEADER>) else { return 0 };
    let mut words = [0u64; 3];
    words[0] = u64::from_be_bytes([12, 13, 14, 15, 16, 17, 18, 19].map(|at: usize| header[at]));
    words[1] = u64::from(header[9]);
    let fragmented = u16::from_be_bytes([header[6], header[7]]) & IPV4_FRAGMENTED != 0;
    if matches!(header[9], TCP | UDP) && !fragmented {
        let start = l3_offset + usize::from(header[0] & 0xf) * 4;
        words[2] = head.get(start..).and_then(<[u8]>::first_chunk).map_or(0, |ports| u32::from_be_bytes(*ports).into());
    }
    mix(words)
}

/// One number of several. Not secret: whoever knows it can steer flows to one next hop, as with any router.
pub(super) fn mix(words: [u64; 3]) -> u32 {
    let mut hash = 0u64;
    for word in words {
        hash = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        hash ^= hash >> 29;
    }
    (hash >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vector_of_rfc_1624() {
        // Section 4: HC = DD2F, m = 5555, m' = 3285. RFC 1141's arithmetic would give FFFF.
        assert_eq!(update(0xdd2f, 0x5555, 0x3285), 0x0000);
    }

    fn packet() -> Vec<u8> {
        let mut frame = Vec::new();
        etherparse::PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4([10, 1, 0, 2], [10, 2, 0, 3], 64)
            .udp(1000, 2000)
            .write(&mut frame, b"payload")
            .unwrap();
        frame
    }

    fn seal(frame: &mut [u8]) {
        let end = 14 + usize::from(frame[14] & 0xf) * 4;
        frame[24..26].fill(0);
        let sum = !checksum::sum(&frame[14..end]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
    }

    #[test]
    fn a_header_is_valid_before_and_after_each_ttl() {
        for ttl in 1..=255u8 {
            let mut frame = packet();
            frame[22] = ttl;
            seal(&mut frame);
            let len = frame.len();
            assert_eq!(check(&frame, 14, len).unwrap().0.ttl, ttl);
            decrement(&mut frame, 14);
            let (after, to) = check(&frame, 14, len).unwrap();
            assert_eq!((after.ttl, to, after.len), (ttl - 1, 0x0a02_0003, len - 14));
        }
    }

    #[test]
    fn each_broken_field_is_refused() {
        let malformed = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut frame = packet();
            change(&mut frame);
            check(&frame, 14, frame.len()).unwrap_err()
        };
        assert_eq!(malformed(&|frame| frame[24] ^= 1), Drop::IpMalformed);
        for (at, value) in [(14, 0x55), (14, 0x44), (14, 0x4f), (16, 0xff), (17, 19)] {
            let broken = malformed(&|frame| {
                frame[at] = value;
                if frame[14] & 0xf == 5 {
                    seal(frame);
                }
            });
            assert_eq!(broken, Drop::IpMalformed, "byte {at} = {value:#x}");
        }
        assert_eq!(malformed(&|frame| frame.truncate(33)), Drop::IpMalformed);
        let martians = [(26, 127), (26, 0), (26, 224), (26, 240), (30, 127), (30, 0), (30, 224), (30, 255)];
        for (at, first) in martians {
            let reason = malformed(&|frame| {
                frame[at] = first;
                seal(frame);
            });
            assert_eq!(reason, Drop::IpMartian, "byte {at} = {first}");
        }
    }

    #[test]
    fn options_pass_but_for_source_routes() {
        let with = |options: [u8; 4]| {
            let mut frame = packet();
            frame.splice(34..34, options);
            frame[14] = 0x46;
            let len = (frame.len() - 14) as u16;
            frame[16..18].copy_from_slice(&len.to_be_bytes());
            seal(&mut frame);
            check(&frame, 14, frame.len()).map(|(packet, _)| packet.len)
        };
        assert_eq!(with([148, 4, 0, 0]), Ok(39));
        assert_eq!(with([1, 1, 1, 0]), Ok(39));
        // A length that leads nowhere is the end system's business.
        assert_eq!(with([148, 0, 131, 3]), Ok(39));
        assert_eq!(with([1, 131, 3, 4]), Err(Drop::IpSourceRoute));
        assert_eq!(with([137, 3, 4, 0]), Err(Drop::IpSourceRoute));
    }

    #[test]
    fn all_fragments_of_a_packet_hash_alike_and_ports_count_otherwise() {
        let whole = packet();
        let mut other = packet();
        other[35] ^= 1;
        assert_ne!(flow_hash(&whole, 14), flow_hash(&other, 14));
        let fragment = |offset: u16, seed: u8| {
            let mut frame = packet();
            frame[20..22].copy_from_slice(&offset.to_be_bytes());
            frame[34..38].fill(seed);
            flow_hash(&frame, 14)
        };
        assert_eq!(fragment(0x2000, 1), fragment(0x2005, 2));
        assert_eq!(fragment(0x2000, 1), fragment(0x0005, 3));
    }
}
