//! What routes lead to: next hops by number, as the packet path reads them.
//!
//! The control thread writes an entry before any route refers to its number, and reuses a number only after a grace
//! period; workers read without a lock.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::neighbour::NeighbourSlot;
use crate::ids::{DomainId, NextHopId};
use crate::limits::{GROUP_SLOTS, GROUPS_MAX, NEXT_HOPS_MAX};

/// A next hop.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum NextHop {
    /// The switch itself: one of its addresses.
    Local,
    /// The destination is on this domain's subnet: its own address is the next hop's.
    Connected(DomainId),
    /// The router in this slot of the neighbour table.
    Gateway(NeighbourSlot),
    /// One of several, chosen by the packet's flow: a [group](NextHops::member).
    Group(u16),
    /// Broadcast or network address of a connected subnet (RFC 2644: not forwarded).
    Broadcast,
    /// Packets vanish.
    Blackhole,
    /// The sender is told that the host cannot be reached.
    Unreachable,
    /// The sender is told that communication is prohibited.
    Prohibited,
}

impl NextHop {
    fn encode(self) -> u64 {
        let (kind, value) = match self {
            NextHop::Local => (1, 0),
            NextHop::Connected(domain) => (2, domain.index()),
            NextHop::Gateway(slot) => (3, slot.index()),
            NextHop::Group(group) => (4, usize::from(group)),
            NextHop::Broadcast => (5, 0),
            NextHop::Blackhole => (6, 0),
            NextHop::Unreachable => (7, 0),
            NextHop::Prohibited => (8, 0),
        };
        kind << 32 | value as u64
    }

    #[inline]
    fn decode(word: u64) -> Option<NextHop> {
        let value = word as u32 as usize;
        Some(match word >> 32 {
            1 => NextHop::Local,
            2 => NextHop::Connected(DomainId::new(value)?),
            3 => NextHop::Gateway(NeighbourSlot::new(value)?),
            4 => NextHop::Group(value as u16),
            5 => NextHop::Broadcast,
            6 => NextHop::Blackhole,
            7 => NextHop::Unreachable,
            8 => NextHop::Prohibited,
            _ => return None,
        })
    }
}

/// All next hops. See the module text.
pub struct NextHops {
    entries: Box<[AtomicU64]>,
    /// [`GROUP_SLOTS`] numbers of next hops for each group.
    groups: Box<[AtomicU32]>,
}

impl Default for NextHops {
    fn default() -> Self {
        NextHops {
            entries: (0..NEXT_HOPS_MAX).map(|_| AtomicU64::new(0)).collect(),
            groups: (0..GROUPS_MAX * GROUP_SLOTS).map(|_| AtomicU32::new(0)).collect(),
        }
    }
}

impl NextHops {
    /// The next hop with this number; `None` for [`NextHopId::NONE`] and numbers not in use. Any thread.
    #[inline]
    pub fn get(&self, id: NextHopId) -> Option<NextHop> {
        NextHop::decode(self.entries.get(id.index())?.load(Ordering::Acquire))
    }

    /// The member of a group that a flow with this hash takes: any next hop but a group. Any thread.
    #[inline]
    pub fn member(&self, group: u16, hash: u32) -> Option<NextHop> {
        let at = usize::from(group) * GROUP_SLOTS + hash as usize % GROUP_SLOTS;
        let id = NextHopId::new(self.groups.get(at)?.load(Ordering::Acquire) as usize)?;
        self.get(id).filter(|hop| !matches!(hop, NextHop::Group(_)))
    }

    /// Sets the next hop with this number; `None` takes it away. Control thread.
    pub fn set(&self, id: NextHopId, hop: Option<NextHop>) {
        if let Some(entry) = self.entries.get(id.index()).filter(|_| id != NextHopId::NONE) {
            entry.store(hop.map_or(0, NextHop::encode), Ordering::Release);
        }
    }

    /// Sets the members of a group, slot by slot. Control thread.
    pub fn set_group(&self, group: u16, slots: &[NextHopId; GROUP_SLOTS]) {
        let first = usize::from(group) * GROUP_SLOTS;
        for (slot, id) in slots.iter().enumerate() {
            if let Some(entry) = self.groups.get(first + slot) {
                entry.store(id.index() as u32, Ordering::Release);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_survives_its_encoding() {
        let table = NextHops::default();
        let id = NextHopId::new(NEXT_HOPS_MAX - 1).unwrap();
        let kinds = [
            NextHop::Local,
            NextHop::Connected(DomainId::new(4094).unwrap()),
            NextHop::Gateway(NeighbourSlot::new(65_535).unwrap()),
            NextHop::Group(1_023),
            NextHop::Broadcast,
            NextHop::Blackhole,
            NextHop::Unreachable,
            NextHop::Prohibited,
        ];
        for hop in kinds {
            table.set(id, Some(hop));
            assert_eq!(table.get(id), Some(hop));
        }
        table.set(id, None);
        table.set(NextHopId::NONE, Some(NextHop::Local));
        assert_eq!((table.get(id), table.get(NextHopId::NONE)), (None, None));
    }

    #[test]
    fn a_group_gives_each_flow_one_member_and_never_a_group() {
        let table = NextHops::default();
        let ids = [1, 2, 3].map(|index| NextHopId::new(index).unwrap());
        table.set(ids[0], Some(NextHop::Blackhole));
        table.set(ids[1], Some(NextHop::Unreachable));
        table.set(ids[2], Some(NextHop::Group(7)));
        let mut slots = [ids[0]; GROUP_SLOTS];
        slots[1] = ids[1];
        slots[2] = ids[2];
        table.set_group(7, &slots);
        assert_eq!(table.member(7, 256), Some(NextHop::Blackhole));
        assert_eq!(table.member(7, 1), Some(NextHop::Unreachable));
        assert_eq!((table.member(7, 2), table.member(8, 0), table.member(u16::MAX, 0)), (None, None, None));
    }
}
