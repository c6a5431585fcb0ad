//! Frames to test with, built on etherparse: Ethernet, 802.1Q, ARP, IPv4/IPv6 with UDP or TCP, and 802.3 LLC.
//!
//! A frame is a `Vec<u8>` from the destination address to the end of the payload, without checksum sequence.

use etherparse::{ArpHardwareId, ArpOperation, ArpPacket, EtherType, PacketBuilder};
use switch::ids::Mac;

/// EtherType set aside for local experiments (IEEE 802): no parser looks behind it.
pub const ETHERTYPE_EXPERIMENTAL: u16 = 0x88b5;

/// The address of host `number`: locally administered, individual.
pub fn host(number: u16) -> Mac {
    let [high, low] = number.to_be_bytes();
    Mac::new([2, 0, 0, 0, high, low])
}

/// An Ethernet II frame.
pub fn ethernet(dst: Mac, src: Mac, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&dst.octets(), &src.octets(), &ethertype.to_be_bytes()[..], payload].concat()
}

/// A frame of `len` bytes in all (at least 14) with a payload that counts up.
pub fn sized(dst: Mac, src: Mac, len: usize) -> Vec<u8> {
    let payload: Vec<u8> = (14..len).map(|at| at as u8).collect();
    ethernet(dst, src, ETHERTYPE_EXPERIMENTAL, &payload)
}

/// An 802.3 frame: a length in place of the EtherType, LLC behind it, padded to 60 bytes.
pub fn llc(dst: Mac, src: Mac, payload: &[u8]) -> Vec<u8> {
    padded(ethernet(dst, src, payload.len() as u16, payload), 60)
}

/// `frame` with an 802.1Q tag in front of what followed the addresses.
pub fn tagged(frame: &[u8], tci: u16) -> Vec<u8> {
    let (addresses, rest) = frame.split_at(12);
    [addresses, &[0x81, 0x00], &tci.to_be_bytes(), rest].concat()
}

/// `frame` with zeros behind it up to `len` bytes.
pub fn padded(mut frame: Vec<u8>, len: usize) -> Vec<u8> {
    frame.resize(frame.len().max(len), 0);
    frame
}

/// A broadcast ARP request, padded to 60 bytes.
pub fn arp_request(src: Mac, sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let (hardware, protocol) = (ArpHardwareId::ETHERNET, EtherType::IPV4);
    let arp = ArpPacket::new(hardware, protocol, ArpOperation::REQUEST, &src.octets(), &sender, &[0; 6], &target)
        .expect("Ethernet and IPv4 addresses fit");
    let mut frame = Vec::new();
    let builder = PacketBuilder::ethernet2(src.octets(), Mac::BROADCAST.octets()).arp(arp);
    builder.write(&mut frame).expect("a Vec takes everything");
    padded(frame, 60)
}

/// The IP version of a [`Packet`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Net {
    /// IPv4, 20-byte header.
    V4,
    /// IPv6 without extension headers.
    V6,
}

/// The transport protocol of a [`Packet`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// TCP, 20-byte header.
    Tcp,
    /// UDP.
    Udp,
}

/// What the checksum field of a [`Packet`] holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Checksum {
    /// The right one.
    Full,
    /// The pseudo-header's sum, folded and not complemented: what a container's kernel leaves to the device.
    Partial,
}

/// A TCP or UDP packet between two hosts.
#[derive(Clone, Debug)]
pub struct Packet {
    /// Destination address.
    pub dst: Mac,
    /// Source address.
    pub src: Mac,
    /// IP version.
    pub net: Net,
    /// Transport protocol.
    pub transport: Transport,
    /// What the checksum field holds.
    pub checksum: Checksum,
    /// Bytes behind the transport header.
    pub payload: Vec<u8>,
}

impl Packet {
    /// A packet from `src` to `dst` with a full checksum.
    pub fn new(dst: Mac, src: Mac, net: Net, transport: Transport, payload: Vec<u8>) -> Packet {
        Packet { dst, src, net, transport, checksum: Checksum::Full, payload }
    }

    /// The frame. Addresses and ports follow from the MAC addresses; no port is a tunnel's.
    pub fn build(&self) -> Vec<u8> {
        let builder = PacketBuilder::ethernet2(self.src.octets(), self.dst.octets());
        let (from, to) = (self.src.bits() as u8, self.dst.bits() as u8);
        let address = |host: u8| [[0xfd, 0], [0; 2], [0; 2], [0; 2], [0; 2], [0; 2], [0; 2], [0, host]].concat();
        let builder = match self.net {
            Net::V4 => builder.ipv4([10, 1, 0, from], [10, 1, 0, to], 64),
            Net::V6 => {
                let address = |host| address(host).try_into().expect("sixteen bytes");
                builder.ipv6(address(from), address(to), 64)
            }
        };
        let mut frame = Vec::new();
        match self.transport {
            Transport::Udp => builder.udp(7000, 7001).write(&mut frame, &self.payload),
            Transport::Tcp => builder.tcp(7000, 7001, 1, 65_000).ack(1).write(&mut frame, &self.payload),
        }
        .expect("a Vec takes everything");
        if self.checksum == Checksum::Partial {
            let field = self.checksum_offset();
            let sum = self.pseudo_header_sum(&frame).to_be_bytes();
            frame[field..field + 2].copy_from_slice(&sum);
        }
        frame
    }

    /// Where the checksum field stands in the frame.
    pub fn checksum_offset(&self) -> usize {
        self.transport_offset() + if self.transport == Transport::Tcp { 16 } else { 6 }
    }

    fn transport_offset(&self) -> usize {
        14 + if self.net == Net::V4 { 20 } else { 40 }
    }

    fn pseudo_header_sum(&self, frame: &[u8]) -> u16 {
        let start = self.transport_offset();
        let addresses = if self.net == Net::V4 { &frame[26..34] } else { &frame[22..54] };
        let protocol = if self.transport == Transport::Tcp { 6 } else { 17 };
        let words = addresses.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
        let mut sum = words.sum::<u32>() + protocol + (frame.len() - start) as u32;
        while sum > 0xffff {
            sum = (sum >> 16) + (sum & 0xffff);
        }
        sum as u16
    }
}
