//! How long a worker spins before it sleeps: longer than a round trip takes, unless its core is needed meanwhile.
//!
//! A worker goes before everything else on its core. A container that the kernel runs there cannot answer while the
//! worker spins, and what the worker spins for is that answer: it comes soon after the worker gave up. That is how a
//! worker notices, without asking the kernel. It gives way at once then, for a while; if that made the long pauses
//! rarer, the core is shared, and it gives way for longer next time. If not, the packets just come so, and it does not
//! try again soon.
//!
//! Giving way always would be worse where nobody needs the core: threads that may run anywhere are put on a core that
//! looks idle, and hold it for milliseconds when the next packets come. Worker's thread.

/// Spinning goes on this long after the last packet. Longer than a round trip between two containers
/// (30 to 60 us), so that request and response never wait for a wake-up; short enough that a frame each
/// millisecond leaves the core idle most of the time.
const SPIN_NS: u64 = 300_000;

/// The same while the worker gives way. Longer than the pauses within a stream; shorter ones are not counted.
const SPIN_SHARED_NS: u64 = 5_000;

/// A pause that ends so soon after the worker fell asleep would have ended before it, had the worker slept at once.
const SOON_NS: u64 = SPIN_NS;

/// So many such pauses in a row are worth a trial.
const SIGNS: u8 = 3;

/// How long the worker gives way: at first, which is a trial, and at most. It doubles as long as that helps. A trial
/// that did not help is not repeated for as long either.
const HOLD_NS: [u64; 2] = [50_000_000, 2_000_000_000];

/// Signs this soon after giving way has ended mean that nothing has changed.
const AGAIN_NS: u64 = 20_000_000;

/// Fewest pauses that say whether giving way helps.
const PAUSES_MIN: u32 = 8;

/// Pauses without packets, and those of them that outlasted [`SPIN_NS`].
#[derive(Clone, Copy, Default)]
struct Pauses {
    all: u32,
    long: u32,
}

impl Pauses {
    fn count(&mut self, pause_ns: u64) {
        if self.all >= 1 << 16 {
            (self.all, self.long) = (self.all / 2, self.long / 2);
        }
        self.all += 1;
        self.long += u32::from(pause_ns > SPIN_NS);
    }

    /// True if long ones are at least an eighth of all, so that they matter.
    fn are_often_long(&self) -> bool {
        8 * self.long >= self.all
    }

    /// True if long ones are at most an eighth as frequent among these: not by chance.
    fn are_shorter_than(&self, before: &Pauses) -> bool {
        8 * u64::from(self.long) * u64::from(before.all) <= u64::from(before.long) * u64::from(self.all)
    }
}

/// What a worker has noticed of its core. Times are nanoseconds on the worker's clock.
pub(super) struct Patience {
    /// Number of the worker. Two of them that wait for the same container must not try at the same time for ever.
    index: u64,
    signs: u8,
    /// Pauses since the first of these signs.
    before: Pauses,
    /// Pauses since the worker gave way.
    since: Pauses,
    giving_way: bool,
    shared_until_ns: u64,
    hold_ns: u64,
    /// No trial before this.
    next_trial_ns: u64,
    /// How long the last vain trial is remembered.
    vain_ns: u64,
}

impl Patience {
    pub fn new(index: usize) -> Patience {
        let [first, _] = HOLD_NS;
        Patience {
            index: index as u64,
            signs: 0,
            before: Pauses::default(),
            since: Pauses::default(),
            giving_way: false,
            shared_until_ns: 0,
            hold_ns: first,
            next_trial_ns: 0,
            vain_ns: first,
        }
    }

    /// How long to spin after the last packet.
    pub fn spin_ns(&self, now_ns: u64) -> u64 {
        if self.gives_way(now_ns) { SPIN_SHARED_NS } else { SPIN_NS }
    }

    /// True while the worker gives way.
    pub fn gives_way(&self, now_ns: u64) -> bool {
        now_ns < self.shared_until_ns
    }

    /// Until when the worker gives way; past if it does not.
    pub fn shared_until_ns(&self) -> u64 {
        self.shared_until_ns
    }

    /// Packets came `pause_ns` after the last ones.
    #[inline]
    pub fn resumed(&mut self, pause_ns: u64, now_ns: u64) {
        if pause_ns > SPIN_SHARED_NS {
            self.note(pause_ns, now_ns);
        }
    }

    fn note(&mut self, pause_ns: u64, now_ns: u64) {
        if self.giving_way {
            self.since.count(pause_ns);
            if now_ns >= self.shared_until_ns {
                self.judge(now_ns);
            }
            return;
        }
        if pause_ns <= SPIN_NS {
            if self.signs > 0 {
                self.before.count(pause_ns);
            }
            return;
        }
        if pause_ns > SPIN_NS + SOON_NS || now_ns < self.next_trial_ns {
            (self.signs, self.before) = (0, Pauses::default());
            return;
        }
        self.signs += 1;
        self.before.count(pause_ns);
        if self.signs == SIGNS && self.before.are_often_long() {
            self.give_way(now_ns);
        } else if self.signs == SIGNS {
            (self.signs, self.before) = (0, Pauses::default());
        }
    }

    fn give_way(&mut self, now_ns: u64) {
        let [first, most] = HOLD_NS;
        let again = now_ns.saturating_sub(self.shared_until_ns) < AGAIN_NS;
        self.hold_ns = if again { most.min(2 * self.hold_ns) } else { first };
        self.shared_until_ns = now_ns + self.hold_ns + self.index * self.hold_ns / 8;
        (self.giving_way, self.since) = (true, Pauses::default());
    }

    /// Has it helped?
    fn judge(&mut self, now_ns: u64) {
        let [first, most] = HOLD_NS;
        if self.since.all >= PAUSES_MIN && !self.since.are_shorter_than(&self.before) {
            self.next_trial_ns = now_ns + self.vain_ns;
            (self.hold_ns, self.vain_ns) = (first, most.min(2 * self.vain_ns));
        } else {
            self.vain_ns = first;
        }
        (self.giving_way, self.signs, self.before) = (false, 0, Pauses::default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    /// A worker and the pauses of its packets.
    struct Lone {
        patience: Patience,
        now_ns: u64,
        /// Time spent giving way.
        gave_way_ns: u64,
    }

    impl Lone {
        fn new() -> Lone {
            Lone { patience: Patience::new(0), now_ns: 1_000_000_000, gave_way_ns: 0 }
        }

        /// The packets after `pause_ns`, which does not depend on the worker.
        fn pause(&mut self, pause_ns: u64) {
            let until_ns = self.patience.shared_until_ns();
            self.gave_way_ns += until_ns.saturating_sub(self.now_ns).min(pause_ns);
            self.now_ns += pause_ns;
            self.patience.resumed(pause_ns, self.now_ns);
        }

        /// The answer of a container on the worker's core, which takes it `answer_ns`; how long it took in all.
        fn round_trip(&mut self, answer_ns: u64) -> u64 {
            let pause_ns = self.patience.spin_ns(self.now_ns) + answer_ns;
            self.pause(pause_ns);
            pause_ns
        }

        /// Share of `seconds` in which it gave way, to packets that `pauses` tells.
        fn share(&mut self, seconds: u64, mut pauses: impl FnMut() -> u64) -> f64 {
            let (end_ns, before_ns) = (self.now_ns + seconds * 1_000_000_000, self.gave_way_ns);
            while self.now_ns < end_ns {
                self.pause(pauses());
            }
            (self.gave_way_ns - before_ns) as f64 / (seconds * 1_000_000_000) as f64
        }
    }

    #[test]
    fn a_container_on_the_workers_core_waits_three_times_and_no_more() {
        let mut lone = Lone::new();
        (0..3).for_each(|_| assert_eq!(lone.round_trip(20_000), SPIN_NS + 20_000));
        (0..1000).for_each(|_| assert_eq!(lone.round_trip(20_000), SPIN_SHARED_NS + 20_000));
    }

    #[test]
    fn a_core_that_stays_shared_is_looked_at_ever_less_often() {
        let mut lone = Lone::new();
        let mut slow = |seconds: u64| {
            let end_ns = lone.now_ns + seconds * 1_000_000_000;
            let trips = std::iter::from_fn(|| (lone.now_ns < end_ns).then(|| lone.round_trip(20_000)));
            trips.filter(|&took_ns| took_ns > SPIN_NS).count()
        };
        // 50, 100, 200, 400, 800, 1600 ms, and 2 s from then on: three slow ones before each.
        assert!((27..=33).contains(&slow(10)));
        assert!((12..=18).contains(&slow(10)));
    }

    #[test]
    fn packets_that_just_come_so_are_found_out() {
        for pause_us in [10, 100, 290, 310, 400, 599, 1000] {
            let share = Lone::new().share(60, || pause_us * 1000);
            assert!(share < 0.035, "every {pause_us} us: {share}");
        }
        let mut random = StdRng::seed_from_u64(7);
        for packets_per_ms in [0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0_f64] {
            let mut pause = || (-random.random::<f64>().ln() * 1e6 / packets_per_ms) as u64;
            let share = Lone::new().share(60, &mut pause);
            assert!(share < 0.1, "{packets_per_ms} packets a millisecond, at random: {share}");
        }
    }

    #[test]
    fn a_vain_trial_does_not_hide_a_core_that_is_shared_later() {
        let mut lone = Lone::new();
        lone.share(20, || 400_000);
        let end_ns = lone.now_ns + 3_000_000_000;
        while lone.now_ns < end_ns {
            lone.round_trip(20_000);
        }
        let slow = (0..1000).filter(|_| lone.round_trip(20_000) > SPIN_NS).count();
        assert!(slow <= 3, "{slow}");
    }

    #[test]
    fn a_stream_between_two_cores_that_stalls_makes_a_shared_core() {
        // Some pauses are the sender's, and every fifth the receiver's, whose core the worker has.
        let mut lone = Lone::new();
        for turn in 0..20_000 {
            if turn % 5 == 0 {
                lone.round_trip(10_000);
            } else {
                lone.pause(8_000);
            }
        }
        assert!(lone.gave_way_ns as f64 > 0.9 * (lone.now_ns - 1_000_000_000) as f64);
    }
}
