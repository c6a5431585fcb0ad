//! Packets that the kernel's router treats otherwise by design, each with its reason.

use switch::path::checksum::Partial;
use tests::net::packets::{ICMP, ICMPV6, IP, TCP};
use tests::net::router::{gateway_v4, gateway_v6, v4, v6};

use crate::random::{MTU, SUBNETS};

/// Protocols that the kernel has something for, of its own or in a module: IGMP, tunnels, IPsec, PIM, compression,
/// SCTP, UDP-Lite, MPLS.
const OTHERS: [u8; 13] = [2, 4, 41, 46, 47, 50, 51, 103, 108, 115, 132, 136, 137];

const HANDLED: &str = "the kernel speaks, or swallows, protocols that switchd does not speak and refuses";

/// Why switchd and the kernel's router may differ on this frame; `None` where they must not.
pub fn listed(frame: &[u8]) -> Option<&'static str> {
    let group = frame.first()? & 1 != 0;
    let to = match frame.get(12..14)? {
        [0x08, 0x00] => frame.get(IP + 16..IP + 20),
        _ => frame.get(IP + 24..IP + 40),
    };
    if group && to.is_some_and(is_to_router) {
        return Some("the kernel takes one host's packet out of a frame to many; RFC 1122 3.3.6 says not to");
    }
    if to.is_some_and(is_unknown_neighbour) {
        return Some("either router asks for an unknown neighbour, and gives it up, in its own time");
    }
    let ethertype = u16::from_be_bytes(*frame.get(12..)?.first_chunk()?);
    if Partial::find(frame, IP, ethertype).is_some() {
        return Some("one random checksum in 65536 is the sum of the pseudo-header: switchd takes it for unfinished");
    }
    match frame.get(12..14)? {
        [0x08, 0x00] => listed_v4(frame.get(IP..)?),
        [0x86, 0xdd] => listed_v6(frame.get(IP..)?),
        _ => None,
    }
}

/// To a subnet of the router, but neither to it nor to the host there nor to all: resolving that takes each its time.
/// The kernel takes the network address for a host, too.
fn is_unknown_neighbour(to: &[u8]) -> bool {
    let known = |number: u8| match to.len() {
        4 => [v4(number, 1), v4(number, 255)].iter().any(|address| to == address.octets()),
        _ => to == v6(number, 1).octets(),
    };
    let near = |number: u8| match to.len() {
        4 => to[..3] == v4(number, 0).octets()[..3],
        _ => to[..8] == v6(number, 0).octets()[..8],
    };
    (1..=SUBNETS as u8).any(|number| near(number) && !known(number)) && !is_to_router(to)
}

/// To one of the router's own addresses.
fn is_to_router(to: &[u8]) -> bool {
    (1..=SUBNETS as u8).any(|number| to == gateway_v4(number).octets() || to == gateway_v6(number).octets())
}

fn listed_v4(packet: &[u8]) -> Option<&'static str> {
    let header = packet.get(..20)?;
    let (source, destination) = (&header[12..16], &header[16..20]);
    let unusual = |address: &[u8]| address[0] == 0 || address[0] >= 240 || address.starts_with(&[169, 254]);
    let words = usize::from(header[0] & 0xf);
    if unusual(source) && source != [0; 4] || unusual(destination) && destination != [255; 4] && destination != [0; 4] {
        return Some(
            "the kernel forwards class E, 0/8 and link-local addresses; RFC 1812 5.3.7, RFC 3927 7 say not to",
        );
    }
    let shared = |address: &[u8]| (1..=SUBNETS as u8).any(|number| address == v4(number, 255).octets());
    if shared(source) {
        return Some("the kernel sends errors to a subnet's broadcast address; RFC 1812 4.3.2.7 says not to");
    }
    if words > 5 && !plain_options(packet.get(20..words * 4)?) {
        return Some(
            "the kernel answers malformed options with an error and fills in routes and times; switchd leaves \
                     options to the end systems, but for source routes",
        );
    }
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if words > 5 && header[6] & 0x40 == 0 && length > MTU[SUBNETS - 1] {
        return Some("the kernel blanks options that are not to be copied to later fragments; RFC 791 leaves them out");
    }
    let word = u16::from_be_bytes([header[6], header[7]]);
    let end = usize::from(word & 0x1fff) * 8 + length.saturating_sub(words * 4);
    if end > 65_535 && length > MTU[SUBNETS - 1] {
        return Some("the kernel cuts fragments that end behind 65535 bytes, and writes offsets that begin anew");
    }
    if is_to_router(destination) {
        let fragment = word & 0x3fff != 0;
        let kind = packet.get(words * 4);
        return match header[9] {
            _ if fragment => Some("what becomes of fragments to the router is tested by itself"),
            TCP => Some("the kernel refuses TCP with a reset; switchd says nothing"),
            protocol if OTHERS.contains(&protocol) => Some(HANDLED),
            ICMP if kind == Some(&13) => Some("the kernel tells the time (RFC 1812 4.3.3.8 leaves it open)"),
            _ => None,
        };
    }
    None
}

/// No operation, router alert, source routes as they must be, and options of other numbers than those known.
fn plain_options(mut options: &[u8]) -> bool {
    while let [kind, rest @ ..] = options {
        let length = rest.first().map_or(0, |length| usize::from(*length));
        options = match (kind, length) {
            // The kernel clears what is behind the end.
            (0, _) => return rest.iter().all(|byte| *byte == 0),
            (1, _) => rest,
            (148, 4) if rest.get(1..3) == Some(&[0, 0]) => &rest[3..],
            (131 | 137, 7) if rest.get(1) == Some(&4) && rest.len() >= 6 => &rest[6..],
            // Record route, time stamp, security.
            (7 | 68 | 130 | 131 | 133 | 134 | 136 | 137 | 148, _) => return false,
            (_, length) if length >= 2 && options.len() >= length => &options[length..],
            _ => return false,
        };
    }
    true
}

fn listed_v6(packet: &[u8]) -> Option<&'static str> {
    let header = packet.get(..40)?;
    let (source, destination) = (&header[8..24], &header[24..40]);
    let site_local = |address: &[u8]| address[0] == 0xfe && address[1] >> 6 == 3;
    if destination == [0; 16] {
        return Some("the kernel tells senders to :: that there is no route; RFC 4291 2.5.2: no such destination");
    }
    if source == [0; 16] {
        return Some(
            "the kernel sends packets from :: back to the link they come from; RFC 4291 2.5.2: never forwarded",
        );
    }
    if destination[0] == 0xfe && destination[1] >> 6 == 2 {
        return Some(
            "the kernel looks for link-local destinations, or tells that it has none; RFC 4291 2.5.6: no router's",
        );
    }
    if destination[0] == 0xff && header[6] != 17 {
        return Some("the kernel takes all groups it is in from frames to it alone (RFC 6085); switchd is in fewer");
    }
    if site_local(source) || site_local(destination) {
        return Some("the kernel knows site-local addresses, which RFC 3879 abolished");
    }
    if source.starts_with(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0]) || destination.starts_with(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0]) {
        let mapped = [source, destination].iter().any(|address| address[10..12] == [0xff; 2]);
        if mapped {
            return Some("the kernel drops packets with IPv4-mapped addresses");
        }
    }
    if header[6] == ICMPV6 && packet.get(40) == Some(&137) {
        return Some("the kernel tells senders of redirects of their fate; RFC 4443 2.4 (e.2) says not to");
    }
    if header[6] == 44 && packet.get(42..44)? >= &[0, 8][..] && matches!(packet.get(40), Some(&(ICMPV6 | 0 | 43 | 60)))
    {
        return Some("the kernel tells of later fragments of ICMPv6, which may be of errors (RFC 4443 2.4 (e.1))");
    }
    let payload = usize::from(u16::from_be_bytes([header[4], header[5]]));
    if header[6] == 0 && !plain_hop_by_hop(packet.get(40..40 + payload)?) {
        return Some("the kernel reads hop-by-hop options; RFC 8200 section 4 lets a router pass them unread");
    }
    if is_to_router(destination) {
        return match header[6] {
            TCP => Some("the kernel refuses TCP with a reset; switchd says nothing"),
            0 | 43 | 44 | 60 | 51 | 50 | 135 | 139 | 140 => {
                Some("what stands behind extension headers to the router is tested by itself")
            }
            protocol if OTHERS.contains(&protocol) => Some(HANDLED),
            ICMPV6 if 40 + payload > MTU[SUBNETS - 1] => {
                Some("each cuts an echo reply that is too long for its way back with an identification of its own")
            }
            ICMPV6 if !matches!(packet.get(40), Some(128)) => Some("what hosts say to a router is tested by itself"),
            _ => None,
        };
    }
    None
}

/// Padding and router alert in a header of eight bytes.
fn plain_hop_by_hop(header: &[u8]) -> bool {
    match header.get(1..8) {
        Some([0, 1, 4, padding @ ..]) => padding == [0; 4],
        Some([0, 5, 2, value @ ..]) => value == [0, 0, 1, 0],
        _ => false,
    }
}

/// Drawn once in a million packets: TCP whose random checksum is the sum of its pseudo-header.
#[test]
fn a_checksum_that_looks_unfinished_is_listed() {
    let mut frame = vec![0x02, 0xfe, 0, 0, 0, 3, 0x02, 0x33, 0, 0, 0, 2, 0x08, 0x00];
    frame.extend([0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, TCP, 0, 0, 10, 103, 128, 99, 10, 102, 253, 207]);
    let pseudo_header = 0x0a67 + 0x8063 + 0x0a66 + 0xfdcf + u32::from(TCP) + 20;
    frame.extend([0; 16].into_iter().chain(((pseudo_header % 0xffff) as u16).to_be_bytes()).chain([0, 0]));
    assert!(listed(&frame).is_some_and(|reason| reason.contains("unfinished")));
    frame[IP + 36] ^= 1;
    assert_eq!(listed(&frame), None);
}
