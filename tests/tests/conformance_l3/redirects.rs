//! When a sender is told of a better way (RFC 1812 5.2.7.2, RFC 4861 8.2).

use switch::table::fdb::{Entry, Kind, MacKey};
use switch::table::neighbour::NeighbourKey;

use super::*;

/// Another router on the subnet of port 0, whose MAC address is known.
const OTHER: u8 = 2;

fn lab() -> RouterLab {
    let mut lab = RouterLab::new(2);
    let hop = lab.via(0, v4(0, OTHER).into());
    lab.route4(0, "198.51.100.0/24", hop);
    lab
}

fn from_neighbour(source: Ipv4Addr) -> Vec<u8> {
    udp4_from(0, source, Ipv4Addr::new(198, 51, 100, 7), 64, 8)
}

/// What left through port 0, ICMP redirects apart.
fn split(lab: &mut RouterLab) -> (Vec<Vec<u8>>, Vec<Icmp>) {
    let (redirects, rest): (Vec<_>, Vec<_>) =
        lab.take(0).into_iter().partition(|frame| frame[IP + 9] == 1 && frame[IP + 20] == 5);
    (rest, redirects.iter().map(|frame| icmp(frame)).collect())
}

/// Makes 10.1.0.3 a known neighbour.
fn know(lab: &mut RouterLab) {
    let key = NeighbourKey::new(tests::lab::domain(1), v4(0, 3).into());
    lab.host.add_neighbour(key, Mac::new([2, 0, 0, 0, 0, 0x33])).unwrap();
}

#[test]
fn a_sender_on_the_next_hop_s_subnet_is_redirected_and_its_packet_forwarded() {
    let mut lab = lab();
    know(&mut lab);
    let frame = from_neighbour(v4(0, 3));
    lab.send(0, &frame);
    let (forwarded, redirects) = split(&mut lab);
    assert_eq!(forwarded, [routed4(&frame, 0)]);
    assert_eq!(redirects.len(), 1);
    let redirect = &redirects[0];
    assert_eq!((redirect.kind, redirect.from, redirect.to), ([5, 1], v4(0, 1), v4(0, 3)));
    assert_eq!(Ipv4Addr::from(redirect.word), v4(0, OTHER));
}

#[test]
fn a_sender_of_another_subnet_is_not_redirected() {
    let mut lab = lab();
    let frame = from_neighbour(v4(1, 9));
    lab.send(0, &frame);
    let (forwarded, redirects) = split(&mut lab);
    assert_eq!((forwarded, redirects.len()), (vec![routed4(&frame, 0)], 0));
}

#[test]
fn a_packet_that_leaves_by_another_interface_causes_no_redirect() {
    let mut lab = lab();
    know(&mut lab);
    lab.send(0, &udp4_from(0, v4(0, 3), v4(1, 2), 64, 8));
    lab.only(1);
}

#[test]
fn an_interface_may_be_told_not_to_redirect() {
    let mut lab = lab();
    know(&mut lab);
    lab.interfaces[0].flags.redirects = false;
    lab.apply();
    lab.send(0, &from_neighbour(v4(0, 3)));
    let (forwarded, redirects) = split(&mut lab);
    assert_eq!((forwarded.len(), redirects.len()), (1, 0));
}

/// Two hosts of one subnet behind two ports of one bridge, one asked for by way of the router.
#[test]
fn isolated_ports_reach_each_other_by_the_router_which_does_not_redirect_them() {
    for isolated in [[false, false], [true, false], [false, true], [true, true]] {
        let mut lab = RouterLab::with(3, |setup, _| match setup.id.index() {
            0 => setup.flags.isolated = isolated[0],
            2 => (setup.flags.isolated, setup.native) = (isolated[1], Some(tests::lab::domain(1))),
            _ => {}
        });
        let key = MacKey::new(tests::lab::domain(1), station(2));
        let entry = Entry { key, port: tests::lab::port(2), kind: Kind::Static, stamp_s: 0 };
        lab.shared().fdb().insert(entry).unwrap();
        let key = NeighbourKey::new(tests::lab::domain(1), v4(0, 9).into());
        lab.host.add_neighbour(key, station(2)).unwrap();
        let frame = udp4(0, v4(0, 9), 64, 8);
        let mut direct = frame.clone();
        direct[..6].copy_from_slice(&station(2).octets());
        lab.send(0, &direct);
        let both = isolated == [true, true];
        assert_eq!((lab.take(2).len(), lab.dropped(Drop::L2Isolated)), if both { (0, 1) } else { (1, 0) });
        lab.send(0, &frame);
        let expected = changed(frame.clone(), |frame| {
            frame[..6].copy_from_slice(&station(2).octets());
            frame[6..12].copy_from_slice(&gateway(0).octets());
            frame[IP + 8] -= 1;
        });
        assert_eq!(lab.take(2), [expected]);
        let (rest, redirects) = split(&mut lab);
        assert_eq!((rest.len(), redirects.len()), (0, usize::from(!both)), "isolated: {isolated:?}");
    }
}

#[test]
fn redirects_keep_within_limits() {
    let mut lab = lab();
    know(&mut lab);
    for _ in 0..1_000 {
        lab.offer(0, &from_neighbour(v4(0, 3)));
    }
    lab.settle();
    let (forwarded, redirects) = split(&mut lab);
    assert_eq!(forwarded.len(), 1_000);
    assert!((1..=32).contains(&redirects.len()), "{}", redirects.len());
}

#[test]
fn packets_of_senders_who_cannot_be_told_use_up_no_allowance() {
    let mut lab = lab();
    know(&mut lab);
    for _ in 0..1_000 {
        // Of another subnet, and the better router itself.
        lab.offer(0, &from_neighbour(v4(1, 9)));
        lab.offer(0, &from_neighbour(v4(0, OTHER)));
    }
    lab.settle();
    assert_eq!(split(&mut lab).1.len(), 0);
    lab.send(0, &from_neighbour(v4(0, 3)));
    assert_eq!(split(&mut lab).1.len(), 1, "in the same second");
}

#[test]
fn an_ipv6_sender_is_redirected_to_the_destination_on_its_own_link() {
    let mut lab = RouterLab::new(2);
    let key = NeighbourKey::new(tests::lab::domain(1), v6(0, 3).into());
    lab.host.add_neighbour(key, Mac::new([2, 0, 0, 0, 0, 0x33])).unwrap();
    lab.send(0, &udp6_from(0, v6(0, 3), v6(0, 2), 64, 8));
    let sent = lab.take(0);
    assert_eq!(sent.len(), 2);
    let redirect = sent.iter().find(|frame| frame[IP + 6] == 58).expect("a redirect");
    let (from, to, kind, _, rest) = icmp6(redirect);
    assert!(from.is_unicast_link_local() && to == v6(0, 3) && kind == [137, 0]);
    assert_eq!((&rest[..16], &rest[16..32]), (&v6(0, 2).octets()[..], &v6(0, 2).octets()[..]));
    assert_eq!(redirect[IP + 7], 255);
}
