//! ICMP for IPv4 (RFC 792): answers to echo requests, errors about packets that could not be forwarded, redirects.
//!
//! Pure functions from packet to packet, both from the IP header on. What may be answered at all is decided here
//! (RFC 1122 3.2.2, RFC 1812 4.3.2.7); how often, in `limit`.

use std::net::Ipv4Addr;

use crate::path::checksum;
use crate::path::route::ipv4::is_martian_source;
use crate::path::transport::{ICMP, IPV4_HEADER};

const HEADER: usize = 8;
/// Longest error: RFC 1812 4.3.2.3.
const ERROR_MAX: usize = 576;
/// TTL of what the switch sends (RFC 1700).
const TTL: u8 = 64;
/// Precedence 6 (RFC 1812 4.3.2.5).
const ERROR_TOS: u8 = 0xc0;
const OFFSET_MASK: u16 = 0x1fff;

/// Types of messages (RFC 792).
const ECHO_REPLY: u8 = 0;
const UNREACHABLE: u8 = 3;
const REDIRECT: u8 = 5;
const ECHO_REQUEST: u8 = 8;
const TIME_EXCEEDED: u8 = 11;

/// What an error says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// 3/0: no route.
    NetUnreachable,
    /// 3/1: nobody answers there.
    HostUnreachable,
    /// 3/2: nothing here speaks that protocol.
    ProtocolUnreachable,
    /// 3/3: nothing listens there.
    PortUnreachable,
    /// 3/4: too big, with the next hop's MTU in bytes (RFC 1191).
    FragmentationNeeded(u32),
    /// 3/13: forbidden.
    Prohibited,
    /// 5/1: this router is the better one for that host.
    Redirect(Ipv4Addr),
    /// 11/0: out of TTL.
    TtlExceeded,
    /// 11/1: not all of its fragments came in time.
    ReassemblyTime,
}

impl Error {
    /// Type, code and the second word.
    fn fields(self) -> (u8, u8, [u8; 4]) {
        match self {
            Error::NetUnreachable => (UNREACHABLE, 0, [0; 4]),
            Error::HostUnreachable => (UNREACHABLE, 1, [0; 4]),
            Error::ProtocolUnreachable => (UNREACHABLE, 2, [0; 4]),
            Error::PortUnreachable => (UNREACHABLE, 3, [0; 4]),
            Error::FragmentationNeeded(mtu) => {
                let [high, low] = mtu.min(u32::from(u16::MAX)).to_be_bytes()[2..] else {
                    return (UNREACHABLE, 4, [0; 4]);
                };
                (UNREACHABLE, 4, [0, 0, high, low])
            }
            Error::Prohibited => (UNREACHABLE, 13, [0; 4]),
            Error::Redirect(router) => (REDIRECT, 1, router.octets()),
            Error::TtlExceeded => (TIME_EXCEEDED, 0, [0; 4]),
            Error::ReassemblyTime => (TIME_EXCEEDED, 1, [0; 4]),
        }
    }
}

/// The parts of a valid IPv4 packet that matter here.
struct Parts<'a> {
    source: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: u8,
    tos: u8,
    first_fragment: bool,
    fragmented: bool,
    payload: &'a [u8],
}

/// Takes a packet apart whose header was checked; `None` if it is not all there.
fn parts(packet: &[u8]) -> Option<Parts<'_>> {
    let header: &[u8; IPV4_HEADER] = packet.first_chunk()?;
    let ihl = usize::from(header[0] & 0xf) * 4;
    let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let word = u16::from_be_bytes([header[6], header[7]]);
    Some(Parts {
        source: Ipv4Addr::new(header[12], header[13], header[14], header[15]),
        destination: Ipv4Addr::new(header[16], header[17], header[18], header[19]),
        protocol: header[9],
        tos: header[1],
        first_fragment: word & OFFSET_MASK == 0,
        fragmented: word & 0x3fff != 0,
        payload: packet.get(ihl..total.min(packet.len()))?,
    })
}

/// True if an error may be sent about this packet: not about an ICMP error, a fragment but the first, a packet to or
/// from many. The caller knows whether its frame was sent to many, which forbids it too.
fn may_be_told(packet: &Parts<'_>) -> bool {
    let from = u32::from(packet.source);
    let to = packet.destination;
    let is_error = packet.protocol == ICMP
        && !packet.payload.first().is_some_and(|kind| matches!(*kind, ECHO_REPLY | ECHO_REQUEST | 13..=18));
    packet.first_fragment && !is_error && !is_martian_source(from) && !to.is_broadcast() && !to.is_multicast()
}

/// The error about `packet` that `from` sends, complete from the IP header on. `packet` may end anywhere behind its
/// header. `None` if nobody may be told.
pub fn error(packet: &[u8], what: Error, from: Ipv4Addr, identification: u16) -> Option<Vec<u8>> {
    let told = parts(packet)?;
    if !may_be_told(&told) {
        return None;
    }
    let total = usize::from(u16::from_be_bytes(*packet.get(2..)?.first_chunk()?));
    let quoted = packet.get(..total.min(packet.len()).min(ERROR_MAX - IPV4_HEADER - HEADER))?;
    let (kind, code, word) = what.fields();
    let mut message = vec![kind, code, 0, 0];
    message.extend_from_slice(&word);
    message.extend_from_slice(quoted);
    seal(&mut message);
    Some(envelope(from, told.source, ERROR_TOS, identification, ICMP, &message))
}

/// The answer to an echo request, complete from the IP header on; `None` for anything else, broken or fragmented ones
/// included.
pub fn echo_reply(packet: &[u8], identification: u16) -> Option<Vec<u8>> {
    let asked = parts(packet)?;
    let is_request = asked.protocol == ICMP && !asked.fragmented && asked.payload.first() == Some(&ECHO_REQUEST);
    let whole = asked.payload.len() >= HEADER && checksum::sum(asked.payload) == 0xffff;
    if !is_request || !whole || is_martian_source(asked.source.into()) {
        return None;
    }
    let mut message = asked.payload.to_vec();
    *message.first_mut()? = ECHO_REPLY;
    message.get_mut(2..4)?.fill(0);
    seal(&mut message);
    Some(envelope(asked.destination, asked.source, asked.tos, identification, ICMP, &message))
}

/// Fills in the checksum of an ICMP message whose field is zero.
fn seal(message: &mut [u8]) {
    let sum = !checksum::sum(message);
    if let Some(field) = message.get_mut(2..4) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
}

/// A packet of the switch itself around `payload`.
pub fn envelope(from: Ipv4Addr, to: Ipv4Addr, tos: u8, identification: u16, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, tos];
    packet.extend_from_slice(&((IPV4_HEADER + payload.len()) as u16).to_be_bytes());
    packet.extend_from_slice(&identification.to_be_bytes());
    packet.extend_from_slice(&[0, 0, TTL, protocol, 0, 0]);
    packet.extend_from_slice(&from.octets());
    packet.extend_from_slice(&to.octets());
    let sum = !checksum::sum(&packet);
    if let Some(field) = packet.get_mut(10..12) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
    packet.extend_from_slice(payload);
    packet
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{Icmpv4Slice, Icmpv4Type, Ipv4HeaderSlice, PacketBuilder, icmpv4};

    const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);

    fn udp(payload: usize) -> Vec<u8> {
        let mut packet = Vec::new();
        let builder = PacketBuilder::ipv4([10, 1, 0, 2], [10, 2, 0, 3], 1).udp(1000, 33434);
        builder.write(&mut packet, &vec![9; payload]).unwrap();
        packet
    }

    /// Changes a header byte and mends the header's checksum.
    fn with(mut packet: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
        packet[at..at + bytes.len()].copy_from_slice(bytes);
        packet[10..12].fill(0);
        let sum = !checksum::sum(&packet[..20]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet
    }

    fn opened(packet: &[u8]) -> (Ipv4HeaderSlice<'_>, Icmpv4Slice<'_>) {
        let header = Ipv4HeaderSlice::from_slice(packet).unwrap();
        assert_eq!(header.to_header().calc_header_checksum(), header.header_checksum());
        let message = &packet[20..];
        assert_eq!(checksum::sum(message), 0xffff);
        assert_eq!(usize::from(header.total_len()), packet.len());
        (header, Icmpv4Slice::from_slice(message).unwrap())
    }

    #[test]
    fn an_error_goes_back_to_the_sender_and_quotes_it() {
        let packet = udp(100);
        let error = error(&packet, Error::TtlExceeded, ROUTER, 7).unwrap();
        let (header, message) = opened(&error);
        assert_eq!((header.source_addr(), header.destination_addr()), (ROUTER, Ipv4Addr::new(10, 1, 0, 2)));
        assert_eq!((header.ttl(), error[1], header.identification()), (64, 0xc0, 7));
        assert!(matches!(
            message.icmp_type(),
            Icmpv4Type::TimeExceeded(icmpv4::TimeExceededCode::TtlExceededInTransit)
        ));
        assert_eq!(message.payload(), packet);
    }

    #[test]
    fn an_error_is_no_longer_than_576_bytes_and_leaves_padding_out() {
        assert_eq!(error(&udp(2000), Error::NetUnreachable, ROUTER, 0).unwrap().len(), 576);
        let mut padded = udp(4);
        padded.extend([0; 20]);
        assert_eq!(error(&padded, Error::NetUnreachable, ROUTER, 0).unwrap().len(), 28 + 32);
    }

    #[test]
    fn types_and_codes_are_those_of_the_rfcs() {
        let cases = [
            (Error::NetUnreachable, [3, 0]),
            (Error::HostUnreachable, [3, 1]),
            (Error::ProtocolUnreachable, [3, 2]),
            (Error::PortUnreachable, [3, 3]),
            (Error::FragmentationNeeded(1400), [3, 4]),
            (Error::Prohibited, [3, 13]),
            (Error::Redirect(Ipv4Addr::new(10, 1, 0, 9)), [5, 1]),
            (Error::TtlExceeded, [11, 0]),
            (Error::ReassemblyTime, [11, 1]),
        ];
        for (what, bytes) in cases {
            assert_eq!(error(&udp(9), what, ROUTER, 0).unwrap()[20..22], bytes, "{what:?}");
        }
        let needed = error(&udp(9), Error::FragmentationNeeded(1400), ROUTER, 0).unwrap();
        assert_eq!(needed[24..28], [0, 0, 5, 120]);
        let redirect = error(&udp(9), Error::Redirect(Ipv4Addr::new(10, 1, 0, 9)), ROUTER, 0).unwrap();
        assert_eq!(redirect[24..28], [10, 1, 0, 9]);
    }

    #[test]
    fn never_an_error_about_an_error_a_group_a_later_fragment_or_a_senseless_source() {
        let about = |packet: &[u8]| error(packet, Error::NetUnreachable, ROUTER, 0);
        let unreachable = about(&udp(9)).unwrap();
        assert_eq!(about(&unreachable), None);
        // A redirect is an error, an unknown type may be one, an echo is none.
        let redirect = error(&udp(9), Error::Redirect(ROUTER), ROUTER, 0).unwrap();
        assert_eq!(about(&redirect), None);
        let mut ping = Vec::new();
        PacketBuilder::ipv4([10, 1, 0, 2], [10, 2, 0, 3], 9).icmpv4_echo_request(1, 2).write(&mut ping, b"x").unwrap();
        assert!(about(&ping).is_some());
        ping[20] = 99;
        assert_eq!(about(&ping), None);
        assert_eq!(about(&with(udp(9), 6, &[0x00, 0x01])), None);
        assert!(about(&with(udp(9), 6, &[0x20, 0x00])).is_some());
        for source in [[0, 0, 0, 0], [0, 1, 2, 3], [127, 0, 0, 1], [224, 0, 0, 1], [240, 0, 0, 1], [255; 4]] {
            assert_eq!(about(&with(udp(9), 12, &source)), None, "{source:?}");
        }
        for destination in [[224, 0, 0, 5], [255; 4]] {
            assert_eq!(about(&with(udp(9), 16, &destination)), None, "{destination:?}");
        }
    }

    #[test]
    fn an_echo_is_answered_with_the_same_data() {
        let mut ping = Vec::new();
        PacketBuilder::ipv4([10, 1, 0, 2], ROUTER.octets(), 1)
            .icmpv4_echo_request(5, 6)
            .write(&mut ping, b"abc")
            .unwrap();
        let reply = echo_reply(&ping, 1).unwrap();
        let (header, message) = opened(&reply);
        assert_eq!((header.source_addr(), header.destination_addr()), (ROUTER, Ipv4Addr::new(10, 1, 0, 2)));
        assert!(matches!(message.icmp_type(), Icmpv4Type::EchoReply(echo) if (echo.id, echo.seq) == (5, 6)));
        assert_eq!(message.payload(), b"abc");
        assert_eq!(echo_reply(&reply, 1), None);
        *ping.last_mut().unwrap() ^= 1;
        assert_eq!(echo_reply(&ping, 1), None, "a broken checksum");
        assert_eq!(echo_reply(&udp(9), 1), None);
        assert_eq!(echo_reply(&ping[..23], 1), None);
    }
}
