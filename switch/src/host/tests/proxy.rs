//! Answers for hosts behind other interfaces: RFC 1027, RFC 4861 7.2.8.

use super::frames::{Nd, arp_request, read_arp, read_nd};
use super::*;

const PROXY: RouterFlags = RouterFlags { proxy: true, ..FLAGS };

fn host(last: u8) -> [u8; 4] {
    [10, 0, 1, last]
}

/// Routes to 172.16/12 by domain 2 and back, to nowhere, and by a group of next hops.
fn bed(flags: RouterFlags) -> Bed {
    let mut bed = Bed::bare(HostSettings::default(), 4_096);
    let away = bed.host.hold(key(2, "10.0.2.9")).unwrap();
    let back = bed.host.hold(key(1, "10.0.1.9")).unwrap();
    bed.route("172.16.0.0/16", NextHop::Gateway(away));
    bed.route("172.17.0.0/16", NextHop::Gateway(back));
    bed.route("172.18.0.0/16", NextHop::Blackhole);
    bed.route("172.19.0.0/16", NextHop::Unreachable);
    let member = NextHopId::new(1).unwrap();
    bed.shared.router().next_hops.set_group(3, &[member; crate::limits::GROUP_SLOTS]);
    bed.route("172.20.0.0/16", NextHop::Group(3));
    bed.route("2001:db8:16::/48", NextHop::Gateway(away));
    bed.route("2001:db8:17::/48", NextHop::Gateway(back));
    bed.configure(vec![interface(1, flags), interface(2, FLAGS)]);
    bed.pass(60_000);
    bed.sent();
    bed
}

fn is_answered(bed: &mut Bed, sender: [u8; 4], target: [u8; 4]) -> bool {
    bed.hear(1, &arp_request(mac(5), sender, target));
    let sent = bed.sent();
    assert!(sent.len() <= 1);
    sent.first().is_some_and(|(_, bytes)| {
        assert_eq!(read_arp(bytes), (mac(5), 2, (OWN, target), (mac(5), sender)));
        true
    })
}

#[test]
fn hosts_behind_another_interface_are_answered_for_with_our_mac_address() {
    let mut bed = bed(PROXY);
    for target in [[10, 0, 2, 7], [10, 0, 2, 1], [172, 16, 3, 3], [172, 20, 3, 3]] {
        assert!(is_answered(&mut bed, host(5), target), "{target:?}");
    }
    assert_eq!(bed.host.counters().proxied, 4);
    assert_eq!(bed.host.neighbours_len(), 2, "nobody is added: the next hops alone");
}

#[test]
fn hosts_of_the_same_subnet_are_never_answered_for() {
    let mut bed = bed(PROXY);
    bed.route("10.0.1.128/25", NextHop::Connected(domain(2)));
    bed.configure(vec![interface(1, PROXY), interface(2, FLAGS)]);
    bed.pass(10_000);
    bed.sent();
    assert!(!is_answered(&mut bed, host(5), host(6)));
    assert!(!is_answered(&mut bed, host(5), host(200)), "not even if a route says otherwise");
}

#[test]
fn what_leads_back_or_nowhere_is_not_answered_for() {
    let mut bed = bed(PROXY);
    for target in [[172, 17, 3, 3], [172, 18, 3, 3], [172, 19, 3, 3], [192, 0, 2, 1]] {
        assert!(!is_answered(&mut bed, host(5), target), "{target:?}");
    }
}

#[test]
fn broadcast_and_multicast_addresses_are_not_answered_for() {
    let mut bed = bed(PROXY);
    bed.route("0.0.0.0/0", NextHop::Connected(domain(2)));
    bed.configure(vec![interface(1, PROXY), interface(2, FLAGS)]);
    bed.pass(10_000);
    bed.sent();
    for target in [host(255), [255; 4], [224, 0, 0, 5], [127, 0, 0, 1], [0; 4], [240, 0, 0, 1]] {
        assert!(!is_answered(&mut bed, host(5), target), "{target:?}");
    }
    assert!(is_answered(&mut bed, host(5), [192, 0, 2, 1]));
}

#[test]
fn probes_and_announcements_are_not_answered_for() {
    let mut bed = bed(PROXY);
    assert!(!is_answered(&mut bed, [0; 4], [172, 16, 3, 3]));
    assert!(!is_answered(&mut bed, [172, 16, 3, 3], [172, 16, 3, 3]));
}

#[test]
fn without_the_switch_nobody_is_answered_for() {
    let mut bed = bed(FLAGS);
    assert!(!is_answered(&mut bed, host(5), [10, 0, 2, 7]));
    bed.hear(1, &Nd::solicitation(5, "2001:db8:0:1::5", "2001:db8:16::7").frame());
    assert!(bed.sent().is_empty());
}

#[test]
fn solicitations_are_answered_for_without_the_override_flag() {
    let mut bed = bed(PROXY);
    for target in ["2001:db8:16::7", "2001:db8:0:2::7"] {
        bed.hear(1, &Nd::solicitation(5, "2001:db8:0:1::5", target).frame());
        let said = read_nd(&bed.sent_one().1);
        assert_eq!((said.kind, said.flags, said.target), (136, 0xc0, target.parse().unwrap()));
        assert_eq!((said.option, said.src_mac, said.dst_mac), (Some((2, OWN)), OWN, mac(5)));
        assert!(said.src.is_unicast_link_local());
    }
    for target in ["2001:db8:17::7", "2001:db8:18::7", "2001:db8:0:1::7", "fe80::7"] {
        bed.hear(1, &Nd::solicitation(5, "2001:db8:0:1::5", target).frame());
        assert!(bed.sent().is_empty(), "{target}");
    }
    bed.hear(1, &Nd::probe(5, "2001:db8:16::7").frame());
    assert!(bed.sent().is_empty(), "duplicate address detection is between hosts");
}

#[test]
fn a_sender_that_a_route_puts_on_the_link_is_added() {
    let mut bed = bed(FLAGS);
    bed.route("192.0.2.0/24", NextHop::Connected(domain(1)));
    bed.configure(vec![interface(1, FLAGS), interface(2, FLAGS)]);
    bed.pass(10_000);
    bed.sent();
    bed.hear(1, &arp_request(mac(5), [192, 0, 2, 5], [10, 0, 1, 1]));
    assert_eq!(bed.state(1, "192.0.2.5"), Some((State::Stale, Some(mac(5)))));
    bed.sent();
}
