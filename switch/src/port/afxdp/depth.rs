//! How deep a fill ring is kept: deep for bursts, no deeper than need be under a steady load.
//!
//! Every frame of a fill ring passes through the caches and address translations of two cores before it comes round
//! again, so frames that are never needed cost rate: with 2048 small frames cycling instead of 1024 the sender was 6 %
//! slower (512 brought nothing more). Too few lose frames: TCP bursts, and whatever arrives while the worker's core
//! is held up. So the ring starts at its limit, becomes shallower when a long stream has not needed it, and deep
//! again as soon as it runs low. Worker thread; no clock, the passing frames are the measure.

use crate::limits::FILL_CALM;

/// Frames that must pass without the ring running low before it becomes shallower: 0.15 s of 1.7 million a second.
const CALM_FRAMES: u32 = 1 << 18;

/// Frames that may be taken from the ring between two looks; more, and the shallow ring would have been low.
const CALM_USE_MAX: u32 = FILL_CALM / 4 * 3;

/// Looks in a row at a low ring that are no burst: the worker is behind for good, and depth helps nobody.
const OVERLOAD_LOOKS: u32 = 512;

/// See the module text. All numbers count frames.
pub(super) struct Depth {
    /// What the control thread allows.
    limit: u32,
    /// What the ring is topped up to now.
    now: u32,
    /// Frames that passed since the ring ran low.
    calm: u32,
    /// Looks in a row that found it low.
    low: u32,
}

impl Depth {
    /// A ring that may hold `limit` frames, kept that deep at first.
    pub(super) fn new(limit: u32) -> Depth {
        Depth { limit, now: limit, calm: 0, low: 0 }
    }

    /// A new limit; the ring is kept that deep until it proves calm.
    pub(super) fn set_limit(&mut self, limit: u32) {
        *self = Depth::new(limit);
    }

    /// Frames to keep in the ring.
    #[inline]
    pub(super) fn frames(&self) -> u32 {
        self.now
    }

    /// Looks at the ring before it is topped up, with `left` frames in it that the kernel has not used.
    #[inline]
    pub(super) fn look(&mut self, left: u32) {
        if self.now.saturating_sub(left) > CALM_USE_MAX {
            self.low = self.low.saturating_add(1);
            self.calm = 0;
            self.now = if self.low < OVERLOAD_LOOKS { self.limit } else { self.limit.min(FILL_CALM) };
        } else {
            self.low = 0;
        }
    }

    /// `frames` were put into the ring.
    #[inline]
    pub(super) fn passed(&mut self, frames: u32) {
        self.calm = self.calm.saturating_add(frames);
        if self.calm >= CALM_FRAMES {
            self.now = self.limit.min(FILL_CALM);
            self.calm = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::FILL_MAX;

    /// Lets `frames` frames pass, 64 between two looks.
    fn stream(depth: &mut Depth, frames: u32) {
        for _ in 0..frames / 64 {
            depth.look(depth.frames() - 64);
            depth.passed(64);
        }
    }

    #[test]
    fn a_calm_stream_makes_it_shallow_and_low_water_deep_again() {
        let mut depth = Depth::new(FILL_MAX);
        stream(&mut depth, CALM_FRAMES - 64);
        assert_eq!(depth.frames(), FILL_MAX);
        stream(&mut depth, 64);
        assert_eq!(depth.frames(), FILL_CALM);
        // Still full from before: nothing was used.
        depth.look(FILL_MAX);
        depth.look(FILL_CALM - CALM_USE_MAX);
        assert_eq!(depth.frames(), FILL_CALM, "a quarter is not low yet");
        depth.look(FILL_CALM - CALM_USE_MAX - 1);
        assert_eq!(depth.frames(), FILL_MAX);
        stream(&mut depth, CALM_FRAMES - 64);
        assert_eq!(depth.frames(), FILL_MAX, "the count began anew");
        // A burst that the shallow ring would not have borne keeps it deep, although the deep one bore it.
        depth.look(FILL_MAX - 1_100);
        stream(&mut depth, 64);
        assert_eq!(depth.frames(), FILL_MAX);
    }

    #[test]
    fn a_worker_that_is_behind_for_good_gets_the_shallow_ring() {
        let mut depth = Depth::new(FILL_MAX);
        (1..OVERLOAD_LOOKS).for_each(|_| depth.look(10));
        assert_eq!(depth.frames(), FILL_MAX, "that may be a burst");
        depth.look(10);
        assert_eq!(depth.frames(), FILL_CALM);
        depth.look(10);
        assert_eq!(depth.frames(), FILL_CALM);
        // It caught up; the next burst is one again.
        depth.look(FILL_CALM - 64);
        depth.look(10);
        assert_eq!(depth.frames(), FILL_MAX);
    }

    #[test]
    fn the_limit_is_never_exceeded() {
        let mut depth = Depth::new(100);
        stream(&mut depth, 2 * CALM_FRAMES);
        assert_eq!(depth.frames(), 100);
        depth.look(0);
        assert_eq!(depth.frames(), 100);
        depth.set_limit(FILL_MAX);
        stream(&mut depth, CALM_FRAMES);
        depth.set_limit(300);
        assert_eq!(depth.frames(), 300);
    }
}
