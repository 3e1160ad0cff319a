//! A second-level page table: guest-physical to host-physical, in the largest pages that fit.
//!
//! Generic over the entry format (`svm::npt`, `vmx::ept`) and over where tables live. Other CPUs
//! walk the table while it changes, so every single write leaves a table that means either the old
//! or the new mapping: children are filled before they are linked, entries change by one store.

use crate::access::Perm;
use crate::addr::{GuestPhys, HUGE_PAGE, HostPhys, LARGE_PAGE, PAGE_SIZE};
use core::ops::BitOr;

/// Entries in a table.
pub const ENTRIES: usize = 512;
/// Guest-physical addresses are below this: four levels.
pub const LIMIT: u64 = 1 << 48;

/// Host memory type of a mapping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemType {
    /// Write-back: RAM.
    #[default]
    WriteBack,
    /// Write-through.
    WriteThrough,
    /// Write-combining: frame buffers.
    WriteCombining,
    /// Uncacheable: devices.
    Uncacheable,
}

/// Size of a page, by the level of the table that holds its entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum PageSize {
    /// 4 KiB.
    Small = 1,
    /// 2 MiB.
    Large = 2,
    /// 1 GiB.
    Huge = 3,
}

impl PageSize {
    /// Size in bytes.
    #[must_use]
    #[inline]
    pub const fn bytes(self) -> u64 {
        match self {
            PageSize::Small => PAGE_SIZE,
            PageSize::Large => LARGE_PAGE,
            PageSize::Huge => HUGE_PAGE,
        }
    }

    const fn smaller(self) -> PageSize {
        match self {
            PageSize::Huge => PageSize::Large,
            _ => PageSize::Small,
        }
    }

    const fn of_level(level: u32) -> PageSize {
        match level {
            1 => PageSize::Small,
            2 => PageSize::Large,
            _ => PageSize::Huge,
        }
    }
}

/// How a vendor writes entries. Entry 0 is empty in every format.
pub trait Format {
    /// An entry that leads to a child table, with all rights.
    fn table(&self, child: HostPhys) -> u64;
    /// An entry that maps a page. Rights without [`Perm::R`] may come out empty (0).
    fn leaf(&self, to: HostPhys, size: PageSize, perm: Perm, memory: MemType) -> u64;
    /// Whether an entry in a table of [`PageSize::Large`] or [`PageSize::Huge`] entries maps a
    /// page.
    fn is_large(&self, entry: u64) -> bool;
    /// Child table or first byte of the page.
    fn address(&self, entry: u64) -> HostPhys;
    /// Rights of a leaf.
    fn perm(&self, entry: u64) -> Perm;
    /// Memory type of a leaf.
    fn memory(&self, entry: u64) -> MemType;
    /// Bit that the CPU sets on use; 0 where it sets none.
    fn accessed(&self) -> u64;
    /// Bit that the CPU sets on writes; 0 where it sets none.
    fn dirty(&self) -> u64;
    /// Largest page that the CPU can map.
    fn largest(&self) -> PageSize;
}

/// Where tables live. `hv` gives frames; tests remember every intermediate state.
pub trait FrameStore {
    /// A zeroed frame for a table.
    fn alloc(&mut self) -> Option<HostPhys>;
    /// Takes back a table that no entry leads to any more. Other CPUs may still hold it in their
    /// paging-structure caches: it may be used anew only after the flush that the operation asks
    /// for.
    fn free(&mut self, table: HostPhys);
    /// Reads an entry. `index` is below [`ENTRIES`].
    fn read(&self, table: HostPhys, index: usize) -> u64;
    /// Stores an entry, with release ordering.
    fn write(&mut self, table: HostPhys, index: usize, entry: u64);
    /// Replaces an entry in one atomic step if it still is `current`; else says what it is.
    ///
    /// # Errors
    /// What the entry is instead.
    fn compare_exchange(
        &mut self,
        table: HostPhys,
        index: usize,
        current: u64,
        new: u64,
    ) -> Result<(), u64>;
}

/// Whether CPUs may hold translations that the operation made wrong.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// Nothing that could be cached changed.
    No,
    /// Flush the guest's translations on every CPU that runs it.
    Yes,
}

impl BitOr for Flush {
    type Output = Flush;

    fn bitor(self, other: Flush) -> Flush {
        if self == Flush::Yes { Flush::Yes } else { other }
    }
}

/// Why a change was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlatError {
    /// No frame for a table. What was done before stays done.
    NoMemory,
    /// Address or length is not a multiple of the page size.
    Misaligned,
    /// The range ends beyond [`LIMIT`].
    OutOfRange,
}

/// A leaf as [`Slat::lookup`] finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Host address of the very byte that was asked for.
    pub to: HostPhys,
    /// Size of the page.
    pub size: PageSize,
    /// Rights.
    pub perm: Perm,
    /// Memory type.
    pub memory: MemType,
    /// The CPU has used it.
    pub accessed: bool,
    /// The CPU has written to it.
    pub dirty: bool,
}

/// A run of guest-physical addresses, whole pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First byte.
    pub from: GuestPhys,
    /// Bytes.
    pub bytes: u64,
}

/// What a change makes of the range.
#[derive(Clone, Copy)]
enum Change {
    /// Guest address minus host address, wrapping.
    Map {
        offset: u64,
        perm: Perm,
        memory: MemType,
    },
    Protect(Perm),
    Unmap,
    /// Clears the dirty bit.
    Clean,
}

/// A second-level page table of four levels.
#[derive(Debug)]
pub struct Slat<F> {
    format: F,
    root: HostPhys,
}

/// The slot of an address in one table.
#[derive(Clone, Copy)]
struct Slot {
    table: HostPhys,
    index: usize,
}

const fn index(at: u64, level: u32) -> usize {
    (at >> (3 + 9 * level)) as usize & (ENTRIES - 1)
}

const fn span(level: u32) -> u64 {
    1 << (3 + 9 * level)
}

impl<F: Format> Slat<F> {
    /// An empty table.
    ///
    /// # Errors
    /// [`SlatError::NoMemory`].
    pub fn new(format: F, store: &mut impl FrameStore) -> Result<Slat<F>, SlatError> {
        let root = store.alloc().ok_or(SlatError::NoMemory)?;
        Ok(Slat { format, root })
    }

    /// A table whose root is there already, and in whose other parts nothing is changed by this one.
    #[must_use]
    pub const fn over(format: F, root: HostPhys) -> Slat<F> {
        Slat { format, root }
    }

    /// The top table's frame, for nested CR3 or the EPT pointer.
    #[must_use]
    pub const fn root(&self) -> HostPhys {
        self.root
    }

    /// Maps `range` to host memory from `to`, replacing what was there, in the largest pages that
    /// both addresses and the CPU allow.
    ///
    /// # Errors
    /// [`SlatError`].
    #[inline]
    pub fn map(
        &mut self,
        store: &mut impl FrameStore,
        range: Range,
        to: HostPhys,
        perm: Perm,
        memory: MemType,
    ) -> Result<Flush, SlatError> {
        if !to.is_aligned(PAGE_SIZE) {
            return Err(SlatError::Misaligned);
        }
        let offset = range.from.0.wrapping_sub(to.0);
        let change = Change::Map { offset, perm, memory };
        match self.change_page(store, range, change) {
            Some(flush) => Ok(flush),
            None => self.change(store, range, change),
        }
    }

    /// Removes what is mapped in `range`. Large pages that stick out are split.
    ///
    /// # Errors
    /// [`SlatError`].
    #[inline]
    pub fn unmap(&mut self, store: &mut impl FrameStore, range: Range) -> Result<Flush, SlatError> {
        match self.change_page(store, range, Change::Unmap) {
            Some(flush) => Ok(flush),
            None => self.change(store, range, Change::Unmap),
        }
    }

    /// Sets the rights of what is mapped in `range`; holes stay holes. Without rights, unmaps.
    ///
    /// # Errors
    /// [`SlatError`].
    pub fn protect(
        &mut self,
        store: &mut impl FrameStore,
        range: Range,
        perm: Perm,
    ) -> Result<Flush, SlatError> {
        self.change(store, range, Change::Protect(perm))
    }

    /// Clears dirty bits in `range`. Pages keep their size: read them by [`lookup`](Slat::lookup)
    /// first.
    ///
    /// # Errors
    /// [`SlatError`].
    pub fn clear_dirty(
        &mut self,
        store: &mut impl FrameStore,
        range: Range,
    ) -> Result<Flush, SlatError> {
        self.change(store, range, Change::Clean)
    }

    /// What maps `at`, if anything does.
    #[must_use]
    pub fn lookup(&self, store: &impl FrameStore, at: GuestPhys) -> Option<Mapping> {
        if at.0 >= LIMIT {
            return None;
        }
        let mut table = self.root;
        for level in (1..=4).rev() {
            let entry = store.read(table, index(at.0, level));
            if entry == 0 {
                return None;
            }
            if level == 1 || (level < 4 && self.format.is_large(entry)) {
                let size = PageSize::of_level(level);
                return Some(Mapping {
                    to: HostPhys(self.format.address(entry).0 | (at.0 & (size.bytes() - 1))),
                    size,
                    perm: self.format.perm(entry),
                    memory: self.format.memory(entry),
                    accessed: entry & self.format.accessed() != 0,
                    dirty: entry & self.format.dirty() != 0,
                });
            }
            table = self.format.address(entry);
        }
        None
    }

    /// Gives every table back. No CPU may be using it any more.
    pub fn destroy(self, store: &mut impl FrameStore) {
        self.free_tree(store, self.root, 4);
    }

    /// The short way of who changes single pages whose tables are there. `None`: it takes [`change`](Slat::change).
    #[inline(always)]
    fn change_page(
        &self,
        store: &mut impl FrameStore,
        range: Range,
        change: Change,
    ) -> Option<Flush> {
        let at = range.from.0;
        if range.bytes != PAGE_SIZE || at & (PAGE_SIZE - 1) != 0 || at >= LIMIT {
            return None;
        }
        let slot = self.small_slot(store, at)?;
        Some(self.replace(store, slot, 1, at, change))
    }

    #[inline(never)]
    fn change(
        &mut self,
        store: &mut impl FrameStore,
        range: Range,
        change: Change,
    ) -> Result<Flush, SlatError> {
        if !range.from.is_aligned(PAGE_SIZE) || !range.bytes.is_multiple_of(PAGE_SIZE) {
            return Err(SlatError::Misaligned);
        }
        let end = range.from.checked_add(range.bytes).ok_or(SlatError::OutOfRange)?.0;
        if end > LIMIT {
            return Err(SlatError::OutOfRange);
        }
        let mut at = range.from.0;
        let mut flush = Flush::No;
        while at < end {
            let (size, step) = self.change_one(store, at, end, change)?;
            flush = flush | step;
            // End of the entry that was treated: never past `end` but for holes.
            at = (at | (size - 1)) + 1;
        }
        Ok(flush)
    }

    /// Treats the entry that holds `at` at the highest level where it lies wholly before `end`.
    /// Returns the bytes that the entry spans.
    fn change_one(
        &mut self,
        store: &mut impl FrameStore,
        at: u64,
        end: u64,
        change: Change,
    ) -> Result<(u64, Flush), SlatError> {
        let mut slot = Slot { table: self.root, index: index(at, 4) };
        let mut level = 4;
        let mut flush = Flush::No;
        loop {
            let entry = store.read(slot.table, slot.index);
            let is_table = level == 4 || (level > 1 && entry != 0 && !self.format.is_large(entry));
            let whole = at & (span(level) - 1) == 0 && end - at >= span(level);
            let fits = match change {
                Change::Map { offset, .. } => {
                    whole
                        && level <= self.format.largest() as u32
                        && offset & (span(level) - 1) == 0
                }
                // Nothing to do in a hole; tables are entered, but for those that vanish as a
                // whole.
                _ if entry == 0 => return Ok((span(level), flush)),
                Change::Unmap => whole && level < 4,
                Change::Protect(_) => whole && !is_table,
                Change::Clean => !is_table,
            };
            if fits {
                let step = self.replace(store, slot, level, at, change);
                return Ok((span(level), flush | step));
            }
            let child = if is_table && entry != 0 {
                self.format.address(entry)
            } else {
                let (child, step) = self.link(store, slot, level)?;
                flush = flush | step;
                child
            };
            level -= 1;
            slot = Slot { table: child, index: index(at, level) };
        }
    }

    /// The slot of a small page whose tables are there.
    #[inline(always)]
    fn small_slot(&self, store: &impl FrameStore, at: u64) -> Option<Slot> {
        let mut table = self.root;
        for level in (2..=4).rev() {
            let entry = store.read(table, index(at, level));
            if entry == 0 || (level < 4 && self.format.is_large(entry)) {
                return None;
            }
            table = self.format.address(entry);
        }
        Some(Slot { table, index: index(at, 1) })
    }

    /// Puts a child table into an empty slot, or into that of a large page which it then maps in
    /// smaller ones.
    fn link(
        &mut self,
        store: &mut impl FrameStore,
        slot: Slot,
        level: u32,
    ) -> Result<(HostPhys, Flush), SlatError> {
        let child = store.alloc().ok_or(SlatError::NoMemory)?;
        let mut entry = store.read(slot.table, slot.index);
        loop {
            if entry != 0 {
                self.fill_split(store, child, entry, PageSize::of_level(level).smaller());
            }
            // The CPU may set accessed or dirty bits of the large page in the meantime.
            match store.compare_exchange(slot.table, slot.index, entry, self.format.table(child)) {
                Ok(()) => break,
                Err(now) => entry = now,
            }
        }
        Ok((child, if entry == 0 { Flush::No } else { Flush::Yes }))
    }

    fn fill_split(&self, store: &mut impl FrameStore, child: HostPhys, entry: u64, size: PageSize) {
        let base = self.format.address(entry).0;
        let (perm, memory) = (self.format.perm(entry), self.format.memory(entry));
        let bits = entry & (self.format.accessed() | self.format.dirty());
        for n in 0..ENTRIES {
            let to = HostPhys(base + n as u64 * size.bytes());
            store.write(child, n, self.format.leaf(to, size, perm, memory) | bits);
        }
    }

    /// Replaces the slot of `at` by what a change makes of it, and gives back a table that hung there.
    #[inline(always)]
    fn replace(
        &self,
        store: &mut impl FrameStore,
        slot: Slot,
        level: u32,
        at: u64,
        change: Change,
    ) -> Flush {
        let mut old = store.read(slot.table, slot.index);
        loop {
            let new = self.changed(old, level, at, change);
            if new == old {
                return Flush::No;
            }
            match store.compare_exchange(slot.table, slot.index, old, new) {
                Ok(()) => break,
                Err(now) => old = now,
            }
        }
        if old == 0 {
            return Flush::No;
        }
        if level > 1 && !self.format.is_large(old) {
            self.free_tree(store, self.format.address(old), level - 1);
        }
        Flush::Yes
    }

    /// What a change makes of an entry of `at`. A hole stays one, but for what is mapped there.
    #[inline(always)]
    fn changed(&self, old: u64, level: u32, at: u64, change: Change) -> u64 {
        let format = &self.format;
        let size = PageSize::of_level(level);
        match change {
            Change::Map { offset, perm, memory } => {
                format.leaf(HostPhys(at.wrapping_sub(offset)), size, perm, memory)
            }
            Change::Unmap => 0,
            _ if old == 0 => 0,
            Change::Protect(perm) => {
                let bits = old & (format.accessed() | format.dirty());
                match format.leaf(format.address(old), size, perm, format.memory(old)) {
                    0 => 0,
                    leaf => leaf | bits,
                }
            }
            Change::Clean => old & !format.dirty(),
        }
    }

    /// Gives back a table and all below it.
    fn free_tree(&self, store: &mut impl FrameStore, table: HostPhys, level: u32) {
        if level > 1 {
            for n in 0..ENTRIES {
                let entry = store.read(table, n);
                if entry != 0 && (level == 4 || !self.format.is_large(entry)) {
                    self.free_tree(store, self.format.address(entry), level - 1);
                }
            }
        }
        store.free(table);
    }
}

#[cfg(test)]
mod tests;
