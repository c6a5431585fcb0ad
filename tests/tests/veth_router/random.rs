//! Random packets for the differential test: mostly sound ones between hosts that exist, and everything else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rand::Rng;
use rand::rngs::StdRng;
use tests::net::packets::{self, Ends, IP, TCP, UDP, seal, with_extension, with_options};
use tests::net::router::{gateway_mac, gateway_v4, gateway_v6, v4, v6};

/// Subnets of either router.
pub const SUBNETS: usize = 3;

/// MTU of each of them: the last one is narrow.
pub const MTU: [usize; SUBNETS] = [1500, 1500, 1300];

/// MAC address of the host of a subnet.
pub fn host_mac(subnet: usize) -> [u8; 6] {
    [0x02, 0x33, 0, 0, 0, subnet as u8]
}

/// Somebody behind the host of a subnet, by number.
pub fn sender(version: u8, subnet: usize, number: u16) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    match version {
        4 => Ipv4Addr::new(10, 101 + subnet as u8, high, low).into(),
        // A /64 each: the switch counts errors by those.
        _ => Ipv6Addr::new(0xfd64, subnet as u16 + 1, 0, number, 0, 0, 0, 1).into(),
    }
}

fn any_subnet(random: &mut StdRng) -> usize {
    random.random_range(0..SUBNETS)
}

fn source(random: &mut StdRng, version: u8, from: usize) -> IpAddr {
    match random.random_range(0..100) {
        // By far most senders are behind the host that sends: each has its own share of errors.
        0..=89 => sender(version, from, random.random_range(1..0xfff0)),
        90..=93 => {
            let subnet = any_subnet(random);
            sender(version, subnet, random.random_range(1..0xfff0))
        }
        _ => odd(random, version),
    }
}

fn destination(random: &mut StdRng, version: u8) -> IpAddr {
    let subnet = any_subnet(random);
    let number = subnet as u8 + 1;
    match (random.random_range(0..100), version) {
        (0..=69, _) => sender(version, subnet, random.random_range(1..0xfff0)),
        (70..=76, 4) => v4(number, 1).into(),
        (70..=76, _) => v6(number, 1).into(),
        (77..=84, 4) => gateway_v4(number).into(),
        (77..=84, _) => gateway_v6(number).into(),
        (85..=92, 4) => Ipv4Addr::new(172, 16, random.random(), random.random()).into(),
        (85..=92, _) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, random.random()).into(),
        _ => odd(random, version),
    }
}

/// An address that no host has, or should have.
fn odd(random: &mut StdRng, version: u8) -> IpAddr {
    let pick = random.random_range(0..8);
    match version {
        4 => [
            Ipv4Addr::UNSPECIFIED,
            Ipv4Addr::LOCALHOST,
            Ipv4Addr::new(127, 1, 2, 3),
            Ipv4Addr::BROADCAST,
            Ipv4Addr::new(224, 0, 0, 1),
            Ipv4Addr::new(239, 1, 2, 3),
            Ipv4Addr::new(10, 2, 0, 255),
            Ipv4Addr::new(8, 8, 8, 8),
        ][pick]
            .into(),
        _ => [
            Ipv6Addr::UNSPECIFIED,
            Ipv6Addr::LOCALHOST,
            Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1),
            Ipv6Addr::new(0xff0e, 0, 0, 0, 0, 0, 1, 3),
            Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 0, 2),
            Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9),
            Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 9),
            Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1),
        ][pick]
            .into(),
    }
}

fn payload(random: &mut StdRng) -> Vec<u8> {
    let length = match random.random_range(0..20) {
        0 => random.random_range(1200..1472),
        1 => random.random_range(0..1300),
        _ => random.random_range(0..64),
    };
    let mut bytes = vec![0; length];
    random.fill(&mut bytes[..]);
    bytes
}

/// A packet of one of the kinds, sound so far.
fn sound(random: &mut StdRng, ends: &Ends) -> Vec<u8> {
    let is_v4 = ends.ips.0.is_ipv4();
    let mut body = payload(random);
    // Room for the longest header, and for options.
    body.truncate(1400);
    let ports = (random.random(), random.random());
    match random.random_range(0..20) {
        0..=8 => packets::udp(ends, ports, &body),
        9..=12 => {
            let mss = random.random_bool(0.5).then_some(1460);
            packets::tcp(ends, ports, mss, &body)
        }
        13..=15 => packets::echo_request(ends, random.random(), random.random(), &body),
        16 => {
            let kinds: &[u8] = if is_v4 { &[0, 3, 4, 5, 11, 12, 13, 42] } else { &[1, 2, 3, 4, 100, 127, 129, 200] };
            let kind = kinds[random.random_range(0..kinds.len())];
            let quoted = packets::udp(ends, ports, &[0; 8]).split_off(IP);
            packets::icmp(ends, (kind, random.random_range(0..6)), [0; 4], &quoted)
        }
        17 => packets::ip(ends, [47, 50, 89, 132, 253][random.random_range(0..5)], &body),
        _ => packets::ip(ends, [TCP, UDP][random.random_range(0..2)], &body),
    }
}

/// Fields that a sound packet may have in many ways: TTL, DF, fragments, service, label, options, extension headers.
fn vary(random: &mut StdRng, mut frame: Vec<u8>) -> Vec<u8> {
    let is_v4 = frame[12..14] == [8, 0];
    let ttl = match random.random_range(0..20) {
        0 => 0,
        1 => 1,
        2 => 2,
        3 => 255,
        _ => random.random_range(3..=255),
    };
    if is_v4 {
        frame[IP + 8] = ttl;
        frame[IP + 1] = random.random();
        let word: u16 = match random.random_range(0..10) {
            0 => random.random_range(0..0x2000),
            1 => 0x2000 | random.random_range(0..0x2000),
            2..=4 => 0,
            5 => random.random(),
            _ => 0x4000,
        };
        frame[IP + 6..IP + 8].copy_from_slice(&word.to_be_bytes());
        seal(&mut frame);
        let options: &[u8] = match random.random_range(0..20) {
            0 => &[1, 1, 1, 0],
            1 => &[148, 4, 0, 0],
            2 => &[0x9e, 6, 1, 2, 3, 4],
            3 => &[131, 7, 4, 10, 2, 0, 1],
            4 => &[1, 137, 7, 4, 10, 2, 0, 1],
            5 => &[1; 40],
            _ => &[],
        };
        if options.is_empty() { frame } else { with_options(frame, options) }
    } else {
        frame[IP + 7] = ttl;
        let [a, b, c]: [u8; 3] = random.random();
        frame[IP] = 0x60 | a & 0xf;
        frame[IP + 1..IP + 4].copy_from_slice(&[a, b, c]);
        let offset: u16 = random.random();
        let [high, low] = offset.to_be_bytes();
        let (kind, rest): (u8, &[u8]) = match random.random_range(0..24) {
            0 => (0, &[0, 1, 4, 0, 0, 0, 0]),
            1 => (0, &[0, 5, 2, 0, 0, 1, 0]),
            2 => (60, &[0, 1, 4, 0, 0, 0, 0]),
            3 => (60, &[0, 0xfe, 4, 0, 0, 0, 0]),
            4 => (43, &[0, 4, 0, 0, 0, 0, 0]),
            5 => (44, &[0, 0, 1, 0, 0, 0, 7]),
            6 => (44, &[0, high, low, 1, 2, 3, 4]),
            7 => (253, &[0, 0, 0, 0, 0, 0, 0]),
            _ => return frame,
        };
        with_extension(frame, kind, rest)
    }
}

/// Breaks something: bytes of the headers, the frame's end, its addresses.
fn mutate(random: &mut StdRng, mut frame: Vec<u8>) -> Vec<u8> {
    match random.random_range(0..8) {
        0 => {
            let length = random.random_range(IP..=frame.len());
            frame.truncate(length);
        }
        1 => frame.extend(vec![0xee; random.random_range(1..40)]),
        2 => frame[..6]
            .copy_from_slice(&[[0xff; 6], [0x33, 0x33, 0, 0, 0, 1], [1, 0, 0x5e, 0, 0, 1]][random.random_range(0..3)]),
        _ => {
            for _ in 0..random.random_range(1..4) {
                let at = random.random_range(IP..frame.len().min(IP + 64));
                match random.random_range(0..3) {
                    0 => frame[at] = random.random(),
                    1 => frame[at] ^= 1 << random.random_range(0..8),
                    _ => frame[at] = frame[at].wrapping_add(1),
                }
            }
        }
    }
    if random.random_bool(0.6) {
        seal(&mut frame);
    }
    frame
}

/// A packet that the host of subnet `from` sends to the router.
pub fn random_packet(random: &mut StdRng, from: usize) -> Vec<u8> {
    let version = if random.random_bool(0.5) { 4 } else { 6 };
    let ips = (source(random, version, from), destination(random, version));
    let ends = Ends { macs: [gateway_mac(from as u8 + 1), host_mac(from)], ips };
    let frame = sound(random, &ends);
    let frame = vary(random, frame);
    let mut frame = if random.random_bool(0.15) { mutate(random, frame) } else { frame };
    // What the sender's link takes.
    frame.truncate(IP + MTU[from]);
    frame
}
