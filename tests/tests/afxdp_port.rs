//! The AF_XDP port on real veths, without the switch around it.
//!
//! Every test makes network namespaces of its own (`swt-<pid>-<number>-<name>`), removes them at the end, also when it
//! fails, and runs on a thread that moved into the one that stands for the host. They need root; without it each
//! says SKIPPED and passes.

use std::fs;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use switch::port::afxdp::AfxdpFactory;
use switch::port::{
    Attachment, Frame, FramePool, Frames, OpenError, Opened, Port, PortError, PortFactory, PortSpec, SharedPool,
};

const FRAMES: u32 = 4096;
const FILL: u32 = 1024;
/// For everything that takes milliseconds when it works.
const PATIENCE: Duration = Duration::from_secs(10);

/// Namespaces: `sw` with one host end per container, and the containers.
struct Net {
    prefix: String,
    containers: Vec<&'static str>,
}

impl Net {
    /// `sw` with ports `<container>0`, each the host end of `eth0` in its container, 10.9.0.N/24. `None` without root.
    fn new(containers: &[&'static str], mtu: u32) -> Option<Net> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let net = Net { prefix: format!("swt-{}-{number}", std::process::id()), containers: containers.to_vec() };
        if !try_ip(&["netns", "add", &net.name("sw")]) {
            eprintln!("SKIPPED: cannot make network namespaces: run this test as root, with iproute2 installed");
            return None;
        }
        for (number, container) in (1..).zip(containers) {
            ip(&["netns", "add", &net.name(container)]);
            net.quiet(container);
            net.add_veth(container, number, mtu);
        }
        net.quiet("sw");
        Some(net)
    }

    /// No IPv6 chatter, so that tests may count frames.
    fn quiet(&self, namespace: &str) {
        self.inside(namespace, || {
            for scope in ["all", "default"] {
                let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{scope}/disable_ipv6"), "1");
            }
        });
    }

    fn add_veth(&self, container: &str, number: u32, mtu: u32) {
        let (sw, inner, mtu) = (self.name("sw"), self.name(container), mtu.to_string());
        let port = format!("{container}0");
        let tail = ["peer", "name", "eth0", "mtu", &mtu, "netns", &inner];
        ip(&[&["-n", &sw, "link", "add", &port, "mtu", &mtu, "type", "veth"], &tail[..]].concat());
        ip(&["-n", &sw, "link", "set", &port, "up"]);
        ip(&["-n", &inner, "addr", "add", &format!("10.9.0.{number}/24"), "dev", "eth0"]);
        ip(&["-n", &inner, "link", "set", "eth0", "up"]);
    }

    fn name(&self, namespace: &str) -> String {
        format!("{}-{namespace}", self.prefix)
    }

    /// Runs `work` on a new thread inside a namespace.
    fn inside<T: Send>(&self, namespace: &str, work: impl FnOnce() -> T + Send) -> T {
        let file = fs::File::open(format!("/run/netns/{}", self.name(namespace))).unwrap();
        let result = std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                drop(file);
                work()
            });
            thread.join()
        });
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Runs a program inside a namespace and returns whether it succeeded and what it printed.
    fn run(&self, namespace: &str, command: &[&str]) -> (bool, String) {
        let name = self.name(namespace);
        let output = Command::new("ip").args(["netns", "exec", &name]).args(command).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        try_ip(&["netns", "del", &self.name("sw")]);
        for container in &self.containers {
            try_ip(&["netns", "del", &self.name(container)]);
        }
    }
}

fn try_ip(arguments: &[&str]) -> bool {
    Command::new("ip").args(arguments).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().unwrap();
    assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn spec(interface: &str) -> PortSpec {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None).unwrap();
    let ifindex = rustix::net::netdevice::name_to_index(&socket, interface).unwrap_or(0);
    PortSpec { interface: interface.into(), ifindex, fill_target: FILL }
}

fn open(factory: &mut AfxdpFactory, interface: &str) -> Opened {
    factory.open(&spec(interface)).unwrap_or_else(|error| panic!("{error}"))
}

/// The one queue of an attached interface, and what keeps it attached.
fn one(opened: Opened) -> (Box<dyn Port>, Box<dyn Attachment>) {
    let mut queues = opened.queues;
    assert_eq!(queues.len(), 1);
    (queues.pop().unwrap(), opened.attachment)
}

fn factory() -> (AfxdpFactory, Arc<SharedPool>) {
    AfxdpFactory::new(FRAMES, &[0]).unwrap_or_else(|error| panic!("{error}"))
}

/// Counts every frame of the pool by taking all of them.
fn free_frames(shared: &Arc<SharedPool>) -> usize {
    let mut pool = FramePool::new(Arc::clone(shared));
    let all: Vec<Frame> = std::iter::from_fn(|| pool.alloc()).collect();
    let count = all.len();
    all.into_iter().for_each(|frame| pool.free(frame));
    count
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::yield_now();
    }
}

/// Two ports joined by a wire: everything received on one is sent on the other.
struct Wire {
    ports: [Box<dyn Port>; 2],
    pool: FramePool,
    carried: usize,
    longest: usize,
    refused: usize,
}

impl Wire {
    fn new(ports: [Box<dyn Port>; 2], shared: &Arc<SharedPool>) -> Wire {
        Wire { ports, pool: FramePool::new(Arc::clone(shared)), carried: 0, longest: 0, refused: 0 }
    }

    fn turn(&mut self) {
        for side in 0..2 {
            let mut frames = Frames::new();
            self.ports[side].rx(&mut self.pool, &mut frames);
            self.carried += frames.len();
            self.longest = frames.iter().map(Frame::len).fold(self.longest, usize::max);
            self.ports[1 - side].tx(&mut self.pool, &mut frames);
            for frame in frames.drain(..) {
                panic!("the transmit ring refused a frame of {} bytes", frame.len());
            }
        }
        for port in &mut self.ports {
            self.refused += port.service(&mut self.pool).unwrap().refused as usize;
        }
    }

    /// Runs until `done` says so.
    fn run_until(&mut self, done: &AtomicBool) {
        while !done.load(Ordering::Acquire) {
            self.turn();
        }
    }

    /// Closes both ports and gives every frame back.
    fn close(self, shared: &Arc<SharedPool>) {
        let Wire { ports, mut pool, .. } = self;
        for port in ports {
            let held = port.held();
            let frames = port.close();
            assert_eq!(frames.len(), held);
            shared.reclaim(frames);
        }
        pool.give_all();
    }
}

fn ping_through(mtu: u32, arguments: &[&str]) -> Option<(usize, usize)> {
    let net = Net::new(&["a", "b"], mtu)?;
    let (factory_and_ports, shared) = net.inside("sw", || {
        let (mut factory, shared) = factory();
        let ports = ["a0", "b0"].map(|name| one(open(&mut factory, name)));
        ((factory, ports), shared)
    });
    let (_factory, [(a, a_attached), (b, b_attached)]) = factory_and_ports;
    let mut wire = Wire::new([a, b], &shared);
    let done = AtomicBool::new(false);
    let (ok, text) = std::thread::scope(|scope| {
        let ping = scope.spawn(|| {
            let result = net.run("a", &[&["ping", "-n", "-q", "-W", "2"], arguments, &["10.9.0.2"]].concat());
            done.store(true, Ordering::Release);
            result
        });
        wire.run_until(&done);
        ping.join().unwrap()
    });
    assert!(ok && text.contains(" 0% packet loss"), "{} frames carried: {text}", wire.carried);
    let seen = (wire.carried, wire.longest);
    assert_eq!(wire.refused, 0);
    net.inside("sw", || drop((a_attached, b_attached)));
    wire.close(&shared);
    assert_eq!(free_frames(&shared), FRAMES as usize);
    Some(seen)
}

#[test]
fn ping_crosses_two_ports() {
    let Some((carried, longest)) = ping_through(1500, &["-c", "20", "-i", "0.01"]) else { return };
    assert!(carried >= 40 && longest < 200, "{carried} frames, longest {longest}");
}

#[test]
fn frames_of_several_chunks_cross_whole() {
    let Some((_, longest)) = ping_through(9000, &["-c", "20", "-i", "0.01", "-s", "8000"]) else { return };
    assert_eq!(longest, 8042);
}

#[test]
fn a_burst_of_pings_loses_nothing() {
    let Some((carried, _)) = ping_through(1500, &["-c", "1000", "-l", "500", "-i", "0.001"]) else { return };
    assert!(carried >= 2000);
}

/// UDP datagrams numbered from 0, to an address that answers no ARP, so that nothing else happens.
fn send_numbered(net: &Net, container: &str, count: u32) {
    let mac = ["neigh", "add", "10.9.0.99", "lladdr", "02:00:00:00:00:63", "dev", "eth0"];
    ip(&[&["-n", &net.name(container)], &mac[..]].concat());
    net.inside(container, || {
        let socket = UdpSocket::bind("10.9.0.1:7000").unwrap();
        for number in 0..count {
            socket.send_to(&number.to_be_bytes(), "10.9.0.99:7000").unwrap();
        }
    });
}

#[test]
fn a_thousand_frames_arrive_in_order() {
    let Some(net) = Net::new(&["a"], 1500) else { return };
    net.inside("sw", || {
        let (mut factory, shared) = factory();
        let (mut port, attached) = one(open(&mut factory, "a0"));
        let mut pool = FramePool::new(Arc::clone(&shared));
        std::thread::scope(|scope| {
            let sender = scope.spawn(|| send_numbered(&net, "a", 1000));
            let mut next = 0u32;
            wait_for("1000 frames", || {
                let mut frames = Frames::new();
                port.rx(&mut pool, &mut frames);
                port.service(&mut pool).unwrap();
                for frame in frames.drain(..) {
                    let bytes = pool.region().head(&frame);
                    if bytes.len() == 46 && bytes[12..14] == [8, 0] {
                        assert_eq!(bytes[42..46], next.to_be_bytes());
                        next += 1;
                    }
                    pool.free(frame);
                }
                next == 1000
            });
            sender.join().unwrap();
        });
        assert_eq!(port.kernel_counters().rx_dropped, 0);
        drop(attached);
        shared.reclaim(port.close());
        drop(pool);
        assert_eq!(free_frames(&shared), FRAMES as usize);
    });
}

/// Frames received by `eth0` of the calling thread's namespace.
fn received() -> u64 {
    let table = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let line = table.lines().find_map(|line| line.trim().strip_prefix("eth0:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn broadcast_frame(pool: &mut FramePool, length: usize) -> Frame {
    let mut bytes = vec![0u8; length];
    bytes[..12].copy_from_slice(&[255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 1]);
    bytes[12..14].copy_from_slice(&[0x88, 0xb5]);
    let mut frame = pool.alloc().unwrap();
    assert!(pool.region().write(&mut frame, &bytes));
    frame
}

#[test]
fn a_thousand_frames_are_sent_and_come_back() {
    let Some(net) = Net::new(&["a"], 1500) else { return };
    net.inside("sw", || {
        let (mut factory, shared) = factory();
        let (mut port, attached) = one(open(&mut factory, "a0"));
        let mut pool = FramePool::new(Arc::clone(&shared));
        let before = net.inside("a", received);
        let mut completed = 0;
        let mut waiting = Frames::new();
        for _ in 0..1000 {
            waiting.push(broadcast_frame(&mut pool, 60));
            port.tx(&mut pool, &mut waiting);
            assert!(waiting.is_empty());
            completed += port.service(&mut pool).unwrap().completed;
        }
        wait_for("completions", || {
            completed += port.service(&mut pool).unwrap().completed;
            completed == 1000
        });
        wait_for("arrival", || net.inside("a", received) - before >= 1000);
        drop(attached);
        shared.reclaim(port.close());
        drop(pool);
        assert_eq!(free_frames(&shared), FRAMES as usize);
    });
}

#[test]
fn frames_that_the_kernel_would_not_complete_are_refused_here() {
    let Some(net) = Net::new(&["a"], 1500) else { return };
    net.inside("sw", || {
        let (mut factory, shared) = factory();
        let (mut port, attached) = one(open(&mut factory, "a0"));
        let mut pool = FramePool::new(Arc::clone(&shared));
        let mut frames = Frames::new();
        frames.push(pool.alloc().unwrap());
        frames.push(broadcast_frame(&mut pool, 13 + 1));
        let twice = broadcast_frame(&mut pool, 60);
        frames.push(pool.region().share(&twice));
        frames.push(twice);
        let mut short_tail = broadcast_frame(&mut pool, 60);
        let empty = pool.alloc().unwrap();
        pool.region().append(&mut short_tail, empty).unwrap();
        frames.push(short_tail);
        port.tx(&mut pool, &mut frames);
        assert!(frames.is_empty());
        let mut refused = 0;
        wait_for("two sent, three refused", || {
            refused += port.service(&mut pool).unwrap().refused;
            refused >= 3 && port.held() == FILL as usize
        });
        assert_eq!((refused, port.kernel_counters().tx_invalid), (3, 0));
        drop(attached);
        shared.reclaim(port.close());
        drop(pool);
        assert_eq!(free_frames(&shared), FRAMES as usize);
    });
}

/// Resident pages of this process.
fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_hundred_attachments_leave_nothing_behind() {
    let Some(net) = Net::new(&["a"], 1500) else { return };
    net.inside("sw", || {
        let (mut factory, shared) = factory();
        let mut after_ten = 0;
        for round in 0..100 {
            let (port, attached) = one(open(&mut factory, "a0"));
            assert_eq!(port.held(), FILL as usize);
            // Either order must do.
            if round % 2 == 0 {
                drop(attached);
                shared.reclaim(port.close());
            } else {
                shared.reclaim(port.close());
                drop(attached);
            }
            assert_eq!(free_frames(&shared), FRAMES as usize, "round {round}");
            if round == 10 {
                after_ten = resident_kib();
            }
        }
        let grown = resident_kib().saturating_sub(after_ten);
        assert!(grown < 4096, "resident memory grew by {grown} KiB in 90 rounds");
    });
}

#[test]
fn a_deleted_interface_is_gone_and_gives_its_frames_back() {
    let Some(net) = Net::new(&["a", "b"], 1500) else { return };
    net.inside("sw", || {
        let (mut factory, shared) = factory();
        let (mut port, attached) = one(open(&mut factory, "a0"));
        let mut pool = FramePool::new(Arc::clone(&shared));
        ip(&["-n", &net.name("sw"), "link", "del", "a0"]);
        let mut frames = Frames::new();
        frames.push(broadcast_frame(&mut pool, 60));
        port.tx(&mut pool, &mut frames);
        assert!(matches!(port.service(&mut pool), Err(PortError::Gone)));
        // From now on frames are refused at once, and it stays gone.
        frames.push(broadcast_frame(&mut pool, 60));
        port.tx(&mut pool, &mut frames);
        assert!(frames.is_empty());
        assert!(matches!(port.service(&mut pool), Err(PortError::Gone)));
        drop(attached);
        shared.reclaim(port.close());
        pool.give_all();
        assert_eq!(free_frames(&shared), FRAMES as usize);
        // The pool outlives it: another port can be attached, and the same name again.
        let (port, attached) = one(open(&mut factory, "b0"));
        drop(attached);
        shared.reclaim(port.close());
        net.add_veth("a", 1, 1500);
        let (port, attached) = one(open(&mut factory, "a0"));
        drop(attached);
        shared.reclaim(port.close());
        assert_eq!(free_frames(&shared), FRAMES as usize);
    });
}

#[test]
fn a_link_that_is_down_refuses_and_recovers() {
    let Some(net) = Net::new(&["a"], 1500) else { return };
    net.inside("sw", || {
        let (mut factory, shared) = factory();
        let (mut port, attached) = one(open(&mut factory, "a0"));
        let mut pool = FramePool::new(Arc::clone(&shared));
        let send = |port: &mut Box<dyn Port>, pool: &mut FramePool| {
            let mut frames = Frames::new();
            frames.push(broadcast_frame(pool, 60));
            port.tx(pool, &mut frames);
            assert!(frames.is_empty());
            port.service(pool).unwrap()
        };
        ip(&["-n", &net.name("sw"), "link", "set", "a0", "down"]);
        let mut refused = 0;
        for _ in 0..100 {
            let done = send(&mut port, &mut pool);
            assert_eq!(done.unsent, 0);
            refused += done.refused;
        }
        assert_eq!(refused, 99, "all but the one that found out");
        assert_eq!(port.held(), FILL as usize + 1);
        ip(&["-n", &net.name("sw"), "link", "set", "a0", "up"]);
        let before = net.inside("a", received);
        send(&mut port, &mut pool);
        wait_for("both frames", || {
            port.service(&mut pool).unwrap();
            port.held() == FILL as usize
        });
        wait_for("arrival", || net.inside("a", received) - before >= 2);
        drop(attached);
        shared.reclaim(port.close());
        drop(pool);
        assert_eq!(free_frames(&shared), FRAMES as usize);
    });
}

fn refusal(factory: &mut AfxdpFactory, interface: &str) -> String {
    match factory.open(&spec(interface)) {
        Ok(_) => panic!("{interface} was attached"),
        Err(OpenError::Missing(name)) => panic!("{name} is missing"),
        Err(OpenError::Refused(line)) => line,
    }
}

#[test]
fn what_cannot_be_attached_is_refused_in_one_line() {
    let Some(net) = Net::new(&["a", "b"], 1500) else { return };
    net.inside("sw", || {
        let (mut factory, shared) = factory();
        let (port, attached) = one(open(&mut factory, "a0"));
        let line = refusal(&mut factory, "a0");
        assert!(line.starts_with("a0: XDP program ") && line.contains("ip link set dev a0 xdp off"), "{line}");
        // A second switch in the same namespace finds it taken too, and has an anchor of its own.
        let (mut second, second_pool) = AfxdpFactory::new(1024, &[]).unwrap();
        assert!(refusal(&mut second, "a0").contains("attached already"));
        let (other, other_attached) = one(open(&mut second, "b0"));
        drop(other_attached);
        second_pool.reclaim(other.close());
        assert!(refusal(&mut factory, "lo").contains("loopback"));
        assert!(matches!(factory.open(&spec("c0")), Err(OpenError::Missing(_))));
        drop(attached);
        shared.reclaim(port.close());
        // The far end's MTU, where the program allows less than the interface.
        ip(&["-n", &net.name("b"), "link", "set", "eth0", "mtu", "60000"]);
        ip(&["-n", &net.name("sw"), "link", "set", "b0", "mtu", "60000"]);
        match factory.open(&spec("b0")) {
            Ok(opened) => {
                drop(opened.attachment);
                opened.queues.into_iter().for_each(|port| shared.reclaim(port.close()));
            }
            Err(error) => assert!(error.to_string().contains("MTU"), "{error}"),
        }
        assert_eq!(free_frames(&shared), FRAMES as usize);
    });
}

#[test]
fn the_containers_offloads_are_switched_and_restored() {
    let Some(net) = Net::new(&["a"], 1500) else { return };
    if Command::new("ethtool").arg("--version").output().is_err() {
        eprintln!("SKIPPED: ethtool is not installed");
        return;
    }
    let vlan = |net: &Net| {
        let (_, text) = net.run("a", &["ethtool", "-k", "eth0"]);
        ["tx-vlan-offload: on", "tx-vlan-stag-hw-insert: on", "tx-checksum-sctp: on", "tx-checksumming: on"]
            .map(|line| text.contains(line))
    };
    assert_eq!(vlan(&net), [true; 4]);
    net.inside("sw", || {
        let (mut factory, shared) = factory();
        let opened = open(&mut factory, "a0");
        assert_eq!(opened.report.peer.as_deref(), Some(&*format!("eth0 in namespace {}", net.name("a"))));
        assert!(opened.report.notes.is_empty(), "{:?}", opened.report.notes);
        assert_eq!((opened.report.queues, opened.report.kernel_bytes > u64::from(FRAMES) * 128), (1, true));
        assert_eq!(vlan(&net), [false, false, false, true]);
        let (port, attached) = one(opened);
        drop(attached);
        shared.reclaim(port.close());
        assert_eq!(vlan(&net), [true; 4]);
    });
}

/// Cores that each receive thread of an interface may use.
fn receive_threads(interface: &str) -> Vec<String> {
    let prefix = format!("napi/{interface}-");
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let ours = processes
        .filter(|entry| fs::read_to_string(entry.path().join("comm")).is_ok_and(|name| name.starts_with(&prefix)));
    let status = ours.filter_map(|entry| fs::read_to_string(entry.path().join("status")).ok());
    let cores = status.filter_map(|text| {
        text.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).map(|list| list.trim().to_string())
    });
    cores.collect()
}

#[test]
fn the_receive_thread_keeps_off_the_workers_cores() {
    let Some(net) = Net::new(&["thr"], 1500) else { return };
    if std::thread::available_parallelism().unwrap().get() != 2 {
        eprintln!("SKIPPED: this test reads core lists of a machine with two cores");
        return;
    }
    net.inside("sw", || {
        let (mut factory, shared) = factory();
        let (port, mut attached) = one(open(&mut factory, "thr0"));
        attached.set_threaded(true).unwrap();
        assert_eq!(receive_threads("thr0"), ["1"], "worker on core 0");
        attached.set_threaded(false).unwrap();
        attached.set_threaded(true).unwrap();
        assert!(receive_threads("thr0").iter().all(|cores| cores == "1"));
        drop(attached);
        shared.reclaim(port.close());
        let (_, text) = net.run("sw", &["cat", "/sys/class/net/thr0/threaded"]);
        assert_eq!(text.trim(), "0");
        let (mut none_free, second) = AfxdpFactory::new(1024, &[0, 1]).unwrap();
        let (port, mut attached) = one(open(&mut none_free, "thr0"));
        attached.set_threaded(true).unwrap();
        let (_, text) = net.run("sw", &["cat", "/sys/class/net/thr0/threaded"]);
        assert_eq!(text.trim(), "0", "no core is free for the thread");
        drop(attached);
        second.reclaim(port.close());
    });
}

/// Not a test of its own: the process that the next test kills.
#[test]
#[ignore = "run by after_a_kill_the_interface_is_usable_at_once"]
fn holds_a_port_until_killed() {
    let Ok(namespace) = std::env::var("SWT_NAMESPACE") else { return };
    let file = fs::File::open(format!("/run/netns/{namespace}")).unwrap();
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
    let (mut factory, _shared) = factory();
    let mut opened = open(&mut factory, "k0");
    opened.attachment.set_threaded(true).unwrap();
    println!("HOLDING");
    std::thread::sleep(Duration::from_secs(30));
}

fn holder(net: &Net) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "holds_a_port_until_killed", "--ignored", "--nocapture"])
        .env("SWT_NAMESPACE", net.name("sw"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = std::io::BufReader::new(child.stdout.take().unwrap());
    let ready = std::io::BufRead::lines(output).map_while(Result::ok).any(|line| line.contains("HOLDING"));
    assert!(ready, "the holder did not start");
    child
}

#[test]
fn after_a_kill_the_interface_is_usable_at_once() {
    let Some(net) = Net::new(&["k"], 1500) else { return };
    net.inside("sw", || {
        for _ in 0..3 {
            let mut child = holder(&net);
            child.kill().unwrap();
            child.wait().unwrap();
            let start = Instant::now();
            let (mut factory, shared) = factory();
            let opened = open(&mut factory, "k0");
            let took = start.elapsed();
            assert!(took < Duration::from_secs(1), "re-attached after {took:?}");
            let (_, text) = net.run("sw", &["cat", "/sys/class/net/k0/threaded"]);
            assert_eq!(text.trim(), "0", "the killed process left it on");
            let (port, attached) = one(opened);
            drop(attached);
            shared.reclaim(port.close());
            assert_eq!(free_frames(&shared), FRAMES as usize);
        }
    });
}
