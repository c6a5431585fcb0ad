//! What the switch does for the hosts of a bridge: DHCP and router advertisements. `dhcp` and `ra` decide; here are
//! their frames, their clock and their probes.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::dhcp::writer::{Mark, Writer};
use super::emit::{icmpv6, multicast_mac, udp4};
use super::neighbour::{MS, State};
use super::receive::Heard;
use super::tell::udp_is_sound;
use super::{Host, Interface, dhcp, ra};
use crate::ids::{DomainId, Mac};
use crate::path::checksum;
use crate::path::transport::{ETHERTYPE_IPV4, IPV4_FRAGMENTED, IPV4_HEADER, UDP, UDP_HEADER};

/// Acknowledgements that wait for the disk at a time. Then requests are ignored, and their clients try again.
pub(super) const HELD_MAX: usize = 1_024;

/// The last message of an advertiser: where, from whom, and what.
type LastWords = (DomainId, Ipv6Addr, Vec<u8>);

/// DHCP servers and advertisers, by bridge domain.
pub(super) struct Services {
    servers: BTreeMap<DomainId, dhcp::Server>,
    advertisers: BTreeMap<DomainId, ra::Advertiser>,
    writer: Writer,
    /// Leases of bridges that have no server, by name.
    leases: BTreeMap<String, Vec<dhcp::Lease>>,
    /// Addresses that are probed, and until when.
    probes: BTreeMap<(DomainId, Ipv4Addr), u64>,
    /// Replies of this turn.
    replies: Vec<(DomainId, dhcp::Reply)>,
    /// Acknowledgements, and when their leases are on disk; in this order.
    held: VecDeque<(Mark, DomainId, dhcp::Reply)>,
    /// Requests are ignored since there are too many of these, and the log says so.
    overrun: bool,
    /// Something changed that the writer has not heard of.
    dirty: bool,
    /// Unix time, in seconds, when the switch's clock was zero.
    epoch_s: u64,
    seed: u64,
}

impl Services {
    pub fn new(epoch_s: u64, seed: u64) -> Services {
        Services {
            servers: BTreeMap::new(),
            advertisers: BTreeMap::new(),
            writer: Writer::off(),
            leases: BTreeMap::new(),
            probes: BTreeMap::new(),
            replies: Vec::new(),
            held: VecDeque::new(),
            overrun: false,
            dirty: false,
            epoch_s,
            seed,
        }
    }

    /// Has leases written from now on, and gives out none of `leases`, those of the last time by bridge.
    pub fn keep(&mut self, writer: Writer, leases: BTreeMap<String, Vec<dhcp::Lease>>) {
        self.writer = writer;
        self.leases.extend(leases);
    }

    fn unix_s(&self, now_ns: u64) -> u64 {
        self.epoch_s + now_ns / 1_000_000_000
    }

    /// Takes the interfaces as they are now. Answers with the last words of advertisers that end.
    pub fn configure(&mut self, interfaces: &BTreeMap<DomainId, Interface>, now_ns: u64) -> Vec<LastWords> {
        let (unix_s, now_ms) = (self.unix_s(now_ns), now_ns / MS);
        let wanted = |domain: &DomainId| interfaces.get(domain).and_then(|interface| interface.dhcp.as_ref());
        let is_lost = |domain: &DomainId, server: &dhcp::Server| {
            wanted(domain).is_none_or(|settings| settings.bridge != server.settings().bridge)
        };
        let lost: Vec<DomainId> =
            self.servers.iter().filter(|(domain, server)| is_lost(domain, server)).map(|(domain, _)| *domain).collect();
        for server in lost.iter().filter_map(|domain| self.servers.remove(domain)) {
            let leases = server.leases().cloned().collect();
            self.leases.insert(server.settings().bridge.clone(), leases);
        }
        self.probes.retain(|(domain, _), _| self.servers.contains_key(domain));
        for (domain, interface) in interfaces {
            let Some(settings) = interface.dhcp.clone() else { continue };
            match self.servers.get_mut(domain) {
                Some(server) if *server.settings() == settings => {}
                Some(server) => server.reconfigure(settings, unix_s),
                None => {
                    let leases = self.leases.remove(&settings.bridge).unwrap_or_default();
                    self.servers.insert(*domain, dhcp::Server::new(settings, leases, unix_s));
                }
            }
            self.dirty = true;
        }
        let is_over = |domain: &DomainId| interfaces.get(domain).is_none_or(|interface| interface.ra.is_none());
        let over: Vec<DomainId> = self.advertisers.keys().filter(|domain| is_over(domain)).copied().collect();
        let ended = over.into_iter().filter_map(|domain| {
            let last = self.advertisers.remove(&domain)?;
            Some((domain, last.settings().source, last.stop()))
        });
        let ended = ended.collect();
        for (domain, interface) in interfaces {
            let Some(settings) = interface.ra.clone() else { continue };
            let seed = self.seed ^ domain.index() as u64;
            let new = || ra::Advertiser::new(settings.clone(), seed, now_ms);
            self.advertisers.entry(*domain).or_insert_with(new).reconfigure(settings.clone(), now_ms);
        }
        ended
    }

    /// Collects what servers changed for the writer, and what they have to say for the log.
    fn collect(&mut self, now_ns: u64) {
        let unix_s = self.unix_s(now_ns);
        for server in self.servers.values_mut() {
            server.take_notices().iter().for_each(|line| tracing::warn!("{line}"));
            for change in server.take_changes() {
                self.writer.add(&server.settings().bridge, change, unix_s);
            }
        }
    }

    /// True while requests are to be ignored, for the disk does not keep up with them.
    fn is_full(&mut self) -> bool {
        let full = self.held.len() + self.replies.len() >= HELD_MAX;
        if full && !self.overrun {
            tracing::error!(
                "leases: {HELD_MAX} answers to DHCP clients wait for the disk, and requests are ignored until it is done; \
                 see to the disk"
            );
            self.overrun = true;
        }
        full
    }

    /// Replies that may go out now: leases are on disk before their clients hear of them.
    fn ready(&mut self) -> Vec<(DomainId, dhcp::Reply)> {
        self.writer.hand_over();
        let mark = self.writer.mark();
        let is_ack = |reply: &dhcp::Reply| reply.kind == dhcp::ReplyKind::Ack;
        let (acks, mut ready): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.replies).into_iter().partition(|(_, reply)| is_ack(reply));
        self.held.extend(acks.into_iter().map(|(domain, reply)| (mark, domain, reply)));
        while self.held.front().is_some_and(|(mark, ..)| self.writer.is_over(*mark)) {
            ready.extend(self.held.pop_front().map(|(_, domain, reply)| (domain, reply)));
        }
        self.overrun &= !self.held.is_empty();
        ready
    }

    /// When something is due.
    pub fn next_due(&self) -> Option<u64> {
        let advertised = self.advertisers.values().map(|advertiser| advertiser.due_ms().saturating_mul(MS));
        advertised.chain(self.probes.values().copied()).min()
    }

    /// True if somebody waits to hear whether this address is in use.
    pub fn is_probed(&self, domain: DomainId, address: Ipv4Addr) -> bool {
        self.probes.contains_key(&(domain, address))
    }

    /// Every lease that a server knows of, with its bridge.
    pub fn leases(&self) -> impl Iterator<Item = (DomainId, &dhcp::Lease)> {
        self.servers.iter().flat_map(|(domain, server)| server.leases().map(|lease| (*domain, lease)))
    }
}

/// The UDP payload of a packet to DHCP servers, with its IP destination. `None` for anything else, or if it is damaged.
pub(super) fn dhcp_payload(packet: &[u8]) -> Option<(Ipv4Addr, &[u8])> {
    let header: &[u8; IPV4_HEADER] = packet.first_chunk()?;
    let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let ihl = usize::from(header[0] & 0xf) * 4;
    let datagram = packet.get(ihl..usize::from(word(2)))?;
    let is_udp = header[0] >> 4 == 4 && header[9] == UDP && word(6) & IPV4_FRAGMENTED == 0;
    let port = u16::from_be_bytes(*datagram.get(2..)?.first_chunk()?);
    if !is_udp || ihl < IPV4_HEADER || port != dhcp::SERVER_PORT || checksum::sum(packet.get(..ihl)?) != 0xffff {
        return None;
    }
    if !udp_is_sound(packet, ETHERTYPE_IPV4) {
        return None;
    }
    let len = usize::from(u16::from_be_bytes(*datagram.get(4..)?.first_chunk()?));
    let payload = datagram.get(UDP_HEADER..).filter(|_| len == datagram.len())?;
    Some((Ipv4Addr::from(*header.last_chunk::<4>()?), payload))
}

impl Host {
    /// Takes a message to DHCP servers in. False if this bridge has none.
    pub(super) fn hear_dhcp(&mut self, domain: DomainId, destination: Ipv4Addr, payload: &[u8]) -> bool {
        let unix_s = self.services.unix_s(self.now_ns);
        let full = self.services.is_full();
        let Some(server) = self.services.servers.get_mut(&domain) else { return false };
        self.counters.dhcp_requests += 1;
        if full {
            return true;
        }
        let answer = server.handle(dhcp::Request { payload, destination }, unix_s);
        self.services.dirty = true;
        self.dhcp_answer(domain, answer);
        true
    }

    /// Does what the DHCP server wants to have done.
    fn dhcp_answer(&mut self, domain: DomainId, mut answer: dhcp::Answer) {
        loop {
            match answer {
                dhcp::Answer::None(_) => return,
                dhcp::Answer::Reply(reply) => return self.services.replies.push((domain, reply)),
                dhcp::Answer::Probe(address) => {
                    let key = crate::table::neighbour::NeighbourKey::new(domain, address.into());
                    let entry = self.cache.slot(key).and_then(|slot| self.cache.entry(slot));
                    if !entry.is_some_and(|entry| matches!(entry.state, State::Reachable | State::Permanent)) {
                        self.services.probes.insert((domain, address), self.now_ns + dhcp::PROBE_MS * MS);
                        return self.probe_arp(domain, address);
                    }
                    let unix_s = self.services.unix_s(self.now_ns);
                    let Some(server) = self.services.servers.get_mut(&domain) else { return };
                    // As often as there are probes for one client: the server counts.
                    answer = server.probe_done(address, true, unix_s);
                }
            }
        }
    }

    /// A probe is over: somebody answered, or nobody did in time.
    pub(super) fn probe_over(&mut self, domain: DomainId, address: Ipv4Addr, in_use: bool) {
        if self.services.probes.remove(&(domain, address)).is_none() {
            return;
        }
        let unix_s = self.services.unix_s(self.now_ns);
        let Some(server) = self.services.servers.get_mut(&domain) else { return };
        let answer = server.probe_done(address, in_use, unix_s);
        self.services.dirty = true;
        self.dhcp_answer(domain, answer);
    }

    /// Somebody asks for a router.
    pub(super) fn hear_router_solicitation(&mut self, heard: Heard) {
        let now_ms = self.now_ns / MS;
        if let Some(advertiser) = self.services.advertisers.get_mut(&heard.domain) {
            advertiser.solicited(now_ms);
        }
    }

    /// Probes that ended, advertisements that are due, and replies. The end of a turn.
    pub(super) fn serve(&mut self) {
        let now_ns = self.now_ns;
        let over: Vec<(DomainId, Ipv4Addr)> =
            self.services.probes.iter().filter(|(_, due_ns)| **due_ns <= now_ns).map(|(name, _)| *name).collect();
        for (domain, address) in over {
            self.probe_over(domain, address, false);
        }
        let mut due = Vec::new();
        for (domain, advertiser) in &mut self.services.advertisers {
            due.extend(advertiser.poll(now_ns / MS).map(|message| (*domain, advertiser.settings().source, message)));
        }
        for (domain, source, message) in due {
            self.advertise(domain, source, message);
        }
        if std::mem::take(&mut self.services.dirty) {
            self.services.collect(now_ns);
        }
        for (domain, reply) in self.services.ready() {
            self.send_reply(domain, &reply);
        }
    }

    /// Says an advertiser's last words, or any other of its messages.
    pub(super) fn advertise(&mut self, domain: DomainId, source: Ipv6Addr, message: Vec<u8>) {
        let Some(interface) = self.interfaces.get(&domain) else { return };
        let macs = (multicast_mac(ra::ALL_NODES), interface.mac);
        let frame = icmpv6(macs, (source, ra::ALL_NODES), ra::HOP_LIMIT, message);
        self.counters.advertised += 1;
        self.out.send(domain, &frame);
    }

    fn send_reply(&mut self, domain: DomainId, reply: &dhcp::Reply) {
        let Some(server) = self.services.servers.get(&domain) else { return };
        let Some(interface) = self.interfaces.get(&domain) else { return };
        let (own, mac) = (server.settings().server, interface.mac);
        let ports = (dhcp::SERVER_PORT, dhcp::CLIENT_PORT);
        self.counters.dhcp_replies += 1;
        match reply.destination {
            dhcp::Destination::Broadcast => {
                let frame = udp4((Mac::BROADCAST, mac), (own, Ipv4Addr::BROADCAST), ports, &reply.payload);
                self.out.send(domain, &frame);
            }
            dhcp::Destination::Client { ip, mac: client } => {
                self.out.send(domain, &udp4((client, mac), (own, ip), ports, &reply.payload));
            }
            dhcp::Destination::Relay { ip } => {
                let ports = (dhcp::SERVER_PORT, dhcp::SERVER_PORT);
                let frame = udp4((Mac::ZERO, mac), (own, ip), ports, &reply.payload);
                let packet = frame.get(crate::limits::ETHERNET_HEADER..).unwrap_or_default();
                if let Some(way) = self.way(interface.vrf, domain, IpAddr::V4(ip)) {
                    self.send_packet(way, packet);
                }
            }
        }
    }
}
