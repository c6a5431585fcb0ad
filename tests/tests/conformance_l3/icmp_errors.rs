//! When an ICMP error is sent, when never, and what it looks like (RFC 1812 4.3, RFC 1122 3.2.2, RFC 4443 2.4).

use super::*;

/// Sends something that deserves an error but must not get one.
fn assert_untold(lab: &mut RouterLab, frame: &[u8]) {
    lab.send(0, frame);
    lab.assert_silent();
}

#[test]
fn never_about_an_icmp_error() {
    let mut lab = RouterLab::new(2);
    let mut frame = ping4(0, v4(1, 2), 1);
    for kind in [3, 4, 5, 11, 12] {
        frame[IP + 20] = kind;
        assert_untold(&mut lab, &frame);
    }
    frame[IP + 20] = 8;
    lab.send(0, &frame);
    assert_eq!(icmp(&lab.only(0)).kind, [11, 0], "an echo request is no error");
}

#[test]
fn never_about_a_fragment_but_the_first() {
    let mut lab = RouterLab::new(2);
    let fragment = |word: u16| {
        changed(udp4(0, v4(1, 2), 1, 32), |frame| frame[IP + 6..IP + 8].copy_from_slice(&word.to_be_bytes()))
    };
    assert_untold(&mut lab, &fragment(0x0010));
    assert_untold(&mut lab, &fragment(0x2010));
    lab.send(0, &fragment(0x2000));
    assert_eq!(icmp(&lab.only(0)).kind, [11, 0]);
}

#[test]
fn never_to_a_source_that_is_no_host() {
    let mut lab = RouterLab::new(2);
    for source in ["0.0.0.0", "127.0.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"] {
        assert_untold(&mut lab, &udp4_from(0, source.parse().unwrap(), v4(1, 2), 1, 8));
    }
}

#[test]
fn never_to_the_broadcast_address_of_a_subnet() {
    let mut lab = RouterLab::new(2);
    assert_untold(&mut lab, &udp4_from(0, v4(0, 255), v4(1, 2), 1, 8));
}

#[test]
fn never_about_a_group_or_broadcast() {
    let mut lab = RouterLab::new(2);
    for to in ["224.0.0.9", "255.255.255.255", "10.2.0.255"] {
        assert_untold(&mut lab, &udp4(0, to.parse().unwrap(), 1, 8));
    }
}

#[test]
fn never_about_a_packet_in_a_broadcast_frame() {
    let mut lab = RouterLab::new(2);
    let mut frame = udp4(0, v4(1, 2), 1, 8);
    frame[..6].copy_from_slice(&Mac::BROADCAST.octets());
    assert_untold(&mut lab, &frame);
}

#[test]
fn never_about_a_broken_packet() {
    let mut lab = RouterLab::new(2);
    let mut frame = udp4(0, v4(1, 2), 1, 8);
    frame[IP + 10] ^= 1;
    assert_untold(&mut lab, &frame);
}

#[test]
fn an_error_has_a_ttl_of_its_own_precedence_six_and_at_most_576_bytes() {
    let mut lab = RouterLab::new(2);
    lab.send(0, &udp4(0, v4(1, 2), 1, 1_400));
    let frame = lab.only(0);
    let error = icmp(&frame);
    assert!(error.header.time_to_live >= 64);
    assert_eq!((frame[IP + 1], error.header.total_len), (0xc0, 576));
}

#[test]
fn an_error_leaves_by_the_interface_it_speaks_for() {
    let mut lab = RouterLab::new(3);
    // The sender's address is behind port 2, though the packet came in by port 0.
    lab.send(0, &udp4_from(0, v4(2, 2), v4(1, 2), 1, 8));
    let error = icmp(&lab.only(2));
    assert_eq!((error.from, error.to), (v4(2, 1), v4(2, 2)));
}

#[test]
fn traceroute_gets_three_answers_at_each_hop() {
    let mut lab = RouterLab::new(2);
    for round in 0..5 {
        for _ in 0..3 {
            lab.offer(0, &udp4(0, v4(1, 2), 1, 8));
        }
        lab.settle();
        assert_eq!(lab.take(0).len(), 3, "round {round}");
        lab.advance_ms(1_000);
    }
}

#[test]
fn a_storm_is_answered_within_limits_and_others_still_get_theirs() {
    let mut lab = RouterLab::new(3);
    for _ in 0..50 {
        for _ in 0..40 {
            lab.offer(0, &udp4(0, v4(1, 2), 1, 8));
        }
        lab.settle();
        lab.advance_ms(20);
    }
    let answered = lab.take(0).len();
    assert!((10..200).contains(&answered), "{answered} answers to 2000 packets in five seconds");
    assert_eq!(lab.dropped(Drop::TtlExceeded), 2_000);
    lab.send(2, &udp4(2, v4(1, 2), 1, 8));
    assert_eq!(icmp(&lab.only(2)).kind, [11, 0]);
    lab.assert_no_frame_lost(0);
}

#[test]
fn a_port_where_nothing_listens_is_told_from_the_address_asked() {
    let mut lab = RouterLab::new(2);
    lab.send(0, &udp4(0, v4(1, 1), 64, 8));
    let error = icmp(&lab.only(0));
    assert_eq!((error.kind, error.from), ([3, 3], v4(1, 1)));
    lab.send(0, &udp6(0, v6(1, 1), 64, 8));
    let (from, _, kind, _, _) = icmp6(&lab.only(0));
    assert_eq!((kind, from), ([1, 4], v6(1, 1)));
}

#[test]
fn icmpv6_errors_quote_as_much_as_fits_1280_bytes() {
    let mut lab = RouterLab::new(2);
    let frame = udp6(0, v6(1, 2), 1, 1_400);
    lab.send(0, &frame);
    let error = lab.only(0);
    let (from, to, kind, _, quoted) = icmp6(&error);
    assert_eq!((from, to, kind, error.len()), (v6(0, 1), v6(0, 2), [3, 0], IP + 1_280));
    assert_eq!(quoted[..], frame[IP..IP + quoted.len()]);
}

#[test]
fn never_an_icmpv6_error_about_an_error_a_redirect_a_group_or_no_source() {
    let mut lab = RouterLab::new(2);
    let mut frame = ping6(0, v6(1, 2), 1);
    for kind in [1, 2, 3, 4, 127, 137] {
        frame[IP + 40] = kind;
        assert_untold(&mut lab, &frame);
    }
    assert_untold(&mut lab, &udp6(0, "ff0e::9".parse().unwrap(), 1, 8));
    assert_untold(&mut lab, &udp6_from(0, Ipv6Addr::UNSPECIFIED, v6(1, 2), 1, 8));
    assert_untold(&mut lab, &udp6_from(0, "ff02::1".parse().unwrap(), v6(1, 2), 1, 8));
    let mut group = udp6(0, v6(1, 2), 1, 8);
    group[..6].copy_from_slice(&[0x33, 0x33, 0, 0, 0, 1]);
    assert_untold(&mut lab, &group);
}
