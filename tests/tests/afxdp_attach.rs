//! Attaching interfaces to AF_XDP and letting go of them, on real veths.
//!
//! Every test makes network namespaces of its own (`swt-<pid>-<number>-<name>`), removes them at the end, also when it
//! fails, and runs on a thread that moved into the one that stands for the host. They need root; without it each
//! says SKIPPED and passes.

mod veth;

use std::fs;
use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use switch::port::afxdp::AfxdpFactory;
use switch::port::{FramePool, Frames, OpenError, PortError, PortFactory, SharedPool};
use veth::*;

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
        assert_eq!(free_frames(&shared), FRAMES as usize);
    });
}

/// Attaches `a0` and says what came of it, leaving it detached.
fn attach_once(factory: &mut AfxdpFactory, shared: &Arc<SharedPool>) -> Result<usize, String> {
    let opened = factory.open(&spec("a0")).map_err(|error| error.to_string())?;
    let queues = opened.queues.len();
    drop(opened.attachment);
    opened.queues.into_iter().for_each(|port| shared.reclaim(port.close()));
    assert_eq!(free_frames(shared), FRAMES as usize);
    Ok(queues)
}

#[test]
fn the_largest_mtu_needs_multi_buffer() {
    let Some(net) = Net::new(&["a"], 65535) else { return };
    net.inside("sw", || {
        let (mut factory, shared) = factory();
        let multi_buffer = factory.features().iter().any(|feature| feature.name == "multi-buffer" && feature.present);
        match attach_once(&mut factory, &shared) {
            Ok(queues) => assert!(multi_buffer && queues == 1),
            Err(line) => assert!(!multi_buffer && line.contains("mtu 3506"), "{line}"),
        }
        assert_eq!(free_frames(&shared), FRAMES as usize);
    });
}

#[test]
fn features_are_found_where_the_kernel_has_them() {
    let Some(net) = Net::new(&[], 1500) else { return };
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let kernel = (numbers.next().unwrap(), numbers.next().unwrap());
    let features = net.inside("sw", || factory().0.features());
    for (name, since) in [("multi-buffer", (6, 6)), ("tx-budget", (6, 17)), ("send-buffer-force", (5, 15))] {
        let found = features.iter().find(|feature| feature.name == name).unwrap();
        tests::net::report(&format!("kernel {release}: {name}: {}", if found.present { "yes" } else { "no" }));
        // A distribution may have brought one to an older kernel.
        assert!(found.present || kernel < since, "kernel {release} has {name}");
    }
}

#[test]
fn every_receive_queue_becomes_a_port() {
    let Some(net) = Net::new(&["a"], 1500) else { return };
    let (sw, inner) = (net.name("sw"), net.name("a"));
    let replace = |host_queues: &str, peer_queues: &str| {
        ip(&["-n", &sw, "link", "del", "a0"]);
        let host = ["link", "add", "a0", "numrxqueues", host_queues, "numtxqueues", host_queues, "type", "veth"];
        let peer = ["peer", "name", "eth0", "numrxqueues", peer_queues, "numtxqueues", peer_queues, "netns", &inner];
        ip(&[&["-n", &sw], &host[..], &peer[..]].concat());
        ip(&["-n", &sw, "link", "set", "a0", "up"]);
        ip(&["-n", &inner, "link", "set", "eth0", "up"]);
        ip(&["-n", &inner, "addr", "add", "10.9.0.1/24", "dev", "eth0"]);
    };
    net.inside("sw", || {
        let (mut factory, shared) = factory();
        replace("2", "2");
        let opened = open(&mut factory, "a0");
        assert_eq!((opened.queues.len(), opened.report.queues), (2, 2));
        // Frames that the container sends by either of its queues are received.
        let mut ports = opened.queues;
        let mut pool = FramePool::new(Arc::clone(&shared));
        send_numbered(&net, "a", 500);
        let mut seen = vec![false; 500];
        wait_for("500 frames", || {
            for port in &mut ports {
                let mut frames = Frames::new();
                port.rx(&mut pool, &mut frames);
                for frame in frames.drain(..) {
                    let bytes = pool.region().head(&frame);
                    if bytes.len() == 46 && bytes[12..14] == [8, 0] {
                        seen[u32::from_be_bytes(bytes[42..46].try_into().unwrap()) as usize] = true;
                    }
                    pool.free(frame);
                }
                port.service(&mut pool).unwrap();
            }
            seen.iter().all(|&seen| seen)
        });
        drop(opened.attachment);
        drop(pool);
        ports.into_iter().for_each(|port| shared.reclaim(port.close()));
        assert_eq!(free_frames(&shared), FRAMES as usize);
        replace("1", "2");
        let line = refusal(&mut factory, "a0");
        assert!(line.contains("1 receive queues are fewer") && line.contains("ethtool -L a0 rx"), "{line}");
        assert_eq!(free_frames(&shared), FRAMES as usize);
    });
}

#[test]
fn interfaces_are_served_whatever_their_index() {
    let Some(net) = Net::new(&["a"], 1500) else { return };
    let (sw, inner) = (net.name("sw"), net.name("a"));
    net.inside("sw", || {
        let (mut factory, shared) = factory();
        // The last one of the direct map, the first one of the hashed map, and one of a host that made many.
        for index in ["65535", "65536", "3000000"] {
            ip(&["-n", &sw, "link", "del", "a0"]);
            let pair = ["link", "add", "a0", "index", index, "type", "veth", "peer", "name", "eth0", "netns", &inner];
            ip(&[&["-n", &sw], &pair[..]].concat());
            ip(&["-n", &sw, "link", "set", "a0", "up"]);
            ip(&["-n", &inner, "link", "set", "eth0", "up"]);
            ip(&["-n", &inner, "addr", "add", "10.9.0.1/24", "dev", "eth0"]);
            let (mut port, attachment) = one(open(&mut factory, "a0"));
            let mut pool = FramePool::new(Arc::clone(&shared));
            send_numbered(&net, "a", 50);
            let mut received = 0;
            wait_for(&format!("50 frames of interface {index}"), || {
                let mut frames = Frames::new();
                port.rx(&mut pool, &mut frames);
                received += frames.len();
                frames.drain(..).for_each(|frame| pool.free(frame));
                port.service(&mut pool).unwrap();
                received >= 50
            });
            drop(attachment);
            drop(pool);
            shared.reclaim(port.close());
        }
        assert_eq!(free_frames(&shared), FRAMES as usize);
    });
}

#[test]
fn an_interface_that_is_down_can_be_attached() {
    let Some(net) = Net::new(&["dn"], 1500) else { return };
    net.inside("sw", || {
        ip(&["-n", &net.name("sw"), "link", "set", "dn0", "down"]);
        let (mut factory, shared) = factory();
        let opened = open(&mut factory, "dn0");
        assert!(opened.report.notes.is_empty(), "{:?}", opened.report.notes);
        let (mut port, mut attached) = one(opened);
        assert!(attached.set_threaded(true).is_err(), "there is no receive queue yet");
        ip(&["-n", &net.name("sw"), "link", "set", "dn0", "up"]);
        attached.set_threaded(true).unwrap();
        let mut pool = FramePool::new(Arc::clone(&shared));
        net.inside("dn", || UdpSocket::bind("10.9.0.1:0").unwrap().send_to(b"x", "10.9.0.77:1").unwrap());
        wait_for("an ARP request", || {
            let mut frames = Frames::new();
            port.rx(&mut pool, &mut frames);
            let found = frames.iter().any(|frame| pool.region().head(frame)[12..14] == [8, 6]);
            frames.drain(..).for_each(|frame| pool.free(frame));
            found
        });
        drop(attached);
        drop(pool);
        shared.reclaim(port.close());
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
        // A link that comes up has new threads; setting it again pins them.
        ip(&["-n", &net.name("sw"), "link", "set", "thr0", "down"]);
        ip(&["-n", &net.name("sw"), "link", "set", "thr0", "up"]);
        attached.set_threaded(true).unwrap();
        assert_eq!(receive_threads("thr0"), ["1"]);
        drop(attached);
        shared.reclaim(port.close());
        let (_, text) = net.run("sw", &["cat", "/sys/class/net/thr0/threaded"]);
        assert_eq!(text.trim(), "0");
        let (mut none_free, second) = AfxdpFactory::new(1024, &[0, 1]).unwrap();
        let (port, mut attached) = one(open(&mut none_free, "thr0"));
        attached.set_threaded(true).unwrap_err();
        let (_, text) = net.run("sw", &["cat", "/sys/class/net/thr0/threaded"]);
        assert_eq!(text.trim(), "0", "no core is free for the thread");
        drop(attached);
        second.reclaim(port.close());
    });
}

#[test]
fn receive_threads_set_by_the_operator_stay() {
    let Some(net) = Net::new(&["op"], 1500) else { return };
    let threaded = || net.run("sw", &["cat", "/sys/class/net/op0/threaded"]).1.trim().to_string();
    net.inside("sw", || {
        // A veth has receive queues of its own only with GRO (or an XDP program).
        net.run("sw", &["ethtool", "-K", "op0", "gro", "on"]);
        net.run("sw", &["sh", "-c", "echo 1 > /sys/class/net/op0/threaded"]);
        assert_eq!(threaded(), "1");
        let (mut factory, shared) = factory();
        let (port, attached) = one(open(&mut factory, "op0"));
        assert_eq!(threaded(), "1", "nobody asked to move it");
        drop(attached);
        shared.reclaim(port.close());
        assert_eq!(threaded(), "1");
        let (port, mut attached) = one(open(&mut factory, "op0"));
        attached.set_threaded(false).unwrap();
        assert_eq!(threaded(), "0");
        drop(attached);
        shared.reclaim(port.close());
        assert_eq!(threaded(), "1", "as it was found");
    });
}

/// Not a test of its own: the process that the next test kills.
#[test]
#[ignore = "run by after_a_kill_the_interface_is_usable_at_once"]
fn holds_a_port_until_killed() {
    if std::env::var_os("SWT_HOLD").is_none() {
        return;
    }
    let (mut factory, _shared) = match AfxdpFactory::new(FRAMES, &[0]) {
        Ok(made) => made,
        Err(error) => return println!("START {error}"),
    };
    let mut opened = open(&mut factory, "k0");
    opened.report.notes.iter().for_each(|note| println!("NOTE {note}"));
    let threaded = opened.attachment.set_threaded(true);
    println!("HOLDING {threaded:?}");
    std::thread::sleep(Duration::from_secs(30));
}

/// Starts the process above in namespace `sw`, through `wrapper`; returns it and what it says before it sleeps or ends.
fn holder(net: &Net, wrapper: &[&str]) -> (Child, Vec<String>) {
    let name = net.name("sw");
    let program = std::env::current_exe().unwrap();
    let mut child = Command::new("ip")
        .args(["netns", "exec", &name])
        .args(wrapper)
        .arg(program)
        .args(["--exact", "holds_a_port_until_killed", "--ignored", "--nocapture"])
        .env("SWT_HOLD", "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = Vec::new();
    for line in std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap())) {
        said.push(line.unwrap());
        if said.last().is_some_and(|line| line.contains("HOLDING")) {
            break;
        }
    }
    (child, said)
}

#[test]
fn three_capabilities_are_enough_and_fewer_are_named() {
    let Some(net) = Net::new(&["k"], 1500) else { return };
    if Command::new("setpriv").arg("--version").output().is_err() {
        eprintln!("SKIPPED: setpriv is not installed");
        return;
    }
    let with = |capabilities: &str| {
        let bounding = format!("--bounding-set=-all{capabilities}");
        let (mut child, said) = holder(&net, &["setpriv", &bounding]);
        let _ = child.kill();
        child.wait().unwrap();
        said.join("\n")
    };
    let said = with(",+net_admin,+bpf");
    assert!(said.contains("missing: CAP_NET_RAW") && said.contains("run it as root"), "{said}");
    // CAP_IPC_LOCK stands in for a raised limit of locked memory.
    let said = with(",+net_admin,+bpf,+net_raw,+ipc_lock");
    assert!(said.contains("HOLDING"), "{said}");
    // What those do not allow is said, with the command that would.
    assert!(said.contains("ethtool -K") && said.contains("txvlan off"), "{said}");
}

#[test]
fn after_a_kill_the_interface_is_usable_at_once() {
    let Some(net) = Net::new(&["k"], 1500) else { return };
    net.inside("sw", || {
        for _ in 0..3 {
            let (mut child, said) = holder(&net, &[]);
            assert!(said.iter().any(|line| line.contains("HOLDING Ok")), "{said:?}");
            child.kill().unwrap();
            child.wait().unwrap();
            let start = Instant::now();
            let (mut factory, shared) = factory();
            let mut opened = open(&mut factory, "k0");
            let took = start.elapsed();
            opened.attachment.set_threaded(false).unwrap();
            assert!(took < tests::net::stretched(Duration::from_secs(1)), "re-attached after {took:?}");
            let (_, text) = net.run("sw", &["cat", "/sys/class/net/k0/threaded"]);
            assert_eq!(text.trim(), "0", "the killed process left it on");
            let (port, attached) = one(opened);
            drop(attached);
            shared.reclaim(port.close());
            assert_eq!(free_frames(&shared), FRAMES as usize);
        }
    });
}
