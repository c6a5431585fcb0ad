//! Learning, ageing, moving, flooding and static entries on real interfaces, frame by frame.

use std::time::{Duration, Instant};

use ctl::protocol::{AddFdb, DelFdb, FdbEntry, FdbFilter, FdbFlush, FdbKind, PortSettings, PortState, Request};
use tests::net::process::wait_for;
use tests::net::raw::RawSocket;
use tests::net::stations::{BROADCAST, Stations, TEST_TYPE, frame, station};
use tests::net::switchd::pods;
use tests::net::traffic::{Stream, wait_reachable};
use tests::net::{Lab, Link, Switchd, report, stretched};

/// Host ends of every test here.
const ENDS: [&str; 3] = ["a0", "b0", "c0"];

/// No container received anything.
const NOBODY: [usize; 0] = [];

/// Padding of a frame that is not about its payload.
const BODY: [u8; 46] = [0x11; 46];

fn to_from(to: [u8; 6], from: [u8; 6]) -> Vec<Vec<u8>> {
    vec![frame(to, from, TEST_TYPE, &BODY)]
}

fn text(mac: [u8; 6]) -> String {
    ctl::mac::Mac(mac).to_string()
}

/// A switch with three quiet containers that forwards; `body` is what the configuration has beside the ports.
fn start(lab: &mut Lab, body: &str) -> (Stations, Switchd) {
    let mut stations = Stations::new(lab, &ENDS, &Link::quiet());
    let switch = Switchd::start(lab, "", &format!("{}{body}", pods(&ENDS)));
    stations.wait_forwarding(0, &[1, 2], None);
    (stations, switch)
}

/// Which of the containers received anything.
fn reached(received: &[Vec<Vec<u8>>]) -> Vec<usize> {
    received.iter().enumerate().filter(|(_, frames)| !frames.is_empty()).map(|(index, _)| index).collect()
}

#[test]
fn a_broadcast_floods_and_its_source_is_learned_and_shown() {
    let Some(mut lab) = Lab::new("a_broadcast_floods_and_its_source_is_learned_and_shown") else { return };
    let (mut stations, switch) = start(&mut lab, "");
    // An ARP request: who has 10.99.0.2, tell 10.99.0.1.
    let mut arp = vec![0, 1, 8, 0, 6, 4, 0, 1];
    arp.extend(station(1));
    arp.extend([10, 99, 0, 1, 0, 0, 0, 0, 0, 0, 10, 99, 0, 2]);
    let request = vec![frame(BROADCAST, station(1), 0x0806, &arp)];
    assert_eq!(stations.send(0, &request), vec![vec![], request.clone(), request]);
    let shown = switch.json(&["show-fdb", "--bridge", "pods", "--dynamic"]);
    let entries = shown.as_array().expect("show-fdb prints an array");
    let entry = entries.iter().find(|entry| entry["mac"] == text(station(1)).as_str()).expect("it was learned");
    let expected = serde_json::json!({"mac": text(station(1)), "bridge": "pods", "vlan": 0, "port": "a0",
        "type": "dynamic"});
    for (key, value) in expected.as_object().expect("an object") {
        assert_eq!(&entry[key], value, "{key}");
    }
    assert!(entry["age_seconds"].as_u64().expect("a number") <= 2, "{entry}");
    // The answer goes to the asker only.
    let reply = to_from(station(1), station(2));
    assert_eq!(stations.send(1, &reply), vec![reply, vec![], vec![]]);
    assert_eq!(switch.fdb_entry(&text(station(2))).map(|entry| entry.port), Some("b0".to_owned()));
}

#[test]
fn unknown_unicast_and_multicast_flood_and_link_local_groups_do_not() {
    let Some(mut lab) = Lab::new("unknown_unicast_and_multicast_flood_and_link_local_groups_do_not") else { return };
    let (mut stations, switch) = start(&mut lab, "");
    let to = |last| [0x01, 0x80, 0xc2, 0, 0, last];
    for address in [station(77), [0x01, 0, 0x5e, 0, 0, 0xfb], [0x33, 0x33, 0, 0, 0, 1], to(0x10), to(0xff)] {
        assert_eq!(reached(&stations.send(0, &to_from(address, station(1)))), [1, 2], "{}", text(address));
    }
    let before = switch.dropped("l2_link_local");
    for last in 0..16 {
        assert_eq!(reached(&stations.send(0, &to_from(to(last), station(1)))), NOBODY, "{}", text(to(last)));
    }
    assert_eq!(switch.dropped("l2_link_local") - before, 16);
    // Known and on the port it came from: nobody.
    assert_eq!(reached(&stations.send(0, &to_from(station(1), station(2)))), NOBODY);
}

#[test]
fn group_and_zero_sources_are_not_learned() {
    let Some(mut lab) = Lab::new("group_and_zero_sources_are_not_learned") else { return };
    let (mut stations, switch) = start(&mut lab, "");
    assert_eq!(reached(&stations.send(0, &to_from(BROADCAST, [0x03, 0, 0, 0, 0, 1]))), NOBODY);
    assert_eq!(switch.dropped("l2_source_group"), 1);
    stations.send(0, &to_from(BROADCAST, [0; 6]));
    let learned: Vec<String> = switch.fdb().into_iter().map(|entry| entry.mac.to_string()).collect();
    assert!(!learned.iter().any(|mac| mac == "00:00:00:00:00:00" || mac.starts_with("03:")), "{learned:?}");
}

#[test]
fn silence_ages_an_address_and_traffic_to_it_does_not_refresh_it() {
    let Some(mut lab) = Lab::new("silence_ages_an_address_and_traffic_to_it_does_not_refresh_it") else { return };
    let mut stations = Stations::new(&mut lab, &ENDS, &Link::quiet());
    let body = pods(&ENDS).replace("name = \"pods\"", "name = \"pods\"\nageing_seconds = 10");
    let switch = Switchd::start(&lab, "", &body);
    stations.wait_forwarding(0, &[1, 2], None);
    stations.send(0, &to_from(BROADCAST, station(1)));
    let start = Instant::now();
    let gone = wait_for("the silent address is forgotten", Duration::from_secs(20), || {
        stations.send(1, &to_from(station(1), station(2)));
        std::thread::sleep(Duration::from_millis(200));
        switch.fdb_entry(&text(station(1))).is_none().then(|| start.elapsed())
    });
    report(&format!("an address of ageing_seconds = 10 was shown for {:.1} s", gone.as_secs_f64()));
    assert!(gone >= Duration::from_secs(9) && gone <= stretched(Duration::from_secs(14)), "{gone:?}");
    assert!(switch.fdb_entry(&text(station(2))).is_some(), "the one that kept sending stays");
    assert_eq!(reached(&stations.send(1, &to_from(station(1), station(2)))), [0, 2], "forgotten means flooded");
}

#[test]
fn a_station_that_moves_is_found_at_its_new_port_at_once() {
    let Some(mut lab) = Lab::new("a_station_that_moves_is_found_at_its_new_port_at_once") else { return };
    let (mut stations, switch) = start(&mut lab, "");
    for round in 0..6 {
        let (here, asker) = if round % 2 == 0 { (0, 1) } else { (1, 0) };
        stations.send(here, &to_from(BROADCAST, station(1)));
        assert_eq!(reached(&stations.send(2, &to_from(station(1), station(3)))), [here], "round {round}");
        assert_eq!(reached(&stations.send(asker, &to_from(station(1), station(4)))), [here], "round {round}");
        assert_eq!(switch.fdb_entry(&text(station(1))).map(|entry| entry.port), Some(ENDS[here].to_owned()));
    }
}

#[test]
fn link_down_forgets_what_was_learned_there_and_nothing_else() {
    let Some(mut lab) = Lab::new("link_down_forgets_what_was_learned_there_and_nothing_else") else { return };
    let (mut stations, switch) = start(&mut lab, "");
    stations.send(0, &to_from(BROADCAST, station(1)));
    stations.send(1, &to_from(BROADCAST, station(2)));
    // Once by the host end, once by the container's.
    for (down, up) in [(true, true), (false, false)] {
        let set = |on_host: bool, state: &str| match on_host {
            true => lab.host().ip(&format!("link set a0 {state}")),
            false => stations.container(0).space().ip(&format!("link set eth0 {state}")),
        };
        set(down, "down");
        switch.wait_state("a0", PortState::Down);
        wait_for("its addresses are forgotten", Duration::from_secs(2), || {
            switch.fdb().iter().all(|entry| entry.port != "a0").then_some(())
        });
        assert!(switch.fdb_entry(&text(station(2))).is_some(), "the other port's addresses stay");
        set(up, "up");
        switch.wait_state("a0", PortState::Up);
        stations.wait_forwarding(0, &[1, 2], None);
        stations.send(0, &to_from(BROADCAST, station(1)));
        assert_eq!(switch.fdb_entry(&text(station(1))).map(|entry| entry.port), Some("a0".to_owned()));
    }
}

#[test]
fn static_entries_stay_and_flushing_takes_the_learned_ones() {
    let Some(mut lab) = Lab::new("static_entries_stay_and_flushing_takes_the_learned_ones") else { return };
    let configured =
        format!("[[fdb]]\nmac = \"{}\"\nbridge = \"pods\"\nport = \"b0\"\nsticky = true\n", text(station(50)));
    let (mut stations, switch) = start(&mut lab, &configured);
    let entry = switch.fdb_entry(&text(station(50))).expect("an entry of the file is there from the start");
    assert_eq!((entry.kind, entry.sticky, entry.port.as_str()), (FdbKind::Static, true, "b0"));
    assert_eq!(reached(&stations.send(0, &to_from(station(50), station(1)))), [1]);
    // Somebody else uses the sticky address: it stays where it is.
    stations.send(2, &to_from(BROADCAST, station(50)));
    assert_eq!(reached(&stations.send(0, &to_from(station(50), station(1)))), [1]);
    let mac = ctl::mac::Mac(station(51));
    switch.tell(Request::AddFdb(AddFdb { mac, port: "c0".to_owned(), bridge: None, vlan: None, sticky: false }));
    assert_eq!(reached(&stations.send(0, &to_from(station(51), station(1)))), [2]);
    switch.tell(Request::FlushFdb(FdbFlush::default()));
    let left = |kind| switch.fdb().iter().filter(|entry| entry.kind == kind).count();
    assert_eq!((left(FdbKind::Dynamic), left(FdbKind::Static)), (0, 2));
    assert_eq!(reached(&stations.send(1, &to_from(station(1), station(2)))), [0, 2], "flushed means flooded");
    switch.tell(Request::DelFdb(DelFdb { mac, bridge: None, port: None, vlan: None }));
    assert!(switch.fdb_entry(&mac.to_string()).is_none());
    let again = switch.switchctl(&["del-fdb", &mac.to_string()]);
    assert_eq!((again.code, again.stderr.lines().count()), (1, 1), "{}", again.stderr);
}

#[test]
fn port_switches_act_while_the_port_runs() {
    let Some(mut lab) = Lab::new("port_switches_act_while_the_port_runs") else { return };
    let (mut stations, switch) = start(&mut lab, "");
    let set = |port: &str, settings| switch.tell(Request::SetPort { port: port.to_owned(), settings });
    let none = PortSettings::default;
    let unknown = to_from(station(99), station(1));
    // The workers take a change up at their next turn, so the first frames after it may still go the old way.
    let mut expect = |what: &str, from: usize, frames: &[Vec<u8>], marked: &[usize], expected: &[usize]| {
        wait_for(what, Duration::from_secs(2), || {
            (reached(&stations.send_among(from, frames, None, marked)) == expected).then_some(())
        });
    };
    set("c0", PortSettings { flood_unicast: Some(false), ..none() });
    expect("no unknown unicast to c0", 0, &unknown, &[1, 2], &[1]);
    set("c0", PortSettings { flood_unicast: Some(true), flood_multicast: Some(false), ..none() });
    expect("no multicast to c0", 0, &to_from([1, 0, 0x5e, 0, 0, 1], station(1)), &[1, 2], &[1]);
    expect("unknown unicast to c0 again", 0, &unknown, &[1, 2], &[1, 2]);
    set("c0", PortSettings { flood_broadcast: Some(false), ..none() });
    expect("no broadcast to c0", 0, &to_from(BROADCAST, station(1)), &[1], &[1]);
    set("c0", PortSettings { flood_broadcast: Some(true), isolated: Some(true), ..none() });
    set("b0", PortSettings { isolated: Some(true), ..none() });
    expect("isolated ports do not reach each other", 1, &unknown, &[0], &[0]);
    expect("but everybody else", 0, &to_from(BROADCAST, station(1)), &[1, 2], &[1, 2]);
    set("a0", PortSettings { learning: Some(false), isolated: Some(true), ..none() });
    expect("three isolated ports reach nobody", 0, &unknown, &[], &[]);
    stations.send_among(0, &to_from(BROADCAST, station(60)), None, &[]);
    assert!(switch.fdb_entry(&text(station(60))).is_none(), "learned on a port with learning off");
}

#[test]
fn a_port_at_its_limit_floods_and_learns_again_when_there_is_room() {
    let Some(mut lab) = Lab::new("a_port_at_its_limit_floods_and_learns_again_when_there_is_room") else { return };
    let mut stations = Stations::new(&mut lab, &ENDS, &Link::quiet());
    let body = pods(&ENDS).replace("interface = \"a0\"", "interface = \"a0\"\nmac_limit = 3");
    let switch = Switchd::start(&lab, "", &body);
    stations.wait_forwarding(0, &[1, 2], None);
    for number in 1..=8 {
        assert_eq!(reached(&stations.send(0, &to_from(BROADCAST, station(number)))), [1, 2]);
    }
    let learned = || switch.fdb().iter().filter(|entry| entry.port == "a0").count();
    assert_eq!(learned(), 3);
    assert_eq!(reached(&stations.send(1, &to_from(station(8), station(30)))), [0, 2], "not learned means flooded");
    let free = PortSettings { mac_limit: Some(0), ..PortSettings::default() };
    switch.tell(Request::SetPort { port: "a0".to_owned(), settings: free });
    wait_for("addresses are learned again", Duration::from_secs(2), || {
        stations.send(0, &to_from(BROADCAST, station(20)));
        switch.fdb_entry(&text(station(20)))
    });
}

/// Asks for the whole table and counts its entries.
fn dumped(switch: &Switchd) -> (usize, Duration) {
    let start = Instant::now();
    let mut client = switch.client();
    let entries = client.request::<FdbEntry>(Request::ShowFdb(FdbFilter::default())).expect("show-fdb is answered");
    let count = entries.inspect(|entry| assert!(entry.is_ok(), "an entry can be read")).count();
    (count, start.elapsed())
}

#[test]
fn dumps_of_a_large_table_lose_no_traffic() {
    const STATIONS: u32 = 70_000;
    const DUMPS: usize = 5;
    let Some(mut lab) = Lab::alone("dumps_of_a_large_table_lose_no_traffic") else { return };
    let [a, b] = ["a0", "b0"].map(|end| lab.container(end, &Link::default()));
    let crowd = lab.container("c0", &Link::quiet());
    let switch = Switchd::start(&lab, "fdb_entries = 131072", &pods(&ENDS));
    wait_reachable(&a, b.v4());
    let socket = RawSocket::open(crowd.space(), "eth0");
    // To a station behind the same port: each frame teaches its source and goes no further.
    socket.send(&frame(BROADCAST, station(1), TEST_TYPE, &BODY));
    wait_for("the table is filled", Duration::from_secs(60), || {
        for number in 0..STATIONS {
            let [_, x, y, z] = number.to_be_bytes();
            socket.send(&frame(station(1), [0x06, 0, 0, x, y, z], TEST_TYPE, &BODY));
            if number % 256 == 0 {
                std::thread::sleep(stretched(Duration::from_micros(200)));
            }
        }
        (switch.port("c0").learned > u64::from(STATIONS)).then_some(())
    });
    let stream = Stream::start(&a, &b, 2000);
    let dumps: Vec<(usize, Duration)> = (0..DUMPS).map(|_| dumped(&switch)).collect();
    let (sent, received) = stream.stop();
    report(&format!("{DUMPS} dumps {dumps:?} beside {sent} datagrams, longest gap {:?}", received.longest_gap));
    assert!(dumps.iter().all(|(count, _)| *count > STATIONS as usize), "{dumps:?}");
    assert!(
        sent > 0 && (received.count, received.misordered) == (sent, 0),
        "{received:?} of {sent}:\n{}",
        switch.losses()
    );
    assert!(switch.stop().success());
}
