//! `swbench overload`: what is still delivered of a multiple of a device's own no-drop rate.

use super::{median, points_of, rate_name, relative, reserve};
use crate::cli::{self, Overload, Search};
use bench::device::Kind;
use bench::error::Result;
use bench::load::Load;
use bench::relative::{Plan, Point};
use bench::report;
use bench::stop::Stop;
use std::time::Duration;

/// Every device at every multiple, with every size.
///
/// # Errors
/// Those of [`crate::cli::Common::prepare`] and of its trials when all fail.
pub fn run(options: &Overload, stop: &Stop) -> Result<()> {
    let multiples: Vec<f64> = options.times.iter().map(|times| f64::from(*times)).collect();
    // Only the flood load can offer several times what a device takes; a bridge gets what a sender can give.
    let search = Search { load: Load::Flood, size: options.size.clone() };
    let show = |p: &Point| {
        let (offered, delivered) = (p.trial.offered_pps / 1e6, p.trial.delivered_pps / 1e6);
        let fault = if p.trial.faults.is_empty() { String::new() } else { reserve(&p.trial) };
        format!("{} x: offered {offered:.3}, delivered {delivered:.3} Mpps{fault}", p.multiple)
    };
    let goal = |kind, size| cli::quick(search.load_for(kind), size, options.loss_percent);
    let sizes = search.sizes()?;
    let ready = options.common.prepare(1500, stop)?;
    let plan = ready.with_sizes(&sizes);
    let time = Duration::from_secs(options.seconds);
    let series = relative(
        &ready.settings,
        &plan,
        |kind, size| Plan { goal: goal(kind, size), multiples: multiples.clone(), time },
        stop,
        show,
    )?;
    let (mut rows, rate) = (Vec::new(), rate_name(options.loss_percent));
    for (size, multiple) in sizes.iter().flat_map(|s| multiples.iter().map(move |m| (*s, *m))) {
        // A generator that misses its aim is no reason to leave a trial out: what it did offer is in the remark.
        let points: Vec<_> =
            points_of(&series, size, multiple).into_iter().filter(|(_, p)| p.trial.faults.is_empty()).collect();
        let values: Vec<(Kind, f64)> =
            points.iter().map(|(s, p)| (s.device, p.trial.delivered_pps / s.ndr_pps)).collect();
        let remark = |kind| {
            let of = || points.iter().filter(move |(s, _)| s.device == kind);
            format!(
                "{rate} {:.3}, offered {:.2} x it, delivered {:.3} = {:.2} of peak; {} load",
                median(of(), |(s, _)| s.ndr_pps) / 1e6,
                median(of(), |(s, p)| p.trial.offered_pps / s.ndr_pps),
                median(of(), |(_, p)| p.trial.delivered_pps) / 1e6,
                median(of(), |(s, p)| p.trial.delivered_pps / s.peak_pps.max(1.0)),
                search.load_for(kind).name(),
            )
        };
        let figure = format!("delivered/{rate} at {multiple} x {rate}, {size}");
        rows.extend(report::rows(&figure, ready.subject, &values, remark));
    }
    ready.finish(&rows, &series)
}
