//! What happens to an IPv6 packet on its way through (RFC 8200, RFC 4291, RFC 4443).

use super::*;

#[test]
fn a_packet_goes_on_with_its_hop_limit_counted_down_and_nothing_else_changed() {
    let mut lab = RouterLab::new(2);
    for hop_limit in [2, 255] {
        let frame = udp6(0, v6(1, 2), hop_limit, 30);
        lab.send(0, &frame);
        assert_eq!(lab.only(1), routed6(&frame, 1));
    }
    assert_eq!(lab.drops(), []);
}

#[test]
fn a_hop_limit_that_runs_out_is_told_to_the_sender() {
    let mut lab = RouterLab::new(2);
    for hop_limit in [0, 1] {
        let frame = udp6(0, v6(1, 2), hop_limit, 30);
        lab.send(0, &frame);
        let (from, to, kind, _, quoted) = icmp6(&lab.only(0));
        assert_eq!((from, to, kind), (v6(0, 1), v6(0, 2), [3, 0]));
        assert_eq!(quoted, frame[IP..]);
    }
}

#[test]
fn the_router_answers_echo_on_each_of_its_addresses_whatever_the_hop_limit() {
    let mut lab = RouterLab::new(2);
    for (to, hop_limit) in [(v6(0, 1), 64), (v6(1, 1), 1), (v6(0, 1), 0)] {
        lab.send(0, &ping6(0, to, hop_limit));
        let (from, _, kind, _, _) = icmp6(&lab.only(0));
        assert_eq!((from, kind), (to, [129, 0]));
    }
}

#[test]
fn another_version_or_a_length_beyond_the_link_s_is_dropped() {
    let mut lab = RouterLab::new(2);
    let frame = udp6(0, v6(1, 2), 64, 8);
    let mut version = frame.clone();
    version[IP] = 0x45;
    assert_dropped(&mut lab, &version, Drop::IpMalformed);
    assert_dropped(&mut lab, &frame[..frame.len() - 1], Drop::IpMalformed);
    assert_dropped(&mut lab, &frame[..IP + 39], Drop::IpMalformed);
}

#[test]
fn padding_of_the_link_is_not_forwarded() {
    let mut lab = RouterLab::new(2);
    let frame = udp6(0, v6(1, 2), 64, 2);
    let mut padded = frame.clone();
    padded.resize(frame.len() + 7, 0xee);
    lab.send(0, &padded);
    assert_eq!(lab.only(1), routed6(&frame, 1));
}

#[test]
fn unspecified_loopback_and_group_addresses_are_not_forwarded() {
    let mut lab = RouterLab::new(2);
    for address in ["::", "::1", "ff02::5", "ff0e::1"] {
        let address = address.parse().unwrap();
        assert_dropped(&mut lab, &udp6_from(0, address, v6(1, 2), 64, 8), Drop::IpMartian);
        assert_dropped(&mut lab, &udp6(0, address, 64, 8), Drop::IpMartian);
    }
}

/// An echo request to a group in a frame to the router alone, or in one to the group.
fn ping_group(source: Ipv6Addr, group: &str, alone: bool) -> Vec<u8> {
    let group: Ipv6Addr = group.parse().unwrap();
    let mut frame = ping6(0, group, 64);
    frame[IP + 8..IP + 24].copy_from_slice(&source.octets());
    let sum = checksum::sum(&frame[IP + 8..IP + 40]);
    let message = [&frame[IP + 40..IP + 42], &[0, 0], &frame[IP + 44..]].concat();
    let sum = u64::from(sum) + 58 + message.len() as u64 + u64::from(checksum::sum(&message));
    frame[IP + 42..IP + 44].copy_from_slice(&(!checksum::fold(sum)).to_be_bytes());
    if !alone {
        let [.., a, b, c, d] = group.octets();
        frame[..6].copy_from_slice(&[0x33, 0x33, a, b, c, d]);
    }
    frame
}

#[test]
fn the_router_hears_its_groups_in_frames_to_all_and_to_itself() {
    let mut lab = RouterLab::new(2);
    for alone in [true, false] {
        for group in ["ff02::1", "ff02::2", "ff05::2", "ff02::1:ff00:1"] {
            lab.send(0, &ping_group(v6(0, 2), group, alone));
            let (from, to, kind, _, _) = icmp6(&lab.only(0));
            assert_eq!((from, to, kind), (v6(0, 1), v6(0, 2), [129, 0]), "{group}");
        }
        for group in ["ff02::fb", "ff0e::1", "ff02::1:ff00:2", "ff01::1"] {
            lab.send(0, &ping_group(v6(0, 2), group, alone));
            lab.assert_silent();
        }
        for source in ["::1", "ff02::1", "::"] {
            lab.send(0, &ping_group(source.parse().unwrap(), "ff02::1", alone));
            lab.assert_silent();
        }
    }
    assert_eq!(lab.dropped(Drop::IpMartian), 4 + 2);
}

#[test]
fn duplicate_address_detection_in_a_frame_to_the_router_is_heard() {
    let mut lab = RouterLab::new(2);
    let mut frame = ping_group(Ipv6Addr::UNSPECIFIED, "ff02::1:ff00:1", true);
    frame.truncate(IP + 40);
    frame.extend([135, 0, 0, 0, 0, 0, 0, 0]);
    frame.extend(v6(0, 1).octets());
    frame[IP + 5] = 24;
    frame[IP + 7] = 255;
    let sum = u64::from(checksum::sum(&frame[IP + 8..])) + 58 + 24;
    frame[IP + 42..IP + 44].copy_from_slice(&(!checksum::fold(sum)).to_be_bytes());
    lab.send(0, &frame);
    let (from, to, kind, _, _) = icmp6(&lab.only(0));
    assert_eq!((from, to, kind), (v6(0, 1), "ff02::1".parse().unwrap(), [136, 0]));
}

#[test]
fn a_link_local_destination_never_leaves_its_link() {
    let mut lab = RouterLab::new(2);
    assert_dropped(&mut lab, &udp6(0, "fe80::99".parse().unwrap(), 64, 8), Drop::IpMartian);
}

#[test]
fn a_link_local_source_is_told_beyond_scope() {
    let mut lab = RouterLab::new(2);
    let source: Ipv6Addr = "fe80::ff:fe00:1".parse().unwrap();
    let key = switch::table::neighbour::NeighbourKey::new(tests::lab::domain(1), source.into());
    lab.host.add_neighbour(key, station(0)).unwrap();
    lab.send(0, &udp6_from(0, source, v6(1, 2), 64, 8));
    let (_, to, kind, _, _) = icmp6(&lab.only(0));
    assert_eq!((to, kind), (source, [1, 2]));
}

#[test]
fn without_a_route_the_sender_is_told_no_route() {
    let mut lab = RouterLab::new(2);
    lab.send(0, &udp6(0, "2001:db8::1".parse().unwrap(), 64, 8));
    assert_eq!(icmp6(&lab.only(0)).2, [1, 0]);
    lab.route6(0, "2001:db8::/33", NextHop::Unreachable);
    lab.route6(0, "2001:db8:8000::/33", NextHop::Prohibited);
    for (to, kind) in [("2001:db8::1", [1, 3]), ("2001:db8:8000::1", [1, 1])] {
        lab.send(0, &udp6(0, to.parse().unwrap(), 64, 8));
        assert_eq!(icmp6(&lab.only(0)).2, kind);
    }
}

#[test]
fn a_neighbour_that_does_not_answer_is_told_address_unreachable_after_three_questions() {
    let mut lab = RouterLab::new(2);
    lab.send(0, &udp6(0, v6(1, 9), 64, 8));
    lab.advance_ms(4_000);
    let asked = lab.take(1);
    assert_eq!(asked.len(), 3);
    assert_eq!(asked[0][..6], [0x33, 0x33, 0xff, 0, 0, 9], "the solicited-node group");
    let told = lab.take(0);
    assert_eq!((told.len(), icmp6(&told[0]).2), (1, [1, 3]));
    lab.assert_no_frame_lost(0);
}

#[test]
fn extension_headers_are_passed() {
    let mut lab = RouterLab::new(2);
    // Hop-by-hop with padding, destination options, a routing header, an unknown one.
    for next in [0, 60, 43, 253] {
        let mut frame = udp6(0, v6(1, 2), 64, 8);
        frame.splice(IP + 40..IP + 40, [17, 0, 1, 4, 0, 0, 0, 0]);
        frame[IP + 6] = next;
        let len = (frame.len() - IP - 40) as u16;
        frame[IP + 4..IP + 6].copy_from_slice(&len.to_be_bytes());
        lab.send(0, &frame);
        assert_eq!(lab.only(1), routed6(&frame, 1), "next header {next}");
    }
}

/// An echo request to the router behind an extension header, and what comes of it.
fn ping_behind(lab: &mut RouterLab, kind: u8, rest: &[u8]) -> Option<([u8; 2], u32, Vec<u8>)> {
    let mut frame = ping6(0, v6(0, 1), 64);
    let next = std::mem::replace(&mut frame[IP + 6], kind);
    frame.splice(IP + 40..IP + 40, [&[next], rest].concat());
    frame[IP + 5] += 1 + rest.len() as u8;
    lab.send(0, &frame);
    let answers = lab.take(0);
    assert!(answers.len() <= 1);
    let (_, _, kind, word, rest) = icmp6(answers.first()?);
    assert!(kind == [129, 0] || rest == frame[IP..], "an error quotes the packet as it came");
    Some((kind, word, rest))
}

#[test]
fn the_router_looks_behind_the_extension_headers_of_packets_to_itself() {
    let mut lab = RouterLab::new(2);
    for (kind, rest) in [(0, [0, 1, 4, 0, 0, 0, 0]), (60, [0, 0, 0x1e, 3, 0, 0, 0]), (43, [0, 4, 0, 0, 0, 0, 0])] {
        let (told, _, rest) = ping_behind(&mut lab, kind, &rest).expect("an answer");
        assert_eq!((told, &rest[..]), ([129, 0], &b"data"[..]), "{kind}");
    }
    let told = |answer: Option<([u8; 2], u32, Vec<u8>)>| answer.map(|(kind, word, _)| (kind, word));
    let route = [0, 0, 1, 0, 0, 0, 0];
    assert_eq!(told(ping_behind(&mut lab, 43, &route)), Some(([4, 0], 42)), "a route that goes on");
    for (option, answer) in [(0x5e, None), (0x9e, Some(([4, 2], 42))), (0xde, Some(([4, 2], 42)))] {
        assert_eq!(told(ping_behind(&mut lab, 60, &[0, option, 4, 0, 0, 0, 0])), answer, "{option:x}");
    }
}

#[test]
fn a_jumbogram_is_dropped() {
    let mut lab = RouterLab::new(2);
    let mut frame = udp6(0, v6(1, 2), 64, 8);
    frame[IP + 4..IP + 7].fill(0);
    assert_dropped(&mut lab, &frame, Drop::IpMalformed);
}
