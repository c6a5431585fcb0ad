//! The forwarding database (FDB): which port a MAC address of a bridge domain is behind.
//!
//! Workers look up and learn on the packet path; the control thread adds and removes fixed entries,
//! ages, flushes and dumps. All of it may happen at once: every call takes `&self`, none blocks,
//! allocates or panics. A lookup reads one cache line, or two where addresses have had to leave the first, and
//! writes nothing; learning a known address writes at most once a second.
//!
//! An address has two candidate buckets, chosen by a keyed hash ([`hash`]); `bucket` has the slots'
//! protocol, `counts` the limits. Two threads that learn a new address at once may both insert it.
//! Each looks again after it has published, behind a fence, so at least the later one sees both
//! copies; all threads drop the same one: a dynamic copy before a fixed one, then the copy that a
//! lookup meets first. So a lookup in that moment may answer with either copy, but between dynamic
//! copies it cannot miss: the copy that stays is met after the one that goes.

mod bucket;
mod counts;
mod entry;
mod hash;
#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(all(test, not(loom)))]
mod stress_tests;
mod sync;
#[cfg(all(test, not(loom)))]
mod tests;

use std::ops::Range;

use crossbeam::utils::CachePadded;
use prefetch_index::prefetch_index;
use thiserror::Error;

use crate::ids::PortId;
use crate::limits::{FDB_ENTRIES_MAX, fixed_entries_max};
use bucket::{Bucket, Live, SLOTS, Slot};
use counts::Counts;
use entry::Value;
pub use entry::{Entry, Fresh, Hit, Kind, MacKey};
use hash::Hasher;
use sync::{Ordering, fence};

/// A new address goes to its first bucket while that has fewer entries than this, else to the emptier.
///
/// Filling the first bucket halfway makes 92 % of the hits (instead of 78 %) read one line only.
const FIRST_SHARE: usize = SLOTS / 2;

/// How far [`Fdb::learn`] may go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LearnLimits {
    /// Most dynamic entries behind the ingress port.
    pub port_max: u32,
}

impl LearnLimits {
    /// No limit but the table's own.
    pub const NONE: LearnLimits = LearnLimits { port_max: u32::MAX };
}

/// What [`Fdb::learn`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Learn {
    /// The entry was there and fresh (or fixed on this port); nothing was written.
    Known,
    /// The entry was there; its stamp is now the caller's second.
    Refreshed,
    /// A new dynamic entry.
    Learned,
    /// The station was behind another port and is behind the caller's now.
    Moved {
        /// The port it came from.
        from: PortId,
    },
    /// A static, sticky or local entry holds the address on another port.
    RefusedStatic,
    /// Both buckets of the address are full; its frames stay flooded.
    RefusedTableFull,
    /// The port has as many dynamic entries as it may have.
    RefusedPortLimit,
    /// The table has as many dynamic entries as it may have.
    RefusedTotalLimit,
}

/// What one slice of a sweep did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sweep {
    /// The bucket to go on from, or `None` at the end of the table.
    pub next: Option<usize>,
    /// Entries removed.
    pub removed: u32,
}

/// Why [`Fdb::insert`] refused an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum FdbError {
    /// A dynamic entry was to be inserted.
    #[error("address {key}: a dynamic entry comes from traffic only; add it as static, sticky or local")]
    Dynamic {
        /// The address.
        key: MacKey,
    },
    /// As many fixed entries as the table has room for.
    #[error(
        "address {key}: the table holds its most of {max} static, sticky and local entries; \
         remove some or raise the limit on learned addresses, which this one follows"
    )]
    FixedLimit {
        /// The address.
        key: MacKey,
        /// The limit.
        max: u32,
    },
    /// No free slot in either bucket of the address.
    #[error("address {key}: both its buckets in the table are full; flush learned addresses and try again")]
    BucketsFull {
        /// The address.
        key: MacKey,
    },
}

/// The lock-free forwarding database. Shared by reference between all threads.
pub struct Fdb {
    buckets: Box<[Bucket]>,
    entries_max: u32,
    fixed_max: u32,
    hasher: Hasher,
    // Written while learning, so kept off the line of the fields above, which every lookup reads.
    counts: CachePadded<Counts>,
}

/// Where a table looks for an address first ([`Fdb::home`]). The home of another address costs time, no more: what is
/// not found there is looked for with care.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Home(u32);

impl Fdb {
    /// A table for `entries_max` dynamic entries (at most [`FDB_ENTRIES_MAX`]; more is cut to that), and
    /// [`fixed_entries_max`] fixed ones beside them.
    ///
    /// All memory is allocated and touched here: 64 bytes for each of those entries, so 4.5 MiB for
    /// 65,536 and 72 MiB for 1,048,576. `seed` must not be guessable from the network.
    pub fn new(entries_max: u32, seed: u64) -> Fdb {
        let entries_max = entries_max.min(FDB_ENTRIES_MAX);
        let fixed_max = fixed_entries_max(entries_max);
        // One bucket of four slots per entry. Simulated with random addresses, 1,048,576 at a time:
        // filled to 22 % (no fixed entries) not one of 1e8 insertions found both buckets full, nor
        // one of 2e8 replacements of a random entry; filled to 25 % it was 0 of 1e8 and 2 of 2e8;
        // to 33 %, 0 of 1e7 and 135 of 2e7; to 50 %, 394 of 1e7.
        Fdb::with_buckets(entries_max + fixed_max, entries_max, fixed_max, seed)
    }

    fn with_buckets(bucket_count: u32, entries_max: u32, fixed_max: u32, seed: u64) -> Fdb {
        let bucket_count = bucket_count.max(2);
        Fdb {
            buckets: (0..bucket_count).map(|_| Bucket::new()).collect(),
            entries_max,
            fixed_max,
            hasher: Hasher::new(seed),
            counts: CachePadded::new(Counts::new()),
        }
    }

    /// Where the entries are, for advice to the kernel about that memory.
    pub fn memory(&self) -> Range<*const u8> {
        let Range { start, end } = self.buckets.as_ptr_range();
        start.cast()..end.cast()
    }

    /// Most dynamic entries.
    pub fn entries_max(&self) -> u32 {
        self.entries_max
    }

    /// Entries of all kinds.
    pub fn len(&self) -> u32 {
        self.counts.dynamic() + self.counts.fixed()
    }

    /// True without any entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Dynamic entries of all ports, the number [`entries_max`](Fdb::entries_max) bounds.
    pub fn dynamic_len(&self) -> u32 {
        self.counts.dynamic()
    }

    /// Dynamic entries behind `port`.
    pub fn port_len(&self, port: PortId) -> u32 {
        self.counts.port(port)
    }

    /// Where `key` is, or `None` if it is not known. Any thread; writes nothing.
    pub fn lookup(&self, key: MacKey) -> Option<Hit> {
        let hash = self.hasher.hash(key.bits());
        let (at, first) = self.first(hash)?;
        match first.peek_front(key.bits()).and_then(Value::hit) {
            Some(hit) => Some(hit),
            None => self.with_second(hash, at, first)?.find(key).map(|live| live.hit),
        }
    }

    /// The port of a dynamic entry no older than `age_max_s` in second `now_s`: the cheap question to ask first, since
    /// most frames go to such stations. `None` leaves the answer to [`lookup`](Fdb::lookup): there may be another
    /// entry, or it was changing. Any thread; writes nothing.
    #[inline(always)]
    pub fn port_of_dynamic(&self, key: MacKey, home: Home, now_s: u32, age_max_s: u32) -> Option<PortId> {
        let front = self.buckets.get(home.0 as usize)?.peek_front(key.bits());
        let port = front.and_then(|value| value.port_of_dynamic(now_s, age_max_s));
        port.or_else(|| self.port_elsewhere(key, now_s, age_max_s))
    }

    /// Apart, as is [`is_fresh_elsewhere`](Fdb::is_fresh_elsewhere), because few entries are there.
    #[inline(never)]
    fn port_elsewhere(&self, key: MacKey, now_s: u32, age_max_s: u32) -> Option<PortId> {
        self.peek(key)?.port_of_dynamic(now_s, age_max_s)
    }

    /// What the slot bound to `key` says, in any place of its two buckets, if it stands still meanwhile: `None` leaves
    /// the question open.
    #[inline]
    fn peek(&self, key: MacKey) -> Option<Value> {
        let hash = self.hasher.hash(key.bits());
        let (at, first) = self.first(hash)?;
        match first.peek(key.bits()) {
            None if first.has_spilled() => self.with_second(hash, at, first)?.second.peek(key.bits()),
            answer => answer,
        }
    }

    /// Where `key` is looked for first. Its line is on its way into the cache from then on: a loop over a burst that
    /// does no more than this has the misses of all its addresses under way at once.
    #[inline(always)]
    pub fn home(&self, key: MacKey) -> Home {
        let at = hash::first(self.hasher.hash(key.bits()), self.buckets.len());
        prefetch_index(&*self.buckets, at);
        Home(at as u32)
    }

    /// True if `key`'s entry says just `fresh`: [`learn`](Fdb::learn) would change nothing. The cheap question to ask
    /// first, since of the frames of a known sender all but one a second find it so. False may also mean that the
    /// entry was changing. Any thread; writes nothing.
    #[inline(always)]
    pub fn is_fresh(&self, key: MacKey, home: Home, fresh: Fresh) -> bool {
        let front = self.buckets.get(home.0 as usize).and_then(|first| first.peek_front(key.bits()));
        front.is_some_and(|value| value.says(fresh)) || self.is_fresh_elsewhere(key, fresh)
    }

    #[inline(never)]
    fn is_fresh_elsewhere(&self, key: MacKey, fresh: Fresh) -> bool {
        self.peek(key).is_some_and(|value| value.says(fresh))
    }

    /// Notes that `key` sent a frame into `port` in second `now_s`. Any worker; never blocks.
    ///
    /// A dynamic entry of another port moves at once, if the new port's limit leaves room. Fixed
    /// entries stay as they are. `key` must not be a group address nor zero: the caller has checked.
    pub fn learn(&self, key: MacKey, port: PortId, now_s: u32, limits: LearnLimits) -> Learn {
        let Some(pair) = self.pair(key) else { return Learn::RefusedTableFull };
        loop {
            let answer = match pair.find(key) {
                Some(live) => self.learn_known(live, port, now_s, limits),
                None => self.learn_new(&pair, key, port, now_s, limits),
            };
            // No answer: another thread changed the entry in between, so look again.
            if let Some(answer) = answer {
                return answer;
            }
        }
    }

    fn learn_known(&self, live: Live<'_>, port: PortId, now_s: u32, limits: LearnLimits) -> Option<Learn> {
        let Hit { port: from, kind, stamp_s } = live.hit;
        let dynamic = kind == Kind::Dynamic;
        if from == port {
            // A stamp ahead of the caller's clock is another worker's, which read the time later.
            if !dynamic || stamp_s >= now_s {
                return Some(Learn::Known);
            }
            return live.replace(port, kind, now_s).then_some(Learn::Refreshed);
        }
        if !dynamic {
            return Some(Learn::RefusedStatic);
        }
        if !self.counts.take_port(port, limits.port_max) {
            return Some(Learn::RefusedPortLimit);
        }
        let moved = live.replace(port, kind, now_s);
        self.counts.give_port(if moved { from } else { port });
        moved.then_some(Learn::Moved { from })
    }

    fn learn_new(&self, pair: &Pair<'_>, key: MacKey, port: PortId, now_s: u32, limits: LearnLimits) -> Option<Learn> {
        let hit = Hit { port, kind: Kind::Dynamic, stamp_s: now_s };
        // Looked for before anything is reserved: an address without room must not cost a write.
        if pair.vacancy().is_none() {
            return Some(Learn::RefusedTableFull);
        }
        if !self.counts.take_dynamic(self.entries_max) {
            return Some(Learn::RefusedTotalLimit);
        }
        if !self.counts.take_port(port, limits.port_max) {
            self.counts.give_dynamic();
            return Some(Learn::RefusedPortLimit);
        }
        match pair.place(key, hit) {
            Some(slot) => self.settle(pair, key, slot).then_some(Learn::Learned),
            None => {
                self.give(hit);
                Some(Learn::RefusedTableFull)
            }
        }
    }

    /// Adds a static, sticky or local entry, or turns the entry its address has into it; answers what
    /// was there before. Control thread.
    ///
    /// # Errors
    ///
    /// Dynamic entries are refused, and fixed ones when there is no room: see [`FdbError`]. The table
    /// is then unchanged.
    pub fn insert(&self, entry: Entry) -> Result<Option<Entry>, FdbError> {
        let Entry { key, port, kind, stamp_s } = entry;
        if kind == Kind::Dynamic {
            return Err(FdbError::Dynamic { key });
        }
        let pair = self.pair(key).ok_or(FdbError::BucketsFull { key })?;
        loop {
            let found = pair.find(key);
            let was_fixed = found.is_some_and(|live| live.hit.kind != Kind::Dynamic);
            if !was_fixed && !self.counts.take_fixed(self.fixed_max) {
                return Err(FdbError::FixedLimit { key, max: self.fixed_max });
            }
            if let Some(live) = found {
                if live.replace(port, kind, stamp_s) {
                    if !was_fixed {
                        self.give(live.hit);
                    }
                    self.settle(&pair, key, live.slot());
                    return Ok(Some(live.hit.entry(key)));
                }
                if !was_fixed {
                    self.counts.give_fixed();
                }
            } else if let Some(slot) = pair.place(key, Hit { port, kind, stamp_s }) {
                if self.settle(&pair, key, slot) {
                    return Ok(None);
                }
            } else {
                self.counts.give_fixed();
                return Err(FdbError::BucketsFull { key });
            }
        }
    }

    /// Removes the entry of `key`, whatever its kind, and answers what it was. Control thread.
    pub fn remove(&self, key: MacKey) -> Option<Entry> {
        let mut removed: Option<Entry> = None;
        for slot in self.pair(key)?.slots() {
            while let Some(live) = slot.get(key.bits()) {
                if live.remove(|hit| self.give(hit)) {
                    // Of two copies in the making, the fixed one is the answer.
                    if removed.is_none_or(|other| other.kind == Kind::Dynamic) {
                        removed = Some(live.hit.entry(key));
                    }
                    break;
                }
            }
        }
        removed
    }

    /// Shows `keep` every entry of `buckets` buckets from bucket `from` on, and removes those it
    /// answers false for. Control thread; ageing and flushing, in slices.
    ///
    /// An entry that is refreshed or moved after `keep` saw it is not removed but shown again.
    pub fn sweep(&self, from: usize, buckets: usize, mut keep: impl FnMut(&Entry) -> bool) -> Sweep {
        let (slice, next) = self.slice(from, buckets);
        let mut removed = 0;
        for slot in slice.iter().flat_map(Bucket::slots) {
            while let Some((entry, live)) = read(slot) {
                if keep(&entry) {
                    break;
                }
                if live.remove(|hit| self.give(hit)) {
                    removed += 1;
                    break;
                }
            }
        }
        Sweep { next, removed }
    }

    /// Shows `visit` every entry of `buckets` buckets from bucket `from` on; answers the bucket to go
    /// on from, or `None` at the end. Control thread; dumps, in slices.
    ///
    /// What changes during a dump may be shown before or after the change, an entry that two threads
    /// learn in that moment even twice.
    pub fn scan(&self, from: usize, buckets: usize, mut visit: impl FnMut(Entry)) -> Option<usize> {
        let (slice, next) = self.slice(from, buckets);
        for (entry, _) in slice.iter().flat_map(Bucket::slots).filter_map(read) {
            visit(entry);
        }
        next
    }

    fn slice(&self, from: usize, buckets: usize) -> (&[Bucket], Option<usize>) {
        let end = from.saturating_add(buckets).min(self.buckets.len());
        (self.buckets.get(from..end).unwrap_or(&[]), (end < self.buckets.len()).then_some(end))
    }

    /// Gives back what an entry that said `hit` had reserved.
    fn give(&self, hit: Hit) {
        if hit.kind == Kind::Dynamic {
            self.counts.give_dynamic();
            self.counts.give_port(hit.port);
        } else {
            self.counts.give_fixed();
        }
    }

    /// The buckets of `key`. Always there: `None` only spares the packet path a panic.
    #[inline]
    fn pair(&self, key: MacKey) -> Option<Pair<'_>> {
        let hash = self.hasher.hash(key.bits());
        let (at, first) = self.first(hash)?;
        self.with_second(hash, at, first)
    }

    /// The first bucket of an address with this `hash`, and its number.
    #[inline(always)]
    fn first(&self, hash: u64) -> Option<(usize, &Bucket)> {
        let at = hash::first(hash, self.buckets.len());
        Some((at, self.buckets.get(at)?))
    }

    /// Both, once the first one is known.
    #[inline]
    fn with_second<'a>(&'a self, hash: u64, at: usize, first: &'a Bucket) -> Option<Pair<'a>> {
        let second = hash::second(hash, at, self.buckets.len());
        Some(Pair { first, second: self.buckets.get(second)? })
    }

    /// Leaves one copy of `key` where several threads inserted it at once. False if the copy in
    /// `mine` was dropped here for another one.
    fn settle(&self, pair: &Pair<'_>, key: MacKey, mine: &Slot) -> bool {
        // Of two threads that each published a copy before this fence, the later sees both.
        fence(Ordering::SeqCst);
        let mut mine_stands = true;
        'again: loop {
            let mut best: Option<Live<'_>> = None;
            for slot in pair.slots_that_matter() {
                let Some(live) = slot.get(key.bits()) else { continue };
                let Some(rival) = best else {
                    best = Some(live);
                    continue;
                };
                let rival_stays = rival.hit.kind != Kind::Dynamic && live.hit.kind == Kind::Dynamic;
                let (winner, loser) = if rival_stays { (rival, live) } else { (live, rival) };
                if !loser.remove(|hit| self.give(hit)) {
                    continue 'again;
                }
                mine_stands &= !std::ptr::eq(loser.slot(), mine);
                best = Some(winner);
            }
            return mine_stands;
        }
    }
}

/// The entry of `slot` with its key unpacked, and where it stands.
fn read(slot: &Slot) -> Option<(Entry, Live<'_>)> {
    let (key, live) = slot.read()?;
    Some((live.hit.entry(MacKey::from_bits(key)?), live))
}

/// The two buckets of one address, in the order every thread looks through them.
struct Pair<'a> {
    first: &'a Bucket,
    second: &'a Bucket,
}

impl<'a> Pair<'a> {
    fn slots(&self) -> impl Iterator<Item = &'a Slot> {
        self.first.slots().iter().chain(self.second.slots())
    }

    /// The slots of the first bucket, and those of the second one if any address has gone from one to the other.
    fn slots_that_matter(&self) -> impl Iterator<Item = &'a Slot> {
        let Pair { first, second } = *self;
        // Asked when the first bucket is through: the mark is read after the keys.
        let later = std::iter::once_with(move || first.has_spilled().then(|| second.slots())).flatten().flatten();
        first.slots().iter().chain(later)
    }

    fn find(&self, key: MacKey) -> Option<Live<'a>> {
        let slot = match self.first.match_key(key.bits()) {
            Some(slot) => slot,
            None if !self.first.has_spilled() => return None,
            None => self.second.match_key(key.bits())?,
        };
        // The entry may have gone since its key was read, in favour of a copy further on.
        slot.get(key.bits()).or_else(|| self.slots().find_map(|slot| slot.get(key.bits())))
    }

    /// The free slot a new address should go to, and whether that is in its second bucket.
    fn vacancy(&self) -> Option<(&'a Slot, bool)> {
        let used = self.first.used();
        let stay = used < FIRST_SHARE || used <= self.second.used();
        let here = || Some((self.first.vacancy()?, false));
        let there = || Some((self.second.vacancy()?, true));
        if stay { here().or_else(there) } else { there().or_else(here) }
    }

    /// Publishes a new entry and answers where, or `None` if both buckets are full.
    fn place(&self, key: MacKey, hit: Hit) -> Option<&'a Slot> {
        loop {
            let (slot, spills) = self.vacancy()?;
            // Lost to another inserter: the buckets have changed, choose again.
            let Some(last) = slot.claim(key.bits()) else { continue };
            if spills {
                self.first.mark_spilled();
            }
            slot.publish(last, last.rebound(hit.port, hit.kind, hit.stamp_s));
            return Some(slot);
        }
    }
}
