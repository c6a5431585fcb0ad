//! The reference switch: what a frame's fate must be, by the rules of IEEE 802.1D and 802.1Q and by the switch's
//! own documented ones, written down as plainly as can be. No speed, no sharing, no code of the packet path.
//!
//! Frames that arrive in one burst count as simultaneous: the switch learns all their sources before it looks up
//! the first destination, and so does the reference.

use std::collections::HashMap;

use switch::ids::{DomainId, Mac, PortId};
use switch::stats::Drop;
use switch::table::fdb::Kind;
use switch::table::snapshot::{PortSetup, Snapshot};

/// A configuration: what a [`Snapshot`] is built from.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The ports.
    pub ports: Vec<PortSetup>,
    /// The bridge domains, each with its ageing time in seconds.
    pub domains: Vec<(DomainId, u32)>,
}

impl Config {
    /// The port `id`, if there is one.
    pub fn port(&self, id: PortId) -> Option<&PortSetup> {
        self.ports.iter().find(|port| port.id == id)
    }

    /// The port `id` for changing, if there is one.
    pub fn port_mut(&mut self, id: PortId) -> Option<&mut PortSetup> {
        self.ports.iter_mut().find(|port| port.id == id)
    }

    /// Ageing time of a domain; an unknown domain remembers nothing.
    fn ageing_s(&self, domain: DomainId) -> Option<u32> {
        self.domains.iter().find(|(id, _)| *id == domain).map(|(_, ageing_s)| *ageing_s)
    }

    /// The same as the packet path wants it.
    pub fn snapshot(&self, generation: u64) -> Snapshot {
        Snapshot::new(generation, &self.ports, &self.domains)
    }
}

/// What the table says of an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Row {
    /// Where it is.
    pub port: PortId,
    /// Where the entry comes from.
    pub kind: Kind,
    /// Second of the last refresh.
    pub stamp_s: u32,
}

/// What learning a frame's source did, as far as it is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lesson {
    /// A new address.
    Learned,
    /// The station came from another port.
    Moved,
    /// A limit was reached.
    Refused,
}

/// A frame's fate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The frames that leave, each on another port.
    pub sent: Vec<(PortId, Vec<u8>)>,
    /// The drops, each with the port it is counted at.
    pub drops: Vec<(PortId, Drop)>,
    /// What was learned.
    pub lesson: Option<Lesson>,
    /// Whether it counts as flooded.
    pub flooded: bool,
    /// Whether its checksum was finished.
    pub finished: bool,
}

/// An admitted frame.
struct Admitted {
    dst: [u8; 6],
    src: [u8; 6],
    /// Tag control information in front, if any.
    tci: Option<u16>,
    domain: DomainId,
    /// The frame without that tag.
    untagged: Vec<u8>,
}

/// The reference switch; see the module text.
pub struct Reference {
    /// The forwarding table.
    pub table: HashMap<(DomainId, Mac), Row>,
    /// Most dynamic entries in all.
    entries_max: usize,
}

impl Reference {
    /// A switch that knows nothing yet and may learn `entries_max` addresses.
    pub fn new(entries_max: usize) -> Reference {
        Reference { table: HashMap::new(), entries_max }
    }

    /// Takes a burst from `port` at second `now_s`; the fate of each frame in order.
    pub fn burst(&mut self, config: &Config, port: PortId, frames: &[Vec<u8>], now_s: u32) -> Vec<Outcome> {
        let admitted: Vec<_> = frames.iter().map(|frame| admit(config, port, frame)).collect();
        let lessons: Vec<_> =
            admitted.iter().map(|frame| self.learn(config, port, frame.as_ref().ok()?, now_s)).collect();
        let fates = admitted.into_iter().map(|frame| match frame {
            Ok(frame) => self.forward(config, port, frame, now_s),
            Err(reason) => Outcome { drops: vec![(port, reason)], ..Outcome::default() },
        });
        fates.zip(lessons).map(|(fate, lesson)| Outcome { lesson, ..fate }).collect()
    }

    /// Whether an entry is older than its domain allows.
    pub fn is_expired(&self, config: &Config, domain: DomainId, row: &Row, now_s: u32) -> bool {
        row.kind == Kind::Dynamic
            && config.ageing_s(domain).is_none_or(|ageing_s| now_s.saturating_sub(row.stamp_s) > ageing_s)
    }

    /// Forgets what was learned on `port`.
    pub fn flush_port(&mut self, port: PortId) {
        self.table.retain(|_, row| row.port != port || row.kind != Kind::Dynamic);
    }

    fn dynamic(&self) -> impl Iterator<Item = &Row> {
        self.table.values().filter(|row| row.kind == Kind::Dynamic)
    }

    fn learn(&mut self, config: &Config, port: PortId, frame: &Admitted, now_s: u32) -> Option<Lesson> {
        let setup = config.port(port)?;
        if !setup.flags.learning || frame.src == [0; 6] {
            return None;
        }
        let key = (frame.domain, Mac::new(frame.src));
        let fresh = Row { port, kind: Kind::Dynamic, stamp_s: now_s };
        let port_full = self.dynamic().filter(|row| row.port == port).count() >= setup.mac_limit as usize;
        let full = self.dynamic().count() >= self.entries_max;
        match self.table.get(&key).copied() {
            // Static, sticky and local entries neither move nor age.
            Some(row) if row.kind != Kind::Dynamic => None,
            Some(row) if row.port == port => {
                self.table.insert(key, Row { stamp_s: now_s.max(row.stamp_s), ..row });
                None
            }
            Some(_) if port_full => Some(Lesson::Refused),
            Some(_) => {
                self.table.insert(key, fresh);
                Some(Lesson::Moved)
            }
            None if full || port_full => Some(Lesson::Refused),
            None => {
                self.table.insert(key, fresh);
                Some(Lesson::Learned)
            }
        }
    }

    fn forward(&self, config: &Config, ingress: PortId, frame: Admitted, now_s: u32) -> Outcome {
        let drop = |port, reason| Outcome { drops: vec![(port, reason)], ..Outcome::default() };
        if frame.dst[0] & 1 == 1 {
            if frame.dst[..5] == [0x01, 0x80, 0xc2, 0, 0] && frame.dst[5] < 16 {
                return drop(ingress, Drop::L2LinkLocal);
            }
            return flood(config, ingress, frame);
        }
        let row = self.table.get(&(frame.domain, Mac::new(frame.dst)));
        let Some(row) = row.filter(|row| !self.is_expired(config, frame.domain, row, now_s)) else {
            return flood(config, ingress, frame);
        };
        if row.kind == Kind::Local {
            return drop(ingress, Drop::L2Local);
        }
        if row.port == ingress {
            return drop(ingress, Drop::L2SamePort);
        }
        let Some(egress) = config.port(row.port).filter(|port| port.forwarding) else {
            return drop(row.port, Drop::TxPortDown);
        };
        let Some(vlan) = egress_vlan(egress, frame.domain) else { return drop(ingress, Drop::L2NotMember) };
        if egress.flags.isolated && config.port(ingress).is_some_and(|port| port.flags.isolated) {
            return drop(ingress, Drop::L2Isolated);
        }
        if hops(&frame, egress, vlan) {
            return drop(ingress, Drop::VlanNotMember);
        }
        if frame.untagged.len() > egress.mtu as usize + 14 {
            return drop(row.port, Drop::MtuExceeded);
        }
        let (payload, finished) = finish_checksum(&frame.untagged);
        Outcome { sent: vec![(row.port, with_tag(&payload, frame.tci, vlan))], finished, ..Outcome::default() }
    }
}

/// May the frame in, and where does it belong? 802.1Q: a tag with VLAN id 0 is priority only, 4095 is reserved.
fn admit(config: &Config, port: PortId, frame: &[u8]) -> Result<Admitted, Drop> {
    if frame.len() < 14 {
        return Err(Drop::RxMalformed);
    }
    let is_tagged = frame[12..14] == [0x81, 0x00];
    if is_tagged && frame.len() < 18 {
        return Err(Drop::RxMalformed);
    }
    let setup = config.port(port).filter(|port| port.forwarding).ok_or(Drop::RxPortDown)?;
    let dst: [u8; 6] = frame[0..6].try_into().expect("six bytes");
    let src: [u8; 6] = frame[6..12].try_into().expect("six bytes");
    if src[0] & 1 == 1 {
        return Err(Drop::L2SourceGroup);
    }
    let tci = is_tagged.then(|| u16::from_be_bytes([frame[14], frame[15]]));
    let domain = match tci.map_or(0, |tci| tci & 0x0fff) {
        0 => setup.native.ok_or(Drop::VlanUntagged)?,
        4095 => return Err(Drop::VlanReserved),
        vlan => setup.trunk.iter().find(|entry| entry.0 == vlan).ok_or(Drop::VlanNotMember)?.1,
    };
    let untagged = if is_tagged { [&frame[..12], &frame[16..]].concat() } else { frame.to_vec() };
    Ok(Admitted { dst, src, tci, domain, untagged })
}

/// To every other member that takes this kind of frame, isolated ports not reaching each other.
fn flood(config: &Config, ingress: PortId, frame: Admitted) -> Outcome {
    let (payload, finished) = finish_checksum(&frame.untagged);
    let mut fate = Outcome { finished, ..Outcome::default() };
    let from_isolated = config.port(ingress).is_some_and(|port| port.flags.isolated);
    for port in &config.ports {
        let flags = port.flags;
        let takes = match frame.dst {
            [0xff, 0xff, 0xff, 0xff, 0xff, 0xff] => flags.flood_broadcast,
            [first, ..] if first & 1 == 1 => flags.flood_multicast,
            _ => flags.flood_unicast,
        };
        let Some(vlan) = egress_vlan(port, frame.domain) else { continue };
        if port.id == ingress || !port.forwarding || !takes || (from_isolated && flags.isolated) {
            continue;
        }
        fate.flooded = true;
        if hops(&frame, port, vlan) {
            fate.drops.push((port.id, Drop::VlanNotMember));
        } else if payload.len() > port.mtu as usize + 14 {
            fate.drops.push((port.id, Drop::MtuExceeded));
        } else {
            fate.sent.push((port.id, with_tag(&payload, frame.tci, vlan)));
        }
    }
    if !fate.flooded {
        fate.drops.push((ingress, Drop::L2NoReceiver));
    }
    fate
}

/// `Some(0)`: untagged member; `Some(id)`: tagged member; `None`: no member.
fn egress_vlan(port: &PortSetup, domain: DomainId) -> Option<u16> {
    if port.native == Some(domain) {
        return Some(0);
    }
    port.trunk.iter().find(|entry| entry.1 == domain).map(|entry| entry.0)
}

/// True if the frame came with two tags and would leave with the inner one on a port that reads tags.
fn hops(frame: &Admitted, port: &PortSetup, vlan: u16) -> bool {
    vlan == 0 && frame.tci.is_some() && frame.untagged[12..14] == [0x81, 0] && !port.trunk.is_empty()
}

/// The frame with the tag for `vlan` (none for 0): priority bits come from the tag it arrived with.
fn with_tag(untagged: &[u8], ingress_tci: Option<u16>, vlan: u16) -> Vec<u8> {
    if vlan == 0 {
        return untagged.to_vec();
    }
    crate::frames::tagged(untagged, ingress_tci.unwrap_or(0) & 0xf000 | vlan)
}

/// The frame with its TCP or UDP checksum finished, if it was partial: RFC 1071 word by word. Knows IPv4 and IPv6
/// without extension headers; fragments, short packets and everything else stay as they are.
fn finish_checksum(frame: &[u8]) -> (Vec<u8>, bool) {
    let unchanged = || (frame.to_vec(), false);
    let Some((start, len, protocol, addresses)) = ip_payload(frame) else { return unchanged() };
    let (header, at) = match protocol {
        6 => (20, 16),
        17 => (8, 6),
        _ => return unchanged(),
    };
    let Some(packet) = frame.get(start..start + len).filter(|packet| packet.len() >= header) else {
        return unchanged();
    };
    if protocol == 17 && usize::from(u16::from_be_bytes([packet[4], packet[5]])) != len {
        return unchanged();
    }
    let pseudo = fold(words(addresses) + u64::from(protocol) + len as u64);
    if packet[at..at + 2] != pseudo.to_be_bytes() {
        return unchanged();
    }
    let sum = !fold(words(packet));
    let mut out = frame.to_vec();
    out[start + at..start + at + 2].copy_from_slice(&if sum == 0 { 0xffff } else { sum }.to_be_bytes());
    (out, true)
}

/// Start, length and protocol of the IP payload, and the IP addresses. Up to two tags may stand before IP.
fn ip_payload(frame: &[u8]) -> Option<(usize, usize, u8, &[u8])> {
    let mut at = 14;
    while at < 22 && [[0x81, 0x00], [0x88, 0xa8]].contains(frame.get(at - 2..at)?.first_chunk()?) {
        at += 4;
    }
    let ip = frame.get(at..)?;
    match frame[at - 2..at] {
        [0x08, 0x00] if ip.len() >= 20 => {
            let header = usize::from(ip[0] & 0x0f) * 4;
            let total = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
            let fragment = u16::from_be_bytes([ip[6], ip[7]]) & 0x3fff != 0;
            let sound = ip[0] >> 4 == 4 && header >= 20 && total >= header && !fragment;
            sound.then(|| (at + header, total - header, ip[9], &ip[12..20]))
        }
        [0x86, 0xdd] if ip.len() >= 40 && ip[0] >> 4 == 6 => {
            Some((at + 40, usize::from(u16::from_be_bytes([ip[4], ip[5]])), ip[6], &ip[8..40]))
        }
        _ => None,
    }
}

fn words(bytes: &[u8]) -> u64 {
    bytes.chunks(2).map(|word| u64::from(word[0]) << 8 | u64::from(*word.get(1).unwrap_or(&0))).sum()
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}
