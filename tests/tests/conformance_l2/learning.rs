//! What enters the filtering database (802.1D 7.8, 802.1Q 8.7).

use super::*;

#[test]
fn an_individual_source_is_learned() {
    let mut lab = access_lab(2);
    teach(&mut lab, 1, host(7));
    assert_eq!((lab.stats(1).learned.get(), lab.fdb().port_len(port(1))), (1, 1));
}

#[test]
fn a_group_source_is_neither_learned_nor_forwarded() {
    let mut lab = access_lab(2);
    for group in [Mac::BROADCAST, Mac::new([3, 0, 0, 0, 0, 1])] {
        lab.send(0, &sized(host(2), group, 60));
        assert_eq!(lab.port_of(group), None);
    }
    assert_eq!((lab.receivers(&[]), lab.drops(0, Drop::L2SourceGroup)), (vec![], 2));
}

#[test]
fn the_zero_source_is_forwarded_but_not_learned() {
    let mut lab = access_lab(2);
    let frame = sized(host(2), Mac::ZERO, 60);
    lab.send(0, &frame);
    assert_eq!((lab.receivers(&frame), lab.port_of(Mac::ZERO)), (vec![1], None));
}

#[test]
fn nothing_is_learned_from_a_port_that_is_not_forwarding() {
    let mut lab = access_lab(2);
    lab.change(0, |port| port.forwarding = false);
    lab.send(0, &sized(host(2), host(1), 60));
    assert_eq!(lab.port_of(host(1)), None);
}

#[test]
fn nothing_is_learned_from_a_frame_that_is_not_admitted() {
    let mut lab = Lab::new(&[setup(0, Some(1), &[(10, 2)]), access(1)]);
    for vlan in [11, 4095] {
        lab.send(0, &tagged(&sized(host(2), host(1), 60), vlan));
    }
    assert!(lab.fdb().is_empty());
}

#[test]
fn a_port_with_learning_off_teaches_nothing() {
    let mut lab = access_lab(3);
    lab.change(0, |port| port.flags.learning = false);
    lab.send(0, &sized(host(2), host(1), 60));
    lab.clear();
    let answer = sized(host(1), host(2), 60);
    lab.send(1, &answer);
    assert_eq!(lab.receivers(&answer), [0, 2], "answers are flooded");
}

#[test]
fn a_link_local_frame_teaches_its_source() {
    let mut lab = access_lab(2);
    lab.send(0, &sized(Mac::new([1, 0x80, 0xc2, 0, 0, 0]), host(1), 60));
    assert_eq!(lab.port_of(host(1)), Some(0));
}

#[test]
fn a_full_table_floods_on_and_keeps_its_static_entries() {
    let mut lab = Lab::with_entries(&[access(0), access(1), access(2)], 4);
    lab.insert(host(100), 1, Kind::Static);
    for number in 1..=6 {
        lab.send(0, &sized(Mac::BROADCAST, host(number), 60));
    }
    lab.clear();
    assert_eq!((lab.fdb().dynamic_len(), lab.stats(0).learn_refused.get()), (4, 2));
    let unknown = sized(host(6), host(1), 60);
    lab.send(0, &unknown);
    assert_eq!(lab.receivers(&unknown), [1, 2]);
    let fixed = sized(host(100), host(1), 60);
    lab.send(0, &fixed);
    assert_eq!(lab.receivers(&fixed), [1]);
}

#[test]
fn a_port_learns_no_more_than_its_limit() {
    let mut lab = access_lab(3);
    lab.change(0, |port| port.mac_limit = 2);
    lab.insert(host(50), 0, Kind::Static);
    for number in 1..=4 {
        lab.send(0, &sized(Mac::BROADCAST, host(number), 60));
    }
    assert_eq!((lab.fdb().port_len(port(0)), lab.stats(0).learn_refused.get()), (2, 2), "static ones do not count");
    lab.send(1, &sized(Mac::BROADCAST, host(9), 60));
    assert_eq!(lab.port_of(host(9)), Some(1), "other ports are not affected");
}

#[test]
fn a_known_address_at_the_limit_is_still_refreshed() {
    let mut lab = access_lab(2);
    lab.change(0, |port| port.mac_limit = 1);
    teach(&mut lab, 0, host(1));
    lab.advance_s(200);
    lab.send(0, &sized(Mac::BROADCAST, host(1), 60));
    lab.advance_s(200);
    lab.clear();
    let frame = sized(host(1), host(2), 60);
    lab.send(1, &frame);
    assert_eq!((lab.receivers(&frame), lab.drops(1, Drop::L2NoReceiver)), (vec![0], 0));
    assert_eq!(lab.stats(1).flooded.get(), 0, "it is known, not flooded");
}
