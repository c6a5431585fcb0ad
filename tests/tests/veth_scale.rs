//! Many ports, ports that come and go under traffic, and silence: times, memory and processor use.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ctl::protocol::PortState;
use rustix::process::Signal;
use tests::net::process::{kernel_bytes, output, wait_for};
use tests::net::raw::RawSocket;
use tests::net::stations::{BROADCAST, Stations, TEST_TYPE, frame, station};
use tests::net::switchd::pods;
use tests::net::traffic::{Stream, UdpEcho, udp_round_trip, udp_to, wait_reachable};
use tests::net::{Container, Lab, Link, Namespace, Switchd, full, report, slowness, stretched};

/// Ports of the large switch, and the namespaces that hold their far ends.
const PORTS: usize = 256;
const SPACES: usize = 8;

/// Longest time until all of them are attached.
const ATTACH_MAX: Duration = Duration::from_secs(15);

/// Its pool: what it has by default.
const FRAMES: &str = "frames = 32768";

fn names(count: usize) -> Vec<String> {
    (0..count).map(|index| format!("p{index}")).collect()
}

fn body(names: &[String]) -> String {
    pods(&names.iter().map(String::as_str).collect::<Vec<_>>())
}

/// 256 veth pairs without addresses: "e<n>" in one of the namespaces, "p<n>" on the host.
fn lay_cables(lab: &mut Lab) -> Vec<Namespace> {
    let spaces: Vec<Namespace> = (0..SPACES).map(|_| lab.space()).collect();
    let host = lab.host();
    host.sysctl("ipv6/conf/default/disable_ipv6", "1");
    let mut up = String::new();
    for (index, space) in spaces.iter().enumerate() {
        space.sysctl("ipv6/conf/default/disable_ipv6", "1");
        let mut lines = String::new();
        for port in (index * PORTS / SPACES)..((index + 1) * PORTS / SPACES) {
            let to = host.name();
            lines.push_str(&format!("link add e{port} type veth peer name p{port} netns {to}\n"));
            lines.push_str(&format!("link set e{port} arp off up\n"));
            up.push_str(&format!("link set p{port} up\n"));
        }
        space.ip_batch(&lines);
    }
    host.ip_batch(&up);
    spaces
}

/// The name of port `port`'s far end, and the namespace it is in.
fn far_end(spaces: &[Namespace], port: usize) -> (&Namespace, String) {
    (&spaces[port * SPACES / PORTS], format!("e{port}"))
}

/// What ethtool says about the offloads of every far end.
fn far_offloads(spaces: &[Namespace]) -> Vec<String> {
    let script = "for end; do ethtool -k $end || exit; done";
    let in_space = |(index, space): (usize, &Namespace)| {
        let ports = (index * PORTS / SPACES)..((index + 1) * PORTS / SPACES);
        let ends = ports.map(|port| format!("e{port}"));
        let done = output(space.command("sh").args(["-c", script, "sh"]).args(ends));
        assert_eq!(done.code, 0, "{}", done.stderr);
        done.stdout
    };
    spaces.iter().enumerate().map(in_space).collect()
}

/// Starts the large switch; how long it took until every port was up.
fn start_large(lab: &Lab, names: &[String]) -> (Switchd, Duration) {
    let start = Instant::now();
    let switch = Switchd::start(lab, FRAMES, &body(names));
    wait_for("all ports are up", ATTACH_MAX.saturating_sub(start.elapsed() / slowness()), || {
        switch.ports().iter().all(|port| port.state == PortState::Up).then_some(())
    });
    let took = start.elapsed();
    assert!(took < stretched(ATTACH_MAX), "{took:?}");
    (switch, took)
}

/// A broadcast from the first far end arrives at every other one, once.
fn broadcast_reaches_all(spaces: &[Namespace]) {
    let open = |port| {
        let (space, end) = far_end(spaces, port);
        RawSocket::open(space, &end)
    };
    let mut sockets: Vec<RawSocket> = (0..PORTS).map(open).collect();
    let sent = frame(BROADCAST, station(1), TEST_TYPE, &[7; 46]);
    sockets[0].send(&sent);
    for (port, socket) in sockets.iter_mut().enumerate().skip(1) {
        assert_eq!(socket.receive(stretched(Duration::from_secs(5))), Some(sent.clone()), "port {port}");
        assert_eq!(socket.receive_now(), None, "port {port}");
    }
    assert_eq!(sockets[0].receive_now(), None);
}

/// Ends the large switch, which must leave every interface free; the time from SIGTERM to the end of the process.
fn end_large(lab: &Lab, mut switch: Switchd) -> Duration {
    let start = Instant::now();
    switch.signal(Signal::TERM);
    let status = switch.wait(Duration::from_secs(10));
    let took = start.elapsed();
    assert!(status.success(), "{status}");
    let log = switch.log();
    assert!(!log.contains("missing at the end"), "frames are lost from the pool:\n{log}");
    let links = lab.host().ip("-details link show");
    assert_eq!(links.matches("prog/xdp").count(), 0, "programs are still attached");
    // The long form is for a machine that does nothing else.
    assert!(!full() || took < Duration::from_secs(2), "the end took {took:?}");
    took
}

#[test]
fn two_hundred_fifty_six_ports_attach_and_end_quickly_and_a_broadcast_reaches_all() {
    let test = "two_hundred_fifty_six_ports_attach_and_end_quickly_and_a_broadcast_reaches_all";
    let Some(mut lab) = Lab::alone(test) else { return };
    let spaces = lay_cables(&mut lab);
    let names = names(PORTS);
    let offloads = far_offloads(&spaces);
    // What the switch costs without ports, to be taken off.
    let empty = Switchd::start(&lab, FRAMES, &pods(&[]));
    let (resident_empty, kernel_empty) = (empty.process().resident_bytes(), kernel_bytes());
    assert!(empty.stop().success());
    let (switch, attached) = start_large(&lab, &names);
    broadcast_reaches_all(&spaces);
    assert!(far_offloads(&spaces).iter().zip(&offloads).all(|(now, before)| now != before));
    let per_port = |after: u64, before: u64| after.saturating_sub(before) / 1024 / PORTS as u64;
    let counted: u64 = switch.ports().iter().map(|port| port.kernel_memory_bytes).sum();
    report(&format!(
        "{PORTS} ports, {FRAMES}: attached in {:.1} s; per port {} KiB resident, {} KiB of kernel memory measured \
         (vmalloc and slabs of the machine), {} KiB by the switch's own account",
        attached.as_secs_f64(),
        per_port(switch.process().resident_bytes(), resident_empty),
        per_port(kernel_bytes(), kernel_empty),
        counted / 1024 / PORTS as u64
    ));
    let ended = end_large(&lab, switch);
    // At once, while the kernel may still be cleaning up.
    let (switch, again) = start_large(&lab, &names);
    broadcast_reaches_all(&spaces);
    let ended_again = end_large(&lab, switch);
    assert_eq!(far_offloads(&spaces), offloads, "the far ends' offloads are as they were");
    report(&format!(
        "{PORTS} ports: ended in {:.2} s; started again at once, attached in {:.1} s, ended in {:.2} s",
        ended.as_secs_f64(),
        again.as_secs_f64(),
        ended_again.as_secs_f64()
    ));
}

/// Broadcasts from a container until told to stop, so that ports come and go with frames on their way to them.
fn broadcast_until(stop: &AtomicBool, socket: &RawSocket) -> u64 {
    let (sent, mut count) = (frame(BROADCAST, station(9), TEST_TYPE, &[9; 200]), 0);
    while !stop.load(Ordering::Relaxed) {
        count += u64::from(socket.try_send(&sent).is_ok());
        std::thread::sleep(stretched(Duration::from_millis(1)));
    }
    count
}

#[test]
fn ports_that_come_and_go_cost_nothing_and_harm_nobody() {
    let Some(mut lab) = Lab::alone("ports_that_come_and_go_cost_nothing_and_harm_nobody") else { return };
    let [a, b, mut c] = ["a0", "b0", "c0"].map(|end| lab.container(end, &Link::default()));
    // A table that the kernel fills up to huge pages in the meantime would look like a leak. The switch inherits this.
    rustix::thread::disable_transparent_huge_pages(true).expect("a process may go without huge pages");
    let switch = Switchd::start(&lab, "frames = 4096", &pods(&["a0", "b0", "c0"]));
    rustix::thread::disable_transparent_huge_pages(false).expect("and with them");
    wait_reachable(&a, b.v4());
    let cycles: u64 = if full() { 1000 } else { 100 };
    let warm = 10;
    let stop = AtomicBool::new(false);
    let flood = RawSocket::open(a.space(), "eth0");
    let (start, mut resident_warm, mut slowest) = (Instant::now(), 0, Duration::ZERO);
    let stream = Stream::start(&a, &b, 1000);
    let flooded = std::thread::scope(|scope| {
        let flooder = scope.spawn(|| broadcast_until(&stop, &flood));
        let _stop = StopWhenDropped(&stop);
        for cycle in 0..cycles {
            let before = switch.port("c0").ifindex;
            c.unplug();
            c.plug(&lab, &Link::quiet());
            let plugged = Instant::now();
            wait_for("the new interface is attached", Duration::from_secs(10), || {
                let port = switch.port("c0");
                (port.ifindex != before && port.state == PortState::Up).then_some(())
            });
            slowest = slowest.max(plugged.elapsed());
            if cycle + 1 == warm {
                resident_warm = switch.process().resident_bytes();
            }
        }
        stop.store(true, Ordering::Relaxed);
        flooder.join().expect("the flooder does not panic")
    });
    let took = start.elapsed();
    let grown = switch.process().resident_bytes().saturating_sub(resident_warm);
    let (sent, received) = stream.stop();
    report(&format!(
        "{cycles} detach and attach cycles in {:.1} s, slowest attach {slowest:?}, {flooded} broadcasts meanwhile; resident \
         memory grew {} KiB after the first {warm}; other traffic: {sent} sent, {} lost, longest gap {:?}",
        took.as_secs_f64(),
        grown / 1024,
        sent - received.count,
        received.longest_gap
    ));
    assert!(flooded > 0 && sent > 100);
    assert_eq!(
        (received.count, received.misordered),
        (sent, 0),
        "another port's traffic was harmed; counted:\n{}",
        switch.losses()
    );
    // xsk-rs keeps two ring handles, 64 bytes each, of every socket ever opened for as long as the pool lives; the
    // rest of the allowance is what an allocator keeps.
    let allowed = (512 << 10) + 256 * cycles;
    assert!(grown < allowed, "resident memory grew by {grown} bytes, {allowed} are allowed");
    let log = end_with_log(switch);
    assert!(!log.contains("missing at the end"), "frames are lost from the pool:\n{log}");
}

/// Stops a thread that watches the flag also when the test fails half way.
struct StopWhenDropped<'f>(&'f AtomicBool);

impl Drop for StopWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Ends a switch; all it has said. A debug build counts its frames at the end and says when some are missing.
fn end_with_log(mut switch: Switchd) -> String {
    switch.signal(Signal::TERM);
    assert!(switch.wait(Duration::from_secs(10)).success());
    switch.log()
}

#[test]
fn silence_costs_no_processor_time_and_ends_at_once() {
    let Some(mut lab) = Lab::alone("silence_costs_no_processor_time_and_ends_at_once") else { return };
    let names = names(16);
    let (quiet, talking) = names.split_at(14);
    let ends: Vec<&str> = quiet.iter().map(String::as_str).collect();
    let _quiet = Stations::new(&mut lab, &ends, &Link::quiet());
    let [a, b]: [Container; 2] = [0, 1].map(|index| lab.container(&talking[index], &Link::default()));
    let switch = Switchd::start(&lab, "", &body(&names));
    wait_reachable(&a, b.v4());
    std::thread::sleep(Duration::from_secs(1));
    let (start, used) = (Instant::now(), switch.process().cpu_time());
    std::thread::sleep(Duration::from_secs(5));
    let share = (switch.process().cpu_time() - used).as_secs_f64() / start.elapsed().as_secs_f64();
    report(&format!("idle with 16 ports: {:.2} % of one core", share * 100.0));
    assert!(share < 0.01 * f64::from(slowness()), "{:.2} %", share * 100.0);
    // Other work on the machine only lengthens a wait: the best of a few rounds is the switch's own.
    let rounds: Vec<[Duration; 4]> = (0..3).map(|_| waits_after_silence(&a, &b)).collect();
    let [first, worst, round, worst_round] = *rounds.iter().min_by_key(|[first, ..]| *first).expect("three rounds");
    report(&format!(
        "first datagram after half a second of silence: median {first:?}, worst {worst:?} one way; {round:?}, \
         {worst_round:?} there and back"
    ));
    assert!(first < stretched(Duration::from_millis(1)), "{rounds:?}");
    assert!(round < stretched(Duration::from_millis(2)), "{rounds:?}");
}

/// Median and longest time one way, then there and back, of datagrams each sent after half a second of silence.
fn waits_after_silence(a: &Container, b: &Container) -> [Duration; 4] {
    const TRIES: usize = 5;
    // The thread that measures must not wait for a processor itself.
    let _ = rustix::process::setpriority_process(None, -20);
    let inbox = b.space().run(|| std::net::UdpSocket::bind((b.v4(), 0))).expect("a UDP socket can be bound");
    inbox.set_read_timeout(Some(stretched(Duration::from_secs(2)))).expect("a timeout can be set");
    let outbox = udp_to(a, a.v4(), inbox.local_addr().expect("a bound socket has an address"));
    let echo = UdpEcho::start(b, b.v4());
    let talk = udp_to(a, a.v4(), echo.address());
    let (mut first, mut round) = (Vec::new(), Vec::new());
    for seed in 0..TRIES {
        std::thread::sleep(Duration::from_millis(500));
        let start = Instant::now();
        outbox.send(&[1; 64]).expect("a datagram can be sent");
        inbox.recv(&mut [0; 64]).expect("it arrives");
        first.push(start.elapsed());
        std::thread::sleep(Duration::from_millis(500));
        round.push(udp_round_trip(&talk, 64, seed as u64).expect("it comes back"));
    }
    first.sort_unstable();
    round.sort_unstable();
    [first[TRIES / 2], first[TRIES - 1], round[TRIES / 2], round[TRIES - 1]]
}
