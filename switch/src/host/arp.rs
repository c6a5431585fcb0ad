//! ARP (RFC 826) on the switch's interfaces: replies for own addresses, what is learned of others, and answers given
//! for hosts behind other interfaces (RFC 1027).

use std::net::{IpAddr, Ipv4Addr};

use super::Host;
use super::emit::ethernet;
use super::neighbour::News;
use super::receive::Heard;
use crate::ids::{DomainId, Mac};
use crate::path::listen::{ARP_LEN, ETHERTYPE_ARP};
use crate::table::neighbour::NeighbourKey;

/// What an ARP packet says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Operation {
    Request,
    Reply,
}

/// An ARP packet for IPv4 over Ethernet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Arp {
    pub operation: Operation,
    pub sender_mac: Mac,
    pub sender: Ipv4Addr,
    pub target_mac: Mac,
    pub target: Ipv4Addr,
}

/// Hardware type Ethernet, protocol type IPv4, and the lengths of their addresses.
const FIXED: [u8; 6] = [0, 1, 8, 0, 6, 4];

impl Arp {
    /// `None` for anything but a request or a reply about IPv4 over Ethernet.
    pub fn parse(payload: &[u8]) -> Option<Arp> {
        let packet: &[u8; ARP_LEN] = payload.first_chunk()?;
        let operation = match *packet.get(6..)?.first_chunk()? {
            [0, 1] => Operation::Request,
            [0, 2] => Operation::Reply,
            _ => return None,
        };
        let mac = |at: usize| Some(Mac::new(*packet.get(at..)?.first_chunk()?));
        let address = |at: usize| Some(Ipv4Addr::from(*packet.get(at..)?.first_chunk::<4>()?));
        let arp =
            Arp { operation, sender_mac: mac(8)?, sender: address(14)?, target_mac: mac(18)?, target: address(24)? };
        (packet.first_chunk() == Some(&FIXED)).then_some(arp)
    }

    /// The packet, in a frame from its sender.
    pub fn frame(&self, to: Mac) -> Vec<u8> {
        let mut packet = Vec::with_capacity(ARP_LEN);
        packet.extend(FIXED);
        packet.extend([0, if self.operation == Operation::Request { 1 } else { 2 }]);
        packet.extend(self.sender_mac.octets());
        packet.extend(self.sender.octets());
        packet.extend(self.target_mac.octets());
        packet.extend(self.target.octets());
        ethernet(to, self.sender_mac, ETHERTYPE_ARP, &packet)
    }

    /// The reply to this request: `mac` has the address that was asked for.
    fn reply(&self, mac: Mac) -> Arp {
        Arp {
            operation: Operation::Reply,
            sender_mac: mac,
            sender: self.target,
            target_mac: self.sender_mac,
            target: self.sender,
        }
    }

    /// A station that could be asked, if only for a moment: the sender of a valid packet.
    fn sender_is_station(&self) -> bool {
        let mac = !self.sender_mac.is_group() && self.sender_mac != Mac::ZERO;
        mac && (self.sender.is_unspecified() || is_host(self.sender))
    }
}

/// True for addresses that a host can have: not 0/8, loopback, multicast, class E or broadcast.
pub(super) fn is_host(address: Ipv4Addr) -> bool {
    !crate::path::route::ipv4::is_martian_source(address.into()) || address.is_link_local()
}

impl Host {
    /// Takes an ARP packet in.
    pub(super) fn hear_arp(&mut self, heard: Heard, arp: Arp) {
        let Some(interface) = self.interfaces.get(&heard.domain) else { return };
        if arp.sender_mac == interface.mac {
            return;
        }
        if !arp.sender_is_station() {
            self.counters.invalid += 1;
            return;
        }
        if interface.owns(arp.sender.into()) {
            return self.claimed(heard.domain, arp.sender.into(), arp.sender_mac);
        }
        let ours = interface.owns(arp.target.into());
        if self.services.is_probed(heard.domain, arp.sender) {
            self.probe_over(heard.domain, arp.sender, true);
        }
        let Some(interface) = self.interfaces.get(&heard.domain) else { return };
        let (own_mac, suppress) = (interface.mac, interface.flags.suppress);
        if !arp.sender.is_unspecified() {
            // RFC 826: whom we talk to is added. Where known neighbours are answered for, everybody is worth knowing.
            let create = (ours || suppress) && self.is_on_link(heard.domain, arp.sender.into());
            let to_us = arp.operation == Operation::Reply && (heard.dst == own_mac || ours);
            let news = if to_us { News::Reply { create } } else { News::Told { create } };
            let key = NeighbourKey::new(heard.domain, arp.sender.into());
            self.cache.learn(key, Some(arp.sender_mac), news, self.now_ns);
        }
        if arp.operation != Operation::Request {
            return;
        }
        if ours {
            self.counters.answered += 1;
            self.out.send(heard.domain, &arp.reply(own_mac).frame(arp.sender_mac));
        } else if self.is_proxied(&arp, heard.domain) {
            self.counters.proxied += 1;
            self.out.send(heard.domain, &arp.reply(own_mac).frame(arp.sender_mac));
        }
    }

    /// True for a host that the sender can reach by us only: one behind another interface. Never for whom the sender
    /// can hear himself, nor for a probe, whose sender would take our answer for another owner (RFC 5227 2.1.1).
    fn is_proxied(&self, arp: &Arp, domain: DomainId) -> bool {
        let Some(interface) = self.interfaces.get(&domain) else { return false };
        let asks = !arp.sender.is_unspecified() && arp.sender != arp.target;
        let target = IpAddr::V4(arp.target);
        interface.flags.proxy
            && asks
            && is_host(arp.target)
            && !interface.has_in_subnet(target)
            && self.is_elsewhere(domain, target)
    }

    /// Answers a request for a known neighbour, as that would. It was not flooded: without an answer the next one is,
    /// if the neighbour is not known any more.
    pub(super) fn answer_arp_for(&mut self, heard: Heard, arp: Arp) {
        let key = NeighbourKey::new(heard.domain, arp.target.into());
        if arp.operation != Operation::Request || !arp.sender_is_station() {
            self.counters.invalid += 1;
            return;
        }
        let Some(mac) = self.known_elsewhere(heard, key) else { return };
        self.counters.suppressed += 1;
        self.out.send(heard.domain, &arp.reply(mac).frame(arp.sender_mac));
        let news = News::Told { create: self.is_on_link(heard.domain, arp.sender.into()) };
        let key = NeighbourKey::new(heard.domain, arp.sender.into());
        self.cache.learn(key, Some(arp.sender_mac), news, self.now_ns);
    }

    /// Asks for the MAC address of `target`: everybody, or the one who had it.
    pub(super) fn ask_arp(&mut self, domain: DomainId, target: Ipv4Addr, to: Option<Mac>) {
        let Some(interface) = self.interfaces.get(&domain) else { return };
        let request = Arp {
            operation: Operation::Request,
            sender_mac: interface.mac,
            // Without an address of its own it asks as a probe does, which every host answers.
            sender: interface.source4(target).unwrap_or(Ipv4Addr::UNSPECIFIED),
            target_mac: Mac::ZERO,
            target,
        };
        self.counters.asked += 1;
        self.out.send(domain, &request.frame(to.unwrap_or(Mac::BROADCAST)));
    }

    /// Asks everybody whether somebody has an address, without a sender (RFC 5227 2.1.1).
    pub(super) fn probe_arp(&mut self, domain: DomainId, target: Ipv4Addr) {
        let Some(interface) = self.interfaces.get(&domain) else { return };
        let probe = Arp {
            operation: Operation::Request,
            sender_mac: interface.mac,
            sender: Ipv4Addr::UNSPECIFIED,
            target_mac: Mac::ZERO,
            target,
        };
        self.counters.asked += 1;
        self.out.send(domain, &probe.frame(Mac::BROADCAST));
    }

    /// Tells everybody who has an own address (RFC 5227 2.3).
    pub(super) fn announce_arp(&mut self, domain: DomainId, address: Ipv4Addr) {
        let Some(interface) = self.interfaces.get(&domain) else { return };
        let announcement = Arp {
            operation: Operation::Request,
            sender_mac: interface.mac,
            sender: address,
            target_mac: Mac::ZERO,
            target: address,
        };
        self.counters.announced += 1;
        self.out.send(domain, &announcement.frame(Mac::BROADCAST));
    }
}
