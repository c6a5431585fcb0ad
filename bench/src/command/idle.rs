//! `swbench idle`: processor time and memory of a device with many silent ports, and its waking up.

use crate::cli::Common;
use bench::device::Kind;
use bench::device::operator::Operator;
use bench::error::Result;
use bench::idle::{self, Idle, Plan};
use bench::report::Row;
use bench::stop::Stop;
use bench::{campaign, report};
use clap::Args;
use std::time::Duration;

/// How it measures, below the options.
const METHOD: &str = "The device starts with the two ports of the rig; the others are added while it runs, and what they \
    cost is divided by their number. PSS and RSS are sums over the device's processes, processor time over all their \
    threads; a device in the kernel has neither. Kernel memory is SUnreclaim + VmallocUsed + Percpu of /proc/meminfo, so of \
    the whole machine: nothing else should run. Frames on their way are not part of it.";

#[derive(Args)]
#[command(after_help = METHOD)]
pub struct Options {
    #[command(flatten)]
    pub common: Common,
    /// Numbers of ports, the two at which datagrams are sent included
    #[arg(long, value_delimiter = ',', default_value = "16,64", value_parser = clap::value_parser!(u16).range(3..=1000))]
    pub ports: Vec<u16>,
    /// How long processor time is watched
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub seconds: u64,
    /// Datagrams sent after a silence
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub wakeups: u32,
    /// Silence before each of them, in milliseconds
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=600_000))]
    pub silence_ms: u64,
}

/// A figure: its name and how to get it; `None` where a device has no such thing.
type Figure = (&'static str, fn(&Idle) -> Option<f64>);

const FIGURES: [Figure; 8] = [
    ("idle CPU % of a core", |i| Some(i.cpu_share? * 100.0)),
    ("first datagram one way us, median", |i| Some(i.one_way.median_us)),
    ("first datagram one way us, max", |i| Some(i.one_way.max_us)),
    ("first datagram round trip us, median", |i| Some(i.round_trip.median_us)),
    ("first datagram round trip us, max", |i| Some(i.round_trip.max_us)),
    ("PSS MiB", |i| in_processes(i, i.after.pss as f64 / MIB)),
    ("PSS KiB per port", |i| in_processes(i, i.per_port(|m| m.pss) / KIB)),
    ("kernel KiB per port", |i| Some(i.per_port(|m| m.kernel) / KIB)),
];
const KIB: f64 = 1024.0;
const MIB: f64 = KIB * KIB;

/// A figure of a device that has processes.
fn in_processes(idle: &Idle, value: f64) -> Option<f64> {
    idle.cpu_share.map(|_| value)
}

/// Measures every device that can have so many ports.
pub fn run(options: &Options, stop: &Stop) -> Result<()> {
    let ready = options.common.prepare(1500, stop)?;
    let kinds = Operator::operable(&ready.kinds, &ready.settings)?;
    let cells = |kind: &Kind| options.ports.iter().map(|ports| (*kind, *ports)).collect::<Vec<_>>();
    let plan: Vec<(Kind, u16)> = kinds.iter().flat_map(cells).collect();
    let results = campaign::run(
        &plan,
        stop,
        |(kind, ports)| format!("{} idle with {ports} ports", kind.name()),
        |(kind, ports)| idle::run(*kind, options.plan(*ports), &ready.settings, stop),
        show,
    )?;
    let mut rows: Vec<Row> = Vec::new();
    for ports in &options.ports {
        let these: Vec<&Idle> = results.iter().filter(|i| i.ports == *ports).collect();
        for (name, get) in FIGURES {
            let values: Vec<(Kind, f64)> = these.iter().filter_map(|i| Some((i.device, get(i)?))).collect();
            let remark = |kind| {
                let of = || these.iter().filter(move |i| i.device == kind);
                let median =
                    |get: fn(&Idle) -> u64| report::Stats::of(of().map(|i| get(i) as f64)).map_or(0.0, |s| s.median);
                match name {
                    "PSS MiB" => format!(
                        "with 2 ports {:.1}; RSS {:.1}",
                        median(|i| i.before.pss) / MIB,
                        median(|i| i.after.rss) / MIB
                    ),
                    name if name.starts_with("first") => format!("lost {}", of().map(|i| i.lost).sum::<u32>()),
                    _ => String::new(),
                }
            };
            rows.extend(report::rows(&format!("{name}, {ports} ports"), ready.subject, &values, remark));
        }
    }
    ready.finish(&rows, &results)
}

impl Options {
    fn plan(&self, ports: u16) -> Plan {
        let (watch, silence) = (Duration::from_secs(self.seconds), Duration::from_millis(self.silence_ms));
        Plan { ports, watch, wakeups: self.wakeups, silence }
    }
}

fn show(i: &Idle) -> String {
    let cpu = i.cpu_share.map_or("in the kernel".to_owned(), |share| format!("{:.2} % of a core", share * 100.0));
    format!(
        "{cpu}; first datagram {:.1} us one way, {:.1} us there and back; per port {:.0} KiB PSS, {:.0} KiB kernel",
        i.one_way.median_us,
        i.round_trip.median_us,
        i.per_port(|m| m.pss) / KIB,
        i.per_port(|m| m.kernel) / KIB
    )
}
