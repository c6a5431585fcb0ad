//! What one FDB entry says, and how it is packed into the two words of a slot. Pure values, any thread.

use std::fmt;

use crate::ids::{DomainId, Mac, PortId};
use crate::limits::{DOMAINS_MAX, PORTS_MAX};

/// What an address is looked up by: the bridge domain above the 48 bits of the MAC address.
///
/// Never zero, because domains count from 1; zero is the key word of an empty slot.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacKey(u64);

const MAC_BITS: u32 = 48;
const FIRST_DOMAIN: DomainId = match DomainId::new(1) {
    Some(domain) => domain,
    None => panic!("domain 1 exists"),
};

impl MacKey {
    /// The key of `mac` in `domain`.
    pub const fn new(domain: DomainId, mac: Mac) -> MacKey {
        MacKey((domain.index() as u64) << MAC_BITS | mac.bits())
    }

    /// The bridge domain.
    pub const fn domain(self) -> DomainId {
        // Keys are built by `new` alone, so the number is always a domain's.
        match DomainId::new((self.0 >> MAC_BITS) as usize) {
            Some(domain) => domain,
            None => FIRST_DOMAIN,
        }
    }

    /// The MAC address.
    pub const fn mac(self) -> Mac {
        Mac::from_bits(self.0)
    }

    /// The key word of a slot: 60 bits, never zero.
    pub(super) const fn bits(self) -> u64 {
        self.0
    }

    /// The key held in a slot's key word, or `None` for a word no key has.
    pub(super) fn from_bits(bits: u64) -> Option<MacKey> {
        DomainId::new((bits >> MAC_BITS) as usize).map(|_| MacKey(bits))
    }
}

impl fmt::Display for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in bridge domain {}", self.mac(), self.domain().index())
    }
}

impl fmt::Debug for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.domain().index(), self.mac())
    }
}

/// Where an entry comes from, which decides whether it moves and ages.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// Learned from traffic: moves with its station and ages.
    Dynamic,
    /// Made by the user: neither moves nor ages.
    Static,
    /// Bound to its port, as the Linux bridge's `sticky`: neither moves nor ages.
    Sticky,
    /// An address of the switch itself: neither moves nor ages.
    Local,
}

impl Kind {
    const fn code(self) -> u64 {
        match self {
            Kind::Dynamic => 1,
            Kind::Static => 2,
            Kind::Sticky => 3,
            Kind::Local => 4,
        }
    }

    /// `None` for 0, the code of a slot without an entry, and for codes no kind has.
    #[inline]
    const fn from_code(code: u64) -> Option<Kind> {
        match code {
            1 => Some(Kind::Dynamic),
            2 => Some(Kind::Static),
            3 => Some(Kind::Sticky),
            4 => Some(Kind::Local),
            _ => None,
        }
    }
}

/// One address of the table, as a dump shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The address and its bridge domain.
    pub key: MacKey,
    /// The port the address is behind.
    pub port: PortId,
    /// Where the entry comes from.
    pub kind: Kind,
    /// Second of the last refresh, on the clock the callers pass in; for fixed entries, of their making.
    pub stamp_s: u32,
}

/// What a lookup finds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hit {
    /// The port the address is behind.
    pub port: PortId,
    /// Where the entry comes from.
    pub kind: Kind,
    /// Second of the last refresh.
    pub stamp_s: u32,
}

impl Hit {
    /// The entry this hit is, under `key`.
    pub fn entry(self, key: MacKey) -> Entry {
        Entry { key, port: self.port, kind: self.kind, stamp_s: self.stamp_s }
    }
}

/// What the table says of a station that sent a frame into a port this second: see
/// [`is_fresh`](super::Fdb::is_fresh).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fresh(u64);

impl Fresh {
    /// A dynamic entry of `port`, stamped `now_s`.
    #[inline]
    pub fn new(port: PortId, now_s: u32) -> Fresh {
        Fresh(Value::VACANT.with(port, Kind::Dynamic, now_s).0)
    }
}

const STAMP_BITS: u32 = 32;
const PORT_BITS: u32 = 12;
const KIND_BITS: u32 = 3;
const PORT_SHIFT: u32 = STAMP_BITS;
const KIND_SHIFT: u32 = PORT_SHIFT + PORT_BITS;
const GENERATION_SHIFT: u32 = KIND_SHIFT + KIND_BITS;
/// The bucket's mark, in the word of its first slot: see [`Value::SPILLED`].
const SPILLED: u64 = 1 << 63;

const _: () = assert!(PORTS_MAX.is_power_of_two() && PORTS_MAX < 1 << PORT_BITS && DOMAINS_MAX < 1 << (64 - MAC_BITS));

/// The value word of a slot: bucket mark (1 bit), generation (16), kind (3, 0 = no entry), port (12), stamp (32).
///
/// The generation changes each time the slot is bound to a key. It makes a compare-exchange on the
/// value also a comparison of the key: an updater that was held up while its slot went to another
/// address fails. It would be fooled only by 65,536 rebindings in between that end with the same
/// port, kind and second. The mark is the bucket's and not the binding's: it stays through all of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Value(u64);

impl Value {
    /// The value of a slot never used.
    pub(super) const VACANT: Value = Value(0);

    /// The mark of a bucket that an address has had to leave for its second one.
    pub(super) const SPILLED: u64 = SPILLED;

    pub(super) const fn from_word(word: u64) -> Value {
        Value(word)
    }

    pub(super) const fn word(self) -> u64 {
        self.0
    }

    /// True while the slot holds an entry.
    pub(super) const fn is_live(self) -> bool {
        self.0 >> KIND_SHIFT & ((1 << KIND_BITS) - 1) != 0
    }

    /// What the slot says, or `None` while it holds no entry.
    #[inline]
    pub(super) fn hit(self) -> Option<Hit> {
        let kind = Kind::from_code(self.0 >> KIND_SHIFT & ((1 << KIND_BITS) - 1))?;
        let port = PortId::or_router((self.0 >> PORT_SHIFT & ((1 << PORT_BITS) - 1)) as usize)?;
        Some(Hit { port, kind, stamp_s: self.0 as u32 })
    }

    /// The port, if this is a dynamic entry whose stamp is not ahead of `now_s` nor more than `age_max_s` behind.
    #[inline(always)]
    pub(super) fn port_of_dynamic(self, now_s: u32, age_max_s: u32) -> Option<PortId> {
        // The kind, and the bits that no port number has, in one comparison.
        const UNUSED: u64 = !(PORTS_MAX as u64 - 1) & ((1 << PORT_BITS) - 1);
        const MASK: u64 = ((1 << KIND_BITS) - 1) << KIND_SHIFT | UNUSED << PORT_SHIFT;
        let age_s = now_s.wrapping_sub(self.0 as u32);
        if self.0 & MASK != Kind::Dynamic.code() << KIND_SHIFT || age_s > age_max_s {
            return None;
        }
        PortId::new((self.0 >> PORT_SHIFT) as usize & (PORTS_MAX - 1))
    }

    /// True if the slot says just that.
    #[inline]
    pub(super) fn says(self, fresh: Fresh) -> bool {
        // Without the generation and the mark.
        (self.0 ^ fresh.0) << (64 - GENERATION_SHIFT) == 0
    }

    /// The same binding with other contents.
    pub(super) fn with(self, port: PortId, kind: Kind, stamp_s: u32) -> Value {
        let generation = self.0 >> GENERATION_SHIFT << GENERATION_SHIFT;
        Value(generation | kind.code() << KIND_SHIFT | (port.index() as u64) << PORT_SHIFT | u64::from(stamp_s))
    }

    /// The next binding of this slot, with its first contents. Generations wrap.
    pub(super) fn rebound(self, port: PortId, kind: Kind, stamp_s: u32) -> Value {
        let next = self.0.wrapping_add(1 << GENERATION_SHIFT) & !SPILLED;
        Value(next | self.0 & SPILLED).with(port, kind, stamp_s)
    }

    /// The end of this binding: no entry, generation and mark kept.
    pub(super) fn dead(self) -> Value {
        Value(self.0 >> GENERATION_SHIFT << GENERATION_SHIFT)
    }

    /// True while both were read in one binding, so under one key.
    pub(super) fn same_binding(self, other: Value) -> bool {
        (self.0 ^ other.0) & !SPILLED < 1 << GENERATION_SHIFT
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_round_trip_at_their_limits() {
        for domain in [1, 2, DOMAINS_MAX] {
            for mac in [Mac::ZERO, Mac::BROADCAST, Mac::new([2, 0x42, 0xac, 0x11, 0, 2])] {
                let domain = DomainId::new(domain).unwrap();
                let key = MacKey::new(domain, mac);
                assert_eq!((key.domain(), key.mac()), (domain, mac));
                assert_eq!(MacKey::from_bits(key.bits()), Some(key));
            }
        }
        assert_eq!(MacKey::from_bits(0), None);
        for kind in [Kind::Dynamic, Kind::Static, Kind::Sticky, Kind::Local] {
            for port in [0, PORTS_MAX - 1] {
                for stamp_s in [0, u32::MAX] {
                    let port = PortId::new(port).unwrap();
                    let value = Value(u64::MAX).rebound(port, kind, stamp_s);
                    assert_eq!(value.hit(), Some(Hit { port, kind, stamp_s }));
                    let fresh = Fresh::new(port, stamp_s);
                    let heard = |now_s, age_max_s| value.port_of_dynamic(now_s, age_max_s) == Some(port);
                    assert_eq!(heard(stamp_s, 0), kind == Kind::Dynamic);
                    assert!(!heard(stamp_s.wrapping_add(2), 1) && !heard(stamp_s.wrapping_sub(1), 300));
                    assert!(value.says(fresh) == (kind == Kind::Dynamic) && !value.dead().says(fresh));
                    assert!(!value.says(Fresh::new(port, stamp_s ^ 1)));
                    assert!(value.same_binding(value.dead()) && value.dead().hit().is_none());
                    assert!(!value.same_binding(value.rebound(port, kind, stamp_s)));
                }
            }
        }
        assert_eq!(Value::VACANT.hit(), None);
    }

    #[test]
    fn a_key_names_its_address_and_domain() {
        let key = MacKey::new(DomainId::new(7).unwrap(), Mac::new([2, 0, 0, 0, 0, 9]));
        assert_eq!(key.to_string(), "02:00:00:00:00:09 in bridge domain 7");
    }
}
