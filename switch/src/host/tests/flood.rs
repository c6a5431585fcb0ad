//! Scans and floods: whatever others invent, memory and questions stay bounded, and neighbours in use stay.

use super::frames::{arp_reply, arp_request, packet};
use super::*;

/// An interface with 10.0.0.1/8, so that there is room to scan.
fn wide() -> Bed {
    let mut bed = Bed::bare(HostSettings::default(), 4_096);
    let mut wide = interface(1, FLAGS);
    wide.ipv4 = vec![([10, 0, 0, 1].into(), 8)];
    let mut other = interface(2, FLAGS);
    other.ipv4 = vec![([192, 168, 0, 1].into(), 24)];
    bed.configure(vec![wide, other]);
    bed.pass(10_000);
    bed.sent();
    bed
}

/// Neighbours that nothing may push out: a next hop, one that does not answer, one in use, a permanent one.
fn settle(bed: &mut Bed) -> [NeighbourSlot; 2] {
    let dead = bed.host.hold(key(1, "10.0.0.5")).unwrap();
    let slot = bed.host.hold(key(1, "10.0.0.2")).unwrap();
    bed.pass(0);
    bed.hear(1, &arp_reply(mac(2), [10, 0, 0, 2], [10, 0, 0, 1]));
    bed.resolve(1, "10.0.0.3", &packet([192, 168, 0, 9], [10, 0, 0, 3], 10));
    bed.hear(1, &arp_reply(mac(3), [10, 0, 0, 3], [10, 0, 0, 1]));
    bed.host.add_neighbour(key(1, "10.0.0.4"), mac(4)).unwrap();
    bed.sent();
    [slot, dead]
}

fn check(bed: &Bed, [slot, dead]: [NeighbourSlot; 2]) {
    assert_eq!(bed.shared.router().neighbours.key(dead), Some(key(1, "10.0.0.5")));
    assert_eq!(bed.shared.router().neighbours.at(slot).map(|found| found.mac), Some(mac(2)));
    assert_eq!(bed.seen(1, "10.0.0.3").map(|(found, _)| found), Some(mac(3)));
    assert_eq!(bed.seen(1, "10.0.0.4").map(|(found, _)| found), Some(mac(4)));
}

#[test]
fn a_scan_of_a_million_addresses_exhausts_nothing() {
    let mut bed = wide();
    let slots = settle(&mut bed);
    let limits = HostSettings::default();
    let (mut questions, start_ns) = (0, bed.now_ns);
    let bytes = packet([192, 168, 0, 9], [10, 1, 0, 0], 10);
    for number in 0..1_000_000u32 {
        let target = NeighbourKey::v4(domain(1), 0x0a01_0000 + number);
        assert!(bed.leave(2, Why::Resolve(target), &bytes));
        if number % 16 == 15 {
            // 160,000 new addresses a second.
            bed.now_ns += 100_000;
            if number % 1_600_000 == 15 {
                bed.hear(1, &arp_reply(mac(3), [10, 0, 0, 3], [10, 0, 0, 1]));
            }
            bed.host.turn(bed.now_ns);
            questions += bed.sent().len();
            assert!(bed.host.neighbours_len() <= limits.interface_unresolved_max + 5);
            assert!(bed.host.frames_held() <= 4_096 / limits.waiting_share);
        }
    }
    check(&bed, slots);
    let seconds = (bed.now_ns - start_ns) / (1_000 * MS) + 1;
    let most = limits.interface_unresolved_max * (seconds as usize + 1) * 2;
    assert!(questions <= most, "{questions} questions in {seconds} s");
    // Another interface is not concerned, and a newcomer here waits a second at most.
    bed.resolve(2, "192.168.0.7", &packet([10, 0, 0, 3], [192, 168, 0, 7], 10));
    assert_eq!(bed.state(2, "192.168.0.7").map(|(state, _)| state), Some(State::Incomplete));
    bed.now_ns += 1_000 * MS;
    bed.resolve(1, "10.0.0.77", &packet([192, 168, 0, 9], [10, 0, 0, 77], 10));
    bed.hear(1, &arp_reply(mac(77), [10, 0, 0, 77], [10, 0, 0, 1]));
    assert_eq!(bed.state(1, "10.0.0.77"), Some((State::Reachable, Some(mac(77)))));
    bed.pass(60_000);
    bed.sent();
    assert!(bed.host.neighbours_len() <= 6, "all is forgotten");
}

#[test]
fn a_million_senders_push_nobody_out() {
    let mut bed = wide();
    let slots = settle(&mut bed);
    let limits = HostSettings::default();
    // One that answered, and is unused since: it goes after all that were never asked.
    bed.resolve(1, "10.0.0.8", &packet([192, 168, 0, 9], [10, 0, 0, 8], 10));
    bed.hear(1, &arp_reply(mac(8), [10, 0, 0, 8], [10, 0, 0, 1]));
    for number in 0..1_000_000u32 {
        let sender = (0x0a01_0000 + number).to_be_bytes();
        let from = Mac::from_bits(0x0200_0000_0000 + u64::from(number));
        assert!(bed.leave(1, Why::Heard, &arp_request(from, sender, [10, 0, 0, 1])));
        if number % 16 == 15 {
            bed.now_ns += MS;
            bed.host.turn(bed.now_ns);
            // It lives, and answers when it is asked.
            if bed.sent().iter().any(|(_, bytes)| bytes[..6] == mac(3).octets()) {
                bed.hear(1, &arp_reply(mac(3), [10, 0, 0, 3], [10, 0, 0, 1]));
            }
        }
        if number % 160_000 == 15 {
            // Ten seconds later: somebody uses it.
            bed.use_it(1, "10.0.0.3");
            assert!(bed.host.neighbours_len() <= limits.interface_neighbours_max);
            check(&bed, slots);
        }
    }
    assert_eq!(bed.host.neighbours_len(), limits.interface_neighbours_max);
    assert_eq!(bed.seen(1, "10.0.0.8").map(|(found, _)| found), Some(mac(8)));
    check(&bed, slots);
    bed.check_table();
    // Another interface has its room.
    bed.hear(2, &arp_request(mac(9), [192, 168, 0, 9], [192, 168, 0, 1]));
    assert_eq!(bed.state(2, "192.168.0.9"), Some((State::Stale, Some(mac(9)))));
    bed.sent();
}

#[test]
fn when_the_whole_table_is_full_of_neighbours_that_may_not_go_new_ones_are_refused() {
    let settings = HostSettings { neighbours_max: 8, interface_neighbours_max: 8, ..HostSettings::default() };
    let mut bed = Bed::with(settings, FLAGS);
    for number in 10..18 {
        bed.host.add_neighbour(key(1, &format!("10.0.1.{number}")), mac(number)).unwrap();
    }
    bed.hear(1, &arp_request(mac(5), [10, 0, 1, 5], [10, 0, 1, 1]));
    bed.resolve(1, "10.0.1.6", &packet([10, 0, 2, 9], [10, 0, 1, 6], 10));
    assert_eq!((bed.host.neighbours_len(), bed.host.neighbour_counters().refused), (8, 2));
    assert_eq!((bed.drops(2, Drop::NeighbourUnresolved), bed.sent().len()), (1, 1), "the asker has his answer");
}

#[test]
fn packets_that_wait_take_a_small_part_of_the_pool() {
    let mut bed = Bed::with(HostSettings { waiting_share: 1_024, ..HostSettings::default() }, FLAGS);
    for number in 10..20 {
        bed.resolve(1, &format!("10.0.1.{number}"), &packet([10, 0, 2, 9], [10, 0, 1, number], 10));
    }
    assert_eq!((bed.host.frames_held(), bed.drops(2, Drop::NeighbourUnresolved)), (2, 8), "half for one port");
    assert_eq!(bed.sent().len(), 10, "all the same, everybody is asked for");
    bed.resolve(1, "10.0.1.10", &packet([10, 0, 2, 9], [10, 0, 1, 10], 10));
    assert_eq!(bed.host.frames_held(), 2);
    // A scan from one port leaves room for another's packets.
    bed.resolve(2, "10.0.2.10", &packet([10, 0, 1, 9], [10, 0, 2, 10], 10));
    assert_eq!((bed.host.frames_held(), bed.drops(1, Drop::NeighbourUnresolved)), (3, 0));
    bed.hear(1, &arp_reply(mac(10), [10, 0, 1, 10], [10, 0, 1, 1]));
    bed.hear(2, &arp_reply(mac(11), [10, 0, 2, 10], [10, 0, 2, 1]));
    assert_eq!((bed.host.frames_held(), bed.host.levels(bed.now_ns).waiting_frames), (1, 1));
    bed.pass(30_000);
    bed.sent();
}

#[test]
fn a_turn_is_bounded_and_says_that_there_is_more() {
    let mut bed = Bed::bare(HostSettings::default(), 1 << 15);
    bed.configure(vec![interface(1, FLAGS)]);
    bed.pass(10_000);
    bed.sent();
    for number in 0..500u32 {
        let target = NeighbourKey::v4(domain(1), 0x0a00_0102 + number % 250);
        let why = if number % 2 == 0 { Why::Resolve(target) } else { Why::Heard };
        assert!(bed.leave(1, why, &packet([10, 0, 2, 9], [10, 0, 1, 2], 10)));
    }
    assert_eq!(bed.host.turn(bed.now_ns), bed.now_ns);
    // News is taken first, within a limit of its own.
    assert_eq!(bed.shared.host().len(), 500 - NEWS - PUNTS);
    bed.pass(60_000);
    bed.sent();
}
