//! `swbench`: measures switchd and its peers side by side. Arguments only; the work is in the library.

use bench::campaign::{alternated, present};
use bench::device::{Kind, Settings, port_loop};
use bench::error::{Error, Result};
use bench::load::{Load, frame};
use bench::report::{self, Row};
use bench::search::{self, Goal};
use bench::stop::Stop;
use bench::trial::{self, Offer, Trial};
use bench::{campaign, rig, rtt, tcp};
use clap::{Args, Parser, Subcommand};
use serde::Serialize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Measure switchd and its peers side by side, in throw-away network namespaces.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    test: Test,
}

#[derive(Subcommand)]
enum Test {
    /// Frame rate: what is delivered of an offered load
    Run(Run),
    /// Highest frame rate within a loss limit (RFC 2544 search)
    Ndr(Ndr),
    /// Throughput of one TCP stream (iperf3)
    Tcp(Tcp),
    /// Round-trip time of small datagrams
    Rtt(Rtt),
    /// Remove what a killed swbench left behind
    Clean,
    /// The device `loop`: forward between two interfaces of this namespace, unread, until killed
    #[command(hide = true)]
    PortLoop {
        /// First interface
        first: String,
        /// Second interface
        second: String,
        /// Core to run on
        core: usize,
    },
}

#[derive(Args)]
struct Common {
    /// Devices to measure; the first is the one the others are compared with
    #[arg(long, value_delimiter = ',', default_value = "switchd,ovs,testpmd,bridge")]
    devices: Vec<Kind>,
    /// Trials per device
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    /// Core of the device's forwarding thread
    #[arg(long, default_value_t = 0)]
    device_core: usize,
    /// Core of the generator and of the containers' programs
    #[arg(long, default_value_t = 1)]
    traffic_core: usize,
    /// The switchd program [default: beside swbench]
    #[arg(long)]
    switchd: Option<PathBuf>,
    /// Write every trial and the summary to this file
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Args)]
struct Run {
    #[command(flatten)]
    common: Common,
    /// Loads to offer
    #[arg(long, value_delimiter = ',', default_value = "socket,flood")]
    load: Vec<Load>,
    /// Length of a trial
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Offered frames per second [default: as many as possible]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// Frame length in bytes, without the 4 of the FCS
    #[arg(long, default_value_t = frame::MIN_LEN)]
    size: usize,
}

#[derive(Args)]
struct Ndr {
    #[command(flatten)]
    common: Common,
    /// Highest loss allowed, in percent: 0 for NDR, 0.5 for PDR
    #[arg(long, default_value_t = 0.0)]
    loss_percent: f64,
    /// Length of one step of the search
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Frame length in bytes, without the 4 of the FCS
    #[arg(long, default_value_t = frame::MIN_LEN)]
    size: usize,
}

#[derive(Args)]
struct Tcp {
    #[command(flatten)]
    common: Common,
    /// Length of a trial
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// MTU of all interfaces
    #[arg(long, default_value_t = 1500, value_parser = clap::value_parser!(u16).range(576..))]
    mtu: u16,
}

#[derive(Args)]
struct Rtt {
    #[command(flatten)]
    common: Common,
    /// Round trips per trial
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
}

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
    if let Test::PortLoop { first, second, core } = test {
        return port_loop::run([first, second], *core);
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
        Test::Tcp(options) => streams(options, &stop),
        Test::Rtt(options) => round_trips(options, &stop),
        Test::Clean | Test::PortLoop { .. } => Ok(()),
    }
}

impl Common {
    fn settings(&self, mtu: u16) -> Settings {
        let beside = || std::env::current_exe().map(|exe| exe.with_file_name("switchd")).unwrap_or_default();
        let switchd = self.switchd.clone().unwrap_or_else(beside);
        Settings { device_core: self.device_core, traffic_core: self.traffic_core, switchd, mtu }
    }

    fn subject(&self) -> Kind {
        self.devices.first().copied().unwrap_or(Kind::Switchd)
    }

    fn finish<T: Serialize>(&self, rows: &[Row], trials: &[T]) -> Result<()> {
        print!("{}", report::table(self.subject(), rows));
        self.json.as_deref().map_or(Ok(()), |path| report::write_json(path, rows, trials))
    }

    /// Installed devices, `runs` times, alternated.
    fn plan(&self, settings: &Settings) -> Result<Vec<Kind>> {
        if self.device_core == self.traffic_core {
            let why = "--device-core and --traffic-core must differ".into();
            return Err(Error::Absent { device: "a core for the device", why });
        }
        Ok(alternated(&present(&self.devices, settings)?, usize::from(self.runs)))
    }
}

fn rates(options: &Run, stop: &Stop) -> Result<()> {
    if options.rate.is_some() {
        options.load.iter().try_for_each(|load| load.check_paced())?;
    }
    let settings = options.common.settings(1500);
    let plan: Vec<(Load, Kind)> = options
        .common
        .plan(&settings)?
        .into_iter()
        .flat_map(|kind| options.load.iter().map(move |load| (*load, kind)))
        .filter(|(load, kind)| kind.supports(*load))
        .collect();
    let offer = |load| Offer {
        load,
        rate_pps: options.rate.map(|r| r as f64),
        time: Duration::from_secs(options.seconds),
        frame_len: options.size.clamp(frame::MIN_LEN, frame::MAX_LEN),
    };
    let trials = campaign::run(
        &plan,
        stop,
        |(load, kind)| format!("{} under {} load", kind.name(), load.name()),
        |(load, kind)| trial::run(*kind, offer(*load), &settings, stop),
        show_trial,
    )?;
    let mut rows = Vec::new();
    for load in &options.load {
        let of_load: Vec<&Trial> = trials.iter().filter(|t| t.load == *load && t.counts()).collect();
        let values: Vec<(Kind, f64)> = of_load.iter().map(|t| (t.device, t.delivered_pps / 1e6)).collect();
        let remark = |kind| {
            let median = |get: fn(&Trial) -> f64| {
                report::Stats::of(of_load.iter().filter(|t| t.device == kind).map(|t| get(t))).map_or(0.0, |s| s.median)
            };
            format!("offered {:.3}, loss {:.2} %", median(|t| t.offered_pps) / 1e6, median(|t| t.loss) * 100.0)
        };
        rows.extend(report::rows(&format!("{} Mpps", load.name()), options.common.subject(), &values, remark));
    }
    options.common.finish(&rows, &trials)
}

fn show_trial(t: &Trial) -> String {
    let void = match t {
        t if !t.faults.is_empty() => format!(" FAULT: {}", t.faults.join("; ")),
        t if t.void => " VOID: generator missed its aim".to_owned(),
        t if t.aim_pps.is_none() && t.generator_cpu < 0.85 => " DISTURBED: generator shared its core".to_owned(),
        _ => String::new(),
    };
    let (offered, delivered) = (t.offered_pps / 1e6, t.delivered_pps / 1e6);
    format!("offered {offered:.3} Mpps, delivered {delivered:.3} Mpps, loss {:.2} %{void}", t.loss * 100.0)
}

fn searches(options: &Ndr, stop: &Stop) -> Result<()> {
    let settings = options.common.settings(1500);
    let plan = options.common.plan(&settings)?;
    let goal = Goal {
        loss_limit: options.loss_percent / 100.0,
        step: Duration::from_secs(options.seconds),
        frame_len: options.size.clamp(frame::MIN_LEN, frame::MAX_LEN),
    };
    let found = campaign::run(
        &plan,
        stop,
        |kind| format!("{} search", kind.name()),
        |kind| search::run(*kind, goal, &settings, stop),
        |f| format!("{:.3} Mpps in {} steps", f.rate_pps / 1e6, f.steps.len()),
    )?;
    let values: Vec<(Kind, f64)> = found.iter().map(|f| (f.device, f.rate_pps / 1e6)).collect();
    let remark = |_| format!("loss <= {} %", options.loss_percent);
    let rows = report::rows("socket Mpps", options.common.subject(), &values, remark);
    options.common.finish(&rows, &found)
}

fn streams(options: &Tcp, stop: &Stop) -> Result<()> {
    tcp::available()?;
    let settings = options.common.settings(options.mtu);
    let results = campaign::run(
        &options.common.plan(&settings)?,
        stop,
        |kind| format!("{} TCP", kind.name()),
        |kind| tcp::run(*kind, Duration::from_secs(options.seconds), &settings, stop),
        |t| format!("{:.2} Gbit/s, {} retransmits", t.bits_per_second / 1e9, t.retransmits),
    )?;
    let values: Vec<(Kind, f64)> = results.iter().map(|t| (t.device, t.bits_per_second / 1e9)).collect();
    let again = |kind| results.iter().filter(|t| t.device == kind).map(|t| t.retransmits).sum::<u64>();
    let remark = |kind| format!("retransmits {}", again(kind));
    let figure = format!("TCP Gbit/s, MTU {}", options.mtu);
    options.common.finish(&report::rows(&figure, options.common.subject(), &values, remark), &results)
}

fn round_trips(options: &Rtt, stop: &Stop) -> Result<()> {
    let settings = options.common.settings(1500);
    let results = campaign::run(
        &options.common.plan(&settings)?,
        stop,
        |kind| format!("{} RTT", kind.name()),
        |kind| rtt::run(*kind, options.count, &settings, stop),
        |r| format!("p50 {:.1} us, p99 {:.1} us, lost {}", r.p50_us, r.p99_us, r.lost),
    )?;
    let lost = |kind| results.iter().filter(|r| r.device == kind).map(|r| r.lost).sum::<u64>();
    let mut rows = Vec::new();
    for (figure, get) in [("RTT p50 us", (|r| r.p50_us) as fn(&rtt::Rtt) -> f64), ("RTT p99 us", |r| r.p99_us)] {
        let values: Vec<(Kind, f64)> = results.iter().map(|r| (r.device, get(r))).collect();
        rows.extend(report::rows(figure, options.common.subject(), &values, |kind| format!("lost {}", lost(kind))));
    }
    options.common.finish(&rows, &results)
}
