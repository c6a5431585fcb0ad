//! Throughput with many addresses in use: half of them send from A, half receive at B, every frame is of a pair drawn
//! at random, and all are learned before. A device whose tables leave the caches shows it here. Station C watches that
//! nothing is flooded. One device start serves all counts, the smallest first. Main thread.

use crate::device::{Kind, Settings};
use crate::error::{Error, Result};
use crate::lan::{Course, Lan, Stream};
use crate::load::address::{Choice, Group};
use crate::load::{Load, Macs, frame};
use crate::rig::Needs;
use crate::stop::Stop;
use serde::Serialize;
use std::time::Duration;

/// Rounds of teaching before it is given up; the first one always floods, because nobody is known yet.
const ROUNDS: u32 = 8;
/// Share of the frames that may be flooded in a trial that counts.
const FLOODED_MAX: f64 = 0.001;
/// Numbers of the stations.
const FROM: u16 = 0;
const TO: u16 = 1;
const MONITOR: usize = 2;

/// What to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Numbers of addresses, sources and destinations together, in rising order; 1 is one flow.
    pub counts: Vec<u32>,
    /// Addresses the devices are configured for.
    pub room: u32,
    /// Kind of generator.
    pub load: Load,
    /// Frame length, bytes without FCS.
    pub len: usize,
    /// Frames per second; `None` for as many as possible.
    pub rate_pps: Option<f64>,
    /// Length of each trial.
    pub time: Duration,
    /// Frames per second at which addresses are taught at first; halved when frames are lost.
    pub teach_pps: f64,
}

/// One trial.
#[derive(Clone, Debug, Serialize)]
pub struct Point {
    /// Device under test.
    pub device: Kind,
    /// Kind of generator.
    pub load: Load,
    /// Addresses in use.
    pub addresses: u32,
    /// Frame length.
    pub len: usize,
    /// Offered frames per second.
    pub offered_pps: f64,
    /// Frames per second that arrived at B.
    pub delivered_pps: f64,
    /// Share of the offered frames that did not.
    pub loss: f64,
    /// Share of the offered frames that were flooded.
    pub flooded: f64,
    /// Rate over that with the fewest addresses of the same device start.
    pub ratio: f64,
    /// Share of its core the generator had.
    pub generator_cpu: f64,
    /// Whether it was asked for as many frames as possible.
    pub full_speed: bool,
    /// What contradicts itself, or why addresses were not known; a trial with any must not be used.
    pub faults: Vec<String>,
}

impl Point {
    fn new(device: Kind, plan: &Plan, addresses: u32, course: &Course) -> Self {
        let (sequence, mut faults) = course.sequence(usize::from(TO));
        let share = |frames: u64| frames as f64 / course.sent.frames.max(1) as f64;
        let flooded = share(course.received(MONITOR));
        if flooded > FLOODED_MAX {
            faults.push(format!("{:.2} % of the frames were flooded", flooded * 100.0));
        }
        Point {
            device,
            load: plan.load,
            addresses,
            len: plan.len,
            offered_pps: course.rate(course.sent.frames),
            delivered_pps: course.rate(sequence.unique),
            loss: share(sequence.lost()),
            flooded,
            ratio: 1.0,
            generator_cpu: course.sent.cpu,
            full_speed: plan.rate_pps.is_none(),
            faults,
        }
    }

    /// Whether its figures may be used.
    pub fn counts(&self) -> bool {
        self.faults.is_empty()
    }
}

/// The sources and the destinations among a number of addresses.
fn halves(addresses: u32) -> [Group; 2] {
    let count = (addresses / 2).max(1);
    [b'S', b'D'].map(|id| Group { id, count })
}

/// Sets the ratio of every point to the first.
fn relate(points: &mut [Point]) {
    let base = points.first().map_or(0.0, |first| first.delivered_pps);
    for point in points {
        point.ratio = if base > 0.0 { point.delivered_pps / base } else { 0.0 };
    }
}

/// Measures a device with every number of addresses.
///
/// # Errors
/// Those of [`Lan::make`] and [`Lan::offer`]; [`Error::Device`] when it does not learn all addresses.
pub fn run(kind: Kind, plan: &Plan, settings: &Settings, stop: &Stop) -> Result<Vec<Point>> {
    let mut lan = Lan::make(kind, Needs { stations: 3, addresses: Some(plan.room) }, settings, stop)?;
    let mut points = Vec::new();
    for &addresses in &plan.counts {
        let [sources, destinations] = halves(addresses);
        teach(&mut lan, plan, sources, destinations, stop)?;
        let macs = Macs { destination: Choice::Random(destinations), source: Choice::Random(sources) };
        let stream = Stream { load: plan.load, rate_pps: plan.rate_pps, time: plan.time, ..stream(FROM, plan, macs) };
        points.push(Point::new(kind, plan, addresses, &lan.offer(&stream, stop)?));
    }
    relate(&mut points);
    Ok(points)
}

/// A stream of the socket load with these addresses, without a rate or an end.
fn stream(from: u16, plan: &Plan, macs: Macs) -> Stream {
    Stream {
        from,
        load: Load::Socket,
        frames: vec![frame::build([0; 6], plan.len)],
        macs,
        rate_pps: None,
        time: Duration::MAX,
        count: None,
    }
}

/// Has every destination send to its source and every source to its destination, until a whole round of that is neither
/// flooded nor lost.
fn teach(lan: &mut Lan, plan: &Plan, sources: Group, destinations: Group, stop: &Stop) -> Result<()> {
    let (mut rate, mut flooded, mut lost) = (plan.teach_pps, 0, 0);
    let all = u64::from(sources.count);
    for round in 0..ROUNDS {
        (flooded, lost) = (0, 0);
        for (from, to, source, destination) in [(TO, FROM, destinations, sources), (FROM, TO, sources, destinations)] {
            let macs = Macs { destination: Choice::InTurn(destination), source: Choice::InTurn(source) };
            let time = Duration::from_secs_f64(10.0 + 2.0 * all as f64 / rate);
            let stream = Stream { rate_pps: Some(rate), time, count: Some(all), ..stream(from, plan, macs) };
            let course = lan.offer(&stream, stop)?;
            flooded += course.received(MONITOR);
            lost += all.saturating_sub(course.received(usize::from(to)));
        }
        if flooded == 0 && lost == 0 {
            return Ok(());
        }
        // In the first round a flooded frame costs more than later ones.
        if lost > 0 && round > 0 {
            rate /= 2.0;
        }
    }
    let why = format!(
        "it did not learn {} addresses in {ROUNDS} rounds: in the last one {flooded} frames were flooded and {lost} lost",
        2 * all
    );
    Err(Error::Device { device: lan.kind().name(), why })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_addresses_send_and_one_is_one_flow() {
        let counts = |n| halves(n).map(|group| group.count);
        assert_eq!([1, 2, 1000, 1_000_000].map(counts), [[1, 1], [1, 1], [500, 500], [500_000, 500_000]]);
        let [sources, destinations] = halves(10);
        assert_ne!(sources.id, destinations.id);
    }

    #[test]
    fn ratios_are_to_the_fewest_addresses() {
        let point = |delivered_pps| Point {
            device: Kind::Bridge,
            load: Load::Socket,
            addresses: 1,
            len: 60,
            offered_pps: 2e6,
            delivered_pps,
            loss: 0.0,
            flooded: 0.0,
            ratio: 1.0,
            generator_cpu: 1.0,
            full_speed: true,
            faults: Vec::new(),
        };
        let ratios = |rates: &[f64]| {
            let mut points: Vec<Point> = rates.iter().map(|rate| point(*rate)).collect();
            relate(&mut points);
            points.iter().map(|p| p.ratio).collect::<Vec<_>>()
        };
        assert_eq!(ratios(&[2e6, 1e6, 5e5]), [1.0, 0.5, 0.25]);
        assert_eq!(ratios(&[0.0, 1e6]), [0.0, 0.0]);
        assert_eq!(ratios(&[]), [0.0; 0]);
    }
}
