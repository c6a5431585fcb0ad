//! Vectors of RFC 1071, then frames built by etherparse, whose own checksum code is the judge.

use super::*;
use crate::path::transport::{ETHERTYPE_IPV4, ETHERTYPE_IPV6};
use etherparse::checksum::Sum16BitWords;
use etherparse::{PacketBuilder, VlanId};
use proptest::collection::vec;
use proptest::prelude::*;
use std::iter::empty;

/// A whole frame with a complete checksum, and where its parts are.
#[derive(Clone, Debug)]
struct Sample {
    bytes: Vec<u8>,
    l3_offset: usize,
    ethertype: u16,
    l4_offset: usize,
    field: usize,
}

impl Sample {
    /// The same frame as a container's kernel sends it; the pseudo-header summed by etherparse.
    fn partial(&self) -> Vec<u8> {
        let ip = &self.bytes[self.l3_offset..];
        let addresses = if self.ethertype == ETHERTYPE_IPV4 { &ip[12..20] } else { &ip[8..40] };
        let len = match self.ethertype {
            ETHERTYPE_IPV4 => be16(ip, 2) as usize + self.l3_offset - self.l4_offset,
            _ => be16(ip, 4) as usize + 40 + self.l3_offset - self.l4_offset,
        };
        let protocol = if self.field - self.l4_offset == 16 { 6 } else { 17 };
        let sum = Sum16BitWords::new()
            .add_slice(addresses)
            .add_2bytes([0, protocol])
            .add_2bytes(u16::try_from(len).expect("an IP length").to_be_bytes());
        let mut bytes = self.bytes.clone();
        // `ones_complement` gives the word as it lies in memory.
        bytes[self.field..self.field + 2].copy_from_slice(&(!sum.ones_complement()).to_ne_bytes());
        bytes
    }

    fn finish(&self, bytes: &mut [u8]) -> Finish {
        finish_partial(bytes, self.l3_offset, self.ethertype, empty())
    }
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn set16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// An Ethernet frame with `tags` VLAN tags (at most two), then IP, then TCP (with options) or UDP.
fn sample(v6: bool, tcp: bool, tags: usize, addresses: [u8; 32], ports: (u16, u16), payload: &[u8]) -> Sample {
    let link = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let (a, b) = addresses.split_at(16);
    let (v4, v6_a, v6_b): ([u8; 8], [u8; 16], [u8; 16]) =
        (a[..8].try_into().unwrap(), a.try_into().unwrap(), b.try_into().unwrap());
    let ip = if v6 {
        etherparse::IpHeaders::Ipv6(
            etherparse::Ipv6Header { source: v6_a, destination: v6_b, hop_limit: 64, ..Default::default() },
            Default::default(),
        )
    } else {
        let (source, destination) = ([v4[0], v4[1], v4[2], v4[3]], [v4[4], v4[5], v4[6], v4[7]]);
        let header = etherparse::Ipv4Header { source, destination, time_to_live: 64, ..Default::default() };
        etherparse::IpHeaders::Ipv4(header, Default::default())
    };
    let id = |id| VlanId::try_new(id).unwrap();
    let step = match tags {
        0 => link.ip(ip),
        1 => link.single_vlan(id(5)).ip(ip),
        _ => link.double_vlan(id(7), id(9)).ip(ip),
    };
    let mut bytes = Vec::new();
    if tcp {
        let options = [etherparse::TcpOptionElement::Timestamp(7, 9)];
        let step = step.tcp(ports.0, ports.1, 1234, 512).ack(77).options(&options).unwrap();
        step.write_to_vec(&mut bytes, payload).unwrap();
    } else {
        step.udp(ports.0, ports.1).write_to_vec(&mut bytes, payload).unwrap();
    }
    let l3_offset = 14 + 4 * tags;
    let l4_offset = l3_offset + if v6 { 40 } else { 20 };
    let field = l4_offset + if tcp { 16 } else { 6 };
    Sample { bytes, l3_offset, ethertype: if v6 { ETHERTYPE_IPV6 } else { ETHERTYPE_IPV4 }, l4_offset, field }
}

fn plain(v6: bool, tcp: bool, payload: &[u8]) -> Sample {
    let addresses = std::array::from_fn(|i| 10 + i as u8);
    sample(v6, tcp, 0, addresses, (40_000, 5201), payload)
}

/// `plain` over IPv6 with `headers` between the IPv6 header and TCP or UDP; each ends with what follows it.
fn with_extensions(tcp: bool, kinds: &[u8], headers: &[u8]) -> Sample {
    let mut sample = plain(true, tcp, b"extension");
    let mut headers = headers.to_vec();
    let mut at = 0;
    for next in kinds[1..].iter().copied().chain([if tcp { 6 } else { 17 }]) {
        headers[at] = next;
        at += 8 + usize::from(headers[at + 1]) * 8;
    }
    assert_eq!(at, headers.len());
    sample.bytes[20] = kinds[0];
    let payload_len = be16(&sample.bytes, 18) + headers.len() as u16;
    set16(&mut sample.bytes, 18, payload_len);
    sample.bytes.splice(54..54, headers.iter().copied());
    sample.l4_offset += headers.len();
    sample.field += headers.len();
    sample
}

fn samples() -> impl Strategy<Value = Sample> {
    let payload = prop_oneof![vec(any::<u8>(), 0..64), vec(any::<u8>(), 0..9000)];
    (any::<(bool, bool)>(), 0..3_usize, any::<[u8; 32]>(), any::<(u16, u16)>(), payload)
        .prop_map(|((v6, tcp), tags, addresses, ports, payload)| sample(v6, tcp, tags, addresses, ports, &payload))
}

/// Cuts `bytes` at the given places, none of them before `first`.
fn cut<'a>(bytes: &'a [u8], first: usize, places: &[proptest::sample::Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = places.iter().map(|p| first + p.index(bytes.len() - first + 1)).collect();
    places.sort_unstable();
    let mut segments = Vec::new();
    let mut from = 0;
    for to in places.into_iter().chain([bytes.len()]) {
        segments.push(&bytes[from..to]);
        from = to;
    }
    segments
}

#[test]
fn rfc1071_example() {
    let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
    assert_eq!(sum(&bytes), 0xddf2);
    assert_eq!(!sum(&bytes), 0x220d);
    // The RFC's byte-wise table: an odd split, the second group swapped.
    let (first, second) = bytes.split_at(3);
    assert_eq!(combine(sum(first), 3, sum(second)), 0xddf2);
    assert_eq!(combine(sum(&bytes[..4]), 4, sum(&bytes[4..])), 0xddf2);
}

#[test]
fn sum_of_edges() {
    assert_eq!(sum(&[]), 0);
    assert_eq!(sum(&[0; 4000]), 0);
    assert_eq!(sum(&[0xff; 4000]), 0xffff);
    assert_eq!(sum(&[0xff; 4001]), 0xff00);
    assert_eq!(sum(&[0x12]), 0x1200);
    assert_eq!(fold(u64::MAX), 0xffff);
    assert_eq!(fold(0x1_0000), 1);
    assert_eq!(fold(0xffff_ffff_0000_0001), 1);
}

#[test]
fn partial_of_every_kind_is_finished() {
    for (v6, tcp) in [(false, false), (false, true), (true, false), (true, true)] {
        for len in [0, 1, 2, 17, 1400, 8949] {
            let sample = plain(v6, tcp, &vec![0xa5; len]);
            let mut frame = sample.partial();
            assert_ne!(frame, sample.bytes);
            assert_eq!(verify(&frame, 14, sample.ethertype, empty()), Some(false));
            assert_eq!(sample.finish(&mut frame), Finish::Finished);
            assert_eq!(frame, sample.bytes, "v6 {v6} tcp {tcp} payload {len}");
            assert_eq!(verify(&frame, 14, sample.ethertype, empty()), Some(true));
        }
    }
}

#[test]
fn link_padding_is_not_summed() {
    for (v6, tcp) in [(false, false), (false, true), (true, false)] {
        let sample = plain(v6, tcp, b"x");
        let mut frame = sample.partial();
        frame.extend_from_slice(&[0x5a; 9]);
        assert_eq!(sample.finish(&mut frame), Finish::Finished);
        assert_eq!(frame[..sample.bytes.len()], sample.bytes);
        assert_eq!(frame[sample.bytes.len()..], [0x5a; 9]);
    }
}

#[test]
fn ipv4_options_move_the_payload() {
    let mut sample = plain(false, true, b"options");
    sample.bytes[14] = 0x47;
    let total_len = be16(&sample.bytes, 16) + 8;
    set16(&mut sample.bytes, 16, total_len);
    sample.bytes.splice(34..34, [0x94, 4, 0, 0, 1, 1, 1, 0]);
    (sample.l4_offset, sample.field) = (sample.l4_offset + 8, sample.field + 8);
    let mut frame = sample.partial();
    assert_eq!(sample.finish(&mut frame), Finish::Finished);
    assert_eq!(frame, sample.bytes);
}

#[test]
fn ipv6_extension_headers_are_walked() {
    let hop = [0, 0, 5, 2, 0, 0, 1, 0];
    let routing_done = [0, 2, 4, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
    let atomic = [0, 0, 0, 0, 9, 9, 9, 9];
    let destination = [0, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let all = [&hop[..], &destination, &routing_done, &atomic, &destination].concat();
    for (kinds, headers) in [
        (&[0][..], &hop[..]),
        (&[43], &routing_done),
        (&[44], &atomic),
        (&[60], &destination),
        (&[0, 60, 43, 44, 60], &all),
    ] {
        for tcp in [false, true] {
            let sample = with_extensions(tcp, kinds, headers);
            let mut frame = sample.partial();
            assert_eq!(sample.finish(&mut frame), Finish::Finished, "{kinds:?} tcp {tcp}");
            assert_eq!(frame, sample.bytes);
        }
    }
}

#[test]
fn what_must_not_be_touched_is_left() {
    let routing_ahead = [0, 2, 4, 1, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
    let edit = |sample: Sample, edits: &[(usize, u8)]| {
        let mut frame = sample.partial();
        edits.iter().for_each(|&(at, value)| frame[at] = value);
        (sample, frame)
    };
    let (tcp4, udp4) = (plain(false, true, b"tcp"), plain(false, false, b"udp"));
    let (tcp6, udp6) = (plain(true, true, b"tcp"), plain(true, false, b"udp"));
    let udp_len = udp4.bytes[39];
    let cases = [
        ("more fragments", edit(tcp4.clone(), &[(20, 0x20)])),
        ("fragment offset", edit(udp4.clone(), &[(21, 1)])),
        ("high fragment offset", edit(udp4.clone(), &[(20, 0x10)])),
        ("IPv6 first fragment", edit(with_extensions(false, &[44], &[0, 0, 0, 1, 0, 0, 0, 7]), &[])),
        ("IPv6 later fragment", edit(with_extensions(true, &[44], &[0, 0, 0, 8, 0, 0, 0, 7]), &[])),
        ("segments left", edit(with_extensions(true, &[43], &routing_ahead), &[])),
        ("authentication header", edit(with_extensions(true, &[51], &[0; 8]), &[])),
        ("UDP without checksum", edit(udp4.clone(), &[(40, 0), (41, 0)])),
        ("UDP length below IP's", edit(udp4.clone(), &[(39, udp_len - 1)])),
        ("UDP-Lite", edit(udp4.clone(), &[(23, 136)])),
        ("SCTP", edit(udp6.clone(), &[(20, 132)])),
        ("IPv4 version 5", edit(tcp4.clone(), &[(14, 0x55)])),
        ("header length 16", edit(tcp4.clone(), &[(14, 0x44)])),
        ("total length 0", edit(tcp4.clone(), &[(16, 0), (17, 0)])),
        ("TCP shorter than its header", edit(tcp4, &[(17, 20 + 19)])),
        ("jumbogram", edit(tcp6.clone(), &[(18, 0), (19, 0)])),
        ("IPv6 version 4", edit(tcp6, &[(14, 0x40)])),
    ];
    for (name, (sample, mut frame)) in cases {
        let before = frame.clone();
        assert_eq!(sample.finish(&mut frame), Finish::NotPartial, "{name}");
        assert_eq!(frame, before, "{name}");
    }
    let sample = plain(false, true, b"not IP by its EtherType");
    assert_eq!(finish_partial(&mut sample.partial(), 14, 0x0806, empty()), Finish::NotPartial);
}

#[test]
fn result_zero_is_written_as_ffff() {
    for tcp in [false, true] {
        let mut sample = plain(false, tcp, &[0, 0]);
        // Put the old checksum in the payload's place: the sum of everything else is now 0xffff.
        let value = be16(&sample.bytes, sample.field);
        let end = sample.bytes.len();
        set16(&mut sample.bytes, end - 2, value);
        set16(&mut sample.bytes, sample.field, 0xffff);
        let mut frame = sample.partial();
        assert_eq!(sample.finish(&mut frame), Finish::Finished);
        assert_eq!(frame, sample.bytes, "tcp {tcp}");
        assert_eq!(verify(&frame, 14, ETHERTYPE_IPV4, empty()), Some(true));
    }
}

#[test]
fn complete_checksum_equal_to_the_pseudo_header_survives() {
    let mut hits = 0;
    for value in 0..=u16::MAX {
        let payload = [b'm', b'a', (value >> 8) as u8, value as u8];
        let sample = plain(false, value % 2 == 0, &payload);
        let mut frame = sample.bytes.clone();
        hits += u32::from(sample.finish(&mut frame) == Finish::Finished);
        assert_eq!(frame, sample.bytes);
    }
    assert!(hits > 0, "no chance match met: the test proves nothing");
}

/// An inner frame carried over `port` from a container, as local checksum offload leaves it.
fn tunnelled(inner: &Sample, inner_bytes: &[u8], port: u16, v6: bool, outer_checksum: bool) -> (Sample, usize) {
    let header: &[u8] = match port {
        6081 => &[0x02, 0, 0x65, 0x58, 0, 0, 9, 0, 1, 2, 3, 0x01, 4, 5, 6, 7],
        _ => &[0x08, 0, 0, 0, 0, 0, 9, 0],
    };
    let mut outer = plain(v6, false, &[header, &inner.bytes].concat());
    set16(&mut outer.bytes, outer.l4_offset + 2, port);
    let at = outer.l4_offset + 8 + header.len();
    // The outer checksum is that of the finished inner frame.
    let (start, len) = (outer.l4_offset, outer.bytes.len() - outer.l4_offset);
    let value = Partial { start, len, field: outer.field }.value(&outer.partial(), empty()).unwrap();
    set16(&mut outer.bytes, outer.field, if outer_checksum { value } else { 0 });
    assert_eq!(verify(&outer.bytes, 14, outer.ethertype, empty()).is_some(), outer_checksum || v6);
    outer.bytes[at..].copy_from_slice(inner_bytes);
    (outer, at)
}

#[test]
fn inner_checksum_of_a_tunnel_is_finished() {
    for port in [4789, 8472, 6081] {
        for (v6, tcp, tags) in [(false, true, 0), (true, true, 1), (true, false, 2), (false, false, 0)] {
            for outer_checksum in [false, true] {
                let inner = sample(v6, tcp, tags, [9; 32], (1, 2), b"inner payload");
                let (outer, at) = tunnelled(&inner, &inner.partial(), port, v6, outer_checksum);
                let mut frame = outer.bytes.clone();
                assert_eq!(outer.finish(&mut frame), Finish::Finished, "port {port} v6 {v6} tcp {tcp}");
                assert_eq!(frame[..at], outer.bytes[..at]);
                assert_eq!(frame[at..], inner.bytes);
                if outer_checksum {
                    assert_eq!(verify(&frame, 14, outer.ethertype, empty()), Some(true));
                }
            }
        }
    }
}

#[test]
fn outer_checksum_of_a_tunnel_is_finished_when_that_is_partial() {
    let inner = plain(false, true, b"complete inner");
    let (outer, _) = tunnelled(&inner, &inner.bytes, 4789, false, true);
    let mut frame = outer.partial();
    assert_eq!(outer.finish(&mut frame), Finish::Finished);
    assert_eq!(frame, outer.bytes);
}

#[test]
fn inner_packet_beyond_its_tunnel_is_left() {
    let inner = plain(false, true, b"too long for its tunnel");
    let (outer, _) = tunnelled(&inner, &inner.partial(), 4789, false, false);
    let mut frame = outer.bytes.clone();
    for field in [16, outer.l4_offset + 4] {
        let len = be16(&frame, field);
        set16(&mut frame, field, len - 1);
    }
    let before = frame.clone();
    assert_eq!(outer.finish(&mut frame), Finish::NotPartial);
    assert_eq!(frame, before);
}

#[test]
fn ip_in_ip_is_finished() {
    for (outer_v6, inner_v6) in [(false, false), (false, true), (true, false), (true, true)] {
        let inner = plain(inner_v6, true, b"ip in ip");
        let outer = plain(outer_v6, false, &[]);
        let wrap = |packet: &[u8]| {
            let mut bytes = [&outer.bytes[..outer.l4_offset], packet].concat();
            bytes[if outer_v6 { 20 } else { 23 }] = if inner_v6 { 41 } else { 4 };
            let (at, len) = if outer_v6 { (18, packet.len()) } else { (16, packet.len() + 20) };
            set16(&mut bytes, at, len as u16);
            bytes
        };
        let mut frame = wrap(&inner.partial()[14..]);
        assert_eq!(outer.finish(&mut frame), Finish::Finished);
        assert_eq!(frame, wrap(&inner.bytes[14..]));
    }
}

#[test]
fn tags_that_the_caller_did_not_read_are_walked_over() {
    for (v6, service) in [(false, false), (true, false), (false, true), (true, true)] {
        let sample = sample(v6, true, 2, [3; 32], (1, 2), b"behind two tags");
        let (mut complete, mut frame) = (sample.bytes.clone(), sample.partial());
        if service {
            set16(&mut complete, 12, 0x88a8);
            set16(&mut frame, 12, 0x88a8);
        }
        let outer = be16(&frame, 12);
        assert_eq!(finish_partial(&mut frame, 14, outer, empty()), Finish::Finished);
        assert_eq!(frame, complete);
        let mut frame = sample.partial();
        assert_eq!(finish_partial(&mut frame, 18, 0x8100, empty()), Finish::Finished, "the outer one was read");
        assert_eq!(finish_partial(&mut [0; 20], 14, 0x8100, empty()), Finish::NotPartial);
    }
}

#[test]
fn gre_is_finished_with_and_without_its_options() {
    for (v6, options) in [(false, 0x00_u8), (true, 0x20), (false, 0xb0), (true, 0xb0)] {
        let inner = plain(v6, true, b"in gre");
        let outer = plain(false, false, &[]);
        let words = options.count_ones() as usize;
        let wrap = |packet: &[u8], ethertype: u16| {
            let mut header = vec![options, 0, (ethertype >> 8) as u8, ethertype as u8];
            header.resize(4 + 4 * words, 7);
            let mut bytes = [&outer.bytes[..outer.l4_offset], &header, packet].concat();
            bytes[23] = 47;
            let len = bytes.len() - 14;
            set16(&mut bytes, 16, len as u16);
            bytes
        };
        let ethertype = if v6 { 0x86dd } else { 0x0800 };
        for (partial, complete, ethertype) in
            [(&inner.partial()[14..], &inner.bytes[14..], ethertype), (&inner.partial()[..], &inner.bytes[..], 0x6558)]
        {
            let mut frame = wrap(partial, ethertype);
            assert_eq!(outer.finish(&mut frame), Finish::Finished, "options {options:02x} v6 {v6}");
            assert_eq!(frame, wrap(complete, ethertype));
        }
        let mut other_version = wrap(&inner.partial()[14..], ethertype);
        other_version[outer.l4_offset + 1] = 1;
        assert_eq!(outer.finish(&mut other_version), Finish::NotPartial);
    }
}

/// Frames Linux 6.18 put on a veth (captured at the sending end), with the field and value the receiver must find;
/// the values were checked with a protocol analyser.
const CAPTURED: [(&str, &str, usize, u16); 4] = [
    (
        "UDP, one byte of data",
        "9e85e82fbcf6520967049b0508004500001d0fd740004011165d0a4d00010a4d0002af78176e000914b77a",
        40,
        0xaa58,
    ),
    (
        "VXLAN with an ARP request inside: the outer checksum is the partial one",
        "520967049b059e85e82fbcf608004500004ea95900004011bca90a4d00020a4d0001a8b112b5003a14e808000000000009002a0c\
         bd3636782287e2f90eff080600010800060400022287e2f90eff0a4e00022a0cbd3636780a4e0001",
        40,
        0x8f54,
    ),
    (
        "VXLAN with a TCP SYN inside: the outer checksum is complete",
        "9e85e82fbcf6520967049b0508004500006e0fe50000401155fe0a4d00010a4d0002b54212b5005aec3708000000000009002287\
         e2f90eff2a0cbd36367808004500003cbb24400040066af90a4e00010a4e0002d8fa176f36be872f00000000a002fd5c14cd0000\
         020405820402080ad82a507d000000000103030a",
        100,
        0x5f34,
    ),
    (
        "VXLAN without outer checksum, UDP over IPv6 inside",
        "9e85e82fbcf6520967049b05080045000063100a0000401155e40a4d00010a4d0002aceb2118004f00000800000000000a00e25c\
         a0a8cdb87eb7db8f53f186dd600efd2600091140fd790000000000000000000000000001fd790000000000000000000000000002\
         dce3176e0009fb107a",
        110,
        0x9693,
    ),
];

#[test]
fn captured_frames_are_finished() {
    for (name, hex, field, value) in CAPTURED {
        let before: Vec<u8> =
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
        let mut frame = before.clone();
        assert_eq!(finish_partial(&mut frame, 14, ETHERTYPE_IPV4, empty()), Finish::Finished, "{name}");
        assert_eq!(be16(&frame, field), value, "{name}");
        assert_ne!(verify(&frame, 14, ETHERTYPE_IPV4, empty()), Some(false), "{name}");
        frame[field..field + 2].copy_from_slice(&before[field..field + 2]);
        assert_eq!(frame, before, "{name}");
    }
}

#[test]
fn verify_judges_only_what_it_can() {
    let mut udp4 = plain(false, false, b"none");
    udp4.bytes[40..42].fill(0);
    assert_eq!(verify(&udp4.bytes, 14, ETHERTYPE_IPV4, empty()), None);
    let mut udp6 = plain(true, false, b"zero");
    udp6.bytes[60..62].fill(0);
    assert_eq!(verify(&udp6.bytes, 14, ETHERTYPE_IPV6, empty()), Some(false));
    assert_eq!(verify(&udp6.bytes[..udp6.bytes.len() - 1], 14, ETHERTYPE_IPV6, empty()), None, "truncated");
    let tcp = plain(false, true, b"truncated");
    assert_eq!(verify(&tcp.bytes[..tcp.bytes.len() - 1], 14, ETHERTYPE_IPV4, empty()), None);
    assert_eq!(verify(&tcp.bytes, usize::MAX, ETHERTYPE_IPV4, empty()), None);
}

#[test]
fn tail_is_read_only_for_a_partial_checksum() {
    let sample = plain(false, true, &[3; 3000]);
    let unread = std::iter::from_fn(|| -> Option<&[u8]> { panic!("the tail of a complete frame was read") });
    assert_eq!(finish_partial(&mut sample.bytes[..200].to_vec(), 14, ETHERTYPE_IPV4, unread), Finish::NotPartial);
}

/// Where the short way has an answer, it is that of the long one.
fn assert_both_ways_agree(head: &[u8], l3_offset: usize, ethertype: u16) {
    if let Some(answer) = Partial::find_plain(head, l3_offset, ethertype) {
        assert_eq!(answer, Partial::find_anywhere(head, l3_offset, ethertype));
    }
}

proptest! {
    #[test]
    fn sum_agrees_with_etherparse(bytes in vec(any::<u8>(), 0..2500), split in any::<proptest::sample::Index>()) {
        let judged = !Sum16BitWords::new().add_slice(&bytes).ones_complement();
        prop_assert_eq!(sum(&bytes).to_be_bytes(), judged.to_ne_bytes());
        let (first, second) = bytes.split_at(split.index(bytes.len() + 1));
        prop_assert_eq!(combine(sum(first), first.len(), sum(second)), sum(&bytes));
    }

    #[test]
    fn partial_frames_become_the_complete_ones(
        sample in samples(), cuts in vec(any::<proptest::sample::Index>(), 0..6), padding in 0..40_usize,
    ) {
        let mut frame = sample.partial();
        frame.resize(frame.len() + padding, 0x77);
        let segments = cut(&frame, sample.field + 2, &cuts);
        let mut head = segments[0].to_vec();
        let tail = || segments[1..].iter().copied();
        prop_assert_eq!(finish_partial(&mut head, sample.l3_offset, sample.ethertype, tail()), Finish::Finished);
        prop_assert_eq!(verify(&head, sample.l3_offset, sample.ethertype, tail()), Some(true));
        let whole = [&head[..], &segments[1..].concat()].concat();
        prop_assert_eq!(&whole[..sample.bytes.len()], &sample.bytes[..]);
        prop_assert!(whole[sample.bytes.len()..].iter().all(|&byte| byte == 0x77));
    }

    #[test]
    fn complete_frames_stay_as_they_are(sample in samples()) {
        let mut frame = sample.bytes.clone();
        sample.finish(&mut frame);
        prop_assert_eq!(&frame, &sample.bytes);
        prop_assert_eq!(verify(&frame, sample.l3_offset, sample.ethertype, empty()), Some(true));
    }

    #[test]
    fn one_wrong_bit_is_seen(sample in samples(), bit in any::<proptest::sample::Index>()) {
        let mut frame = sample.bytes.clone();
        // From the second port on: TCP data, options and flags; UDP's length and field make it unjudgeable.
        let from = sample.l4_offset + if sample.field - sample.l4_offset == 16 { 4 } else { 8 };
        prop_assume!(frame.len() > from);
        let bit = bit.index((frame.len() - from) * 8);
        frame[from + bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(verify(&frame, sample.l3_offset, sample.ethertype, empty()), Some(false));
    }

    #[test]
    fn truncated_frames_stay_as_they_are(sample in samples(), len in any::<proptest::sample::Index>()) {
        let mut frame = sample.partial();
        frame.truncate(len.index(frame.len()));
        let before = frame.clone();
        prop_assert_eq!(sample.finish(&mut frame), Finish::NotPartial);
        prop_assert_eq!(frame, before);
        assert_both_ways_agree(&sample.partial(), sample.l3_offset, sample.ethertype);
    }

    #[test]
    fn damaged_headers_never_panic(
        sample in samples(), damage in vec((0..120_usize, any::<u8>()), 1..8), len in any::<proptest::sample::Index>(),
    ) {
        let mut frame = sample.partial();
        for (at, value) in damage {
            if let Some(byte) = frame.get_mut(at) {
                *byte = value;
            }
        }
        frame.truncate(len.index(frame.len() + 1));
        let before = frame.clone();
        assert_both_ways_agree(&frame, sample.l3_offset, sample.ethertype);
        sample.finish(&mut frame);
        verify(&frame, sample.l3_offset, sample.ethertype, empty());
        prop_assert!(frame.iter().zip(&before).filter(|(a, b)| a != b).count() <= 2);
    }

    #[test]
    fn random_bytes_never_panic(
        mut bytes in vec(any::<u8>(), 0..300), l3_offset in 0..80_usize, v6: bool, tunnel: bool,
        protocol in prop_oneof![Just(0_u8), Just(4), Just(6), Just(17), Just(41), Just(43), Just(44), Just(60)],
    ) {
        // Steer past the first checks, so that the walk goes deep.
        let edits = if v6 { [(0, 0x60), (6, protocol), (4, 0)] } else { [(0, 0x45), (9, protocol), (6, 0)] };
        let port = if tunnel { [(22, 0x12), (23, 0xb5), (28, 0x08)] } else { [(42, 0x17), (43, 0xc1), (50, 0x65)] };
        for (at, value) in edits.into_iter().chain(port) {
            if let Some(byte) = bytes.get_mut(l3_offset + at) {
                *byte = value;
            }
        }
        let ethertype = if v6 { ETHERTYPE_IPV6 } else { ETHERTYPE_IPV4 };
        verify(&bytes, l3_offset, ethertype, empty());
        assert_both_ways_agree(&bytes, l3_offset, ethertype);
        finish_partial(&mut bytes, l3_offset, ethertype, empty());
    }
}

#[test]
fn congruence_is_folding_without_the_fold() {
    let sums = [1, 0xfffe, 0xffff, 0x1_0000, 0x1_fffe, 0x1_ffff, 0x3_ffff_fffc, 0xffff * 0xffff, 1 << 63];
    for sum in sums {
        for word in [0, 1, 2, 0x7fff, 0xfffe, 0xffff] {
            let congruent_to_zero = word == 0 && fold(sum) == 0xffff;
            assert_eq!(folds_to(sum, word), fold(sum) == word || congruent_to_zero, "{sum:#x} {word:#x}");
        }
    }
}
