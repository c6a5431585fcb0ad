//! `swbench latency`: one-way latency at shares of a device's own no-drop rate.

use super::{median, points_of, rate_name, relative, reserve};
use crate::cli::{self, Latency};
use bench::device::Kind;
use bench::error::Result;
use bench::relative::{Plan, Point, Series};
use bench::report;
use bench::stop::Stop;
use std::time::Duration;

/// Every device at every share, with every size.
///
/// # Errors
/// Those of [`crate::cli::Common::prepare`] and of its trials when all fail.
pub fn run(options: &Latency, stop: &Stop) -> Result<()> {
    let multiples: Vec<f64> = options.percent.iter().map(|percent| f64::from(*percent) / 100.0).collect();
    let show = |p: &Point| {
        let latency = p.trial.latency.map_or("nothing arrived".to_owned(), |l| {
            format!("p50 {:.1} p99 {:.1} p99.9 {:.1} max {:.1} us", l.p50_us, l.p99_us, l.p999_us, l.max_us)
        });
        format!("{:.0} %: {latency}{}", p.multiple * 100.0, reserve(&p.trial))
    };
    let goal = |kind, size| cli::quick(options.search.load_for(kind), size, options.loss_percent);
    let sizes = options.search.sizes()?;
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
        let points = points_of(&series, size, multiple);
        for (name, get) in bench::latency::Latency::COLUMNS {
            let value = |(s, p): &(&Series, &Point)| Some((s.device, get(p.trial.latency.as_ref()?)));
            let values: Vec<(Kind, f64)> = points.iter().filter(|(_, p)| p.trial.counts()).filter_map(value).collect();
            let remark = |kind| {
                let of = || points.iter().filter(move |(s, p)| s.device == kind && p.trial.counts());
                let (rate, loss) = (median(of(), |(_, p)| p.trial.offered_pps), median(of(), |(_, p)| p.trial.loss));
                format!("at {:.3} Mpps, loss {:.4} %", rate / 1e6, loss * 100.0)
            };
            let figure = format!("{name} us at {:.0} % of {rate}, {size}", multiple * 100.0);
            rows.extend(report::rows(&figure, ready.subject, &values, remark));
        }
    }
    ready.finish(&rows, &series)
}
