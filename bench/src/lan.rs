//! A device that joins any number of stations, with a sink at every one of them: what the tests of switching stand on.
//! Main thread; generators have threads of their own.

use crate::device::{Kind, Running, Settings};
use crate::error::Result;
use crate::load::{self, Job, Load, Macs, Sent};
use crate::netns;
use crate::rig::{Needs, Rig, Station};
use crate::sink::{self, Marks, Reading, Sequence, Sink};
use crate::stop::Stop;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// Pause between the device's readiness and the first frame.
const REST: Duration = Duration::from_millis(300);
/// Share of its core that a generator at full speed must have had.
const UNDISTURBED: f64 = 0.85;

/// A started device with a sink at every station.
#[derive(Debug)]
pub struct Lan {
    kind: Kind,
    // The device ends before the interfaces under it go.
    running: Running,
    sinks: Vec<Sink>,
    rig: Rig,
    traffic_core: usize,
}

/// Frames of one station.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Number of the sending station.
    pub from: u16,
    /// Kind of generator.
    pub load: Load,
    /// See [`Job::frames`].
    pub frames: Vec<Vec<u8>>,
    /// See [`Job::macs`].
    pub macs: Macs,
    /// Frames per second; `None` for as many as possible.
    pub rate_pps: Option<f64>,
    /// Length of the load; no more than a limit when there is a count.
    pub time: Duration,
    /// Number of frames, when it is not the time that ends the load.
    pub count: Option<u64>,
}

/// What was sent, and what every station's sink says of it, by number of the station.
#[derive(Clone, Debug)]
pub struct Course {
    /// What the generator did.
    pub sent: Sent,
    readings: Vec<(Reading, Reading)>,
    interfaces: Vec<&'static str>,
}

impl Lan {
    /// Builds a rig, starts the device, installs the sinks.
    ///
    /// # Errors
    /// Those of [`Rig::build_for`], [`Kind::start`] and [`Sink::install`].
    pub fn make(kind: Kind, needs: Needs, settings: &Settings, stop: &Stop) -> Result<Self> {
        let rig = Rig::build_for(kind.shape(settings), needs)?;
        let running = kind.start(&rig, settings, stop)?;
        let sinks = rig.stations().map(|station| Sink::install(&station, Marks::Magic)).collect::<Result<_>>()?;
        stop.sleep(REST)?;
        Ok(Lan { kind, running, sinks, rig, traffic_core: settings.traffic_core })
    }

    /// The device under test.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its stations, A and B first.
    pub fn stations(&self) -> Vec<Station> {
        self.rig.stations().collect()
    }

    /// Offers frames from one station and counts at all of them.
    ///
    /// # Errors
    /// [`crate::error::Error::Generator`], [`crate::error::Error::Device`] when the device died meanwhile, and others.
    pub fn offer(&mut self, stream: &Stream, stop: &Stop) -> Result<Course> {
        let job = self.job(stream, stop)?;
        let load = stream.load;
        self.measure(load, stop, || netns::join(load::start(load, job)?))
    }

    /// Counts at all stations what `send` makes arrive, by a generator of this kind.
    ///
    /// # Errors
    /// Those of `send`; [`crate::error::Error::Device`] when the device died meanwhile, and others.
    pub fn measure(&mut self, load: Load, stop: &Stop, send: impl FnOnce() -> Result<Sent>) -> Result<Course> {
        let before = self
            .sinks
            .iter()
            .map(|sink| sink.begin(load.clock(), load.first_sequence()))
            .collect::<Result<Vec<_>>>()?;
        let sent = send()?;
        stop.check()?;
        let after = sink::settled(&self.sinks, stop)?;
        self.running.check()?;
        let interfaces = self.rig.stations().map(|station| station.interface).collect();
        Ok(Course { sent, readings: before.into_iter().zip(after).collect(), interfaces })
    }

    /// The job of a generator at a station.
    ///
    /// # Errors
    /// Those of [`Station::index`].
    pub fn job(&self, stream: &Stream, stop: &Stop) -> Result<Job> {
        let station = self.rig.station(stream.from);
        Ok(Job {
            index: station.index()?,
            netns: station.netns,
            core: self.traffic_core,
            interface: station.interface,
            frames: stream.frames.clone(),
            rate_pps: stream.rate_pps,
            macs: stream.macs,
            time: stream.time,
            count: stream.count,
            stop: stop.clone(),
            sent: Arc::new(AtomicU64::new(0)),
        })
    }
}

impl Course {
    /// Frames that a station received, each as often as it came.
    pub fn received(&self, station: usize) -> u64 {
        self.readings.get(station).map_or(0, |(_, after)| after.tally.received)
    }

    /// What the sequence numbers of one sender say at a station, and what does not fit together there.
    pub fn sequence(&self, station: usize) -> (Sequence, Vec<String>) {
        let reading = self.readings.get(station);
        reading.map_or_else(Default::default, |(before, after)| Sequence::check(self.sent.frames, before, after))
    }

    /// Stations whose interface disagrees with their sink, one line each.
    pub fn faults(&self) -> Vec<String> {
        let each = self.readings.iter().zip(&self.interfaces).enumerate();
        let fault = |(number, ((before, after), interface)): (usize, (&(Reading, Reading), &&'static str))| {
            Some(format!("station {number}: {}", after.disagreement(before, interface)?))
        };
        each.filter_map(fault).collect()
    }

    /// A number of frames of this course as a rate, frames per second.
    pub fn rate(&self, frames: u64) -> f64 {
        let seconds = self.sent.time.as_secs_f64();
        if seconds > 0.0 { frames as f64 / seconds } else { 0.0 }
    }
}

/// A remark for a trial at full speed whose generator did not have its core to itself; empty otherwise.
pub fn disturbed(full_speed: bool, generator_cpu: f64) -> &'static str {
    if full_speed && generator_cpu < UNDISTURBED { " DISTURBED: generator shared its core" } else { "" }
}
