//! Interfaces and switches come and go: nobody else notices, nothing is left behind.

use std::path::Path;
use std::time::{Duration, Instant};

use ctl::protocol::{PortState, Request};
use rustix::process::Signal;
use tests::net::process::{output, wait_for};
use tests::net::stations::Stations;
use tests::net::switchd::{pods, switchd_output};
use tests::net::traffic::{Stream, ping, wait_reachable};
use tests::net::{Container, Lab, Link, Switchd, report, stretched};

/// Datagrams a second of the traffic that must not suffer.
const RATE: u32 = 1000;

/// Two containers that exchange traffic, behind "a0" and "b0", and a third behind "c0".
fn three(lab: &mut Lab) -> [Container; 3] {
    ["a0", "b0", "c0"].map(|end| lab.container(end, &Link::default()))
}

/// Ends a stream that must have lost nothing and kept its order.
fn assert_unharmed(switch: &Switchd, stream: Stream) {
    // Long enough to mean something, however quick the test was.
    std::thread::sleep(stretched(Duration::from_millis(300)));
    let (sent, received) = stream.stop();
    report(&format!("other traffic: {sent} sent, longest gap {:?}", received.longest_gap));
    assert!(sent > 100);
    assert_eq!(
        (received.count, received.misordered),
        (sent, 0),
        "traffic of other ports was harmed; counted:\n{}",
        switch.losses()
    );
}

/// A line of `ip -details link` in the host namespace.
fn link_details(lab: &Lab, interface: &str) -> String {
    lab.host().ip(&format!("-details link show {interface}"))
}

/// Whether the kernel's receive work of an interface runs in a thread of its own (`/sys/class/net/*/threaded`).
fn threaded(lab: &Lab, interface: &str) -> String {
    let path = format!("/sys/class/net/{interface}/threaded");
    output(lab.host().command("cat").arg(path)).stdout.trim().to_owned()
}

#[test]
fn what_the_kernel_lacks_is_told_once_at_start() {
    let Some(mut lab) = Lab::new("what_the_kernel_lacks_is_told_once_at_start") else { return };
    let [a, b, _c] = three(&mut lab);
    let switch = Switchd::start(&lab, "", &pods(&["a0", "b0", "c0"]));
    wait_reachable(&a, b.v4());
    let log = switch.log();
    let lacking: Vec<&str> =
        log.lines().filter_map(|line| line.split_once("kernel without ").map(|(_, what)| what)).collect();
    lacking.iter().for_each(|what| report(&format!("kernel without {what}")));
    let told = lacking.iter().filter(|what| what.starts_with("multi-buffer: ")).count();
    assert_eq!(told, usize::from(!lab.multi_buffer()), "{log}");
    let mut names: Vec<&str> = lacking.iter().filter_map(|what| what.split(':').next()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), lacking.len(), "nothing is told twice: {log}");
}

#[test]
fn a_missing_interface_is_waited_for() {
    let Some(mut lab) = Lab::new("a_missing_interface_is_waited_for") else { return };
    let a = lab.container("a0", &Link::default());
    let mut b = lab.unplugged("b0");
    let switch = Switchd::start(&lab, "", &pods(&["a0", "b0"]));
    assert_eq!(switch.port("a0").state, PortState::Up);
    assert_eq!(switch.port("b0").state, PortState::Waiting);
    b.plug(&lab, &Link::default());
    let start = Instant::now();
    switch.wait_state("b0", PortState::Up);
    report(&format!("an interface that appeared was attached within {:?}", start.elapsed()));
    wait_reachable(&a, b.v4());
}

#[test]
fn a_port_that_dies_and_returns_harms_no_other() {
    let Some(mut lab) = Lab::new("a_port_that_dies_and_returns_harms_no_other") else { return };
    let [a, b, mut c] = three(&mut lab);
    let switch = Switchd::start(&lab, "", &pods(&["a0", "b0", "c0"]));
    wait_reachable(&a, b.v4());
    let stream = Stream::start(&a, &b, RATE);
    for _ in 0..3 {
        wait_reachable(&a, c.v4());
        c.unplug();
        switch.wait_state("c0", PortState::Waiting);
        assert!(switch.fdb_entry(&c.mac_text()).is_none(), "its addresses went with it");
        c.plug(&lab, &Link::default());
        switch.wait_state("c0", PortState::Up);
    }
    wait_reachable(&a, c.v6());
    // The same with the name alone: renamed away is gone, renamed back is there again.
    lab.host().ip_batch("link set c0 down\nlink set c0 name elsewhere\n");
    switch.wait_state("c0", PortState::Waiting);
    lab.host().ip_batch("link set elsewhere name c0\nlink set c0 up\n");
    switch.wait_state("c0", PortState::Up);
    wait_reachable(&a, c.v4());
    assert_unharmed(&switch, stream);
    assert!(switch.stop().success());
}

#[test]
fn an_end_by_sigterm_leaves_the_interfaces_as_they_were() {
    let Some(mut lab) = Lab::new("an_end_by_sigterm_leaves_the_interfaces_as_they_were") else { return };
    let [a, b, _c] = three(&mut lab);
    let offloads = |container: &Container| {
        let names = ["tcp-segmentation-offload", "tx-vlan-offload", "tx-checksumming", "generic-receive-offload"];
        names.map(|name| container.offload(name))
    };
    let before = (offloads(&a), threaded(&lab, "a0"));
    let switch = Switchd::start(&lab, "", &pods(&["a0", "b0", "c0"]));
    wait_reachable(&a, b.v4());
    assert!(link_details(&lab, "a0").contains("xdp"), "{}", link_details(&lab, "a0"));
    let socket = switch.socket().to_owned();
    let start = Instant::now();
    let mut stopping = switch;
    stopping.signal(Signal::TERM);
    let status = stopping.wait(Duration::from_secs(5));
    assert!(status.success(), "{status}");
    assert!(start.elapsed() < stretched(Duration::from_secs(2)), "it took {:?}", start.elapsed());
    assert!(!stopping.log().contains("missing at the end"), "{}", stopping.log());
    assert!(!socket.exists(), "the socket file is gone");
    assert_eq!((offloads(&a), threaded(&lab, "a0")), before);
    for end in ["a0", "b0", "c0"] {
        assert!(!link_details(&lab, end).contains("xdp"), "{}", link_details(&lab, end));
    }
}

#[test]
fn after_kill_9_a_restart_works_at_once() {
    let Some(mut lab) = Lab::new("after_kill_9_a_restart_works_at_once") else { return };
    let [a, b, _c] = three(&mut lab);
    let body = pods(&["a0", "b0", "c0"]);
    for _ in 0..3 {
        let switch = Switchd::start(&lab, "", &body);
        wait_reachable(&a, b.v4());
        let socket = switch.socket().to_owned();
        switch.kill();
        assert!(socket.exists(), "kill -9 leaves the socket file, which the next start takes over");
        assert!(!link_details(&lab, "a0").contains("xdp"), "the kernel detached the program");
    }
    let start = Instant::now();
    let switch = Switchd::start(&lab, "", &body);
    for end in ["a0", "b0", "c0"] {
        switch.wait_state(end, PortState::Up);
    }
    assert_eq!(ping(&a, b.v4(), 56, 3), 3);
    report(&format!("after kill -9: forwarding again {:?} after the start", start.elapsed()));
}

#[test]
fn a_reload_adds_and_removes_ports_without_touching_others() {
    let Some(mut lab) = Lab::new("a_reload_adds_and_removes_ports_without_touching_others") else { return };
    let [a, b, c] = three(&mut lab);
    let (two, all) = (pods(&["a0", "b0"]), pods(&["a0", "b0", "c0"]));
    let switch = Switchd::start(&lab, "", &two);
    wait_reachable(&a, b.v4());
    let stream = Stream::start(&a, &b, RATE);
    switch.write_config(&all);
    switch.signal(Signal::HUP);
    wait_for("c0 is a port", Duration::from_secs(5), || {
        switch.ports().iter().any(|port| port.interface == "c0" && port.state == PortState::Up).then_some(())
    });
    wait_reachable(&a, c.v4());
    let counted = switch.port("a0").rx_packets;
    switch.write_config(&two);
    assert_eq!(switch.switchctl(&["reload"]).code, 0);
    wait_for("c0 is no port any more", Duration::from_secs(5), || {
        let detached = !link_details(&lab, "c0").contains("xdp");
        (detached && switch.ports().iter().all(|port| port.interface != "c0")).then_some(())
    });
    assert_eq!(ping(&a, c.v4(), 56, 1), 0);
    assert!(switch.port("a0").rx_packets >= counted, "counters of a port that stays go on");
    assert_unharmed(&switch, stream);
}

#[test]
fn a_bad_reload_is_refused_whole() {
    let Some(mut lab) = Lab::new("a_bad_reload_is_refused_whole") else { return };
    let [a, b, c] = three(&mut lab);
    let switch = Switchd::start(&lab, "", &pods(&["a0", "b0"]));
    wait_reachable(&a, b.v4());
    let stream = Stream::start(&a, &b, RATE);
    // A good part (c0) and a bad one.
    let bad = format!("{}colour = \"red\"\n", pods(&["a0", "b0", "c0"]));
    switch.write_config(&bad);
    let refused = switch.switchctl(&["reload"]);
    assert_eq!((refused.code, refused.stderr.lines().count()), (1, 1), "{}", refused.stderr);
    assert!(refused.stderr.contains("colour") && refused.stderr.contains(".toml:"), "{}", refused.stderr);
    let lines_before = switch.log().lines().count();
    switch.signal(Signal::HUP);
    wait_for("the log names the mistake", Duration::from_secs(5), || {
        switch.log().lines().skip(lines_before).any(|line| line.contains("colour")).then_some(())
    });
    // What a running switch cannot change.
    switch.write_config(&format!("{}[[port]]\ninterface = \"c0\"\nbridge = \"nobody\"\n", pods(&["a0", "b0"])));
    assert_eq!(switch.switchctl(&["reload"]).code, 1);
    assert_eq!(switch.ports().len(), 2, "nothing of a bad file is applied");
    assert_eq!(ping(&a, c.v4(), 56, 1), 0);
    assert_unharmed(&switch, stream);
}

#[test]
fn ports_are_added_and_removed_by_request() {
    let Some(mut lab) = Lab::new("ports_are_added_and_removed_by_request") else { return };
    let [a, b, c] = three(&mut lab);
    let switch = Switchd::start(&lab, "", &pods(&["a0", "b0"]));
    wait_reachable(&a, b.v4());
    let stream = Stream::start(&a, &b, RATE);
    for _ in 0..3 {
        let added = switch.switchctl(&["add-port", "c0", "--bridge", "pods"]);
        assert_eq!(added.code, 0, "{}", added.stderr);
        switch.wait_state("c0", PortState::Up);
        wait_reachable(&a, c.v4());
        assert_eq!(switch.switchctl(&["add-port", "c0", "--bridge", "pods"]).code, 1, "it is a port already");
        assert_eq!(switch.switchctl(&["del-port", "c0"]).code, 0);
        assert_eq!(switch.switchctl(&["del-port", "c0"]).code, 1, "it is no port any more");
    }
    assert_unharmed(&switch, stream);
}

#[test]
fn an_mtu_raised_at_run_time_is_followed() {
    let Some(mut lab) = Lab::new("an_mtu_raised_at_run_time_is_followed") else { return };
    let [a, b, _c] = three(&mut lab);
    let switch = Switchd::start(&lab, "", &pods(&["a0", "b0"]));
    wait_reachable(&a, b.v4());
    let mtu = lab.mtu(9000);
    // Internet and ICMP headers.
    let size = mtu as usize - 28;
    assert_eq!(ping(&a, b.v4(), size, 1), 0);
    for end in ["a0", "b0"] {
        lab.host().ip(&format!("link set {end} mtu {mtu}"));
    }
    for container in [&a, &b] {
        container.space().ip(&format!("link set eth0 mtu {mtu}"));
    }
    wait_for("the ports' MTU has changed", Duration::from_secs(5), || {
        (switch.port("b0").mtu == mtu && switch.port("a0").mtu == mtu).then_some(())
    });
    assert_eq!(ping(&a, b.v4(), size, 3), 3);
}

#[test]
fn a_second_switch_on_the_same_socket_is_refused() {
    let Some(mut lab) = Lab::new("a_second_switch_on_the_same_socket_is_refused") else { return };
    let [a, b, _c] = three(&mut lab);
    let switch = Switchd::start(&lab, "", &pods(&["a0", "b0"]));
    wait_reachable(&a, b.v4());
    let stream = Stream::start(&a, &b, RATE);
    let config = lab.files().join("control.toml");
    let arguments = ["--config", config.to_str().expect("a path in ASCII"), "--log", "error"];
    let refused = switchd_output(&lab, &[], &arguments);
    assert_eq!((refused.code, refused.stderr.lines().count()), (1, 1), "{}", refused.stderr);
    let pid = switch.process().pid().to_string();
    for word in ["in use", "control.sock", &pid, "control_socket"] {
        assert!(refused.stderr.contains(word), "no {word:?} in {}", refused.stderr);
    }
    assert_unharmed(&switch, stream);
    let version = switch.json(&["version"]);
    let pid_shown = version.get("pid").or_else(|| version.get(0).and_then(|item| item.get("pid")));
    assert_eq!(pid_shown.and_then(serde_json::Value::as_u64), Some(switch.process().pid().into()), "{version}");
}

#[test]
fn an_interface_with_somebody_elses_xdp_program_waits_and_is_named() {
    let Some(mut lab) = Lab::new("an_interface_with_somebody_elses_xdp_program_waits_and_is_named") else { return };
    let [a, b, c] = three(&mut lab);
    let first = Switchd::start(&lab, "", &pods(&["a0", "b0"]));
    wait_reachable(&a, b.v4());
    let stream = Stream::start(&a, &b, RATE);
    let second = Switchd::start_named(&lab, "second", "", &pods(&["b0", "c0"]));
    second.wait_state("c0", PortState::Up);
    let port = second.port("b0");
    assert_eq!(port.state, PortState::Waiting);
    let note = port.notes.join("; ");
    assert!(note.contains("XDP"), "the note names the reason: {note:?}");
    let said = second.log().lines().filter(|line| line.contains("b0") && line.contains("XDP")).count();
    assert_eq!(said, 1, "one clear line:\n{}", second.log());
    assert_unharmed(&first, stream);
    assert!(first.stop().success());
    // Free now: the second one takes it without being told.
    wait_for("b0 is attached", Duration::from_secs(20), || (second.port("b0").state == PortState::Up).then_some(()));
    wait_reachable(&b, c.v4());
}

#[test]
fn shutdown_by_request_ends_it_and_stations_hear_nothing_more() {
    let Some(mut lab) = Lab::new("shutdown_by_request_ends_it_and_stations_hear_nothing_more") else { return };
    let ends = ["a0", "b0"];
    let mut stations = Stations::new(&mut lab, &ends, &Link::quiet());
    let mut switch = Switchd::start(&lab, "", &pods(&ends));
    stations.wait_forwarding(0, &[1], None);
    switch.tell(Request::Shutdown {});
    assert!(switch.wait(Duration::from_secs(5)).success());
    let sent = [tests::net::stations::frame([0xff; 6], tests::net::stations::station(1), 0x88b5, &[0; 46])];
    assert_eq!(stations.send_among(0, &sent, None, &[]), [Vec::<Vec<u8>>::new(), Vec::new()]);
    assert!(!Path::new(&switch.socket()).exists());
}
