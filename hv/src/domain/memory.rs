//! A guest's memory: its frames, and the second-level table that shows them to it.

// UNSAFETY: turns frames that a domain owns into slices that live as long as the hypervisor.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use arch::ram::HIGH_RAM;
use arch::slat::{Flush, Format, FrameStore, MemType, Range, Slat, SlatError};
use arch::{GuestPhys, GuestRam, HostPhys, Perm};
use machine::host::Backing;
use machine::memmap::{LOW_RAM_MAX, SHADOW, VGA_WINDOW};

use super::demand::{self, Demand};
use super::window;
use crate::mem::frames::{self, Block};
use crate::mem::{self, layout};

/// Tables of the second level, in frames. A table that is taken out may still be in another CPU's
/// paging-structure caches, so it waits in limbo until the guest's translations are flushed.
#[derive(Default)]
pub struct Store {
    limbo: heapless::Vec<HostPhys, 256>,
}

impl Store {
    /// Whether tables are in limbo.
    #[must_use]
    pub fn waits(&self) -> bool {
        !self.limbo.is_empty()
    }

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

/// Bytes of RAM whose tables go into [`Store`]'s limbo at once: 128 tables.
const PIECE: u64 = 256 << 20;

/// Where a guest's RAM, firmware and video memory lie.
#[derive(Debug)]
pub struct Frames {
    /// The RAM in the hypervisor's address space, by guest-physical address.
    window: u64,
    /// What is in the window instead of a page that was given back: zeros, and what strayed there.
    sink: HostPhys,
    /// The RAM comes as it is touched; then `low` and `high` are nothing.
    demand: Option<&'static Demand>,
    /// Pages were given back or came again: the RAM is in pieces, and only the window knows where.
    scattered: AtomicBool,
    /// RAM as it was when the guest was built.
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

/// RAM of a guest as its window shows it.
fn seen(window: u64, bytes: u64) -> &'static [AtomicU64] {
    if bytes == 0 {
        return &[];
    }
    let pointer = core::ptr::with_exposed_provenance(window as usize);
    // SAFETY: all pages of the window are mapped as long as the hypervisor runs, each to a frame of the
    // domain's or to its sink, or are when `demand::recover` has seen to them; the frames' contents are atomic integers that anybody may change.
    unsafe { core::slice::from_raw_parts(pointer, bytes as usize / 8) }
}

impl Frames {
    /// Bytes of RAM, as far as it was there from the start, and of video memory.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let all = self.low_bytes + self.high_bytes;
        self.demand.map_or(all, Demand::budget_bytes) + self.vram_bytes
    }

    /// Frames for `ram` bytes of RAM (a multiple of 4 KiB), `vram` of video memory, a copy of the firmware
    /// image, and `xen` bytes of pages shared by Xen's interface. Of the RAM `memory` bytes are taken: if these
    /// are not all, they come as it is touched. `None` when memory is short; then nothing was taken for good.
    #[must_use]
    pub fn new(ram: u64, memory: u64, vram: u64, rom: &[u8], xen: u64) -> Option<Frames> {
        let low_bytes = ram.min(LOW_RAM_MAX);
        let high_bytes = ram - low_bytes;
        let mut taken = Frames {
            window: 0,
            sink: HostPhys(0),
            demand: None,
            scattered: AtomicBool::new(memory < ram),
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
        let filled = if memory < ram {
            (taken.low_bytes, taken.high_bytes) = (low_bytes, high_bytes);
            taken.fill_others(vram, rom)
        } else {
            taken.fill(low_bytes, high_bytes).and_then(|()| taken.fill_others(vram, rom))
        };
        let filled = filled.and_then(|()| {
            (taken.xen, taken.xen_bytes) = (zeroed(xen)?, xen);
            taken.sink = zeroed(layout::PAGE)?;
            taken.open_window(memory)
        });
        if filled.is_none() {
            taken.give_back();
        }
        filled.map(|()| taken)
    }

    fn fill(&mut self, low: u64, high: u64) -> Option<()> {
        (self.low, self.low_bytes) = (zeroed(low)?, low);
        (self.high, self.high_bytes) = (zeroed(high)?, high);
        Some(())
    }

    fn fill_others(&mut self, vram: u64, rom: &[u8]) -> Option<()> {
        (self.vram, self.vram_bytes) = (zeroed(vram)?, vram);
        let rom_bytes = layout::up(rom.len() as u64, layout::PAGE);
        (self.rom, self.rom_bytes) = (zeroed(rom_bytes)?, rom_bytes);
        let to = mem::phys_to_virt(self.rom);
        // SAFETY: the frames were just allocated and are at least as long as the image.
        unsafe { core::ptr::copy_nonoverlapping(rom.as_ptr(), to, rom.len()) };
        Some(())
    }

    /// Shows the RAM in the hypervisor's address space.
    fn open_window(&mut self, memory: u64) -> Option<()> {
        let end = if self.high_bytes == 0 { self.low_bytes } else { HIGH_RAM + self.high_bytes };
        self.window = window::open(end)?;
        let (low, high) = (self.low_bytes, self.high_bytes);
        if memory < low + high {
            self.demand = Some(Demand::new(self.window, (low, high), memory, self.sink)?);
            return Some(());
        }
        window::map(self.window, self.low_bytes, self.low).ok()?;
        window::map(self.window + HIGH_RAM, self.high_bytes, self.high).ok()
    }

    /// Gives everything back. Nothing may map or use it any more.
    pub fn give_back(&self) {
        if let Some(demand) = self.demand {
            demand.give_back();
        }
        // RAM that comes as it is touched is not in one piece.
        let whole = |start: HostPhys, bytes| (start, if start.0 == 0 { 0 } else { bytes });
        for (start, bytes) in [
            whole(self.low, self.low_bytes),
            whole(self.high, self.high_bytes),
            (self.vram, self.vram_bytes),
            (self.rom, self.rom_bytes),
            (self.xen, self.xen_bytes),
            (self.sink, if self.sink.0 == 0 { 0 } else { layout::PAGE }),
        ] {
            if bytes != 0 {
                frames::free_contiguous(start, bytes);
            }
        }
    }

    /// The RAM as the machine uses it.
    #[must_use]
    pub fn ram(&self) -> GuestRam {
        let high = self.window + HIGH_RAM;
        GuestRam::new(seen(self.window, self.low_bytes), seen(high, self.high_bytes))
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

    /// Where the RAM at `gpa` is, and how many of the `bytes` from there on are in one piece. `None` for the
    /// place where pages were given back; nothing where not all is RAM.
    #[must_use]
    #[inline]
    pub fn locate(&self, gpa: GuestPhys, bytes: u64) -> Option<(Option<HostPhys>, u64)> {
        let end = gpa.0.checked_add(bytes)?;
        let low = end <= self.low_bytes;
        let high = gpa.0.checked_sub(HIGH_RAM);
        if !low && high.is_none_or(|offset| offset + bytes > self.high_bytes) {
            return None;
        }
        if !self.scattered.load(Ordering::SeqCst) {
            let start = high.map_or(self.low.0 + gpa.0, |offset| self.high.0 + offset);
            return Some((Some(HostPhys(start)), bytes));
        }
        self.locate_piece(gpa, bytes)
    }

    /// As [`locate`](Frames::locate), of RAM that is in pieces.
    #[inline(never)]
    fn locate_piece(&self, gpa: GuestPhys, bytes: u64) -> Option<(Option<HostPhys>, u64)> {
        let Some((first, mut run)) = window::find(self.window + gpa.0) else {
            // It was never touched.
            let page = layout::PAGE - gpa.page_offset();
            return self.demand.map(|_| (None, page.min(bytes)));
        };
        let is_sink = |at: HostPhys| at.page() == self.sink;
        while run < bytes {
            let Some((next, more)) = window::find(self.window + gpa.0 + run) else { break };
            let goes_on = if is_sink(first) { is_sink(next) } else { next.0 == first.0 + run };
            if !goes_on {
                break;
            }
            run += more;
        }
        Some(((!is_sink(first)).then_some(first), run.min(bytes)))
    }

    /// Hands the pieces of RAM from `gpa` on to `work`, in order; for pages that were given back `None`.
    ///
    /// # Errors
    /// What `work` says, or `outside` where not all is RAM; then pieces before it were handed on.
    pub fn pieces<E>(
        &self,
        gpa: GuestPhys,
        bytes: u64,
        outside: E,
        mut work: impl FnMut(GuestPhys, Option<HostPhys>, u64) -> Result<(), E>,
    ) -> Result<(), E> {
        let (mut at, mut left) = (gpa, bytes);
        while left > 0 {
            let Some((place, run)) = self.locate(at, left) else { return Err(outside) };
            work(at, place, run)?;
            at = GuestPhys(at.0 + run);
            left -= run;
        }
        Ok(())
    }

    /// Takes the frame of a page of RAM; what strays there goes to the sink. CPUs may still remember it.
    /// `None` for a page that was given back, or where there is no memory for tables.
    pub fn take(&self, page: GuestPhys) -> Option<HostPhys> {
        self.scattered.store(true, Ordering::SeqCst);
        if let Some(demand) = self.demand {
            return demand.take(page.0);
        }
        window::replace(self.window + page.0, self.sink, |old| old != self.sink)
    }

    /// Puts a frame behind a page that was given back. False where it was not, or for want of tables.
    pub fn put(&self, page: GuestPhys, frame: HostPhys) -> bool {
        window::replace(self.window + page.0, frame, |old| old == self.sink).is_some()
    }

    /// A frame that the guest gave back, and that nobody uses any more.
    pub fn free(&self, frame: HostPhys) {
        match self.demand {
            Some(demand) => demand.receive(frame),
            None => frames::free(frame, Block::Page),
        }
    }

    /// Where the RAM at `gpa` is, if it has only not been touched so far.
    #[must_use]
    pub fn provide(&self, gpa: GuestPhys) -> Option<HostPhys> {
        self.demand?.provide(gpa.0).filter(|at| at.page() != self.sink)
    }

    /// How the RAM comes as it is touched; `None` for RAM that is there.
    #[must_use]
    #[inline]
    pub fn demand(&self) -> Option<&'static Demand> {
        self.demand
    }

    /// All RAM is as it was when the guest was built.
    pub fn clear(&self) {
        if let Some(demand) = self.demand {
            demand.clear();
        }
    }

    /// RAM as a second-level table may show it, in pieces whose tables the store can take: what lies beside it in the
    /// first megabyte is left out.
    pub fn ram_ranges(&self) -> impl Iterator<Item = (GuestPhys, u64)> {
        let cut = |from: u64, to: u64| {
            let step = PIECE;
            (from..to).step_by(step as usize).map(move |at| (GuestPhys(at), step.min(to - at)))
        };
        let low = self.low_bytes;
        let high = HIGH_RAM + self.high_bytes;
        cut(0, low.min(VGA_WINDOW))
            .chain(cut(SHADOW, low.min(demand::FIRST)))
            .chain(cut(demand::FIRST, low))
            .chain(cut(HIGH_RAM, high))
    }

    /// Whether a page was given back.
    #[must_use]
    pub fn is_absent(&self, page: GuestPhys) -> bool {
        matches!(self.locate(page, layout::PAGE), Some((None, _)))
    }

    fn backing(&self, bytes: u64, backing: Backing) -> Option<HostPhys> {
        let part = |start: HostPhys, size: u64, offset: u64| {
            let inside = offset.checked_add(bytes).is_some_and(|end| end <= size);
            inside.then_some(HostPhys(start.0 + offset))
        };
        match backing {
            Backing::Rom(offset) => part(self.rom, self.rom_bytes, offset),
            Backing::Vram(offset) => part(self.vram, self.vram_bytes, offset),
            Backing::Xen(offset) => part(self.xen, self.xen_bytes, offset),
            // RAM is in pieces; of another guest, whoever knows it asks its frames.
            Backing::Ram | Backing::RamAt(_) | Backing::Foreign(..) => None,
        }
    }

    /// Maps a run of guest-physical addresses. Pages of RAM that were given back stay as they are.
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
        let mut one =
            |from, bytes, to| slat.map(store, Range { from, bytes }, to, perm, MemType::WriteBack);
        let ram = match backing {
            Backing::Ram => gpa,
            Backing::RamAt(at) => at,
            other => {
                let to = self.backing(bytes, other).ok_or(SlatError::OutOfRange)?;
                return one(gpa, bytes, to);
            }
        };
        let mut flush = Flush::No;
        self.pieces(ram, bytes, SlatError::OutOfRange, |at, place, run| {
            if let Some(to) = place {
                flush = flush | one(GuestPhys(at.0 - ram.0 + gpa.0), run, to)?;
            }
            Ok(())
        })?;
        Ok(flush)
    }
}
