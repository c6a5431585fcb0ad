//! What a user sees when a configuration is wrong: one line each, with the place, the object and the mend.
//!
//! Every text taken from the input is quoted, escaped and cut, so that a message stays one line.

use std::fmt;

use thiserror::Error;

use super::{Config, DhcpProblem, GatewayProblem, RaProblem};
use crate::limits::{DOMAINS_MAX, GROUP_MEMBERS_MAX, PORTS_MAX, VRFS_MAX, WORKERS_MAX};

/// Most errors one [`ConfigErrors`] prints; the rest are counted.
const ERRORS_SHOWN: usize = 20;

/// Most characters of quoted input in a message.
const QUOTED_MAX: usize = 64;

/// Most names listed by a hint.
const NAMES_SHOWN: usize = 10;

/// Where in the input something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file's name as the caller gave it.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

/// One thing that is wrong: `demo.toml:12:1: port "web0": unknown key "brige" (did you mean "bridge"?)`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct ConfigError {
    /// `None` for a change made at run time, which has no file.
    pub place: Option<Place>,
    /// The object at fault, such as `port "web0"`; empty for the file as a whole.
    pub object: String,
    /// What is wrong and how to mend it. Boxed, as errors are rare and the `Ok` side should stay small.
    pub problem: Box<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Place { file, line, column }) = &self.place {
            write!(f, "{file}:{line}:{column}: ")?;
        }
        if !self.object.is_empty() {
            write!(f, "{}: ", self.object)?;
        }
        self.problem.fmt(f)
    }
}

/// Everything wrong with one input, in the order of its lines; never empty.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// `Err` when there is at least one error, sorted by place.
    pub(super) fn none_in(mut errors: Vec<ConfigError>) -> Result<(), ConfigErrors> {
        if errors.is_empty() {
            return Ok(());
        }
        errors.sort_by_key(|error| error.place.as_ref().map(|place| (place.line, place.column)));
        Err(ConfigErrors(errors))
    }

    /// Adds hints to the errors that are shown, which is what comparing with every name is worth.
    pub(super) fn with_hints(mut self, config: &Config) -> ConfigErrors {
        self.0.iter_mut().take(ERRORS_SHOWN).for_each(|error| error.problem.add_hint(config));
        self
    }

    /// The errors, at least one. Only those that Display shows have hints about names.
    pub fn all(&self) -> &[ConfigError] {
        &self.0
    }
}

/// One line per error, without a newline at the end; past twenty the rest are only counted.
impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().take(ERRORS_SHOWN).enumerate() {
            write!(f, "{}{error}", if index == 0 { "" } else { "\n" })?;
        }
        match self.0.len().saturating_sub(ERRORS_SHOWN) {
            0 => Ok(()),
            more => write!(f, "\nand {more} more"),
        }
    }
}

/// What is wrong with one object, and how to mend it. Lines are line numbers of the same input.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs, reason = "each message says what its fields are")]
pub enum Problem {
    // The shape of the text.
    #[error("not valid TOML: {0}")]
    Syntax(String),
    #[error("unknown key {} ({hint})", quote(key))]
    UnknownKey { key: String, hint: String },
    #[error("\"{key}\" is {found}; write {expected}")]
    WrongType { key: String, expected: &'static str, found: &'static str },
    #[error("\"{key}\" is missing; add {example}")]
    Missing { key: &'static str, example: &'static str },
    #[error("\"{key}\" is {value}; write a number from {min} to {max}")]
    Range { key: &'static str, value: String, min: u64, max: u64 },
    #[error("\"{key}\" has {}; write {expected}", quote(text))]
    Value { key: &'static str, text: String, expected: &'static str },

    // [switch]
    #[error(
        "\"control_socket\" is {}; write an absolute path of at most 107 bytes, like {}",
        quote(path),
        super::CONTROL_SOCKET_DEFAULT
    )]
    SocketPath { path: String },
    #[error("\"control_group\" is {}; write the name or number of a group, like \"netdev\"", quote(group))]
    GroupName { group: String },
    #[error(
        "\"state_dir\" is {}; write the absolute path of a directory, like {}",
        quote(path),
        super::STATE_DIR_DEFAULT
    )]
    StateDir { path: String },
    #[error("\"poll\" is {}; write \"adaptive\" (sleep when idle) or \"spin\" (never sleep)", quote(word))]
    PollWord { word: String },
    #[error("\"workers\" is empty; name at least one core, like workers = [0]")]
    NoWorkers,
    #[error("\"workers\" names {count} cores; name at most {WORKERS_MAX}")]
    TooManyWorkers { count: usize },
    #[error("\"workers\" names core {core} twice; name each core once")]
    WorkerTwice { core: usize },
    #[error("\"workers\" names core {core}, which does not exist or is not allowed here; choose from {cores}")]
    NoSuchCore { core: usize, cores: String },
    #[error("\"frames\" is {frames}, too few for {ports} ports; set frames = {needed} or more")]
    FramesTooFew { frames: u32, ports: usize, needed: u32 },
    #[error(
        "\"{key}\" cannot change at run time (it is {running}, the file wants {wanted}); \
        put the old value back, or restart switchd"
    )]
    NeedsRestart { key: &'static str, running: String, wanted: String },

    // [[bridge]]
    #[error("\"name\" is {}; use 1 to 63 letters, digits, '.', '_' or '-'", quote(name))]
    BridgeName { name: String },
    #[error("the name is taken by the bridge at line {line}; give each bridge a name of its own")]
    BridgeTwice { line: usize },
    #[error("{count} bridges are too many; a switch has at most {DOMAINS_MAX}")]
    TooManyBridges { count: usize },

    #[error(transparent)]
    Gateway(#[from] GatewayProblem),
    #[error(transparent)]
    Dhcp(#[from] DhcpProblem),
    #[error(transparent)]
    Ra(#[from] RaProblem),

    // [[port]]
    #[error("\"interface\" is {}; {why}", quote(name))]
    InterfaceName { name: String, why: &'static str },
    #[error(
        "the interface is a port already (line {line}, {domains}); \
        keep one of the two, and use trunk to put a port in several bridges"
    )]
    PortTwice { line: usize, domains: String },
    #[error("{count} ports are too many; a switch has at most {PORTS_MAX}")]
    TooManyPorts { count: usize },
    #[error("is in no bridge; add bridge = \"NAME\" (access port) or trunk = {{ VLAN = \"NAME\" }}")]
    NoDomain,
    #[error("\"trunk\" is empty; write trunk = {{ 10 = \"NAME\" }}, or leave it out")]
    EmptyTrunk,
    #[error("\"trunk\" has VLAN {}; {}", quote(vlan), vlan_mend(vlan))]
    VlanId { vlan: String },
    #[error("\"{key}\" names bridge {}, which does not exist; {hint}", quote(bridge))]
    UnknownBridge { key: &'static str, bridge: String, hint: String },
    #[error(
        "\"trunk\" puts VLAN {first} and VLAN {second} in bridge {}; a bridge has one VLAN id per port",
        quote(bridge)
    )]
    DomainTwice { bridge: String, first: u16, second: u16 },
    #[error(
        "bridge {} has the untagged frames and VLAN {vlan} of the trunk; \
        take it out of one of \"bridge\" and \"trunk\"",
        quote(bridge)
    )]
    NativeInTrunk { bridge: String, vlan: u16 },

    // [[fdb]]
    #[error("\"{key}\" is {}; write six hex octets, like \"02:42:ac:11:00:02\"", quote(text))]
    MacText { key: String, text: String },
    #[error("\"mac\" is {kind}; a static entry needs the address of one station")]
    MacKind { kind: &'static str },
    #[error("\"port\" names {}, which is no port; {hint}", quote(port))]
    UnknownPort { port: String, hint: String },
    #[error("port {} is not in bridge {}; name a bridge of that port: {domains}", quote(port), quote(bridge))]
    PortNotInBridge { port: String, bridge: String, domains: String },
    #[error("the address is set for bridge {} at line {line} already; keep one of the two", quote(bridge))]
    StaticTwice { bridge: String, line: usize },
    #[error(
        "{count} static entries are more than the {limit} that stand beside fdb_entries = {entries} learned ones; \
         remove some or raise fdb_entries to more than eight times their number"
    )]
    TooManyStatics { count: usize, limit: u32, entries: u32 },

    // The router's interfaces: gateways of bridges, and routed ports.
    #[error("\"{key}\" has {}; write an address and the length of its subnet, like \"10.244.1.1/24\"", quote(text))]
    AddressText { key: &'static str, text: String },
    #[error("\"{key}\" has {address}, {kind}; write an address of a host in the subnet, like \"10.244.1.1/24\"")]
    AddressKind { key: &'static str, address: String, kind: &'static str },
    #[error(
        "\"{key}\" has {address}, whose subnet overlaps that of {other}{}; give each interface of a VRF a subnet of its own",
        at_line(*line)
    )]
    SubnetOverlaps { key: &'static str, address: String, other: String, line: usize },
    #[error("\"{key}\" is set, but the bridge has no gateway; add gateway = [\"10.244.1.1/24\"], or leave it out")]
    NeedsGateway { key: &'static str },
    #[error("\"gateway_mac\" is {kind}; write the address of one station, or leave it out and have one derived")]
    GatewayMacKind { kind: &'static str },
    #[error("\"mtu\" is {mtu}, too little for IPv6; write 1280 or more, or take the IPv6 address away")]
    MtuIpv6 { mtu: u32 },
    #[error("\"mac\" is the gateway's MAC address on bridge {}; choose another, or another gateway_mac", quote(bridge))]
    StaticIsGateway { bridge: String },
    #[error("\"vrf\" is {}; use 1 to 63 letters, digits, '.', '_' or '-'", quote(vrf))]
    VrfName { vrf: String },
    #[error("VRF {} is one too many; a switch has at most {VRFS_MAX}, the default one included", quote(vrf))]
    TooManyVrfs { vrf: String },
    #[error("is routed (\"address\") and in a bridge; leave \"address\" out, or \"bridge\" and \"trunk\"")]
    RoutedAndBridged,
    #[error("\"vrf\" is set, but the port is not routed; add address = [\"192.168.0.1/30\"], or leave \"vrf\" out")]
    NeedsAddress,
    #[error(
        "is routed, and a bridge has the same name; give the bridge another name, so that routes can tell them apart"
    )]
    PortLikeBridge,
    #[error("bridges and routed ports are {count}, too many; a switch has at most {DOMAINS_MAX} of both")]
    TooManyDomains { count: usize },

    // [[route]]
    #[error("\"{key}\" is {}; write an address and a length, like \"10.9.0.0/16\"", quote(text))]
    PrefixText { key: &'static str, text: String },
    #[error("\"{key}\" is {text}, which has bits set behind its length; write \"{prefix}\"")]
    HostBits { key: &'static str, text: String, prefix: String },
    #[error("packets to {kind} addresses are never forwarded; leave the route out")]
    PrefixKind { kind: &'static str },
    #[error("packets to IPv4 addresses in the form of IPv6 are never forwarded; write \"{ipv4}\"")]
    PrefixMapped { ipv4: String },
    #[error("\"via\" has {}; write an IP address, like \"10.244.1.9\"", quote(text))]
    HopText { text: String },
    #[error(
        "\"type\" is {}; write \"blackhole\", \"unreachable\" or \"prohibit\", or leave it out and set \"via\"",
        quote(word)
    )]
    RouteType { word: String },
    #[error("leads nowhere; add via = \"ADDRESS\", or type = \"blackhole\", \"unreachable\" or \"prohibit\"")]
    RouteNowhere,
    #[error("has \"{key}\" and type = \"{kind}\"; leave one of the two out")]
    RouteBoth { key: &'static str, kind: &'static str },
    #[error("\"via\" is empty; name the next hop, like via = \"10.244.1.9\"")]
    NoHops,
    #[error("\"via\" names {count} next hops; name at most {GROUP_MEMBERS_MAX}")]
    TooManyHops { count: usize },
    #[error("\"via\" names {hop} twice; name it once, with a weight")]
    HopTwice { hop: String },
    #[error("next hop {hop} is {theirs}, the prefix is {ours}; name next hops of the prefix's family")]
    MixedFamilies { hop: String, ours: &'static str, theirs: &'static str },
    #[error("next hop {hop} is {kind}; name the address of a router on a connected subnet")]
    HopKind { hop: String, kind: &'static str },
    #[error("next hop {hop} is link-local; say on which interface, like interface = \"pods\"")]
    HopNeedsInterface { hop: String },
    #[error("next hop {hop} is an address of this switch (interface {}); name another router", quote(interface))]
    HopIsOwn { hop: String, interface: String },
    #[error("next hop {hop} is on no connected subnet of {vrf}; {hint}")]
    HopNotConnected { hop: String, vrf: String, hint: String },
    #[error("next hop {hop} is not on a subnet of interface {}; {hint}", quote(interface))]
    HopNotOnInterface { hop: String, interface: String, hint: String },
    #[error(
        "next hop {hop} is reached only by another route ({route}{}), and routes are not recursive; \
        name the router on a connected subnet that leads there",
        at_line(*line)
    )]
    HopRecursive { hop: String, route: String, line: usize },
    #[error("\"vrf\" names {}, which no bridge or port is in; {hint}", quote(vrf))]
    UnknownVrf { vrf: String, hint: String },
    #[error("\"interface\" names {}, which is no interface of the router in {vrf}; {hint}", quote(interface))]
    UnknownInterface { interface: String, vrf: String, hint: String },
    #[error("the prefix is {what} of interface {} and needs no route; leave the route out", quote(interface))]
    RouteIsConnected { what: &'static str, interface: String },
    #[error(
        "the prefix has a route in {vrf} already (line {line}); keep one of the two, or one with both next hops in \"via\""
    )]
    RouteTwice { vrf: String, line: usize },

    // Changes at run time.
    #[error("is a port already; change it with set-port, or remove it with del-port first")]
    PortExists,
    #[error("is no port of this switch; {hint}")]
    NoSuchPort { hint: String },
    #[error(
        "the pool of {frames} frames has no room for {ports} ports; \
        set frames = {needed} in the configuration and restart switchd"
    )]
    PoolFull { frames: u32, ports: usize, needed: u32 },
    #[error("the static entry {mac} keeps it in bridge {}; remove that with del-fdb first", quote(bridge))]
    HeldByStatic { mac: String, bridge: String },
    #[error("bridge {} has a static entry for this address already; remove it with del-fdb first", quote(bridge))]
    StaticExists { bridge: String },
    #[error("bridge {} has no static entry for this address; show-fdb lists what there is", quote(bridge))]
    NoSuchStatic { bridge: String },
}

/// ` (line 7)`, or nothing where there is no line.
fn at_line(line: usize) -> String {
    if line == 0 { String::new() } else { format!(" (line {line})") }
}

fn vlan_mend(vlan: &str) -> &'static str {
    match vlan {
        "0" => "0 marks a frame without a VLAN: use bridge = \"NAME\" for those, and 1 to 4094 in a trunk",
        "4095" => "4095 is reserved: choose from 1 to 4094",
        _ => "VLAN ids are plain numbers from 1 to 4094",
    }
}

/// `text` in double quotes, on one line, cut when long.
pub(super) fn quote(text: &str) -> String {
    if text.chars().nth(QUOTED_MAX).is_none() {
        return format!("{text:?}");
    }
    let start: String = text.chars().take(QUOTED_MAX).collect();
    format!("{:?}", start + "...")
}

/// What to say about `word` where one of `known` was wanted: the likely one, or all of them.
pub(super) fn hint<'a>(word: &str, what: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    // A name whose length differs by more is no closer than that.
    let length = word.chars().count();
    let alike = known.clone().filter(|name| name.chars().count().abs_diff(length) <= 2);
    let near = alike.map(|name| (distance(word, name), name)).min();
    if let Some((steps, name)) = near
        && steps <= 2
        && 2 * steps < name.chars().count()
    {
        return format!("did you mean {}?", quote(name));
    }
    let mut names: Vec<String> = known.clone().take(NAMES_SHOWN).map(quote).collect();
    if names.is_empty() {
        return format!("there is no {what} yet, add a [[{what}]]");
    }
    if known.count() > NAMES_SHOWN {
        names.push("...".to_string());
    }
    format!("known {what}s: {}", names.join(", "))
}

impl Problem {
    /// Fills in the hint about a name that `config` does not know.
    pub(super) fn add_hint(&mut self, config: &Config) {
        match self {
            Problem::UnknownBridge { bridge, hint: text, .. } => {
                *text = hint(bridge, "bridge", config.bridges.iter().map(|bridge| bridge.name.as_str()));
            }
            Problem::UnknownPort { port, hint: text } => {
                *text = hint(port, "port", config.ports.iter().map(|port| port.interface.as_str()));
            }
            _ => {}
        }
    }
}

/// Letters to insert, delete or replace to turn `a` into `b`; long words are never near.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(QUOTED_MAX).collect(), b.chars().collect());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_single_letter_edits() {
        for (a, b, steps) in
            [("", "", 0), ("bridge", "bridge", 0), ("brige", "bridge", 1), ("kitten", "sitting", 3), ("abc", "", 3)]
        {
            assert_eq!(distance(a, b), steps, "{a} {b}");
            assert_eq!(distance(b, a), steps, "{b} {a}");
        }
    }

    #[test]
    fn quoted_text_is_one_short_line() {
        assert_eq!(quote("a\nb\u{2028}"), r#""a\nb\u{2028}""#);
        let long = quote(&"x".repeat(1000));
        assert!(long.len() == QUOTED_MAX + 5 && long.ends_with("...\""), "{long}");
        assert_eq!(quote(&"x".repeat(QUOTED_MAX)).len(), QUOTED_MAX + 2);
    }

    #[test]
    fn hints_name_the_likely_word_or_all() {
        assert_eq!(hint("pod", "bridge", ["pods", "blue"].into_iter()), "did you mean \"pods\"?");
        assert_eq!(hint("elephant", "bridge", ["pods", "blue"].into_iter()), "known bridges: \"pods\", \"blue\"");
        assert_eq!(hint("x", "bridge", [].into_iter()), "there is no bridge yet, add a [[bridge]]");
        assert_eq!(hint("xy", "bridge", ["a"].into_iter()), "known bridges: \"a\"");
        let many: Vec<String> = (0..11).map(|n| format!("bridge{n}")).collect();
        let text = hint("q", "bridge", many.iter().map(String::as_str));
        assert!(text.ends_with("\"bridge9\", ..."), "{text}");
    }

    #[test]
    fn a_flood_of_errors_is_cut() {
        let error = ConfigError { place: None, object: String::new(), problem: Box::new(Problem::NoWorkers) };
        let text = ConfigErrors::none_in(vec![error; ERRORS_SHOWN + 3]).unwrap_err().to_string();
        assert_eq!(text.lines().count(), ERRORS_SHOWN + 1);
        assert!(text.ends_with("\nand 3 more"), "{text}");
    }
}
