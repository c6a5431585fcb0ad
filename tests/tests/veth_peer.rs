//! Containers that the switch cannot reach into: their ports work, and their notes tell what it could not do there.

use ctl::protocol::PortState;
use tests::net::tagging::{can_tag, tag_all};
use tests::net::traffic::{UdpEcho, ping, tcp_transfer, udp_round_trip, udp_to, wait_reachable};
use tests::net::{Container, Lab, Link, Switchd};

/// Host ends of every test here.
const ENDS: [&str; 3] = ["a0", "b0", "trunk0"];

/// Two access ports and a trunk that carries tagged frames only.
const BODY: &str = r#"
[[bridge]]
name = "pods"
[[port]]
interface = "a0"
bridge = "pods"
[[port]]
interface = "b0"
bridge = "pods"
[[port]]
interface = "trunk0"
trunk = { 10 = "pods" }
"#;

/// Offloads that attaching turns off where it can.
const OFFLOADS: [&str; 3] = ["tx-vlan-offload", "tx-vlan-stag-hw-insert", "tx-checksum-sctp"];

/// The command in a port's only note, which must give `reason` too.
fn advice(switch: &Switchd, end: &str, reason: &str) -> String {
    let port = switch.port(end);
    let [note] = port.notes.as_slice() else { panic!("{end}: not one note but {:?}", port.notes) };
    assert!(note.starts_with("far end: ") && note.contains(reason), "{end}: no {reason:?} in {note:?}");
    assert_eq!(port.peer, None, "it cannot be known");
    // The operator sees it in the table and in the log.
    let shown = switch.switchctl(&["show-ports"]).stdout;
    assert!(shown.lines().any(|line| line == format!("{end}: {note}")), "{shown}");
    assert!(switch.log().lines().any(|line| line.contains(end) && line.contains(note)), "{}", switch.log());
    let command = note.split('`').nth(1);
    command.unwrap_or_else(|| panic!("{end}: no command in {note:?}")).to_owned()
}

/// Does in the container what the note says. It tells the interface by number only: nobody could look up its name.
fn follow(advice: &str, container: &Container) {
    let shown = container.space().ip("-o link show eth0");
    let number = shown.split(':').next().unwrap_or_default();
    let arguments = advice.strip_prefix("ethtool ").map(|rest| rest.replace(&format!("<interface {number}>"), "eth0"));
    container.ethtool(&arguments.unwrap_or_else(|| panic!("no command of ethtool: {advice}")));
}

fn offloads(container: &Container) -> [bool; 3] {
    OFFLOADS.map(|name| container.offload(name))
}

/// Patiently: workers without CAP_SYS_NICE have to wait for their core like everybody else.
fn traffic_passes(a: &Container, b: &Container) {
    wait_reachable(a, b.v4());
    wait_reachable(b, a.v6());
    let echo = UdpEcho::start(b, b.v6());
    let socket = udp_to(a, a.v6(), echo.address());
    assert!((0..20).all(|seed| udp_round_trip(&socket, 1400, seed).is_some()));
    let (sent, received) = tcp_transfer(a, b, b.v4(), 4 << 20, 1).expect("TCP gets through");
    assert_eq!(sent, received);
}

/// A switch started through `wrapper`, which cannot reach any container for `reason`.
fn ports_work_and_tell_what_to_do(test: &str, wrapper: &[&str], reason: &str) {
    let Some(mut lab) = Lab::new(test) else { return };
    let containers = ENDS.map(|end| lab.container(end, &Link::default()));
    let [a, b, router] = &containers;
    let switch = Switchd::start_through(&lab, wrapper, "", BODY);
    for container in &containers {
        switch.wait_state(container.host_end(), PortState::Up);
        assert_eq!(offloads(container), [true; 3], "nobody could change them");
    }
    traffic_passes(a, b);
    let advice = ENDS.map(|end| advice(&switch, end, reason));
    // What the note says of tagged frames: they lose the tag, until its command is run.
    let tagging = can_tag(test, "the part with tagged frames", &lab);
    if tagging {
        tag_all(router, 10, &lab);
        assert_eq!(ping(router, a.v4(), 56, 2), 0);
        assert!(switch.dropped("vlan_untagged") > 0);
    }
    for (container, advice) in containers.iter().zip(&advice) {
        follow(advice, container);
        assert_eq!(offloads(container), [false; 3], "{advice}");
    }
    if tagging {
        wait_reachable(router, a.v4());
        traffic_passes(router, b);
    }
    traffic_passes(a, b);
    assert!(containers.iter().all(|container| container.space().checksum_errors() == 0));
    assert!(switch.stop().success());
}

#[test]
fn ports_of_a_switch_that_may_not_enter_namespaces_work() {
    // What the README says that it needs; the last one stands in for a raised limit of locked memory.
    let needed = "--bounding-set=-all,+net_admin,+bpf,+net_raw,+ipc_lock";
    let wrapper = ["setpriv", needed, "--inh-caps=-all", "--"];
    let test = "ports_of_a_switch_that_may_not_enter_namespaces_work";
    ports_work_and_tell_what_to_do(test, &wrapper, "cannot enter its network namespace");
}

#[test]
fn ports_of_a_switch_that_cannot_find_namespaces_work() {
    // The switch sees another /run/netns, as in a container of its own, and no process stays in these namespaces.
    // What ip-netns(8) starts has its mounts for itself.
    let wrapper = ["sh", "-c", "mount -t tmpfs none /run/netns && exec \"$@\"", "sh"];
    let test = "ports_of_a_switch_that_cannot_find_namespaces_work";
    ports_work_and_tell_what_to_do(test, &wrapper, "its network namespace was not found among /run/netns");
}
