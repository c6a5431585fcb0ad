//! How many ICMP errors may be sent: so many a second in all, shared out fairly between the ports whose packets they
//! are about, and a token bucket for each receiver (RFC 4443 2.4 (f), RFC 1812 4.3.2.8). Timers instead would stop
//! traceroute, whose probes come in bursts.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use crate::ids::PortId;

/// Tokens that come back at a steady rate, up to a number that may be spent at once.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    rate_per_s: u32,
    burst: u32,
    /// Thousandths of a token.
    millis: u64,
    filled_ns: u64,
}

impl Bucket {
    /// A full bucket.
    pub fn new(rate_per_s: u32, burst: u32, now_ns: u64) -> Bucket {
        Bucket { rate_per_s, burst, millis: u64::from(burst) * 1_000, filled_ns: now_ns }
    }

    fn fill(&mut self, now_ns: u64) {
        let passed_ns = now_ns.saturating_sub(self.filled_ns);
        let gained = passed_ns.saturating_mul(u64::from(self.rate_per_s)) / 1_000_000;
        if gained > 0 {
            self.millis = self.millis.saturating_add(gained).min(u64::from(self.burst) * 1_000);
            self.filled_ns = now_ns;
        }
    }

    /// Spends a token, if there is one.
    pub fn take(&mut self, now_ns: u64) -> bool {
        self.fill(now_ns);
        let enough = self.millis >= 1_000;
        if enough {
            self.millis -= 1_000;
        }
        enough
    }

    /// True if nothing was spent for so long that a new bucket would be the same.
    fn is_full(&mut self, now_ns: u64) -> bool {
        self.fill(now_ns);
        self.millis >= u64::from(self.burst) * 1_000
    }
}

/// Rates and bursts of [`Limiter`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LimiterSettings {
    /// Messages a second in all.
    pub rate_per_s: u32,
    /// Messages at once in all; about packets of one port, half of them.
    pub burst: u32,
    /// Messages a second to one receiver, about packets of one port.
    pub receiver_rate_per_s: u32,
    /// Messages at once to one receiver, about packets of one port: traceroute sends three probes to each hop, mtr many
    /// hops at once.
    pub receiver_burst: u32,
}

impl Default for LimiterSettings {
    fn default() -> Self {
        LimiterSettings { rate_per_s: 1_000, burst: 200, receiver_rate_per_s: 10, receiver_burst: 20 }
    }
}

/// Receivers remembered. More than send at once; whoever is beyond them shares what there is for all only.
const RECEIVERS_MAX: usize = 4_096;

/// Shortest time between two searches for receivers that can be forgotten.
const SWEEP_NS: u64 = 100_000_000;

/// The rate of all messages together, as a queue that is served at that rate: each message stands there, under the port
/// that it is about, until its time is over. A port may have as many in it as there are free places, so that one busy
/// port leaves half of them to the others, N of them an N+1st part to whoever is quiet. All are served at the same
/// pace, so busy ports get equal rates, and one that is alone gets all.
struct Shares {
    rate_per_s: u32,
    places: usize,
    /// Oldest first.
    taken: VecDeque<PortId>,
    /// How many of them are about each port; none of a port is not listed.
    by_port: HashMap<PortId, usize>,
    /// When the oldest one's time began.
    served_ns: u64,
}

impl Shares {
    fn new(rate_per_s: u32, places: u32) -> Shares {
        let (taken, by_port) = (VecDeque::new(), HashMap::new());
        Shares { rate_per_s, places: places as usize, taken, by_port, served_ns: 0 }
    }

    /// How many have their time over.
    fn over(&self, now_ns: u64) -> usize {
        let passed_ns = u128::from(now_ns.saturating_sub(self.served_ns));
        let over = passed_ns * u128::from(self.rate_per_s) / 1_000_000_000;
        usize::try_from(over).unwrap_or(usize::MAX).min(self.taken.len())
    }

    /// Frees the places of those.
    fn serve(&mut self, now_ns: u64) {
        let over = self.over(now_ns);
        if over == self.taken.len() {
            self.taken.clear();
            self.by_port.clear();
            self.served_ns = now_ns;
            return;
        }
        for port in self.taken.drain(..over) {
            if let Some(count) = self.by_port.get_mut(&port) {
                *count -= 1;
                if *count == 0 {
                    self.by_port.remove(&port);
                }
            }
        }
        // What is left over of the time counts for the next one.
        self.served_ns += (over as u64 * 1_000_000_000).div_ceil(u64::from(self.rate_per_s.max(1)));
    }

    /// True if a message about a packet of this port may be sent now.
    fn has_room(&mut self, port: PortId, now_ns: u64) -> bool {
        self.serve(now_ns);
        let free = self.places.saturating_sub(self.taken.len());
        self.by_port.get(&port).copied().unwrap_or(0) < free
    }

    /// Counts it as sent.
    fn take(&mut self, port: PortId) {
        self.taken.push_back(port);
        *self.by_port.entry(port).or_default() += 1;
    }
}

/// The limits. Not for more than one thread.
pub struct Limiter {
    settings: LimiterSettings,
    shares: Shares,
    /// By the port whose packets they are about as well: who is told of another port's packets, sent in his name, has
    /// his own all the same.
    receivers: HashMap<(PortId, u128), Bucket>,
    swept_ns: Option<u64>,
}

impl Limiter {
    /// Nothing sent yet.
    pub fn new(settings: LimiterSettings) -> Limiter {
        let shares = Shares::new(settings.rate_per_s, settings.burst);
        Limiter { settings, shares, receivers: HashMap::new(), swept_ns: None }
    }

    /// True if a message about a packet that came in by `port` may be sent to `receiver` now; it then counts as sent.
    /// IPv6 receivers count by their /64, since one host can have any number of addresses in it.
    pub fn take(&mut self, port: PortId, receiver: IpAddr, now_ns: u64) -> bool {
        let address = match receiver {
            IpAddr::V4(address) => u128::from(u32::from(address)),
            IpAddr::V6(address) => u128::from(address) >> 64 | 1 << 127,
        };
        // One receiver's storm uses up nothing that others are due.
        let allowed = self.shares.has_room(port, now_ns) && self.take_of_receiver((port, address), now_ns);
        if allowed {
            self.shares.take(port);
        }
        allowed
    }

    fn take_of_receiver(&mut self, key: (PortId, u128), now_ns: u64) -> bool {
        if self.receivers.len() >= RECEIVERS_MAX && !self.receivers.contains_key(&key) {
            if self.swept_ns.is_none_or(|swept_ns| now_ns >= swept_ns + SWEEP_NS) {
                self.swept_ns = Some(now_ns);
                self.receivers.retain(|_, bucket| !bucket.is_full(now_ns));
            }
            if self.receivers.len() >= RECEIVERS_MAX {
                return true;
            }
        }
        let LimiterSettings { receiver_rate_per_s: rate, receiver_burst: burst, .. } = self.settings;
        self.receivers.entry(key).or_insert_with(|| Bucket::new(rate, burst, now_ns)).take(now_ns)
    }

    /// Messages that count against the common rate at `now_ns`; no more than [`LimiterSettings::burst`].
    pub fn fill(&self, now_ns: u64) -> usize {
        self.shares.taken.len() - self.shares.over(now_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_bucket_allows_its_burst_and_then_its_rate() {
        let mut bucket = Bucket::new(10, 5, 0);
        assert_eq!((0..9).filter(|_| bucket.take(0)).count(), 5);
        // Asked every millisecond for ten seconds: ten a second.
        let taken = (0..10_000).filter(|millis| bucket.take(millis * SECOND / 1_000)).count();
        assert!((99..=100).contains(&taken), "{taken}");
        assert_eq!((0..9).filter(|_| bucket.take(100 * SECOND)).count(), 5);
    }

    fn port(number: usize) -> PortId {
        PortId::new(number).unwrap()
    }

    #[test]
    fn one_receiver_s_storm_leaves_the_others_theirs() {
        let mut limiter = Limiter::new(LimiterSettings::default());
        let storm: IpAddr = "10.0.0.1".parse().unwrap();
        let sent = (0..100_000).filter(|at| limiter.take(port(1), storm, at * SECOND / 100_000)).count();
        assert!((29..=30).contains(&sent), "{sent}");
        let quiet: IpAddr = "10.0.0.2".parse().unwrap();
        assert_eq!((0..30).filter(|_| limiter.take(port(1), quiet, SECOND)).count(), 20);
        // His name in packets of another port costs him nothing.
        assert!((0..30).filter(|_| limiter.take(port(1), storm, SECOND)).count() <= 1);
        assert_eq!((0..30).filter(|_| limiter.take(port(2), storm, SECOND)).count(), 20);
    }

    #[test]
    fn ipv6_hosts_count_by_subnet_and_a_million_receivers_stay_bounded() {
        let mut limiter = Limiter::new(LimiterSettings { rate_per_s: 1 << 30, burst: 1 << 30, ..Default::default() });
        let one = |low: u128| IpAddr::V6((0xfd00_u128 << 112 | low).into());
        assert_eq!((0..100).filter(|low| limiter.take(port(1), one(*low), 0)).count(), 20);
        for number in 0..1_000_000u32 {
            limiter.take(port(1), IpAddr::V4(number.into()), u64::from(number) * 1_000);
            assert!(limiter.receivers.len() <= RECEIVERS_MAX);
        }
        limiter.take(port(1), "192.0.2.1".parse().unwrap(), 3_600 * SECOND);
        assert_eq!(limiter.receivers.len(), 1, "the silent are forgotten");
    }

    /// Messages to receivers that are all different, about packets of `busy` ports, 100 each millisecond for ten
    /// seconds, while ten packets a second of another port deserve one: how many of each the limiter lets pass.
    fn storm(busy: usize) -> (Vec<usize>, usize) {
        let mut limiter = Limiter::new(LimiterSettings::default());
        let (mut passed, mut quiet, mut receiver) = (vec![0; busy], 0, 0u32);
        for at_ms in 0..10_000u64 {
            for number in 0..100 {
                receiver += 1;
                let at = (number + at_ms as usize) % busy;
                passed[at] += usize::from(limiter.take(port(at), IpAddr::V4(receiver.into()), at_ms * 1_000_000));
            }
            if at_ms % 100 == 50 {
                quiet += usize::from(limiter.take(port(1_000), "10.0.0.2".parse().unwrap(), at_ms * 1_000_000));
            }
        }
        (passed, quiet)
    }

    #[test]
    fn storms_of_any_number_of_senders_leave_a_quiet_port_all_of_its_own() {
        for busy in [1, 2, 10, 40] {
            let (passed, quiet) = storm(busy);
            let (least, most) = (passed.iter().min().unwrap(), passed.iter().max().unwrap());
            assert_eq!(quiet, 100, "beside {busy} busy ports");
            assert!(most - least <= most / 8 + 2, "busy ports share evenly: {passed:?}");
            let all: usize = passed.iter().sum::<usize>() + quiet;
            assert!((9_900..=10_200).contains(&all), "the rate is used, and kept: {all}");
        }
    }

    #[test]
    fn what_is_remembered_of_ports_is_bounded_and_goes() {
        let mut limiter = Limiter::new(LimiterSettings::default());
        for number in 0..100_000usize {
            limiter.take(port(number % 1_024), IpAddr::V4((number as u32).into()), 0);
            assert!(limiter.fill(0) <= 200 && limiter.shares.by_port.len() <= 200);
        }
        assert_eq!(limiter.fill(0), 200, "of this many ports each has one");
        assert!(limiter.take(port(5), "10.0.0.1".parse().unwrap(), 50_000_000));
        assert_eq!(limiter.fill(50_000_000), 151, "50 ms at 1000 a second are over");
        assert!(limiter.take(port(5), "10.0.0.1".parse().unwrap(), SECOND));
        assert_eq!((limiter.fill(SECOND), limiter.shares.by_port.len()), (1, 1));
    }
}
