//! The host's own page tables: the image with W^X, the direct map of RAM, devices and stacks.
//! Mappings are only ever added once other CPUs run, so no TLB shootdown is needed.

// UNSAFETY: reads and writes page tables, loads CR3.

use core::sync::atomic::{AtomicU64, Ordering};

use super::layout::{DIRECT_MAP, HUGE, LARGE, MMIO, PAGE, STACKS, down, up};
use super::{Phys, frames, phys_to_virt};
use crate::boot::{Boot, RegionKind};
use crate::cpu::lock::HostLock;

/// The memory type of a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache {
    /// RAM.
    WriteBack,
    /// Frame buffers.
    WriteCombining,
    /// Device registers.
    Uncached,
}

/// The PAT that every CPU runs the host with: entry 1 is WC instead of WT, the rest as at reset.
/// SDM 3A "Page Attribute Table (PAT)".
pub const PAT: u64 = 0x0007_0406_0007_0106;

const PRESENT: u64 = 1;
const WRITE: u64 = 1 << 1;
const PWT: u64 = 1 << 3;
const PCD: u64 = 1 << 4;
const ACCESSED_DIRTY: u64 = 0x60;
const LEAF: u64 = 1 << 7;
const GLOBAL: u64 = 1 << 8;
const NX: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// What may be done with a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Read only.
    Read,
    /// Read and write.
    ReadWrite,
    /// Read and execute.
    ReadExecute,
}

struct Space {
    root: Phys,
    huge_pages: bool,
    nx: u64,
    next_mmio: u64,
    next_stack: u64,
}

static SPACE: HostLock<Option<Space>> = HostLock::new(None);
static ROOT: AtomicU64 = AtomicU64::new(0);

/// CR3 of the host; below 4 GiB.
#[must_use]
pub fn root() -> Phys {
    Phys(ROOT.load(Ordering::Relaxed))
}

/// The parts of the image, as addresses: text, read-only data, writable data, and the guard page
/// below the boot stack.
#[derive(Clone, Copy, Debug)]
pub struct Image {
    /// Start of the headers, which are read-only.
    pub start: u64,
    /// Start of code.
    pub text: u64,
    /// End of code, start of read-only data.
    pub text_end: u64,
    /// End of read-only data, start of writable data.
    pub rodata_end: u64,
    /// The page below the boot stack, left unmapped.
    pub guard: u64,
    /// End.
    pub end: u64,
}

/// Builds the tables. Load them with [`load`]. Called once.
pub fn init(boot: &Boot, image: &Image, huge_pages: bool, nx: bool) {
    let root = frames::alloc_zeroed_low().expect("no memory for page tables");
    let nx = if nx { NX } else { 0 };
    let mut space = Space { root, huge_pages, nx, next_mmio: MMIO, next_stack: STACKS };
    let identity = |s: &mut Space, from: u64, to: u64, rights| {
        s.map(from, Phys(from), to - from, rights, Cache::WriteBack);
    };
    identity(&mut space, image.start, image.text, Rights::Read);
    identity(&mut space, image.text, image.text_end, Rights::ReadExecute);
    identity(&mut space, image.text_end, image.rodata_end, Rights::Read);
    identity(&mut space, image.rodata_end, image.guard, Rights::ReadWrite);
    identity(&mut space, image.guard + PAGE, image.end, Rights::ReadWrite);

    // The first 640 KiB hold the trampoline and firmware data whatever the map says.
    space.map(DIRECT_MAP, Phys(0), 0xa0000, Rights::ReadWrite, Cache::WriteBack);
    for region in boot.regions.iter().filter(|r| r.kind != RegionKind::Reserved) {
        let (start, end) = match region.kind {
            RegionKind::Usable => (up(region.start, PAGE), down(region.end, PAGE)),
            _ => (down(region.start, PAGE), up(region.end, PAGE)),
        };
        let start = start.max(0xa0000);
        if start < end {
            let at = DIRECT_MAP + start;
            space.map(at, Phys(start), end - start, Rights::ReadWrite, Cache::WriteBack);
        }
    }
    ROOT.store(root.0, Ordering::Relaxed);
    *SPACE.lock() = Some(space);
}

/// Switches this CPU to the host's tables and PAT.
///
/// # Safety
/// [`init`] is done, and the code and stack in use are mapped there.
pub unsafe fn load() {
    // SAFETY: the value is legal for PAT, and no mapping uses entry 1 before this.
    unsafe { x86::msr::wrmsr(x86::msr::IA32_PAT, PAT) };
    // SAFETY: the caller's promise.
    unsafe { x86::controlregs::cr3_write(root().0) };
}

/// Maps device registers at `start` for good; an address for the first byte.
///
/// # Panics
/// If memory for tables runs out.
#[must_use]
pub fn map_mmio(start: Phys, bytes: u64, cache: Cache) -> *mut u8 {
    let (first, end) = (down(start.0, PAGE), up(start.0 + bytes, PAGE));
    let mut guard = SPACE.lock();
    let space = guard.as_mut().expect("paging::init comes first");
    let align = if end - first >= LARGE { LARGE } else { PAGE };
    // The same offset in the large page on both sides, so that large pages fit; then a hole.
    let at = up(space.next_mmio, align) + (first & (align - 1));
    space.next_mmio = at + (end - first) + PAGE;
    space.map(at, Phys(first), end - first, Rights::ReadWrite, cache);
    core::ptr::with_exposed_provenance_mut((at + (start.0 - first)) as usize)
}

/// `bytes` of memory that may or may not be RAM (firmware tables), readable through write-back.
#[must_use]
pub fn map_phys(start: Phys, bytes: u64) -> *mut u8 {
    let (from, end) = (DIRECT_MAP + start.0, DIRECT_MAP + start.0 + bytes.max(1));
    if (down(from, PAGE)..end).step_by(PAGE as usize).all(|at| translate(at).is_some()) {
        return phys_to_virt(start);
    }
    map_mmio(start, bytes, Cache::WriteBack)
}

/// Makes one page of low memory executable at its physical address, for starting CPUs.
pub fn map_trampoline(page: Phys) {
    let mut guard = SPACE.lock();
    let space = guard.as_mut().expect("paging::init comes first");
    space.map(page.0, page, PAGE, Rights::ReadExecute, Cache::WriteBack);
}

/// A stack of `bytes` between unmapped pages; its top.
///
/// # Panics
/// If memory runs out.
#[must_use]
pub fn alloc_stack(bytes: u64) -> u64 {
    let bytes = up(bytes, PAGE);
    let mut guard = SPACE.lock();
    let space = guard.as_mut().expect("paging::init comes first");
    let bottom = space.next_stack + PAGE;
    space.next_stack = bottom + bytes;
    for at in (bottom..bottom + bytes).step_by(PAGE as usize) {
        let frame = frames::alloc_zeroed().expect("no memory for a stack");
        space.map(at, frame, PAGE, Rights::ReadWrite, Cache::WriteBack);
    }
    bottom + bytes
}

/// Where `virt` leads in the tables that this CPU uses; `None` where it would fault.
#[must_use]
pub fn translate(virt: u64) -> Option<Phys> {
    // SAFETY: reading CR3 in ring 0 has no effect.
    let mut table = Phys(unsafe { x86::controlregs::cr3() } & ADDRESS);
    for shift in [39, 30, 21, 12] {
        let entry = read(table, index(virt, shift));
        if entry & PRESENT == 0 {
            return None;
        }
        if shift == 12 || entry & LEAF != 0 {
            let mask = (1u64 << shift) - 1;
            return Some(Phys((entry & ADDRESS & !mask) | (virt & mask)));
        }
        table = Phys(entry & ADDRESS);
    }
    None
}

const fn index(virt: u64, shift: u32) -> u64 {
    virt >> shift & 511
}

fn read(table: Phys, index: u64) -> u64 {
    let entry = phys_to_virt(Phys(table.0 + index * 8)).cast::<u64>();
    // SAFETY: `table` is a page table of ours (a frame in the direct map), the index below 512.
    unsafe { entry.read_volatile() }
}

fn write(table: Phys, index: u64, value: u64) {
    let entry = phys_to_virt(Phys(table.0 + index * 8)).cast::<u64>();
    // SAFETY: as for `read`; the lock on SPACE keeps other writers away.
    unsafe { entry.write_volatile(value) }
}

impl Space {
    fn map(&mut self, virt: u64, phys: Phys, bytes: u64, rights: Rights, cache: Cache) {
        let flags = PRESENT | ACCESSED_DIRTY | GLOBAL | self.flags(rights, cache);
        let mut done = 0;
        while done < bytes {
            let (at, to, left) = (virt + done, phys.0 + done, bytes - done);
            let fits = |size: u64| (at | to) & (size - 1) == 0 && left >= size;
            let (shift, leaf) = match () {
                () if self.huge_pages && fits(HUGE) => (30, LEAF),
                () if fits(LARGE) => (21, LEAF),
                () => (12, 0),
            };
            if let Some(table) = self.table(at, shift) {
                write(table, index(at, shift), to | flags | leaf);
            }
            done += 1 << shift;
        }
    }

    fn flags(&self, rights: Rights, cache: Cache) -> u64 {
        let rights = match rights {
            Rights::Read => self.nx,
            Rights::ReadWrite => WRITE | self.nx,
            Rights::ReadExecute => 0,
        };
        rights
            | match cache {
                Cache::WriteBack => 0,
                Cache::WriteCombining => PWT,
                Cache::Uncached => PCD | PWT,
            }
    }

    /// The table that holds the entry for `virt` at `shift`; `None` where a larger page is there
    /// already (regions of a firmware's map that overlap: the first one stays).
    fn table(&mut self, virt: u64, shift: u32) -> Option<Phys> {
        let mut table = self.root;
        for level in [39, 30, 21] {
            if level == shift {
                break;
            }
            let entry = read(table, index(virt, level));
            if entry & PRESENT != 0 && entry & LEAF != 0 {
                return None;
            }
            table = if entry & PRESENT != 0 {
                Phys(entry & ADDRESS)
            } else {
                let new = frames::alloc_zeroed_low().expect("no memory for page tables");
                write(table, index(virt, level), new.0 | PRESENT | WRITE | ACCESSED_DIRTY);
                new
            };
        }
        Some(table)
    }
}
