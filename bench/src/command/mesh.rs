//! `swbench mesh`.

use super::median;
use crate::cli::Common;
use bench::device::Kind;
use bench::error::Result;
use bench::lan::disturbed;
use bench::mesh::{self, Plan};
use bench::rig::STATIONS_MAX;
use bench::stop::Stop;
use bench::{campaign, report};
use clap::Args;
use std::time::Duration;

#[derive(Args)]
pub struct Mesh {
    #[command(flatten)]
    common: Common,
    /// Stations; each sends to all others in turn
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(2..=i64::from(STATIONS_MAX)))]
    ports: u16,
    /// Frame length in bytes without the 4 of the FCS
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u16).range(60..=1514))]
    size: u16,
    /// Offered frames per second of all stations together [default: as many as possible]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// Length of a trial
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
}

impl Mesh {
    /// Measures and reports.
    pub fn run(&self, stop: &Stop) -> Result<()> {
        let plan = Plan {
            ports: self.ports,
            len: usize::from(self.size),
            rate_pps: self.rate.map(|rate| rate as f64),
            time: Duration::from_secs(self.seconds),
        };
        let ready = self.common.prepare_switches(stop)?;
        let trials = campaign::run(
            &ready.kinds,
            stop,
            |kind| format!("{}, mesh of {}", kind.name(), self.ports),
            |kind| mesh::run(*kind, &plan, &ready.settings, stop),
            show,
        )?;
        let used = |kind| trials.iter().filter(move |t| t.device == kind && t.counts());
        let remark = |kind| {
            let extreme = |of: fn(f64, f64) -> f64, start: f64| {
                median(used(kind), |t| t.received_pps.iter().copied().fold(start, of)) / 1e6
            };
            format!(
                "offered {:.3}, loss {:.2} %, stations {:.3} to {:.3}; socket load",
                median(used(kind), |t| t.offered_pps) / 1e6,
                median(used(kind), |t| t.loss) * 100.0,
                extreme(f64::min, f64::INFINITY),
                extreme(f64::max, 0.0),
            )
        };
        let values: Vec<(Kind, f64)> =
            trials.iter().filter(|t| t.counts()).map(|t| (t.device, t.delivered_pps / 1e6)).collect();
        let figure = format!("mesh of {} Mpps, {}", self.ports, self.size);
        ready.finish(&report::rows(&figure, ready.subject, &values, remark), &trials)
    }
}

fn show(t: &mesh::Mesh) -> String {
    let fault = if t.counts() { String::new() } else { format!(" FAULT: {}", t.faults.join("; ")) };
    let (offered, delivered, loss) = (t.offered_pps / 1e6, t.delivered_pps / 1e6, t.loss * 100.0);
    let remark = disturbed(t.full_speed, t.generator_cpu);
    format!("offered {offered:.3} Mpps, delivered {delivered:.3} Mpps, loss {loss:.2} %{remark}{fault}")
}
