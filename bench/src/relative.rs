//! Trials at multiples of a device's own no-drop rate: latency below it, overload above it. One device start serves the
//! search for the rate and all trials. Main thread.

use crate::device::{Kind, Settings};
use crate::error::{Error, Result};
use crate::load::{Load, Size};
use crate::search::{self, Goal};
use crate::stop::Stop;
use crate::trial::{Bed, Offer, Trial};
use serde::Serialize;
use std::time::Duration;

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How the no-drop rate is found, and with which load and frames.
    pub goal: Goal,
    /// Multiples of that rate to offer.
    pub multiples: Vec<f64>,
    /// Length of each trial.
    pub time: Duration,
}

/// One trial.
#[derive(Clone, Debug, Serialize)]
pub struct Point {
    /// Multiple of the no-drop rate that was to be offered.
    pub multiple: f64,
    /// What came of it.
    pub trial: Trial,
}

/// All trials on one start of a device.
#[derive(Clone, Debug, Serialize)]
pub struct Series {
    /// Device under test.
    pub device: Kind,
    /// Kind of generator.
    pub load: Load,
    /// Frame lengths.
    pub size: Size,
    /// The device's no-drop rate, frames per second.
    pub ndr_pps: f64,
    /// The most it delivered in any step or trial, frames per second.
    pub peak_pps: f64,
    /// The trials, in the order of the plan.
    pub points: Vec<Point>,
}

impl Plan {
    /// Finds the rate and offers its multiples.
    ///
    /// # Errors
    /// Those of [`Bed::make`] and [`Bed::measure`]; [`Error::NoRate`] when there is none.
    pub fn run(&self, kind: Kind, settings: &Settings, stop: &Stop) -> Result<Series> {
        let mut bed = Bed::make(kind, settings, stop)?;
        let found = search::on(&mut bed, self.goal, stop)?;
        if found.rate_pps <= 0.0 {
            return Err(Error::NoRate { device: kind.name() });
        }
        let Goal { load, size, .. } = self.goal;
        let mut points = Vec::new();
        for multiple in &self.multiples {
            let rate_pps = Some(found.rate_pps * multiple);
            let trial = bed.measure(Offer { load, rate_pps, time: self.time, size }, stop)?;
            points.push(Point { multiple: *multiple, trial });
        }
        let delivered = found.steps.iter().chain(points.iter().map(|point| &point.trial)).map(|t| t.delivered_pps);
        let peak_pps = delivered.fold(0.0, f64::max);
        Ok(Series { device: kind, load, size, ndr_pps: found.rate_pps, peak_pps, points })
    }
}
