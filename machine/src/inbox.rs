//! What other CPUs leave for a vCPU: atomics only, so that nobody waits for the vCPU's owner.

use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

/// Something is in the vector words.
pub const VECTORS: u32 = 1;
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

/// One vCPU's inbox.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Inbox {
    flags: AtomicU32,
    startup: AtomicU8,
    edge: [AtomicU64; 4],
    level: [AtomicU64; 4],
}

impl Inbox {
    /// Whether anything was left.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.flags.load(Ordering::Acquire) == 0
    }

    /// Leaves an interrupt vector.
    pub fn post(&self, vector: u8, level: bool) {
        let words = if level { &self.level } else { &self.edge };
        if let Some(word) = words.get(usize::from(vector >> 6)) {
            word.fetch_or(1 << (vector & 63), Ordering::Relaxed);
            self.flags.fetch_or(VECTORS, Ordering::Release);
        }
    }

    /// Leaves [`NMI`], [`INIT`] or [`LOOK`].
    pub fn raise(&self, flags: u32) {
        self.flags.fetch_or(flags, Ordering::Release);
    }

    /// Leaves a start-up at page `page`.
    pub fn start_up(&self, page: u8) {
        self.startup.store(page, Ordering::Relaxed);
        self.flags.fetch_or(STARTUP, Ordering::Release);
    }

    /// Takes all flags.
    #[must_use]
    pub fn take(&self) -> u32 {
        self.flags.swap(0, Ordering::Acquire)
    }

    /// The page of the last start-up.
    #[must_use]
    pub fn startup_page(&self) -> u8 {
        self.startup.load(Ordering::Relaxed)
    }

    /// Takes the vectors: edge-triggered and level-triggered.
    #[must_use]
    pub fn take_vectors(&self) -> ([u64; 4], [u64; 4]) {
        let take = |words: &[AtomicU64; 4]| {
            core::array::from_fn(|n| {
                let word = &words[n];
                if word.load(Ordering::Relaxed) == 0 { 0 } else { word.swap(0, Ordering::Relaxed) }
            })
        };
        (take(&self.edge), take(&self.level))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_posted_comes_out_once() {
        let inbox = Inbox::default();
        assert!(inbox.is_empty());
        inbox.post(0x41, false);
        inbox.post(0xff, true);
        inbox.start_up(0x9a);
        assert_eq!(inbox.take(), VECTORS | STARTUP);
        assert_eq!(inbox.startup_page(), 0x9a);
        let (edge, level) = inbox.take_vectors();
        assert_eq!((edge, level), ([0, 2, 0, 0], [0, 0, 0, 1 << 63]));
        assert!(inbox.is_empty());
        assert_eq!(inbox.take_vectors(), ([0; 4], [0; 4]));
    }
}
