//! The DHCP server: clients of three makes, what a client alone cannot show, and leases that outlive the switch.

use std::collections::HashSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ctl::protocol::{LeaseEntry, PortState, Request};
use tests::net::capture::{Capture, tshark_complaints};
use tests::net::packets::{self, Ends, IP, ip_length};
use tests::net::process::{installed, wait_for};
use tests::net::router::{Net, RawHost, config, gateway_mac, gateway_v4, net, v4};
use tests::net::{Container, Lab, Link, Switchd, skipped, stretched};

use crate::dhcp_clients::{Client, Make};

/// What the bridge leases: few addresses, and one to its second container alone.
const KEYS: &str = r#"
[bridge.dhcp]
range = ["10.1.0.100", "10.1.0.120"]
lease_seconds = 60
dns = ["10.1.0.53", "10.1.0.54"]
domain = "pods.example"
ntp = ["10.1.0.123"]
mtu = 1400
[[bridge.dhcp.static]]
mac = "02:99:00:00:00:02"
address = "10.1.0.50"
hostname = "second"
"#;

/// What every client must be told.
const OPTIONS: [&str; 6] = [
    "router=10.1.0.254 ",
    "dns=10.1.0.53 10.1.0.54 ",
    "mtu=1400 ",
    "lease=60 ",
    "domain=pods.example ",
    "ntp=10.1.0.123 ",
];

/// A container whose link is up and has no address.
fn bare(lab: &mut Lab, end: &str) -> Container {
    lab.member(1, end, &Link { bare: true, ..Link::default() })
}

fn bridge<'a>(ports: &'a [&'a str]) -> Net<'a> {
    Net { keys: KEYS, ..net("one", 1, ports) }
}

fn start(lab: &Lab, name: &str, ports: &[&str]) -> Switchd {
    let state = format!("state_dir = \"{}\"", lab.files().join("state").display());
    let switch = Switchd::start_named(lab, name, &state, &config(&[bridge(ports)]));
    ports.iter().for_each(|port| drop(switch.wait_state(port, PortState::Up)));
    switch
}

fn leases(switch: &Switchd) -> Vec<LeaseEntry> {
    switch.ask(Request::ShowDhcp { bridge: None }).expect("show-dhcp is answered")
}

/// The address after `ip=` in what a hook wrote.
fn address_in(line: &str) -> Ipv4Addr {
    let word = line.split_whitespace().find_map(|word| word.strip_prefix("ip="));
    word.and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("no address: {line}"))
}

fn is_in_range(address: Ipv4Addr) -> bool {
    (v4(1, 100)..=v4(1, 120)).contains(&address)
}

/// One answered ping to the router, from the leased address.
fn reaches_router(client: &Client) {
    wait_for(&format!("{:?} reaches the router", client.make), Duration::from_secs(5), || {
        (tests::net::traffic::ping(&client.container, gateway_v4(1).into(), 56, 1) == 1).then_some(())
    });
}

/// Gets, renews and gives back; the address.
fn life_of_a_lease(client: &mut Client) -> Ipv4Addr {
    let [bound, renewed, released] = client.make.words();
    let line = client.wait(0, bound);
    let address = address_in(&line);
    assert!(is_in_range(address), "{line}");
    OPTIONS.iter().for_each(|option| assert!(line.contains(option), "{:?}: no {option:?} in {line:?}", client.make));
    reaches_router(client);
    let seen = client.events().len();
    client.renew();
    let line = client.wait(seen, renewed);
    assert_eq!(address_in(&line), address, "{line}");
    reaches_router(client);
    let seen = client.events().len();
    client.release();
    client.wait(seen, released);
    address
}

/// A container and a client of each make that is installed.
fn clients(test: &str, lab: &mut Lab) -> Vec<Client> {
    let mut clients = Vec::new();
    for (make, end) in Make::ALL.into_iter().zip(["a0", "b0", "c0"]) {
        if installed(make.program()) {
            let container = bare(lab, end);
            clients.push(Client::start(lab, make, container));
        } else {
            skipped(test, &format!("the part that needs {}, which is not installed", make.program()));
        }
    }
    clients
}

/// The hooks and the options of these tests are right: another server does as they expect.
#[test]
fn clients_understand_the_server_of_busybox() {
    let test = "clients_understand_the_server_of_busybox";
    let Some(mut lab) = Lab::new(test) else { return };
    if !installed("busybox") {
        return skipped(test, "needs busybox, which is not installed");
    }
    // The number of the static lease is nobody's here.
    let _ = (lab.space(), lab.space());
    let clients = clients(test, &mut lab);
    let ends: Vec<&str> = clients.iter().map(|client| client.container.host_end()).collect();
    tests::net::router::linux(&lab, &[net("one", 1, &ends)]);
    let leases = lab.files().join("leases");
    fs::write(&leases, "").expect("a file can be written");
    let text = format!(
        "start 10.1.0.100\nend 10.1.0.120\ninterface one\nlease_file {0}\npidfile {0}.pid\nmin_lease 1\n\
         option subnet 255.255.255.0\noption router 10.1.0.254\noption dns 10.1.0.53 10.1.0.54\noption mtu 1400\n\
         option domain pods.example\noption ntpsrv 10.1.0.123\noption lease 60\n",
        leases.display()
    );
    let file = lab.files().join("udhcpd.conf");
    fs::write(&file, text).expect("a file can be written");
    let mut command = lab.host().command("busybox");
    command.arg("udhcpd").arg("-f").arg(&file);
    let _server = tests::net::process::Process::start(command, &lab.files().join("udhcpd.log"));
    live_all(clients);
}

/// Every client at once; their addresses differ.
fn live_all(mut clients: Vec<Client>) {
    let addresses: Vec<Ipv4Addr> = std::thread::scope(|scope| {
        let lives: Vec<_> = clients.iter_mut().map(|client| scope.spawn(|| life_of_a_lease(client))).collect();
        lives.into_iter().map(|life| life.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    assert_eq!(addresses.iter().collect::<HashSet<_>>().len(), clients.len(), "{addresses:?}");
}

#[test]
fn clients_of_three_makes_get_renew_and_release_leases() {
    let test = "clients_of_three_makes_get_renew_and_release_leases";
    let Some(mut lab) = Lab::new(test) else { return };
    let _ = (lab.space(), lab.space());
    let watcher = bare(&mut lab, "w0");
    let capture = Capture::start(&watcher);
    let clients = clients(test, &mut lab);
    let captures: Vec<Capture> = clients.iter().map(|client| Capture::start(&client.container)).collect();
    let mut ends: Vec<&str> = clients.iter().map(|client| client.container.host_end()).collect();
    ends.push("w0");
    let switch = start(&lab, "control", &ends);
    live_all(clients);
    wait_for("all leases are given back", Duration::from_secs(5), || {
        leases(&switch).iter().all(|lease| lease.state != "bound").then_some(())
    });
    // Clients read with raw sockets: a checksum that is not finished or not there would not show everywhere.
    for capture in captures.into_iter().chain([capture]) {
        let frames = capture.stop();
        let from_server = |frame: &&Vec<u8>| frame.get(IP + 9) == Some(&17) && frame[IP + 20..IP + 22] == [0, 67];
        assert!(frames.iter().filter(from_server).all(|frame| frame[IP + 26..IP + 28] != [0, 0]), "no checksum");
        if let Some(lines) = tshark_complaints(test, &frames, lab.files()) {
            assert!(lines.is_empty(), "tshark finds bad frames:\n{}", lines.join("\n"));
        }
    }
    assert!(switch.stop().success());
}

/// A message of a client without an address: its kind (option 53) and further options.
fn message(host: &RawHost, kind: u8, transaction: u8, options: &[u8]) -> Vec<u8> {
    let mut payload = vec![1, 1, 6, 0, transaction, 2, 3, 4, 0, 0, 0x80, 0];
    payload.resize(28, 0);
    payload.extend(host.mac);
    payload.resize(236, 0);
    payload.extend([0x63, 0x82, 0x53, 0x63, 53, 1, kind]);
    payload.extend(options);
    payload.push(255);
    payload.resize(payload.len().max(300), 0);
    let ips: (IpAddr, IpAddr) = (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::BROADCAST.into());
    packets::udp(&Ends { macs: [[0xff; 6], host.mac], ips }, (68, 67), &payload)
}

/// A server's message: its kind and the address for the client. `None` for other frames and transactions.
fn answer(frame: &[u8], transaction: u8) -> Option<(u8, Ipv4Addr)> {
    let from_server = frame.get(12..14)? == [8, 0] && frame.get(IP + 9)? == &17 && frame.get(34..36)? == [0, 67];
    let payload = frame.get(IP + 28..IP + ip_length(frame)?).filter(|_| from_server)?;
    let mut options = payload.get(240..).filter(|_| payload[0] == 2 && payload[4] == transaction)?;
    while let [kind, length, rest @ ..] = options {
        if *kind == 53 {
            let address: [u8; 4] = payload[16..20].try_into().ok()?;
            return Some((*rest.first()?, address.into()));
        }
        options = rest.get(usize::from(*length)..)?;
    }
    None
}

/// Option 50 (the address asked for) and, if one is named, option 54 (the server).
fn asks_for(address: Ipv4Addr, server: Option<Ipv4Addr>) -> Vec<u8> {
    let mut options = [&[50, 4], &address.octets()[..]].concat();
    options.extend(server.iter().flat_map(|server| [&[54, 4], &server.octets()[..]].concat()));
    options
}

const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const ACK: u8 = 5;
const NAK: u8 = 6;

/// Sends until the answer to the transaction comes: the first questions may find the switch still starting.
fn ask(host: &mut RawHost, kind: u8, transaction: u8, options: &[u8]) -> (u8, Ipv4Addr) {
    for _ in 0..5 {
        host.send(&message(host, kind, transaction, options));
        let heard = host.find(stretched(Duration::from_secs(2)), |frame| answer(frame, transaction).is_some());
        if let Some(heard) = heard.and_then(|frame| answer(&frame, transaction)) {
            return heard;
        }
    }
    panic!("no answer to DHCP message {kind} with {options:?}")
}

/// Discover, request, acknowledgement: the address.
fn lease(host: &mut RawHost, transaction: u8) -> Ipv4Addr {
    let (kind, offered) = ask(host, DISCOVER, transaction, &[]);
    assert_eq!(kind, OFFER);
    let (kind, leased) = ask(host, REQUEST, transaction + 1, &asks_for(offered, Some(gateway_v4(1))));
    assert_eq!((kind, leased), (ACK, offered));
    leased
}

#[test]
fn wrong_requests_are_refused_and_reserved_addresses_kept() {
    let Some(mut lab) = Lab::new("wrong_requests_are_refused_and_reserved_addresses_kept") else { return };
    let containers = ["a0", "b0", "c0"].map(|end| lab.member(1, end, &Link::quiet()));
    let switch = start(&lab, "control", &["a0", "b0", "c0"]);
    let [mut a, mut b, mut c] = containers.each_ref().map(RawHost::new);
    // RFC 2131 4.3.2: who comes back to another subnet is refused.
    assert_eq!(ask(&mut a, REQUEST, 10, &asks_for(Ipv4Addr::new(192, 168, 9, 9), None)), (NAK, Ipv4Addr::UNSPECIFIED));
    let first = lease(&mut a, 20);
    assert!(is_in_range(first), "{first}");
    // Another's address, whether it is leased or reserved.
    assert_eq!(ask(&mut c, REQUEST, 30, &asks_for(first, Some(gateway_v4(1)))).0, NAK);
    assert_eq!(ask(&mut c, REQUEST, 31, &asks_for(v4(1, 50), Some(gateway_v4(1)))).0, NAK);
    assert_eq!(lease(&mut b, 40), v4(1, 50), "by its MAC address");
    // What it has is confirmed.
    assert_eq!(ask(&mut a, REQUEST, 50, &asks_for(first, None)), (ACK, first));
    // A request that chose another server is none of ours (RFC 2131 4.3.2): no answer.
    c.send(&message(&c, REQUEST, 60, &asks_for(v4(1, 110), Some(v4(1, 9)))));
    assert_eq!(c.find(stretched(Duration::from_millis(300)), |frame| answer(frame, 60).is_some()), None);
    let bound: Vec<Ipv4Addr> = leases(&switch).into_iter().map(|lease| lease.address).collect();
    assert!(bound.contains(&first) && bound.contains(&v4(1, 50)), "{bound:?}");
    // The leased addresses are neighbours like others: the answer to a ping finds them.
    a.v4 = first;
    a.introduce_v4();
    a.send(&packets::echo_request(&a.ends(gateway_v4(1).into()), 1, 1, b"leased"));
    let echo = a.expect("an echo", |frame| frame.ends_with(b"leased") && frame[6..12] == gateway_mac(1));
    assert_eq!(echo[IP + 16..IP + 20], first.octets());
    assert!(switch.stop().success());
}

#[test]
fn leases_outlive_the_switch() {
    let Some(mut lab) = Lab::new("leases_outlive_the_switch") else { return };
    let containers = ["a0", "b0"].map(|end| lab.member(1, end, &Link::quiet()));
    let switch = start(&lab, "first", &["a0", "b0"]);
    let mut host = RawHost::new(&containers[0]);
    let mine = lease(&mut host, 1);
    assert!(switch.stop().success());
    let switch = start(&lab, "second", &["a0", "b0"]);
    assert!(leases(&switch).iter().any(|lease| lease.address == mine), "after a stop: {:?}", leases(&switch));
    // A client that was away is confirmed; a new one gets another address.
    assert_eq!(ask(&mut host, REQUEST, 10, &asks_for(mine, None)), (ACK, mine));
    let mut other = RawHost::new(&containers[1]);
    other.mac = [2, 0x55, 0, 0, 0, 1];
    let theirs = lease(&mut other, 20);
    assert_ne!(theirs, mine);
    // Without any warning: what was acknowledged is on disk.
    switch.kill();
    let switch = start(&lab, "third", &["a0", "b0"]);
    let kept: Vec<Ipv4Addr> = leases(&switch).into_iter().map(|lease| lease.address).collect();
    assert!(kept.contains(&mine) && kept.contains(&theirs), "after a kill: {kept:?}");
    switch.kill();
    damaged_store_is_set_aside(&lab, &mut host);
}

/// A store that is none: set aside whole, said, and leasing goes on.
fn damaged_store_is_set_aside(lab: &Lab, host: &mut RawHost) {
    let state = lab.files().join("state");
    let files =
        || -> Vec<_> { fs::read_dir(&state).into_iter().flatten().flatten().map(|entry| entry.path()).collect() };
    let [store] = &files()[..] else { panic!("one file of state, not {:?}", files()) };
    let rubbish = b"this was never a store of leases".repeat(200);
    fs::write(store, &rubbish).expect("a file can be written");
    let switch = start(lab, "fourth", &["a0", "b0"]);
    let aside = files().into_iter().find(|path| path != store);
    let aside = aside.unwrap_or_else(|| panic!("nothing is set aside; the log:\n{}", switch.log()));
    assert_eq!(fs::read(&aside).expect("it can be read"), rubbish, "as it was");
    let said = switch.log().lines().any(|line| line.contains(&aside.display().to_string()) && line.contains("leases"));
    assert!(said, "one line names it:\n{}", switch.log());
    assert!(is_in_range(lease(host, 50)));
    assert!(switch.stop().success());
}
