//! `swbench addresses`.

use super::median;
use crate::cli::Common;
use bench::addresses::{self, Plan, Point};
use bench::device::Kind;
use bench::error::Result;
use bench::lan::disturbed;
use bench::load::{self, Load};
use bench::stop::Stop;
use bench::{campaign, report};
use clap::Args;
use std::time::Duration;

/// Most addresses that every device can be configured for.
const MOST: u32 = 1_000_000;
/// Addresses of the stations themselves, and some more.
const SPARE: u32 = 1024;
/// Room that devices have in any case.
const ROOM_MIN: u32 = 65_536;
/// Most addresses for Open vSwitch: it has a flow in its datapath for every pair and direction, 200000 at most.
const OVS_MOST: u32 = 100_000;

#[derive(Args)]
pub struct Addresses {
    #[command(flatten)]
    common: Common,
    /// Numbers of addresses, half of them sources; 1 is one flow. Each is compared with the smallest
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "1,1000,64000,1000000",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST))
    )]
    counts: Vec<u32>,
    /// Loads to offer
    #[arg(long, value_delimiter = ',', default_value = "socket,flood")]
    load: Vec<Load>,
    /// Frame length in bytes without the 4 of the FCS
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u16).range(60..=1514))]
    size: u16,
    /// Offered frames per second [default: as many as possible]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// Length of a trial
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Frames per second at which addresses are taught before
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    teach_rate: u32,
}

impl Addresses {
    /// The counts that a device can take, in rising order.
    fn counts(&self, kind: Kind) -> Vec<u32> {
        let most = if kind == Kind::Ovs { OVS_MOST } else { MOST };
        let mut counts: Vec<u32> = self.counts.iter().copied().filter(|count| *count <= most).collect();
        counts.sort_unstable();
        counts.dedup();
        counts
    }

    fn plan(&self, kind: Kind, load: Load) -> Plan {
        let counts = self.counts(kind);
        let room = counts.iter().max().map_or(0, |most| most + SPARE).max(ROOM_MIN);
        Plan {
            counts,
            room,
            load,
            len: usize::from(self.size),
            rate_pps: self.rate.map(|rate| rate as f64),
            time: Duration::from_secs(self.seconds),
            teach_pps: f64::from(self.teach_rate),
        }
    }

    /// Measures and reports.
    pub fn run(&self, stop: &Stop) -> Result<()> {
        let ready = self.common.prepare_switches(stop)?;
        let loads = load::present(&self.load)?;
        for left_out in self.counts.iter().filter(|count| **count > OVS_MOST && ready.kinds.contains(&Kind::Ovs)) {
            eprintln!("skipped: ovs with {left_out} addresses: more than its datapath has flows for");
        }
        let with = |kind: &Kind| loads.iter().map(|load| (*kind, *load)).collect::<Vec<_>>();
        let steps: Vec<(Kind, Load)> =
            ready.kinds.iter().flat_map(with).filter(|(k, load)| k.supports(*load)).collect();
        let series = campaign::run(
            &steps,
            stop,
            |(kind, load)| format!("{} with many addresses under {} load", kind.name(), load.name()),
            |(kind, load)| addresses::run(*kind, &self.plan(*kind, *load), &ready.settings, stop),
            |points| points.iter().map(show).collect::<Vec<_>>().join("; "),
        )?;
        let points: Vec<Point> = series.into_iter().flatten().collect();
        let mut rows = Vec::new();
        let mut counts = self.counts.clone();
        counts.sort_unstable();
        counts.dedup();
        for (load, count) in loads.iter().flat_map(|load| counts.iter().map(move |count| (*load, *count))) {
            let used: Vec<&Point> =
                points.iter().filter(|p| (p.load, p.addresses) == (load, count) && p.counts()).collect();
            let of = |kind| used.iter().filter(move |p| p.device == kind);
            let remark = |kind| {
                format!(
                    "{:.3} of the rate with the fewest, offered {:.3}, loss {:.2} %",
                    median(of(kind), |p| p.ratio),
                    median(of(kind), |p| p.offered_pps) / 1e6,
                    median(of(kind), |p| p.loss) * 100.0,
                )
            };
            let name = format!("{}, {count} addresses, {}", load.name(), self.size);
            let values: Vec<(Kind, f64)> = used.iter().map(|p| (p.device, p.delivered_pps / 1e6)).collect();
            rows.extend(report::rows(&format!("Mpps {name}"), ready.subject, &values, remark));
            let values: Vec<(Kind, f64)> = used.iter().map(|p| (p.device, p.ratio)).collect();
            rows.extend(report::rows(&format!("ratio {name}"), ready.subject, &values, |_| String::new()));
        }
        ready.finish(&rows, &points)
    }
}

fn show(p: &Point) -> String {
    let fault = if p.counts() { String::new() } else { format!(" FAULT: {}", p.faults.join("; ")) };
    let (rate, ratio, loss) = (p.delivered_pps / 1e6, p.ratio, p.loss * 100.0);
    let remark = disturbed(p.full_speed, p.generator_cpu);
    format!("{} addresses {rate:.3} Mpps = {ratio:.3}, loss {loss:.2} %{remark}{fault}", p.addresses)
}
