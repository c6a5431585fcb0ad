//! What the operator configures: options, lease times, static addresses, probes, exhaustion, other settings.

use super::*;

#[test]
fn the_lease_is_what_the_client_asks_for_but_no_longer_than_configured() {
    let mut server = server();
    for (asked, given) in [(1, 60), (59, 60), (61, 61), (3600, 3600), (3601, 3600), (u32::MAX, 3600)] {
        let offer = Message::new(DISCOVER, 1).option(51, &asked.to_be_bytes()).to(&mut server, NOW);
        let offer = Read::of(offer);
        assert_eq!(offer.number(51), Some(given), "{asked}");
        assert_eq!((offer.number(58), offer.number(59)), (Some(given / 2), Some(given * 7 / 8)), "T1, T2");
        let ack = Read::of(select(1, offer.yiaddr()).option(51, &asked.to_be_bytes()).to(&mut server, NOW));
        assert_eq!(ack.number(51), Some(given));
        assert_eq!(entry(&server, offer.yiaddr()), Some((State::Bound, NOW + u64::from(given))));
    }
    assert_eq!(Message::new(DISCOVER, 1).option(51, &[1]).to(&mut server, NOW), Answer::None(Silence::Malformed));
}

#[test]
fn a_client_that_asks_for_nothing_gets_everything() {
    let offer = Read::of(Message::new(DISCOVER, 1).to(&mut server(), NOW));
    assert_eq!(offer.codes(), [53, 54, 51, 58, 59, 1, 3, 6, 15, 26, 28, 42]);
    assert_eq!(offer.option(1), Some(&[255, 255, 255, 0][..]));
    assert_eq!(offer.option(3), Some(&SERVER.octets()[..]));
    assert_eq!(offer.option(6), Some(&[10, 96, 0, 10, 9, 9, 9, 9][..]));
    assert_eq!(offer.option(15), Some(&b"pods.test"[..]));
    assert_eq!(offer.option(26), Some(&1450u16.to_be_bytes()[..]));
    assert_eq!(offer.option(28), Some(&ip(255).octets()[..]));
    assert_eq!(offer.option(42), Some(&ip(2).octets()[..]));
}

#[test]
fn requested_options_come_in_the_order_requested_each_once() {
    let mut server = server();
    let codes = |server: &mut Server, asked: &[u8]| {
        let offer = Read::of(Message::new(DISCOVER, 1).option(55, asked).to(server, NOW));
        offer.codes()[5..].to_vec()
    };
    assert_eq!(codes(&mut server, &[42, 6, 1, 15, 6, 99, 12, 3]), [42, 6, 1, 15, 3], "without those that are not set");
    assert_eq!(codes(&mut server, &[28, 3, 6, 1]), [28, 1, 3, 6], "the mask before the router");
    assert_eq!(codes(&mut server, &[3]), [3]);
    assert_eq!(codes(&mut server, &[51, 53, 54, 61, 0, 255, 82]), [0u8; 0], "never what a client cannot ask for");
}

#[test]
fn what_is_not_configured_is_not_sent() {
    let bare = Settings {
        dns: vec![],
        ntp: vec![],
        domain: None,
        mtu: None,
        subnet: Ipv4Net::new(SERVER, 31).unwrap(),
        ..settings()
    };
    let offer = Read::of(Message::new(DISCOVER, 1).to(&mut Server::new(bare, vec![], NOW), NOW));
    assert_eq!(offer.codes(), [53, 54, 51, 58, 59, 1, 3], "a subnet of two has no broadcast address either");
}

#[test]
fn a_static_address_is_for_its_mac_or_client_identifier_alone() {
    let mut server = server();
    let web = Read::of(Message::new(DISCOVER, 0x50).address(50, ip(100)).to(&mut server, NOW));
    assert_eq!((web.yiaddr(), web.option(12)), (ip(50), Some(&b"web"[..])));
    let web = Message::new(DISCOVER, 0x50).option(61, b"\xffboot stage two").to(&mut server, NOW);
    assert_eq!(Read::of(web).yiaddr(), ip(50), "its MAC address names it, whatever identifier it sends");
    let db = Message::new(DISCOVER, 7).option(61, b"\0db").to(&mut server, NOW);
    assert_eq!((Read::of(db.clone()).yiaddr(), Read::of(db).option(12)), (ip(101), None));
    let others: Vec<Ipv4Addr> = (1..=3).map(|client| lease(&mut server, client, NOW)).collect();
    assert_eq!(others, [ip(100), ip(102), ip(103)]);
    assert_eq!(Message::new(DISCOVER, 4).to(&mut server, NOW), Answer::None(Silence::Exhausted));
    assert_eq!(Message::new(DISCOVER, 4).to(&mut server, NOW + 40), Answer::None(Silence::Exhausted), "offers ended");
    assert_eq!(Read::of(select(0x50, ip(103)).to(&mut server, NOW + 9999)).kind(), NAK, "and it has no other");
}

#[test]
fn a_static_address_in_quarantine_leaves_its_client_another_for_the_while() {
    let mut server = server();
    assert_eq!(lease(&mut server, 0x50, NOW), ip(50));
    let decline = Message::new(DECLINE, 0x50).address(54, SERVER).address(50, ip(50)).to(&mut server, NOW);
    assert_eq!(decline, Answer::None(Silence::Declined));
    assert_eq!(lease(&mut server, 0x50, NOW), ip(100));
    let renew = |server: &mut Server, now| Message::new(REQUEST, 0x50).ciaddr(ip(100)).unicast_to(server, now);
    assert_eq!(Read::of(renew(&mut server, NOW + 300)).kind(), ACK);
    let after = NOW + QUARANTINE_SECONDS;
    assert_eq!(Read::of(renew(&mut server, after)).kind(), NAK, "back to its own address");
    assert_eq!(lease(&mut server, 0x50, after), ip(50));
}

fn probing() -> Server {
    Server::new(Settings { probe: true, ..settings() }, Vec::new(), NOW)
}

#[test]
fn an_address_is_probed_before_it_is_offered() {
    let mut server = probing();
    assert_eq!(Message::new(DISCOVER, 1).to(&mut server, NOW), Answer::Probe(ip(100)));
    let retransmission = Message::new(DISCOVER, 1).field(4, &[9, 9, 9, 9]).to(&mut server, NOW);
    assert_eq!(retransmission, Answer::None(Silence::Probing));
    assert_eq!(Message::new(DISCOVER, 2).to(&mut server, NOW), Answer::Probe(ip(102)), "each its own");
    let offer = Read::of(server.probe_done(ip(100), false, NOW));
    assert_eq!((offer.kind(), offer.yiaddr()), (OFFER, ip(100)));
    assert_eq!(offer.payload[4..8], [9, 9, 9, 9], "the transaction that the client waits for now");
    assert_eq!(server.probe_done(ip(100), false, NOW), Answer::None(Silence::ProbeTooLate));
    let again = Read::of(Message::new(DISCOVER, 1).to(&mut server, NOW + 1));
    assert_eq!(again.yiaddr(), ip(100), "no second probe of what it holds");
}

#[test]
fn an_address_in_use_is_quarantined_and_the_next_is_probed() {
    let mut server = probing();
    assert_eq!(Message::new(DISCOVER, 1).to(&mut server, NOW), Answer::Probe(ip(100)));
    assert_eq!(server.probe_done(ip(100), true, NOW), Answer::Probe(ip(102)));
    assert_eq!(entry(&server, ip(100)), Some((State::Quarantined, NOW + QUARANTINE_SECONDS)));
    let notices = server.take_notices();
    assert_eq!(
        notices,
        ["bridge \"pods\": DHCP does not offer 10.244.1.100, which a host uses that was not given it; \
            take it out of the range, or reserve it with [[bridge.dhcp.static]]"]
    );
    let offer = Read::of(server.probe_done(ip(102), false, NOW));
    assert_eq!(offer.yiaddr(), ip(102));
}

#[test]
fn after_three_conflicts_the_client_is_left_to_ask_again() {
    let mut server = probing();
    assert_eq!(Message::new(DISCOVER, 1).to(&mut server, NOW), Answer::Probe(ip(100)));
    assert_eq!(server.probe_done(ip(100), true, NOW), Answer::Probe(ip(102)));
    assert_eq!(server.probe_done(ip(102), true, NOW), Answer::Probe(ip(103)));
    assert_eq!(server.probe_done(ip(103), true, NOW), Answer::None(Silence::Exhausted));
    assert!(u64::from(PROBE_TRIES) * PROBE_MS < 1000, "an offer comes within a second");
}

#[test]
fn a_probe_that_nobody_waits_for_changes_nothing() {
    let mut server = probing();
    assert_eq!(Message::new(DISCOVER, 1).to(&mut server, NOW), Answer::Probe(ip(100)));
    assert_eq!(Read::of(select(1, ip(100)).to(&mut server, NOW)).kind(), ACK);
    assert_eq!(server.probe_done(ip(100), true, NOW), Answer::None(Silence::ProbeTooLate), "the client itself answers");
    assert_eq!(entry(&server, ip(100)).unwrap().0, State::Bound);
    assert_eq!(server.probe_done(ip(200), true, NOW), Answer::None(Silence::ProbeTooLate));
}

#[test]
fn a_flood_does_not_wait_for_probes() {
    let wide = Settings { last: ip(240), probe: true, ..settings() };
    let mut server = Server::new(wide, Vec::new(), NOW);
    for client in 0..PROBES_MAX {
        assert!(matches!(Message::new(DISCOVER, client as u8).to(&mut server, NOW), Answer::Probe(_)), "{client}");
    }
    assert_eq!(Read::of(Message::new(DISCOVER, 200).to(&mut server, NOW)).kind(), OFFER, "offered at once");
    let later = NOW + OFFER_SECONDS;
    assert!(matches!(Message::new(DISCOVER, 201).to(&mut server, later), Answer::Probe(_)), "room again");
}

#[test]
fn exhaustion_is_said_once_in_ten_minutes() {
    let mut server = server();
    for client in 1..=3 {
        lease(&mut server, client, NOW);
    }
    for second in 0..600 {
        assert_eq!(Message::new(DISCOVER, 4).to(&mut server, NOW + second), Answer::None(Silence::Exhausted));
    }
    let notice = "bridge \"pods\": DHCP has no free address left from 10.244.1.100 to 10.244.1.103; \
        widen \"range\" or shorten \"lease_seconds\"";
    assert_eq!(server.take_notices(), [notice]);
    assert_eq!(Message::new(DISCOVER, 4).to(&mut server, NOW + 600), Answer::None(Silence::Exhausted));
    assert_eq!(server.take_notices(), [notice]);
}

#[test]
fn a_scan_of_many_clients_stays_within_the_pool_and_passes() {
    let mut server = server();
    let held = lease(&mut server, 1, NOW);
    for number in 0..200_000u32 {
        let now = NOW + u64::from(number / 1000);
        let id = [&[0][..], &number.to_be_bytes()].concat();
        Message::new(DISCOVER, 9).option(61, &id).to(&mut server, now);
    }
    assert!(server.leases().count() <= 4, "{}", server.leases().count());
    assert!(server.take_notices().len() <= 2);
    assert_eq!(entry(&server, held), Some((State::Bound, NOW + 3600)), "leases stand");
    let calm = NOW + 200 + OFFER_SECONDS;
    assert_ne!(lease(&mut server, 2, calm), held);
}

#[test]
fn leases_are_remembered_and_those_without_a_place_end() {
    let mut old = server();
    let held = lease(&mut old, 1, NOW);
    let high = Read::of(select(2, ip(103)).to(&mut old, NOW)).yiaddr();
    assert_eq!(lease(&mut old, 0x50, NOW), ip(50));
    let leases: Vec<Lease> = old.leases().cloned().collect();
    let mut again = Server::new(settings(), leases.clone(), NOW + 10);
    assert!(again.leases().eq(old.leases()) && again.take_changes().is_empty());

    let narrow = Settings { last: ip(102), statics: vec![], ..settings() };
    let mut server = Server::new(narrow.clone(), leases.clone(), NOW + 10);
    assert!(server.leases().eq(old.leases()), "nobody else may get an address that is in use");
    for (client, address) in [(2, high), (0x50, ip(50))] {
        let renew = Message::new(REQUEST, client).ciaddr(address);
        assert_eq!(Read::of(renew.clone().unicast_to(&mut server, NOW + 10)).kind(), NAK);
        assert_eq!(Read::of(renew.to(&mut server, NOW + 10)).kind(), NAK, "rebinding");
    }
    let mut server = Server::new(narrow, leases.clone(), NOW + 3600);
    assert_eq!(server.leases().map(|lease| lease.address).collect::<Vec<_>>(), [held]);
    let dropped: Vec<_> = server.take_changes().into_iter().map(|change| (change.address, change.lease)).collect();
    assert_eq!(dropped, [(ip(50), None), (high, None)]);

    let moved = Settings { server: held, ..settings() };
    assert!(Server::new(moved, leases, NOW).leases().all(|lease| lease.address != held), "the server's own address");
}

#[test]
fn new_settings_keep_leases_and_respect_new_reservations() {
    let mut server = server();
    let (first, second) = (lease(&mut server, 1, NOW), lease(&mut server, 2, NOW));
    server.take_changes();
    let mut new = settings();
    new.statics.push(Static { client: Client::of_mac(mac(9)), address: first, hostname: None });
    new.lease_seconds = 600;
    server.reconfigure(new, NOW + 1);
    assert_eq!((entry(&server, first).unwrap().0, entry(&server, second).unwrap().0), (State::Bound, State::Bound));
    assert_ne!(lease(&mut server, 9, NOW + 1), first, "not while another has it");
    let renew = Message::new(REQUEST, 1).ciaddr(first).unicast_to(&mut server, NOW + 2);
    assert_eq!(Read::of(renew).kind(), NAK, "which is not renewed any more");
    assert_eq!(lease(&mut server, 9, NOW + 3601), first);
    let renew = Read::of(Message::new(REQUEST, 2).ciaddr(second).unicast_to(&mut server, NOW + 2));
    assert_eq!(renew.number(51), Some(600));
}

#[test]
fn a_client_stored_twice_keeps_its_later_lease() {
    let made = |last, expires_s| Lease {
        address: ip(last),
        client: Some(Client::of_mac(mac(1))),
        hardware: mac(1).octets().to_vec(),
        hostname: None,
        state: State::Bound,
        expires_s,
    };
    let mut server = Server::new(settings(), vec![made(100, NOW + 9), made(102, NOW + 5)], NOW);
    assert_eq!(server.leases().map(|lease| lease.address).collect::<Vec<_>>(), [ip(100)]);
    assert_eq!(server.take_changes(), [Change { address: ip(102), lease: None }]);
}

#[test]
fn leases_are_listed_with_client_name_and_state() {
    let mut server = server();
    let discover = Message::new(DISCOVER, 1).option(61, &[0, 0xab]).option(12, b"box-1").to(&mut server, NOW);
    assert_eq!(Read::of(discover).kind(), OFFER);
    lease(&mut server, 2, NOW);
    let list = |server: &Server, now| {
        let line = |lease: &Lease| {
            let client = lease.client.as_ref().unwrap();
            format!("{} {client} {:?} {}", lease.address, lease.hostname, lease.state_name(now))
        };
        server.leases().map(line).collect::<Vec<_>>()
    };
    assert_eq!(
        list(&server, NOW),
        ["10.244.1.100 id 00:ab Some(\"box-1\") offered", "10.244.1.102 02:42:00:00:00:02 None leased"]
    );
    assert!(list(&server, NOW + 3600).iter().all(|line| line.ends_with("expired")));
}
