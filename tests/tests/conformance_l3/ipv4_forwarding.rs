//! What happens to an IPv4 packet on its way through (RFC 1812 5.2, 5.3; RFC 791).

use super::*;
use switch::table::neighbour::NeighbourKey;
use tests::lab::domain;

#[test]
fn a_packet_goes_on_with_its_ttl_counted_down_and_nothing_else_changed() {
    let mut lab = RouterLab::new(3);
    for ttl in [2, 64, 255] {
        let frame = udp4(0, v4(1, 2), ttl, 30);
        lab.send(0, &frame);
        assert_eq!(lab.only(1), routed4(&frame, 1));
    }
    assert_eq!(lab.drops(), []);
    lab.assert_no_frame_lost(0);
}

#[test]
fn the_router_takes_packets_to_itself_whatever_their_ttl() {
    let mut lab = RouterLab::new(2);
    for ttl in [0, 1, 64] {
        // To the near address, and to the one on the far side.
        for index in [0, 1] {
            lab.send(0, &ping4(0, v4(index, 1), ttl));
            let reply = icmp(&lab.only(0));
            assert_eq!((reply.from, reply.to, reply.kind), (v4(index, 1), v4(0, 2), [0, 0]), "ttl {ttl}");
            assert!(reply.header.time_to_live >= 64);
        }
    }
}

#[test]
fn a_ttl_that_runs_out_is_told_to_the_sender() {
    let mut lab = RouterLab::new(2);
    for ttl in [0, 1] {
        let frame = udp4(0, v4(1, 2), ttl, 30);
        lab.send(0, &frame);
        let error = icmp(&lab.only(0));
        assert_eq!((error.kind, error.from, error.to), ([11, 0], v4(0, 1), v4(0, 2)));
        assert_eq!(error.quoted, frame[IP..], "the packet as it came");
    }
    assert_eq!(lab.dropped(Drop::TtlExceeded), 2);
}

#[test]
fn the_longest_prefix_wins_and_the_default_route_takes_the_rest() {
    let mut lab = RouterLab::new(4);
    for (prefix, index) in [("0.0.0.0/0", 1), ("198.51.100.0/24", 2), ("198.51.100.128/25", 3)] {
        let hop = lab.via(index, v4(index, 2).into());
        lab.route4(0, prefix, hop);
    }
    for (to, index) in [("8.8.8.8", 1), ("198.51.100.127", 2), ("198.51.100.128", 3), ("198.51.101.1", 1)] {
        let frame = udp4(0, to.parse().unwrap(), 64, 8);
        lab.send(0, &frame);
        assert_eq!(lab.only(index), routed4(&frame, index), "{to}");
    }
}

#[test]
fn without_a_route_the_sender_is_told_net_unreachable() {
    let mut lab = RouterLab::new(2);
    lab.send(0, &udp4(0, Ipv4Addr::new(203, 0, 113, 9), 64, 8));
    let error = icmp(&lab.only(0));
    assert_eq!((error.kind, error.from), ([3, 0], v4(0, 1)));
    assert_eq!(lab.dropped(Drop::NoRoute), 1);
}

#[test]
fn routes_that_say_no_do_so_each_in_its_way() {
    let mut lab = RouterLab::new(2);
    lab.route4(0, "198.51.100.0/26", NextHop::Blackhole);
    lab.route4(0, "198.51.100.64/26", NextHop::Unreachable);
    lab.route4(0, "198.51.100.128/26", NextHop::Prohibited);
    assert_dropped(&mut lab, &udp4(0, Ipv4Addr::new(198, 51, 100, 1), 64, 8), Drop::RouteBlackhole);
    for (last, kind, reason) in [(65, [3, 1], Drop::RouteUnreachable), (129, [3, 13], Drop::RouteProhibited)] {
        lab.send(0, &udp4(0, Ipv4Addr::new(198, 51, 100, last), 64, 8));
        assert_eq!(icmp(&lab.only(0)).kind, kind);
        assert_eq!(lab.dropped(reason), 1);
    }
}

/// The ARP reply of the host behind a port for an address.
fn arp_reply(index: usize, address: Ipv4Addr) -> Vec<u8> {
    let (mac, to) = (station(index).octets(), gateway(index).octets());
    let fixed = [0, 1, 8, 0, 6, 4, 0, 2];
    [&to[..], &mac, &[8, 6], &fixed, &mac, &address.octets(), &to, &v4(index, 1).octets()].concat()
}

#[test]
fn an_unresolved_next_hop_is_asked_for_and_packets_wait() {
    let mut lab = RouterLab::new(2);
    let frame = udp4(0, v4(1, 9), 64, 8);
    lab.send(0, &frame);
    let request = lab.only(1);
    assert_eq!((&request[..6], &request[12..14]), (&Mac::BROADCAST.octets()[..], &[8, 6][..]));
    assert_eq!(request[IP + 24..IP + 28], v4(1, 9).octets());
    lab.send(1, &arp_reply(1, v4(1, 9)));
    assert_eq!(lab.only(1), routed4(&frame, 1));
    // From now on without asking.
    lab.send(0, &frame);
    assert_eq!(lab.only(1), routed4(&frame, 1));
    lab.assert_no_frame_lost(0);
}

#[test]
fn no_answer_to_arp_is_told_to_each_sender_as_host_unreachable() {
    let mut lab = RouterLab::new(3);
    lab.offer(0, &udp4(0, v4(1, 9), 64, 8));
    lab.offer(2, &udp4(2, v4(1, 9), 64, 8));
    lab.settle();
    lab.advance_ms(4_000);
    let asked = lab.take(1);
    assert_eq!(asked.len(), 3, "one question a second, three in all");
    for index in [0, 2] {
        let told = lab.take(index);
        assert_eq!(told.len(), 1, "port {index}");
        let error = icmp(&told[0]);
        assert_eq!((error.kind, error.from, error.to), ([3, 1], v4(index, 1), v4(index, 2)));
    }
    lab.assert_silent();
    lab.assert_no_frame_lost(0);
}

#[test]
fn options_are_passed_and_the_packet_behind_them_is_whole() {
    let mut lab = RouterLab::new(2);
    // Router alert, an unknown option, no-operation and end.
    for options in [&[148, 4, 0, 0][..], &[0x5e, 4, 1, 2, 1, 1, 1, 0]] {
        let frame = with_options(udp4(0, v4(1, 2), 64, 20), options);
        lab.send(0, &frame);
        assert_eq!(lab.only(1), routed4(&frame, 1));
    }
}

#[test]
fn a_packet_that_names_its_own_route_is_dropped() {
    let mut lab = RouterLab::new(2);
    for kind in [131, 137] {
        let frame = with_options(udp4(0, v4(1, 2), 64, 8), &[1, kind, 7, 4, 10, 2, 0, 9]);
        assert_dropped(&mut lab, &frame, Drop::IpSourceRoute);
    }
}

#[test]
fn a_partial_checksum_is_finished_on_the_way() {
    let mut lab = RouterLab::new(2);
    let whole = udp4(0, v4(1, 2), 64, 30);
    let mut partial = whole.clone();
    let len = (whole.len() - IP - 20) as u64;
    let words = whole[IP + 12..IP + 20].chunks(2).map(|word| u64::from(u16::from_be_bytes([word[0], word[1]])));
    let sum = checksum::fold(words.sum::<u64>() + 17 + len);
    partial[IP + 26..IP + 28].copy_from_slice(&sum.to_be_bytes());
    lab.send(0, &partial);
    assert_eq!(lab.only(1), routed4(&whole, 1));
}

#[test]
fn fragments_are_forwarded_as_they_are() {
    let mut lab = RouterLab::new(2);
    for word in [0x2000u16, 0x2010, 0x0020] {
        let frame = changed(udp4(0, v4(1, 2), 64, 32), |frame| {
            frame[IP + 6..IP + 8].copy_from_slice(&word.to_be_bytes());
        });
        lab.send(0, &frame);
        assert_eq!(lab.only(1), routed4(&frame, 1));
    }
}

#[test]
fn a_neighbour_that_is_taken_away_is_asked_for_again() {
    let mut lab = RouterLab::new(2);
    assert!(lab.host.remove_neighbour(NeighbourKey::new(domain(2), v4(1, 2).into())));
    lab.send(0, &udp4(0, v4(1, 2), 64, 8));
    assert_eq!(lab.only(1)[12..14], [8, 6]);
}
