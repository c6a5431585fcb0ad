//! Slots and buckets: the lock-free protocol of the FDB. Called by `fdb` alone, on any thread.
//!
//! A slot is a key word and a value word, and goes round four states:
//!
//! | state   | key | value          | left by                                                      |
//! |---------|-----|----------------|--------------------------------------------------------------|
//! | free    | 0   | dead (g)       | `claim`: compare-exchange key 0 -> K, won by one inserter     |
//! | claimed | K   | dead (g)       | `publish`: that inserter turns the value live (g+1)           |
//! | live    | K   | live (g+1)     | `replace`: compare-exchange of the value (refresh, move), or  |
//! |         |     |                | `remove`: compare-exchange value live -> dead, won by one     |
//! | dying   | K   | dead (g+1)     | `release`: that remover stores key 0                          |
//!
//! Whoever wins the step into `claimed` or `dying` is the only one who may leave it. A thread held up
//! there costs the table one slot meanwhile and stops nobody: others take the slot for absent.
//! While the value is live and its generation stands, the key cannot change. So a key read between
//! two reads of the value with one generation is that value's key, and a compare-exchange on the
//! value succeeds only under the key it was read with.
//!
//! A bucket has one mark, a bit in its first slot's value that no step above changes: an address whose first
//! bucket this is has gone to its second one. It is set before such an entry is published and never
//! cleared. So who has not found an address in an unmarked bucket, keys read before the mark, need not read
//! the other one: as for finding a copy gone, whoever saw that copy lose has seen the mark.

use super::entry::{Hit, Kind, Value};
use super::sync::{AtomicU64, Ordering};
use crate::ids::PortId;

/// Slots of a bucket: one cache line. The model checker gets by with one, to keep its search small.
pub(super) const SLOTS: usize = if cfg!(loom) { 1 } else { 4 };

const NO_KEY: u64 = 0;

/// One cache line of slots.
#[repr(align(64))]
pub(super) struct Bucket {
    slots: [Slot; SLOTS],
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Bucket>() == 64);

impl Bucket {
    pub(super) fn new() -> Bucket {
        Bucket { slots: std::array::from_fn(|_| Slot::new()) }
    }

    pub(super) fn slots(&self) -> &[Slot; SLOTS] {
        &self.slots
    }

    /// The first slot bound to `key`, live or not.
    pub(super) fn match_key(&self, key: u64) -> Option<&Slot> {
        // Acquire: who finds a copy gone goes on to see the one it went in favour of.
        self.slots.iter().find(|slot| slot.key.load(Ordering::Acquire) == key)
    }

    /// What the slot bound to `key` says, if it is one of the first two and stands still meanwhile.
    ///
    /// Few entries are further back, since buckets are filled from the front and a new address with a choice goes
    /// elsewhere by then. Which of the two it is cannot be predicted, so there is no branch on it.
    #[inline(always)]
    pub(super) fn peek_front(&self, key: u64) -> Option<Value> {
        let is_next = self.slots.get(1).is_some_and(|slot| slot.key.load(Ordering::Relaxed) == key);
        self.slots.get(usize::from(is_next))?.peek(key)
    }

    /// The same of any slot, or, where several copies are, of one of them.
    #[inline]
    pub(super) fn peek(&self, key: u64) -> Option<Value> {
        let slot = self.slots.iter().find(|slot| slot.key.load(Ordering::Relaxed) == key);
        slot?.peek(key)
    }

    /// True once an address has gone from here to its second bucket. Read it after the keys.
    #[inline(always)]
    pub(super) fn has_spilled(&self) -> bool {
        let [slot, ..] = &self.slots;
        slot.value.load(Ordering::Relaxed) & Value::SPILLED != 0
    }

    /// Marks the bucket, before an entry that it had no place for is published in another.
    pub(super) fn mark_spilled(&self) {
        let [slot, ..] = &self.slots;
        slot.value.fetch_or(Value::SPILLED, Ordering::Relaxed);
    }

    /// Slots in use, going by their keys.
    pub(super) fn used(&self) -> usize {
        self.slots.iter().filter(|slot| !slot.is_free()).count()
    }

    /// A slot not in use.
    pub(super) fn vacancy(&self) -> Option<&Slot> {
        self.slots.iter().find(|slot| slot.is_free())
    }
}

/// One entry's place.
pub(super) struct Slot {
    key: AtomicU64,
    value: AtomicU64,
}

impl Slot {
    fn new() -> Slot {
        Slot { key: AtomicU64::new(NO_KEY), value: AtomicU64::new(Value::VACANT.word()) }
    }

    fn is_free(&self) -> bool {
        self.key.load(Ordering::Relaxed) == NO_KEY
    }

    /// The live entry under `key`, if this slot holds it. Writes nothing.
    pub(super) fn get(&self, key: u64) -> Option<Live<'_>> {
        // Acquire: who finds a copy gone goes on to see the one it went in favour of.
        if self.key.load(Ordering::Acquire) != key {
            return None;
        }
        let (found, live) = self.read()?;
        (found == key).then_some(live)
    }

    /// What this slot says of `key`, if it holds it and stands still meanwhile. Writes nothing.
    #[inline(always)]
    fn peek(&self, key: u64) -> Option<Value> {
        let value = self.value.load(Ordering::Acquire);
        // As in `read`: the key between two reads of one value is that value's.
        if self.key.load(Ordering::Acquire) != key || self.value.load(Ordering::Acquire) != value {
            return None;
        }
        Some(Value::from_word(value))
    }

    /// The live entry of this slot, key and value of one binding. Writes nothing.
    pub(super) fn read(&self) -> Option<(u64, Live<'_>)> {
        let mut before = Value::from_word(self.value.load(Ordering::Acquire));
        while before.is_live() {
            // Acquire pairs with `release`: if this reads a key bound after `before` died, the load
            // below sees that death.
            let key = self.key.load(Ordering::Acquire);
            let value = Value::from_word(self.value.load(Ordering::Acquire));
            if value.same_binding(before) {
                return value.hit().map(|hit| (key, Live { slot: self, value, hit }));
            }
            before = value;
        }
        None
    }

    /// Binds the free slot to `key` and returns its last, dead value for [`publish`](Slot::publish);
    /// `None` if another thread was first.
    pub(super) fn claim(&self, key: u64) -> Option<Value> {
        self.key.compare_exchange(NO_KEY, key, Ordering::AcqRel, Ordering::Relaxed).ok()?;
        // The acquire above pairs with `release`, so this is the last binding's end, of which nobody
        // but the claimer may change more than the bucket's mark.
        Some(Value::from_word(self.value.load(Ordering::Relaxed)))
    }

    /// Makes a claimed slot live, whose `last` value [`claim`](Slot::claim) answered. Only the thread that claimed it
    /// may call this, and once.
    pub(super) fn publish(&self, last: Value, value: Value) {
        // Not a store, which might take away a mark set since.
        self.value.fetch_xor(last.word() ^ value.word(), Ordering::Release);
    }

    fn swap(&self, seen: Value, new: Value) -> bool {
        self.value.compare_exchange(seen.word(), new.word(), Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    fn release(&self) {
        self.key.store(NO_KEY, Ordering::Release);
    }
}

/// An entry as it was read: where, and what it said.
#[derive(Clone, Copy)]
pub(super) struct Live<'a> {
    slot: &'a Slot,
    value: Value,
    /// The contents.
    pub(super) hit: Hit,
}

impl Live<'_> {
    /// Changes the contents; false if they changed since they were read, under whatever key.
    pub(super) fn replace(&self, port: PortId, kind: Kind, stamp_s: u32) -> bool {
        self.slot.swap(self.value, self.value.with(port, kind, stamp_s))
    }

    /// Ends the entry and frees its slot; false if the contents changed since they were read.
    ///
    /// `gone` runs in between, so that what it gives back is there for whoever takes the slot next.
    pub(super) fn remove(&self, gone: impl FnOnce(Hit)) -> bool {
        let won = self.slot.swap(self.value, self.value.dead());
        if won {
            gone(self.hit);
            self.slot.release();
        }
        won
    }

    /// Where the entry stands.
    pub(super) fn slot(&self) -> &Slot {
        self.slot
    }
}
