//! How many frames of the pool may wait in each fill ring.
//!
//! Every ring has a floor of [`FILL_MIN`] frames. What the pool holds beyond all floors, those of ports still to come
//! included, and a sixteenth for frames on their way out, is divided: three quarters evenly among the rings of the
//! ports known at start; of what is left then each port that comes later takes an eighth. So the first dozens of added
//! ports differ little (default pool, two ports in the file: 464, 414, 370, ..., the 20th 96), and none takes all.
//! A ring gives back only by receiving, so what a quiet ring was once promised stays in it: a ring grows only into
//! what no other was promised. Control thread.

use super::Control;
use super::ports::{Life, Slot};
use crate::limits::{FILL_MAX, FILL_MIN};
use crate::worker::Command;

/// An added port's part of what is left: one in so many.
const ADDED_PART: u32 = 8;

/// The fill rings of one attached port; all its queues have the same.
pub(super) struct Fill {
    /// Most frames to keep in each ring.
    pub target: u32,
    /// The largest target so far: what may lie in each ring.
    promised: u32,
    /// What a port added later may have beyond the floor: a part of what was left when it came, or when others went.
    part: Option<u32>,
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
        Fill { target: FILL_MIN, promised: FILL_MIN, part: None }
    }

    /// Frames beyond the floor that may lie in `queues` rings.
    pub fn extra(&self, queues: u32) -> u32 {
        (self.promised - FILL_MIN) * queues
    }

    /// Sets the target of `queues` rings to `extra` frames each beyond the floor, or what `left` unpromised frames
    /// allow, and takes what it promises from those. True if the target changed.
    fn set(&mut self, extra: u32, queues: u32, left: &mut u32) -> bool {
        let target = (FILL_MIN + extra).min(self.promised + *left / queues.max(1)).min(FILL_MAX);
        *left = left.saturating_sub(target.saturating_sub(self.promised) * queues);
        self.promised = self.promised.max(target);
        std::mem::replace(&mut self.target, target) != target
    }

    /// An added port's part of `left`: what it took when it came, or more if `division` lets it look again.
    fn part(&mut self, division: Division, queues: u32, left: u32) -> u32 {
        let now = left / ADDED_PART / queues.max(1);
        let part = match self.part {
            Some(part) if division == Division::More => part,
            Some(part) => part.max(now),
            None => now,
        };
        self.part = Some(part);
        part
    }
}

/// What all rings may have beyond their floors, in a pool of `frames` with `rings` rings.
fn budget(frames: u32, rings: u32) -> u32 {
    // As many rings as the configuration allows ports (`frames_needed`), or more where ports have many queues.
    let floors = (frames / 2).max(rings * FILL_MIN);
    frames.saturating_sub(floors).saturating_sub(frames / 16)
}

/// What each of `rings` rings of the ports known at start may have beyond its floor.
fn even_share(budget: u32, rings: u32) -> u32 {
    (budget / 4 * 3 / rings.max(1)).min(FILL_MAX - FILL_MIN)
}

/// Rings that a slot has, or will have.
fn rings(slot: &Slot) -> u32 {
    match &slot.life {
        Life::Attached(attached) => attached.owners.len() as u32,
        _ => u32::from(slot.configured),
    }
}

/// Frames beyond the floors that a slot has, or that are kept for it; `share` for each ring of a port known at start.
fn claimed(slot: &Slot, share: u32) -> u32 {
    let kept = if slot.configured && !slot.added { share } else { 0 };
    match &slot.life {
        Life::Attached(attached) => attached.fill.extra(rings(slot)),
        Life::Detaching(detaching) => kept.max(detaching.extra),
        Life::Waiting(_) | Life::Leaving => kept,
    }
}

impl Control {
    /// Divides the pool anew, after the number of rings changed. Ports that wait count as one ring each.
    pub(super) fn divide_pool(&mut self, division: Division) {
        let budget = budget(self.config.switch.frames, self.ports.all().map(rings).sum());
        let share = even_share(budget, self.ports.all().filter(|slot| !slot.added).map(rings).sum());
        let claims = |added: bool| -> u32 {
            self.ports.all().filter(|slot| slot.added == added).map(|slot| claimed(slot, share)).sum()
        };
        let (first, later) = (claims(false), claims(true));
        let mut left = budget.saturating_sub(first + later);
        let mut left_for_first = (budget / 4 * 3).saturating_sub(first).min(left);
        for slot in self.ports.all_mut() {
            let (queues, added) = (rings(slot), slot.added);
            let Life::Attached(attached) = &mut slot.life else { continue };
            let fill = &mut attached.fill;
            let changed = if added {
                let part = fill.part(division, queues, left);
                fill.set(part, queues, &mut left)
            } else {
                let before = left_for_first;
                let changed = fill.set(share, queues, &mut left_for_first);
                left = left.saturating_sub(before - left_for_first);
                changed
            };
            if changed {
                let (port, frames) = (slot.id, fill.target);
                let owners = attached.owners.iter();
                owners.for_each(|&owner| self.shared.command(owner, Command::FillTarget { port, frames }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::FRAMES_DEFAULT;

    #[test]
    fn the_budget_leaves_the_floors_and_something_to_send_with() {
        let budget_default = budget(FRAMES_DEFAULT, 2);
        assert_eq!(budget_default, 7_168);
        assert_eq!(budget_default + 128 * FILL_MIN + 1_024, FRAMES_DEFAULT, "128 floors and a sixteenth");
        assert_eq!(budget(FRAMES_DEFAULT, 160), 7_168 - 32 * FILL_MIN, "many queues, more floors");
        assert_eq!(budget(FRAMES_DEFAULT, 10_000), 0);
        assert_eq!(even_share(budget_default, 2), FILL_MAX - FILL_MIN);
        assert_eq!(even_share(budget_default, 16), 336);
        assert_eq!(even_share(budget_default, 0), FILL_MAX - FILL_MIN);
    }

    #[test]
    fn a_ring_grows_only_into_what_is_left() {
        let (mut one, mut two, mut left) = (Fill::new(), Fill::new(), 1_000);
        assert!(one.set(836, 1, &mut left));
        assert_eq!((one.target, one.extra(1), left), (900, 836, 164));
        // Two queues share what the first left over.
        assert!(two.set(836, 2, &mut left));
        assert_eq!((two.target, two.extra(2), left), (FILL_MIN + 82, 164, 0));
        // A lower target frees nothing: the frames may still lie in the ring. Back up, it needs none.
        assert!(one.set(36, 1, &mut left));
        assert_eq!((one.target, one.extra(1), left), (100, 836, 0));
        assert!(one.set(836, 1, &mut left) && !one.set(836, 1, &mut left));
        assert_eq!((one.target, left), (900, 0));
        let mut late = Fill::new();
        assert!(!late.set(836, 1, &mut left));
        assert_eq!(late.target, FILL_MIN);
    }

    #[test]
    fn an_added_port_keeps_its_part_and_looks_again_when_others_go() {
        let mut fill = Fill::new();
        assert_eq!(fill.part(Division::More, 1, 4_000), 500);
        assert_eq!(fill.part(Division::More, 1, 8_000), 500);
        assert_eq!(fill.part(Division::Fewer, 1, 8_000), 1_000);
        assert_eq!(fill.part(Division::Fewer, 1, 0), 1_000, "what was promised stays");
        assert_eq!(Fill::new().part(Division::More, 4, 8_000), 250, "for each of its queues");
    }
}
