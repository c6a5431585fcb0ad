//! Which chunks of the pool the kernel holds through one port: one bit per chunk.
//!
//! The bit of a chunk is set when its token is given to the kernel (fill or transmit ring) and cleared
//! when it comes back (receive or completion ring). It is what makes tokens safe to recreate: a
//! descriptor that names a chunk whose bit is clear is never turned into a token. Owned by one port, used on
//! the thread that drives it.

/// A set of chunk indexes.
pub(super) struct Held {
    words: Box<[u64]>,
    count: usize,
}

impl Held {
    /// An empty set for chunks `0..chunks`.
    pub(super) fn new(chunks: u32) -> Held {
        Held { words: vec![0; (chunks as usize).div_ceil(64)].into_boxed_slice(), count: 0 }
    }

    /// Adds `index`; false, changing nothing, if it is there already or out of range.
    #[inline]
    pub(super) fn insert(&mut self, index: u32) -> bool {
        let (word, bit) = place(index);
        match self.words.get_mut(word) {
            Some(word) if *word & bit == 0 => {
                *word |= bit;
                self.count += 1;
                true
            }
            _ => false,
        }
    }

    /// Takes `index` out; false if it was not there.
    #[inline]
    pub(super) fn remove(&mut self, index: u32) -> bool {
        let (word, bit) = place(index);
        match self.words.get_mut(word) {
            Some(word) if *word & bit != 0 => {
                *word &= !bit;
                self.count -= 1;
                true
            }
            _ => false,
        }
    }

    /// True if `index` is in the set.
    #[inline]
    pub(super) fn contains(&self, index: u32) -> bool {
        let (word, bit) = place(index);
        self.words.get(word).is_some_and(|word| word & bit != 0)
    }

    /// Chunks in the set.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Empties the set and returns what was in it, in rising order.
    pub(super) fn take_all(&mut self) -> Vec<u32> {
        let mut all = Vec::with_capacity(self.count);
        for (position, word) in self.words.iter_mut().enumerate() {
            let mut bits = std::mem::take(word);
            while bits != 0 {
                all.push((position * 64) as u32 + bits.trailing_zeros());
                bits &= bits - 1;
            }
        }
        self.count = 0;
        all
    }
}

#[inline]
fn place(index: u32) -> (usize, u64) {
    ((index / 64) as usize, 1 << (index % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_held_once_and_released_once() {
        let mut held = Held::new(130);
        for index in [0, 63, 64, 129] {
            assert!(held.insert(index) && held.contains(index));
            assert!(!held.insert(index), "held twice");
        }
        assert_eq!(held.count(), 4);
        assert!(held.remove(63) && !held.remove(63) && !held.contains(63));
        assert_eq!(held.count(), 3);
        assert_eq!(held.take_all(), vec![0, 64, 129]);
        assert_eq!((held.count(), held.take_all()), (0, vec![]));
    }

    #[test]
    fn indexes_outside_the_pool_are_refused() {
        let mut held = Held::new(64);
        assert!(!held.insert(64) && !held.insert(u32::MAX) && !held.remove(64) && !held.contains(u32::MAX));
        assert_eq!(held.count(), 0);
    }
}
