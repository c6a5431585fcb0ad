//! Full mesh (RFC 2889 section 5.1): every station sends to all others in turn. All stations' frames come from one
//! thread on the traffic core, a burst of each station after the other, so the offered traffic is mixed whatever the
//! scheduler does. A sink sees frames of many senders, so frames are counted, not sequence numbers. Main thread.

use crate::device::{Kind, Settings};
use crate::error::{Error, Result};
use crate::lan::{Course, Lan, Stream};
use crate::load::address::Group;
use crate::load::{self, Load, Macs, frame};
use crate::rig::Needs;
use crate::stop::Stop;
use serde::Serialize;
use std::time::Duration;

/// Frames per second of each station while addresses are learned.
const TEACH_PPS: f64 = 1000.0;
/// Frames from each station to each other one that must arrive before the load begins.
const PROBES: u64 = 4;
/// Tries to have all stations learned.
const TRIES: usize = 5;
/// Longest time of a counted load.
const TEACH_LIMIT: Duration = Duration::from_secs(10);

/// What to measure.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Stations, 2 or more.
    pub ports: u16,
    /// Frame length, bytes without FCS.
    pub len: usize,
    /// Frames per second of all stations together; `None` for as many as possible.
    pub rate_pps: Option<f64>,
    /// Length of the trial.
    pub time: Duration,
}

/// One trial.
#[derive(Clone, Debug, Serialize)]
pub struct Mesh {
    /// Device under test.
    pub device: Kind,
    /// Stations.
    pub ports: u16,
    /// Frame length.
    pub len: usize,
    /// Frames of all stations.
    pub offered_frames: u64,
    /// Frames that arrived at all stations.
    pub delivered_frames: u64,
    /// Offered frames per second.
    pub offered_pps: f64,
    /// Delivered frames per second.
    pub delivered_pps: f64,
    /// Share of the offered frames that did not arrive.
    pub loss: f64,
    /// Frames per second at each station.
    pub received_pps: Vec<f64>,
    /// Share of its core the generator had.
    pub generator_cpu: f64,
    /// Whether it was asked for as many frames as possible.
    pub full_speed: bool,
    /// What contradicts itself; a trial with any must not be used.
    pub faults: Vec<String>,
}

impl Mesh {
    fn new(device: Kind, plan: &Plan, course: &Course) -> Self {
        let received: Vec<u64> = (0..usize::from(plan.ports)).map(|number| course.received(number)).collect();
        let (offered, delivered) = (course.sent.frames, received.iter().sum::<u64>());
        let mut faults = course.faults();
        if delivered > offered {
            faults.push(format!("{delivered} frames arrived of {offered}: some were flooded"));
        }
        Mesh {
            device,
            ports: plan.ports,
            len: plan.len,
            offered_frames: offered,
            delivered_frames: delivered,
            offered_pps: course.rate(offered),
            delivered_pps: course.rate(delivered),
            loss: loss(offered, delivered),
            received_pps: received.into_iter().map(|frames| course.rate(frames)).collect(),
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

/// Share of `offered` that is missing in `delivered`.
fn loss(offered: u64, delivered: u64) -> f64 {
    if offered == 0 { 0.0 } else { offered.saturating_sub(delivered) as f64 / offered as f64 }
}

/// Starts the device, has it learn all stations, offers the load.
///
/// # Errors
/// Those of [`Lan::make`] and [`Lan::measure`]; [`Error::Device`] when stations are not learned.
pub fn run(kind: Kind, plan: &Plan, settings: &Settings, stop: &Stop) -> Result<Mesh> {
    let mut lan = Lan::make(kind, Needs { stations: plan.ports, ..Needs::default() }, settings, stop)?;
    await_learned(&mut lan, plan, stop)?;
    let each = plan.rate_pps.map(|rate| rate / f64::from(plan.ports.max(1)));
    let stream = |station| Stream {
        from: station,
        load: Load::Socket,
        frames: to_all_others(station, plan),
        macs: Macs::default(),
        rate_pps: each,
        time: plan.time,
        count: None,
    };
    let course = together(&mut lan, plan, stream, stop)?;
    Ok(Mesh::new(kind, plan, &course))
}

/// The address of a station's frames. Not its interface's, so that no frame of its own kernel is taken for one.
fn address(station: u16, plan: &Plan) -> [u8; 6] {
    Group { id: b'M', count: u32::from(plan.ports) }.address(u32::from(station))
}

/// A frame to each other station, beginning with the next one.
fn to_all_others(station: u16, plan: &Plan) -> Vec<Vec<u8>> {
    let next = |step: u16| (station + step) % plan.ports;
    (1..plan.ports).map(|step| frame::between(address(station, plan), address(next(step), plan), plan.len)).collect()
}

/// Sends broadcasts from all stations, and then a few frames to each, until these arrive where they belong and nowhere
/// else.
fn await_learned(lan: &mut Lan, plan: &Plan, stop: &Stop) -> Result<()> {
    let others = u64::from(plan.ports) - 1;
    let stream = |station, frames, count| Stream {
        from: station,
        load: Load::Socket,
        frames,
        macs: Macs::default(),
        rate_pps: Some(TEACH_PPS),
        time: TEACH_LIMIT,
        count: Some(count),
    };
    let mut counted = Vec::new();
    for _ in 0..TRIES {
        let hello = |station| vec![frame::between(address(station, plan), [0xff; 6], plan.len)];
        together(lan, plan, |station| stream(station, hello(station), 1), stop)?;
        let probe = |station| stream(station, to_all_others(station, plan), PROBES * others);
        let course = together(lan, plan, probe, stop)?;
        counted = (0..usize::from(plan.ports)).map(|number| course.received(number)).collect();
        if counted.iter().all(|frames| *frames == PROBES * others) {
            return Ok(());
        }
    }
    let why = format!("not all stations were learned: of {} frames each got {counted:?}", PROBES * others);
    Err(Error::Device { device: lan.kind().name(), why })
}

/// Sends one stream of every station and counts.
fn together(lan: &mut Lan, plan: &Plan, stream: impl Fn(u16) -> Stream, stop: &Stop) -> Result<Course> {
    let jobs = (0..plan.ports).map(|station| lan.job(&stream(station), stop)).collect::<Result<Vec<_>>>()?;
    lan.measure(Load::Socket, stop, || load::send_together(jobs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_station_sends_to_every_other_and_begins_with_the_next() {
        let plan = Plan { ports: 5, len: 60, rate_pps: None, time: Duration::ZERO };
        let mut pairs = HashSet::new();
        for station in 0..5 {
            let frames = to_all_others(station, &plan);
            assert_eq!(frames[0][..6], address((station + 1) % 5, &plan));
            for frame in &frames {
                assert_eq!(frame[6..12], address(station, &plan));
                assert_ne!(frame[..6], frame[6..12]);
                pairs.insert(frame[..12].to_vec());
            }
        }
        assert_eq!(pairs.len(), 5 * 4);
    }

    #[test]
    fn loss_is_what_is_missing() {
        assert_eq!((loss(400, 300), loss(400, 400), loss(0, 0), loss(4, 5)), (0.25, 0.0, 0.0, 0.0));
    }
}
