//! A DHCPv4 server for one subnet (RFC 2131, 2132, 3396, 6842), one per bridge domain that asks for it.
//!
//! Pure: UDP payloads and the time (unix seconds) come in, payloads go out. The caller owns the sockets, the
//! clock, the ARP probes, the log and the disk. One turn of the caller is: [`Server::handle`] for every payload
//! that waits, then [`Server::take_changes`] for [`store::Store::commit`]. What acknowledges a lease goes out when
//! the commit is over, so that the lease is on disk before its client hears of it; other replies go out at once.
//!
//! `message` reads and writes payloads, `pool` knows who has which address, `server` is RFC 2131 section 4.3,
//! `store` keeps leases over a restart, `writer` is the thread that waits for the disk.

mod message;
mod pool;
mod server;
pub mod store;
pub mod writer;

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::ids::Mac;

pub use pool::{Lease, State};
pub use server::Server;

/// UDP port of servers and relays.
pub const SERVER_PORT: u16 = 67;

/// UDP port of clients.
pub const CLIENT_PORT: u16 = 68;

/// Seconds for which an offered address is kept for its client: time for its request and a retransmission
/// of it, and short, so that clients who never come back do not empty the range for long.
pub const OFFER_SECONDS: u64 = 30;

/// Seconds for which an address that somebody else uses (DHCPDECLINE, or an answered probe) is not given out.
pub const QUARANTINE_SECONDS: u64 = 600;

/// Milliseconds to wait for an answer to an ARP probe before [`Server::probe_done`] says there was none.
pub const PROBE_MS: u64 = 250;

/// Probes for one DHCPDISCOVER; with [`PROBE_MS`] each, a client has its offer within a second.
pub const PROBE_TRIES: u8 = 3;

/// Probes that wait at a time; further offers are made without one, so that a flood costs no memory.
pub const PROBES_MAX: usize = 64;

/// What one server gives out. Checked by the configuration: the range and the static addresses lie inside the
/// subnet and hold neither its network, broadcast nor gateway address; no address or client is named twice.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Name of the bridge, for messages.
    pub bridge: String,
    /// This server's own address in the subnet, the gateway; its server identifier.
    pub server: Ipv4Addr,
    /// The subnet.
    pub subnet: Ipv4Net,
    /// First address of the range.
    pub first: Ipv4Addr,
    /// Last address of the range.
    pub last: Ipv4Addr,
    /// Length of a lease, and the most that a client can ask for.
    pub lease_seconds: u32,
    /// Option 3.
    pub router: Ipv4Addr,
    /// Option 6; left out when empty.
    pub dns: Vec<Ipv4Addr>,
    /// Option 15.
    pub domain: Option<String>,
    /// Option 42; left out when empty.
    pub ntp: Vec<Ipv4Addr>,
    /// Option 26.
    pub mtu: Option<u16>,
    /// Addresses reserved for one client each, inside or outside the range.
    pub statics: Vec<Static>,
    /// True: an address that its client does not hold already is probed before it is offered.
    pub probe: bool,
}

/// An address reserved for one client.
#[derive(Clone, Debug, PartialEq)]
pub struct Static {
    /// Who.
    pub client: Client,
    /// What.
    pub address: Ipv4Addr,
    /// Option 12.
    pub hostname: Option<String>,
}

/// What identifies a client: its client identifier if it sends one, else its hardware address (RFC 2131 section 2).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Client {
    /// Option 61, all of it.
    Id(Vec<u8>),
    /// `htype` and the used octets of `chaddr`.
    Hardware(u8, Vec<u8>),
}

impl Client {
    /// The client with this MAC address and no client identifier.
    pub fn of_mac(mac: Mac) -> Client {
        Client::Hardware(message::HTYPE_ETHERNET, mac.octets().to_vec())
    }
}

/// A hardware address as its octets; a client identifier with `id ` before them.
impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let octets = match self {
            Client::Id(octets) => {
                f.write_str("id ")?;
                octets
            }
            Client::Hardware(_, octets) => octets,
        };
        for (index, octet) in octets.iter().enumerate() {
            write!(f, "{}{octet:02x}", if index == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

/// One message as it arrived.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The UDP payload.
    pub payload: &'a [u8],
    /// Its IP destination: the server's address tells RENEWING from REBINDING.
    pub destination: Ipv4Addr,
}

/// What the caller has to do about a message.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Nothing more, for this reason.
    None(Silence),
    /// Ask by ARP for this address, then call [`Server::probe_done`]: at once when somebody answers (or the
    /// neighbour table knows of somebody), else after [`PROBE_MS`].
    Probe(Ipv4Addr),
    /// Send this from port 67; a [`ReplyKind::Ack`] not before the changes are on disk.
    Reply(Reply),
}

/// A message to send.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// What it is.
    pub kind: ReplyKind,
    /// The UDP payload, at least 300 bytes.
    pub payload: Vec<u8>,
    /// Where to.
    pub destination: Destination,
}

/// The messages that a server sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyKind {
    /// DHCPOFFER.
    Offer,
    /// DHCPACK.
    Ack,
    /// DHCPNAK.
    Nak,
}

/// Where a reply goes (RFC 2131 section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// 255.255.255.255 and the broadcast MAC address, port 68.
    Broadcast,
    /// This address and MAC, port 68. No ARP: the client may not answer for the address yet.
    Client {
        /// IP destination.
        ip: Ipv4Addr,
        /// Ethernet destination.
        mac: Mac,
    },
    /// A relay, port 67, as any packet to that address.
    Relay {
        /// The relay's address.
        ip: Ipv4Addr,
    },
}

/// Why a message gets no answer. The words are for counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Silence {
    /// Too short, a field of the wrong length, or without what its kind needs.
    Malformed,
    /// A reply, BOOTP, or a kind of message that only servers or relays send.
    NotForServers,
    /// From a relay of, or about an address in, another subnet.
    OtherSubnet,
    /// The client chose another server.
    OtherServer,
    /// A client that this server knows nothing of must hear nothing (RFC 2131 section 4.3.2).
    UnknownClient,
    /// There is no address to offer.
    Exhausted,
    /// DHCPDECLINE or DHCPRELEASE of an address that this client does not hold.
    NotHeld,
    /// DHCPDECLINE was obeyed; it has no answer.
    Declined,
    /// DHCPRELEASE was obeyed; it has no answer.
    Released,
    /// A probe is under way for this client already.
    Probing,
    /// A probe ended that nobody waits for any more.
    ProbeTooLate,
}

impl Silence {
    /// The reason as a word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Silence::Malformed => "malformed",
            Silence::NotForServers => "not_for_servers",
            Silence::OtherSubnet => "other_subnet",
            Silence::OtherServer => "other_server",
            Silence::UnknownClient => "unknown_client",
            Silence::Exhausted => "exhausted",
            Silence::NotHeld => "not_held",
            Silence::Declined => "declined",
            Silence::Released => "released",
            Silence::Probing => "probing",
            Silence::ProbeTooLate => "probe_too_late",
        }
    }
}

/// What changed about one address, for the store: `None` when nothing is to be remembered any more.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The address.
    pub address: Ipv4Addr,
    /// Its lease now.
    pub lease: Option<Lease>,
}
