//! Port isolation and the switches for flooding.

use super::*;

#[test]
fn isolated_ports_do_not_reach_each_other() {
    let mut lab = access_lab(3);
    lab.change(0, |port| port.flags.isolated = true);
    lab.change(1, |port| port.flags.isolated = true);
    let broadcast = sized(Mac::BROADCAST, host(1), 60);
    lab.send(0, &broadcast);
    assert_eq!(lab.receivers(&broadcast), [2]);
    teach(&mut lab, 1, host(2));
    lab.send(0, &sized(host(2), host(1), 60));
    assert_eq!((lab.receivers(&[]), lab.drops(0, Drop::L2Isolated)), (vec![], 1));
    let inward = sized(host(2), host(3), 60);
    lab.send(2, &inward);
    assert_eq!(lab.receivers(&inward), [1], "others reach them");
    let outward = sized(host(3), host(2), 60);
    lab.send(1, &outward);
    assert_eq!(lab.receivers(&outward), [2], "and they reach others");
}

#[test]
fn each_kind_of_flooding_can_be_kept_from_a_port() {
    type Set = fn(&mut switch::table::snapshot::PortFlags);
    let unicast: Set = |flags| flags.flood_unicast = false;
    let broadcast: Set = |flags| flags.flood_broadcast = false;
    let multicast: Set = |flags| flags.flood_multicast = false;
    let group = Mac::new([1, 0, 0x5e, 0, 0, 1]);
    let classes = [(host(9), unicast), (Mac::BROADCAST, broadcast), (group, multicast)];
    for (kept, (_, set)) in classes.iter().enumerate() {
        let mut lab = access_lab(3);
        lab.change(1, |port| set(&mut port.flags));
        for (class, (dst, _)) in classes.iter().enumerate() {
            let frame = sized(*dst, host(1), 60);
            lab.send(0, &frame);
            let expected: &[usize] = if class == kept { &[2] } else { &[1, 2] };
            assert_eq!(lab.receivers(&frame), expected, "switch {kept}, class {class}");
        }
    }
}

#[test]
fn known_unicast_reaches_a_port_that_takes_no_flood() {
    let mut lab = access_lab(3);
    lab.change(1, |port| port.flags.flood_unicast = false);
    teach(&mut lab, 1, host(2));
    let frame = sized(host(2), host(1), 60);
    lab.send(0, &frame);
    assert_eq!(lab.receivers(&frame), [1]);
}
