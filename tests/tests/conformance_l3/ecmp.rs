//! Several next hops for one route (RFC 2992, RFC 6438): one flow, one way; fragments by three values.

use super::*;
use std::collections::HashMap;

fn lab() -> RouterLab {
    let mut lab = RouterLab::new(4);
    let hops: Vec<NextHop> = (1..4).map(|index| lab.via(index, v4(index, 2).into())).collect();
    let group = lab.group(5, &hops);
    lab.route4(0, "198.51.100.0/24", group);
    let hops: Vec<NextHop> = (1..4).map(|index| lab.via(index, v6(index, 2).into())).collect();
    let group = lab.group(6, &hops);
    lab.route6(0, "2001:db8::/32", group);
    lab
}

fn flow(source_port: u16, fragment: u16) -> Vec<u8> {
    changed(udp4(0, Ipv4Addr::new(198, 51, 100, 7), 64, 64), |frame| {
        frame[IP + 20..IP + 22].copy_from_slice(&source_port.to_be_bytes());
        frame[IP + 6..IP + 8].copy_from_slice(&fragment.to_be_bytes());
    })
}

/// The port a frame leaves by.
fn way(lab: &mut RouterLab, frame: &[u8]) -> usize {
    lab.send(0, frame);
    let sent: Vec<usize> = (0..4).flat_map(|index| lab.take(index).into_iter().map(move |_| index)).collect();
    assert_eq!(sent.len(), 1, "{:?}", lab.drops());
    sent[0]
}

#[test]
fn flows_spread_and_each_keeps_its_way() {
    let mut lab = lab();
    let mut shares: HashMap<usize, usize> = HashMap::new();
    for source_port in 0..600 {
        let first = way(&mut lab, &flow(source_port, 0));
        assert_eq!(way(&mut lab, &flow(source_port, 0)), first);
        *shares.entry(first).or_default() += 1;
    }
    assert!((1..4).all(|index| (140..260).contains(&shares[&index])), "{shares:?}");
}

#[test]
fn all_fragments_of_a_packet_take_one_way() {
    let mut lab = lab();
    // What stands where the ports would is payload in all but the first.
    let first = way(&mut lab, &flow(1, 0x2000));
    for (bytes, word) in [(2, 0x2008), (3, 0x2010), (4, 0x0018)] {
        assert_eq!(way(&mut lab, &flow(bytes, word)), first);
    }
}

#[test]
fn a_first_fragment_too_short_for_ports_is_forwarded() {
    let mut lab = lab();
    let frame = changed(flow(1, 0x2000), |frame| {
        frame.truncate(IP + 22);
        frame[IP + 2..IP + 4].copy_from_slice(&[0, 22]);
    });
    assert_eq!(way(&mut lab, &frame), way(&mut lab, &flow(1, 0x2000)));
}

#[test]
fn ipv6_flows_spread_too() {
    let mut lab = lab();
    let mut seen = [0; 4];
    for source_port in 0..60u16 {
        let mut frame = udp6(0, "2001:db8::7".parse().unwrap(), 64, 8);
        frame[IP + 40..IP + 42].copy_from_slice(&source_port.to_be_bytes());
        seen[way(&mut lab, &frame)] += 1;
    }
    assert!(seen[0] == 0 && seen[1..].iter().all(|count| *count > 8), "{seen:?}");
}
