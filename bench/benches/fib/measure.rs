//! One table of one size, measured in a process of its own: what `bench/yardstick/rte_lpm.c` does, in Rust.

use std::hint::black_box;
use std::time::{Duration, Instant};

use core_affinity::CoreId;
use prefix_trie::PrefixMap;
use serde::{Deserialize, Serialize};
use switch::ids::NextHopId;
use switch::limits::BURST;
use switch::table::fib::Prefix;

use crate::candidates::{Ours, Table, TreeBitmap};
use crate::routes::{ASKED, Family, Routes};

/// Routes removed and inserted again while updates are timed, one after the other. Also in rte_lpm.c.
const UPDATES: usize = 100_000;

/// One thing measured.
#[derive(Serialize, Deserialize, Debug)]
pub struct Figure {
    /// Its name, one of `report::SECTIONS`.
    pub figure: String,
    /// In nanoseconds or bytes, as the section says.
    pub value: f64,
    /// Sum of the next hops found, where all tables must find the same.
    pub sum: Option<u64>,
}

/// Measures a table of so many routes on a core.
type Measure = fn(usize, usize);

/// Tables by family and name.
pub const TABLES: [(&str, &str, Measure); 6] = [
    ("ipv4", "fib", measure::<u32, Ours<u32>>),
    ("ipv4", "prefix-trie", measure::<u32, PrefixMap<(u32, u8), NextHopId>>),
    ("ipv4", "treebitmap", measure::<u32, TreeBitmap>),
    ("ipv6", "fib", measure::<u128, Ours<u128>>),
    ("ipv6", "prefix-trie", measure::<u128, PrefixMap<(u128, u8), NextHopId>>),
    ("ipv6", "treebitmap", measure::<u128, TreeBitmap>),
];

fn print(figure: &str, value: f64, sum: Option<u64>) {
    let figure = Figure { figure: figure.to_owned(), value, sum };
    println!("{}", serde_json::to_string(&figure).expect("plain data"));
}

fn each(taken: Duration, count: usize) -> f64 {
    taken.as_nanos() as f64 / count as f64
}

/// Memory of this process, in bytes (proc(5), status).
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = text.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
    field.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn measure<A: Family, T: Table<A>>(count: usize, core: usize) {
    assert!(core_affinity::set_for_current(CoreId { id: core }), "core {core} is not there for this process");
    let routes = Routes::<A>::draw(count);
    let before = resident();
    let start = Instant::now();
    let mut table = T::load(&routes.routes);
    print("load", each(start.elapsed(), 1), None);
    print("resident", resident().saturating_sub(before) as f64, None);
    if let Some(bytes) = table.bytes() {
        print("own", bytes as f64, None);
    }
    for (name, asked) in [("inside", &routes.inside), ("anywhere", &routes.anywhere), ("one", &routes.one)] {
        if bulk(&table, &asked[..BURST]).is_some() {
            timed(&format!("{name}_bulk"), &table, asked, |table, burst| bulk(table, burst).unwrap_or(0));
        }
        timed(&format!("{name}_loop"), &table, asked, one_by_one);
    }
    update(&mut table, &routes.routes);
}

/// Sum of the next hops found for a burst.
type Ask<A, T> = fn(&T, &[A]) -> u64;

fn timed<A: Family, T: Table<A>>(figure: &str, table: &T, asked: &[A], ask: Ask<A, T>) {
    let pass = |asked: &[A]| asked.chunks_exact(BURST).map(|burst| ask(table, burst)).sum::<u64>();
    black_box(pass(&asked[..ASKED / 4]));
    let start = Instant::now();
    let sum = pass(asked);
    print(figure, each(start.elapsed(), ASKED), Some(sum));
}

/// The whole burst in one call, if the table has one.
fn bulk<A: Family, T: Table<A>>(table: &T, burst: &[A]) -> Option<u64> {
    let mut found = [NextHopId::NONE; BURST];
    table.find_burst(burst, &mut found).then(|| found.iter().map(|hop| hop.index() as u64).sum())
}

/// A call for each, none waiting for another.
fn one_by_one<A: Family, T: Table<A>>(table: &T, burst: &[A]) -> u64 {
    burst.iter().map(|&address| table.find(address).index() as u64).sum()
}

/// Routes go and come back, and short prefixes come and go over a full table.
fn update<A: Family, T: Table<A>>(table: &mut T, routes: &[(Prefix<A>, NextHopId)]) {
    let start = Instant::now();
    for &(prefix, hop) in routes.iter().cycle().take(UPDATES) {
        table.remove(prefix);
        table.insert(prefix, hop);
    }
    print("update", each(start.elapsed(), 2 * UPDATES), None);
    let hop = NextHopId::new(201).expect("below the most next hops");
    let mut worst = Duration::ZERO;
    for length in 0..=16 {
        let prefix = Prefix::of(routes[0].0.address(), length).expect("a length of the family");
        if routes.iter().all(|(other, _)| *other != prefix) {
            let start = Instant::now();
            table.insert(prefix, hop);
            worst = worst.max(start.elapsed());
            let start = Instant::now();
            table.remove(prefix);
            worst = worst.max(start.elapsed());
        }
    }
    print("short", each(worst, 1), None);
}
