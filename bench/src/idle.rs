//! What a device costs while nothing happens: processor time of its processes, memory for each port, and how long the
//! first datagram after a silence takes. Main thread; the two ends of the datagrams have threads of their own.
//!
//! Memory of the kernel is the sum of `SUnreclaim`, `VmallocUsed` and `Percpu` of /proc/meminfo, in which the kernel
//! names what it allocated for itself: sockets and rings of AF_XDP, BPF maps, the bridge's ports. A control group would
//! not do: the kernel does not charge an AF_XDP socket's pool and rings to one. The difference of `MemAvailable` would
//! not either: it moves by megabytes with everything else that runs. What is left out is frames on their way: pages
//! that a veth's receive ring holds belong to none of the three; nor, before kernel 6.3, do the rings of AF_XDP. Each
//! reading is of the whole machine, so nothing else should run.

use crate::cmd::cmd;
use crate::crowd::Crowd;
use crate::device::operator::Operator;
use crate::device::{Kind, Settings};
use crate::error::{Error, Result};
use crate::netns;
use crate::report::Stats;
use crate::rig::{A_IF, A_IP, B_IF, B_IP, Rig};
use crate::sink::now_ns;
use crate::stop::Stop;
use rustix::time::ClockId;
use serde::Serialize;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const PORT: u16 = 7;
/// Payload: sequence number, time of arrival, padding to a minimum-size frame.
const PAYLOAD: usize = 18;
/// An answer later than this is lost.
const PATIENCE: Duration = Duration::from_millis(500);
/// Silence before memory and processor time are read.
const REST: Duration = Duration::from_secs(1);
/// Fields of /proc/meminfo that are the kernel's own memory.
const KERNEL: [&str; 3] = ["SUnreclaim:", "VmallocUsed:", "Percpu:"];

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Ports of the device, the two of the rig included; at least 3.
    pub ports: u16,
    /// How long the processes' use of processors is watched.
    pub watch: Duration,
    /// Datagrams sent, each after a silence.
    pub wakeups: u32,
    /// Silence before each.
    pub silence: Duration,
}

/// Memory at one moment, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Proportional set size of the device's processes.
    pub pss: u64,
    /// Resident set size of the device's processes.
    pub rss: u64,
    /// The kernel's own, of the whole machine.
    pub kernel: u64,
}

/// How long the first datagrams took, microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Waits {
    /// Median.
    pub median_us: f64,
    /// Longest.
    pub max_us: f64,
}

/// What one trial measured.
#[derive(Clone, Debug, Serialize)]
pub struct Idle {
    /// Device under test.
    pub device: Kind,
    /// Its ports.
    pub ports: u16,
    /// Processor time of all threads of its processes, as a share of one core; absent for a device in the kernel.
    pub cpu_share: Option<f64>,
    /// With the two ports of the rig.
    pub before: Memory,
    /// With all ports.
    pub after: Memory,
    /// From sending to arrival.
    pub one_way: Waits,
    /// From sending to the arrival of the answer.
    pub round_trip: Waits,
    /// Datagrams without an answer.
    pub lost: u32,
}

impl Idle {
    /// Growth of a kind of memory for each port that was added, bytes; negative when something else gave some back.
    pub fn per_port(&self, of: impl Fn(&Memory) -> u64) -> f64 {
        let added = f64::from(self.ports.saturating_sub(2).max(1));
        (of(&self.after) as f64 - of(&self.before) as f64) / added
    }
}

/// Makes a rig, starts the device with two ports, adds the others, and watches.
///
/// # Errors
/// Those of [`Rig::build`], [`Kind::start`], [`Crowd::build`] and [`Operator`]; [`Error::Device`] when no datagram is
/// answered.
pub fn run(kind: Kind, plan: Plan, settings: &Settings, stop: &Stop) -> Result<Idle> {
    let rig = Rig::build(kind.shape(settings))?;
    let crowd = Crowd::build(&rig, usize::from(plan.ports.saturating_sub(2)))?;
    // Last, so that the device ends before the interfaces under it go.
    let mut running = kind.start(&rig, settings, stop)?;
    let ids = running.ids();
    settle_neighbours(&rig)?;
    stop.sleep(REST)?;
    let before = Memory::now(&ids)?;
    let operator = Operator::of(kind, &rig, settings)?;
    operator.add_ports(crowd.names())?;
    operator.await_ports(crowd.names(), stop)?;
    stop.sleep(REST)?;
    let after = Memory::now(&ids)?;
    let cpu_share = if ids.is_empty() { None } else { Some(busy(&ids, plan.watch, stop)?) };
    running.check()?;
    let (times, lost) = wake(&rig, plan, settings.traffic_core, stop)?;
    running.check()?;
    let waits = |get: fn(&Times) -> u64| waits(&times.iter().map(get).collect::<Vec<_>>());
    let (Some(one_way), Some(round_trip)) = (waits(|t| t.one_way_ns), waits(|t| t.round_trip_ns)) else {
        return Err(Error::Device { device: kind.name(), why: format!("{lost} datagrams had no answer") });
    };
    Ok(Idle { device: kind, ports: plan.ports, cpu_share, before, after, one_way, round_trip, lost })
}

/// Gives both containers the other's address for good: a neighbour that goes stale would be asked again in the silence.
fn settle_neighbours(rig: &Rig) -> Result<()> {
    for (netns, interface, peer, peer_netns, peer_if) in
        [(rig.a(), A_IF, B_IP, rig.b(), B_IF), (rig.b(), B_IF, A_IP, rig.a(), A_IF)]
    {
        let mac = cmd(["cat", &format!("/sys/class/net/{peer_if}/address")]).in_netns(&peer_netns).run()?;
        let (peer, mac) = (peer.to_string(), mac.trim());
        cmd(["ip", "-n", &netns, "neigh", "replace", &peer, "lladdr", mac, "dev", interface, "nud", "permanent"])
            .run()?;
    }
    Ok(())
}

impl Memory {
    fn now(processes: &[u32]) -> Result<Self> {
        let kernel_kib: u64 = KERNEL.iter().filter_map(|key| kib_after(&read("/proc/meminfo").ok()?, key)).sum();
        let mut memory = Memory { kernel: kernel_kib * 1024, ..Memory::default() };
        for process in processes {
            let path = format!("/proc/{process}/smaps_rollup");
            let text = read(&path)?;
            let bytes = |key| {
                let missing = || Error::Parse { tool: "/proc", why: format!("{path} has no {key}") };
                kib_after(&text, key).map(|kib| kib * 1024).ok_or_else(missing)
            };
            memory.pss += bytes("Pss:")?;
            memory.rss += bytes("Rss:")?;
        }
        Ok(memory)
    }
}

/// Share of one core that the processes use over `time`.
fn busy(processes: &[u32], time: Duration, stop: &Stop) -> Result<f64> {
    let used = || processes.iter().map(|process| processor_time(*process)).sum::<Result<Duration>>();
    let (start, before) = (Instant::now(), used()?);
    stop.sleep(time)?;
    let after = used()?;
    Ok(after.saturating_sub(before).as_secs_f64() / start.elapsed().as_secs_f64())
}

/// Time that all threads of a process have been on a processor so far.
fn processor_time(process: u32) -> Result<Duration> {
    let path = format!("/proc/{process}/task");
    let tasks = std::fs::read_dir(&path).map_err(|e| Error::io(format!("list {path}"), e))?;
    // Of a thread that ends meanwhile nothing can be read any more.
    let run_ns =
        tasks.flatten().filter_map(|task| run_ns(&read(&task.path().join("schedstat").display().to_string()).ok()?));
    Ok(Duration::from_nanos(run_ns.sum()))
}

/// Nanoseconds on a processor: the first field of schedstat (Documentation/scheduler/sched-stats.rst).
fn run_ns(schedstat: &str) -> Option<u64> {
    schedstat.split_whitespace().next()?.parse().ok()
}

/// The number after `key` in text like /proc/meminfo.
fn kib_after(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace().next()?.parse().ok()
}

fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(path).map_err(|e| Error::io(format!("read {path}"), e))
}

/// Of one datagram, nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Times {
    one_way_ns: u64,
    round_trip_ns: u64,
}

/// Median and longest; `None` without values.
fn waits(times_ns: &[u64]) -> Option<Waits> {
    let stats = Stats::of(times_ns.iter().map(|ns| *ns as f64 / 1000.0))?;
    Some(Waits { median_us: stats.median, max_us: stats.max })
}

/// Sends datagrams from A to B, each after a silence; how long those took that were answered, and how many were not.
fn wake(rig: &Rig, plan: Plan, core: usize, stop: &Stop) -> Result<(Vec<Times>, u32)> {
    let over = Arc::new(AtomicBool::new(false));
    let inbox = netns::run(&rig.b(), None, || socket(B_IP, PORT))?;
    let seen = Arc::clone(&over);
    let server = netns::spawn(&rig.b(), Some(core), move || {
        answer(&inbox, &seen);
        Ok(())
    })?;
    let client_stop = stop.clone();
    let asked = netns::run(&rig.a(), Some(core), move || ask(plan, &client_stop));
    over.store(true, Ordering::Relaxed);
    netns::join(server)?;
    asked
}

fn socket(ip: Ipv4Addr, port: u16) -> Result<UdpSocket> {
    let what = || format!("UDP socket {ip}:{port}");
    let socket = UdpSocket::bind((ip, port)).map_err(|e| Error::io(what(), e))?;
    socket.set_read_timeout(Some(PATIENCE)).map_err(|e| Error::io(what(), e))?;
    Ok(socket)
}

/// Sends every datagram back with the time of its arrival until `over`.
fn answer(inbox: &UdpSocket, over: &AtomicBool) {
    let mut data = [0u8; PAYLOAD];
    while !over.load(Ordering::Relaxed) {
        if let Ok((PAYLOAD, from)) = inbox.recv_from(&mut data) {
            data[8..16].copy_from_slice(&now_ns(ClockId::Monotonic).to_be_bytes());
            // A failed answer is seen by the client as a lost one.
            let _ = inbox.send_to(&data, from);
        }
    }
}

fn ask(plan: Plan, stop: &Stop) -> Result<(Vec<Times>, u32)> {
    let outbox = socket(A_IP, 0)?;
    let what = "send the first datagram";
    outbox.connect((B_IP, PORT)).map_err(|e| Error::io(what, e))?;
    let (mut times, mut lost) = (Vec::new(), 0);
    for sequence in 0..u64::from(plan.wakeups) {
        stop.sleep(plan.silence)?;
        let (mut request, mut reply) = ([0u8; PAYLOAD], [0u8; PAYLOAD]);
        request[..8].copy_from_slice(&sequence.to_be_bytes());
        let sent_ns = now_ns(ClockId::Monotonic);
        outbox.send(&request).map_err(|e| Error::io(what, e))?;
        // Late answers to requests already given up are passed over.
        let answered = loop {
            match outbox.recv(&mut reply) {
                Ok(PAYLOAD) if reply[..8] == request[..8] => break true,
                Ok(_) => {}
                Err(_) => break false,
            }
        };
        let now_ns = now_ns(ClockId::Monotonic);
        let arrived_ns = u64::from_be_bytes(reply[8..16].try_into().unwrap_or_default());
        match answered {
            true => times.push(Times {
                one_way_ns: arrived_ns.saturating_sub(sent_ns),
                round_trip_ns: now_ns.saturating_sub(sent_ns),
            }),
            false => lost += 1,
        }
    }
    Ok((times, lost))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_a_port_is_the_growth_by_the_ports_that_were_added() {
        let waits = Waits { median_us: 0.0, max_us: 0.0 };
        let memory = |kernel, pss| Memory { pss, rss: pss, kernel };
        let idle = Idle {
            device: Kind::Bridge,
            ports: 16,
            cpu_share: None,
            before: memory(1000, 500),
            after: memory(1000 + 14 * 64, 486),
            one_way: waits,
            round_trip: waits,
            lost: 0,
        };
        assert_eq!((idle.per_port(|m| m.kernel), idle.per_port(|m| m.pss)), (64.0, -1.0));
    }

    #[test]
    fn figures_are_found_in_the_kernels_texts() {
        let text = "Slab:  12 kB\nSUnreclaim:   7 kB\nVmallocUsed: 30 kB\n";
        assert_eq!([kib_after(text, "SUnreclaim:"), kib_after(text, "Percpu:")], [Some(7), None]);
        assert_eq!((run_ns("81953 1848856 2\n"), run_ns("")), (Some(81953), None));
        let here = Memory::now(&[std::process::id()]).unwrap();
        assert!(here.kernel > 0 && here.rss >= here.pss && here.pss > 0, "{here:?}");
        assert!(Memory::now(&[u32::MAX]).is_err());
    }

    #[test]
    fn a_busy_process_uses_a_core_and_a_sleeping_one_none() {
        let stop = Stop::default();
        let spin = std::env::temp_dir().join(format!("swbench-test-idle-{}.log", std::process::id()));
        let share = |words: &[&str]| {
            let process = cmd(words.iter().copied()).spawn(&spin).unwrap();
            std::thread::sleep(Duration::from_millis(200));
            busy(&[process.id()], Duration::from_millis(300), &stop).unwrap()
        };
        let (busy, asleep) = (share(&["sh", "-c", "while :; do :; done"]), share(&["sleep", "60"]));
        let _ = std::fs::remove_file(&spin);
        assert!(busy > 0.1 && busy < 1.1 && asleep < 0.01, "{busy} {asleep}");
    }

    #[test]
    fn waits_are_median_and_longest_in_microseconds() {
        assert_eq!(waits(&[3000, 1000, 9000]), Some(Waits { median_us: 3.0, max_us: 9.0 }));
        assert_eq!(waits(&[]), None);
    }
}
