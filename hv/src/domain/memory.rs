//! A guest's memory: its frames, and the second-level table that shows them to it.

// UNSAFETY: turns frames that a domain owns into slices that live as long as the hypervisor.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use arch::ram::HIGH_RAM;
use arch::slat::{Flush, Format, FrameStore, MemType, Range, Slat, SlatError};
use arch::{GuestPhys, GuestRam, HostPhys, Perm};
use machine::host::Backing;
use machine::memmap::LOW_RAM_MAX;

use crate::mem::frames::{self, Block};
use crate::mem::{self, layout};

/// Tables of the second level, in frames. A table that is taken out may still be in another CPU's
/// paging-structure caches, so it waits in limbo until the guest's translations are flushed.
#[derive(Default)]
pub struct Store {
    limbo: heapless::Vec<HostPhys, 256>,
}

impl Store {
    /// Gives back the tables in limbo. Every CPU that runs the guest has flushed since they were taken out.
    pub fn flushed(&mut self) {
        while let Some(table) = self.limbo.pop() {
            frames::free(table, Block::Page);
        }
    }
}

fn entry(table: HostPhys, index: usize) -> &'static AtomicU64 {
    assert!(index < arch::slat::ENTRIES, "an index into a table");
    let base = mem::phys_to_virt(table).cast::<AtomicU64>();
    // SAFETY: `table` is a frame that `alloc` gave; 512 entries of 8 bytes fill it.
    unsafe { &*base.add(index) }
}

impl FrameStore for Store {
    fn alloc(&mut self) -> Option<HostPhys> {
        frames::alloc_zeroed()
    }

    fn free(&mut self, table: HostPhys) {
        if self.limbo.push(table).is_err() {
            // Lost for good, which is safe; one operation does not free so many.
            log::warn!("a second-level table at {table} is not given back");
        }
    }

    fn read(&self, table: HostPhys, index: usize) -> u64 {
        entry(table, index).load(Ordering::Acquire)
    }

    fn write(&mut self, table: HostPhys, index: usize, value: u64) {
        entry(table, index).store(value, Ordering::Release);
    }

    fn compare_exchange(
        &mut self,
        table: HostPhys,
        index: usize,
        current: u64,
        new: u64,
    ) -> Result<(), u64> {
        entry(table, index)
            .compare_exchange(current, new, Ordering::AcqRel, Ordering::Acquire)
            .map(|_| ())
    }
}

/// Where a guest's RAM, firmware and video memory lie.
#[derive(Clone, Copy, Debug)]
pub struct Frames {
    low: HostPhys,
    low_bytes: u64,
    high: HostPhys,
    high_bytes: u64,
    vram: HostPhys,
    vram_bytes: u64,
    rom: HostPhys,
    rom_bytes: u64,
    /// Pages that the hypervisor shares with the guest; none without Xen's interface.
    xen: HostPhys,
    xen_bytes: u64,
}

/// Zeroed frames in one piece, 2 MiB aligned where that is large enough to matter.
fn zeroed(bytes: u64) -> Option<HostPhys> {
    if bytes == 0 {
        return Some(HostPhys(0));
    }
    let align = if bytes >= layout::LARGE { layout::LARGE } else { layout::PAGE };
    let start = frames::alloc_contiguous(bytes, align)?;
    mem::zero(start, bytes);
    Some(start)
}

fn slice<T>(start: HostPhys, bytes: u64) -> &'static [T] {
    if bytes == 0 {
        return &[];
    }
    let pointer = mem::phys_to_virt(start).cast::<T>();
    // SAFETY: frames of this domain, zeroed, in the direct map; `T` is an atomic integer or byte; they are
    // never given back while the domain's machine exists.
    unsafe { core::slice::from_raw_parts(pointer, bytes as usize / size_of::<T>()) }
}

impl Frames {
    /// Bytes of RAM and video memory.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.low_bytes + self.high_bytes + self.vram_bytes
    }

    /// Frames for `ram` bytes of RAM (a multiple of 4 KiB), `vram` of video memory, a copy of the firmware
    /// image, and `xen` bytes of pages shared by Xen's interface. `None` when memory is short; then nothing was
    /// taken for good.
    #[must_use]
    pub fn new(ram: u64, vram: u64, rom: &[u8], xen: u64) -> Option<Frames> {
        let low_bytes = ram.min(LOW_RAM_MAX);
        let high_bytes = ram - low_bytes;
        let mut taken = Frames {
            low: HostPhys(0),
            low_bytes: 0,
            high: HostPhys(0),
            high_bytes: 0,
            vram: HostPhys(0),
            vram_bytes: 0,
            rom: HostPhys(0),
            rom_bytes: 0,
            xen: HostPhys(0),
            xen_bytes: 0,
        };
        let filled = taken.fill(low_bytes, high_bytes, vram, rom);
        let filled = filled.and_then(|()| {
            (taken.xen, taken.xen_bytes) = (zeroed(xen)?, xen);
            Some(())
        });
        if filled.is_none() {
            taken.give_back();
        }
        filled.map(|()| taken)
    }

    fn fill(&mut self, low: u64, high: u64, vram: u64, rom: &[u8]) -> Option<()> {
        (self.low, self.low_bytes) = (zeroed(low)?, low);
        (self.high, self.high_bytes) = (zeroed(high)?, high);
        (self.vram, self.vram_bytes) = (zeroed(vram)?, vram);
        let rom_bytes = layout::up(rom.len() as u64, layout::PAGE);
        (self.rom, self.rom_bytes) = (zeroed(rom_bytes)?, rom_bytes);
        let to = mem::phys_to_virt(self.rom);
        // SAFETY: the frames were just allocated and are at least as long as the image.
        unsafe { core::ptr::copy_nonoverlapping(rom.as_ptr(), to, rom.len()) };
        Some(())
    }

    /// Gives everything back. Nothing may map or use it any more.
    pub fn give_back(&self) {
        for (start, bytes) in [
            (self.low, self.low_bytes),
            (self.high, self.high_bytes),
            (self.vram, self.vram_bytes),
            (self.rom, self.rom_bytes),
            (self.xen, self.xen_bytes),
        ] {
            if bytes != 0 {
                frames::free_contiguous(start, bytes);
            }
        }
    }

    /// The RAM as the machine uses it.
    #[must_use]
    pub fn ram(&self) -> GuestRam {
        GuestRam::new(slice(self.low, self.low_bytes), slice(self.high, self.high_bytes))
    }

    /// The video memory.
    #[must_use]
    pub fn vram(&self) -> &'static [AtomicU32] {
        slice(self.vram, self.vram_bytes)
    }

    /// The firmware image.
    #[must_use]
    pub fn rom(&self) -> &'static [u8] {
        slice(self.rom, self.rom_bytes)
    }

    /// The pages shared by Xen's interface.
    #[must_use]
    pub fn xen(&self) -> &'static [AtomicU64] {
        slice(self.xen, self.xen_bytes)
    }

    /// Where `bytes` of RAM at `gpa` are, if they are RAM in one piece.
    #[must_use]
    pub fn locate(&self, gpa: GuestPhys, bytes: u64) -> Option<HostPhys> {
        let end = gpa.0.checked_add(bytes)?;
        if end <= self.low_bytes {
            return self.low.checked_add(gpa.0);
        }
        let offset = gpa.0.checked_sub(HIGH_RAM)?;
        (offset + bytes <= self.high_bytes).then_some(HostPhys(self.high.0 + offset))
    }

    fn backing(&self, gpa: GuestPhys, bytes: u64, backing: Backing) -> Option<HostPhys> {
        let part = |start: HostPhys, size: u64, offset: u64| {
            let inside = offset.checked_add(bytes).is_some_and(|end| end <= size);
            inside.then_some(HostPhys(start.0 + offset))
        };
        match backing {
            Backing::Ram => self.locate(gpa, bytes),
            Backing::RamAt(at) => self.locate(at, bytes),
            Backing::Rom(offset) => part(self.rom, self.rom_bytes, offset),
            Backing::Vram(offset) => part(self.vram, self.vram_bytes, offset),
            Backing::Xen(offset) => part(self.xen, self.xen_bytes, offset),
            // Whoever knows the other guest asks its frames.
            Backing::Foreign(..) => None,
        }
    }

    /// Maps a run of guest-physical addresses.
    ///
    /// # Errors
    /// No memory for tables, or nothing behind the addresses.
    pub fn map<F: Format>(
        &self,
        slat: &mut Slat<F>,
        store: &mut Store,
        gpa: GuestPhys,
        bytes: u64,
        backing: Backing,
        perm: Perm,
    ) -> Result<Flush, SlatError> {
        let to = self.backing(gpa, bytes, backing).ok_or(SlatError::OutOfRange)?;
        slat.map(store, Range { from: gpa, bytes }, to, perm, MemType::WriteBack)
    }
}
