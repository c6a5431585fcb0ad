//! One packet at a time, sound or not, and the one right answer to each: a table, packets checked to the byte.
//!
//! Senders live behind host A, where their ICMP errors go, each with an address of its own (a /64 for IPv6): errors
//! to one receiver are limited. What must not be answered is proved by what is sent after it: a packet to B, one out
//! of TTL, and an echo request.

use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use tests::net::capture::tshark_complaints;
use tests::net::packets::{self, Ends, IP, icmp_of, ip_length, seal, udp, with_extension, with_options};
use tests::net::process::output;
use tests::net::router::{RawHost, Route, Router, gateway_mac, gateway_v4, gateway_v6, net, v4, v6};
use tests::net::{Lab, Link, skipped};

/// What must become of a packet.
#[derive(Clone, Debug)]
enum Answer {
    /// It arrives at B, like this from the IP header on.
    Forwarded(Vec<u8>),
    /// It does not; A gets this ICMP error about it: type, code, rest of the header.
    Error(u8, u8, u32),
    /// It does not; A gets this other ICMP message: type, code.
    Message(u8, u8),
    /// Nobody gets anything.
    Nothing,
}

struct Case {
    name: String,
    frame: Vec<u8>,
    answer: Answer,
}

/// The table's cases; each makes its packet from two ends of its own.
#[derive(Default)]
struct Table {
    cases: Vec<Case>,
}

impl Table {
    /// From a new sender behind A to `to`, by way of the router.
    fn ends(&self, to: IpAddr) -> Ends {
        let [high, low] = (self.cases.len() as u16 + 1).to_be_bytes();
        let from = match to {
            IpAddr::V4(_) => IpAddr::from([10, 101, high, low]),
            IpAddr::V6(_) => IpAddr::from([0xfd65, 0, 0, self.cases.len() as u16 + 1, 0, 0, 0, 1]),
        };
        Ends { macs: [gateway_mac(1), A_MAC], ips: (from, to) }
    }

    fn add(&mut self, name: &str, frame: Vec<u8>, answer: Answer) {
        self.cases.push(Case { name: name.to_owned(), frame, answer });
    }

    /// A datagram to `to`, changed.
    fn change(&mut self, name: &str, to: IpAddr, answer: Answer, change: impl FnOnce(&mut Vec<u8>)) {
        let mut frame = udp(&self.ends(to), PORTS, PAYLOAD);
        change(&mut frame);
        self.add(name, frame, answer);
    }

    /// The same with the header's checksum made right again.
    fn field(&mut self, name: &str, to: IpAddr, answer: Answer, change: impl FnOnce(&mut Vec<u8>)) {
        self.change(name, to, answer, |frame| {
            change(frame);
            seal(frame);
        });
    }

    /// A frame that arrives as it is but for MAC addresses, TTL and checksum.
    fn passes(&mut self, name: &str, frame: Vec<u8>) {
        let arrives = Answer::Forwarded(forwarded(&frame));
        self.add(name, frame, arrives);
    }
}

/// Address of A's `eth0`, the first container of the lab.
const A_MAC: [u8; 6] = [0x02, 0x99, 0, 0, 0, 1];

const PORTS: (u16, u16) = (4000, 5000);
const PAYLOAD: &[u8] = b"a payload of some length";

/// Host B, the second container.
fn b4() -> IpAddr {
    v4(2, 2).into()
}

fn b6() -> IpAddr {
    v6(2, 2).into()
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// What a router makes of a packet, from the IP header on: TTL, checksum, no padding.
fn forwarded(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame[..IP + ip_length(frame).expect("an IP packet")].to_vec();
    let ttl = if frame[12..14] == [8, 0] { IP + 8 } else { IP + 7 };
    frame[ttl] -= 1;
    seal(&mut frame);
    frame.split_off(IP)
}

fn headers_v4(table: &mut Table) {
    use Answer::{Forwarded, Nothing};
    let sound = udp(&table.ends(b4()), PORTS, PAYLOAD);
    table.passes("sound", sound);
    table.change("wrong header checksum", b4(), Nothing, |frame| frame[IP + 11] ^= 0x40);
    for version in [0u8, 3, 5, 6, 15] {
        table.field("another version", b4(), Nothing, |frame| frame[IP] = version << 4 | 5);
    }
    for words in 0..5u8 {
        table.field("header length below five words", b4(), Nothing, |frame| frame[IP] = 0x40 | words);
    }
    table.field("header length beyond the packet", b4(), Nothing, |frame| frame[IP] = 0x4f);
    table.field("total length below the header's", b4(), Nothing, |frame| frame[IP + 3] = 19);
    table.field("total length beyond the frame", b4(), Nothing, |frame| frame[IP + 3] += 1);
    table.change("cut in the header", b4(), Nothing, |frame| frame.truncate(IP + 19));
    let mut padded = udp(&table.ends(b4()), PORTS, b"");
    padded.extend([0xee; 18]);
    table.passes("padding of the link", padded);
    let mut short = udp(&table.ends(b4()), PORTS, PAYLOAD);
    short[IP + 3] = 20;
    seal(&mut short);
    let arrives = Forwarded(forwarded(&short));
    table.add("a header alone", short, arrives);
    let mut broken = udp(&table.ends(b4()), PORTS, PAYLOAD);
    broken[IP + 27] ^= 0x11;
    table.passes("wrong UDP checksum", broken);
    for source in ["127.0.0.1", "0.0.0.0", "0.1.2.3", "224.0.0.1", "240.0.0.1", "255.255.255.255", "169.254.1.1"] {
        let ends = Ends { ips: (address(source), b4()), ..table.ends(b4()) };
        table.add(&format!("source {source}"), udp(&ends, PORTS, PAYLOAD), Nothing);
    }
    for to in [
        "127.0.0.1",
        "0.1.2.3",
        "224.0.0.5",
        "239.1.1.1",
        "240.0.0.1",
        "255.255.255.255",
        "169.254.1.1",
        "10.2.0.255",
        "10.2.0.0",
    ] {
        let frame = udp(&table.ends(address(to)), PORTS, PAYLOAD);
        table.add(&format!("destination {to}"), frame, Nothing);
    }
    let mut group = udp(&table.ends(b4()), PORTS, PAYLOAD);
    group[..6].fill(0xff);
    table.add("a broadcast frame", group.clone(), Nothing);
    group[IP + 8] = 1;
    seal(&mut group);
    table.add("a broadcast frame out of TTL", group, Nothing);
}

fn ttl_v4(table: &mut Table) {
    use Answer::{Error, Message, Nothing};
    for ttl in [0, 1] {
        table.field(&format!("TTL {ttl}"), b4(), Error(11, 0, 0), |frame| frame[IP + 8] = ttl);
    }
    for ttl in [2, 255] {
        let mut frame = udp(&table.ends(b4()), PORTS, PAYLOAD);
        frame[IP + 8] = ttl;
        seal(&mut frame);
        table.passes(&format!("TTL {ttl}"), frame);
    }
    for ttl in [1, 64] {
        let mut echo = packets::echo_request(&table.ends(gateway_v4(1).into()), 1, 2, PAYLOAD);
        echo[IP + 8] = ttl;
        seal(&mut echo);
        table.add(&format!("an echo request to the router, TTL {ttl}"), echo, Message(0, 0));
    }
    let echo = packets::echo_request(&table.ends(gateway_v4(2).into()), 1, 2, PAYLOAD);
    table.add("an echo request to the router's other address", echo, Message(0, 0));
    let mut broken = packets::echo_request(&table.ends(gateway_v4(1).into()), 1, 2, PAYLOAD);
    broken[IP + 23] ^= 1;
    table.add("an echo request with a wrong checksum", broken, Nothing);
    let out_of_ttl = |mut frame: Vec<u8>| {
        frame[IP + 8] = 1;
        seal(&mut frame);
        frame
    };
    let echo = packets::echo_request(&table.ends(b4()), 1, 2, PAYLOAD);
    table.add("an echo request out of TTL", out_of_ttl(echo), Error(11, 0, 0));
    let quoted = udp(&table.ends(b4()), PORTS, PAYLOAD).split_off(IP);
    for kind in [(3, 3), (4, 0), (5, 1), (11, 0), (12, 0)] {
        let error = packets::icmp(&table.ends(b4()), kind, [0; 4], &quoted);
        table.add(&format!("ICMP error {kind:?} out of TTL"), out_of_ttl(error), Nothing);
    }
    for (name, word, answer) in [
        ("first fragment", 0x2000u16, Error(11, 0, 0)),
        ("second fragment", 0x2010, Nothing),
        ("last fragment", 0x0010, Nothing),
    ] {
        let mut frame = udp(&table.ends(b4()), PORTS, PAYLOAD);
        frame[IP + 6..IP + 8].copy_from_slice(&word.to_be_bytes());
        seal(&mut frame);
        table.passes(name, frame);
        table.field(&format!("{name}, out of TTL"), b4(), answer, |frame| {
            frame[IP + 6..IP + 8].copy_from_slice(&word.to_be_bytes());
            frame[IP + 8] = 1;
        });
    }
}

fn options_v4(table: &mut Table) {
    use Answer::{Error, Nothing};
    for (name, options) in [
        ("no operation", &[1, 1, 1, 0][..]),
        ("router alert", &[148, 4, 0, 0]),
        ("unknown option", &[0x9e, 6, 1, 2, 3, 4]),
        ("option of length 0", &[0x9e, 0, 0, 0]),
        ("option beyond the header", &[0x9e, 40, 0, 0]),
        ("forty bytes of options", &[1; 40]),
    ] {
        let frame = with_options(udp(&table.ends(b4()), PORTS, PAYLOAD), options);
        table.passes(name, frame.clone());
        let mut late = with_options(udp(&table.ends(b4()), PORTS, PAYLOAD), options);
        late[IP + 8] = 1;
        seal(&mut late);
        table.add(&format!("{name}, out of TTL"), late, Error(11, 0, 0));
    }
    for (name, kind) in [("loose source route", 131), ("strict source route", 137)] {
        let frame = with_options(udp(&table.ends(b4()), PORTS, PAYLOAD), &[1, kind, 7, 4, 10, 2, 0, 2]);
        table.add(name, frame, Nothing);
    }
}

fn routes(table: &mut Table) {
    use Answer::{Error, Nothing};
    for (name, to, answer) in [
        ("no route", "10.200.0.1", Error(3, 0, 0)),
        ("unreachable", "10.201.0.1", Error(3, 1, 0)),
        ("prohibited", "10.202.0.1", Error(3, 13, 0)),
        ("black hole", "10.203.0.1", Nothing),
        ("no route", "fdc8::1", Error(1, 0, 0)),
        ("unreachable", "fdc9::1", Error(1, 3, 0)),
        ("prohibited", "fdca::1", Error(1, 1, 0)),
        ("black hole", "fdcb::1", Nothing),
    ] {
        table.change(&format!("{name}: {to}"), address(to), answer, |_| {});
    }
    for (to, port, protocol) in
        [(gateway_v4(1).into(), Error(3, 3, 0), Error(3, 2, 0)), (gateway_v6(1).into(), Error(1, 4, 0), Error(4, 1, 6))]
    {
        table.change("a closed port of the router", to, port, |_| {});
        let frame = packets::ip(&table.ends(to), 253, PAYLOAD);
        table.add("a protocol that the router does not speak", frame, protocol);
        if to.is_ipv6() {
            let frame = packets::ip(&table.ends(to), 59, PAYLOAD);
            table.add("no next header", frame, Nothing);
        }
        let mut broken = udp(&table.ends(to), PORTS, PAYLOAD);
        *broken.last_mut().expect("a payload") ^= 1;
        table.add("a damaged datagram to the router", broken, Nothing);
        let frame = packets::tcp(&table.ends(to), PORTS, Some(1460), b"");
        table.add("a TCP connection to the router", frame, Nothing);
    }
}

fn headers_v6(table: &mut Table) {
    use Answer::{Error, Message, Nothing};
    let sound = udp(&table.ends(b6()), PORTS, PAYLOAD);
    table.passes("IPv6, sound", sound);
    for version in [0u8, 4, 5, 7, 15] {
        table.change("IPv6 EtherType, another version", b6(), Nothing, |frame| frame[IP] = version << 4);
    }
    table.change("IPv6, cut in the header", b6(), Nothing, |frame| frame.truncate(IP + 39));
    table.change("IPv6, payload length beyond the frame", b6(), Nothing, |frame| frame[IP + 5] += 1);
    table.change("IPv6, jumbogram", b6(), Nothing, |frame| {
        frame[IP + 4..IP + 7].fill(0);
    });
    let mut padded = udp(&table.ends(b6()), PORTS, b"");
    padded.extend([0xee; 7]);
    table.passes("IPv6, padding of the link", padded);
    for hops in [0, 1] {
        table.change(&format!("hop limit {hops}"), b6(), Error(3, 0, 0), |frame| frame[IP + 7] = hops);
    }
    for hops in [2, 255] {
        let mut frame = udp(&table.ends(b6()), PORTS, PAYLOAD);
        frame[IP + 7] = hops;
        table.passes(&format!("hop limit {hops}"), frame);
    }
    for source in ["::", "::1", "ff02::1", "ff0e::1"] {
        let ends = Ends { ips: (address(source), b6()), ..table.ends(b6()) };
        table.add(&format!("source {source}"), udp(&ends, PORTS, PAYLOAD), Nothing);
    }
    for to in ["::", "::1", "ff02::5", "ff0e::1", "fe80::1"] {
        let frame = udp(&table.ends(address(to)), PORTS, PAYLOAD);
        table.add(&format!("destination {to}"), frame, Nothing);
    }
    let mut group = udp(&table.ends(b6()), PORTS, PAYLOAD);
    group[..6].copy_from_slice(&[0x33, 0x33, 0, 0, 0, 1]);
    table.add("a multicast frame", group, Nothing);
    for hops in [1, 64] {
        let mut echo = packets::echo_request(&table.ends(gateway_v6(1).into()), 1, 2, PAYLOAD);
        echo[IP + 7] = hops;
        table.add(&format!("an echo request to the router, hop limit {hops}"), echo, Message(129, 0));
    }
    for to in [b4(), gateway_v4(1).into(), b6(), gateway_v6(1).into()] {
        let mut echo = packets::echo_request(&table.ends(to), 1, 2, PAYLOAD);
        echo[..6].fill(0xff);
        table.add(&format!("an echo request to {to} in a frame to all"), echo, Nothing);
    }
    // A group in a frame to the router alone (RFC 6085).
    for (group, answer) in [
        ("ff02::1", Message(129, 0)),
        ("ff02::2", Message(129, 0)),
        ("ff02::1:ff00:fe", Message(129, 0)),
        ("ff02::1:ff00:fd", Nothing),
        ("ff02::fb", Nothing),
        ("ff0e::1", Nothing),
    ] {
        let echo = packets::echo_request(&table.ends(address(group)), 1, 2, PAYLOAD);
        table.add(&format!("an echo request to {group} in a frame to the router"), echo, answer.clone());
        let mut echo = packets::echo_request(&table.ends(address(group)), 1, 2, PAYLOAD);
        let IpAddr::V6(to) = address(group) else { unreachable!() };
        echo[..6].copy_from_slice(&[&[0x33, 0x33][..], &to.octets()[12..]].concat());
        table.add(&format!("an echo request to {group} in a frame to the group"), echo, answer);
    }
    let mut broken = packets::echo_request(&table.ends(gateway_v6(1).into()), 1, 2, PAYLOAD);
    broken[IP + 43] ^= 1;
    table.add("IPv6, an echo request with a wrong checksum", broken, Nothing);
    for kind in [(1, 4), (2, 0), (3, 0), (4, 0), (100, 0)] {
        let quoted = udp(&table.ends(b6()), PORTS, PAYLOAD).split_off(IP);
        let mut error = packets::icmp(&table.ends(b6()), kind, [0; 4], &quoted);
        error[IP + 7] = 1;
        table.add(&format!("ICMPv6 error {kind:?} out of hops"), error, Nothing);
    }
}

fn extensions_v6(table: &mut Table) {
    use Answer::{Error, Message, Nothing};
    for (name, kind, option, answer) in [
        ("hop-by-hop padding", 0u8, 1u8, Message(129, 0)),
        ("destination options", 60, 1, Message(129, 0)),
        ("an option to be skipped", 60, 0x1e, Message(129, 0)),
        ("an option that discards", 60, 0x5e, Nothing),
        ("an option that is told of", 60, 0x9e, Error(4, 2, 42)),
        ("an option that is told of to one", 60, 0xde, Error(4, 2, 42)),
    ] {
        let echo = packets::echo_request(&table.ends(gateway_v6(1).into()), 1, 2, PAYLOAD);
        let frame = with_extension(echo, kind, &[0, option, 4, 0, 0, 0, 0]);
        table.add(&format!("an echo request to the router with {name}"), frame, answer);
    }
    let fragment = |offset: u16| [0, (offset >> 8) as u8, offset as u8, 0, 0, 0, 7];
    for (name, kind, rest) in [
        ("hop-by-hop padding", 0u8, &[0, 1, 4, 0, 0, 0, 0][..]),
        ("router alert", 0, &[0, 5, 2, 0, 0, 1, 0]),
        ("destination options", 60, &[0, 1, 4, 0, 0, 0, 0]),
        ("unknown destination option", 60, &[0, 0xfe, 4, 0, 0, 0, 0]),
        ("routing header of type 0", 43, &[0, 0, 0, 0, 0, 0, 0]),
        ("first fragment", 44, &fragment(1)),
        ("second fragment", 44, &fragment(0x11)),
        ("last fragment", 44, &fragment(0x10)),
        ("unknown extension header", 253, &[0, 0, 0, 0, 0, 0, 0]),
    ] {
        let frame = with_extension(udp(&table.ends(b6()), PORTS, PAYLOAD), kind, rest);
        table.passes(&format!("IPv6, {name}"), frame);
        let mut late = with_extension(udp(&table.ends(b6()), PORTS, PAYLOAD), kind, rest);
        late[IP + 7] = 1;
        table.add(&format!("IPv6, {name}, out of hops"), late, Error(3, 0, 0));
    }
}

fn table() -> Vec<Case> {
    let mut table = Table::default();
    headers_v4(&mut table);
    ttl_v4(&mut table);
    options_v4(&mut table);
    routes(&mut table);
    headers_v6(&mut table);
    extensions_v6(&mut table);
    table.cases
}

/// Sends a case and what proves that it is done with: what A and B got of it. The switch takes its own packets and its
/// errors in turn, so that one of each must have been answered.
fn pass(a: &mut RawHost, b: &mut RawHost, number: usize, case: &Case) -> [Vec<Vec<u8>>; 2] {
    let [high, low] = (number as u16).to_be_bytes();
    let mark = [&[0xa5; 16][..], &[high, low]].concat();
    let own = a.ends(b.v4.into());
    let mut late = udp(&Ends { ips: (IpAddr::from([10, 101, 128 | high, low]), own.ips.1), ..own }, (9, 9), &mark);
    late[IP + 8] = 1;
    seal(&mut late);
    a.send(&case.frame);
    a.send(&late);
    a.send(&packets::echo_request(&a.ends(gateway_v4(1).into()), 0xa5a5, number as u16, &mark));
    a.send(&udp(&own, (9, 9), &mark));
    let mut got = [Vec::new(), Vec::new()];
    for ((host, got), mut marks) in [&mut *a, &mut *b].into_iter().zip(&mut got).zip([2, 1]) {
        host.expect("what comes after a case", |frame| {
            if frame.ends_with(&mark) {
                marks -= 1;
            } else if packets::is_ip(frame) && !packets::is_discovery(frame) {
                got.push(frame.to_vec());
            }
            marks == 0
        });
    }
    got
}

/// What is wrong with what came of a case; `None` if it is as it must be.
fn judge(case: &Case, at_a: &[Vec<u8>], at_b: &[Vec<u8>]) -> Option<String> {
    let messages: Vec<_> = at_a.iter().map(|frame| icmp_of(frame)).collect();
    let right = match (&case.answer, &messages[..], at_b) {
        (Answer::Nothing, [], []) => true,
        (Answer::Forwarded(expected), [], [got]) => got[IP..] == expected[..] && got[6..12] == gateway_mac(2),
        (Answer::Message(kind, code), [Some(message)], []) => message.kind == (*kind, *code),
        (Answer::Error(kind, code, rest), [Some(message)], []) => {
            let packet = &case.frame[IP..IP + ip_length(&case.frame).unwrap_or(0)];
            // At least header and eight bytes of an IPv4 packet, all of these of IPv6 (RFC 1812 4.3.2.3, RFC 4443 2.4).
            let least = if packet[0] >> 4 == 4 { usize::from(packet[0] & 0xf) * 4 + 8 } else { packet.len() };
            let quoted = message.body.starts_with(&packet[..least.min(packet.len())]);
            message.kind == (*kind, *code) && message.rest == *rest && quoted && at_a[0][6..12] == gateway_mac(1)
        }
        _ => false,
    };
    let text = || {
        format!(
            "{}: {:02x?}\n  must be {:02x?}\n  A got {messages:02x?}\n  B got {at_b:02x?}",
            case.name, case.frame, case.answer
        )
    };
    (!right).then(text)
}

#[test]
fn every_packet_has_its_answer() {
    let test = "every_packet_has_its_answer";
    let Some(mut lab) = Lab::new(test) else { return };
    let ends = [(1, "a0"), (2, "b0")].map(|(subnet, end)| lab.member(subnet, end, &Link::quiet()));
    let [mut a, mut b] = ends.each_ref().map(RawHost::new);
    assert_eq!((a.mac, b4(), b6()), (A_MAC, b.v4.into(), b.v6.into()), "the table's addresses");
    let routes = [
        Route { to: "10.101.0.0/16", via: a.v4.into(), bridge: None },
        Route { to: "fd65::/32", via: a.v6.into(), bridge: None },
    ];
    let mut rest = String::new();
    for (kind, v4, v6) in [("unreachable", 201, "fdc9"), ("prohibit", 202, "fdca"), ("blackhole", 203, "fdcb")] {
        rest += &format!("[[route]]\nto = \"10.{v4}.0.0/16\"\ntype = \"{kind}\"\n");
        rest += &format!("[[route]]\nto = \"{v6}::/32\"\ntype = \"{kind}\"\n");
    }
    let router = Router::start(&lab, &[net("one", 1, &["a0"]), net("two", 2, &["b0"])], &routes, &rest);
    let mut wrong = Vec::new();
    let mut answers = Vec::new();
    let cases = table();
    for (number, case) in cases.iter().enumerate() {
        if number % 64 == 0 {
            // Known to the switch all the time.
            [&mut a, &mut b].into_iter().for_each(RawHost::introduce);
        }
        // Up to two errors a case: within the rate of one port, so that none is missing for that.
        std::thread::sleep(Duration::from_millis(3));
        let [at_a, at_b] = pass(&mut a, &mut b, number, case);
        wrong.extend(judge(case, &at_a, &at_b));
        answers.extend(at_a);
    }
    assert!(wrong.is_empty(), "{} of {} cases are wrong:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    if let Some(lines) = tshark_complaints(test, &answers, lab.files()) {
        // It reads the quoted packets, too, some of which are wrong on purpose.
        let own: Vec<&String> =
            lines.iter().filter(|line| !line.contains("exceeded") && !line.contains("unreachable")).collect();
        assert!(own.is_empty(), "tshark finds bad answers: {own:?}");
    }
    router.stop();
}

/// Makes the same packets with scapy: one `name hex` a line. The first two arguments are MAC addresses.
const SCAPY: &str = r#"
import sys
from scapy.layers.l2 import Ether
from scapy.layers.inet import IP, ICMP, UDP, TCP, IPOption_NOP, IPOption_EOL, IPOption_LSRR, IPOption_Router_Alert
from scapy.layers.inet6 import (IPv6, IPv6ExtHdrHopByHop, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrRouting,
    ICMPv6EchoRequest, RouterAlert, PadN)
from scapy.packet import Raw

ether = Ether(dst=sys.argv[1], src=sys.argv[2])
def v4(**fields):
    return ether / IP(**{**dict(src="10.101.0.1", dst="10.2.0.2", id=0x1234, flags="DF", ttl=64), **fields})
def v6(**fields):
    return ether / IPv6(**{**dict(src="fd65:0:0:1::1", dst="fd00:2::2", hlim=64), **fields})
udp, data = UDP(sport=4000, dport=5000), Raw(b"a payload of some length")
# As in the sound packet, whatever is wrong with the header before it.
fixed = UDP(sport=4000, dport=5000, len=32, chksum=Ether(bytes(v4() / udp / data))[UDP].chksum)
packets = {
    "udp": v4() / udp / data,
    "bad checksum": v4(chksum=0xdead) / fixed / data,
    "version": v4(version=5) / fixed / data,
    "ihl": v4(ihl=4) / fixed / data,
    "short": v4(len=19) / fixed / data,
    "long": v4(len=53) / fixed / data,
    "ttl 0": v4(ttl=0) / udp / data,
    "ttl 1": v4(ttl=1) / udp / data,
    "fragment": v4(flags="MF", frag=16) / udp / data,
    "nop": v4(options=[IPOption_NOP(), IPOption_NOP(), IPOption_NOP(), IPOption_EOL()]) / udp / data,
    "alert": v4(options=[IPOption_Router_Alert()]) / udp / data,
    "lsrr": v4(options=[IPOption_NOP(), IPOption_LSRR(pointer=4, routers=["10.2.0.2"])]) / udp / data,
    "echo": v4() / ICMP(type=8, id=1, seq=2) / data,
    "syn": v4() / TCP(sport=4000, dport=5000, seq=1, flags="S", window=0xffff, options=[("MSS", 1460)]),
    "udp6": v6() / udp / data,
    "version6": v6(version=4) / udp / data,
    "length6": v6(plen=33) / udp / data,
    "hops6": v6(hlim=1) / udp / data,
    "hop-by-hop": v6() / IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0\0\0\0")]) / udp / data,
    "alert6": v6() / IPv6ExtHdrHopByHop(options=[RouterAlert(value=0), PadN(optdata=b"")]) / udp / data,
    "destination": v6() / IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0\0\0\0")]) / udp / data,
    "fragment6": v6() / IPv6ExtHdrFragment(offset=2, m=1, id=7) / udp / data,
    "echo6": v6() / ICMPv6EchoRequest(id=1, seq=2, data=bytes(data)),
}
for name, packet in packets.items():
    print(name.replace(" ", "_"), bytes(packet).hex())
"#;

/// The same packets by the builders of these tests.
fn built() -> Vec<(&'static str, Vec<u8>)> {
    let table = Table::default();
    let (four, six) = (table.ends(b4()), table.ends(b6()));
    let sealed = |at: usize, value: u8| {
        let mut frame = udp(&four, PORTS, PAYLOAD);
        frame[IP + at] = value;
        seal(&mut frame);
        frame
    };
    let changed = |at: usize, value: u8| {
        let mut frame = udp(&six, PORTS, PAYLOAD);
        frame[IP + at] = value;
        frame
    };
    let options = |options: &[u8]| with_options(udp(&four, PORTS, PAYLOAD), options);
    let extension = |kind, rest: &[u8]| with_extension(udp(&six, PORTS, PAYLOAD), kind, rest);
    let mut checksum = udp(&four, PORTS, PAYLOAD);
    checksum[IP + 10..IP + 12].copy_from_slice(&[0xde, 0xad]);
    let mut fragment = udp(&four, PORTS, PAYLOAD);
    fragment[IP + 6..IP + 8].copy_from_slice(&[0x20, 0x10]);
    seal(&mut fragment);
    vec![
        ("udp", udp(&four, PORTS, PAYLOAD)),
        ("bad_checksum", checksum),
        ("version", sealed(0, 0x55)),
        ("ihl", sealed(0, 0x44)),
        ("short", sealed(3, 19)),
        ("long", sealed(3, 53)),
        ("ttl_0", sealed(8, 0)),
        ("ttl_1", sealed(8, 1)),
        ("fragment", fragment),
        ("nop", options(&[1, 1, 1, 0])),
        ("alert", options(&[148, 4, 0, 0])),
        ("lsrr", options(&[1, 131, 7, 4, 10, 2, 0, 2])),
        ("echo", packets::echo_request(&four, 1, 2, PAYLOAD)),
        ("syn", packets::tcp(&four, PORTS, Some(1460), b"")),
        ("udp6", udp(&six, PORTS, PAYLOAD)),
        ("version6", changed(0, 0x40)),
        ("length6", changed(5, 33)),
        ("hops6", changed(7, 1)),
        ("hop-by-hop", extension(0, &[0, 1, 4, 0, 0, 0, 0])),
        ("alert6", extension(0, &[0, 5, 2, 0, 0, 1, 0])),
        ("destination", extension(60, &[0, 1, 4, 0, 0, 0, 0])),
        ("fragment6", extension(44, &[0, 0, 17, 0, 0, 0, 7])),
        ("echo6", packets::echo_request(&six, 1, 2, PAYLOAD)),
    ]
}

#[test]
fn scapy_builds_the_same_packets() {
    let test = "scapy_builds_the_same_packets";
    let macs = [gateway_mac(1), A_MAC].map(tests::net::router::mac_text);
    // The system's own, whatever else is on the PATH: Debian's package belongs to that.
    let done = output(Command::new("/usr/bin/python3").args(["-c", SCAPY, &macs[0], &macs[1]]));
    if done.code != 0 && done.stderr.contains("No module named") {
        return skipped(test, "needs python3-scapy, which is not installed");
    }
    assert_eq!(done.code, 0, "{}", done.stderr);
    let expected: Vec<(&str, &str)> = done.stdout.lines().filter_map(|line| line.split_once(' ')).collect();
    let built = built();
    assert_eq!(expected.len(), built.len(), "{}", done.stdout);
    for ((name, frame), (scapy_name, hex)) in built.iter().zip(expected) {
        let text: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!((*name, &text[..]), (scapy_name, hex));
    }
}
