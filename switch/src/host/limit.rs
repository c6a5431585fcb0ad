//! How many ICMP errors may be sent: a token bucket for all of them, and one for each receiver (RFC 4443 2.4 (f),
//! RFC 1812 4.3.2.8). Timers instead would stop traceroute, whose probes come in bursts.

use std::collections::HashMap;
use std::net::IpAddr;

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

    /// Gives a token back.
    fn put(&mut self) {
        self.millis += 1_000;
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
    /// Messages at once in all.
    pub burst: u32,
    /// Messages a second to one receiver.
    pub receiver_rate_per_s: u32,
    /// Messages at once to one receiver: traceroute sends three probes to each hop, mtr many hops at once.
    pub receiver_burst: u32,
}

impl Default for LimiterSettings {
    fn default() -> Self {
        LimiterSettings { rate_per_s: 1_000, burst: 200, receiver_rate_per_s: 10, receiver_burst: 20 }
    }
}

/// Receivers remembered. More than send at once; whoever is beyond them shares the common bucket only.
const RECEIVERS_MAX: usize = 4_096;

/// The buckets. Not for more than one thread.
pub struct Limiter {
    settings: LimiterSettings,
    all: Bucket,
    receivers: HashMap<u128, Bucket>,
}

impl Limiter {
    /// Full buckets.
    pub fn new(settings: LimiterSettings) -> Limiter {
        Limiter { settings, all: Bucket::new(settings.rate_per_s, settings.burst, 0), receivers: HashMap::new() }
    }

    /// True if a message may be sent to `receiver` now; it then counts as sent. IPv6 receivers count by their /64,
    /// since one host can have any number of addresses in it.
    pub fn take(&mut self, receiver: IpAddr, now_ns: u64) -> bool {
        let key = match receiver {
            IpAddr::V4(address) => u128::from(u32::from(address)),
            IpAddr::V6(address) => u128::from(address) >> 64 | 1 << 127,
        };
        if !self.all.take(now_ns) {
            return false;
        }
        if self.receivers.len() >= RECEIVERS_MAX && !self.receivers.contains_key(&key) {
            self.receivers.retain(|_, bucket| !bucket.is_full(now_ns));
            if self.receivers.len() >= RECEIVERS_MAX {
                return true;
            }
        }
        let LimiterSettings { receiver_rate_per_s: rate, receiver_burst: burst, .. } = self.settings;
        let allowed = self.receivers.entry(key).or_insert_with(|| Bucket::new(rate, burst, now_ns)).take(now_ns);
        if !allowed {
            // One receiver's storm must not use up what others are due.
            self.all.put();
        }
        allowed
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

    #[test]
    fn one_receiver_s_storm_leaves_the_others_theirs() {
        let mut limiter = Limiter::new(LimiterSettings::default());
        let storm: IpAddr = "10.0.0.1".parse().unwrap();
        let sent = (0..100_000).filter(|at| limiter.take(storm, at * SECOND / 100_000)).count();
        assert!((29..=30).contains(&sent), "{sent}");
        let quiet: IpAddr = "10.0.0.2".parse().unwrap();
        assert_eq!((0..30).filter(|_| limiter.take(quiet, SECOND)).count(), 20);
    }

    #[test]
    fn ipv6_hosts_count_by_subnet_and_a_million_receivers_stay_bounded() {
        let mut limiter = Limiter::new(LimiterSettings { rate_per_s: 1 << 30, burst: 1 << 30, ..Default::default() });
        let one = |low: u128| IpAddr::V6((0xfd00_u128 << 112 | low).into());
        assert_eq!((0..100).filter(|low| limiter.take(one(*low), 0)).count(), 20);
        for number in 0..1_000_000u32 {
            limiter.take(IpAddr::V4(number.into()), u64::from(number) * 1_000);
            assert!(limiter.receivers.len() <= RECEIVERS_MAX);
        }
    }
}
