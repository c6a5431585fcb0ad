//! Grace periods: when no worker can still hold what was taken out of a shared table.
//!
//! Readers of a table whose parts are replaced take no lock and count nothing. Instead every worker says once a turn of
//! its poll loop that it holds nothing from before ([`Grace::pass`]), and whoever takes something out of a table asks
//! for the number of the moment ([`Grace::retire`]) and waits until every worker has passed since, or sleeps
//! ([`Grace::is_over`]). Quiescent states, in the words of those who study this.
//!
//! A worker marked asleep may read nothing until [`Grace::wake`] (or `pass`, which notices).

#[cfg(loom)]
use loom::sync::atomic::{AtomicU64, Ordering, fence};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU64, Ordering, fence};

use crossbeam::utils::CachePadded;

/// In place of an epoch: this worker holds nothing and reads nothing.
const ASLEEP: u64 = u64::MAX;

/// The number of a moment: of the one at which something was retired.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Epoch(u64);

/// The epochs of all workers. One for the whole switch, shared by reference.
pub struct Grace {
    global: CachePadded<AtomicU64>,
    /// The epoch each worker has seen at its last pass, or [`ASLEEP`].
    workers: Box<[CachePadded<AtomicU64>]>,
}

impl Grace {
    /// For workers 0 to `workers` - 1, all of them asleep.
    pub fn new(workers: usize) -> Grace {
        Grace {
            global: CachePadded::new(AtomicU64::new(0)),
            workers: (0..workers).map(|_| CachePadded::new(AtomicU64::new(ASLEEP))).collect(),
        }
    }

    /// Says that `worker` holds nothing that it read before. That worker's thread, at the start of every turn; costs
    /// two loads, and a store after something was retired.
    ///
    /// A number that `new` was not told of is passed over: such a thread's reads are not waited for.
    #[inline]
    pub fn pass(&self, worker: usize) {
        let Some(mine) = self.workers.get(worker) else { return };
        // Acquire pairs with `retire`: who reads an epoch reads what was published before it.
        let now = self.global.load(Ordering::Acquire);
        let seen = mine.load(Ordering::Relaxed);
        if seen == now {
            return;
        }
        if seen == ASLEEP {
            return self.wake(worker);
        }
        // Release pairs with `is_over`: all reads of the last turn are done.
        mine.store(now, Ordering::Release);
    }

    /// Says that `worker` holds nothing and reads nothing until it wakes. That worker's thread, before it blocks or
    /// ends.
    pub fn sleep(&self, worker: usize) {
        if let Some(mine) = self.workers.get(worker) {
            mine.store(ASLEEP, Ordering::Release);
        }
    }

    /// Says that `worker` reads again. That worker's thread, after it blocked.
    pub fn wake(&self, worker: usize) {
        let Some(mine) = self.workers.get(worker) else { return };
        mine.store(self.global.load(Ordering::Acquire), Ordering::Release);
        // Of this fence and the one in `retire`, one is first: either the writer sees this worker awake, or this worker
        // reads what the writer published.
        fence(Ordering::SeqCst);
    }

    /// The epoch of what the caller has just made unreachable. Any thread that writes tables.
    pub fn retire(&self) -> Epoch {
        let epoch = self.global.fetch_add(1, Ordering::AcqRel) + 1;
        fence(Ordering::SeqCst);
        Epoch(epoch)
    }

    /// True once no worker can still hold what was retired at `epoch`. The thread that retired it; never waits.
    pub fn is_over(&self, epoch: Epoch) -> bool {
        // ASLEEP is above every epoch.
        self.workers.iter().all(|worker| worker.load(Ordering::Acquire) >= epoch.0)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_retired_is_free_once_every_worker_has_passed_or_sleeps() {
        let grace = Grace::new(3);
        assert!(grace.is_over(grace.retire()), "workers that never ran hold nothing");
        grace.wake(0);
        grace.pass(1);
        let first = grace.retire();
        assert!(!grace.is_over(first), "two workers may hold it");
        grace.pass(0);
        assert!(!grace.is_over(first), "worker 1 may hold it");
        grace.sleep(1);
        assert!(grace.is_over(first));
        let second = grace.retire();
        assert!(grace.is_over(first) && !grace.is_over(second) && second > first);
        grace.wake(1);
        assert!(!grace.is_over(second), "worker 0 has not passed");
        grace.pass(0);
        assert!(grace.is_over(second), "worker 1 woke after it");
        grace.pass(3);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    /// A slot that leads to one of two places, and the two places. The cells panic if one is written while it is read.
    struct Table {
        grace: Grace,
        slot: AtomicU64,
        places: [UnsafeCell<u64>; 2],
    }

    fn table() -> Arc<Table> {
        let places = [UnsafeCell::new(10), UnsafeCell::new(11)];
        Arc::new(Table { grace: Grace::new(1), slot: AtomicU64::new(0), places })
    }

    fn read(table: &Table) {
        let at = table.slot.load(Ordering::Acquire) as usize;
        table.places[at].with(|_place| ());
    }

    /// Leads readers to place 1, and uses place 0 again when no reader can be there.
    fn replace(table: &Table) {
        table.slot.store(1, Ordering::Release);
        let epoch = table.grace.retire();
        while !table.grace.is_over(epoch) {
            thread::yield_now();
        }
        table.places[0].with_mut(|_place| ());
    }

    fn explore(turns: fn(&Table)) {
        loom::model(move || {
            let table = table();
            let worker = thread::spawn({
                let table = table.clone();
                move || {
                    turns(&table);
                    table.grace.sleep(0);
                }
            });
            replace(&table);
            worker.join().unwrap();
        });
    }

    #[test]
    fn a_place_is_not_used_again_under_a_worker_that_passes() {
        explore(|table| {
            table.grace.pass(0);
            read(table);
            table.grace.pass(0);
            read(table);
        });
    }

    #[test]
    fn nor_under_one_that_sleeps_and_wakes() {
        explore(|table| {
            table.grace.wake(0);
            read(table);
            table.grace.sleep(0);
            table.grace.pass(0);
            read(table);
        });
    }
}
