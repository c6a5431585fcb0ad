//! Static routes as configured, and the rules that they keep; run-time routes keep the same.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Serialize, Serializer};
use toml::Spanned;
use toml::de::DeValue;

use super::check::{Finding, Report, finding};
use super::error::{ConfigError, Problem, hint, quote};
use super::gateway::VRF_DEFAULT;
use super::read::{Draft, Section, shorten};
use super::write::{Text, quoted};
use super::{Config, change};
use crate::limits::GROUP_MEMBERS_MAX;

/// Keys of a `[[route]]`.
pub(super) const KEYS: &[&str] = &["to", "via", "type", "interface", "vrf"];

/// Largest weight of a next hop.
const WEIGHT_MAX: u16 = 256;

/// Most connected subnets that a hint lists.
const SUBNETS_SHOWN: usize = 5;

/// One `[[route]]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct RouteConfig {
    /// The destinations, without bits behind the length.
    pub to: IpNet,
    /// Next hops; none for a route that leads nowhere on purpose.
    #[serde(serialize_with = "hops_as_written", skip_serializing_if = "Vec::is_empty")]
    pub via: Vec<Via>,
    /// What becomes of packets.
    #[serde(rename = "type", skip_serializing_if = "RouteKind::is_unicast")]
    pub kind: RouteKind,
    /// The interface that the next hops are on; `None` where their subnets say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// The routing table; `None` is the default one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vrf: Option<String>,
}

/// A next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Via {
    /// Its address.
    pub to: IpAddr,
    /// Its part of the traffic, among those of the route's other next hops; 1 to 256.
    pub weight: u16,
}

/// What a route does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RouteKind {
    /// Packets go to a next hop.
    Unicast,
    /// Packets vanish.
    Blackhole,
    /// The sender is told that the host cannot be reached.
    Unreachable,
    /// The sender is told that communication is prohibited.
    Prohibit,
}

impl RouteKind {
    /// The word that the configuration uses.
    pub const fn as_str(self) -> &'static str {
        match self {
            RouteKind::Unicast => "unicast",
            RouteKind::Blackhole => "blackhole",
            RouteKind::Unreachable => "unreachable",
            RouteKind::Prohibit => "prohibit",
        }
    }

    fn is_unicast(&self) -> bool {
        *self == RouteKind::Unicast
    }
}

impl FromStr for RouteKind {
    type Err = Problem;

    fn from_str(word: &str) -> Result<RouteKind, Problem> {
        let kinds = [RouteKind::Blackhole, RouteKind::Unreachable, RouteKind::Prohibit];
        let found = kinds.into_iter().find(|kind| kind.as_str() == word);
        found.ok_or_else(|| Problem::RouteType { word: word.to_string() })
    }
}

impl RouteConfig {
    /// The name of the route's VRF.
    pub fn vrf(&self) -> &str {
        self.vrf.as_deref().unwrap_or(VRF_DEFAULT)
    }

    /// What messages call it.
    pub fn object(&self) -> String {
        format!("route {}", quote(&self.to.to_string()))
    }
}

/// One next hop of weight 1 as a string, others as a list.
fn hops_as_written<S: Serializer>(hops: &[Via], serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    #[serde(untagged)]
    enum Written<'h> {
        Plain(IpAddr),
        Weighted(&'h Via),
    }
    let written = |hop| match hop {
        &Via { to, weight: 1 } => Written::Plain(to),
        hop => Written::Weighted(hop),
    };
    match hops {
        [Via { to, weight: 1 }] => to.serialize(serializer),
        hops => serializer.collect_seq(hops.iter().map(written)),
    }
}

/// Reads a prefix that has no bits behind its length.
///
/// # Errors
/// What is wrong with it; `key` is its name.
pub fn prefix(key: &'static str, text: &str) -> Result<IpNet, Problem> {
    // A host's address alone is a prefix of all its bits, as for `ip route`.
    let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let net = net.map_err(|_| Problem::PrefixText { key, text: text.to_string() })?;
    if net.addr() != net.network() {
        return Err(Problem::HostBits { key, text: text.to_string(), prefix: net.trunc().to_string() });
    }
    Ok(net)
}

/// Reads one `[[route]]`.
pub(super) fn read(section: &mut Section<'_, '_>) -> Option<RouteConfig> {
    let text = section.required("to", "a string, like \"10.9.0.0/16\"", "to = \"10.9.0.0/16\"");
    let to = text.and_then(|text| match prefix("to", &text) {
        Ok(to) => Some(to),
        Err(problem) => {
            section.report("to", problem);
            None
        }
    });
    let via = read_hops(section);
    let word = section.text("type", "a string, like \"blackhole\"");
    let kind = word.as_deref().map(RouteKind::from_str).transpose();
    let kind = match kind {
        Ok(kind) => Some(kind.unwrap_or(RouteKind::Unicast)),
        Err(problem) => {
            section.report("type", problem);
            None
        }
    };
    let interface = section.text("interface", "a string, like \"pods\"");
    let vrf = section.vrf();
    Some(RouteConfig { to: to?, via: via?, kind: kind?, interface, vrf })
}

/// `None` when something was wrong and said.
fn read_hops(section: &mut Section<'_, '_>) -> Option<Vec<Via>> {
    let Some(value) = section.table.get("via") else { return Some(Vec::new()) };
    let one = std::slice::from_ref(value);
    let items = match value.get_ref() {
        DeValue::Array(list) => list.iter().as_slice(),
        _ => one,
    };
    if items.is_empty() {
        section.report("via", Problem::NoHops);
        return None;
    }
    let hops: Vec<Via> = items.iter().map_while(|item| read_hop(section, item)).collect();
    (hops.len() == items.len()).then_some(hops)
}

fn read_hop(section: &mut Section<'_, '_>, item: &Spanned<DeValue<'_>>) -> Option<Via> {
    const EXPECTED: &str = "a next hop, a list of them, or { to = \"10.0.0.2\", weight = 3 } in a list";
    let (to, weight) = match item.get_ref() {
        DeValue::Table(table) => (table.get("to").map(Spanned::get_ref), Some(table)),
        value => (Some(value), None),
    };
    let mut weight_of = 1;
    for (key, value) in weight.into_iter().flat_map(|table| table.iter()) {
        match (key.get_ref().as_ref(), value.get_ref().as_integer()) {
            ("to", _) => {}
            ("weight", Some(integer)) => {
                let number = u16::from_str_radix(integer.as_str(), integer.radix()).ok();
                let Some(number) = number.filter(|number| (1..=WEIGHT_MAX).contains(number)) else {
                    let value = shorten(&integer.to_string());
                    section.report("via", Problem::Range { key: "weight", value, min: 1, max: WEIGHT_MAX.into() });
                    return None;
                };
                weight_of = number;
            }
            ("weight", None) => {
                section.wrong_type("via", "weight = 1 to 256, an integer", value.get_ref());
                return None;
            }
            (other, _) => {
                let hint = hint(other, "key", ["to", "weight"].into_iter());
                section.report("via", Problem::UnknownKey { key: other.to_string(), hint });
                return None;
            }
        }
    }
    let Some(text) = to.and_then(DeValue::as_str) else {
        section.wrong_type("via", EXPECTED, item.get_ref());
        return None;
    };
    match text.parse() {
        Ok(to) => Some(Via { to, weight: weight_of }),
        Err(_) => {
            section.report("via", Problem::HopText { text: text.to_string() });
            None
        }
    }
}

/// Writes the keys of one route.
pub(super) fn write(route: &RouteConfig, text: &mut Text) {
    let hop = |hop: &Via| match hop.weight {
        1 => quoted(&hop.to.to_string()),
        weight => format!("{{ to = {}, weight = {weight} }}", quoted(&hop.to.to_string())),
    };
    text.key("to", quoted(&route.to.to_string()));
    match route.via.as_slice() {
        [] => {}
        [one @ Via { weight: 1, .. }] => text.key("via", hop(one)),
        hops => text.key("via", format!("[{}]", hops.iter().map(hop).collect::<Vec<_>>().join(", "))),
    }
    text.optional("type", (route.kind != RouteKind::Unicast).then(|| quoted(route.kind.as_str())));
    text.optional("interface", route.interface.as_deref().map(quoted));
    text.optional("vrf", route.vrf.as_deref().map(quoted));
}

/// An address of the router with its subnet.
#[derive(Clone, Debug)]
struct Net {
    own: IpNet,
    interface: String,
}

/// The connected subnets of every VRF: what routes are checked against.
#[derive(Clone, Debug, Default)]
pub struct Nets {
    vrfs: HashMap<String, Vec<Net>>,
    /// Interfaces with their VRF.
    interfaces: HashMap<String, String>,
}

impl Nets {
    /// Those of a configuration.
    pub fn of(config: &Config) -> Nets {
        let mut nets = Nets::default();
        nets.vrfs.entry(VRF_DEFAULT.to_string()).or_default();
        for interface in config.interfaces() {
            nets.interfaces.insert(interface.name.to_string(), interface.vrf.to_string());
            let vrf = nets.vrfs.entry(interface.vrf.to_string()).or_default();
            vrf.extend(interface.addresses.iter().map(|own| Net { own: *own, interface: interface.name.to_string() }));
        }
        nets
    }

    fn nets(&self, vrf: &str) -> &[Net] {
        self.vrfs.get(vrf).map_or(&[], Vec::as_slice)
    }

    /// The interface whose subnet `address` is in, in this VRF.
    pub fn connected(&self, vrf: &str, address: IpAddr) -> Option<&str> {
        self.nets(vrf).iter().find(|net| net.own.contains(&address)).map(|net| net.interface.as_str())
    }

    /// True for a VRF that an interface is in, and the default one.
    pub fn has_vrf(&self, vrf: &str) -> bool {
        self.vrfs.contains_key(vrf)
    }

    /// What to say of a VRF that does not exist.
    pub fn vrf_hint(&self, vrf: &str) -> String {
        let mut names: Vec<&str> = self.vrfs.keys().map(String::as_str).collect();
        names.sort_unstable();
        hint(vrf, "VRF", names.into_iter())
    }

    /// Whether a run-time route keeps the rules, apart from those about other routes.
    ///
    /// # Errors
    /// The first broken one.
    pub fn check_route(&self, route: &RouteConfig) -> Result<(), ConfigError> {
        match self.findings(route).into_iter().next() {
            Some((_, problem)) => Err(change::refuse(route.object(), problem)),
            None => Ok(()),
        }
    }

    /// Whether the prefix of a route whose other keys keep the rules goes with them.
    ///
    /// # Errors
    /// The first broken rule.
    pub fn check_prefix(&self, route: &RouteConfig) -> Result<(), ConfigError> {
        let refuse = |problem| Err(change::refuse(route.object(), problem));
        if let Some(problem) = wrong_prefix(route.to).or_else(|| self.needless(route)) {
            return refuse(problem);
        }
        let ipv4 = route.to.addr().is_ipv4();
        match route.via.iter().find(|hop| hop.to.is_ipv4() != ipv4) {
            Some(hop) => refuse(mixed(ipv4, hop.to)),
            None => Ok(()),
        }
    }

    /// Every broken rule of one route by itself.
    fn findings(&self, route: &RouteConfig) -> Vec<Finding> {
        let mut findings = Vec::new();
        let vrf = route.vrf();
        if !self.has_vrf(vrf) {
            let problem = Problem::UnknownVrf { vrf: vrf.to_string(), hint: self.vrf_hint(vrf) };
            return vec![finding("vrf", problem)];
        }
        findings.extend(wrong_prefix(route.to).map(|problem| finding("to", problem)));
        findings.extend(self.needless(route).map(|problem| finding("to", problem)));
        match (route.kind, route.via.len()) {
            (RouteKind::Unicast, 0) => findings.push(finding("to", Problem::RouteNowhere)),
            (RouteKind::Unicast, count) if count > GROUP_MEMBERS_MAX => {
                findings.push(finding("via", Problem::TooManyHops { count }));
                return findings;
            }
            (RouteKind::Unicast, _) => {}
            (kind, hops) => {
                let both = |key| finding(key, Problem::RouteBoth { key, kind: kind.as_str() });
                findings.extend((hops > 0).then(|| both("via")));
                findings.extend(route.interface.is_some().then(|| both("interface")));
                return findings;
            }
        }
        if let Some(problem) = route.interface.as_ref().and_then(|interface| self.wrong_interface(vrf, interface)) {
            findings.push(finding("interface", problem));
            return findings;
        }
        let mut seen = HashSet::new();
        for hop in &route.via {
            let twice = (!seen.insert(hop.to)).then(|| Problem::HopTwice { hop: hop.to.to_string() });
            findings.extend(self.wrong_hop(route, hop.to).or(twice).map(|problem| finding("via", problem)));
            if !(1..=WEIGHT_MAX).contains(&hop.weight) {
                let value = hop.weight.to_string();
                let max = WEIGHT_MAX.into();
                findings.push(finding("via", Problem::Range { key: "weight", value, min: 1, max }));
            }
        }
        findings
    }

    /// A route to what is connected anyway.
    fn needless(&self, route: &RouteConfig) -> Option<Problem> {
        let found = self.nets(route.vrf()).iter().find_map(|net| {
            let what = match route.to {
                to if to == net.own.trunc() => "the subnet",
                to if to == IpNet::from(net.own.addr()) => "an address",
                to if fixed(net.own).contains(&Some(to.addr())) && to.prefix_len() == to.max_prefix_len() => {
                    "the network or broadcast address"
                }
                _ => return None,
            };
            Some((what, net))
        });
        found.map(|(what, net)| Problem::RouteIsConnected { what, interface: net.interface.clone() })
    }

    fn wrong_interface(&self, vrf: &str, interface: &str) -> Option<Problem> {
        if self.interfaces.get(interface).is_some_and(|own| own == vrf) {
            return None;
        }
        let mut known: Vec<&str> =
            self.interfaces.iter().filter(|(_, own)| *own == vrf).map(|(name, _)| name.as_str()).collect();
        known.sort_unstable();
        let hint = match (self.interfaces.get(interface), known.is_empty()) {
            (Some(other), _) => format!("it is in {}", vrf_text(other)),
            (None, true) => "give a bridge a gateway, or a port an address".to_string(),
            (None, false) => hint(interface, "interface", known.into_iter()),
        };
        Some(Problem::UnknownInterface { interface: interface.to_string(), vrf: vrf_text(vrf), hint })
    }

    fn wrong_hop(&self, route: &RouteConfig, to: IpAddr) -> Option<Problem> {
        let (hop, vrf) = (to.to_string(), route.vrf());
        if to.is_ipv4() != route.to.addr().is_ipv4() {
            return Some(mixed(route.to.addr().is_ipv4(), to));
        }
        if let Some(kind) = no_router(to) {
            return Some(Problem::HopKind { hop, kind });
        }
        let nets = self.nets(vrf);
        if let Some(own) = nets.iter().find(|net| net.own.addr() == to) {
            return Some(Problem::HopIsOwn { hop, interface: own.interface.clone() });
        }
        if matches!(to, IpAddr::V6(address) if address.is_unicast_link_local()) {
            return route.interface.is_none().then_some(Problem::HopNeedsInterface { hop });
        }
        let on = nets.iter().find(|net| net.own.contains(&to));
        match (on, &route.interface) {
            (Some(net), _) if fixed(net.own).contains(&Some(to)) => {
                Some(Problem::HopKind { hop, kind: "the network or broadcast address of a subnet" })
            }
            (Some(net), Some(interface)) if net.interface != *interface => {
                let hint = format!("it is on one of interface {}", quote(&net.interface));
                Some(Problem::HopNotOnInterface { hop, interface: interface.clone(), hint })
            }
            (Some(_), _) => None,
            (None, _) => {
                Some(Problem::HopNotConnected { hop, vrf: vrf_text(vrf), hint: subnets_hint(nets, to.is_ipv4()) })
            }
        }
    }
}

/// A next hop of the other IP version than the prefix.
fn mixed(prefix_is_ipv4: bool, hop: IpAddr) -> Problem {
    let family = |ipv4: bool| if ipv4 { "IPv4" } else { "IPv6" };
    Problem::MixedFamilies { hop: hop.to_string(), ours: family(prefix_is_ipv4), theirs: family(hop.is_ipv4()) }
}

/// Network and broadcast address of an IPv4 subnet that has them; the subnet-router anycast address of an IPv6 one.
pub fn fixed(net: IpNet) -> [Option<IpAddr>; 2] {
    let small = net.prefix_len() + 1 >= net.max_prefix_len();
    match net.addr() {
        _ if small => [None, None],
        IpAddr::V4(_) => [Some(net.network()), Some(net.broadcast())],
        IpAddr::V6(_) => [Some(net.network()), None],
    }
}

/// `the default VRF`, or `VRF "blue"`.
pub fn vrf_text(vrf: &str) -> String {
    if vrf == VRF_DEFAULT { "the default VRF".to_string() } else { format!("VRF {}", quote(vrf)) }
}

fn subnets_hint(nets: &[Net], ipv4: bool) -> String {
    let own: Vec<&Net> = nets.iter().filter(|net| net.own.addr().is_ipv4() == ipv4).collect();
    if own.is_empty() {
        return "give a bridge a gateway, or a port an address, in its subnet".to_string();
    }
    let shown: Vec<String> = own.iter().take(SUBNETS_SHOWN).map(|net| net.own.trunc().to_string()).collect();
    let more = if own.len() > SUBNETS_SHOWN { ", ..." } else { "" };
    format!("connected subnets: {}{more}", shown.join(", "))
}

/// What kind of address a next hop cannot have.
fn no_router(address: IpAddr) -> Option<&'static str> {
    match address {
        address if address.is_unspecified() => Some("the unspecified address"),
        address if address.is_loopback() => Some("a loopback address"),
        address if address.is_multicast() => Some("a multicast address"),
        IpAddr::V4(address) if address.octets()[0] == 0 || address.octets()[0] >= 240 => Some("a reserved address"),
        IpAddr::V4(address) if address.is_link_local() => Some("a link-local address"),
        _ => None,
    }
}

/// What is wrong with a prefix to whose addresses nothing is forwarded.
fn wrong_prefix(to: IpNet) -> Option<Problem> {
    if let IpNet::V6(net) = to
        && let Some(address) = net.addr().to_ipv4_mapped()
        && let Some(len) = net.prefix_len().checked_sub(96)
    {
        return Some(Problem::PrefixMapped { ipv4: format!("{address}/{len}") });
    }
    prefix_kind(to).map(|kind| Problem::PrefixKind { kind })
}

/// Destinations that no router forwards to.
fn prefix_kind(to: IpNet) -> Option<&'static str> {
    let inside = |outer: &str| outer.parse::<IpNet>().is_ok_and(|outer| outer.contains(&to));
    let kinds = [
        ("127.0.0.0/8", "loopback"),
        ("::1/128", "loopback"),
        ("224.0.0.0/4", "multicast"),
        ("ff00::/8", "multicast"),
        ("240.0.0.0/4", "reserved"),
        ("169.254.0.0/16", "link-local"),
        ("fe80::/10", "link-local"),
    ];
    kinds.into_iter().find(|(outer, _)| inside(outer)).map(|(_, kind)| kind)
}

/// Every broken rule of the routes.
pub(super) fn check_all(config: &Config, draft: &Draft, report: &mut Report<'_>) {
    let nets = Nets::of(config);
    let mut first = HashMap::new();
    for (route, spot) in config.routes.iter().zip(&draft.route_spots) {
        first.entry((route.vrf(), route.to)).or_insert(spot);
    }
    for (route, spot) in config.routes.iter().zip(&draft.route_spots) {
        if report.full() {
            return;
        }
        let mut findings = nets.findings(route);
        for (_, problem) in &mut findings {
            let Problem::HopNotConnected { hop, .. } = problem else { continue };
            let Some(by) = hop.parse().ok().and_then(|hop| covering(config, route, hop)) else { continue };
            let line = first.get(&(by.vrf(), by.to)).map_or(0, |spot| report.source.line(spot));
            *problem = Problem::HopRecursive { hop: hop.clone(), route: by.to.to_string(), line };
        }
        report.add(spot, findings);
        if let Some(earlier) = first.get(&(route.vrf(), route.to)).filter(|earlier| !std::ptr::eq(**earlier, spot)) {
            let line = report.source.line(earlier);
            report.add(spot, [finding("to", Problem::RouteTwice { vrf: vrf_text(route.vrf()), line })]);
        }
    }
}

/// The longest other route of the VRF that leads to `hop`, the default route aside.
fn covering<'c>(config: &'c Config, route: &RouteConfig, hop: IpAddr) -> Option<&'c RouteConfig> {
    let others = config.routes.iter().filter(|other| other.vrf() == route.vrf() && other.to != route.to);
    let leading = others.filter(|other| other.to.prefix_len() > 0 && other.to.contains(&hop));
    leading.max_by_key(|other| other.to.prefix_len())
}
