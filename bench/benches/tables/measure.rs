//! One table of one size, measured in a process of its own: what `bench/yardstick/rte_hash.c` does, in Rust.

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use core_affinity::CoreId;
use dashmap::DashMap;
use hashbrown::{DefaultHashBuilder, HashMap};
use serde::{Deserialize, Serialize};
use switch::ids::Mac;
use switch::limits::BURST;
use switch::table::fdb::{Fdb, Hit, MacKey};

use crate::candidates::{Concurrent, Found, Table};
use crate::keys::Keys;

/// Fewest lookups that are timed, and that precede them. Also in rte_hash.c.
const LOOKUPS_MIN: usize = 1 << 20;
const WARM_UP: usize = 1 << 16;

/// What a process says before its figures.
#[derive(Serialize, Deserialize, Debug)]
pub struct About {
    /// [`Keys::sum`] in hexadecimal.
    pub keys: String,
    /// Memory that the table and its content took, in bytes.
    pub bytes: u64,
    /// Cycles of the time stamp counter per second, if known.
    pub tsc_hz: Option<u64>,
    /// Version of what was measured, if it is not part of this build.
    pub version: Option<String>,
}

/// One thing measured.
#[derive(Serialize, Deserialize, Debug)]
pub struct Figure {
    /// Its name, one of `report::SECTIONS`.
    pub figure: String,
    /// Time per address, in ns; of two threads together.
    pub ns: f64,
}

/// Fewest addresses that two threads learn at once: fewer take less time than the start of a thread may vary. Also in
/// rte_hash.c.
const LEARN_TWO_MIN: usize = 1 << 16;

/// Measures a table of so many addresses on these cores, the second of which may be missing.
type Measure = fn(usize, &[usize]);

/// Tables by name.
pub const TABLES: [(&str, Measure); 4] = [
    (Fdb::NAME, concurrent::<Fdb>),
    (<HashMap<MacKey, Hit>>::NAME, single::<HashMap<MacKey, Hit>>),
    (<DashMap<MacKey, Hit, DefaultHashBuilder>>::NAME, concurrent::<DashMap<MacKey, Hit, DefaultHashBuilder>>),
    (<papaya::HashMap<MacKey, Hit, DefaultHashBuilder>>::NAME, concurrent::<papaya::HashMap<_, _, DefaultHashBuilder>>),
];

fn print(figure: &str, taken: Duration, count: usize) {
    let figure = Figure { figure: figure.to_owned(), ns: taken.as_nanos() as f64 / count as f64 };
    println!("{}", serde_json::to_string(&figure).expect("plain data"));
}

fn pin(core: usize) {
    assert!(core_affinity::set_for_current(CoreId { id: core }), "core {core} is not there for this process");
}

/// Memory of this process, in bytes (proc(5), status).
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = text.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
    field.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// What one thread alone can do.
fn single<T: Table>(count: usize, cores: &[usize]) {
    measure::<T>(count, cores);
}

/// The same, and what two threads can do.
fn concurrent<T: Concurrent>(count: usize, cores: &[usize]) {
    let (table, keys) = measure::<T>(count, cores);
    let &[_, second] = cores else { return };
    let half = keys.hits.len() / 2 / BURST * BURST;
    // In bursts where the table knows them.
    let ask: Ask<T> = if bulk(&table, &keys.hits[..BURST], &mut 0).is_some() {
        |table, burst, found| bulk(table, burst, found).unwrap_or(0)
    } else {
        one_by_one
    };
    let find = |from| {
        pass(&table, &keys.hits, from, LOOKUPS_MIN, ask, true);
    };
    print("hit_two", both(second, || find(0), || find(half)), 2 * LOOKUPS_MIN);
    drop(table);
    if count < LEARN_TWO_MIN {
        return;
    }
    let empty = T::with_room(count);
    let (first, other) = keys.known.split_at(count / 2);
    let taken = both(second, || empty.learn_shared(0, first), || empty.learn_shared(first.len(), other));
    print("learn_two", taken, count);
}

/// Time until both threads are done, which begin together.
fn both(second_core: usize, here: impl FnOnce(), there: impl FnOnce() + Send) -> Duration {
    let ready = AtomicUsize::new(0);
    let wait = || {
        ready.fetch_add(1, Ordering::SeqCst);
        while ready.load(Ordering::SeqCst) < 2 {
            std::hint::spin_loop();
        }
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            pin(second_core);
            wait();
            there();
        });
        while ready.load(Ordering::SeqCst) < 1 && !other.is_finished() {
            std::hint::spin_loop();
        }
        let start = Instant::now();
        wait();
        here();
        other.join().expect("the second thread does as the first");
        start.elapsed()
    })
}

fn measure<T: Table>(count: usize, cores: &[usize]) -> (T, Keys) {
    pin(cores[0]);
    let keys = Keys::draw(count);
    let before = resident();
    let mut table = T::with_room(count);
    let start = Instant::now();
    table.learn(0, &keys.known);
    let learned = start.elapsed();
    let bytes = resident().saturating_sub(before);
    let about = About { keys: format!("{:016x}", keys.sum), bytes, tsc_hz: None, version: None };
    println!("{}", serde_json::to_string(&about).expect("plain data"));
    print("learn", learned, count);

    for (name, asked, hit) in [("hit", &keys.hits, true), ("miss", &keys.misses, false)] {
        if bulk(&table, &asked[..BURST], &mut 0).is_some() {
            let ask: Ask<T> = |table, burst, found| bulk(table, burst, found).unwrap_or(0);
            timed(&format!("{name}_bulk"), &table, asked, ask, hit);
        }
        timed(&format!("{name}_loop"), &table, asked, one_by_one, hit);
        timed(&format!("{name}_chained"), &table, asked, chained, hit);
    }
    (table, keys)
}

fn timed<T: Table>(figure: &str, table: &T, keys: &[MacKey], ask: Ask<T>, hit: bool) {
    pass(table, keys, 0, WARM_UP, ask, hit);
    let start = Instant::now();
    let done = pass(table, keys, 0, LOOKUPS_MIN, ask, hit);
    print(figure, start.elapsed(), done);
}

/// Sum of the ports found for a burst; counts what was found.
type Ask<T> = fn(&T, &[MacKey], &mut usize) -> usize;

/// Asks for `keys` over and over, beginning with number `from`, at least `least` times. Answers how often.
fn pass<T: Table>(table: &T, keys: &[MacKey], from: usize, least: usize, ask: Ask<T>, hit: bool) -> usize {
    let (mut found, mut sum, mut at, mut done) = (0, 0, from, 0);
    while done < least {
        sum += ask(table, &keys[at..at + BURST], &mut found);
        at = if at + BURST == keys.len() { 0 } else { at + BURST };
        done += BURST;
    }
    black_box(sum);
    assert_eq!(found, if hit { done } else { 0 }, "addresses found of {done}");
    done
}

/// The whole burst in one call, if the table has one.
fn bulk<T: Table>(table: &T, burst: &[MacKey], found: &mut usize) -> Option<usize> {
    let mut hits: Found = [None; BURST];
    let known = table.find_burst(burst, &mut hits);
    *found += hits.iter().flatten().count();
    known.then(|| hits.iter().flatten().map(|hit| hit.port.index()).sum())
}

/// A call for each, none waiting for another.
fn one_by_one<T: Table>(table: &T, burst: &[MacKey], found: &mut usize) -> usize {
    let mut sum = 0;
    for &key in burst {
        if let Some(hit) = table.find(key) {
            sum += hit.port.index();
            *found += 1;
        }
    }
    sum
}

/// A call for each, whose key depends on the last answer.
fn chained<T: Table>(table: &T, burst: &[MacKey], found: &mut usize) -> usize {
    let mut sum = 0;
    for &key in burst {
        // Always zero, which only this line knows.
        let after = black_box(sum & 1 << 20);
        let key = MacKey::new(key.domain(), Mac::from_bits(key.mac().bits() ^ after as u64));
        if let Some(hit) = table.find(key) {
            sum += hit.port.index();
            *found += 1;
        }
    }
    sum
}
