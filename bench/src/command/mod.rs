//! One module per test of `swbench`: from its options to a plan, its trials, its rows; and what runs and reports them
//! all. Main thread.

pub mod addresses;
pub mod all;
pub mod disturb;
pub mod flooding;
pub mod idle;
pub mod latency;
pub mod learning;
pub mod mesh;
pub mod ndr;
pub mod overload;
pub mod report;
pub mod rtt;
pub mod run;
pub mod tcp;

use crate::cli::{Common, Prepared};
use bench::campaign;
use bench::device::{Kind, Settings};
use bench::error::{Error, Result};
use bench::load::{Load, Size};
use bench::relative::{Plan, Point, Series};
use bench::report::Stats;
use bench::stop::Stop;
use bench::trial::Trial;

/// Median of what `get` makes of the items; 0 when there are none.
pub fn median<T>(items: impl IntoIterator<Item = T>, get: impl Fn(T) -> f64) -> f64 {
    Stats::of(items.into_iter().map(get)).map_or(0.0, |s| s.median)
}

/// What the highest rate with at most this loss is called: NDR without any, otherwise PDR with its limit.
pub fn rate_name(loss_percent: f64) -> String {
    if loss_percent == 0.0 { "NDR".to_owned() } else { format!("PDR {loss_percent} %") }
}

/// Why the trial's figures are not to be used, or not to be trusted; empty when neither.
pub fn reserve(t: &Trial) -> String {
    match t {
        t if !t.faults.is_empty() => format!(" FAULT: {}", t.faults.join("; ")),
        t if t.void => " VOID: generator missed its aim".to_owned(),
        t if t.aim_pps.is_none() && t.generator_cpu < 0.85 => " DISTURBED: generator shared its core".to_owned(),
        _ => String::new(),
    }
}

/// Trials at multiples of every device's own highest rate.
pub fn relative(
    settings: &Settings,
    plan: &[(Kind, Size)],
    of: impl Fn(Kind, Size) -> Plan,
    stop: &Stop,
    show: impl Fn(&Point) -> String,
) -> Result<Vec<Series>> {
    campaign::run(
        plan,
        stop,
        |(kind, size)| format!("{} at multiples of its own rate, {size} bytes", kind.name()),
        |(kind, size)| of(*kind, *size).run(*kind, settings, stop),
        |s| {
            let points: Vec<String> = s.points.iter().map(&show).collect();
            format!("rate {:.3} Mpps; {}", s.ndr_pps / 1e6, points.join("; "))
        },
    )
}

/// The trials of all series at one size and multiple.
pub fn points_of(series: &[Series], size: Size, multiple: f64) -> Vec<(&Series, &Point)> {
    let of_size = series.iter().filter(|s| s.size == size);
    of_size.flat_map(|s| s.points.iter().filter(|p| p.multiple == multiple).map(move |p| (s, p))).collect()
}

impl Common {
    /// As [`Common::prepare`], without the devices for which `fits` is not true; these are named on stderr.
    fn prepare_if(&self, fits: impl Fn(Kind) -> bool, why: &str, stop: &Stop) -> Result<Prepared> {
        let (fitting, others): (Vec<Kind>, Vec<Kind>) = self.devices.iter().partition(|kind| fits(**kind));
        for kind in others {
            eprintln!("skipped: {}: {why}", kind.name());
        }
        if fitting.is_empty() {
            return Err(Error::Absent { device: "every device", why: format!("{why}; choose with --devices") });
        }
        Common { devices: fitting, ..self.clone() }.prepare(1500, stop)
    }

    /// As [`Common::prepare`], without the devices that are no switches.
    fn prepare_switches(&self, stop: &Stop) -> Result<Prepared> {
        self.prepare_if(Kind::is_switch, "it does not learn addresses, or joins two stations only", stop)
    }
}

/// The load for a device: what was asked for, or what can reach it.
fn load_for(kind: Kind, wanted: Load) -> Load {
    if kind.supports(wanted) { wanted } else { Load::Socket }
}
