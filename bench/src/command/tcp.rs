//! `swbench tcp`: throughput of one TCP stream.

use crate::cli::Tcp;
use bench::device::Kind;
use bench::error::Result;
use bench::stop::Stop;
use bench::{campaign, report, tcp};
use std::time::Duration;

/// One stream through every device.
///
/// # Errors
/// Those of [`crate::cli::Common::prepare`] and of its trials when all fail.
pub fn run(options: &Tcp, stop: &Stop) -> Result<()> {
    tcp::available()?;
    let ready = options.common.prepare(options.mtu, stop)?;
    let results = campaign::run(
        &ready.kinds,
        stop,
        |kind| format!("{} TCP", kind.name()),
        |kind| tcp::run(*kind, Duration::from_secs(options.seconds), &ready.settings, stop),
        |t| format!("{:.2} Gbit/s, {} retransmits", t.bits_per_second / 1e9, t.retransmits),
    )?;
    let values: Vec<(Kind, f64)> = results.iter().map(|t| (t.device, t.bits_per_second / 1e9)).collect();
    let again = |kind| results.iter().filter(|t| t.device == kind).map(|t| t.retransmits).sum::<u64>();
    let remark = |kind| format!("retransmits {}", again(kind));
    let figure = format!("TCP Gbit/s, MTU {}", options.mtu);
    ready.finish(&report::rows(&figure, ready.subject, &values, remark), &results)
}
