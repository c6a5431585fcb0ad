//! Tags: admission, membership, egress rules, priority (802.1Q 6.9, 8.6).

use super::*;

/// Port 0: access in domain 1. Port 1: trunk, 10 -> 1 and 20 -> 2. Port 2: trunk, native 1 and 30 -> 2.
fn trunks() -> Lab {
    Lab::new(&[access(0), setup(1, None, &[(10, 1), (20, 2)]), setup(2, Some(1), &[(30, 2)])])
}

/// What left by each port.
fn outputs(lab: &mut Lab) -> [Vec<Vec<u8>>; 3] {
    [lab.take(0), lab.take(1), lab.take(2)]
}

#[test]
fn an_untagged_frame_is_tagged_by_each_ports_rule() {
    let mut lab = trunks();
    let frame = sized(Mac::BROADCAST, host(1), 60);
    lab.send(0, &frame);
    assert_eq!(outputs(&mut lab), [vec![], vec![tagged(&frame, 10)], vec![frame]]);
}

#[test]
fn a_tagged_frame_is_untagged_for_access_and_native() {
    let mut lab = trunks();
    let frame = sized(Mac::BROADCAST, host(1), 60);
    lab.send(1, &tagged(&frame, 10));
    assert_eq!(outputs(&mut lab), [vec![frame.clone()], vec![], vec![frame]]);
}

#[test]
fn a_tag_is_rewritten_between_trunks_and_priority_is_kept() {
    let mut lab = trunks();
    let frame = sized(Mac::BROADCAST, host(1), 60);
    lab.send(1, &tagged(&frame, 0xb000 | 20));
    assert_eq!(outputs(&mut lab), [vec![], vec![], vec![tagged(&frame, 0xb000 | 30)]]);
}

#[test]
fn trunk_to_access_to_trunk_gives_the_frame_back() {
    let (a, b, _) = hosts();
    let mut lab = trunks();
    let inner = sized(b, a, 9000);
    for index in 0..3 {
        lab.change(index, |port| port.mtu = 9000);
    }
    lab.insert(b, 0, Kind::Static);
    lab.send(1, &tagged(&inner, 10));
    assert_eq!(lab.take(0), std::slice::from_ref(&inner));
    lab.insert(b, 1, Kind::Static);
    lab.send(0, &inner);
    assert_eq!(outputs(&mut lab), [vec![], vec![tagged(&inner, 10)], vec![]]);
    lab.assert_no_frame_lost();
}

#[test]
fn vid_0_is_a_priority_tag_of_the_native_vlan() {
    let mut lab = trunks();
    let frame = sized(Mac::BROADCAST, host(1), 60);
    lab.send(0, &tagged(&frame, 0xe000));
    assert_eq!(outputs(&mut lab), [vec![], vec![tagged(&frame, 0xe000 | 10)], vec![frame.clone()]]);
    lab.send(1, &tagged(&frame, 0xe000));
    assert_eq!(lab.drops(1, Drop::VlanUntagged), 1, "a trunk without native takes no priority tag");
}

#[test]
fn vid_4095_is_dropped() {
    let mut lab = trunks();
    for index in 0..3 {
        lab.send(index, &tagged(&sized(Mac::BROADCAST, host(1), 60), 4095));
        assert_eq!((lab.receivers(&[]), lab.drops(index, Drop::VlanReserved)), (vec![], 1));
    }
}

#[test]
fn a_vid_that_the_port_does_not_carry_is_dropped() {
    let mut lab = trunks();
    for (index, vlan) in [(0, 10), (1, 11), (2, 10)] {
        lab.send(index, &tagged(&sized(Mac::BROADCAST, host(1), 60), vlan));
        assert_eq!((lab.receivers(&[]), lab.drops(index, Drop::VlanNotMember)), (vec![], 1));
    }
}

#[test]
fn untagged_on_a_trunk_without_native_is_dropped() {
    let mut lab = trunks();
    lab.send(1, &sized(Mac::BROADCAST, host(1), 60));
    assert_eq!((lab.receivers(&[]), lab.drops(1, Drop::VlanUntagged)), (vec![], 1));
}

#[test]
fn domains_do_not_leak_into_each_other() {
    let mut lab = Lab::new(&[access(0), access(1), setup(2, Some(2), &[]), setup(3, Some(2), &[])]);
    for (index, other) in [(0, 1), (3, 2)] {
        let frame = sized(Mac::BROADCAST, host(1), 60);
        lab.send(index, &frame);
        assert_eq!(lab.receivers(&frame), [other]);
    }
}

#[test]
fn each_domain_learns_for_itself() {
    let mut lab = Lab::new(&[
        setup(0, None, &[(10, 1), (20, 2)]),
        setup(1, None, &[(10, 1), (20, 2)]),
        setup(2, None, &[(10, 1), (20, 2)]),
    ]);
    lab.send(0, &tagged(&sized(Mac::BROADCAST, host(1), 60), 10));
    lab.send(1, &tagged(&sized(Mac::BROADCAST, host(1), 60), 20));
    lab.clear();
    for (vlan, behind) in [(10, 0), (20, 1)] {
        let frame = tagged(&sized(host(1), host(2), 60), vlan);
        lab.send(2, &frame);
        assert_eq!(lab.receivers(&frame), [behind]);
    }
    assert_eq!(lab.fdb().dynamic_len(), 4);
}

#[test]
fn only_the_outer_tag_is_the_switchs_business() {
    let mut lab = trunks();
    let inner = tagged(&sized(Mac::BROADCAST, host(1), 60), 0x2064);
    lab.send(1, &tagged(&inner, 20));
    assert_eq!(outputs(&mut lab), [vec![], vec![], vec![tagged(&inner, 30)]]);
}

#[test]
fn an_inner_tag_never_chooses_the_vlan_of_a_trunk() {
    let mut lab = trunks();
    let inner = tagged(&sized(Mac::BROADCAST, host(1), 60), 30);
    // Untagged on port 2 it would arrive as VLAN 30 there; on an access port the tag is payload.
    lab.send(1, &tagged(&inner, 10));
    assert_eq!(outputs(&mut lab), [vec![inner.clone()], vec![], vec![]]);
    lab.send(0, &tagged(&inner, 0));
    assert_eq!(outputs(&mut lab), [vec![], vec![tagged(&inner, 10)], vec![]]);
    assert_eq!(lab.drops(2, Drop::VlanNotMember), 2);
    // And as unicast.
    lab.send(2, &sized(Mac::BROADCAST, host(2), 60));
    lab.clear();
    lab.send(0, &tagged(&tagged(&sized(host(2), host(1), 60), 30), 0));
    assert!(outputs(&mut lab).iter().all(Vec::is_empty));
    assert_eq!(lab.drops(0, Drop::VlanNotMember), 1);
}

#[test]
fn the_service_tag_is_payload() {
    let mut lab = trunks();
    let frame = frames::ethernet(Mac::BROADCAST, host(1), 0x88a8, &[0; 50]);
    lab.send(0, &frame);
    assert_eq!(outputs(&mut lab), [vec![], vec![tagged(&frame, 10)], vec![frame]]);
}

#[test]
fn a_tag_fits_in_front_of_a_full_first_segment() {
    let mut lab = trunks();
    for index in 0..3 {
        lab.change(index, |port| port.mtu = 9000);
    }
    for len in FRAME_ROOM - 4..=FRAME_ROOM {
        let frame = sized(Mac::BROADCAST, host(1), len);
        lab.send(0, &frame);
        assert_eq!(outputs(&mut lab), [vec![], vec![tagged(&frame, 10)], vec![frame]], "length {len}");
    }
    lab.assert_no_frame_lost();
}
