//! Frame memory and the tokens that own it.
//!
//! A [`Region`] is one range of equal chunks: the UMEM that the kernel reads and writes, or plain
//! memory for tests and benches. A [`Frame`] is the right to use a chunk (or a chain of chunks, for
//! packets longer than one). It is neither `Copy` nor `Clone`; who holds it, owns the bytes. Flooding
//! makes several tokens for the same chunks ([`Region::share`]), counted in `refs`; shared bytes can be
//! read by every holder and written by none.
//!
//! Thread-safety: `Region` is shared by all workers. A token is used by one thread at a time and may
//! move between threads. The only writes to shared words are the reference counts of flooded frames.

use std::any::Any;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use crate::limits::{FRAME_HEADROOM, FRAME_ROOM, FRAME_SIZE, SEGMENTS_MAX};

/// The right to use one packet's bytes. Obtained from a [`FramePool`](crate::port::FramePool) or a
/// port, given back to either; losing one leaks its chunks, which the conservation check finds.
#[derive(Debug)]
#[must_use = "a dropped frame is lost to the pool: free it or transmit it"]
pub struct Frame {
    index: u32,
    /// Chunk that ends the chain; equal to `index` for a packet of one segment.
    tail: u32,
    /// Bytes of the whole packet.
    len: u32,
    /// Bytes in the first segment.
    head_len: u16,
    segments: u8,
}

impl Frame {
    /// Bytes of the whole packet, all segments.
    #[inline]
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Chunks that the packet spans, 1 to [`SEGMENTS_MAX`].
    #[inline]
    pub fn segments(&self) -> usize {
        self.segments as usize
    }

    /// Bytes in the first segment.
    #[inline]
    pub fn head_len(&self) -> usize {
        self.head_len as usize
    }

    /// Position of the first chunk in the region.
    #[inline]
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Gives the (single) chunk to the kernel: the token ends, the reference it stood for goes on.
    #[inline]
    pub(super) fn into_index(self) -> u32 {
        debug_assert_eq!(self.segments, 1, "a chain goes to the kernel one segment at a time");
        self.index
    }

    /// A token for a chunk that the kernel gave back, holding `len` bytes.
    ///
    /// # Safety
    /// A reference to chunk `index` of the region must have been given up by [`Frame::into_index`],
    /// and no other token may have been made from that same reference.
    #[inline]
    pub(super) unsafe fn from_index(index: u32, len: u32) -> Frame {
        debug_assert!(len as usize <= FRAME_ROOM);
        Frame { index, tail: index, len, head_len: len as u16, segments: 1 }
    }
}

/// One range of frame memory; see the module text.
pub struct Region {
    base: NonNull<u8>,
    count: u32,
    /// Tokens (and kernel-held references) per chunk; 1 for a chunk that is free or owned alone.
    refs: Box<[AtomicU16]>,
    /// For a chunk inside a chain: the next chunk (high half) and the bytes in it (low half).
    links: Box<[AtomicU64]>,
    /// What keeps the memory mapped.
    _owner: Box<dyn Any + Send + Sync>,
}

// SAFETY: the bytes behind `base` are reached only through tokens: shared reads need `&Frame`, writes
// need `&mut Frame` of a chunk whose reference count is one, so no two threads write, or read and
// write, the same chunk at a time. Everything else in the struct is atomics or immutable.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

#[repr(C, align(4096))]
#[derive(Clone)]
struct Chunk([u8; FRAME_SIZE]);

impl Region {
    /// Plain zeroed memory for `count` frames, and a token for each of them.
    pub fn heap(count: u32) -> (Region, Vec<Frame>) {
        let mut memory = vec![Chunk([0; FRAME_SIZE]); count as usize];
        // A Vec's buffer does not move when the Vec does.
        let base = NonNull::new(memory.as_mut_ptr().cast::<u8>()).unwrap_or(NonNull::dangling());
        // SAFETY: the buffer holds `count` chunks, lives as long as the Vec that becomes the owner, and
        // is reached from now on through this region only.
        unsafe { Region::new(base, count, Box::new(memory)) }
    }

    /// Wraps the memory at `base` and makes the one token of each chunk.
    ///
    /// # Safety
    /// `base` must point to `count * FRAME_SIZE` bytes that stay valid while `owner` lives and that
    /// nobody in this process touches but through the tokens returned.
    pub(super) unsafe fn new(base: NonNull<u8>, count: u32, owner: Box<dyn Any + Send + Sync>) -> (Region, Vec<Frame>) {
        let region = Region {
            base,
            count,
            refs: (0..count).map(|_| AtomicU16::new(1)).collect(),
            links: (0..count).map(|_| AtomicU64::new(0)).collect(),
            _owner: owner,
        };
        // SAFETY: every reference count starts at one, and this is the one token made from each.
        let frames = (0..count).map(|index| unsafe { Frame::from_index(index, 0) }).collect();
        (region, frames)
    }

    /// Number of chunks.
    pub fn count(&self) -> u32 {
        self.count
    }

    #[inline]
    fn data(&self, index: u32) -> *mut u8 {
        debug_assert!(index < self.count);
        // SAFETY: tokens carry indexes below `count` (they are made from such indexes only), so the
        // result lies inside the region.
        unsafe { self.base.as_ptr().add(index as usize * FRAME_SIZE + FRAME_HEADROOM) }
    }

    /// Starts bringing the first bytes of chunk `index` into the cache.
    #[inline]
    pub(super) fn prefetch(&self, index: u32) {
        #[cfg(target_arch = "x86_64")]
        if index < self.count {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: a prefetch reads nothing that the program can see, and the address is in the region.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(self.data(index).cast()) };
        }
    }

    /// Bytes of the first segment.
    #[inline]
    pub fn head<'a>(&'a self, frame: &'a Frame) -> &'a [u8] {
        // SAFETY: the token keeps the chunk ours; `head_len` is at most FRAME_ROOM; nobody holds a
        // mutable slice, since that needs `&mut` of the only token.
        unsafe { std::slice::from_raw_parts(self.data(frame.index), frame.head_len as usize) }
    }

    /// Bytes of the first segment, for writing. Empty if the frame is shared: shared bytes are never
    /// written (see [`Region::is_shared`]).
    #[inline]
    pub fn head_mut<'a>(&'a self, frame: &'a mut Frame) -> &'a mut [u8] {
        self.room_mut(frame).map_or(&mut [], |(room, len)| &mut room[..len])
    }

    /// The whole room of the first segment and the bytes in use, or `None` if the frame is shared.
    #[inline]
    fn room_mut<'a>(&'a self, frame: &'a mut Frame) -> Option<(&'a mut [u8], usize)> {
        if self.is_shared(frame) {
            debug_assert!(false, "write to a shared frame");
            return None;
        }
        let len = frame.head_len as usize;
        // SAFETY: the token is the only one of its chunk (reference count one, read with Acquire), it is
        // borrowed mutably, and FRAME_ROOM bytes follow the data offset in every chunk.
        Some((unsafe { std::slice::from_raw_parts_mut(self.data(frame.index), FRAME_ROOM) }, len))
    }

    /// The first segment for writing and the other segments for reading, in order.
    pub fn split_mut<'a>(&'a self, frame: &'a mut Frame) -> (&'a mut [u8], Segments<'a>) {
        let tail = Segments { region: self, next: self.next_of(frame), left: frame.segments - 1 };
        (self.head_mut(frame), tail)
    }

    /// All segments in order.
    pub fn segments<'a>(&'a self, frame: &'a Frame) -> Segments<'a> {
        let head = (frame.index, frame.head_len);
        Segments { region: self, next: head, left: frame.segments }
    }

    /// Sets the bytes in use of a single-segment frame (at most FRAME_ROOM) and fills them from `bytes`.
    /// Returns false, changing nothing, if they do not fit or the frame is shared or a chain.
    pub fn write(&self, frame: &mut Frame, bytes: &[u8]) -> bool {
        if frame.segments != 1 || bytes.len() > FRAME_ROOM {
            return false;
        }
        let Some((room, _)) = self.room_mut(frame) else { return false };
        room[..bytes.len()].copy_from_slice(bytes);
        frame.head_len = bytes.len() as u16;
        frame.len = bytes.len() as u32;
        true
    }

    /// Inserts `bytes` (a header) at `at` of the first segment, moving what follows. False, changing
    /// nothing, if the first segment has no room for them, `at` is beyond it, or the frame is shared.
    pub fn insert(&self, frame: &mut Frame, at: usize, bytes: &[u8]) -> bool {
        let Some((room, len)) = self.room_mut(frame) else { return false };
        if at > len || len + bytes.len() > FRAME_ROOM {
            return false;
        }
        room.copy_within(at..len, at + bytes.len());
        room[at..at + bytes.len()].copy_from_slice(bytes);
        frame.head_len += bytes.len() as u16;
        frame.len += bytes.len() as u32;
        true
    }

    /// Cuts `count` bytes out of the first segment at `at`, moving what follows. False, changing
    /// nothing, if they are not all there or the frame is shared.
    pub fn cut(&self, frame: &mut Frame, at: usize, count: usize) -> bool {
        let Some((room, len)) = self.room_mut(frame) else { return false };
        if at + count > len {
            return false;
        }
        room.copy_within(at + count..len, at);
        frame.head_len -= count as u16;
        frame.len -= count as u32;
        true
    }

    /// Moves the bytes of the first segment from `keep` on into `spare`, which becomes the second
    /// segment: makes room for a header in a full first segment. Gives `spare` back if the chain is at
    /// its longest, or the frame is shared, or `keep` is not inside the first segment.
    pub fn spill(&self, frame: &mut Frame, keep: usize, mut spare: Frame) -> Result<(), Frame> {
        if frame.segments as usize >= SEGMENTS_MAX || keep == 0 || keep >= frame.head_len as usize {
            return Err(spare);
        }
        if self.is_shared(frame) || !self.write(&mut spare, &self.head(frame)[keep..]) {
            return Err(spare);
        }
        let after = self.links[frame.index as usize].load(Ordering::Relaxed);
        self.links[spare.index as usize].store(after, Ordering::Relaxed);
        self.links[frame.index as usize].store(pack_link(spare.index, spare.head_len), Ordering::Relaxed);
        if frame.segments == 1 {
            frame.tail = spare.index;
        }
        frame.segments += 1;
        frame.head_len = keep as u16;
        Ok(())
    }

    /// Appends the single-segment frame `segment` to the chain of `frame`. Gives it back if the chain is
    /// at its longest or shared, or `segment` is a chain itself.
    #[inline]
    pub fn append(&self, frame: &mut Frame, segment: Frame) -> Result<(), Frame> {
        let shared = self.refs[frame.tail as usize].load(Ordering::Acquire) != 1;
        if frame.segments as usize >= SEGMENTS_MAX || segment.segments != 1 || shared {
            return Err(segment);
        }
        // Published to another thread only together with the token, by whatever queue carries that.
        self.links[frame.tail as usize].store(pack_link(segment.index, segment.head_len), Ordering::Relaxed);
        frame.tail = segment.index;
        frame.len += segment.len;
        frame.segments += 1;
        Ok(())
    }

    /// Splits the first segment from the rest of the chain. With [`Region::share`]d chains every holder
    /// may do so: the links stay in place until the last reference of a chunk is gone.
    #[inline]
    pub fn split_first(&self, mut frame: Frame) -> (Frame, Option<Frame>) {
        if frame.segments == 1 {
            return (frame, None);
        }
        let (next, next_len) = self.next_of(&frame);
        let rest = Frame {
            index: next,
            tail: frame.tail,
            len: frame.len - u32::from(frame.head_len),
            head_len: next_len,
            segments: frame.segments - 1,
        };
        frame.tail = frame.index;
        frame.len = u32::from(frame.head_len);
        frame.segments = 1;
        (frame, Some(rest))
    }

    #[inline]
    fn next_of(&self, frame: &Frame) -> (u32, u16) {
        if frame.segments == 1 { (frame.index, 0) } else { self.link(frame.index) }
    }

    #[inline]
    fn link(&self, index: u32) -> (u32, u16) {
        let link = self.links[index as usize].load(Ordering::Relaxed);
        ((link >> 32) as u32, link as u16)
    }

    /// Another token for the same bytes: one more reference on every chunk.
    pub fn share(&self, frame: &Frame) -> Frame {
        let mut index = frame.index;
        for left in (0..frame.segments).rev() {
            self.refs[index as usize].fetch_add(1, Ordering::Relaxed);
            if left > 0 {
                index = self.link(index).0;
            }
        }
        Frame { ..*frame }
    }

    /// True while other tokens (or the kernel) hold references to the first chunk.
    #[inline]
    pub fn is_shared(&self, frame: &Frame) -> bool {
        self.refs[frame.index as usize].load(Ordering::Acquire) != 1
    }

    /// References to chunk `index`, for the conservation check.
    pub fn references(&self, index: u32) -> u16 {
        self.refs.get(index as usize).map_or(0, |refs| refs.load(Ordering::Acquire))
    }

    /// Gives up the reference of a single-segment token. The token comes back, emptied, if it was the
    /// last one: then its chunk is free.
    #[inline]
    pub(in crate::port) fn release(&self, mut frame: Frame) -> Option<Frame> {
        debug_assert_eq!(frame.segments, 1);
        let refs = &self.refs[frame.index as usize];
        // An unshared chunk costs a load only. Acquire pairs with the Release below: the other holders'
        // reads are over before the chunk is written again.
        if refs.load(Ordering::Acquire) != 1 {
            if refs.fetch_sub(1, Ordering::AcqRel) != 1 {
                return None;
            }
            refs.store(1, Ordering::Relaxed);
        }
        frame.len = 0;
        frame.head_len = 0;
        Some(frame)
    }
}

fn pack_link(index: u32, len: u16) -> u64 {
    u64::from(index) << 32 | u64::from(len)
}

/// The segments of a packet, first to last.
pub struct Segments<'a> {
    region: &'a Region,
    next: (u32, u16),
    left: u8,
}

impl<'a> Iterator for Segments<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.left = self.left.checked_sub(1)?;
        let (index, len) = self.next;
        if self.left > 0 {
            self.next = self.region.link(index);
        }
        // SAFETY: the chain belongs to a token borrowed for 'a (mutably, if its head is being written,
        // and then this iterator started behind the head), link lengths are at most FRAME_ROOM, and
        // segments behind the head are only written while they are heads of their own.
        Some(unsafe { std::slice::from_raw_parts(self.region.data(index), len as usize) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(region: &Region, frames: &mut Vec<Frame>, parts: &[&[u8]]) -> Frame {
        let mut head = frames.pop().unwrap();
        assert!(region.write(&mut head, parts[0]));
        for part in &parts[1..] {
            let mut segment = frames.pop().unwrap();
            assert!(region.write(&mut segment, part));
            region.append(&mut head, segment).unwrap();
        }
        head
    }

    fn bytes(region: &Region, frame: &Frame) -> Vec<u8> {
        region.segments(frame).flatten().copied().collect()
    }

    #[test]
    fn insert_and_cut_are_inverse() {
        let (region, mut frames) = Region::heap(2);
        let mut frame = chain(&region, &mut frames, &[b"abcdefgh"]);
        assert!(region.insert(&mut frame, 3, b"XY"));
        assert_eq!(bytes(&region, &frame), b"abcXYdefgh");
        assert!(region.cut(&mut frame, 3, 2));
        assert_eq!(bytes(&region, &frame), b"abcdefgh");
        assert!(!region.cut(&mut frame, 7, 2) && !region.insert(&mut frame, 9, b"z"));
        assert_eq!(frame.len(), 8);
    }

    #[test]
    fn a_full_first_segment_spills_to_take_a_header() {
        let (region, mut frames) = Region::heap(4);
        let full = vec![7u8; FRAME_ROOM];
        let mut frame = chain(&region, &mut frames, &[&full, b"tail"]);
        assert!(!region.insert(&mut frame, 12, b"TAG!"));
        region.spill(&mut frame, 1000, frames.pop().unwrap()).unwrap();
        assert!(region.insert(&mut frame, 12, b"TAG!"));
        assert_eq!((frame.segments(), frame.len()), (3, FRAME_ROOM + 8));
        let mut expected = full.clone();
        expected.splice(12..12, *b"TAG!");
        expected.extend_from_slice(b"tail");
        assert_eq!(bytes(&region, &frame), expected);
    }

    #[test]
    fn shared_chains_come_apart_once_per_holder_and_free_once() {
        let (region, mut frames) = Region::heap(3);
        let first = chain(&region, &mut frames, &[b"one", b"two", b"three"]);
        let second = region.share(&first);
        assert!(region.is_shared(&first));
        let mut freed = 0;
        for holder in [first, second] {
            assert_eq!(bytes(&region, &holder), b"onetwothree");
            let mut rest = Some(holder);
            while let Some(frame) = rest {
                let (one, more) = region.split_first(frame);
                freed += usize::from(region.release(one).is_some());
                rest = more;
            }
        }
        assert_eq!(freed, 3);
        assert!((0..3).all(|index| region.references(index) == 1));
    }

    #[test]
    fn chains_end_at_their_longest() {
        let (region, mut frames) = Region::heap(SEGMENTS_MAX as u32 + 2);
        let parts = vec![&b"x"[..]; SEGMENTS_MAX];
        let mut frame = chain(&region, &mut frames, &parts);
        let segment = frames.pop().unwrap();
        assert!(region.append(&mut frame, segment).is_err());
    }
}
