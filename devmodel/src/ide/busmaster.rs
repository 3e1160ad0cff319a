//! One channel's bus-master function: command, status, table pointer, and the walk of its PRDs.
//!
//! PIIX3 datasheet, "Bus Master IDE I/O Registers" and "Physical Region Descriptor". The walk is a
//! cursor: it resumes where the last batch ended and reads the table through a closure, so that the
//! chip needs no memory. A PRD table is taken to wrap within its 64 KiB, as the pointer does.

use crate::blk::SegmentList;

/// Command bit 0: run.
pub const START: u8 = 1 << 0;
/// Command bit 3: 1 writes memory (a disk read).
pub const TO_MEMORY: u8 = 1 << 3;
/// Status bit 0: the engine runs.
pub const ACTIVE: u8 = 1 << 0;
/// Status bit 1: a transfer failed on the bus.
pub const ERROR: u8 = 1 << 1;
/// Status bit 2: the channel's interrupt line rose.
pub const INTERRUPT: u8 = 1 << 2;
/// Status bits 5 and 6: firmware's note that a drive can do DMA.
pub const CAPABLE: u8 = 0x60;

/// Descriptors that one walk reads: more than one list's worth, far fewer than a hostile table has.
const MAX_DESCRIPTORS: u32 = 512;

/// How a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walk {
    /// This many bytes are in the list: all that was wanted, or as many as fit.
    Bytes(u32),
    /// The table ended before one whole unit.
    Short,
    /// The table is not memory, or one unit lies in more pieces than a list holds.
    Abort,
}

/// Where the walk stands in the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Offset of the next descriptor from the table's start; wraps at 64 KiB.
    pub next: u16,
    /// Address within the current region.
    pub address: u32,
    /// Bytes left of the current region, at most 64 KiB.
    pub left: u32,
    /// The current region is the table's last.
    pub last: bool,
}

/// The registers of one channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BusMaster {
    // Guest-visible
    pub command: u8,
    pub status: u8,
    pub table: u32,
    // Derived
    pub cursor: Cursor,
}

impl BusMaster {
    /// The power-on state.
    pub const fn new() -> BusMaster {
        let cursor = Cursor { next: 0, address: 0, left: 0, last: false };
        BusMaster { command: 0, status: 0, table: 0, cursor }
    }

    /// Register `offset` (0 to 7) as a byte.
    pub fn read(&self, offset: u8) -> u8 {
        match offset {
            0 => self.command,
            2 => self.status,
            4..=7 => self.table.to_le_bytes()[usize::from(offset - 4)],
            _ => 0,
        }
    }

    /// Writes register `offset` (0 to 7). True when the engine was started by it.
    pub fn write(&mut self, offset: u8, value: u8) -> bool {
        match offset {
            0 => return self.write_command(value),
            // Bits 1 and 2 clear on a written 1; 5 and 6 are plain; bit 0 is the engine's.
            2 => {
                let kept = self.status & (ACTIVE | ((ERROR | INTERRUPT) & !value));
                self.status = kept | (value & CAPABLE);
            }
            4..=7 => {
                let mut bytes = self.table.to_le_bytes();
                bytes[usize::from(offset - 4)] = value;
                self.write_table(u32::from_le_bytes(bytes));
            }
            _ => {}
        }
        false
    }

    /// Writes the table pointer; its low two bits do not exist.
    pub fn write_table(&mut self, value: u32) {
        self.table = value & !3;
    }

    fn write_command(&mut self, value: u8) -> bool {
        let started = value & !self.command & START != 0;
        self.command = value & (START | TO_MEMORY);
        if started {
            self.cursor = Cursor::default();
            self.status |= ACTIVE;
        } else if value & START == 0 {
            self.status &= !ACTIVE;
        }
        started
    }

    /// Whether the engine waits for a drive's data.
    pub fn runs(&self) -> bool {
        self.status & ACTIVE != 0
    }

    /// Stops the engine with the error bit set.
    pub fn abort(&mut self) {
        self.status = (self.status | ERROR) & !ACTIVE;
    }

    /// The drive has no more data: the engine stops only where its table ended too ("Bus Master IDE
    /// Status Register", the table of interrupt and active bits).
    pub fn drive_done(&mut self) {
        if self.cursor.last && self.cursor.left == 0 {
            self.status &= !ACTIVE;
        }
    }

    /// Lists up to `want` bytes of the table in whole `unit`s and moves on past them.
    pub fn walk(
        &mut self,
        want: u32,
        unit: u32,
        list: &mut SegmentList,
        mut read_prd: impl FnMut(u32) -> Option<[u8; 8]>,
    ) -> Walk {
        list.clear();
        let unit = unit.max(1);
        let mut cursor = self.cursor;
        let (mut whole, mut mark) = (self.cursor, (0, 0));
        let (mut got, mut got_whole) = (0u32, 0u32);
        let mut full = false;
        let mut budget = MAX_DESCRIPTORS;
        while got < want {
            if cursor.left == 0 {
                if cursor.last {
                    break;
                }
                // Neighbouring regions join in the list, so the list's bound does not bound this.
                if budget == 0 {
                    full = true;
                    break;
                }
                budget -= 1;
                let at = self.table.wrapping_add(u32::from(cursor.next)) & 0xFFFF;
                let Some(prd) = read_prd((self.table & 0xFFFF_0000) | at) else {
                    return Walk::Abort;
                };
                cursor = Self::region(cursor, prd);
            }
            let take = cursor.left.min(want - got);
            if !list.push(cursor.address, take) {
                full = true;
                break;
            }
            cursor.address = cursor.address.wrapping_add(take);
            cursor.left -= take;
            got += take;
            let over = got % unit;
            if got - over > got_whole {
                got_whole = got - over;
                mark = list.mark(over);
                whole = cursor;
                whole.address = cursor.address.wrapping_sub(over);
                whole.left += over;
            }
        }
        if got_whole == 0 {
            list.clear();
            return if full { Walk::Abort } else { Walk::Short };
        }
        list.cut(mark);
        self.cursor = whole;
        Walk::Bytes(got_whole)
    }

    fn region(cursor: Cursor, prd: [u8; 8]) -> Cursor {
        let [a0, a1, a2, a3, c0, c1, _, flags] = prd;
        let count = u32::from(u16::from_le_bytes([c0, c1]) & !1);
        Cursor {
            next: cursor.next.wrapping_add(8),
            address: u32::from_le_bytes([a0, a1, a2, a3]) & !1,
            left: if count == 0 { 0x1_0000 } else { count },
            last: flags & 0x80 != 0,
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::blk::Segment;
    use std::vec::Vec;

    fn table(entries: &[(u32, u16, bool)]) -> impl FnMut(u32) -> Option<[u8; 8]> + use<> {
        let bytes: Vec<[u8; 8]> = entries
            .iter()
            .map(|&(address, count, last)| {
                let (a, c) = (address.to_le_bytes(), count.to_le_bytes());
                [a[0], a[1], a[2], a[3], c[0], c[1], 0, if last { 0x80 } else { 0 }]
            })
            .collect();
        move |address| bytes.get((address / 8) as usize).copied()
    }

    fn started() -> BusMaster {
        let mut bm = BusMaster::new();
        assert!(bm.write(0, START | TO_MEMORY));
        bm
    }

    #[test]
    fn a_count_of_zero_means_64_kib_and_the_last_bit_ends_the_table() {
        let (mut bm, mut list) = (started(), SegmentList::new());
        let mut prds = table(&[(0x10_0000, 0, false), (0x30_0000, 512, true)]);
        assert_eq!(bm.walk(66_048, 512, &mut list, &mut prds), Walk::Bytes(66_048));
        assert_eq!(list.as_slice()[0], Segment { address: 0x10_0000, len: 0x1_0000 });
        bm.drive_done();
        assert!(!bm.runs(), "drive and table ended together");
    }

    #[test]
    fn a_long_table_leaves_the_engine_active_and_a_short_one_yields_whole_sectors_only() {
        let (mut bm, mut list) = (started(), SegmentList::new());
        let mut prds = table(&[(0x1000, 1024, true)]);
        assert_eq!(bm.walk(512, 512, &mut list, &mut prds), Walk::Bytes(512));
        bm.drive_done();
        assert!(bm.runs());
        let mut bm = started();
        let mut prds = table(&[(0x1000, 700, true)]);
        assert_eq!(bm.walk(1024, 512, &mut list, &mut prds), Walk::Bytes(512));
        assert_eq!(list.bytes(), 512);
        assert_eq!(bm.walk(512, 512, &mut list, &mut prds), Walk::Short);
    }

    #[test]
    fn a_batch_that_ends_inside_a_sector_resumes_exactly_there() {
        // 300 regions of 6 bytes: more than a list holds, sectors ending inside regions.
        let entries: Vec<_> = (0..300).map(|i| (0x1_0000 + i * 16, 6, i == 299)).collect();
        let (mut bm, mut list) = (started(), SegmentList::new());
        let mut prds = table(&entries);
        let mut seen = Vec::new();
        let mut left = 1536;
        while left > 0 {
            let Walk::Bytes(n) = bm.walk(left, 512, &mut list, &mut prds) else { panic!() };
            left -= n;
            for s in list.as_slice() {
                seen.extend(s.address..s.address + u64::from(s.len));
            }
        }
        let all: Vec<u64> =
            (0..300u64).flat_map(|i| 0x1_0000 + i * 16..0x1_0006 + i * 16).take(1536).collect();
        assert_eq!(seen, all);
    }

    #[test]
    fn a_table_outside_memory_or_a_cd_sector_in_crumbs_aborts() {
        let (mut bm, mut list) = (started(), SegmentList::new());
        assert_eq!(bm.walk(512, 512, &mut list, |_| None), Walk::Abort);
        let entries: Vec<_> = (0..1024).map(|i| (i * 16, 2, false)).collect();
        let mut bm = started();
        assert_eq!(bm.walk(2048, 2048, &mut list, table(&entries)), Walk::Abort);
    }

    #[test]
    fn status_bits_clear_on_one_and_stop_clears_active() {
        let mut bm = started();
        bm.status |= ERROR | INTERRUPT;
        bm.write(2, INTERRUPT | 0x20);
        assert_eq!(bm.read(2), ACTIVE | ERROR | 0x20);
        bm.write(0, 0);
        assert_eq!(bm.read(2), ERROR | 0x20);
        bm.write(5, 0xFF);
        bm.write(4, 0xFF);
        assert_eq!(bm.table, 0xFFFC);
    }
}
