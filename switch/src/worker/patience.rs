//! How long a worker spins before it sleeps: longer than a round trip takes, unless its core is needed meanwhile.
//!
//! A worker goes before everything else on its core. A container that the kernel runs there cannot answer while the
//! worker spins, and what the worker spins for is that answer: it comes soon after the worker gave up. That is how a
//! worker notices, without asking the kernel. It gives way at once then, for a while, and looks again.
//!
//! Giving way always would be worse where nobody needs the core: threads that may run anywhere are put on a core that
//! looks idle, and hold it for milliseconds when the next packets come. Worker's thread.

/// Spinning goes on this long after the last packet. Longer than a round trip between two containers
/// (30 to 60 us), so that request and response never wait for a wake-up; short enough that a frame each
/// millisecond leaves the core idle most of the time.
const SPIN_NS: u64 = 300_000;

/// The same on a shared core. Longer than the pauses within a stream.
const SPIN_SHARED_NS: u64 = 5_000;

/// Packets that come so soon after the worker fell asleep would have come before it, had it slept at once.
const SOON_NS: u64 = SPIN_NS;

/// So many times in a row make a shared core.
const SIGNS: u8 = 3;

/// How long a core counts as shared: at first, and at most. Each time that it is found shared again as soon, it does
/// for twice as long.
const HOLD_NS: [u64; 2] = [50_000_000, 2_000_000_000];

/// What a worker has noticed of its core. Times are nanoseconds on the worker's clock.
pub(super) struct Patience {
    signs: u8,
    shared_until_ns: u64,
    hold_ns: u64,
}

impl Default for Patience {
    fn default() -> Self {
        Patience { signs: 0, shared_until_ns: 0, hold_ns: HOLD_NS[0] }
    }
}

impl Patience {
    /// How long to spin after the last packet.
    pub fn spin_ns(&self, now_ns: u64) -> u64 {
        if now_ns < self.shared_until_ns { SPIN_SHARED_NS } else { SPIN_NS }
    }

    /// Until when the core counts as shared; past if it does not.
    pub fn shared_until_ns(&self) -> u64 {
        self.shared_until_ns
    }

    /// The first packets came since the worker fell asleep.
    pub fn woken(&mut self, asleep_at_ns: u64, now_ns: u64) {
        if asleep_at_ns < self.shared_until_ns {
            return;
        }
        if now_ns.saturating_sub(asleep_at_ns) >= SOON_NS {
            self.signs = 0;
            return;
        }
        self.signs += 1;
        if self.signs < SIGNS {
            return;
        }
        let [first, most] = HOLD_NS;
        let again = now_ns - self.shared_until_ns < self.hold_ns;
        self.hold_ns = if again { most.min(2 * self.hold_ns) } else { first };
        self.shared_until_ns = now_ns + self.hold_ns;
        self.signs = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A worker that only ever waits for a container whose answers take `answer_ns` of a core: its own, or another.
    struct Pair {
        patience: Patience,
        now_ns: u64,
        own_core: bool,
    }

    impl Pair {
        /// A round trip; how long it took.
        fn round_trip(&mut self, answer_ns: u64) -> u64 {
            let began_ns = self.now_ns;
            let spin_ns = self.patience.spin_ns(began_ns);
            let asleep_at_ns = began_ns + spin_ns;
            self.now_ns = if self.own_core { asleep_at_ns + answer_ns } else { began_ns + answer_ns };
            if self.now_ns > asleep_at_ns {
                self.patience.woken(asleep_at_ns, self.now_ns);
            }
            self.now_ns - began_ns
        }

        fn new(own_core: bool) -> Pair {
            Pair { patience: Patience::default(), now_ns: 1_000_000_000, own_core }
        }
    }

    #[test]
    fn a_container_on_the_workers_core_waits_three_times_and_no_more() {
        let mut pair = Pair::new(true);
        (0..3).for_each(|_| assert_eq!(pair.round_trip(20_000), SPIN_NS + 20_000));
        (0..1000).for_each(|_| assert_eq!(pair.round_trip(20_000), SPIN_SHARED_NS + 20_000));
    }

    #[test]
    fn a_core_that_stays_shared_is_looked_at_ever_less_often() {
        let mut pair = Pair::new(true);
        let mut slow = |seconds: u64| {
            let end_ns = pair.now_ns + seconds * 1_000_000_000;
            let trips = std::iter::from_fn(|| (pair.now_ns < end_ns).then(|| pair.round_trip(20_000)));
            trips.filter(|&took_ns| took_ns > SPIN_NS).count()
        };
        // 50, 100, 200, 400, 800, 1600 ms, and 2 s from then on: three slow ones before each.
        assert!((27..=33).contains(&slow(10)));
        assert!((12..=18).contains(&slow(10)));
    }

    #[test]
    fn nobody_on_the_core_is_nobody_to_give_way_to() {
        let mut pair = Pair::new(false);
        for _ in 0..10_000 {
            pair.round_trip(100_000);
            assert_eq!(pair.patience.spin_ns(pair.now_ns), SPIN_NS);
        }
        // A frame each millisecond comes when it comes.
        for _ in 0..10_000 {
            pair.round_trip(1_000_000);
            assert_eq!(pair.patience.spin_ns(pair.now_ns), SPIN_NS);
        }
    }

    #[test]
    fn signs_count_in_a_row_only() {
        let mut patience = Patience::default();
        for at_ms in 1..1000_u64 {
            let asleep_at_ns = at_ms * 1_000_000;
            patience.woken(asleep_at_ns, asleep_at_ns + if at_ms % 3 == 0 { SOON_NS } else { 0 });
            assert_eq!(patience.spin_ns(asleep_at_ns), SPIN_NS);
        }
    }

    #[test]
    fn a_core_that_was_shared_long_ago_is_held_as_a_new_one() {
        let mut patience = Patience::default();
        let mut share = |at_ns: u64| {
            (0..3).for_each(|_| patience.woken(at_ns, at_ns + 1));
            patience.shared_until_ns() - (at_ns + 1)
        };
        assert_eq!(share(1_000_000_000), HOLD_NS[0]);
        assert_eq!(share(1_060_000_000), 2 * HOLD_NS[0]);
        assert_eq!(share(9_000_000_000), HOLD_NS[0]);
    }
}
