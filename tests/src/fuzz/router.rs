//! Target `router`: any packets to and through a router, whose host answers ARP, ND, ICMP and DHCP.
//!
//! Input: a byte that shapes the router, then steps: frames into one of three ports, each alone in its domain, and
//! time. Lengths and checksums of a frame are put right unless the input says otherwise, so that what lies behind
//! them is reached. Checked of everything that leaves: it is the router's, it fits, its headers are right. Checked at
//! the end: no frame of the pool is lost.

use std::net::{Ipv4Addr, Ipv6Addr};

use switch::host::{Interface, dhcp, ra};
use switch::ids::Mac;

use super::oracle::slow_sum;
use super::{Input, pick};
use crate::router_lab::{RouterLab, gateway, station, v4, v6};

const PORTS: usize = 3;
/// Of the pool: few, since each run makes them anew.
const FRAMES: u32 = 512;
/// Frames in one run, steps of time in one run, bytes of one frame, at most: bounds on its time.
const FRAMES_MAX: usize = 64;
const WAITS_MAX: usize = 8;
const LENGTH_MAX: usize = 9_000;

/// Addresses that frames go to beside the gateway's.
const GROUPS: [[u8; 6]; 5] =
    [[0xff; 6], [0x33, 0x33, 0, 0, 0, 1], [0x33, 0x33, 0, 0, 0, 2], [0x33, 0x33, 0xff, 0, 0, 1], [1, 0, 0x5e, 0, 0, 1]];

const ICMP: u8 = 1;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// See the module text.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let Some(shape) = input.byte() else { return };
    let mut lab = router(shape);
    let (mut frames, mut waits) = (0, 0);
    while let Some(op) = input.byte() {
        if op & 3 < 3 {
            let index = usize::from(op >> 2) % PORTS;
            let Some(frame) = frame(index, &mut input) else { break };
            lab.send(index, &frame);
            frames += 1;
        } else {
            lab.advance_ms(pick(&[100, 1_000, 3_000, 10_000], op >> 2));
            waits += 1;
        }
        check(&mut lab);
        if frames == FRAMES_MAX || waits == WAITS_MAX {
            break;
        }
    }
    // Longer than anything waits for an answer, or for its other fragments.
    lab.advance_by(2_000, 70_000);
    check(&mut lab);
    assert_eq!(lab.host.frames_held(), 0, "a frame waits for ever");
    lab.assert_no_frame_lost(0);
}

fn router(shape: u8) -> RouterLab {
    let mtu = pick(&[1_500, 1_280, 576, 9_000], shape >> 5);
    RouterLab::of(PORTS, FRAMES, |setup, interface| {
        let index = setup.id.index();
        let flags = &mut interface.flags;
        (flags.proxy, flags.suppress, flags.clamp_mss) = (shape & 4 != 0, shape & 8 != 0, shape & 16 != 0);
        if index == 0 && shape & 1 == 0 {
            flags.dhcp = true;
            interface.dhcp = Some(leases(interface));
        }
        if index == 1 && shape & 2 == 0 {
            interface.ra = Some(advertised(interface));
        }
        if index == 2 {
            (setup.mtu, interface.mtu) = (mtu, mtu);
        }
    })
}

fn advertised(interface: &mut Interface) -> ra::Settings {
    let source = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    interface.ipv6.push((source, 64));
    ra::Settings {
        mac: interface.mac,
        source,
        prefixes: vec![ipnet::Ipv6Net::new(v6(1, 0), 64).expect("a prefix length")],
        dns: vec![v6(1, 1)],
        search: vec!["lan".to_owned()],
        mtu: Some(1_500),
        lifetime_seconds: 1_800,
        interval_seconds: 1_800,
        managed: false,
        other: false,
    }
}

fn leases(interface: &Interface) -> dhcp::Settings {
    dhcp::Settings {
        bridge: interface.name.clone(),
        server: v4(0, 1),
        subnet: ipnet::Ipv4Net::new(v4(0, 0), 24).expect("a prefix length"),
        first: v4(0, 100),
        last: v4(0, 103),
        lease_seconds: 60,
        router: v4(0, 1),
        dns: vec![v4(0, 1)],
        domain: Some("lan".to_owned()),
        ntp: Vec::new(),
        mtu: Some(1_400),
        statics: Vec::new(),
        probe: true,
    }
}

/// The next frame of the input: addresses, what to leave wrong, length, and what begins with the EtherType.
fn frame(index: usize, input: &mut Input<'_>) -> Option<Vec<u8>> {
    let (ends, wrong, len) = (input.byte()?, input.byte()?, input.word()?);
    let bytes = input.take(usize::from(len).min(LENGTH_MAX));
    let to = match usize::from(ends & 7) {
        at if at < GROUPS.len() => GROUPS[at],
        5 => station(index).octets(),
        _ => gateway(index).octets(),
    };
    let from = match ends >> 3 & 3 {
        3 => gateway(index),
        other => Mac::new([2, 0, 0, 0, other, index as u8 + 1]),
    };
    let from = if ends & 0x20 == 0 { station(index) } else { from };
    let mut frame = [to, from.octets()].concat();
    frame.extend_from_slice(bytes);
    mend(&mut frame, wrong);
    Some(frame)
}

/// Puts lengths (unless bit 0 of `wrong` is set) and checksums of the header (bit 1) and of what follows (bit 2) right.
fn mend(frame: &mut [u8], wrong: u8) {
    let [lengths, header_sum, payload_sum] = [1, 2, 4].map(|bit| wrong & bit == 0);
    let Some((ethertype, packet)) = frame.get_mut(12..).and_then(|rest| rest.split_first_chunk_mut::<2>()) else {
        return;
    };
    let total = packet.len() as u16;
    match *ethertype {
        [8, 0] if packet.len() >= 20 => {
            if lengths {
                packet[2..4].copy_from_slice(&total.to_be_bytes());
            }
            let header_len = (usize::from(packet[0] & 15) * 4).clamp(20, packet.len());
            if payload_sum && packet[6] & 0x3f == 0 && packet[7] == 0 {
                let pseudo = [&packet[12..20], &[0, packet[9]], &(total - header_len as u16).to_be_bytes()].concat();
                let protocol = packet[9];
                sum_payload(protocol, &pseudo, &mut packet[header_len..], lengths);
            }
            if header_sum {
                packet[10..12].fill(0);
                let sum = !slow_sum(&packet[..header_len]);
                packet[10..12].copy_from_slice(&sum.to_be_bytes());
            }
        }
        [0x86, 0xdd] if packet.len() >= 40 => {
            if lengths {
                packet[4..6].copy_from_slice(&(total - 40).to_be_bytes());
            }
            if payload_sum {
                let pseudo = [&packet[8..40], &[0, 0], &(total - 40).to_be_bytes(), &[0, 0, 0, packet[6]]].concat();
                let protocol = packet[6];
                sum_payload(protocol, &pseudo, &mut packet[40..], lengths);
            }
        }
        _ => {}
    }
}

/// The checksum of an ICMP message or a UDP datagram, whose length is put right first.
fn sum_payload(protocol: u8, pseudo: &[u8], payload: &mut [u8], lengths: bool) {
    let field = match protocol {
        UDP => 6,
        ICMP | ICMPV6 => 2,
        _ => return,
    };
    if payload.len() < 8 {
        return;
    }
    if protocol == UDP && lengths {
        let len = payload.len() as u16;
        payload[4..6].copy_from_slice(&len.to_be_bytes());
    }
    payload[field..field + 2].fill(0);
    let pseudo = if protocol == ICMP { &[] } else { pseudo };
    let sum = !slow_sum(&[pseudo, payload].concat());
    payload[field..field + 2].copy_from_slice(&sum.to_be_bytes());
}

/// Checks everything that left since the last time.
fn check(lab: &mut RouterLab) {
    for index in 0..PORTS {
        let mtu = lab.interfaces[index].mtu as usize;
        for frame in lab.take(index) {
            assert!(frame.len() <= mtu + 14, "port {index} sent {} bytes", frame.len());
            assert_eq!(
                frame[6..12],
                gateway(index).octets(),
                "port {index} sent what is not the router's: {frame:02x?}"
            );
            match &frame[12..14] {
                [8, 0] => check_ipv4(index, &frame[14..]),
                [0x86, 0xdd] => check_ipv6(&frame[14..]),
                other => assert_eq!(other, [8, 6], "port {index} sent {frame:02x?}"),
            }
        }
    }
}

fn check_ipv4(index: usize, packet: &[u8]) {
    let (header_len, total) =
        (usize::from(packet[0] & 15) * 4, usize::from(u16::from_be_bytes([packet[2], packet[3]])));
    assert!(packet[0] >> 4 == 4 && header_len >= 20 && header_len <= total && total <= packet.len(), "{packet:02x?}");
    assert_eq!(slow_sum(&packet[..header_len]), 0xffff, "the header's checksum of {packet:02x?}");
    assert_ne!(packet[8], 0, "a TTL of 0 left: {packet:02x?}");
    let from = Ipv4Addr::from([packet[12], packet[13], packet[14], packet[15]]);
    let whole = packet[6] & 0x3f == 0 && packet[7] == 0;
    if packet[9] == ICMP && whole && from == v4(index, 1) {
        assert_eq!(slow_sum(&packet[header_len..total]), 0xffff, "the message's checksum of {packet:02x?}");
    }
}

fn check_ipv6(packet: &[u8]) {
    let len = usize::from(u16::from_be_bytes([packet[4], packet[5]]));
    assert!(packet[0] >> 4 == 6 && 40 + len <= packet.len(), "{packet:02x?}");
    assert_ne!(packet[7], 0, "a hop limit of 0 left: {packet:02x?}");
}
