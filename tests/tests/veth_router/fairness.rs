//! What one port sends does not cost another one the router's answers.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ctl::protocol::{HostStatus, Request};
use tests::net::packets::{Ends, IP, icmp_of, seal, udp};
use tests::net::raw::RawSocket;
use tests::net::router::{RawHost, Router, net, v4};
use tests::net::{Lab, Link, report, stretched};

/// How long the storm goes on.
const STORM: Duration = Duration::from_secs(2);

/// Time between two probes.
const PAUSE: Duration = Duration::from_millis(100);

/// A UDP datagram that goes no further than the router.
fn probe(ends: &Ends, ports: (u16, u16)) -> Vec<u8> {
    let mut frame = udp(ends, ports, b"who is the first hop?");
    frame[IP + 8] = 1;
    seal(&mut frame);
    frame
}

/// The UDP source port of the packet that a time-exceeded message is about.
fn exceeded(frame: &[u8]) -> Option<u16> {
    let message = icmp_of(frame).filter(|message| message.kind == (11, 0))?;
    Some(u16::from_be_bytes(*message.body.get(20..)?.first_chunk()?))
}

/// Sends the frames one after the other until it is told to end; how many that were.
fn storm(socket: &RawSocket, frames: &[Vec<u8>], ending: &AtomicBool) -> u64 {
    let mut sent = 0;
    for frame in frames.iter().cycle() {
        if ending.load(Ordering::Relaxed) {
            break;
        }
        socket.send(frame);
        sent += 1;
    }
    sent
}

fn counter(router: &Router, name: &str) -> u64 {
    let all: Vec<HostStatus> = router.switch().ask(Request::ShowHost {}).expect("show-host is answered");
    all.iter().find(|status| status.name == name).unwrap_or_else(|| panic!("no {name}: {all:?}")).value
}

#[test]
fn a_storm_of_expiring_packets_from_one_port_leaves_another_port_its_errors() {
    let Some(mut lab) = Lab::new("a_storm_of_expiring_packets_from_one_port_leaves_another_port_its_errors") else {
        return;
    };
    let [noisy, quiet, target] =
        [(1, "a0"), (1, "b0"), (2, "c0")].map(|(subnet, end)| lab.member(subnet, end, &Link::quiet()));
    let router = Router::start(&lab, &[net("one", 1, &["a0", "b0"]), net("two", 2, &["c0"])], &[], "");
    let (mut host, mut other, mut beyond) = (RawHost::new(&quiet), RawHost::new(&noisy), RawHost::new(&target));
    [&mut host, &mut other, &mut beyond].into_iter().for_each(RawHost::introduce_v4);
    // In the names of a whole subnet, of which each could be told ten times a second, and of the quiet host.
    let senders = (2..200).map(|number| v4(1, number)).filter(|address| *address != host.v4);
    let name = |sender: Ipv4Addr| Ends { ips: (sender.into(), v4(2, 77).into()), ..other.ends(beyond.v4.into()) };
    let frames: Vec<Vec<u8>> = senders.chain([host.v4]).map(|sender| probe(&name(sender), (9, 9))).collect();
    let socket = RawSocket::open(noisy.space(), "eth0");
    let (ending, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let (probes, answered) = thread::scope(|scope| {
        scope.spawn(|| sent.store(storm(&socket, &frames, &ending), Ordering::Relaxed));
        // The storm has begun, and used up what could be sent at once.
        thread::sleep(Duration::from_millis(300));
        let counts = ask(&mut host, beyond.v4.into(), Instant::now() + stretched(STORM));
        ending.store(true, Ordering::Relaxed);
        counts
    });
    let sent = sent.load(Ordering::Relaxed);
    report(&format!("{answered} of {probes} errors beside a storm of {sent} packets"));
    assert!(sent > 10_000, "{sent} packets are no storm");
    assert!(probes >= 10 && answered * 10 >= probes * 9, "{answered} of {probes} probes were answered");
    let (limited, refused) = (counter(&router, "icmp_limited"), counter(&router, "complain_refused"));
    assert!(limited + refused > 2_000, "the storm met the limits: {limited} and {refused} of {sent}");
    router.stop();
}

/// Sends probes until `end` and waits for their answers: how many were sent and answered.
fn ask(host: &mut RawHost, target: IpAddr, end: Instant) -> (usize, usize) {
    let (mut probes, mut answered) = (0u16, BTreeSet::new());
    // By the clock: errors about packets in this host's name come all the time.
    let mut listen = |host: &mut RawHost, time: Duration| {
        let until = Instant::now() + stretched(time);
        while let Some(frame) = host.receive(until.saturating_duration_since(Instant::now())) {
            answered.extend(exceeded(&frame).filter(|port| *port > 30_000));
        }
    };
    while Instant::now() < end {
        probes += 1;
        host.send(&probe(&host.ends(target), (30_000 + probes, 33_434)));
        listen(host, PAUSE);
    }
    listen(host, PAUSE * 5);
    (probes.into(), answered.len())
}
