//! Neighbour discovery (RFC 4861) on the switch's interfaces: advertisements for own addresses, what is learned of
//! others, answers given for hosts behind other interfaces, and duplicate address detection (RFC 4862 5.4).

use std::net::{IpAddr, Ipv6Addr};

use super::Host;
use super::emit::{icmpv6, multicast_mac};
use super::icmp6;
use super::neighbour::News;
use super::own::Say;
use super::receive::Heard;
use crate::ids::{DomainId, Mac};
use crate::path::route::ipv6::{IPV6_HEADER, is_mapped};
use crate::path::transport::ICMPV6;
use crate::table::neighbour::NeighbourKey;

const ROUTER_SOLICITATION: u8 = 133;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;

/// Flags of an advertisement.
const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

/// Options with the sender's and the target's link-layer address.
const SOURCE_ADDRESS: u8 = 1;
const TARGET_ADDRESS: u8 = 2;

/// Hop limit of a message that no router passed on.
const HOP_LIMIT: u8 = 255;

/// All nodes on the link (RFC 4291 2.7.1).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// A valid message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Nd {
    Solicitation { source: Ipv6Addr, target: Ipv6Addr, mac: Option<Mac> },
    Advertisement { target: Ipv6Addr, mac: Option<Mac>, router: bool, solicited: bool, overrides: bool },
    RouterSolicitation { source: Ipv6Addr, mac: Option<Mac> },
}

/// It fails one of the checks of RFC 4861 6.1.1, 7.1.1 or 7.1.2.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Invalid;

impl Nd {
    /// The message in an IPv6 packet, padding behind it allowed; `Ok(None)` for other packets.
    pub fn parse(packet: &[u8]) -> Result<Option<Nd>, Invalid> {
        let Some((header, rest)) = packet.split_first_chunk::<IPV6_HEADER>() else { return Ok(None) };
        let len = usize::from(u16::from_be_bytes([header[4], header[5]]));
        let Some(message) = rest.get(..len) else { return Ok(None) };
        let [kind, code, ..] = *message else { return Ok(None) };
        let is_ours = matches!(kind, ROUTER_SOLICITATION | NEIGHBOUR_SOLICITATION | NEIGHBOUR_ADVERTISEMENT);
        if header[0] >> 4 != 6 || header[6] != ICMPV6 || !is_ours {
            return Ok(None);
        }
        let source = address(header, 8)?;
        let to = address(header, 24)?;
        if header[7] != HOP_LIMIT || code != 0 || !icmp6::is_whole(packet) {
            return Err(Invalid);
        }
        let nd = match kind {
            ROUTER_SOLICITATION => {
                let mac = options(message.get(8..).ok_or(Invalid)?, SOURCE_ADDRESS)?;
                Nd::RouterSolicitation { source, mac }
            }
            NEIGHBOUR_SOLICITATION => {
                let mac = options(message.get(24..).ok_or(Invalid)?, SOURCE_ADDRESS)?;
                if source.is_unspecified() && !is_solicited_node(to) {
                    return Err(Invalid);
                }
                Nd::Solicitation { source, target: address(message, 8)?, mac }
            }
            _ => {
                let mac = options(message.get(24..).ok_or(Invalid)?, TARGET_ADDRESS)?;
                let flags = *message.get(4).ok_or(Invalid)?;
                let is = |flag: u8| flags & flag != 0;
                if to.is_multicast() && is(SOLICITED) {
                    return Err(Invalid);
                }
                let (router, solicited, overrides) = (is(ROUTER), is(SOLICITED), is(OVERRIDE));
                Nd::Advertisement { target: address(message, 8)?, mac, router, solicited, overrides }
            }
        };
        nd.check(source)
    }

    fn check(self, from: Ipv6Addr) -> Result<Option<Nd>, Invalid> {
        let (target, mac) = match self {
            Nd::Solicitation { target, mac, .. } => (Some(target), mac),
            Nd::Advertisement { target, .. } => (Some(target), None),
            Nd::RouterSolicitation { mac, .. } => (None, mac),
        };
        let group = target.is_some_and(|target| target.is_multicast());
        let mapped = [Some(from), target].into_iter().flatten().any(|address| is_mapped(address.into()));
        if group || mapped || from.is_multicast() || (from.is_unspecified() && mac.is_some()) {
            return Err(Invalid);
        }
        Ok(Some(self))
    }
}

fn address(bytes: &[u8], at: usize) -> Result<Ipv6Addr, Invalid> {
    let octets: [u8; 16] = *bytes.get(at..).and_then(<[u8]>::first_chunk).ok_or(Invalid)?;
    Ok(octets.into())
}

/// Walks the options, each of which must have a length and fit; the MAC address in the one that is `wanted`.
fn options(mut options: &[u8], wanted: u8) -> Result<Option<Mac>, Invalid> {
    let mut found = None;
    while let [kind, units, ..] = *options {
        let (option, rest) = options.split_at_checked(usize::from(units) * 8).ok_or(Invalid)?;
        if units == 0 {
            return Err(Invalid);
        }
        if kind == wanted
            && units == 1
            && let Some(octets) = option.get(2..).and_then(<[u8]>::first_chunk)
        {
            let mac = Mac::new(*octets);
            if mac.is_group() || mac == Mac::ZERO {
                return Err(Invalid);
            }
            found = Some(mac);
        }
        options = rest;
    }
    if options.is_empty() { Ok(found) } else { Err(Invalid) }
}

/// True for ff02::1:ff00:0/104.
fn is_solicited_node(address: Ipv6Addr) -> bool {
    u128::from(address) >> 24 == u128::from(solicited_node(Ipv6Addr::UNSPECIFIED)) >> 24
}

/// The group in which the owner of an address listens (RFC 4291 2.7.1).
pub(super) fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

/// Type, code, checksum, flags, target, and an option with a MAC address.
fn message(kind: u8, flags: u8, target: Ipv6Addr, option: Option<(u8, Mac)>) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0, flags, 0, 0, 0];
    message.extend(target.octets());
    if let Some((kind, mac)) = option {
        message.extend([kind, 1]);
        message.extend(mac.octets());
    }
    message
}

/// An advertisement, as a frame from `mac`, the MAC address that it tells.
fn advertisement(to: (Mac, Ipv6Addr), target: Ipv6Addr, mac: Mac, flags: u8) -> Vec<u8> {
    let message = message(NEIGHBOUR_ADVERTISEMENT, flags, target, Some((TARGET_ADDRESS, mac)));
    icmpv6((to.0, mac), (target, to.1), HOP_LIMIT, message)
}

impl Host {
    /// Takes a message in.
    pub(super) fn hear_nd(&mut self, heard: Heard, nd: Nd) {
        let Some(interface) = self.interfaces.get(&heard.domain) else { return };
        // What we sent ourselves came back: no sign of anybody else (RFC 4862 5.4.3).
        if interface.ipv6.is_empty() || heard.src == interface.mac {
            return;
        }
        let told = match nd {
            Nd::Solicitation { mac, .. } | Nd::RouterSolicitation { mac, .. } | Nd::Advertisement { mac, .. } => mac,
        };
        // Nobody else has our MAC address, whatever he says.
        if told == Some(interface.mac) {
            return;
        }
        match nd {
            Nd::Solicitation { source, target, mac } => self.hear_solicitation(heard, source, target, mac),
            Nd::Advertisement { target, mac, router, solicited, overrides } => {
                if interface.owns(target.into()) {
                    return self.claimed(heard.domain, target.into(), mac.unwrap_or(heard.src));
                }
                let news = News::Advertised { solicited, overrides, router };
                self.cache.learn(NeighbourKey::new(heard.domain, target.into()), mac, news, self.now_ns);
            }
            Nd::RouterSolicitation { source, mac } => {
                self.note_asker(heard.domain, source, mac);
                self.hear_router_solicitation(heard);
            }
        }
    }

    fn hear_solicitation(&mut self, heard: Heard, source: Ipv6Addr, target: Ipv6Addr, mac: Option<Mac>) {
        let Some(interface) = self.interfaces.get(&heard.domain) else { return };
        let (own_mac, flags) = (interface.mac, interface.flags);
        let ours = interface.owns(target.into());
        if interface.owns(source.into()) {
            return self.claimed(heard.domain, source.into(), mac.unwrap_or(heard.src));
        }
        if source.is_unspecified() {
            if ours {
                self.defend_against_newcomer(heard, target);
            }
            return;
        }
        if ours || flags.suppress {
            self.note_asker(heard.domain, source, mac);
        }
        let to = (mac.unwrap_or(heard.src), source);
        if ours {
            self.counters.answered += 1;
            let frame = advertisement(to, target, own_mac, ROUTER | SOLICITED | OVERRIDE);
            self.out.send(heard.domain, &frame);
        } else if flags.proxy && self.is_proxied6(heard.domain, target) {
            // Without the override flag, so that the owner's own answer wins (RFC 4861 7.2.8).
            self.counters.proxied += 1;
            let link_local = self.interfaces.get(&heard.domain).and_then(super::Interface::link_local);
            let message = message(NEIGHBOUR_ADVERTISEMENT, ROUTER | SOLICITED, target, Some((TARGET_ADDRESS, own_mac)));
            let from = link_local.unwrap_or(target);
            self.out.send(heard.domain, &icmpv6((to.0, own_mac), (from, source), HOP_LIMIT, message));
        }
    }

    /// Somebody asks whether he may take one of our addresses: he may not (RFC 4861 7.2.4: to all nodes).
    fn defend_against_newcomer(&mut self, heard: Heard, target: Ipv6Addr) {
        if self.own.is_tentative(heard.domain, target.into(), self.now_ns) {
            // We asked the same at the same time (RFC 4862 5.4.3).
            self.claimed(heard.domain, target.into(), heard.src);
        }
        let Some(interface) = self.interfaces.get(&heard.domain) else { return };
        let to = (multicast_mac(ALL_NODES), ALL_NODES);
        let frame = advertisement(to, target, interface.mac, ROUTER | OVERRIDE);
        self.counters.answered += 1;
        self.out.send(heard.domain, &frame);
    }

    /// Learns the one who asked, if he told his MAC address and lives here.
    fn note_asker(&mut self, domain: DomainId, source: Ipv6Addr, mac: Option<Mac>) {
        if mac.is_some() && !source.is_unspecified() {
            let create = self.is_on_link(domain, source.into());
            let key = NeighbourKey::new(domain, source.into());
            self.cache.learn(key, mac, News::Told { create }, self.now_ns);
        }
    }

    fn is_proxied6(&self, domain: DomainId, target: Ipv6Addr) -> bool {
        let Some(interface) = self.interfaces.get(&domain) else { return false };
        let target_ip = IpAddr::V6(target);
        !target.is_unicast_link_local()
            && !target.is_unspecified()
            && !target.is_loopback()
            && !interface.has_in_subnet(target_ip)
            && self.is_elsewhere(domain, target_ip)
    }

    /// Answers a solicitation for a known neighbour, as that would.
    pub(super) fn answer_nd_for(&mut self, heard: Heard, nd: Nd) {
        let Nd::Solicitation { source, target, mac: asker } = nd else { return };
        let key = NeighbourKey::new(heard.domain, target.into());
        if source.is_unspecified() {
            return;
        }
        let router = self.cache.slot(key).and_then(|slot| self.cache.entry(slot)).is_some_and(|entry| entry.router);
        let Some(mac) = self.known_elsewhere(heard, key) else { return };
        self.counters.suppressed += 1;
        let flags = SOLICITED | OVERRIDE | if router { ROUTER } else { 0 };
        let frame = advertisement((asker.unwrap_or(heard.src), source), target, mac, flags);
        self.out.send(heard.domain, &frame);
        self.note_asker(heard.domain, source, asker);
    }

    /// Asks for the MAC address of `target`: everybody who could have it, or the one who had it.
    pub(super) fn ask_nd(&mut self, domain: DomainId, target: Ipv6Addr, to: Option<Mac>) {
        let Some(interface) = self.interfaces.get(&domain) else { return };
        let Some(source) = interface.link_local() else { return };
        let group = solicited_node(target);
        let (mac, address) = to.map_or((multicast_mac(group), group), |mac| (mac, target));
        let message = message(NEIGHBOUR_SOLICITATION, 0, target, Some((SOURCE_ADDRESS, interface.mac)));
        let frame = icmpv6((mac, interface.mac), (source, address), HOP_LIMIT, message);
        self.counters.asked += 1;
        self.out.send(domain, &frame);
    }

    /// Asks whether somebody has an own address, or tells everybody that it is ours.
    pub(super) fn announce_nd(&mut self, domain: DomainId, address: Ipv6Addr, say: Say) {
        let Some(interface) = self.interfaces.get(&domain) else { return };
        let frame = match say {
            Say::Probe => {
                let group = solicited_node(address);
                let message = message(NEIGHBOUR_SOLICITATION, 0, address, None);
                icmpv6((multicast_mac(group), interface.mac), (Ipv6Addr::UNSPECIFIED, group), HOP_LIMIT, message)
            }
            Say::Announce => {
                let to = (multicast_mac(ALL_NODES), ALL_NODES);
                advertisement(to, address, interface.mac, ROUTER | OVERRIDE)
            }
        };
        self.counters.announced += 1;
        self.out.send(domain, &frame);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::Icmpv6Type;
    use proptest::collection::vec;
    use proptest::prelude::*;

    const HOST: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9);
    const OTHER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 8);
    const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
    const SLLA: [u8; 8] = [1, 1, 2, 0, 0, 0, 0, 9];

    /// A router solicitation with these options and the right checksum, by etherparse.
    fn asked(source: Ipv6Addr, options: &[u8]) -> Vec<u8> {
        let mut message = vec![ROUTER_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
        message.extend(options);
        let oracle = Icmpv6Type::Unknown { type_u8: ROUTER_SOLICITATION, code_u8: 0, bytes5to8: [0; 4] };
        let sum = oracle.calc_checksum(source.octets(), ALL_ROUTERS.octets(), options).unwrap();
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        message
    }

    fn parsed(source: Ipv6Addr, hop_limit: u8, message: &[u8]) -> Result<Option<Nd>, Invalid> {
        let mut packet = vec![0x60, 0, 0, 0, 0, message.len() as u8, ICMPV6, hop_limit];
        packet.extend(source.octets());
        packet.extend(ALL_ROUTERS.octets());
        packet.extend(message);
        Nd::parse(&packet)
    }

    #[test]
    fn router_solicitations_that_are_right_are_taken() {
        let taken = |source, mac| Ok(Some(Nd::RouterSolicitation { source, mac }));
        let mac = Some(Mac::new([2, 0, 0, 0, 0, 9]));
        assert_eq!(parsed(HOST, 255, &asked(HOST, &SLLA)), taken(HOST, mac));
        assert_eq!(parsed(HOST, 255, &asked(HOST, &[])), taken(HOST, None));
        let unspecified = Ipv6Addr::UNSPECIFIED;
        assert_eq!(parsed(unspecified, 255, &asked(unspecified, &[])), taken(unspecified, None));
        let unknown = [&[77, 2][..], &[0; 14], &SLLA].concat();
        assert_eq!(parsed(HOST, 255, &asked(HOST, &unknown)), taken(HOST, mac), "unknown options are ignored");
    }

    #[test]
    fn router_solicitations_that_are_wrong_are_dropped() {
        let good = asked(HOST, &SLLA);
        for hop_limit in [0, 64, 254] {
            assert_eq!(parsed(HOST, hop_limit, &good), Err(Invalid));
        }
        assert_eq!(parsed(OTHER, 255, &good), Err(Invalid), "the checksum is of another source");
        for bit in 0..8 * good.len() {
            let mut broken = good.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            // With another type it is none at all.
            assert!(!matches!(parsed(HOST, 255, &broken), Ok(Some(_))), "bit {bit}");
        }
        for length in 2..8 {
            assert_eq!(parsed(HOST, 255, &good[..length]), Err(Invalid), "{length}");
        }
        let wrong: [&[u8]; 4] = [&[9, 0, 0, 0, 0, 0, 0, 0], &SLLA[..7], &[9], &[1, 1, 255, 255, 255, 255, 255, 255]];
        for options in wrong {
            assert_eq!(parsed(HOST, 255, &asked(HOST, options)), Err(Invalid), "{options:?}");
        }
        let unspecified = Ipv6Addr::UNSPECIFIED;
        assert_eq!(parsed(unspecified, 255, &asked(unspecified, &SLLA)), Err(Invalid));
        assert_eq!(parsed(ALL_NODES, 255, &asked(ALL_NODES, &[])), Err(Invalid), "from a group");
    }

    proptest! {
        #[test]
        fn any_octets_are_read_without_harm(hop_limit in 254u8.., octets in vec(any::<u8>(), 0..100), right: bool) {
            let message = if right { asked(HOST, &octets) } else { octets };
            let _ = parsed(HOST, hop_limit, &message);
        }
    }
}
