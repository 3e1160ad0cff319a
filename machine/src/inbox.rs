//! What other CPUs leave for a vCPU: atomics only, so that nobody waits for the vCPU's owner. Edge-triggered
//! vectors lie as in [`Posted`], from which some CPUs take them by themselves.

use arch::Posted;
use arch::posted::OUTSTANDING;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// There are edge-triggered vectors.
pub const EDGE: u32 = OUTSTANDING;
/// A non-maskable interrupt.
pub const NMI: u32 = 1 << 1;
/// INIT.
pub const INIT: u32 = 1 << 2;
/// A start-up; its page is beside the flags.
pub const STARTUP: u32 = 1 << 3;
/// The 8259A's INTR pin changed, or something else is to be looked at again.
pub const LOOK: u32 = 1 << 4;
/// `VCPUOP_up`, after `VCPUOP_initialise`, or after it has switched itself off by HLT.
pub const UP: u32 = 1 << 5;
/// There are level-triggered vectors, or illegal ones.
pub const LEVEL: u32 = 1 << 6;
/// Another non-maskable interrupt.
pub const NMI_AGAIN: u32 = 1 << 7;

/// What was in an inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Flags.
    pub flags: u32,
    /// Edge-triggered vectors.
    pub edge: [u64; 4],
    /// Level-triggered vectors.
    pub level: [u64; 4],
}

impl Taken {
    /// Non-maskable interrupts, 0 to 2.
    #[must_use]
    pub fn nmis(&self) -> u8 {
        u8::from(self.flags & NMI != 0) + u8::from(self.flags & NMI_AGAIN != 0)
    }
}

/// One vCPU's inbox. A CPU wants what it takes vectors from aligned to 64 bytes; Bochs wants a page.
#[derive(Debug, Default)]
#[repr(C, align(4096))]
pub struct Inbox {
    posted: Posted,
    level: [AtomicU64; 4],
    startup: AtomicU8,
}

impl Inbox {
    /// Whether anything was left.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.posted.is_empty()
    }

    /// Its flags and edge-triggered vectors, for a CPU that takes them by itself.
    #[must_use]
    pub const fn posted(&self) -> &Posted {
        &self.posted
    }

    /// Leaves an edge-triggered vector (16 to 255). True: there was none.
    #[inline]
    pub fn post(&self, vector: u8) -> bool {
        self.posted.post(vector)
    }

    /// Leaves a level-triggered vector, or an illegal one, which the local APIC is to see itself.
    pub fn post_level(&self, vector: u8) {
        if let Some(word) = self.level.get(usize::from(vector >> 6)) {
            word.fetch_or(1 << (vector & 63), Ordering::Relaxed);
            self.posted.mark(LEVEL);
        }
    }

    /// Leaves [`INIT`], [`UP`] or [`LOOK`].
    pub fn raise(&self, flags: u32) {
        self.posted.mark(flags);
    }

    /// Leaves a non-maskable interrupt. Two are kept: the first would be in service by now if the vCPU had a CPU of its
    /// own, and a CPU remembers one more meanwhile (SDM 3A "Handling Multiple NMIs").
    pub fn nmi(&self) {
        if self.posted.mark(NMI) & NMI != 0 {
            self.posted.mark(NMI_AGAIN);
        }
    }

    /// Leaves a start-up at page `page`.
    pub fn start_up(&self, page: u8) {
        self.startup.store(page, Ordering::Relaxed);
        self.posted.mark(STARTUP);
    }

    /// Takes everything.
    #[must_use]
    #[inline]
    pub fn take(&self) -> Taken {
        let (flags, edge) = self.posted.take();
        let mut level = [0; 4];
        if flags & LEVEL != 0 {
            level = core::array::from_fn(|n| self.level[n].swap(0, Ordering::Relaxed));
        }
        Taken { flags, edge, level }
    }

    /// The page of the last start-up.
    #[must_use]
    pub fn startup_page(&self) -> u8 {
        self.startup.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_posted_comes_out_once() {
        let inbox = Inbox::default();
        assert!(inbox.is_empty());
        assert!(inbox.post(0x41));
        inbox.post_level(0xff);
        inbox.start_up(0x9a);
        let taken = inbox.take();
        assert_eq!(taken.flags, EDGE | LEVEL | STARTUP);
        assert_eq!(inbox.startup_page(), 0x9a);
        assert_eq!((taken.edge, taken.level), ([0, 2, 0, 0], [0, 0, 0, 1 << 63]));
        assert!(inbox.is_empty());
        assert_eq!(inbox.take(), Taken { flags: 0, edge: [0; 4], level: [0; 4] });
    }

    #[test]
    fn of_non_maskable_interrupts_two_are_kept() {
        let inbox = Inbox::default();
        for (sent, kept) in [(0, 0), (1, 1), (2, 2), (3, 2)] {
            (0..sent).for_each(|_| inbox.nmi());
            assert_eq!(inbox.take().nmis(), kept, "{sent}");
        }
    }
}
