//! Many threads: readers look up while a writer changes the routes under them. An answer during which one change at
//! most was made must be the one from before it or the one from after it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::ids::NextHopId;
use crate::table::grace::Grace;

const READERS: usize = 2;
const CHANGES: usize = 30_000;
/// Answers that must have been checked.
const CHECKS_MIN: usize = 1_000;

/// What a lookup of one address may answer: a number that grows with every change of a prefix that contains it (16
/// bits), and two next hops.
///
/// A lookup during which two such changes were made is not judged: it may have read what the first replaced, and then
/// that the second took the longer prefix away which had hidden it.
struct Probe<A> {
    address: A,
    allowed: AtomicU64,
}

impl<A> Probe<A> {
    fn now(&self) -> u64 {
        self.allowed.load(Ordering::SeqCst)
    }

    fn allow(&self, before: NextHopId, after: NextHopId) {
        let number = (self.now() >> 48) + 1;
        let word = number << 48 | u64::from(before.bits()) << 24 | u64::from(after.bits());
        self.allowed.store(word, Ordering::SeqCst);
    }
}

fn allows(allowed: u64, found: NextHopId) -> bool {
    [allowed >> 24 & 0xff_ffff, allowed & 0xff_ffff].contains(&u64::from(found.bits()))
}

/// What [`Fib::lookup`] does, with a pause after each step.
fn slowly<A: Address>(table: &Fib<A>, address: A, pause: impl Fn()) -> NextHopId {
    let octet = table.octet(address);
    let mut best = octet.above();
    pause();
    let mut value = table.root_value(octet.slot(address));
    while node::is_child(value) {
        pause();
        let node = node::node_of(value);
        let above = table.lines[node as usize].above();
        best = if above == 0 { best } else { above };
        let word = lookup::next_word(&table.lines, address, node);
        pause();
        value = lookup::word(&table.lines, word).unwrap();
    }
    NextHopId::from_bits(if value == 0 { best } else { value })
}

struct Bed<A: Address> {
    grace: Arc<Grace>,
    table: Mutex<Arc<Fib<A>>>,
    probes: Vec<Probe<A>>,
    stop: AtomicBool,
    checked: AtomicUsize,
    changes: AtomicUsize,
}

impl<A: Address> Bed<A> {
    /// Waits for some changes, but not for a writer that waits for this reader.
    fn pause(&self) {
        let until = self.changes.load(Ordering::SeqCst) + 4;
        let mut tries = 0;
        while self.changes.load(Ordering::SeqCst) < until && tries < 50 {
            thread::yield_now();
            tries += 1;
        }
    }

    fn read(&self, reader: usize) {
        self.grace.wake(reader);
        let addresses: Vec<A> = self.probes.iter().map(|probe| probe.address).collect();
        let mut found = vec![NextHopId::NONE; addresses.len()];
        let mut turns = 0;
        while !self.stop.load(Ordering::SeqCst) {
            self.grace.pass(reader);
            let table = self.table.lock().unwrap().clone();
            let before: Vec<u64> = self.probes.iter().map(Probe::now).collect();
            table.lookup_batch(&addresses, &mut found);
            for ((probe, &before), &found) in self.probes.iter().zip(&before).zip(&found) {
                if probe.now() == before {
                    assert!(allows(before, found), "{:x?}: {found:?} in a batch, {before:x}", probe.address);
                    self.checked.fetch_add(1, Ordering::SeqCst);
                }
            }
            turns += 1;
            if turns % 8 != 0 {
                continue;
            }
            let probe = &self.probes[turns / 8 % self.probes.len()];
            let before = probe.now();
            let found = slowly(&table, probe.address, || self.pause());
            assert!(probe.now() != before || allows(before, found), "{:x?}: {found:?}, {before:x}", probe.address);
            if turns % 7 == 0 {
                self.grace.sleep(reader);
                self.grace.wake(reader);
            }
        }
        self.grace.sleep(reader);
    }

    /// Changes a route and what the probes may find meanwhile.
    fn change(&self, writer: &mut FibWriter<A>, map: &mut BTreeMap<Prefix<A>, NextHopId>, to: (Prefix<A>, NextHopId)) {
        let (prefix, hop) = to;
        let hit: Vec<&Probe<A>> = self.probes.iter().filter(|probe| prefix.contains(probe.address)).collect();
        let was: Vec<_> = hit.iter().map(|probe| longest(map, probe.address)).collect();
        if hop.is_none() {
            map.remove(&prefix);
        } else {
            map.insert(prefix, hop);
        }
        let will: Vec<_> = hit.iter().map(|probe| longest(map, probe.address)).collect();
        // Also those that find the same as before: see `Probe`.
        let changing: Vec<_> = hit.into_iter().zip(was).zip(will).collect();
        for &((probe, was), will) in &changing {
            probe.allow(was, will);
        }
        if let Some(replaced) = writer.insert(prefix, hop).replaced {
            *self.table.lock().unwrap() = replaced;
            // Until no reader has the old table, which does not have the change.
            let epoch = self.grace.retire();
            while !self.grace.is_over(epoch) && !self.stop.load(Ordering::SeqCst) {
                thread::yield_now();
            }
        }
        for ((probe, _), will) in changing {
            probe.allow(will, will);
        }
        self.changes.fetch_add(1, Ordering::SeqCst);
    }
}

fn longest<A: Address>(map: &BTreeMap<Prefix<A>, NextHopId>, address: A) -> NextHopId {
    let matching = map.iter().filter(|(prefix, _)| prefix.contains(address));
    matching.max_by_key(|(prefix, _)| prefix.length()).map_or(NextHopId::NONE, |(_, &hop)| hop)
}

/// Stops the readers even if the writer panics.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn storm<A: Address>(seed: u64, others: usize) {
    let mut random = StdRng::seed_from_u64(seed);
    let bits = A::OCTETS * 8;
    let address = |bits: u128| A::from_words(bits.to_words());
    let base: u128 = random.random();
    let mut pool: Vec<Prefix<A>> = Vec::new();
    for _ in 0..48 {
        // Crowded below one address: what parts from it does so at any depth.
        let common = random.random_range(0..bits);
        let part = address(base.keep(common) | random.random::<u128>() >> common);
        pool.push(Prefix::of(part, random.random_range(0..=bits)).unwrap());
    }
    let edges = pool.iter().flat_map(|prefix| [prefix.address(), prefix.last()]);
    let probes = edges.map(|address| Probe { address, allowed: AtomicU64::new(0) }).collect();
    let grace = Arc::new(Grace::new(READERS));
    let mut writer = FibWriter::<A>::new(grace.clone());
    // Far from the probes, but of the same first octet.
    let away = (base ^ 1 << 119).keep(9);
    let far = (0..others).map(|_| Prefix::host(address(away | random.random::<u128>() >> 9)));
    let far: Vec<_> = far.map(|prefix| (prefix, NextHopId::from_bits(9))).collect();
    let table = Mutex::new(writer.load(far.iter().copied()));
    let wide = writer.table().octet(address(base)).width() > 0;
    assert_eq!(wide, others != 0);
    let bed = Bed {
        grace,
        table,
        probes,
        stop: AtomicBool::new(false),
        checked: AtomicUsize::new(0),
        changes: AtomicUsize::new(0),
    };
    let mut map: BTreeMap<_, _> = far.into_iter().filter(|&(far, _)| bed.is_probed(far)).collect();
    for probe in &bed.probes {
        let now = longest(&map, probe.address);
        probe.allow(now, now);
    }
    thread::scope(|scope| {
        for reader in 0..READERS {
            let bed = &bed;
            scope.spawn(move || {
                let _stop = Stop(&bed.stop);
                bed.read(reader);
            });
        }
        let _stop = Stop(&bed.stop);
        // More on a machine so busy that the readers have hardly run.
        for done in 0..50 * CHANGES {
            if done >= CHANGES && bed.checked.load(Ordering::SeqCst) > 2 * CHECKS_MIN {
                return;
            }
            let hop = NextHopId::from_bits(random.random_range(0..6));
            bed.change(&mut writer, &mut map, (pool[random.random_range(0..pool.len())], hop));
            if bed.stop.load(Ordering::SeqCst) {
                return;
            }
        }
    });
    assert!(bed.checked.load(Ordering::SeqCst) > CHECKS_MIN, "the readers hardly read");
}

impl<A: Address> Bed<A> {
    fn is_probed(&self, prefix: Prefix<A>) -> bool {
        self.probes.iter().any(|probe| prefix.contains(probe.address))
    }
}

#[test]
fn ipv4_readers_see_every_change_before_or_after() {
    storm::<u32>(1, 0);
}

#[test]
fn ipv4_readers_of_a_table_with_a_wide_root_do() {
    storm::<u32>(2, 2_000);
}

#[test]
fn ipv6_readers_see_every_change_before_or_after() {
    storm::<u128>(3, 0);
}

#[test]
fn ipv6_readers_of_a_table_with_a_wide_root_do() {
    storm::<u128>(4, 5_000);
}
