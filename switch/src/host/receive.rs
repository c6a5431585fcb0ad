//! What to do with a frame that a worker left, and with what neighbours and own addresses want to have done.

use std::net::{IpAddr, Ipv4Addr};

use super::arp::Arp;
use super::emit::{Received, l3_offset};
use super::ndp::{Invalid, Nd};
use super::neighbour::{Action, Waiting};
use super::own::Say;
use super::service::dhcp_payload;
use super::tell::{About, destination};
use super::{Host, Interface};
use crate::ids::{DomainId, Mac, NextHopId, PortId};
use crate::limits::{ETHERNET_HEADER, IPV6_MTU_MIN};
use crate::path::listen::ETHERTYPE_ARP;
use crate::path::route::ipv4::DONT_FRAGMENT;
use crate::path::transport::{ETHERTYPE_IPV4, ETHERTYPE_IPV6};
use crate::path::{Complaint, Punt, Why};
use crate::stats::Drop;
use crate::table::fdb::{Kind, MacKey};
use crate::table::neighbour::NeighbourKey;
use crate::table::next_hop::NextHop;

/// Where and how a message came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heard {
    pub port: PortId,
    pub domain: DomainId,
    /// Destination MAC address of the frame.
    pub dst: Mac,
    /// Its source MAC address.
    pub src: Mac,
}

/// A frame as far as this half of the host understands it.
enum Message {
    Arp(Arp),
    Nd(Nd),
    /// A message to DHCP servers: its IP destination and its payload.
    Dhcp(Ipv4Addr, Vec<u8>),
    Invalid,
    Other,
}

fn read(received: &Received<'_>) -> Message {
    match received.ethertype {
        ETHERTYPE_ARP => Arp::parse(received.payload).map_or(Message::Invalid, Message::Arp),
        ETHERTYPE_IPV6 => match Nd::parse(received.payload) {
            Ok(nd) => nd.map_or(Message::Other, Message::Nd),
            Err(Invalid) => Message::Invalid,
        },
        ETHERTYPE_IPV4 => match dhcp_payload(received.payload) {
            Some((destination, payload)) => Message::Dhcp(destination, payload.to_vec()),
            None => Message::Other,
        },
        _ => Message::Other,
    }
}

impl Host {
    /// Takes a frame that a worker left; it goes back to the pool, or on its way.
    pub(super) fn take(&mut self, punt: Punt) {
        let Punt { frame, port, domain, why } = punt;
        let about = match why {
            Why::Resolve(key) => return self.resolve(key, Waiting { frame, port, domain }),
            Why::Complain(complaint) => About::Complaint(complaint),
            Why::Redirect(key) => About::Redirect(key),
            Why::Local => About::Local,
            Why::Heard => About::Heard,
            Why::HeardAlone | Why::Suppress => About::HeardAlone,
        };
        if !matches!(about, About::Local | About::Heard | About::HeardAlone) {
            return self.icmp(about, Waiting { frame, port, domain });
        }
        let Some(received) = Received::parse(self.out.head(&frame)) else {
            // No port takes a frame without a header.
            return self.out.discard(frame, port, Drop::HostIgnored);
        };
        let heard = Heard { port, domain, dst: received.dst, src: received.src };
        match (read(&received), why) {
            (Message::Arp(arp), Why::Suppress) => self.answer_arp_for(heard, arp),
            (Message::Nd(nd), Why::Suppress) => self.answer_nd_for(heard, nd),
            (Message::Arp(arp), _) => self.hear_arp(heard, arp),
            (Message::Nd(nd), _) => self.hear_nd(heard, nd),
            (Message::Dhcp(destination, payload), _) if self.hear_dhcp(domain, destination, &payload) => {}
            (Message::Dhcp(..) | Message::Other, _) => return self.icmp(about, Waiting { frame, port, domain }),
            (Message::Invalid, _) => {
                self.counters.invalid += 1;
                // What others got as well is not lost.
                if about != About::Heard {
                    return self.out.discard(frame, port, Drop::HostIgnored);
                }
            }
        }
        self.out.free(frame);
    }

    /// A packet whose next hop's MAC address the worker did not know.
    fn resolve(&mut self, key: NeighbourKey, waiting: Waiting) {
        let nobody = match (self.interfaces.get(&key.domain()), key.address()) {
            (None, _) => true,
            (Some(interface), IpAddr::V4(address)) if interface.is_subnet_broadcast(address) => true,
            (Some(interface), address) => interface.owns(address),
        };
        if nobody {
            return self.out.discard(waiting.frame, waiting.port, Drop::NeighbourUnresolved);
        }
        self.cache.resolve(key, waiting, self.now_ns);
        self.act();
    }

    /// Does what neighbours want to have done.
    pub(super) fn act(&mut self) {
        loop {
            let actions = self.cache.take_actions();
            if actions.is_empty() {
                return;
            }
            // What is told about one packet may be another one to be sent.
            actions.into_iter().for_each(|action| self.act_on(action));
        }
    }

    fn act_on(&mut self, action: Action) {
        match action {
            Action::Ask { key, to } => match key.address() {
                IpAddr::V4(target) => self.ask_arp(key.domain(), target, to),
                IpAddr::V6(target) => self.ask_nd(key.domain(), target, to),
            },
            Action::Send { key, mac, waiting } => self.send_on(key, mac, waiting),
            Action::GiveUp { waiting } => self.icmp(About::Unresolved, waiting),
            Action::Drop { waiting } => {
                self.out.discard(waiting.frame, waiting.port, Drop::NeighbourUnresolved);
            }
        }
    }

    /// Sends a packet whose next hop's MAC address is known now.
    fn send_on(&mut self, key: NeighbourKey, mac: Mac, waiting: Waiting) {
        let domain = key.domain();
        let Some(mtu) = self.mtu(domain, mac) else {
            return self.out.discard(waiting.frame, waiting.port, Drop::NeighbourUnresolved);
        };
        let head = self.out.head(&waiting.frame);
        let l3_offset = l3_offset(head);
        let may_fragment = match head.get(l3_offset..).unwrap_or_default() {
            [version, _, _, _, _, _, high, low, ..] if version >> 4 == 4 => {
                u16::from_be_bytes([*high, *low]) & DONT_FRAGMENT == 0
            }
            _ => false,
        };
        if waiting.frame.len() > l3_offset + mtu && !may_fragment {
            if waiting.port == PortId::ROUTER {
                // Nothing is learned of paths: what fits every one is sent beyond the link (RFC 8200 section 5).
                let is_neighbour = destination(head.get(l3_offset..).unwrap_or_default()) == Some(key.address());
                let mtu = if is_neighbour { mtu } else { mtu.min(IPV6_MTU_MIN as usize) };
                let identification = self.identifications.next();
                return self.out.forward_cut(domain, waiting.frame, mac, mtu, identification);
            }
            self.shared.host_stats().port(waiting.port).drop(Drop::PacketTooBig, 1);
            return self.icmp(About::Complaint(Complaint::TooBig(mtu as u32)), waiting);
        }
        self.out.forward(domain, waiting.frame, mac, waiting.port, mtu);
    }

    /// Largest packet that may leave to this station.
    fn mtu(&self, domain: DomainId, mac: Mac) -> Option<usize> {
        let mtu = self.interfaces.get(&domain)?.mtu as usize;
        let hit = self.shared.fdb().lookup(MacKey::new(domain, mac));
        let port = hit.filter(|hit| hit.kind != Kind::Local).and_then(|hit| self.view.port(hit.port));
        Some(port.map_or(mtu, |port| mtu.min(port.untagged_len_max - ETHERNET_HEADER)))
    }

    /// Says what own addresses have to say.
    pub(super) fn speak(&mut self, most: usize) {
        for _ in 0..most {
            match self.own.next(self.now_ns) {
                None => return,
                Some((domain, IpAddr::V4(address), _)) => self.announce_arp(domain, address),
                Some((domain, IpAddr::V6(address), say)) => self.announce_nd(domain, address, say),
            }
        }
    }

    /// Somebody else claims an own address.
    pub(super) fn claimed(&mut self, domain: DomainId, address: IpAddr, other: Mac) {
        self.counters.conflicts += 1;
        let response = self.own.conflict(domain, address, other, self.now_ns);
        if response.warn {
            let name = self.interfaces.get(&domain).map_or("", |interface| &interface.name);
            tracing::warn!("bridge {name}: {other} has the gateway's address {address}, too: take it away there");
        }
        match address {
            _ if !response.defend => {}
            IpAddr::V4(address) => self.announce_arp(domain, address),
            IpAddr::V6(address) => self.announce_nd(domain, address, Say::Announce),
        }
    }

    /// The MAC address of a neighbour to be answered for. `None` if it is not known (any more), or is behind the port
    /// that the question came from: then it heard the question itself. That counts as a use, so that one that left is
    /// found out.
    pub(super) fn known_elsewhere(&mut self, heard: Heard, key: NeighbourKey) -> Option<Mac> {
        let slot = self.cache.slot(key)?;
        let mac = self.cache.entry(slot)?.mac?;
        let hit = self.shared.fdb().lookup(MacKey::new(heard.domain, mac));
        if heard.src == mac || hit.is_some_and(|hit| hit.port == heard.port) {
            return None;
        }
        self.cache.used(slot, self.now_ns);
        Some(mac)
    }

    /// True for an address that hosts on this domain can have: of its subnets, or with a route that says so.
    pub(super) fn is_on_link(&self, domain: DomainId, address: IpAddr) -> bool {
        let Some(interface) = self.interfaces.get(&domain) else { return false };
        let host = match address {
            IpAddr::V4(address) => super::arp::is_host(address) && !interface.is_subnet_broadcast(address),
            IpAddr::V6(address) => !address.is_multicast() && !address.is_unspecified() && !address.is_loopback(),
        };
        let routed = || self.route(interface, address) == Some(NextHop::Connected(domain));
        host && !interface.owns(address) && (interface.has_in_subnet(address) || routed())
    }

    /// True if the route to an address leads out by another interface than that of `domain`.
    pub(super) fn is_elsewhere(&self, domain: DomainId, address: IpAddr) -> bool {
        let Some(interface) = self.interfaces.get(&domain) else { return false };
        let next_hops = &self.shared.router().next_hops;
        let mut hop = self.route(interface, address);
        if let Some(NextHop::Group(group)) = hop {
            hop = next_hops.member(group, 0);
        }
        match hop {
            Some(NextHop::Connected(egress)) => egress != domain,
            Some(NextHop::Gateway(slot)) => {
                self.shared.router().neighbours.key(slot).is_some_and(|key| key.domain() != domain)
            }
            // Another address of the switch.
            Some(NextHop::Local) => true,
            _ => false,
        }
    }

    /// Where packets to an address go that come in by `interface`.
    fn route(&self, interface: &Interface, address: IpAddr) -> Option<NextHop> {
        let vrf = self.view.vrf(interface.vrf)?;
        let mut found = [NextHopId::NONE];
        match address {
            IpAddr::V4(address) => vrf.ipv4.lookup_batch(&[address.into()], &mut found),
            IpAddr::V6(address) => vrf.ipv6.lookup_batch(&[address.into()], &mut found),
        }
        self.shared.router().next_hops.get(found[0])
    }
}

impl std::ops::Drop for Host {
    /// Gives every frame back: those that wait, those nobody took, and those that no worker will take any more.
    fn drop(&mut self) {
        self.cache.remove_all();
        for action in self.cache.take_actions() {
            if let Action::Send { waiting, .. } | Action::GiveUp { waiting, .. } | Action::Drop { waiting } = action {
                self.out.free(waiting.frame);
            }
        }
        for turn in 0.. {
            let Some(punt) = self.shared.host().next(turn) else { break };
            self.out.free(punt.frame);
        }
        for worker in 0..self.shared.workers() {
            while let Some((_, frame)) = self.shared.injected(worker).pop() {
                self.out.free(frame);
            }
        }
    }
}
