//! Memory: 1:1, so that an address is an address. The map:
//!
//! 6000 startup of further CPUs, 7C00 the image and its zeroed data (to 80000 at most), 80000 a
//! buffer for BIOS services (64 KiB), 100000 page tables, 108000 IDT and task state, 110000 stacks
//! of further CPUs, 1D0000 to 1F0000 the first CPU's stacks, 200000 on: `pages`.

use core::sync::atomic::{AtomicUsize, Ordering};

/// Reads memory or a device register.
#[inline(always)]
pub fn read<T: Copy>(address: usize) -> T {
    // SAFETY: everything below 4 GiB is mapped; what is read is the test's business.
    unsafe { core::ptr::read_volatile(address as *const T) }
}

/// Writes memory or a device register.
#[inline(always)]
pub fn write<T: Copy>(address: usize, value: T) {
    // SAFETY: everything below 4 GiB is mapped; the caller writes nothing that Rust thinks it owns.
    unsafe { core::ptr::write_volatile(address as *mut T, value) };
}

/// Bytes as a slice, for tables that nobody writes.
pub fn bytes(address: usize, len: usize) -> &'static [u8] {
    // SAFETY: mapped, and firmware's tables do not change.
    unsafe { core::slice::from_raw_parts(address as *const u8, len) }
}

/// Where `pages` begins.
pub const FREE: usize = 0x20_0000;
static NEXT: AtomicUsize = AtomicUsize::new(FREE);

/// Takes `count` pages that nobody has touched, on a boundary of `align` bytes (a power of two).
pub fn untouched(count: usize, align: usize) -> usize {
    let mut place = 0;
    let _ = NEXT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
        place = (next + align - 1) & !(align - 1);
        Some(place + count * 4096)
    });
    place
}

/// Takes `count` pages of zeros.
pub fn pages(count: usize) -> usize {
    let place = untouched(count, 4096);
    for offset in (0..count * 4096).step_by(8) {
        write(place + offset, 0u64);
    }
    place
}

/// The page directories' place: 2,048 entries of 2 MiB in a row.
pub const DIRECTORY: usize = 0x10_2000;

/// The directory entry of an address.
pub fn entry_of(address: usize) -> usize {
    DIRECTORY + (address >> 21) * 8
}

/// Breaks the 2 MiB page that holds `address` into 4 KiB pages; gives its table.
pub fn split(address: usize) -> usize {
    let entry: u64 = read(entry_of(address));
    if entry & 0x80 == 0 {
        return (entry & 0xf_ffff_f000) as usize;
    }
    let table = pages(1);
    let first = address & !0x1f_ffff;
    for index in 0..512 {
        write(table + index * 8, (first + index * 4096) as u64 | entry & 0x67);
    }
    write(entry_of(address), table as u64 | 7);
    flush();
    table
}

/// Sets the page-table entry of a 4 KiB page.
pub fn set_page(address: usize, entry: u64) {
    let table = split(address);
    write(table + (address >> 12 & 511) * 8, entry);
    invalidate(address);
}

/// Forgets what the CPU remembers of a page.
pub fn invalidate(address: usize) {
    // SAFETY: only forgets.
    unsafe { core::arch::asm!("invlpg [{}]", in(reg) address) };
}

/// Forgets all pages.
pub fn flush() {
    crate::cpu::set_cr3(crate::cpu::cr3());
}
