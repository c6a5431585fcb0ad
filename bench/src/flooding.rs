//! One to all: frames that a switch must send to every other port, because they are broadcasts or nobody has their
//! destination. What each receiver gets, against what one receiver of unicast frames gets on the same rig. Main thread.

use crate::device::{Kind, Settings};
use crate::error::Result;
use crate::lan::{Course, Lan, Stream};
use crate::load::address::Group;
use crate::load::{Load, Macs, frame};
use crate::rig::Needs;
use crate::stop::Stop;
use serde::Serialize;
use std::time::Duration;

/// Where flooded frames go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum To {
    /// ff:ff:ff:ff:ff:ff.
    Broadcast,
    /// A unicast address that no station has.
    Unknown,
}

impl To {
    /// Name in tables and JSON.
    pub fn name(self) -> &'static str {
        match self {
            To::Broadcast => "broadcast",
            To::Unknown => "unknown",
        }
    }

    fn address(self) -> [u8; 6] {
        match self {
            To::Broadcast => [0xff; 6],
            To::Unknown => Group { id: b'U', count: 1 }.address(0),
        }
    }
}

/// What to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Stations beside the sender.
    pub receivers: u16,
    /// Kinds of destination.
    pub to: Vec<To>,
    /// Kind of generator.
    pub load: Load,
    /// Frame length, bytes without FCS.
    pub len: usize,
    /// Frames per second; `None` for as many as possible.
    pub rate_pps: Option<f64>,
    /// Length of each trial.
    pub time: Duration,
}

/// One trial.
#[derive(Clone, Debug, Serialize)]
pub struct Flood {
    /// Device under test.
    pub device: Kind,
    /// Where the frames went.
    pub to: To,
    /// Kind of generator.
    pub load: Load,
    /// Frame length.
    pub len: usize,
    /// Offered frames per second.
    pub offered_pps: f64,
    /// Frames per second at each receiver, duplicates not counted.
    pub received_pps: Vec<f64>,
    /// Frames per second that one receiver got of unicast frames on this rig.
    pub unicast_pps: f64,
    /// Share of its core the generator had.
    pub generator_cpu: f64,
    /// Whether it was asked for as many frames as possible.
    pub full_speed: bool,
    /// What contradicts itself; a trial with any must not be used.
    pub faults: Vec<String>,
}

impl Flood {
    /// Mean over the receivers, frames per second.
    pub fn mean_pps(&self) -> f64 {
        self.received_pps.iter().sum::<f64>() / self.received_pps.len().max(1) as f64
    }

    /// The mean over what each receiver would get if a frame to n receivers cost as much as n unicast frames. 0 when
    /// no unicast frame arrived.
    pub fn share(&self) -> f64 {
        let fair = self.unicast_pps / self.received_pps.len().max(1) as f64;
        if fair > 0.0 { self.mean_pps() / fair } else { 0.0 }
    }

    /// Share of what all receivers together should have got and did not.
    pub fn loss(&self) -> f64 {
        if self.offered_pps > 0.0 { (1.0 - self.mean_pps() / self.offered_pps).max(0.0) } else { 0.0 }
    }

    /// Smallest and largest rate of a receiver, frames per second.
    pub fn extremes(&self) -> (f64, f64) {
        let fold = |start: f64, of: fn(f64, f64) -> f64| self.received_pps.iter().copied().fold(start, of);
        (fold(f64::INFINITY, f64::min), fold(0.0, f64::max))
    }

    /// Whether its figures may be used.
    pub fn counts(&self) -> bool {
        self.faults.is_empty()
    }
}

/// One device start: unicast, then every kind of flooded frame.
///
/// # Errors
/// Those of [`Lan::make`] and [`Lan::offer`].
pub fn run(kind: Kind, plan: &Plan, settings: &Settings, stop: &Stop) -> Result<Vec<Flood>> {
    let needs = Needs { stations: plan.receivers.saturating_add(1), ..Needs::default() };
    let mut lan = Lan::make(kind, needs, settings, stop)?;
    let stations = lan.stations();
    let mut offer = |destination: [u8; 6]| {
        let frames = vec![frame::build(destination, plan.len)];
        let Plan { load, rate_pps, time, .. } = *plan;
        lan.offer(&Stream { from: 0, load, frames, macs: Macs::default(), rate_pps, time, count: None }, stop)
    };
    let unicast = offer(stations[1].mac()?)?;
    let unicast_faults = unicast_faults(&unicast, stations.len());
    let mut floods = Vec::new();
    for &to in &plan.to {
        let course = offer(to.address())?;
        let (sequences, faults): (Vec<_>, Vec<_>) = (1..stations.len()).map(|number| course.sequence(number)).unzip();
        floods.push(Flood {
            device: kind,
            to,
            load: plan.load,
            len: plan.len,
            offered_pps: course.rate(course.sent.frames),
            received_pps: sequences.iter().map(|sequence| course.rate(sequence.unique)).collect(),
            unicast_pps: unicast.rate(unicast.sequence(1).0.unique),
            generator_cpu: course.sent.cpu,
            full_speed: plan.rate_pps.is_none(),
            faults: unicast_faults.iter().cloned().chain(faults.into_iter().flatten()).collect(),
        });
    }
    Ok(floods)
}

/// What speaks against the unicast trial: its own counters, or frames that reached others.
fn unicast_faults(course: &Course, stations: usize) -> Vec<String> {
    let (_, mut faults) = course.sequence(1);
    let strays: u64 = (2..stations).map(|number| course.received(number)).sum();
    if strays > 0 {
        faults.push(format!("{strays} unicast frames were flooded"));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flood(received_pps: &[f64], unicast_pps: f64) -> Flood {
        Flood {
            device: Kind::Bridge,
            to: To::Unknown,
            load: Load::Socket,
            len: 60,
            offered_pps: 1e6,
            received_pps: received_pps.to_vec(),
            unicast_pps,
            generator_cpu: 1.0,
            full_speed: true,
            faults: Vec::new(),
        }
    }

    #[test]
    fn the_share_is_of_an_equal_part_of_the_unicast_rate() {
        let trial = flood(&[2e5, 3e5, 1e5, 2e5], 8e5);
        assert_eq!((trial.mean_pps(), trial.share(), trial.loss()), (2e5, 1.0, 0.8));
        assert_eq!(trial.extremes(), (1e5, 3e5));
        assert_eq!(flood(&[4e5, 4e5], 4e5).share(), 2.0);
    }

    #[test]
    fn nothing_received_is_no_division_by_zero() {
        assert_eq!((flood(&[], 0.0).share(), flood(&[], 0.0).mean_pps()), (0.0, 0.0));
        assert_eq!(flood(&[0.0], 0.0).loss(), 1.0);
    }

    #[test]
    fn the_unknown_address_is_unicast() {
        assert_eq!(To::Unknown.address()[0] & 1, 0);
        assert_ne!(To::Unknown.address(), frame::SOURCE_MAC);
    }
}
