//! Packets to the router itself that come in fragments (RFC 791, RFC 815, RFC 1122 3.3.2, RFC 8200 4.5, RFC 5722,
//! RFC 6946), and its answers that do not fit the way back.

use super::*;

/// An echo request with `payload` octets of data that count up.
fn echo4(to: Ipv4Addr, payload: usize) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(station(0).octets(), gateway(0).octets());
    let mut frame = Vec::new();
    let builder = builder.ipv4(v4(0, 2).octets(), to.octets(), 64).icmpv4_echo_request(7, 1);
    builder.write(&mut frame, &data(payload)).unwrap();
    changed(frame, |frame| frame[IP + 4..IP + 8].copy_from_slice(&[0x12, 0x34, 0, 0]))
}

fn echo6(to: Ipv6Addr, payload: usize) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(station(0).octets(), gateway(0).octets());
    let mut frame = Vec::new();
    let builder = builder.ipv6(v6(0, 2).octets(), to.octets(), 64).icmpv6_echo_request(7, 1);
    builder.write(&mut frame, &data(payload)).unwrap();
    frame
}

fn data(payload: usize) -> Vec<u8> {
    (0..payload).map(|at| (at * 7 + at / 256) as u8).collect()
}

/// The octets `from..to` of an IPv4 packet's payload as a fragment.
fn piece4(frame: &[u8], from: usize, to: usize) -> Vec<u8> {
    let payload = &frame[IP + 20..];
    let to = to.min(payload.len());
    let more = if to < payload.len() { 0x2000 } else { 0 };
    let piece = [&frame[..IP + 20], &payload[from..to]].concat();
    changed(piece, |piece| {
        let total = (piece.len() - IP) as u16;
        piece[IP + 2..IP + 4].copy_from_slice(&total.to_be_bytes());
        piece[IP + 6..IP + 8].copy_from_slice(&((from / 8) as u16 | more).to_be_bytes());
    })
}

/// The same of an IPv6 packet, with a fragment header.
fn piece6(frame: &[u8], from: usize, to: usize) -> Vec<u8> {
    let payload = &frame[IP + 40..];
    let to = to.min(payload.len());
    let word = (from as u16) | u16::from(to < payload.len());
    let header = [&[frame[IP + 6], 0][..], &word.to_be_bytes(), &[0, 0, 0x12, 0x34]].concat();
    let mut piece = [&frame[..IP + 40], &header, &payload[from..to]].concat();
    let len = (piece.len() - IP - 40) as u16;
    piece[IP + 4..IP + 6].copy_from_slice(&len.to_be_bytes());
    piece[IP + 6] = 44;
    piece
}

type Cut = fn(&[u8], usize, usize) -> Vec<u8>;

/// Both versions: an echo request to the gateway, how to cut it, and where its payload starts.
fn both(payload: usize) -> [(Vec<u8>, Cut, usize); 2] {
    [(echo4(v4(0, 1), payload), piece4 as Cut, IP + 20), (echo6(v6(0, 1), payload), piece6 as Cut, IP + 40)]
}

/// Fragments of 1480 octets each, as a sender of MTU 1500 makes them.
fn cut(frame: &[u8], piece: Cut, start: usize) -> Vec<Vec<u8>> {
    (0..frame.len() - start).step_by(1_440).map(|from| piece(frame, from, from + 1_440)).collect()
}

/// The payload of the one IP packet that these frames are the fragments of, which fit `mtu`.
fn whole(frames: &[Vec<u8>], mtu: usize) -> Vec<u8> {
    let mut payload = Vec::new();
    for (number, frame) in frames.iter().enumerate() {
        assert!(frame.len() <= IP + mtu, "{} octets", frame.len());
        let last = number + 1 == frames.len();
        let word = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
        let (start, offset, more) = match (frame[IP] >> 4, frame[IP + 6]) {
            (4, _) => (IP + 20, usize::from(word(IP + 6) & 0x1fff) * 8, word(IP + 6) & 0x2000 != 0),
            (_, 44) => {
                assert_eq!(frame[IP + 44..IP + 48], frames[0][IP + 44..IP + 48], "one identification");
                (IP + 48, usize::from(word(IP + 42) & 0xfff8), word(IP + 42) & 1 != 0)
            }
            _ => (IP + 40, 0, false),
        };
        assert_eq!((offset, more), (payload.len(), !last));
        payload.extend_from_slice(&frame[start..]);
    }
    payload
}

fn assert_answered(lab: &mut RouterLab, asked: &[u8], start: usize, mtu: usize) {
    let frames = lab.take(0);
    assert!(!frames.is_empty(), "no answer; drops: {:?}", lab.drops());
    let reply = whole(&frames, mtu);
    let kind = if start == IP + 20 { 0 } else { 129 };
    assert_eq!((reply[0], &reply[4..]), (kind, &asked[start + 4..]), "type, identifier, sequence number, data");
    lab.assert_silent();
}

#[test]
fn a_fragmented_echo_request_is_answered_whatever_the_order_of_its_fragments() {
    let mut lab = RouterLab::new(2);
    for payload in [1_600, 4_000, 20_000, 65_400] {
        for (frame, piece, start) in both(payload) {
            let mut fragments = cut(&frame, piece, start);
            for _ in 0..2 {
                fragments.iter().for_each(|fragment| lab.offer(0, fragment));
                lab.settle();
                assert_answered(&mut lab, &frame, start, 1_500);
                fragments.reverse();
            }
        }
    }
    assert_eq!(lab.drops(), []);
    lab.assert_no_frame_lost(0);
}

#[test]
fn a_fragment_that_comes_twice_does_no_harm() {
    let mut lab = RouterLab::new(2);
    for (frame, piece, start) in both(4_000) {
        for fragment in cut(&frame, piece, start) {
            lab.offer(0, &fragment);
            if fragment[IP + 2..IP + 6] != cut(&frame, piece, start).last().unwrap()[IP + 2..IP + 6] {
                lab.offer(0, &fragment);
            }
        }
        lab.settle();
        assert_answered(&mut lab, &frame, start, 1_500);
    }
}

#[test]
fn fragments_that_overlap_take_the_datagram_with_them() {
    let mut lab = RouterLab::new(2);
    for (frame, piece, _) in both(4_000) {
        // One octet of eight more than there is room for, before, behind, and in the middle of what came.
        for [first, second] in [[(0, 1_448), (1_440, 2_880)], [(1_440, 2_880), (0, 1_448)], [(0, 2_880), (8, 16)]] {
            lab.send(0, &piece(&frame, first.0, first.1));
            lab.send(0, &piece(&frame, second.0, second.1));
            // What is missing comes: too late, whoever made the overlap.
            for (from, to) in [(0, 1_440), (1_440, 2_880), (2_880, 9_999)] {
                lab.send(0, &piece(&frame, from, to));
            }
            lab.assert_silent();
            // Nor does it ever draw an error.
            lab.advance_ms(61_000);
            let errors = lab.take(0).into_iter().filter(|frame| frame[IP + 6] != 58 || frame[IP + 40] < 128);
            assert_eq!(errors.filter(|frame| frame[12..14] != [8, 6]).count(), 0);
        }
    }
    assert!(lab.dropped(Drop::ReassemblyFailed) > 0);
    lab.assert_no_frame_lost(0);
}

#[test]
fn an_atomic_fragment_is_a_packet_of_its_own() {
    let mut lab = RouterLab::new(2);
    let (frame, other) = (echo6(v6(0, 1), 100), echo6(v6(0, 1), 4_000));
    // Fragments with its identification wait.
    lab.send(0, &piece6(&other, 0, 1_440));
    lab.send(0, &piece6(&frame, 0, 9_999));
    assert_answered(&mut lab, &frame, IP + 40, 1_500);
    lab.send(0, &piece6(&other, 1_440, 9_999));
    assert_answered(&mut lab, &other, IP + 40, 1_500);
}

#[test]
fn a_datagram_that_stays_incomplete_is_told_of_if_its_beginning_came() {
    let mut lab = RouterLab::new(2);
    for (frame, piece, start) in both(4_000) {
        let [seconds, kind] = if start == IP + 20 { [30, 11] } else { [60, 3] };
        let first = piece(&frame, 0, 1_440);
        lab.send(0, &first);
        lab.send(0, &piece(&frame, 2_880, 9_999));
        lab.advance_ms(seconds * 1_000 - 200);
        lab.take(0).iter().for_each(|frame| assert_ne!(frame[12..14], first[12..14]));
        lab.advance_ms(400);
        let errors: Vec<_> = lab.take(0).into_iter().filter(|frame| frame[12..14] == first[12..14]).collect();
        assert_eq!(errors.len(), 1);
        let (told, quoted) = if start == IP + 20 {
            let error = icmp(&errors[0]);
            assert_eq!((error.from, error.to), (v4(0, 1), v4(0, 2)));
            (error.kind, error.quoted)
        } else {
            let (from, to, told, _, quoted) = icmp6(&errors[0]);
            assert_eq!((from, to), (v6(0, 1), v6(0, 2)));
            (told, quoted)
        };
        assert_eq!((told, &quoted[..]), ([kind as u8, 1], &first[IP..IP + quoted.len()]));
        // Too late, and nothing is said about what does not begin.
        lab.send(0, &piece(&frame, 1_440, 2_880));
        lab.advance_ms(61_000);
        assert_eq!(lab.take(0).into_iter().filter(|frame| frame[12..14] == first[12..14]).count(), 0);
    }
    assert_eq!(lab.dropped(Drop::ReassemblyFailed), 6);
    lab.assert_no_frame_lost(0);
}

#[test]
fn a_fragment_of_odd_length_or_beyond_the_longest_packet_is_told_of_for_ipv6() {
    let mut lab = RouterLab::new(2);
    let frame = udp6(0, v6(0, 1), 64, 2_000);
    let mut odd = piece6(&frame, 0, 1_440);
    odd.pop();
    odd[IP + 4..IP + 6].copy_from_slice(&1_447u16.to_be_bytes());
    lab.send(0, &odd);
    let (_, _, kind, pointer, _) = icmp6(&lab.only(0));
    assert_eq!((kind, pointer), ([4, 0], 4));
    let mut beyond = piece6(&frame, 1_440, 9_999);
    beyond[IP + 42..IP + 44].copy_from_slice(&0xfff8u16.to_be_bytes());
    lab.send(0, &beyond);
    let (_, _, kind, pointer, _) = icmp6(&lab.only(0));
    assert_eq!((kind, pointer), ([4, 0], 42));
    // The same for IPv4, in silence.
    let frame = changed(udp4(0, v4(0, 1), 64, 2_000), |frame| frame[IP + 6] = 0);
    let odd = changed(piece4(&frame, 0, 1_447), |frame| frame[IP + 7] = 0);
    lab.send(0, &odd);
    let beyond = changed(piece4(&frame, 1_440, 9_999), |frame| frame[IP + 6..IP + 8].copy_from_slice(&[0x1f, 0xff]));
    lab.send(0, &beyond);
    lab.assert_silent();
    assert_eq!(lab.dropped(Drop::ReassemblyFailed), 4);
}

#[test]
fn a_datagram_to_a_closed_port_is_refused_as_a_whole() {
    let mut lab = RouterLab::new(2);
    let frame = changed(udp4(0, v4(0, 1), 64, 4_000), |frame| frame[IP + 6] = 0);
    cut(&frame, piece4, IP + 20).iter().for_each(|fragment| lab.offer(0, fragment));
    lab.settle();
    let error = icmp(&lab.only(0));
    assert_eq!((error.kind, error.from), ([3, 3], v4(0, 1)));
    let frame = udp6(0, v6(0, 1), 64, 4_000);
    cut(&frame, piece6, IP + 40).iter().for_each(|fragment| lab.offer(0, fragment));
    lab.settle();
    let (from, _, kind, _, _) = icmp6(&lab.only(0));
    assert_eq!((from, kind), (v6(0, 1), [1, 4]));
}
