//! The switch's own addresses: announced when they are new, defended when others claim them (RFC 5227, RFC 4862 5.4).
//!
//! An address is used from the moment it is configured: a gateway that waits, or gives its address up, takes its subnet
//! down. So a duplicate is an alarm: counted, listed, and logged once a minute.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::neighbour::MS;
use super::settings::{HostSettings, Interface};
use crate::ids::{DomainId, Mac};

/// Somebody else has an address of the switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The bridge domain.
    pub domain: DomainId,
    /// The address.
    pub address: IpAddr,
    /// The other's MAC address, as of the last message.
    pub other: Mac,
    /// Messages so far.
    pub count: u64,
    /// Nanoseconds on the switch's clock: the first message.
    pub since_ns: u64,
    /// The last message.
    pub last_ns: u64,
}

/// What an own address has to say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Say {
    /// IPv6: asks whether somebody has it (duplicate address detection).
    Probe,
    /// Tells everybody.
    Announce,
}

/// What to do about a conflict.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Response {
    /// Announce the address.
    pub defend: bool,
    /// Write a line.
    pub warn: bool,
}

type Name = (DomainId, IpAddr);

/// One own address.
#[derive(Debug, Default)]
struct Own {
    mac: Option<Mac>,
    /// What is left to say of a new address, last first.
    say: Vec<Say>,
    due_ns: Option<u64>,
    /// Duplicate address detection has not ended before this.
    tentative_until_ns: u64,
    defended_ns: Option<u64>,
    warned_ns: Option<u64>,
    conflict: Option<Conflict>,
}

/// All own addresses.
pub(super) struct OwnAddresses {
    settings: HostSettings,
    all: BTreeMap<Name, Own>,
    due: BTreeSet<(u64, Name)>,
}

impl OwnAddresses {
    pub fn new(settings: HostSettings) -> OwnAddresses {
        OwnAddresses { settings, all: BTreeMap::new(), due: BTreeSet::new() }
    }

    /// Takes the interfaces as they are now. New addresses, and those whose MAC address changed, are to be announced.
    pub fn configure<'a>(&mut self, interfaces: impl Iterator<Item = &'a Interface>, now_ns: u64) {
        let named = |interface: &'a Interface| {
            interface.addresses().map(|address| ((interface.domain, address), interface.mac))
        };
        let wanted: BTreeMap<Name, Mac> = interfaces.flat_map(named).collect();
        self.all.retain(|name, _| wanted.contains_key(name));
        self.due.retain(|(_, name)| wanted.contains_key(name));
        for (name, mac) in wanted {
            let own = self.all.entry(name).or_default();
            if own.mac.replace(mac) != Some(mac) {
                if let Some(due_ns) = own.due_ns.replace(now_ns) {
                    self.due.remove(&(due_ns, name));
                }
                own.say = vec![Say::Announce; usize::from(self.settings.announce_num)];
                if name.1.is_ipv6() {
                    own.say = vec![Say::Announce, Say::Probe];
                    own.tentative_until_ns = now_ns + self.settings.retrans_ms * MS;
                }
                self.due.insert((now_ns, name));
            }
        }
    }

    /// When the next address has something to say.
    pub fn next_due(&self) -> Option<u64> {
        self.due.first().map(|(due_ns, _)| *due_ns)
    }

    /// The next address that has something to say by `now_ns`.
    pub fn next(&mut self, now_ns: u64) -> Option<(DomainId, IpAddr, Say)> {
        while let Some(&(due_ns, name)) = self.due.first().filter(|(due_ns, _)| *due_ns <= now_ns) {
            self.due.remove(&(due_ns, name));
            let Some(own) = self.all.get_mut(&name) else { continue };
            own.due_ns = None;
            let Some(say) = own.say.pop() else { continue };
            if !own.say.is_empty() {
                let wait_ms = if say == Say::Probe { self.settings.retrans_ms } else { self.settings.announce_ms };
                own.due_ns = Some(now_ns + wait_ms * MS);
                self.due.insert((now_ns + wait_ms * MS, name));
            }
            return Some((name.0, name.1, say));
        }
        None
    }

    /// True while nobody had the time to say that the address is his (RFC 4862: a tentative address).
    pub fn is_tentative(&self, domain: DomainId, address: IpAddr, now_ns: u64) -> bool {
        self.all.get(&(domain, address)).is_some_and(|own| now_ns < own.tentative_until_ns)
    }

    /// Takes note that `other` claims an own address.
    pub fn conflict(&mut self, domain: DomainId, address: IpAddr, other: Mac, now_ns: u64) -> Response {
        let Some(own) = self.all.get_mut(&(domain, address)) else { return Response::default() };
        let new = || Conflict { domain, address, other, count: 0, since_ns: now_ns, last_ns: now_ns };
        let conflict = own.conflict.get_or_insert_with(new);
        conflict.count += 1;
        conflict.other = other;
        conflict.last_ns = now_ns;
        let passed = |last: Option<u64>, ms: u64| last.is_none_or(|last_ns| now_ns.saturating_sub(last_ns) >= ms * MS);
        let defend = passed(own.defended_ns, self.settings.defend_ms);
        let warn = passed(own.warned_ns, self.settings.warn_ms);
        if defend {
            own.defended_ns = Some(now_ns);
        }
        if warn {
            own.warned_ns = Some(now_ns);
        }
        Response { defend, warn }
    }

    /// Every conflict so far, in order of domain and address.
    pub fn conflicts(&self) -> Vec<Conflict> {
        self.all.values().filter_map(|own| own.conflict.clone()).collect()
    }
}
