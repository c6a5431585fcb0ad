//! How many frames of the pool may wait in each fill ring.
//!
//! Half of the pool is for the ports known at start, divided evenly among their rings. Ports added later share in what
//! is left of three quarters: each takes a sixteenth of it, so that the first dozens differ little (with the default
//! pool and two ports in the file 512, 484, 457, ..., the 20th 195), and none of them takes all. A ring gives back
//! only by receiving, so what a quiet ring was once promised stays in it: a ring grows only into what no other ring
//! was promised. Control thread.

use super::Control;
use super::ports::{Life, Slot};
use crate::limits::{FILL_MAX, FILL_MIN};
use crate::worker::Command;

/// An added ring's part of what is left: one in so many.
const ADDED_PART: u32 = 16;

/// The fill rings of one attached port; all its queues have the same.
pub(super) struct Fill {
    /// Most frames to keep in each ring.
    pub target: u32,
    /// The largest target so far: what may lie in each ring.
    promised: u32,
    /// What a port added later may have: a part of what was left when it came, or when others went.
    part: u32,
}

/// Why the pool is divided anew.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Division {
    /// The number of rings grew, or is about to.
    More,
    /// Frames came back: added ports look again at what is left.
    Fewer,
}

impl Fill {
    /// What a port is opened with.
    pub fn new() -> Fill {
        Fill { target: FILL_MIN, promised: FILL_MIN, part: 0 }
    }

    /// Sets the target of `queues` rings to `share` frames each, or what `left` unpromised frames allow, and takes
    /// what it promises from those. True if the target changed.
    fn set(&mut self, share: u32, queues: u32, left: &mut u32) -> bool {
        let target = share.min(self.promised + *left / queues.max(1)).max(FILL_MIN);
        *left = left.saturating_sub(target.saturating_sub(self.promised).saturating_mul(queues));
        self.promised = self.promised.max(target);
        std::mem::replace(&mut self.target, target) != target
    }

    /// Takes an added port's part of `left`, if it has none yet or `division` lets it look again.
    fn take_part(&mut self, division: Division, queues: u32, left: u32) {
        if self.part == 0 || division == Division::Fewer {
            self.part = self.part.max(left / ADDED_PART / queues.max(1)).max(FILL_MIN);
        }
    }
}

/// What each of `rings` fill rings may have of a pool of `frames`.
fn share(frames: u32, rings: u32) -> u32 {
    (frames / 2 / rings.max(1)).clamp(FILL_MIN, FILL_MAX)
}

impl Control {
    /// Divides the pool anew, after the number of rings changed. Ports that wait count as one ring each.
    pub(super) fn divide_pool(&mut self, division: Division) {
        let frames = self.config.switch.frames;
        let rings = |slot: &Slot| slot.attached().map_or(1, |attached| attached.owners.len() as u32);
        let share = share(frames, self.ports.all().map(rings).sum());
        let promised = |slot: &Slot| match slot.attached() {
            Some(attached) => attached.fill.promised * attached.owners.len() as u32,
            // Kept for a port of the file that has no interface yet.
            None => {
                if slot.added {
                    0
                } else {
                    share
                }
            }
        };
        let taken: u32 = self.ports.all().map(promised).sum();
        let (half, most) = (frames / 2, frames / 4 * 3);
        let (mut left_of_half, mut left) = (half.saturating_sub(taken), most.saturating_sub(taken));
        for added in [false, true] {
            for slot in self.ports.all_mut().filter(|slot| slot.added == added) {
                let Life::Attached(attached) = &mut slot.life else { continue };
                let queues = attached.owners.len() as u32;
                let before = (left_of_half, left);
                let changed = if added {
                    attached.fill.take_part(division, queues, left);
                    attached.fill.set(share.min(attached.fill.part), queues, &mut left)
                } else {
                    let changed = attached.fill.set(share, queues, &mut left_of_half);
                    left = left.saturating_sub(before.0 - left_of_half);
                    changed
                };
                if changed {
                    let (port, frames) = (slot.id, attached.fill.target);
                    let owners = attached.owners.iter();
                    owners.for_each(|&owner| self.shared.command(owner, Command::FillTarget { port, frames }));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::FRAMES_DEFAULT;

    #[test]
    fn the_pool_is_divided_evenly_between_bounds() {
        assert_eq!(share(FRAMES_DEFAULT, 0), FILL_MAX);
        assert_eq!(share(FRAMES_DEFAULT, 2), FILL_MAX);
        assert_eq!(share(FRAMES_DEFAULT, 16), FRAMES_DEFAULT / 32);
        assert_eq!(share(FRAMES_DEFAULT, 1_000), FILL_MIN);
    }

    #[test]
    fn a_ring_grows_only_into_what_is_left() {
        let (mut one, mut two, mut left) = (Fill::new(), Fill::new(), 1_000);
        assert!(one.set(900, 1, &mut left));
        assert_eq!((one.target, left), (900, 1_000 - (900 - FILL_MIN)));
        // Two queues share what the first left over.
        assert!(two.set(900, 2, &mut left));
        assert_eq!((two.target, left), (FILL_MIN + 82, 0));
        // A lower target frees nothing: the frames may still lie in the ring. Back up, it needs none.
        assert!(one.set(100, 1, &mut left));
        assert_eq!((one.target, left), (100, 0));
        assert!(one.set(900, 1, &mut left) && !one.set(900, 1, &mut left));
        assert_eq!((one.target, left), (900, 0));
        let mut late = Fill::new();
        assert!(!late.set(900, 1, &mut left));
        assert_eq!(late.target, FILL_MIN);
    }

    #[test]
    fn added_ports_take_a_part_each_and_look_again_when_others_go() {
        let mut left = 8_192;
        let mut parts: Vec<u32> = Vec::new();
        let mut rings: Vec<Fill> = (0..20).map(|_| Fill::new()).collect();
        for ring in &mut rings {
            ring.take_part(Division::More, 1, left);
            assert!(ring.set(ring.part, 1, &mut left));
            parts.push(ring.target);
        }
        assert_eq!((parts[0], parts[1], parts[19]), (512, 484, 195));
        // More rings change nothing for one that has its part; fewer do.
        let [first, ..] = &mut rings[..] else { panic!("twenty rings") };
        first.take_part(Division::More, 1, 16 * 2_000);
        assert_eq!(first.part, 512);
        first.take_part(Division::Fewer, 1, 16 * 2_000);
        assert_eq!(first.part, 2_000);
        first.take_part(Division::Fewer, 1, 0);
        assert_eq!(first.part, 2_000, "what was promised stays");
    }
}
