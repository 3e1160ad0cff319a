//! The physical frame allocator: `Buddy` over the loader's memory map, behind one lock.
//! Page 0, the image, the modules and the allocator's own bitmaps are never handed out.

// UNSAFETY: turns a stretch of free RAM into the slice that holds the bitmaps.

use heapless::Vec;

use super::buddy::{Buddy, MAX_ORDER, MOST_FRAMES, Prefer, storage_words};
use super::layout::{PAGE, down, up};
use super::{Phys, phys_to_virt};
use crate::boot::{Boot, Region, RegionKind};
use crate::cpu::lock::HostLock;

/// A block size that hardware maps with one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// 4 KiB.
    Page,
    /// 2 MiB.
    Large,
    /// 1 GiB.
    Huge,
}

impl Block {
    /// Size in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        PAGE << self.order()
    }

    const fn order(self) -> usize {
        match self {
            Block::Page => 0,
            Block::Large => 9,
            Block::Huge => MAX_ORDER,
        }
    }
}

/// What is left.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// Bytes given to the allocator at boot.
    pub total: u64,
    /// Bytes free now.
    pub free: u64,
}

struct Frames {
    buddy: Buddy<'static>,
    total: u64,
}

static FRAMES: HostLock<Option<Frames>> = HostLock::new(None);

const FOUR_GIB: u64 = 1 << 32;

/// Takes over the memory of `boot.regions`, less the image and the modules. Called once, while
/// only the first 4 GiB are mapped.
///
/// # Panics
/// If there is no room for the bitmaps below 4 GiB.
pub fn init(boot: &Boot, image: (u64, u64)) {
    let mut reserved: Vec<(u64, u64), 512> = Vec::new();
    let mut reserve = |start, end| {
        reserved.push((down(start, PAGE), up(end, PAGE))).expect("too many reserved regions");
    };
    reserve(0, PAGE);
    reserve(image.0, image.1);
    boot.modules.iter().for_each(|m| reserve(m.start, m.end));
    let others = boot.regions.iter().filter(|r| r.kind != RegionKind::Usable);
    others.for_each(|r| reserve(r.start, r.end.min(1 << 52)));

    let top = usable(boot).map(|(_, end)| end).max().expect("the memory map names no RAM");
    let words = storage_words((top / PAGE) as usize);
    let bytes = up(words as u64 * 8, PAGE);
    let at = find_hole(boot, &reserved, bytes).expect("no room for the frame bitmaps");
    reserved.push((at, at + bytes)).expect("too many reserved regions");

    // SAFETY: the stretch is RAM below 4 GiB that is mapped, free, and from here on reserved.
    let bits = unsafe { core::slice::from_raw_parts_mut(phys_to_virt(Phys(at)).cast(), words) };
    let mut buddy = Buddy::new(bits, (top / PAGE) as usize);
    for (start, end) in usable(boot) {
        free_except(start, end, &reserved, &mut |from, to| {
            buddy.free_range((from / PAGE) as usize, (to / PAGE) as usize);
        });
        // Usable regions may overlap: what one has freed, another must not free again.
        reserved.push((start, end)).expect("too many reserved regions");
    }
    let total = buddy.free_frames() as u64 * PAGE;
    *FRAMES.lock() = Some(Frames { buddy, total });
}

/// Whole pages of the usable regions, as far up as the allocator knows of them.
fn usable(boot: &Boot) -> impl Iterator<Item = (u64, u64)> {
    const TOP: u64 = MOST_FRAMES as u64 * PAGE;
    let whole = |r: &Region| (up(r.start, PAGE), down(r.end.min(TOP), PAGE));
    let usable = boot.regions.iter().filter(|r| r.kind == RegionKind::Usable && r.start < TOP);
    usable.map(whole).filter(|(start, end)| start < end)
}

/// Calls `free` with each part of `start..end` that no reserved range touches.
fn free_except(start: u64, end: u64, reserved: &[(u64, u64)], free: &mut dyn FnMut(u64, u64)) {
    let mut at = start;
    while at < end {
        let covering = reserved.iter().find(|r| r.0 <= at && at < r.1);
        if let Some(r) = covering {
            at = r.1;
            continue;
        }
        let next = reserved.iter().map(|r| r.0).filter(|&s| s > at).min().unwrap_or(end).min(end);
        free(at, next);
        at = next;
    }
}

/// Free RAM of `bytes` between 1 MiB and 4 GiB.
fn find_hole(boot: &Boot, reserved: &[(u64, u64)], bytes: u64) -> Option<u64> {
    let mut found = None;
    for (start, end) in usable(boot) {
        let (start, end) = (start.max(1 << 20), end.min(FOUR_GIB));
        free_except(start, end, reserved, &mut |from, to| {
            if to - from >= bytes {
                found = Some(to - bytes);
            }
        });
    }
    found
}

fn with<R>(f: impl FnOnce(&mut Frames) -> R) -> R {
    f(FRAMES.lock().as_mut().expect("frames::init comes first"))
}

/// A block of the given size, aligned to its size, from the top of memory. Its bytes are old.
pub fn alloc(block: Block) -> Option<Phys> {
    let frame = with(|f| f.buddy.alloc(block.order(), Prefer::High))?;
    Some(Phys(frame as u64 * PAGE))
}

/// As [`alloc`], ending at or below `limit` bytes.
pub fn alloc_below(block: Block, limit: u64) -> Option<Phys> {
    let limit = Prefer::Below((limit / PAGE) as usize);
    let frame = with(|f| f.buddy.alloc(block.order(), limit))?;
    Some(Phys(frame as u64 * PAGE))
}

/// A page of zeros.
pub fn alloc_zeroed() -> Option<Phys> {
    let frame = alloc(Block::Page)?;
    super::zero(frame, PAGE);
    Some(frame)
}

/// A page of zeros below 4 GiB, mapped from the first instruction on.
pub fn alloc_zeroed_low() -> Option<Phys> {
    let frame = match alloc(Block::Page)? {
        high if high.0 >= FOUR_GIB => {
            free(high, Block::Page);
            alloc_below(Block::Page, FOUR_GIB)?
        }
        low => low,
    };
    super::zero(frame, PAGE);
    Some(frame)
}

/// `bytes` (rounded up to pages) in one piece, aligned to `align`, a power of two of at least a
/// page. Searches; for start-up and domain building, not for an exit.
pub fn alloc_contiguous(bytes: u64, align: u64) -> Option<Phys> {
    let (count, align) = (bytes.div_ceil(PAGE).max(1), (align / PAGE).max(1));
    let frame = with(|f| f.buddy.alloc_run(count as usize, align as usize))?;
    Some(Phys(frame as u64 * PAGE))
}

/// Gives back a block of [`alloc`] or [`alloc_below`].
pub fn free(start: Phys, block: Block) {
    with(|f| f.buddy.free((start.0 / PAGE) as usize, block.order()));
}

/// Gives back what [`alloc_contiguous`] gave; also memory of a boot module that is done with.
pub fn free_contiguous(start: Phys, bytes: u64) {
    let first = start.0 / PAGE;
    let end = first + bytes.div_ceil(PAGE).max(1);
    with(|f| f.buddy.free_range(first as usize, end as usize));
}

/// What is left.
pub fn stats() -> Stats {
    with(|f| Stats { total: f.total, free: f.buddy.free_frames() as u64 * PAGE })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_ranges_are_cut_out_of_a_region_wherever_they_lie() {
        let mut parts = Vec::<_, 8>::new();
        let reserved = [(0x3000, 0x5000), (0, 0x1000), (0x4000, 0x6000), (0x9000, 0xb000)];
        free_except(0, 0xa000, &reserved, &mut |a, b| parts.push((a, b)).unwrap());
        assert_eq!(parts.as_slice(), [(0x1000, 0x3000), (0x6000, 0x9000)]);
    }

    #[test]
    fn memory_beyond_what_the_allocator_knows_of_is_left_alone() {
        let mut boot = Boot::new(crate::boot::Loader::Multiboot2);
        let mut add = |start, size| boot.add_region(start, size, RegionKind::Usable).unwrap();
        add(0x10_0000, 0x10_0000);
        add((4 << 40) - 0x1000, 0x4000);
        add(5 << 40, 1 << 30);
        let parts: Vec<_, 8> = usable(&boot).collect();
        assert_eq!(parts.as_slice(), [(0x10_0000, 0x20_0000), ((4 << 40) - 0x1000, 4 << 40)]);
    }
}
