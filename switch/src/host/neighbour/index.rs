//! Which neighbour is due next, and which one may go first when room is needed.

use std::collections::{BTreeMap, BTreeSet};

use super::{Entry, State};
use crate::ids::DomainId;
use crate::table::neighbour::NeighbourSlot;

/// Who makes room first. Neighbours in use, permanent ones and next hops of routes never do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Class {
    /// Nobody answered for it.
    Failed,
    /// Being asked for.
    Incomplete,
    /// Spoke of itself and was never asked: as many as somebody likes to invent.
    Claimed,
    /// Answered once, and is unused since.
    Unused,
}

/// Neighbours that may go, in the order in which they do: by class, then by age.
#[derive(Default)]
pub(super) struct Leaving(BTreeSet<(Class, u64, usize)>);

impl Leaving {
    /// The first that may go, of classes up to `last`; among those being asked for only one that is so since before
    /// `patience_ns`.
    pub fn first(&self, last: Class, patience_ns: Option<u64>) -> Option<NeighbourSlot> {
        for class in [Class::Failed, Class::Incomplete, Class::Claimed, Class::Unused] {
            if class > last {
                break;
            }
            let oldest = self.0.range((class, 0, 0)..).next().filter(|(found, ..)| *found == class);
            if let Some(&(_, since_ns, slot)) = oldest
                && (class != Class::Incomplete || Some(since_ns) <= patience_ns)
            {
                return NeighbourSlot::new(slot);
            }
        }
        None
    }
}

/// The neighbours of some interfaces.
#[derive(Default)]
pub(super) struct Group {
    /// All of them.
    pub count: usize,
    /// Those without a MAC address, next hops of routes aside.
    pub unresolved: usize,
    pub leaving: Leaving,
}

impl Group {
    fn insert(&mut self, entry: &Entry) {
        self.count += 1;
        self.unresolved += usize::from(is_unresolved(entry));
        if let Some(class) = class(entry) {
            self.leaving.0.insert((class, entry.since_ns, entry.slot.index()));
        }
    }

    fn remove(&mut self, entry: &Entry) {
        self.count -= 1;
        self.unresolved -= usize::from(is_unresolved(entry));
        if let Some(class) = class(entry) {
            self.leaving.0.remove(&(class, entry.since_ns, entry.slot.index()));
        }
    }
}

fn is_unresolved(entry: &Entry) -> bool {
    entry.held == 0 && matches!(entry.state, State::Incomplete | State::Failed)
}

fn class(entry: &Entry) -> Option<Class> {
    match entry.state {
        _ if entry.held > 0 => None,
        State::Failed => Some(Class::Failed),
        State::Incomplete => Some(Class::Incomplete),
        State::Stale if entry.proved => Some(Class::Unused),
        State::Stale => Some(Class::Claimed),
        State::Reachable | State::Delay | State::Probe | State::Permanent => None,
    }
}

/// The orders of all neighbours. An entry is taken out before it changes and put in afterwards.
#[derive(Default)]
pub(super) struct Index {
    due: BTreeSet<(u64, usize)>,
    pub all: Group,
    by_domain: BTreeMap<DomainId, Group>,
}

impl Index {
    pub fn insert(&mut self, entry: &Entry) {
        if let Some(due_ns) = entry.due_ns {
            self.due.insert((due_ns, entry.slot.index()));
        }
        self.all.insert(entry);
        self.by_domain.entry(entry.key.domain()).or_default().insert(entry);
    }

    pub fn remove(&mut self, entry: &Entry) {
        if let Some(due_ns) = entry.due_ns {
            self.due.remove(&(due_ns, entry.slot.index()));
        }
        self.all.remove(entry);
        if let Some(group) = self.by_domain.get_mut(&entry.key.domain()) {
            group.remove(entry);
            if group.count == 0 {
                self.by_domain.remove(&entry.key.domain());
            }
        }
    }

    pub fn next_due(&self) -> Option<(u64, NeighbourSlot)> {
        let &(due_ns, slot) = self.due.first()?;
        Some((due_ns, NeighbourSlot::new(slot)?))
    }

    /// The neighbours of one interface, if it has any.
    pub fn of(&self, domain: DomainId) -> Option<&Group> {
        self.by_domain.get(&domain)
    }
}
