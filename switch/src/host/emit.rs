//! How the switch as a host sends: frames of its own, and packets that waited for their next hop's MAC address.
//!
//! What is sent goes to worker 0, which takes it through forwarding and output as if from the router. Builders make
//! whole Ethernet frames without a tag, every checksum complete.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::icmp;
use super::icmp6;
use crate::ids::{DomainId, Mac, PortId};
use crate::limits::{ETHERNET_HEADER, FRAME_ROOM};
use crate::path::checksum;
use crate::path::route::ipv6::IPV6_HEADER;
use crate::path::transport::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, FRAGMENT, ICMPV6, UDP};
use crate::port::{Frame, FramePool};
use crate::stats::Drop;
use crate::worker::Shared;

/// The worker that sends for the host.
const WORKER: usize = 0;

/// The host's way to the ports, and its end of the frame pool.
pub(super) struct Out {
    shared: Arc<Shared>,
    pool: FramePool,
    /// Something was left for the worker that it was not told of yet.
    injected: bool,
}

impl Out {
    pub fn new(shared: Arc<Shared>) -> Out {
        let pool = FramePool::new(Arc::clone(shared.pool()));
        Out { shared, pool, injected: false }
    }

    /// Sends a complete Ethernet frame without a tag on a domain. False, and counted, if there was no room.
    pub fn send(&mut self, domain: DomainId, bytes: &[u8]) -> bool {
        self.frame(bytes).is_some_and(|frame| self.inject(domain, frame, PortId::ROUTER))
    }

    /// A pool frame with these bytes. `None`, and counted, if there are not enough.
    pub fn frame(&mut self, bytes: &[u8]) -> Option<Frame> {
        let mut whole: Option<Frame> = None;
        for part in bytes.chunks(FRAME_ROOM) {
            let Some(mut frame) = self.pool.alloc() else {
                if let Some(frame) = whole {
                    self.pool.free(frame);
                }
                self.shared.host_stats().port(PortId::ROUTER).drop(Drop::PoolExhausted, 1);
                return None;
            };
            // A fresh frame takes as much as it has room for.
            self.pool.region().write(&mut frame, part);
            match &mut whole {
                None => whole = Some(frame),
                Some(head) => {
                    if let Err(spare) = self.pool.region().append(head, frame) {
                        self.pool.free(spare);
                    }
                }
            }
        }
        whole
    }

    /// Sends a packet that waited: its destination MAC address is the one thing that it misses. A packet that came in
    /// by `port` and is larger than `mtu` is cut into fragments, which its sender allowed.
    pub fn forward(&mut self, domain: DomainId, mut frame: Frame, mac: Mac, port: PortId, mtu: usize) {
        if self.pool.region().is_shared(&frame) {
            let copy = self.pool.copy(&frame);
            self.pool.free(frame);
            let Some(copy) = copy else {
                return self.shared.host_stats().port(port).drop(Drop::PoolExhausted, 1);
            };
            frame = copy;
        }
        if let Some(dst) = self.pool.region().head_mut(&mut frame).first_chunk_mut::<6>() {
            *dst = mac.octets();
        }
        let l3_offset = l3_offset(self.pool.region().head(&frame));
        if frame.len() <= l3_offset + mtu {
            self.inject(domain, frame, port);
            return;
        }
        let shared = Arc::clone(&self.shared);
        let whole = crate::path::route::fragment::fragment(&mut self.pool, &frame, l3_offset, mtu, |_, piece| {
            shared.injected(WORKER).push((domain, piece)).map_err(|(_, piece)| piece)
        });
        self.injected = true;
        self.pool.free(frame);
        if !whole {
            self.shared.host_stats().port(port).drop(Drop::FragmentFailed, 1);
        }
    }

    /// The same for an IPv6 packet of the switch itself, which is cut into fragments for a way of `mtu`.
    pub fn forward_cut(&mut self, domain: DomainId, frame: Frame, mac: Mac, mtu: usize, identification: u32) {
        let bytes = self.bytes(&frame);
        self.free(frame);
        let (header, packet) = bytes.split_at_checked(l3_offset(&bytes)).unwrap_or_default();
        for piece in fragments6(packet, mtu, identification) {
            let mut piece = [header, &piece].concat();
            if let Some(dst) = piece.first_chunk_mut::<6>() {
                *dst = mac.octets();
            }
            // Without one of them the others are of no use.
            if !self.send(domain, &piece) {
                return;
            }
        }
    }

    fn inject(&mut self, domain: DomainId, frame: Frame, port: PortId) -> bool {
        self.injected = true;
        match self.shared.injected(WORKER).push((domain, frame)) {
            Ok(()) => true,
            Err((_, frame)) => {
                self.discard(frame, port, Drop::HandoffFull);
                false
            }
        }
    }

    /// The first bytes of a frame, all headers among them.
    pub fn head<'a>(&'a self, frame: &'a Frame) -> &'a [u8] {
        self.pool.region().head(frame)
    }

    /// All bytes of a frame.
    pub fn bytes(&self, frame: &Frame) -> Vec<u8> {
        self.pool.region().segments(frame).flatten().copied().collect()
    }

    /// Gives a frame back to the pool.
    pub fn free(&mut self, frame: Frame) {
        self.pool.free(frame);
    }

    /// Gives a frame back that was lost, and counts it at the port that it came from.
    pub fn discard(&mut self, frame: Frame, port: PortId, reason: Drop) {
        self.shared.host_stats().port(port).drop(reason, 1);
        self.pool.free(frame);
    }

    /// Wakes the worker if something was left for it.
    pub fn flush(&mut self) {
        if std::mem::take(&mut self.injected) {
            self.shared.waker(WORKER).wake();
        }
    }

    /// Free frames in the host's own list.
    pub fn frames_free(&self) -> usize {
        self.pool.local_len()
    }
}

/// EtherType of an 802.1Q tag.
const ETHERTYPE_VLAN: u16 = 0x8100;

/// Where the network header starts: behind the tag, if there is one.
pub(super) fn l3_offset(frame: &[u8]) -> usize {
    let tagged = frame.get(12..14) == Some(&ETHERTYPE_VLAN.to_be_bytes());
    if tagged { ETHERNET_HEADER + crate::limits::VLAN_TAG } else { ETHERNET_HEADER }
}

/// A received frame, taken apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Received<'a> {
    /// Destination MAC address.
    pub dst: Mac,
    /// Source MAC address.
    pub src: Mac,
    /// EtherType behind the tag, if there is one.
    pub ethertype: u16,
    /// What follows, padding included.
    pub payload: &'a [u8],
}

impl<'a> Received<'a> {
    /// `None` for a frame without a whole Ethernet header.
    pub fn parse(frame: &'a [u8]) -> Option<Received<'a>> {
        let offset = l3_offset(frame);
        let ethertype = u16::from_be_bytes(*frame.get(offset - 2..)?.first_chunk()?);
        let dst = Mac::new(*frame.first_chunk()?);
        let src = Mac::new(*frame.get(6..)?.first_chunk()?);
        Some(Received { dst, src, ethertype, payload: frame.get(offset..)? })
    }
}

/// An Ethernet frame around `payload`.
pub(super) fn ethernet(dst: Mac, src: Mac, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(ETHERNET_HEADER + payload.len());
    frame.extend(dst.octets());
    frame.extend(src.octets());
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Bytes of a fragment header.
const FRAGMENT_HEADER: usize = 8;

/// An IPv6 packet without extension headers in fragments of at most `mtu` octets (RFC 8200 4.5). None if it is no
/// packet.
fn fragments6(packet: &[u8], mtu: usize, identification: u32) -> Vec<Vec<u8>> {
    let Some((header, payload)) = packet.split_first_chunk::<IPV6_HEADER>() else { return Vec::new() };
    let room = mtu.saturating_sub(IPV6_HEADER + FRAGMENT_HEADER).max(8) & !7;
    let count = payload.len().div_ceil(room);
    let fragment = |(number, part): (usize, &[u8])| {
        let mut fragment = header.to_vec();
        if let Some([high, low, next]) = fragment.get_mut(4..7).and_then(<[u8]>::first_chunk_mut) {
            [*high, *low] = ((FRAGMENT_HEADER + part.len()) as u16).to_be_bytes();
            *next = FRAGMENT;
        }
        fragment.extend([header[6], 0]);
        fragment.extend(((number * room) as u16 | u16::from(number + 1 < count)).to_be_bytes());
        fragment.extend(identification.to_be_bytes());
        fragment.extend(part);
        fragment
    };
    payload.chunks(room).enumerate().map(fragment).collect()
}

/// A UDP datagram in an Ethernet frame; the checksum is complete, never absent.
pub(super) fn udp4(macs: (Mac, Mac), addresses: (Ipv4Addr, Ipv4Addr), ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let (to, from) = macs;
    let (src, dst) = addresses;
    let len = (8 + payload.len()) as u16;
    let mut datagram = Vec::with_capacity(usize::from(len));
    datagram.extend(ports.0.to_be_bytes());
    datagram.extend(ports.1.to_be_bytes());
    datagram.extend(len.to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    let pseudo = [&src.octets()[..], &dst.octets(), &[0, UDP], &len.to_be_bytes()].concat();
    let sum = transport_checksum(&pseudo, &datagram);
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    ethernet(to, from, ETHERTYPE_IPV4, &icmp::envelope(src, dst, 0, 0, UDP, &datagram))
}

/// An ICMPv6 message in an Ethernet frame. `message` starts with type and code; its checksum field, zero, is filled in.
pub(super) fn icmpv6(macs: (Mac, Mac), addresses: (Ipv6Addr, Ipv6Addr), hop_limit: u8, message: Vec<u8>) -> Vec<u8> {
    let (to, from) = macs;
    let (src, dst) = addresses;
    ethernet(to, from, ETHERTYPE_IPV6, &icmp6::envelope(src, dst, hop_limit, ICMPV6, message))
}

/// UDP's checksum, whose 0 is sent as 0xffff (RFC 768).
fn transport_checksum(pseudo: &[u8], datagram: &[u8]) -> u16 {
    match !checksum::combine(checksum::sum(pseudo), pseudo.len(), checksum::sum(datagram)) {
        0 => 0xffff,
        sum => sum,
    }
}

/// The MAC address of an IPv6 multicast group (RFC 2464 section 7).
pub(super) fn multicast_mac(group: Ipv6Addr) -> Mac {
    let [.., a, b, c, d] = group.octets();
    Mac::new([0x33, 0x33, a, b, c, d])
}
