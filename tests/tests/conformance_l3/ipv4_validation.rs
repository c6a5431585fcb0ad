//! Which packets are looked at at all (RFC 1812 5.2.2, 5.3.7): whatever fails vanishes silently.

use super::*;

#[test]
fn a_link_length_below_twenty_is_dropped() {
    let mut lab = RouterLab::new(2);
    let frame = udp4(0, v4(1, 2), 64, 8);
    assert_dropped(&mut lab, &frame[..IP + 19], Drop::IpMalformed);
    assert_dropped(&mut lab, &frame[..IP], Drop::IpMalformed);
}

#[test]
fn a_wrong_header_checksum_is_dropped() {
    let mut lab = RouterLab::new(2);
    let mut frame = udp4(0, v4(1, 2), 64, 8);
    frame[IP + 11] ^= 0x40;
    assert_dropped(&mut lab, &frame, Drop::IpMalformed);
}

#[test]
fn another_version_than_four_is_dropped() {
    let mut lab = RouterLab::new(2);
    for version in [0u8, 3, 5, 6, 15] {
        let frame = changed(udp4(0, v4(1, 2), 64, 8), |frame| frame[IP] = version << 4 | 5);
        assert_dropped(&mut lab, &frame, Drop::IpMalformed);
    }
}

#[test]
fn a_header_length_below_five_words_is_dropped() {
    let mut lab = RouterLab::new(2);
    for words in 0..5u8 {
        let mut frame = udp4(0, v4(1, 2), 64, 8);
        frame[IP] = 0x40 | words;
        assert_dropped(&mut lab, &frame, Drop::IpMalformed);
    }
}

#[test]
fn a_total_length_below_the_header_s_is_dropped() {
    let mut lab = RouterLab::new(2);
    let short = changed(udp4(0, v4(1, 2), 64, 8), |frame| frame[IP + 2..IP + 4].copy_from_slice(&[0, 19]));
    assert_dropped(&mut lab, &short, Drop::IpMalformed);
    let options = changed(with_options(udp4(0, v4(1, 2), 64, 8), &[1, 1, 1, 0]), |frame| {
        frame[IP + 2..IP + 4].copy_from_slice(&[0, 23]);
    });
    assert_dropped(&mut lab, &options, Drop::IpMalformed);
}

#[test]
fn a_total_length_beyond_the_link_s_is_dropped() {
    let mut lab = RouterLab::new(2);
    let frame = udp4(0, v4(1, 2), 64, 40);
    assert_dropped(&mut lab, &frame[..frame.len() - 1], Drop::IpMalformed);
}

#[test]
fn padding_of_the_link_is_not_forwarded() {
    let mut lab = RouterLab::new(2);
    let frame = udp4(0, v4(1, 2), 64, 2);
    let mut padded = frame.clone();
    padded.resize(60, 0xee);
    lab.send(0, &padded);
    assert_eq!(lab.only(1), routed4(&frame, 1));
}

#[test]
fn martian_sources_are_dropped() {
    let mut lab = RouterLab::new(2);
    for source in ["0.0.0.0", "0.1.2.3", "127.0.0.1", "169.254.1.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"] {
        let frame = udp4_from(0, source.parse().unwrap(), v4(1, 2), 64, 8);
        assert_dropped(&mut lab, &frame, Drop::IpMartian);
    }
}

#[test]
fn martian_destinations_are_dropped() {
    let mut lab = RouterLab::new(2);
    for to in ["0.0.0.0", "0.1.2.3", "127.0.0.1", "169.254.1.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"] {
        let frame = udp4(0, to.parse().unwrap(), 64, 8);
        assert_dropped(&mut lab, &frame, Drop::IpMartian);
    }
}

#[test]
fn a_packet_in_a_broadcast_or_multicast_frame_is_not_forwarded() {
    let mut lab = RouterLab::new(2);
    for group in [Mac::BROADCAST, Mac::new([1, 0, 0x5e, 0, 0, 9])] {
        let mut frame = udp4(0, v4(1, 2), 64, 8);
        frame[..6].copy_from_slice(&group.octets());
        lab.send(0, &frame);
        lab.assert_silent();
    }
}

#[test]
fn directed_broadcasts_are_not_forwarded() {
    let mut lab = RouterLab::new(2);
    for last in [0, 255] {
        assert_dropped(&mut lab, &udp4(0, v4(1, last), 64, 8), Drop::IpBroadcast);
    }
}

#[test]
fn what_is_neither_ip_nor_arp_is_dropped() {
    let mut lab = RouterLab::new(2);
    let mut frame = udp4(0, v4(1, 2), 64, 8);
    frame[12..14].copy_from_slice(&[0x88, 0xb5]);
    assert_dropped(&mut lab, &frame, Drop::RouterNotIp);
}
