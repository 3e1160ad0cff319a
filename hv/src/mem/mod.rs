//! Host memory: frames, page tables, heap, stacks, device mappings.
//! The way round: `layout` (addresses), `frames` over `buddy`, `paging` (the host's own tables),
//! `heap` (the global allocator).

// UNSAFETY: raw access to physical memory through the direct map, and to guests' by an instruction.

use core::arch::asm;
use core::sync::atomic::AtomicU64;

pub mod buddy;
pub mod debt;
pub mod frames;
#[cfg(target_os = "none")]
mod heap;
pub mod layout;
pub mod paging;

/// A host-physical address in bytes.
pub use arch::HostPhys as Phys;
pub use paging::{Cache, map_mmio, map_phys};

/// Where RAM at `address` is mapped. Only RAM is mapped there; for devices use [`map_mmio`].
#[must_use]
pub fn phys_to_virt(address: Phys) -> *mut u8 {
    debug_assert!(address.0 < layout::DIRECT_MAP_SIZE);
    core::ptr::with_exposed_provenance_mut((layout::DIRECT_MAP + address.0) as usize)
}

/// The physical address of an object in the direct map (heap, frames) or in the image.
///
/// # Panics
/// If `pointer` is in neither: stacks and MMIO have no such simple address.
#[must_use]
pub fn virt_to_phys<T: ?Sized>(pointer: *const T) -> Phys {
    let address = pointer.cast::<u8>().expose_provenance() as u64;
    match address.checked_sub(layout::DIRECT_MAP) {
        Some(offset) if offset < layout::DIRECT_MAP_SIZE => Phys(offset),
        None if address < 1 << 32 => Phys(address),
        _ => panic!("{address:#x} is not in the direct map"),
    }
}

/// Bytes of physical memory in use: frames, without what the heap still has free.
#[cfg(target_os = "none")]
#[must_use]
pub fn in_use() -> u64 {
    let stats = frames::stats();
    let (claimed, used) = heap::claimed_and_used();
    (stats.total - stats.free).saturating_sub(claimed) + used
}

/// Fills `bytes` of RAM that the caller owns with zeros.
pub fn zero(start: Phys, bytes: u64) {
    // SAFETY: the caller owns the frames, and all RAM is mapped writable at this address.
    unsafe { phys_to_virt(start).write_bytes(0, bytes as usize) }
}

/// Copies words of guests' memory, as many as both have. The CPU's own loop takes an instruction for a word under
/// `-icount`, and moves whole cache lines on real CPUs; what a compiler makes of atomics takes 2.4.
pub fn copy_words(to: &[AtomicU64], from: &[AtomicU64]) {
    let count = to.len().min(from.len());
    // SAFETY: `count` words from both are there, and may be changed by anybody at any time, as atomics; the
    // direction flag is clear in Rust code.
    unsafe {
        asm!("rep movsq", inout("rcx") count => _, inout("rdi") to.as_ptr() => _,
            inout("rsi") from.as_ptr() => _, options(nostack, preserves_flags));
    }
}

/// Physical memory as the boot structures' readers want it.
#[derive(Debug)]
pub struct PhysReader;

impl crate::boot::pvh::ReadPhys for PhysReader {
    fn read(&self, from: u64, buffer: &mut [u8]) {
        let source = phys_to_virt(Phys(from));
        // SAFETY: the first 4 GiB are mapped from the first instruction; the loader's structures
        // are below that, and the buffer is ours.
        unsafe { core::ptr::copy_nonoverlapping(source, buffer.as_mut_ptr(), buffer.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::Ordering;

    #[test]
    fn as_many_words_are_copied_as_both_have() {
        let words = |first: u64| [first, first + 1, first + 2].map(AtomicU64::new);
        let (to, from) = (words(10), words(20));
        copy_words(&to[..2], &from);
        assert_eq!(to.map(|word| word.load(Ordering::Relaxed)), [20, 21, 12]);
        let to = words(10);
        copy_words(&to, &from[1..]);
        copy_words(&to, &[]);
        assert_eq!(to.map(|word| word.load(Ordering::Relaxed)), [21, 22, 12]);
    }
}
