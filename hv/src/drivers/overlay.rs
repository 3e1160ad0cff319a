//! What a guest has written to a disk that must not change: an index of sectors, and frames that hold them.
//!
//! Two levels: a directory with a table for each 2 MiB of the disk, and tables with a frame for each 4 KiB and which
//! of its eight sectors were written. Generic over where frames come from. Next: `domain/disk.rs`, who moves the data.

use alloc::boxed::Box;
use alloc::vec;
use arch::HostPhys;

/// Bytes of a sector.
pub const SECTOR: u64 = 512;
/// Sectors of a frame.
const FRAME_SECTORS: u64 = 4096 / SECTOR;
/// Frames of a table.
const TABLE_FRAMES: u64 = 512;

/// Where frames come from and what is in them.
pub trait Store {
    /// A zeroed frame; `None` when memory is short.
    fn alloc(&mut self) -> Option<HostPhys>;
    /// Gives a frame back.
    fn free(&mut self, frame: HostPhys);
    /// Reads 8 bytes of a frame.
    fn load(&self, at: HostPhys) -> u64;
    /// Writes 8 bytes of a frame.
    fn store(&mut self, at: HostPhys, value: u64);
}

/// The sectors that were written.
#[derive(Debug)]
pub struct Overlay<S: Store> {
    store: S,
    /// Frame number of each table; 0 for none.
    directory: Box<[u32]>,
    frames: u64,
}

/// A table's entry: the frame's number, and a bit for each of its sectors above it.
#[derive(Clone, Copy, Debug)]
struct Entry(u64);

impl Entry {
    fn frame(self) -> Option<HostPhys> {
        let number = self.0 & 0xffff_ffff;
        (number != 0).then_some(HostPhys(number << 12))
    }

    fn has(self, sector: u64) -> bool {
        self.0 >> (32 + sector % FRAME_SECTORS) & 1 != 0
    }
}

impl<S: Store> Overlay<S> {
    /// Nothing was written to a disk of so many sectors.
    pub fn new(sectors: u64, store: S) -> Self {
        let tables = sectors.div_ceil(FRAME_SECTORS * TABLE_FRAMES) as usize;
        Overlay { store, directory: vec![0; tables].into_boxed_slice(), frames: 0 }
    }

    /// Frames that it holds.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Where the entry of a sector is, if its table is there.
    fn entry_at(&self, sector: u64) -> Option<HostPhys> {
        let frame = sector / FRAME_SECTORS;
        let table = *self.directory.get((frame / TABLE_FRAMES) as usize)?;
        (table != 0).then(|| HostPhys((u64::from(table) << 12) + frame % TABLE_FRAMES * 8))
    }

    fn entry(&self, sector: u64) -> Entry {
        Entry(self.entry_at(sector).map_or(0, |at| self.store.load(at)))
    }

    /// How many sectors from `sector` on, at most `limit` (1 or more), are in one piece: where they were written to,
    /// or `None` for sectors that were not.
    #[must_use]
    pub fn run(&self, sector: u64, limit: u64) -> (Option<HostPhys>, u64) {
        let entry = self.entry(sector);
        let written = entry.has(sector);
        let end = (FRAME_SECTORS - sector % FRAME_SECTORS).min(limit.max(1));
        let same = (1..end).take_while(|n| entry.has(sector + n) == written).count() as u64 + 1;
        let at = entry.frame().filter(|_| written);
        (at.map(|at| HostPhys(at.0 + sector % FRAME_SECTORS * SECTOR)), same)
    }

    /// Whether any, and whether all, of these sectors were written.
    #[must_use]
    pub fn covers(&self, sector: u64, sectors: u64) -> (bool, bool) {
        let (mut any, mut all, mut at) = (false, true, sector);
        while at < sector + sectors {
            let (written, run) = self.run(at, sector + sectors - at);
            any |= written.is_some();
            all &= written.is_some();
            at += run;
        }
        (any, all)
    }

    /// Where `bytes` at `offset` are to be written, and how many of them go there; their sectors count as written
    /// from now on. `None` when memory is short, or beyond the disk's end.
    pub fn place(&mut self, offset: u64, bytes: u64) -> Option<(HostPhys, u64)> {
        let sector = offset / SECTOR;
        let table = (sector / FRAME_SECTORS / TABLE_FRAMES) as usize;
        if *self.directory.get(table)? == 0 {
            let fresh = self.frame()?;
            self.directory[table] = (fresh.0 >> 12) as u32;
        }
        let at = self.entry_at(sector)?;
        let entry = Entry(self.store.load(at));
        let frame = match entry.frame() {
            Some(frame) => frame,
            None => self.frame()?,
        };
        let within = offset % 4096;
        let now = bytes.min(4096 - within);
        let last = (within + now.max(1) - 1) / SECTOR;
        let bits = (within / SECTOR..=last).fold(0, |bits, n| bits | 1 << (32 + n));
        self.store.store(at, entry.0 | frame.0 >> 12 | bits);
        Some((HostPhys(frame.0 + within), now))
    }

    /// A frame whose number fits an entry.
    fn frame(&mut self) -> Option<HostPhys> {
        let frame = self.store.alloc()?;
        if frame.0 >> 12 > u64::from(u32::MAX) {
            self.store.free(frame);
            return None;
        }
        self.frames += 1;
        Some(frame)
    }
}

impl<S: Store> Drop for Overlay<S> {
    fn drop(&mut self) {
        for table in core::mem::take(&mut self.directory) {
            if table == 0 {
                continue;
            }
            let table = HostPhys(u64::from(table) << 12);
            for n in 0..TABLE_FRAMES {
                if let Some(frame) = Entry(self.store.load(HostPhys(table.0 + n * 8))).frame() {
                    self.store.free(frame);
                }
            }
            self.store.free(table);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::collections::BTreeMap;
    use std::rc::Rc;
    use std::vec::Vec;

    /// Frames by number, from 1, up to a limit.
    #[derive(Default)]
    struct Bank {
        frames: BTreeMap<u64, Vec<u8>>,
        limit: usize,
        last: u64,
    }

    #[derive(Clone, Default)]
    struct Memory(Rc<RefCell<Bank>>);

    impl Memory {
        fn bytes<R>(&self, at: HostPhys, len: usize, work: impl FnOnce(&mut [u8]) -> R) -> R {
            let mut bank = self.0.borrow_mut();
            let frame = bank.frames.get_mut(&(at.0 >> 12)).expect("an allocated frame");
            work(&mut frame[(at.0 & 0xfff) as usize..][..len])
        }
    }

    impl Store for Memory {
        fn alloc(&mut self) -> Option<HostPhys> {
            let mut bank = self.0.borrow_mut();
            if bank.frames.len() >= bank.limit {
                return None;
            }
            bank.last += 1;
            let number = bank.last;
            bank.frames.insert(number, std::vec![0; 4096]);
            Some(HostPhys(number << 12))
        }
        fn free(&mut self, frame: HostPhys) {
            assert!(self.0.borrow_mut().frames.remove(&(frame.0 >> 12)).is_some(), "freed once");
        }
        fn load(&self, at: HostPhys) -> u64 {
            self.bytes(at, 8, |bytes| u64::from_le_bytes((&*bytes).try_into().unwrap()))
        }
        fn store(&mut self, at: HostPhys, value: u64) {
            self.bytes(at, 8, |bytes| bytes.copy_from_slice(&value.to_le_bytes()));
        }
    }

    fn memory(frames: usize) -> Memory {
        let memory = Memory::default();
        memory.0.borrow_mut().limit = frames;
        memory
    }

    #[test]
    fn what_is_written_is_found_again_and_nothing_else_whatever_the_order() {
        const SECTORS: u64 = 9000;
        for seed in 1..20u64 {
            let memory = memory(usize::MAX);
            let mut overlay = Overlay::new(SECTORS, memory.clone());
            let mut model: BTreeMap<u64, u8> = BTreeMap::new();
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut next = |below: u64| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 20) % below
            };
            for step in 0..200u8 {
                let start = next(SECTORS - 40) & if step % 3 == 0 { !7 } else { !0 };
                let count = 1 + next(40);
                let (mut offset, mut left) = (start * SECTOR, count * SECTOR);
                while left > 0 {
                    // Pieces of any even length, as a PRD table may have them.
                    let piece = left.min(2 + 2 * next(3000));
                    let (at, now) = overlay.place(offset, piece).unwrap();
                    memory.bytes(at, now as usize, |bytes| bytes.fill(step));
                    offset += now;
                    left -= now;
                }
                model.extend((start..start + count).map(|sector| (sector, step)));
                let (from, len) = (next(SECTORS - 99), 1 + next(99));
                let hits = model.range(from..from + len).count() as u64;
                assert_eq!(overlay.covers(from, len), (hits > 0, hits == len), "seed {seed}");
            }
            let mut sector = 0;
            while sector < SECTORS {
                let (at, run) = overlay.run(sector, SECTORS - sector);
                for n in 0..run {
                    let found = at.map(|at| {
                        memory.bytes(HostPhys(at.0 + n * SECTOR), 512, |bytes| {
                            assert!(bytes.iter().all(|byte| *byte == bytes[0]));
                            bytes[0]
                        })
                    });
                    assert_eq!(found, model.get(&(sector + n)).copied(), "seed {seed}");
                }
                sector += run;
            }
            assert_eq!(overlay.frames(), memory.0.borrow().frames.len() as u64);
            drop(overlay);
            assert!(memory.0.borrow().frames.is_empty(), "every frame is given back");
        }
    }

    #[test]
    fn without_memory_or_beyond_the_end_there_is_no_place_and_what_was_written_stays() {
        let memory = memory(2);
        let mut overlay = Overlay::new(16, memory.clone());
        assert!(overlay.place(0, 4096).is_some());
        assert_eq!(overlay.place(4096, 512), None, "a table and a frame are there already");
        assert!(overlay.place(512, 512).is_some());
        assert_eq!(overlay.covers(0, 16), (true, false));
        assert_eq!(overlay.place(1 << 40, 512), None);
        assert_eq!(Overlay::new(0, memory).place(0, 512), None);
    }
}
