//! From a packet to the ICMP message about it, and on to the neighbour who gets that.

use etherparse::{Icmpv4Type, NetSlice, PacketBuilder, SlicedPacket, TransportSlice};

use super::frames::{arp_reply, arp_request, packet, packet6, read_arp};
use super::*;
use crate::path::Complaint;

const GATEWAY: [u8; 4] = [10, 0, 1, 1];

fn host(last: u8) -> [u8; 4] {
    [10, 0, 1, last]
}

/// Source, destination and message of a sent ICMP packet, whose checksum is right.
fn read(bytes: &[u8]) -> ([u8; 4], [u8; 4], Vec<u8>) {
    let packet = SlicedPacket::from_ethernet(bytes).unwrap();
    let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Icmpv4(icmp))) = (packet.net, packet.transport) else {
        panic!("not ICMP: {bytes:?}");
    };
    let header = ip.header();
    assert_eq!(header.header_checksum(), header.to_header().calc_header_checksum());
    let message = icmp.slice().to_vec();
    assert_eq!(crate::path::checksum::sum(&message), 0xffff);
    (header.source(), header.destination(), message)
}

fn ping(src: [u8; 4], dst: [u8; 4], payload: usize) -> Vec<u8> {
    let mut frame = Vec::new();
    let echo = Icmpv4Type::EchoRequest(etherparse::IcmpEchoHeader { id: 7, seq: 9 });
    PacketBuilder::ethernet2(mac(5).octets(), OWN.octets())
        .ipv4(src, dst, 1)
        .icmpv4(echo)
        .write(&mut frame, &vec![3; payload])
        .unwrap();
    frame
}

/// Station 5 is known.
fn bed() -> Bed {
    let mut bed = Bed::new();
    bed.hear(1, &arp_request(mac(5), host(5), GATEWAY));
    bed.sent();
    bed
}

#[test]
fn a_ping_is_answered() {
    let mut bed = bed();
    bed.punt(1, Why::Local, &ping(host(5), GATEWAY, 56));
    let (number, bytes) = bed.sent_one();
    assert_eq!((number, &bytes[..6]), (1, &mac(5).octets()[..]));
    let (src, dst, message) = read(&bytes);
    assert_eq!((src, dst, &message[..2], &message[4..8]), (GATEWAY, host(5), &[0, 0][..], &[0, 7, 0, 9][..]));
    assert_eq!(message[8..], [3; 56]);
    assert_eq!((bed.host.counters().echoes, bed.drops(1, Drop::HostIgnored)), (1, 0));
}

#[test]
fn a_ping_from_somebody_unknown_is_answered_once_he_is_known() {
    let mut bed = Bed::new();
    bed.punt(1, Why::Local, &ping(host(6), GATEWAY, 56));
    assert_eq!(read_arp(&bed.sent_one().1).3, (Mac::ZERO, host(6)));
    bed.hear(1, &arp_reply(mac(6), host(6), GATEWAY));
    assert_eq!(read(&bed.sent_one().1).1, host(6));
}

#[test]
fn a_packet_whose_next_hop_does_not_answer_is_told_of() {
    let mut bed = bed();
    bed.resolve(2, "10.0.2.77", &packet(host(5), [10, 0, 2, 77], 20));
    bed.pass(3_000);
    let sent = bed.sent();
    let errors: Vec<_> =
        sent.iter().filter(|(_, bytes)| bytes[12..14] == [8, 0]).map(|(_, bytes)| read(bytes)).collect();
    assert_eq!(errors.len(), 1);
    let (src, dst, message) = &errors[0];
    assert_eq!((*src, *dst, &message[..2]), (GATEWAY, host(5), &[3, 1][..]), "host unreachable");
    assert_eq!(message[24..28], [10, 0, 2, 77]);
    assert_eq!(bed.drops(1, Drop::NeighbourUnresolved), 1);
}

#[test]
fn complaints_are_told_and_udp_that_nobody_wants_is_refused() {
    let mut bed = bed();
    bed.punt(1, Why::Complain(Complaint::TtlExceeded), &packet(host(5), [10, 0, 2, 77], 20));
    assert_eq!(read(&bed.sent_one().1).2[..2], [11, 0]);
    bed.punt(1, Why::Complain(Complaint::TooBig(1_400)), &packet(host(5), [10, 0, 2, 77], 20));
    assert_eq!(read(&bed.sent_one().1).2[..8][..2], [3, 4]);
    bed.punt(1, Why::Local, &packet(host(5), GATEWAY, 20));
    let (src, _, message) = read(&bed.sent_one().1);
    assert_eq!((src, &message[..2]), (GATEWAY, &[3, 3][..]));
    bed.punt(1, Why::Heard, &packet(host(5), [255; 4], 20));
    assert!(bed.sent().is_empty(), "what everybody got is nobody's error");
    let mut damaged = packet(host(5), GATEWAY, 20);
    damaged[41] ^= 1;
    bed.punt(1, Why::Local, &damaged);
    assert!(bed.sent().is_empty(), "what does not arrive whole is not refused");
}

#[test]
fn an_echo_request_in_a_frame_to_many_is_answered_for_a_group_only() {
    let mut bed = bed();
    let ask = |to: [u8; 4]| {
        let mut frame = Vec::new();
        let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 5], [0xff; 6]).ipv4(host(5), to, 64);
        builder.icmpv4_echo_request(1, 2).write(&mut frame, b"ping").unwrap();
        frame
    };
    for to in [[10, 0, 1, 77], GATEWAY, [255; 4]] {
        bed.punt(1, Why::Heard, &ask(to));
        assert!(bed.sent().is_empty(), "{to:?}");
    }
    bed.punt(1, Why::Local, &ask(GATEWAY));
    assert_eq!(bed.sent().len(), 1);
}

#[test]
fn errors_keep_within_their_rate() {
    let mut bed = bed();
    for _ in 0..100 {
        bed.punt(1, Why::Complain(Complaint::TtlExceeded), &packet(host(5), [10, 0, 2, 77], 20));
    }
    let most = HostSettings::default().icmp.receiver_burst as usize;
    assert_eq!(bed.sent().len(), most);
    assert_eq!((bed.host.counters().icmp_errors, bed.host.counters().icmp_limited), (most as u64, 100 - most as u64));
}

/// A port's storm of packets whose TTL ran out, from any number of senders, in the host's queue and beyond it; while
/// another port's packets deserve ten errors a second. Answers how many of those 20 were sent.
fn errors_beside_a_storm(storm: impl Fn(u32) -> [u8; 4]) -> usize {
    let mut bed = bed();
    let (mut number, mut told) = (0, 0);
    for at_ms in 0..2_000 {
        for _ in 0..100 {
            number += 1;
            bed.leave(2, Why::Complain(Complaint::TtlExceeded), &packet(storm(number), [10, 0, 1, 77], 20));
        }
        if at_ms % 100 == 50 {
            assert!(bed.leave(1, Why::Complain(Complaint::TtlExceeded), &packet(host(5), [10, 0, 2, 77], 20)));
        }
        bed.now_ns += MS;
        bed.host.turn(bed.now_ns);
        let errors = bed.sent().into_iter().filter(|(_, bytes)| bytes[12..14] == [8, 0]);
        told += errors.filter(|(_, bytes)| read(bytes).1 == host(5)).count();
    }
    bed.pass(60_000);
    bed.sent();
    told
}

#[test]
fn a_storm_from_one_port_costs_another_port_no_error() {
    assert_eq!(errors_beside_a_storm(|number| [10, 0, 2, (number % 250) as u8 + 2]), 20, "many senders");
    let told = errors_beside_a_storm(|_| host(5));
    assert!((20 + 39..=20 + 40).contains(&told), "in the other's name he gets {told}: his own, and those");
}

#[test]
fn what_nobody_may_be_told_costs_nobody_s_allowance() {
    let mut bed = bed();
    // From nowhere, about an error, to a neighbour that is the better router itself.
    for _ in 0..1_000 {
        bed.punt(1, Why::Complain(Complaint::TtlExceeded), &packet([192, 0, 2, 1], [10, 0, 2, 77], 20));
        bed.punt(1, Why::Redirect(key(1, "10.0.1.5")), &packet(host(5), [10, 9, 9, 9], 20));
        bed.punt(1, Why::Redirect(key(1, "10.0.1.9")), &packet([10, 0, 2, 5], [10, 9, 9, 9], 20));
    }
    assert_eq!(
        (bed.sent().len(), bed.host.levels(bed.now_ns).icmp_recent, bed.host.counters().icmp_limited),
        (0, 0, 0)
    );
    bed.punt(1, Why::Redirect(key(1, "10.0.1.9")), &packet(host(5), [10, 9, 9, 9], 20));
    assert_eq!(read(&bed.sent_one().1).2[..2], [5, 1]);
}

#[test]
fn a_group_s_packet_that_nobody_else_got_and_nobody_here_wants_is_counted() {
    let mut bed = bed();
    bed.punt(1, Why::Heard, &packet(host(5), [255; 4], 20));
    assert_eq!(bed.drops(1, Drop::HostIgnored), 0);
    bed.punt(1, Why::HeardAlone, &packet(host(5), [255; 4], 20));
    assert_eq!(bed.drops(1, Drop::HostIgnored), 1);
}

#[test]
fn a_packet_that_is_too_big_once_its_neighbour_is_known_is_told_of() {
    let mut bed = bed();
    let mut small = interface(2, FLAGS);
    small.mtu = 1_280;
    bed.configure(vec![interface(1, FLAGS), small]);
    let address = "2001:db8:0:2::7";
    bed.resolve(2, "10.0.2.7", &packet(host(5), [10, 0, 2, 7], 1_300));
    bed.resolve(2, address, &packet6(address.parse().unwrap()));
    bed.sent();
    bed.hear(2, &arp_reply(mac(7), [10, 0, 2, 7], [10, 0, 2, 1]));
    let (_, dst, message) = read(&bed.sent_one().1);
    assert_eq!((dst, &message[..2], &message[6..8]), (host(5), &[3, 4][..], &1_280u16.to_be_bytes()[..]));
    bed.pass(10_000);
    bed.sent();
}
