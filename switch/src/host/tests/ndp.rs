//! Neighbour discovery: RFC 4861, RFC 4862 5.4. A test for every rule.

use std::net::Ipv6Addr;

use super::frames::{Nd, packet6, read_ip, read_nd};
use super::*;

const GATEWAY: &str = "2001:db8:0:1::1";
const LINK_LOCAL: &str = "fe80::ff:fe00:fe";
const HOST: &str = "2001:db8:0:1::5";

const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

fn v6(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn all_nodes() -> (Mac, Ipv6Addr) {
    (Mac::new([0x33, 0x33, 0, 0, 0, 1]), v6("ff02::1"))
}

#[test]
fn a_solicitation_is_answered_to_the_asker_with_all_that_is_due() {
    let mut bed = Bed::new();
    for target in [GATEWAY, LINK_LOCAL] {
        bed.hear(1, &Nd::solicitation(5, HOST, target).frame());
        let (number, bytes) = bed.sent_one();
        let said = read_nd(&bytes);
        assert_eq!((number, said.kind, said.target), (1, 136, v6(target)), "the target is copied");
        assert_eq!(said.flags, ROUTER | SOLICITED | OVERRIDE);
        assert_eq!((said.dst_mac, said.dst, said.src), (mac(5), v6(HOST), v6(target)));
        assert_eq!((said.src_mac, said.option), (OWN, Some((2, OWN))), "with our link-layer address");
    }
}

#[test]
fn a_unicast_solicitation_without_the_askers_address_is_answered_where_it_came_from() {
    let mut bed = Bed::new();
    let mut nd = Nd::solicitation(5, HOST, GATEWAY);
    (nd.dst, nd.dst_mac) = (v6(GATEWAY), OWN);
    nd.body.truncate(16);
    bed.punt(1, Why::Local, &nd.frame());
    let said = read_nd(&bed.sent_one().1);
    assert_eq!((said.dst_mac, said.dst, said.option), (mac(5), v6(HOST), Some((2, OWN))));
    assert_eq!(bed.host.neighbours_len(), 0, "it told no address");
}

#[test]
fn duplicate_address_detection_of_others_is_answered_to_all_nodes() {
    let mut bed = Bed::new();
    bed.hear(1, &Nd::probe(5, GATEWAY).frame());
    let said = read_nd(&bed.sent_one().1);
    assert_eq!((said.dst_mac, said.dst), all_nodes());
    assert_eq!((said.flags, said.target), (ROUTER | OVERRIDE, v6(GATEWAY)), "not solicited");
    assert_eq!((bed.host.neighbours_len(), bed.host.conflicts().len()), (0, 0));
}

#[test]
fn a_solicitation_for_others_is_not_answered_and_teaches_nothing() {
    let mut bed = Bed::new();
    bed.hear(1, &Nd::solicitation(5, HOST, "2001:db8:0:1::6").frame());
    bed.hear(1, &Nd::solicitation(5, HOST, "2001:db8:0:2::1").frame());
    assert_eq!((bed.sent().len(), bed.host.neighbours_len()), (0, 0));
}

/// Each of these changes makes a message invalid, which then does nothing at all.
fn spoil(valid: &Nd, bed: &mut Bed, changes: &[fn(&mut Nd)]) {
    let invalid = bed.host.counters().invalid;
    for (number, change) in changes.iter().enumerate() {
        let mut nd = valid.clone();
        change(&mut nd);
        bed.hear(1, &nd.frame());
        assert_eq!(bed.host.counters().invalid, invalid + number as u64 + 1, "change {number}");
    }
    let mut wrong = valid.frame();
    *wrong.last_mut().unwrap() ^= 1;
    bed.hear(1, &wrong);
    assert_eq!(bed.host.counters().invalid, invalid + changes.len() as u64 + 1, "a wrong checksum");
    assert!(bed.sent().is_empty());
}

#[test]
fn an_invalid_solicitation_is_ignored() {
    let mut bed = Bed::new();
    let changes: [fn(&mut Nd); 10] = [
        |nd| nd.hop_limit = 254,
        |nd| nd.code = 1,
        |nd| nd.body.truncate(15),
        |nd| nd.body[0] = 0xff,
        |nd| nd.body[17] = 0,
        |nd| nd.body[17] = 2,
        |nd| nd.body.truncate(23),
        |nd| nd.body[18] |= 1,
        |nd| nd.src = Ipv6Addr::UNSPECIFIED,
        |nd| nd.src = "ff02::5".parse().unwrap(),
    ];
    spoil(&Nd::solicitation(5, HOST, GATEWAY), &mut bed, &changes);
    let changes: [fn(&mut Nd); 2] = [|nd| nd.dst = v6(GATEWAY), |nd| nd.dst = v6("ff02::1")];
    spoil(&Nd::probe(5, GATEWAY), &mut bed, &changes);
    assert_eq!(bed.host.neighbours_len(), 0);
}

#[test]
fn an_invalid_advertisement_is_ignored() {
    let mut bed = Bed::new();
    bed.resolve(1, HOST, &packet6(v6(HOST)));
    bed.sent();
    let changes: [fn(&mut Nd); 8] = [
        |nd| nd.hop_limit = 64,
        |nd| nd.code = 1,
        |nd| nd.body.truncate(15),
        |nd| nd.body[0] = 0xff,
        |nd| nd.body[17] = 0,
        |nd| nd.body[17] = 3,
        |nd| nd.body[18] |= 1,
        |nd| nd.dst = v6("ff02::1"),
    ];
    spoil(&Nd::advertisement(5, HOST, LINK_LOCAL, SOLICITED | OVERRIDE), &mut bed, &changes);
    assert_eq!(bed.state(1, HOST), Some((State::Incomplete, None)));
}

#[test]
fn an_invalid_router_solicitation_is_ignored() {
    let mut bed = Bed::new();
    let changes: [fn(&mut Nd); 5] = [
        |nd| nd.hop_limit = 1,
        |nd| nd.code = 9,
        |nd| nd.body[1] = 0,
        |nd| nd.body[1] = 4,
        |nd| nd.src = Ipv6Addr::UNSPECIFIED,
    ];
    spoil(&Nd::router_solicitation(5, "fe80::5"), &mut bed, &changes);
    assert_eq!(bed.host.neighbours_len(), 0);
}

#[test]
fn an_ipv4_address_in_the_form_of_ipv6_is_nobodys() {
    let mut bed = Bed::new();
    bed.resolve(1, "10.0.1.5", &packet6(v6(HOST)));
    bed.sent();
    let mapped = v6("::ffff:10.0.1.5");
    let mut told = Nd::advertisement(5, HOST, LINK_LOCAL, OVERRIDE);
    told.body[..16].copy_from_slice(&mapped.octets());
    let mut asks = Nd::solicitation(5, HOST, GATEWAY);
    asks.src = mapped;
    for nd in [told, asks] {
        bed.hear(1, &nd.frame());
        assert_eq!(bed.state(1, "10.0.1.5"), Some((State::Incomplete, None)), "it is ARP's to say");
    }
}

#[test]
fn unknown_options_are_skipped() {
    let mut bed = Bed::new();
    let mut nd = Nd::solicitation(5, HOST, GATEWAY);
    nd.body.splice(16..16, [14, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    bed.hear(1, &nd.frame());
    assert_eq!(bed.state(1, HOST), Some((State::Stale, Some(mac(5)))));
    bed.sent();
}

#[test]
fn who_asks_for_us_becomes_stale_and_whoever_is_known_is_updated() {
    let mut bed = Bed::new();
    bed.hear(1, &Nd::solicitation(5, HOST, GATEWAY).frame());
    assert_eq!(bed.seen(1, HOST), Some((mac(5), true)));
    assert_eq!(bed.state(1, HOST).unwrap().0, State::Stale);
    bed.hear(1, &Nd::solicitation(6, HOST, GATEWAY).frame());
    assert_eq!(bed.state(1, HOST), Some((State::Stale, Some(mac(6)))));
    bed.hear(1, &Nd::solicitation(7, "fe80::7", LINK_LOCAL).frame());
    assert_eq!(bed.state(1, "fe80::7"), Some((State::Stale, Some(mac(7)))));
    bed.hear(1, &Nd::solicitation(8, "2001:db8:77::8", GATEWAY).frame());
    assert_eq!(bed.state(1, "2001:db8:77::8"), None, "not of this link");
    bed.hear(1, &Nd::router_solicitation(9, "fe80::9").frame());
    assert_eq!(bed.state(1, "fe80::9"), Some((State::Stale, Some(mac(9)))));
    bed.sent();
}

#[test]
fn an_unsolicited_advertisement_makes_no_entry() {
    let mut bed = Bed::new();
    for flags in [0, OVERRIDE, ROUTER | OVERRIDE] {
        bed.hear(1, &Nd::advertisement(5, HOST, "ff02::1", flags).frame());
    }
    bed.punt(1, Why::Local, &Nd::advertisement(5, HOST, LINK_LOCAL, SOLICITED | OVERRIDE).frame());
    assert_eq!(bed.host.neighbours_len(), 0);
}

/// An entry in this state, for HOST at station 5.
fn entry(state: State) -> Bed {
    let mut bed = Bed::new();
    if state == State::Stale {
        bed.hear(1, &Nd::solicitation(5, HOST, GATEWAY).frame());
    } else {
        bed.resolve(1, HOST, &packet6(v6(HOST)));
    }
    if state == State::Reachable {
        bed.punt(1, Why::Local, &Nd::advertisement(5, HOST, LINK_LOCAL, SOLICITED | OVERRIDE).frame());
    }
    assert_eq!(bed.state(1, HOST).unwrap().0, state);
    bed.sent();
    bed
}

fn advertise(bed: &mut Bed, number: u8, flags: u8) -> (State, Option<Mac>) {
    let to = if flags & SOLICITED != 0 { LINK_LOCAL } else { "ff02::1" };
    bed.punt(1, Why::Local, &Nd::advertisement(number, HOST, to, flags).frame());
    bed.state(1, HOST).unwrap()
}

#[test]
fn an_incomplete_entry_takes_any_address_and_sends_what_waited() {
    for (flags, state) in [(SOLICITED, State::Reachable), (SOLICITED | OVERRIDE, State::Reachable)] {
        let mut bed = entry(State::Incomplete);
        assert_eq!(advertise(&mut bed, 5, flags), (state, Some(mac(5))));
        assert_eq!(read_ip(&bed.sent_one().1).0, mac(5));
    }
    // Unsolicited, it is stale; the packet that waited is its first use.
    let mut bed = entry(State::Incomplete);
    assert_eq!(advertise(&mut bed, 5, ROUTER), (State::Delay, Some(mac(5))));
    assert!(bed.row(1, HOST).unwrap().router);
    assert_eq!(bed.sent().len(), 1);
}

#[test]
fn an_incomplete_entry_ignores_an_advertisement_without_an_address() {
    let mut bed = entry(State::Incomplete);
    let mut nd = Nd::advertisement(5, HOST, LINK_LOCAL, SOLICITED | OVERRIDE);
    nd.body.truncate(16);
    bed.punt(1, Why::Local, &nd.frame());
    assert_eq!(bed.state(1, HOST), Some((State::Incomplete, None)));
}

#[test]
fn without_override_another_address_makes_a_reachable_entry_stale_and_changes_nothing_else() {
    for flags in [0, SOLICITED, ROUTER | SOLICITED] {
        let mut bed = entry(State::Reachable);
        assert_eq!(advertise(&mut bed, 6, flags), (State::Stale, Some(mac(5))));
        assert!(!bed.row(1, HOST).unwrap().router);
        let mut bed = entry(State::Stale);
        assert_eq!(advertise(&mut bed, 6, flags), (State::Stale, Some(mac(5))));
    }
}

#[test]
fn with_override_another_address_is_taken() {
    for state in [State::Reachable, State::Stale] {
        let mut bed = entry(state);
        assert_eq!(advertise(&mut bed, 6, OVERRIDE), (State::Stale, Some(mac(6))));
        let mut bed = entry(state);
        assert_eq!(advertise(&mut bed, 6, OVERRIDE | SOLICITED), (State::Reachable, Some(mac(6))));
    }
}

#[test]
fn the_same_address_confirms_if_it_was_asked_for_and_else_changes_nothing() {
    let mut bed = entry(State::Stale);
    assert_eq!(advertise(&mut bed, 5, OVERRIDE), (State::Stale, Some(mac(5))));
    assert_eq!(advertise(&mut bed, 5, SOLICITED | ROUTER), (State::Reachable, Some(mac(5))));
    assert!(bed.row(1, HOST).unwrap().router);
    assert_eq!(advertise(&mut bed, 5, OVERRIDE), (State::Reachable, Some(mac(5))));
    assert!(!bed.row(1, HOST).unwrap().router, "it is no router any more");
}

#[test]
fn a_solicited_advertisement_without_an_address_confirms_the_one_that_is_known() {
    let mut bed = entry(State::Stale);
    let mut nd = Nd::advertisement(5, HOST, LINK_LOCAL, SOLICITED);
    nd.body.truncate(16);
    bed.punt(1, Why::Local, &nd.frame());
    assert_eq!(bed.state(1, HOST), Some((State::Reachable, Some(mac(5)))));
}

#[test]
fn questions_go_to_the_targets_group_and_tell_who_asks() {
    let mut bed = Bed::new();
    bed.resolve(1, "2001:db8:0:1::12:3456", &packet6(v6("2001:db8:0:1::12:3456")));
    let said = read_nd(&bed.sent_one().1);
    assert_eq!((said.kind, said.target), (135, v6("2001:db8:0:1::12:3456")));
    assert_eq!((said.dst_mac, said.dst), (Mac::new([0x33, 0x33, 0xff, 0x12, 0x34, 0x56]), v6("ff02::1:ff12:3456")));
    assert_eq!((said.src_mac, said.src, said.option), (OWN, v6(LINK_LOCAL), Some((1, OWN))));
}

#[test]
fn a_probe_goes_to_the_neighbour_alone() {
    let mut bed = entry(State::Stale);
    bed.use_it(1, HOST);
    bed.pass(5_000);
    let said = read_nd(&bed.sent_one().1);
    assert_eq!((said.kind, said.dst_mac, said.dst), (135, mac(5), v6(HOST)));
}

#[test]
fn own_addresses_are_looked_for_and_then_announced_the_link_local_one_too() {
    let mut bed = Bed::bare(HostSettings::default(), 256);
    let mut six = interface(1, FLAGS);
    six.ipv4.clear();
    bed.configure(vec![six]);
    bed.pass(0);
    let probes: Vec<_> = bed.sent().iter().map(|(_, bytes)| read_nd(bytes)).collect();
    assert_eq!(probes.iter().map(|said| said.target).collect::<Vec<_>>(), [v6(GATEWAY), v6(LINK_LOCAL)]);
    for said in &probes {
        let [.., a, b, c] = said.target.octets();
        assert_eq!((said.kind, said.src, said.option), (135, Ipv6Addr::UNSPECIFIED, None));
        assert_eq!(said.dst_mac, Mac::new([0x33, 0x33, 0xff, a, b, c]));
    }
    // In use from the start all the same.
    bed.hear(1, &Nd::solicitation(5, HOST, GATEWAY).frame());
    assert_eq!(read_nd(&bed.sent_one().1).flags, ROUTER | SOLICITED | OVERRIDE);
    bed.pass(999);
    assert!(bed.sent().is_empty());
    bed.pass(1);
    let told: Vec<_> = bed.sent().iter().map(|(_, bytes)| read_nd(bytes)).collect();
    assert_eq!(told.iter().map(|said| said.target).collect::<Vec<_>>(), [v6(GATEWAY), v6(LINK_LOCAL)]);
    assert!(told.iter().all(|said| said.kind == 136 && said.flags == ROUTER | OVERRIDE));
    assert!(told.iter().all(|said| (said.dst_mac, said.dst) == all_nodes() && said.option == Some((2, OWN))));
    bed.pass(3_600_000);
    assert!(bed.sent().is_empty() && bed.host.conflicts().is_empty());
}

#[test]
fn an_advertisement_of_an_own_address_is_an_alarm() {
    let mut bed = Bed::new();
    bed.hear(1, &Nd::advertisement(66, GATEWAY, "ff02::1", OVERRIDE).frame());
    let said = read_nd(&bed.sent_one().1);
    assert_eq!((said.kind, said.target, said.dst_mac), (136, v6(GATEWAY), all_nodes().0), "defended");
    let conflicts = bed.host.conflicts();
    assert_eq!((conflicts[0].address, conflicts[0].other, conflicts.len()), (ip(GATEWAY), mac(66), 1));
    bed.hear(1, &Nd::advertisement(66, GATEWAY, "ff02::1", OVERRIDE).frame());
    assert!(bed.sent().is_empty(), "at most once in ten seconds");
    assert_eq!((bed.host.counters().conflicts, bed.host.neighbours_len()), (2, 0));
}

#[test]
fn two_who_look_for_the_same_address_at_the_same_time_have_a_conflict() {
    let mut bed = Bed::bare(HostSettings::default(), 256);
    bed.configure(vec![interface(1, FLAGS)]);
    bed.pass(0);
    bed.hear(1, &Nd::probe(66, LINK_LOCAL).frame());
    assert_eq!(bed.host.conflicts().len(), 1);
    let mut echo = Nd::probe(66, GATEWAY);
    echo.src_mac = OWN;
    bed.hear(1, &echo.frame());
    assert_eq!(bed.host.conflicts().len(), 1, "our own question, come back, is no conflict");
    bed.pass(0);
    bed.sent();
}

#[test]
fn a_known_neighbour_is_answered_for_with_its_own_mac_address() {
    let mut bed = Bed::with(HostSettings::default(), RouterFlags { suppress: true, ..FLAGS });
    bed.hear(1, &Nd::solicitation(5, HOST, "2001:db8:0:1::77").frame());
    bed.punt(1, Why::Suppress, &Nd::solicitation(6, "2001:db8:0:1::6", HOST).frame());
    let said = read_nd(&bed.sent_one().1);
    assert_eq!((said.kind, said.flags, said.target), (136, SOLICITED | OVERRIDE, v6(HOST)), "no router");
    assert_eq!((said.src_mac, said.option), (mac(5), Some((2, mac(5)))));
    assert_eq!((said.dst_mac, said.dst, said.src), (mac(6), v6("2001:db8:0:1::6"), v6(HOST)));
    assert_eq!(bed.state(1, "2001:db8:0:1::6"), Some((State::Stale, Some(mac(6)))));
}

#[test]
fn an_interface_without_ipv6_says_nothing() {
    let mut bed = Bed::bare(HostSettings::default(), 256);
    let mut four = interface(1, FLAGS);
    four.ipv6.clear();
    bed.configure(vec![four]);
    bed.pass(10_000);
    bed.sent();
    bed.hear(1, &Nd::solicitation(5, "fe80::5", LINK_LOCAL).frame());
    bed.hear(1, &Nd::router_solicitation(5, "fe80::5").frame());
    assert_eq!((bed.sent().len(), bed.host.neighbours_len()), (0, 0));
}
