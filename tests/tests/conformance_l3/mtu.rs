//! Packets larger than the way (RFC 791, RFC 1191, RFC 8201, RFC 9293 3.7.1).

use super::*;

/// Port 1 takes 1000 bytes only, by its interface or by the port itself.
fn narrow(by_port: bool) -> RouterLab {
    RouterLab::with(3, |setup, interface| {
        if setup.id.index() == 1 && by_port {
            setup.mtu = 1_000;
        } else if setup.id.index() == 1 {
            interface.mtu = 1_000;
        } else {
            (setup.mtu, interface.mtu) = (9_000, 9_000);
        }
    })
}

fn dont_fragment(frame: Vec<u8>) -> Vec<u8> {
    changed(frame, |frame| frame[IP + 6] |= 0x40)
}

/// etherparse sets "don't fragment".
fn may_fragment(frame: Vec<u8>) -> Vec<u8> {
    changed(frame, |frame| frame[IP + 6] &= !0x40)
}

#[test]
fn a_packet_that_must_not_be_fragmented_is_told_the_next_hop_s_mtu() {
    for by_port in [false, true] {
        let mut lab = narrow(by_port);
        let fits = dont_fragment(udp4(0, v4(1, 2), 64, 972));
        lab.send(0, &fits);
        assert_eq!(lab.only(1), routed4(&fits, 1));
        lab.send(0, &dont_fragment(udp4(0, v4(1, 2), 64, 973)));
        let error = icmp(&lab.only(0));
        assert_eq!((error.kind, error.word), ([3, 4], 1_000));
        assert_eq!(lab.dropped(Drop::PacketTooBig), 1);
    }
}

#[test]
fn a_packet_that_may_be_fragmented_arrives_in_fragments() {
    for by_port in [false, true] {
        let mut lab = narrow(by_port);
        let frame = may_fragment(udp4(0, v4(1, 2), 64, 8_000));
        lab.send(0, &frame);
        let pieces = lab.take(1);
        assert_eq!(pieces.len(), 9, "{:?}", lab.drops());
        let mut payload = Vec::new();
        for (number, piece) in pieces.iter().enumerate() {
            let (header, rest) = Ipv4Header::from_slice(&piece[IP..]).unwrap();
            assert_eq!(header.calc_header_checksum(), header.header_checksum);
            assert!(piece.len() <= IP + 1_000 && header.time_to_live == 63);
            assert_eq!(usize::from(header.fragment_offset.value()) * 8, payload.len());
            assert_eq!(header.more_fragments, number + 1 < pieces.len());
            assert_eq!(piece[..12], sent_on(&frame, 1)[..12]);
            payload.extend_from_slice(rest);
        }
        assert_eq!(payload, frame[IP + 20..]);
        lab.assert_silent();
        lab.assert_no_frame_lost(0);
    }
}

#[test]
fn a_fragmented_packet_has_a_whole_transport_checksum() {
    let mut lab = narrow(false);
    let whole = may_fragment(udp4(0, v4(1, 2), 64, 3_000));
    let mut partial = whole.clone();
    let words = whole[IP + 12..IP + 20].chunks(2).map(|word| u64::from(u16::from_be_bytes([word[0], word[1]])));
    let sum = checksum::fold(words.sum::<u64>() + 17 + 3_008);
    partial[IP + 26..IP + 28].copy_from_slice(&sum.to_be_bytes());
    lab.send(0, &partial);
    let payload: Vec<u8> = lab.take(1).iter().flat_map(|piece| piece[IP + 20..].to_vec()).collect();
    assert_eq!(payload, whole[IP + 20..]);
}

#[test]
fn an_ipv6_packet_is_never_fragmented() {
    let mut lab = RouterLab::with(2, |setup, interface| {
        let mtu = if setup.id.index() == 1 { 1_400 } else { 9_000 };
        (setup.mtu, interface.mtu) = (mtu, mtu);
    });
    lab.send(0, &udp6(0, v6(1, 2), 64, 1_400 - 48));
    lab.only(1);
    lab.send(0, &udp6(0, v6(1, 2), 64, 1_401 - 48));
    let (from, _, kind, mtu, _) = icmp6(&lab.only(0));
    assert_eq!((from, kind, mtu), (v6(0, 1), [2, 0], 1_400));
}

/// Octets of the first IPv6 packet of an own answer, their number, and the identification if they are fragments.
fn answer6(lab: &mut RouterLab, source: Ipv6Addr, payload: usize) -> (usize, usize, Option<[u8; 4]>) {
    let builder = PacketBuilder::ethernet2(station(0).octets(), gateway(0).octets());
    let mut frame = Vec::new();
    let builder = builder.ipv6(source.octets(), v6(0, 1).octets(), 64).icmpv6_echo_request(7, 1);
    builder.write(&mut frame, &vec![5; payload]).unwrap();
    lab.send(0, &frame);
    let pieces = lab.take(1);
    let mut data = Vec::new();
    for (number, piece) in pieces.iter().enumerate() {
        let header = if pieces.len() > 1 { IP + 48 } else { IP + 40 };
        assert_eq!(usize::from(u16::from_be_bytes([piece[IP + 4], piece[IP + 5]])), piece.len() - IP - 40);
        if pieces.len() > 1 {
            let word = data.len() as u16 | u16::from(number + 1 < pieces.len());
            assert_eq!((piece[IP + 6], piece[IP + 40], &piece[IP + 42..IP + 44]), (44, 58, &word.to_be_bytes()[..]));
        }
        data.extend_from_slice(&piece[header..]);
    }
    assert_eq!((data[0], &data[8..]), (129, &vec![5; payload][..]), "{:?}", lab.drops());
    lab.assert_silent();
    lab.assert_no_frame_lost(0);
    let identification = (pieces.len() > 1).then(|| pieces[0][IP + 44..IP + 48].try_into().unwrap());
    (pieces[0].len() - IP, pieces.len(), identification)
}

#[test]
fn an_answer_longer_than_the_way_back_is_fragmented_at_its_source() {
    let mut lab = RouterLab::with(2, |setup, interface| {
        let mtu = if setup.id.index() == 0 { 9_000 } else { 1_500 };
        (setup.mtu, interface.mtu) = (mtu, mtu);
    });
    // A neighbour on the other port, whose answer fits or does not by an octet.
    assert_eq!(answer6(&mut lab, v6(1, 2), 1_452), (1_500, 1, None));
    let (longest, count, one) = answer6(&mut lab, v6(1, 2), 1_453);
    assert_eq!((longest, count), (1_496, 2));
    let (_, count, other) = answer6(&mut lab, v6(1, 2), 8_000);
    assert_eq!(count, 6);
    assert!(one.is_some() && one != other);
    // Beyond the next router nothing is known of the path but what every link carries.
    let hop = lab.via(1, v6(1, 2).into());
    lab.route6(0, "fd99::/16", hop);
    let (longest, count, _) = answer6(&mut lab, "fd99::9".parse().unwrap(), 4_000);
    assert_eq!((longest, count), (1_280, 4));
    // IPv4's may be fragmented anywhere.
    let builder = PacketBuilder::ethernet2(station(0).octets(), gateway(0).octets());
    let mut frame = Vec::new();
    let builder = builder.ipv4(v4(1, 2).octets(), v4(0, 1).octets(), 64).icmpv4_echo_request(7, 1);
    builder.write(&mut frame, &[5; 4_000]).unwrap();
    lab.send(0, &frame);
    let pieces = lab.take(1);
    let sizes: Vec<usize> = pieces.iter().map(|piece| piece.len() - IP).collect();
    assert_eq!(sizes, [1_500, 1_500, 4_008 - 2 * 1_480 + 20]);
    let payload: Vec<u8> = pieces.iter().flat_map(|piece| piece[IP + 20..].to_vec()).collect();
    assert_eq!((payload[0], &payload[8..]), (0, &[5; 4_000][..]));
}

fn syn(mss: u16) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(station(0).octets(), gateway(0).octets());
    let mut frame = Vec::new();
    let options = [etherparse::TcpOptionElement::MaximumSegmentSize(mss)];
    let builder = builder.ipv4(v4(0, 2).octets(), v4(1, 2).octets(), 64).tcp(4000, 80, 1, 1000).syn();
    builder.options(&options).unwrap().write(&mut frame, &[]).unwrap();
    frame
}

#[test]
fn a_segment_size_is_lowered_to_the_way_where_that_is_asked_for() {
    let mut lab = narrow(false);
    lab.send(0, &syn(8_960));
    assert_eq!(lab.only(1), routed4(&syn(8_960), 1), "not asked for");
    lab.interfaces[1].flags.clamp_mss = true;
    lab.apply();
    for (announced, passed) in [(8_960, 960), (960, 960), (536, 536)] {
        lab.send(0, &syn(announced));
        assert_eq!(lab.only(1), routed4(&syn(passed), 1), "{announced}");
    }
}

#[test]
fn what_follows_a_packet_in_a_frame_of_several_chunks_is_not_forwarded() {
    let mut lab = narrow(false);
    for payload in [100, 5_000, 8_000] {
        let frame = udp4(0, v4(2, 2), 64, payload);
        let mut longer = frame.clone();
        longer.resize(9_000, 0xee);
        lab.send(0, &longer);
        assert_eq!(lab.only(2), routed4(&frame, 2), "{payload} bytes");
    }
    lab.assert_no_frame_lost(0);
}
