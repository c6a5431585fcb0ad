//! The same packets through switchd and through the kernel's router: the same comes out on the same side.
//!
//! Three subnets, the third with an MTU of 1300 bytes. Behind each host a prefix of its own, where senders and
//! receivers live. What differs by design is listed in `listed` and not sent; what differs in form alone is in
//! [`Form`].
//!
//! `VETH_SEED=n` repeats a run; `VETH_FULL=1` sends a million packets.

use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use ctl::protocol::{AddNeigh, PortState, Request};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tests::net::packets::{self, Ends, IP, icmp_of, ip_length};
use tests::net::process::OnCore;
use tests::net::raw::RawSocket;
use tests::net::router::{config, forward, gateway_mac, gateway_v4, gateway_v6, mac_text, net, v4, v6};
use tests::net::switchd::UNMERGED;
use tests::net::{Lab, Namespace, Switchd, full, report, stretched};

use crate::listed::listed;
use crate::random::{MTU, SUBNETS, host_mac, random_packet, sender};

/// Packets of one block.
const BLOCK: usize = 40;

/// ICMP errors a second that both may send: the switch's limit is 1000.
const ERRORS_PER_SECOND: u32 = 600;

/// One side's sockets, and the namespaces that hold them.
struct Side {
    name: &'static str,
    sockets: Vec<RawSocket>,
}

struct Rig {
    sides: [Side; 2],
    markers: u32,
    errors: u32,
    start: Instant,
    /// `None`: another router of the kernel in its place.
    switch: Option<Switchd>,
    // Removed last.
    _spaces: Vec<Namespace>,
}

/// A cable from a host to one of the routers.
fn cable(host: &Namespace, name: &str, router: &Namespace, end: &str, subnet: usize) {
    let (mtu, mac, to) = (MTU[subnet], mac_text(host_mac(subnet)), router.name());
    host.ip(&format!("link add {name} mtu {mtu} address {mac} type veth peer name {end} mtu {mtu} netns {to}"));
    host.ip(&format!("link set {name} arp off up"));
}

/// The kernel's router on interfaces `end` with their numbers: the switch's addresses, routes and neighbours.
fn build_kernel(router: &Namespace, end: &str) {
    forward(router);
    // The limits of ICMP messages, where they belong to a namespace.
    for key in ["icmp_msgs_per_sec", "icmp_msgs_burst"] {
        let _ = router.run(|| std::fs::write(format!("/proc/sys/net/ipv4/{key}"), "1000000"));
    }
    router.sysctl("ipv4/conf/all/send_redirects", "0");
    router.sysctl("ipv4/conf/default/send_redirects", "0");
    for subnet in 0..SUBNETS {
        let (number, name, mac) = (subnet as u8 + 1, format!("{end}{subnet}"), mac_text(host_mac(subnet)));
        router.sysctl(&format!("ipv4/conf/{name}/send_redirects"), "0");
        router.sysctl(&format!("ipv4/conf/{name}/rp_filter"), "0");
        let (host_v4, host_v6) = (v4(number, 1), v6(number, 1));
        router.ip_batch(&format!(
            "link set {name} address {} up\naddress add {}/24 dev {name}\naddress add {}/64 dev {name} nodad\n\
             neigh add {host_v4} lladdr {mac} dev {name} nud permanent\n\
             neigh add {host_v6} lladdr {mac} dev {name} nud permanent\n\
             route add 10.{}.0.0/16 via {host_v4}\nroute add fd64:{number}::/32 via {host_v6}\n",
            mac_text(gateway_mac(number)),
            gateway_v4(number),
            gateway_v6(number),
            100 + number,
        ));
    }
}

fn build_switch(lab: &Lab) -> Switchd {
    let (names, mut text): (Vec<String>, String) =
        ((0..SUBNETS).map(|index| format!("p{index}")).collect(), String::new());
    for (subnet, name) in names.iter().enumerate() {
        let (number, bridge, mac) = (subnet as u8 + 1, format!("net{subnet}"), mac_text(host_mac(subnet)));
        let ports = [name.as_str()];
        let silent = tests::net::router::Net { keys: "redirects = false", ..net(&bridge, number, &ports) };
        text += &config(&[silent]);
        text += &format!("[[fdb]]\nmac = \"{mac}\"\nbridge = \"{bridge}\"\nport = \"{name}\"\n");
        let (host_v4, host_v6) = (v4(number, 1), v6(number, 1));
        text += &format!("[[route]]\nto = \"10.{}.0.0/16\"\nvia = \"{host_v4}\"\n", 100 + number);
        text += &format!("[[route]]\nto = \"fd64:{number}::/32\"\nvia = \"{host_v6}\"\n");
    }
    let switch = Switchd::start(lab, &format!("workers = [0]\n{UNMERGED}"), &text);
    for (subnet, name) in names.iter().enumerate() {
        switch.wait_state(name, PortState::Up);
        let number = subnet as u8 + 1;
        for address in [IpAddr::from(v4(number, 1)), v6(number, 1).into()] {
            let (mac, bridge) = (mac_text(host_mac(subnet)).parse().expect("a MAC address"), format!("net{subnet}"));
            switch.tell(Request::AddNeigh(AddNeigh { address, mac, bridge }));
        }
    }
    switch
}

impl Rig {
    fn build(lab: &mut Lab, with_switch: bool) -> Rig {
        let spaces: Vec<Namespace> = (0..=SUBNETS).map(|_| lab.space()).collect();
        let kernel = &spaces[SUBNETS];
        if with_switch {
            lab.host().sysctl("ipv6/conf/default/disable_ipv6", "1");
        }
        kernel.sysctl("ipv6/conf/default/accept_dad", "0");
        for (subnet, host) in spaces[..SUBNETS].iter().enumerate() {
            host.sysctl("ipv6/conf/default/disable_ipv6", "1");
            cable(host, "sw", lab.host(), &format!("p{subnet}"), subnet);
            lab.host().ip(&format!("link set p{subnet} up"));
            cable(host, "kr", kernel, &format!("k{subnet}"), subnet);
        }
        build_kernel(kernel, "k");
        let switch = with_switch.then(|| build_switch(lab));
        if !with_switch {
            build_kernel(lab.host(), "p");
        }
        let sides = [("switchd", "sw"), ("the kernel", "kr")].map(|(name, link)| {
            let open = |space| RawSocket::open(space, link);
            Side { name, sockets: spaces[..SUBNETS].iter().map(open).collect() }
        });
        Rig { sides, markers: 0, errors: 0, start: Instant::now(), switch, _spaces: spaces }
    }
}

/// What of a packet that came out counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Form {
    /// Forwarded, to the byte: Ethernet header and IP packet.
    Packet(Vec<u8>),
    /// A router's own message: type, code, rest, destination; of an error the quoted header and eight bytes, of an echo
    /// all of it. TTL, identification, precedence and the quote's length are its own affair.
    Message((u8, u8), u32, Vec<u8>, Vec<u8>),
}

impl Form {
    /// `None` for what routers and hosts say unasked.
    fn of(frame: &[u8]) -> Option<Form> {
        if !packets::is_ip(frame) || packets::is_discovery(frame) {
            return None;
        }
        let is_v4 = frame[12..14] == [8, 0];
        let range = |at: usize, len: usize| frame.get(IP + at..IP + at + len).unwrap_or_default();
        let (from, to) = if is_v4 { (range(12, 4), range(16, 4)) } else { (range(8, 16), range(24, 16)) };
        let own = (1..=SUBNETS as u8)
            .any(|number| from == gateway_v4(number).octets() || from == gateway_v6(number).octets());
        // Multicast listener reports of the kernel's router (RFC 3810 5.2.14).
        if to == "ff02::16".parse::<Ipv6Addr>().expect("an address").octets() {
            return None;
        }
        match icmp_of(frame).filter(|_| own) {
            Some(message) if matches!(message.kind.0, 0 | 129) => {
                Some(Form::Message(message.kind, message.rest, to.to_vec(), message.body))
            }
            Some(message) => {
                let header =
                    if is_v4 { usize::from(message.body.first().map_or(0, |byte| byte & 0xf)) * 4 } else { 40 };
                let quoted = message.body[..message.body.len().min(header + 8)].to_vec();
                Some(Form::Message(message.kind, message.rest, to.to_vec(), quoted))
            }
            None => Some(Form::Packet(frame[..IP + ip_length(frame)?].to_vec())),
        }
    }

    fn is_error(&self) -> bool {
        matches!(self, Form::Message((kind, _), ..) if !matches!(kind, 0 | 129))
    }
}

/// What ends a block: in the name of somebody behind each host, an echo request to the router and a packet out of TTL.
/// All that a router has to say is there when it has answered both, which may be two trades of its.
fn markers(from: usize, number: u32) -> Vec<Vec<u8>> {
    let (mark, [.., high, low]) = (mark(number), number.to_be_bytes());
    let name = u16::from_be_bytes([high | 0x80, low]);
    let both = |subnet: usize| {
        let ips = (sender(4, subnet, name), IpAddr::from(gateway_v4(from as u8 + 1)));
        let ends = Ends { macs: [gateway_mac(from as u8 + 1), host_mac(from)], ips };
        let beyond = Ends { ips: (ips.0, sender(4, (from + 1) % SUBNETS, 1)), ..ends };
        let mut late = packets::udp(&beyond, (9, 9), &mark);
        late[IP + 8] = 1;
        packets::seal(&mut late);
        [late, packets::echo_request(&ends, 0xa5a5, 1, &mark)]
    };
    (0..SUBNETS).flat_map(both).collect()
}

/// What a marker ends with.
fn mark(number: u32) -> Vec<u8> {
    [&[0xa5; 12][..], &number.to_be_bytes()].concat()
}

impl Side {
    /// Sends packets from one host; what came out, by host, in a form that can be compared.
    fn pass(&mut self, from: usize, block: &[Vec<u8>], number: u32) -> Vec<Vec<Form>> {
        for frame in block.iter().chain(&markers(from, number)) {
            // A mutated frame may be longer than the link takes; it is so on both sides.
            let _ = self.sockets[from].try_send(frame);
        }
        let mut forms = Vec::new();
        for (index, socket) in self.sockets.iter_mut().enumerate() {
            let deadline = Instant::now() + stretched(Duration::from_secs(5));
            let (mut got, mut marks) = (Vec::new(), 0);
            while marks < 2 {
                let frame = socket.receive(deadline.saturating_duration_since(Instant::now()));
                let frame = frame.unwrap_or_else(|| panic!("{}: no marker from {from} at {index}", self.name));
                if frame.ends_with(&mark(number)) {
                    marks += 1;
                } else {
                    got.extend(Form::of(&frame));
                }
            }
            got.sort();
            forms.push(got);
        }
        forms
    }
}

/// What came out on one side only, by host.
fn difference(ours: &[Vec<Form>], theirs: &[Vec<Form>]) -> String {
    let mut text = String::new();
    for (host, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        for (name, these, those) in [("switchd", ours, theirs), ("the kernel", theirs, ours)] {
            let mut those = those.clone();
            for form in these {
                match those.iter().position(|other| other == form) {
                    Some(at) => drop(those.swap_remove(at)),
                    None => text += &format!("to host {host} by {name} alone: {form:02x?}\n"),
                }
            }
        }
    }
    text
}

impl Rig {
    /// True if both sides made the same of a block.
    fn agree(&mut self, from: usize, block: &[Vec<u8>]) -> Result<usize, [Vec<Vec<Form>>; 2]> {
        self.markers += 1;
        let number = self.markers;
        let [ours, theirs] = self.sides.each_mut().map(|side| side.pass(from, block, number));
        let came = theirs.iter().map(Vec::len).sum();
        let errors: usize = theirs.iter().flatten().filter(|form| form.is_error()).count();
        self.errors += (errors + SUBNETS) as u32;
        // Not more errors than the switch allows itself.
        let due = self.start + Duration::from_secs(self.errors.into()) / ERRORS_PER_SECOND;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if ours == theirs { Ok(came) } else { Err([ours, theirs]) }
    }

    /// Sends one block through both; panics where they differ, naming the packet.
    fn compare(&mut self, from: usize, block: &[Vec<u8>], context: &str) -> usize {
        let differing = match self.agree(from, block) {
            Ok(came) => return came,
            Err(differing) => differing,
        };
        for frame in block {
            if let Err([ours, theirs]) = self.agree(from, std::slice::from_ref(frame)) {
                let came = difference(&ours, &theirs);
                let whole = difference(&differing[0], &differing[1]);
                panic!(
                    "{context}: from host {from}\n{frame:02x?}\n{came}its block:\n{whole}{}",
                    self.switch.as_ref().map(Switchd::losses).unwrap_or_default()
                );
            }
        }
        let [ours, theirs] = &differing;
        let came = difference(ours, theirs);
        panic!("{context}: from host {from}, a whole block, but no packet of it by itself:\n{came}");
    }
}

/// What was sent, what came out, and what was not sent because its difference is listed.
type Counts = [usize; 3];

/// Sends packets through both routers until so many are sent; panics where they differ.
fn run(rig: &mut Rig, seed: u64, wanted: usize) -> Counts {
    // Frames of a sender that changes its core could overtake one another inside the kernel.
    let _core = OnCore::first();
    let mut random = StdRng::seed_from_u64(seed);
    let [mut sent, mut came, mut skipped] = [0; 3];
    while sent < wanted {
        let from = random.random_range(0..SUBNETS);
        let mut block = Vec::new();
        while block.len() < BLOCK {
            let frame = random_packet(&mut random, from);
            match listed(&frame) {
                None => block.push(frame),
                Some(_) => skipped += 1,
            }
        }
        came += rig.compare(from, &block, &format!("VETH_SEED={seed}, after {sent} packets"));
        sent += block.len();
    }
    [sent, came, skipped]
}

#[test]
fn switchd_routes_as_the_kernel_does() {
    let Some(mut lab) = Lab::alone("switchd_routes_as_the_kernel_does") else { return };
    let mut rig = Rig::build(&mut lab, true);
    let seed = std::env::var("VETH_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(rand::random);
    let start = Instant::now();
    let [sent, came, skipped] = run(&mut rig, seed, if full() { 1_000_000 } else { 5_000 });
    report(&format!(
        "router differential: seed {seed}, {sent} packets in, {came} out ({} errors), equal; {skipped} not sent, whose \
         difference is listed; {:.1} s",
        rig.errors,
        start.elapsed().as_secs_f64()
    ));
    assert!(came > sent / 2 && rig.errors as usize > sent / 50, "it must compare something");
    assert!(rig.switch.is_some_and(|switch| switch.stop().success()));
}

/// Two routers of the kernel agree, and one with another MTU is found out.
#[test]
fn the_kernels_router_is_compared_with_itself() {
    let Some(mut lab) = Lab::alone("the_kernels_router_is_compared_with_itself") else { return };
    let mut rig = Rig::build(&mut lab, false);
    let [sent, came, _] = run(&mut rig, 1, 1_000);
    assert!(came > sent / 2, "{came} of {sent}");
    lab.host().ip("link set p2 mtu 1280");
    let differs = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&mut rig, 2, 10_000)));
    assert!(differs.is_err(), "another MTU makes a difference");
}
