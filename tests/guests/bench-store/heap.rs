//! A heap for a program that ends soon: blocks of powers of two, kept in lists when they are freed.

use core::alloc::{GlobalAlloc, Layout};
use core::sync::atomic::{AtomicUsize, Ordering};
use support::mem;

/// Blocks of 16 bytes to 2 MiB.
const SMALLEST: u32 = 4;
const CLASSES: usize = 18;
/// What is taken from the machine at once.
const CHUNK: usize = 2 << 20;

struct Heap {
    /// The first free block of each size; its first word is the next one's address.
    free: [AtomicUsize; CLASSES],
    next: AtomicUsize,
    end: AtomicUsize,
}

#[global_allocator]
static HEAP: Heap = Heap {
    free: [const { AtomicUsize::new(0) }; CLASSES],
    next: AtomicUsize::new(0),
    end: AtomicUsize::new(0),
};

fn class(layout: Layout) -> usize {
    let size = layout.size().max(layout.align()).max(1 << SMALLEST).next_power_of_two();
    (size.trailing_zeros() - SMALLEST) as usize
}

// SAFETY: a block is a power of two on a boundary of itself, is one's until it is freed, and there
// is one CPU that takes no interrupts.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let class = class(layout);
        if class >= CLASSES {
            return core::ptr::null_mut();
        }
        let first = self.free[class].load(Ordering::Relaxed);
        if first != 0 {
            self.free[class].store(mem::read(first), Ordering::Relaxed);
            return first as *mut u8;
        }
        let size = 1 << (class as u32 + SMALLEST);
        let mut place = (self.next.load(Ordering::Relaxed) + size - 1) & !(size - 1);
        if place == 0 || place + size > self.end.load(Ordering::Relaxed) {
            place = mem::untouched(CHUNK / 4096, CHUNK);
            self.end.store(place + CHUNK, Ordering::Relaxed);
        }
        self.next.store(place + size, Ordering::Relaxed);
        place as *mut u8
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let class = class(layout);
        mem::write(block as usize, self.free[class].load(Ordering::Relaxed));
        self.free[class].store(block as usize, Ordering::Relaxed);
    }
}
