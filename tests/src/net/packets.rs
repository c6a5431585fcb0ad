//! IP packets for tests, built byte by byte so that every field can be wrong: builders, and what tells packets apart.
//!
//! A packet is a `Vec<u8>` from the first byte of its Ethernet header. Builders give sound packets; a test changes
//! fields and calls [`seal`] where the header's checksum shall be right again.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes of an Ethernet header: where the IP header starts.
pub const IP: usize = 14;

/// Protocol numbers (IANA).
pub const ICMP: u8 = 1;
/// TCP.
pub const TCP: u8 = 6;
/// UDP.
pub const UDP: u8 = 17;
/// ICMP for IPv6.
pub const ICMPV6: u8 = 58;

const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];

/// Two ends of a packet: MAC and IP addresses of one version.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// Destination and source MAC address.
    pub macs: [[u8; 6]; 2],
    /// Source and destination IP address.
    pub ips: (IpAddr, IpAddr),
}

/// The Internet checksum of the concatenated parts (RFC 1071); parts but the last have even lengths.
pub fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u64;
    for pair in parts.iter().flat_map(|part| part.chunks(2)) {
        sum += u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn pseudo_header(ips: (IpAddr, IpAddr), protocol: u8, length: usize) -> Vec<u8> {
    let mut bytes = match ips {
        (IpAddr::V4(from), IpAddr::V4(to)) => [from.octets(), to.octets()].concat(),
        (IpAddr::V6(from), IpAddr::V6(to)) => [from.octets(), to.octets()].concat(),
        _ => panic!("{ips:?} are of two versions"),
    };
    // The sum is the same whether length and protocol take two or four bytes.
    bytes.extend([0, protocol]);
    bytes.extend((length as u16).to_be_bytes());
    bytes
}

/// A whole frame: Ethernet header, IP header (TTL 64, identification 0x1234, DF), `payload` behind it.
pub fn ip(ends: &Ends, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = ends.macs.concat();
    match ends.ips {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            frame.extend(ETHERTYPE_IPV4);
            frame.extend([0x45, 0]);
            frame.extend(((20 + payload.len()) as u16).to_be_bytes());
            frame.extend([0x12, 0x34, 0x40, 0, 64, protocol, 0, 0]);
            frame.extend(from.octets());
            frame.extend(to.octets());
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            frame.extend(ETHERTYPE_IPV6);
            frame.extend([0x60, 0, 0, 0]);
            frame.extend((payload.len() as u16).to_be_bytes());
            frame.extend([protocol, 64]);
            frame.extend(from.octets());
            frame.extend(to.octets());
        }
        ips => panic!("{ips:?} are of two versions"),
    }
    frame.extend(payload);
    seal(&mut frame);
    frame
}

/// Makes the IPv4 header's checksum right, as far as there is a header; other frames stay as they are.
pub fn seal(frame: &mut [u8]) {
    if frame.len() < IP + 20 || frame[12..14] != ETHERTYPE_IPV4 {
        return;
    }
    let end = IP + usize::from(frame[IP] & 0xf).max(5) * 4;
    if end > frame.len() {
        return;
    }
    frame[IP + 10..IP + 12].fill(0);
    let sum = checksum(&[&frame[IP..end]]);
    frame[IP + 10..IP + 12].copy_from_slice(&sum.to_be_bytes());
}

/// A UDP header and payload with their checksum.
pub fn udp_part(ips: (IpAddr, IpAddr), ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let length = 8 + payload.len();
    let mut part = [ports.0.to_be_bytes(), ports.1.to_be_bytes(), (length as u16).to_be_bytes(), [0, 0]].concat();
    part.extend(payload);
    let sum = match checksum(&[&pseudo_header(ips, UDP, length), &part]) {
        // Zero says "no checksum" (RFC 768).
        0 => 0xffff,
        sum => sum,
    };
    part[6..8].copy_from_slice(&sum.to_be_bytes());
    part
}

/// A UDP datagram.
pub fn udp(ends: &Ends, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    ip(ends, UDP, &udp_part(ends.ips, ports, payload))
}

/// A TCP segment: SYN with a maximum segment size, if `mss` names one, else ACK with a payload.
pub fn tcp(ends: &Ends, ports: (u16, u16), mss: Option<u16>, payload: &[u8]) -> Vec<u8> {
    let mut part = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
    part.extend([0, 0, 0, 1, 0, 0, 0, 0]);
    part.extend(if mss.is_some() { [0x60, 0x02] } else { [0x50, 0x10] });
    part.extend([0xff, 0xff, 0, 0, 0, 0]);
    part.extend(mss.iter().flat_map(|mss| [[2, 4], mss.to_be_bytes()].concat()));
    part.extend(payload);
    let sum = checksum(&[&pseudo_header(ends.ips, TCP, part.len()), &part]);
    part[16..18].copy_from_slice(&sum.to_be_bytes());
    ip(ends, TCP, &part)
}

/// An ICMP or ICMPv6 message, by the addresses' version: type, code, the rest of its header, and what follows.
pub fn icmp(ends: &Ends, kind: (u8, u8), rest: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut part = vec![kind.0, kind.1, 0, 0];
    part.extend(rest);
    part.extend(payload);
    let (protocol, pseudo) = match ends.ips.0 {
        IpAddr::V4(_) => (ICMP, Vec::new()),
        IpAddr::V6(_) => (ICMPV6, pseudo_header(ends.ips, ICMPV6, part.len())),
    };
    let sum = checksum(&[&pseudo, &part]);
    part[2..4].copy_from_slice(&sum.to_be_bytes());
    ip(ends, protocol, &part)
}

/// An echo request of the addresses' version.
pub fn echo_request(ends: &Ends, id: u16, sequence: u16, payload: &[u8]) -> Vec<u8> {
    let kind = if ends.ips.0.is_ipv4() { 8 } else { 128 };
    let [a, b] = id.to_be_bytes();
    let [c, d] = sequence.to_be_bytes();
    icmp(ends, (kind, 0), [a, b, c, d], payload)
}

/// An ARP packet for Ethernet and IPv4: operation (1 asks, 2 answers), sender, target.
pub fn arp(to: [u8; 6], operation: u8, sender: ([u8; 6], Ipv4Addr), target: ([u8; 6], Ipv4Addr)) -> Vec<u8> {
    let mut frame = [to, sender.0].concat();
    frame.extend(ETHERTYPE_ARP);
    frame.extend([0, 1, 8, 0, 6, 4, 0, operation]);
    for (mac, address) in [sender, target] {
        frame.extend(mac);
        frame.extend(address.octets());
    }
    frame.resize(60, 0);
    frame
}

/// A neighbour solicitation for `target` to its solicited-node group, with the source's link-layer address.
pub fn solicitation(from: ([u8; 6], Ipv6Addr), target: Ipv6Addr) -> Vec<u8> {
    let octets = target.octets();
    let mut group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0).octets();
    group[13..].copy_from_slice(&octets[13..]);
    let mac = [0x33, 0x33, 0xff, octets[13], octets[14], octets[15]];
    let ends = Ends { macs: [mac, from.0], ips: (from.1.into(), Ipv6Addr::from(group).into()) };
    let mut body = octets.to_vec();
    body.extend([1, 1]);
    body.extend(from.0);
    let mut frame = icmp(&ends, (135, 0), [0; 4], &body);
    // Neighbour discovery is believed with a hop limit of 255 only (RFC 4861 7.1.1); it is not in the checksum.
    frame[IP + 7] = 255;
    frame
}

/// A neighbour advertisement (solicited, override) of `from` to another host.
pub fn advertisement(to: ([u8; 6], Ipv6Addr), from: ([u8; 6], Ipv6Addr)) -> Vec<u8> {
    let ends = Ends { macs: [to.0, from.0], ips: (from.1.into(), to.1.into()) };
    let mut body = from.1.octets().to_vec();
    body.extend([2, 1]);
    body.extend(from.0);
    let mut frame = icmp(&ends, (136, 0), [0x60, 0, 0, 0], &body);
    frame[IP + 7] = 255;
    frame
}

/// IPv4 options between header and payload, padded to words; length and checksum are right again.
pub fn with_options(mut frame: Vec<u8>, options: &[u8]) -> Vec<u8> {
    let mut padded = options.to_vec();
    padded.resize(options.len().next_multiple_of(4), 0);
    frame[IP] += (padded.len() / 4) as u8;
    let total = u16::from_be_bytes([frame[IP + 2], frame[IP + 3]]) + padded.len() as u16;
    frame[IP + 2..IP + 4].copy_from_slice(&total.to_be_bytes());
    frame.splice(IP + 20..IP + 20, padded);
    seal(&mut frame);
    frame
}

/// An IPv6 extension header of `kind` in front of the others: its bytes from the second on; the first becomes what
/// the next header was.
pub fn with_extension(mut frame: Vec<u8>, kind: u8, rest: &[u8]) -> Vec<u8> {
    let next = std::mem::replace(&mut frame[IP + 6], kind);
    let length = u16::from_be_bytes([frame[IP + 4], frame[IP + 5]]) + 1 + rest.len() as u16;
    frame[IP + 4..IP + 6].copy_from_slice(&length.to_be_bytes());
    frame.splice(IP + 40..IP + 40, std::iter::once(next).chain(rest.iter().copied()));
    frame
}

/// What an ICMP error of either version says, read from a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IcmpError {
    /// Its type and code.
    pub kind: (u8, u8),
    /// The rest of the header: MTU, pointer or gateway.
    pub rest: u32,
    /// What follows: the start of the packet that it is about; for a redirect of IPv6 its two addresses.
    pub body: Vec<u8>,
}

/// Reads the ICMP message of a frame: type, code, rest and body. `None` for other frames.
pub fn icmp_of(frame: &[u8]) -> Option<IcmpError> {
    let start = match (frame.get(12..14)?, frame.get(IP)?) {
        ([0x08, 0x00], first) if frame.get(IP + 9) == Some(&ICMP) => IP + usize::from(first & 0xf) * 4,
        ([0x86, 0xdd], _) if frame.get(IP + 6) == Some(&ICMPV6) => IP + 40,
        _ => return None,
    };
    let end = IP + ip_length(frame)?;
    let message = frame.get(start..end)?;
    let (&[kind, code, _, _, a, b, c, d], body) = message.split_first_chunk()?;
    Some(IcmpError { kind: (kind, code), rest: u32::from_be_bytes([a, b, c, d]), body: body.to_vec() })
}

/// Bytes of a frame's IP packet, by its header; no more than the frame has. `None` for frames that are not IP.
pub fn ip_length(frame: &[u8]) -> Option<usize> {
    let header = frame.get(IP..)?;
    let word = |at: usize| Some(usize::from(u16::from_be_bytes([*header.get(at)?, *header.get(at + 1)?])));
    let length = match frame.get(12..14)? {
        [0x08, 0x00] => word(2)?,
        [0x86, 0xdd] => word(4)? + 40,
        _ => return None,
    };
    Some(length.min(header.len()))
}

/// True for a frame that carries IP and says so with its EtherType.
pub fn is_ip(frame: &[u8]) -> bool {
    matches!(frame.get(12..14), Some([0x08, 0x00] | [0x86, 0xdd]))
}

/// True for ARP, and for ICMPv6 of neighbour discovery (RFC 4861: types 133 to 137).
pub fn is_discovery(frame: &[u8]) -> bool {
    match frame.get(12..14) {
        Some([0x08, 0x06]) => true,
        Some([0x86, 0xdd]) => frame.get(IP + 6) == Some(&ICMPV6) && matches!(frame.get(IP + 40), Some(133..=137)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(version: u8) -> Ends {
        let ips: (IpAddr, IpAddr) = match version {
            4 => (Ipv4Addr::new(10, 0, 0, 1).into(), Ipv4Addr::new(10, 0, 0, 2).into()),
            _ => ("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap()),
        };
        Ends { macs: [[2; 6], [4; 6]], ips }
    }

    #[test]
    fn etherparse_reads_what_is_built() {
        for version in [4, 6] {
            let ends = ends(version);
            for (frame, protocol) in [
                (udp(&ends, (1, 2), b"abc"), UDP),
                (tcp(&ends, (1, 2), Some(1460), b""), TCP),
                (tcp(&ends, (1, 2), None, b"odd"), TCP),
                (echo_request(&ends, 7, 9, b"payload"), if version == 4 { ICMP } else { ICMPV6 }),
            ] {
                let read = etherparse::SlicedPacket::from_ethernet(&frame).unwrap();
                let payload = read.net.as_ref().unwrap().ip_payload_ref().unwrap();
                assert_eq!((payload.ip_number.0, IP + ip_length(&frame).unwrap()), (protocol, frame.len()));
                let mut parts = vec![payload.payload.to_vec()];
                if protocol != ICMP {
                    parts.insert(0, pseudo_header(ends.ips, protocol, payload.payload.len()));
                }
                let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
                assert_eq!(checksum(&parts), 0, "protocol {protocol}");
                if version == 4 {
                    assert_eq!(checksum(&[&frame[IP..IP + 20]]), 0);
                }
            }
        }
    }

    #[test]
    fn options_and_extensions_leave_the_rest_whole() {
        let frame = with_options(udp(&ends(4), (1, 2), b"abc"), &[1, 1, 1]);
        assert_eq!((frame[IP], checksum(&[&frame[IP..IP + 24]]), ip_length(&frame)), (0x46, 0, Some(35)));
        let frame = with_extension(udp(&ends(6), (1, 2), b"abc"), 0, &[0, 1, 4, 0, 0, 0, 0]);
        let read = etherparse::SlicedPacket::from_ethernet(&frame).unwrap();
        assert!(matches!(read.transport, Some(etherparse::TransportSlice::Udp(_))), "{read:?}");
    }

    #[test]
    fn errors_are_read() {
        let quoted = udp(&ends(4), (1, 2), b"abc")[IP..].to_vec();
        let mut frame = icmp(&ends(4), (3, 4), [0, 0, 5, 120], &quoted);
        frame.resize(80, 0);
        let error = icmp_of(&frame).unwrap();
        assert_eq!((error.kind, error.rest, error.body), ((3, 4), 1400, quoted));
        assert_eq!(icmp_of(&udp(&ends(4), (1, 2), b"")), None);
        let from = ([2; 6], "fd00::1".parse().unwrap());
        let asks = solicitation(from, "fd00::2".parse().unwrap());
        assert!(is_discovery(&asks) && icmp_of(&asks).unwrap().kind == (135, 0));
    }
}
