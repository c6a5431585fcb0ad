//! Worker threads on real interfaces: where they run and before whom, spinning, frames from one to another.

use std::fs;
use std::time::{Duration, Instant};

use ctl::protocol::{PortState, Request, WorkerStatus};
use tests::net::process::OnCore;
use tests::net::switchd::pods;
use tests::net::traffic::{Stream, UdpEcho, ping, tcp_transfer, udp_round_trip, udp_to, wait_reachable};
use tests::net::{Container, Lab, Link, Switchd, report, skipped, slowness};

/// Host ends of every test here.
const ENDS: [&str; 4] = ["a0", "b0", "c0", "d0"];

/// A thread of a process.
#[derive(Debug)]
struct Thread {
    name: String,
    nice: i32,
    cores: String,
}

/// The worker threads of a switch, by number.
fn worker_threads(switch: &Switchd) -> Vec<Thread> {
    let tasks = fs::read_dir(format!("/proc/{}/task", switch.process().pid())).expect("the switch runs");
    let mut threads: Vec<Thread> = tasks
        .flatten()
        .filter_map(|task| {
            let read = |file: &str| fs::read_to_string(task.path().join(file)).ok();
            let (stat, status) = (read("stat")?, read("status")?);
            let (head, rest) = stat.rsplit_once(") ")?;
            let (_, name) = head.split_once('(')?;
            // Field 19 of /proc/pid/stat; the name is field 2 (proc_pid_stat(5)).
            let nice = rest.split(' ').nth(19 - 3)?.parse().ok()?;
            let cores = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?.trim().to_owned();
            Some(Thread { name: name.to_owned(), nice, cores })
        })
        .filter(|thread| thread.name.starts_with("worker"))
        .collect();
    threads.sort_by(|one, other| one.name.cmp(&other.name));
    threads
}

fn assert_pinned_and_raised(switch: &Switchd, cores: &[usize]) {
    let threads = worker_threads(switch);
    assert_eq!(threads.len(), cores.len(), "{threads:?}");
    for (index, (thread, core)) in threads.iter().zip(cores).enumerate() {
        assert_eq!(thread.name, format!("worker{index}"));
        assert_eq!((thread.nice, &thread.cores), (-20, &core.to_string()), "{thread:?}");
    }
}

/// Four containers and a switch; every port is up.
fn start(lab: &mut Lab, keys: &str) -> ([Container; 4], Switchd) {
    let containers = ENDS.map(|end| lab.container(end, &Link::default()));
    let switch = Switchd::start(lab, keys, &pods(&ENDS));
    for end in ENDS {
        switch.wait_state(end, PortState::Up);
    }
    (containers, switch)
}

#[test]
fn a_spinning_worker_forwards_and_never_sleeps() {
    // A core that spins before everybody else is no neighbour for tests that measure.
    let Some(mut lab) = Lab::alone("a_spinning_worker_forwards_and_never_sleeps") else { return };
    let core = std::thread::available_parallelism().map_or(1, usize::from) - 1;
    let ([a, b, ..], switch) = start(&mut lab, &format!("workers = [{core}]\npoll = \"spin\""));
    assert_pinned_and_raised(&switch, &[core]);
    wait_reachable(&a, b.v4());
    assert_eq!(ping(&a, b.v4(), 1000, 5), 5);
    let echo = UdpEcho::start(&b, b.v6());
    let socket = udp_to(&a, a.v6(), echo.address());
    assert!((0..20).all(|seed| udp_round_trip(&socket, 1000, seed).is_some()));
    let used = switch.process().cpu_time();
    std::thread::sleep(Duration::from_secs(1));
    let used = switch.process().cpu_time() - used;
    let workers: Vec<WorkerStatus> = switch.ask(Request::ShowWorkers {}).expect("show-workers is answered");
    report(&format!("a spinning worker used {used:?} of a silent second"));
    assert!(used > Duration::from_millis(500), "a spinning worker keeps its core: {used:?}");
    assert_eq!((workers.len(), workers[0].poll.as_str(), workers[0].sleeps), (1, "spin", 0));
    assert!(switch.stop().success());
}

/// Round trips from a thread on core 1 to one on core `there`, until `enough` of the last 20 looks found the worker
/// giving way or not; the median then.
fn round_trips(
    switch: &Switchd,
    [a, b]: [&Container; 2],
    there: usize,
    enough: impl Fn(usize) -> bool,
) -> Option<Duration> {
    let echo = {
        let _core = OnCore::new(there);
        UdpEcho::start(b, b.v4())
    };
    let _core = OnCore::new(1);
    let socket = udp_to(a, a.v4(), echo.address());
    // Longer than a worker gives way at most.
    (0..20).find_map(|_| {
        let mut took = Vec::new();
        let look = |_: &usize| {
            took.extend((0..400).filter_map(|seed| udp_round_trip(&socket, 64, seed)));
            let workers: Vec<WorkerStatus> = switch.ask(Request::ShowWorkers {}).expect("show-workers is answered");
            workers[0].shares_core
        };
        let shared = (0..20).filter(look).count();
        took.sort_unstable();
        enough(shared).then(|| took[took.len() / 2])
    })
}

#[test]
fn a_worker_gives_way_to_a_container_on_its_core() {
    let test = "a_worker_gives_way_to_a_container_on_its_core";
    let Some(mut lab) = Lab::alone(test) else { return };
    if !OnCore::may_be(0) || !OnCore::may_be(1) || slowness() > 1 {
        return skipped(test, "needs cores 0 and 1, and round trips of less than 300 us");
    }
    let ([a, b, ..], switch) = start(&mut lab, "workers = [0]");
    wait_reachable(&a, b.v4());
    let elsewhere = round_trips(&switch, [&a, &b], 1, |shared| shared <= 5);
    let elsewhere = elsewhere.expect("nobody on the worker's core needs it");
    let there = round_trips(&switch, [&a, &b], 0, |shared| shared >= 15);
    let there = there.expect("what answers on the worker's core needs it");
    assert!(there < Duration::from_micros(300), "it spun for what it kept from coming: {there:?}");
    let still = round_trips(&switch, [&a, &b], 1, |shared| shared <= 5);
    assert!(still.is_some(), "it does not need it for ever");
    report(&format!("round trips of {elsewhere:?}, and {there:?} where one end is on the worker's core"));
    assert!(switch.stop().success());
}

/// True while the switch has the kernel's request for short idle states open (PM QoS).
fn keeps_cores_awake(switch: &Switchd) -> bool {
    let files = fs::read_dir(format!("/proc/{}/fd", switch.process().pid())).expect("the switch runs");
    files.flatten().filter_map(|file| fs::read_link(file.path()).ok()).any(|to| to.ends_with("cpu_dma_latency"))
}

/// What show-workers says is asked for, in microseconds.
fn resume_latency_us(switch: &Switchd) -> Option<u32> {
    let workers: Vec<WorkerStatus> = switch.ask(Request::ShowWorkers {}).expect("show-workers is answered");
    workers[0].resume_latency_us
}

/// A switch and a lab for a test about idle cores; `None` where the kernel takes no such request.
fn for_idle_cores(test: &str, keys: &str) -> Option<(Lab, [Container; 4], Switchd)> {
    let mut lab = Lab::new(test)?;
    let driver = fs::read_to_string("/sys/devices/system/cpu/cpuidle/current_driver").unwrap_or_default();
    if !fs::exists("/dev/cpu_dma_latency").unwrap_or(false) || ["", "none"].contains(&driver.trim()) {
        skipped(test, "this kernel has no /dev/cpu_dma_latency, or no driver for idle states");
        return None;
    }
    let (containers, switch) = start(&mut lab, keys);
    wait_reachable(&containers[0], containers[1].v4());
    Some((lab, containers, switch))
}

#[test]
fn idle_cores_are_kept_awake_while_packets_flow_and_no_longer() {
    let test = "idle_cores_are_kept_awake_while_packets_flow_and_no_longer";
    let Some((_lab, [a, b, ..], switch)) = for_idle_cores(test, "") else { return };
    assert!(!keeps_cores_awake(&switch), "a few packets are no traffic");
    assert_eq!(resume_latency_us(&switch), None);
    let stream = Stream::start(&a, &b, 20_000);
    let wait = |wanted: bool| {
        let start = Instant::now();
        while keeps_cores_awake(&switch) != wanted && start.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(keeps_cores_awake(&switch), wanted, "after {:?}", start.elapsed());
        start.elapsed()
    };
    let held = wait(true);
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").expect("there is a /proc");
    let guest = cpuinfo.lines().any(|line| line.starts_with("flags") && line.contains(" hypervisor"));
    assert_eq!(resume_latency_us(&switch), Some(if guest { 0 } else { 10 }));
    stream.stop();
    let released = wait(false);
    assert_eq!(resume_latency_us(&switch), None);
    report(&format!(
        "idle cores were kept awake {held:?} after the stream began, and for {released:?} once it was over"
    ));
    assert!(switch.stop().success());
}

#[test]
fn idle_cores_are_left_alone_when_told_so() {
    let test = "idle_cores_are_left_alone_when_told_so";
    let Some((_lab, [a, b, ..], switch)) = for_idle_cores(test, "resume_latency_us = \"off\"") else { return };
    let stream = Stream::start(&a, &b, 20_000);
    // Five times as long as traffic takes to be noticed.
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(1_500) {
        assert!(!keeps_cores_awake(&switch), "after {:?}", start.elapsed());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(resume_latency_us(&switch), None);
    let (sent, received) = stream.stop();
    assert!(received.count > 1_000, "there was traffic: {} of {sent}", received.count);
    assert!(switch.stop().success());
}

#[test]
fn ports_of_two_workers_reach_each_other() {
    let test = "ports_of_two_workers_reach_each_other";
    let Some(mut lab) = Lab::new(test) else { return };
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        return skipped(test, "needs two cores");
    }
    let (containers, switch) = start(&mut lab, "workers = [0, 1]");
    assert_pinned_and_raised(&switch, &[0, 1]);
    let workers = ENDS.map(|end| switch.port(end).workers);
    assert!(workers.iter().all(|workers| workers.len() == 1), "one queue, one worker: {workers:?}");
    let (first, others): (Vec<_>, Vec<_>) =
        containers.iter().zip(&workers).partition(|(_, workers)| workers.as_slice() == [0]);
    assert_eq!((first.len(), others.len()), (2, 2), "the ports are spread evenly: {workers:?}");
    let ((a, _), (b, _)) = (first[0], others[0]);
    for (from, to) in [(a, b), (b, a), (first[1].0, others[1].0)] {
        wait_reachable(from, to.v4());
        assert_eq!((ping(from, to.v4(), 1400, 5), ping(from, to.v6(), 56, 5)), (5, 5));
    }
    for (from, to, target) in [(a, b, b.v4()), (b, a, a.v6())] {
        let (sent, received) = tcp_transfer(from, to, target, 8 << 20, 1).expect("TCP gets through");
        assert_eq!(sent, received);
    }
    for worker in switch.ask::<WorkerStatus>(Request::ShowWorkers {}).expect("show-workers is answered") {
        assert!(worker.rx_packets > 1000, "both did their share: {worker:?}");
    }
    assert!(containers.iter().all(|container| container.space().checksum_errors() == 0));
    assert!(switch.stop().success());
}
