//! One 4 KiB page that hypervisor and guests share: a ring, a grant frame, the shared info page.
//!
//! As [`GuestRam`](crate::GuestRam), but offsets begin at the page. Accesses are relaxed; who needs an
//! order between them (rings) puts `core::sync::atomic::fence` there.

use crate::addr::GuestPhys;
use crate::ram::{GuestRam, NotRam};
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};

/// 8-byte cells of a page.
pub const PAGE_CELLS: usize = 512;

/// A page. Cheap to copy; all copies are the same memory. Offsets that leave the page give `None` or
/// [`NotRam`].
#[derive(Clone, Copy, Debug)]
pub struct SharedPage(&'static [AtomicU64; PAGE_CELLS]);

impl SharedPage {
    /// The page behind `cells`.
    #[must_use]
    #[inline]
    pub const fn new(cells: &'static [AtomicU64; PAGE_CELLS]) -> SharedPage {
        SharedPage(cells)
    }

    /// The page as a RAM of its own. Its size is known where this is compiled, so that the checks of
    /// [`GuestRam`] become one comparison.
    #[inline]
    const fn ram(&self) -> GuestRam {
        GuestRam::new(self.0, &[])
    }

    /// Whether both are the same memory.
    #[must_use]
    pub fn is(&self, other: &SharedPage) -> bool {
        core::ptr::eq(self.0, other.0)
    }

    /// The aligned 8-byte words from byte `offset` on that hold `bytes`. `None` where they are not all in the page.
    #[must_use]
    #[inline]
    pub fn words(&self, offset: usize, bytes: usize) -> Option<&'static [AtomicU64]> {
        let first = offset / 8;
        self.0.get(first..first + bytes.div_ceil(8))
    }

    /// Reads one byte.
    #[must_use]
    #[inline]
    pub fn read_u8(&self, offset: usize) -> Option<u8> {
        self.ram().read_u8(at(offset))
    }

    /// Reads two bytes, any alignment.
    #[must_use]
    #[inline]
    pub fn read_u16(&self, offset: usize) -> Option<u16> {
        self.ram().read_u16(at(offset))
    }

    /// Reads four bytes, any alignment.
    #[must_use]
    #[inline]
    pub fn read_u32(&self, offset: usize) -> Option<u32> {
        self.ram().read_u32(at(offset))
    }

    /// Reads eight bytes, any alignment.
    #[must_use]
    #[inline]
    pub fn read_u64(&self, offset: usize) -> Option<u64> {
        self.ram().read_u64(at(offset))
    }

    /// Writes the low `width` bytes (1 to 8) of `value`, any alignment.
    ///
    /// # Errors
    /// [`NotRam`] where a byte is outside; nothing is written then.
    #[inline]
    pub fn write(&self, offset: usize, width: u8, value: u64) -> Result<(), NotRam> {
        self.ram().write(at(offset), width, value)
    }

    /// Copies out of the page.
    ///
    /// # Errors
    /// [`NotRam`] where a byte is outside; `buffer` is unchanged then.
    pub fn read(&self, offset: usize, buffer: &mut [u8]) -> Result<(), NotRam> {
        // Whole cells, as requests of rings are.
        if offset.is_multiple_of(8)
            && let (words, []) = buffer.as_chunks_mut::<8>()
        {
            let cells = self.0.get(offset / 8..).and_then(|cells| cells.get(..words.len()));
            for (word, cell) in words.iter_mut().zip(cells.ok_or(NotRam)?) {
                *word = cell.load(Relaxed).to_le_bytes();
            }
            return Ok(());
        }
        self.ram().read(at(offset), buffer)
    }

    /// Copies into the page.
    ///
    /// # Errors
    /// [`NotRam`] where a byte is outside; nothing is written then.
    pub fn write_slice(&self, offset: usize, bytes: &[u8]) -> Result<(), NotRam> {
        self.ram().write_slice(at(offset), bytes)
    }

    /// As [`GuestRam::copy_from`].
    ///
    /// # Errors
    /// [`NotRam`] where a byte of either page is outside; nothing is written then.
    pub fn copy_from(
        &self,
        offset: usize,
        source: &SharedPage,
        from: usize,
        len: usize,
        copy: impl Fn(&[AtomicU64], &[AtomicU64]),
    ) -> Result<(), NotRam> {
        if len == PAGE_CELLS * 8 && offset == 0 && from == 0 {
            copy(self.0, source.0);
            return Ok(());
        }
        self.ram().copy_from(at(offset), &source.ram(), at(from), len, copy)
    }

    /// As [`GuestRam::compare_exchange`].
    ///
    /// # Errors
    /// [`NotRam`] outside the page, or where the access straddles an 8-byte cell.
    #[inline]
    pub fn compare_exchange(
        &self,
        offset: usize,
        width: u8,
        current: u64,
        new: u64,
    ) -> Result<bool, NotRam> {
        self.ram().compare_exchange(at(offset), width, current, new)
    }

    /// Sets bits of the aligned `width` bytes (1, 2, 4 or 8) at `offset`, as a locked OR does, in sequential
    /// order. What stood there before.
    ///
    /// # Errors
    /// [`NotRam`] outside the page, or where the access straddles an 8-byte cell.
    #[inline]
    pub fn fetch_or(&self, offset: usize, width: u8, bits: u64) -> Result<u64, NotRam> {
        self.ram().fetch_or(at(offset), width, bits)
    }

    /// Clears bits, otherwise as [`fetch_or`](SharedPage::fetch_or).
    ///
    /// # Errors
    /// [`NotRam`] outside the page, or where the access straddles an 8-byte cell.
    #[inline]
    pub fn fetch_clear(&self, offset: usize, width: u8, bits: u64) -> Result<u64, NotRam> {
        self.ram().fetch_clear(at(offset), width, bits)
    }

    /// Sets one bit, as a locked BTS does, in sequential order. Bits count from the page's first byte, 0 to 32767.
    /// Whether it was set; `None` outside the page.
    #[inline]
    pub fn set_bit(&self, bit: usize) -> Option<bool> {
        let mask = 1 << (bit % 64);
        Some(self.0.get(bit / 64)?.fetch_or(mask, SeqCst) & mask != 0)
    }

    /// Clears one bit, as a locked BTR does, otherwise as [`set_bit`](SharedPage::set_bit).
    #[inline]
    pub fn clear_bit(&self, bit: usize) -> Option<bool> {
        let mask = 1 << (bit % 64);
        Some(self.0.get(bit / 64)?.fetch_and(!mask, SeqCst) & mask != 0)
    }

    /// Whether one bit is set; `None` outside the page.
    #[must_use]
    #[inline]
    pub fn test_bit(&self, bit: usize) -> Option<bool> {
        Some(self.0.get(bit / 64)?.load(Relaxed) >> (bit % 64) & 1 != 0)
    }
}

#[inline]
fn at(offset: usize) -> GuestPhys {
    GuestPhys(offset as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::boxed::Box;

    fn page() -> SharedPage {
        SharedPage::new(Box::leak(Box::new([const { AtomicU64::new(0) }; PAGE_CELLS])))
    }

    #[test]
    fn accesses_stay_in_the_page() {
        let page = page();
        assert_eq!(page.write(4092, 4, 0x1234_5678), Ok(()));
        assert_eq!(page.read_u32(4092), Some(0x1234_5678));
        assert_eq!(page.read_u32(4093), None);
        assert_eq!(page.write(4096, 1, 0), Err(NotRam));
        assert_eq!(page.read_u8(usize::MAX), None);
        assert!(page.is(&page.clone()) && !page.is(&self::page()));
    }

    #[test]
    fn reads_of_any_place_and_length_give_the_bytes_that_are_there() {
        let page = page();
        for n in 0..4096 {
            page.write(n, 1, (n * 7 % 251) as u64).unwrap();
        }
        for (offset, len) in [(0, 16), (8, 112), (4088, 8), (3, 8), (8, 7), (4095, 1), (4096, 0)] {
            let mut bytes = std::vec![0xff; len];
            assert_eq!(page.read(offset, &mut bytes), Ok(()), "{offset} {len}");
            let right = |(n, byte): (usize, &u8)| *byte == ((offset + n) * 7 % 251) as u8;
            assert!(bytes.iter().enumerate().all(right), "{offset} {len}");
        }
        for (offset, len) in [(4088, 16), (4096, 8), (4090, 8), (usize::MAX - 7, 8), (8192, 8)] {
            let mut bytes = std::vec![0xff; len];
            assert_eq!(page.read(offset, &mut bytes), Err(NotRam), "{offset} {len}");
            assert!(bytes.iter().all(|byte| *byte == 0xff));
        }
    }

    #[test]
    fn a_page_of_the_ram_is_the_page_of_its_cells() {
        let cells: &'static [AtomicU64; PAGE_CELLS] =
            Box::leak(Box::new([const { AtomicU64::new(0) }; PAGE_CELLS]));
        let of_ram = GuestRam::new(cells, &[]).page(GuestPhys(0)).unwrap();
        assert!(SharedPage::new(cells).is(&of_ram));
    }

    #[test]
    fn bits_are_set_and_cleared_and_the_old_value_is_told() {
        let page = page();
        assert_eq!(page.fetch_or(12, 4, 0x8000_0001), Ok(0));
        assert_eq!(page.fetch_or(12, 4, 2), Ok(0x8000_0001));
        assert_eq!(page.read_u32(8), Some(0));
        assert_eq!(page.fetch_clear(12, 4, 1), Ok(0x8000_0003));
        assert_eq!(page.read_u64(8), Some(0x8000_0002 << 32));
        assert_eq!(page.fetch_or(6, 4, 1), Err(NotRam));
    }

    #[test]
    fn a_bit_has_the_place_that_x86_gives_it() {
        for bit in [0, 1, 31, 32, 63, 64, 4097, 32767] {
            let page = page();
            assert_eq!(page.test_bit(bit), Some(false));
            assert_eq!(page.set_bit(bit), Some(false));
            assert_eq!(page.read_u8(bit / 8), Some(1 << (bit % 8)));
            assert_eq!((page.set_bit(bit), page.test_bit(bit)), (Some(true), Some(true)));
            assert_eq!((page.clear_bit(bit), page.clear_bit(bit)), (Some(true), Some(false)));
            assert_eq!(page.read_u8(bit / 8), Some(0));
        }
        for beyond in [32768, usize::MAX] {
            assert_eq!((page().set_bit(beyond), page().clear_bit(beyond)), (None, None));
            assert_eq!(page().test_bit(beyond), None);
        }
    }
}
