//! Requests and reloads: what they change, what they refuse, what they leave alone.

use super::*;
use crate::limits::PORTS_MAX;
use ctl::protocol::{AddFdb, AddPort, DelFdb, ErrorCode, FdbFilter, FdbFlush, FdbKind, PortSettings, PortState};

/// A trunk beside two access ports.
const TRUNK: &str = r#"
[[bridge]]
name = "blue"
[[bridge]]
name = "green"
[[port]]
interface = "a"
bridge = "blue"
[[port]]
interface = "b"
bridge = "green"
[[port]]
interface = "t"
trunk = { 10 = "blue", 20 = "green" }
"#;

fn trunk() -> Bench {
    let mut bench = Bench::new(TRUNK, 1);
    for (ifindex, name) in [(1, "a"), (2, "b"), (3, "t")] {
        bench.up(ifindex, name);
    }
    bench
}

fn ctl_mac(number: u64) -> ctl::mac::Mac {
    ctl::mac::Mac(mac(number).octets())
}

fn add_fdb(number: u64, port: &str, bridge: Option<&str>, vlan: Option<u16>) -> Request {
    let bridge = bridge.map(str::to_string);
    Request::AddFdb(AddFdb { mac: ctl_mac(number), port: port.to_string(), bridge, vlan, sticky: true })
}

fn del_fdb(number: u64, bridge: Option<&str>, port: Option<&str>) -> Request {
    let (bridge, port) = (bridge.map(str::to_string), port.map(str::to_string));
    Request::DelFdb(DelFdb { mac: ctl_mac(number), bridge, port, vlan: None })
}

fn add_port(interface: &str, bridge: &str) -> Request {
    let (interface, bridge) = (interface.to_string(), Some(bridge.to_string()));
    Request::AddPort(AddPort { interface, bridge, ..AddPort::default() })
}

#[test]
fn ports_are_added_changed_and_removed() {
    let mut bench = three(1);
    let (_, done) = bench.ask(add_port("d", "pods")).unwrap();
    assert!(done.notes[0].contains("does not exist yet"), "{done:?}");
    bench.up(4, "d");
    assert_eq!(bench.send("a", Mac::BROADCAST, mac(1)), ["b", "c", "d"]);
    let set = |port: &str, isolated| Request::SetPort {
        port: port.to_string(),
        settings: PortSettings { isolated: Some(isolated), ..PortSettings::default() },
    };
    bench.ask(set("a", true)).unwrap();
    bench.ask(set("d", true)).unwrap();
    assert_eq!(bench.send("a", Mac::BROADCAST, mac(1)), ["b", "c"], "isolated ports do not meet");
    let (_, done) = bench.ask(set("d", true)).unwrap();
    assert_eq!(done.affected, Some(0));
    bench.ask(Request::DelPort { port: "d".to_string() }).unwrap();
    assert_eq!((bench.ports().len(), bench.lab().attached), (3, 3));
    assert_eq!(bench.attempts("a"), 1, "the others were not touched");
    bench.end();
}

#[test]
fn a_port_removed_and_added_at_once_attaches_when_the_old_one_is_closed() {
    let mut bench = three(1);
    bench.send("a", Mac::BROADCAST, mac(1));
    // Both requests before the worker gave anything back.
    assert!(matches!(bench.control.handle(Request::DelPort { port: "a".to_string() }), Reply::Done(..)));
    assert!(matches!(bench.control.handle(add_port("a", "pods")), Reply::Done(..)));
    bench.control.turn(bench.now);
    assert_eq!(bench.attempts("a"), 1);
    bench.settle();
    let port = bench.port("a");
    assert_eq!((bench.attempts("a"), port.state, port.rx_packets, port.learned), (2, PortState::Up, 0, 0));
    assert_eq!(bench.send("b", mac(1), mac(2)), ["a", "c"], "what the old port had learned is forgotten");
    bench.end();
}

#[test]
fn numbers_of_removed_ports_are_used_again() {
    let mut bench = three(1);
    for _ in 0..PORTS_MAX + 100 {
        bench.ask(Request::DelPort { port: "a".to_string() }).unwrap();
        bench.ask(add_port("a", "pods")).unwrap();
    }
    assert_eq!(bench.port("a").state, PortState::Up);
    assert_eq!(bench.send("a", Mac::BROADCAST, mac(1)), ["b", "c"]);
    bench.end();
}

#[test]
fn every_refusal_is_one_line_and_changes_nothing() {
    let mut bench = trunk();
    let before = bench.control.config.clone();
    let set = Request::SetPort {
        port: "nope".to_string(),
        settings: PortSettings { isolated: Some(true), ..PortSettings::default() },
    };
    let flush = |bridge: Option<&str>| FdbFlush { bridge: bridge.map(str::to_string), ..FdbFlush::default() };
    for (request, expected) in [
        (add_port("a", "blue"), "is a port already"),
        (add_port("z", "red"), "which does not exist"),
        (Request::DelPort { port: "nope".to_string() }, "no port of this switch"),
        (set, "no port of this switch"),
        (add_fdb(1, "nope", None, None), "no port on interface nope"),
        (add_fdb(1, "t", None, None), "in several bridges"),
        (add_fdb(1, "t", None, Some(30)), "does not carry VLAN 30"),
        (add_fdb(1, "t", None, Some(0)), "takes no untagged frames"),
        (add_fdb(1, "t", Some("green"), Some(10)), "is in bridge blue, not green"),
        (add_fdb(1, "a", Some("green"), None), "is not in bridge"),
        (del_fdb(1, None, None), "has no such entry"),
        (del_fdb(1, Some("red"), None), "no bridge called red"),
        (Request::ShowPorts { port: Some("nope".to_string()) }, "no port on interface nope"),
        (
            Request::ShowFdb(FdbFilter { bridge: Some("red".to_string()), ..FdbFilter::default() }),
            "no bridge called red",
        ),
        (Request::FlushFdb(flush(Some("red"))), "no bridge called red"),
    ] {
        let text = bench.refusal(request);
        assert!(text.contains(expected), "{text}");
    }
    assert_eq!(bench.control.config, before);
    bench.end();
}

#[test]
fn static_entries_are_added_shown_filtered_and_removed() {
    let mut bench = trunk();
    bench.ask(add_fdb(1, "t", None, Some(10))).unwrap();
    bench.ask(add_fdb(1, "t", Some("green"), None)).unwrap();
    bench.ask(add_fdb(2, "a", None, None)).unwrap();
    let entries: Vec<_> =
        bench.fdb().into_iter().map(|entry| (entry.bridge, entry.vlan, entry.port, entry.sticky)).collect();
    let expected = [("blue", 10, "t"), ("green", 20, "t"), ("blue", 0, "a")];
    assert_eq!(entries, expected.map(|(bridge, vlan, port)| (bridge.to_string(), vlan, port.to_string(), true)));
    let (items, done) = bench.ask(Request::ShowFdb(FdbFilter { vlan: Some(20), ..FdbFilter::default() })).unwrap();
    assert_eq!((items.len(), done.limit), (1, Some(65_536)));
    let dynamic = FdbFilter { dynamic: true, ..FdbFilter::default() };
    assert!(bench.ask(Request::ShowFdb(dynamic)).unwrap().0.is_empty());
    assert!(bench.refusal(add_fdb(2, "t", None, Some(10))).contains("already"));
    assert!(bench.refusal(del_fdb(1, None, None)).contains("in 2 bridges"));
    bench.ask(del_fdb(1, Some("green"), None)).unwrap();
    bench.ask(del_fdb(1, None, Some("t"))).unwrap();
    assert_eq!((bench.fdb().len(), bench.control.config.fdb.len()), (1, 1));
    bench.end();
}

#[test]
fn a_waiting_entry_and_the_same_address_learned_elsewhere_are_told_apart() {
    let mut bench = three(1);
    bench.event(LinkEvent::Gone { ifindex: 1 });
    bench.settle();
    bench.ask(add_fdb(1, "a", None, None)).unwrap();
    bench.send("b", Mac::BROADCAST, mac(1));
    let listed = |bench: &mut Bench| -> Vec<(String, FdbKind)> {
        let mut listed: Vec<_> = bench.fdb().into_iter().map(|entry| (entry.port, entry.kind)).collect();
        listed.sort_unstable_by_key(|(port, _)| port.clone());
        listed
    };
    let (fixed, learned) = (("a".to_string(), FdbKind::Static), ("b".to_string(), FdbKind::Dynamic));
    assert_eq!(listed(&mut bench), [fixed.clone(), learned.clone()]);
    // By the port each can be named; without one the configured entry is meant.
    bench.ask(del_fdb(1, None, Some("b"))).unwrap();
    assert_eq!(listed(&mut bench), [fixed]);
    bench.send("b", Mac::BROADCAST, mac(1));
    bench.ask(del_fdb(1, None, None)).unwrap();
    assert_eq!((listed(&mut bench), bench.control.config.fdb.len()), (vec![learned], 0));
    // A flush counts those that wait, too.
    bench.ask(add_fdb(2, "a", None, None)).unwrap();
    let flush = FdbFlush { include_static: true, port: Some("a".to_string()), ..FdbFlush::default() };
    let (_, done) = bench.ask(Request::FlushFdb(flush)).unwrap();
    assert_eq!((done.affected, bench.control.config.fdb.len()), (Some(1), 0));
    bench.end();
}

#[test]
fn what_a_port_did_is_counted_and_shown() {
    let mut bench = Bench::new(&THREE.replace("name = \"pods\"", "name = \"pods\"\nageing_seconds = 10"), 1);
    for (ifindex, name) in [(1, "a"), (2, "b"), (3, "c")] {
        bench.up(ifindex, name);
    }
    let settings = PortSettings { mac_limit: Some(1), ..PortSettings::default() };
    bench.ask(Request::SetPort { port: "b".to_string(), settings }).unwrap();
    bench.send("a", Mac::BROADCAST, mac(1));
    bench.send("b", Mac::BROADCAST, mac(1));
    bench.send("b", Mac::BROADCAST, mac(2));
    let (a, b) = (bench.port("a"), bench.port("b"));
    assert_eq!((a.learned_total, a.moved, a.learn_refused, a.flooded), (1, 0, 0, 1));
    assert_eq!((b.moved, b.learn_refused, b.flooded), (1, 1, 2));
    assert_eq!((a.mode.as_deref(), a.checksums_finished), (Some("native"), 0));
    bench.wait(Duration::from_secs(14));
    let (items, _) = bench.ask(Request::ShowBridges {}).unwrap();
    let Item::Bridge(pods) = &items[0] else { panic!("{items:?}") };
    assert_eq!((pods.aged, pods.fdb_learned), (1, 0));
    bench.end();
}

#[test]
fn a_reload_names_what_it_removes() {
    let mut bench = three(1);
    bench.ask(add_port("d", "pods")).unwrap();
    bench.ask(add_fdb(1, "d", None, None)).unwrap();
    let done = bench.reload(THREE).unwrap();
    let gone = "removed: the file does not name it";
    let entry = format!("static entry 02:00:00:00:00:01 (bridge pods, port d) {gone}");
    assert_eq!((done.affected, done.notes), (Some(2), vec![format!("port d {gone}"), entry]));
    assert_eq!(bench.ports().len(), 3);
    assert!(bench.reload(THREE).unwrap().notes.is_empty());
    bench.end();
}

#[test]
fn flushes_take_what_they_name() {
    let mut bench = trunk();
    bench.send("a", Mac::BROADCAST, mac(1));
    bench.send("b", Mac::BROADCAST, mac(2));
    bench.ask(add_fdb(3, "a", None, None)).unwrap();
    let flush = |bridge: Option<&str>, include_static| {
        Request::FlushFdb(FdbFlush { bridge: bridge.map(str::to_string), include_static, ..FdbFlush::default() })
    };
    let (_, done) = bench.ask(flush(Some("blue"), false)).unwrap();
    assert_eq!((done.affected, bench.fdb().len()), (Some(1), 2));
    let (_, done) = bench.ask(flush(None, true)).unwrap();
    assert_eq!((done.affected, bench.fdb().len(), bench.control.config.fdb.len()), (Some(2), 0, 0));
    bench.end();
}

#[test]
fn bridges_workers_drops_and_version_are_shown() {
    let mut bench = trunk();
    bench.send("a", Mac::BROADCAST, mac(1));
    let (items, _) = bench.ask(Request::ShowBridges {}).unwrap();
    let Item::Bridge(blue) = &items[0] else { panic!("{items:?}") };
    assert_eq!((blue.name.as_str(), &blue.ports[..]), ("blue", &["a".to_string(), "t.10".to_string()][..]));
    assert_eq!((blue.fdb_learned, blue.flooded_broadcast, blue.flooded_unicast), (1, 1, 0));
    // An untagged frame on a trunk without an untagged bridge.
    bench.send("t", Mac::BROADCAST, mac(9));
    let (items, _) = bench.ask(Request::ShowDrops { port: Some("t".to_string()) }).unwrap();
    let Item::Drop(drop) = &items[0] else { panic!("{items:?}") };
    assert_eq!((drop.reason.as_str(), drop.count, drop.port.as_deref()), ("vlan_untagged", 1, Some("t")));
    assert!(!drop.help.is_empty());
    let (items, _) = bench.ask(Request::ShowWorkers {}).unwrap();
    let Item::Worker(worker) = &items[0] else { panic!("{items:?}") };
    assert_eq!((worker.ports.len(), worker.rx_packets), (3, 2));
    let (items, _) = bench.ask(Request::Version {}).unwrap();
    let Item::Version(version) = &items[0] else { panic!("{items:?}") };
    assert_eq!(version.notes, ["kernel without teleport: frames take the wire"]);
    let (items, _) = bench.ask(Request::ShowConfig {}).unwrap();
    assert_eq!(items.len(), 1 + 2 + 3);
    bench.end();
}

impl Bench {
    /// Replaces the configuration file, keeping its first lines, and reloads it.
    fn reload(&mut self, text: &str) -> Result<Done, ErrorBody> {
        let workers = self.workers.len();
        let cores: Vec<usize> = (0..workers).collect();
        let text = format!("[switch]\nworkers = {cores:?}\nframes = {FRAMES_DEFAULT}\n{text}");
        std::fs::write(self.file.path(), text).unwrap();
        self.ask(Request::Reload {}).map(|(_, done)| done)
    }
}

#[test]
fn a_reload_changes_what_differs_and_nothing_else() {
    let mut bench = trunk();
    bench.send("a", Mac::BROADCAST, mac(1));
    bench.send("b", Mac::BROADCAST, mac(2));
    // b moves to blue, the trunk loses green, green goes, d and red come.
    let text = TRUNK
        .replace("[[bridge]]\nname = \"green\"", "[[bridge]]\nname = \"red\"")
        .replace("bridge = \"green\"", "bridge = \"blue\"")
        .replace(", 20 = \"green\"", "")
        + "[[port]]\ninterface = \"d\"\nbridge = \"red\"\n[[fdb]]\nmac = \"02:00:00:00:00:07\"\nbridge = \"blue\"\nport = \"a\"\n";
    let done = bench.reload(&text).unwrap();
    assert_eq!(done.affected, Some(6));
    bench.settle();
    bench.up(4, "d");
    for port in ["a", "b", "t"] {
        assert_eq!(bench.attempts(port), 1, "{port} stays attached");
    }
    let entries: Vec<_> = bench.fdb().into_iter().map(|entry| (entry.port, entry.kind)).collect();
    assert_eq!(
        entries,
        [("a".to_string(), FdbKind::Dynamic), ("a".to_string(), FdbKind::Static)],
        "b's went with its bridge"
    );
    assert_eq!(bench.send("b", mac(1), mac(2)), ["a"]);
    assert!(bench.send("d", Mac::BROADCAST, mac(4)).is_empty());
    assert_eq!(bench.reload(&text).unwrap().affected, Some(0));
    // Back again: the bridge and its number return.
    bench.reload(TRUNK).unwrap();
    assert_eq!((bench.ports().len(), bench.lab().attached), (3, 3));
    assert_eq!(bench.send("a", mac(2), mac(1)), ["t"]);
    assert_eq!(bench.send("b", Mac::BROADCAST, mac(2)), ["t"]);
    bench.end();
}

#[test]
fn a_bad_file_is_rejected_whole() {
    let mut bench = trunk();
    let before = bench.control.config.clone();
    let added = "[[port]]\ninterface = \"d\"\nbridge = \"blue\"\n";
    for (text, expected) in [
        (format!("{TRUNK}{added}[[port]]\ninterface = \"e\"\nbridge = \"red\"\n"), "red"),
        (format!("{TRUNK}{added}nonsense = 1\n"), "nonsense"),
        (format!("poll = \"spin\"\n{TRUNK}{added}"), "restart switchd"),
        (format!("{TRUNK}{added}[["), "TOML"),
    ] {
        let error = bench.reload(&text).unwrap_err();
        assert_eq!(error.code, ErrorCode::Refused);
        assert!(error.message.contains(expected) && !error.message.contains('\n'), "{error}");
    }
    std::fs::remove_file(bench.file.path()).unwrap();
    assert!(bench.ask(Request::Reload {}).unwrap_err().message.contains("cannot read"));
    assert_eq!(bench.control.config, before);
    assert_eq!((bench.ports().len(), bench.attempts("a"), bench.attempts("d")), (3, 1, 0));
    std::fs::write(bench.file.path(), "").unwrap();
    bench.end();
}

#[test]
fn an_ending_switch_takes_no_changes() {
    let mut bench = three(1);
    let Reply::Done(_, done) = bench.control.handle(Request::Shutdown {}) else { panic!("refused") };
    assert!(done.message.is_some());
    assert!(bench.refusal(add_port("d", "pods")).contains("is ending"));
    bench.settle();
    assert!(bench.control.is_over());
    assert_eq!(bench.attempts("a"), 1, "nothing is attached again");
    bench.end();
}

#[test]
fn every_static_entry_that_is_accepted_comes_into_force_with_its_port() {
    let room = crate::limits::fixed_entries_max(16);
    // All on one port whose interface does not exist yet: the table itself is empty meanwhile.
    let entry =
        |number: u32| format!("[[fdb]]\nmac = \"{}\"\nbridge = \"pods\"\nport = \"a\"\n", mac(u64::from(number)));
    let entries: String = (1..room).map(entry).collect();
    let mut bench = Bench::new(&format!("fdb_entries = 16\n{THREE}{entries}"), 1);
    bench.settle();
    bench.ask(add_fdb(u64::from(room), "a", None, None)).unwrap();
    let text = bench.refusal(add_fdb(u64::from(room) + 1, "a", None, None));
    assert!(text.contains("8193 static entries are more than the 8192"), "{text}");
    assert!(bench.control.shared.fdb().is_empty());
    bench.up(1, "a");
    assert_eq!((bench.port("a").state, bench.control.shared.fdb().len()), (PortState::Up, room));
    bench.end();
}
