//! A guest's RAM as the hypervisor sees it: shared with running vCPUs, so every access is atomic.
//!
//! A guest-chosen address never panics: outside RAM reads give `None` and writes `Err`. Values are
//! copied out once; nothing borrows from guest memory.

use crate::addr::GuestPhys;
use crate::page::SharedPage;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::SeqCst};

/// Where RAM above the 32-bit hole starts.
pub const HIGH_RAM: u64 = 1 << 32;

/// The access is not wholly inside RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotRam;

/// A guest's RAM in two runs: from 0, and from 4 GiB. Cheap to copy; all copies are the same memory.
///
/// `hv` gives slices over the guest's frames in its own address space; tests leak a `Vec`.
#[derive(Clone, Copy, Debug)]
pub struct GuestRam {
    low: &'static [AtomicU64],
    high: &'static [AtomicU64],
}

impl GuestRam {
    /// RAM with `low` at address 0 and `high` at 4 GiB. `low` is at most 4 GiB.
    #[must_use]
    pub const fn new(low: &'static [AtomicU64], high: &'static [AtomicU64]) -> GuestRam {
        GuestRam { low, high }
    }

    /// Bytes below 4 GiB.
    #[must_use]
    pub const fn low_size(&self) -> u64 {
        self.low.len() as u64 * 8
    }

    /// Bytes from 4 GiB up.
    #[must_use]
    pub const fn high_size(&self) -> u64 {
        self.high.len() as u64 * 8
    }

    /// Whether `bytes` from `at` are all RAM.
    #[must_use]
    pub fn contains(&self, at: GuestPhys, bytes: u64) -> bool {
        let Some(end) = at.0.checked_add(bytes) else { return false };
        end <= self.low_size() || (at.0 >= HIGH_RAM && end - HIGH_RAM <= self.high_size())
    }

    /// The aligned 8-byte cell that holds `at`. The one way into the slices.
    #[inline]
    fn cell(&self, at: u64) -> Option<&'static AtomicU64> {
        if let Some(cell) = self.low.get((at >> 3) as usize) {
            return Some(cell);
        }
        self.high.get((at.checked_sub(HIGH_RAM)? >> 3) as usize)
    }

    /// The aligned 8 bytes that hold `at`, for who looks at them often.
    #[must_use]
    #[inline]
    pub fn word(&self, at: GuestPhys) -> Option<&'static AtomicU64> {
        self.cell(at.0)
    }

    #[inline]
    fn read_bytes(&self, at: GuestPhys, width: u64) -> Option<u64> {
        let shift = (at.0 & 7) * 8;
        let first = self.cell(at.0)?.load(Relaxed) >> shift;
        if (at.0 & 7) + width <= 8 {
            return Some(first);
        }
        // Straddles two cells: not atomic, as on the bus.
        let second = self.cell((at.0 | 7).checked_add(1)?)?.load(Relaxed);
        Some(first | second << (64 - shift))
    }

    /// Reads one byte.
    #[must_use]
    #[inline]
    pub fn read_u8(&self, at: GuestPhys) -> Option<u8> {
        Some(self.read_bytes(at, 1)? as u8)
    }

    /// Reads two bytes, any alignment.
    #[must_use]
    #[inline]
    pub fn read_u16(&self, at: GuestPhys) -> Option<u16> {
        Some(self.read_bytes(at, 2)? as u16)
    }

    /// Reads four bytes, any alignment.
    #[must_use]
    #[inline]
    pub fn read_u32(&self, at: GuestPhys) -> Option<u32> {
        Some(self.read_bytes(at, 4)? as u32)
    }

    /// Reads eight bytes, any alignment.
    #[must_use]
    #[inline]
    pub fn read_u64(&self, at: GuestPhys) -> Option<u64> {
        self.read_bytes(at, 8)
    }

    /// Writes the low `width` bytes (1 to 8) of `value`, any alignment. Bytes beside them keep what a
    /// vCPU may be writing there at the same time.
    ///
    /// # Errors
    /// [`NotRam`] where any byte is outside; nothing is written then.
    pub fn write(&self, at: GuestPhys, width: u8, value: u64) -> Result<(), NotRam> {
        let width = u64::from(width.clamp(1, 8));
        let first = self.cell(at.0).ok_or(NotRam)?;
        let offset = at.0 & 7;
        if offset == 0 && width == 8 {
            first.store(value, Relaxed);
            return Ok(());
        }
        let mask = if width == 8 { u64::MAX } else { (1 << (width * 8)) - 1 };
        let value = value & mask;
        let shift = offset * 8;
        if offset + width <= 8 {
            merge(first, mask << shift, value << shift);
            return Ok(());
        }
        let next = (at.0 | 7).checked_add(1).ok_or(NotRam)?;
        let second = self.cell(next).ok_or(NotRam)?;
        merge(first, mask << shift, value << shift);
        merge(second, mask >> (64 - shift), value >> (64 - shift));
        Ok(())
    }

    /// Writes one byte.
    ///
    /// # Errors
    /// [`NotRam`] outside RAM.
    pub fn write_u8(&self, at: GuestPhys, value: u8) -> Result<(), NotRam> {
        self.write(at, 1, value.into())
    }

    /// Writes two bytes, any alignment.
    ///
    /// # Errors
    /// [`NotRam`] outside RAM.
    pub fn write_u16(&self, at: GuestPhys, value: u16) -> Result<(), NotRam> {
        self.write(at, 2, value.into())
    }

    /// Writes four bytes, any alignment.
    ///
    /// # Errors
    /// [`NotRam`] outside RAM.
    pub fn write_u32(&self, at: GuestPhys, value: u32) -> Result<(), NotRam> {
        self.write(at, 4, value.into())
    }

    /// Writes eight bytes, any alignment.
    ///
    /// # Errors
    /// [`NotRam`] outside RAM.
    pub fn write_u64(&self, at: GuestPhys, value: u64) -> Result<(), NotRam> {
        self.write(at, 8, value)
    }

    /// Copies guest memory into `buffer`.
    ///
    /// # Errors
    /// [`NotRam`] where any byte is outside; `buffer` is then unchanged.
    pub fn read(&self, at: GuestPhys, buffer: &mut [u8]) -> Result<(), NotRam> {
        let cells = self.run(at, buffer.len())?;
        let mut skip = (at.0 & 7) as usize;
        let mut rest = buffer;
        for cell in cells {
            let bytes = cell.load(Relaxed).to_le_bytes();
            if skip == 0 && rest.len() >= 8 {
                let (now, later) = rest.split_at_mut(8);
                now.copy_from_slice(&bytes);
                rest = later;
                continue;
            }
            let take = (8 - skip).min(rest.len());
            let (now, later) = rest.split_at_mut(take);
            now.copy_from_slice(&bytes[skip..skip + take]);
            rest = later;
            skip = 0;
        }
        Ok(())
    }

    /// Copies `bytes` into guest memory.
    ///
    /// # Errors
    /// [`NotRam`] where any byte is outside; nothing is written then.
    pub fn write_slice(&self, at: GuestPhys, bytes: &[u8]) -> Result<(), NotRam> {
        let cells = self.run(at, bytes.len())?;
        let mut skip = (at.0 & 7) as usize;
        let mut rest = bytes;
        for cell in cells {
            if skip == 0
                && let Some((now, later)) = rest.split_first_chunk::<8>()
            {
                cell.store(u64::from_le_bytes(*now), Relaxed);
                rest = later;
                continue;
            }
            let take = (8 - skip).min(rest.len());
            let (now, later) = rest.split_at(take);
            let (mut mask, mut value) = ([0; 8], [0; 8]);
            mask[skip..skip + take].fill(0xff);
            value[skip..skip + take].copy_from_slice(now);
            merge(cell, u64::from_le_bytes(mask), u64::from_le_bytes(value));
            rest = later;
            skip = 0;
        }
        Ok(())
    }

    /// The `count` aligned 8-byte words from the one that holds `at`.
    #[must_use]
    #[inline]
    pub fn words(&self, at: GuestPhys, count: usize) -> Option<&'static [AtomicU64]> {
        self.run(at, count.checked_mul(8)?).ok()
    }

    /// Copies `len` bytes from `source`, by `copy` in words of eight bytes where both lie alike in theirs
    /// ([`copy_words`], or what the host has).
    ///
    /// # Errors
    /// [`NotRam`] where any byte of either is outside; nothing is written then.
    pub fn copy_from(
        &self,
        at: GuestPhys,
        source: &GuestRam,
        from: GuestPhys,
        len: usize,
        copy: impl Fn(&[AtomicU64], &[AtomicU64]),
    ) -> Result<(), NotRam> {
        let (to_cells, from_cells) = (self.run(at, len)?, source.run(from, len)?);
        let mut done = 0;
        let mut piece = [0; 64];
        if at.0 & 7 == from.0 & 7 && len >= 16 {
            let head = (8 - (at.0 & 7) as usize) % 8;
            if head > 0 {
                source.read(from, &mut piece[..head])?;
                self.write_slice(at, &piece[..head])?;
            }
            let (whole, skip) = ((len - head) / 8, usize::from(head > 0));
            let to = to_cells.get(skip..skip + whole).ok_or(NotRam)?;
            let from = from_cells.get(skip..skip + whole).ok_or(NotRam)?;
            copy(to, from);
            done = head + whole * 8;
        }
        while done < len {
            let piece = &mut piece[..(len - done).min(64)];
            source.read(GuestPhys(from.0 + done as u64), piece)?;
            self.write_slice(GuestPhys(at.0 + done as u64), piece)?;
            done += piece.len();
        }
        Ok(())
    }

    /// Fills `len` bytes with `value`.
    ///
    /// # Errors
    /// [`NotRam`] where any byte is outside; nothing is written then.
    pub fn fill(&self, at: GuestPhys, len: u64, value: u8) -> Result<(), NotRam> {
        if !self.contains(at, len) {
            return Err(NotRam);
        }
        let block = [value; 64];
        let mut done = 0;
        while done < len {
            let take = (len - done).min(64);
            self.write_slice(GuestPhys(at.0 + done), &block[..take as usize])?;
            done += take;
        }
        Ok(())
    }

    /// Replaces the aligned `width` bytes (1, 2, 4 or 8) at `at` by `new` if they still are `current`, as
    /// a locked CMPXCHG does. `Ok(false)`: they were not.
    ///
    /// # Errors
    /// [`NotRam`] outside RAM, or where the access straddles an 8-byte cell.
    #[inline]
    pub fn compare_exchange(
        &self,
        at: GuestPhys,
        width: u8,
        current: u64,
        new: u64,
    ) -> Result<bool, NotRam> {
        let (cell, mask, shift) = self.part(at, width)?;
        let shifted = |value: u64| value << shift & mask;
        let swapped = cell.fetch_update(Relaxed, Relaxed, |old| {
            (old & mask == shifted(current)).then_some(old & !mask | shifted(new))
        });
        Ok(swapped.is_ok())
    }

    /// Sets bits of the aligned `width` bytes (1, 2, 4 or 8) at `at`, as a locked OR does, in sequential
    /// order. What stood there before.
    ///
    /// # Errors
    /// [`NotRam`] outside RAM, or where the access straddles an 8-byte cell.
    #[inline]
    pub fn fetch_or(&self, at: GuestPhys, width: u8, bits: u64) -> Result<u64, NotRam> {
        let (cell, mask, shift) = self.part(at, width)?;
        Ok((cell.fetch_or(bits << shift & mask, SeqCst) & mask) >> shift)
    }

    /// Clears bits, otherwise as [`fetch_or`](GuestRam::fetch_or).
    ///
    /// # Errors
    /// [`NotRam`] outside RAM, or where the access straddles an 8-byte cell.
    #[inline]
    pub fn fetch_clear(&self, at: GuestPhys, width: u8, bits: u64) -> Result<u64, NotRam> {
        let (cell, mask, shift) = self.part(at, width)?;
        Ok((cell.fetch_and(!(bits << shift & mask), SeqCst) & mask) >> shift)
    }

    /// The page that holds `at`, for who shares it with the guest.
    #[must_use]
    pub fn page(&self, at: GuestPhys) -> Option<SharedPage> {
        let (cells, base) = if at.0 >= HIGH_RAM { (self.high, HIGH_RAM) } else { (self.low, 0) };
        let first = ((at.page().0 - base) >> 3) as usize;
        cells.get(first..)?.first_chunk().map(SharedPage::new)
    }

    /// Whether both are the same memory.
    #[must_use]
    pub fn is_same(&self, other: &GuestRam) -> bool {
        // An empty slice has no address that counts.
        let same = |a: &[AtomicU64], b: &[AtomicU64]| {
            core::ptr::eq(a, b) || (a.is_empty() && b.is_empty())
        };
        same(self.low, other.low) && same(self.high, other.high)
    }

    /// The cell, the mask and the shift of an access within one cell.
    #[inline]
    fn part(&self, at: GuestPhys, width: u8) -> Result<(&'static AtomicU64, u64, u64), NotRam> {
        let cell = self.cell(at.0).ok_or(NotRam)?;
        let (offset, width) = (at.0 & 7, u64::from(width.clamp(1, 8)));
        if offset + width > 8 {
            return Err(NotRam);
        }
        let mask = if width == 8 { u64::MAX } else { ((1 << (width * 8)) - 1) << (offset * 8) };
        Ok((cell, mask, offset * 8))
    }

    /// The cells that hold `len` bytes from `at`.
    fn run(&self, at: GuestPhys, len: usize) -> Result<&'static [AtomicU64], NotRam> {
        if len == 0 {
            return Ok(&[]);
        }
        let end = at.0.checked_add(len as u64).ok_or(NotRam)?;
        let (slice, base) = if at.0 >= HIGH_RAM { (self.high, HIGH_RAM) } else { (self.low, 0) };
        let first = ((at.0 - base) >> 3) as usize;
        let last = (end - base).div_ceil(8) as usize;
        slice.get(first..last).ok_or(NotRam)
    }
}

/// Copies words, as many as both have: eight in a row, because the compiler leaves a loop over atomics
/// as it is.
pub fn copy_words(to: &[AtomicU64], from: &[AtomicU64]) {
    let ((to, to_rest), (from, from_rest)) = (to.as_chunks::<8>(), from.as_chunks::<8>());
    for (to, from) in to.iter().zip(from) {
        let words = from.each_ref().map(|cell| cell.load(Relaxed));
        to.iter().zip(words).for_each(|(cell, word)| cell.store(word, Relaxed));
    }
    to_rest.iter().zip(from_rest).for_each(|(to, from)| to.store(from.load(Relaxed), Relaxed));
}

/// Sets the `mask`ed bits to `value` and keeps the others, against concurrent writers.
fn merge(cell: &AtomicU64, mask: u64, value: u64) {
    let mut old = cell.load(Relaxed);
    while let Err(seen) = cell.compare_exchange_weak(old, old & !mask | value, Relaxed, Relaxed) {
        old = seen;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn ram(low: usize, high: usize) -> GuestRam {
        let make =
            |bytes: usize| Vec::leak((0..bytes / 8).map(|_| AtomicU64::new(0)).collect::<Vec<_>>());
        GuestRam::new(make(low), make(high))
    }

    #[test]
    fn unaligned_writes_touch_only_their_bytes() {
        for offset in 0..16 {
            for width in 1..=8u8 {
                let ram = ram(32, 0);
                ram.fill(GuestPhys(0), 32, 0xee).unwrap();
                ram.write(GuestPhys(offset), width, 0x1122_3344_5566_7788).unwrap();
                let mut all = [0; 32];
                ram.read(GuestPhys(0), &mut all).unwrap();
                for (at, byte) in all.iter().enumerate() {
                    let inside = (offset..offset + u64::from(width)).contains(&(at as u64));
                    let want = if inside {
                        0x1122_3344_5566_7788u64.to_le_bytes()[at - offset as usize]
                    } else {
                        0xee
                    };
                    assert_eq!(*byte, want, "offset {offset} width {width} at {at}");
                }
                assert_eq!(
                    ram.read_u64(GuestPhys(offset)).unwrap() & 0xff,
                    u64::from(all[offset as usize])
                );
            }
        }
    }

    #[test]
    fn slices_round_trip_at_every_alignment_and_stop_at_the_end() {
        let ram = ram(64, 64);
        for base in [0, HIGH_RAM] {
            for offset in 0..9 {
                for len in 0..40usize {
                    let data: Vec<u8> = (0..len as u8).map(|n| n ^ 0x5a).collect();
                    ram.write_slice(GuestPhys(base + offset), &data).unwrap();
                    let mut back = std::vec![0; len];
                    ram.read(GuestPhys(base + offset), &mut back).unwrap();
                    assert_eq!(back, data);
                }
            }
            assert_eq!(ram.write_slice(GuestPhys(base + 60), &[1; 5]), Err(NotRam));
            assert_eq!(ram.write(GuestPhys(base + 60), 8, 1), Err(NotRam));
            assert_eq!(ram.read_u64(GuestPhys(base + 60)), None);
        }
        assert_eq!(ram.read_u8(GuestPhys(u64::MAX)), None);
        assert_eq!(ram.read_u64(GuestPhys(u64::MAX)), None);
        assert!(!ram.contains(GuestPhys(u64::MAX), 2));
    }

    #[test]
    fn copies_are_the_same_bytes_at_every_alignment_and_stop_at_the_end() {
        let source = ram(128, 0);
        let data: Vec<u8> = (0..128).map(|n| n ^ 0x5a).collect();
        source.write_slice(GuestPhys(0), &data).unwrap();
        for (at, from) in (0..10).flat_map(|at| (0..10).map(move |from| (at, from))) {
            for len in 0..90 {
                let target = ram(0, 128);
                target.fill(GuestPhys(HIGH_RAM), 128, 0xee).unwrap();
                let high = GuestPhys(HIGH_RAM + at as u64);
                target.copy_from(high, &source, GuestPhys(from as u64), len, copy_words).unwrap();
                let mut back = [0; 128];
                target.read(GuestPhys(HIGH_RAM), &mut back).unwrap();
                assert_eq!(back[at..at + len], data[from..from + len], "{at} {from} {len}");
                let others = back[..at].iter().chain(&back[at + len..]);
                assert!(others.copied().all(|byte| byte == 0xee), "{at} {from} {len}");
            }
        }
        let target = ram(128, 0);
        assert_eq!(
            target.copy_from(GuestPhys(64), &source, GuestPhys(0), 65, copy_words),
            Err(NotRam)
        );
        assert_eq!(
            target.copy_from(GuestPhys(0), &source, GuestPhys(64), 65, copy_words),
            Err(NotRam)
        );
        assert_eq!(target.read_u64(GuestPhys(64)), Some(0));
    }

    #[test]
    fn compare_exchange_changes_only_a_match() {
        let ram = ram(16, 0);
        ram.write_u32(GuestPhys(4), 7).unwrap();
        assert_eq!(ram.compare_exchange(GuestPhys(4), 4, 8, 9), Ok(false));
        assert_eq!(ram.compare_exchange(GuestPhys(4), 4, 7, 9), Ok(true));
        assert_eq!(ram.read_u32(GuestPhys(4)), Some(9));
        assert_eq!(ram.read_u32(GuestPhys(0)), Some(0));
    }
}
