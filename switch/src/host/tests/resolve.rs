//! From a packet without a destination MAC address to one with it: the state machine of RFC 4861 section 7.3, queues,
//! next hops.

use super::frames::{arp_reply, arp_request, packet, read_arp, read_ip};
use super::*;

const GATEWAY: [u8; 4] = [10, 0, 1, 1];
const HOST: &str = "10.0.1.5";

fn host(last: u8) -> [u8; 4] {
    [10, 0, 1, last]
}

/// A packet whose sender has no route back, so that nothing is told.
fn waiting(number: u8) -> Vec<u8> {
    packet([192, 0, 2, number], host(5), 20)
}

/// Payloads lengths apart, packets are told by their source address.
fn sources(sent: &[(usize, Vec<u8>)]) -> Vec<IpAddr> {
    sent.iter().map(|(_, bytes)| read_ip(bytes).1).collect()
}

#[test]
fn three_questions_a_second_apart_and_then_the_end() {
    let mut bed = Bed::new();
    bed.resolve(1, HOST, &waiting(9));
    let question = (Mac::BROADCAST, 1, (OWN, GATEWAY), (Mac::ZERO, host(5)));
    for _ in 0..3 {
        assert_eq!(read_arp(&bed.sent_one().1), question);
        bed.pass(999);
        assert!(bed.sent().is_empty());
        assert_eq!(bed.state(1, HOST), Some((State::Incomplete, None)));
        bed.pass(1);
    }
    assert!(bed.sent().is_empty());
    assert_eq!(bed.state(1, HOST), Some((State::Failed, None)));
    assert_eq!((bed.drops(2, Drop::NeighbourUnresolved), bed.host.frames_held()), (1, 0), "at the port it came from");
    assert_eq!(bed.host.neighbour_counters().failed, 1);
    bed.pass(20_000);
    assert_eq!(bed.state(1, HOST), None, "forgotten");
}

#[test]
fn never_more_than_one_question_a_second_for_one_target() {
    let mut bed = Bed::new();
    let mut asked_ms = Vec::new();
    for ms in (0..12_000).step_by(50) {
        bed.resolve(1, HOST, &waiting(9));
        asked_ms.extend(bed.sent().iter().map(|_| ms));
        bed.pass(50);
        asked_ms.extend(bed.sent().iter().map(|_| ms + 50));
    }
    assert!(asked_ms.len() >= 11, "it goes on: {asked_ms:?}");
    assert!(asked_ms.windows(2).all(|pair| pair[1] - pair[0] >= 1_000), "{asked_ms:?}");
    assert_eq!(bed.host.neighbours_len(), 1);
    bed.pass(10_000);
}

#[test]
fn the_answer_sends_what_waited_in_order_and_the_newest_replaces_the_oldest() {
    let mut bed = Bed::new();
    for number in 1..=5 {
        bed.resolve(1, HOST, &waiting(number));
    }
    assert_eq!((bed.host.frames_held(), bed.drops(2, Drop::NeighbourUnresolved)), (3, 2));
    bed.sent();
    bed.hear(1, &arp_reply(mac(5), host(5), GATEWAY));
    let sent = bed.sent();
    assert_eq!(sources(&sent), [ip("192.0.2.3"), ip("192.0.2.4"), ip("192.0.2.5")]);
    for (number, bytes) in &sent {
        let mut whole = waiting(bytes[29]);
        whole[..6].copy_from_slice(&mac(5).octets());
        assert_eq!((*number, bytes), (1, &whole), "nothing else changed");
    }
    assert_eq!(bed.host.frames_held(), 0);
}

#[test]
fn a_packet_that_came_too_late_for_the_worker_to_know_goes_at_once() {
    let mut bed = Bed::new();
    bed.hear(1, &arp_request(mac(5), host(5), GATEWAY));
    bed.sent();
    bed.resolve(1, HOST, &waiting(9));
    assert_eq!(read_ip(&bed.sent_one().1).0, mac(5));
    assert_eq!(bed.state(1, HOST).unwrap().0, State::Delay, "that was a use");
}

/// A neighbour that answered just now.
fn reachable() -> Bed {
    let mut bed = Bed::new();
    bed.resolve(1, HOST, &waiting(9));
    bed.hear(1, &arp_reply(mac(5), host(5), GATEWAY));
    assert_eq!(bed.state(1, HOST), Some((State::Reachable, Some(mac(5)))));
    bed.sent();
    bed
}

#[test]
fn reachable_lasts_between_half_and_one_and_a_half_of_its_time() {
    for seed in 0..20 {
        let mut bed = Bed::with(HostSettings { seed, ..HostSettings::default() }, FLAGS);
        bed.resolve(1, HOST, &waiting(9));
        bed.hear(1, &arp_reply(mac(5), host(5), GATEWAY));
        bed.pass(14_999);
        assert_eq!(bed.seen(1, HOST), Some((mac(5), false)));
        bed.pass(30_002);
        assert_eq!((bed.state(1, HOST).unwrap().0, bed.seen(1, HOST)), (State::Stale, Some((mac(5), true))));
    }
}

#[test]
fn a_stale_neighbour_in_use_is_asked_after_five_seconds_three_times() {
    let mut bed = reachable();
    bed.pass(45_001);
    bed.use_it(1, HOST);
    assert_eq!(bed.state(1, HOST), Some((State::Delay, Some(mac(5)))));
    assert_eq!(bed.seen(1, HOST), Some((mac(5), false)), "told once");
    bed.pass(4_999);
    assert!(bed.sent().is_empty());
    bed.pass(1);
    for _ in 0..3 {
        assert_eq!(bed.state(1, HOST), Some((State::Probe, Some(mac(5)))), "still used meanwhile");
        assert_eq!(read_arp(&bed.sent_one().1), (mac(5), 1, (OWN, GATEWAY), (Mac::ZERO, host(5))));
        bed.pass(1_000);
    }
    assert_eq!((bed.state(1, HOST), bed.seen(1, HOST)), (Some((State::Failed, None)), None));
    assert!(bed.sent().is_empty());
}

#[test]
fn an_answer_to_a_probe_makes_it_reachable_again() {
    let mut bed = reachable();
    bed.pass(45_001);
    bed.use_it(1, HOST);
    bed.pass(6_000);
    bed.hear(1, &arp_reply(mac(5), host(5), GATEWAY));
    assert_eq!(bed.state(1, HOST).unwrap().0, State::Reachable);
    bed.sent();
    bed.pass(10_000);
    assert!(bed.sent().is_empty());
}

#[test]
fn a_stale_neighbour_that_nobody_uses_is_not_asked_but_forgotten() {
    let mut bed = reachable();
    bed.pass(600_000);
    assert_eq!(bed.state(1, HOST).unwrap().0, State::Stale);
    bed.pass(45_001);
    assert_eq!(bed.state(1, HOST), None);
    assert!(bed.sent().is_empty());
}

#[test]
fn a_use_that_nobody_heard_of_is_found_out_before_the_neighbour_is_forgotten() {
    let mut bed = reachable();
    bed.pass(45_001);
    let (slot, _) = bed.shared.router().neighbours.find(key(1, HOST)).unwrap();
    assert!(bed.shared.router().neighbours.note_use(slot));
    bed.pass(600_000);
    assert!(bed.host.counters().asked > 3, "it was probed");
    bed.sent();
}

#[test]
fn a_packet_for_nobody_is_dropped_without_a_question() {
    let mut bed = Bed::new();
    for address in ["10.0.1.255", "10.0.1.0", "10.0.1.1", "fe80::ff:fe00:fe"] {
        bed.resolve(1, address, &waiting(9));
    }
    bed.punt(1, Why::Resolve(key(7, "10.0.7.5")), &waiting(9));
    assert_eq!((bed.sent().len(), bed.host.neighbours_len()), (0, 0));
    assert_eq!((bed.drops(2, Drop::NeighbourUnresolved), bed.drops(1, Drop::NeighbourUnresolved)), (4, 1));
}

#[test]
fn a_next_hop_is_asked_for_ahead_of_traffic_and_again_as_long_as_it_is_one() {
    let mut bed = Bed::new();
    let slot = bed.host.hold(key(1, HOST)).unwrap();
    bed.pass(0);
    assert_eq!(bed.sent().len(), 1);
    bed.pass(60_000);
    let asked = bed.sent().len();
    assert!((6..=12).contains(&asked), "{asked} questions in a minute");
    assert_eq!(bed.shared.router().neighbours.key(slot), Some(key(1, HOST)));
    bed.hear(1, &arp_request(mac(5), host(5), GATEWAY));
    assert_eq!(bed.shared.router().neighbours.at(slot).map(|found| found.mac), Some(mac(5)));
    bed.pass(3_600_000);
    assert_eq!(bed.state(1, HOST).unwrap().0, State::Stale, "kept");
    bed.host.let_go(slot);
    bed.pass(600_000);
    assert_eq!(bed.state(1, HOST), None);
    bed.sent();
}

#[test]
fn a_next_hop_that_is_forgotten_again_and_again_is_asked_for_once_a_second() {
    let mut bed = Bed::new();
    bed.host.hold(key(1, HOST)).unwrap();
    let mut asked = 0;
    for _ in 0..200 {
        assert!(bed.host.remove_neighbour(key(1, HOST)));
        bed.pass(50);
        asked += bed.sent().len();
    }
    assert!((9..=11).contains(&asked), "{asked} questions in ten seconds");
}

#[test]
fn a_next_hop_that_stops_answering_is_asked_for_everywhere_at_once() {
    let mut bed = Bed::new();
    let slot = bed.host.hold(key(1, HOST)).unwrap();
    bed.pass(0);
    bed.hear(1, &arp_reply(mac(5), host(5), GATEWAY));
    bed.pass(45_001);
    bed.use_it(1, HOST);
    bed.sent();
    bed.pass(8_000);
    let sent = bed.sent();
    let to: Vec<Mac> = sent.iter().map(|(_, bytes)| read_arp(bytes).0).collect();
    assert_eq!(to, [mac(5), mac(5), mac(5), Mac::BROADCAST]);
    bed.hear(1, &arp_reply(mac(6), host(5), GATEWAY));
    assert_eq!(bed.shared.router().neighbours.at(slot).map(|found| found.mac), Some(mac(6)), "a standby took over");
}

#[test]
fn holds_are_counted_and_outlive_removal_and_the_interface() {
    let mut bed = Bed::new();
    let slot = bed.host.hold(key(1, HOST)).unwrap();
    assert_eq!(bed.host.hold(key(1, HOST)), Some(slot));
    bed.host.let_go(slot);
    assert!(bed.host.remove_neighbour(key(1, HOST)));
    assert_eq!(bed.row(1, HOST).map(|row| row.held), Some(1));
    bed.configure(vec![interface(2, FLAGS)]);
    bed.pass(30_000);
    assert_eq!(bed.shared.router().neighbours.key(slot), Some(key(1, HOST)), "the slot is kept");
    bed.sent();
    bed.configure(vec![interface(1, FLAGS), interface(2, FLAGS)]);
    bed.pass(0);
    let asks = bed.sent().iter().filter(|(_, bytes)| bytes[12..14] == [8, 6] && read_arp(bytes).3.1 == host(5)).count();
    assert_eq!(asks, 1, "asked for as soon as the interface is back");
    bed.host.let_go(slot);
    assert!(bed.host.remove_neighbour(key(1, HOST)));
    assert_eq!((bed.row(1, HOST), bed.host.remove_neighbour(key(1, HOST))), (None, false));
    bed.pass(5_000);
    bed.sent();
}

#[test]
fn neighbours_of_an_interface_that_is_gone_go_with_it_and_so_does_what_becomes_our_own() {
    let mut bed = Bed::new();
    bed.resolve(1, "10.0.1.7", &waiting(9));
    bed.hear(1, &arp_request(mac(5), host(5), GATEWAY));
    bed.hear(2, &arp_request(mac(6), [10, 0, 2, 6], [10, 0, 2, 1]));
    let mut two = interface(2, FLAGS);
    two.ipv4.push(([10, 0, 2, 6].into(), 24));
    bed.configure(vec![two]);
    assert_eq!((bed.host.neighbours_len(), bed.host.frames_held()), (0, 0));
    bed.pass(0);
    assert_eq!(bed.drops(2, Drop::NeighbourUnresolved), 1);
    bed.pass(10_000);
    bed.sent();
}

#[test]
fn what_the_operator_sets_is_checked_and_sends_what_waited() {
    let mut bed = Bed::new();
    let mut add = |number, address: &str, mac| bed.host.add_neighbour(key(number, address), mac);
    assert_eq!(add(7, HOST, mac(5)), Err(AddError::NoInterface));
    assert_eq!(add(1, "10.0.1.1", mac(5)), Err(AddError::Own));
    assert_eq!(add(1, HOST, Mac::BROADCAST), Err(AddError::BadMac));
    assert_eq!(add(1, HOST, Mac::ZERO), Err(AddError::BadMac));
    bed.resolve(1, HOST, &waiting(9));
    bed.sent();
    bed.host.add_neighbour(key(1, HOST), mac(5)).unwrap();
    bed.pass(0);
    assert_eq!(read_ip(&bed.sent_one().1).0, mac(5));
    assert_eq!(bed.host.flush_neighbours(NeighbourFilter::default()), 0, "not learned");
    assert!(bed.host.remove_neighbour(key(1, HOST)));
    assert_eq!(bed.row(1, HOST), None);
}

#[test]
fn flushing_goes_by_domain_address_and_mac() {
    let mut bed = Bed::new();
    for number in 5..9 {
        bed.hear(1, &arp_request(mac(number), host(number), GATEWAY));
        bed.hear(2, &arp_request(mac(number), [10, 0, 2, number], [10, 0, 2, 1]));
    }
    bed.sent();
    let filter = NeighbourFilter { domain: Some(domain(1)), address: Some(ip("10.0.1.5")), mac: None };
    assert_eq!(bed.host.flush_neighbours(filter), 1);
    let filter = NeighbourFilter { mac: Some(mac(6)), ..NeighbourFilter::default() };
    assert_eq!(bed.host.flush_neighbours(filter), 2);
    let filter = NeighbourFilter { domain: Some(domain(2)), ..NeighbourFilter::default() };
    assert_eq!((bed.host.flush_neighbours(filter), bed.host.neighbours_len()), (3, 2));
}

#[test]
fn dumps_come_in_slices_in_order() {
    let mut bed = Bed::new();
    for number in [9, 5, 7] {
        bed.hear(1, &arp_request(mac(number), host(number), GATEWAY));
    }
    bed.sent();
    let first = bed.host.neighbours(None, 2);
    let rest = bed.host.neighbours(Some(first[1].key), 2);
    let addresses: Vec<IpAddr> = first.iter().chain(&rest).map(|row| row.key.address()).collect();
    assert_eq!(addresses, [ip("10.0.1.5"), ip("10.0.1.7"), ip("10.0.1.9")]);
}

#[test]
fn a_packet_larger_than_the_way_out_is_cut_or_given_to_icmp() {
    let mut bed = Bed::new();
    let mut small = interface(1, FLAGS);
    small.mtu = 600;
    bed.configure(vec![small, interface(2, FLAGS)]);
    bed.pass(10_000);
    bed.hear(1, &arp_request(mac(5), host(5), GATEWAY));
    bed.sent();
    let mut large = packet([192, 0, 2, 9], host(5), 1_200);
    bed.resolve(1, HOST, &large);
    assert_eq!(bed.drops(2, Drop::PacketTooBig), 1, "not to be fragmented");
    assert!(bed.sent().is_empty());
    large[20] = 0;
    bed.resolve(1, HOST, &large);
    let sent = bed.sent();
    assert_eq!(sent.iter().map(|(_, bytes)| bytes.len() - 14).collect::<Vec<_>>(), [596, 596, 76]);
    assert!(sent.iter().all(|(_, bytes)| bytes[..6] == mac(5).octets()));
}

#[test]
fn a_tagged_packet_keeps_its_tag() {
    let mut bed = Bed::new();
    let mut tagged = waiting(9);
    tagged.splice(12..12, [0x81, 0, 0, 10]);
    bed.resolve(1, HOST, &tagged);
    bed.sent();
    bed.hear(1, &arp_reply(mac(5), host(5), GATEWAY));
    let (_, bytes) = bed.sent_one();
    assert_eq!((&bytes[..6], &bytes[6..]), (&mac(5).octets()[..], &tagged[6..]));
}
