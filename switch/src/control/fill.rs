//! How many frames of the pool wait in each fill ring.
//!
//! Half of the pool waits for input, divided evenly among the rings. A ring gives back only by receiving, so what a
//! quiet ring was once promised stays in it: a ring starts small and grows only into what no other ring was promised.
//! Control thread.

use super::Control;
use super::ports::{Life, Slot};
use crate::limits::{FILL_MAX, FILL_MIN};
use crate::worker::Command;

/// The fill rings of one attached port; all its queues have the same.
pub(super) struct Fill {
    /// Frames to keep in each ring.
    pub target: u32,
    /// The largest target so far: what may lie in each ring.
    promised: u32,
}

impl Fill {
    /// What a port is opened with.
    pub fn new() -> Fill {
        Fill { target: FILL_MIN, promised: FILL_MIN }
    }

    /// Sets the target of `queues` rings to `share` frames each, or what `left` unpromised frames allow, and takes
    /// what it promises from those. True if the target changed.
    fn set(&mut self, share: u32, queues: u32, left: &mut u32) -> bool {
        let target = share.min(self.promised + *left / queues.max(1)).max(FILL_MIN);
        *left = left.saturating_sub(target.saturating_sub(self.promised).saturating_mul(queues));
        self.promised = self.promised.max(target);
        std::mem::replace(&mut self.target, target) != target
    }
}

/// What each of `rings` fill rings may have of a pool of `frames`.
fn share(frames: u32, rings: u32) -> u32 {
    (frames / 2 / rings.max(1)).clamp(FILL_MIN, FILL_MAX)
}

impl Control {
    /// Divides the pool anew, after the number of rings changed. Ports that wait count as one ring each.
    pub(super) fn divide_pool(&mut self) {
        let frames = self.config.switch.frames;
        let rings = |slot: &Slot| slot.attached().map_or(1, |attached| attached.owners.len() as u32);
        let share = share(frames, self.ports.all().map(rings).sum());
        let promised = self.ports.all().filter_map(Slot::attached);
        let promised: u32 = promised.map(|attached| attached.fill.promised * attached.owners.len() as u32).sum();
        let mut left = (frames / 2).saturating_sub(promised);
        for slot in self.ports.all_mut() {
            let Life::Attached(attached) = &mut slot.life else { continue };
            if attached.fill.set(share, attached.owners.len() as u32, &mut left) {
                let (port, frames) = (slot.id, attached.fill.target);
                attached
                    .owners
                    .iter()
                    .for_each(|&owner| self.shared.command(owner, Command::FillTarget { port, frames }));
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
}
