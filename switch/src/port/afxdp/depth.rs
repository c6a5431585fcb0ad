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

/// See the module text. All numbers count frames.
pub(super) struct Depth {
    /// What the control thread allows.
    limit: u32,
    /// What the ring is topped up to now.
    now: u32,
    /// Frames that passed since the ring ran low.
    calm: u32,
}

impl Depth {
    /// A ring that may hold `limit` frames, kept that deep at first.
    pub(super) fn new(limit: u32) -> Depth {
        Depth { limit, now: limit, calm: 0 }
    }

    /// A new limit; the ring is kept that deep until it proves calm.
    pub(super) fn set_limit(&mut self, limit: u32) {
        *self = Depth::new(limit);
    }

    /// Frames to keep in the ring.
    pub(super) fn frames(&self) -> u32 {
        self.now
    }

    /// Looks at the ring before it is topped up, with `left` frames in it.
    #[inline]
    pub(super) fn look(&mut self, left: u32) {
        if left < self.now / 4 {
            self.now = self.limit;
            self.calm = 0;
            return;
        }
        self.calm = self.calm.saturating_add(self.now.saturating_sub(left));
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
        (0..frames / 64).for_each(|_| depth.look(depth.frames() - 64));
    }

    #[test]
    fn a_calm_stream_makes_it_shallow_and_low_water_deep_again() {
        let mut depth = Depth::new(FILL_MAX);
        stream(&mut depth, CALM_FRAMES - 64);
        assert_eq!(depth.frames(), FILL_MAX);
        stream(&mut depth, 64);
        assert_eq!(depth.frames(), FILL_CALM);
        // Still full from before: nothing passed.
        depth.look(FILL_MAX);
        depth.look(FILL_CALM / 4);
        assert_eq!(depth.frames(), FILL_CALM, "a quarter is not low yet");
        depth.look(FILL_CALM / 4 - 1);
        assert_eq!(depth.frames(), FILL_MAX);
        stream(&mut depth, CALM_FRAMES - 64);
        assert_eq!(depth.frames(), FILL_MAX, "the count began anew");
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
