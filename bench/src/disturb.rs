//! Forwarding while an operator looks at the device or changes it: a paced load with nothing else going on, while the
//! stations are listed over and over, and while ports are added and removed. All three in turn on one start of a
//! device, with the same stations known. Main thread; the operator has a thread of its own.

use crate::crowd::Crowd;
use crate::device::operator::Operator;
use crate::device::{Kind, Settings};
use crate::error::{Error, Result};
use crate::load::{Load, Size, frame};
use crate::rig::Needs;
use crate::search::{self, Goal};
use crate::stop::Stop;
use crate::trial::{Bed, Offer, Trial};
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// First bytes of the stations' addresses, and the same as devices print them. No other address of a rig begins so.
const STATION: [u8; 3] = [0x06, 0x53, 0x57];
const STATION_TEXT: &str = "06:53:57:";
/// Most stations: what the other three bytes tell apart.
pub const ENTRIES_MAX: u32 = 1 << 20;
/// Frames per second at which stations make themselves known, and how often they try.
const FILL_PPS: f64 = 50_000.0;
const FILL_TRIES: u32 = 5;
/// Ports that come and go, one after the other.
const PORTS: usize = 4;

/// What goes on beside the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Disturbance {
    /// Nothing.
    None,
    /// The stations are listed over and over.
    Dumps,
    /// Ports are added and removed.
    Ports,
}

impl Disturbance {
    /// All, in the order of a first round.
    pub const ALL: [Self; 3] = [Self::None, Self::Dumps, Self::Ports];

    /// Name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "undisturbed",
            Self::Dumps => "FDB dumped",
            Self::Ports => "ports changed",
        }
    }
}

/// What rate to offer.
#[derive(Clone, Copy, Debug)]
pub enum Rate {
    /// This many frames per second.
    Fixed(f64),
    /// This share of what the search finds.
    Share(f64, Goal),
}

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Kind of generator.
    pub load: Load,
    /// Frame lengths.
    pub size: Size,
    /// Frames per second.
    pub rate: Rate,
    /// Stations the device must know and list, up to [`ENTRIES_MAX`].
    pub entries: u32,
    /// Ports added and removed per second.
    pub ports_per_second: f64,
    /// How often all disturbances take their turn.
    pub rounds: u16,
    /// Length of each trial.
    pub time: Duration,
    /// Core of the operator's programs; any, when none is given.
    pub core: Option<usize>,
}

/// What the operator did during a trial.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Actions {
    /// Lists taken, or ports added and removed.
    pub done: u32,
    /// Those of a second.
    pub per_second: f64,
    /// Fewest stations that a list had; absent when none was taken.
    pub listed_min: Option<usize>,
    /// What failed first, if anything did.
    pub failure: Option<String>,
}

/// One trial.
#[derive(Clone, Debug, Serialize)]
pub struct Phase {
    /// Which turn.
    pub round: u16,
    /// What went on.
    pub disturbance: Disturbance,
    /// How often.
    pub actions: Actions,
    /// What was forwarded meanwhile.
    pub trial: Trial,
}

/// All trials on one start of a device.
#[derive(Clone, Debug, Serialize)]
pub struct Series {
    /// Device under test.
    pub device: Kind,
    /// Kind of generator.
    pub load: Load,
    /// Frame lengths.
    pub size: Size,
    /// What the search found, frames per second; absent when the rate was given.
    pub ndr_pps: Option<f64>,
    /// Rate asked for, frames per second.
    pub rate_pps: f64,
    /// The trials.
    pub phases: Vec<Phase>,
}

impl Phase {
    /// Whether its figures may be used. A generator that missed its aim is no obstacle: on few cores the operator's
    /// programs take time from it, and what it did offer is part of the result.
    pub fn counts(&self) -> bool {
        self.trial.faults.is_empty() && self.actions.failure.is_none()
    }
}

impl Series {
    /// For every round the ratio of a figure under a disturbance to the same undisturbed; rounds in which either does
    /// not count, or the undisturbed figure is zero, are left out.
    pub fn ratios(&self, disturbance: Disturbance, figure: impl Fn(&Trial) -> f64) -> Vec<f64> {
        let of = |round: u16, wanted: Disturbance| {
            let phase = self.phases.iter().find(|p| (p.round, p.disturbance) == (round, wanted) && p.counts())?;
            Some(figure(&phase.trial))
        };
        let rounds = self.phases.iter().map(|p| p.round).max().map_or(0, |last| last + 1);
        let ratio = |round| Some((of(round, disturbance)?, of(round, Disturbance::None).filter(|base| *base > 0.0)?));
        (0..rounds).filter_map(ratio).map(|(under, base)| under / base).collect()
    }
}

/// Makes a bed, finds the rate, fills the table, measures.
///
/// # Errors
/// Those of [`Bed::make`], [`Bed::measure`], [`Crowd::build`] and [`Operator`]; [`Error::NoRate`] when the search finds
/// none; [`Error::Device`] when the device does not list its stations.
pub fn run(kind: Kind, plan: Plan, settings: &Settings, stop: &Stop) -> Result<Series> {
    Operator::available(kind, settings)?;
    // Twice the room: a table with buckets may refuse single addresses before it is full.
    let needs = Needs { addresses: Some(plan.entries.saturating_mul(2).min(ENTRIES_MAX)), ..Needs::default() };
    let mut bed = Bed::make_for(kind, needs, settings, stop)?;
    let crowd = Crowd::build(bed.rig(), PORTS)?;
    let operator = Operator::of(kind, bed.rig(), settings)?.on_core(plan.core);
    let (rate_pps, ndr_pps) = match plan.rate {
        Rate::Fixed(rate_pps) => (rate_pps, None),
        Rate::Share(share, goal) => {
            let found = search::on(&mut bed, goal, stop)?.rate_pps;
            (found * share, Some(found))
        }
    };
    if rate_pps <= 0.0 {
        return Err(Error::NoRate { device: kind.name() });
    }
    let offer = Offer { load: plan.load, rate_pps: Some(rate_pps), time: plan.time, size: plan.size };
    let mut phases = Vec::new();
    for round in 0..plan.rounds {
        // Again in every round, because addresses that are not heard of are forgotten.
        fill(&mut bed, &operator, plan.entries, stop)?;
        for disturbance in order(round) {
            let agitator = Agitator::start(disturbance, &plan, &operator, crowd.names())?;
            let trial = bed.measure(offer, stop);
            let mut actions = agitator.finish();
            let listed = actions.listed_min.filter(|listed| *listed < plan.entries as usize);
            if let (Some(listed), None) = (listed, &actions.failure) {
                actions.failure = Some(format!("a list had {listed} of {} stations", plan.entries));
            }
            phases.push(Phase { round, disturbance, actions, trial: trial? });
        }
    }
    Ok(Series { device: kind, load: plan.load, size: plan.size, ndr_pps, rate_pps, phases })
}

/// The order of the trials of a round: each second one is reversed.
fn order(round: u16) -> [Disturbance; 3] {
    let mut order = Disturbance::ALL;
    if round % 2 == 1 {
        order.reverse();
    }
    order
}

/// Makes stations known until the device lists all of them.
fn fill(bed: &mut Bed, operator: &Operator, entries: u32, stop: &Stop) -> Result<()> {
    let destination = bed.rig().a_mac()?;
    let mut listed = 0;
    for _ in 0..FILL_TRIES {
        let frames = (0..entries).map(|number| announcement(destination, number)).collect();
        bed.send_from_b(frames, FILL_PPS, stop)?;
        listed = stations_in(&operator.stations()?);
        if listed >= entries as usize {
            return Ok(());
        }
    }
    let why = format!("it lists {listed} of {entries} stations that were heard {FILL_TRIES} times");
    Err(Error::Device { device: bed.kind().name(), why })
}

/// A frame of station `number` to A.
fn announcement(destination: [u8; 6], number: u32) -> Vec<u8> {
    let mut frame = frame::build(destination, frame::MIN_LEN);
    let [_, number @ ..] = number.to_be_bytes();
    frame[6..9].copy_from_slice(&STATION);
    frame[9..12].copy_from_slice(&number);
    frame
}

/// How many of the stations a device's list names.
fn stations_in(list: &str) -> usize {
    list.matches(STATION_TEXT).count()
}

/// The operator at work on a thread of its own.
struct Agitator {
    thread: JoinHandle<Actions>,
    over: Arc<AtomicBool>,
}

impl Agitator {
    fn start(disturbance: Disturbance, plan: &Plan, operator: &Operator, ports: &[String]) -> Result<Self> {
        let over = Arc::new(AtomicBool::new(false));
        let (operator, ports, seen) = (operator.clone(), ports.to_vec(), Arc::clone(&over));
        let interval = Duration::from_secs_f64(1.0 / plan.ports_per_second);
        let work = move || match disturbance {
            Disturbance::None => Actions::default(),
            Disturbance::Dumps => repeat(&seen, Duration::ZERO, |_| operator.stations().map(|l| Some(stations_in(&l)))),
            Disturbance::Ports => repeat(&seen, interval, |turn| {
                let port = &ports[turn % ports.len()..][..1];
                operator.add_ports(port)?;
                std::thread::sleep(interval / 2);
                operator.remove_port(&port[0]).map(|()| None)
            }),
        };
        let thread = std::thread::Builder::new().name("operator".into()).spawn(work);
        Ok(Agitator { thread: thread.map_err(|e| Error::io("start a thread", e))?, over })
    }

    fn finish(self) -> Actions {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// Acts until `over`, or until something fails, once every `interval`; when an action takes longer, the next one
/// follows at once. An action that was begun is ended.
fn repeat(over: &AtomicBool, interval: Duration, mut act: impl FnMut(usize) -> Result<Option<usize>>) -> Actions {
    let start = Instant::now();
    let mut actions = Actions::default();
    let mut due = start;
    while !over.load(Ordering::Relaxed) && actions.failure.is_none() {
        match act(actions.done as usize) {
            Ok(listed) => {
                actions.done += 1;
                actions.listed_min = listed.map(|n| actions.listed_min.map_or(n, |min| min.min(n)));
            }
            Err(e) => actions.failure = Some(e.to_string()),
        }
        due = (due + interval).max(Instant::now());
        while !over.load(Ordering::Relaxed) && Instant::now() < due {
            std::thread::sleep(due.saturating_duration_since(Instant::now()).min(Duration::from_millis(5)));
        }
    }
    actions.per_second = f64::from(actions.done) / start.elapsed().as_secs_f64().max(1e-9);
    actions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Sent;
    use crate::sink::{Reading, Tally};
    use std::collections::HashSet;

    fn phase(round: u16, disturbance: Disturbance, delivered: u64) -> Phase {
        let tally = Tally { received: delivered, next: delivered as u32, ..Tally::default() };
        let readings = (Reading { tally: Tally::default(), interface: 0 }, Reading { tally, interface: delivered });
        let sent = Sent { frames: 1000, time: Duration::from_secs(1), cpu: 1.0 };
        let offer = Offer { load: Load::Socket, rate_pps: None, time: Duration::from_secs(1), size: Size::Fixed(60) };
        let trial = Trial::new(Kind::Bridge, offer, sent, (&readings.0, &readings.1), Vec::new());
        Phase { round, disturbance, actions: Actions::default(), trial }
    }

    #[test]
    fn a_disturbed_trial_is_compared_with_the_undisturbed_one_of_its_round() {
        use Disturbance::{Dumps, None, Ports};
        let mut series = Series {
            device: Kind::Bridge,
            load: Load::Socket,
            size: Size::Fixed(60),
            ndr_pps: Option::None,
            rate_pps: 1000.0,
            phases: vec![
                phase(0, None, 1000),
                phase(0, Dumps, 500),
                phase(1, Ports, 200),
                phase(1, Dumps, 100),
                phase(1, None, 400),
                phase(2, Dumps, 100),
            ],
        };
        let ratios = |series: &Series, disturbance| series.ratios(disturbance, |t| t.delivered_pps);
        assert_eq!(ratios(&series, Dumps), [0.5, 0.25]);
        assert_eq!(ratios(&series, Ports), [0.5]);
        series.phases[1].actions.failure = Some("refused".into());
        assert_eq!(ratios(&series, Dumps), [0.25]);
    }

    #[test]
    fn every_second_round_is_reversed() {
        assert_eq!(order(0), Disturbance::ALL);
        assert_eq!(order(1)[0], Disturbance::Ports);
        assert_eq!(order(1)[2], Disturbance::None);
    }

    #[test]
    fn every_station_has_an_address_that_is_found_in_lists() {
        let destination = [2, 0, 0, 0, 0, 7];
        let all: HashSet<[u8; 6]> = (0..ENTRIES_MAX)
            .step_by(4099)
            .chain([1, 255, 256, 65_536])
            .map(|number| announcement(destination, number)[6..12].try_into().unwrap())
            .collect();
        assert_eq!(all.len(), (0..ENTRIES_MAX).step_by(4099).count() + 4);
        assert!(all.iter().all(|mac| mac[..3] == STATION && mac[0] & 1 == 0));
        let text = |mac: &[u8; 6]| mac.map(|byte| format!("{byte:02x}")).join(":");
        let list: String = all.iter().map(|mac| format!("{} dev sB master br0\n", text(mac))).collect();
        assert_eq!(stations_in(&format!("33:33:00:00:00:01 dev br0\n{list}02:53:57:42:00:01 dev sA\n")), all.len());
        assert_eq!(frame::build(destination, 60)[6..9], frame::SOURCE_MAC[..3]);
        assert_ne!(frame::SOURCE_MAC[..3], STATION);
    }

    #[test]
    fn actions_are_repeated_at_their_rate_until_told_or_failing() {
        let over = Arc::new(AtomicBool::new(false));
        let (mut lists, seen) = ([7, 3, 5].into_iter(), Arc::clone(&over));
        let actions = repeat(&over, Duration::from_millis(20), |turn| {
            seen.store(turn == 2, Ordering::Relaxed);
            Ok(lists.next())
        });
        assert_eq!((actions.done, actions.listed_min, actions.failure), (3, Some(3), None));
        assert!(actions.per_second > 0.0 && actions.per_second < 76.0, "{}", actions.per_second);
        over.store(false, Ordering::Relaxed);
        let failed = repeat(&over, Duration::ZERO, |_| Err(Error::Interrupted));
        assert_eq!((failed.done, failed.failure.as_deref()), (0, Some("interrupted")));
    }
}
