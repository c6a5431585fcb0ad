//! ICMPv6 (RFC 4443): answers to echo requests, errors about packets that could not be forwarded, redirects (RFC 4861
//! 8).
//!
//! Pure functions from packet to packet, both from the IPv6 header on. What may be answered at all is decided here
//! (RFC 4443 2.4); how often, in `limit`.

use std::net::Ipv6Addr;

use crate::ids::Mac;
use crate::limits::IPV6_MTU_MIN;
use crate::path::checksum;
use crate::path::route::ipv6::IPV6_HEADER;
use crate::path::transport::{DESTINATION_OPTIONS, EXTENSION_HEADERS_MAX, FRAGMENT, HOP_BY_HOP, ICMPV6, ROUTING};

const HEADER: usize = 8;
/// Longest error: what every link carries (RFC 4443 2.4 (c)).
const ERROR_MAX: usize = IPV6_MTU_MIN as usize;
const TTL: u8 = 64;
/// Hop limit of neighbour discovery, which shows that a packet was not forwarded (RFC 4861 3.1).
const LINK_TTL: u8 = 255;

const UNREACHABLE: u8 = 1;
const TOO_BIG: u8 = 2;
const TIME_EXCEEDED: u8 = 3;
const PARAMETER_PROBLEM: u8 = 4;
const ECHO_REQUEST: u8 = 128;
const ECHO_REPLY: u8 = 129;
const REDIRECT: u8 = 137;
const TARGET_LINK_LAYER: u8 = 2;
const REDIRECTED_HEADER: u8 = 4;

/// What an error says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// 1/0: no route.
    NoRoute,
    /// 1/1: forbidden.
    Prohibited,
    /// 1/2: the source address means nothing where the packet is going.
    BeyondScope,
    /// 1/3: nobody answers there.
    AddressUnreachable,
    /// 1/4: nothing listens there.
    PortUnreachable,
    /// 2/0: too big, with the next hop's MTU in bytes.
    TooBig(u32),
    /// 3/0: out of hops.
    HopLimitExceeded,
    /// 3/1: not all of its fragments came in time.
    ReassemblyTime,
    /// 4/0: a field that says what cannot be, with its offset in the packet.
    BadField(u32),
    /// 4/1: an unknown next header, with the offset of its number in the packet.
    UnknownNextHeader(u32),
    /// 4/2: an unknown option, with its offset in the packet.
    UnknownOption(u32),
}

impl Error {
    fn fields(self) -> (u8, u8, u32) {
        match self {
            Error::NoRoute => (UNREACHABLE, 0, 0),
            Error::Prohibited => (UNREACHABLE, 1, 0),
            Error::BeyondScope => (UNREACHABLE, 2, 0),
            Error::AddressUnreachable => (UNREACHABLE, 3, 0),
            Error::PortUnreachable => (UNREACHABLE, 4, 0),
            Error::TooBig(mtu) => (TOO_BIG, 0, mtu.max(IPV6_MTU_MIN)),
            Error::HopLimitExceeded => (TIME_EXCEEDED, 0, 0),
            Error::ReassemblyTime => (TIME_EXCEEDED, 1, 0),
            Error::BadField(pointer) => (PARAMETER_PROBLEM, 0, pointer),
            Error::UnknownNextHeader(pointer) => (PARAMETER_PROBLEM, 1, pointer),
            Error::UnknownOption(pointer) => (PARAMETER_PROBLEM, 2, pointer),
        }
    }
}

/// Source and destination of a packet.
pub(super) fn addresses(packet: &[u8]) -> Option<(Ipv6Addr, Ipv6Addr)> {
    let address = |at: usize| Some(Ipv6Addr::from(*packet.get(at..)?.first_chunk::<16>()?));
    Some((address(8)?, address(24)?))
}

/// The packet without padding of its link.
fn trimmed(packet: &[u8]) -> Option<&[u8]> {
    let len = IPV6_HEADER + usize::from(u16::from_be_bytes(*packet.get(4..)?.first_chunk()?));
    Some(packet.get(..len).unwrap_or(packet))
}

/// True if the packet is an ICMPv6 error or a redirect, behind whatever extension headers; also if that cannot be
/// told because it is a later fragment of something that may be ICMPv6.
fn is_error(packet: &[u8]) -> bool {
    let mut next = packet.get(6).copied().unwrap_or_default();
    let mut at = IPV6_HEADER;
    for _ in 0..EXTENSION_HEADERS_MAX {
        let byte = |offset: usize| packet.get(at + offset).copied();
        match next {
            ICMPV6 => return byte(0).is_none_or(|kind| kind < 128 || kind == REDIRECT),
            FRAGMENT => {
                let offset = u16::from_be_bytes([byte(2).unwrap_or_default(), byte(3).unwrap_or_default()]) >> 3;
                next = byte(0).unwrap_or_default();
                if offset != 0 {
                    return matches!(next, ICMPV6 | HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS);
                }
                at += 8;
            }
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => {
                let Some(len) = byte(1) else { return false };
                next = byte(0).unwrap_or_default();
                at += 8 * (usize::from(len) + 1);
            }
            _ => return false,
        }
    }
    // More headers than anybody sends: say nothing.
    true
}

/// The error about `packet` that `from` sends, complete from the IPv6 header on. `packet` may end anywhere behind its
/// header. `None` if nobody may be told. The caller knows whether its frame was sent to many: then only about its
/// size, or an option that asks for it.
pub fn error(packet: &[u8], what: Error, from: Ipv6Addr) -> Option<Vec<u8>> {
    let (source, destination) = addresses(packet)?;
    // Padding behind the packet must not be taken for a message.
    let packet = trimmed(packet)?;
    let is_for_many = matches!(what, Error::TooBig(_) | Error::UnknownOption(_));
    let nobody = source.is_unspecified() || source.is_multicast() || source.is_loopback();
    if (destination.is_multicast() && !is_for_many) || nobody || is_error(packet) {
        return None;
    }
    let quoted = packet.get(..packet.len().min(ERROR_MAX - IPV6_HEADER - HEADER))?;
    let (kind, code, word) = what.fields();
    let mut message = vec![kind, code, 0, 0];
    message.extend_from_slice(&word.to_be_bytes());
    message.extend_from_slice(quoted);
    Some(envelope(from, source, TTL, ICMPV6, message))
}

/// The answer to an echo request, complete from the IPv6 header on; `None` for anything else, broken ones and those
/// behind extension headers included (`extensions` takes these off). `from` is the address that answers a request to a
/// group; otherwise it is the one that was asked.
pub fn echo_reply(packet: &[u8], from: Ipv6Addr) -> Option<Vec<u8>> {
    let (source, destination) = addresses(packet)?;
    let packet = trimmed(packet)?;
    let asked = packet.get(IPV6_HEADER..)?;
    let is_request = packet.get(6) == Some(&ICMPV6) && asked.first() == Some(&ECHO_REQUEST) && asked.len() >= HEADER;
    if !is_request || source.is_unspecified() || source.is_multicast() || !is_whole(packet) {
        return None;
    }
    let mut message = asked.to_vec();
    *message.first_mut()? = ECHO_REPLY;
    message.get_mut(2..4)?.fill(0);
    let from = if destination.is_multicast() { from } else { destination };
    Some(envelope(from, source, TTL, ICMPV6, message))
}

/// The redirect that tells the sender of `packet` of a better first hop: `target`, a router's link-local address or the
/// destination itself, with its MAC address if known (RFC 4861 4.5). `None` if nobody may be told.
pub fn redirect(packet: &[u8], target: Ipv6Addr, mac: Option<Mac>, from: Ipv6Addr) -> Option<Vec<u8>> {
    let (source, destination) = addresses(packet)?;
    let no = source.is_unspecified() || source.is_multicast() || destination.is_multicast() || is_error(packet);
    if no || (target != destination && !target.is_unicast_link_local()) {
        return None;
    }
    let packet = trimmed(packet)?;
    let mut message = vec![REDIRECT, 0, 0, 0, 0, 0, 0, 0];
    message.extend_from_slice(&target.octets());
    message.extend_from_slice(&destination.octets());
    if let Some(mac) = mac {
        message.extend_from_slice(&[TARGET_LINK_LAYER, 1]);
        message.extend_from_slice(&mac.octets());
    }
    let room = (ERROR_MAX - IPV6_HEADER - message.len() - 8) & !7;
    let quoted = packet.get(..packet.len().min(room) & !7)?;
    message.extend_from_slice(&[REDIRECTED_HEADER, (quoted.len() / 8 + 1) as u8, 0, 0, 0, 0, 0, 0]);
    message.extend_from_slice(quoted);
    Some(envelope(from, source, LINK_TTL, ICMPV6, message))
}

/// True if the checksum behind the fixed header, with the pseudo-header, is right (RFC 8200 8.1).
pub fn is_whole(packet: &[u8]) -> bool {
    let Some((source, destination)) = addresses(packet) else { return false };
    let (Some(packet), Some(next)) = (trimmed(packet), packet.get(6)) else { return false };
    let message = packet.get(IPV6_HEADER..).unwrap_or_default();
    checksum::fold(pseudo(source, destination, *next, message.len()) + u64::from(checksum::sum(message))) == 0xffff
}

fn pseudo(source: Ipv6Addr, destination: Ipv6Addr, next: u8, len: usize) -> u64 {
    let of = |address: Ipv6Addr| address.segments().iter().map(|word| u64::from(*word)).sum::<u64>();
    of(source) + of(destination) + u64::from(next) + len as u64
}

/// A packet of the switch itself around an ICMPv6 `message` or another payload whose checksum, zero so far, is in the
/// place of ICMPv6's; it is filled in.
pub fn envelope(from: Ipv6Addr, to: Ipv6Addr, hop_limit: u8, next: u8, mut message: Vec<u8>) -> Vec<u8> {
    let sum = !checksum::fold(pseudo(from, to, next, message.len()) + u64::from(checksum::sum(&message)));
    if let Some(field) = message.get_mut(2..4) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend_from_slice(&(message.len() as u16).to_be_bytes());
    packet.extend_from_slice(&[next, hop_limit]);
    packet.extend_from_slice(&from.octets());
    packet.extend_from_slice(&to.octets());
    packet.extend_from_slice(&message);
    packet
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::PacketBuilder;

    const HOST: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 2);
    const FAR: Ipv6Addr = Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, 3);
    const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 1);

    fn udp(from: Ipv6Addr, to: Ipv6Addr, payload: usize) -> Vec<u8> {
        let mut packet = Vec::new();
        let builder = PacketBuilder::ipv6(from.octets(), to.octets(), 1).udp(1000, 33434);
        builder.write(&mut packet, &vec![9; payload]).unwrap();
        packet
    }

    fn checked(packet: &[u8]) -> &[u8] {
        assert!(is_whole(packet));
        &packet[IPV6_HEADER..]
    }

    #[test]
    fn errors_go_back_quote_as_much_as_fits_and_carry_their_codes() {
        let packet = udp(HOST, FAR, 100);
        let cases = [
            (Error::NoRoute, [1, 0, 0]),
            (Error::Prohibited, [1, 1, 0]),
            (Error::BeyondScope, [1, 2, 0]),
            (Error::AddressUnreachable, [1, 3, 0]),
            (Error::PortUnreachable, [1, 4, 0]),
            (Error::TooBig(1400), [2, 0, 1400]),
            (Error::TooBig(576), [2, 0, 1280]),
            (Error::HopLimitExceeded, [3, 0, 0]),
            (Error::ReassemblyTime, [3, 1, 0]),
            (Error::BadField(42), [4, 0, 42]),
            (Error::UnknownNextHeader(6), [4, 1, 6]),
            (Error::UnknownOption(43), [4, 2, 43]),
        ];
        for (what, [kind, code, word]) in cases {
            let error = error(&packet, what, ROUTER).unwrap();
            let message = checked(&error);
            assert_eq!((u32::from(message[0]), u32::from(message[1])), (kind, code), "{what:?}");
            assert_eq!(message[4..8], word.to_be_bytes());
            assert_eq!(&message[8..], packet);
            assert_eq!(addresses(&error), Some((ROUTER, HOST)));
        }
        assert_eq!(error(&udp(HOST, FAR, 3000), Error::NoRoute, ROUTER).unwrap().len(), 1280);
    }

    #[test]
    fn never_an_error_about_an_error_a_redirect_a_group_or_a_senseless_source() {
        let about = |packet: &[u8]| error(packet, Error::NoRoute, ROUTER);
        let first = about(&udp(HOST, FAR, 9)).unwrap();
        assert_eq!(about(&first), None);
        let redirect = redirect(&udp(HOST, FAR, 9), FAR, None, ROUTER).unwrap();
        assert_eq!(about(&redirect), None);
        let group = Ipv6Addr::new(0xff0e, 0, 0, 0, 0, 0, 0, 9);
        assert_eq!(about(&udp(HOST, group, 9)), None);
        assert!(error(&udp(HOST, group, 9), Error::TooBig(1280), ROUTER).is_some());
        for source in [Ipv6Addr::UNSPECIFIED, Ipv6Addr::LOCALHOST, group] {
            assert_eq!(about(&udp(source, FAR, 9)), None);
        }
        // Behind a hop-by-hop header, too; and a later fragment of ICMPv6 may be of an error.
        let mut hidden = first.clone();
        hidden[6] = 0;
        hidden.splice(40..40, [ICMPV6, 0, 1, 4, 0, 0, 0, 0]);
        assert_eq!(about(&hidden), None);
        let mut fragment = udp(HOST, FAR, 9);
        fragment[6] = 44;
        fragment.splice(40..40, [ICMPV6, 0, 0, 8, 0, 0, 0, 1]);
        assert_eq!(about(&fragment), None);
        // RFC 4443 2.4 (e) spares no other fragments, unlike RFC 1122 for IPv4.
        fragment[40] = 17;
        assert!(about(&fragment).is_some());
        fragment[42..44].copy_from_slice(&[0, 1]);
        assert!(about(&fragment).is_some());
    }

    #[test]
    fn an_echo_is_answered_by_the_address_asked_or_for_a_group_by_the_given_one() {
        let ping = |to: Ipv6Addr| {
            let mut packet = Vec::new();
            let builder = PacketBuilder::ipv6(HOST.octets(), to.octets(), 1).icmpv6_echo_request(5, 6);
            builder.write(&mut packet, b"abc").unwrap();
            packet
        };
        let reply = echo_reply(&ping(FAR), ROUTER).unwrap();
        assert_eq!(addresses(&reply), Some((FAR, HOST)));
        assert_eq!(checked(&reply)[4..], [0, 5, 0, 6, b'a', b'b', b'c']);
        let all = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        assert_eq!(addresses(&echo_reply(&ping(all), ROUTER).unwrap()), Some((ROUTER, HOST)));
        let mut broken = ping(FAR);
        *broken.last_mut().unwrap() ^= 1;
        assert_eq!(echo_reply(&broken, ROUTER), None);
        assert_eq!(echo_reply(&reply, ROUTER), None);
    }

    #[test]
    fn a_redirect_names_target_destination_and_mac_address() {
        let router = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9);
        let mac: Mac = "02:00:00:00:00:09".parse().unwrap();
        let redirect_packet = redirect(&udp(HOST, FAR, 2000), router, Some(mac), "fe80::1".parse().unwrap()).unwrap();
        let message = checked(&redirect_packet);
        assert_eq!((message[0], redirect_packet[7]), (137, 255));
        assert_eq!(message[8..24], router.octets());
        assert_eq!(message[24..40], FAR.octets());
        assert_eq!(message[40..48], [2, 1, 2, 0, 0, 0, 0, 9]);
        assert_eq!(usize::from(message[49]) * 8, message.len() - 48);
        assert!(redirect_packet.len() <= 1280);
        // A global address of another router would be refused by its receiver (RFC 4861 8.1).
        assert_eq!(redirect(&udp(HOST, FAR, 9), ROUTER, None, ROUTER), None);
    }
}
