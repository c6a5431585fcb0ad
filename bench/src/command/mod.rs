//! The tests of switching: a module for each with its options, and the way from its results to a report.

pub mod addresses;
pub mod flooding;
pub mod learning;
pub mod mesh;

use crate::cli::{Common, Prepared};
use bench::device::Kind;
use bench::error::{Error, Result};
use bench::load::Load;
use bench::stop::Stop;

impl Common {
    /// As [`Common::prepare`], without the devices for which `fits` is not true; these are named on stderr.
    fn prepare_if(&self, fits: impl Fn(Kind) -> bool, why: &str, stop: &Stop) -> Result<Prepared> {
        let (fitting, others): (Vec<Kind>, Vec<Kind>) = self.devices.iter().partition(|kind| fits(**kind));
        for kind in others {
            eprintln!("skipped: {}: {why}", kind.name());
        }
        if fitting.is_empty() {
            return Err(Error::Absent { device: "every device", why: format!("{why}; choose with --devices") });
        }
        Common { devices: fitting, ..self.clone() }.prepare(1500, stop)
    }

    /// As [`Common::prepare`], without the devices that are no switches.
    fn prepare_switches(&self, stop: &Stop) -> Result<Prepared> {
        self.prepare_if(Kind::is_switch, "it does not learn addresses, or joins two stations only", stop)
    }
}

/// The load for a device: what was asked for, or what can reach it.
fn load_for(kind: Kind, wanted: Load) -> Load {
    if kind.supports(wanted) { wanted } else { Load::Socket }
}
