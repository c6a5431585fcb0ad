//! Where a frame goes (802.1D 7.7, 802.1Q 8.6 and 8.8).

use super::*;

#[test]
fn known_unicast_goes_to_its_port_only() {
    let (a, b, _) = hosts();
    let mut lab = access_lab(4);
    teach(&mut lab, 2, b);
    let frame = sized(b, a, 60);
    lab.send(0, &frame);
    assert_eq!(lab.receivers(&frame), [2]);
    assert_eq!(lab.stats(0).flooded.get(), 0);
}

#[test]
fn unknown_unicast_goes_to_all_other_ports() {
    let (a, b, _) = hosts();
    let mut lab = access_lab(4);
    let frame = sized(b, a, 60);
    lab.send(1, &frame);
    assert_eq!(lab.receivers(&frame), [0, 2, 3]);
    assert_eq!(lab.stats(1).flooded.get(), 1);
}

#[test]
fn broadcast_arp_goes_to_all_other_ports() {
    let mut lab = access_lab(3);
    let frame = frames::arp_request(host(1), [10, 0, 0, 1], [10, 0, 0, 2]);
    lab.send(0, &frame);
    assert_eq!(lab.receivers(&frame), [1, 2]);
}

#[test]
fn unregistered_multicast_goes_to_all_other_ports() {
    let mut lab = access_lab(3);
    let frame = sized(Mac::new([0x33, 0x33, 0, 0, 0, 1]), host(1), 86);
    lab.send(2, &frame);
    assert_eq!(lab.receivers(&frame), [0, 1]);
}

#[test]
fn never_back_out_of_the_ingress_port() {
    let (a, b, _) = hosts();
    let mut lab = access_lab(3);
    teach(&mut lab, 0, a);
    teach(&mut lab, 0, b);
    lab.send(0, &sized(b, a, 60));
    assert_eq!(lab.receivers(&[]), [0; 0]);
    assert_eq!(lab.drops(0, Drop::L2SamePort), 1 + 2, "the two that taught went to themselves");
}

#[test]
fn link_local_groups_are_never_forwarded() {
    let mut lab = access_lab(3);
    for last in 0..=0x0f {
        lab.send(0, &sized(Mac::new([1, 0x80, 0xc2, 0, 0, last]), host(1), 60));
    }
    assert_eq!(lab.receivers(&[]), [0; 0]);
    assert_eq!(lab.drops(0, Drop::L2LinkLocal), 16);
}

#[test]
fn groups_after_the_link_local_ones_are_normal_multicast() {
    for last in [0x10, 0x21, 0xff] {
        let mut lab = access_lab(3);
        let frame = sized(Mac::new([1, 0x80, 0xc2, 0, 0, last]), host(1), 60);
        lab.send(0, &frame);
        assert_eq!(lab.receivers(&frame), [1, 2], "01:80:c2:00:00:{last:02x}");
    }
}

#[test]
fn a_flood_without_receivers_is_counted() {
    let mut lab = Lab::new(&[access(0), setup(1, Some(2), &[])]);
    lab.send(0, &sized(Mac::BROADCAST, host(1), 60));
    assert_eq!((lab.receivers(&[]), lab.drops(0, Drop::L2NoReceiver)), (vec![], 1));
}

#[test]
fn to_an_address_of_the_switch_itself_nothing_is_forwarded() {
    let mut lab = access_lab(3);
    lab.insert(host(9), 0, Kind::Local);
    lab.send(1, &sized(host(9), host(1), 60));
    assert_eq!((lab.receivers(&[]), lab.drops(1, Drop::L2Local)), (vec![], 1));
}

#[test]
fn order_is_kept_and_nothing_is_doubled() {
    let (a, b, _) = hosts();
    let mut lab = access_lab(3);
    teach(&mut lab, 1, b);
    let sent: Vec<_> = (60..560).map(|len| sized(b, a, len)).collect();
    for frame in &sent {
        lab.offer(0, frame);
    }
    lab.settle();
    assert_eq!(lab.take(1), sent);
    assert_eq!(lab.take(2).len(), 0);
    lab.assert_no_frame_lost();
}

#[test]
fn a_burst_floods_in_order_too() {
    let mut lab = access_lab(3);
    let sent: Vec<_> = (60..160).map(|len| sized(Mac::BROADCAST, host(1), len)).collect();
    for frame in &sent {
        lab.offer(0, frame);
    }
    lab.settle();
    assert_eq!((lab.take(1), lab.take(2)), (sent.clone(), sent));
    lab.assert_no_frame_lost();
}

#[test]
fn a_port_that_is_down_neither_receives_nor_sends() {
    let (a, b, _) = hosts();
    let mut lab = access_lab(3);
    teach(&mut lab, 1, b);
    lab.change(1, |port| port.forwarding = false);
    lab.send(1, &sized(a, b, 60));
    assert_eq!((lab.receivers(&[]), lab.drops(1, Drop::RxPortDown)), (vec![], 1));
    lab.send(0, &sized(b, a, 60));
    assert_eq!((lab.receivers(&[]), lab.drops(1, Drop::TxPortDown)), (vec![], 1));
    let flooded = sized(Mac::BROADCAST, a, 60);
    lab.send(0, &flooded);
    assert_eq!(lab.receivers(&flooded), [2]);
}
