//! DHCP and router advertisements as frames.

use std::net::Ipv4Addr;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};

use super::super::service::HELD_MAX;
use super::frames::{Nd, arp_reply, arp_request, read_arp, read_nd};
use super::*;

const SERVER: [u8; 4] = [10, 0, 1, 1];

fn settings(bridge: &str) -> dhcp::Settings {
    dhcp::Settings {
        bridge: bridge.to_string(),
        server: SERVER.into(),
        subnet: "10.0.1.0/24".parse().unwrap(),
        first: [10, 0, 1, 100].into(),
        last: [10, 0, 1, 110].into(),
        lease_seconds: 3_600,
        router: SERVER.into(),
        dns: Vec::new(),
        domain: None,
        ntp: Vec::new(),
        mtu: None,
        statics: Vec::new(),
        probe: true,
    }
}

fn with_dhcp() -> Interface {
    let flags = RouterFlags { dhcp: true, ..FLAGS };
    Interface { dhcp: Some(settings("bridge1")), ..interface(1, flags) }
}

fn bed() -> Bed {
    let mut bed = Bed::bare(HostSettings { epoch_s: 1_700_000_000, ..HostSettings::default() }, 1_024);
    bed.configure(vec![with_dhcp(), interface(2, FLAGS)]);
    bed.pass(10_000);
    bed.sent();
    bed
}

/// A client's message of this kind (RFC 2132 9.6) with further options.
fn message(kind: u8, giaddr: [u8; 4], options: &[u8]) -> Vec<u8> {
    let mut payload = vec![0u8; 236];
    payload[..4].copy_from_slice(&[1, 1, 6, 0]);
    payload[4..8].copy_from_slice(&[1, 2, 3, 4]);
    payload[24..28].copy_from_slice(&giaddr);
    payload[28..34].copy_from_slice(&mac(5).octets());
    payload.extend([99, 130, 83, 99, 53, 1, kind]);
    payload.extend(options);
    payload.push(255);
    payload
}

fn frame(src: [u8; 4], dst: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let builder = PacketBuilder::ethernet2(mac(5).octets(), [255; 6]).ipv4(src, dst, 64).udp(68, 67);
    builder.write(&mut frame, payload).unwrap();
    frame
}

fn discover() -> Vec<u8> {
    frame([0; 4], [255; 4], &message(1, [0; 4], &[]))
}

struct Reply {
    to: (Mac, [u8; 4], u16),
    kind: u8,
    yiaddr: Ipv4Addr,
}

/// Reads a sent reply; both checksums are there and right.
fn read(bytes: &[u8]) -> Reply {
    let packet = SlicedPacket::from_ethernet(bytes).unwrap();
    let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Udp(udp))) = (packet.net, packet.transport) else {
        panic!("not UDP: {bytes:?}");
    };
    let header = ip.header();
    assert_eq!(header.header_checksum(), header.to_header().calc_header_checksum());
    let sum = udp.to_header().calc_checksum_ipv4(&header.to_header(), udp.payload()).unwrap();
    assert_eq!((udp.checksum(), udp.source_port(), header.source()), (sum, 67, SERVER));
    assert!(sum != 0);
    assert_eq!(bytes[6..12], OWN.octets());
    let payload = udp.payload();
    assert_eq!((payload[0], &payload[240..242]), (2, &[53, 1][..]), "a reply, and of which kind");
    Reply {
        to: (Mac::new(*bytes.first_chunk().unwrap()), header.destination(), udp.destination_port()),
        kind: payload[242],
        yiaddr: Ipv4Addr::from(*payload[16..].first_chunk::<4>().unwrap()),
    }
}

#[test]
fn an_address_is_probed_offered_and_leased() {
    let mut bed = bed();
    bed.hear(1, &discover());
    let (_, probe) = bed.sent_one();
    let (to, operation, sender, target) = read_arp(&probe);
    assert_eq!((to, operation, sender, target.0), (Mac::BROADCAST, 1, (OWN, [0; 4]), Mac::ZERO));
    bed.pass(dhcp::PROBE_MS - 1);
    assert!(bed.sent().is_empty());
    bed.pass(1);
    let offer = read(&bed.sent_one().1);
    assert_eq!((offer.kind, offer.to), (2, (mac(5), target.1, 68)), "to an address that nobody has yet, without ARP");
    let wanted = offer.yiaddr.octets();
    let options = [&[54, 4][..], &SERVER, &[50, 4], &wanted].concat();
    bed.hear(1, &frame([0; 4], [255; 4], &message(3, [0; 4], &options)));
    let ack = read(&bed.sent_one().1);
    assert_eq!((ack.kind, ack.yiaddr), (5, offer.yiaddr));
    let leases = bed.host.leases();
    assert_eq!((leases.len(), leases[0].0, leases[0].1.address), (1, domain(1), offer.yiaddr));
    assert_eq!(leases[0].1.expires_s, 1_700_000_010 + 3_600, "by the clock on the wall");
    assert_eq!((bed.host.counters().dhcp_requests, bed.host.counters().dhcp_replies), (2, 2));
    // The same server with other settings, and one that comes back, know the lease.
    bed.configure(vec![interface(1, FLAGS)]);
    assert!(bed.host.leases().is_empty());
    bed.configure(vec![with_dhcp()]);
    assert_eq!(bed.host.leases().len(), 1);
}

fn unprobed() -> Interface {
    let mut unprobed = with_dhcp();
    unprobed.dhcp.as_mut().unwrap().probe = false;
    unprobed
}

fn wait(until: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !until() {
        assert!(Instant::now() < deadline, "it does not come");
        std::thread::yield_now();
    }
}

/// A disk that is as slow as the test wants: which addresses came with each batch, and what ends the wait for it.
fn slow_disk(bed: &mut Bed) -> (mpsc::Receiver<Vec<Ipv4Addr>>, mpsc::Sender<Option<String>>) {
    let ((begun, batches), (finish, wait)) = (mpsc::channel(), mpsc::channel());
    let commit = move |batch: Batch| {
        begun.send(batch.changes.iter().map(|(_, change)| change.address).collect()).unwrap();
        wait.recv().unwrap_or_default()
    };
    bed.host.services.keep(Writer::spawn(commit, || {}).unwrap(), BTreeMap::new());
    bed.configure(vec![unprobed()]);
    bed.pass(10_000);
    bed.sent();
    (batches, finish)
}

/// A request for this address by a client with this identifier, which the server offered it to or not.
fn request(client: u8, last: u8) -> Vec<u8> {
    let options = [&[54, 4][..], &SERVER, &[50, 4, 10, 0, 1, last], &[61, 2, 0, client]].concat();
    frame([0; 4], [255; 4], &message(3, [0; 4], &options))
}

/// The kinds and addresses of the replies that went out with the next turns, once there are so many.
fn replies(bed: &mut Bed, count: usize) -> Vec<(u8, u8)> {
    let mut replies = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(10);
    while replies.len() < count {
        assert!(Instant::now() < deadline, "{replies:?}");
        bed.pass(0);
        replies.extend(
            bed.sent().iter().map(|(_, bytes)| read(bytes)).map(|reply| (reply.kind, reply.yiaddr.octets()[3])),
        );
    }
    replies
}

#[test]
fn nobody_waits_for_the_disk_but_those_whose_leases_go_there() {
    let mut bed = Bed::bare(HostSettings::default(), 1_024);
    let (batches, finish) = slow_disk(&mut bed);
    bed.hear(1, &request(1, 101));
    assert_eq!(batches.recv().unwrap(), [Ipv4Addr::new(10, 0, 1, 101)]);
    assert!(bed.sent().is_empty(), "not on disk yet");
    bed.hear(1, &arp_request(mac(9), [10, 0, 1, 9], SERVER));
    assert_eq!(read_arp(&bed.sent_one().1).1, 2, "ARP is answered meanwhile");
    bed.hear(1, &discover());
    assert_eq!(read(&bed.sent_one().1).kind, 2, "and so is who only looks for an address");
    bed.hear(1, &request(1, 101));
    bed.hear(1, &request(2, 102));
    bed.hear(1, &request(2, 103));
    bed.hear(1, &request(3, 104));
    bed.hear(1, &request(4, 104));
    assert_eq!(read(&bed.sent_one().1).kind, 6, "an address that another client gets");
    finish.send(None).unwrap();
    assert_eq!(replies(&mut bed, 2), [(5, 101), (5, 101)], "the repeated request changed nothing");
    let second = batches.recv().unwrap();
    assert_eq!(second.iter().map(|address| address.octets()[3]).collect::<Vec<_>>(), [102, 103, 104], "in one commit");
    bed.pass(1_000);
    assert!(bed.sent().is_empty());
    // Clients are better served without a record than not at all.
    finish.send(Some("the disk is full".to_string())).unwrap();
    assert_eq!(replies(&mut bed, 3), [(5, 102), (5, 103), (5, 104)]);
    assert!(batches.try_recv().is_err());
}

#[test]
fn when_too_many_wait_for_the_disk_requests_are_ignored_until_it_is_done() {
    let mut bed = Bed::bare(HostSettings::default(), 4_096);
    let (batches, finish) = slow_disk(&mut bed);
    for _ in 0..HELD_MAX {
        bed.hear(1, &request(1, 101));
    }
    bed.hear(1, &request(2, 102));
    bed.hear(1, &discover());
    assert!(bed.sent().is_empty() && bed.host.leases().len() == 1, "ignored");
    assert_eq!(bed.host.counters().dhcp_requests, HELD_MAX as u64 + 2);
    batches.recv().unwrap();
    finish.send(None).unwrap();
    assert!(replies(&mut bed, HELD_MAX).iter().all(|reply| *reply == (5, 101)));
    bed.hear(1, &request(2, 102));
    assert_eq!(batches.recv().unwrap(), [Ipv4Addr::new(10, 0, 1, 102)]);
    finish.send(None).unwrap();
    assert_eq!(replies(&mut bed, 1), [(5, 102)]);
}

#[test]
fn the_end_waits_for_what_is_not_on_disk() {
    let mut bed = Bed::bare(HostSettings::default(), 1_024);
    let (batches, finish) = slow_disk(&mut bed);
    bed.hear(1, &request(1, 101));
    assert_eq!(batches.recv().unwrap().len(), 1);
    bed.hear(1, &request(2, 102));
    let end = std::thread::spawn(move || drop(bed));
    std::thread::sleep(Duration::from_millis(50));
    assert!(!end.is_finished());
    drop(finish);
    end.join().unwrap();
    assert_eq!(batches.recv().unwrap(), [Ipv4Addr::new(10, 0, 1, 102)]);
}

/// A relay's message may be longer than a link: it is unicast to the server.
#[test]
fn a_message_in_fragments_is_heard_once_it_is_whole() {
    let mut bed = bed();
    let whole = frame([10, 0, 1, 5], SERVER, &message(1, [0; 4], &[]));
    let (header, payload) = whole.split_at(34);
    for (offset, more) in [(160, false), (0, true)] {
        assert!(bed.sent().is_empty());
        let part = if more { &payload[..160] } else { &payload[160..] };
        let mut piece = [header, part].concat();
        piece[16..18].copy_from_slice(&(20 + part.len() as u16).to_be_bytes());
        piece[20..22].copy_from_slice(&((offset / 8) | (u16::from(more) << 13)).to_be_bytes());
        bed.punt(1, Why::Local, &piece);
    }
    assert_eq!(bed.host.counters().dhcp_requests, 1);
    assert_eq!(read_arp(&bed.sent_one().1).0, Mac::BROADCAST, "the probe of an address to offer");
    assert_eq!(bed.host.counters().reassembled, 1);
}

#[test]
fn leases_outlive_the_host() {
    let directory = tempfile::tempdir().unwrap();
    let start = || {
        let mut bed = Bed::bare(HostSettings { epoch_s: 1_700_000_000, ..HostSettings::default() }, 1_024);
        let opened = dhcp::store::Store::open(directory.path(), 1_700_000_000);
        assert!(opened.problems.is_empty(), "{:?}", opened.problems);
        bed.host.keep_leases(opened).unwrap();
        bed.configure(vec![unprobed()]);
        bed.pass(10_000);
        bed.sent();
        bed
    };
    let mut bed = start();
    bed.hear(1, &discover());
    let wanted = read(&bed.sent_one().1).yiaddr;
    let options = [&[54, 4][..], &SERVER, &[50, 4], &wanted.octets()].concat();
    bed.hear(1, &frame([0; 4], [255; 4], &message(3, [0; 4], &options)));
    // The thread that wrote it has the host's thread take a turn.
    wait(|| bed.host.changed().load(Ordering::SeqCst));
    bed.pass(0);
    assert_eq!(read(&bed.sent_one().1).kind, 5);
    let before = bed.host.leases();
    drop(bed);
    assert_eq!(start().host.leases(), before);
    assert_eq!(before.len(), 1);
}

#[test]
fn an_address_that_answers_is_not_offered() {
    let mut bed = bed();
    bed.hear(1, &discover());
    let taken = read_arp(&bed.sent_one().1).3.1;
    bed.hear(1, &arp_reply(mac(9), taken, [0; 4]));
    let next = read_arp(&bed.sent_one().1).3.1;
    assert_ne!(taken, next);
    bed.pass(dhcp::PROBE_MS);
    assert_eq!(read(&bed.sent_one().1).yiaddr.octets(), next);
}

#[test]
fn a_relay_is_answered_as_any_host_by_arp() {
    let mut bed = bed();
    let relay = [10, 0, 1, 50];
    bed.hear(1, &frame(relay, SERVER, &message(1, relay, &[])));
    bed.sent();
    bed.pass(dhcp::PROBE_MS);
    assert_eq!(read_arp(&bed.sent_one().1).3.1, relay);
    bed.hear(1, &arp_reply(mac(50), relay, SERVER));
    assert_eq!(read(&bed.sent_one().1).to, (mac(50), relay, 67));
}

#[test]
fn damaged_and_foreign_messages_are_no_requests() {
    let mut bed = bed();
    let valid = discover();
    // Version, protocol, fragment, header checksum, UDP length, UDP checksum, another port.
    for at in [14, 23, 20, 24, 39, 40, 37] {
        let mut bytes = valid.clone();
        bytes[at] ^= 0x20;
        bed.hear(1, &bytes);
    }
    bed.hear(1, &valid[..200]);
    bed.hear(2, &valid);
    assert_eq!((bed.host.counters().dhcp_requests, bed.sent().len()), (0, 0));
    let mut without_checksum = valid;
    without_checksum[40..42].fill(0);
    bed.hear(1, &without_checksum);
    assert_eq!(bed.host.counters().dhcp_requests, 1);
    bed.pass(1_000);
    bed.sent();
}

fn with_ra() -> Interface {
    let plain = interface(1, FLAGS);
    let settings = ra::Settings {
        mac: OWN,
        source: plain.link_local().unwrap(),
        prefixes: vec!["2001:db8:0:1::/64".parse().unwrap()],
        dns: Vec::new(),
        search: Vec::new(),
        mtu: None,
        lifetime_seconds: 1_800,
        interval_seconds: 600,
        managed: false,
        other: false,
    };
    Interface { ra: Some(settings), ..plain }
}

/// Lifetimes of the advertisements among what was sent.
fn advertised(bed: &mut Bed) -> Vec<u16> {
    let sent = bed.sent();
    let is_ra = |bytes: &&(usize, Vec<u8>)| bytes.1.get(54) == Some(&134);
    let check = |(_, bytes): &(usize, Vec<u8>)| {
        let said = read_nd(&bytes[..]);
        assert_eq!((said.dst_mac, said.src_mac), (Mac::new([0x33, 0x33, 0, 0, 0, 1]), OWN));
        assert_eq!((said.dst, said.src), (ra::ALL_NODES, interface(1, FLAGS).link_local().unwrap()));
        u16::from_be_bytes([bytes[60], bytes[61]])
    };
    sent.iter().filter(is_ra).map(check).collect()
}

#[test]
fn routers_are_advertised_solicited_and_taken_back() {
    let mut bed = Bed::bare(HostSettings::default(), 1_024);
    bed.configure(vec![with_ra()]);
    bed.pass(500);
    assert_eq!(advertised(&mut bed), [1_800]);
    bed.pass(60_000);
    assert_eq!(advertised(&mut bed).len(), 2, "the start is said three times");
    bed.hear(1, &Nd::router_solicitation(5, "fe80::5").frame());
    bed.pass(500);
    assert_eq!(advertised(&mut bed).len(), 1);
    let mut broken = Nd::router_solicitation(6, "fe80::6");
    broken.hop_limit = 254;
    bed.hear(1, &broken.frame());
    bed.pass(10_000);
    assert!(advertised(&mut bed).is_empty());
    bed.configure(vec![interface(1, FLAGS)]);
    bed.pass(0);
    assert_eq!(advertised(&mut bed), [0], "no router any more");
    bed.pass(3_600_000);
    assert!(advertised(&mut bed).is_empty());
}
