//! RFC behaviour by named tests. Messages are made and read octet by octet here, without the codec under test.

mod messages;
mod properties;
mod protocol;
mod requests;
mod service;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::*;

pub const DISCOVER: u8 = 1;
pub const OFFER: u8 = 2;
pub const REQUEST: u8 = 3;
pub const DECLINE: u8 = 4;
pub const ACK: u8 = 5;
pub const NAK: u8 = 6;
pub const RELEASE: u8 = 7;
pub const INFORM: u8 = 8;

pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 1);
pub const RELAY: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 254);
pub const BROADCAST: Ipv4Addr = Ipv4Addr::BROADCAST;

/// A date on which leases are given; nothing depends on it.
pub const NOW: u64 = 1_700_000_000;

pub fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 244, 1, last)
}

pub fn mac(last: u8) -> Mac {
    Mac::new([2, 0x42, 0, 0, 0, last])
}

/// 10.244.1.100 to .103 for all, .50 for 02:42:00:00:00:50, .101 for the client identifier 0:"db"; no probes.
pub fn settings() -> Settings {
    let by_mac = Static { client: Client::of_mac(mac(0x50)), address: ip(50), hostname: Some("web".to_string()) };
    let by_id = Static { client: Client::Id(b"\0db".to_vec()), address: ip(101), hostname: None };
    Settings {
        bridge: "pods".to_string(),
        server: SERVER,
        subnet: Ipv4Net::new(SERVER, 24).unwrap(),
        first: ip(100),
        last: ip(103),
        lease_seconds: 3600,
        router: SERVER,
        dns: vec![Ipv4Addr::new(10, 96, 0, 10), Ipv4Addr::new(9, 9, 9, 9)],
        domain: Some("pods.test".to_string()),
        ntp: vec![ip(2)],
        mtu: Some(1450),
        statics: vec![by_mac, by_id],
        probe: false,
    }
}

pub fn server() -> Server {
    Server::new(settings(), Vec::new(), NOW)
}

/// A message being written.
#[derive(Clone, Debug)]
pub struct Message(pub Vec<u8>);

impl Message {
    /// A broadcast message of the client with MAC [`mac`]`(client)`, without an end option yet.
    pub fn new(kind: u8, client: u8) -> Message {
        let mut octets = vec![0; 240];
        octets[..4].copy_from_slice(&[1, 1, 6, 0]);
        octets[4..8].copy_from_slice(&[0xca, 0xfe, 0, client]);
        octets[28..34].copy_from_slice(&mac(client).octets());
        octets[236..].copy_from_slice(&[0x63, 0x82, 0x53, 0x63]);
        Message(octets).option(53, &[kind])
    }

    pub fn option(mut self, code: u8, data: &[u8]) -> Message {
        self.0.extend([code, data.len() as u8]);
        self.0.extend(data);
        self
    }

    pub fn address(self, code: u8, address: Ipv4Addr) -> Message {
        self.option(code, &address.octets())
    }

    pub fn field(mut self, at: usize, octets: &[u8]) -> Message {
        self.0[at..at + octets.len()].copy_from_slice(octets);
        self
    }

    pub fn ciaddr(self, address: Ipv4Addr) -> Message {
        self.field(12, &address.octets())
    }

    pub fn giaddr(self, address: Ipv4Addr) -> Message {
        self.field(24, &address.octets())
    }

    pub fn broadcast_flag(self) -> Message {
        self.field(10, &[0x80, 0])
    }

    /// To the server as a broadcast.
    pub fn to(mut self, server: &mut Server, now: u64) -> Answer {
        self.0.push(255);
        server.handle(Request { payload: &self.0, destination: BROADCAST }, now)
    }

    /// To the server's own address.
    pub fn unicast_to(mut self, server: &mut Server, now: u64) -> Answer {
        self.0.push(255);
        server.handle(Request { payload: &self.0, destination: SERVER }, now)
    }
}

/// A reply that was read.
#[derive(Clone, Debug)]
pub struct Read {
    pub payload: Vec<u8>,
    /// In the order in which they stand.
    pub options: Vec<(u8, Vec<u8>)>,
    pub destination: Destination,
}

impl Read {
    pub fn of(answer: Answer) -> Read {
        let Answer::Reply(reply) = answer else { panic!("no reply but {answer:?}") };
        let payload = reply.payload;
        assert!(payload.len() >= 300, "{} octets", payload.len());
        assert_eq!((payload[0], &payload[236..240]), (2, &[0x63, 0x82, 0x53, 0x63][..]));
        let mut options = options(&payload[240..]);
        let overload = options.iter().find(|(code, _)| *code == 52).map_or(0, |(_, data)| data[0]);
        if overload & 1 != 0 {
            options.extend(self::options(&payload[108..236]));
        }
        if overload & 2 != 0 {
            options.extend(self::options(&payload[44..108]));
        }
        let codes: BTreeMap<u8, u8> = [(2, OFFER), (5, ACK), (6, NAK)].into();
        let kind = match reply.kind {
            ReplyKind::Offer => OFFER,
            ReplyKind::Ack => ACK,
            ReplyKind::Nak => NAK,
        };
        assert_eq!(codes.get(&options[0].1[0]), Some(&kind));
        Read { payload, options, destination: reply.destination }
    }

    pub fn kind(&self) -> u8 {
        self.option(53).unwrap()[0]
    }

    pub fn option(&self, code: u8) -> Option<&[u8]> {
        self.options.iter().find(|(is, _)| *is == code).map(|(_, data)| data.as_slice())
    }

    pub fn number(&self, code: u8) -> Option<u32> {
        self.option(code).map(|data| u32::from_be_bytes(data.try_into().unwrap()))
    }

    pub fn codes(&self) -> Vec<u8> {
        self.options.iter().map(|(code, _)| *code).collect()
    }

    pub fn field(&self, at: usize) -> Ipv4Addr {
        Ipv4Addr::new(self.payload[at], self.payload[at + 1], self.payload[at + 2], self.payload[at + 3])
    }

    pub fn yiaddr(&self) -> Ipv4Addr {
        self.field(16)
    }
}

/// The options of one field, which must be well formed and end with an end option.
fn options(mut field: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut found = Vec::new();
    loop {
        match field {
            [255, ..] => return found,
            [0, rest @ ..] => field = rest,
            [code, length, rest @ ..] => {
                let (data, rest) = rest.split_at((*length).into());
                found.push((*code, data.to_vec()));
                field = rest;
            }
            _ => panic!("no end option"),
        }
    }
}

/// The client asks for an address and takes what it is offered.
pub fn lease(server: &mut Server, client: u8, now: u64) -> Ipv4Addr {
    let offer = Read::of(Message::new(DISCOVER, client).to(server, now));
    assert_eq!(offer.kind(), OFFER);
    let ack = Read::of(select(client, offer.yiaddr()).to(server, now));
    assert_eq!((ack.kind(), ack.yiaddr()), (ACK, offer.yiaddr()));
    offer.yiaddr()
}

/// The request of a client that chose the offer of `address`.
pub fn select(client: u8, address: Ipv4Addr) -> Message {
    Message::new(REQUEST, client).address(54, SERVER).address(50, address)
}

/// State and end of the address's entry.
pub fn entry(server: &Server, address: Ipv4Addr) -> Option<(State, u64)> {
    let found = server.leases().find(|lease| lease.address == address);
    found.map(|lease| (lease.state, lease.expires_s))
}
