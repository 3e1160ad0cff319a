//! The page-table entries by which an address was translated, for who keeps the answer: it counts while they
//! are as they were.

use core::sync::atomic::{AtomicU64, Ordering};

/// An entry in guest memory, and what it was.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub word: &'static AtomicU64,
    pub value: u64,
}

/// What stands for an entry that there is not: always the same.
static NOTHING: AtomicU64 = AtomicU64::new(0);

impl Seen {
    pub const NONE: Seen = Seen { word: &NOTHING, value: 0 };
}

/// The entries, from the top.
#[derive(Clone, Copy, Debug)]
pub struct Way(pub(super) [Seen; 4]);

impl Way {
    /// No entry.
    pub const NONE: Way = Way([Seen::NONE; 4]);

    /// Whether all of them are as they were, accessed and dirty bits included.
    #[must_use]
    #[inline(always)]
    pub fn holds(&self) -> bool {
        self.0.iter().all(|entry| entry.word.load(Ordering::Relaxed) == entry.value)
    }
}
