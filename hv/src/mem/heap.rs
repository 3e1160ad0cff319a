//! The global allocator: talc, fed with blocks of 2 MiB or more from the frame allocator.
//! Never used on an exit or in an interrupt handler.

// UNSAFETY: hands raw memory to the allocator.

use core::alloc::Layout;

use talc::{OomHandler, Span, Talc, Talck};

use super::layout::LARGE;
use super::{frames, phys_to_virt};
use crate::cpu::lock::RawHostLock;

struct FromFrames;

impl OomHandler for FromFrames {
    fn handle_oom(talc: &mut Talc<Self>, layout: Layout) -> Result<(), ()> {
        // Room for talc's own tags, and at least a large page to keep the calls rare.
        let wanted = (layout.size() + layout.align() + 4096) as u64;
        let bytes = wanted.next_multiple_of(LARGE);
        let start = frames::alloc_contiguous(bytes, LARGE).ok_or(())?;
        let span = Span::from_base_size(phys_to_virt(start), bytes as usize);
        // SAFETY: the frames were just allocated and belong to the heap for ever.
        unsafe { talc.claim(span) }.map(|_| ())
    }
}

#[global_allocator]
static HEAP: Talck<RawHostLock, FromFrames> = Talc::new(FromFrames).lock();

/// Bytes that were taken from the frame allocator, and how many of them are in use.
pub(super) fn claimed_and_used() -> (u64, u64) {
    let heap = HEAP.lock();
    let counters = heap.get_counters();
    let free = counters.available_bytes as u64;
    (counters.claimed_bytes as u64, counters.claimed_bytes as u64 - free)
}
