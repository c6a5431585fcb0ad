//! Learning of addresses (RFC 2889 sections 5.7 and 5.8): station A sends one frame from each of N addresses to B, then
//! B sends one frame to each of these. What the device has not learned it floods, and station C, to which nobody sends,
//! sees it. The largest N of which nothing is flooded is the capacity; the highest rate at which N addresses can be
//! offered so that nothing is flooded afterwards is the learning rate. Every attempt has a fresh device. Main thread.

use crate::device::{Kind, Settings};
use crate::error::Result;
use crate::lan::{Lan, Stream};
use crate::load::address::{Choice, Group};
use crate::load::{Load, Macs, frame};
use crate::rig::Needs;
use crate::search::bisect;
use crate::stop::Stop;
use serde::Serialize;
use std::time::Duration;

/// Addresses of the first attempt for the capacity; doubled until one fails.
const FIRST: u32 = 1024;
/// Attempts with the same values before they are given up.
const TRIES: usize = 2;
/// The search for the rate ends when its interval is this share of the first upper bound.
const PRECISION: f64 = 0.02;
/// Further attempts when some say nothing, see [`Verdict::Unusable`].
const UNUSABLE_MAX: usize = 4;
/// Share of its aim a generator must reach for an attempt that passed to speak for that rate. A few thousand frames
/// take milliseconds only, so one interruption costs percents; the search enters what was offered, not the aim.
const VOID_BELOW: f64 = 0.95;
/// Numbers of the stations.
const LEARN: u16 = 0;
const TEST: u16 = 1;
const MONITOR: usize = 2;

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Figure {
    /// The most addresses that are all learned, offered slowly.
    Capacity,
    /// The highest rate at which a number of addresses are all learned.
    Rate,
}

/// What to measure.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Addresses to learn for the rate.
    pub addresses: u32,
    /// Most addresses to try for the capacity.
    pub most: u32,
    /// The search for the capacity ends when its interval is this share of the lowest number that failed, or 1.
    pub precision: f64,
    /// Addresses the devices are configured for; `None` for their own defaults.
    pub room: Option<u32>,
    /// Kind of generator.
    pub load: Load,
    /// Frames per second of what is not searched for.
    pub slow_pps: f64,
}

/// One attempt, on a device of its own.
#[derive(Clone, Debug, Serialize)]
pub struct Attempt {
    /// Addresses offered.
    pub addresses: u32,
    /// Rate asked for; absent at full speed.
    pub aim_pps: Option<f64>,
    /// Rate at which they were offered.
    pub offered_pps: f64,
    /// Frames from them that reached B.
    pub crossed: u64,
    /// Frames to them that reached A.
    pub returned: u64,
    /// Frames to them that were flooded, as C saw.
    pub flooded: u64,
    /// Counters that contradict each other; an attempt with any says nothing about the device.
    pub faults: Vec<String>,
}

impl Attempt {
    /// Whether all addresses were learned, and could be reached.
    pub fn passed(&self) -> bool {
        self.faults.is_empty() && self.flooded == 0 && self.returned == u64::from(self.addresses)
    }

    /// What it says for a search.
    fn verdict(&self, figure: Figure) -> Verdict {
        // What never came to the device was not to be learned. At a rate, it was.
        let excused = match figure {
            Figure::Capacity => u64::from(self.addresses).saturating_sub(self.crossed),
            Figure::Rate => 0,
        };
        match figure {
            _ if !self.faults.is_empty() => Verdict::Unusable,
            Figure::Capacity if self.passed() => Verdict::Passed,
            Figure::Rate if self.passed() && self.on_time() => Verdict::Passed,
            _ if self.flooded > excused => Verdict::Failed,
            _ => Verdict::Unusable,
        }
    }

    /// Whether the generator kept the rate that was asked for.
    fn on_time(&self) -> bool {
        self.aim_pps.is_none_or(|aim| self.offered_pps >= aim * VOID_BELOW)
    }
}

/// What an attempt says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// All was learned.
    Passed,
    /// Something was not.
    Failed,
    /// Neither: counters disagreed, frames were lost elsewhere, or the generator missed its aim.
    Unusable,
}

/// What a search found.
#[derive(Clone, Debug, Serialize)]
pub struct Found {
    /// Device under test.
    pub device: Kind,
    /// What was looked for.
    pub figure: Figure,
    /// Addresses, or addresses per second; 0 when no attempt passed.
    pub value: f64,
    /// Whether nothing that was tried failed: the device may do more.
    pub at_least: bool,
    /// All attempts, in order.
    pub attempts: Vec<Attempt>,
}

impl Found {
    /// Attempts that say nothing about the device: counters disagreed, frames to the addresses were lost, or the
    /// generator missed the rate to be tried.
    pub fn unusable(&self) -> usize {
        self.attempts.iter().filter(|attempt| attempt.verdict(self.figure) == Verdict::Unusable).count()
    }

    /// What the attempt that failed with the fewest addresses, or at the lowest rate, missed.
    pub fn failure(&self) -> Option<&Attempt> {
        let failed = self.attempts.iter().filter(|attempt| attempt.verdict(self.figure) == Verdict::Failed);
        failed.min_by(|a, b| a.addresses.cmp(&b.addresses).then(a.offered_pps.total_cmp(&b.offered_pps)))
    }
}

/// Searches for one figure of a device.
///
/// # Errors
/// Those of [`Lan::make`] and [`Lan::offer`].
pub fn run(kind: Kind, figure: Figure, plan: &Plan, settings: &Settings, stop: &Stop) -> Result<Found> {
    let mut attempts: Vec<Attempt> = Vec::new();
    let mut attempt = |addresses, aim_pps| -> Result<Attempt> {
        let made = try_once(kind, addresses, aim_pps, plan, settings, stop)?;
        attempts.push(made.clone());
        Ok(made)
    };
    let (value, at_least) = match figure {
        Figure::Capacity => {
            let mut passes = |n| Ok(persist(figure, || attempt(n, Some(plan.slow_pps)))?.is_some());
            let found = capacity(plan.most, plan.precision, &mut passes)?;
            (f64::from(found), found == plan.most)
        }
        Figure::Rate => {
            let at_once = attempt(plan.addresses, None)?;
            if at_once.passed() {
                (at_once.offered_pps, true)
            } else {
                (rate(at_once.offered_pps, plan.load.rate_min(), |aim| attempt(plan.addresses, Some(aim)))?, false)
            }
        }
    };
    Ok(Found { device: kind, figure, value, at_least, attempts })
}

/// Makes attempts until one passes, [`TRIES`] have failed or [`UNUSABLE_MAX`] say nothing; the one that passed.
fn persist(figure: Figure, mut attempt: impl FnMut() -> Result<Attempt>) -> Result<Option<Attempt>> {
    let (mut failed, mut unusable) = (0, 0);
    while failed < TRIES && unusable < UNUSABLE_MAX {
        let made = attempt()?;
        match made.verdict(figure) {
            Verdict::Passed => return Ok(Some(made)),
            Verdict::Failed => failed += 1,
            Verdict::Unusable => unusable += 1,
        }
    }
    Ok(None)
}

/// The highest rate below `top` at which an attempt passes, by what was then offered; 0 when none does.
fn rate(top: f64, rate_min: f64, mut attempt: impl FnMut(f64) -> Result<Attempt>) -> Result<f64> {
    let mut highest = 0.0;
    bisect(top, PRECISION, |aim| {
        if aim < rate_min {
            return Ok(false);
        }
        let passed = persist(Figure::Rate, || attempt(aim))?;
        // An aim that passes is above all that passed before.
        highest = passed.as_ref().map_or(highest, |passed| passed.offered_pps);
        Ok(passed.is_some())
    })?;
    Ok(highest)
}

/// The largest number up to `most` that `passes`: doubled until one fails, then bisected; 0 when none does.
fn capacity(most: u32, precision: f64, mut passes: impl FnMut(u32) -> Result<bool>) -> Result<u32> {
    let (mut low, mut high) = (0, FIRST.min(most));
    while passes(high)? {
        if high == most {
            return Ok(most);
        }
        (low, high) = (high, high.saturating_mul(2).min(most));
    }
    while high - low > ((f64::from(high) * precision) as u32).max(1) {
        let middle = low + (high - low) / 2;
        if passes(middle)? { low = middle } else { high = middle }
    }
    Ok(low)
}

/// Has a fresh device learn, and looks at what it floods.
fn try_once(
    kind: Kind,
    addresses: u32,
    aim_pps: Option<f64>,
    plan: &Plan,
    settings: &Settings,
    stop: &Stop,
) -> Result<Attempt> {
    let needs = Needs { stations: 3, addresses: plan.room };
    let mut lan = Lan::make(kind, needs, settings, stop)?;
    let group = Choice::InTurn(Group { id: b'L', count: addresses });
    let b_mac = lan.stations()[usize::from(TEST)].mac()?;
    let stream = |from, load, frame, macs, rate_pps: Option<f64>| Stream {
        from,
        load,
        frames: vec![frame],
        macs,
        rate_pps,
        // It is the count that ends it.
        time: Duration::from_secs_f64(10.0 + 2.0 * f64::from(addresses) / rate_pps.unwrap_or(1e4)),
        count: Some(u64::from(addresses)),
    };
    let learn = Macs { source: group, ..Macs::default() };
    let offer = stream(LEARN, plan.load, frame::build(b_mac, frame::MIN_LEN), learn, aim_pps);
    let learned = lan.offer(&offer, stop)?;
    let test = Macs { destination: group, ..Macs::default() };
    let back = frame::between(b_mac, [0; 6], frame::MIN_LEN);
    let tested = lan.offer(&stream(TEST, Load::Socket, back, test, Some(plan.slow_pps)), stop)?;

    let offered_pps = learned.rate(learned.sent.frames);
    let mut faults: Vec<String> = learned.faults().into_iter().chain(tested.faults()).collect();
    for sent in [learned.sent.frames, tested.sent.frames] {
        if sent != u64::from(addresses) {
            faults.push(format!("{sent} frames were sent, not {addresses}"));
        }
    }
    Ok(Attempt {
        addresses,
        aim_pps,
        offered_pps,
        crossed: learned.received(usize::from(TEST)),
        returned: tested.received(usize::from(LEARN)),
        flooded: tested.received(MONITOR),
        faults,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_capacity_is_found_exactly_or_to_its_precision() {
        for limit in [0, 1, 1023, 1024, 1025, 8189, 65_533, 99_999] {
            assert_eq!(capacity(100_000, 0.0, |n| Ok(n <= limit)).unwrap(), limit);
            let about = capacity(100_000, 0.01, |n| Ok(n <= limit)).unwrap();
            assert!(about <= limit && f64::from(limit - about) <= f64::from(limit) * 0.011 + 1.0, "{about} of {limit}");
        }
    }

    #[test]
    fn a_device_that_never_fails_is_not_asked_for_more_than_the_most() {
        let mut asked = Vec::new();
        let found = capacity(5000, 0.0, |n| {
            asked.push(n);
            Ok(true)
        });
        assert_eq!((found.unwrap(), asked), (5000, vec![1024, 2048, 4096, 5000]));
        assert_eq!(capacity(10, 0.0, |_| Ok(true)).unwrap(), 10);
    }

    fn attempt(addresses: u32, flooded: u64, returned: u64) -> Attempt {
        let aim_pps = Some(1e4);
        Attempt { addresses, aim_pps, offered_pps: 1e4, crossed: returned, returned, flooded, faults: Vec::new() }
    }

    #[test]
    fn a_flooded_a_lost_and_an_unusable_frame_fail_an_attempt() {
        assert!(attempt(10, 0, 10).passed());
        assert!(!attempt(10, 1, 10).passed() && !attempt(10, 0, 9).passed());
        assert!(!Attempt { faults: vec!["x".into()], ..attempt(10, 0, 10) }.passed());
    }

    #[test]
    fn frames_lost_on_the_way_are_no_addresses_forgotten() {
        let lost_before = Attempt { crossed: 9, ..attempt(10, 1, 10) };
        assert_eq!(lost_before.verdict(Figure::Capacity), Verdict::Unusable);
        assert_eq!(lost_before.verdict(Figure::Rate), Verdict::Failed);
        assert_eq!(Attempt { flooded: 2, ..lost_before }.verdict(Figure::Capacity), Verdict::Failed);
        let lost_after = Attempt { crossed: 10, ..attempt(10, 0, 9) };
        assert_eq!([Figure::Capacity, Figure::Rate].map(|f| lost_after.verdict(f)), [Verdict::Unusable; 2]);
    }

    #[test]
    fn one_failure_and_some_late_attempts_do_not_decide() {
        let late = Attempt { offered_pps: 9e3, ..attempt(10, 0, 10) };
        let run = |series: &[Attempt]| {
            let mut left = series.iter().cloned();
            let found = persist(Figure::Rate, || Ok(left.next().expect("no more attempts than these")));
            (found.unwrap().is_some(), left.len())
        };
        let (good, bad) = (attempt(10, 0, 10), attempt(10, 1, 10));
        assert_eq!(run(&[bad.clone(), late.clone(), good.clone(), good.clone()]), (true, 1));
        assert_eq!(run(&[bad.clone(), late.clone(), bad.clone(), good.clone()]), (false, 1));
        assert_eq!(run(&[late.clone(), late.clone(), late.clone(), late, good]), (false, 1));
    }

    #[test]
    fn the_rate_is_what_was_offered_when_an_attempt_passed() {
        let make = |aim: f64| {
            let offered_pps = aim * 0.97;
            Ok(Attempt { aim_pps: Some(aim), offered_pps, ..attempt(10, u64::from(offered_pps > 3e5), 10) })
        };
        let found = rate(1e6, 0.0, make).unwrap();
        assert!((2.7e5..=3e5).contains(&found), "{found}");
        assert_eq!(rate(1e6, 2e6, make).unwrap(), 0.0);
    }

    #[test]
    fn the_smallest_failure_is_told() {
        let unusable = Attempt { faults: vec!["x".into()], ..attempt(8, 1, 8) };
        let attempts = vec![attempt(8, 0, 8), attempt(16, 5, 16), attempt(12, 2, 12), unusable];
        let found = Found { device: Kind::Ovs, figure: Figure::Capacity, value: 8.0, at_least: false, attempts };
        assert_eq!((found.failure().map(|a| (a.addresses, a.flooded)), found.unusable()), (Some((12, 2)), 1));
    }
}
