//! The rules of a router, one test each: RFC 1812, 1624, 1191, 2644 for IPv4; RFC 8200, 4443, 4861, 4291 for IPv6;
//! RFC 826 and 1122 where the next hop is not known.

mod ecmp;
mod icmp_errors;
mod ipv4_forwarding;
mod ipv4_validation;
mod ipv6_forwarding;
mod mtu;
mod neighbours;
mod reassembly;
mod redirects;
mod vrf;

use std::net::{Ipv4Addr, Ipv6Addr};

use etherparse::{IpNumber, Ipv4Header, PacketBuilder};
use switch::ids::Mac;
use switch::path::checksum;
use switch::stats::Drop;
use switch::table::next_hop::NextHop;
use tests::router_lab::{RouterLab, gateway, station, v4, v6};

/// Where the IP header starts in a frame of these tests.
const IP: usize = 14;

/// A UDP packet from the host behind port `from` to `to`, sent to its gateway.
fn udp4(from: usize, to: Ipv4Addr, ttl: u8, payload: usize) -> Vec<u8> {
    udp4_from(from, v4(from, 2), to, ttl, payload)
}

fn udp4_from(from: usize, source: Ipv4Addr, to: Ipv4Addr, ttl: u8, payload: usize) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(station(from).octets(), gateway(from).octets());
    let mut frame = Vec::new();
    let payload: Vec<u8> = (0..payload).map(|at| at as u8).collect();
    builder.ipv4(source.octets(), to.octets(), ttl).udp(4000, 33434).write(&mut frame, &payload).unwrap();
    frame
}

/// The same over IPv6.
fn udp6(from: usize, to: Ipv6Addr, hop_limit: u8, payload: usize) -> Vec<u8> {
    udp6_from(from, v6(from, 2), to, hop_limit, payload)
}

fn udp6_from(from: usize, source: Ipv6Addr, to: Ipv6Addr, hop_limit: u8, payload: usize) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(station(from).octets(), gateway(from).octets());
    let mut frame = Vec::new();
    let payload: Vec<u8> = (0..payload).map(|at| at as u8).collect();
    builder.ipv6(source.octets(), to.octets(), hop_limit).udp(4000, 33434).write(&mut frame, &payload).unwrap();
    frame
}

/// Changes an IPv4 frame and makes its header checksum right again.
fn changed(mut frame: Vec<u8>, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    change(&mut frame);
    let end = IP + usize::from(frame[IP] & 0xf) * 4;
    frame[IP + 10..IP + 12].fill(0);
    let sum = !checksum::sum(&frame[IP..end.min(frame.len())]);
    frame[IP + 10..IP + 12].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// Puts options behind the fixed header.
fn with_options(frame: Vec<u8>, options: &[u8]) -> Vec<u8> {
    changed(frame, |frame| {
        frame.splice(IP + 20..IP + 20, options.iter().copied());
        frame[IP] = 0x40 | (5 + options.len() / 4) as u8;
        let total = (frame.len() - IP) as u16;
        frame[IP + 2..IP + 4].copy_from_slice(&total.to_be_bytes());
    })
}

/// What the router must have made of an IPv4 frame that goes out of port `to`: addresses, TTL and checksum changed,
/// nothing else.
fn routed4(frame: &[u8], to: usize) -> Vec<u8> {
    changed(sent_on(frame, to), |frame| frame[IP + 8] -= 1)
}

/// The same for IPv6.
fn routed6(frame: &[u8], to: usize) -> Vec<u8> {
    let mut frame = sent_on(frame, to);
    frame[IP + 7] -= 1;
    frame
}

fn sent_on(frame: &[u8], to: usize) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[..6].copy_from_slice(&station(to).octets());
    frame[6..12].copy_from_slice(&gateway(to).octets());
    frame
}

/// An ICMP message in an IPv4 frame: source address, type, code, second word, what follows.
struct Icmp {
    from: Ipv4Addr,
    to: Ipv4Addr,
    kind: [u8; 2],
    word: u32,
    quoted: Vec<u8>,
    header: Ipv4Header,
}

fn icmp(frame: &[u8]) -> Icmp {
    let (header, rest) = Ipv4Header::from_slice(&frame[IP..]).unwrap();
    assert_eq!(header.protocol, IpNumber::ICMP, "{frame:02x?}");
    assert_eq!(header.calc_header_checksum(), header.header_checksum);
    let message = &rest[..usize::from(header.total_len) - header.header_len()];
    assert_eq!(checksum::sum(message), 0xffff, "the message's checksum");
    Icmp {
        from: header.source.into(),
        to: header.destination.into(),
        kind: [message[0], message[1]],
        word: u32::from_be_bytes(message[4..8].try_into().unwrap()),
        quoted: message[8..].to_vec(),
        header,
    }
}

/// An ICMPv6 message: source, destination, type, code, second word, what follows.
fn icmp6(frame: &[u8]) -> (Ipv6Addr, Ipv6Addr, [u8; 2], u32, Vec<u8>) {
    assert_eq!((&frame[12..14], frame[IP + 6]), (&[0x86, 0xdd][..], 58), "{frame:02x?}");
    let address = |at: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&frame[at..at + 16]).unwrap());
    let (from, to, message) = (address(IP + 8), address(IP + 24), &frame[IP + 40..]);
    let pseudo: u64 = from.segments().iter().chain(&to.segments()).map(|word| u64::from(*word)).sum();
    let sum = pseudo + 58 + message.len() as u64 + u64::from(checksum::sum(message));
    assert_eq!(checksum::fold(sum), 0xffff, "the message's checksum");
    let word = u32::from_be_bytes(message[4..8].try_into().unwrap());
    (from, to, [message[0], message[1]], word, message[8..].to_vec())
}

/// An ICMP echo request to the router or beyond.
fn ping4(from: usize, to: Ipv4Addr, ttl: u8) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(station(from).octets(), gateway(from).octets());
    let mut frame = Vec::new();
    builder.ipv4(v4(from, 2).octets(), to.octets(), ttl).icmpv4_echo_request(7, 1).write(&mut frame, b"data").unwrap();
    frame
}

fn ping6(from: usize, to: Ipv6Addr, hop_limit: u8) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(station(from).octets(), gateway(from).octets());
    let mut frame = Vec::new();
    builder
        .ipv6(v6(from, 2).octets(), to.octets(), hop_limit)
        .icmpv6_echo_request(7, 1)
        .write(&mut frame, b"data")
        .unwrap();
    frame
}

/// Sends a frame that must vanish without a word, under this reason.
fn assert_dropped(lab: &mut RouterLab, frame: &[u8], reason: Drop) {
    let before = lab.dropped(reason);
    lab.send(0, frame);
    lab.assert_silent();
    assert_eq!(lab.dropped(reason), before + 1, "{reason:?}; all drops: {:?}", lab.drops());
}
