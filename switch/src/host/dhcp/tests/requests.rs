//! DHCPREQUEST in its four states: SELECTING, INIT-REBOOT, RENEWING, REBINDING; and DHCPNAK.

use super::*;

fn reboot(client: u8, address: Ipv4Addr) -> Message {
    Message::new(REQUEST, client).address(50, address)
}

fn extend(client: u8, address: Ipv4Addr) -> Message {
    Message::new(REQUEST, client).ciaddr(address)
}

const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 7);

#[test]
fn selecting_leases_what_was_offered() {
    let mut server = server();
    let offered = Read::of(Message::new(DISCOVER, 1).to(&mut server, NOW)).yiaddr();
    let ack = Read::of(select(1, offered).to(&mut server, NOW + 1));
    assert_eq!((ack.kind(), ack.yiaddr(), ack.number(51)), (ACK, offered, Some(3600)));
    assert_eq!(ack.option(54), Some(&SERVER.octets()[..]));
    assert_eq!(ack.destination, Destination::Client { ip: offered, mac: mac(1) });
    assert_eq!(entry(&server, offered), Some((State::Bound, NOW + 3601)));
    let again = Read::of(select(1, offered).to(&mut server, NOW + 2));
    assert_eq!((again.kind(), again.yiaddr()), (ACK, offered), "a retransmission is answered too");
}

#[test]
fn selecting_another_server_frees_the_offer_in_silence() {
    let mut server = server();
    let offered = Read::of(Message::new(DISCOVER, 1).to(&mut server, NOW)).yiaddr();
    let elsewhere = Message::new(REQUEST, 1).address(54, ip(2)).address(50, ip(200)).to(&mut server, NOW + 1);
    assert_eq!(elsewhere, Answer::None(Silence::OtherServer));
    assert_eq!(entry(&server, offered), Some((State::Released, NOW + 1)));
    let bound = lease(&mut server, 2, NOW);
    let elsewhere = Message::new(REQUEST, 2).address(54, ip(2)).address(50, ip(200)).to(&mut server, NOW + 1);
    assert_eq!(elsewhere, Answer::None(Silence::OtherServer));
    assert_eq!(entry(&server, bound).unwrap().0, State::Bound, "a lease that was given is not an offer");
}

#[test]
fn selecting_what_the_client_cannot_have_is_refused() {
    let mut server = server();
    let held = lease(&mut server, 1, NOW);
    for wanted in [held, ip(50), ip(101), ip(104), SERVER, ip(255), OUTSIDE] {
        assert_eq!(Read::of(select(2, wanted).to(&mut server, NOW)).kind(), NAK, "{wanted}");
    }
    let late = Read::of(Message::new(DISCOVER, 2).to(&mut server, NOW)).yiaddr();
    let ack = Read::of(select(2, late).to(&mut server, NOW + OFFER_SECONDS + 60));
    assert_eq!(ack.kind(), ACK, "late, but nobody else took it");
}

#[test]
fn init_reboot_of_an_unknown_client_is_silent() {
    let mut server = server();
    let held = lease(&mut server, 1, NOW);
    for wanted in [ip(102), held, ip(200)] {
        assert_eq!(reboot(2, wanted).to(&mut server, NOW), Answer::None(Silence::UnknownClient), "{wanted}");
    }
}

#[test]
fn init_reboot_on_the_wrong_network_is_refused() {
    let mut server = server();
    lease(&mut server, 1, NOW);
    for client in [1, 2] {
        let nak = Read::of(reboot(client, OUTSIDE).to(&mut server, NOW));
        assert_eq!((nak.kind(), nak.destination), (NAK, Destination::Broadcast));
    }
}

#[test]
fn init_reboot_of_a_known_client_is_confirmed_or_refused() {
    let mut server = server();
    let held = lease(&mut server, 1, NOW);
    let ack = Read::of(reboot(1, held).to(&mut server, NOW + 100));
    assert_eq!((ack.kind(), ack.yiaddr()), (ACK, held));
    assert_eq!(entry(&server, held), Some((State::Bound, NOW + 3700)));
    assert_eq!(Read::of(reboot(1, ip(103)).to(&mut server, NOW)).kind(), NAK, "not the address it has");
    let ended = NOW + 10_000;
    assert_eq!(Read::of(reboot(1, held).to(&mut server, ended)).kind(), ACK, "ended, but nobody else took it");
    assert_eq!(Read::of(reboot(0x50, ip(50)).to(&mut server, NOW)).kind(), ACK, "reserved: known before it came");
    assert_eq!(Read::of(reboot(0x50, ip(103)).to(&mut server, NOW)).kind(), NAK);
}

#[test]
fn renewing_extends_the_lease_and_is_answered_to_ciaddr() {
    let mut server = server();
    let held = lease(&mut server, 1, NOW);
    let ack = Read::of(extend(1, held).unicast_to(&mut server, NOW + 1800));
    assert_eq!((ack.kind(), ack.yiaddr(), ack.field(12)), (ACK, held, held));
    assert_eq!(ack.destination, Destination::Client { ip: held, mac: mac(1) });
    assert_eq!(entry(&server, held), Some((State::Bound, NOW + 1800 + 3600)));
}

#[test]
fn a_client_that_repeats_itself_costs_one_write_a_second() {
    let mut server = server();
    let held = lease(&mut server, 1, NOW);
    assert_eq!(server.take_changes().len(), 1);
    for _ in 0..100 {
        assert_eq!(Read::of(extend(1, held).unicast_to(&mut server, NOW)).kind(), ACK);
    }
    assert_eq!(server.take_changes(), []);
    assert_eq!(Read::of(extend(1, held).unicast_to(&mut server, NOW + 1)).kind(), ACK);
    assert_eq!(server.take_changes().len(), 1);
}

#[test]
fn rebinding_extends_the_lease() {
    let mut server = server();
    let held = lease(&mut server, 1, NOW);
    let ack = Read::of(extend(1, held).to(&mut server, NOW + 3200));
    assert_eq!((ack.kind(), ack.yiaddr()), (ACK, held));
    assert_eq!(ack.destination, Destination::Client { ip: held, mac: mac(1) });
    assert_eq!(entry(&server, held), Some((State::Bound, NOW + 3200 + 3600)));
}

#[test]
fn a_lost_record_is_made_again_for_the_client_that_uses_the_address() {
    let mut server = server();
    assert_eq!(Read::of(extend(1, ip(102)).unicast_to(&mut server, NOW)).kind(), ACK);
    assert_eq!(Read::of(extend(2, ip(103)).to(&mut server, NOW)).kind(), ACK);
    assert_eq!(Read::of(extend(2, ip(102)).to(&mut server, NOW)).kind(), NAK, "but never one that another has");
}

#[test]
fn extending_what_is_not_this_servers_is_refused_or_left_to_another_server() {
    let mut server = server();
    assert_eq!(extend(1, ip(200)).to(&mut server, NOW), Answer::None(Silence::UnknownClient), "rebinding");
    assert_eq!(Read::of(extend(1, ip(200)).unicast_to(&mut server, NOW)).kind(), NAK, "renewing here");
    let nak = Read::of(extend(1, OUTSIDE).to(&mut server, NOW));
    assert_eq!((nak.kind(), nak.destination), (NAK, Destination::Broadcast), "wrong network");
    let relayed = extend(1, ip(200)).giaddr(RELAY).unicast_to(&mut server, NOW);
    assert_eq!(relayed, Answer::None(Silence::UnknownClient), "relays unicast what the client broadcast");
}

#[test]
fn a_nak_is_broadcast_and_has_no_lease_time_and_no_address() {
    let mut server = server();
    let nak = Read::of(extend(1, OUTSIDE).unicast_to(&mut server, NOW));
    assert_eq!(nak.codes(), [53, 54, 56]);
    assert_eq!(
        (nak.field(12), nak.yiaddr(), nak.field(20)),
        (Ipv4Addr::UNSPECIFIED, Ipv4Addr::UNSPECIFIED, Ipv4Addr::UNSPECIFIED)
    );
    assert_eq!(nak.destination, Destination::Broadcast, "although ciaddr is set and the message was unicast");
}

#[test]
fn a_nak_through_a_relay_has_the_broadcast_bit() {
    let mut server = server();
    let nak = Read::of(reboot(1, OUTSIDE).giaddr(RELAY).to(&mut server, NOW));
    assert_eq!(nak.destination, Destination::Relay { ip: RELAY });
    assert_eq!(nak.payload[10..12], [0x80, 0]);
    assert_eq!(nak.field(24), RELAY);
}

#[test]
fn requests_that_fit_no_state_are_malformed() {
    let mut server = server();
    let malformed = Answer::None(Silence::Malformed);
    assert_eq!(Message::new(REQUEST, 1).to(&mut server, NOW), malformed);
    assert_eq!(Message::new(REQUEST, 1).address(54, SERVER).to(&mut server, NOW), malformed);
    assert_eq!(Message::new(REQUEST, 1).option(50, &[1, 2, 3]).to(&mut server, NOW), malformed);
    assert_eq!(Message::new(REQUEST, 1).option(54, &[]).to(&mut server, NOW), malformed);
}

#[test]
fn a_client_has_one_address() {
    let mut server = server();
    let first = lease(&mut server, 1, NOW);
    server.take_changes();
    assert_eq!(Read::of(select(1, ip(103)).to(&mut server, NOW)).yiaddr(), ip(103));
    assert_eq!(entry(&server, first), None);
    let changes: Vec<_> = server.take_changes().into_iter().map(|c| (c.address, c.lease.is_some())).collect();
    assert_eq!(changes, [(first, false), (ip(103), true)]);
}
