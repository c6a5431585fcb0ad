//! RFC 2131 section 4.3: what a server does about each message. No clock, no socket, no disk.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;

use dhcproto::v4::{DhcpOption, MessageType, OptionCode, UnknownOption};

use super::message::{self, FLAG_BROADCAST, Fields, Query};
use super::pool::{Lease, Pool, State};
use super::{Answer, Change, Client, Destination, Reply, ReplyKind, Request, Settings, Silence};
use super::{OFFER_SECONDS, PROBE_TRIES, PROBES_MAX, QUARANTINE_SECONDS};
use crate::limits::LEASE_SECONDS_MIN;

/// The same notice is not given again for so many seconds.
const NOTICE_SECONDS: u64 = 600;

/// Options of the settings in the order in which they are sent to a client that asks for none.
const USUAL: [u8; 8] = [1, 3, 6, 15, 26, 28, 42, 12];

/// A DHCPDISCOVER that waits for a probe.
#[derive(Clone, Debug)]
struct Waiting {
    query: Query,
    tries: u8,
}

/// The server of one subnet.
#[derive(Clone, Debug)]
pub struct Server {
    settings: Settings,
    pool: Pool,
    /// Index into `settings.statics`.
    statics: HashMap<Client, usize>,
    /// By the address that is probed.
    waiting: BTreeMap<Ipv4Addr, Waiting>,
    changed: BTreeMap<Ipv4Addr, Option<Lease>>,
    notices: Vec<String>,
    /// When each kind of notice was given last.
    noticed: HashMap<&'static str, u64>,
}

impl Server {
    /// A server that remembers `leases`, those of its bridge in the store. Leases that the settings leave no
    /// place for last to their end and are not renewed; those that ended are dropped, and listed as changes.
    pub fn new(settings: Settings, leases: Vec<Lease>, now: u64) -> Server {
        let statics = settings.statics.iter().enumerate();
        let statics = statics.map(|(index, entry)| (entry.client.clone(), index)).collect();
        let reserved = settings.statics.iter().map(|entry| entry.address).collect();
        let pool = Pool::new(settings.first, settings.last, reserved);
        let (waiting, changed) = (BTreeMap::new(), BTreeMap::new());
        let (notices, noticed) = (Vec::new(), HashMap::new());
        let mut server = Server { settings, pool, statics, waiting, changed, notices, noticed };
        server.remember(leases, now);
        server
    }

    /// New settings for the same bridge; leases stay as far as the settings have a place for them. Probes that
    /// wait are forgotten: their clients ask again.
    pub fn reconfigure(&mut self, settings: Settings, now: u64) {
        let leases = self.pool.all().cloned().collect();
        let mut server = Server::new(settings, leases, now);
        self.changed.append(&mut server.changed);
        server.changed = std::mem::take(&mut self.changed);
        server.notices = std::mem::take(&mut self.notices);
        server.noticed = std::mem::take(&mut self.noticed);
        *self = server;
    }

    /// The settings in force.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Every address that has or had a client, or is in quarantine, in order.
    pub fn leases(&self) -> impl Iterator<Item = &Lease> {
        self.pool.all()
    }

    /// What changed since the last call: to be on disk before the replies go out.
    pub fn take_changes(&mut self) -> Vec<Change> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().map(|(address, lease)| Change { address, lease }).collect()
    }

    /// Lines for the log. Each kind comes once in ten minutes at most.
    pub fn take_notices(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notices)
    }

    /// Answers one message. `now` in unix seconds.
    pub fn handle(&mut self, request: Request<'_>, now: u64) -> Answer {
        Query::parse(request.payload).and_then(|query| self.answer(query, request, now)).unwrap_or_else(Answer::None)
    }

    fn answer(&mut self, query: Query, request: Request<'_>, now: u64) -> Result<Answer, Silence> {
        if !query.giaddr.is_unspecified() && !self.is_host(query.giaddr) {
            return Err(Silence::OtherSubnet);
        }
        let client = self.identify(&query)?;
        match query.kind {
            MessageType::Discover => self.discover(Waiting { query, tries: 0 }, client, now),
            MessageType::Request => self.request(&query, client, request.destination, now),
            MessageType::Decline => Err(self.decline(&query, &client, now)?),
            MessageType::Release => Err(self.release(&query, &client, now)?),
            MessageType::Inform => self.inform(&query, &client),
            _ => Err(Silence::NotForServers),
        }
    }

    /// Says how the probe of `address` ended: `in_use` when somebody answered. The DHCPDISCOVER that waits for it
    /// is answered, perhaps with a probe of another address.
    pub fn probe_done(&mut self, address: Ipv4Addr, in_use: bool, now: u64) -> Answer {
        let Some(waiting) = self.waiting.remove(&address) else { return Answer::None(Silence::ProbeTooLate) };
        let Ok(client) = self.identify(&waiting.query) else { return Answer::None(Silence::ProbeTooLate) };
        let offered = |entry: &Lease| entry.state == State::Offered && entry.client.as_ref() == Some(&client);
        if !self.pool.at(address).is_some_and(offered) {
            return Answer::None(Silence::ProbeTooLate);
        }
        if !in_use {
            return self.offer(&waiting.query, &client, address);
        }
        self.quarantine(address, now);
        self.notice("conflict", now, |settings| {
            format!(
                "bridge {:?}: DHCP does not offer {address}, which a host uses that was not given it; \
                 take it out of the range, or reserve it with [[bridge.dhcp.static]]",
                settings.bridge
            )
        });
        self.discover(waiting, client, now).unwrap_or_else(Answer::None)
    }

    /// The client's identity. A static entry for its MAC address makes that its identity, so that the address
    /// stays its own when another boot stage sends another client identifier.
    fn identify(&self, query: &Query) -> Result<Client, Silence> {
        let client = query.client()?;
        if self.statics.contains_key(&client) {
            return Ok(client);
        }
        let hardware = query.mac().map(Client::of_mac);
        Ok(hardware.filter(|hardware| self.statics.contains_key(hardware)).unwrap_or(client))
    }

    /// Whether the address is one of a host in the subnet other than this server.
    fn is_host(&self, address: Ipv4Addr) -> bool {
        let subnet = self.settings.subnet;
        let edge = subnet.prefix_len() < 31 && (address == subnet.network() || address == subnet.broadcast());
        subnet.contains(&address) && !edge && address != self.settings.server
    }

    /// The client's reserved address, unless somebody else still has it.
    fn home(&self, client: &Client, now: u64) -> Option<Ipv4Addr> {
        let address = self.settings.statics.get(*self.statics.get(client)?)?.address;
        self.pool.is_free_for(client, address, now).then_some(address)
    }

    /// Whether the client may have the address now.
    fn may_have(&self, client: &Client, address: Ipv4Addr, now: u64) -> bool {
        let wanted = match self.home(client, now) {
            Some(home) => home == address,
            None => self.pool.is_for_all(address),
        };
        wanted && self.pool.is_free_for(client, address, now)
    }

    // DHCPDISCOVER.

    fn discover(&mut self, waiting: Waiting, client: Client, now: u64) -> Result<Answer, Silence> {
        let wanted = waiting.query.address(OptionCode::RequestedIpAddress)?;
        waiting.query.lease_seconds()?;
        if waiting.tries >= PROBE_TRIES {
            return Err(Silence::Exhausted);
        }
        let held = self.pool.of(&client).filter(|entry| entry.is_current(now)).map(|entry| entry.address);
        let held = held.filter(|address| self.may_have(&client, *address, now));
        if let Some(address) = held {
            if let Some(first) = self.waiting.get_mut(&address) {
                // A retransmission: its transaction is the one to answer.
                first.query = waiting.query;
                return Err(Silence::Probing);
            }
            return Ok(self.offer(&waiting.query, &client, address));
        }
        let Some(address) = self.choose(&client, wanted, now) else {
            self.notice("exhausted", now, |Settings { bridge, first, last, .. }| {
                format!(
                    "bridge {bridge:?}: DHCP has no free address left from {first} to {last}; \
                     widen \"range\" or shorten \"lease_seconds\""
                )
            });
            return Err(Silence::Exhausted);
        };
        let (hardware, hostname) = (waiting.query.hardware().to_vec(), waiting.query.hostname());
        let expires_s = now.saturating_add(OFFER_SECONDS);
        let state = State::Offered;
        self.put(Lease { address, client: Some(client.clone()), hardware, hostname, state, expires_s }, now);
        if !self.settings.probe || !self.has_room_to_wait(now) {
            return Ok(self.offer(&waiting.query, &client, address));
        }
        self.waiting.insert(address, Waiting { tries: waiting.tries + 1, ..waiting });
        Ok(Answer::Probe(address))
    }

    /// An address in the order of RFC 2131 section 4.3.1: reserved, had before, asked for, any.
    fn choose(&mut self, client: &Client, wanted: Option<Ipv4Addr>, now: u64) -> Option<Ipv4Addr> {
        let had = self.pool.of(client).map(|entry| entry.address);
        let first = [self.home(client, now), had, wanted].into_iter().flatten();
        if let Some(address) = first.into_iter().find(|address| self.may_have(client, *address, now)) {
            return Some(address);
        }
        let (address, forgotten) = self.pool.next_free(now);
        self.changed.extend(forgotten.into_iter().map(|address| (address, None)));
        address
    }

    /// Whether another probe may wait; clears away those whose offer ended unanswered.
    fn has_room_to_wait(&mut self, now: u64) -> bool {
        if self.waiting.len() >= PROBES_MAX {
            let pool = &self.pool;
            let is_alive = |entry: &Lease| entry.state == State::Offered && entry.is_current(now);
            self.waiting.retain(|address, _| pool.at(*address).is_some_and(is_alive));
        }
        self.waiting.len() < PROBES_MAX
    }

    fn offer(&self, query: &Query, client: &Client, address: Ipv4Addr) -> Answer {
        self.reply(ReplyKind::Offer, query, client, Some(address))
    }

    // DHCPREQUEST.

    fn request(&mut self, query: &Query, client: Client, to: Ipv4Addr, now: u64) -> Result<Answer, Silence> {
        let server = query.address(OptionCode::ServerIdentifier)?;
        let wanted = query.address(OptionCode::RequestedIpAddress)?;
        query.lease_seconds()?;
        let ciaddr = Some(query.ciaddr).filter(|ciaddr| !ciaddr.is_unspecified());
        match (server, wanted, ciaddr) {
            (Some(server), ..) if server != self.settings.server => {
                self.end_offer(&client, now);
                Err(Silence::OtherServer)
            }
            // SELECTING.
            (Some(_), Some(wanted), _) => match self.may_have(&client, wanted, now) {
                true => Ok(self.bind(query, client, wanted, now)),
                false => Ok(self.nak(query, &client)),
            },
            (None, Some(wanted), None) => self.init_reboot(query, client, wanted, now),
            (_, None, Some(ciaddr)) | (None, Some(_), Some(ciaddr)) => {
                let renewing = to == self.settings.server && query.giaddr.is_unspecified();
                self.extend(query, client, ciaddr, renewing, now)
            }
            (_, None, None) => Err(Silence::Malformed),
        }
    }

    fn init_reboot(&mut self, query: &Query, client: Client, wanted: Ipv4Addr, now: u64) -> Result<Answer, Silence> {
        if !self.is_host(wanted) {
            return Ok(self.nak(query, &client));
        }
        let had = self.pool.of(&client).map(|entry| entry.address);
        let known = self.home(&client, now).or(had).ok_or(Silence::UnknownClient)?;
        match wanted == known && self.may_have(&client, wanted, now) {
            true => Ok(self.bind(query, client, wanted, now)),
            false => Ok(self.nak(query, &client)),
        }
    }

    /// RENEWING (unicast to this server) and REBINDING. An address of this server that nobody holds is leased
    /// again to the client that says it has it: it uses it, and only a record of that was lost.
    fn extend(
        &mut self,
        query: &Query,
        client: Client,
        ciaddr: Ipv4Addr,
        renewing: bool,
        now: u64,
    ) -> Result<Answer, Silence> {
        if self.may_have(&client, ciaddr, now) {
            return Ok(self.bind(query, client, ciaddr, now));
        }
        // Somebody else may serve what this server does not: only a client that turns to this one is told off.
        let known = self.pool.is_ours(ciaddr) || self.pool.at(ciaddr).is_some();
        if !renewing && self.is_host(ciaddr) && !known {
            return Err(Silence::UnknownClient);
        }
        Ok(self.nak(query, &client))
    }

    fn bind(&mut self, query: &Query, client: Client, address: Ipv4Addr, now: u64) -> Answer {
        let answer = self.reply(ReplyKind::Ack, query, &client, Some(address));
        let expires_s = now.saturating_add(self.lease_seconds(query).into());
        let (hardware, hostname) = (query.hardware().to_vec(), query.hostname());
        let lease = Lease { address, client: Some(client), hardware, hostname, state: State::Bound, expires_s };
        self.waiting.remove(&address);
        // A client that repeats itself costs one write a second.
        if self.pool.at(address) != Some(&lease) {
            self.changed.insert(address, Some(lease.clone()));
            self.put(lease, now);
        }
        answer
    }

    // What has no answer, and DHCPINFORM.

    fn decline(&mut self, query: &Query, client: &Client, now: u64) -> Result<Silence, Silence> {
        self.for_this_server(query)?;
        let address = query.address(OptionCode::RequestedIpAddress)?.ok_or(Silence::Malformed)?;
        self.held_by(client, address, now)?;
        self.quarantine(address, now);
        self.notice("declined", now, |settings| {
            format!(
                "bridge {:?}: a DHCP client found {address} in use and declined it; \
                 it is not given out for {QUARANTINE_SECONDS} seconds",
                settings.bridge
            )
        });
        Ok(Silence::Declined)
    }

    fn release(&mut self, query: &Query, client: &Client, now: u64) -> Result<Silence, Silence> {
        self.for_this_server(query)?;
        let held = self.held_by(client, query.ciaddr, now)?;
        let released = Lease { state: State::Released, expires_s: now, ..held.clone() };
        if held.state == State::Bound {
            self.changed.insert(released.address, Some(released.clone()));
        }
        self.put(released, now);
        Ok(Silence::Released)
    }

    /// RFC 2131 section 4.3.5: configuration for a client that has its address from elsewhere.
    fn inform(&mut self, query: &Query, client: &Client) -> Result<Answer, Silence> {
        if query.ciaddr.is_unspecified() {
            return Err(Silence::Malformed);
        }
        if !self.is_host(query.ciaddr) {
            return Err(Silence::OtherSubnet);
        }
        Ok(self.reply(ReplyKind::Ack, query, client, None))
    }

    fn for_this_server(&self, query: &Query) -> Result<(), Silence> {
        match query.address(OptionCode::ServerIdentifier)? {
            Some(server) if server == self.settings.server => Ok(()),
            Some(_) => Err(Silence::OtherServer),
            None => Err(Silence::Malformed),
        }
    }

    fn held_by(&self, client: &Client, address: Ipv4Addr, now: u64) -> Result<&Lease, Silence> {
        let held = self.pool.of(client).filter(|entry| entry.address == address && entry.is_current(now));
        held.filter(|entry| matches!(entry.state, State::Offered | State::Bound)).ok_or(Silence::NotHeld)
    }

    // State.

    /// Takes in leases of the store or of other settings.
    fn remember(&mut self, mut leases: Vec<Lease>, now: u64) {
        // Of two entries of one client the later stays.
        leases.sort_by_key(|lease| (lease.expires_s, lease.address));
        for lease in leases {
            let owner = lease.client.as_ref().and_then(|client| self.statics.get(client));
            let owned = owner.is_some_and(|index| self.settings.statics[*index].address == lease.address);
            // A lease that was given lasts to its end, so that nobody else gets the address; it is not renewed.
            let kept = owned || lease.is_current(now) || self.pool.is_for_all(lease.address);
            let kept = kept && lease.address != self.settings.server;
            match kept {
                true => self.put(lease, now),
                false => _ = self.changed.insert(lease.address, None),
            }
        }
    }

    /// Puts an entry into the pool; what its client had elsewhere is forgotten. But a lease that it is only offered
    /// another address for may still be in use, by the client or by the one whose name it uses.
    fn put(&mut self, lease: Lease, now: u64) {
        let offered = lease.state == State::Offered;
        let Some(mut other) = self.pool.set(lease) else { return };
        self.waiting.remove(&other.address);
        if offered && other.state == State::Bound && other.is_current(now) {
            (other.client, other.state) = (None, State::Quarantined);
            self.changed.insert(other.address, Some(other.clone()));
            self.pool.set(other);
        } else {
            self.changed.insert(other.address, None);
        }
    }

    fn quarantine(&mut self, address: Ipv4Addr, now: u64) {
        let expires_s = now.saturating_add(QUARANTINE_SECONDS);
        let (client, hardware, hostname) = (None, Vec::new(), None);
        let lease = Lease { address, client, hardware, hostname, state: State::Quarantined, expires_s };
        self.waiting.remove(&address);
        self.changed.insert(address, Some(lease.clone()));
        self.put(lease, now);
    }

    /// Ends the offer to a client that takes another.
    fn end_offer(&mut self, client: &Client, now: u64) {
        let offered = self.pool.of(client).filter(|entry| entry.state == State::Offered).cloned();
        if let Some(offered) = offered {
            self.waiting.remove(&offered.address);
            self.put(Lease { state: State::Released, expires_s: now.min(offered.expires_s), ..offered }, now);
        }
    }

    fn notice(&mut self, kind: &'static str, now: u64, text: impl FnOnce(&Settings) -> String) {
        // A clock that was set back must not silence a kind for long.
        let recent = |at: &u64| (*at..at.saturating_add(NOTICE_SECONDS)).contains(&now);
        if !self.noticed.get(kind).is_some_and(recent) {
            self.noticed.insert(kind, now);
            self.notices.push(text(&self.settings));
        }
    }

    // Replies.

    /// What the client asks for, between the shortest and the usual lease.
    fn lease_seconds(&self, query: &Query) -> u32 {
        let usual = self.settings.lease_seconds;
        let asked = query.lease_seconds().ok().flatten().unwrap_or(usual);
        asked.max(LEASE_SECONDS_MIN).min(usual)
    }

    fn nak(&self, query: &Query, client: &Client) -> Answer {
        self.reply(ReplyKind::Nak, query, client, None)
    }

    /// A reply that leases `address`, or none: DHCPNAK, or the DHCPACK of a DHCPINFORM.
    fn reply(&self, kind: ReplyKind, query: &Query, client: &Client, address: Option<Ipv4Addr>) -> Answer {
        let mut flags = query.flags;
        if kind == ReplyKind::Nak && !query.giaddr.is_unspecified() {
            // The client may not be reachable by its address, so the relay is to broadcast (section 4.3.2).
            flags |= FLAG_BROADCAST;
        }
        let ciaddr = if kind == ReplyKind::Ack { query.ciaddr } else { Ipv4Addr::UNSPECIFIED };
        let yiaddr = address.unwrap_or(Ipv4Addr::UNSPECIFIED);
        let options = self.options(kind, query, client, address.map(|_| self.lease_seconds(query)));
        let payload = message::write(query, Fields { flags, ciaddr, yiaddr }, &options);
        Answer::Reply(Reply { kind, payload, destination: destination(kind, query, yiaddr) })
    }

    /// The options of a reply, those first that must not be missing.
    fn options(&self, kind: ReplyKind, query: &Query, client: &Client, lease_seconds: Option<u32>) -> Vec<DhcpOption> {
        let message_type = match kind {
            ReplyKind::Offer => MessageType::Offer,
            ReplyKind::Ack => MessageType::Ack,
            ReplyKind::Nak => MessageType::Nak,
        };
        let mut options =
            vec![DhcpOption::MessageType(message_type), DhcpOption::ServerIdentifier(self.settings.server)];
        if let Some(seconds) = lease_seconds {
            options.push(DhcpOption::AddressLeaseTime(seconds));
            options.push(DhcpOption::Renewal(seconds / 2));
            options.push(DhcpOption::Rebinding((u64::from(seconds) * 7 / 8) as u32));
        }
        if let Some(id) = query.option(OptionCode::ClientIdentifier) {
            options.push(DhcpOption::ClientIdentifier(id.to_vec()));
        }
        if kind == ReplyKind::Nak {
            options.push(DhcpOption::Message("the address is not yours on this network".to_string()));
        } else {
            options.extend(wanted_codes(query).into_iter().filter_map(|code| self.option(code, client)));
        }
        // RFC 3046 section 2.2: last, and as it came.
        if let Some(relay) = query.option(OptionCode::RelayAgentInformation).filter(|relay| relay.len() <= 255) {
            let relay = UnknownOption::new(OptionCode::RelayAgentInformation, relay.to_vec());
            options.push(DhcpOption::Unknown(relay));
        }
        options
    }

    /// The option of the settings with this code, if they have it.
    fn option(&self, code: u8, client: &Client) -> Option<DhcpOption> {
        let Settings { subnet, router, dns, domain, ntp, mtu, statics, .. } = &self.settings;
        match OptionCode::from(code) {
            OptionCode::SubnetMask => Some(DhcpOption::SubnetMask(subnet.netmask())),
            OptionCode::Router => Some(DhcpOption::Router(vec![*router])),
            OptionCode::DomainNameServer if !dns.is_empty() => Some(DhcpOption::DomainNameServer(dns.clone())),
            OptionCode::Hostname => {
                let name = statics.get(*self.statics.get(client)?)?.hostname.clone()?;
                Some(DhcpOption::Hostname(name))
            }
            OptionCode::DomainName => domain.clone().map(DhcpOption::DomainName),
            OptionCode::InterfaceMtu => mtu.map(DhcpOption::InterfaceMtu),
            OptionCode::BroadcastAddr if subnet.prefix_len() < 31 => {
                Some(DhcpOption::BroadcastAddr(subnet.broadcast()))
            }
            OptionCode::NtpServers if !ntp.is_empty() => Some(DhcpOption::NtpServers(ntp.clone())),
            _ => None,
        }
    }
}

/// The codes that the client asks for, in its order (RFC 2132 section 9.8), each once; but the subnet mask before
/// the router (section 3.3).
fn wanted_codes(query: &Query) -> Vec<u8> {
    let Some(asked) = query.option(OptionCode::ParameterRequestList) else { return USUAL.to_vec() };
    let (mask, router) = (u8::from(OptionCode::SubnetMask), u8::from(OptionCode::Router));
    let mut codes: Vec<u8> = Vec::new();
    for code in asked.iter().take(255) {
        if *code == router && !codes.contains(&mask) && asked.contains(&mask) {
            codes.push(mask);
        }
        if !codes.contains(code) {
            codes.push(*code);
        }
    }
    codes
}

/// Where a reply goes (RFC 2131 section 4.1).
fn destination(kind: ReplyKind, query: &Query, yiaddr: Ipv4Addr) -> Destination {
    if !query.giaddr.is_unspecified() {
        return Destination::Relay { ip: query.giaddr };
    }
    let Some(mac) = query.mac().filter(|_| kind != ReplyKind::Nak) else { return Destination::Broadcast };
    if !query.ciaddr.is_unspecified() {
        return Destination::Client { ip: query.ciaddr, mac };
    }
    match query.flags & FLAG_BROADCAST != 0 || yiaddr.is_unspecified() {
        true => Destination::Broadcast,
        false => Destination::Client { ip: yiaddr, mac },
    }
}
