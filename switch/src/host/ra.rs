//! IPv6 router advertisements for one link: RFC 4861 section 6.2, with DNS (RFC 8106) and prefixes for SLAAC
//! (RFC 4862).
//!
//! Pure: [`Advertiser`] says when to send what, in milliseconds of any clock that does not go back; the same seed
//! gives the same schedule. The caller sends each message with hop limit 255 from the link-local address to
//! [`ALL_NODES`], fills in its checksum, and tells [`Advertiser::solicited`] of every router solicitation.

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

use super::random::Random;
use crate::ids::Mac;
use crate::limits::RA_PREFIXES_MAX;

#[cfg(test)]
mod tests;

/// Destination of every advertisement.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Hop limit of everything sent.
pub const HOP_LIMIT: u8 = 255;

/// ICMPv6 type of a router advertisement.
pub const ADVERTISEMENT: u8 = 134;

// RFC 4861 section 10, in milliseconds.
const MAX_INITIAL_RTR_ADVERT_INTERVAL_MS: u64 = 16_000;
const MAX_INITIAL_RTR_ADVERTISEMENTS: u8 = 3;
const MAX_FINAL_RTR_ADVERTISEMENTS: u8 = 3;
const MIN_DELAY_BETWEEN_RAS_MS: u64 = 3_000;
const MAX_RA_DELAY_TIME_MS: u64 = 500;

/// AdvValidLifetime and AdvPreferredLifetime (section 6.2.1): 30 and 7 days.
const LIFETIMES: [u32; 2] = [2_592_000, 604_800];

/// Hop limit that hosts are told to use.
const CUR_HOP_LIMIT: u8 = 64;

/// Most prefixes that wait to be taken back; of more, the oldest are left to their lifetimes.
const WITHDRAWN_MAX: usize = 64;

const OPTION_SOURCE_LINK_LAYER: u8 = 1;
const OPTION_PREFIX: u8 = 3;
const OPTION_MTU: u8 = 5;
const OPTION_RDNSS: u8 = 25;
const OPTION_DNSSL: u8 = 31;

/// What one link is told. Checked by the configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The router's MAC address on the link.
    pub mac: Mac,
    /// The router's link-local address, the source of its advertisements.
    pub source: Ipv6Addr,
    /// Prefixes of 64 bits, on the link and for SLAAC.
    pub prefixes: Vec<Ipv6Net>,
    /// Name servers; at most 127 go out.
    pub dns: Vec<Ipv6Addr>,
    /// Search list: names of letters, digits and hyphens between dots.
    pub search: Vec<String>,
    /// MTU of the link.
    pub mtu: Option<u32>,
    /// For how long the router is a default router; 0 says that it is none.
    pub lifetime_seconds: u16,
    /// Longest time between two advertisements, 4 to 1800.
    pub interval_seconds: u16,
    /// M: addresses by DHCPv6.
    pub managed: bool,
    /// O: other configuration by DHCPv6.
    pub other: bool,
}

impl Settings {
    /// The ICMPv6 message from `source` to [`ALL_NODES`], its checksum field zero.
    pub fn advertisement(&self) -> Vec<u8> {
        self.message(self.lifetime_seconds, &self.prefixes, &[])
    }

    /// An advertisement of `prefixes`, which takes the `withdrawn` ones back.
    fn message(&self, lifetime_seconds: u16, prefixes: &[Ipv6Net], withdrawn: &[Ipv6Net]) -> Vec<u8> {
        let flags = u8::from(self.managed) << 7 | u8::from(self.other) << 6;
        let mut message = vec![ADVERTISEMENT, 0, 0, 0, CUR_HOP_LIMIT, flags];
        message.extend(lifetime_seconds.to_be_bytes());
        // Reachable time and retransmission timer: unspecified.
        message.extend([0; 8]);
        message.extend([OPTION_SOURCE_LINK_LAYER, 1]);
        message.extend(self.mac.octets());
        if let Some(mtu) = self.mtu {
            message.extend([OPTION_MTU, 1, 0, 0]);
            message.extend(mtu.to_be_bytes());
        }
        // Of addresses that they have, hosts cut no lifetime below two hours (RFC 4862 section 5.5.3 e), but prefer
        // others for new connections at once.
        let withdrawn = withdrawn.iter().map(|prefix| (prefix, [0, 0]));
        for (prefix, lifetimes) in prefixes.iter().map(|prefix| (prefix, LIFETIMES)).chain(withdrawn) {
            const ON_LINK_AND_AUTONOMOUS: u8 = 0xc0;
            message.extend([OPTION_PREFIX, 4, prefix.prefix_len(), ON_LINK_AND_AUTONOMOUS]);
            message.extend(lifetimes.iter().flat_map(|seconds| seconds.to_be_bytes()));
            message.extend([0; 4]);
            message.extend(prefix.network().octets());
        }
        self.add_dns(&mut message);
        message
    }

    /// RFC 8106 sections 5.1 and 5.2. Its lifetime outlasts two lost advertisements.
    fn add_dns(&self, message: &mut Vec<u8>) {
        let lifetime_seconds = 3 * u32::from(self.interval_seconds);
        if !self.dns.is_empty() {
            let count = self.dns.len().min(127);
            message.extend([OPTION_RDNSS, 1 + 2 * count as u8, 0, 0]);
            message.extend(lifetime_seconds.to_be_bytes());
            message.extend(self.dns.iter().take(count).flat_map(|address| address.octets()));
        }
        let mut names = Vec::new();
        for name in self.search.iter().map(|name| encoded(name)) {
            if names.len() + name.len() <= 254 * 8 {
                names.extend(name);
            }
        }
        if !names.is_empty() {
            names.resize(names.len().next_multiple_of(8), 0);
            message.extend([OPTION_DNSSL, 1 + (names.len() / 8) as u8, 0, 0]);
            message.extend(lifetime_seconds.to_be_bytes());
            message.extend(names);
        }
    }
}

/// A domain name as labels (RFC 1035 section 3.1); empty when a label does not fit.
fn encoded(name: &str) -> Vec<u8> {
    let mut octets = Vec::with_capacity(name.len() + 2);
    for label in name.trim_end_matches('.').split('.') {
        if !(1..=63).contains(&label.len()) {
            return Vec::new();
        }
        octets.push(label.len() as u8);
        octets.extend(label.as_bytes());
    }
    octets.push(0);
    octets
}

/// When to advertise.
#[derive(Clone, Debug)]
pub struct Advertiser {
    settings: Settings,
    random: Random,
    /// Advertisements of the start that are still to come.
    initial: u8,
    /// Prefixes that hosts still have from earlier settings, and how many advertisements are still to take them back.
    withdrawn: Vec<(Ipv6Net, u8)>,
    unsolicited_ms: u64,
    solicited_ms: Option<u64>,
    sent_ms: Option<u64>,
}

impl Advertiser {
    /// Starts to advertise: the first message is due within half a second.
    pub fn new(settings: Settings, seed: u64, now_ms: u64) -> Advertiser {
        let mut advertiser = Advertiser {
            settings,
            random: Random::new(seed),
            initial: MAX_INITIAL_RTR_ADVERTISEMENTS,
            withdrawn: Vec::new(),
            unsolicited_ms: now_ms,
            solicited_ms: None,
            sent_ms: None,
        };
        advertiser.unsolicited_ms = now_ms.saturating_add(advertiser.random.up_to(MAX_RA_DELAY_TIME_MS));
        advertiser
    }

    /// The settings in force.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// New settings, which hosts are told as at a start. Prefixes that are gone are taken back.
    pub fn reconfigure(&mut self, settings: Settings, now_ms: u64) {
        if self.settings != settings {
            let before = std::mem::replace(&mut self.settings, settings);
            let (now, is_same) = (&self.settings.prefixes, |a: &Ipv6Net, b: &Ipv6Net| a.trunc() == b.trunc());
            let gone = before.prefixes.into_iter().map(|prefix| (prefix, MAX_FINAL_RTR_ADVERTISEMENTS));
            self.withdrawn.extend(gone);
            self.withdrawn.retain(|(old, _)| !now.iter().any(|new| is_same(old, new)));
            let excess = self.withdrawn.len().saturating_sub(WITHDRAWN_MAX);
            self.withdrawn.drain(..excess);
            self.initial = MAX_INITIAL_RTR_ADVERTISEMENTS;
            self.unsolicited_ms = self.earliest_ms(now_ms);
        }
    }

    /// When [`poll`](Advertiser::poll) has something to send.
    pub fn due_ms(&self) -> u64 {
        self.solicited_ms.map_or(self.unsolicited_ms, |solicited| solicited.min(self.unsolicited_ms))
    }

    /// The message to send now, if it is time.
    pub fn poll(&mut self, now_ms: u64) -> Option<Vec<u8>> {
        if now_ms < self.due_ms() {
            return None;
        }
        let max_ms = 1000 * u64::from(self.settings.interval_seconds);
        // MinRtrAdvInterval (section 6.2.1).
        let min_ms = if max_ms >= 9_000 { (max_ms / 100 * 33).max(MIN_DELAY_BETWEEN_RAS_MS) } else { max_ms };
        let mut interval_ms = min_ms + self.random.up_to(max_ms - min_ms);
        self.initial = self.initial.saturating_sub(1);
        if self.initial > 0 {
            interval_ms = interval_ms.min(MAX_INITIAL_RTR_ADVERT_INTERVAL_MS);
        }
        self.sent_ms = Some(now_ms);
        self.solicited_ms = None;
        self.unsolicited_ms = now_ms.saturating_add(interval_ms);
        let room = RA_PREFIXES_MAX.saturating_sub(self.settings.prefixes.len());
        let withdrawn: Vec<Ipv6Net> = self.withdrawn.iter().take(room).map(|(prefix, _)| *prefix).collect();
        self.withdrawn.iter_mut().take(room).for_each(|(_, left)| *left -= 1);
        self.withdrawn.retain(|(_, left)| *left > 0);
        Some(self.settings.message(self.settings.lifetime_seconds, &self.settings.prefixes, &withdrawn))
    }

    /// Plans the answer to a solicitation: one multicast for all that ask within half a second, three seconds after
    /// the last advertisement at the earliest (section 6.2.6).
    pub fn solicited(&mut self, now_ms: u64) {
        let at_ms = self.earliest_ms(now_ms).saturating_add(self.random.up_to(MAX_RA_DELAY_TIME_MS));
        if at_ms < self.due_ms() {
            self.solicited_ms = Some(at_ms);
        }
    }

    /// The last message: the router is no default router any more (section 6.2.5), and nobody speaks for its prefixes.
    pub fn stop(&self) -> Vec<u8> {
        let own = self.settings.prefixes.iter();
        let all = own.chain(self.withdrawn.iter().map(|(prefix, _)| prefix));
        let withdrawn: Vec<Ipv6Net> = all.take(RA_PREFIXES_MAX).copied().collect();
        self.settings.message(0, &[], &withdrawn)
    }

    fn earliest_ms(&self, now_ms: u64) -> u64 {
        self.sent_ms.map_or(now_ms, |sent| now_ms.max(sent.saturating_add(MIN_DELAY_BETWEEN_RAS_MS)))
    }
}
