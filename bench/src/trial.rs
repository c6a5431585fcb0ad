//! One rate measurement: a device on fresh interfaces, one load, the frames offered and the frames delivered.
//! Main thread; the generator and the per-second sampler have threads of their own.

use crate::device::{Kind, Running, Settings};
use crate::error::Result;
use crate::latency::Latency;
use crate::load::{self, Job, Load, Macs, Sent, Size, frame};
use crate::netns;
use crate::rig::{A_IF, B_IF, Needs, Rig};
use crate::sink::{Reading, Sequence, Sink, interface_frames};
use crate::stop::Stop;
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Share of its aim a paced generator must reach, or the trial says nothing.
const VOID_BELOW: f64 = 0.99;
/// Pause between the device's readiness and the load.
const REST: Duration = Duration::from_millis(300);

/// A load to offer.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    /// Kind of generator.
    pub load: Load,
    /// Frames per second; `None` for as many as possible.
    pub rate_pps: Option<f64>,
    /// Length of the load.
    pub time: Duration,
    /// Frame lengths.
    pub size: Size,
}

/// One second (or the rest of one) of a trial.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Second {
    /// Offered frames per second.
    pub offered_pps: f64,
    /// Delivered frames per second, by b0's interface counter.
    pub delivered_pps: f64,
}

/// What one trial measured.
#[derive(Clone, Debug, Serialize)]
pub struct Trial {
    /// Device under test.
    pub device: Kind,
    /// Kind of load.
    pub load: Load,
    /// Frame lengths.
    pub size: Size,
    /// Rate asked for; absent at full speed.
    pub aim_pps: Option<f64>,
    /// Frames the generator gave to the kernel.
    pub offered_frames: u64,
    /// Different frames counted at the sink: duplicates count once.
    pub delivered_frames: u64,
    /// Bytes of all generated frames that arrived, without FCS.
    pub delivered_bytes: u64,
    /// How long the generator sent.
    pub seconds: f64,
    /// Offered frames per second.
    pub offered_pps: f64,
    /// Delivered frames per second.
    pub delivered_pps: f64,
    /// Delivered bits per second, Ethernet header included, FCS, preamble and gap not.
    pub delivered_bps: f64,
    /// Share of offered frames not delivered, by sequence number.
    pub loss: f64,
    /// What the sequence numbers say.
    pub sequence: Sequence,
    /// One-way latency from the stamp (once per burst of the socket load, so it holds the wait for the rest of the
    /// burst too) to the sink; absent when nothing arrived.
    pub latency: Option<Latency>,
    /// Share of its core the generator had; well below 1 other programs disturbed the trial.
    pub generator_cpu: f64,
    /// Whether a paced generator missed its aim, so that the trial must not be used.
    pub void: bool,
    /// Counters that contradict each other; a trial with any must not be used.
    pub faults: Vec<String>,
    /// The course of the trial.
    pub per_second: Vec<Second>,
}

/// A started device with a sink behind it.
#[derive(Debug)]
pub struct Bed {
    kind: Kind,
    // The device ends before the interfaces under it go.
    running: Running,
    sink: Sink,
    rig: Rig,
    traffic_core: usize,
}

impl Bed {
    /// Builds a rig, starts the device as it comes, installs the sink.
    ///
    /// # Errors
    /// As [`Bed::make_for`].
    pub fn make(kind: Kind, settings: &Settings, stop: &Stop) -> Result<Self> {
        Self::make_for(kind, Needs::default(), settings, stop)
    }

    /// Builds a rig, starts the device, installs the sink.
    ///
    /// # Errors
    /// Those of [`Rig::build`], [`Kind::start`] and [`Sink::install`].
    pub fn make_for(kind: Kind, needs: Needs, settings: &Settings, stop: &Stop) -> Result<Self> {
        let rig = Rig::build_for(kind.shape(settings), needs)?;
        let running = kind.start(&rig, settings, stop)?;
        let sink = Sink::install(&rig.station(1), kind.marks())?;
        stop.sleep(REST)?;
        Ok(Bed { kind, running, sink, rig, traffic_core: settings.traffic_core })
    }

    /// The device under test.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What lies under the device.
    pub fn rig(&self) -> &Rig {
        &self.rig
    }

    /// Sends each of these frames from B at `rate_pps`, the first ones perhaps twice, and waits until they are gone.
    ///
    /// # Errors
    /// [`crate::error::Error::Generator`], [`crate::error::Error::Device`] when the device died meanwhile, and others.
    pub fn send_from_b(&mut self, frames: Vec<Vec<u8>>, rate_pps: f64, stop: &Stop) -> Result<()> {
        // A little longer than needed: a generator that is late at the end must not leave out the last frames.
        let time = Duration::from_secs_f64(frames.len() as f64 / rate_pps * 1.05) + REST;
        let offer = Offer { load: Load::Socket, rate_pps: Some(rate_pps), time, size: Size::Fixed(frame::MIN_LEN) };
        let mut job = self.job(offer, stop)?;
        (job.netns, job.interface, job.frames) = (self.rig.b(), B_IF, frames);
        netns::join(load::start(offer.load, job)?)?;
        stop.check()?;
        self.running.check()
    }

    /// Offers a load and counts.
    ///
    /// # Errors
    /// [`crate::error::Error::Generator`], [`crate::error::Error::Device`] when the device died meanwhile, and others.
    pub fn measure(&mut self, offer: Offer, stop: &Stop) -> Result<Trial> {
        let job = self.job(offer, stop)?;
        let before = self.sink.begin(offer.load.clock(), offer.load.first_sequence())?;
        let sampler = Sampler::start(&self.rig, Arc::clone(&job.sent))?;
        let generator = load::start(offer.load, job)?;
        let sent = netns::join(generator);
        let per_second = sampler.finish()?;
        let sent = sent?;
        stop.check()?;
        let after = self.sink.settled(stop)?;
        self.running.check()?;
        Ok(Trial::new(self.kind, offer, sent, (&before, &after), per_second))
    }

    fn job(&self, offer: Offer, stop: &Stop) -> Result<Job> {
        let destination = self.rig.first_hop_mac()?;
        Ok(Job {
            netns: self.rig.a(),
            core: self.traffic_core,
            interface: A_IF,
            index: self.rig.a_index()?,
            frames: offer.size.pattern().into_iter().map(|len| frame::build(destination, len)).collect(),
            rate_pps: offer.rate_pps,
            macs: Macs::default(),
            time: offer.time,
            count: None,
            stop: stop.clone(),
            sent: Arc::new(AtomicU64::new(0)),
        })
    }
}

impl Trial {
    pub(crate) fn new(
        device: Kind,
        offer: Offer,
        sent: Sent,
        (before, after): (&Reading, &Reading),
        per_second: Vec<Second>,
    ) -> Self {
        let seconds = sent.time.as_secs_f64();
        let rate = |frames: u64| if seconds > 0.0 { frames as f64 / seconds } else { 0.0 };
        let (sequence, faults) = Sequence::check(sent.frames, before, after);
        Trial {
            device,
            load: offer.load,
            size: offer.size,
            aim_pps: offer.rate_pps,
            offered_frames: sent.frames,
            delivered_frames: sequence.unique,
            delivered_bytes: after.tally.bytes,
            seconds,
            offered_pps: rate(sent.frames),
            delivered_pps: rate(sequence.unique),
            delivered_bps: rate(after.tally.bytes * 8),
            loss: if sent.frames == 0 { 0.0 } else { sequence.lost() as f64 / sent.frames as f64 },
            sequence,
            latency: after.tally.latency.summary(),
            generator_cpu: sent.cpu,
            void: offer.rate_pps.is_some_and(|aim| rate(sent.frames) < aim * VOID_BELOW),
            faults,
            per_second,
        }
    }

    /// Whether its figures may be used.
    pub fn counts(&self) -> bool {
        !self.void && self.faults.is_empty()
    }
}

/// Makes a bed, measures once, removes it.
///
/// # Errors
/// Those of [`Bed::make`] and [`Bed::measure`].
pub fn run(kind: Kind, offer: Offer, settings: &Settings, stop: &Stop) -> Result<Trial> {
    Bed::make(kind, settings, stop)?.measure(offer, stop)
}

/// Reads both counters once a second, from inside namespace B.
struct Sampler {
    thread: JoinHandle<Result<Vec<Second>>>,
    over: Arc<AtomicBool>,
}

impl Sampler {
    fn start(rig: &Rig, sent: Arc<AtomicU64>) -> Result<Self> {
        let over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&over);
        let thread = netns::spawn(&rig.b(), None, move || sample(&sent, &seen))?;
        Ok(Sampler { thread, over })
    }

    fn finish(self) -> Result<Vec<Second>> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        netns::join(self.thread)
    }
}

fn sample(sent: &AtomicU64, over: &AtomicBool) -> Result<Vec<Second>> {
    let read = || Ok((Instant::now(), sent.load(Ordering::Relaxed), interface_frames(B_IF)?));
    let (mut seconds, mut last) = (Vec::new(), read()?);
    let mut next = last.0 + Duration::from_secs(1);
    loop {
        while !over.load(Ordering::Relaxed) && Instant::now() < next {
            std::thread::park_timeout(next.saturating_duration_since(Instant::now()));
        }
        let ended = over.load(Ordering::Relaxed);
        let now = read()?;
        let time = (now.0 - last.0).as_secs_f64();
        // A remainder too short for a rate is left out.
        if time > 0.2 {
            let rate = |from: u64, to: u64| to.saturating_sub(from) as f64 / time;
            seconds.push(Second { offered_pps: rate(last.1, now.1), delivered_pps: rate(last.2, now.2) });
        }
        if ended {
            return Ok(seconds);
        }
        last = now;
        next += Duration::from_secs(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::Tally;

    fn offer(rate_pps: Option<f64>) -> Offer {
        Offer { load: Load::Socket, rate_pps, time: Duration::from_secs(2), size: Size::Fixed(60) }
    }

    fn trial(rate_pps: Option<f64>, sent: u64, delivered: u64) -> Trial {
        let tally = Tally { received: delivered, next: delivered as u32, ..Tally::default() };
        let before = Reading { tally: Tally::default(), interface: 7 };
        let after = Reading { tally, interface: 7 + delivered };
        let sent = Sent { frames: sent, time: Duration::from_secs(2), cpu: 1.0 };
        Trial::new(Kind::Bridge, offer(rate_pps), sent, (&before, &after), Vec::new())
    }

    #[test]
    fn rates_and_loss_follow_from_the_counts() {
        let trial = trial(None, 2_000_000, 1_500_000);
        assert_eq!((trial.offered_pps, trial.delivered_pps, trial.loss), (1e6, 7.5e5, 0.25));
        assert!(trial.counts());
    }

    #[test]
    fn a_generator_that_missed_its_aim_voids_the_trial() {
        assert!(trial(Some(1e6), 1_970_000, 1_970_000).void);
        assert!(!trial(Some(1e6), 1_990_000, 1_990_000).void);
    }

    #[test]
    fn contradicting_counters_void_the_trial() {
        let trial = trial(None, 1_000_000, 1_500_000);
        assert!(!trial.void && !trial.counts(), "{:?}", trial.faults);
    }

    #[test]
    fn nothing_sent_is_no_division_by_zero() {
        let trial = trial(None, 0, 0);
        assert_eq!((trial.delivered_pps, trial.loss, trial.latency), (0.0, 0.0, None));
    }
}
