//! `swbench`: measures switchd and its peers side by side. Arguments only; the work is in the library.

mod cli;
mod command;

use bench::device::{Kind, port_loop};
use bench::error::Result;
use bench::load::{self, Load, Size, Sizes};
use bench::relative::{Plan, Point, Series};
use bench::report::{self, Row, Stats};
use bench::search::{self, Found, Goal};
use bench::stop::Stop;
use bench::trial::{self, Offer, Trial};
use bench::{campaign, compare, rig, rtt, tcp};
use clap::Parser;
use cli::{Cli, Latency, Ndr, Overload, Rtt, Run, Search, Tcp, Test};
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    match run(&Cli::parse().test) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("swbench: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(test: &Test) -> Result<()> {
    match test {
        Test::PortLoop { first, second, core } => return port_loop::run([first, second], *core),
        Test::Compare { a, b } => {
            print!("{}", compare::table(&compare::File::read(a)?, &compare::File::read(b)?));
            return Ok(());
        }
        _ => {}
    }
    rig::check_machine()?;
    let stop = Stop::on_signals()?;
    let removed = rig::remove_stale()?;
    if !matches!(test, Test::Clean) {
        campaign::warn_if_busy(&stop)?;
    }
    if removed > 0 {
        eprintln!("removed {removed} namespaces of a killed swbench");
    }
    match test {
        Test::Run(options) => rates(options, &stop),
        Test::Ndr(options) => searches(options, &stop),
        Test::Latency(options) => latencies(options, &stop),
        Test::Overload(options) => overloads(options, &stop),
        Test::Tcp(options) => streams(options, &stop),
        Test::Rtt(options) => round_trips(options, &stop),
        Test::Flooding(options) => options.run(&stop),
        Test::Mesh(options) => options.run(&stop),
        Test::Learning(options) => options.run(&stop),
        Test::Addresses(options) => options.run(&stop),
        Test::Clean | Test::Compare { .. } | Test::PortLoop { .. } => Ok(()),
    }
}

/// Median of what `get` makes of the items; 0 when there are none.
fn median<T>(items: impl IntoIterator<Item = T>, get: impl Fn(T) -> f64) -> f64 {
    Stats::of(items.into_iter().map(get)).map_or(0.0, |s| s.median)
}

fn rates(options: &Run, stop: &Stop) -> Result<()> {
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

/// Why the trial's figures are not to be used, or not to be trusted; empty when neither.
fn reserve(t: &Trial) -> String {
    match t {
        t if !t.faults.is_empty() => format!(" FAULT: {}", t.faults.join("; ")),
        t if t.void => " VOID: generator missed its aim".to_owned(),
        t if t.aim_pps.is_none() && t.generator_cpu < 0.85 => " DISTURBED: generator shared its core".to_owned(),
        _ => String::new(),
    }
}

fn searches(options: &Ndr, stop: &Stop) -> Result<()> {
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
        let name = match percent {
            0.0 => "NDR".to_owned(),
            percent => format!("PDR {percent} %"),
        };
        rows.extend(report::rows(&format!("{name} Mpps, {size}"), ready.subject, &values, remark));
    }
    ready.finish(&rows, &found)
}

fn latencies(options: &Latency, stop: &Stop) -> Result<()> {
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
    let mut rows = Vec::new();
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
            let figure = format!("{name} us at {:.0} % of NDR, {size}", multiple * 100.0);
            rows.extend(report::rows(&figure, ready.subject, &values, remark));
        }
    }
    ready.finish(&rows, &series)
}

fn overloads(options: &Overload, stop: &Stop) -> Result<()> {
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
    let mut rows = Vec::new();
    for (size, multiple) in sizes.iter().flat_map(|s| multiples.iter().map(move |m| (*s, *m))) {
        // A generator that misses its aim is no reason to leave a trial out: what it did offer is in the remark.
        let points: Vec<_> =
            points_of(&series, size, multiple).into_iter().filter(|(_, p)| p.trial.faults.is_empty()).collect();
        let values: Vec<(Kind, f64)> =
            points.iter().map(|(s, p)| (s.device, p.trial.delivered_pps / s.ndr_pps)).collect();
        let remark = |kind| {
            let of = || points.iter().filter(move |(s, _)| s.device == kind);
            format!(
                "NDR {:.3}, offered {:.2} x it, delivered {:.3} = {:.2} of peak; {} load",
                median(of(), |(s, _)| s.ndr_pps) / 1e6,
                median(of(), |(s, p)| p.trial.offered_pps / s.ndr_pps),
                median(of(), |(_, p)| p.trial.delivered_pps) / 1e6,
                median(of(), |(s, p)| p.trial.delivered_pps / s.peak_pps.max(1.0)),
                search.load_for(kind).name(),
            )
        };
        let figure = format!("delivered/NDR at {multiple} x NDR, {size}");
        rows.extend(report::rows(&figure, ready.subject, &values, remark));
    }
    ready.finish(&rows, &series)
}

/// Trials at multiples of every device's own no-drop rate.
fn relative(
    settings: &bench::device::Settings,
    plan: &[(Kind, Size)],
    of: impl Fn(Kind, Size) -> Plan,
    stop: &Stop,
    show: impl Fn(&Point) -> String,
) -> Result<Vec<Series>> {
    campaign::run(
        plan,
        stop,
        |(kind, size)| format!("{} at multiples of its NDR, {size} bytes", kind.name()),
        |(kind, size)| of(*kind, *size).run(*kind, settings, stop),
        |s| {
            let points: Vec<String> = s.points.iter().map(&show).collect();
            format!("NDR {:.3} Mpps; {}", s.ndr_pps / 1e6, points.join("; "))
        },
    )
}

/// The trials of all series at one size and multiple.
fn points_of(series: &[Series], size: Size, multiple: f64) -> Vec<(&Series, &Point)> {
    let of_size = series.iter().filter(|s| s.size == size);
    of_size.flat_map(|s| s.points.iter().filter(|p| p.multiple == multiple).map(move |p| (s, p))).collect()
}

fn streams(options: &Tcp, stop: &Stop) -> Result<()> {
    tcp::available()?;
    let ready = options.common.prepare(options.mtu, stop)?;
    let results = campaign::run(
        &ready.kinds,
        stop,
        |kind| format!("{} TCP", kind.name()),
        |kind| tcp::run(*kind, Duration::from_secs(options.seconds), &ready.settings, stop),
        |t| format!("{:.2} Gbit/s, {} retransmits", t.bits_per_second / 1e9, t.retransmits),
    )?;
    let values: Vec<(Kind, f64)> = results.iter().map(|t| (t.device, t.bits_per_second / 1e9)).collect();
    let again = |kind| results.iter().filter(|t| t.device == kind).map(|t| t.retransmits).sum::<u64>();
    let remark = |kind| format!("retransmits {}", again(kind));
    let figure = format!("TCP Gbit/s, MTU {}", options.mtu);
    ready.finish(&report::rows(&figure, ready.subject, &values, remark), &results)
}

fn round_trips(options: &Rtt, stop: &Stop) -> Result<()> {
    let ready = options.common.prepare(1500, stop)?;
    let results = campaign::run(
        &ready.kinds,
        stop,
        |kind| format!("{} RTT", kind.name()),
        |kind| rtt::run(*kind, options.count, &ready.settings, stop),
        |r| format!("p50 {:.1} us, p99 {:.1} us, lost {}", r.p50_us, r.p99_us, r.lost),
    )?;
    let lost = |kind| results.iter().filter(|r| r.device == kind).map(|r| r.lost).sum::<u64>();
    let mut rows: Vec<Row> = Vec::new();
    for (figure, get) in [("RTT p50 us", (|r| r.p50_us) as fn(&rtt::Rtt) -> f64), ("RTT p99 us", |r| r.p99_us)] {
        let values: Vec<(Kind, f64)> = results.iter().map(|r| (r.device, get(r))).collect();
        rows.extend(report::rows(figure, ready.subject, &values, |kind| format!("lost {}", lost(kind))));
    }
    ready.finish(&rows, &results)
}
