//! Puts packets to the switch's own addresses together that came in fragments (RFC 791 3.2, RFC 1122 3.3.2, RFC 8200
//! 4.5).
//!
//! Fragments that overlap take their datagram with them, whose other fragments are dropped until its time is up (RFC
//! 5722); a fragment that is a whole packet meets no others (RFC 6946). What others invent is bounded: datagrams in
//! all and of one source, and octets. Room is made by pushing out the oldest datagram of the port that takes up most,
//! so that a flood of fragments pushes out its own.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::extensions::Problem;
use super::neighbour::MS;
use super::service::dhcp_payload;
use super::tell::Came;
use super::{Host, extensions, icmp, icmp6};
use crate::ids::{DomainId, PortId, VrfId};
use crate::path::checksum;
use crate::path::route::ipv6::{IPV6_HEADER, is_link_local};
use crate::path::transport::{
    DESTINATION_OPTIONS, EXTENSION_HEADERS_MAX, FRAGMENT, HOP_BY_HOP, IPV4_FRAGMENTED, IPV4_HEADER, ROUTING,
};
use crate::stats::Drop;

/// Longest packet, but that of IPv6 its header does not count.
const PACKET_MAX: usize = 65_535;

/// IPv4's flag "more fragments", and its offset, in units of eight octets.
const MORE_V4: u16 = 0x2000;
const OFFSET_V4: u16 = 0x1fff;

/// The same of IPv6's fragment header; its offset is in octets, since the low bits are others'.
const MORE_V6: u16 = 1;
const OFFSET_V6: u16 = 0xfff8;

/// Octets of IPv6's fragment header.
const FRAGMENT_HEADER: usize = 8;

/// What a datagram and each of its fragments take up beside their octets, roughly.
const DATAGRAM_COST: usize = 320;
const FRAGMENT_COST: usize = 64;

/// Limits and times of [`Reassembly`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReassemblySettings {
    /// Datagrams at once.
    pub datagrams_max: usize,
    /// Datagrams of one source address at once.
    pub source_datagrams_max: usize,
    /// Octets that all of them take up, some for each fragment and datagram on top of its own.
    pub octets_max: usize,
    /// How long the fragments of an IPv4 datagram may take, from the first that came.
    pub timeout_v4_ms: u64,
    /// The same for IPv6 (RFC 8200 4.5: 60 seconds).
    pub timeout_v6_ms: u64,
}

impl Default for ReassemblySettings {
    fn default() -> Self {
        // RFC 1122 3.3.2 would have 60 seconds or more for IPv4, too; what is on its way now is there in one.
        ReassemblySettings {
            datagrams_max: 256,
            source_datagrams_max: 16,
            octets_max: 4 << 20,
            timeout_v4_ms: 30_000,
            timeout_v6_ms: 60_000,
        }
    }
}

/// What fragments of one datagram have in common. In this order: those of one source stand together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Name {
    source: IpAddr,
    destination: IpAddr,
    identification: u32,
    /// IPv4 only: IPv6's fragments may name different ones, of which the first one's counts.
    protocol: u8,
    vrf: VrfId,
    /// Where the addresses mean nothing beyond their link.
    link: Option<DomainId>,
}

/// A fragment, as it stands in the packet that it came in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fragment<'a> {
    name: Name,
    /// Of its payload in the datagram's, in octets.
    offset: usize,
    more: bool,
    /// All headers before the payload, IPv6's fragment header the last of them.
    front: &'a [u8],
    /// IPv6: where the number of the fragment header stands.
    next_at: usize,
    payload: &'a [u8],
}

/// What a packet is.
#[derive(Debug)]
pub(super) enum Reading<'a> {
    /// No fragment.
    Whole,
    Fragment(Fragment<'a>),
    /// Not to be put together. IPv6: the octet that its sender is told of.
    Broken(Option<u32>),
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

impl Reading<'_> {
    /// Reads a packet whose IP header was checked and that came in by `domain`, padding behind it allowed.
    pub fn of(packet: &[u8], vrf: VrfId, domain: DomainId) -> Reading<'_> {
        let reading = match packet.first().map(|first| first >> 4) {
            Some(4) => Reading::v4(packet, vrf),
            Some(6) => Reading::v6(packet, vrf, domain),
            _ => None,
        };
        reading.unwrap_or(Reading::Broken(None))
    }

    fn v4(packet: &[u8], vrf: VrfId) -> Option<Reading<'_>> {
        let header: &[u8; IPV4_HEADER] = packet.first_chunk()?;
        let flags = word(header, 6)?;
        if flags & IPV4_FRAGMENTED == 0 {
            return Some(Reading::Whole);
        }
        let (front, rest) = packet.split_at_checked(usize::from(header[0] & 0xf) * 4)?;
        let payload = rest.get(..usize::from(word(header, 2)?).checked_sub(front.len())?)?;
        let (offset, more) = (usize::from(flags & OFFSET_V4) * 8, flags & MORE_V4 != 0);
        let odd = more && !payload.len().is_multiple_of(8);
        if payload.is_empty() || odd || front.len() + offset + payload.len() > PACKET_MAX {
            return None;
        }
        let name = Name {
            source: Ipv4Addr::from(*header.get(12..)?.first_chunk::<4>()?).into(),
            destination: Ipv4Addr::from(*header.get(16..)?.first_chunk::<4>()?).into(),
            identification: word(header, 4)?.into(),
            protocol: header[9],
            vrf,
            link: None,
        };
        Some(Reading::Fragment(Fragment { name, offset, more, front, next_at: 0, payload }))
    }

    fn v6(packet: &[u8], vrf: VrfId, domain: DomainId) -> Option<Reading<'_>> {
        let packet = packet.get(..IPV6_HEADER + usize::from(word(packet, 4)?))?;
        let Some((next_at, at)) = fragment_header(packet) else { return Some(Reading::Whole) };
        let (front, payload) = packet.split_at_checked(at + FRAGMENT_HEADER)?;
        let flags = word(front, at + 2)?;
        let (offset, more) = (usize::from(flags & OFFSET_V6), flags & MORE_V6 != 0);
        let is_atomic = offset == 0 && !more;
        if more && !payload.len().is_multiple_of(8) {
            // The payload length is wrong (RFC 8200 4.5).
            return Some(Reading::Broken(Some(4)));
        }
        if at - IPV6_HEADER + offset + payload.len() > PACKET_MAX {
            return Some(Reading::Broken(Some(at as u32 + 2)));
        }
        if payload.is_empty() && !is_atomic {
            return None;
        }
        let [source, destination] = [8, 24].map(|at| packet.get(at..).and_then(<[u8]>::first_chunk::<16>).copied());
        let (source, destination) = (Ipv6Addr::from(source?), Ipv6Addr::from(destination?));
        let scoped = is_link_local(source.into()) || is_link_local(destination.into());
        let name = Name {
            source: source.into(),
            destination: destination.into(),
            identification: u32::from_be_bytes(*front.last_chunk()?),
            protocol: 0,
            vrf,
            link: scoped.then_some(domain),
        };
        Some(Reading::Fragment(Fragment { name, offset, more, front, next_at, payload }))
    }
}

/// Where a packet's fragment header is announced, and where it stands; `None` if there is none.
fn fragment_header(packet: &[u8]) -> Option<(usize, usize)> {
    let (mut next_at, mut at) = (6, IPV6_HEADER);
    for _ in 0..EXTENSION_HEADERS_MAX {
        match *packet.get(next_at)? {
            FRAGMENT => return Some((next_at, at)),
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => {
                next_at = at;
                at += 8 * (usize::from(*packet.get(at + 1)?) + 1);
            }
            _ => return None,
        }
    }
    None
}

impl Fragment<'_> {
    /// True for a fragment that is a whole packet.
    pub fn is_atomic(&self) -> bool {
        self.offset == 0 && !self.more
    }

    /// The packet that an atomic fragment is, without its fragment header.
    pub fn alone(&self) -> Option<Vec<u8>> {
        join(self.front, self.next_at, &[self.payload])
    }

    fn end(&self) -> usize {
        self.offset + self.payload.len()
    }
}

/// The packet with the headers of its first fragment and this payload. `None` if it would be too long.
fn join(front: &[u8], next_at: usize, payload: &[&[u8]]) -> Option<Vec<u8>> {
    let len: usize = payload.iter().map(|part| part.len()).sum();
    let is_v4 = front.first()? >> 4 == 4;
    let headers = if is_v4 { front.len() } else { front.len().checked_sub(FRAGMENT_HEADER)? };
    let counted = if is_v4 { headers + len } else { headers - IPV6_HEADER + len };
    let counted = u16::try_from(counted).ok()?.to_be_bytes();
    let mut packet = Vec::with_capacity(headers + len);
    packet.extend_from_slice(front.get(..headers)?);
    if is_v4 {
        packet.get_mut(2..4)?.copy_from_slice(&counted);
        packet.get_mut(6..8)?.fill(0);
        packet.get_mut(10..12)?.fill(0);
        let sum = !checksum::sum(&packet);
        packet.get_mut(10..12)?.copy_from_slice(&sum.to_be_bytes());
    } else {
        packet.get_mut(4..6)?.copy_from_slice(&counted);
        *packet.get_mut(next_at)? = *front.get(headers)?;
    }
    payload.iter().for_each(|part| packet.extend_from_slice(part));
    Some(packet)
}

/// Fragments of a datagram that is not complete.
#[derive(Debug)]
struct Datagram {
    /// Datagrams before it, by which the oldest is known.
    number: u64,
    due_ns: u64,
    /// Where its first fragment came in.
    port: PortId,
    domain: DomainId,
    /// The headers of the fragment with offset 0; empty until that comes. And where its fragment header is announced.
    front: Vec<u8>,
    next_at: usize,
    /// Payloads by offset; they do not overlap.
    payloads: BTreeMap<usize, Vec<u8>>,
    /// Octets in them.
    octets: usize,
    /// Where the last one ends, once that came.
    end: Option<usize>,
    /// Fragments overlapped: the rest is to be dropped.
    is_dead: bool,
}

/// A fragment does not go with the others.
struct Overlap;

impl Datagram {
    fn cost(&self) -> usize {
        DATAGRAM_COST + self.front.len() + self.octets + self.payloads.len() * FRAGMENT_COST
    }

    fn add(&mut self, fragment: &Fragment<'_>) -> Result<(), Overlap> {
        let (start, end) = (fragment.offset, fragment.end());
        let is_same = self.payloads.get(&start).is_some_and(|payload| payload == fragment.payload);
        if is_same && fragment.more != (self.end == Some(end)) {
            // The network may deliver twice (RFC 8200 4.5).
            return Ok(());
        }
        let before = self.payloads.range(..=start).next_back().is_some_and(|(at, payload)| at + payload.len() > start);
        let behind = self.payloads.range(start..).next().is_some_and(|(at, _)| *at < end);
        let ends_twice = match (self.end, fragment.more) {
            (Some(last), true) => end >= last,
            (Some(last), false) => end != last,
            (None, true) => false,
            (None, false) => self.payloads.last_key_value().is_some_and(|(at, _)| *at >= end),
        };
        if before || behind || ends_twice {
            return Err(Overlap);
        }
        if !fragment.more {
            self.end = Some(end);
        }
        if start == 0 {
            self.front = fragment.front.to_vec();
            self.next_at = fragment.next_at;
        }
        self.octets += fragment.payload.len();
        self.payloads.insert(start, fragment.payload.to_vec());
        Ok(())
    }

    /// Without overlaps as many octets as the end says are all of them.
    fn is_complete(&self) -> bool {
        self.end == Some(self.octets)
    }

    fn kill(&mut self) {
        self.is_dead = true;
        (self.front, self.payloads, self.octets) = (Vec::new(), BTreeMap::new(), 0);
    }

    fn packet(&self) -> Option<Vec<u8>> {
        let payload: Vec<&[u8]> = self.payloads.values().map(Vec::as_slice).collect();
        join(&self.front, self.next_at, &payload)
    }
}

/// A datagram whose time was up.
#[derive(Debug)]
pub(super) struct Expired {
    /// Where its first fragment came in.
    pub came: Came,
    /// The packet that its first fragment was, if that came.
    pub first: Option<Vec<u8>>,
}

/// Datagrams that wait for the rest of their fragments.
pub(super) struct Reassembly {
    settings: ReassemblySettings,
    all: BTreeMap<Name, Datagram>,
    due: BTreeSet<(u64, Name)>,
    /// What all of them take up, in octets.
    cost: usize,
    /// Datagrams so far.
    number: u64,
    /// Fragments that were lost since they were last asked for, by port.
    lost: Vec<(PortId, u64)>,
}

impl Reassembly {
    pub fn new(settings: ReassemblySettings) -> Reassembly {
        Reassembly { settings, all: BTreeMap::new(), due: BTreeSet::new(), cost: 0, number: 0, lost: Vec::new() }
    }

    /// Takes a fragment in; the packet that it completes.
    pub fn take(&mut self, fragment: &Fragment<'_>, port: PortId, domain: DomainId, now_ns: u64) -> Option<Vec<u8>> {
        let name = fragment.name;
        if !self.all.contains_key(&name) {
            self.begin(name, port, domain, now_ns);
        }
        let datagram = self.all.get_mut(&name)?;
        if datagram.is_dead {
            self.lost.push((port, 1));
            return None;
        }
        let before = datagram.cost();
        if datagram.add(fragment).is_err() {
            self.lost.push((datagram.port, datagram.payloads.len() as u64 + 1));
            datagram.kill();
        }
        let done = datagram.is_complete();
        self.cost = self.cost + datagram.cost() - before;
        if done {
            let datagram = self.remove(name)?;
            let packet = datagram.packet();
            if packet.is_none() {
                self.lost.push((datagram.port, datagram.payloads.len() as u64));
            }
            return packet;
        }
        while self.cost > self.settings.octets_max && self.push_out() {}
        None
    }

    fn begin(&mut self, name: Name, port: PortId, domain: DomainId, now_ns: u64) {
        let lowest = Name {
            destination: Ipv4Addr::UNSPECIFIED.into(),
            identification: 0,
            protocol: 0,
            vrf: VrfId::DEFAULT,
            link: None,
            ..name
        };
        let of_source = || self.all.range(lowest..).take_while(|(other, _)| other.source == name.source);
        if of_source().count() >= self.settings.source_datagrams_max {
            let oldest = of_source().min_by_key(|(_, datagram)| datagram.number).map(|(name, _)| *name);
            oldest.into_iter().for_each(|oldest| self.forget(oldest));
        }
        while self.all.len() >= self.settings.datagrams_max && self.push_out() {}
        let is_v4 = name.source.is_ipv4();
        let timeout_ms = if is_v4 { self.settings.timeout_v4_ms } else { self.settings.timeout_v6_ms };
        let datagram = Datagram {
            number: self.number,
            due_ns: now_ns + timeout_ms * MS,
            port,
            domain,
            front: Vec::new(),
            next_at: 0,
            payloads: BTreeMap::new(),
            octets: 0,
            end: None,
            is_dead: false,
        };
        self.number += 1;
        self.cost += datagram.cost();
        self.due.insert((datagram.due_ns, name));
        self.all.insert(name, datagram);
    }

    fn remove(&mut self, name: Name) -> Option<Datagram> {
        let datagram = self.all.remove(&name)?;
        self.due.remove(&(datagram.due_ns, name));
        self.cost -= datagram.cost();
        Some(datagram)
    }

    /// Removes a datagram; its fragments are lost.
    fn forget(&mut self, name: Name) {
        if let Some(datagram) = self.remove(name) {
            self.lost.push((datagram.port, datagram.payloads.len() as u64));
        }
    }

    /// Forgets the oldest datagram of the port that takes up most. False if there is none.
    fn push_out(&mut self) -> bool {
        let mut costs: BTreeMap<PortId, usize> = BTreeMap::new();
        for datagram in self.all.values() {
            *costs.entry(datagram.port).or_default() += datagram.cost();
        }
        let Some((port, _)) = costs.into_iter().max_by_key(|(_, cost)| *cost) else { return false };
        let of_port = self.all.iter().filter(|(_, datagram)| datagram.port == port);
        let oldest = of_port.min_by_key(|(_, datagram)| datagram.number).map(|(name, _)| *name);
        oldest.into_iter().for_each(|oldest| self.forget(oldest));
        oldest.is_some()
    }

    /// When the next datagram's time is up, in nanoseconds.
    pub fn next_due(&self) -> Option<u64> {
        self.due.first().map(|(due_ns, _)| *due_ns)
    }

    /// The next datagram whose time is up by `now_ns`.
    pub fn expire(&mut self, now_ns: u64) -> Option<Expired> {
        let &(_, name) = self.due.first().filter(|(due_ns, _)| *due_ns <= now_ns)?;
        let datagram = self.remove(name)?;
        self.lost.push((datagram.port, datagram.payloads.len() as u64));
        let first = datagram.payloads.get(&0).map(|payload| [&datagram.front[..], payload].concat());
        Some(Expired { came: Came { port: datagram.port, domain: datagram.domain }, first })
    }

    /// Fragments that were lost since the last call, by port.
    pub fn take_lost(&mut self) -> Vec<(PortId, u64)> {
        std::mem::take(&mut self.lost)
    }
}

impl Host {
    /// Takes a packet to an own address over, put together if it came in fragments. Why it is lost, if nothing here
    /// has a use for it.
    pub(super) fn deliver(&mut self, came: Came, packet: &[u8]) -> Option<Drop> {
        let Came { port, domain } = came;
        let Some(vrf) = self.interfaces.get(&domain).map(|interface| interface.vrf) else {
            return Some(Drop::HostIgnored);
        };
        let whole = match Reading::of(packet, vrf, domain) {
            Reading::Whole => return self.answer(came, packet),
            Reading::Fragment(fragment) if fragment.is_atomic() => fragment.alone(),
            Reading::Fragment(fragment) => {
                let whole = self.fragments.take(&fragment, port, domain, self.now_ns);
                self.count_lost();
                self.counters.reassembled += u64::from(whole.is_some());
                whole
            }
            Reading::Broken(pointer) => {
                let own = icmp6::addresses(packet).map(|(_, destination)| destination);
                if let Some(pointer) = pointer {
                    self.tell6(came, packet, icmp6::Error::BadField(pointer), own);
                }
                return Some(Drop::ReassemblyFailed);
            }
        };
        let whole = whole?;
        // Unlike a packet of one frame, it may still be DHCP. It is never neighbour discovery (RFC 6980).
        let is_taken = dhcp_payload(&whole).is_some_and(|(to, payload)| self.hear_dhcp(domain, to, payload));
        if is_taken { None } else { self.answer(came, &whole) }
    }

    /// Answers a whole packet to an own address.
    fn answer(&mut self, came: Came, packet: &[u8]) -> Option<Drop> {
        let answered = match packet.first().map(|first| first >> 4) {
            Some(6) => match extensions::upper(packet) {
                Ok(upper) => {
                    let plain = extensions::without(packet, upper);
                    // What is told quotes the packet as it came.
                    plain.is_some_and(|plain| self.echo(came.domain, &plain)) || self.refuse(came, packet)
                }
                Err(Problem::Told(what)) => {
                    let own = icmp6::addresses(packet).map(|(_, own)| own).filter(|own| !own.is_multicast());
                    self.tell6(came, packet, what, own)
                }
                Err(Problem::Silent) => false,
            },
            _ => self.echo(came.domain, packet) || self.refuse(came, packet),
        };
        (!answered).then_some(Drop::HostIgnored)
    }

    /// Gives up datagrams whose time is up, at most so many, and tells senders whose datagram's beginning came
    /// (RFC 1122 3.3.2, RFC 8200 4.5).
    pub(super) fn expire_fragments(&mut self, most: usize) {
        for _ in 0..most {
            let Some(Expired { came, first }) = self.fragments.expire(self.now_ns) else { break };
            let Some(first) = first else { continue };
            if let Some((_, own)) = icmp6::addresses(&first).filter(|_| first[0] >> 4 == 6) {
                self.tell6(came, &first, icmp6::Error::ReassemblyTime, Some(own));
            } else if let Some(own) = first.get(16..).and_then(<[u8]>::first_chunk::<4>) {
                self.tell4(came, &first, icmp::Error::ReassemblyTime, Some(Ipv4Addr::from(*own)));
            }
        }
        self.count_lost();
    }

    fn count_lost(&mut self) {
        for (port, count) in self.fragments.take_lost() {
            self.shared.host_stats().port(port).drop(Drop::ReassemblyFailed, count);
        }
    }
}

#[cfg(test)]
mod tests;
