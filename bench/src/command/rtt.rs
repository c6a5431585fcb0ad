//! `swbench rtt`: round-trip time of small datagrams.

use crate::cli::Rtt;
use bench::device::Kind;
use bench::error::Result;
use bench::report::{self, Row};
use bench::stop::Stop;
use bench::tcp::Cores;
use bench::{campaign, rtt};

/// Round trips through every device.
///
/// # Errors
/// Those of [`crate::cli::Common::prepare`] and of its trials when all fail.
pub fn run(options: &Rtt, stop: &Stop) -> Result<()> {
    let ready = options.common.prepare(1500, stop)?;
    let mut plan: Vec<(Kind, Cores)> = Vec::new();
    for kind in &ready.kinds {
        plan.extend(options.cores.iter().map(|cores| (*kind, *cores)));
    }
    let results = campaign::run(
        &plan,
        stop,
        |(kind, cores)| format!("{} RTT{}", kind.name(), place(*cores)),
        |(kind, cores)| rtt::run(*kind, *cores, options.count, &ready.settings, stop),
        |r| format!("p50 {:.1} us, p99 {:.1} us, lost {}", r.p50_us, r.p99_us, r.lost),
    )?;
    let mut rows: Vec<Row> = Vec::new();
    for cores in &options.cores {
        let these = || results.iter().filter(|r| r.cores == *cores);
        let lost = |kind| these().filter(|r| r.device == kind).map(|r| r.lost).sum::<u64>();
        for (name, get) in [("RTT p50 us", (|r| r.p50_us) as fn(&rtt::Rtt) -> f64), ("RTT p99 us", |r| r.p99_us)] {
            let values: Vec<(Kind, f64)> = these().map(|r| (r.device, get(r))).collect();
            let figure = format!("{name}{}", place(*cores));
            rows.extend(report::rows(&figure, ready.subject, &values, |kind| format!("lost {}", lost(kind))));
        }
    }
    ready.finish(&rows, &results)
}

/// What is added to a figure's name.
fn place(cores: Cores) -> &'static str {
    match cores {
        Cores::One => "",
        Cores::Two => ", ends on two cores",
    }
}
