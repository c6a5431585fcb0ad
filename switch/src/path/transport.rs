//! Finds the TCP or UDP packet in a frame: where it starts, how long it is and what its pseudo-header sums to.
//!
//! Owns the walk over IPv4 and IPv6 headers, extension headers and one level of tunnel, reading header bytes
//! only. Called by `checksum` on a worker's core. All functions are pure and accept any bytes: what is
//! malformed, truncated or not understood yields `None`.
//!
//! A packet whose checksum cannot be told from its own bytes is not located: every fragment of a fragmented
//! datagram, an IPv6 packet with a routing header that still has segments to visit (its pseudo-header names
//! another destination, RFC 8200 section 8.1), a jumbogram, and any extension header but hop-by-hop, routing,
//! destination options and fragment (an atomic one, RFC 6946).

use super::checksum;

/// EtherType of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;
/// EtherTypes of an 802.1Q and an 802.1ad tag.
const ETHERTYPE_TAGS: [u16; 2] = [0x8100, 0x88a8];
/// EtherType of an Ethernet frame inside Geneve or GRE.
const ETHERTYPE_BRIDGED: u16 = 0x6558;

/// IP protocol number (IANA) of IPv6's hop-by-hop options.
pub const HOP_BY_HOP: u8 = 0;
/// IP protocol number of ICMP.
pub const ICMP: u8 = 1;
const IPV4_IN_IP: u8 = 4;
/// IP protocol number of TCP.
pub const TCP: u8 = 6;
/// IP protocol number of UDP.
pub const UDP: u8 = 17;
const IPV6_IN_IP: u8 = 41;
/// IP protocol number of IPv6's routing header.
pub const ROUTING: u8 = 43;
/// IP protocol number of IPv6's fragment header.
pub const FRAGMENT: u8 = 44;
const GRE: u8 = 47;
/// IP protocol number of ICMPv6.
pub const ICMPV6: u8 = 58;
/// IP protocol number of IPv6's destination options.
pub const DESTINATION_OPTIONS: u8 = 60;

/// Bytes of an IPv4 header without options.
pub const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
/// Bytes of a UDP header.
pub const UDP_HEADER: usize = 8;
pub(super) const TCP_HEADER: usize = 20;

/// IPv4 flags and offset word: any bit of "more fragments" or of the offset (RFC 791).
pub const IPV4_FRAGMENTED: u16 = 0x3fff;
/// The same in the IPv6 fragment header (RFC 8200 section 4.5).
const IPV6_FRAGMENTED: u16 = 0xfff9;

/// Extension headers followed in one packet. RFC 8200 expects each kind once, destination options twice.
pub const EXTENSION_HEADERS_MAX: usize = 8;

/// UDP ports of VXLAN: the assigned one, and the one Linux (so flannel and cilium) takes by default.
const VXLAN_PORTS: [u16; 2] = [4789, 8472];
/// UDP port of Geneve (RFC 8926).
const GENEVE_PORT: u16 = 6081;
/// Bytes of the VXLAN header and of the fixed Geneve header.
const TUNNEL_HEADER: usize = 8;
/// The VXLAN flag "the VNI is valid" (RFC 7348 section 5).
const VXLAN_FLAG_VNI: u8 = 0x08;

/// The payload of an IP packet that is whole: neither a fragment nor a jumbogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transport {
    /// Offset of the payload from the start of the frame, in bytes.
    pub start: usize,
    /// Length of the payload by the IP header, in bytes; link padding is not part of it. The frame may hold less.
    pub len: usize,
    /// IP protocol number of the payload.
    pub protocol: u8,
    /// Sum of source and destination address, not folded: at most eight 32-bit words.
    addresses: u64,
}

impl Transport {
    /// The pseudo-header's one's-complement sum (RFC 9293 section 3.1, RFC 768, RFC 8200 section 8.1): folded,
    /// not complemented. Never 0, since the protocol number is part of it.
    #[inline]
    pub fn pseudo_header_sum(&self) -> u16 {
        checksum::fold(self.addresses + self.len as u64 + u64::from(self.protocol))
    }

    /// Offset of the checksum field from the start of the frame, in bytes. `None` unless this is TCP or UDP with a
    /// length its header allows; `head` must hold the UDP header, whose length must equal the IP payload's.
    #[inline]
    pub fn checksum_field(&self, head: &[u8]) -> Option<usize> {
        match self.protocol {
            TCP if self.len >= TCP_HEADER => Some(self.start.checked_add(16)?),
            UDP if self.len >= UDP_HEADER => {
                let header: &[u8; UDP_HEADER] = chunk(head, self.start)?;
                let len = usize::from(u16::from_be_bytes([header[4], header[5]]));
                (len == self.len).then_some(self.start.checked_add(6)?)
            }
            _ => None,
        }
    }
}

/// Walks the IP header at `l3_offset` of `head` (and IPv6 extension headers) to the payload. `ethertype` names
/// the IP version, as it stands after any VLAN tag. `head` needs to hold these headers, not the payload.
#[inline]
pub fn locate(head: &[u8], l3_offset: usize, ethertype: u16) -> Option<Transport> {
    match ethertype {
        ETHERTYPE_IPV4 => locate_ipv4(head, l3_offset),
        ETHERTYPE_IPV6 => locate_ipv6(head, l3_offset),
        _ => None,
    }
}

/// Offset and EtherType behind up to two more VLAN tags, where `ethertype` at the end of what was read so far
/// announces one (802.1ad, or a tag within a tag).
#[inline]
pub fn skip_tags(head: &[u8], offset: usize, ethertype: u16) -> Option<(usize, u16)> {
    let (mut offset, mut ethertype) = (offset, ethertype);
    for _ in 0..2 {
        if !ETHERTYPE_TAGS.contains(&ethertype) {
            break;
        }
        ethertype = u16::from_be_bytes(*chunk(head, offset + 2)?);
        offset += 4;
    }
    Some((offset, ethertype))
}

/// First octets of tunnel ports, a bit for each.
const TUNNEL_PORTS_HIGH: u64 = {
    let ports = [VXLAN_PORTS[0], VXLAN_PORTS[1], GENEVE_PORT];
    let (mut at, mut bits) = (0, 0);
    while at < ports.len() {
        assert!(ports[at] >> 8 < 64);
        bits |= 1 << (ports[at] >> 8);
        at += 1;
    }
    bits
};

/// False where a port that begins with this octet is certainly none of a tunnel.
#[inline]
pub(super) fn may_be_tunnel_port(high: u8) -> bool {
    high < 64 && TUNNEL_PORTS_HIGH >> high & 1 != 0
}

/// True for the UDP ports of VXLAN and Geneve.
#[inline]
pub(super) fn is_tunnel_port(port: u16) -> bool {
    VXLAN_PORTS.contains(&port) || port == GENEVE_PORT
}

/// The IP payload one tunnel further in: VXLAN or Geneve over UDP by destination port, GRE, or IP in IP. `None`
/// when `outer` is no such tunnel or the inner packet does not fit in it.
#[inline]
pub fn locate_tunnelled(head: &[u8], outer: &Transport) -> Option<Transport> {
    let inner = match outer.protocol {
        UDP => {
            let header: &[u8; UDP_HEADER] = chunk(head, outer.start)?;
            let port = u16::from_be_bytes([header[2], header[3]]);
            if !is_tunnel_port(port) {
                return None;
            }
            locate_overlay(head, outer.start + UDP_HEADER, port)?
        }
        GRE => locate_gre(head, outer.start)?,
        IPV4_IN_IP => locate_ipv4(head, outer.start)?,
        IPV6_IN_IP => locate_ipv6(head, outer.start)?,
        _ => return None,
    };
    (inner.start.checked_add(inner.len)? <= outer.start.checked_add(outer.len)?).then_some(inner)
}

/// The IP payload of the packet or Ethernet frame behind the GRE header at `at` (RFC 2784, RFC 2890).
fn locate_gre(head: &[u8], at: usize) -> Option<Transport> {
    let [flags, version, t0, t1] = *chunk(head, at)?;
    if version & 0x07 != 0 {
        return None;
    }
    // Checksum, key and sequence number: four bytes each, where their flag is set.
    let options = [0x80, 0x20, 0x10].iter().filter(|&&flag| flags & flag != 0).count();
    let (mut l3_offset, mut ethertype) = (at + 4 + 4 * options, u16::from_be_bytes([t0, t1]));
    if ethertype == ETHERTYPE_BRIDGED {
        (l3_offset, ethertype) = skip_ethernet(head, l3_offset)?;
    }
    locate(head, l3_offset, ethertype)
}

/// The IP payload of the Ethernet frame (or Geneve's bare IP packet) behind the tunnel header at `at`.
fn locate_overlay(head: &[u8], at: usize, port: u16) -> Option<Transport> {
    let header: &[u8; TUNNEL_HEADER] = chunk(head, at)?;
    let mut l3_offset = at + TUNNEL_HEADER;
    let mut ethertype = ETHERTYPE_BRIDGED;
    if port == GENEVE_PORT {
        // Version 0 only; the low six bits count the options' 4-byte words.
        if header[0] >> 6 != 0 {
            return None;
        }
        l3_offset += usize::from(header[0] & 0x3f) * 4;
        ethertype = u16::from_be_bytes([header[2], header[3]]);
    } else if header[0] & VXLAN_FLAG_VNI == 0 {
        return None;
    }
    if ethertype == ETHERTYPE_BRIDGED {
        (l3_offset, ethertype) = skip_ethernet(head, l3_offset)?;
    }
    locate(head, l3_offset, ethertype)
}

/// Offset and EtherType of what follows the Ethernet header at `at` and up to two VLAN tags.
fn skip_ethernet(head: &[u8], at: usize) -> Option<(usize, u16)> {
    let ethertype = u16::from_be_bytes(*chunk(head, at + 12)?);
    skip_tags(head, at + 14, ethertype)
}

#[inline]
fn locate_ipv4(head: &[u8], at: usize) -> Option<Transport> {
    let header: &[u8; IPV4_HEADER] = chunk(head, at)?;
    let header_len = usize::from(header[0] & 0x0f) * 4;
    let total_len = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let fragment = u16::from_be_bytes([header[6], header[7]]);
    if header[0] >> 4 != 4 || header_len < IPV4_HEADER || fragment & IPV4_FRAGMENTED != 0 {
        return None;
    }
    Some(Transport {
        start: at + header_len,
        len: total_len.checked_sub(header_len)?,
        protocol: header[9],
        addresses: sum_words(&header[12..]),
    })
}

#[inline]
fn locate_ipv6(head: &[u8], at: usize) -> Option<Transport> {
    let header: &[u8; IPV6_HEADER] = chunk(head, at)?;
    let payload_len = usize::from(u16::from_be_bytes([header[4], header[5]]));
    // Length 0 announces a jumbogram (RFC 2675), whose length stands in an option.
    if header[0] >> 4 != 6 || payload_len == 0 {
        return None;
    }
    let mut start = at + IPV6_HEADER;
    let end = start + payload_len;
    let mut protocol = header[6];
    for _ in 0..EXTENSION_HEADERS_MAX {
        if !matches!(protocol, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS) {
            let len = end.checked_sub(start)?;
            return Some(Transport { start, len, protocol, addresses: sum_words(&header[8..]) });
        }
        let extension: &[u8; 8] = chunk(head, start)?;
        let segments_left = extension[3];
        let fragment = u16::from_be_bytes([extension[2], extension[3]]);
        start += match protocol {
            ROUTING if segments_left != 0 => return None,
            FRAGMENT if fragment & IPV6_FRAGMENTED != 0 => return None,
            FRAGMENT => 8,
            _ => 8 + usize::from(extension[1]) * 8,
        };
        protocol = extension[0];
    }
    None
}

/// The `N` bytes at `at`, or `None` where the frame ends before them.
#[inline]
fn chunk<const N: usize>(bytes: &[u8], at: usize) -> Option<&[u8; N]> {
    bytes.get(at..)?.first_chunk()
}

/// Sum of the big-endian 32-bit words of `addresses`; congruent to that of its 16-bit words modulo 0xffff.
#[inline]
fn sum_words(addresses: &[u8]) -> u64 {
    addresses.as_chunks::<4>().0.iter().map(|word| u64::from(u32::from_be_bytes(*word))).sum()
}
