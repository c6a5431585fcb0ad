//! The router's control side: interfaces and routes come, change and go; what the socket says of them.

use super::*;
use crate::ids::{PortId, VrfId};
use ctl::protocol::{
    AddNeigh, AddPort, AddRoute, DelNeigh, DelRoute, FdbKind, Hop, HostValueKind, LoadRoutes, NeighFilter, RouteAnswer,
    RouteEntry, RouteFilter, RouteGet, RouteType,
};

/// A bridge with a gateway beside two routed ports.
const ROUTER: &str = r#"
[[bridge]]
name = "pods"
gateway = ["10.1.0.1/24", "fd00:1::1/64"]
gateway_mac = "02:00:00:00:00:fe"
[[port]]
interface = "a"
bridge = "pods"
[[port]]
interface = "up0"
address = ["192.168.0.1/30"]
[[port]]
interface = "up1"
address = ["192.168.0.5/30"]
[[route]]
to = "0.0.0.0/0"
via = ["192.168.0.2", "192.168.0.6"]
[[route]]
to = "10.9.0.0/16"
via = "192.168.0.2"
[[route]]
to = "10.8.0.0/16"
via = "10.1.0.9"
[[route]]
to = "10.0.0.0/8"
type = "unreachable"
"#;

fn router() -> Bench {
    let mut bench = Bench::new(ROUTER, 1);
    for (ifindex, name) in [(1, "a"), (2, "up0"), (3, "up1")] {
        bench.up(ifindex, name);
    }
    bench
}

fn add(to: &str, via: &str) -> Request {
    let via = via.split(',').filter(|hop| !hop.is_empty()).map(|hop| Hop { to: hop.parse().unwrap(), weight: 1 });
    let (to, via) = (to.to_string(), via.collect());
    let kind = (via == Vec::new()).then_some(RouteType::Blackhole);
    Request::AddRoute(AddRoute { to, via, kind, ..AddRoute::default() })
}

fn del(to: &str) -> Request {
    Request::DelRoute(DelRoute { to: to.to_string(), vrf: None })
}

fn load(first_line: u64, text: &str) -> Request {
    Request::LoadRoutes(LoadRoutes { first_line, text: text.to_string() })
}

impl Bench {
    fn routes_with(&mut self, filter: RouteFilter) -> Vec<RouteEntry> {
        let (items, _) = self.ask(Request::ShowRoutes(filter)).unwrap();
        let entry = |item| match item {
            Item::Route(route) => route,
            other => panic!("{other:?}"),
        };
        items.into_iter().map(entry).collect()
    }

    /// Prefixes of the routes with next hops, and whether they are in force.
    fn unicast(&mut self) -> Vec<(String, bool)> {
        let routes = self.routes_with(RouteFilter { kind: Some(RouteType::Unicast), ..RouteFilter::default() });
        routes.into_iter().map(|route| (route.prefix.to_string(), route.active)).collect()
    }

    fn explain(&mut self, to: &str) -> RouteAnswer {
        self.explain_from(to, None)
    }

    fn explain_from(&mut self, to: &str, from: Option<&str>) -> RouteAnswer {
        let from = from.map(|from| from.parse().unwrap());
        let get = RouteGet { to: to.parse().unwrap(), vrf: None, from, flow: None };
        let (items, _) = self.ask(Request::RouteGet(get)).unwrap();
        match items.into_iter().next() {
            Some(Item::RouteAnswer(answer)) => *answer,
            other => panic!("{other:?}"),
        }
    }

    /// The prefix that packets to an address follow, as a worker would.
    fn follows(&mut self, to: &str) -> Option<String> {
        self.explain(to).route.map(|route| route.prefix.to_string())
    }
}

fn names(bench: &mut Bench) -> Vec<String> {
    let routes = bench.routes_with(RouteFilter::default());
    routes.iter().map(|route| format!("{} {} {}", route.prefix, route.kind.as_str(), route.origin.as_str())).collect()
}

#[test]
fn interfaces_bring_their_routes_and_addresses() {
    let mut bench = router();
    assert_eq!(
        names(&mut bench),
        [
            "0.0.0.0/0 unicast static",
            "10.0.0.0/8 unreachable static",
            "10.1.0.0/24 connected kernel",
            "10.1.0.0/32 broadcast kernel",
            "10.1.0.1/32 local kernel",
            "10.1.0.255/32 broadcast kernel",
            "10.8.0.0/16 unicast static",
            "10.9.0.0/16 unicast static",
            "192.168.0.0/30 connected kernel",
            "192.168.0.0/32 broadcast kernel",
            "192.168.0.1/32 local kernel",
            "192.168.0.3/32 broadcast kernel",
            "192.168.0.4/30 connected kernel",
            "192.168.0.4/32 broadcast kernel",
            "192.168.0.5/32 local kernel",
            "192.168.0.7/32 broadcast kernel",
            "fd00:1::/64 connected kernel",
            "fd00:1::1/128 local kernel",
        ]
    );
    let local: Vec<_> = bench.fdb().into_iter().filter(|entry| entry.kind == FdbKind::Local).collect();
    let of_pods = local.iter().find(|entry| entry.bridge == "pods").unwrap();
    assert_eq!((of_pods.mac.to_string().as_str(), of_pods.port.as_str()), ("02:00:00:00:00:fe", "router"));
    assert_eq!(local.len(), 3, "a derived address for each routed port");
    let (items, _) = bench.ask(Request::ShowBridges {}).unwrap();
    assert_eq!(items.len(), 1, "routed ports are no bridges");
    let up0 = bench.port("up0");
    assert_eq!((up0.bridge, up0.address), (None, vec!["192.168.0.1/30".to_string()]));
    assert_eq!(bench.routes_with(RouteFilter { family: Some(6), ..RouteFilter::default() }).len(), 2);
    let within = RouteFilter { prefix: Some("10.0.0.0/8".to_string()), ..RouteFilter::default() };
    assert_eq!(bench.routes_with(within).len(), 7);
    let via = RouteFilter { via: Some("192.168.0.2".parse().unwrap()), ..RouteFilter::default() };
    assert_eq!(bench.routes_with(via).len(), 2);
    let red = RouteFilter { vrf: Some("red".to_string()), ..RouteFilter::default() };
    assert_eq!(bench.refusal(Request::ShowRoutes(red)), "no bridge or port is in VRF red: known VRFs: \"default\"");
    bench.end();
}

#[test]
fn routes_change_at_run_time_and_go_with_a_reload() {
    let mut bench = router();
    let (_, done) = bench.ask(add("10.7.0.0/16", "10.1.0.7,192.168.0.6")).unwrap();
    assert!(done.notes[0].contains("goes with the next reload"), "{done:?}");
    let route = &bench.explain("10.7.1.1").route.unwrap();
    assert_eq!((route.prefix.to_string().as_str(), route.origin.as_str()), ("10.7.0.0/16", "runtime"));
    let hops: Vec<_> = route.next_hops.iter().map(|hop| (hop.interface.as_deref(), hop.active)).collect();
    assert_eq!(hops, [(Some("pods"), true), (Some("up1"), true)]);
    for (request, words) in [
        (add("10.7.0.0/16", "10.1.0.8"), "10.7.0.0/16 has a route already: remove it with del-route first"),
        (add("10.7.0.1/16", "10.1.0.8"), "10.7.0.1/16 has bits set behind its length: write 10.7.0.0/16"),
        (add("10.1.0.0/24", "192.168.0.2"), "the prefix is the subnet of interface \"pods\" and needs no route"),
        (add("10.6.0.0/16", "10.1.0.1"), "next hop 10.1.0.1 is an address of this switch (interface \"pods\")"),
        (add("10.6.0.0/16", "172.16.0.1"), "next hop 172.16.0.1 is on no connected subnet of the default VRF"),
        (
            add("10.6.0.0/16", "10.9.0.1"),
            "is reached only by another route (10.9.0.0/16), and routes are not recursive",
        ),
        (add("::ffff:10.6.0.0/112", "fd00::8"), "in the form of IPv6 are never forwarded; write \"10.6.0.0/16\""),
        (add("fd00:2::/64", "10.1.0.8"), "next hop 10.1.0.8 is IPv4, the prefix is IPv6"),
        (del("10.6.0.0/16"), "no route to exactly 10.6.0.0/16 in the default VRF: show-routes lists the routes"),
        (del("10.1.0.0/24"), "route 10.1.0.0/24 comes with an interface's address"),
    ] {
        let text = bench.refusal(request);
        assert!(text.contains(words), "{text}");
    }
    let (_, done) = bench.ask(del("10.9.0.0/16")).unwrap();
    assert!(done.notes[0].contains("comes back with the next reload"), "{done:?}");
    assert_eq!(bench.follows("10.9.1.1").as_deref(), Some("10.0.0.0/8"));
    let (_, done) = bench.ask(Request::Reload {}).unwrap();
    assert_eq!(done.notes, ["1 route added at run time removed: the file does not name it"]);
    assert_eq!(done.affected, Some(2), "one came back, one went");
    assert_eq!(bench.follows("10.9.1.1").as_deref(), Some("10.9.0.0/16"));
    assert_eq!(bench.follows("10.7.1.1").as_deref(), Some("10.0.0.0/8"));
    bench.ask(add("10.7.0.0/16", "10.1.0.7")).unwrap();
    assert_eq!(bench.follows("10.7.1.1").as_deref(), Some("10.7.0.0/16"), "a later one stays");
    bench.end();
}

#[test]
fn a_reload_leaves_alone_what_stays() {
    let mut bench = router();
    let hop = |bench: &Bench, to: &str| {
        let routes = super::super::router::lock_routes(&bench.control.router);
        routes.get(VrfId::DEFAULT, to.parse().unwrap()).unwrap()
    };
    let before = (hop(&bench, "10.9.0.0/16"), hop(&bench, "0.0.0.0/0"));
    let text = std::fs::read_to_string(bench.file.path()).unwrap();
    let changed = text.replace("via = \"10.1.0.9\"", "via = \"10.1.0.8\"").replace("\"unreachable\"", "\"blackhole\"");
    std::fs::write(
        bench.file.path(),
        changed + "[[bridge]]\nname = \"red\"\ngateway = [\"10.2.0.1/24\"]\nvrf = \"r\"\n",
    )
    .unwrap();
    let (_, done) = bench.ask(Request::Reload {}).unwrap();
    assert_eq!((done.affected, done.notes.len()), (Some(5), 0), "{done:?}");
    assert_eq!((hop(&bench, "10.9.0.0/16"), hop(&bench, "0.0.0.0/0")), before);
    assert_eq!(bench.explain("10.8.1.1").neighbours[0].address.to_string(), "10.1.0.8");
    assert_eq!(bench.explain("10.3.1.1").route.unwrap().kind, RouteType::Blackhole);
    let red = RouteFilter { vrf: Some("r".to_string()), ..RouteFilter::default() };
    assert_eq!(bench.routes_with(red.clone()).len(), 4);
    std::fs::write(bench.file.path(), text).unwrap();
    bench.ask(Request::Reload {}).unwrap();
    assert!(bench.refusal(Request::ShowRoutes(red)).contains("VRF r"));
    assert_eq!((hop(&bench, "10.9.0.0/16"), hop(&bench, "0.0.0.0/0")), before);
    bench.end();
}

#[test]
fn a_routed_port_takes_its_routes_along_and_brings_them_back() {
    let mut bench = router();
    let all = |zero: bool, nine: bool| {
        vec![("0.0.0.0/0".to_string(), zero), ("10.8.0.0/16".to_string(), true), ("10.9.0.0/16".to_string(), nine)]
    };
    assert_eq!(bench.unicast(), all(true, true));
    bench.event(link(2, "up0", false));
    bench.control.turn(bench.now);
    assert_eq!(bench.unicast(), all(true, false), "in the same turn");
    bench.settle();
    assert_eq!(bench.follows("10.9.1.1").as_deref(), Some("10.0.0.0/8"), "what is shorter takes over");
    let answer = bench.explain("1.1.1.1");
    assert_eq!(answer.neighbours.len(), 1, "all flows take the other uplink: {answer:?}");
    bench.event(link(2, "up0", true));
    bench.settle();
    assert_eq!(bench.unicast(), all(true, true));
    assert_eq!(bench.follows("10.9.1.1").as_deref(), Some("10.9.0.0/16"));

    bench.ask(Request::AddNeigh(neigh("192.168.0.2", "up0"))).unwrap();
    bench.ask(Request::DelPort { port: "up0".to_string() }).unwrap();
    assert_eq!(bench.unicast(), all(true, false));
    assert_eq!(neighbours(&mut bench), ["10.1.0.9 pods incomplete", "192.168.0.6 up1 incomplete"]);
    let answer = bench.explain("10.9.1.1");
    assert_eq!(answer.route.unwrap().prefix.to_string(), "10.0.0.0/8");
    let port =
        AddPort { interface: "up0".to_string(), address: vec!["192.168.0.1/30".to_string()], ..AddPort::default() };
    bench.ask(Request::AddPort(port)).unwrap();
    bench.settle();
    assert_eq!(bench.unicast(), all(true, true));
    bench.end();
}

fn neigh(address: &str, bridge: &str) -> AddNeigh {
    let mac = ctl::mac::Mac([2, 0, 0, 0, 0, 9]);
    AddNeigh { address: address.parse().unwrap(), mac, bridge: bridge.to_string() }
}

fn neighbours(bench: &mut Bench) -> Vec<String> {
    let (items, _) = bench.ask(Request::ShowNeigh(NeighFilter::default())).unwrap();
    let line = |item| match item {
        Item::Neigh(row) => format!("{} {} {}", row.address, row.bridge, row.state.as_str()),
        other => panic!("{other:?}"),
    };
    items.into_iter().map(line).collect()
}

#[test]
fn neighbours_are_set_listed_and_forgotten() {
    let mut bench = router();
    bench.ask(Request::AddNeigh(neigh("10.1.0.9", "pods"))).unwrap();
    bench.send("a", Mac::BROADCAST, Mac::new([2, 0, 0, 0, 0, 9]));
    let answer = bench.explain("10.8.1.1");
    let neighbour = &answer.neighbours[0];
    assert_eq!((neighbour.port.as_deref(), neighbour.mtu, neighbour.chosen), (Some("a"), 1500, true), "{answer:?}");
    assert_eq!(neighbour.state.map(|state| state.as_str()), Some("permanent"));
    assert!(neighbours(&mut bench).contains(&"10.1.0.9 pods permanent".to_string()));
    for (request, words) in [
        (Request::AddNeigh(neigh("10.1.0.1", "pods")), "10.1.0.1 is the switch's own address on pods"),
        (Request::AddNeigh(neigh("10.2.0.1", "pods")), "10.2.0.1 is on no subnet of pods: its subnets are 10.1.0.0/24"),
        (
            Request::AddNeigh(neigh("10.1.0.9", "pod")),
            "pod is no interface of the router: name a bridge with a gateway",
        ),
    ] {
        let text = bench.refusal(request);
        assert!(text.contains(words), "{text}");
    }
    let del = |address: &str| Request::DelNeigh(DelNeigh { address: address.parse().unwrap(), bridge: None });
    bench.ask(del("10.1.0.9")).unwrap();
    assert!(bench.refusal(del("10.1.0.77")).contains("no neighbour 10.1.0.77"));
    bench.ask(Request::FlushNeigh { bridge: Some("pods".to_string()) }).unwrap();
    bench.end();
}

#[test]
fn an_address_without_a_route_is_told_why() {
    let mut bench = router();
    bench.ask(del("0.0.0.0/0")).unwrap();
    let answer = bench.explain("11.1.1.1");
    assert!(answer.route.is_none());
    let notes = ["no route in VRF default leads to 11.1.1.1", "the route that comes nearest is 10.0.0.0/8"];
    assert_eq!(answer.notes, notes);
    assert!(bench.explain("127.0.0.1").notes[0].contains("a loopback address"));
    assert!(bench.explain("10.1.0.1").notes[0].contains("own address on pods"));
    bench.ask(add("11.0.0.0/8", "192.168.0.2,192.168.0.6")).unwrap();
    let open = bench.explain("11.1.1.1");
    assert!(open.neighbours.iter().all(|neighbour| !neighbour.chosen) && open.notes[0].contains("--from"));
    let chosen: std::collections::HashSet<_> = (0..32)
        .map(|host| {
            let answer = bench.explain_from("11.1.1.1", Some(&format!("10.1.0.{host}")));
            answer.neighbours.iter().find(|neighbour| neighbour.chosen).unwrap().address
        })
        .collect();
    assert_eq!(chosen.len(), 2, "flows are spread");
    bench.event(link(2, "up0", false));
    bench.event(link(3, "up1", false));
    bench.settle();
    let answer = bench.explain("11.1.1.1");
    assert!(answer.notes[1].contains("11.0.0.0/8 would, but none of its next hops can be reached"), "{answer:?}");
    bench.end();
}

#[test]
fn many_routes_are_loaded_in_pieces_listed_in_slices_and_forgotten() {
    const ROUTES: u64 = 100_000;
    let mut bench = router();
    let line = |number: u64| {
        let via = if number.is_multiple_of(3) { "192.168.0.2,192.168.0.6" } else { "10.1.0.9" };
        format!("{}.{}.{}.0/24 via {via}\n", 20 + (number >> 16), number >> 8 & 255, number & 255)
    };
    let began = Instant::now();
    for first in (0..ROUTES).step_by(1_000) {
        let text: String = (first..first + 1_000).map(line).collect();
        let Reply::Done(errors, done) = bench.control.handle(load(first + 1, &text)) else { panic!("no answer") };
        assert_eq!((errors.len(), done.affected), (0, Some(1_000)), "{errors:?}");
        bench.control.turn(bench.now);
    }
    let loaded = began.elapsed();
    bench.settle();
    let bad = "# a comment\n\n10.0.0.1/8 via 10.1.0.9\n30.0.0.0/8 via 10.1.0.9\nten\n20.0.0.0/24 blackhole\n";
    let (items, done) = bench.ask(load(7, bad)).unwrap();
    let errors: Vec<String> = items
        .into_iter()
        .map(|item| match item {
            Item::LoadError(error) => format!("{}: {}", error.line, error.message),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(done.affected, Some(1));
    assert!(errors[0].starts_with("9: ") && errors[0].contains("write \"10.0.0.0/8\""), "{errors:?}");
    assert!(errors[1].starts_with("11: \"to\" is \"ten\""), "{errors:?}");
    assert_eq!(errors[2], "12: 20.0.0.0/24 has a route already: remove it with del-route first");

    let Reply::Stream(mut stream) = bench.control.handle(Request::ShowRoutes(RouteFilter::default())) else {
        panic!("show-routes is a stream");
    };
    let (mut listed, mut items) = (0, Vec::new());
    loop {
        let progress = stream.next_chunk(&mut items, &ChunkContext { now: bench.now, items_max: 512 });
        assert!(items.len() <= 512);
        listed += items.drain(..).filter(|item| matches!(item, Item::Route(route) if route.active)).count() as u64;
        match progress {
            Progress::Done(_) => break,
            Progress::Failed(error) => panic!("{error}"),
            _ => {}
        }
    }
    assert_eq!(listed, ROUTES + 1 + 18);
    let answer = bench.ask(Request::Reload {}).unwrap().1;
    assert_eq!(answer.notes, ["100001 routes added at run time removed: the file does not name them"]);
    assert_eq!(names(&mut bench).len(), 18, "what is about to go is not listed");
    for _ in 0..200 {
        bench.settle();
    }
    assert_eq!(bench.follows("20.1.1.1").as_deref(), Some("0.0.0.0/0"));
    println!("{ROUTES} routes loaded in {loaded:?}");
    bench.end();
}

#[test]
fn ten_thousand_changes_do_not_hold_up_a_worker() {
    const CHANGES: usize = 10_000;
    let mut bench = router();
    bench.ask(Request::AddNeigh(neigh("192.168.0.2", "up0"))).unwrap();
    bench.send("up0", Mac::BROADCAST, Mac::new([2, 0, 0, 0, 0, 9]));
    let wire = |port: &str| Arc::clone(&bench.lab().wires[port][0]);
    let (input, output) = (wire("a"), wire("up0"));
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (mut worker, epoch, done) = (bench.workers.pop().unwrap(), bench.epoch, Arc::clone(&stop));
    let now_ns = bench.now.duration_since(epoch).as_nanos() as u64;
    // A worker that routes all the time: to 10.9.0.1, by a route that stays.
    let thread = std::thread::spawn(move || {
        let frame = etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0, 5], [2, 0, 0, 0, 0, 0xfe])
            .ipv4([10, 1, 0, 5], [10, 9, 0, 1], 64)
            .udp(1000, 2000);
        let mut bytes = Vec::new();
        frame.write(&mut bytes, &[0; 18]).unwrap();
        let (mut sent, mut got, mut idle) = (0u64, 0u64, 0);
        while !done.load(std::sync::atomic::Ordering::Relaxed) || (got < sent && idle < 1_000) {
            idle += 1;
            if sent - got < 64 && !done.load(std::sync::atomic::Ordering::Relaxed) {
                sent += u64::from(input.send(&bytes));
            }
            worker.poll_once(now_ns);
            while let Some(frame) = output.receive() {
                got += u64::from(frame.get(12..14) == Some(&[8, 0]));
                idle = 0;
                output.recycle(frame);
            }
        }
        (worker, sent, got)
    });
    let began = Instant::now();
    for change in 0..CHANGES {
        let to = format!("10.9.{}.0/24", change / 2 % 256);
        // The address that the worker looks up is in none of them, but they share their nodes with its route.
        let to = if to == "10.9.0.0/24" { "10.10.0.0/24".to_string() } else { to };
        let request = if change % 2 == 0 { add(&to, "10.1.0.9,192.168.0.6") } else { del(&to) };
        match bench.control.handle(request) {
            Reply::Done(..) => {}
            Reply::Error(error) => panic!("{error}"),
            Reply::Stream(_) => panic!("a stream"),
        }
        bench.control.turn(bench.now);
    }
    let took = began.elapsed();
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let (worker, sent, got) = thread.join().unwrap();
    bench.workers.push(worker);
    println!("{CHANGES} changes in {took:?}, {got} packets routed meanwhile");
    assert_eq!(sent, got, "every packet found its way");
    assert!(got > 1_000 && took < Duration::from_secs(10), "{got} packets in {took:?}");
    bench.end();
}

#[test]
fn drops_of_the_router_itself_are_named() {
    let mut bench = router();
    bench.control.shared.host_stats().port(PortId::ROUTER).drop(crate::stats::Drop::HostLimited, 3);
    let (items, _) = bench.ask(Request::ShowDrops { port: Some("router".to_string()) }).unwrap();
    let [Item::Drop(drop)] = items.as_slice() else { panic!("{items:?}") };
    assert_eq!((drop.reason.as_str(), drop.port.as_deref(), drop.count), ("host_limited", Some("router"), 3));
    let (items, _) = bench.ask(Request::ShowDrops { port: None }).unwrap();
    assert!(items.iter().any(|item| matches!(item, Item::Drop(drop) if drop.port.as_deref() == Some("router"))));
    bench.end();
}

#[test]
fn a_port_too_small_for_ipv6_is_named_while_an_interface_speaks_it() {
    let text = "[[bridge]]\nname = \"pods\"\ngateway = [\"10.1.0.1/24\", \"fd00:1::1/64\"]\n\
        [[port]]\ninterface = \"a\"\nbridge = \"pods\"\n\
        [[port]]\ninterface = \"up0\"\naddress = [\"fd00:2::1/64\"]\n\
        [[port]]\ninterface = \"up1\"\naddress = [\"192.168.0.5/30\"]\n";
    let mut bench = Bench::new(text, 1);
    let with_mtu = |ifindex, name: &str, mtu| {
        LinkEvent::Present(Link { ifindex, name: name.to_string(), up: true, mtu, mac: None })
    };
    for (ifindex, name) in [(1, "a"), (2, "up0"), (3, "up1")] {
        bench.event(with_mtu(ifindex, name, 1_279));
        bench.settle();
    }
    let said = |bench: &mut Bench, name: &str| -> Vec<String> {
        let notes = bench.port(name).notes;
        notes.into_iter().filter(|note| note.contains("too small for IPv6")).collect()
    };
    let [note] = &said(&mut bench, "a")[..] else { panic!("one note") };
    assert!(note.starts_with("mtu 1279 is too small for IPv6, and bridge pods has an IPv6 address: "), "{note}");
    assert!(note.contains("; run `ip link set a mtu 1280` and the same at its far end"), "{note}");
    assert_eq!((said(&mut bench, "up0").len(), said(&mut bench, "up1").len()), (1, 0), "IPv4 alone may be smaller");
    assert_eq!(bench.control.warned_mtus(), ["a", "up0"]);
    bench.event(with_mtu(1, "a", 1_280));
    bench.settle();
    assert!(said(&mut bench, "a").is_empty());
    assert_eq!(bench.control.warned_mtus(), ["up0"]);
    bench.end();
}

#[test]
fn the_host_s_counters_levels_and_limits_are_listed() {
    let mut bench = router();
    bench.control.shared.stats(0).refused(crate::path::PuntKind::Complain as usize).add(4);
    let (items, _) = bench.ask(Request::ShowHost {}).unwrap();
    let of = |name: &str| {
        let found = items.iter().find_map(|item| match item {
            Item::Host(status) if status.name == name => Some(status),
            _ => None,
        });
        found.map(|status| (status.kind, status.value, status.limit)).unwrap_or_else(|| panic!("no {name}: {items:?}"))
    };
    let icmp = crate::host::HostSettings::default().icmp;
    assert_eq!(of("complain_refused"), (HostValueKind::Counter, 4, None));
    assert_eq!(of("icmp_rate_per_s"), (HostValueKind::Limit, icmp.rate_per_s.into(), None));
    assert_eq!(of("icmp_recent"), (HostValueKind::Level, 0, Some(icmp.burst.into())));
    let (frames, room) = bench.control.shared.host().fill(crate::path::PuntKind::Local);
    assert_eq!(of("local_queue_frames"), (HostValueKind::Level, frames as u64, Some(room as u64)));
    let host = bench.control.router.host.lock();
    let (counters, neighbours) = (host.counters(), host.neighbour_counters());
    drop(host);
    assert_eq!(of("announced"), (HostValueKind::Counter, counters.announced, None));
    assert_eq!(of("neighbours_created").1, neighbours.created);
    let mut names: Vec<&str> = items
        .iter()
        .map(|item| match item {
            Item::Host(status) => status.name.as_str(),
            item => panic!("{item:?}"),
        })
        .collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), items.len(), "each name stands for one number");
    bench.end();
}
