//! What the switch as a host says with ICMP: answers to echo requests, errors to senders, redirects; and how a packet
//! of its own finds its way (RFC 1812 4.3, RFC 4443).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::emit::l3_offset;
use super::extensions::Upper;
use super::neighbour::Waiting;
use super::{Host, Interface, extensions, icmp, icmp6};
use crate::ids::{DomainId, Mac, PortId, VrfId};
use crate::path::transport::{self, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ICMP, ICMPV6, TCP, UDP};
use crate::path::{Complaint, checksum};
use crate::stats::Drop;
use crate::table::neighbour::NeighbourKey;
use crate::table::next_hop::NextHop;

/// Behind it is nothing to recognise (RFC 8200 4.7).
const NO_NEXT_HEADER: u8 = 59;

/// An IP packet, version told by its first four bits.
fn version(packet: &[u8]) -> Option<u8> {
    packet.first().map(|byte| byte >> 4)
}

fn address_v4(packet: &[u8], at: usize) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from(*packet.get(at..)?.first_chunk::<4>()?))
}

fn address_v6(packet: &[u8], at: usize) -> Option<Ipv6Addr> {
    Some(Ipv6Addr::from(*packet.get(at..)?.first_chunk::<16>()?))
}

/// Source of a packet.
fn source(packet: &[u8]) -> Option<IpAddr> {
    match version(packet)? {
        4 => address_v4(packet, 12).map(IpAddr::V4),
        6 => address_v6(packet, 8).map(IpAddr::V6),
        _ => None,
    }
}

/// Destination of a packet.
pub(super) fn destination(packet: &[u8]) -> Option<IpAddr> {
    match version(packet)? {
        4 => address_v4(packet, 16).map(IpAddr::V4),
        6 => address_v6(packet, 24).map(IpAddr::V6),
        _ => None,
    }
}

/// What ICMP has to do with a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum About {
    /// It is to an own address and neither ARP nor neighbour discovery.
    Local,
    /// The same in a group frame, which others got as well.
    Heard,
    /// The same, but nobody else got it.
    HeardAlone,
    /// It was not forwarded, and is counted already.
    Complaint(Complaint),
    /// It left by the domain that it came from, towards this neighbour; this is a copy.
    Redirect(NeighbourKey),
    /// Nobody answered for its next hop. TTL and MAC addresses are those of the way out.
    Unresolved,
}

/// Where a packet came in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Came {
    pub port: PortId,
    pub domain: DomainId,
}

/// True for a whole UDP datagram with a right checksum, or over IPv4 with none: others are discarded in silence
/// (RFC 1122 4.1.3.4, RFC 8200 8.1).
pub(super) fn udp_is_sound(packet: &[u8], ethertype: u16) -> bool {
    let Some(mut found) = transport::locate(packet, 0, ethertype) else { return false };
    let payload = packet.get(found.start..).and_then(|rest| rest.get(..found.len)).unwrap_or_default();
    let Some(&[_, _, _, _, high, low, a, b]) = payload.first_chunk() else { return false };
    found.len = usize::from(u16::from_be_bytes([high, low]));
    let Some(datagram) = payload.get(..found.len).filter(|datagram| datagram.len() >= 8) else { return false };
    if [a, b] == [0, 0] {
        return ethertype == ETHERTYPE_IPV4;
    }
    checksum::fold(u64::from(found.pseudo_header_sum()) + u64::from(checksum::sum(datagram))) == 0xffff
}

impl Host {
    /// Takes a packet over that ICMP answers or tells about. It ends here.
    pub(super) fn icmp(&mut self, about: About, packet: Waiting) {
        let Waiting { frame, port, domain } = packet;
        let came = Came { port, domain };
        let bytes = self.out.bytes(&frame);
        let packet = bytes.get(l3_offset(&bytes)..).unwrap_or_default();
        // What was sent to many is not answered with errors (RFC 1812 4.3.2.7, RFC 4443 2.4 (e)).
        let to_many = bytes.first().is_none_or(|first| first & 1 != 0);
        let lost = match about {
            About::Local => self.deliver(came, packet),
            // Of groups, only those of IPv6 are asked (RFC 1122 3.2.2.6: a broadcast echo request may be ignored).
            About::Heard | About::HeardAlone => {
                // One host's packet in a frame to many is for nobody (RFC 1122 3.3.6).
                let router = self.view.router(domain);
                let is_ours = |group: Ipv6Addr| router.is_some_and(|router| router.listens_to(group.into()));
                let to_group = matches!(destination(packet), Some(IpAddr::V6(to)) if is_ours(to));
                let answered = to_group && self.echo(domain, packet);
                // What others got as well is not lost.
                (about == About::HeardAlone && !answered).then_some(Drop::HostIgnored)
            }
            About::Complaint(_) if to_many => None,
            About::Complaint(complaint) => {
                self.complain(came, packet, complaint);
                None
            }
            About::Redirect(hop) => {
                self.redirect(came, packet, hop);
                None
            }
            About::Unresolved => {
                // The switch does not complain to itself.
                if port != PortId::ROUTER {
                    self.complain(came, packet, Complaint::Unreachable);
                }
                Some(Drop::NeighbourUnresolved)
            }
        };
        match lost {
            Some(reason) => self.out.discard(frame, port, reason),
            None => self.out.free(frame),
        }
    }

    /// Tells the sender of `packet` why it was not forwarded. False if it may not be told.
    pub(super) fn complain(&mut self, came: Came, packet: &[u8], complaint: Complaint) -> bool {
        match version(packet) {
            Some(4) => {
                let what = match complaint {
                    Complaint::TtlExceeded => icmp::Error::TtlExceeded,
                    Complaint::NoRoute => icmp::Error::NetUnreachable,
                    Complaint::Unreachable | Complaint::BeyondScope => icmp::Error::HostUnreachable,
                    Complaint::Prohibited => icmp::Error::Prohibited,
                    Complaint::TooBig(mtu) => icmp::Error::FragmentationNeeded(mtu),
                };
                self.tell4(came, packet, what, None)
            }
            Some(6) => {
                let what = match complaint {
                    Complaint::TtlExceeded => icmp6::Error::HopLimitExceeded,
                    Complaint::NoRoute => icmp6::Error::NoRoute,
                    Complaint::Unreachable => icmp6::Error::AddressUnreachable,
                    Complaint::BeyondScope => icmp6::Error::BeyondScope,
                    Complaint::Prohibited => icmp6::Error::Prohibited,
                    Complaint::TooBig(mtu) => icmp6::Error::TooBig(mtu),
                };
                self.tell6(came, packet, what, None)
            }
            _ => false,
        }
    }

    /// Tells the sender of a packet to one of the switch's own addresses that nothing here wants it. TCP is refused in
    /// silence, as by a firewall, and so is UDP that is not sound.
    pub(super) fn refuse(&mut self, came: Came, packet: &[u8]) -> bool {
        match destination(packet) {
            Some(IpAddr::V4(own)) => {
                let what = match packet.get(9) {
                    Some(&UDP) if udp_is_sound(packet, ETHERTYPE_IPV4) => icmp::Error::PortUnreachable,
                    Some(&(TCP | UDP | ICMP)) | None => return false,
                    Some(_) => icmp::Error::ProtocolUnreachable,
                };
                self.tell4(came, packet, what, Some(own))
            }
            Some(IpAddr::V6(own)) => {
                let Ok(Upper { next_at, .. }) = extensions::upper(packet) else { return false };
                let what = match packet.get(next_at) {
                    Some(&UDP) if udp_is_sound(packet, ETHERTYPE_IPV6) => icmp6::Error::PortUnreachable,
                    Some(&(TCP | UDP | ICMPV6 | NO_NEXT_HEADER)) | None => return false,
                    Some(_) => icmp6::Error::UnknownNextHeader(next_at as u32),
                };
                self.tell6(came, packet, what, (!own.is_multicast()).then_some(own))
            }
            None => false,
        }
    }

    pub(super) fn tell4(&mut self, came: Came, packet: &[u8], what: icmp::Error, from: Option<Ipv4Addr>) -> bool {
        let Some(IpAddr::V4(to)) = source(packet) else { return false };
        let Some(vrf) = self.interfaces.get(&came.domain).map(|interface| interface.vrf) else { return false };
        // A subnet's broadcast address as a source would have all its hosts hear the error.
        let to_many = self.interfaces.values().any(|own| own.vrf == vrf && own.is_subnet_broadcast(to));
        let Some(way) = self.way(vrf, came.domain, to.into()).filter(|_| !to_many) else { return false };
        let from = from.or_else(|| self.interfaces.get(&way.domain()).and_then(|interface| interface.source4(to)));
        let Some(from) = from else { return false };
        self.identification = self.identification.wrapping_add(1);
        let Some(error) = icmp::error(packet, what, from, self.identification) else { return false };
        self.send_limited(came.port, way, to.into(), &error)
    }

    pub(super) fn tell6(&mut self, came: Came, packet: &[u8], what: icmp6::Error, from: Option<Ipv6Addr>) -> bool {
        let Some(IpAddr::V6(to)) = source(packet) else { return false };
        let Some(interface) = self.interfaces.get(&came.domain) else { return false };
        let Some(way) = self.way(interface.vrf, came.domain, to.into()) else { return false };
        let from = from.or_else(|| source6(interface, to));
        let Some(error) = from.and_then(|from| icmp6::error(packet, what, from)) else { return false };
        self.send_limited(came.port, way, to.into(), &error)
    }

    /// Sends what is told about a packet that came in by `port`, if that keeps within the rates. Whoever calls this has
    /// checked everything else: what is not to be sent costs nobody's allowance.
    fn send_limited(&mut self, port: PortId, way: NeighbourKey, to: IpAddr, packet: &[u8]) -> bool {
        if self.limiter.take(port, to, self.now_ns) {
            self.counters.icmp_errors += 1;
            self.send_packet(way, packet)
        } else {
            self.counters.icmp_limited += 1;
            self.shared.host_stats().port(PortId::ROUTER).drop(Drop::HostLimited, 1);
            false
        }
    }

    /// Answers an echo request. False if it is none, or none to be answered.
    pub(super) fn echo(&mut self, domain: DomainId, packet: &[u8]) -> bool {
        let Some(interface) = self.interfaces.get(&domain) else { return false };
        let vrf = interface.vrf;
        self.identification = self.identification.wrapping_add(1);
        let reply = match (source(packet), version(packet)) {
            (Some(IpAddr::V4(_)), _) => icmp::echo_reply(packet, self.identification),
            (Some(IpAddr::V6(to)), _) => source6(interface, to).and_then(|from| icmp6::echo_reply(packet, from)),
            (None, _) => None,
        };
        let Some((reply, to)) = reply.zip(source(packet)) else { return false };
        let Some(way) = self.way(vrf, domain, to) else { return false };
        self.counters.echoes += 1;
        self.send_packet(way, &reply)
    }

    /// Tells the sender of a packet that left by the domain it came from of the better way, which is `hop`.
    pub(super) fn redirect(&mut self, came: Came, packet: &[u8], hop: NeighbourKey) -> bool {
        let domain = came.domain;
        let Some(interface) = self.interfaces.get(&domain) else { return false };
        let (Some(from), Some(to)) = (source(packet), destination(packet)) else { return false };
        // Only a neighbour of the better router can use it (RFC 1812 5.2.7.2), and not to reach itself.
        if !interface.has_in_subnet(from) || !interface.has_in_subnet(hop.address()) || from == hop.address() {
            return false;
        }
        let message = match (hop.address(), from) {
            (IpAddr::V4(router), IpAddr::V4(from)) => {
                let Some(own) = interface.source4(from) else { return false };
                icmp::error(packet, icmp::Error::Redirect(router), own, self.identification)
            }
            (IpAddr::V6(router), IpAddr::V6(_)) => {
                let mac = self.cache.mac(hop);
                let target =
                    if to == hop.address() { Some(router) } else { router.is_unicast_link_local().then_some(router) };
                interface.link_local().zip(target).and_then(|(own, target)| icmp6::redirect(packet, target, mac, own))
            }
            _ => None,
        };
        let way = NeighbourKey::new(domain, from);
        message.is_some_and(|message| self.send_limited(came.port, way, from, &message))
    }

    /// The neighbour that a packet of the switch to `to` is sent to. `domain` counts for link-local addresses.
    pub(super) fn way(&self, vrf: VrfId, domain: DomainId, to: IpAddr) -> Option<NeighbourKey> {
        if matches!(to, IpAddr::V6(to) if to.is_unicast_link_local()) {
            return Some(NeighbourKey::new(domain, to));
        }
        let vrf = self.view.vrf(vrf)?;
        let id = match to {
            IpAddr::V4(to) => vrf.ipv4.lookup(to.into()),
            IpAddr::V6(to) => vrf.ipv6.lookup(to.into()),
        };
        let hops = &self.shared.router().next_hops;
        let hop = match hops.get(id)? {
            NextHop::Group(group) => hops.member(group, 0)?,
            hop => hop,
        };
        match hop {
            NextHop::Connected(domain) => Some(NeighbourKey::new(domain, to)),
            NextHop::Gateway(slot) => self.shared.router().neighbours.key(slot),
            _ => None,
        }
    }

    /// Sends a packet of the switch itself to a neighbour; if its MAC address is not known, it waits like any other.
    pub(super) fn send_packet(&mut self, way: NeighbourKey, packet: &[u8]) -> bool {
        let Some(interface) = self.interfaces.get(&way.domain()) else { return false };
        let ethertype = if version(packet) == Some(4) { ETHERTYPE_IPV4 } else { ETHERTYPE_IPV6 };
        let frame = super::emit::ethernet(Mac::ZERO, interface.mac, ethertype, packet);
        let Some(frame) = self.out.frame(&frame) else { return false };
        let waiting = Waiting { frame, port: PortId::ROUTER, domain: way.domain() };
        self.cache.resolve(way, waiting, self.now_ns);
        true
    }
}

/// The address that an interface speaks with to `to`: of the same scope, of its subnet if there is one.
fn source6(interface: &Interface, to: Ipv6Addr) -> Option<Ipv6Addr> {
    if to.is_unicast_link_local() {
        return interface.link_local();
    }
    let near = interface.ipv6.iter().find(|(own, len)| {
        let host = u128::MAX.checked_shr(u32::from(*len)).unwrap_or(0);
        (u128::from(*own) ^ u128::from(to)) & !host == 0
    });
    let any = interface.ipv6.iter().find(|(own, _)| !own.is_unicast_link_local());
    near.or(any).map(|(own, _)| *own).or_else(|| interface.link_local())
}
