//! `[bridge.ra]`: what the switch tells the IPv6 hosts of a bridge.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};
use serde::Serialize;
use thiserror::Error;

use super::BridgeConfig;
use super::check::{Finding, finding};
use super::gateway::{self, GatewayProblem, ServiceSpots};
use super::read::Section;
use super::write::{Text, list, quoted};
use crate::limits::{SEARCH_MAX, SEARCH_OCTETS_MAX};

const RA_KEYS: &[&str] =
    &["prefixes", "dns", "search", "mtu", "lifetime_seconds", "interval_seconds", "managed", "other"];

/// Length of a prefix from which hosts make addresses (RFC 4291 section 2.5.1).
const SLAAC_PREFIX: u8 = 64;

/// MaxRtrAdvInterval and AdvDefaultLifetime, in seconds (RFC 4861 section 6.2.1).
const INTERVAL_MIN: u32 = 4;
const INTERVAL_MAX: u32 = 1800;
const INTERVAL_DEFAULT: u16 = 600;
const LIFETIME_MAX: u32 = 9000;

/// Smallest link MTU of IPv6 (RFC 8200 section 5).
const MTU_MIN: u32 = 1280;

/// `[bridge.ra]`: router advertisements in the bridge.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RaConfig {
    /// Prefixes from which hosts make their addresses: 64 bits long, without host bits, each one of `gateway`.
    pub prefixes: Vec<Ipv6Net>,
    /// Name servers that hosts are told.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<Ipv6Addr>,
    /// Search list that hosts are told.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// MTU that hosts are told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// For how long the switch is a default router; 0: it is none.
    pub lifetime_seconds: u16,
    /// Longest time between two advertisements.
    pub interval_seconds: u16,
    /// Addresses come by DHCPv6.
    pub managed: bool,
    /// Other configuration comes by DHCPv6.
    pub other: bool,
}

/// What is wrong with router advertisements.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs, reason = "each message says what its fields are")]
pub enum RaProblem {
    #[error("the bridge has no IPv6 address of the switch; add one, like gateway = [\"fd00:244:1::1/64\"]")]
    NoGateway,
    #[error(
        "no IPv6 address of \"gateway\" has a prefix of 64 bits, from which hosts make theirs; \
         add one, or write prefixes = [] to advertise the router alone"
    )]
    NoPrefix,
    #[error("\"prefixes\" has {prefix}; hosts make addresses from prefixes of 64 bits only")]
    PrefixLength { prefix: Ipv6Net },
    #[error("\"prefixes\" has {prefix}, in which the switch has no address; add one to \"gateway\", or leave it out")]
    NoAddress { prefix: Ipv6Net },
    #[error("\"prefixes\" has {prefix} twice; write it once")]
    PrefixTwice { prefix: Ipv6Net },
    #[error("\"search\" has {octets} octets in all; write names of at most {SEARCH_OCTETS_MAX} together")]
    SearchSize { octets: usize },
    #[error(
        "\"lifetime_seconds\" is {lifetime}, less than interval_seconds = {interval}: hosts would lose the router \
         in between; write {interval} or more, or 0 for no default router"
    )]
    Lifetime { lifetime: u16, interval: u16 },
}

/// Reads the table, if there is one. The prefixes default to those of `gateway`.
pub(super) fn read(bridge: &mut Section<'_, '_>, gateway: &[IpNet], spots: &mut ServiceSpots) -> Option<RaConfig> {
    let mut section = bridge.part("ra", "a table, [bridge.ra] below its [[bridge]]")?;
    section.refuse_unknown(RA_KEYS);
    let prefixes: Option<Vec<Ipv6Net>> =
        section.parsed_list("prefixes", "an IPv6 prefix with its length, like \"fd00:244:1::/64\"");
    let dns = section.parsed_list("dns", "an IPv6 address, like \"fd00:244:1::53\"").unwrap_or_default();
    let search = section.parsed_list("search", "a string, like \"pods.example\"").unwrap_or_default();
    let mtu = section.number("mtu", MTU_MIN, u16::MAX.into());
    let interval_seconds = section.number("interval_seconds", INTERVAL_MIN, INTERVAL_MAX);
    let interval_seconds = interval_seconds.map_or(INTERVAL_DEFAULT, |seconds| seconds as u16);
    let lifetime_seconds = section.number("lifetime_seconds", 0, LIFETIME_MAX);
    let lifetime_seconds = lifetime_seconds.map_or(3 * interval_seconds, |seconds| seconds as u16);
    let managed = section.flag("managed").unwrap_or(false);
    let other = section.flag("other").unwrap_or(false);
    let mut usual: Vec<Ipv6Net> = Vec::new();
    for prefix in gateway::v6(gateway).filter(|net| net.prefix_len() == SLAAC_PREFIX).map(|net| net.trunc()) {
        if !usual.contains(&prefix) {
            usual.push(prefix);
        }
    }
    if usual.is_empty() && section.value("prefixes").is_none() && gateway::v6(gateway).next().is_some() {
        section.report("", RaProblem::NoPrefix.into());
    }
    spots.ra = section.spot;
    let prefixes = prefixes.map_or(usual, |given| given.iter().map(Ipv6Net::trunc).collect());
    Some(RaConfig { prefixes, dns, search, mtu, lifetime_seconds, interval_seconds, managed, other })
}

/// Rules of one bridge's advertisements.
pub(super) fn check(bridge: &BridgeConfig) -> Vec<Finding> {
    let Some(ra) = &bridge.ra else { return Vec::new() };
    let mut findings = gateway::servers("dns", ra.dns.iter().copied().map(IpAddr::V6));
    findings.extend(ra.search.iter().filter_map(|name| gateway::domain_name("search", name)));
    let octets = ra.search.iter().map(|name| name.len() + 2).sum();
    let mut problems = Vec::new();
    if octets > SEARCH_OCTETS_MAX {
        problems.push(("search", RaProblem::SearchSize { octets }));
    }
    let (lifetime, interval) = (ra.lifetime_seconds, ra.interval_seconds);
    if lifetime != 0 && lifetime < interval {
        problems.push(("lifetime_seconds", RaProblem::Lifetime { lifetime, interval }));
    }
    if gateway::v6(&bridge.gateway).next().is_none() {
        problems.push(("", RaProblem::NoGateway));
    } else {
        let mut seen = HashSet::new();
        for prefix in ra.prefixes.iter().copied() {
            let has_address = gateway::v6(&bridge.gateway).any(|net| net.trunc() == prefix);
            if prefix.prefix_len() != SLAAC_PREFIX {
                problems.push(("prefixes", RaProblem::PrefixLength { prefix }));
            } else if !has_address {
                problems.push(("prefixes", RaProblem::NoAddress { prefix }));
            } else if !seen.insert(prefix) {
                problems.push(("prefixes", RaProblem::PrefixTwice { prefix }));
            }
        }
    }
    findings.extend(problems.into_iter().map(|(key, problem)| finding(key, problem.into())));
    if ra.search.len() > SEARCH_MAX {
        let problem = GatewayProblem::LongList { key: "search", count: ra.search.len(), max: SEARCH_MAX };
        findings.push(finding("search", problem.into()));
    }
    findings
}

/// The table as TOML.
pub(super) fn write(ra: &RaConfig, text: &mut Text) {
    text.heading("[bridge.ra]");
    text.key("prefixes", list(&ra.prefixes));
    text.optional("dns", (!ra.dns.is_empty()).then(|| list(&ra.dns)));
    let search = || format!("[{}]", ra.search.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", "));
    text.optional("search", (!ra.search.is_empty()).then(search));
    text.optional("mtu", ra.mtu.map(|mtu| mtu.to_string()));
    text.key("lifetime_seconds", ra.lifetime_seconds);
    text.key("interval_seconds", ra.interval_seconds);
    text.key("managed", ra.managed);
    text.key("other", ra.other);
}
