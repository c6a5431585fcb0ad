//! Keeps neighbours within their limits: a scan of a subnet, or a flood of invented senders, costs a bounded amount
//! of memory and of questions, and does not push out neighbours in use.

use super::index::{Class, Group};
use super::{Cache, MS};
use crate::ids::DomainId;
use crate::limits::NEIGHBOURS_MAX;
use crate::table::neighbour::{NeighbourKey, NeighbourSlot};

impl Cache {
    /// An entry for a neighbour to be asked for, if there is room; it is being asked for.
    pub(super) fn create(&mut self, key: NeighbourKey, now_ns: u64) -> Option<NeighbourSlot> {
        let slot = self.place(key, false, now_ns)?;
        self.start(slot, now_ns);
        Some(slot)
    }

    /// An entry for a neighbour that told its MAC address, if there is room.
    pub(super) fn admit(&mut self, key: NeighbourKey, now_ns: u64) -> Option<NeighbourSlot> {
        self.make_room(key, true, now_ns).then(|| self.insert(key, now_ns)).flatten()
    }

    /// An entry, for whatever the table as a whole has room for if it is `wanted` by the operator.
    pub(super) fn place(&mut self, key: NeighbourKey, wanted: bool, now_ns: u64) -> Option<NeighbourSlot> {
        let room = if wanted {
            self.shrink(None, NEIGHBOURS_MAX, |group| group.count, Class::Unused, now_ns)
        } else {
            self.make_room(key, false, now_ns)
        };
        room.then(|| self.insert(key, now_ns)).flatten()
    }

    /// True once there is room for one more neighbour on the key's domain.
    fn make_room(&mut self, key: NeighbourKey, resolved: bool, now_ns: u64) -> bool {
        let limits = self.settings;
        let here = Some(key.domain());
        let unresolved = |group: &Group| group.unresolved;
        let count = |group: &Group| group.count;
        let room = (resolved
            || (self.shrink(here, limits.interface_unresolved_max, unresolved, Class::Incomplete, now_ns)
                && self.shrink(None, limits.unresolved_max, unresolved, Class::Incomplete, now_ns)))
            && self.shrink(here, limits.interface_neighbours_max, count, Class::Unused, now_ns)
            && self.shrink(None, limits.neighbours_max.min(NEIGHBOURS_MAX), count, Class::Unused, now_ns);
        self.counters.refused += u64::from(!room);
        room
    }

    /// True once fewer than `most` of the neighbours, on one domain or anywhere, count.
    fn shrink(
        &mut self,
        domain: Option<DomainId>,
        most: usize,
        number: fn(&Group) -> usize,
        last: Class,
        now_ns: u64,
    ) -> bool {
        while self.group(domain).is_some_and(|group| number(group) >= most) {
            if !self.evict(domain, last, now_ns) {
                return false;
            }
        }
        true
    }

    /// Forgets a neighbour that just lost its MAC address, or the next hop that kept it, where there are enough without
    /// one already.
    pub(super) fn trim(&mut self, slot: NeighbourSlot) {
        let Some(entry) = self.entry(slot).filter(|entry| entry.held == 0 && entry.mac.is_none()) else { return };
        let here = self.group(Some(entry.key.domain())).map_or(0, |group| group.unresolved);
        let limits = &self.settings;
        if here > limits.interface_unresolved_max || self.index.all.unresolved > limits.unresolved_max {
            self.delete(slot);
        }
    }

    fn group(&self, domain: Option<DomainId>) -> Option<&Group> {
        domain.map_or(Some(&self.index.all), |domain| self.index.of(domain))
    }

    /// Removes the first that may go, on one domain or anywhere.
    fn evict(&mut self, domain: Option<DomainId>, last: Class, now_ns: u64) -> bool {
        let group = self.group(domain);
        // One that lives answers the first question: whoever is silent for as long as that takes makes room.
        let patience_ns = now_ns.checked_sub(self.settings.retrans_ms * MS);
        let Some(slot) = group.and_then(|group| group.leaving.first(last, patience_ns)) else { return false };
        self.counters.evicted += 1;
        self.delete(slot);
        true
    }
}
