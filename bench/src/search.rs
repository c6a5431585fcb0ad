//! The highest rate a device carries within a loss limit (RFC 2544 section 26.1): no loss (NDR) or at most 0.5 % (PDR).
//! One device start serves a whole search; every step offers a paced load.
//!
//! Loss does not grow with the rate alone: an interrupt in the wrong moment loses frames at any rate. So a rate is
//! given up only when it failed twice, and what the bisection found must then pass several longer trials in a row, or
//! the rate is lowered by 2 % and they begin again. How often a rate failed at or below one that passed is counted, and
//! how many steps failed for want of a generator.

use crate::device::{Kind, Settings};
use crate::error::Result;
use crate::load::{Load, Size};
use crate::stop::Stop;
use crate::trial::{Bed, Offer, Trial};
use serde::Serialize;
use std::time::Duration;

/// The search ends when its interval is this share of the first upper bound.
const PRECISION: f64 = 0.01;
/// Tries of a rate before it is given up.
const TRIES: usize = 2;
/// Share by which a rate that did not hold is lowered.
const STEP_DOWN: f64 = 0.02;
/// Share of the bisected rate below which nothing is tried any more.
const GIVE_UP_BELOW: f64 = 0.2;

/// What to search for.
#[derive(Clone, Copy, Debug)]
pub struct Goal {
    /// Kind of generator.
    pub load: Load,
    /// Frame lengths.
    pub size: Size,
    /// Highest loss share allowed: 0 for NDR, 0.005 for PDR.
    pub loss_limit: f64,
    /// Length of one step.
    pub step: Duration,
    /// Trials that must all pass at the end.
    pub verify: u32,
    /// Length of each of them.
    pub verify_time: Duration,
}

/// What one search found.
#[derive(Clone, Debug, Serialize)]
pub struct Found {
    /// Device under test.
    pub device: Kind,
    /// Kind of generator.
    pub load: Load,
    /// Frame lengths.
    pub size: Size,
    /// Highest loss share allowed.
    pub loss_limit: f64,
    /// Highest rate within the limit, frames per second; 0 when there was none.
    pub rate_pps: f64,
    /// What the bisection found before it was verified.
    pub bisected_pps: f64,
    /// Steps that lost too much at or below a rate that another step passed.
    pub violations: usize,
    /// Steps that say nothing about the device, because the generator missed its aim or counters disagreed; they
    /// were taken for failures.
    pub unusable: usize,
    /// Every step, in order: full speed, the bisection, the verification.
    pub steps: Vec<Trial>,
}

/// Searches on a fresh rig.
///
/// # Errors
/// Those of [`Bed::make`] and [`Bed::measure`].
pub fn run(kind: Kind, goal: Goal, settings: &Settings, stop: &Stop) -> Result<Found> {
    on(&mut Bed::make(kind, settings, stop)?, goal, stop)
}

/// Searches on a bed that is ready. The first step, at full speed, gives the upper bound.
///
/// # Errors
/// Those of [`Bed::measure`].
pub fn on(bed: &mut Bed, goal: Goal, stop: &Stop) -> Result<Found> {
    let mut steps = Vec::new();
    let mut offer = |rate_pps: Option<f64>, time: Duration| -> Result<Trial> {
        let trial = bed.measure(Offer { load: goal.load, rate_pps, time, size: goal.size }, stop)?;
        steps.push(trial.clone());
        Ok(trial)
    };
    let full = offer(None, goal.step)?;
    let mut carries = |rate: f64, time: Duration| -> Result<bool> {
        Ok(rate >= goal.load.rate_min() && passes(&offer(Some(rate), time)?, goal.loss_limit))
    };
    let bisected_pps = if passes(&full, goal.loss_limit) {
        full.delivered_pps
    } else {
        bisect(full.offered_pps, PRECISION, |rate| {
            for _ in 0..TRIES {
                if carries(rate, goal.step)? {
                    return Ok(true);
                }
            }
            Ok(false)
        })?
    };
    let rate_pps = hold(bisected_pps, goal.verify, |rate| carries(rate, goal.verify_time))?;
    let unusable = steps.iter().filter(|t| !t.counts()).count();
    let outcomes =
        steps.iter().filter(|t| t.counts()).map(|t| (t.aim_pps.unwrap_or(t.offered_pps), passes(t, goal.loss_limit)));
    let violations = violations(&outcomes.collect::<Vec<_>>());
    let Goal { load, size, loss_limit, .. } = goal;
    Ok(Found { device: bed.kind(), load, size, loss_limit, rate_pps, bisected_pps, violations, unusable, steps })
}

/// Whether a trial shows that its rate is carried. What a generator cannot offer is no rate that was carried.
fn passes(trial: &Trial, loss_limit: f64) -> bool {
    trial.counts() && trial.loss <= loss_limit
}

/// The highest rate below `top` that `passes`, to `precision` (a share of `top`); 0 when none does.
pub(crate) fn bisect(top: f64, precision: f64, mut passes: impl FnMut(f64) -> Result<bool>) -> Result<f64> {
    let (mut low, mut high) = (0.0, top);
    while high - low > top * precision {
        let middle = (low + high) / 2.0;
        if passes(middle)? { low = middle } else { high = middle }
    }
    Ok(low)
}

/// `rate`, or the next lower one that `passes` `times` times in a row; 0 when none does.
fn hold(rate: f64, times: u32, mut passes: impl FnMut(f64) -> Result<bool>) -> Result<f64> {
    let mut tried = rate;
    while tried > rate * GIVE_UP_BELOW {
        let mut passed = 0;
        while passed < times && passes(tried)? {
            passed += 1;
        }
        if passed == times {
            return Ok(tried);
        }
        tried *= 1.0 - STEP_DOWN;
    }
    Ok(0.0)
}

/// How many of (rate, passed) failed at or below the highest rate that passed.
fn violations(outcomes: &[(f64, bool)]) -> usize {
    let passed = outcomes.iter().filter(|(_, passed)| *passed).map(|(rate, _)| *rate).fold(0.0, f64::max);
    outcomes.iter().filter(|(rate, ok)| !ok && *rate <= passed).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_closes_in_on_the_limit_from_below() {
        for limit in [1.0, 123_456.0, 999_000.0] {
            let found = bisect(1e6, 0.01, |rate| Ok(rate <= limit)).unwrap();
            assert!(found <= limit && limit - found <= 1e4, "{limit}: {found}");
        }
        assert_eq!(bisect(1e6, 0.01, |_| Ok(false)).unwrap(), 0.0);
    }

    #[test]
    fn a_rate_must_hold_every_time_or_is_lowered() {
        let mut asked = Vec::new();
        let found = hold(1000.0, 3, |rate| {
            asked.push(rate);
            Ok(rate <= 980.0 || asked.len() == 1)
        });
        assert_eq!((found.unwrap(), asked.len()), (980.0, 5));
        assert_eq!(hold(1000.0, 1, |_| Ok(false)).unwrap(), 0.0);
        assert_eq!(hold(1000.0, 0, |_| Ok(false)).unwrap(), 1000.0);
        assert_eq!(hold(0.0, 3, |_| Ok(true)).unwrap(), 0.0);
    }

    #[test]
    fn failures_below_a_pass_are_violations() {
        let outcomes = [(100.0, false), (50.0, false), (50.0, true), (75.0, true), (60.0, false), (80.0, false)];
        assert_eq!(violations(&outcomes), 2);
        assert_eq!(violations(&[(1.0, false)]), 0);
    }
}
