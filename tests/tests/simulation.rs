//! The simulator over many seeds. `SIM_SEED=n SIM_STEPS=m` replays one; `SIM_FULL=1` runs ten million steps.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tests::sim::{Summary, run};

/// Seeds and steps for each, on every `make test` and in full.
const USUAL: (u64, u64) = (200, 5_000);
const FULL: (u64, u64) = (1_000, 10_000);

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// Runs all seeds on all cores; the sum of what they did.
fn run_all(seeds: u64, steps: u64) -> Summary {
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get());
    let (next, total) = (AtomicU64::new(0), Mutex::new(Summary::default()));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    let summary = run(seed, steps).unwrap_or_else(|failure| panic!("{failure}"));
                    *total.lock().expect("no other seed failed") += summary;
                }
            });
        }
    });
    total.into_inner().expect("no seed failed")
}

#[test]
fn no_rule_is_broken_from_any_seed() {
    let started = Instant::now();
    let (seeds, summary) = match number("SIM_SEED") {
        Some(seed) => {
            let steps = number("SIM_STEPS").unwrap_or(USUAL.1);
            (1, run(seed, steps).unwrap_or_else(|failure| panic!("{failure}")))
        }
        None => {
            let (seeds, steps) = if std::env::var_os("SIM_FULL").is_some() { FULL } else { USUAL };
            (seeds, run_all(seeds, steps))
        }
    };
    println!("{seeds} seeds, {:.1} s: {summary:?}", started.elapsed().as_secs_f64());
    // The runs must have done something worth the name.
    assert!(seeds == 1 || (summary.offered > summary.steps && summary.delivered > summary.steps / 2), "{summary:?}");
    assert!(seeds == 1 || (summary.lost > 1000 && summary.aged > 1000 && summary.attached > 10 * seeds), "{summary:?}");
}

#[test]
fn a_seed_always_does_the_same() {
    for seed in [3, 4, 5] {
        assert_eq!(run(seed, 500).unwrap(), run(seed, 500).unwrap());
    }
}
