//! Every interleaving of small scenes, under the C11 memory model as loom explores it: `make loom`
//! builds these files alone and runs them.
//!
//! Buckets have one slot here, and a table of two gives every address the same two slots, in the
//! order its hash says.

use loom::sync::Arc;
use loom::thread;

use super::*;
use crate::ids::{DomainId, Mac};

const A: u64 = 0xa;
const B: u64 = 0xb;
const FILLER: u64 = 0xf;

fn key(mac: u64) -> MacKey {
    MacKey::new(DomainId::new(1).unwrap(), Mac::from_bits(mac))
}

fn port(index: usize) -> PortId {
    PortId::new(index).unwrap()
}

fn learn(fdb: &Fdb, mac: u64, at: usize, now_s: u32) -> Learn {
    fdb.learn(key(mac), port(at), now_s, LearnLimits::NONE)
}

fn table(seed: u64) -> Arc<Fdb> {
    Arc::new(Fdb::with_buckets(2, 8, 8, seed))
}

/// Checks what must hold once all threads are done, and answers the entries.
fn at_rest(fdb: &Fdb) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    fdb.scan(0, 2, |entry| entries.push(entry));
    for entry in &entries {
        let copies = entries.iter().filter(|other| other.key == entry.key).count();
        assert_eq!(copies, 1, "{} is there {copies} times", entry.key);
        assert_eq!(fdb.lookup(entry.key).map(|hit| hit.entry(entry.key)), Some(*entry));
    }
    let dynamic = |at: Option<usize>| {
        let counted = |entry: &&Entry| entry.kind == Kind::Dynamic && at.is_none_or(|at| entry.port == port(at));
        entries.iter().filter(counted).count() as u32
    };
    assert_eq!((fdb.len() as usize, fdb.dynamic_len()), (entries.len(), dynamic(None)));
    for at in 0..4 {
        assert_eq!(fdb.port_len(port(at)), dynamic(Some(at)), "port {at}");
    }
    let used: usize = fdb.buckets.iter().map(Bucket::used).sum();
    assert_eq!(used, entries.len(), "a slot was lost");
    entries
}

/// Runs `scene` under both orders in which address A may meet the two buckets, with at most
/// `preemptions` unforced switches of thread (`None`: all schedules).
fn explore(preemptions: Option<usize>, scene: fn(u64)) {
    let first_of_a = |seed| hash::first(Hasher::new(seed).hash(key(A).bits()), 2);
    for bucket in [0, 1] {
        let seed = (0..).find(|&seed| first_of_a(seed) == bucket).unwrap();
        let mut model = loom::model::Builder::new();
        model.preemption_bound = preemptions;
        model.check(move || scene(seed));
    }
}

#[test]
fn a_lookup_never_answers_with_the_next_holder_of_the_slot() {
    explore(Some(4), |seed| {
        let fdb = table(seed);
        learn(&fdb, FILLER, 0, 1);
        learn(&fdb, A, 1, 1);
        let reader = thread::spawn({
            let fdb = fdb.clone();
            move || fdb.lookup(key(A))
        });
        // The only free slot is A's: B takes it, and A comes back to it.
        fdb.remove(key(A));
        assert_eq!(learn(&fdb, B, 2, 1), Learn::Learned);
        fdb.remove(key(B));
        assert_eq!(learn(&fdb, A, 3, 1), Learn::Learned);
        let answer = reader.join().unwrap().map(|hit| hit.port);
        assert!([None, Some(port(1)), Some(port(3))].contains(&answer), "{answer:?}");
        at_rest(&fdb);
    });
}

#[test]
fn two_workers_that_learn_one_address_leave_one_entry_and_then_always_find_it() {
    explore(Some(4), |seed| {
        let fdb = table(seed);
        let other = thread::spawn({
            let fdb = fdb.clone();
            move || {
                learn(&fdb, A, 1, 1);
                assert!(fdb.lookup(key(A)).is_some(), "learned, not removed, and not found");
            }
        });
        learn(&fdb, A, 2, 1);
        assert!(fdb.lookup(key(A)).is_some(), "learned, not removed, and not found");
        other.join().unwrap();
        assert_eq!(at_rest(&fdb).len(), 1);
    });
}

#[test]
fn three_workers_that_learn_one_address_leave_one_entry() {
    explore(Some(1), |seed| {
        let fdb = table(seed);
        let others = [1, 2].map(|at| {
            let fdb = fdb.clone();
            thread::spawn(move || learn(&fdb, A, at, 1))
        });
        learn(&fdb, A, 3, 1);
        for other in others {
            other.join().unwrap();
        }
        assert_eq!(at_rest(&fdb).len(), 1);
    });
}

#[test]
fn a_move_never_lands_on_the_next_holder_of_the_slot() {
    explore(None, |seed| {
        let fdb = table(seed);
        learn(&fdb, FILLER, 0, 1);
        learn(&fdb, A, 1, 1);
        let mover = thread::spawn({
            let fdb = fdb.clone();
            move || learn(&fdb, A, 2, 1)
        });
        fdb.remove(key(A));
        // As A was: same port, kind and second. Only the generation tells them apart.
        let taken = learn(&fdb, B, 1, 1);
        mover.join().unwrap();
        let entries = at_rest(&fdb);
        if taken == Learn::Learned {
            let b = Entry { key: key(B), port: port(1), kind: Kind::Dynamic, stamp_s: 1 };
            assert!(entries.contains(&b), "{entries:?}");
        }
    });
}

#[test]
fn an_address_heard_again_survives_the_ageing_sweep() {
    explore(None, |seed| {
        let fdb = table(seed);
        learn(&fdb, A, 1, 1);
        let worker = thread::spawn({
            let fdb = fdb.clone();
            move || learn(&fdb, A, 1, 9)
        });
        fdb.sweep(0, 2, |entry| entry.stamp_s > 5);
        worker.join().unwrap();
        let entries = at_rest(&fdb);
        assert!(entries.len() == 1 && entries.iter().all(|entry| entry.stamp_s == 9), "{entries:?}");
    });
}

#[test]
fn a_static_entry_wins_over_a_worker_that_learns_the_address() {
    explore(None, |seed| {
        let fdb = table(seed);
        let worker = thread::spawn({
            let fdb = fdb.clone();
            move || learn(&fdb, A, 1, 1)
        });
        let entry = Entry { key: key(A), port: port(2), kind: Kind::Static, stamp_s: 1 };
        assert!(fdb.insert(entry).is_ok());
        worker.join().unwrap();
        assert_eq!(at_rest(&fdb), [entry]);
    });
}

#[test]
fn a_flush_and_a_worker_leave_exact_counts() {
    explore(None, |seed| {
        let fdb = table(seed);
        learn(&fdb, A, 1, 1);
        let worker = thread::spawn({
            let fdb = fdb.clone();
            move || {
                learn(&fdb, A, 2, 1);
                learn(&fdb, B, 1, 1);
            }
        });
        fdb.sweep(0, 2, |entry| entry.port != port(1));
        worker.join().unwrap();
        at_rest(&fdb);
    });
}

#[test]
fn a_flush_and_two_workers_leave_exact_counts() {
    explore(Some(1), |seed| {
        let fdb = table(seed);
        learn(&fdb, A, 1, 1);
        let others = [(A, 2), (B, 1)].map(|(mac, at)| {
            let fdb = fdb.clone();
            thread::spawn(move || learn(&fdb, mac, at, 1))
        });
        fdb.sweep(0, 2, |entry| entry.port != port(1));
        for other in others {
            other.join().unwrap();
        }
        at_rest(&fdb);
    });
}
