//! The shape of messages: what is read, what is refused, overload, long options, sizes.

use dhcproto::{Decodable, Decoder, v4};

use super::*;

#[test]
fn an_independent_reader_understands_an_offer() {
    let Answer::Reply(reply) = Message::new(DISCOVER, 1).option(61, b"\0me").to(&mut server(), NOW) else { panic!() };
    let message = v4::Message::decode(&mut Decoder::new(&reply.payload)).unwrap();
    assert_eq!((message.opcode(), message.yiaddr()), (v4::Opcode::BootReply, ip(100)));
    assert_eq!(message.opts().msg_type(), Some(v4::MessageType::Offer));
    let option = |code| message.opts().get(code).cloned();
    assert_eq!(option(v4::OptionCode::AddressLeaseTime), Some(v4::DhcpOption::AddressLeaseTime(3600)));
    assert_eq!(option(v4::OptionCode::ClientIdentifier), Some(v4::DhcpOption::ClientIdentifier(b"\0me".to_vec())));
    assert_eq!(option(v4::OptionCode::DomainName), Some(v4::DhcpOption::DomainName("pods.test".to_string())));
}

#[test]
fn a_message_of_an_independent_writer_is_understood() {
    let mut message = v4::Message::default();
    message.set_chaddr(&mac(5).octets()).set_flags(v4::Flags::default().set_broadcast());
    message.opts_mut().insert(v4::DhcpOption::MessageType(v4::MessageType::Discover));
    message.opts_mut().insert(v4::DhcpOption::RequestedIpAddress(ip(102)));
    let payload = v4::Encodable::to_vec(&message).unwrap();
    let offer = Read::of(server().handle(Request { payload: &payload, destination: BROADCAST }, NOW));
    assert_eq!((offer.yiaddr(), offer.destination), (ip(102), Destination::Broadcast));
}

#[test]
fn padding_is_skipped_and_what_follows_the_end_is_not_read() {
    let mut discover = Message::new(DISCOVER, 1);
    discover.0.extend([0, 0, 0]);
    let mut discover = discover.address(50, ip(103));
    discover.0.extend([0, 255, 50, 4, 10, 244, 1, 102]);
    assert_eq!(Read::of(discover.to(&mut server(), NOW)).yiaddr(), ip(103));
}

#[test]
fn a_message_of_576_octets_and_a_larger_one_are_read() {
    for length in [576 - 28, 1472, 9000] {
        let mut discover = Message::new(DISCOVER, 1).option(55, &[1]);
        while discover.0.len() + 257 < length {
            discover = discover.option(43, &[7; 200]);
        }
        discover.0.resize(length - 7, 0);
        assert_eq!(Read::of(discover.address(50, ip(103)).to(&mut server(), NOW)).yiaddr(), ip(103), "{length}");
    }
}

#[test]
fn options_in_file_and_sname_are_read() {
    let mut server = server();
    let request = Message::new(REQUEST, 1).option(52, &[3]);
    let request = request.field(108, &[54, 4, 10, 244, 1, 1, 255]).field(44, &[50, 4, 10, 244, 1, 103, 255]);
    let ack = Read::of(request.clone().to(&mut server, NOW));
    assert_eq!((ack.kind(), ack.yiaddr()), (ACK, ip(103)));
    let only_file = request.field(242 + 3, &[1]);
    assert_eq!(only_file.0[243..246], [52, 1, 1]);
    assert_eq!(only_file.to(&mut server, NOW), Answer::None(Silence::Malformed), "the address is in sname");
    for overload in [&[0][..], &[4], &[], &[1, 1]] {
        let answer = Message::new(DISCOVER, 1).option(52, overload).to(&mut server, NOW);
        assert_eq!(answer, Answer::None(Silence::Malformed), "{overload:?}");
    }
}

#[test]
fn a_field_filled_by_options_to_its_last_octet_is_read() {
    let mut sname = vec![0; 58];
    sname.extend([50, 4, 10, 244, 1, 103]);
    let answer = Message::new(REQUEST, 1).option(52, &[2]).address(54, SERVER).field(44, &sname).to(&mut server(), NOW);
    assert_eq!(Read::of(answer).yiaddr(), ip(103));
}

#[test]
fn an_option_in_pieces_is_one_option() {
    let mut server = server();
    let whole = Read::of(Message::new(DISCOVER, 1).option(61, b"\0abcd").to(&mut server, NOW));
    let pieces = Message::new(DISCOVER, 1).option(61, b"\0a").option(12, b"x").option(61, b"bcd").to(&mut server, NOW);
    assert_eq!(Read::of(pieces).yiaddr(), whole.yiaddr());
}

#[test]
fn a_client_identifier_has_1_to_255_octets() {
    let mut server = server();
    let one = Read::of(Message::new(DISCOVER, 1).option(61, &[7]).to(&mut server, NOW));
    assert_eq!(one.option(61), Some(&[7][..]));
    let longest = [9; 255];
    let offer = Read::of(Message::new(DISCOVER, 1).option(61, &longest).to(&mut server, NOW));
    assert_eq!(offer.option(61), Some(&longest[..]));
    let longer = Message::new(DISCOVER, 1).option(61, &longest).option(61, &[1]).to(&mut server, NOW);
    assert_eq!(longer, Answer::None(Silence::Malformed));
    assert_eq!(Message::new(DISCOVER, 1).field(2, &[0]).to(&mut server, NOW), Answer::None(Silence::Malformed));
    let nameless = Message::new(DISCOVER, 1).field(2, &[0]).option(61, b"\0x").to(&mut server, NOW);
    assert_eq!(Read::of(nameless).destination, Destination::Broadcast);
}

/// Settings whose options do not fit into the smallest message beside a long client identifier.
fn wordy() -> Server {
    let domain = Some(format!("{}.test", "d".repeat(60)));
    let dns = (0..8).map(|last| Ipv4Addr::new(9, 9, 9, last)).collect();
    let ntp = (0..6).map(|last| Ipv4Addr::new(8, 8, 8, last)).collect();
    Server::new(Settings { domain, dns, ntp, ..settings() }, Vec::new(), NOW)
}

#[test]
fn a_reply_that_is_too_long_overloads_file_and_sname() {
    let discover = Message::new(DISCOVER, 1).option(61, &[7; 200]);
    let offer = Read::of(discover.clone().to(&mut wordy(), NOW));
    assert!(offer.payload.len() <= 576 - 28, "{}", offer.payload.len());
    let overload = offer.option(52).unwrap()[0];
    assert!(overload & 1 != 0, "{overload}");
    let mut codes = offer.codes();
    codes.retain(|code| *code != 52);
    codes.sort_unstable();
    assert_eq!(codes, [1, 3, 6, 15, 26, 28, 42, 51, 53, 54, 58, 59, 61], "nothing is missing");
    let roomy = Read::of(discover.clone().option(57, &1400u16.to_be_bytes()).to(&mut wordy(), NOW));
    assert_eq!(roomy.option(52), None);
    assert!((549..=1372).contains(&roomy.payload.len()), "{}", roomy.payload.len());
    let tiny = Read::of(discover.option(57, &64u16.to_be_bytes()).to(&mut wordy(), NOW));
    assert_eq!(tiny.payload, offer.payload, "every client takes 576");
}

#[test]
fn the_relay_agent_option_comes_back_as_it_came_and_last() {
    let relay = [1, 4, 0xde, 0xad, 0xbe, 0xef];
    let offer = Read::of(Message::new(DISCOVER, 1).option(82, &relay).giaddr(RELAY).to(&mut server(), NOW));
    assert_eq!(offer.options.last(), Some(&(82, relay.to_vec())));
}

#[test]
fn what_is_no_message_is_refused() {
    let mut server = server();
    let whole = Message::new(DISCOVER, 1).0;
    let mut handle = |payload: &[u8]| server.handle(Request { payload, destination: BROADCAST }, NOW);
    for length in 0..240 {
        assert_eq!(handle(&whole[..length]), Answer::None(Silence::Malformed), "{length}");
    }
    assert_eq!(handle(&whole[..240]), Answer::None(Silence::NotForServers), "BOOTP");
    assert_eq!(handle(&whole[..242]), Answer::None(Silence::NotForServers), "cut inside the option");
    let refused = |message: Message, why| assert_eq!(message.to(&mut self::server(), NOW), Answer::None(why));
    refused(Message(whole.clone()).field(236, &[0]), Silence::NotForServers);
    refused(Message(whole.clone()).field(2, &[17]), Silence::Malformed);
    refused(Message(whole.clone()).field(2, &[255]), Silence::Malformed);
    refused(Message(whole.clone()).option(53, &[1]), Silence::Malformed);
    assert_eq!(Read::of(handle(&whole)).kind(), OFFER, "no end option is forgiven");
}

#[test]
fn a_bad_option_spoils_only_itself() {
    let mut server = server();
    let latin = Message::new(DISCOVER, 1).option(12, b"caf\xe9").address(50, ip(103)).to(&mut server, NOW);
    assert_eq!(Read::of(latin).yiaddr(), ip(103), "options behind a name that is no UTF-8 are read");
    assert_eq!(server.leases().next().unwrap().hostname, None);
    for (name, kept) in
        [(&b"web-1.x"[..], Some("web-1.x")), (b"nul\0", Some("nul")), (b"", None), (b"a b", None), (b"\x1b[2J", None)]
    {
        Message::new(DISCOVER, 2).option(12, name).to(&mut server, NOW + 1000);
        let lease = server.leases().find(|lease| lease.hardware.ends_with(&[2])).unwrap();
        assert_eq!(lease.hostname.as_deref(), kept, "{name:?}");
        server = self::server();
    }
}
