//! The neighbours of the switch's interfaces (ARP and ND entries): the state machine of RFC 4861 section 7.3, for both
//! families.
//!
//! Pure: questions, answers and the time come in; [`Action`]s, and what the packet path may read
//! ([`crate::table::neighbour`]), go out. `entry` is one neighbour, `index` says which one is due next and which one
//! may go, `learn` is what messages do to an entry, `held` counts the packets that wait, `room` keeps everything
//! within its limits.

mod entry;
mod held;
mod index;
mod learn;
mod room;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use entry::State;
pub(super) use entry::{Entry, Waiting};
use held::Held;
use index::Index;
pub(super) use learn::News;

use super::random::Random;
use super::settings::HostSettings;
use crate::ids::{DomainId, Mac};
use crate::limits::NEIGHBOURS_MAX;
use crate::table::grace::Epoch;
use crate::table::neighbour::{NeighbourKey, NeighbourSlot};
use crate::worker::Shared;

/// Nanoseconds of a millisecond.
pub(super) const MS: u64 = 1_000_000;

/// What is to be done because of a neighbour's change.
#[derive(Debug)]
pub(super) enum Action {
    /// Ask for the MAC address of a neighbour: everybody, or the one who had it.
    Ask { key: NeighbourKey, to: Option<Mac> },
    /// Send a packet that waited.
    Send { key: NeighbourKey, mac: Mac, waiting: Waiting },
    /// Nobody answered: the sender of this packet is to be told.
    GiveUp { waiting: Waiting },
    /// There was no room to let this packet wait.
    Drop { waiting: Waiting },
}

/// A neighbour as the operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeighbourRow {
    /// Its address and bridge domain.
    pub key: NeighbourKey,
    /// What is known of it.
    pub state: State,
    /// Its MAC address, if known.
    pub mac: Option<Mac>,
    /// Next hops of routes that refer to it.
    pub held: u32,
    /// It said that it is a router (IPv6).
    pub router: bool,
    /// Nanoseconds for which it has been in this state.
    pub since_ns: u64,
    /// Packets that wait for its MAC address.
    pub waiting: usize,
}

/// What happened to neighbours since the start.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct NeighbourCounters {
    /// Entries made.
    pub created: u64,
    /// Entries given up for want of an answer.
    pub failed: u64,
    /// Entries that made room for others.
    pub evicted: u64,
    /// Entries for which there was no room.
    pub refused: u64,
    /// MAC addresses that changed.
    pub moved: u64,
}

/// Why a permanent neighbour could not be added.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AddError {
    /// There is no interface on its bridge domain.
    #[error("the bridge has no gateway interface: give it a gateway first")]
    NoInterface,
    /// It is one of the switch's own addresses.
    #[error("the address is the gateway's own")]
    Own,
    /// The MAC address is a group address, all zero or the gateway's own.
    #[error("the MAC address is no station's: write one whose first octet is even, not the gateway's own")]
    BadMac,
    /// The table is full of neighbours that may not go.
    #[error("the neighbour table is full: remove permanent neighbours or next hops")]
    Full,
}

/// All neighbours. The only writer of the table that the packet path reads.
pub(super) struct Cache {
    shared: Arc<Shared>,
    settings: HostSettings,
    random: Random,
    by_key: BTreeMap<NeighbourKey, NeighbourSlot>,
    entries: Vec<Option<Box<Entry>>>,
    free: Vec<NeighbourSlot>,
    index: Index,
    /// Since when no new search goes through the index that the table fills next.
    spare: Option<Epoch>,
    held: Held,
    actions: Vec<Action>,
    pub counters: NeighbourCounters,
}

impl Cache {
    pub fn new(shared: Arc<Shared>, settings: HostSettings) -> Cache {
        let frames = shared.pool().region().count() as usize;
        Cache {
            random: Random::new(settings.seed),
            held: Held::new(frames / settings.waiting_share.max(1)),
            shared,
            settings,
            by_key: BTreeMap::new(),
            entries: Vec::new(),
            free: Vec::new(),
            index: Index::default(),
            spare: None,
            actions: Vec::new(),
            counters: NeighbourCounters::default(),
        }
    }

    /// What is to be done since the last call.
    pub fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// When the next neighbour is due.
    pub fn next_due(&self) -> Option<u64> {
        self.index.next_due().map(|(due_ns, _)| due_ns)
    }

    /// Takes what became due by `now_ns` on, at most `most` neighbours.
    pub fn expire(&mut self, now_ns: u64, most: usize) {
        for _ in 0..most {
            match self.index.next_due() {
                Some((due_ns, slot)) if due_ns <= now_ns => self.on_due(slot, now_ns),
                _ => return,
            }
        }
    }

    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Neighbours without a MAC address that are no next hops.
    pub fn unresolved(&self) -> usize {
        self.index.all.unresolved
    }

    /// References to pool frames that wait here.
    pub fn frames_held(&self) -> usize {
        self.held.frames
    }

    /// Most of them.
    pub fn frames_held_max(&self) -> usize {
        self.held.most
    }

    pub fn slot(&self, key: NeighbourKey) -> Option<NeighbourSlot> {
        self.by_key.get(&key).copied()
    }

    pub fn entry(&self, slot: NeighbourSlot) -> Option<&Entry> {
        self.entries.get(slot.index())?.as_deref()
    }

    /// The neighbour's MAC address, if known.
    pub fn mac(&self, key: NeighbourKey) -> Option<Mac> {
        self.entry(self.slot(key)?)?.mac
    }

    /// Up to `most` neighbours behind `after`, in order of key.
    pub fn rows(&self, after: Option<NeighbourKey>, most: usize, now_ns: u64) -> Vec<NeighbourRow> {
        use std::ops::Bound;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let entries = self.by_key.range((from, Bound::Unbounded)).filter_map(|(_, slot)| self.entry(*slot));
        entries.take(most).map(|entry| entry.row(now_ns)).collect()
    }

    /// Lets a packet wait for its next hop's MAC address, and asks for that; sends it at once if it is known by now.
    pub fn resolve(&mut self, key: NeighbourKey, waiting: Waiting, now_ns: u64) {
        let slot = self.slot(key).or_else(|| self.create(key, now_ns));
        let Some((slot, mac, state)) = slot.and_then(|slot| self.entry(slot).map(|e| (slot, e.mac, e.state))) else {
            return self.actions.push(Action::Drop { waiting });
        };
        if let Some(mac) = mac {
            self.used(slot, now_ns);
            return self.actions.push(Action::Send { key, mac, waiting });
        }
        self.enqueue(slot, waiting);
        if state == State::Failed {
            self.start(slot, now_ns);
        }
    }

    /// Somebody used this neighbour (RFC 4861 7.3.3: a stale one is asked after a delay).
    pub fn used(&mut self, slot: NeighbourSlot, now_ns: u64) {
        if self.entry(slot).is_some_and(|entry| entry.state == State::Stale) {
            let due_ns = now_ns + self.settings.delay_ms * MS;
            self.update(slot, |entry| entry.become_(State::Delay, now_ns, Some(due_ns)));
        }
    }

    /// Takes note that a next hop of routes refers to the neighbour, which keeps its slot from then on.
    pub fn hold(&mut self, key: NeighbourKey, now_ns: u64) -> Option<NeighbourSlot> {
        let slot = match self.slot(key) {
            Some(slot) => slot,
            None => self.place(key, true, now_ns)?,
        };
        let idle = self.entry(slot).is_some_and(|entry| entry.state == State::Failed);
        self.update(slot, |entry| entry.held += 1);
        if idle {
            self.start(slot, now_ns);
        }
        Some(slot)
    }

    /// Takes a [`Cache::hold`] back.
    pub fn let_go(&mut self, slot: NeighbourSlot) {
        self.update(slot, |entry| entry.held = entry.held.saturating_sub(1));
        self.trim(slot);
    }

    /// Sets a neighbour for good.
    pub fn add_permanent(&mut self, key: NeighbourKey, mac: Mac, now_ns: u64) -> Result<(), AddError> {
        let slot = match self.slot(key) {
            Some(slot) => slot,
            None => self.place(key, true, now_ns).ok_or(AddError::Full)?,
        };
        self.update(slot, |entry| {
            entry.mac = Some(mac);
            entry.become_(State::Permanent, now_ns, None);
        });
        self.send_waiting(slot);
        Ok(())
    }

    /// Forgets a neighbour; one that next hops refer to is asked for anew. False if there is none.
    pub fn remove(&mut self, key: NeighbourKey, now_ns: u64) -> bool {
        let Some(slot) = self.slot(key) else { return false };
        let held = self.entry(slot).is_some_and(|entry| entry.held > 0);
        if held {
            self.start(slot, now_ns);
        } else {
            self.delete(slot);
        }
        true
    }

    /// Forgets the neighbours that `wanted` names.
    pub fn remove_if(&mut self, now_ns: u64, wanted: impl Fn(&NeighbourRow) -> bool) -> usize {
        let rows = self.by_key.values().filter_map(|slot| self.entry(*slot)).map(|entry| entry.row(now_ns));
        let keys: Vec<NeighbourKey> = rows.filter(|row| wanted(row)).map(|row| row.key).collect();
        keys.iter().filter(|key| self.remove(**key, now_ns)).count()
    }

    /// Forgets everybody, before the end.
    pub fn remove_all(&mut self) {
        let slots: Vec<NeighbourSlot> = self.by_key.values().copied().collect();
        slots.into_iter().for_each(|slot| self.delete(slot));
    }

    /// Asks again at once for the next hops on a domain that just got an interface.
    pub fn restart(&mut self, domain: DomainId, now_ns: u64) {
        let entries = self.entries.iter().flatten();
        let lost = entries.filter(|e| e.key.domain() == domain && e.held > 0 && e.mac.is_none()).map(|e| e.slot);
        for slot in lost.collect::<Vec<_>>() {
            self.update(slot, |entry| entry.asked_ns = None);
            self.start(slot, now_ns);
        }
    }

    /// Begins to ask for a MAC address, now or a second after the last time.
    fn start(&mut self, slot: NeighbourSlot, now_ns: u64) {
        let retrans_ns = self.settings.retrans_ms * MS;
        self.update(slot, |entry| {
            let due_ns = entry.asked_ns.map_or(now_ns, |asked_ns| now_ns.max(asked_ns + retrans_ns));
            entry.mac = None;
            entry.asks = 0;
            entry.become_(State::Incomplete, now_ns, Some(due_ns));
        });
        if self.entry(slot).is_some_and(|entry| entry.due_ns == Some(now_ns)) {
            self.on_due(slot, now_ns);
        }
    }

    fn on_due(&mut self, slot: NeighbourSlot, now_ns: u64) {
        let Some((state, asks, held)) = self.entry(slot).map(|e| (e.state, e.asks, e.held > 0)) else { return };
        match state {
            State::Incomplete if asks < self.settings.multicast_solicit => self.ask(slot, now_ns),
            State::Probe if asks < self.settings.unicast_solicit => self.ask(slot, now_ns),
            State::Incomplete | State::Probe => self.fail(slot, now_ns),
            State::Reachable => {
                let due_ns = now_ns + self.settings.stale_ms * MS;
                self.update(slot, |entry| entry.become_(State::Stale, now_ns, Some(due_ns)));
            }
            State::Delay => {
                self.update(slot, |entry| {
                    entry.asks = 0;
                    entry.become_(State::Probe, now_ns, None);
                });
                self.ask(slot, now_ns);
            }
            // A use that was told when nobody listened: the flag is gone.
            State::Stale if self.was_used(slot) => self.used(slot, now_ns),
            State::Stale if held => {
                let due_ns = now_ns + self.settings.stale_ms * MS;
                self.update(slot, |entry| entry.due_ns = Some(due_ns));
            }
            State::Failed if held => self.start(slot, now_ns),
            State::Stale | State::Failed => self.delete(slot),
            State::Permanent => self.update(slot, |entry| entry.due_ns = None),
        }
    }

    fn was_used(&self, slot: NeighbourSlot) -> bool {
        self.shared.router().neighbours.at(slot).is_some_and(|read| !read.tell_use)
    }

    fn ask(&mut self, slot: NeighbourSlot, now_ns: u64) {
        let due_ns = now_ns + self.settings.retrans_ms * MS;
        self.update(slot, |entry| {
            entry.asks += 1;
            entry.asked_ns = Some(now_ns);
            entry.due_ns = Some(due_ns);
        });
        if let Some((key, to)) = self.entry(slot).map(|entry| (entry.key, entry.mac)) {
            self.actions.push(Action::Ask { key, to });
        }
    }

    fn fail(&mut self, slot: NeighbourSlot, now_ns: u64) {
        self.counters.failed += 1;
        let wait_ns = self.settings.failed_ms * MS;
        let mut given_up = Vec::new();
        self.update(slot, |entry| {
            // A next hop that does not answer at the address it had may have another one: ask everybody at once.
            let again = entry.state == State::Probe && entry.held > 0;
            entry.mac = None;
            given_up = entry.waiting.drain(..).collect();
            entry.become_(State::Failed, now_ns, Some(if again { now_ns } else { now_ns + wait_ns }));
        });
        self.actions.extend(given_up.into_iter().map(|waiting| Action::GiveUp { waiting }));
        self.trim(slot);
    }

    /// Puts a packet behind those that wait; the oldest makes room.
    fn enqueue(&mut self, slot: NeighbourSlot, waiting: Waiting) {
        let (most, mut lost) = (self.settings.waiting_max, Vec::new());
        let full = self.entry(slot).filter(|entry| entry.waiting.len() >= most);
        let has_room = most > 0 && self.held.has_room(&waiting, full.and_then(|entry| entry.waiting.front()));
        self.update(slot, |entry| {
            if !has_room {
                lost.push(waiting);
                return;
            }
            while entry.waiting.len() >= most {
                lost.extend(entry.waiting.pop_front());
            }
            entry.waiting.push_back(waiting);
        });
        self.actions.extend(lost.into_iter().map(|waiting| Action::Drop { waiting }));
    }

    /// Sends what waits for a neighbour whose MAC address is known now. True if there was anything.
    fn send_waiting(&mut self, slot: NeighbourSlot) -> bool {
        let mut ready = Vec::new();
        self.update(slot, |entry| ready = entry.waiting.drain(..).collect());
        let Some((key, Some(mac))) = self.entry(slot).map(|entry| (entry.key, entry.mac)) else { return false };
        let any = !ready.is_empty();
        self.actions.extend(ready.into_iter().map(|waiting| Action::Send { key, mac, waiting }));
        any
    }

    /// Changes an entry, and everything that depends on it: the one place where that happens.
    fn update(&mut self, slot: NeighbourSlot, change: impl FnOnce(&mut Entry)) {
        let Some(entry) = self.entries.get_mut(slot.index()).and_then(Option::as_mut) else { return };
        self.index.remove(entry);
        self.held.forget(&entry.waiting);
        change(entry);
        self.held.note(&entry.waiting);
        self.index.insert(entry);
        let visible = entry.visible();
        if entry.published != visible {
            let (mac, tell_use) = visible;
            self.shared.router().neighbours.set(slot, mac, tell_use);
            entry.published = visible;
        }
    }

    /// Makes an entry without a MAC address. The caller saw to it that there is room.
    fn insert(&mut self, key: NeighbourKey, now_ns: u64) -> Option<NeighbourSlot> {
        let slot = self.free.pop().or_else(|| NeighbourSlot::new(self.entries.len()))?;
        if slot.index() == self.entries.len() {
            self.entries.push(None);
        }
        let entry = Entry::new(key, slot, now_ns);
        self.shared.router().neighbours.claim(slot, key);
        self.index.insert(&entry);
        self.by_key.insert(key, slot);
        *self.entries.get_mut(slot.index())? = Some(Box::new(entry));
        self.counters.created += 1;
        Some(slot)
    }

    fn delete(&mut self, slot: NeighbourSlot) {
        let Some(entry) = self.entries.get_mut(slot.index()).and_then(Option::take) else { return };
        self.index.remove(&entry);
        self.held.forget(&entry.waiting);
        self.by_key.remove(&entry.key);
        let table = &self.shared.router().neighbours;
        table.release(slot);
        self.free.push(slot);
        self.actions.extend(entry.waiting.into_iter().map(|waiting| Action::Drop { waiting }));
        // Searches pass what was given up; so that it does not hurt, the index is made anew where half as many are. A
        // worker that still searches the one before must be done with it, which is a matter of microseconds.
        let grace = self.shared.grace();
        if table.gone() >= NEIGHBOURS_MAX / 2 && self.spare.is_none_or(|epoch| grace.is_over(epoch)) {
            table.rebuild();
            self.spare = Some(grace.retire());
        }
    }
}
