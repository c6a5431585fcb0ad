//! The router's commands.

use std::net::IpAddr;

use clap::Subcommand;
use ctl::mac::Mac;
use ctl::protocol::{
    AddNeigh, AddRoute, DelNeigh, DelRoute, Flow, Hop, NeighFilter, NeighState, Request, RouteFilter, RouteGet,
    RouteType,
};

/// IP protocol numbers (IANA).
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Commands about routes, neighbours and leases.
#[derive(Clone, Debug, Subcommand)]
pub enum Routing {
    /// List routes, a line each as `ip route` prints them.
    ShowRoutes {
        /// Only of this VRF; the default one is called default.
        #[arg(long, value_name = "NAME")]
        vrf: Option<String>,
        /// Only routes to this prefix and within.
        #[arg(long, value_name = "PREFIX")]
        prefix: Option<String>,
        /// Only routes with this next hop.
        #[arg(long, value_name = "IP")]
        via: Option<IpAddr>,
        /// Only of this type: unicast, connected, local, broadcast, blackhole, unreachable or prohibit.
        #[arg(long = "type", value_name = "TYPE", value_parser = route_type)]
        kind: Option<RouteType>,
        /// IPv4 only.
        #[arg(short = '4', conflicts_with = "v6")]
        v4: bool,
        /// IPv6 only.
        #[arg(short = '6')]
        v6: bool,
    },
    /// Explain where packets to an address go, and why.
    RouteGet {
        /// Destination.
        to: IpAddr,
        /// Routing table; the default one unless named.
        #[arg(long, value_name = "NAME")]
        vrf: Option<String>,
        /// Source of the flow whose next hop is wanted, where a route has several.
        #[arg(long, value_name = "IP")]
        from: Option<IpAddr>,
        /// Ports of that flow if it is TCP, source first.
        #[arg(long, value_name = "PORT:PORT", value_parser = ports, requires = "from", conflicts_with = "udp")]
        tcp: Option<(u16, u16)>,
        /// The same for UDP.
        #[arg(long, value_name = "PORT:PORT", value_parser = ports, requires = "from")]
        udp: Option<(u16, u16)>,
    },
    /// Add a route until the next reload; what is to stay belongs into the configuration.
    AddRoute {
        /// Destinations, like 10.9.0.0/16.
        prefix: String,
        /// Next hop, or several with commas between them; *N behind one gives it N parts of the traffic.
        #[arg(long, value_name = "IP[*N]", value_parser = hop, value_delimiter = ',')]
        via: Vec<Hop>,
        /// Bridge or routed port that the next hops are on: needed for link-local ones.
        #[arg(long, value_name = "NAME")]
        dev: Option<String>,
        /// In place of next hops: blackhole, unreachable or prohibit.
        #[arg(long = "type", value_name = "TYPE", value_parser = route_type)]
        kind: Option<RouteType>,
        /// Routing table; the default one unless named.
        #[arg(long, value_name = "NAME")]
        vrf: Option<String>,
    },
    /// Remove a route; one of the configuration comes back with the next reload.
    DelRoute {
        /// Its prefix.
        prefix: String,
        /// Routing table; the default one unless named.
        #[arg(long, value_name = "NAME")]
        vrf: Option<String>,
    },
    /// Add many routes from a file, a line each, until the next reload.
    ///
    /// A line is `PREFIX via IP[,IP...] [vrf NAME]`, or `PREFIX blackhole` (unreachable, prohibit). Empty lines and
    /// those that begin with # say nothing. Lines that are wrong are named on stderr; the others are applied all the
    /// same.
    LoadRoutes {
        /// File to read; - for the standard input.
        file: std::path::PathBuf,
    },
    /// List neighbours (ARP and ND entries).
    ShowNeigh {
        /// Only on this bridge or routed port.
        #[arg(long, value_name = "NAME")]
        bridge: Option<String>,
        /// Only in this state: incomplete, reachable, stale, delay, probe, failed or permanent.
        #[arg(long, value_name = "STATE", value_parser = neigh_state)]
        state: Option<NeighState>,
    },
    /// Set the MAC address of a neighbour for good.
    AddNeigh {
        /// IP address.
        address: IpAddr,
        /// MAC address.
        mac: Mac,
        /// Bridge or routed port it is on.
        #[arg(long, value_name = "NAME")]
        bridge: String,
    },
    /// Forget a neighbour.
    DelNeigh {
        /// IP address.
        address: IpAddr,
        /// Bridge or routed port it is on, where several have one.
        #[arg(long, value_name = "NAME")]
        bridge: Option<String>,
    },
    /// Forget learned neighbours, all or those of a bridge.
    FlushNeigh {
        /// Only on this bridge or routed port.
        #[arg(long, value_name = "NAME")]
        bridge: Option<String>,
    },
    /// List what the switch does as a host: counters of ARP, neighbour discovery, ICMP and DHCP, queues, limits.
    ShowHost,
    /// List DHCP leases.
    ShowDhcp {
        /// Only of this bridge.
        #[arg(long, value_name = "NAME")]
        bridge: Option<String>,
    },
}

impl Routing {
    /// The request to send; of `load-routes`, the first piece, without any line.
    pub fn request(&self) -> Request {
        match self.clone() {
            Routing::ShowRoutes { vrf, prefix, via, kind, v4, v6 } => {
                let family = v4.then_some(4).or(v6.then_some(6));
                Request::ShowRoutes(RouteFilter { vrf, prefix, via, kind, family })
            }
            Routing::RouteGet { to, vrf, from, tcp, udp } => {
                let flow = |protocol| move |(sport, dport)| Flow { protocol, sport, dport };
                Request::RouteGet(RouteGet { to, vrf, from, flow: tcp.map(flow(TCP)).or(udp.map(flow(UDP))) })
            }
            Routing::AddRoute { prefix, via, dev, kind, vrf } => {
                Request::AddRoute(AddRoute { to: prefix, via, kind, interface: dev, vrf })
            }
            Routing::DelRoute { prefix, vrf } => Request::DelRoute(DelRoute { to: prefix, vrf }),
            Routing::LoadRoutes { .. } => {
                Request::LoadRoutes(ctl::protocol::LoadRoutes { first_line: 1, text: String::new() })
            }
            Routing::ShowNeigh { bridge, state } => Request::ShowNeigh(NeighFilter { bridge, state }),
            Routing::AddNeigh { address, mac, bridge } => Request::AddNeigh(AddNeigh { address, mac, bridge }),
            Routing::DelNeigh { address, bridge } => Request::DelNeigh(DelNeigh { address, bridge }),
            Routing::FlushNeigh { bridge } => Request::FlushNeigh { bridge },
            Routing::ShowHost => Request::ShowHost {},
            Routing::ShowDhcp { bridge } => Request::ShowDhcp { bridge },
        }
    }
}

fn route_type(text: &str) -> Result<RouteType, String> {
    const ALL: [RouteType; 7] = [
        RouteType::Unicast,
        RouteType::Connected,
        RouteType::Local,
        RouteType::Broadcast,
        RouteType::Blackhole,
        RouteType::Unreachable,
        RouteType::Prohibit,
    ];
    let found = ALL.into_iter().find(|kind| kind.as_str() == text);
    found.ok_or_else(|| format!("write one of {}", ALL.map(RouteType::as_str).join(", ")))
}

fn neigh_state(text: &str) -> Result<NeighState, String> {
    let found = NeighState::ALL.into_iter().find(|state| state.as_str() == text);
    found.ok_or_else(|| format!("write one of {}", NeighState::ALL.map(NeighState::as_str).join(", ")))
}

fn hop(text: &str) -> Result<Hop, String> {
    let (address, weight) = text.split_once('*').unwrap_or((text, "1"));
    let hop = address.parse().ok().zip(weight.parse().ok()).map(|(to, weight)| Hop { to, weight });
    hop.ok_or_else(|| "write an IP address, or ADDRESS*WEIGHT".to_owned())
}

fn ports(text: &str) -> Result<(u16, u16), String> {
    let ports = text.split_once(':').and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
    ports.ok_or_else(|| "write SOURCE:DESTINATION, like 40000:443".to_owned())
}
