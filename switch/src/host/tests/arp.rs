//! ARP: RFC 826, RFC 5227, RFC 1027. A test for every rule.

use super::frames::{arp, arp_reply, arp_request, packet, read_arp};
use super::*;
use crate::table::fdb::{Entry, Kind};

const GATEWAY: [u8; 4] = [10, 0, 1, 1];

fn host(last: u8) -> [u8; 4] {
    [10, 0, 1, last]
}

#[test]
fn a_request_for_an_own_address_is_answered_to_the_asker_alone() {
    let mut bed = Bed::new();
    bed.hear(1, &arp_request(mac(5), host(5), GATEWAY));
    let (number, bytes) = bed.sent_one();
    assert_eq!((number, read_arp(&bytes)), (1, (mac(5), 2, (OWN, GATEWAY), (mac(5), host(5)))));
    assert_eq!(bed.host.counters().answered, 1);
}

#[test]
fn a_request_for_the_address_of_another_interface_or_host_is_not_answered() {
    let mut bed = Bed::new();
    bed.hear(1, &arp_request(mac(5), host(5), [10, 0, 2, 1]));
    bed.hear(1, &arp_request(mac(5), host(5), host(6)));
    assert!(bed.sent().is_empty());
}

#[test]
fn other_hardware_protocols_lengths_and_operations_are_ignored() {
    let mut bed = Bed::new();
    let valid = arp_request(mac(5), host(5), GATEWAY);
    for (at, value) in [(15, 6), (16, 9), (17, 1), (18, 8), (19, 16), (20, 1), (21, 0), (21, 3), (21, 8)] {
        let mut bytes = valid.clone();
        bytes[at] = value;
        bed.hear(1, &bytes);
    }
    bed.hear(1, &valid[..41]);
    assert_eq!((bed.sent().len(), bed.host.neighbours_len()), (0, 0));
    assert_eq!((bed.host.counters().invalid, bed.drops(1, Drop::HostIgnored)), (10, 0), "others got it as well");
    for why in [Why::HeardAlone, Why::Suppress, Why::Local] {
        bed.punt(1, why, &valid[..41]);
    }
    assert_eq!((bed.host.counters().invalid, bed.drops(1, Drop::HostIgnored)), (13, 3), "nobody else did");
}

#[test]
fn a_tag_in_front_does_not_matter() {
    let mut bed = Bed::new();
    let mut bytes = arp_request(mac(5), host(5), GATEWAY);
    bytes.splice(12..12, [0x81, 0, 0, 10]);
    bed.hear(1, &bytes);
    assert_eq!(read_arp(&bed.sent_one().1).0, mac(5));
}

#[test]
fn a_sender_is_added_only_if_it_talks_to_us() {
    let mut bed = Bed::new();
    bed.hear(1, &arp_request(mac(5), host(5), host(6)));
    assert_eq!(bed.state(1, "10.0.1.5"), None);
    bed.hear(1, &arp_request(mac(5), host(5), GATEWAY));
    assert_eq!(bed.state(1, "10.0.1.5"), Some((State::Stale, Some(mac(5)))));
    assert_eq!(bed.seen(1, "10.0.1.5"), Some((mac(5), true)));
}

#[test]
fn a_sender_that_is_known_is_updated_whomever_it_talks_to() {
    let mut bed = Bed::new();
    bed.hear(1, &arp_request(mac(5), host(5), GATEWAY));
    bed.hear(1, &arp_request(mac(6), host(5), host(9)));
    assert_eq!(bed.state(1, "10.0.1.5"), Some((State::Stale, Some(mac(6)))));
    assert_eq!(bed.seen(1, "10.0.1.5"), Some((mac(6), true)));
    assert_eq!(bed.host.neighbour_counters().moved, 1);
}

#[test]
fn a_sender_from_elsewhere_is_answered_but_not_added() {
    let mut bed = Bed::new();
    for sender in [[192, 0, 2, 5], host(255), host(0)] {
        bed.hear(1, &arp_request(mac(5), sender, GATEWAY));
    }
    assert_eq!((bed.sent().len(), bed.host.neighbours_len()), (3, 0));
}

#[test]
fn a_sender_mac_address_that_no_station_has_is_ignored() {
    let mut bed = Bed::new();
    for from in [Mac::BROADCAST, Mac::new([1, 0, 0, 0, 0, 1]), Mac::ZERO, OWN] {
        bed.hear(1, &arp(Mac::BROADCAST, 1, (from, host(5)), (Mac::ZERO, GATEWAY)));
    }
    assert_eq!((bed.sent().len(), bed.host.neighbours_len()), (0, 0));
    assert_eq!(bed.host.counters().invalid, 3, "our own is no mistake of others");
}

#[test]
fn a_sender_address_that_no_host_has_is_ignored() {
    let mut bed = Bed::new();
    for sender in [[127, 0, 0, 1], [224, 0, 0, 1], [255, 255, 255, 255], [240, 0, 0, 1], [0, 0, 0, 7]] {
        bed.hear(1, &arp_request(mac(5), sender, GATEWAY));
    }
    assert_eq!((bed.sent().len(), bed.host.neighbours_len()), (0, 0));
}

#[test]
fn a_probe_is_answered_and_never_cached() {
    let mut bed = Bed::new();
    bed.hear(1, &arp_request(mac(5), [0; 4], GATEWAY));
    assert_eq!(read_arp(&bed.sent_one().1), (mac(5), 2, (OWN, GATEWAY), (mac(5), [0; 4])));
    assert_eq!(bed.host.neighbours_len(), 0);
    assert!(bed.host.conflicts().is_empty(), "who asks has not taken it");
}

#[test]
fn gratuitous_arp_updates_and_does_not_add() {
    let mut bed = Bed::new();
    for operation in [1, 2] {
        bed.hear(1, &arp(Mac::BROADCAST, operation, (mac(5), host(5)), (Mac::ZERO, host(5))));
    }
    assert_eq!(bed.host.neighbours_len(), 0);
    bed.hear(1, &arp_request(mac(5), host(5), GATEWAY));
    for (operation, number) in [(1, 6), (2, 7)] {
        bed.hear(1, &arp(Mac::BROADCAST, operation, (mac(number), host(5)), (mac(number), host(5))));
        assert_eq!(bed.state(1, "10.0.1.5"), Some((State::Stale, Some(mac(number)))));
    }
}

#[test]
fn a_reply_confirms_only_who_was_asked() {
    let mut bed = Bed::new();
    bed.hear(1, &arp_reply(mac(5), host(5), GATEWAY));
    assert_eq!(bed.state(1, "10.0.1.5"), Some((State::Stale, Some(mac(5)))));
    bed.resolve(1, "10.0.1.6", &packet([10, 0, 2, 9], host(6), 10));
    bed.hear(1, &arp_reply(mac(6), host(6), GATEWAY));
    assert_eq!(bed.state(1, "10.0.1.6"), Some((State::Reachable, Some(mac(6)))));
    assert_eq!(bed.seen(1, "10.0.1.6"), Some((mac(6), false)));
}

#[test]
fn what_is_permanent_stays_as_it_is() {
    let mut bed = Bed::new();
    bed.host.add_neighbour(key(1, "10.0.1.5"), mac(5)).unwrap();
    bed.hear(1, &arp_request(mac(6), host(5), GATEWAY));
    bed.hear(1, &arp_reply(mac(6), host(5), GATEWAY));
    bed.pass(3_600_000);
    assert_eq!(bed.state(1, "10.0.1.5"), Some((State::Permanent, Some(mac(5)))));
    assert_eq!(bed.seen(1, "10.0.1.5"), Some((mac(5), false)));
}

#[test]
fn a_new_address_is_announced_twice_two_seconds_apart() {
    let mut bed = Bed::bare(HostSettings::default(), 256);
    let mut quiet = interface(1, FLAGS);
    quiet.ipv6.clear();
    bed.configure(vec![quiet.clone()]);
    bed.pass(0);
    let announcement = (Mac::BROADCAST, 1, (OWN, GATEWAY), (Mac::ZERO, GATEWAY));
    assert_eq!(read_arp(&bed.sent_one().1), announcement);
    bed.pass(1_999);
    assert!(bed.sent().is_empty());
    bed.pass(1);
    assert_eq!(read_arp(&bed.sent_one().1), announcement);
    bed.configure(vec![quiet.clone()]);
    bed.pass(3_600_000);
    assert!(bed.sent().is_empty(), "the same again is no news");
    quiet.ipv4.push(([10, 9, 9, 1].into(), 24));
    bed.configure(vec![quiet.clone()]);
    bed.pass(5_000);
    assert_eq!(bed.sent().len(), 2, "the new one alone");
    quiet.mac = Mac::new([2, 0, 0, 0, 0, 0xfd]);
    bed.configure(vec![quiet]);
    bed.pass(5_000);
    assert_eq!(bed.sent().len(), 4, "a new MAC address is news of all of them");
}

#[test]
fn who_claims_an_own_address_is_listed_and_answered_once_in_ten_seconds() {
    let mut bed = Bed::new();
    let since_ns = bed.now_ns;
    for _ in 0..100 {
        bed.hear(1, &arp(Mac::BROADCAST, 1, (mac(66), GATEWAY), (Mac::ZERO, host(9))));
    }
    let defence = (Mac::BROADCAST, 1, (OWN, GATEWAY), (Mac::ZERO, GATEWAY));
    assert_eq!(read_arp(&bed.sent_one().1), defence);
    bed.pass(9_999);
    bed.hear(1, &arp_reply(mac(67), GATEWAY, host(9)));
    assert!(bed.sent().is_empty());
    bed.pass(1);
    bed.hear(1, &arp_reply(mac(67), GATEWAY, host(9)));
    assert_eq!(read_arp(&bed.sent_one().1), defence);
    let conflict = Conflict {
        domain: domain(1),
        address: ip("10.0.1.1"),
        other: mac(67),
        count: 102,
        since_ns,
        last_ns: since_ns + 10_000 * MS,
    };
    assert_eq!((bed.host.conflicts(), bed.host.counters().conflicts), (vec![conflict], 102));
    assert_eq!(bed.host.neighbours_len(), 0, "our own address is nobody's entry");
    let mut other = interface(1, FLAGS);
    other.ipv4 = vec![([10, 0, 1, 2].into(), 24)];
    bed.configure(vec![other]);
    assert!(bed.host.conflicts().is_empty(), "an address that we gave up is none of our business");
}

#[test]
fn a_warning_is_written_once_a_minute() {
    let mut own = super::super::own::OwnAddresses::new(HostSettings::default());
    own.configure([interface(1, FLAGS)].iter(), 0);
    let warned = (0..180u64).filter(|s| own.conflict(domain(1), ip("10.0.1.1"), mac(6), s * 1_000 * MS).warn);
    assert_eq!(warned.collect::<Vec<_>>(), [0, 60, 120]);
    let other = own.conflict(domain(1), ip("2001:db8:0:1::1"), mac(6), 1_000 * MS);
    assert!(other.warn && other.defend, "each address for itself");
}

#[test]
fn a_known_neighbour_is_answered_for_with_its_own_mac_address() {
    let mut bed = Bed::with(HostSettings::default(), RouterFlags { suppress: true, ..FLAGS });
    bed.hear(1, &arp_request(mac(5), host(5), host(77)));
    assert_eq!(bed.state(1, "10.0.1.5"), Some((State::Stale, Some(mac(5)))), "everybody is worth knowing");
    bed.punt(1, Why::Suppress, &arp_request(mac(6), host(6), host(5)));
    let (number, bytes) = bed.sent_one();
    assert_eq!((number, read_arp(&bytes)), (1, (mac(6), 2, (mac(5), host(5)), (mac(6), host(6)))));
    assert_eq!(bed.state(1, "10.0.1.5").unwrap().0, State::Delay, "to be asked whether it is still there");
    assert_eq!(bed.state(1, "10.0.1.6").unwrap().0, State::Stale);
    assert_eq!(bed.host.counters().suppressed, 1);
}

#[test]
fn a_neighbour_that_left_is_answered_for_no_longer() {
    let mut bed = Bed::with(HostSettings::default(), RouterFlags { suppress: true, ..FLAGS });
    bed.hear(1, &arp_request(mac(5), host(5), host(77)));
    bed.punt(1, Why::Suppress, &arp_request(mac(6), host(6), host(5)));
    bed.pass(8_000);
    assert_eq!(bed.seen(1, "10.0.1.5"), None, "workers flood the next request");
    bed.sent();
    bed.punt(1, Why::Suppress, &arp_request(mac(6), host(6), host(5)));
    assert!(bed.sent().is_empty());
}

#[test]
fn a_neighbour_behind_the_askers_own_port_answers_itself() {
    let mut bed = Bed::with(HostSettings::default(), RouterFlags { suppress: true, ..FLAGS });
    bed.hear(1, &arp_request(mac(5), host(5), host(77)));
    let key = crate::table::fdb::MacKey::new(domain(1), mac(5));
    let entry = Entry { key, port: port(0), kind: Kind::Static, stamp_s: 0 };
    bed.shared.fdb().insert(entry).unwrap();
    bed.punt(1, Why::Suppress, &arp_request(mac(6), host(6), host(5)));
    bed.punt(1, Why::Suppress, &arp_request(mac(5), host(8), host(5)));
    assert!(bed.sent().is_empty());
}

#[test]
fn requests_name_the_switchs_own_address_in_the_targets_subnet() {
    let mut bed = Bed::new();
    let mut two = interface(1, FLAGS);
    two.ipv4.push(([10, 7, 0, 1].into(), 16));
    bed.configure(vec![two, interface(2, FLAGS)]);
    bed.pass(10_000);
    bed.sent();
    bed.resolve(1, "10.7.3.3", &packet([10, 0, 2, 9], [10, 7, 3, 3], 10));
    let question = (Mac::BROADCAST, 1, (OWN, [10, 7, 0, 1]), (Mac::ZERO, [10, 7, 3, 3]));
    assert_eq!(read_arp(&bed.sent_one().1), question);
}
