//! The page in which a CPU keeps a guest's local APIC while the guest runs, where it can: Intel's
//! virtual-APIC page. Registers lie as in the xAPIC's own page (SDM 3C "Virtual APIC State").
//!
//! The back end owns it and obeys `mode`; `machine` lends the chip's state to it and takes it back.

use core::sync::atomic::{AtomicU32, Ordering};

/// What the CPU does of a local APIC by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ApicMode {
    /// Nothing but CR8: accesses exit, and interrupts are injected.
    #[default]
    Off,
    /// The registers at FEE00000h.
    Memory,
    /// MSRs 800h to 83Fh.
    Msrs,
}

/// Offsets of registers, in bytes.
pub mod offset {
    #![allow(missing_docs, reason = "the names are the manual's own")]
    pub const TPR: u16 = 0x80;
    /// The first of eight registers, 10h apart, 32 vectors each.
    pub const ISR: u16 = 0x100;
    pub const TMR: u16 = 0x180;
    pub const IRR: u16 = 0x200;
    pub const ICR_LOW: u16 = 0x300;
    pub const ICR_HIGH: u16 = 0x310;
}

/// Interrupt vectors of a local APIC: bit `v % 64` of word `v / 64`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vectors {
    /// The set.
    pub words: [u64; 4],
    /// The highest of them, 0 for none.
    pub top: u8,
}

/// A virtual-APIC page and what the CPU is to do with it.
#[derive(Debug)]
pub struct ApicPage {
    words: &'static [AtomicU32; 1024],
    mode: ApicMode,
    posting: bool,
    /// What was put into the page last.
    requesting: u8,
    servicing: u8,
    level: [u64; 4],
    changed: bool,
}

impl ApicPage {
    /// A page that the CPU does nothing with.
    #[must_use]
    pub const fn new(words: &'static [AtomicU32; 1024]) -> ApicPage {
        ApicPage {
            words,
            mode: ApicMode::Off,
            posting: false,
            requesting: 0,
            servicing: 0,
            level: [0; 4],
            changed: false,
        }
    }

    /// What the CPU does by itself.
    #[must_use]
    #[inline]
    pub const fn mode(&self) -> ApicMode {
        self.mode
    }

    /// Sets what the CPU does from the next entry on, and whether it may take requests from the vCPU's
    /// [`Posted`](crate::Posted). Where the mode is off, it cannot.
    #[inline]
    pub fn set_mode(&mut self, mode: ApicMode, posting: bool) {
        self.changed |= (self.mode, self.posting) != (mode, posting);
        (self.mode, self.posting) = (mode, posting);
    }

    /// Whether the CPU may take requests from the vCPU's [`Posted`](crate::Posted) by itself.
    #[must_use]
    #[inline]
    pub const fn posting(&self) -> bool {
        self.posting
    }

    /// The register at `offset` (0 to FFFh), whose low two bits do not count.
    #[must_use]
    #[inline]
    pub fn read(&self, offset: u16) -> u32 {
        self.words[usize::from(offset >> 2 & 0x3ff)].load(Ordering::Relaxed)
    }

    /// Sets the register at `offset`.
    #[inline]
    pub fn write(&mut self, offset: u16, value: u32) {
        self.words[usize::from(offset >> 2 & 0x3ff)].store(value, Ordering::Relaxed);
    }

    /// The 256 vectors of the eight registers from `first` on.
    #[must_use]
    #[inline]
    pub fn vectors(&self, first: u16) -> [u64; 4] {
        core::array::from_fn(|n| {
            let at = first + 0x20 * n as u16;
            u64::from(self.read(at)) | u64::from(self.read(at + 0x10)) << 32
        })
    }

    /// Puts requests, vectors in service and the level-triggered ones among both into the page, which has
    /// been zeroed once. The back end looks at them before the next entry.
    #[inline]
    pub fn put(&mut self, requests: &Vectors, service: &Vectors, level: &[u64; 4]) {
        self.changed = true;
        (self.requesting, self.servicing) = (requests.top, service.top);
        self.set_vectors(offset::IRR, &requests.words);
        self.set_vectors(offset::ISR, &service.words);
        if self.level != *level {
            self.level = *level;
            self.set_vectors(offset::TMR, level);
        }
    }

    /// The highest request as it was put, 0 for none.
    #[must_use]
    #[inline]
    pub const fn requesting(&self) -> u8 {
        self.requesting
    }

    /// The highest vector in service as it was put, 0 for none.
    #[must_use]
    #[inline]
    pub const fn servicing(&self) -> u8 {
        self.servicing
    }

    /// The level-triggered vectors.
    #[must_use]
    #[inline]
    pub const fn level(&self) -> &[u64; 4] {
        &self.level
    }

    #[inline]
    fn set_vectors(&mut self, first: u16, vectors: &[u64; 4]) {
        for (n, word) in vectors.iter().enumerate() {
            let at = first + 0x20 * n as u16;
            self.write(at, *word as u32);
            self.write(at + 0x10, (*word >> 32) as u32);
        }
    }

    /// Whether mode or vectors were set since this was last asked.
    #[must_use]
    #[inline]
    pub const fn take_changed(&mut self) -> bool {
        core::mem::replace(&mut self.changed, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> ApicPage {
        let words = [const { AtomicU32::new(0) }; 1024];
        ApicPage::new(std::boxed::Box::leak(std::boxed::Box::new(words)))
    }

    #[test]
    fn vectors_lie_in_eight_registers_sixteen_bytes_apart() {
        let mut page = page();
        let requests = Vectors { words: [1 << 33, 0, 0, 1 << 63 | 1], top: 255 };
        let service = Vectors { words: [0, 4, 0, 0], top: 66 };
        page.put(&requests, &service, &[0, 4, 0, 0]);
        assert_eq!(page.vectors(offset::IRR), requests.words);
        assert_eq!((page.read(0x210), page.read(0x260), page.read(0x270)), (2, 1, 1 << 31));
        assert_eq!((page.read(0x120), page.read(0x1a0)), (4, 4));
        assert_eq!((page.requesting(), page.servicing(), page.level()[1]), (255, 66, 4));
        assert!(page.take_changed());
    }

    #[test]
    fn a_change_is_told_once() {
        let mut page = page();
        assert!(!page.take_changed());
        page.set_mode(ApicMode::Off, false);
        assert!(!page.take_changed(), "it was off");
        page.set_mode(ApicMode::Msrs, false);
        assert!(page.take_changed() && !page.take_changed());
        page.set_mode(ApicMode::Msrs, false);
        assert!(!page.take_changed());
        page.set_mode(ApicMode::Msrs, true);
        assert!(page.take_changed() && !page.take_changed() && page.posting());
    }
}
