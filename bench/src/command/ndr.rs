//! `swbench ndr`: the highest rates within a loss limit.

use super::{median, rate_name};
use crate::cli::Ndr;
use bench::campaign;
use bench::device::Kind;
use bench::error::Result;
use bench::load::Size;
use bench::report;
use bench::search::{self, Found, Goal};
use bench::stop::Stop;
use std::time::Duration;

/// A search for every device, size and loss limit.
///
/// # Errors
/// Those of [`crate::cli::Common::prepare`] and of its trials when all fail.
pub fn run(options: &Ndr, stop: &Stop) -> Result<()> {
    let sizes = options.search.sizes()?;
    let ready = options.common.prepare(1500, stop)?;
    let step = Duration::from_secs(options.seconds);
    let (verify, verify_time) = (options.verify, Duration::from_secs(options.verify_seconds));
    let goal = |kind, size, percent: f64| {
        let load = options.search.load_for(kind);
        Goal { load, size, loss_limit: percent / 100.0, step, verify, verify_time }
    };
    let mut plan: Vec<(Kind, Size, f64)> = Vec::new();
    for (kind, size) in ready.with_sizes(&sizes) {
        plan.extend(options.loss_percent.iter().map(|percent| (kind, size, *percent)));
    }
    let found = campaign::run(
        &plan,
        stop,
        |(kind, size, percent)| format!("{} search, {size} bytes, loss <= {percent} %", kind.name()),
        |(kind, size, percent)| search::run(*kind, goal(*kind, *size, *percent), &ready.settings, stop),
        |f| {
            let Found { rate_pps, violations, unusable, .. } = f;
            let steps = f.steps.len();
            format!("{:.3} Mpps in {steps} steps, {unusable} of them unusable, {violations} violations", rate_pps / 1e6)
        },
    )?;
    let mut rows = Vec::new();
    for (size, percent) in sizes.iter().flat_map(|size| options.loss_percent.iter().map(move |p| (*size, *p))) {
        let these: Vec<&Found> = found.iter().filter(|f| f.size == size && f.loss_limit == percent / 100.0).collect();
        let values: Vec<(Kind, f64)> = these.iter().map(|f| (f.device, f.rate_pps / 1e6)).collect();
        let remark = |kind| {
            let of = || these.iter().filter(move |f| f.device == kind);
            let bisected = median(of(), |f| f.bisected_pps) / 1e6;
            let (violations, unusable) = of().fold((0, 0), |(v, u), f| (v + f.violations, u + f.unusable));
            format!(
                "{} load, before verifying {bisected:.3}, violations {violations}, unusable steps {unusable}",
                options.search.load_for(kind).name()
            )
        };
        let name = rate_name(percent);
        rows.extend(report::rows(&format!("{name} Mpps, {size}"), ready.subject, &values, remark));
    }
    ready.finish(&rows, &found)
}
