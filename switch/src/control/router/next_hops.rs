//! Next hops by number: what they are, how many routes use each, when a number may be used again. Control thread.
//!
//! A number stands for all that a route says beside its prefix: where to, and where it comes from. A route holds one
//! use of its number. The table of the packet path is written before a route can lead there, and a number (a group, a
//! neighbour's slot) is free again when no worker can still follow a route to it: after a grace period, and once
//! every worker has the snapshot with the routing tables of now.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use super::balance::assign;
use super::interfaces::Interfaces;
use crate::config::Via;
use crate::host::SharedHost;
use crate::ids::{DomainId, NextHopId, VrfId};
use crate::limits::{GROUP_SLOTS, GROUPS_MAX, NEXT_HOPS_MAX};
use crate::table::grace::Epoch;
use crate::table::neighbour::{NeighbourKey, NeighbourSlot};
use crate::table::next_hop::NextHop;
use crate::worker::Shared;

/// Where a route comes from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Origin {
    /// An interface's address.
    Kernel,
    /// The configuration.
    File,
    /// A request at run time, before so many reloads.
    Added(u32),
}

/// What a route leads to.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Target {
    /// The switch itself, by the interface named.
    Local(Arc<str>),
    /// A subnet of an interface.
    Connected(Arc<str>, DomainId),
    /// Network or broadcast address of a subnet.
    Broadcast(Arc<str>),
    /// Packets vanish.
    Blackhole,
    /// The sender is told that the host cannot be reached.
    Unreachable,
    /// The sender is told that communication is prohibited.
    Prohibited,
    /// Other routers.
    Via {
        /// The VRF that they are in.
        vrf: VrfId,
        /// Who, at least one, nobody twice.
        hops: Vec<Via>,
        /// The interface that they are on, if the route says so.
        interface: Option<Arc<str>>,
    },
}

/// All that a route says beside its prefix.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Spec {
    /// Where it comes from.
    pub origin: Origin,
    /// Where to.
    pub target: Target,
}

/// Why there is no number for a next hop.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoRoom {
    /// All numbers are in use.
    #[error("all {NEXT_HOPS_MAX} different next hops are in use; remove routes first")]
    Numbers,
    /// All groups are in use.
    #[error("all {GROUPS_MAX} different sets of next hops are in use; remove routes with several next hops first")]
    Groups,
}

/// A number in use.
struct Entry {
    spec: Spec,
    /// Routes that use it.
    routes: usize,
    /// The neighbours that its next hops are now; `None` for one that cannot be reached.
    keys: Vec<Option<NeighbourKey>>,
    group: Option<Group>,
}

/// Next hops that share the traffic.
struct Group {
    number: u16,
    slots: Box<[Option<NeighbourKey>; GROUP_SLOTS]>,
}

/// A neighbour that routes lead to.
struct Gateway {
    slot: NeighbourSlot,
    /// Its own number, for groups.
    id: NextHopId,
    /// Entries that use it.
    users: usize,
    /// Counts how often it was given up.
    given_up: u64,
}

/// Something to be free again after a while.
enum Retired {
    Number(NextHopId),
    Group(u16),
    /// Unless it is in use again: then the count has changed, or there are users.
    Gateway(NeighbourKey, u64),
}

/// All next hops. See the module text.
pub struct NextHopTable {
    shared: Arc<Shared>,
    host: SharedHost,
    /// By number; number 0 is none.
    entries: Vec<Option<Entry>>,
    by_spec: HashMap<Spec, NextHopId>,
    free: Vec<NextHopId>,
    free_groups: Vec<u16>,
    groups: u16,
    gateways: HashMap<NeighbourKey, Gateway>,
    /// With the epoch and the snapshot to wait for, in order.
    retired: VecDeque<(Epoch, u64, Retired)>,
    /// The snapshot that has the routing tables of now.
    generation: u64,
}

impl NextHopTable {
    /// Without any.
    pub fn new(shared: Arc<Shared>, host: SharedHost) -> NextHopTable {
        NextHopTable {
            shared,
            host,
            entries: vec![None],
            by_spec: HashMap::new(),
            free: Vec::new(),
            free_groups: Vec::new(),
            groups: 0,
            gateways: HashMap::new(),
            retired: VecDeque::new(),
            generation: 0,
        }
    }

    /// What a number stands for.
    pub fn spec(&self, id: NextHopId) -> Option<&Spec> {
        self.entry(id).map(|entry| &entry.spec)
    }

    /// The neighbours that the next hops of a number are now, in the order of the route.
    pub fn keys(&self, id: NextHopId) -> &[Option<NeighbourKey>] {
        self.entry(id).map_or(&[], |entry| &entry.keys)
    }

    /// The neighbour that a flow with this hash is sent to, of a number with several.
    pub fn member(&self, id: NextHopId, hash: u32) -> Option<NeighbourKey> {
        let group = self.entry(id)?.group.as_ref()?;
        group.slots.get(hash as usize % GROUP_SLOTS).copied().flatten()
    }

    /// True if packets can follow it: one of its next hops can be reached, or it needs none.
    pub fn is_active(&self, id: NextHopId) -> bool {
        self.entry(id).is_some_and(|entry| entry.keys.is_empty() || entry.keys.iter().any(Option::is_some))
    }

    /// The snapshot that workers need to have for the routing tables of now.
    pub fn set_generation(&mut self, generation: u64) {
        self.generation = generation;
    }

    /// The number for `spec`, with one use more. The packet path's table has it when this returns.
    ///
    /// # Errors
    /// [`NoRoom`].
    pub fn acquire(&mut self, spec: Spec, interfaces: &Interfaces) -> Result<NextHopId, NoRoom> {
        if let Some(&id) = self.by_spec.get(&spec) {
            if let Some(entry) = self.entry_mut(id) {
                entry.routes += 1;
            }
            return Ok(id);
        }
        let many = matches!(&spec.target, Target::Via { hops, .. } if hops.len() > 1);
        let group = match many {
            true => Some(Group { number: self.take_group()?, slots: Box::new([None; GROUP_SLOTS]) }),
            false => None,
        };
        let Ok(id) = self.take_number() else {
            self.free_groups.extend(group.map(|group| group.number));
            return Err(NoRoom::Numbers);
        };
        let hop = match &spec.target {
            Target::Local(_) => Some(NextHop::Local),
            Target::Connected(_, domain) => Some(NextHop::Connected(*domain)),
            Target::Broadcast(_) => Some(NextHop::Broadcast),
            Target::Blackhole => Some(NextHop::Blackhole),
            Target::Unreachable => Some(NextHop::Unreachable),
            Target::Prohibited => Some(NextHop::Prohibited),
            Target::Via { .. } => None,
        };
        let hops = if let Target::Via { hops, .. } = &spec.target { hops.len() } else { 0 };
        self.shared.router().next_hops.set(id, hop);
        self.by_spec.insert(spec.clone(), id);
        if let Some(slot) = self.entries.get_mut(id.index()) {
            *slot = Some(Entry { spec, routes: 1, keys: vec![None; hops], group });
        }
        self.refresh(id, interfaces, true);
        Ok(id)
    }

    /// Gives back one use; with the last one the number goes, after the grace period. No routing table leads there for
    /// the route any more.
    pub fn release(&mut self, id: NextHopId) {
        let Some(entry) = self.entry_mut(id) else { return };
        entry.routes = entry.routes.saturating_sub(1);
        if entry.routes > 0 {
            return;
        }
        let Some(entry) = self.entries.get_mut(id.index()).and_then(Option::take) else { return };
        self.by_spec.remove(&entry.spec);
        self.retire(Retired::Number(id));
        if let Some(group) = entry.group {
            self.retire(Retired::Group(group.number));
        }
        entry.keys.into_iter().flatten().for_each(|key| self.give_up(key));
    }

    /// Brings all numbers in line with the interfaces. Neighbours that are new are only taken with `take`. True if a
    /// number became active or inactive.
    pub fn refresh_all(&mut self, interfaces: &Interfaces, take: bool) -> bool {
        let ids: Vec<NextHopId> = self.by_spec.values().copied().collect();
        let mut changed = false;
        for id in ids {
            let was = self.is_active(id);
            self.refresh(id, interfaces, take);
            changed |= was != self.is_active(id);
        }
        changed
    }

    fn refresh(&mut self, id: NextHopId, interfaces: &Interfaces, take: bool) {
        let Some(entry) = self.entry(id) else { return };
        let Target::Via { vrf, hops, interface } = &entry.spec.target else { return };
        let resolve = |hop: &Via| interfaces.resolve(*vrf, hop.to, interface.as_deref());
        let mut keys: Vec<Option<NeighbourKey>> = hops.iter().map(resolve).collect();
        let weights: Vec<u16> = hops.iter().map(|hop| hop.weight).collect();
        let before = entry.keys.clone();
        for (key, before) in keys.iter_mut().zip(&before).filter(|(key, before)| key != before) {
            *key = key.filter(|key| take && self.take_up(*key));
            debug_assert!(key.is_none() || key != before);
        }
        if keys == before {
            return;
        }
        self.point(id, &keys, &weights);
        let gone = before.iter().zip(&keys).filter(|(before, now)| before != now);
        let gone: Vec<NeighbourKey> = gone.filter_map(|(before, _)| *before).collect();
        if let Some(entry) = self.entry_mut(id) {
            entry.keys = keys;
        }
        gone.into_iter().for_each(|key| self.give_up(key));
    }

    /// Writes what a number leads to into the table of the packet path.
    fn point(&mut self, id: NextHopId, keys: &[Option<NeighbourKey>], weights: &[u16]) {
        let members: BTreeMap<NeighbourKey, u16> =
            keys.iter().zip(weights).filter_map(|(key, weight)| Some(((*key)?, *weight))).collect();
        let members: Vec<(NeighbourKey, u16)> = members.into_iter().collect();
        let next_hops = &self.shared.router().next_hops;
        let Some(entry) = self.entries.get_mut(id.index()).and_then(Option::as_mut) else { return };
        let hop = match &mut entry.group {
            Some(group) => {
                *group.slots = assign(&group.slots, &members);
                let number = |key: &Option<NeighbourKey>| {
                    key.and_then(|key| self.gateways.get(&key)).map_or(NextHopId::NONE, |gateway| gateway.id)
                };
                let ids: [NextHopId; GROUP_SLOTS] = std::array::from_fn(|slot| number(&group.slots[slot]));
                next_hops.set_group(group.number, &ids);
                (!members.is_empty()).then_some(NextHop::Group(group.number))
            }
            None => {
                let gateway = members.first().and_then(|(key, _)| self.gateways.get(key));
                gateway.map(|gateway| NextHop::Gateway(gateway.slot))
            }
        };
        next_hops.set(id, hop);
    }

    /// One user more for a neighbour; false if there is no room for it.
    fn take_up(&mut self, key: NeighbourKey) -> bool {
        if let Some(gateway) = self.gateways.get_mut(&key) {
            gateway.users += 1;
            return true;
        }
        let Ok(id) = self.take_number() else { return false };
        let Some(slot) = self.host.lock().hold(key) else {
            self.free.push(id);
            return false;
        };
        self.shared.router().next_hops.set(id, Some(NextHop::Gateway(slot)));
        self.gateways.insert(key, Gateway { slot, id, users: 1, given_up: 0 });
        true
    }

    fn give_up(&mut self, key: NeighbourKey) {
        let Some(gateway) = self.gateways.get_mut(&key) else { return };
        gateway.users = gateway.users.saturating_sub(1);
        if gateway.users == 0 {
            gateway.given_up += 1;
            let count = gateway.given_up;
            self.retire(Retired::Gateway(key, count));
        }
    }

    fn retire(&mut self, what: Retired) {
        let epoch = self.shared.grace().retire();
        self.retired.push_back((epoch, self.generation, what));
    }

    /// Frees what no worker can follow any more; every worker has snapshot `settled` or a later one.
    pub fn reclaim(&mut self, settled: u64) {
        while let Some((epoch, generation, _)) = self.retired.front() {
            if *generation > settled || !self.shared.grace().is_over(*epoch) {
                return;
            }
            let Some((_, _, what)) = self.retired.pop_front() else { return };
            match what {
                Retired::Number(id) => self.give_number(id),
                Retired::Group(number) => self.free_groups.push(number),
                Retired::Gateway(key, count) => {
                    let idle = |gateway: &Gateway| gateway.users == 0 && gateway.given_up == count;
                    if self.gateways.get(&key).is_some_and(idle)
                        && let Some(gateway) = self.gateways.remove(&key)
                    {
                        self.give_number(gateway.id);
                        self.host.lock().let_go(gateway.slot);
                    }
                }
            }
        }
    }

    /// True while something waits to be freed.
    pub fn owes(&self) -> bool {
        !self.retired.is_empty()
    }

    fn entry(&self, id: NextHopId) -> Option<&Entry> {
        self.entries.get(id.index())?.as_ref()
    }

    fn entry_mut(&mut self, id: NextHopId) -> Option<&mut Entry> {
        self.entries.get_mut(id.index())?.as_mut()
    }

    fn take_number(&mut self) -> Result<NextHopId, NoRoom> {
        if let Some(id) = self.free.pop() {
            return Ok(id);
        }
        let id = NextHopId::new(self.entries.len()).ok_or(NoRoom::Numbers)?;
        self.entries.push(None);
        Ok(id)
    }

    fn give_number(&mut self, id: NextHopId) {
        self.shared.router().next_hops.set(id, None);
        self.free.push(id);
    }

    fn take_group(&mut self) -> Result<u16, NoRoom> {
        if let Some(number) = self.free_groups.pop() {
            return Ok(number);
        }
        let number = self.groups;
        if usize::from(number) >= GROUPS_MAX {
            return Err(NoRoom::Groups);
        }
        self.groups += 1;
        Ok(number)
    }

    /// Numbers in use, waiting ones included.
    #[cfg(test)]
    pub fn numbers(&self) -> usize {
        self.entries.len() - 1 - self.free.len()
    }
}
