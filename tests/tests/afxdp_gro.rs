//! Containers that receive in batches: what is set at both ends of a real veth, what is put back, and that a burst is
//! one batch then.
//!
//! As in `afxdp_attach`: namespaces of its own, root needed. Where the kernel preempts system calls each test says
//! SKIPPED and passes.

mod veth;

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use switch::port::afxdp::AfxdpFactory;
use switch::port::{CONTAINER_GRO, FramePool, Frames, Port, PortFactory};
use veth::*;

/// A receive thread of a container.
#[derive(Debug)]
struct Thread {
    id: u32,
    policy: String,
    cores: String,
}

impl Thread {
    /// How often it went to sleep.
    fn naps(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id)).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
        line.trim().parse().unwrap()
    }
}

/// The receive threads of interfaces called `interface`, in the order in which they were made.
fn threads(interface: &str) -> Vec<Thread> {
    let said = |words: &[&str], id: u32| {
        let output = Command::new(words[0]).args(&words[1..]).arg(id.to_string()).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_string()
    };
    let ids = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let name = fs::read_to_string(entry.path().join("comm")).ok()?;
        name.starts_with(&format!("napi/{interface}-")).then(|| entry.file_name().to_str()?.parse().ok())?
    });
    let mut ids: Vec<u32> = ids.collect();
    ids.sort_unstable();
    let thread = |id| Thread {
        id,
        policy: said(&["ps", "-o", "cls=", "-p"], id),
        cores: said(&["taskset", "-pc"], id).rsplit(": ").next().unwrap_or_default().to_string(),
    };
    ids.into_iter().map(thread).collect()
}

/// The far end called `interface` in namespace `container`: its GRO, whether its receive queues have threads; and TCP
/// segmentation at the near end.
fn settings(net: &Net, container: &str, interface: &str) -> [bool; 3] {
    let (_, far) = net.run(container, &["ethtool", "-k", interface]);
    let (_, threaded) = net.run(container, &["cat", &format!("/sys/class/net/{interface}/threaded")]);
    let (_, near) = net.run("sw", &["ethtool", "-k", &format!("{container}0")]);
    let on = |text: &str, feature: &str| text.contains(&format!("{feature}: on"));
    [on(&far, "generic-receive-offload"), threaded.trim() == "1", on(&near, "tcp-segmentation-offload")]
}

/// Both ends as they come, and as they are while a container receives in batches.
const AS_FOUND: [bool; 3] = [false, false, true];
const MERGING: [bool; 3] = [true, true, false];

/// A container whose interface has a name that no other has: threads are told apart by it here.
fn net(interface: &str) -> Option<Net> {
    let net = Net::new(&["gro"], 1500)?;
    let rename = format!("ip link set eth0 down; ip link set eth0 name {interface}; ip link set {interface} up");
    net.run("gro", &["sh", "-c", &rename]);
    Some(net)
}

/// `None`, after a line that says so, where the kernel is not made for it.
fn merging_factory() -> Option<(AfxdpFactory, std::sync::Arc<switch::port::SharedPool>)> {
    let made = factory();
    let present = made.0.features().iter().any(|feature| feature.name == CONTAINER_GRO && feature.present);
    if !present {
        assert!(!never_preempts() || !may_place_threads(), "this kernel does not preempt system calls");
        eprintln!("SKIPPED: this kernel preempts system calls, or threads may not be placed here");
    }
    present.then_some(made)
}

/// CAP_SYS_ADMIN and CAP_SYS_NICE, and the host's processes in /proc.
fn may_place_threads() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok());
    let rights = mask.is_some_and(|mask| [21, 23].iter().all(|right| mask >> right & 1 == 1));
    rights && fs::read_to_string("/proc/2/comm").is_ok_and(|name| name.trim_end() == "kthreadd")
}

/// True if this kernel is known not to: built so, and not told otherwise at boot.
fn never_preempts() -> bool {
    let config = Command::new("zcat").arg("/proc/config.gz").output().map(|output| output.stdout).unwrap_or_default();
    let arguments = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let built = String::from_utf8_lossy(&config).contains("CONFIG_PREEMPT_NONE=y");
    arguments.contains("preempt=none") || built && !arguments.contains("preempt=")
}

#[test]
fn the_container_receives_on_its_workers_core_until_the_port_is_detached() {
    let Some(net) = net("merged0") else { return };
    net.inside("sw", || {
        let Some((mut factory, shared)) = merging_factory() else { return };
        let state = || settings(&net, "gro", "merged0");
        let check = |core: &str| {
            assert_eq!(state(), MERGING);
            let threads = threads("merged0");
            let [thread] = threads.as_slice() else { panic!("one thread, not {threads:?}") };
            assert_eq!((thread.policy.as_str(), thread.cores.as_str()), ("FF", core));
        };
        assert_eq!(state(), AS_FOUND);
        let (port, mut attached) = one(open(&mut factory, "gro0"));
        assert!(!attached.merges_at_container());
        attached.merge_at_container(&[1]).unwrap();
        check("1");
        assert!(attached.merges_at_container());
        // A link that came up has new threads, anywhere: that is noticed; asked again, they are where they should be.
        net.run("gro", &["sh", "-c", "ip link set merged0 down; ip link set merged0 up"]);
        assert!(!attached.merges_at_container());
        attached.merge_at_container(&[0]).unwrap();
        check("0");
        // Whoever turns GRO off in the container is left in peace, until it is on again.
        net.run("gro", &["ethtool", "-K", "merged0", "gro", "off"]);
        assert!(!attached.merges_at_container() && !attached.merge_at_container(&[0]).unwrap());
        assert_eq!((state(), threads("merged0").len()), ([false, true, false], 0));
        net.run("gro", &["ethtool", "-K", "merged0", "gro", "on"]);
        assert!(!attached.merges_at_container());
        assert!(attached.merge_at_container(&[0]).unwrap());
        check("0");
        // It is left as whoever set it last left it.
        drop(attached);
        assert_eq!((state(), threads("merged0").len()), ([true, false, true], 0));
        shared.reclaim(port.close());
        let (port, mut attached) = one(open(&mut factory, "gro0"));
        attached.merge_at_container(&[0]).unwrap();
        net.run("gro", &["ethtool", "-K", "merged0", "gro", "off"]);
        assert!(!attached.merge_at_container(&[0]).unwrap());
        drop(attached);
        assert_eq!((state(), threads("merged0").len()), (AS_FOUND, 0));
        shared.reclaim(port.close());
    });
}

#[test]
fn what_the_operator_of_the_container_had_set_stays() {
    let Some(net) = net("merged1") else { return };
    net.inside("sw", || {
        let Some((mut factory, shared)) = merging_factory() else { return };
        let threaded = "echo 1 > /sys/class/net/merged1/threaded";
        for set in ["true", threaded, &format!("{threaded}; ethtool -K merged1 gro off")] {
            net.run("gro", &["sh", "-c", &format!("ethtool -K merged1 gro on; {set}")]);
            let before = settings(&net, "gro", "merged1");
            let (port, mut attached) = one(open(&mut factory, "gro0"));
            attached.merge_at_container(&[0]).unwrap();
            assert_eq!(settings(&net, "gro", "merged1"), MERGING);
            drop(attached);
            assert_eq!(settings(&net, "gro", "merged1"), before);
            // But not on a worker's core before the worker.
            assert!(threads("merged1").iter().all(|thread| thread.policy == "TS"), "{:?}", threads("merged1"));
            shared.reclaim(port.close());
        }
    });
}

#[test]
fn a_container_that_cannot_receive_in_batches_is_left_as_it_was() {
    let Some(net) = net("merged2") else { return };
    net.inside("sw", || {
        let Some((mut factory, shared)) = merging_factory() else { return };
        let (port, mut attached) = one(open(&mut factory, "gro0"));
        // While the container's end is down, it has no receive queue.
        net.run("gro", &["ip", "link", "set", "merged2", "down"]);
        attached.merge_at_container(&[0]).unwrap_err();
        assert_eq!(settings(&net, "gro", "merged2"), AS_FOUND);
        net.run("gro", &["ip", "link", "set", "merged2", "up"]);
        attached.merge_at_container(&[0]).unwrap();
        // A core that does not exist: what worked before is undone, too, and nothing is left half done.
        attached.merge_at_container(&[1000]).unwrap_err();
        assert_eq!(settings(&net, "gro", "merged2"), AS_FOUND);
        assert!(!attached.merges_at_container() && threads("merged2").is_empty());
        // The same where the far end refuses for its own reasons the second time.
        attached.merge_at_container(&[0]).unwrap();
        let (other, other_attached) = net.inside("gro", || one(open(&mut factory, "merged2")));
        let error = attached.merge_at_container(&[0]).unwrap_err().to_string();
        assert!(error.contains("XDP program"), "{error}");
        drop(other_attached);
        shared.reclaim(other.close());
        // The kernel does not let the near end segment while the far end has a program.
        assert_eq!(settings(&net, "gro", "merged2")[..2], AS_FOUND[..2]);
        net.run("sw", &["ethtool", "-K", "gro0", "tso", "on"]);
        // Detached while the container's end is down: nothing of ours works there any more once it is up.
        attached.merge_at_container(&[0]).unwrap();
        net.run("gro", &["ip", "link", "set", "merged2", "down"]);
        drop(attached);
        net.run("gro", &["ip", "link", "set", "merged2", "up"]);
        assert!(threads("merged2").is_empty() && !settings(&net, "gro", "merged2")[0]);
        shared.reclaim(port.close());
        // The other end is a port as well, with a program of its own.
        let mut patch = Command::new("ip");
        patch.args(["-n", &net.name("sw"), "link", "add", "p0", "up", "type", "veth", "peer", "name", "p1"]);
        assert!(patch.status().unwrap().success());
        ip(&["-n", &net.name("sw"), "link", "set", "p1", "up"]);
        let mut both = ["p0", "p1"].map(|end| one(open(&mut factory, end)));
        for (_, attached) in &mut both {
            let error = attached.merge_at_container(&[0]).unwrap_err().to_string();
            assert!(error.contains("XDP program"), "{error}");
        }
        both.into_iter().for_each(|(port, _)| shared.reclaim(port.close()));
    });
}

#[test]
fn each_queue_of_a_container_is_received_in_batches_on_its_own_workers_core() {
    let Some(net) = Net::new(&["mq"], 1500) else { return };
    let (sw, inner) = (net.name("sw"), net.name("mq"));
    ip(&["-n", &sw, "link", "del", "mq0"]);
    let host = ["link", "add", "mq0", "numrxqueues", "2", "numtxqueues", "2", "type", "veth"];
    let peer = ["peer", "name", "merged3", "numrxqueues", "2", "numtxqueues", "2", "netns", &inner];
    ip(&[&["-n", &sw], &host[..], &peer[..]].concat());
    ip(&["-n", &sw, "link", "set", "mq0", "up"]);
    ip(&["-n", &inner, "link", "set", "merged3", "up"]);
    net.inside("sw", || {
        let Some((mut factory, shared)) = merging_factory() else { return };
        let mut opened = open(&mut factory, "mq0");
        opened.attachment.merge_at_container(&[1, 0]).unwrap();
        let threads = threads("merged3");
        let mut pool = FramePool::new(std::sync::Arc::clone(&shared));
        for (queue, core) in [(0, "1"), (1, "0")] {
            let before: Vec<u64> = threads.iter().map(Thread::naps).collect();
            assert!(
                Command::new("taskset")
                    .args(["-pc", core, &gettid()])
                    .stdout(Stdio::null())
                    .status()
                    .unwrap()
                    .success()
            );
            let sent = send_bursts(&mut *opened.queues[queue], &mut pool);
            let woken: Vec<u64> = threads.iter().zip(before).map(|(thread, before)| thread.naps() - before).collect();
            let on_core = threads.iter().position(|thread| thread.cores == core).unwrap();
            let busiest = (0..2).max_by_key(|&thread| woken[thread]).unwrap();
            assert_eq!(
                busiest, on_core,
                "queue {queue} is received on the core of its worker: {woken:?} of {threads:?}"
            );
            assert!(woken[busiest] >= 10 && woken[busiest] <= sent / 8, "{sent} frames woke it {woken:?} times");
        }
        drop(opened.attachment);
        pool.give_all();
        drop(pool);
        opened.queues.into_iter().for_each(|port| shared.reclaim(port.close()));
    });
}

fn gettid() -> String {
    rustix::thread::gettid().as_raw_nonzero().to_string()
}

/// Sends ten bursts, each with one system call; answers how many frames that were.
fn send_bursts(port: &mut dyn Port, pool: &mut FramePool) -> u64 {
    let mut sent = 0;
    for _ in 0..10 {
        let mut frames = Frames::new();
        (0..32).for_each(|_| frames.push(broadcast_frame(pool, 60)));
        sent += frames.len() as u64;
        port.tx(pool, &mut frames);
        assert!(frames.is_empty());
        port.service(pool).unwrap();
    }
    sent
}

/// Not a test of its own: the process that the next test kills.
#[test]
#[ignore = "run by what_a_killed_switch_left_is_put_back_by_the_next"]
fn holds_a_container_until_killed() {
    if std::env::var_os("SWT_HOLD").is_none() {
        return;
    }
    let (mut factory, _shared) = factory();
    let mut opened = open(&mut factory, "gro0");
    println!("HOLDING {:?}", opened.attachment.merge_at_container(&[0]));
    std::thread::sleep(Duration::from_secs(30));
}

#[test]
fn what_a_killed_switch_left_is_put_back_by_the_next() {
    let Some(net) = net("merged4") else { return };
    net.inside("sw", || {
        let Some((mut factory, shared)) = merging_factory() else { return };
        let mut holder = Command::new("ip");
        holder.args(["netns", "exec", &net.name("sw")]).arg(std::env::current_exe().unwrap());
        holder.args(["--exact", "holds_a_container_until_killed", "--ignored", "--nocapture"]).env("SWT_HOLD", "1");
        let mut child = holder.stdout(Stdio::piped()).spawn().unwrap();
        let lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
        let said = lines.map_while(Result::ok).find(|line| line.contains("HOLDING"));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(said.is_some_and(|line| line.contains("HOLDING Ok")));
        assert_eq!(settings(&net, "gro", "merged4"), MERGING);
        let (port, mut attached) = one(open(&mut factory, "gro0"));
        attached.merge_at_container(&[1]).unwrap();
        assert!(threads("merged4").iter().all(|thread| thread.cores == "1"));
        drop(attached);
        assert_eq!(settings(&net, "gro", "merged4"), AS_FOUND);
        assert!(threads("merged4").is_empty());
        shared.reclaim(port.close());
    });
}
