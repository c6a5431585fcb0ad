//! The small numbers that name things: ports, bridge domains, next hops, MAC addresses. Pure values, any thread.

use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;

use crate::limits::{DOMAINS_MAX, NEXT_HOPS_MAX, PORTS_MAX, VRFS_MAX};

/// A port of the switch: an index below [`PORTS_MAX`], stable while the port is configured.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct PortId(u16);

impl PortId {
    /// The port with index 0.
    pub const FIRST: PortId = PortId(0);

    /// Where frames of the router come from: no port of the switch, so nothing has it as its own.
    pub const ROUTER: PortId = PortId(PORTS_MAX as u16);

    /// The id for `index`, or `None` at or above [`PORTS_MAX`].
    pub const fn new(index: usize) -> Option<PortId> {
        if index < PORTS_MAX { Some(PortId(index as u16)) } else { None }
    }

    /// The same, with [`PortId::ROUTER`] behind the last one.
    pub const fn or_router(index: usize) -> Option<PortId> {
        if index <= PORTS_MAX { Some(PortId(index as u16)) } else { None }
    }

    /// The index: below [`PORTS_MAX`], or equal to it for [`PortId::ROUTER`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A bridge domain (a broadcast domain with its own FDB): 1 to [`DOMAINS_MAX`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct DomainId(NonZeroU16);

impl DomainId {
    /// The id for `number`, or `None` outside 1..=[`DOMAINS_MAX`].
    pub const fn new(number: usize) -> Option<DomainId> {
        if number > DOMAINS_MAX {
            return None;
        }
        match NonZeroU16::new(number as u16) {
            Some(number) => Some(DomainId(number)),
            None => None,
        }
    }

    /// The number, 1 to [`DOMAINS_MAX`].
    pub const fn index(self) -> usize {
        self.0.get() as usize
    }
}

/// A routing table with all that belongs to it (VRF): an index below [`VRFS_MAX`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct VrfId(u8);

impl VrfId {
    /// The VRF that everything is in that names none.
    pub const DEFAULT: VrfId = VrfId(0);

    /// The id for `index`, or `None` at or above [`VRFS_MAX`].
    pub const fn new(index: usize) -> Option<VrfId> {
        if index < VRFS_MAX { Some(VrfId(index as u8)) } else { None }
    }

    /// The index, below [`VRFS_MAX`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A next hop of routes: an index below [`NEXT_HOPS_MAX`]. Number 0 means that there is no route.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct NextHopId(u32);

impl NextHopId {
    /// No route.
    pub const NONE: NextHopId = NextHopId(0);

    /// The id for `index`, or `None` at or above [`NEXT_HOPS_MAX`]. Index 0 is [`NextHopId::NONE`].
    pub const fn new(index: usize) -> Option<NextHopId> {
        if index < NEXT_HOPS_MAX { Some(NextHopId(index as u32)) } else { None }
    }

    /// The id in the low bits of `bits`; higher bits are cut off.
    pub const fn from_bits(bits: u32) -> NextHopId {
        NextHopId(bits & (NEXT_HOPS_MAX as u32 - 1))
    }

    /// The index as a word, below [`NEXT_HOPS_MAX`].
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// The index, below [`NEXT_HOPS_MAX`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// True for [`NextHopId::NONE`].
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }
}

/// A 48-bit MAC address in the low bits of a word, first octet on the wire most significant.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(u64);

impl Mac {
    /// The broadcast address.
    pub const BROADCAST: Mac = Mac(0xffff_ffff_ffff);
    /// The all-zero address, which no station has.
    pub const ZERO: Mac = Mac(0);

    /// The address in wire order.
    pub const fn new(octets: [u8; 6]) -> Mac {
        let [a, b, c, d, e, f] = octets;
        Mac(u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
    }

    /// The address held in the low 48 bits of `bits`; higher bits are cut off.
    pub const fn from_bits(bits: u64) -> Mac {
        Mac(bits & 0xffff_ffff_ffff)
    }

    /// The low 48 bits.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The octets in wire order.
    pub const fn octets(self) -> [u8; 6] {
        let [_, _, a, b, c, d, e, f] = self.0.to_be_bytes();
        [a, b, c, d, e, f]
    }

    /// True for group addresses (I/G bit set): broadcast and multicast.
    pub const fn is_group(self) -> bool {
        self.0 & 0x0100_0000_0000 != 0
    }

    /// True for 01:80:C2:00:00:00..0F, which a bridge never forwards (IEEE 802.1Q-2018 table 8-1).
    pub const fn is_link_local(self) -> bool {
        self.0 & !0xf == 0x0180_c200_0000
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.octets();
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Mac {
    type Err = String;

    fn from_str(text: &str) -> Result<Mac, String> {
        let wrong = || format!("'{text}' is not a MAC address; write six hex octets, like 02:42:ac:11:00:02");
        let mut octets = [0u8; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().ok_or_else(wrong)?;
            if part.is_empty() || part.len() > 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(wrong());
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        if parts.next().is_some() { Err(wrong()) } else { Ok(Mac::new(octets)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_round_trips_through_text_and_octets() {
        let mac: Mac = "02:42:AC:11:0:fE".parse().unwrap();
        assert_eq!(mac.to_string(), "02:42:ac:11:00:fe");
        assert_eq!(Mac::new(mac.octets()), mac);
        for wrong in ["", "02:42", "02:42:ac:11:00:02:03", "02:42:ac:11:00:zz", "+2:42:ac:11:00:02"] {
            assert!(wrong.parse::<Mac>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn group_and_link_local_addresses() {
        assert!(Mac::BROADCAST.is_group() && !Mac::BROADCAST.is_link_local());
        assert!(Mac::new([1, 0x80, 0xc2, 0, 0, 0]).is_link_local());
        assert!(Mac::new([1, 0x80, 0xc2, 0, 0, 0xf]).is_link_local());
        assert!(!Mac::new([1, 0x80, 0xc2, 0, 0, 0x10]).is_link_local());
        assert!(!Mac::new([2, 0, 0, 0, 0, 1]).is_group());
    }

    #[test]
    fn ids_stay_in_range() {
        assert!(PortId::new(PORTS_MAX).is_none() && PortId::new(PORTS_MAX - 1).is_some());
        assert!(DomainId::new(0).is_none() && DomainId::new(DOMAINS_MAX + 1).is_none());
        assert!(NextHopId::new(NEXT_HOPS_MAX).is_none() && NextHopId::new(0) == Some(NextHopId::NONE));
    }
}
