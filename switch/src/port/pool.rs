//! The one pool of frames that all ports share.
//!
//! [`SharedPool`] holds the memory and the frames nobody uses, in bounded lock-free queues: one of full
//! batches, one of the odd frames left over. Each worker takes from and gives to its own [`FramePool`] and
//! touches the shared queues once in [`FREE_BATCH`] frames. Frames are tokens, so what is not free is owned
//! by exactly one port, burst or queue (flooded frames: by several, counted).

use std::sync::Arc;

use arrayvec::ArrayVec;
use crossbeam::queue::ArrayQueue;

use super::{Frame, Region};
use crate::limits::{FREE_BATCH, FREE_LOCAL_MAX};

type Batch = ArrayVec<Frame, FREE_BATCH>;

/// The memory of all frames and the free ones among them. Shared by all threads.
pub struct SharedPool {
    region: Region,
    /// Full batches only, so that it has room for all frames however they come back.
    free: ArrayQueue<Batch>,
    odd: ArrayQueue<Frame>,
}

impl SharedPool {
    /// A pool over `region` whose free frames are `frames`.
    pub fn new(region: Region, frames: Vec<Frame>) -> Arc<SharedPool> {
        let count = region.count() as usize;
        let free = ArrayQueue::new(count / FREE_BATCH + 1);
        let pool = SharedPool { region, free, odd: ArrayQueue::new(count.max(1)) };
        pool.put_all(frames);
        Arc::new(pool)
    }

    /// A pool of plain memory, for tests and benches.
    pub fn heap(frames: u32) -> Arc<SharedPool> {
        let (region, tokens) = Region::heap(frames);
        SharedPool::new(region, tokens)
    }

    /// The frame memory.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// Frames in the shared queues now; exact when nothing else runs.
    pub fn free_estimate(&self) -> usize {
        self.free.len() * FREE_BATCH + self.odd.len()
    }

    /// Gives back single-segment frames from a thread that has no [`FramePool`] (the control thread,
    /// when it closed a port).
    pub fn reclaim(&self, frames: Vec<Frame>) {
        let mut freed = Vec::with_capacity(frames.len());
        for frame in frames {
            let mut rest = Some(frame);
            while let Some(frame) = rest {
                let (one, more) = self.region.split_first(frame);
                freed.extend(self.region.release(one));
                rest = more;
            }
        }
        self.put_all(freed);
    }

    fn put_all(&self, frames: Vec<Frame>) {
        let mut frames = frames.into_iter().peekable();
        while frames.peek().is_some() {
            let batch = self.put(frames.by_ref().take(FREE_BATCH).collect());
            debug_assert!(batch.is_empty(), "the queues have room for every frame of the pool");
        }
    }

    /// Queues a batch; gives back what there was no room for, which is nothing.
    fn put(&self, mut batch: Batch) -> Batch {
        if batch.is_full() {
            match self.free.push(batch) {
                Ok(()) => return Batch::new(),
                Err(full) => batch = full,
            }
        }
        while let Some(frame) = batch.pop() {
            if let Err(frame) = self.odd.push(frame) {
                batch.push(frame);
                break;
            }
        }
        batch
    }

    /// A batch, or the odd frames that make up for one; empty when the pool is exhausted.
    fn take(&self) -> Batch {
        self.free.pop().unwrap_or_else(|| std::iter::from_fn(|| self.odd.pop()).take(FREE_BATCH).collect())
    }
}

/// One worker's end of the pool. Never blocks, never allocates after construction.
pub struct FramePool {
    shared: Arc<SharedPool>,
    local: Vec<Frame>,
    /// Frames at which some are given back.
    local_max: usize,
}

impl FramePool {
    /// A worker's end of `shared`.
    pub fn new(shared: Arc<SharedPool>) -> FramePool {
        // Room for every frame, so that a push never allocates even if the shared queue refuses.
        let local = Vec::with_capacity(shared.region.count() as usize);
        let local_max = (shared.region.count() as usize / 64).clamp(2 * FREE_BATCH, FREE_LOCAL_MAX);
        FramePool { shared, local, local_max }
    }

    /// The frame memory.
    #[inline]
    pub fn region(&self) -> &Region {
        &self.shared.region
    }

    /// A free frame, or `None` when the pool is exhausted.
    #[inline]
    pub fn alloc(&mut self) -> Option<Frame> {
        if let Some(frame) = self.local.pop() {
            return Some(frame);
        }
        self.local.extend(self.shared.take());
        self.local.pop()
    }

    /// Gives a packet back: each of its chunks becomes free when its last holder lets go.
    #[inline]
    pub fn free(&mut self, frame: Frame) {
        if frame.segments() == 1 {
            self.free_one(frame);
        } else {
            self.free_chain(frame);
        }
    }

    #[inline(never)]
    fn free_chain(&mut self, frame: Frame) {
        let mut rest = Some(frame);
        while let Some(frame) = rest {
            let (one, more) = self.shared.region.split_first(frame);
            self.free_one(one);
            rest = more;
        }
    }

    #[inline]
    fn free_one(&mut self, frame: Frame) {
        let Some(frame) = self.shared.region.release(frame) else { return };
        self.local.push(frame);
        if self.local.len() >= self.local_max {
            self.give(self.local_max / 2);
        }
    }

    /// A packet with the same bytes in frames of its own, or `None` when the pool is exhausted.
    pub fn copy(&mut self, frame: &Frame) -> Option<Frame> {
        let mut copy: Option<Frame> = None;
        let shared = Arc::clone(&self.shared);
        for segment in shared.region.segments(frame) {
            let Some(mut fresh) = self.alloc() else {
                if let Some(partial) = copy {
                    self.free(partial);
                }
                return None;
            };
            shared.region.write(&mut fresh, segment);
            match &mut copy {
                None => copy = Some(fresh),
                Some(head) => {
                    if let Err(spare) = shared.region.append(head, fresh) {
                        self.free(spare);
                    }
                }
            }
        }
        copy
    }

    /// Takes what is behind `len` bytes off a packet of any number of chunks. False, changing nothing, if the packet is
    /// shared or the pool is empty.
    pub fn truncate(&mut self, frame: &mut Frame, len: usize) -> bool {
        if frame.segments() == 1 {
            let excess = frame.len().saturating_sub(len);
            return self.region().cut(frame, len, excess);
        }
        if self.region().is_shared(frame) {
            return false;
        }
        // In its place while it is taken apart.
        let Some(spare) = self.alloc() else { return false };
        let (mut kept, mut rest) = self.region().split_first(std::mem::replace(frame, spare));
        let first = len.min(kept.len());
        let excess = kept.len() - first;
        self.region().cut(&mut kept, first, excess);
        while let Some(chain) = rest {
            let (mut segment, behind) = self.region().split_first(chain);
            rest = behind;
            let room = len.saturating_sub(kept.len()).min(segment.len());
            let excess = segment.len() - room;
            self.region().cut(&mut segment, room, excess);
            // One that is empty now, and any behind it, is not part of the packet.
            let left = if room == 0 { Err(segment) } else { self.region().append(&mut kept, segment) };
            if let Err(segment) = left {
                self.free(segment);
            }
        }
        let spare = std::mem::replace(frame, kept);
        self.free(spare);
        true
    }

    /// Frames in this worker's own list.
    pub fn local_len(&self) -> usize {
        self.local.len()
    }

    /// Gives every frame of the own list back to the shared pool.
    pub fn give_all(&mut self) {
        while !self.local.is_empty() {
            let before = self.local.len();
            self.give(before);
            if self.local.len() == before {
                break;
            }
        }
    }

    /// Moves about `count` frames to the shared queue, in batches.
    #[cold]
    fn give(&mut self, count: usize) {
        let mut left = count.min(self.local.len());
        while left > 0 {
            let start = self.local.len() - left.min(FREE_BATCH);
            left -= self.local.len() - start;
            let rest = self.shared.put(self.local.drain(start..).collect());
            if !rest.is_empty() {
                self.local.extend(rest);
                return;
            }
        }
    }
}

impl Drop for FramePool {
    fn drop(&mut self) {
        self.give_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_frame_can_be_taken_and_given_back() {
        let shared = SharedPool::heap(1000);
        let mut pool = FramePool::new(Arc::clone(&shared));
        for _ in 0..3 {
            let mut taken = Vec::new();
            while let Some(frame) = pool.alloc() {
                taken.push(frame);
            }
            assert_eq!(taken.len(), 1000);
            taken.into_iter().for_each(|frame| pool.free(frame));
        }
        pool.give_all();
        assert_eq!(pool.local_len(), 0);
        let mut other = FramePool::new(shared);
        assert_eq!(std::iter::from_fn(|| other.alloc()).count(), 1000);
    }

    #[test]
    fn frames_returned_one_by_one_all_find_room() {
        let shared = SharedPool::heap(1000);
        let mut pool = FramePool::new(Arc::clone(&shared));
        let taken: Vec<Frame> = std::iter::from_fn(|| pool.alloc()).collect();
        for frame in taken {
            shared.reclaim(vec![frame]);
        }
        assert_eq!(shared.free_estimate(), 1000);
        assert_eq!(std::iter::from_fn(|| pool.alloc()).count(), 1000);
    }

    #[test]
    fn copies_are_equal_and_independent() {
        let shared = SharedPool::heap(8);
        let mut pool = FramePool::new(shared);
        let mut frame = pool.alloc().unwrap();
        let region =
            |pool: &FramePool, frame: &Frame| -> Vec<u8> { pool.region().segments(frame).flatten().copied().collect() };
        assert!(pool.region().write(&mut frame, b"first "));
        let mut second = pool.alloc().unwrap();
        assert!(pool.region().write(&mut second, b"second"));
        pool.region().append(&mut frame, second).unwrap();
        let mut copy = pool.copy(&frame).unwrap();
        pool.region().head_mut(&mut copy)[0] = b'F';
        assert_eq!(region(&pool, &frame), b"first second");
        assert_eq!(region(&pool, &copy), b"First second");
        let hold: Vec<Frame> = std::iter::from_fn(|| pool.alloc()).collect();
        assert!(pool.copy(&frame).is_none());
        hold.into_iter().for_each(|frame| pool.free(frame));
        pool.free(frame);
        pool.free(copy);
        assert_eq!(pool.local_len() + pool.shared.free_estimate(), 8);
    }
}
