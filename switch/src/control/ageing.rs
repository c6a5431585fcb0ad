//! Removing many addresses from the FDB a slice at a time: old ones, and those a flush names.
//!
//! One cursor goes round the table while there is anything to remove; every job that is under way looks at each
//! slice, so that a hundred flushes cost one pass. No call takes longer than about [`BUDGET`]. Control thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::ids::{DomainId, PortId};
use crate::limits::{AGEING_SECONDS_DEFAULT, DOMAINS_MAX, FDB_SLICE_BUCKETS};
use crate::table::fdb::{Entry, Fdb, Kind};

/// Longest time one call spends, give or take a slice.
const BUDGET: Duration = Duration::from_millis(1);

/// Between two looks for old addresses: a sixtieth of the shortest ageing time, but between these. The packet path
/// treats an old address as forgotten anyway; the look frees its place.
const PERIOD_MIN: Duration = Duration::from_secs(1);
/// See [`PERIOD_MIN`].
const PERIOD_MAX: Duration = Duration::from_secs(5);
const PERIOD_PARTS: u32 = 60;

/// How a flush that somebody waits for stands.
#[derive(Default, Debug)]
pub struct Ticket {
    removed: AtomicU64,
    done: AtomicBool,
}

impl Ticket {
    /// Entries removed, once the flush is complete.
    pub fn result(&self) -> Option<u64> {
        self.done.load(Ordering::Acquire).then(|| self.removed.load(Ordering::Relaxed))
    }
}

/// What follows a flush.
#[derive(Clone, Debug)]
pub enum Then {
    /// Nothing.
    Nothing,
    /// Nothing refers to this port any more: its number is free.
    FreePort(PortId),
    /// The same of a domain.
    FreeDomain(DomainId),
    /// Somebody waits for it.
    Tell(Arc<Ticket>),
}

/// Addresses to remove, whatever their age.
pub struct Flush {
    /// Which.
    pub matches: Box<dyn Fn(&Entry) -> bool + Send>,
    /// Not before every worker uses this snapshot: an older one could still learn what is to go.
    pub after: u64,
    /// What follows.
    pub then: Then,
}

impl Flush {
    /// Learned addresses behind `port`.
    pub fn learned_on(port: PortId, after: u64) -> Flush {
        let matches = move |entry: &Entry| entry.port == port && entry.kind == Kind::Dynamic;
        Flush { matches: Box::new(matches), after, then: Then::Nothing }
    }
}

enum Work {
    Age,
    Flush(Flush),
}

/// A job and where it joined the round.
struct Job {
    work: Work,
    start: usize,
    removed: u64,
}

/// All removing.
pub struct Sweeper {
    waiting: Vec<Flush>,
    jobs: Vec<Job>,
    cursor: usize,
    /// Ageing time in seconds by domain number.
    ageing_s: Vec<u32>,
    /// Addresses removed for their age, by domain number.
    aged: Vec<u64>,
    period: Duration,
    next_look: Option<Instant>,
}

impl Default for Sweeper {
    fn default() -> Self {
        let ageing_s = vec![AGEING_SECONDS_DEFAULT; DOMAINS_MAX + 1];
        let (waiting, jobs, aged) = (Vec::new(), Vec::new(), vec![0; DOMAINS_MAX + 1]);
        Sweeper { waiting, jobs, cursor: 0, ageing_s, aged, period: PERIOD_MAX, next_look: None }
    }
}

impl Sweeper {
    /// Sets the ageing times, by domain.
    pub fn set_ageing(&mut self, domains: &[(DomainId, u32)]) {
        for &(domain, seconds) in domains {
            if let Some(slot) = self.ageing_s.get_mut(domain.index()) {
                *slot = seconds;
            }
        }
        let shortest = domains.iter().map(|(_, seconds)| *seconds).min().unwrap_or(AGEING_SECONDS_DEFAULT);
        self.period = (Duration::from_secs(u64::from(shortest)) / PERIOD_PARTS).clamp(PERIOD_MIN, PERIOD_MAX);
    }

    /// Addresses of a domain removed for their age so far.
    pub fn aged(&self, domain: DomainId) -> u64 {
        self.aged.get(domain.index()).copied().unwrap_or(0)
    }

    /// Counts a domain's addresses from zero: its number means another bridge.
    pub fn clear_aged(&mut self, domain: DomainId) {
        if let Some(aged) = self.aged.get_mut(domain.index()) {
            *aged = 0;
        }
    }

    /// Asks for a flush.
    pub fn flush(&mut self, flush: Flush) {
        self.waiting.push(flush);
    }

    /// Works for a moment at time `now` (second `now_s` of the switch's clock), with every worker at snapshot
    /// `settled` or later. Calls `then` for what follows completed flushes.
    pub fn turn(&mut self, fdb: &Fdb, now: Instant, now_s: u32, settled: u64, mut then: impl FnMut(Then)) {
        self.start_jobs(fdb, now, settled);
        let began = Instant::now();
        while !self.jobs.is_empty() && began.elapsed() < BUDGET {
            self.slice(fdb, now_s);
            let cursor = self.cursor;
            for job in self.jobs.extract_if(.., |job| job.start == cursor) {
                let Work::Flush(flush) = job.work else { continue };
                if let Then::Tell(ticket) = &flush.then {
                    ticket.removed.store(job.removed, Ordering::Relaxed);
                    ticket.done.store(true, Ordering::Release);
                }
                then(flush.then);
            }
        }
    }

    /// When to call [`Sweeper::turn`] again at the latest.
    pub fn due(&self, now: Instant) -> Instant {
        if self.jobs.is_empty() { self.next_look.unwrap_or(now) } else { now }
    }

    fn start_jobs(&mut self, fdb: &Fdb, now: Instant, settled: u64) {
        let start = self.cursor;
        for flush in self.waiting.extract_if(.., |flush| flush.after <= settled) {
            self.jobs.push(Job { work: Work::Flush(flush), start, removed: 0 });
        }
        if self.next_look.is_none_or(|at| now >= at) {
            self.next_look = Some(now + self.period);
            let ageing = self.jobs.iter().any(|job| matches!(job.work, Work::Age));
            if !ageing && fdb.dynamic_len() > 0 {
                self.jobs.push(Job { work: Work::Age, start, removed: 0 });
            }
        }
    }

    fn slice(&mut self, fdb: &Fdb, now_s: u32) {
        let (jobs, ageing_s, aged) = (&mut self.jobs, &self.ageing_s, &mut self.aged);
        let keep = |entry: &Entry| {
            let goes = |job: &Job| match &job.work {
                Work::Age => is_old(entry, now_s, ageing_s),
                Work::Flush(flush) => (flush.matches)(entry),
            };
            match jobs.iter_mut().find(|job| goes(job)) {
                Some(job) => {
                    job.removed += 1;
                    if matches!(job.work, Work::Age)
                        && let Some(aged) = aged.get_mut(entry.key.domain().index())
                    {
                        *aged += 1;
                    }
                    false
                }
                None => true,
            }
        };
        self.cursor = fdb.sweep(self.cursor, FDB_SLICE_BUCKETS, keep).next.unwrap_or(0);
    }
}

/// True for a learned address that was not seen for its domain's ageing time.
fn is_old(entry: &Entry, now_s: u32, ageing_s: &[u32]) -> bool {
    let ageing_s = ageing_s.get(entry.key.domain().index()).copied().unwrap_or(AGEING_SECONDS_DEFAULT);
    entry.kind == Kind::Dynamic && now_s.saturating_sub(entry.stamp_s) > ageing_s
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Mac;
    use crate::table::fdb::{LearnLimits, MacKey};

    fn key(domain: usize, station: u64) -> MacKey {
        MacKey::new(DomainId::new(domain).unwrap(), Mac::from_bits(0x0200_0000_0000 | station))
    }

    fn port(index: usize) -> PortId {
        PortId::new(index).unwrap()
    }

    fn run(sweeper: &mut Sweeper, fdb: &Fdb, now: Instant, now_s: u32, settled: u64) -> Vec<Then> {
        let mut followed = Vec::new();
        for _ in 0..10_000 {
            sweeper.turn(fdb, now, now_s, settled, |then| followed.push(then));
            if sweeper.jobs.is_empty() {
                return followed;
            }
        }
        panic!("the sweep does not end");
    }

    #[test]
    fn old_addresses_go_after_the_time_of_their_domain() {
        let fdb = Fdb::new(65_536, 1);
        let mut sweeper = Sweeper::default();
        sweeper.set_ageing(&[(DomainId::new(1).unwrap(), 10), (DomainId::new(2).unwrap(), 300)]);
        for station in 0..1000 {
            fdb.learn(key(1 + station as usize % 2, station), port(0), 100, LearnLimits::NONE);
        }
        let start = Instant::now();
        run(&mut sweeper, &fdb, start, 110, 0);
        assert_eq!(fdb.dynamic_len(), 1000, "age 10 is not yet over 10");
        run(&mut sweeper, &fdb, start + PERIOD_MIN, 111, 0);
        assert_eq!(fdb.dynamic_len(), 500);
        assert!(fdb.lookup(key(2, 1)).is_some() && fdb.lookup(key(1, 0)).is_none());
        run(&mut sweeper, &fdb, start + 2 * PERIOD_MIN, 401, 0);
        assert!(fdb.is_empty());
    }

    #[test]
    fn flushes_wait_for_the_workers_and_tell_their_result() {
        let fdb = Fdb::new(65_536, 1);
        let mut sweeper = Sweeper::default();
        for station in 0..300 {
            fdb.learn(key(1, station), port(station as usize % 3), 0, LearnLimits::NONE);
        }
        let ticket = Arc::new(Ticket::default());
        sweeper.flush(Flush { then: Then::Tell(Arc::clone(&ticket)), ..Flush::learned_on(port(1), 5) });
        sweeper.flush(Flush { then: Then::FreePort(port(2)), ..Flush::learned_on(port(2), 4) });
        let now = Instant::now();
        let followed = run(&mut sweeper, &fdb, now, 0, 4);
        assert!(matches!(followed[..], [Then::FreePort(freed)] if freed == port(2)));
        assert_eq!((ticket.result(), fdb.dynamic_len()), (None, 200));
        run(&mut sweeper, &fdb, now, 0, 5);
        assert_eq!((ticket.result(), fdb.dynamic_len(), fdb.port_len(port(0))), (Some(100), 100, 100));
    }

    #[test]
    fn a_flush_that_joins_in_the_middle_sees_the_whole_table() {
        let fdb = Fdb::new(65_536, 1);
        let mut sweeper = Sweeper::default();
        for station in 0..20_000 {
            fdb.learn(key(1, station), port(0), 0, LearnLimits::NONE);
        }
        let now = Instant::now();
        sweeper.start_jobs(&fdb, now, 0);
        sweeper.slice(&fdb, 0);
        assert!(sweeper.cursor > 0);
        sweeper.flush(Flush::learned_on(port(0), 0));
        run(&mut sweeper, &fdb, now, 0, 0);
        assert!(fdb.is_empty());
    }
}
