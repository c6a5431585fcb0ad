//! What happens when a station appears on another port.

use super::*;

#[test]
fn the_next_frame_uses_the_new_port_only() {
    let mut lab = access_lab(4);
    teach(&mut lab, 0, host(1));
    lab.send(3, &sized(Mac::BROADCAST, host(1), 60));
    lab.clear();
    let frame = sized(host(1), host(2), 60);
    lab.send(1, &frame);
    assert_eq!(lab.receivers(&frame), [3]);
    assert_eq!((lab.stats(3).moved.get(), lab.stats(3).learned.get()), (1, 0));
    assert_eq!((lab.fdb().port_len(port(0)), lab.fdb().port_len(port(3))), (0, 1));
}

#[test]
fn a_station_moves_only_where_there_is_room() {
    let mut lab = access_lab(3);
    teach(&mut lab, 0, host(1));
    lab.change(1, |port| port.mac_limit = 0);
    lab.send(1, &sized(Mac::BROADCAST, host(1), 60));
    assert_eq!((lab.port_of(host(1)), lab.stats(1).learn_refused.get()), (Some(0), 1));
}

#[test]
fn static_sticky_and_local_entries_do_not_move() {
    let mut lab = access_lab(3);
    for (number, kind) in [(1, Kind::Static), (2, Kind::Sticky), (3, Kind::Local)] {
        lab.insert(host(number), 0, kind);
        lab.send(1, &sized(Mac::BROADCAST, host(number), 60));
        assert_eq!(lab.port_of(host(number)), Some(0), "{kind:?}");
    }
    assert_eq!((lab.stats(1).moved.get(), lab.stats(1).learned.get()), (0, 0));
}
