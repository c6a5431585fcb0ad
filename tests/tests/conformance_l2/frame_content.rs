//! A frame leaves as it came, or not at all (802.1D 6.3.7, 6.3.8).

use super::*;

/// The frame must come out of a flood to another access port as it went in.
fn unchanged(frame: &[u8]) {
    let mut lab = access_lab(2);
    lab.change(0, |port| port.mtu = 9000);
    lab.change(1, |port| port.mtu = 9000);
    lab.send(0, frame);
    assert_eq!(lab.receivers(frame), [1]);
    lab.assert_no_frame_lost();
}

#[test]
fn unknown_ethertypes_are_unchanged() {
    for ethertype in [ETHERTYPE_EXPERIMENTAL, 0x88a8, 0x0600, 0xffff, 0x8863] {
        unchanged(&frames::ethernet(host(2), host(1), ethertype, &[0x5a; 100]));
    }
}

#[test]
fn llc_frames_are_unchanged() {
    unchanged(&frames::llc(host(2), host(1), &[0x42, 0x42, 3, 1, 2, 3]));
    unchanged(&frames::ethernet(host(2), host(1), 0, &[0; 46]));
}

#[test]
fn padding_is_unchanged() {
    let arp = frames::arp_request(host(1), [10, 0, 0, 1], [10, 0, 0, 2]);
    assert_eq!(arp.len(), 60);
    unchanged(&arp);
    let packet = frames::Packet::new(host(2), host(1), frames::Net::V4, frames::Transport::Udp, vec![1, 2, 3]).build();
    unchanged(&[packet, vec![0xee; 20]].concat());
}

#[test]
fn every_length_is_unchanged() {
    let around_one_frame = FRAME_ROOM - 2..FRAME_ROOM + 3;
    for len in (14..20).chain(58..66).chain([1514]).chain(around_one_frame).chain([2 * FRAME_ROOM, 9014]) {
        unchanged(&sized(host(2), host(1), len));
    }
}

#[test]
fn a_header_alone_is_a_frame_and_less_is_not() {
    let mut lab = access_lab(2);
    for len in [1, 6, 12, 13] {
        lab.send(0, &sized(host(2), host(1), 60)[..len]);
    }
    lab.send(0, &tagged(&sized(host(2), host(1), 60), 1)[..17]);
    assert_eq!((lab.receivers(&[]), lab.drops(0, Drop::RxMalformed)), (vec![], 5));
    assert!(lab.fdb().is_empty());
    let header = sized(host(2), host(1), 14);
    lab.send(0, &header);
    assert_eq!(lab.receivers(&header), [1]);
}

#[test]
fn frames_beyond_the_egress_mtu_are_dropped_not_cut() {
    let (a, b, _) = hosts();
    let mut lab = access_lab(3);
    lab.change(2, |port| port.mtu = 9000);
    teach(&mut lab, 1, b);
    lab.send(0, &sized(b, a, 1514));
    assert_eq!(lab.take(1).len(), 1);
    lab.send(0, &sized(b, a, 1515));
    assert_eq!((lab.receivers(&[]), lab.drops(1, Drop::MtuExceeded)), (vec![], 1));
    let flooded = sized(Mac::BROADCAST, a, 1515);
    lab.send(0, &flooded);
    assert_eq!((lab.receivers(&flooded), lab.drops(1, Drop::MtuExceeded)), (vec![2], 2));
}

#[test]
fn a_tag_does_not_count_against_the_mtu() {
    let mut lab = Lab::new(&[access(0), setup(1, None, &[(10, 1)])]);
    let frame = sized(host(2), host(1), 1514);
    lab.send(0, &frame);
    assert_eq!(lab.receivers(&tagged(&frame, 10)), [1]);
    lab.send(1, &tagged(&sized(host(1), host(2), 1514), 10));
    assert_eq!(lab.take(0).len(), 1);
    lab.send(1, &tagged(&sized(host(1), host(2), 1515), 10));
    assert_eq!((lab.receivers(&[]), lab.drops(0, Drop::MtuExceeded)), (vec![], 1));
}
