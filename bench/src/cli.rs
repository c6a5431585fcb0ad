//! The options of `swbench`, and what they come to.

use crate::command;
use bench::campaign::{alternated, present};
use bench::device::{Kind, Settings};
use bench::error::{Error, Result};
use bench::facts::{self, Facts};
use bench::load::{Load, Size, Sizes};
use bench::report::{self, Row};
use bench::search::Goal;
use bench::stop::Stop;
use bench::tcp::Cores;
use clap::{Args, Parser, Subcommand};
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;

/// Measure switchd and its peers side by side, in throw-away network namespaces.
#[derive(Parser)]
#[command(version)]
pub struct Cli {
    #[command(subcommand)]
    pub test: Test,
}

#[derive(Subcommand)]
pub enum Test {
    /// Every test, one after another, each into a file; then the report of them
    All(All),
    /// Frame rate: what is delivered of an offered load, with loss by sequence number and latency
    Run(Run),
    /// Highest frame rate within a loss limit (RFC 2544 search): NDR and PDR
    Ndr(Ndr),
    /// One-way latency at shares of a device's own no-drop rate
    Latency(Latency),
    /// What is still delivered of a multiple of a device's own no-drop rate
    Overload(Overload),
    /// Throughput of TCP streams (iperf3)
    Tcp(command::tcp::Options),
    /// Frame rate while addresses are listed over and over, and while ports are added and removed
    Disturb(command::disturb::Options),
    /// Processor time, memory and waking up of a device with many silent ports
    Idle(command::idle::Options),
    /// Round-trip time of small datagrams
    Rtt(Rtt),
    /// One station to all others: frames that the device must flood, per receiver and against unicast
    Flooding(command::flooding::Flooding),
    /// Every station to every other (RFC 2889 full mesh)
    Mesh(command::mesh::Mesh),
    /// How many addresses a device learns, and how fast (RFC 2889 address caching capacity and learning rate)
    Learning(command::learning::Learning),
    /// Frame rate with one, many and a million addresses in use, all learned before
    Addresses(command::addresses::Addresses),
    /// Compare two files written with --json: ratios of medians, and which differences are more than noise
    Compare {
        /// The earlier result
        a: PathBuf,
        /// The later result
        b: PathBuf,
    },
    /// Write a page with tables and charts from files written with --json
    Report {
        /// Result files
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Directory of the page and the charts
        #[arg(long, default_value = "bench/results")]
        out: PathBuf,
    },
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

/// Devices that are measured unless others are named.
const DEVICES: &str = "switchd,ovs,testpmd,bridge";

#[derive(Args)]
pub struct All {
    /// Directory of the tests' files (<test>.json), the page (report.md) and the charts
    #[arg(long)]
    pub out: PathBuf,
    /// Trials (or searches) per device and test [default: 5, with --quick 3]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub runs: Option<u16>,
    /// Short trials, and searches that allow 0.5 % of loss: for a first look, not for publication
    #[arg(long)]
    pub quick: bool,
    /// Leave out tests whose file is there
    #[arg(long)]
    pub resume: bool,
    /// Only these tests [default: all]
    #[arg(long, value_delimiter = ',', value_parser = crate::command::all::named)]
    pub tests: Vec<String>,
    /// Devices to measure; the first is the one the others are compared with
    #[arg(long, value_delimiter = ',', default_value = DEVICES)]
    pub devices: Vec<Kind>,
    /// Core of the device's forwarding thread
    #[arg(long, default_value_t = 0)]
    pub device_core: usize,
    /// Core of the generator and of the containers' programs
    #[arg(long, default_value_t = 1)]
    pub traffic_core: usize,
    /// The switchd program [default: beside swbench]
    #[arg(long)]
    pub switchd: Option<PathBuf>,
}

impl All {
    /// What holds for all tests; some change the MTU.
    pub fn settings(&self) -> Settings {
        settings(self.device_core, self.traffic_core, self.switchd.as_ref(), 1500)
    }
}

/// Settings with the switchd that was named, or else the one beside this program.
fn settings(device_core: usize, traffic_core: usize, switchd: Option<&PathBuf>, mtu: u16) -> Settings {
    let beside = || std::env::current_exe().map(|exe| exe.with_file_name("switchd")).unwrap_or_default();
    Settings { device_core, traffic_core, switchd: switchd.cloned().unwrap_or_else(beside), mtu }
}

#[derive(Args, Clone)]
pub struct Common {
    /// Devices to measure; the first is the one the others are compared with
    #[arg(long, value_delimiter = ',', default_value = DEVICES)]
    pub devices: Vec<Kind>,
    /// Trials (or searches) per device
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    pub runs: u16,
    /// Core of the device's forwarding thread
    #[arg(long, default_value_t = 0)]
    pub device_core: usize,
    /// Core of the generator and of the containers' programs
    #[arg(long, default_value_t = 1)]
    pub traffic_core: usize,
    /// The switchd program [default: beside swbench]
    #[arg(long)]
    pub switchd: Option<PathBuf>,
    /// Write every trial and the summary to this file
    #[arg(long)]
    pub json: Option<PathBuf>,
}

#[derive(Args)]
pub struct Run {
    #[command(flatten)]
    pub common: Common,
    /// Loads to offer
    #[arg(long, value_delimiter = ',', default_value = "socket,flood")]
    pub load: Vec<Load>,
    /// Length of a trial
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub seconds: u64,
    /// Offered frames per second [default: as many as possible]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub rate: Option<u64>,
    /// Frame lengths in bytes without the 4 of the FCS; also `imix` (60, 566, 1514 in 7:4:1) and `rfc2544` (its seven)
    #[arg(long, value_delimiter = ',', default_value = "60")]
    pub size: Vec<Sizes>,
}

#[derive(Args)]
pub struct Ndr {
    #[command(flatten)]
    pub common: Common,
    #[command(flatten)]
    pub search: Search,
    /// Highest loss allowed, in percent: 0 for NDR, 0.5 for PDR
    #[arg(long, value_delimiter = ',', default_value = "0,0.5")]
    pub loss_percent: Vec<f64>,
    /// Length of one step of the search
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub seconds: u64,
    /// Trials that must all pass at the rate found
    #[arg(long, default_value_t = 3)]
    pub verify: u32,
    /// Length of each of these
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub verify_seconds: u64,
}

/// What a search offers.
#[derive(Args)]
pub struct Search {
    /// Load to offer; where flood cannot reach a device, socket is taken
    #[arg(long, default_value = "socket")]
    pub load: Load,
    /// Frame lengths in bytes without the 4 of the FCS; also `imix` (60, 566, 1514 in 7:4:1) and `rfc2544` (its seven)
    #[arg(long, value_delimiter = ',', default_value = "60")]
    pub size: Vec<Sizes>,
}

#[derive(Args)]
pub struct Latency {
    #[command(flatten)]
    pub common: Common,
    #[command(flatten)]
    pub search: Search,
    /// Shares of the no-drop rate to offer, in percent
    #[arg(long, value_delimiter = ',', default_value = "10,50,90", value_parser = clap::value_parser!(u16).range(1..=100))]
    pub percent: Vec<u16>,
    /// Loss allowed at the device's rate, in percent; 0 makes it the no-drop rate
    #[arg(long, default_value_t = 0.0)]
    pub loss_percent: f64,
    /// Length of a trial; steps of the search for the no-drop rate take 1 s
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub seconds: u64,
}

#[derive(Args)]
pub struct Overload {
    #[command(flatten)]
    pub common: Common,
    /// Frame lengths in bytes without the 4 of the FCS; also `rfc2544` (its seven)
    #[arg(long, value_delimiter = ',', default_value = "60")]
    pub size: Vec<Sizes>,
    /// Multiples of the no-drop rate to offer
    #[arg(long, value_delimiter = ',', default_value = "2,5", value_parser = clap::value_parser!(u16).range(1..))]
    pub times: Vec<u16>,
    /// Loss allowed at the device's rate, in percent; 0 makes it the no-drop rate
    #[arg(long, default_value_t = 0.0)]
    pub loss_percent: f64,
    /// Length of a trial; steps of the search for the no-drop rate take 1 s
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub seconds: u64,
}

#[derive(Args)]
pub struct Rtt {
    #[command(flatten)]
    pub common: Common,
    /// Where the ends run: both on the traffic core, or the answering one on the device's core
    #[arg(long, value_delimiter = ',', default_value = "one")]
    pub cores: Vec<Cores>,
    /// Round trips per trial
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub count: u64,
}

impl Common {
    fn settings(&self, mtu: u16) -> Settings {
        settings(self.device_core, self.traffic_core, self.switchd.as_ref(), mtu)
    }

    fn subject(&self) -> Kind {
        self.devices.first().copied().unwrap_or(Kind::Switchd)
    }

    /// Finds the installed devices and the facts about them and the machine.
    pub fn prepare(&self, mtu: u16, stop: &Stop) -> Result<Prepared> {
        if self.device_core == self.traffic_core {
            let why = "--device-core and --traffic-core must differ".into();
            return Err(Error::Absent { device: "a core for the device", why });
        }
        let settings = self.settings(mtu);
        let there = present(&self.devices, &settings)?;
        let facts = facts::collect(&there, &settings, stop)?;
        let kinds = alternated(&there, usize::from(self.runs));
        Ok(Prepared { subject: self.subject(), json: self.json.clone(), settings, facts, kinds })
    }
}

/// A campaign about to begin.
pub struct Prepared {
    /// The device the others are compared with.
    pub subject: Kind,
    /// What holds for every trial.
    pub settings: Settings,
    /// Installed devices, once for each run, alternated.
    pub kinds: Vec<Kind>,
    facts: Facts,
    json: Option<PathBuf>,
}

impl Prepared {
    /// Every device with every size, alternated by device.
    pub fn with_sizes(&self, sizes: &[Size]) -> Vec<(Kind, Size)> {
        self.kinds.iter().flat_map(|kind| sizes.iter().map(move |size| (*kind, *size))).collect()
    }

    /// Prints facts and summary and writes the file.
    pub fn finish<T: Serialize>(&self, rows: &[Row], trials: &[T]) -> Result<()> {
        print!("{}{}", self.facts.lines(), report::table(self.subject, rows));
        self.json.as_deref().map_or(Ok(()), |path| report::write_json(path, &self.facts, rows, trials))
    }
}

impl Search {
    /// The load for a device: what was asked for, or what can reach it.
    pub fn load_for(&self, kind: Kind) -> Load {
        if kind.supports(self.load) { self.load } else { Load::Socket }
    }

    /// The sizes, if the load can send them.
    pub fn sizes(&self) -> Result<Vec<Size>> {
        let sizes = Sizes::all(&self.size);
        sizes.iter().try_for_each(|size| self.load.check_size(*size))?;
        Ok(sizes)
    }
}

/// The quick search before trials at multiples of the no-drop rate.
pub fn quick(load: Load, size: Size, loss_percent: f64) -> Goal {
    let second = Duration::from_secs(1);
    Goal { load, size, loss_limit: loss_percent / 100.0, step: second, verify: 1, verify_time: second }
}
