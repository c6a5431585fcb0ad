//! IPv6 headers: what makes one valid, what may be forwarded, how it changes (RFC 8200, RFC 4291).

use super::Packet;
use super::ipv4::mix;
use crate::path::transport::{FRAGMENT, TCP, UDP};
use crate::stats::Drop;

/// Bytes of the fixed header.
pub const IPV6_HEADER: usize = 40;

/// Checks the header of a packet to be forwarded or delivered: the packet and its destination.
/// `frame_len` counts the whole frame, of which `head` is the first part.
///
/// # Errors
/// Why the packet is dropped without a word.
#[inline]
pub fn check(head: &[u8], l3_offset: usize, frame_len: usize) -> Result<(Packet, u128), Drop> {
    let header: &[u8; IPV6_HEADER] = head.get(l3_offset..).and_then(<[u8]>::first_chunk).ok_or(Drop::IpMalformed)?;
    // A payload length of zero with a hop-by-hop header is a jumbogram (RFC 2675), which no link here carries.
    let len = IPV6_HEADER + usize::from(u16::from_be_bytes([header[4], header[5]]));
    let jumbogram = len == IPV6_HEADER && header[6] == 0;
    if header[0] >> 4 != 6 || l3_offset + len > frame_len || jumbogram {
        return Err(Drop::IpMalformed);
    }
    let (source, destination) = addresses(header);
    if (is_martian_source(source) || is_martian_destination(destination)) && !may_be_heard(source, destination) {
        return Err(Drop::IpMartian);
    }
    Ok((Packet { l3_offset, len, ttl: header[7], may_fragment: false }, destination))
}

fn addresses(header: &[u8; IPV6_HEADER]) -> (u128, u128) {
    // The last 32 of 40 bytes.
    let [_, _, source, destination, ..] = [0, 0, 8, 24]
        .map(|at| header.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u128::from_be_bytes(*bytes)));
    (source, destination)
}

/// True for fe80::/10.
#[inline]
pub fn is_link_local(address: u128) -> bool {
    address >> 118 == 0x3fa
}

/// True for ff00::/8.
#[inline]
pub fn is_multicast(address: u128) -> bool {
    address >> 120 == 0xff
}

/// True for ::ffff:0:0/96, IPv4 addresses as programs write them (RFC 4291 2.5.5.2): no host on a wire has them, and
/// a neighbour with one would be taken for the IPv4 one.
#[inline]
pub fn is_mapped(address: u128) -> bool {
    address >> 32 == 0xffff
}

/// Sources that no packet has that is sent to a router by unicast: ::, ::1, multicast (RFC 4291 2.5.2, 2.5.3, 2.7),
/// IPv4-mapped.
#[inline]
fn is_martian_source(address: u128) -> bool {
    address <= 1 || is_multicast(address) || is_mapped(address)
}

/// Destinations that a router does not forward to, its own link-local address and groups aside: the same.
#[inline]
fn is_martian_destination(address: u128) -> bool {
    is_martian_source(address)
}

/// True for a packet to a group, which may come in a frame to one station (RFC 6085): never forwarded, but the router
/// may be in that group. Duplicate address detection has no source.
#[cold]
fn may_be_heard(source: u128, destination: u128) -> bool {
    is_multicast(destination) && (source == 0 || !is_martian_source(source))
}

/// True if the sender's address means nothing beyond its link (RFC 4443 3.1 code 2).
#[inline]
pub fn source_is_link_local(head: &[u8], l3_offset: usize) -> bool {
    head.get(l3_offset + 8..).is_some_and(|source| matches!(source, [0xfe, second, ..] if second >> 6 == 2))
}

/// Counts the hop limit down.
#[inline]
pub fn decrement(head: &mut [u8], l3_offset: usize) {
    if let Some(hop_limit) = head.get_mut(l3_offset + 7) {
        *hop_limit = hop_limit.wrapping_sub(1);
    }
}

/// The same for all packets of a flow: addresses, and ports where every packet has them. The flow label
/// counts where there are no ports to see (RFC 6438).
#[inline(never)]
pub fn flow_hash(head: &[u8], l3_offset: usize) -> u32 {
    let Some(header) = head.get(l3_offset..).and_then(<[u8]>::first_chunk::<IPV6_HEADER>) else { return 0 };
    let (source, destination) = addresses(header);
    let fold = |address: u128| (address >> 64) as u64 ^ (address as u64).rotate_left(17);
    let next = header[6];
    let last = match next {
        TCP | UDP => {
            let ports = head.get(l3_offset + IPV6_HEADER..).and_then(<[u8]>::first_chunk);
            u64::from(next) << 32 | ports.map_or(0, |ports| u64::from(u32::from_be_bytes(*ports)))
        }
        FRAGMENT => u64::from(FRAGMENT) << 32,
        _ => u64::from(u32::from_be_bytes([0, header[1] & 0xf, header[2], header[3]])),
    };
    mix([fold(source), fold(destination), last])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet() -> Vec<u8> {
        let mut frame = Vec::new();
        let (source, destination) = ([0xfd, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2], [0xfd; 16]);
        etherparse::PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv6(source, destination, 64)
            .udp(1000, 2000)
            .write(&mut frame, b"payload")
            .unwrap();
        frame
    }

    #[test]
    fn headers_are_checked() {
        let frame = packet();
        let (found, to) = check(&frame, 14, frame.len()).unwrap();
        assert_eq!((found.len, found.ttl, found.may_fragment, to), (55, 64, false, u128::from_be_bytes([0xfd; 16])));
        // Padding behind the packet is the link's.
        assert_eq!(check(&frame, 14, frame.len() + 9).unwrap().0.len, 55);
        assert_eq!(check(&frame, 14, frame.len() - 1), Err(Drop::IpMalformed));
        assert_eq!(check(&frame[..53], 14, 53), Err(Drop::IpMalformed));
        let mut version = frame.clone();
        version[14] = 0x45;
        assert_eq!(check(&version, 14, version.len()), Err(Drop::IpMalformed));
        let mut jumbo = frame.clone();
        jumbo[18..21].fill(0);
        assert_eq!(check(&jumbo, 14, jumbo.len()), Err(Drop::IpMalformed));
        let mapped = 0xffff_0a01_0003_u128.to_be_bytes();
        let group = [0xff; 16];
        for (at, bytes) in [(22, [0; 16]), (38, [0; 16]), (22, group), (22, mapped), (38, mapped)] {
            let mut martian = packet();
            martian[at..at + 16].copy_from_slice(&bytes);
            assert_eq!(check(&martian, 14, martian.len()), Err(Drop::IpMartian));
            martian[at..at + 16].fill(0);
            martian[at + 15] = 1;
            assert_eq!(check(&martian, 14, martian.len()), Err(Drop::IpMartian));
        }
        // A group may be the router's own, also without a source.
        for (source, is_heard) in [([0xfd; 16], true), ([0; 16], true), (1u128.to_be_bytes(), false), (group, false)] {
            let mut frame = packet();
            frame[22..38].copy_from_slice(&source);
            frame[38..54].copy_from_slice(&group);
            assert_eq!(check(&frame, 14, frame.len()).is_ok(), is_heard, "{source:?}");
        }
    }

    #[test]
    fn scopes_and_hop_limit() {
        let mut frame = packet();
        assert!(!source_is_link_local(&frame, 14));
        frame[22..24].copy_from_slice(&[0xfe, 0xbf]);
        assert!(source_is_link_local(&frame, 14));
        frame[22..24].copy_from_slice(&[0xfe, 0xc0]);
        assert!(!source_is_link_local(&frame, 14));
        assert!(is_link_local(0xfe80 << 112) && !is_link_local(0xfec0 << 112) && is_multicast(0xff02 << 112));
        decrement(&mut frame, 14);
        assert_eq!(frame[21], 63);
    }

    #[test]
    fn flows_are_told_apart_by_ports_or_label() {
        let hash = |change: &dyn Fn(&mut [u8])| {
            let mut frame = packet();
            change(&mut frame);
            flow_hash(&frame, 14)
        };
        let plain = hash(&|_| {});
        assert_ne!(plain, hash(&|frame| frame[55] ^= 1));
        assert_ne!(plain, hash(&|frame| frame[53] ^= 1));
        // With ports, the label does not count; without, it does; fragments have neither.
        assert_eq!(plain, hash(&|frame| frame[17] ^= 1));
        assert_ne!(hash(&|frame| frame[20] = 58), hash(&|frame| (frame[20], frame[17]) = (58, 9)));
        assert_eq!(
            hash(&|frame| frame[20] = FRAGMENT),
            hash(&|frame| (frame[20], frame[55], frame[17]) = (FRAGMENT, 9, 9))
        );
    }
}
