//! Payloads to fields and back. Reads anything without panicking; writes what RFC 2131 section 4.1 and
//! RFC 2132 ask of the layout: 300 bytes at least, no more than the client takes, options in the order given.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use dhcproto::v4::borrowed::DhcpOptionIterator;
use dhcproto::v4::{DhcpOption, Encodable, MAGIC, MessageType, OptionCode};

use super::{Client, Silence};
use crate::ids::Mac;

/// `htype` of Ethernet.
pub(super) const HTYPE_ETHERNET: u8 = 1;

/// The BROADCAST bit of `flags`.
pub(super) const FLAG_BROADCAST: u16 = 0x8000;

const BOOT_REQUEST: u8 = 1;
const BOOT_REPLY: u8 = 2;

/// Fixed fields and the magic cookie.
const HEADER: usize = 240;

/// Where `sname` and `file` are; both can carry options (option 52).
const SNAME: std::ops::Range<usize> = 44..108;
const FILE: std::ops::Range<usize> = 108..236;

/// Shortest payload sent: what BOOTP had, which old clients and relays insist on.
const PAYLOAD_MIN: usize = 300;

/// IP and UDP headers, which count in a client's maximum message size (option 57).
const IP_UDP: usize = 28;

/// Datagrams that every client takes (RFC 2131 section 2), and the most that is sent to one that takes more.
const DATAGRAM_MIN: u16 = 576;
const DATAGRAM_MAX: u16 = 1500;

const OPTION_END: u8 = 255;

/// A message of a client.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Query {
    pub kind: MessageType,
    pub htype: u8,
    pub xid: [u8; 4],
    pub flags: u16,
    pub ciaddr: Ipv4Addr,
    pub giaddr: Ipv4Addr,
    pub chaddr: [u8; 16],
    /// At most 16.
    pub hlen: u8,
    options: BTreeMap<u8, Vec<u8>>,
}

impl Query {
    /// Reads a payload.
    pub fn parse(payload: &[u8]) -> Result<Query, Silence> {
        let header: &[u8; HEADER] = payload.first_chunk().ok_or(Silence::Malformed)?;
        let (op, htype, hlen) = (header[0], header[1], header[2]);
        if op != BOOT_REQUEST || header[FILE.end..] != MAGIC {
            return Err(Silence::NotForServers);
        }
        if usize::from(hlen) > 16 {
            return Err(Silence::Malformed);
        }
        let mut options = BTreeMap::new();
        collect(&payload[HEADER..], &mut options);
        let overload = match options.get(&u8::from(OptionCode::OptionOverload)).map(Vec::as_slice) {
            None => 0,
            Some([fields @ 1..=3]) => *fields,
            Some(_) => return Err(Silence::Malformed),
        };
        // RFC 3396 section 5: the options field, then file, then sname.
        if overload & 1 != 0 {
            collect(&header[FILE], &mut options);
        }
        if overload & 2 != 0 {
            collect(&header[SNAME], &mut options);
        }
        let kind = match options.get(&u8::from(OptionCode::MessageType)).map(Vec::as_slice) {
            None => return Err(Silence::NotForServers),
            Some([kind]) => MessageType::from(*kind),
            Some(_) => return Err(Silence::Malformed),
        };
        let address = |at: usize| Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]);
        let mut chaddr = [0; 16];
        chaddr.copy_from_slice(&header[28..SNAME.start]);
        Ok(Query {
            kind,
            htype,
            xid: [header[4], header[5], header[6], header[7]],
            flags: u16::from_be_bytes([header[10], header[11]]),
            ciaddr: address(12),
            giaddr: address(24),
            chaddr,
            hlen,
            options,
        })
    }

    /// The option's octets as the client sent them.
    pub fn option(&self, code: OptionCode) -> Option<&[u8]> {
        self.options.get(&u8::from(code)).map(Vec::as_slice)
    }

    /// An option that is one address.
    pub fn address(&self, code: OptionCode) -> Result<Option<Ipv4Addr>, Silence> {
        self.fixed::<4>(code).map(|octets| octets.map(Ipv4Addr::from))
    }

    /// Option 51 in seconds.
    pub fn lease_seconds(&self) -> Result<Option<u32>, Silence> {
        self.fixed::<4>(OptionCode::AddressLeaseTime).map(|octets| octets.map(u32::from_be_bytes))
    }

    fn fixed<const N: usize>(&self, code: OptionCode) -> Result<Option<[u8; N]>, Silence> {
        self.option(code).map(|octets| octets.try_into().map_err(|_| Silence::Malformed)).transpose()
    }

    /// Who sends it. An identifier that is longer than an option, or no identity at all, is malformed.
    pub fn client(&self) -> Result<Client, Silence> {
        match self.option(OptionCode::ClientIdentifier).filter(|id| !id.is_empty()) {
            Some(id) if id.len() <= 255 => Ok(Client::Id(id.to_vec())),
            None if self.hlen > 0 => Ok(Client::Hardware(self.htype, self.hardware().to_vec())),
            _ => Err(Silence::Malformed),
        }
    }

    /// The used octets of `chaddr`.
    pub fn hardware(&self) -> &[u8] {
        &self.chaddr[..usize::from(self.hlen)]
    }

    /// The Ethernet address in `chaddr`, if it can be one of a station.
    pub fn mac(&self) -> Option<Mac> {
        let octets: [u8; 6] = self.hardware().try_into().ok()?;
        let mac = Mac::new(octets);
        (self.htype == HTYPE_ETHERNET && !mac.is_group() && mac != Mac::ZERO).then_some(mac)
    }

    /// Option 12 if it is a name that can be shown and stored.
    pub fn hostname(&self) -> Option<String> {
        let name = self.option(OptionCode::Hostname)?;
        let name = name.strip_suffix(&[0]).unwrap_or(name);
        let right = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let fits = (1..=253).contains(&name.len()) && name.iter().all(right);
        if fits { String::from_utf8(name.to_vec()).ok() } else { None }
    }

    /// Longest payload that the client takes.
    fn payload_max(&self) -> usize {
        let asked = self.fixed::<2>(OptionCode::MaxMessageSize).ok().flatten().map_or(0, u16::from_be_bytes);
        usize::from(asked.clamp(DATAGRAM_MIN, DATAGRAM_MAX)) - IP_UDP
    }
}

/// Adds the options of one field; those of the same code are one option in several pieces (RFC 3396).
fn collect(field: &[u8], options: &mut BTreeMap<u8, Vec<u8>>) {
    for option in DhcpOptionIterator::new(field) {
        options.entry(option.code().into()).or_default().extend_from_slice(option.data());
    }
}

/// The fixed fields of a reply that are not the client's own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields {
    pub flags: u16,
    pub ciaddr: Ipv4Addr,
    pub yiaddr: Ipv4Addr,
}

/// Writes a reply to `query`. Options that do not fit go to `file` and `sname`; what fits nowhere is left out,
/// so the first ones should be those that must not be.
pub(super) fn write(query: &Query, fields: Fields, options: &[DhcpOption]) -> Vec<u8> {
    let mut payload = vec![0; HEADER];
    payload[0] = BOOT_REPLY;
    payload[1] = query.htype;
    payload[2] = query.hlen;
    payload[4..8].copy_from_slice(&query.xid);
    payload[10..12].copy_from_slice(&fields.flags.to_be_bytes());
    payload[12..16].copy_from_slice(&fields.ciaddr.octets());
    payload[16..20].copy_from_slice(&fields.yiaddr.octets());
    payload[24..28].copy_from_slice(&query.giaddr.octets());
    payload[28..44].copy_from_slice(&query.chaddr);
    payload[FILE.end..].copy_from_slice(&MAGIC);

    // An option that cannot be written (there is none) would only be missing.
    let pieces: Vec<Vec<u8>> = options.iter().filter_map(|option| option.to_vec().ok()).collect();
    let room = query.payload_max() - HEADER;
    if pieces.iter().map(Vec::len).sum::<usize>() < room {
        payload.extend(pieces.concat());
    } else {
        overload(&mut payload, room, &pieces);
    }
    payload.push(OPTION_END);
    payload.resize(payload.len().max(PAYLOAD_MIN), 0);
    payload
}

/// Spreads `pieces` over the options field with `room` octets, `file` and `sname`, each with its own end.
fn overload(payload: &mut Vec<u8>, room: usize, pieces: &[Vec<u8>]) {
    const OVERLOAD: usize = 3;
    let (mut main, mut file, mut sname) = (Vec::new(), Vec::new(), Vec::new());
    for piece in pieces {
        let fields = [(&mut main, room - OVERLOAD), (&mut file, FILE.len()), (&mut sname, SNAME.len())];
        if let Some((field, _)) = fields.into_iter().find(|(field, room)| field.len() + piece.len() < *room) {
            field.extend_from_slice(piece);
        }
    }
    let used = u8::from(!file.is_empty()) | u8::from(!sname.is_empty()) << 1;
    for (field, place) in [(&mut file, FILE), (&mut sname, SNAME)] {
        if !field.is_empty() {
            field.push(OPTION_END);
            payload[place][..field.len()].copy_from_slice(field);
        }
    }
    payload.extend(main);
    if used != 0 {
        payload.extend([u8::from(OptionCode::OptionOverload), 1, used]);
    }
}
