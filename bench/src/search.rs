//! The highest rate a device carries within a loss limit (RFC 2544 section 26.1): no loss (NDR) or at most 0.5 % (PDR).
//! One device start serves a whole search; every step offers a paced socket load.

use crate::device::{Kind, Settings};
use crate::error::Result;
use crate::load::Load;
use crate::stop::Stop;
use crate::trial::{Bed, Offer, Trial};
use serde::Serialize;
use std::time::Duration;

/// The search ends when its interval is this share of the first upper bound.
const PRECISION: f64 = 0.01;

/// What one search found.
#[derive(Clone, Debug, Serialize)]
pub struct Found {
    /// Device under test.
    pub device: Kind,
    /// Highest loss share allowed.
    pub loss_limit: f64,
    /// Highest rate within the limit, frames per second; 0 when there was none.
    pub rate_pps: f64,
    /// Every step, in order.
    pub steps: Vec<Trial>,
}

/// What to search for.
#[derive(Clone, Copy, Debug)]
pub struct Goal {
    /// Highest loss share allowed: 0 for NDR, 0.005 for PDR.
    pub loss_limit: f64,
    /// Length of one step.
    pub step: Duration,
    /// Frame length in bytes without FCS.
    pub frame_len: usize,
}

/// Searches on a fresh rig. The first step, at full speed, gives the upper bound.
///
/// # Errors
/// Those of [`Bed::make`] and [`Bed::measure`].
pub fn run(kind: Kind, goal: Goal, settings: &Settings, stop: &Stop) -> Result<Found> {
    let mut bed = Bed::make(kind, settings, stop)?;
    let mut steps = Vec::new();
    let mut offer = |rate_pps: Option<f64>| -> Result<Trial> {
        let trial =
            bed.measure(Offer { load: Load::Socket, rate_pps, time: goal.step, frame_len: goal.frame_len }, stop)?;
        steps.push(trial.clone());
        Ok(trial)
    };
    let full = offer(None)?;
    let rate_pps = if full.loss <= goal.loss_limit {
        full.delivered_pps
    } else {
        bisect(full.offered_pps, PRECISION, |rate| {
            let trial = offer(Some(rate))?;
            // What a generator cannot offer is no rate that was carried.
            Ok(!trial.void && trial.loss <= goal.loss_limit)
        })?
    };
    Ok(Found { device: kind, loss_limit: goal.loss_limit, rate_pps, steps })
}

/// The highest rate below `top` that `passes`, to `precision` (a share of `top`); 0 when none does.
fn bisect(top: f64, precision: f64, mut passes: impl FnMut(f64) -> Result<bool>) -> Result<f64> {
    let (mut low, mut high) = (0.0, top);
    while high - low > top * precision {
        let middle = (low + high) / 2.0;
        if passes(middle)? { low = middle } else { high = middle }
    }
    Ok(low)
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
}
