//! ARP and neighbour discovery through the whole switch: RFC 826, RFC 1122 2.3.2, RFC 4861 7.3.

use std::io::Read;
use std::os::fd::AsFd;

use super::*;
use switch::host::State;
use switch::table::neighbour::NeighbourKey;

/// A host behind port 1 that the switch does not know.
const NEW: u8 = 9;
const NEW_MAC: Mac = Mac::new([2, 0, 0, 0, 9, 9]);

/// An ARP packet from `sender` at `mac`: an announcement, a request, or a reply to the gateway.
fn arp(to: Mac, operation: u8, mac: Mac, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend(to.octets());
    frame.extend(mac.octets());
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, operation]);
    frame.extend(mac.octets());
    frame.extend(sender.octets());
    frame.extend([0; 6]);
    frame.extend(target.octets());
    frame
}

fn reply(lab: &mut RouterLab) {
    lab.send(1, &arp(gateway(1), 2, NEW_MAC, v4(1, NEW), v4(1, 1)));
}

fn state(lab: &RouterLab) -> Option<State> {
    lab.host.neighbour(NeighbourKey::new(tests::lab::domain(2), v4(1, NEW).into())).map(|row| row.state)
}

/// The operation and the addresses of an ARP packet.
fn read(frame: &[u8]) -> (u8, Ipv4Addr, Ipv4Addr) {
    assert_eq!(frame[12..20], [8, 6, 0, 1, 8, 0, 6, 4], "{frame:02x?}");
    let address = |at: usize| Ipv4Addr::from(*frame[at..].first_chunk::<4>().unwrap());
    (frame[21], address(28), address(38))
}

/// A message to everybody that the switch looks at and ignores is lost only if nobody else got it.
#[test]
fn what_is_ignored_is_a_drop_where_nobody_else_got_it() {
    let domain = tests::lab::domain(1);
    let mut lab = RouterLab::with(3, |port, interface| {
        if interface.domain.index() == 3 {
            port.native = Some(domain);
        }
    });
    let mut odd = arp(Mac::BROADCAST, 1, NEW_MAC, v4(0, NEW), v4(0, 1));
    // Of another kind of hardware.
    odd[15] = 6;
    lab.send(0, &odd);
    assert_eq!((lab.take(2), lab.dropped(Drop::HostIgnored)), (vec![odd], 0), "flooded as well");
    let mut odd = arp(Mac::BROADCAST, 1, NEW_MAC, v4(1, NEW), v4(1, 1));
    odd[15] = 6;
    lab.send(1, &odd);
    assert_eq!(lab.dropped(Drop::HostIgnored), 1, "there is no other port");
    let mut odd = arp(gateway(0), 2, NEW_MAC, v4(0, NEW), v4(0, 1));
    odd[15] = 6;
    lab.send(0, &odd);
    assert_eq!(lab.dropped(Drop::HostIgnored), 2, "to the switch alone");
    assert_eq!(lab.host.counters().invalid, 3);
    lab.assert_no_frame_lost(0);
}

#[test]
fn a_host_that_asks_for_its_gateway_is_answered() {
    let mut lab = RouterLab::new(2);
    lab.send(1, &arp(Mac::BROADCAST, 1, NEW_MAC, v4(1, NEW), v4(1, 1)));
    let answer = lab.only(1);
    assert_eq!((&answer[..6], read(&answer)), (&NEW_MAC.octets()[..], (2, v4(1, 1), v4(1, NEW))));
    assert_eq!(answer[6..12], gateway(1).octets());
    assert_eq!(state(&lab), Some(State::Stale));
    lab.assert_no_frame_lost(0);
}

#[test]
fn a_packet_waits_for_its_next_hop_and_goes_to_it() {
    let mut lab = RouterLab::new(2);
    let frame = udp4(0, v4(1, NEW), 64, 8);
    lab.send(0, &frame);
    let question = lab.only(1);
    assert_eq!((&question[..6], read(&question)), (&[0xff; 6][..], (1, v4(1, 1), v4(1, NEW))));
    reply(&mut lab);
    let mut routed = routed4(&frame, 1);
    routed[..6].copy_from_slice(&NEW_MAC.octets());
    assert_eq!(lab.only(1), routed);
    lab.send(0, &frame);
    assert_eq!(lab.only(1), routed, "the next one goes straight on");
    assert_eq!(state(&lab), Some(State::Reachable));
    lab.assert_no_frame_lost(0);
}

#[test]
fn a_stale_neighbour_in_use_is_asked_and_an_unused_one_is_not() {
    let mut lab = RouterLab::new(2);
    let frame = udp4(0, v4(1, NEW), 64, 8);
    lab.send(0, &frame);
    reply(&mut lab);
    lab.advance_ms(60_000);
    lab.take(1);
    assert_eq!(state(&lab), Some(State::Stale));
    // As if the host's thread slept: the worker must wake it, since nothing else would for minutes.
    let waker = lab.shared().host_waker();
    waker.set_asleep(true);
    let mut woken = std::fs::File::from(waker.fd().as_fd().try_clone_to_owned().unwrap());
    lab.send(0, &frame);
    assert_eq!(woken.read(&mut [0; 8]).ok(), Some(8), "woken by the first use");
    assert_eq!((lab.take(1).len(), state(&lab)), (1, Some(State::Delay)));
    lab.send(0, &frame);
    assert!(woken.read(&mut [0; 8]).is_err(), "and by the first alone");
    lab.take(1);
    lab.advance_ms(5_000);
    let question = lab.only(1);
    assert_eq!((&question[..6], read(&question)), (&NEW_MAC.octets()[..], (1, v4(1, 1), v4(1, NEW))));
    reply(&mut lab);
    assert_eq!(state(&lab), Some(State::Reachable));
    lab.assert_no_frame_lost(0);
}

#[test]
fn a_next_hop_that_never_answers_is_told_to_the_sender() {
    let mut lab = RouterLab::new(2);
    lab.send(0, &udp4(0, v4(1, NEW), 64, 8));
    lab.advance_ms(3_500);
    assert_eq!(lab.take(1).len(), 3, "questions");
    let error = icmp(&lab.only(0));
    assert_eq!((error.from, error.kind, lab.dropped(Drop::NeighbourUnresolved)), (v4(0, 1), [3, 1], 1));
    lab.assert_no_frame_lost(0);
}
