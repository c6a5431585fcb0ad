//! Many trials in alternated order: run 1 takes the devices as given, run 2 in reverse, and so on, so that a machine
//! that slowly changes its speed favours nobody. Main thread.

use crate::device::{Kind, Settings};
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::report::busy_share;
use crate::stop::Stop;
use std::time::Duration;

/// Share of the cores' time that others may use before the user is warned.
const BUSY_ABOVE: f64 = 0.1;

/// Devices of `order` that are installed here; the others are named on stderr and skipped.
///
/// # Errors
/// [`Error::Absent`] when none is left.
pub fn present(order: &[Kind], settings: &Settings) -> Result<Vec<Kind>> {
    let mut there = Vec::new();
    for kind in order {
        match kind.available(settings) {
            Ok(()) if !there.contains(kind) => there.push(*kind),
            Ok(()) => {}
            Err(absent) => eprintln!("skipped: {absent}"),
        }
    }
    if there.is_empty() {
        return Err(Error::Absent { device: "every device", why: "nothing to measure; choose with --devices".into() });
    }
    Ok(there)
}

/// Says on stderr when other programs use the cores, because figures taken then are worth little. Takes a second.
///
/// # Errors
/// [`Error::Interrupted`].
pub fn warn_if_busy(stop: &Stop) -> Result<()> {
    let read = || std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let before = read();
    stop.sleep(Duration::from_secs(1))?;
    let busy = busy_share(&before, &read());
    if busy > BUSY_ABOVE {
        eprintln!("warning: other programs use {:.0} % of this machine; do not trust the figures", busy * 100.0);
    }
    Ok(())
}

/// The device of every trial, in order: `runs` times all of them, each second time reversed.
pub fn alternated(devices: &[Kind], runs: usize) -> Vec<Kind> {
    (0..runs)
        .flat_map(|run| {
            let mut order = devices.to_vec();
            if run % 2 == 1 {
                order.reverse();
            }
            order
        })
        .collect()
}

/// Runs `one` for every entry of `plan`. A trial that fails is reported on stderr and left out; an interruption ends
/// everything.
///
/// # Errors
/// [`Error::Interrupted`]; the last failure when no trial succeeded.
pub fn run<P, T>(
    plan: &[P],
    stop: &Stop,
    name: impl Fn(&P) -> String,
    one: impl Fn(&P) -> Result<T>,
    show: impl Fn(&T) -> String,
) -> Result<Vec<T>> {
    let progress = Progress::new(plan.len());
    let (mut results, mut last_failure) = (Vec::new(), None);
    for step in plan {
        stop.check()?;
        let name = name(step);
        progress.begin(&name);
        match one(step) {
            Ok(result) => {
                progress.done(&format!("{name}: {}", show(&result)));
                results.push(result);
            }
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(failure) => {
                progress.done(&format!("{name}: FAILED: {failure}"));
                last_failure = Some(failure);
            }
        }
    }
    match last_failure {
        Some(failure) if results.is_empty() => Err(failure),
        _ => Ok(results),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_second_run_is_reversed() {
        use Kind::{Bridge, Ovs};
        assert_eq!(alternated(&[Ovs, Bridge], 3), [Ovs, Bridge, Bridge, Ovs, Ovs, Bridge]);
    }

    #[test]
    fn one_failure_does_not_end_a_campaign_but_an_interruption_does() {
        let fail = || Error::Parse { tool: "x", why: "y".into() };
        let stop = Stop::default();
        let go = |plan: &[i32]| {
            let one = |n: &i32| match n {
                0 => Err(fail()),
                -1 => Err(Error::Interrupted),
                n => Ok(*n),
            };
            run(plan, &stop, ToString::to_string, one, ToString::to_string)
        };
        assert_eq!(go(&[1, 0, 2]).unwrap(), [1, 2]);
        assert!(matches!(go(&[0, 0]), Err(Error::Parse { .. })));
        assert!(matches!(go(&[1, -1, 2]), Err(Error::Interrupted)));
    }
}
