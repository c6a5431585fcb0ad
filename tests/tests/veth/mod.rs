//! Namespaces, veths and small helpers for the tests of the AF_XDP port.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::fs;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use switch::port::afxdp::AfxdpFactory;
use switch::port::{Attachment, Frame, FramePool, Opened, Port, PortFactory, PortSpec, SharedPool};

pub const FRAMES: u32 = 4096;
pub const FILL: u32 = 1024;
/// For everything that takes milliseconds when it works.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Namespaces: `sw` with one host end per container, and the containers.
pub struct Net {
    prefix: String,
    containers: Vec<&'static str>,
}

impl Net {
    /// `sw` with ports `<container>0`, each the host end of `eth0` in its container, 10.9.0.N/24. `None` without root.
    pub fn new(containers: &[&'static str], mtu: u32) -> Option<Net> {
        let net = Net { prefix: tests::net::fresh_prefix(), containers: containers.to_vec() };
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

    pub fn add_veth(&self, container: &str, number: u32, mtu: u32) {
        let (sw, inner, mtu) = (self.name("sw"), self.name(container), mtu.to_string());
        let port = format!("{container}0");
        let tail = ["peer", "name", "eth0", "mtu", &mtu, "netns", &inner];
        ip(&[&["-n", &sw, "link", "add", &port, "mtu", &mtu, "type", "veth"], &tail[..]].concat());
        ip(&["-n", &sw, "link", "set", &port, "up"]);
        ip(&["-n", &inner, "addr", "add", &format!("10.9.0.{number}/24"), "dev", "eth0"]);
        ip(&["-n", &inner, "link", "set", "eth0", "up"]);
    }

    pub fn name(&self, namespace: &str) -> String {
        format!("{}{namespace}", self.prefix)
    }

    /// Runs `work` on a new thread inside a namespace.
    pub fn inside<T: Send>(&self, namespace: &str, work: impl FnOnce() -> T + Send) -> T {
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
    pub fn run(&self, namespace: &str, command: &[&str]) -> (bool, String) {
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

pub fn try_ip(arguments: &[&str]) -> bool {
    Command::new("ip").args(arguments).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

pub fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().unwrap();
    assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

pub fn spec(interface: &str) -> PortSpec {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None).unwrap();
    let ifindex = rustix::net::netdevice::name_to_index(&socket, interface).unwrap_or(0);
    PortSpec { interface: interface.into(), ifindex, fill_target: FILL, patient: true }
}

pub fn open(factory: &mut AfxdpFactory, interface: &str) -> Opened {
    factory.open(&spec(interface)).unwrap_or_else(|error| panic!("{error}"))
}

/// The one queue of an attached interface, and what keeps it attached.
pub fn one(opened: Opened) -> (Box<dyn Port>, Box<dyn Attachment>) {
    let mut queues = opened.queues;
    assert_eq!(queues.len(), 1);
    (queues.pop().unwrap(), opened.attachment)
}

pub fn factory() -> (AfxdpFactory, Arc<SharedPool>) {
    AfxdpFactory::new(FRAMES, &[0]).unwrap_or_else(|error| panic!("{error}"))
}

/// Counts every frame of the pool by taking all of them.
pub fn free_frames(shared: &Arc<SharedPool>) -> usize {
    let mut pool = FramePool::new(Arc::clone(shared));
    let all: Vec<Frame> = std::iter::from_fn(|| pool.alloc()).collect();
    let count = all.len();
    all.into_iter().for_each(|frame| pool.free(frame));
    count
}

pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < tests::net::stretched(PATIENCE), "{what}: not within {PATIENCE:?}");
        std::thread::yield_now();
    }
}

/// Frames sent at once, at most: a veth's queue in front of a host end with an XDP program has room for 256
/// (`VETH_RING_SIZE`), and drops what a slow machine does not empty in time.
const AT_ONCE: u64 = 128;

/// UDP datagrams numbered from 0, to an address that answers no ARP, so that nothing else happens. All of them reach
/// the host end's program.
pub fn send_numbered(net: &Net, container: &str, count: u32) {
    let mac = ["neigh", "replace", "10.9.0.99", "lladdr", "02:00:00:00:00:63", "dev", "eth0"];
    ip(&[&["-n", &net.name(container)], &mac[..]].concat());
    net.inside(container, || {
        let socket = UdpSocket::bind("10.9.0.1:7000").unwrap();
        let before = taken();
        for number in 0..count {
            socket.send_to(&number.to_be_bytes(), "10.9.0.99:7000").unwrap();
            let sent = u64::from(number) + 1;
            if sent.is_multiple_of(AT_ONCE) {
                wait_for(&format!("the far end's {sent} frames"), || taken() - before >= sent);
            }
        }
    });
}

/// Frames received by `eth0` of the calling thread's namespace.
pub fn received() -> u64 {
    counter(1)
}

/// Frames of `eth0` of the calling thread's namespace that its far end has taken out of the queue between them.
fn taken() -> u64 {
    counter(9)
}

/// A column behind the name `eth0` in /proc/net/dev (proc_pid_net(5)).
fn counter(column: usize) -> u64 {
    let table = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let line = table.lines().find_map(|line| line.trim().strip_prefix("eth0:")).unwrap();
    line.split_whitespace().nth(column).unwrap().parse().unwrap()
}

pub fn broadcast_frame(pool: &mut FramePool, length: usize) -> Frame {
    let mut bytes = vec![0u8; length];
    bytes[..12].copy_from_slice(&[255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 1]);
    bytes[12..14].copy_from_slice(&[0x88, 0xb5]);
    let mut frame = pool.alloc().unwrap();
    assert!(pool.region().write(&mut frame, &bytes));
    frame
}
