//! Who has which address: one entry per address at most, one address per client at most.
//!
//! Every search is by a sorted index, so a full range costs no more than an empty one, and the number of
//! entries is bounded by the addresses that can be given out.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::Client;

/// What is known of one address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lease {
    /// The address.
    pub address: Ipv4Addr,
    /// Who has or had it; `None` in quarantine.
    pub client: Option<Client>,
    /// The used octets of `chaddr`.
    pub hardware: Vec<u8>,
    /// Name that the client gave itself: letters, digits, `.`, `_` and `-` only.
    pub hostname: Option<String>,
    /// As it was set; see [`Lease::is_current`].
    pub state: State,
    /// Until when, in unix seconds. Afterwards the entry is a hint: the client gets the address again while
    /// nobody else needed it.
    pub expires_s: u64,
}

/// What an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Offered, not yet requested.
    Offered,
    /// Leased.
    Bound,
    /// Given back.
    Released,
    /// Used by somebody who was not given it.
    Quarantined,
}

impl Lease {
    /// Whether the state still holds at `now` (unix seconds).
    pub fn is_current(&self, now: u64) -> bool {
        self.expires_s > now
    }

    /// `offered`, `leased`, `released`, `quarantined`, or `expired`.
    pub fn state_name(&self, now: u64) -> &'static str {
        match self.state {
            State::Released => "released",
            _ if !self.is_current(now) => "expired",
            State::Offered => "offered",
            State::Bound => "leased",
            State::Quarantined => "quarantined",
        }
    }
}

/// The addresses of one server.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    first: Ipv4Addr,
    last: Ipv4Addr,
    reserved: HashSet<Ipv4Addr>,
    entries: BTreeMap<Ipv4Addr, Lease>,
    by_client: HashMap<Client, Ipv4Addr>,
    by_expiry: BTreeSet<(u64, Ipv4Addr)>,
    /// Addresses for anybody that have no entry.
    untouched: BTreeSet<Ipv4Addr>,
}

impl Pool {
    /// An empty pool; `reserved` addresses are for nobody but their owners.
    pub fn new(first: Ipv4Addr, last: Ipv4Addr, reserved: HashSet<Ipv4Addr>) -> Pool {
        let all = (u32::from(first)..=u32::from(last)).map(Ipv4Addr::from);
        let untouched = all.filter(|address| !reserved.contains(address)).collect();
        let (entries, by_client, by_expiry) = (BTreeMap::new(), HashMap::new(), BTreeSet::new());
        Pool { first, last, reserved, entries, by_client, by_expiry, untouched }
    }

    /// Whether the address may go to any client.
    pub fn is_for_all(&self, address: Ipv4Addr) -> bool {
        self.in_range(address) && !self.reserved.contains(&address)
    }

    /// Whether the address is this server's to give.
    pub fn is_ours(&self, address: Ipv4Addr) -> bool {
        self.in_range(address) || self.reserved.contains(&address)
    }

    fn in_range(&self, address: Ipv4Addr) -> bool {
        (self.first..=self.last).contains(&address)
    }

    pub fn at(&self, address: Ipv4Addr) -> Option<&Lease> {
        self.entries.get(&address)
    }

    pub fn of(&self, client: &Client) -> Option<&Lease> {
        self.entries.get(self.by_client.get(client)?)
    }

    /// Every entry, by address.
    pub fn all(&self) -> impl Iterator<Item = &Lease> {
        self.entries.values()
    }

    /// Whether `client` could have the address now: nobody else holds it and it is not in quarantine.
    pub fn is_free_for(&self, client: &Client, address: Ipv4Addr, now: u64) -> bool {
        self.at(address).is_none_or(|entry| entry.client.as_ref() == Some(client) || !entry.is_current(now))
    }

    /// Puts `lease` in place of what its address had; returns the entry of another address that its client loses
    /// by that.
    pub fn set(&mut self, lease: Lease) -> Option<Lease> {
        let other = lease.client.as_ref().and_then(|client| self.by_client.get(client)).copied();
        let other = other.filter(|other| *other != lease.address).and_then(|other| self.remove(other));
        self.remove(lease.address);
        self.untouched.remove(&lease.address);
        if let Some(client) = &lease.client {
            self.by_client.insert(client.clone(), lease.address);
        }
        self.by_expiry.insert((lease.expires_s, lease.address));
        self.entries.insert(lease.address, lease);
        other
    }

    /// Forgets the address.
    pub fn remove(&mut self, address: Ipv4Addr) -> Option<Lease> {
        let entry = self.entries.remove(&address)?;
        self.by_expiry.remove(&(entry.expires_s, address));
        if let Some(client) = &entry.client {
            self.by_client.remove(client);
        }
        if self.is_for_all(address) {
            self.untouched.insert(address);
        }
        Some(entry)
    }

    /// An address for a client that has none: one that nobody had yet, else the one that ended longest ago.
    /// Ended entries of addresses that are not for all are returned too, to be forgotten.
    pub fn next_free(&mut self, now: u64) -> (Option<Ipv4Addr>, Vec<Ipv4Addr>) {
        if let Some(address) = self.untouched.first() {
            return (Some(*address), Vec::new());
        }
        let mut forgotten = Vec::new();
        loop {
            let Some((expires_s, address)) = self.by_expiry.first().copied() else { return (None, forgotten) };
            if expires_s > now {
                return (None, forgotten);
            }
            if self.is_for_all(address) {
                return (Some(address), forgotten);
            }
            self.remove(address);
            forgotten.push(address);
        }
    }
}
