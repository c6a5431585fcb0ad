//! Frames as others send them, made and read without the host's own builders.

use std::net::{IpAddr, Ipv6Addr};

use etherparse::{Icmpv6Type, NetSlice, PacketBuilder, SlicedPacket, TransportSlice};

use super::{Mac, OWN, mac};

const BROADCAST: Mac = Mac::BROADCAST;

/// An ARP packet: destination, operation, sender and target.
pub fn arp(to: Mac, operation: u8, sender: (Mac, [u8; 4]), target: (Mac, [u8; 4])) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(to.octets());
    bytes.extend(sender.0.octets());
    bytes.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, operation]);
    bytes.extend(sender.0.octets());
    bytes.extend(sender.1);
    bytes.extend(target.0.octets());
    bytes.extend(target.1);
    // As short frames arrive: padded.
    bytes.resize(60, 0);
    bytes
}

pub fn arp_request(from: Mac, sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    arp(BROADCAST, 1, (from, sender), (Mac::ZERO, target))
}

/// A reply to the switch.
pub fn arp_reply(from: Mac, sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    arp(OWN, 2, (from, sender), (OWN, target))
}

/// What a sent ARP packet says: destination, operation, sender and target.
#[allow(clippy::type_complexity)]
pub fn read_arp(bytes: &[u8]) -> (Mac, u8, (Mac, [u8; 4]), (Mac, [u8; 4])) {
    assert_eq!(bytes.len(), 42, "a whole ARP packet and nothing else");
    assert_eq!(bytes[12..20], [8, 6, 0, 1, 8, 0, 6, 4]);
    let mac = |at: usize| Mac::new(*bytes[at..].first_chunk().unwrap());
    let address = |at: usize| *bytes[at..].first_chunk::<4>().unwrap();
    assert_eq!(mac(6), mac(22), "the frame is its sender's");
    (mac(0), bytes[21], (mac(22), address(28)), (mac(32), address(38)))
}

/// A routed packet: TTL and addresses done, destination MAC address missing.
pub fn packet(src: [u8; 4], dst: [u8; 4], payload: usize) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(OWN.octets(), [0; 6])
        .ipv4(src, dst, 63)
        .udp(1000, 2000)
        .write(&mut frame, &vec![7; payload])
        .unwrap();
    frame
}

/// A routed IPv6 packet.
pub fn packet6(dst: Ipv6Addr) -> Vec<u8> {
    let mut frame = Vec::new();
    let src: Ipv6Addr = "2001:db8:ff::1".parse().unwrap();
    PacketBuilder::ethernet2(OWN.octets(), [0; 6])
        .ipv6(src.octets(), dst.octets(), 63)
        .udp(1000, 2000)
        .write(&mut frame, &[7; 20])
        .unwrap();
    frame
}

/// An ND message before it is sent.
#[derive(Clone)]
pub struct Nd {
    pub kind: u8,
    pub code: u8,
    pub hop_limit: u8,
    pub src_mac: Mac,
    pub dst_mac: Mac,
    pub src: Ipv6Addr,
    pub dst: Ipv6Addr,
    pub flags: u8,
    /// What follows the first eight bytes.
    pub body: Vec<u8>,
}

fn v6(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn option(kind: u8, mac: Mac) -> Vec<u8> {
    [&[kind, 1][..], &mac.octets()].concat()
}

impl Nd {
    /// A solicitation for `target` from station `number`, sent to the target's group.
    pub fn solicitation(number: u8, source: &str, target: &str) -> Nd {
        let target = v6(target);
        let [.., a, b, c] = target.octets();
        let group = Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c]);
        let mut body = target.octets().to_vec();
        body.extend(option(1, mac(number)));
        let dst_mac = Mac::new([0x33, 0x33, 0xff, a, b, c]);
        Nd {
            kind: 135,
            code: 0,
            hop_limit: 255,
            src_mac: mac(number),
            dst_mac,
            src: v6(source),
            dst: group,
            flags: 0,
            body,
        }
    }

    /// Duplicate address detection for `target`.
    pub fn probe(number: u8, target: &str) -> Nd {
        let mut nd = Nd::solicitation(number, "::", target);
        nd.body.truncate(16);
        nd
    }

    /// An advertisement of `target` to the switch's address `to`.
    pub fn advertisement(number: u8, target: &str, to: &str, flags: u8) -> Nd {
        let mut body = v6(target).octets().to_vec();
        body.extend(option(2, mac(number)));
        let (src, dst) = (v6(target), v6(to));
        let dst_mac = if dst.is_multicast() { Mac::new([0x33, 0x33, 0, 0, 0, 1]) } else { OWN };
        Nd { kind: 136, code: 0, hop_limit: 255, src_mac: mac(number), dst_mac, src, dst, flags, body }
    }

    pub fn router_solicitation(number: u8, source: &str) -> Nd {
        let (src, dst) = (v6(source), v6("ff02::2"));
        let dst_mac = Mac::new([0x33, 0x33, 0, 0, 0, 2]);
        let body = option(1, mac(number));
        Nd { kind: 133, code: 0, hop_limit: 255, src_mac: mac(number), dst_mac, src, dst, flags: 0, body }
    }

    pub fn frame(&self) -> Vec<u8> {
        let mut frame = Vec::new();
        let kind = Icmpv6Type::Unknown { type_u8: self.kind, code_u8: self.code, bytes5to8: [self.flags, 0, 0, 0] };
        PacketBuilder::ethernet2(self.src_mac.octets(), self.dst_mac.octets())
            .ipv6(self.src.octets(), self.dst.octets(), self.hop_limit)
            .icmpv6(kind)
            .write(&mut frame, &self.body)
            .unwrap();
        frame
    }
}

/// What a sent ND message says.
#[derive(Debug, PartialEq, Eq)]
pub struct Said {
    pub dst_mac: Mac,
    pub src_mac: Mac,
    pub src: Ipv6Addr,
    pub dst: Ipv6Addr,
    pub kind: u8,
    pub flags: u8,
    pub target: Ipv6Addr,
    /// Kind of the option with a MAC address, and that.
    pub option: Option<(u8, Mac)>,
}

/// Reads a sent ND message, and checks what every one must have.
pub fn read_nd(bytes: &[u8]) -> Said {
    let packet = SlicedPacket::from_ethernet(bytes).unwrap();
    let Some(NetSlice::Ipv6(ip)) = packet.net else { panic!("not IPv6: {bytes:?}") };
    let Some(TransportSlice::Icmpv6(icmp)) = packet.transport else { panic!("not ICMPv6: {bytes:?}") };
    let (src, dst) = (ip.header().source_addr(), ip.header().destination_addr());
    assert_eq!((ip.header().hop_limit(), icmp.code_u8()), (255, 0));
    assert!(icmp.is_checksum_valid(src.octets(), dst.octets()));
    let message = icmp.slice();
    if message[0] == 134 {
        // What the advertisement of a router says is tested where it is made.
        let (dst_mac, src_mac) =
            (Mac::new(*bytes.first_chunk().unwrap()), Mac::new(*bytes[6..].first_chunk().unwrap()));
        return Said { dst_mac, src_mac, src, dst, kind: 134, flags: 0, target: dst, option: None };
    }
    let target: [u8; 16] = *message[8..].first_chunk().unwrap();
    let option = message.get(24..32).map(|option| {
        assert_eq!(option[1], 1);
        (option[0], Mac::new(*option[2..].first_chunk().unwrap()))
    });
    assert!(message.len() == 24 || message.len() == 32);
    Said {
        dst_mac: Mac::new(*bytes.first_chunk().unwrap()),
        src_mac: Mac::new(*bytes[6..].first_chunk().unwrap()),
        src,
        dst,
        kind: message[0],
        flags: message[4],
        target: target.into(),
        option,
    }
}

/// Source and destination of a sent IP packet, with the frame's destination MAC address.
pub fn read_ip(bytes: &[u8]) -> (Mac, IpAddr, IpAddr) {
    let packet = SlicedPacket::from_ethernet(bytes).unwrap();
    let (src, dst) = match packet.net {
        Some(NetSlice::Ipv4(ip)) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        Some(NetSlice::Ipv6(ip)) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        other => panic!("not IP: {other:?}"),
    };
    (Mac::new(*bytes.first_chunk().unwrap()), src, dst)
}
