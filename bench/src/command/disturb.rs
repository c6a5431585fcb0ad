//! `swbench disturb`: forwarding while the table of addresses is dumped and while ports change.

use crate::cli::{self, Common, Search};
use bench::campaign;
use bench::device::Kind;
use bench::device::operator::Operator;
use bench::disturb::{self, Disturbance, ENTRIES_MAX, Phase, Plan, Rate, Series};
use bench::error::Result;
use bench::load::Size;
use bench::report::{self, Row, Stats};
use bench::stop::Stop;
use bench::trial::Trial;
use clap::Args;
use std::time::Duration;

/// How it measures, below the options.
const METHOD: &str = "Every device lists its addresses and changes its ports by its own program: switchctl (found beside \
    switchd), ovs-appctl and ovs-vsctl, bridge and ip. The addresses make themselves known by frames from B before every \
    round, and each list is counted: a list that is too short, or a refused port, spoils the trial. Where there are no more than \
    two cores, the programs take time from the generator: the remarks say what it still offered.";

#[derive(Args)]
#[command(after_help = METHOD)]
pub struct Options {
    #[command(flatten)]
    pub common: Common,
    #[command(flatten)]
    pub search: Search,
    /// Addresses the device knows, and lists over and over
    #[arg(long, default_value_t = 100_000,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(ENTRIES_MAX / 2)))]
    pub entries: u32,
    /// Ports added and removed per second
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub ports_per_second: u16,
    /// Rate to offer, in percent of the device's no-drop rate
    #[arg(long, default_value_t = 80, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub percent: u16,
    /// Rate to offer, in frames per second, without a search
    #[arg(long, conflicts_with_all = ["percent", "loss_percent"], value_parser = clap::value_parser!(u64).range(1..))]
    pub rate: Option<u64>,
    /// Loss allowed at the device's rate, in percent; 0 makes it the no-drop rate
    #[arg(long, default_value_t = 0.0)]
    pub loss_percent: f64,
    /// How often the three trials of a device take turns on one start of it
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..))]
    pub rounds: u16,
    /// Length of a trial; steps of the search for the no-drop rate take 1 s
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub seconds: u64,
    /// Core of the programs that list and change [default: any]
    #[arg(long)]
    pub operator_core: Option<usize>,
}

/// Measures every device that can be changed while it runs.
pub fn run(options: &Options, stop: &Stop) -> Result<()> {
    let sizes = options.search.sizes()?;
    let ready = options.common.prepare(1500, stop)?;
    let kinds = Operator::operable(&ready.kinds, &ready.settings)?;
    let cells = |kind: &Kind| sizes.iter().map(|size| (*kind, *size)).collect::<Vec<_>>();
    let plan: Vec<(Kind, Size)> = kinds.iter().flat_map(cells).collect();
    let results = campaign::run(
        &plan,
        stop,
        |(kind, size)| format!("{} disturbed, {size} bytes", kind.name()),
        |(kind, size)| disturb::run(*kind, options.plan(*kind, *size), &ready.settings, stop),
        show,
    )?;
    let mut rows = Vec::new();
    for size in sizes {
        let these: Vec<&Series> = results.iter().filter(|s| s.size == size).collect();
        rows.extend(rows_of(&these, size, ready.subject));
    }
    ready.finish(&rows, &results)
}

impl Options {
    fn plan(&self, kind: Kind, size: Size) -> Plan {
        let load = self.search.load_for(kind);
        let share = || Rate::Share(f64::from(self.percent) / 100.0, cli::quick(load, size, self.loss_percent));
        Plan {
            load,
            size,
            rate: self.rate.map_or_else(share, |rate| Rate::Fixed(rate as f64)),
            entries: self.entries,
            ports_per_second: f64::from(self.ports_per_second),
            rounds: self.rounds,
            time: Duration::from_secs(self.seconds),
            core: self.operator_core,
        }
    }
}

fn show(series: &Series) -> String {
    let phase = |p: &Phase| {
        let t = &p.trial;
        let failure = p.actions.failure.as_ref().map_or(String::new(), |why| format!(" FAILED: {why}"));
        let faults = if t.faults.is_empty() { String::new() } else { format!(" FAULT: {}", t.faults.join("; ")) };
        let (offered, delivered, loss) = (t.offered_pps / 1e6, t.delivered_pps / 1e6, t.loss * 100.0);
        let often = if p.actions.done > 0 { format!(" {:.1}/s", p.actions.per_second) } else { String::new() };
        let p99 = t.latency.map_or(String::new(), |l| format!(", p99 {:.1} us", l.p99_us));
        format!(
            "{}{often}: offered {offered:.3} Mpps, delivered {delivered:.3}, loss {loss:.3} %{p99}{failure}{faults}",
            p.disturbance.name()
        )
    };
    let phases: Vec<String> = series.phases.iter().map(phase).collect();
    format!("{:.3} Mpps; {}", series.rate_pps / 1e6, phases.join("; "))
}

fn rows_of(series: &[&Series], size: Size, subject: Kind) -> Vec<Row> {
    let median = |values: Vec<f64>| Stats::of(values).map_or(0.0, |s| s.median);
    let mut rows = Vec::new();
    for disturbance in Disturbance::ALL {
        let ratios = |kind: Option<Kind>, figure: fn(&Trial) -> f64| -> Vec<(Kind, f64)> {
            let of = series.iter().filter(|s| kind.is_none_or(|kind| s.device == kind));
            of.flat_map(|s| s.ratios(disturbance, figure).into_iter().map(|r| (s.device, r))).collect()
        };
        let phases = |kind: Option<Kind>| -> Vec<(Kind, &Phase)> {
            let of = series.iter().filter(|s| kind.is_none_or(|kind| s.device == kind));
            let counting = of.flat_map(|s| s.phases.iter().map(|p| (s.device, p)));
            counting.filter(|(_, p)| p.disturbance == disturbance && p.counts()).collect()
        };
        let remark = |kind| {
            let of = |get: fn(&Phase) -> f64| median(phases(Some(kind)).iter().map(|(_, p)| get(p)).collect());
            let offered = median(ratios(Some(kind), |t| t.offered_pps).iter().map(|(_, r)| *r).collect());
            let what = match disturbance {
                Disturbance::None => return format!("at {:.3} Mpps", of(|p| p.trial.offered_pps) / 1e6),
                Disturbance::Dumps => "dumps",
                Disturbance::Ports => "ports",
            };
            format!("offered {offered:.3} of undisturbed, {:.2} {what}/s", of(|p| p.actions.per_second))
        };
        let mut add = |figure: &str, values: &[(Kind, f64)]| {
            rows.extend(report::rows(&format!("{figure}, {}, {size}", disturbance.name()), subject, values, remark));
        };
        if disturbance != Disturbance::None {
            add("delivered/undisturbed", &ratios(None, |t| t.delivered_pps));
        }
        let all = phases(None);
        add("loss %", &all.iter().map(|(kind, p)| (*kind, p.trial.loss * 100.0)).collect::<Vec<_>>());
        let p99 = |(kind, p): &(Kind, &Phase)| Some((*kind, p.trial.latency?.p99_us));
        add("latency p99 us", &all.iter().filter_map(p99).collect::<Vec<_>>());
    }
    rows
}
