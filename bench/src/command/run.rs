//! `swbench run`: what is delivered of an offered load.

use super::{median, reserve};
use crate::cli::Run;
use bench::campaign;
use bench::device::Kind;
use bench::error::Result;
use bench::load::{self, Load, Size, Sizes};
use bench::report;
use bench::stop::Stop;
use bench::trial::{self, Offer, Trial};
use std::time::Duration;

/// Every device under every load, with every size.
///
/// # Errors
/// Those of [`crate::cli::Common::prepare`] and of its trials when all fail.
pub fn run(options: &Run, stop: &Stop) -> Result<()> {
    let sizes = Sizes::all(&options.size);
    for load in &options.load {
        sizes.iter().try_for_each(|size| load.check_size(*size))?;
    }
    let ready = options.common.prepare(1500, stop)?;
    let loads = load::present(&options.load)?;
    let mut plan: Vec<(Size, Load, Kind)> = Vec::new();
    for &kind in &ready.kinds {
        for load in loads.iter().filter(|load| kind.supports(**load)) {
            plan.extend(sizes.iter().map(|size| (*size, *load, kind)));
        }
    }
    let (rate_pps, time) = (options.rate.map(|r| r as f64), Duration::from_secs(options.seconds));
    let trials = campaign::run(
        &plan,
        stop,
        |(size, load, kind)| format!("{} under {} load, {size} bytes", kind.name(), load.name()),
        |(size, load, kind)| {
            trial::run(*kind, Offer { load: *load, rate_pps, time, size: *size }, &ready.settings, stop)
        },
        show_trial,
    )?;
    let mut rows = Vec::new();
    for (size, load) in sizes.iter().flat_map(|size| loads.iter().map(move |load| (*size, *load))) {
        let all: Vec<&Trial> = trials.iter().filter(|t| (t.size, t.load) == (size, load)).collect();
        let used = |kind| all.iter().filter(move |t| t.device == kind && t.counts());
        let values: Vec<(Kind, f64)> =
            all.iter().filter(|t| t.counts()).map(|t| (t.device, t.delivered_pps / 1e6)).collect();
        let remark = |kind| {
            let unused = all.iter().filter(|t| t.device == kind && !t.counts()).count();
            let latency =
                |get: fn(&bench::latency::Latency) -> f64| median(used(kind).filter_map(|t| t.latency.as_ref()), get);
            let mut text = format!(
                "{:.2} Gbit/s, offered {:.3}, loss {:.2} %, latency p50 {:.1} p99 {:.1} us",
                median(used(kind), |t| t.delivered_bps) / 1e9,
                median(used(kind), |t| t.offered_pps) / 1e6,
                median(used(kind), |t| t.loss) * 100.0,
                latency(|l| l.p50_us),
                latency(|l| l.p99_us),
            );
            if unused > 0 {
                text.push_str(&format!(", {unused} not used"));
            }
            text
        };
        let figure = format!("{} Mpps, {size}", load.name());
        rows.extend(report::rows(&figure, ready.subject, &values, remark));
    }
    ready.finish(&rows, &trials)
}

fn show_trial(t: &Trial) -> String {
    let void = reserve(t);
    let (offered, delivered) = (t.offered_pps / 1e6, t.delivered_pps / 1e6);
    let odd = match (t.sequence.reordered, t.sequence.duplicates) {
        (0, 0) => String::new(),
        (reordered, duplicates) => format!(", {reordered} reordered, {duplicates} duplicates"),
    };
    let latency = t.latency.map_or(String::new(), |l| format!(", latency p50 {:.1} p99 {:.1} us", l.p50_us, l.p99_us));
    let loss = t.loss * 100.0;
    format!("offered {offered:.3} Mpps, delivered {delivered:.3} Mpps, loss {loss:.2} %{odd}{latency}{void}")
}
