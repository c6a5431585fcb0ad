//! Interfaces come, go, flap and change their names.

use super::*;
use crate::limits::{FILL_MAX, FILL_MIN};
use ctl::protocol::{FdbKind, PortState};

#[test]
fn ports_wait_for_their_interfaces_and_then_forward() {
    let mut bench = Bench::new(THREE, 1);
    bench.settle();
    assert!(
        bench.ports().iter().all(|port| port.state == PortState::Waiting && port.notes[0].contains("does not exist"))
    );
    bench.up(1, "a");
    bench.up(2, "b");
    let states: Vec<PortState> = bench.ports().iter().map(|port| port.state).collect();
    assert_eq!(states, [PortState::Up, PortState::Up, PortState::Waiting]);
    assert_eq!(bench.send("a", Mac::BROADCAST, mac(1)), ["b"]);
    assert_eq!(bench.send("b", mac(1), mac(2)), ["a"]);
    let entries = bench.fdb();
    let places: Vec<_> = entries.iter().map(|entry| (entry.port.as_str(), entry.vlan, entry.bridge.as_str())).collect();
    assert_eq!(places, [("a", 0, "pods"), ("b", 0, "pods")]);
    let status = bench.port("a");
    assert_eq!((status.rx_packets, status.tx_packets, status.learned, status.ifindex), (1, 1, 1, 1));
    assert_eq!(status.notes, ["a note"], "the port's name is not repeated");
    bench.end();
}

#[test]
fn a_vanished_interface_frees_everything_and_returns() {
    let mut bench = three(1);
    bench.send("a", Mac::BROADCAST, mac(1));
    bench.send("b", Mac::BROADCAST, mac(2));
    bench.event(LinkEvent::Gone { ifindex: 1 });
    bench.settle();
    assert_eq!((bench.port("a").state, bench.lab().attached), (PortState::Waiting, 2));
    assert_eq!(bench.fdb().len(), 1, "its addresses are forgotten, the other port's are not");
    assert_eq!(bench.send("b", mac(1), mac(2)), ["c"], "unknown again, and not to the dead port");
    let before = bench.port("a").rx_packets;
    bench.up(9, "a");
    assert_eq!(bench.send("a", mac(2), mac(1)), ["b"]);
    let after = bench.port("a");
    assert_eq!((after.state, after.ifindex, after.rx_packets), (PortState::Up, 9, before + 1), "counters never fall");
    bench.end();
}

#[test]
fn deleted_and_made_again_in_one_batch_is_attached_anew() {
    let mut bench = three(1);
    // Even with the same index, which `ip link add index N` allows.
    for ifindex in [1, 7] {
        let before = bench.attempts("a");
        let gone = bench.port("a").ifindex;
        bench.event(LinkEvent::Gone { ifindex: gone });
        bench.event(link(ifindex, "a", true));
        bench.settle();
        assert_eq!((bench.attempts("a"), bench.port("a").ifindex), (before + 1, ifindex));
        assert_eq!(bench.send("a", Mac::BROADCAST, mac(1)), ["b", "c"]);
    }
    assert_eq!(bench.lab().attached, 3);
    bench.end();
}

#[test]
fn a_renamed_interface_is_gone_and_its_name_can_be_taken_by_another() {
    let mut bench = three(1);
    bench.event(link(1, "elsewhere", true));
    bench.event(link(8, "a", true));
    bench.settle();
    assert_eq!((bench.port("a").ifindex, bench.lab().attached), (8, 3));
    bench.event(LinkEvent::Gone { ifindex: 1 });
    bench.settle();
    assert_eq!((bench.port("a").state, bench.attempts("a")), (PortState::Up, 2));
    bench.end();
}

#[test]
fn link_down_forgets_learned_addresses_and_up_forwards_again() {
    let mut bench = three(1);
    bench.send("a", Mac::BROADCAST, mac(1));
    bench.send("b", Mac::BROADCAST, mac(2));
    bench.ask(add_fdb(5, "a")).unwrap();
    bench.event(link(1, "a", false));
    bench.settle();
    assert_eq!((bench.port("a").state, bench.attempts("a")), (PortState::Down, 1));
    let left: Vec<FdbKind> = bench.fdb().iter().map(|entry| entry.kind).collect();
    assert_eq!(left, [FdbKind::Dynamic, FdbKind::Static], "b's address and a's static one");
    assert_eq!(bench.send("b", Mac::BROADCAST, mac(2)), ["c"]);
    // Up and down and up within a batch: the state counts.
    bench.event(link(1, "a", true));
    bench.event(link(1, "a", false));
    bench.event(link(1, "a", true));
    bench.settle();
    assert_eq!(bench.send("b", Mac::BROADCAST, mac(2)), ["a", "c"]);
    assert_eq!(bench.attempts("a"), 1, "a flap attaches nothing");
    bench.end();
}

fn add_fdb(number: u64, port: &str) -> Request {
    let mac = ctl::mac::Mac(mac(number).octets());
    Request::AddFdb(ctl::protocol::AddFdb { mac, port: port.to_string(), bridge: None, vlan: None, sticky: false })
}

#[test]
fn static_entries_wait_with_their_port() {
    let mut bench = three(1);
    bench.ask(add_fdb(5, "a")).unwrap();
    assert_eq!(bench.send("b", mac(5), mac(2)), ["a"]);
    bench.event(LinkEvent::Gone { ifindex: 1 });
    bench.settle();
    let fixed = |bench: &mut Bench| -> Vec<_> {
        let entries = bench.fdb().into_iter().filter(|entry| entry.kind == FdbKind::Static);
        entries.map(|entry| (entry.port, entry.waiting)).collect()
    };
    assert_eq!(fixed(&mut bench), [("a".to_string(), true)], "listed all the same");
    assert_eq!(bench.send("b", mac(5), mac(2)), ["c"]);
    bench.up(4, "a");
    assert_eq!(fixed(&mut bench), [("a".to_string(), false)]);
    assert_eq!(bench.send("b", mac(5), mac(2)), ["a"]);
    bench.end();
}

#[test]
fn the_mtu_follows_the_interface() {
    let mut bench = three(1);
    let bigger = Link { ifindex: 2, name: "b".to_string(), up: true, mtu: 40, mac: None };
    bench.event(LinkEvent::Present(bigger));
    bench.settle();
    assert_eq!(bench.port("b").mtu, 40);
    assert_eq!(bench.send("a", Mac::BROADCAST, mac(1)), ["c"], "60 bytes do not fit an MTU of 40");
    assert_eq!(bench.port("b").drops["mtu_exceeded"], 1);
    bench.end();
}

#[test]
fn a_refused_interface_is_tried_again_ever_less_often() {
    let mut bench = Bench::new(THREE, 1);
    bench.lab().refusals.insert("a".to_string(), "XDP program 7 is attached already".to_string());
    bench.up(1, "a");
    let status = bench.port("a");
    assert_eq!(
        (status.state, status.notes),
        (PortState::Waiting, vec!["XDP program 7 is attached already".to_string()])
    );
    for _ in 0..400 {
        bench.now += Duration::from_millis(500);
        bench.settle();
    }
    let attempts = bench.attempts("a");
    assert!((10..=13).contains(&attempts), "{attempts} attempts: after 0.1, 0.3, 0.7 ... 51.1 s, then every 60 s");
    assert_eq!(bench.lab().patient["a"], 1, "only the first waits for a queue that is busy");
    // News of the interface bring the next attempt forward.
    bench.lab().refusals.clear();
    let news = Link { ifindex: 1, name: "a".to_string(), up: true, mtu: 1400, mac: None };
    bench.event(LinkEvent::Present(news));
    bench.settle();
    assert_eq!((bench.port("a").state, bench.attempts("a")), (PortState::Up, attempts + 1));
    bench.end();
}

#[test]
fn a_device_that_fails_is_detached_without_waiting_for_netlink() {
    let mut bench = three(1);
    bench.lab().dead.push("b".to_string());
    bench.settle();
    assert_eq!(bench.port("b").state, PortState::Waiting);
    assert_eq!(bench.send("a", Mac::BROADCAST, mac(1)), ["c"]);
    bench.event(LinkEvent::Gone { ifindex: 2 });
    bench.lab().dead.clear();
    bench.up(12, "b");
    assert_eq!((bench.port("b").state, bench.port("b").ifindex), (PortState::Up, 12));
    bench.end();
}

#[test]
fn lost_events_are_made_up_for_by_a_list() {
    let mut bench = three(1);
    bench.event(LinkEvent::DumpBegins);
    bench.event(link(2, "b", false));
    bench.event(link(30, "c", true));
    bench.event(LinkEvent::DumpEnds);
    bench.settle();
    let ports = bench.ports();
    let states: Vec<_> = ports.iter().map(|port| (port.state, port.ifindex)).collect();
    assert_eq!(states, [(PortState::Waiting, 0), (PortState::Down, 2), (PortState::Up, 30)]);
    bench.end();
}

#[test]
fn ports_spread_over_workers_and_reach_each_other() {
    let mut bench = Bench::new(THREE, 3);
    bench.lab().queues.insert("c".to_string(), 3);
    for (ifindex, name) in [(1, "a"), (2, "b"), (3, "c")] {
        bench.up(ifindex, name);
    }
    let workers: Vec<Vec<u32>> = bench.ports().into_iter().map(|port| port.workers).collect();
    assert_eq!(workers, [vec![0], vec![1], vec![0, 1, 2]]);
    assert_eq!(bench.send("a", Mac::BROADCAST, mac(1)), ["b", "c"]);
    for queue in 0..3 {
        assert_eq!(bench.send_to_queue("c", queue, mac(1), mac(3)), ["a"], "queue {queue}");
    }
    assert_eq!(bench.send("b", mac(3), mac(2)), ["c"]);
    bench.event(LinkEvent::Gone { ifindex: 3 });
    bench.settle();
    assert_eq!((bench.port("c").state, bench.lab().attached), (PortState::Waiting, 2));
    bench.end();
}

#[test]
fn addresses_age() {
    let mut bench = Bench::new(&THREE.replace("name = \"pods\"", "name = \"pods\"\nageing_seconds = 10"), 1);
    bench.up(1, "a");
    bench.up(2, "b");
    bench.send("a", Mac::BROADCAST, mac(1));
    bench.wait(Duration::from_secs(8));
    assert_eq!(bench.fdb().len(), 1);
    bench.wait(Duration::from_secs(5));
    assert_eq!((bench.fdb().len(), bench.port("a").learned), (0, 0));
    bench.end();
}

/// Adds a port at run time, whose interface is there.
fn add(bench: &mut Bench, ifindex: u32, name: &str) {
    let add = ctl::protocol::AddPort { interface: name.into(), bridge: Some("pods".into()), ..Default::default() };
    bench.ask(Request::AddPort(add)).unwrap();
    bench.up(ifindex, name);
}

/// Frames in the fill ring of a port.
fn ring(bench: &Bench, name: &str) -> u32 {
    bench.lab().filled[name] as u32
}

#[test]
fn ports_added_one_by_one_leave_enough_of_the_pool() {
    let mut bench = Bench::new(&THREE.replace("[[port]]\ninterface = \"c\"\nbridge = \"pods\"\n", ""), 1);
    bench.up(1, "a");
    bench.up(2, "b");
    let most = FRAMES_DEFAULT / FILL_MIN / 2;
    for number in 0..most - 2 {
        add(&mut bench, 100 + number, &format!("late{number}"));
    }
    // They receive nothing, so they keep what they were once given.
    let rings: Vec<u32> = (0..most - 2).map(|number| ring(&bench, &format!("late{number}"))).collect();
    assert_eq!((ring(&bench, "a"), ring(&bench, "b")), (FILL_MAX, FILL_MAX));
    assert_eq!((rings[0], rings[1], rings[2], rings[19]), (464, 414, 370, 96));
    assert!(rings.is_sorted_by(|earlier, later| earlier >= later), "{rings:?}");
    assert!(rings.iter().all(|&ring| ring >= FILL_MIN), "{rings:?}");
    let held: usize = bench.lab().filled.values().sum();
    assert!(held <= (FRAMES_DEFAULT - FRAMES_DEFAULT / 16) as usize, "{held} frames in fill rings");
    assert_eq!(bench.port("late19").fill_frames, 96);
    assert_eq!(bench.send("late39", Mac::BROADCAST, mac(1)).len(), most as usize - 1);
    bench.end();
}

#[test]
fn a_port_of_the_file_that_comes_back_finds_its_share() {
    let mut bench = three(1);
    let before = ring(&bench, "c");
    for number in 0..20 {
        add(&mut bench, 100 + number, &format!("late{number}"));
    }
    bench.event(LinkEvent::Gone { ifindex: 3 });
    bench.settle();
    add(&mut bench, 200, "meanwhile");
    bench.up(4, "c");
    assert_eq!((before, ring(&bench, "c")), (64 + 7_168 / 4, before));
    bench.end();
}

#[test]
fn what_a_detached_port_held_is_handed_out_again() {
    let mut bench = three(1);
    for (ifindex, name) in [(4, "d"), (5, "e")] {
        add(&mut bench, ifindex, name);
    }
    let (before, given) = (ring(&bench, "e"), ring(&bench, "d"));
    assert!(before < given, "the later one has less");
    // Its interface goes: the ring of the last port grows, by no more than what came back.
    bench.event(LinkEvent::Gone { ifindex: 4 });
    bench.settle();
    let waiting = ring(&bench, "e");
    assert!(waiting > before && waiting <= before + given, "{before}, then {waiting} of {given} more");
    assert_eq!(bench.port("e").fill_frames, waiting, "what is shown is what the ring has");
    // It comes back and gets its part of what was left.
    bench.up(6, "d");
    assert!(ring(&bench, "d") > FILL_MIN);
    // One of the file is removed for good, and nothing is kept for it any more.
    bench.ask(Request::DelPort { port: "c".to_string() }).unwrap();
    bench.settle();
    assert!(ring(&bench, "e") > waiting + 100, "{waiting}, then {}", ring(&bench, "e"));
    bench.end();
}

#[test]
fn a_port_with_many_queues_counts_as_many_rings() {
    let mut bench = Bench::new(THREE, 1);
    bench.lab().queues.insert("a".to_string(), 16);
    bench.up(1, "a");
    assert_eq!(bench.lab().filled["a"] as u32, FILL_MIN + 7_168 / 4 * 3 / 18, "16 rings, and two ports to come");
    bench.end();
}

/// Three ports that receive much and then nothing.
fn busy_then_quiet(config: &str) -> Bench {
    let mut bench = Bench::new(config, 1);
    for (ifindex, name) in [(1, "a"), (2, "b"), (3, "c")] {
        bench.up(ifindex, name);
    }
    let id = bench.control.port_id("a").unwrap();
    // The counter of the worker, which does not run here meanwhile, stands for the traffic.
    let shared = Arc::clone(&bench.control.shared);
    for _ in 0..20 {
        bench.now += Duration::from_millis(100);
        shared.stats(0).port(id).rx_packets.add(20_000);
        bench.control.turn(bench.now);
    }
    bench
}

#[test]
fn receive_work_follows_the_load() {
    let mut bench = busy_then_quiet(&format!("receive_threads = true\n{THREE}"));
    let moved = |bench: &Bench| {
        let lab = bench.lab();
        lab.threaded.iter().filter(|(name, _)| name == "a").map(|(_, threaded)| *threaded).collect::<Vec<bool>>()
    };
    assert_eq!(moved(&bench), [false, true], "at the sender's core first");
    assert!(bench.port("a").notes.iter().any(|note| note.contains("thread of its own")));
    for _ in 0..40 {
        bench.now += Duration::from_millis(1000);
        bench.control.turn(bench.now);
    }
    assert_eq!(moved(&bench), [false, true, false]);
    bench.end();
}

#[test]
fn receive_work_is_left_alone_unless_asked() {
    let mut bench = busy_then_quiet(THREE);
    bench.event(link(1, "a", false));
    bench.event(link(2, "b", false));
    bench.settle();
    bench.event(link(1, "a", true));
    bench.settle();
    assert_eq!(bench.lab().threaded, []);
    assert!(bench.port("a").notes.iter().all(|note| !note.contains("thread")));
    bench.end();
}

/// One port of two queues on workers that run on cores 5 and 3.
fn with_containers(setting: &str, lab: Lab) -> Bench {
    let text = format!("[switch]\nworkers = [5, 3]\nframes = {FRAMES_DEFAULT}\n{setting}\n{THREE}");
    let bench = Bench::in_lab(&text, &[5, 3], Arc::new(Mutex::new(lab)));
    bench.lab().queues.insert("a".to_string(), 2);
    bench
}

#[test]
fn containers_receive_in_batches_on_the_cores_of_their_workers() {
    let mut bench = with_containers("", Lab::default());
    bench.up(1, "a");
    bench.up(2, "b");
    let ([a, b], one) = (["a", "b"].map(str::to_string), vec![5]);
    assert_eq!(bench.lab().merged, [(a.clone(), vec![5, 3]), (b, one)]);
    assert!(bench.port("a").container_gro);
    // Down, there is nothing to set; up again, the kernel has made the threads anew.
    bench.lab().merged.clear();
    bench.event(link(1, "a", false));
    bench.settle();
    bench.lab().merging.clear();
    bench.event(link(1, "a", true));
    bench.settle();
    assert_eq!(bench.lab().merged, [], "a link that flaps costs little: once a second at most");
    assert!(!bench.port("a").container_gro);
    bench.wait(Duration::from_secs(1));
    assert_eq!(bench.lab().merged, [(a, vec![5, 3])]);
    assert!(bench.port("a").container_gro);
    bench.end();
}

#[test]
fn what_the_kernel_forgot_is_set_again() {
    let mut bench = with_containers("", Lab::default());
    bench.up(1, "a");
    bench.wait(Duration::from_secs(1));
    bench.lab().merged.clear();
    // Down and up between two looks.
    bench.lab().merging.clear();
    bench.event(link(1, "a", false));
    bench.event(link(1, "a", true));
    bench.settle();
    assert_eq!(bench.lab().merged.len(), 1);
    // Nothing is to be seen on this side when a container sets GRO itself.
    bench.lab().merging.clear();
    bench.wait(Duration::from_secs(11));
    assert_eq!(bench.lab().merged.len(), 2);
    bench.wait(Duration::from_secs(11));
    assert_eq!(bench.lab().merged.len(), 2, "nothing to do");
    // It turned GRO off: that is its right.
    bench.lab().merging.clear();
    bench.lab().declining.push("a".to_string());
    bench.wait(Duration::from_secs(11));
    assert_eq!(bench.lab().merged.len(), 3);
    let port = bench.port("a");
    let note = "its container receives frame by frame (GRO was turned off there)".to_string();
    assert_eq!((port.container_gro, port.notes.last()), (false, Some(&note)));
    // And to turn it on again.
    bench.lab().declining.clear();
    bench.wait(Duration::from_secs(11));
    assert!(bench.port("a").container_gro);
    bench.end();
}

#[test]
fn many_containers_are_asked_one_per_turn() {
    let mut bench = with_containers("", Lab::default());
    for (ifindex, name) in [(1, "a"), (2, "b"), (3, "c")] {
        bench.up(ifindex, name);
    }
    bench.wait(Duration::from_secs(1));
    for up in [false, true] {
        bench.lab().merging.clear();
        bench.lab().merged.clear();
        for (ifindex, name) in [(1, "a"), (2, "b"), (3, "c")] {
            bench.event(link(ifindex, name, up));
        }
        bench.control.turn(bench.now);
    }
    assert_eq!(bench.lab().merged.len(), 1);
    assert!(bench.control.turn(bench.now) <= bench.now, "it wants to go on at once");
    assert_eq!(bench.lab().merged.len(), 2);
    bench.end();
}

#[test]
fn a_container_that_is_down_is_asked_once_it_is_up() {
    let mut bench = with_containers("", Lab::default());
    bench.event(link(1, "a", false));
    bench.settle();
    assert_eq!((bench.port("a").state, bench.lab().merged.len()), (PortState::Down, 0));
    assert!(!bench.port("a").container_gro);
    bench.event(link(1, "a", true));
    bench.settle();
    assert_eq!(bench.lab().merged.len(), 1);
    assert!(bench.port("a").container_gro);
    bench.end();
}

#[test]
fn containers_receive_frame_by_frame_where_told_or_where_the_kernel_preempts() {
    let preempting = Lab { preempts: true, ..Lab::default() };
    for (setting, lab) in [("container_gro = false", Lab::default()), ("", preempting)] {
        let mut bench = with_containers(setting, lab);
        bench.up(1, "a");
        bench.event(link(1, "a", false));
        bench.settle();
        bench.up(1, "a");
        assert_eq!(bench.lab().merged, [], "{setting:?}");
        let port = bench.port("a");
        assert_eq!((port.notes, port.container_gro), (vec!["a note".to_string()], false));
        bench.end();
    }
}

#[test]
fn a_container_that_cannot_receive_in_batches_says_why() {
    let mut bench = with_containers("", Lab { unmergeable: vec!["a".to_string()], ..Lab::default() });
    bench.up(1, "a");
    assert_eq!(bench.port("a").notes, ["a note", "its container receives frame by frame (no thread)"]);
    bench.wait(Duration::from_secs(30));
    assert_eq!(bench.lab().merged.len(), 3, "tried three times");
    // What failed once may succeed when the link comes up again.
    bench.lab().unmergeable.clear();
    bench.event(link(1, "a", false));
    bench.settle();
    bench.up(1, "a");
    let port = bench.port("a");
    assert_eq!((port.notes, port.container_gro), (vec!["a note".to_string()], true));
    bench.end();
}

#[test]
fn a_thousand_lives_leave_nothing_behind() {
    let mut bench = three(2);
    for life in 0..1_000u32 {
        bench.event(LinkEvent::Gone { ifindex: life + 10 - 1 });
        bench.event(link(life + 10, "a", true));
        // Frames on their way while it goes.
        bench.lab().wires["b"][0].send(&[0xff; 60]);
        bench.settle();
    }
    assert_eq!((bench.port("a").state, bench.lab().attached), (PortState::Up, 3));
    assert_eq!(bench.send("a", Mac::BROADCAST, mac(1)).len() % 2, 0);
    bench.end();
}
