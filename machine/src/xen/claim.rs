//! What a guest points a hypercall at: copied once, by the guest's own page tables, page by page.

use crate::Machine;
use crate::cpu::Cpu;
use arch::paging::Paging;
use arch::{Access, GuestPhys, GuestVirt, Vcpu};
use core::sync::atomic::{AtomicU64, Ordering};
use pvdrivers::Errno;
use pvdrivers::abi::{Layout, Width};

/// Bytes of the largest argument that is read whole.
const LARGEST: usize = 128;
/// Bytes of most arguments at the most: a buffer is filled with zeros first, which takes its time.
const USUAL: usize = 32;
/// Bytes of the smallest arguments at the most: one load gets them.
const SMALL: usize = 8;
/// Bytes of arguments that [`Machine::words_of`] finds, at the most.
const WORDS: usize = 40;

/// Reads an argument from its words.
///
/// # Errors
/// [`Errno::EFAULT`] where they are too few.
#[inline(always)]
pub(crate) fn parse_words<T: Layout>(words: &[AtomicU64], width: Width) -> Result<T, Errno> {
    // Apart, so that the compiler knows the width: then most arguments are a few loads.
    match width {
        Width::Bits64 => parse_as(words, Width::Bits64),
        Width::Bits32 => parse_narrow(words),
    }
}

#[inline(never)]
fn parse_narrow<T: Layout>(words: &[AtomicU64]) -> Result<T, Errno> {
    parse_as(words, Width::Bits32)
}

#[inline(always)]
fn parse_as<T: Layout>(words: &[AtomicU64], width: Width) -> Result<T, Errno> {
    let mut bytes = [0; WORDS];
    let (chunks, _) = bytes.as_chunks_mut::<8>();
    let words = words.get(..T::size(width) / 8).ok_or(Errno::EFAULT)?;
    chunks
        .iter_mut()
        .zip(words)
        .for_each(|(to, from)| *to = from.load(Ordering::Relaxed).to_le_bytes());
    T::parse(&bytes, width)
}

/// Writes an argument back to its words. Padding becomes zero.
///
/// # Errors
/// [`Errno::EFAULT`] where they are too few.
#[inline(always)]
pub(crate) fn store_words<T: Layout>(
    words: &[AtomicU64],
    width: Width,
    value: &T,
) -> Result<(), Errno> {
    match width {
        Width::Bits64 => store_as(words, Width::Bits64, value),
        Width::Bits32 => store_narrow(words, value),
    }
}

#[inline(never)]
fn store_narrow<T: Layout>(words: &[AtomicU64], value: &T) -> Result<(), Errno> {
    store_as(words, Width::Bits32, value)
}

#[inline(always)]
fn store_as<T: Layout>(words: &[AtomicU64], width: Width, value: &T) -> Result<(), Errno> {
    let mut bytes = [0; WORDS];
    value.store(&mut bytes, width)?;
    let (chunks, _) = bytes.as_chunks::<8>();
    let words = words.get(..T::size(width) / 8).ok_or(Errno::EFAULT)?;
    words
        .iter()
        .zip(chunks)
        .for_each(|(to, from)| to.store(u64::from_le_bytes(*from), Ordering::Relaxed));
    Ok(())
}

impl Machine {
    /// Copies from the caller's linear address `at`.
    ///
    /// # Errors
    /// [`Errno::EFAULT`] where the caller's page tables or RAM end.
    pub(crate) fn copy_from_guest<V: Vcpu>(
        &self,
        vcpu: &V,
        at: GuestVirt,
        buffer: &mut [u8],
    ) -> Result<(), Errno> {
        self.copy_in(&self.paging_of(vcpu), at, buffer)
    }

    /// Copies to the caller's linear address `at`.
    ///
    /// # Errors
    /// [`Errno::EFAULT`] where the caller's page tables or RAM end, or forbid writing; pages before
    /// that are written.
    pub(crate) fn copy_to_guest<V: Vcpu>(
        &self,
        vcpu: &V,
        at: GuestVirt,
        bytes: &[u8],
    ) -> Result<(), Errno> {
        self.copy_out(&self.paging_of(vcpu), at, bytes)
    }

    /// As [`claim`](Machine::claim), where [`words_of`](Machine::words_of) found none.
    ///
    /// # Errors
    /// As `claim`.
    #[cold]
    #[inline(never)]
    pub(crate) fn claim_apart<T: Layout, V: Vcpu>(
        &self,
        vcpu: &V,
        at: GuestVirt,
        width: Width,
    ) -> Result<T, Errno> {
        self.claim(vcpu, at, width)
    }

    /// As [`give`](Machine::give), where [`words_of`](Machine::words_of) found none.
    ///
    /// # Errors
    /// As `give`.
    #[cold]
    #[inline(never)]
    pub(crate) fn give_apart<T: Layout, V: Vcpu>(
        &self,
        vcpu: &V,
        at: GuestVirt,
        width: Width,
        value: &T,
    ) -> Result<(), Errno> {
        self.give(vcpu, at, width, value)
    }

    /// Reads an argument.
    ///
    /// # Errors
    /// As [`copy_from_guest`](Machine::copy_from_guest).
    #[inline(always)]
    pub(crate) fn claim<T: Layout, V: Vcpu>(
        &self,
        vcpu: &V,
        at: GuestVirt,
        width: Width,
    ) -> Result<T, Errno> {
        match T::size(width) {
            size @ 0..=SMALL if (at.0 & 7) as usize + size <= SMALL => {
                T::parse(&self.claim_word(vcpu, at)?.to_le_bytes(), width)
            }
            0..=USUAL => self.claim_in::<T, V, USUAL>(vcpu, at, width),
            _ => self.claim_in::<T, V, LARGEST>(vcpu, at, width),
        }
    }

    /// The words of an argument that its caller reads and writes, where it lies in whole words of one page that is
    /// easily found. `None`: it takes [`claim`](Machine::claim) and [`give`](Machine::give), which say what is wrong, too.
    #[inline(always)]
    pub(crate) fn words_of<V: Vcpu>(
        &self,
        cpu: &mut Cpu,
        vcpu: &V,
        at: GuestVirt,
        bytes: usize,
    ) -> Option<&'static [AtomicU64]> {
        if at.0 & 7 != 0 || bytes & 7 != 0 || bytes > WORDS {
            return None;
        }
        self.page_of(cpu, vcpu, at)?.words(at.page_offset() as usize, bytes)
    }

    /// Reads the bytes from `at` to the end of the eight that are aligned.
    #[inline(never)]
    fn claim_word<V: Vcpu>(&self, vcpu: &V, at: GuestVirt) -> Result<u64, Errno> {
        let bits = self.cpuid.physical_bits();
        let found = Paging::translate_once(vcpu, bits, &self.ram, at, Access::READ);
        let gpa = found.map_err(|_| Errno::EFAULT)?.gpa;
        let word = self.ram.word(gpa).ok_or(Errno::EFAULT)?.load(Ordering::Relaxed);
        Ok(word >> (8 * (gpa.0 & 7)))
    }

    /// The four bytes at `at`, where they are in one page that is easily found; else [`claim`](Machine::claim) finds
    /// them or says what is wrong.
    #[inline(always)]
    pub(crate) fn u32_at<V: Vcpu>(&self, cpu: &mut Cpu, vcpu: &V, at: GuestVirt) -> Option<u32> {
        self.page_of(cpu, vcpu, at)?.read_u32(at.page_offset() as usize)
    }

    /// Reads an argument of up to `SIZE` bytes.
    fn claim_in<T: Layout, V: Vcpu, const SIZE: usize>(
        &self,
        vcpu: &V,
        at: GuestVirt,
        width: Width,
    ) -> Result<T, Errno> {
        let mut bytes = [0; SIZE];
        let bytes = bytes.get_mut(..T::size(width)).ok_or(Errno::E2BIG)?;
        self.copy_from_guest(vcpu, at, bytes)?;
        T::parse(bytes, width)
    }

    /// Writes an argument back with its results. Padding becomes zero.
    ///
    /// # Errors
    /// As [`copy_to_guest`](Machine::copy_to_guest).
    #[inline]
    pub(crate) fn give<T: Layout, V: Vcpu>(
        &self,
        vcpu: &V,
        at: GuestVirt,
        width: Width,
        value: &T,
    ) -> Result<(), Errno> {
        match T::size(width) {
            0..=USUAL => self.give_from::<T, V, USUAL>(vcpu, at, width, value),
            _ => self.give_from::<T, V, LARGEST>(vcpu, at, width, value),
        }
    }

    /// Writes an argument of up to `SIZE` bytes.
    fn give_from<T: Layout, V: Vcpu, const SIZE: usize>(
        &self,
        vcpu: &V,
        at: GuestVirt,
        width: Width,
        value: &T,
    ) -> Result<(), Errno> {
        let mut bytes = [0; SIZE];
        let bytes = bytes.get_mut(..T::size(width)).ok_or(Errno::E2BIG)?;
        value.store(bytes, width)?;
        self.copy_to_guest(vcpu, at, bytes)
    }

    /// Where a linear address of the caller's leads, for writing.
    ///
    /// # Errors
    /// [`Errno::EFAULT`] where it leads nowhere.
    pub(crate) fn linear_to_physical<V: Vcpu>(
        &self,
        vcpu: &V,
        at: GuestVirt,
    ) -> Result<GuestPhys, Errno> {
        let found = self.paging_of(vcpu).translate(&self.ram, at, Access::WRITE);
        found.map(|found| found.gpa).map_err(|_| Errno::EFAULT)
    }

    /// The caller's page tables.
    fn paging_of<V: Vcpu>(&self, vcpu: &V) -> Paging {
        Paging::of(vcpu, self.cpuid.physical_bits())
    }

    /// What [`copy_from_guest`](Machine::copy_from_guest) does, compiled once for all callers.
    #[inline(never)]
    fn copy_in(&self, paging: &Paging, at: GuestVirt, buffer: &mut [u8]) -> Result<(), Errno> {
        let mut done = 0;
        while done < buffer.len() {
            let left = buffer.len() - done;
            let (gpa, count) = self.piece(paging, at, done, left, Access::READ)?;
            let part = buffer.get_mut(done..done + count).ok_or(Errno::EFAULT)?;
            self.ram.read(gpa, part).map_err(|_| Errno::EFAULT)?;
            done += count;
        }
        Ok(())
    }

    /// What [`copy_to_guest`](Machine::copy_to_guest) does, compiled once for all callers.
    #[inline(never)]
    fn copy_out(&self, paging: &Paging, at: GuestVirt, bytes: &[u8]) -> Result<(), Errno> {
        let mut done = 0;
        while done < bytes.len() {
            let left = bytes.len() - done;
            let (gpa, count) = self.piece(paging, at, done, left, Access::WRITE)?;
            let part = bytes.get(done..done + count).ok_or(Errno::EFAULT)?;
            self.ram.write_slice(gpa, part).map_err(|_| Errno::EFAULT)?;
            done += count;
        }
        Ok(())
    }

    /// Where the bytes from `at + done` on lie, and how many of `left` are in that page.
    fn piece(
        &self,
        paging: &Paging,
        at: GuestVirt,
        done: usize,
        left: usize,
        access: Access,
    ) -> Result<(GuestPhys, usize), Errno> {
        let here = at.checked_add(done as u64).ok_or(Errno::EFAULT)?;
        let bytes = (0x1000 - here.page_offset() as usize).min(left);
        let found = paging.translate(&self.ram, here, access).map_err(|_| Errno::EFAULT)?;
        Ok((found.gpa, bytes))
    }
}
