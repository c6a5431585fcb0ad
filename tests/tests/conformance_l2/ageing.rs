//! When an address is forgotten (802.1D 7.9.2).

use super::*;

#[test]
fn an_address_is_known_until_the_ageing_time_and_flooded_after() {
    let mut lab = access_lab(3);
    teach(&mut lab, 0, host(1));
    let frame = sized(host(1), host(2), 60);
    lab.advance_s(300);
    lab.send(1, &frame);
    assert_eq!(lab.receivers(&frame), [0]);
    lab.advance_s(1);
    lab.send(1, &frame);
    assert_eq!(lab.receivers(&frame), [0, 2], "also before a sweep removed it");
}

#[test]
fn traffic_from_an_address_refreshes_it() {
    let mut lab = access_lab(3);
    teach(&mut lab, 0, host(1));
    for _ in 0..3 {
        lab.advance_s(250);
        lab.send(0, &sized(Mac::BROADCAST, host(1), 60));
    }
    lab.clear();
    lab.advance_s(250);
    let frame = sized(host(1), host(2), 60);
    lab.send(1, &frame);
    assert_eq!(lab.receivers(&frame), [0]);
}

#[test]
fn traffic_to_an_address_does_not_refresh_it() {
    let mut lab = access_lab(3);
    teach(&mut lab, 0, host(1));
    let frame = sized(host(1), host(2), 60);
    for _ in 0..3 {
        lab.advance_s(100);
        lab.send(1, &frame);
        assert_eq!(lab.receivers(&frame), [0]);
    }
    lab.advance_s(1);
    lab.send(1, &frame);
    assert_eq!(lab.receivers(&frame), [0, 2]);
}

#[test]
fn each_domain_has_its_own_ageing_time() {
    let mut lab = Lab::new(&[setup(0, Some(1), &[(20, 2)]), setup(1, Some(1), &[(20, 2)]), access(2)]);
    lab.config.domains[1].1 = 10;
    lab.apply();
    lab.send(0, &sized(Mac::BROADCAST, host(1), 60));
    lab.send(0, &tagged(&sized(Mac::BROADCAST, host(1), 60), 20));
    lab.clear();
    lab.advance_s(11);
    lab.send(1, &sized(host(1), host(2), 60));
    lab.send(1, &tagged(&sized(host(1), host(2), 60), 20));
    assert_eq!((lab.take(0).len(), lab.stats(1).flooded.get()), (2, 1));
}

#[test]
fn static_and_sticky_entries_do_not_age() {
    let mut lab = access_lab(3);
    for (number, kind) in [(1, Kind::Static), (2, Kind::Sticky)] {
        lab.insert(host(number), 0, kind);
        lab.advance_s(1_000_000);
        let frame = sized(host(number), host(9), 60);
        lab.send(1, &frame);
        assert_eq!(lab.receivers(&frame), [0]);
    }
}
