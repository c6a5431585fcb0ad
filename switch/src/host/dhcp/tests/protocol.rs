//! DHCPDISCOVER and its offer, where replies go, DHCPDECLINE, DHCPRELEASE, DHCPINFORM.

use super::*;

#[test]
fn an_offer_echoes_xid_flags_giaddr_and_chaddr_and_has_lease_time_and_server_identifier() {
    let mut server = server();
    let discover = Message::new(DISCOVER, 7).broadcast_flag().giaddr(RELAY);
    let offer = Read::of(discover.clone().to(&mut server, NOW));
    assert_eq!(offer.kind(), OFFER);
    assert_eq!(offer.payload[1..3], discover.0[1..3], "htype, hlen");
    assert_eq!(offer.payload[4..8], discover.0[4..8], "xid");
    assert_eq!(offer.payload[8..10], [0, 0], "secs");
    assert_eq!(offer.payload[10..12], [0x80, 0], "flags");
    assert_eq!(offer.field(24), RELAY);
    assert_eq!(offer.payload[28..44], discover.0[28..44], "chaddr");
    assert_eq!((offer.field(12), offer.field(20)), (Ipv4Addr::UNSPECIFIED, Ipv4Addr::UNSPECIFIED), "ciaddr, siaddr");
    assert_eq!(offer.yiaddr(), ip(100));
    assert_eq!(offer.number(51), Some(3600));
    assert_eq!(offer.option(54), Some(&SERVER.octets()[..]));
}

#[test]
fn a_whole_offer_is_these_octets() {
    let Answer::Reply(reply) = Message::new(DISCOVER, 9).option(55, &[1, 3, 6]).to(&mut server(), NOW) else {
        panic!()
    };
    let mut expected = vec![2, 1, 6, 0, 0xca, 0xfe, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 10, 244, 1, 100];
    expected.resize(28, 0);
    expected.extend([2, 0x42, 0, 0, 0, 9]);
    expected.resize(236, 0);
    expected.extend([0x63, 0x82, 0x53, 0x63, 53, 1, 2, 54, 4, 10, 244, 1, 1, 51, 4, 0, 0, 0x0e, 0x10]);
    expected.extend([58, 4, 0, 0, 0x07, 0x08, 59, 4, 0, 0, 0x0c, 0x4e]);
    expected.extend([1, 4, 255, 255, 255, 0, 3, 4, 10, 244, 1, 1, 6, 8, 10, 96, 0, 10, 9, 9, 9, 9, 255]);
    expected.resize(300, 0);
    assert_eq!(reply.payload, expected);
}

#[test]
fn the_client_identifier_is_echoed_and_only_when_sent() {
    let mut server = server();
    let offer = Read::of(Message::new(DISCOVER, 1).option(61, b"\x01id").to(&mut server, NOW));
    assert_eq!(offer.option(61), Some(&b"\x01id"[..]));
    let ack = select(1, offer.yiaddr()).option(61, b"\x01id").to(&mut server, NOW);
    assert_eq!(Read::of(ack).option(61), Some(&b"\x01id"[..]));
    let nak = select(1, ip(9)).option(61, b"\x01id").to(&mut server, NOW);
    assert_eq!(Read::of(nak).option(61), Some(&b"\x01id"[..]));
    assert_eq!(Read::of(Message::new(DISCOVER, 2).to(&mut server, NOW)).option(61), None);
}

#[test]
fn a_client_is_its_identifier_else_its_hardware_type_and_address() {
    let mut server = server();
    let discover = |id: &[u8], client| Message::new(DISCOVER, client).option(61, id);
    let first = Read::of(discover(b"\0a", 1).to(&mut server, NOW)).yiaddr();
    assert_eq!(Read::of(discover(b"\0a", 2).to(&mut server, NOW)).yiaddr(), first, "another card, the same client");
    let second = Read::of(discover(b"\0b", 1).to(&mut server, NOW)).yiaddr();
    assert_ne!(second, first, "the same card, another client");
    let third = Read::of(Message::new(DISCOVER, 1).to(&mut server, NOW)).yiaddr();
    assert!(third != first && third != second, "no identifier");
    let other_type = Message::new(DISCOVER, 1).field(1, &[6]).to(&mut server, NOW);
    assert_eq!(other_type, Answer::None(Silence::Exhausted), "another hardware type is a fourth client, for three");
}

#[test]
fn a_client_gets_what_it_has_had_and_asked_for_in_that_order() {
    let mut server = server();
    let wanted = Read::of(Message::new(DISCOVER, 1).address(50, ip(103)).to(&mut server, NOW));
    assert_eq!(wanted.yiaddr(), ip(103), "asked for");
    assert_eq!(Read::of(select(1, ip(103)).to(&mut server, NOW)).kind(), ACK);
    let again = Read::of(Message::new(DISCOVER, 1).address(50, ip(102)).to(&mut server, NOW + 10));
    assert_eq!(again.yiaddr(), ip(103), "the current one before another");
    assert_eq!(entry(&server, ip(103)), Some((State::Bound, NOW + 3600)), "an offer does not end a lease");
    let late = NOW + 10_000;
    assert_eq!(Read::of(Message::new(DISCOVER, 1).to(&mut server, late)).yiaddr(), ip(103), "the ended one");
    let taken = Read::of(Message::new(DISCOVER, 2).address(50, ip(103)).to(&mut server, late));
    assert_eq!(taken.yiaddr(), ip(100), "one that is taken is not given");
    for outside in [ip(99), ip(1), ip(50), ip(101), Ipv4Addr::new(10, 244, 2, 100)] {
        let offer = Read::of(Message::new(DISCOVER, 3).address(50, outside).to(&mut server, late));
        assert_eq!(offer.yiaddr(), ip(102), "{outside}");
    }
}

#[test]
fn an_offer_is_kept_for_its_client_and_expires() {
    let mut server = server();
    let offered: Vec<Ipv4Addr> =
        (1..=3).map(|client| Read::of(Message::new(DISCOVER, client).to(&mut server, NOW)).yiaddr()).collect();
    assert_eq!(offered, [ip(100), ip(102), ip(103)]);
    let still = NOW + OFFER_SECONDS - 1;
    assert_eq!(Message::new(DISCOVER, 4).to(&mut server, still), Answer::None(Silence::Exhausted));
    assert_eq!(Read::of(Message::new(DISCOVER, 2).to(&mut server, still)).yiaddr(), ip(102));
    assert_eq!(Read::of(Message::new(DISCOVER, 4).to(&mut server, NOW + OFFER_SECONDS)).yiaddr(), ip(100));
}

#[test]
fn replies_go_to_the_relay_else_to_ciaddr_else_where_the_broadcast_flag_says() {
    let mut server = server();
    let at = |answer: Answer| Read::of(answer).destination;
    let discover = |client| Message::new(DISCOVER, client);
    assert_eq!(at(discover(1).giaddr(RELAY).to(&mut server, NOW)), Destination::Relay { ip: RELAY });
    let to_ciaddr = discover(1).ciaddr(ip(100)).broadcast_flag().to(&mut server, NOW);
    assert_eq!(at(to_ciaddr), Destination::Client { ip: ip(100), mac: mac(1) });
    assert_eq!(at(discover(1).broadcast_flag().to(&mut server, NOW)), Destination::Broadcast);
    assert_eq!(at(discover(1).to(&mut server, NOW)), Destination::Client { ip: ip(100), mac: mac(1) });
    let no_mac = Message::new(DISCOVER, 2).field(2, &[5]).to(&mut server, NOW);
    assert_eq!(at(no_mac), Destination::Broadcast, "without an Ethernet address there is no unicast");
    let group = Message::new(DISCOVER, 2).field(28, &[3]).to(&mut server, NOW);
    assert_eq!(at(group), Destination::Broadcast, "nor to a group address");
}

#[test]
fn messages_of_relays_in_other_subnets_are_left_alone() {
    let mut server = server();
    for relay in [Ipv4Addr::new(10, 244, 2, 254), SERVER, ip(255), ip(0)] {
        let answer = Message::new(DISCOVER, 1).giaddr(relay).to(&mut server, NOW);
        assert_eq!(answer, Answer::None(Silence::OtherSubnet), "{relay}");
    }
    assert_eq!(server.leases().count(), 0);
}

#[test]
fn a_declined_address_is_quarantined() {
    let mut server = server();
    let address = lease(&mut server, 1, NOW);
    let decline = |client, address| Message::new(DECLINE, client).address(54, SERVER).address(50, address);
    assert_eq!(decline(2, address).to(&mut server, NOW), Answer::None(Silence::NotHeld), "not by another client");
    let other = Message::new(DECLINE, 1).address(54, ip(2)).address(50, address).to(&mut server, NOW);
    assert_eq!(other, Answer::None(Silence::OtherServer));
    assert_eq!(entry(&server, address), Some((State::Bound, NOW + 3600)));
    assert_eq!(decline(1, address).to(&mut server, NOW), Answer::None(Silence::Declined));
    assert_eq!(entry(&server, address), Some((State::Quarantined, NOW + QUARANTINE_SECONDS)));
    assert_eq!(server.take_notices().len(), 1);
    let next = Read::of(Message::new(DISCOVER, 1).address(50, address).to(&mut server, NOW));
    assert_ne!(next.yiaddr(), address);
    assert_eq!(Read::of(select(1, address).to(&mut server, NOW)).kind(), NAK, "nor on request");
    let end = NOW + QUARANTINE_SECONDS;
    let after = Read::of(Message::new(DISCOVER, 3).address(50, address).to(&mut server, end));
    assert_eq!(after.yiaddr(), address);
}

#[test]
fn a_released_address_is_free_but_remembered() {
    let mut server = server();
    let address = lease(&mut server, 1, NOW);
    server.take_changes();
    let release = |client, address| Message::new(RELEASE, client).address(54, SERVER).ciaddr(address);
    assert_eq!(release(2, address).unicast_to(&mut server, NOW), Answer::None(Silence::NotHeld));
    assert_eq!(release(1, ip(102)).unicast_to(&mut server, NOW), Answer::None(Silence::NotHeld));
    assert_eq!(release(1, address).unicast_to(&mut server, NOW + 5), Answer::None(Silence::Released));
    assert_eq!(entry(&server, address), Some((State::Released, NOW + 5)));
    assert_eq!(server.take_changes()[0].lease.as_ref().map(|lease| lease.state), Some(State::Released));
    assert_ne!(Read::of(Message::new(DISCOVER, 2).to(&mut server, NOW + 6)).yiaddr(), address, "while others are left");
    assert_eq!(Read::of(Message::new(DISCOVER, 1).to(&mut server, NOW + 6)).yiaddr(), address, "the hint");
    assert_eq!(lease(&mut server, 3, NOW + 6), ip(103));
}

#[test]
fn a_released_address_goes_to_another_when_none_else_is_left() {
    let mut server = server();
    let address = lease(&mut server, 1, NOW);
    lease(&mut server, 2, NOW);
    lease(&mut server, 3, NOW);
    let release = Message::new(RELEASE, 1).address(54, SERVER).ciaddr(address);
    assert_eq!(release.unicast_to(&mut server, NOW + 5), Answer::None(Silence::Released));
    assert_eq!(lease(&mut server, 4, NOW + 6), address);
    assert_eq!(Message::new(DISCOVER, 1).to(&mut server, NOW + 6), Answer::None(Silence::Exhausted));
}

#[test]
fn inform_is_acknowledged_without_a_lease() {
    let mut server = server();
    let ack = Read::of(Message::new(INFORM, 1).ciaddr(ip(77)).option(55, &[6, 51, 15]).unicast_to(&mut server, NOW));
    assert_eq!((ack.kind(), ack.yiaddr(), ack.field(12)), (ACK, Ipv4Addr::UNSPECIFIED, ip(77)));
    assert_eq!(ack.codes(), [53, 54, 6, 15], "no lease time, no T1, no T2");
    assert_eq!(ack.destination, Destination::Client { ip: ip(77), mac: mac(1) });
    assert_eq!(server.leases().count(), 0);
    let elsewhere = Message::new(INFORM, 1).ciaddr(Ipv4Addr::new(8, 8, 8, 8)).unicast_to(&mut server, NOW);
    assert_eq!(elsewhere, Answer::None(Silence::OtherSubnet), "an answer sent out of the subnet would be a reflection");
    assert_eq!(Message::new(INFORM, 1).to(&mut server, NOW), Answer::None(Silence::Malformed));
}

#[test]
fn what_is_not_for_a_server_is_left_alone() {
    let mut server = server();
    for kind in [OFFER, ACK, NAK, 0, 9, 10, 255] {
        assert_eq!(Message::new(kind, 1).to(&mut server, NOW), Answer::None(Silence::NotForServers), "{kind}");
    }
    let reply = Message::new(DISCOVER, 1).field(0, &[2]).to(&mut server, NOW);
    assert_eq!(reply, Answer::None(Silence::NotForServers));
}
