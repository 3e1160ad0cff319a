//! Video memory as the chip sees it: shared with the guest's linear frame buffer, so every access
//! is an atomic of its own and nothing is ever borrowed. The board supplies the storage.
//!
//! Plane `p` of plane address `a` is byte `4 * a + p`, as in Bochs and QEMU: chain-4 memory and the
//! linear frame buffer are then the same bytes in the same order, and four planes are one word.

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Bytes of video memory. Reads beyond the end give all-ones, writes there are dropped.
pub trait Vram {
    /// Size in bytes, a multiple of 4.
    fn len(&self) -> u32;

    /// The little-endian word that holds byte `off`: bits 0 and 1 of `off` are ignored.
    fn get32(&self, off: u32) -> u32;

    /// Stores the word that holds byte `off`: bits 0 and 1 of `off` are ignored.
    fn set32(&self, off: u32, value: u32);

    /// Stores byte `off` and leaves its neighbours, even those that a guest writes meanwhile.
    fn set(&self, off: u32, value: u8);

    /// The byte at `off`.
    #[inline]
    fn get(&self, off: u32) -> u8 {
        (self.get32(off) >> ((off & 3) * 8)) as u8
    }

    /// Stores `value` in every word from `off` for `len` bytes, both rounded down to words.
    fn fill(&self, off: u32, len: u32, value: u32) {
        let end = off.saturating_add(len).min(self.len());
        for word in off / 4..end / 4 {
            self.set32(word * 4, value);
        }
    }

    /// Whether there is no memory at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Vram for [AtomicU32] {
    #[inline]
    fn len(&self) -> u32 {
        (<[AtomicU32]>::len(self) as u32).saturating_mul(4)
    }

    #[inline]
    fn get32(&self, off: u32) -> u32 {
        <[AtomicU32]>::get(self, (off / 4) as usize).map_or(u32::MAX, |word| word.load(Relaxed))
    }

    #[inline]
    fn set32(&self, off: u32, value: u32) {
        if let Some(word) = <[AtomicU32]>::get(self, (off / 4) as usize) {
            word.store(value, Relaxed);
        }
    }

    #[inline]
    fn set(&self, off: u32, value: u8) {
        if let Some(word) = <[AtomicU32]>::get(self, (off / 4) as usize) {
            // Changing only the bits that differ leaves the neighbours to whoever writes them.
            let shift = (off & 3) * 8;
            let old = (word.load(Relaxed) >> shift) as u8;
            word.fetch_xor(u32::from(old ^ value) << shift, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn bytes_and_words_are_the_same_memory_and_the_end_is_safe() {
        let memory: Vec<AtomicU32> = (0..4).map(|_| AtomicU32::new(0)).collect();
        let vram: &dyn Vram = &SliceRef(&memory);
        vram.set32(4, 0x4433_2211);
        assert_eq!([vram.get(4), vram.get(5), vram.get(7)], [0x11, 0x22, 0x44]);
        vram.set(6, 0xAB);
        assert_eq!(vram.get32(7), 0x44AB_2211);
        vram.set(16, 1);
        vram.set32(u32::MAX, 1);
        assert_eq!((vram.len(), vram.get(16), vram.get32(u32::MAX)), (16, 0xFF, u32::MAX));
        vram.fill(0, u32::MAX, 7);
        assert_eq!(vram.get32(12), 7);
    }

    struct SliceRef<'a>(&'a [AtomicU32]);

    impl Vram for SliceRef<'_> {
        fn len(&self) -> u32 {
            Vram::len(self.0)
        }
        fn get32(&self, off: u32) -> u32 {
            self.0.get32(off)
        }
        fn set32(&self, off: u32, value: u32) {
            self.0.set32(off, value);
        }
        fn set(&self, off: u32, value: u8) {
            self.0.set(off, value);
        }
    }
}
