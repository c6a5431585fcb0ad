//! Routing tables apart: what is in one VRF does not exist in another.

use super::*;
use switch::ids::VrfId;

/// Ports 0 and 1 in the default VRF, 2 and 3 in another, where 3 has the same addresses as 1.
fn lab() -> RouterLab {
    RouterLab::with(4, |setup, interface| {
        let index = setup.id.index();
        if index >= 2 {
            interface.vrf = VrfId::new(1).unwrap();
        }
        if index == 3 {
            interface.ipv4 = vec![(v4(1, 1), 24)];
            interface.ipv6 = vec![(v6(1, 1), 64)];
        }
    })
}

#[test]
fn a_vrf_never_leaks_into_another() {
    let mut lab = lab();
    let frame = udp4(0, v4(2, 2), 64, 8);
    lab.send(0, &frame);
    assert_eq!(icmp(&lab.only(0)).kind, [3, 0], "the other VRF's subnet does not exist here");
    lab.send(0, &udp6(0, v6(2, 2), 64, 8));
    assert_eq!(icmp6(&lab.only(0)).2, [1, 0]);
    // Nor do its addresses.
    lab.send(0, &ping4(0, v4(2, 1), 64));
    assert_eq!(icmp(&lab.only(0)).kind, [3, 0]);
}

#[test]
fn the_same_subnet_may_be_in_two_vrfs() {
    let mut lab = lab();
    for (port, domain) in [(1, 2), (3, 4)] {
        let key = switch::table::neighbour::NeighbourKey::new(tests::lab::domain(domain), v4(1, 2).into());
        lab.host.add_neighbour(key, station(port)).unwrap();
    }
    for (from, to) in [(0, 1), (2, 3)] {
        let frame = udp4(from, v4(1, 2), 64, 8);
        lab.send(from, &frame);
        assert_eq!(lab.only(to), routed4(&frame, to));
        lab.send(from, &ping4(from, v4(1, 1), 64));
        assert_eq!(icmp(&lab.only(from)).from, v4(1, 1));
    }
}
