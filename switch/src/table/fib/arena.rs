//! Which lines of a trie are in use. Control thread.

use std::collections::VecDeque;

use super::node::NODE_LINES_MAX;
use crate::table::grace::{Epoch, Grace};

/// Lines handed out, given back, and waiting until no reader can be there.
pub(super) struct Arena {
    /// Starts of free blocks, by their number of lines.
    free: [Vec<u32>; NODE_LINES_MAX + 1],
    /// Lines from here on were never used.
    fresh: usize,
    capacity: usize,
    used: usize,
    /// Blocks taken out by the change in progress.
    gone: Vec<(u32, u8)>,
    /// Blocks that readers may still be in, oldest first.
    waiting: VecDeque<(Epoch, u32, u8)>,
}

impl Arena {
    /// For a trie of `capacity` lines whose first `used` are in use, the empty node's among them.
    pub(super) fn new(capacity: usize, used: usize) -> Arena {
        let (free, gone, waiting) = Default::default();
        Arena { free, fresh: used, capacity, used, gone, waiting }
    }

    /// True if `lines` lines can be handed out, in whatever portions.
    pub(super) fn has_room(&self, lines: usize) -> bool {
        self.fresh + lines <= self.capacity
    }

    /// A block of `lines` lines: where it starts. The caller has made sure of the room.
    pub(super) fn take(&mut self, lines: usize) -> usize {
        self.used += lines;
        if let Some(at) = self.free[lines].pop() {
            return at as usize;
        }
        let at = self.fresh;
        self.fresh += lines;
        at
    }

    /// Gives back a block that readers may still be in.
    pub(super) fn give(&mut self, at: usize, lines: usize) {
        self.used -= lines;
        self.gone.push((at as u32, lines as u8));
    }

    /// Dates what was given back since the last call. Once it cannot be reached any more.
    pub(super) fn retire(&mut self, grace: &Grace) {
        if !self.gone.is_empty() {
            let epoch = grace.retire();
            self.waiting.extend(self.gone.drain(..).map(|(at, lines)| (epoch, at, lines)));
        }
    }

    /// Makes what no reader can be in free again.
    pub(super) fn reclaim(&mut self, grace: &Grace) {
        let mut over = None;
        while let Some(&(epoch, at, lines)) = self.waiting.front() {
            if over != Some(epoch) && !grace.is_over(epoch) {
                return;
            }
            over = Some(epoch);
            self.free[lines as usize].push(at);
            self.waiting.pop_front();
        }
    }

    /// Blocks waiting for their grace period to end.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Lines in use.
    #[cfg(test)]
    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// Bytes of the lists.
    pub(super) fn bytes(&self) -> usize {
        let free: usize = self.free.iter().map(Vec::capacity).sum();
        free * size_of::<u32>() + self.waiting.capacity() * size_of::<(Epoch, u32, u8)>()
    }
}
