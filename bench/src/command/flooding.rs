//! `swbench flooding`.

use super::load_for;
use super::median;
use crate::cli::Common;
use bench::device::Kind;
use bench::error::Result;
use bench::flooding::{self, Flood, Plan, To};
use bench::lan::disturbed;
use bench::load::Load;
use bench::rig::STATIONS_MAX;
use bench::stop::Stop;
use bench::{campaign, report};
use clap::Args;
use std::time::Duration;

#[derive(Args)]
pub struct Flooding {
    #[command(flatten)]
    common: Common,
    /// Stations that receive; the device has one port more
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..i64::from(STATIONS_MAX)))]
    receivers: u16,
    /// Destination of the flooded frames
    #[arg(long, value_delimiter = ',', default_value = "broadcast,unknown")]
    to: Vec<To>,
    /// Load to offer; where flood cannot reach a device, socket is taken
    #[arg(long, default_value = "socket")]
    load: Load,
    /// Frame length in bytes without the 4 of the FCS
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u16).range(60..=1514))]
    size: u16,
    /// Offered frames per second, counted before they multiply [default: as many as possible]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// Length of a trial
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
}

impl Flooding {
    fn plan(&self, kind: Kind) -> Plan {
        Plan {
            receivers: self.receivers,
            to: self.to.clone(),
            load: load_for(kind, self.load),
            len: usize::from(self.size),
            rate_pps: self.rate.map(|rate| rate as f64),
            time: Duration::from_secs(self.seconds),
        }
    }

    /// Measures and reports.
    pub fn run(&self, stop: &Stop) -> Result<()> {
        let ready = self.common.prepare_switches(stop)?;
        let series = campaign::run(
            &ready.kinds,
            stop,
            |kind| format!("{} to {} receivers", kind.name(), self.receivers),
            |kind| flooding::run(*kind, &self.plan(*kind), &ready.settings, stop),
            |floods| floods.iter().map(show).collect::<Vec<_>>().join("; "),
        )?;
        let floods: Vec<Flood> = series.into_iter().flatten().collect();
        let mut rows = Vec::new();
        for &to in &self.to {
            let used: Vec<&Flood> = floods.iter().filter(|f| f.to == to && f.counts()).collect();
            let of = |kind| used.iter().filter(move |f| f.device == kind);
            let remark = |kind| {
                format!(
                    "offered {:.3}, loss {:.2} %, receivers {:.3} to {:.3}; {} load",
                    median(of(kind), |f| f.offered_pps) / 1e6,
                    median(of(kind), |f| f.loss()) * 100.0,
                    median(of(kind), |f| f.extremes().0) / 1e6,
                    median(of(kind), |f| f.extremes().1) / 1e6,
                    load_for(kind, self.load).name(),
                )
            };
            let values: Vec<(Kind, f64)> = used.iter().map(|f| (f.device, f.mean_pps() / 1e6)).collect();
            let figure = format!("{} Mpps to each of {}, {}", to.name(), self.receivers, self.size);
            rows.extend(report::rows(&figure, ready.subject, &values, remark));
            let remark = |kind| format!("unicast {:.3} Mpps", median(of(kind), |f| f.unicast_pps) / 1e6);
            let values: Vec<(Kind, f64)> = used.iter().map(|f| (f.device, f.share())).collect();
            let figure = format!("{} / (unicast / {}), {}", to.name(), self.receivers, self.size);
            rows.extend(report::rows(&figure, ready.subject, &values, remark));
        }
        ready.finish(&rows, &floods)
    }
}

fn show(f: &Flood) -> String {
    let fault = if f.counts() { String::new() } else { format!(" FAULT: {}", f.faults.join("; ")) };
    let (mean, unicast) = (f.mean_pps() / 1e6, f.unicast_pps / 1e6);
    let (share, name) = (f.share(), f.to.name());
    let remark = disturbed(f.full_speed, f.generator_cpu);
    format!("{name} {mean:.3} Mpps each, {share:.2} of an equal part of unicast {unicast:.3} Mpps{remark}{fault}")
}
