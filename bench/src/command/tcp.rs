//! `swbench tcp`: a matrix of MTUs, numbers of streams and places of their ends.

use crate::cli::Common;
use bench::device::Kind;
use bench::error::{Error, Result};
use bench::stop::Stop;
use bench::tcp::{self, Cores, Setup, Tcp};
use bench::{campaign, device, report};
use clap::Args;
use std::time::Duration;

#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    pub common: Common,
    /// Length of a trial
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub seconds: u64,
    /// MTUs of all interfaces; a device that gets no packet of that length across is named and left out there
    #[arg(long, value_delimiter = ',', default_value = "1500", value_parser = clap::value_parser!(u16).range(576..))]
    pub mtu: Vec<u16>,
    /// Numbers of streams at once
    #[arg(long, value_delimiter = ',', default_value = "1", value_parser = clap::value_parser!(u16).range(1..=128))]
    pub streams: Vec<u16>,
    /// Where the ends of the streams run; beside a device's thread that always spins a receiver gets next to nothing
    #[arg(long, value_delimiter = ',', default_value = "one")]
    pub cores: Vec<Cores>,
}

impl Options {
    fn setups(&self) -> Vec<Setup> {
        let mut setups: Vec<Setup> = Vec::new();
        for (mtu, streams) in self.mtu.iter().flat_map(|mtu| self.streams.iter().map(move |streams| (*mtu, *streams))) {
            for setup in self.cores.iter().map(|cores| Setup { mtu, streams, cores: *cores }) {
                if !setups.contains(&setup) {
                    setups.push(setup);
                }
            }
        }
        setups
    }
}

/// Measures every cell of the matrix.
pub fn run(options: &Options, stop: &Stop) -> Result<()> {
    tcp::available()?;
    let setups = options.setups();
    // Facts are taken where every device works, if it does at all.
    let smallest = options.mtu.iter().min().copied().unwrap_or(1500);
    let ready = options.common.prepare(smallest, stop)?;
    let too_long = left_out(&options.mtu, &ready.kinds, &ready.settings, stop)?;
    let cells = |kind: &Kind| setups.iter().map(|setup| (*kind, *setup)).collect::<Vec<_>>();
    let mut plan: Vec<(Kind, Setup)> = ready.kinds.iter().flat_map(cells).collect();
    plan.retain(|(kind, setup)| !too_long.contains(&(*kind, setup.mtu)));
    if plan.is_empty() {
        let why = "no packet of a given --mtu gets across".into();
        return Err(Error::Absent { device: "every device", why });
    }
    let results = campaign::run(
        &plan,
        stop,
        |(kind, setup)| format!("{} {}", kind.name(), setup.figure()),
        |(kind, setup)| tcp::run(*kind, *setup, Duration::from_secs(options.seconds), &ready.settings, stop),
        |t| format!("{:.2} Gbit/s, {} retransmits", t.bits_per_second / 1e9, t.retransmits),
    )?;
    let mut rows = Vec::new();
    for setup in setups {
        let these: Vec<&Tcp> = results.iter().filter(|t| t.setup == setup).collect();
        let values: Vec<(Kind, f64)> = these.iter().map(|t| (t.device, t.bits_per_second / 1e9)).collect();
        let remark = |kind| {
            let of = || these.iter().filter(move |t| t.device == kind);
            let again = format!("retransmits {}", of().map(|t| t.retransmits).sum::<u64>());
            let fairness = report::Stats::of(of().map(|t| t.fairness)).map_or(1.0, |s| s.median);
            if setup.streams == 1 { again } else { format!("{again}, fairness {fairness:.3}") }
        };
        rows.extend(report::rows(&setup.figure(), ready.subject, &values, remark));
    }
    ready.finish(&rows, &results)
}

/// Devices and MTUs that do not go together; each is named on stderr with the reason.
fn left_out(mtus: &[u16], kinds: &[Kind], settings: &device::Settings, stop: &Stop) -> Result<Vec<(Kind, u16)>> {
    let mut seen: Vec<(Kind, u16)> = Vec::new();
    let mut out = Vec::new();
    for cell in kinds.iter().flat_map(|kind| mtus.iter().map(move |mtu| (*kind, *mtu))) {
        if seen.contains(&cell) {
            continue;
        }
        seen.push(cell);
        let (kind, mtu) = cell;
        let settings = device::Settings { mtu, ..settings.clone() };
        match tcp::carries_full_frames(kind, &settings, stop) {
            Ok(()) => {}
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(why) => {
                eprintln!("left out at MTU {mtu}: {why}");
                out.push(cell);
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use crate::cli::{Cli, Test};
    use bench::tcp::{Cores, Setup};
    use clap::Parser;

    fn setups(line: &str) -> Vec<Setup> {
        let Test::Tcp(options) = Cli::try_parse_from(line.split(' ')).expect("right usage").test else {
            panic!("another test");
        };
        options.setups()
    }

    #[test]
    fn lists_make_a_matrix_and_single_values_one_cell() {
        let one = Setup { mtu: 1500, streams: 1, cores: Cores::One };
        assert_eq!(setups("swbench tcp"), [one]);
        assert_eq!(setups("swbench tcp --streams 1,1"), [one]);
        assert_eq!(setups("swbench tcp --mtu 9000"), [Setup { mtu: 9000, ..one }]);
        let all = setups("swbench tcp --mtu 1500,9000,60000 --streams 1,16 --cores one,two");
        assert_eq!(all.len(), 12);
        assert!(all.contains(&Setup { mtu: 60000, streams: 16, cores: Cores::Two }));
        for bad in ["--mtu 575", "--streams 0", "--cores three"] {
            assert!(Cli::try_parse_from(format!("swbench tcp {bad}").split(' ')).is_err(), "{bad}");
        }
    }
}
