//! What a port takes with it when it goes down, goes away or changes its domain.

use super::*;

#[test]
fn a_flushed_port_has_no_learned_addresses_and_keeps_its_static_ones() {
    let mut lab = access_lab(3);
    teach(&mut lab, 0, host(1));
    teach(&mut lab, 1, host(2));
    lab.insert(host(3), 0, Kind::Static);
    lab.flush(0);
    assert_eq!((lab.port_of(host(1)), lab.port_of(host(2)), lab.port_of(host(3))), (None, Some(1), Some(0)));
    assert_eq!(lab.fdb().port_len(port(0)), 0);
}

#[test]
fn what_is_to_leave_by_a_removed_port_is_dropped_and_counted() {
    let mut lab = access_lab(3);
    teach(&mut lab, 1, host(2));
    lab.detach(1);
    lab.send(0, &sized(host(2), host(1), 60));
    assert_eq!((lab.receivers(&[]), lab.drops(1, Drop::TxPortDown)), (vec![], 1));
    lab.assert_no_frame_lost();
}

#[test]
fn a_destination_port_that_left_the_domain_gets_nothing() {
    let mut lab = access_lab(3);
    teach(&mut lab, 1, host(2));
    lab.change(1, |port| port.native = Some(domain(2)));
    lab.send(0, &sized(host(2), host(1), 60));
    assert_eq!((lab.receivers(&[]), lab.drops(0, Drop::L2NotMember)), (vec![], 1));
}
