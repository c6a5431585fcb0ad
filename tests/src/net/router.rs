//! A router between containers' subnets: its configuration, the kernel's router in its place, hosts made of raw
//! frames, and what the tools of a container say about routes.
//!
//! Subnet S is 10.S.0.0/24 and fd00:S::/64; the router is .254 (::fe) there with the MAC address 02:fe:00:00:00:S.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use ctl::protocol::PortState;

use super::packets::{self, Ends};
use super::process::{Output, installed, output};
use super::raw::RawSocket;
use super::stations::tagged;
use super::traffic::wait_reachable;
use super::{Container, Lab, Namespace, Switchd, skipped, stretched};

/// Number of the router in every subnet.
const GATEWAY: u8 = 254;

/// How long an answer to a raw frame may take.
const ANSWER: Duration = Duration::from_secs(5);

/// IPv4 address number `host` of a subnet.
pub const fn v4(subnet: u8, host: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, subnet, 0, host)
}

/// IPv6 address number `host` of a subnet.
pub const fn v6(subnet: u8, host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, subnet as u16, 0, 0, 0, 0, 0, host)
}

/// The router's IPv4 address in a subnet.
pub const fn gateway_v4(subnet: u8) -> Ipv4Addr {
    v4(subnet, GATEWAY)
}

/// The router's IPv6 address in a subnet.
pub const fn gateway_v6(subnet: u8) -> Ipv6Addr {
    v6(subnet, GATEWAY as u16)
}

/// The router's MAC address in a subnet, where its bridge is made by [`config`].
pub const fn gateway_mac(subnet: u8) -> [u8; 6] {
    [0x02, 0xfe, 0, 0, 0, subnet]
}

/// A MAC address as text.
pub fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// One bridge with a gateway, and its access ports.
#[derive(Clone, Copy, Debug)]
pub struct Net<'a> {
    /// Name of the bridge.
    pub name: &'a str,
    /// Number of the subnet.
    pub subnet: u8,
    /// Host ends in it.
    pub ports: &'a [&'a str],
    /// Further lines of the `[[bridge]]`, and of tables below it.
    pub keys: &'a str,
    /// The router has an IPv6 address there.
    pub ipv6: bool,
}

/// A bridge without further keys.
pub const fn net<'a>(name: &'a str, subnet: u8, ports: &'a [&'a str]) -> Net<'a> {
    Net { name, subnet, ports, keys: "", ipv6: true }
}

/// The bridges and their ports as a configuration.
pub fn config(nets: &[Net<'_>]) -> String {
    let mut text = String::new();
    for Net { name, subnet, ports, keys, ipv6 } in nets {
        let mac = mac_text(gateway_mac(*subnet));
        let mut gateway = format!("\"{}/24\"", gateway_v4(*subnet));
        if *ipv6 {
            gateway += &format!(", \"{}/64\"", gateway_v6(*subnet));
        }
        text += &format!("[[bridge]]\nname = \"{name}\"\ngateway = [{gateway}]\ngateway_mac = \"{mac}\"\n{keys}\n");
        for port in *ports {
            text += &format!("[[port]]\ninterface = \"{port}\"\nbridge = \"{name}\"\n");
        }
    }
    text
}

/// A static route.
#[derive(Clone, Debug)]
pub struct Route<'a> {
    /// Its prefix.
    pub to: &'a str,
    /// Its next hop.
    pub via: IpAddr,
    /// The bridge that the next hop is on, where its address does not say.
    pub bridge: Option<&'a str>,
}

impl Route<'_> {
    fn config(&self) -> String {
        let interface = self.bridge.map(|name| format!("interface = \"{name}\"\n")).unwrap_or_default();
        format!("[[route]]\nto = \"{}\"\nvia = \"{}\"\n{interface}", self.to, self.via)
    }

    fn command(&self) -> String {
        let device = self.bridge.map(|name| format!(" dev {name}")).unwrap_or_default();
        format!("route add {} via {}{device}\n", self.to, self.via)
    }
}

/// What routes in a lab.
#[derive(Debug)]
pub enum Router {
    /// The switch under test.
    Switch(Switchd),
    /// The kernel, where `SWT_ROUTER=linux` asks for it: to see whether a test or the switch is wrong.
    Kernel,
}

impl Router {
    /// Starts one with these bridges and routes, and waits until every port of the bridges is up. `rest` is further
    /// configuration, which the kernel's router does not get.
    ///
    /// # Panics
    /// When it does not start, or a port does not come up.
    pub fn start(lab: &Lab, nets: &[Net<'_>], routes: &[Route<'_>], rest: &str) -> Router {
        if std::env::var_os("SWT_ROUTER").is_some_and(|value| value == "linux") {
            linux(lab, nets);
            lab.host().ip_batch(&routes.iter().map(Route::command).collect::<String>());
            return Router::Kernel;
        }
        let routes: String = routes.iter().map(Route::config).collect();
        let switch = Switchd::start(lab, "", &format!("{}{routes}{rest}", config(nets)));
        for port in nets.iter().flat_map(|net| net.ports) {
            switch.wait_state(port, PortState::Up);
        }
        Router::Switch(switch)
    }

    /// The switch.
    ///
    /// # Panics
    /// When the kernel routes.
    pub fn switch(&self) -> &Switchd {
        match self {
            Router::Switch(switch) => switch,
            Router::Kernel => panic!("this test asks the switch itself; SWT_ROUTER=linux has none"),
        }
    }

    /// Ends it, which must go well.
    ///
    /// # Panics
    /// When it does not.
    pub fn stop(self) {
        if let Router::Switch(switch) = self {
            assert!(switch.stop().success(), "the switch ends well");
        }
    }
}

/// Waits until a container reaches the router's addresses of its subnet.
///
/// # Panics
/// When it does not.
pub fn wait_gateway(container: &Container) {
    let subnet = container.subnet().expect("a member of a subnet");
    wait_reachable(container, gateway_v4(subnet).into());
    wait_reachable(container, gateway_v6(subnet).into());
}

/// The kernel's bridges and router in place of switchd, in the lab's host namespace: what proves the tests themselves.
///
/// # Panics
/// When the kernel refuses.
pub fn linux(lab: &Lab, nets: &[Net<'_>]) {
    let host = lab.host();
    forward(host);
    for Net { name, subnet, ports, ipv6, .. } in nets {
        let mac = mac_text(gateway_mac(*subnet));
        let mut lines = format!("link add {name} address {mac} type bridge mcast_snooping 0\nlink set {name} up\n");
        lines += &format!("address add {}/24 dev {name}\n", gateway_v4(*subnet));
        if *ipv6 {
            lines += &format!("address add {}/64 dev {name} nodad\n", gateway_v6(*subnet));
        }
        ports.iter().for_each(|port| lines += &format!("link set {port} master {name}\n"));
        host.ip_batch(&lines);
    }
}

/// Makes a namespace forward packets of both versions, and tell of redirects and errors without limits.
///
/// # Panics
/// When the kernel refuses.
pub fn forward(space: &Namespace) {
    let keys = [
        ("ipv4/ip_forward", "1"),
        ("ipv6/conf/all/forwarding", "1"),
        ("ipv6/conf/default/forwarding", "1"),
        ("ipv4/conf/all/rp_filter", "0"),
        ("ipv4/conf/default/rp_filter", "0"),
        ("ipv6/conf/all/accept_dad", "0"),
        ("ipv6/conf/default/accept_dad", "0"),
        ("ipv4/icmp_ratelimit", "0"),
        ("ipv6/icmp/ratelimit", "0"),
    ];
    keys.iter().for_each(|(key, value)| space.sysctl(key, value));
}

/// Runs a program that may be missing, in a container: `None` after a line that says so.
pub fn tool(test: &str, container: &Container, line: &str) -> Option<Output> {
    let mut words = line.split_whitespace();
    let program = words.next().expect("a program's name");
    if !installed(program) {
        skipped(test, &format!("the part that needs {program}, which is not installed"));
        return None;
    }
    Some(output(container.space().command(program).args(words)))
}

/// What `ip route get` says of an address, exceptions from its cache included.
///
/// # Panics
/// When it fails.
pub fn route_get(container: &Container, to: IpAddr) -> String {
    container.space().ip(&format!("route get {to}"))
}

/// A host whose every frame is the test's: a container with a quiet link.
#[derive(Debug)]
pub struct RawHost {
    socket: RawSocket,
    /// Its MAC address.
    pub mac: [u8; 6],
    /// Its IPv4 address.
    pub v4: Ipv4Addr,
    /// Its IPv6 address.
    pub v6: Ipv6Addr,
    /// Number of its subnet.
    pub subnet: u8,
    /// VLAN id with which it sends everything.
    tag: Option<u16>,
}

impl RawHost {
    /// A host on the link of a container.
    pub fn new(container: &Container) -> RawHost {
        let socket = RawSocket::open(container.space(), "eth0");
        let subnet = container.subnet().expect("a member of a subnet");
        let (IpAddr::V4(v4), IpAddr::V6(v6)) = (container.v4(), container.v6()) else { unreachable!() };
        RawHost { socket, mac: container.mac(), v4, v6, subnet, tag: None }
    }

    /// Host number `number` of a subnet on the link of a container, in the VLAN `tag`.
    pub fn tagged(container: &Container, subnet: u8, number: u8, tag: u16) -> RawHost {
        let socket = RawSocket::open(container.space(), "eth0");
        let mac = [0x02, 0x98, 0, 0, subnet, number];
        RawHost { socket, mac, v4: v4(subnet, number), v6: v6(subnet, number.into()), subnet, tag: Some(tag) }
    }

    /// Its address of the version of `other`.
    pub fn like(&self, other: IpAddr) -> IpAddr {
        if other.is_ipv4() { self.v4.into() } else { self.v6.into() }
    }

    /// From this host to `to`, by way of the router.
    pub fn ends(&self, to: IpAddr) -> Ends {
        Ends { macs: [gateway_mac(self.subnet), self.mac], ips: (self.like(to), to) }
    }

    /// Sends a frame, with the host's tag if it has one.
    pub fn send(&self, frame: &[u8]) {
        match self.tag {
            Some(tag) => self.socket.send(&tagged(frame, tag)),
            None => self.socket.send(frame),
        }
    }

    /// The next frame, as it came over the wire.
    pub fn receive(&mut self, limit: Duration) -> Option<Vec<u8>> {
        self.socket.receive(limit)
    }

    /// The first frame that `is_it` accepts; those before it are forgotten. With a tag of its own, the host sees
    /// only frames with that VLAN id, without the tag.
    pub fn find(&mut self, limit: Duration, mut is_it: impl FnMut(&[u8]) -> bool) -> Option<Vec<u8>> {
        let deadline = Instant::now() + limit;
        loop {
            let frame = self.socket.receive(deadline.saturating_duration_since(Instant::now()))?;
            if let Some(frame) = self.untag(frame).filter(|frame| is_it(frame)) {
                return Some(frame);
            }
        }
    }

    /// As [`find`](Self::find), for a frame that must come; `what` names it.
    ///
    /// # Panics
    /// When it does not come.
    pub fn expect(&mut self, what: &str, is_it: impl FnMut(&[u8]) -> bool) -> Vec<u8> {
        let (address, found) = (self.v4, self.find(stretched(ANSWER), is_it));
        found.unwrap_or_else(|| panic!("{what} did not come to {address}"))
    }

    /// Everything that has arrived, or arrives until `quiet` passes without a frame.
    pub fn drain(&mut self, quiet: Duration) -> Vec<Vec<u8>> {
        self.socket.drain(quiet)
    }

    fn untag(&self, frame: Vec<u8>) -> Option<Vec<u8>> {
        match (self.tag, frame.get(12..16)) {
            (None, _) => Some(frame),
            (Some(tag), Some([0x81, 0x00, high, low])) if u16::from_be_bytes([high & 0xf, *low]) == tag => {
                Some([&frame[..12], &frame[16..]].concat())
            }
            _ => None,
        }
    }

    /// Asks for the router by ARP and by neighbour solicitation until it answers: now it knows this host.
    ///
    /// # Panics
    /// When it does not answer, or not from its MAC address.
    pub fn introduce(&mut self) {
        self.introduce_v4();
        let asks = packets::solicitation((self.mac, self.v6), gateway_v6(self.subnet));
        let answer = self.ask("the neighbour advertisement", &asks, |frame| {
            packets::icmp_of(frame).is_some_and(|message| message.kind == (136, 0))
        });
        assert_eq!(answer[6..12], gateway_mac(self.subnet));
    }

    /// The same with ARP alone.
    ///
    /// # Panics
    /// As [`introduce`](Self::introduce).
    pub fn introduce_v4(&mut self) {
        let (gateway, router) = (gateway_v4(self.subnet), gateway_mac(self.subnet));
        let asks = packets::arp([0xff; 6], 1, (self.mac, self.v4), ([0; 6], gateway));
        let answer = self.ask("ARP's answer", &asks, |frame| frame[12..14] == [8, 6] && frame[20..22] == [0, 2]);
        assert_eq!((&answer[22..28], &answer[28..32]), (&router[..], &gateway.octets()[..]), "the router's addresses");
    }

    /// Sends again every second until the answer comes.
    fn ask(&mut self, what: &str, asks: &[u8], mut is_it: impl FnMut(&[u8]) -> bool) -> Vec<u8> {
        for _ in 0..5 {
            self.send(asks);
            if let Some(answer) = self.find(stretched(Duration::from_secs(1)), &mut is_it) {
                return answer;
            }
        }
        panic!("{what} did not come to {}", self.v4)
    }
}
