//! `swbench rtt`: round-trip time of small datagrams.

use crate::cli::Rtt;
use bench::device::Kind;
use bench::error::Result;
use bench::report::{self, Row};
use bench::stop::Stop;
use bench::{campaign, rtt};

/// Round trips through every device.
///
/// # Errors
/// Those of [`crate::cli::Common::prepare`] and of its trials when all fail.
pub fn run(options: &Rtt, stop: &Stop) -> Result<()> {
    let ready = options.common.prepare(1500, stop)?;
    let results = campaign::run(
        &ready.kinds,
        stop,
        |kind| format!("{} RTT", kind.name()),
        |kind| rtt::run(*kind, options.count, &ready.settings, stop),
        |r| format!("p50 {:.1} us, p99 {:.1} us, lost {}", r.p50_us, r.p99_us, r.lost),
    )?;
    let lost = |kind| results.iter().filter(|r| r.device == kind).map(|r| r.lost).sum::<u64>();
    let mut rows: Vec<Row> = Vec::new();
    for (figure, get) in [("RTT p50 us", (|r| r.p50_us) as fn(&rtt::Rtt) -> f64), ("RTT p99 us", |r| r.p99_us)] {
        let values: Vec<(Kind, f64)> = results.iter().map(|r| (r.device, get(r))).collect();
        rows.extend(report::rows(figure, ready.subject, &values, |kind| format!("lost {}", lost(kind))));
    }
    ready.finish(&rows, &results)
}
