//! Keeps neighbours within their limits: a scan of a subnet, or a flood of invented senders, costs a bounded amount of memory
//! and of questions, and does not push out neighbours in use.

use super::index::{Class, Group};
use super::{Cache, MS};
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
        let room = if wanted { self.clear(NEIGHBOURS_MAX, now_ns) } else { self.make_room(key, false, now_ns) };
        room.then(|| self.insert(key, now_ns)).flatten()
    }

    /// True once there is room for one more neighbour on the key's domain.
    fn make_room(&mut self, key: NeighbourKey, resolved: bool, now_ns: u64) -> bool {
        let limits = self.settings;
        let here = |cache: &Cache, number: fn(&Group) -> usize| cache.index.of(key.domain()).map_or(0, number);
        let enough = |cache: &mut Cache| {
            if !resolved {
                let full_here = here(cache, |group| group.unresolved) >= limits.interface_unresolved_max;
                if full_here && !cache.evict(Some(key), Class::Incomplete, now_ns) {
                    return false;
                }
                let full = cache.index.all.unresolved >= limits.unresolved_max;
                if full && !cache.evict(None, Class::Incomplete, now_ns) {
                    return false;
                }
            }
            let full_here = here(cache, |group| group.count) >= limits.interface_neighbours_max;
            (!full_here || cache.evict(Some(key), Class::Unused, now_ns))
                && cache.clear(limits.neighbours_max.min(NEIGHBOURS_MAX), now_ns)
        };
        let room = enough(self);
        self.counters.refused += u64::from(!room);
        room
    }

    /// True once there are fewer neighbours than `most`.
    fn clear(&mut self, most: usize, now_ns: u64) -> bool {
        self.len() < most || self.evict(None, Class::Unused, now_ns)
    }

    /// Removes the first that may go, on the key's domain or anywhere.
    fn evict(&mut self, near: Option<NeighbourKey>, last: Class, now_ns: u64) -> bool {
        let group = near.map_or(Some(&self.index.all), |key| self.index.of(key.domain()));
        // One that lives answers the first question: whoever is silent for as long as that takes makes room.
        let patience_ns = now_ns.checked_sub(self.settings.retrans_ms * MS);
        let Some(slot) = group.and_then(|group| group.leaving.first(last, patience_ns)) else { return false };
        self.counters.evicted += 1;
        self.delete(slot);
        true
    }
}
